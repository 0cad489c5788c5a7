//! What can go wrong in a store.

use serde::{Deserialize, Serialize};

use crate::NodeId;

/// An error of a store, in the sorts that a caller can act on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process held the write lock for longer than we were willing to wait.
    #[error("the store is busy: {0}; try again")]
    Busy(String),
    /// No room: nothing was written.
    #[error("the disk that holds the store is full ({0}); nothing was changed: make room and try again")]
    Full(String),
    /// The file cannot be opened, read or written.
    #[error("the store cannot be used: {0}")]
    Unavailable(String),
    /// The file is damaged.
    #[error("the store is damaged: {0}; restore a backup (`ostler db check` says more)")]
    Corrupt(String),
    /// A newer Ostler has migrated it.
    #[error(
        "the store has schema {found}, and this ostler knows schemas up to {known}; use the newer ostler, or restore the backup made before its migration"
    )]
    Newer {
        /// The schema found.
        found: i64,
        /// The newest schema known here.
        known: i64,
    },
    /// What was asked for makes no sense for this store.
    #[error("{0}")]
    Refused(String),
    /// A node that was given up has asked: it is about to end.
    #[error("node {} has been closed: others have what it held", .0.0)]
    NodeClosed(NodeId),
}

impl StoreError {
    /// Whether the same command may succeed a moment later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Busy(_) | Self::Full(_))
    }

    /// Whether it concerns the one command, and its neighbours may succeed.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::NodeClosed(_))
    }
}

//! What a use case can answer instead.

use ostler_engine::InputError;
use ostler_store::StoreError;

/// An error of a use case, in the sorts that faces tell apart (exit codes, HTTP statuses).
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// What was asked for is wrong; nothing was changed.
    #[error("{0}")]
    BadInput(String),
    /// Inputs do not meet the task's schema; nothing was recorded.
    #[error("the inputs of task `{task}` are wrong: {}", .problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Inputs {
        /// The task.
        task: String,
        /// Everything that is wrong.
        problems: Vec<InputError>,
    },
    /// It is not there.
    #[error("{0}")]
    NotFound(String),
    /// It is there already, has moved on, or is busy.
    #[error("{0}")]
    Conflict(String),
    /// The actor may not.
    #[error("{0}")]
    Denied(String),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ServiceError {
    /// A word for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadInput(_) | Self::Inputs { .. } => "bad_input",
            Self::NotFound(_) => "not_found",
            Self::Conflict(_) => "conflict",
            Self::Denied(_) => "denied",
            Self::Store(_) => "store",
        }
    }
}

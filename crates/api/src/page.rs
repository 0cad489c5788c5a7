//! Pages of lists.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One page of a list: what is on it, where the next one begins, and whether this is all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ListPage<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// Where the next page begins; hand it back as `after`.
    pub next: Option<String>,
    /// True when nothing comes after it.
    pub complete: bool,
}

/// Which page of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PageRequest {
    /// Go on after this cursor (`next` of the page before).
    pub after: Option<String>,
    /// At most so many.
    pub limit: u32,
}

impl PageRequest {
    /// The first so many.
    #[must_use]
    pub fn first(limit: u32) -> Self {
        Self { after: None, limit }
    }

    /// So many after a cursor.
    #[must_use]
    pub fn after(after: Option<&str>, limit: u32) -> Self {
        Self { after: after.map(str::to_owned), limit }
    }
}

impl Default for PageRequest {
    fn default() -> Self {
        Self::first(50)
    }
}

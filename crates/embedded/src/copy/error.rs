//! Why a store was not copied.

use std::path::PathBuf;

use ostler_store::StoreError;

use crate::OpenError;

/// Why a store was not copied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// One of the stores cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A store that ends with this process.
    #[error("a store in memory ends with its process; name a file or a `postgres://` address")]
    Memory,
    /// Both ends are one.
    #[error("{0} is one store; name another one to copy it to")]
    Same(String),
    /// It does not exist.
    #[error("there is no store at `{0}`")]
    Missing(String),
    /// Somebody works on the store that is to be left.
    #[error(
        "{place} is in use: {node} works on it; stop that first, or copy what there is at this moment with `--keep-source`"
    )]
    AtWork {
        /// The store.
        place: String,
        /// Who.
        node: String,
    },
    /// The store that is to be filled holds something.
    #[error(
        "{place} is not empty ({rows} rows in `{table}`); name an empty database, another schema or a new file"
    )]
    NotEmpty {
        /// The store.
        place: String,
        /// A table that holds something.
        table: &'static str,
        /// How much.
        rows: u64,
    },
    /// It is done.
    #[error("{from} was moved to {to} already; `ostler db copy --verify` compares the two")]
    AlreadyMoved {
        /// The old store.
        from: String,
        /// The one that has taken its place.
        to: String,
    },
    /// The store that is to be filled is being filled from another one.
    #[error(
        "{place} is being filled from {from}; finish that with the same `ostler db copy`, or delete what is there"
    )]
    OtherSource {
        /// The store.
        place: String,
        /// From where.
        from: String,
    },
    /// The store that is to be left is going elsewhere.
    #[error("{place} is moved to {to} already; finish that, or take it back with `ostler db unmark`")]
    OtherTarget {
        /// The store.
        place: String,
        /// To where.
        to: String,
    },
    /// Somebody has taken the mark of the old store away while it was copied, and may have changed it since.
    #[error("{0} was taken back while it was copied; what was copied is not used: delete it and begin anew")]
    TakenBack(String),
    /// It was told to stop.
    #[error("interrupted: the new store is not complete; run the same command once more")]
    Stopped,
    /// The stores are not equal.
    #[error("{from} and {to} differ in {tables}", tables = list(tables))]
    Differs {
        /// One.
        from: String,
        /// The other.
        to: String,
        /// In which tables.
        tables: Vec<&'static str>,
    },
    /// A file beside a store.
    #[error("`{path}`: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        error: std::io::Error,
    },
}

impl From<StoreError> for CopyError {
    fn from(error: StoreError) -> Self {
        Self::Open(error.into())
    }
}

fn list(tables: &[&str]) -> String {
    tables.iter().map(|table| format!("`{table}`")).collect::<Vec<_>>().join(", ")
}

//! PostgreSQL's errors, in the sorts that decide what happens next.

use ostler_store::StoreError;
use tokio_postgres::error::SqlState;

/// What came of a statement.
pub(crate) type Done<T> = Result<T, Trouble>;

/// Why a statement, and with it its transaction, did not succeed.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// Another transaction was in the way: the same once more may succeed.
    Again(String),
    /// The connection is gone, or the server is going.
    Gone(String),
    /// A value of one command is to blame.
    Poisoned(String),
    /// Something was written before it was known that the commit counts, and it does not: once more, with a look before.
    Doubtful,
    /// Everything else, as callers are told it.
    Store(StoreError),
}

impl Trouble {
    /// Whether one command is to blame, and the others of its batch may succeed.
    pub(crate) fn is_of_one(&self) -> bool {
        match self {
            Self::Poisoned(_) => true,
            Self::Store(error) => error.is_refusal(),
            Self::Again(_) | Self::Gone(_) | Self::Doubtful => false,
        }
    }

    /// As callers are told it when it is not tried any more.
    pub(crate) fn told(self) -> StoreError {
        match self {
            Self::Again(text) => StoreError::Busy(text),
            Self::Gone(text) => StoreError::Unavailable(text),
            Self::Poisoned(text) => StoreError::Refused(text),
            Self::Doubtful => StoreError::Busy("a commit was of another claim than the machine's".into()),
            Self::Store(error) => error,
        }
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<tokio_postgres::Error> for Trouble {
    fn from(error: tokio_postgres::Error) -> Self {
        let text = words(&error);
        let Some(state) = error.code() else {
            return match error.is_closed()
                || std::error::Error::source(&error).is_some_and(|e| e.is::<std::io::Error>())
            {
                true => Self::Gone(text),
                false => Self::Poisoned(text),
            };
        };
        match state {
            // Two starts with one key, neither of which saw the other; the second look will.
            &SqlState::UNIQUE_VIOLATION
            | &SqlState::T_R_SERIALIZATION_FAILURE
            | &SqlState::T_R_DEADLOCK_DETECTED
            | &SqlState::LOCK_NOT_AVAILABLE
            | &SqlState::QUERY_CANCELED => Self::Again(text),
            &SqlState::DISK_FULL | &SqlState::OUT_OF_MEMORY => Self::Store(StoreError::Full(text)),
            &SqlState::ADMIN_SHUTDOWN
            | &SqlState::CRASH_SHUTDOWN
            | &SqlState::CANNOT_CONNECT_NOW
            | &SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
            | &SqlState::READ_ONLY_SQL_TRANSACTION
            | &SqlState::TOO_MANY_CONNECTIONS => Self::Gone(text),
            &SqlState::DATA_CORRUPTED | &SqlState::INDEX_CORRUPTED => Self::Store(StoreError::Corrupt(text)),
            other if other.code().starts_with("22") || other.code().starts_with("23") => Self::Poisoned(text),
            _ => Self::Store(StoreError::Unavailable(text)),
        }
    }
}

/// The message of the server, or of what is underneath; the driver's own says only where it happened.
pub(crate) fn words(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(told) => format!("{} ({})", told.message(), told.code().code()),
        None => match std::error::Error::source(error) {
            Some(below) => format!("{error}: {below}"),
            None => error.to_string(),
        },
    }
}

//! What a use case can answer instead.

use ostler_api::{ApiError, ErrorDetail, ErrorKind};
use ostler_engine::InputError;
use ostler_store::StoreError;

/// An error of a use case, in the sorts that faces tell apart (exit codes, HTTP statuses).
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// What was asked for is wrong; nothing was changed.
    #[error("{0}")]
    BadInput(String),
    /// The cursor of a page was made in another order of the list.
    #[error(
        "the cursor `{cursor}` was made in a list sorted by `{made}`, and this one is sorted by `{asked}`; keep `sort` the same, or begin again without the cursor"
    )]
    OtherOrder {
        /// What was handed back.
        cursor: String,
        /// The order that it was made in.
        made: String,
        /// The order that is asked for.
        asked: String,
    },
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
    /// It was there, and retention has taken it.
    #[error("{0}")]
    Gone(String),
    /// It is there already, has moved on, or is busy.
    #[error("{0}")]
    Conflict(String),
    /// It has changed since the caller looked.
    #[error("{0}")]
    Stale(String),
    /// The queue is full; after so many seconds it may be worth another try.
    #[error("{message}")]
    Busy {
        /// Which limit.
        message: String,
        /// Seconds.
        retry_after: u64,
    },
    /// The actor may not.
    #[error("{0}")]
    Denied(String),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<ServiceError> for ApiError {
    fn from(error: ServiceError) -> Self {
        let message = error.to_string();
        let kind = match &error {
            ServiceError::BadInput(_) | ServiceError::OtherOrder { .. } | ServiceError::Inputs { .. } => {
                ErrorKind::BadInput
            }
            ServiceError::NotFound(_) => ErrorKind::NotFound,
            ServiceError::Gone(_) => ErrorKind::Gone,
            ServiceError::Conflict(_) => ErrorKind::Conflict,
            ServiceError::Stale(_) => ErrorKind::Stale,
            ServiceError::Busy { .. } => ErrorKind::Busy,
            ServiceError::Denied(_) => ErrorKind::Denied,
            // What was asked makes no sense; the store itself is well.
            ServiceError::Store(StoreError::Refused(_)) => ErrorKind::BadInput,
            ServiceError::Store(_) => ErrorKind::Store,
        };
        let mut told = Self::new(kind, message);
        match error {
            ServiceError::Inputs { problems, .. } => {
                let detail = |p: InputError| ErrorDetail {
                    field: Some(p.field),
                    message: p.problem,
                    ..ErrorDetail::default()
                };
                told.details = problems.into_iter().map(detail).collect();
            }
            ServiceError::Busy { retry_after, .. } => told.retry_after = Some(retry_after),
            _ => {}
        }
        told
    }
}

//! SQLite's errors in the sorts that callers can act on.

use ostler_store::StoreError;
use rusqlite::ErrorCode;

/// What an error of SQLite means for callers.
pub(crate) fn told(error: rusqlite::Error) -> StoreError {
    let text = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy(text),
        Some(ErrorCode::DiskFull) => StoreError::Full(text),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Corrupt(text),
        Some(ErrorCode::SystemIoFailure) if text.contains("full") => StoreError::Full(text),
        Some(ErrorCode::ConstraintViolation) | None => StoreError::Refused(text),
        Some(_) => StoreError::Unavailable(text),
    }
}

//! SQLite's errors in the sorts that callers can act on.

use ostler_store::StoreError;
use rusqlite::{ErrorCode, ffi};

/// What an error of SQLite means for callers.
pub(crate) fn told(error: rusqlite::Error) -> StoreError {
    let text = error.to_string();
    let extended = error.sqlite_error().map_or(0, |e| e.extended_code);
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy(text),
        Some(ErrorCode::DiskFull) => StoreError::Full(text),
        // A quota, or a limit on the size of files, shows as a write that fails; so does a full disk under the index of
        // the write-ahead log.
        Some(ErrorCode::SystemIoFailure)
            if matches!(extended, ffi::SQLITE_IOERR_WRITE | ffi::SQLITE_IOERR_SHMSIZE) =>
        {
            StoreError::Full(text)
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Corrupt(text),
        None if matches!(
            error,
            rusqlite::Error::InvalidColumnType(..)
                | rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::IntegralValueOutOfRange(..)
        ) =>
        {
            StoreError::Corrupt(text)
        }
        // What is left blames the values of one command, not the file.
        Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch) | None => {
            StoreError::Refused(text)
        }
        Some(_) => StoreError::Unavailable(text),
    }
}

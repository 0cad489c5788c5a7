//! Errors of the command line and their exit codes (decision 17).

use ostler_api::{ApiError, ErrorDetail, ErrorKind};
use ostler_service::ServiceError;
use ostler_store::StoreError;
use ostler_timetable::Diagnostics;
use serde_json::{Value, json};

use crate::output::Output;

/// A run failed.
pub const FAILED: u8 = 1;
/// Usage or bad input.
pub const USAGE: u8 = 2;
/// Not found.
pub const NOT_FOUND: u8 = 3;
/// Conflict, busy, skipped.
pub const CONFLICT: u8 = 4;
/// The store cannot be used.
pub const STORE: u8 = 5;
/// Timed out.
pub const TIMED_OUT: u8 = 124;
/// Cancelled.
pub const CANCELLED: u8 = 130;

/// An error with its exit code.
#[derive(Debug)]
pub struct CliError {
    /// The exit code.
    pub code: u8,
    /// A word for programs.
    pub kind: &'static str,
    /// What was wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Places in files, when it is about files.
    pub diagnostics: Option<Diagnostics>,
    /// What a server says of them.
    pub details: Vec<ErrorDetail>,
}

impl CliError {
    /// An error of a kind.
    pub fn new(code: u8, kind: &'static str, message: impl Into<String>) -> Self {
        Self { code, kind, message: message.into(), hint: None, diagnostics: None, details: Vec::new() }
    }

    /// Usage or bad input.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(USAGE, "bad_input", message)
    }

    /// With a hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Prints it: for people on standard error; under `--output json|yaml` as one document there too, so that standard
    /// output stays what the command promises.
    pub fn print(&self, output: Output) {
        if output == Output::Human {
            if let Some(diagnostics) = &self.diagnostics {
                eprint!("{}", diagnostics.render(crate::output::use_color()));
            }
            if !self.message.is_empty() {
                eprintln!("error: {}", self.message);
            }
            // Those of inputs stand in the message.
            for detail in self.details.iter().filter(|d| d.file.is_some()) {
                eprintln!("  {detail}");
            }
            if let Some(hint) = &self.hint {
                eprintln!("hint: {hint}");
            }
            return;
        }
        let mut body =
            json!({ "error": { "kind": self.kind, "message": self.message, "exit_code": self.code } });
        if let Some(hint) = &self.hint {
            body["error"]["hint"] = json!(hint);
        }
        if !self.details.is_empty() {
            body["error"]["errors"] = json!(self.details);
        }
        if let Some(diagnostics) = &self.diagnostics {
            body["error"]["diagnostics"] = serde_json::to_value(&diagnostics.items).unwrap_or(Value::Null);
        }
        eprintln!("{}", output.text(&body));
    }
}

impl From<ApiError> for CliError {
    fn from(error: ApiError) -> Self {
        let code = match error.kind {
            ErrorKind::NotFound | ErrorKind::Gone => NOT_FOUND,
            ErrorKind::Conflict | ErrorKind::Denied | ErrorKind::Stale | ErrorKind::Busy => CONFLICT,
            ErrorKind::Store | ErrorKind::Unreachable => STORE,
            _ => USAGE,
        };
        let mut told = Self::new(code, error.kind.word(), error.message);
        told.hint = error.hint;
        told.details = error.details;
        told
    }
}

impl From<ServiceError> for CliError {
    fn from(error: ServiceError) -> Self {
        ApiError::from(error).into()
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        match error {
            // What was asked makes no sense; the store itself is well.
            StoreError::Refused(_) => Self::usage(error.to_string()),
            _ => Self::new(STORE, "store", error.to_string()),
        }
    }
}

impl From<ostler_embedded::OpenError> for CliError {
    fn from(error: ostler_embedded::OpenError) -> Self {
        match error {
            ostler_embedded::OpenError::Store(error) => error.into(),
            ostler_embedded::OpenError::Owned { .. } => Self::new(CONFLICT, "conflict", error.to_string()),
            other => Self::new(STORE, "store", other.to_string()),
        }
    }
}

impl From<Diagnostics> for CliError {
    fn from(diagnostics: Diagnostics) -> Self {
        let count = diagnostics.items.len();
        let message =
            format!("{count} {} found; nothing was changed", if count == 1 { "error" } else { "errors" });
        Self { diagnostics: Some(diagnostics), ..Self::usage(message) }
    }
}

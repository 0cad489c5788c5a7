//! Errors as every face tells them.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The sorts of errors that faces tell apart (exit codes, HTTP statuses).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// What was asked for is wrong; nothing was changed.
    BadInput,
    /// Nobody has said who asks, or not in a way that counts.
    Unauthenticated,
    /// The actor may not.
    Denied,
    /// It is not there.
    NotFound,
    /// It was there, and retention or its owner has taken it.
    Gone,
    /// It is there already, has moved on, or is busy.
    Conflict,
    /// It has changed since the caller looked (`If-Match`).
    Stale,
    /// More than is taken in one request.
    TooLarge,
    /// The body is of a media type that is not read there.
    UnsupportedType,
    /// A limit of the queue is reached; later it may be taken.
    Busy,
    /// The store cannot be used.
    Store,
    /// The server cannot be reached, or does not answer as one.
    Unreachable,
}

impl ErrorKind {
    /// The word that programs see.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::BadInput => "bad_input",
            Self::Unauthenticated => "unauthenticated",
            Self::Denied => "denied",
            Self::NotFound => "not_found",
            Self::Gone => "gone",
            Self::Conflict => "conflict",
            Self::Stale => "stale",
            Self::TooLarge => "too_large",
            Self::UnsupportedType => "unsupported_type",
            Self::Busy => "busy",
            Self::Store => "store",
            Self::Unreachable => "unreachable",
        }
    }

    /// The HTTP status (RFC 9110).
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::BadInput => 400,
            Self::Unauthenticated => 401,
            Self::Denied => 403,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::Gone => 410,
            Self::Stale => 412,
            Self::TooLarge => 413,
            Self::UnsupportedType => 415,
            Self::Busy => 429,
            Self::Store => 503,
            Self::Unreachable => 502,
        }
    }

    /// What the sort means, in a few words that do not change.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::BadInput => "The request is wrong",
            Self::Unauthenticated => "No valid token",
            Self::Denied => "Not allowed",
            Self::NotFound => "Not there",
            Self::Gone => "Not there any more",
            Self::Conflict => "In the way of what is there",
            Self::Stale => "Changed meanwhile",
            Self::TooLarge => "Too large",
            Self::UnsupportedType => "A media type that is not read",
            Self::Busy => "Too much at a time",
            Self::Store => "The store cannot be used",
            Self::Unreachable => "The server cannot be reached",
        }
    }
}

/// One thing that is wrong with what was sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorDetail {
    /// The field, as a dotted path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The line in it, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// The column in characters, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

impl fmt::Display for ErrorDetail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            f.write_str(file)?;
            if let (Some(line), Some(column)) = (self.line, self.column) {
                write!(f, ":{line}:{column}")?;
            }
            f.write_str(": ")?;
        }
        f.write_str(&self.message)?;
        if let Some(help) = &self.help {
            write!(f, " ({help})")?;
        }
        Ok(())
    }
}

/// An error as every face tells it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// What sort.
    pub kind: ErrorKind,
    /// What was wrong, with the value.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Everything that is wrong, where there is more to say.
    pub details: Vec<ErrorDetail>,
    /// After how many seconds it may be worth another try.
    pub retry_after: Option<u64>,
}

impl ApiError {
    /// An error of a sort.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, details: Vec::new(), retry_after: None }
    }

    /// Bad input.
    #[must_use]
    pub fn bad_input(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::BadInput, message)
    }

    /// Not there.
    #[must_use]
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// With what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// As it crosses the wire; `instance` is the id of the request.
    #[must_use]
    pub fn problem(&self, instance: Option<&str>) -> Problem {
        Problem {
            r#type: "about:blank".to_owned(),
            title: self.kind.title().to_owned(),
            status: self.kind.status(),
            detail: self.message.clone(),
            kind: self.kind,
            hint: self.hint.clone(),
            errors: self.details.clone(),
            instance: instance.map(str::to_owned),
        }
    }
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Self {
            kind: problem.kind,
            message: problem.detail,
            hint: problem.hint,
            details: problem.errors,
            retry_after: None,
        }
    }
}

/// An error as it crosses the wire: `application/problem+json` (RFC 9457) with a word for programs, a hint, and
/// everything that is wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// Always `about:blank`: `kind` tells the sorts apart.
    pub r#type: String,
    /// What the sort means.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What was wrong: the text that the command line shows.
    pub detail: String,
    /// The sort, as a word.
    pub kind: ErrorKind,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Everything that is wrong, where there is more to say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ErrorDetail>,
    /// The id of the request, as in the answer's `x-request-id` and in the logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
}

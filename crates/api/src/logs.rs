//! What runs wrote.

use jiff::Timestamp;
use ostler_model::Uid;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a line was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// The engine about the attempt.
    System,
}

/// Which lines of a run, or of a flow's steps, are wanted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogRequest {
    /// Only of this stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<LogStream>,
    /// Only of this attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Only lines that hold this text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grep: Option<String>,
    /// Only the last so many lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub tail: Option<u32>,
    /// Go on after this cursor (`next` of the page before).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// At most so many lines; 1 000 when nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10000))]
    pub limit: Option<u32>,
}

/// A line, or a piece of an over-long one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogLine {
    /// When it was read.
    pub at: Timestamp,
    /// The step that wrote it, in a flow.
    pub step: Option<String>,
    /// Which attempt.
    pub attempt: u32,
    /// Where it was written.
    pub stream: LogStream,
    /// The line without its end; what is not UTF-8 is replaced.
    pub line: String,
}

/// Lines in order, and where to go on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogPage {
    /// The run.
    pub run: Uid,
    /// Lines in order; in a flow step by step.
    pub items: Vec<LogLine>,
    /// Where to go on.
    pub next: String,
    /// True when the run has ended and these were its last lines.
    pub complete: bool,
}

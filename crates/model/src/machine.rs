//! Machines: kinds, states, errors and causes.

use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Span, Uid};

/// What sort of machine a row is. Open: a new kind is a new constant and its machine, not a change of the loop.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Kind(pub u8);

impl Kind {
    /// One invocation of a task with one step, or of one step of a flow.
    pub const RUN: Self = Self(1);
    /// One invocation of a task with several steps.
    pub const FLOW: Self = Self(2);
    /// A schedule.
    pub const SCHEDULE: Self = Self(3);
    /// A trigger.
    pub const TRIGGER: Self = Self(4);

    /// It belongs to its task's definition and starts runs, rather than being one.
    #[must_use]
    pub fn is_starter(self) -> bool {
        matches!(self, Self::SCHEDULE | Self::TRIGGER)
    }

    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::RUN => "run",
            Self::FLOW => "flow",
            Self::SCHEDULE => "schedule",
            Self::TRIGGER => "trigger",
            _ => "machine",
        }
    }
}

/// The state of a run as people see it.
///
/// `scheduled`, `ready` and `running` are derived from the tick queue; `waiting` and the final states are stored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Due later.
    Scheduled,
    /// Due, and no worker has it yet.
    Ready,
    /// A node is at it.
    Running,
    /// Waits for a child, an event, a retry.
    Waiting,
    /// Ended well.
    Succeeded,
    /// Ended badly.
    Failed,
    /// Ended because someone said so.
    Cancelled,
    /// Was not run, and the record says why.
    Skipped,
    /// Ended because it took too long.
    TimedOut,
}

impl RunState {
    /// All states, in the order of a run's life.
    pub const ALL: [Self; 9] = [
        Self::Scheduled,
        Self::Ready,
        Self::Running,
        Self::Waiting,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
        Self::Skipped,
        Self::TimedOut,
    ];

    /// True when nothing more will happen to it.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled | Self::Skipped | Self::TimedOut)
    }

    /// The word for it, as in files and on the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
            Self::TimedOut => "timed_out",
        }
    }

    /// The stored number: 0 while it lives.
    #[must_use]
    pub const fn code(self) -> i64 {
        match self {
            Self::Scheduled | Self::Ready | Self::Running | Self::Waiting => 0,
            Self::Succeeded => 10,
            Self::Failed => 11,
            Self::Cancelled => 12,
            Self::Skipped => 13,
            Self::TimedOut => 14,
        }
    }

    /// The state of a stored number; `None` while the machine lives (the tick queue says more).
    #[must_use]
    pub const fn from_code(code: i64) -> Option<Self> {
        match code {
            10 => Some(Self::Succeeded),
            11 => Some(Self::Failed),
            12 => Some(Self::Cancelled),
            13 => Some(Self::Skipped),
            14 => Some(Self::TimedOut),
            _ => None,
        }
    }
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl std::str::FromStr for RunState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|s| s.word() == text || s.word().replace('_', "-") == text).ok_or_else(
            || {
                let words: Vec<_> = Self::ALL.iter().map(|s| s.word()).collect();
                format!("`{text}` is not a run state: one of {}", words.join(", "))
            },
        )
    }
}

/// The class of an error: dotted or coloned words from the general to the particular (`exit:75`, `http:503`,
/// `python.ValueError`, `timeout`, `lost`).
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct ErrorClass(pub String);

impl ErrorClass {
    /// A class by its word.
    #[must_use]
    pub fn new(word: impl Into<String>) -> Self {
        Self(word.into())
    }

    /// Whether a pattern of `retry.on` or `expect.error` covers it: the class itself, a head of it (`http` covers
    /// `http:503`), or a range of statuses (`5xx`).
    #[must_use]
    pub fn matches(&self, pattern: &str) -> bool {
        let class = self.0.as_str();
        if pattern == "*" || pattern == class {
            return true;
        }
        if let Some(rest) = class.strip_prefix(pattern)
            && rest.starts_with([':', '.'])
        {
            return true;
        }
        if let ([digit, b'x', b'x'], Some(status)) = (pattern.as_bytes(), class.strip_prefix("http:")) {
            return status.len() == 3 && status.as_bytes()[0] == *digit;
        }
        false
    }

    /// Whether a retry without `on` happens after it. Bad input, bad output and a missing program do not get better by
    /// waiting; nor do HTTP statuses that blame the request, nor what a database says of the statement, its values or
    /// who asks (classes of SQLSTATE; a deadlock or a full server is none of these).
    #[must_use]
    pub fn is_transient_by_default(&self) -> bool {
        let permanent = ["input", "output", "spawn", "settings", "expression", "cancelled"];
        if permanent.iter().any(|p| self.matches(p)) {
            return false;
        }
        if let Some(status) = self.0.strip_prefix("http:") {
            return status.starts_with('5') || matches!(status, "408" | "425" | "429" | "420");
        }
        let blames = ["0A", "22", "23", "26", "28", "3D", "3F", "42"];
        self.0.strip_prefix("sql:").is_none_or(|state| !blames.iter().any(|class| state.starts_with(class)))
    }
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A typed error on the record of a run.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct TypedError {
    /// What sort of error.
    pub class: ErrorClass,
    /// One or a few lines for people.
    pub message: String,
    /// A traceback or the last lines of output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The exit code of a process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The other side asked to wait so long (HTTP `Retry-After`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<Span>,
}

impl TypedError {
    /// An error of a class with a message.
    #[must_use]
    pub fn new(class: &str, message: impl Into<String>) -> Self {
        Self {
            class: ErrorClass::new(class),
            message: message.into(),
            detail: None,
            exit_code: None,
            retry_after: None,
        }
    }
}

impl fmt::Display for TypedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class, self.message)
    }
}

/// Why a run exists.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Cause {
    /// Someone started it.
    Actor {
        /// Who, as in `cli:alice`.
        actor: String,
    },
    /// A schedule was due.
    Schedule {
        /// The schedule, as in `task/s1`.
        schedule: String,
        /// The due moment by the rule.
        due: Timestamp,
    },
    /// It is a step of a flow.
    Step {
        /// The step.
        step: String,
    },
    /// It runs again what another run did.
    Rerun {
        /// That run.
        of: Uid,
        /// Who asked for it.
        actor: String,
    },
    /// A trigger had an event.
    Event {
        /// The trigger, as in `task/run1`.
        #[serde(default)]
        trigger: String,
        /// What it was: `run`, `silence`, `webhook`, `file`.
        name: String,
        /// What it carried.
        body: Value,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_blames_the_request_is_not_tried_again_by_itself() {
        for (class, expected) in [
            ("http:503", true),
            ("http:404", false),
            ("settings", false),
            ("connect", true),
            ("sql", true),
            ("sql:40001", true),
            ("sql:57P03", true),
            ("sql:42601", false),
            ("sql:23505", false),
            ("sql:28P01", false),
        ] {
            assert_eq!(ErrorClass::new(class).is_transient_by_default(), expected, "{class}");
        }
    }

    #[test]
    fn patterns_cover_classes() {
        let table = [
            ("http:503", "5xx", true),
            ("http:503", "http", true),
            ("http:503", "4xx", false),
            ("exit:75", "exit", true),
            ("exit:75", "exit:7", false),
            ("timeout", "time", false),
            ("python.ValueError", "python", true),
            ("anything", "*", true),
        ];
        for (class, pattern, expected) in table {
            assert_eq!(ErrorClass::new(class).matches(pattern), expected, "{class} {pattern}");
        }
    }

    #[test]
    fn states_read_back() {
        for state in RunState::ALL {
            assert_eq!(state.word().parse(), Ok(state));
            assert_eq!(RunState::from_code(state.code()), state.is_final().then_some(state));
        }
    }
}

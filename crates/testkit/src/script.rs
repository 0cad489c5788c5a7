//! What scripted executions do.

use std::time::Duration;

use ostler_execution::ExecEnd;
use ostler_model::Span;
use serde_json::Value;

/// What one execution does: how long it takes and how it ends.
#[derive(Clone, Debug)]
pub struct Behaviour {
    /// How long it takes.
    pub takes: Duration,
    /// How it ends, unless it is cut short.
    pub end: ExecEnd,
    /// It does not listen: cut short, it ends only when its time is over (a paused or hung process).
    pub deaf: bool,
}

/// Ends well at once.
#[must_use]
pub fn ends_well() -> Behaviour {
    ends_with(Value::Null)
}

/// Ends well at once and hands this on.
#[must_use]
pub fn ends_with(output: Value) -> Behaviour {
    Behaviour { takes: Duration::ZERO, end: ExecEnd::succeeded(output), deaf: false }
}

/// Fails at once with an error of this class.
#[must_use]
pub fn fails(class: &str) -> Behaviour {
    Behaviour { takes: Duration::ZERO, end: ExecEnd::error(class, "scripted"), deaf: false }
}

/// Takes so long (`90s`, `2h`) and ends well.
///
/// # Panics
/// The text is no duration.
#[must_use]
pub fn takes(span: &str) -> Behaviour {
    ends_well().taking(span)
}

impl Behaviour {
    /// The same, taking so long.
    ///
    /// # Panics
    /// The text is no duration.
    #[must_use]
    pub fn taking(mut self, span: &str) -> Self {
        let span: Span = span.parse().expect("a duration");
        self.takes = span.as_duration();
        self
    }
}

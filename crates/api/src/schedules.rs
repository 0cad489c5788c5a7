//! Schedules and what they will do.

use jiff::Timestamp;
use ostler_model::{Uid, definition::ScheduleDef};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScheduleView {
    /// Its machine.
    pub id: Uid,
    /// Namespace.
    pub namespace: String,
    /// Task id.
    pub task: String,
    /// Its id within the task.
    pub schedule: String,
    /// When it is due, in words.
    pub words: String,
    /// The zone it is read in.
    pub timezone: String,
    /// The next due moment.
    pub next: Option<Timestamp>,
    /// The last due moment that was dealt with.
    pub last: Option<Timestamp>,
    /// How often it has fired.
    pub fired: u64,
    /// Held back: by hand, or because its task is disabled or missing.
    pub paused: bool,
    /// Why it does not fire any more.
    pub ended: Option<String>,
    /// The definition.
    pub definition: Option<ScheduleDef>,
}

/// One firing in a preview.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FiringView {
    /// Task id.
    pub task: String,
    /// Schedule id.
    pub schedule: String,
    /// When.
    pub at: Timestamp,
    /// The local time in the schedule's zone.
    pub local: String,
    /// What the change of the clocks did to it.
    pub dst: Option<String>,
}

/// What will fire, in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FiringsPage {
    /// Firings in order.
    pub items: Vec<FiringView>,
    /// Whether these are all in the span that was asked for.
    pub complete: bool,
}

//! What machines keep in their fields.
//!
//! Stored as JSON; a field that is missing has its default, an unknown one is kept out by nobody, so that an older
//! row reads under a newer program.

use std::collections::BTreeMap;

use ostler_execution::ExecRequest;
use ostler_model::{
    Cause, MachineId, RunState, TypedError,
    definition::{Expect, Policy, ScheduleDef},
};
use ostler_store::Micros;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

/// Fields of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunFields {
    /// Why it exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// Its inputs, defaults filled in.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub inputs: Map<String, Value>,
    /// The preset they came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// What a schedule or preset lays over the task's policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// For a part of a flow: the call, worked out by the flow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<Box<ExecRequest>>,
    /// When it was due, for the deadline and the queue timeout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Micros>,
    /// Attempts that have ended.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempts: u32,
    /// Attempts among them that were lost with their node.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost: u32,
    /// What it handed on.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub output: Value,
    /// Why it failed, or why its last attempt did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<TypedError>,
    /// Exit code of its last process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Why it was skipped, cancelled or cut short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// It did not end as its file says it should, or did although it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_expected: Option<bool>,
}

/// Fields of a flow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FlowFields {
    /// What it shares with a run.
    #[serde(flatten)]
    pub run: RunFields,
    /// Its parts by key: `fetch`, or `fetch[2]` for a combination.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parts: BTreeMap<String, Part>,
    /// Signals that came before a part waits for them: name and what they carry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signals: Vec<(String, String)>,
    /// It works off its handlers: how the steps ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<RunState>,
}

/// One part of a flow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Its machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub child: Option<MachineId>,
    /// How it ended; `None` while it lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<RunState>,
    /// Whether that counts as good.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub good: bool,
    /// What it handed on.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub output: Value,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<TypedError>,
    /// Why it was skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Fields of a schedule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ScheduleFields {
    /// Its id within the task.
    pub schedule: String,
    /// Its definition, where it is not one of the task's own (`ostler run --when`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<Box<ScheduleDef>>,
    /// When it was made: the origin of its grid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anchor: Option<Micros>,
    /// The last due moment (by the rule) that was dealt with, or the moment since which moments count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Micros>,
    /// The next due moment, when it is really due; for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Micros>,
    /// How often it has fired.
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub fired: u64,
    /// Due moments of its runs that live, where that matters (overlap, spaced intervals).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub live: Vec<Micros>,
    /// A due moment that waits for the run before to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued: Option<Micros>,
    /// Why it does not fire any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Fields of a trigger.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TriggerFields {
    /// Its id within the task.
    pub trigger: String,
    /// How often it has fired.
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub fired: u64,
    /// Events that did not count.
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub ignored: u64,
    /// Deliveries that had come before.
    #[serde(default, skip_serializing_if = "is_zero64")]
    pub replays: u64,
    /// When it last fired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Micros>,
    /// Events that wait for no more to come (`debounce`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batched: Option<Batched>,
    /// Events that were too many for one commit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<Incoming>,
    /// Marks of the last deliveries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deliveries: Vec<String>,
    /// Files as they were when last looked at; `None` before the first look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<BTreeMap<String, FileMark>>,
    /// When silence has lasted too long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Micros>,
    /// When silence was last broken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_heard: Option<Micros>,
    /// Silence has lasted too long, and that has been told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub silent: bool,
    /// Why it does not fire any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// An event on its way to a trigger.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Incoming {
    /// What it is: the word of the source in definition files.
    pub name: String,
    /// By which a replay is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<String>,
    /// What it carries.
    pub body: Value,
    /// Why it does not count, where whoever heard it knows that already: it is too large.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// Events that wait for no more to come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Batched {
    /// When they have waited long enough, unless another comes.
    pub until: Micros,
    /// How many there were.
    pub count: u64,
    /// The last of them.
    pub last: Incoming,
}

/// What tells one state of a file from another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileMark {
    /// Bytes.
    pub size: u64,
    /// When it was last written, in microseconds since 1970.
    pub modified: Micros,
}

/// What a look at the files of a trigger found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenFiles {
    /// Files that are there, at the first look all of them, later those that are new or have changed.
    #[serde(default)]
    pub files: BTreeMap<String, FileMark>,
    /// Files that are not there any more.
    #[serde(default)]
    pub gone: Vec<String>,
}

/// What a part tells its flow, or a run its schedule, at its end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LastWords {
    /// What it handed on.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub output: Value,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<TypedError>,
    /// It ended as it should.
    #[serde(default)]
    pub good: bool,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

fn is_zero64(n: &u64) -> bool {
    *n == 0
}

/// Reads fields. A row that does not read is an error of the row, told by its machine, not a panic.
///
/// # Errors
/// The text is not such fields.
pub fn read<T: DeserializeOwned>(text: &str) -> Result<T, TypedError> {
    serde_json::from_str(text)
        .map_err(|e| TypedError::new("internal", format!("the fields on record do not read: {e}")))
}

/// Writes fields.
#[must_use]
pub fn write<T: Serialize>(fields: &T) -> String {
    serde_json::to_string(fields).unwrap_or_else(|_| "{}".to_owned())
}

/// Whether an end is good: as expected where something is expected, else success.
#[must_use]
pub fn is_good(expect: &Expect, state: RunState, error: Option<&TypedError>) -> bool {
    expect.is_met(state, error)
}

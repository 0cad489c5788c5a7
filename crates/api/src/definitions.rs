//! Definitions: tasks, presets, namespaces, and what a push does to them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use ostler_model::{TaskDef, definition::Timetable};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TaskView {
    /// Namespace.
    pub namespace: String,
    /// Id.
    pub id: String,
    /// Let go by its definition.
    pub enabled: bool,
    /// Held back by hand.
    pub paused: bool,
    /// Its origin does not hold it any more.
    pub missing: bool,
    /// How many versions there were.
    pub version: u32,
    /// Digest of the current definition.
    pub digest: String,
    /// Where it comes from.
    pub origin: String,
    /// First pushed.
    pub created_at: Timestamp,
    /// Last changed.
    pub updated_at: Timestamp,
    /// The definition.
    pub definition: TaskDef,
}

/// A task by its namespace and id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct TaskRef {
    /// Namespace.
    pub namespace: String,
    /// Id.
    pub task: String,
}

impl TaskRef {
    /// A task by its namespace and id.
    #[must_use]
    pub fn new(namespace: impl Into<String>, task: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), task: task.into() }
    }
}

impl std::fmt::Display for TaskRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.namespace, self.task)
    }
}

/// A preset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PresetView {
    /// Namespace.
    pub namespace: String,
    /// Id.
    pub id: String,
    /// Its task.
    pub task: String,
    /// Its origin does not hold it any more.
    pub missing: bool,
    /// The definition.
    pub definition: Value,
    /// First pushed.
    pub created_at: Timestamp,
    /// Last changed.
    pub updated_at: Timestamp,
}

/// A namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NamespaceView {
    /// Name.
    pub name: String,
    /// Where its definitions came from last.
    pub origin: String,
    /// Who pushed them last.
    pub actor: String,
    /// Nobody named it: it stands for a file.
    pub ephemeral: bool,
    /// Held back.
    pub paused: bool,
    /// The part of the work that it gets beside other namespaces that wait.
    pub weight: u32,
    /// Tasks in it.
    pub tasks: u64,
    /// First seen.
    pub created_at: Timestamp,
    /// Last pushed.
    pub seen_at: Timestamp,
}

/// How definitions that are sent are to be taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DefinitionsAt {
    /// Where they come from: tasks of the same origin that are not sent become missing. An absolute path is taken as
    /// the file's, so that relative paths in it start from its folder on the machine that serves.
    #[serde(default = "api_origin")]
    #[schemars(length(min = 1, max = 1000))]
    pub origin: String,
    /// Nobody named their namespace.
    #[serde(default)]
    pub ephemeral: bool,
    /// Whether what is sent is all of its origin; otherwise other tasks, and all schedules, stay as they are.
    #[serde(default = "yes")]
    pub complete: bool,
}

fn api_origin() -> String {
    "api".to_owned()
}

fn yes() -> bool {
    true
}

impl DefinitionsAt {
    /// As the timetable itself says, and all of its origin.
    #[must_use]
    pub fn of(timetable: &Timetable) -> Self {
        Self { origin: timetable.origin.clone(), ephemeral: timetable.ephemeral, complete: true }
    }
}

impl Default for DefinitionsAt {
    fn default() -> Self {
        Self { origin: api_origin(), ephemeral: false, complete: true }
    }
}

/// What a push changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PushReport {
    /// The namespace.
    pub namespace: String,
    /// Where the definitions come from.
    pub origin: String,
    /// New tasks.
    pub added: Vec<String>,
    /// Tasks with a new version.
    pub changed: Vec<String>,
    /// Tasks that are as they were.
    pub unchanged: Vec<String>,
    /// Tasks of this origin that are gone from it.
    pub missing: Vec<String>,
    /// Tasks that were missing and are back.
    pub relinked: Vec<String>,
    /// What became of schedules.
    pub schedules: ScheduleCounts,
    /// What became of sinks.
    #[serde(default)]
    pub sinks: ScheduleCounts,
}

/// What a push did to schedules, or to sinks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ScheduleCounts {
    /// New ones.
    pub made: u32,
    /// With another rhythm; sinks: with other words, or back.
    pub changed: u32,
    /// Gone; sinks: missing.
    pub ended: u32,
}

/// What a push would change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Diff {
    /// One entry a task that would be added, changed, or become missing.
    pub changes: Vec<Change>,
    /// How many tasks would stay as they are.
    pub unchanged: usize,
}

/// A value before and after.
pub type FieldChange = (Value, Value);

/// What a push would change about one task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    /// It is new.
    Added {
        /// Task id.
        task: String,
    },
    /// It is another one.
    Changed {
        /// Task id.
        task: String,
        /// Paths in the definition with the value before and after (`null`: absent).
        fields: BTreeMap<String, FieldChange>,
    },
    /// The file does not hold it any more.
    Missing {
        /// Task id.
        task: String,
    },
    /// It was missing and is back.
    Relinked {
        /// Task id.
        task: String,
    },
}

/// The part of the work that a namespace gets beside others that wait: with weights 3 and 1 three quarters of the time of
/// all slots go to the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Weight {
    /// From 1, which is what a namespace has that nobody has given one, to 1000.
    #[schemars(range(min = 1, max = 1000))]
    pub weight: u32,
}

/// What holding back or letting go touched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Held {
    /// Whether it is held back now.
    pub paused: bool,
    /// Runs and schedules concerned.
    pub touched: u64,
}

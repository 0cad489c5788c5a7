//! Runs: starting, listing, showing, ending, running again.

use jiff::Timestamp;
use ostler_model::{Cause, RunState, TypedError, Uid, definition::Policy};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What a task is started with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StartRequest {
    /// Namespace.
    pub namespace: String,
    /// Task id.
    pub task: String,
    /// Preset id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// Inputs, laid over the preset's.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub inputs: Map<String, Value>,
    /// Laid over the policies of preset and task.
    #[serde(default)]
    pub policy: Policy,
    /// When it is due; now when nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Timestamp>,
    /// The same key is answered with the same run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}

/// What became of a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Started {
    /// A run was made.
    Started {
        /// Its id.
        id: Uid,
    },
    /// A run with the same unique key lives.
    AlreadyRunning {
        /// Its id.
        id: Uid,
    },
    /// A run with the same idempotency key is on record.
    Repeated {
        /// Its id.
        id: Uid,
    },
    /// The task or preset is not active: that is on record as a skipped run.
    Skipped {
        /// The record's id.
        id: Uid,
    },
}

impl Started {
    /// The run it speaks of.
    #[must_use]
    pub fn id(self) -> Uid {
        match self {
            Self::Started { id }
            | Self::AlreadyRunning { id }
            | Self::Repeated { id }
            | Self::Skipped { id } => id,
        }
    }
}

/// How a run is run again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RerunRequest {
    /// Steps that succeeded are not run again.
    #[serde(default)]
    pub from_failed: bool,
    /// Inputs laid over those of the earlier run.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub inputs: Map<String, Value>,
    /// With the task's current definition; otherwise with the one the earlier run was pinned to.
    #[serde(default)]
    pub current: bool,
}

/// Which runs are meant. Without `parent`: runs that are no part of a flow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunQuery {
    /// Only of this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Only of this task (with its namespace, where several have one).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// Only in one of these states.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<RunState>,
    /// Only made at or after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Only made before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Only parts of this flow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Uid>,
}

/// Runs that something is done to at once: those of `ids`, or those that `query` fits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BulkFilter {
    /// These runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100_000))]
    pub ids: Vec<Uid>,
    /// Or all that fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<RunQuery>,
    /// Why, for the record.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Say how many it would concern and do nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// What became of a wish to end runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CancelReport {
    /// They were told to end.
    pub asked: u64,
    /// They had ended before.
    pub ended_already: u64,
}

/// What became of a wish to run many again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RetryReport {
    /// Runs that were made, in the order of the old ones.
    pub started: Vec<Started>,
    /// Runs that were not run again, since they live or are parts of flows.
    pub passed_over: u64,
}

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunView {
    /// Public id.
    pub id: Uid,
    /// `run` or `flow`.
    pub kind: String,
    /// Namespace.
    pub namespace: String,
    /// Task id.
    pub task: String,
    /// The part of a flow it is.
    pub step: Option<String>,
    /// Its state now.
    pub state: RunState,
    /// Whether its end is the one its file declares; absent where nothing is declared.
    pub as_expected: Option<bool>,
    /// Why it exists.
    pub cause: Option<Cause>,
    /// The preset its inputs came from.
    pub preset: Option<String>,
    /// Inputs.
    pub inputs: Map<String, Value>,
    /// What it handed on.
    pub output: Value,
    /// Why it failed, or why its last attempt did.
    pub error: Option<TypedError>,
    /// Exit code of its last process.
    pub exit_code: Option<i32>,
    /// Why it was skipped or cancelled.
    pub reason: Option<String>,
    /// Attempts that have ended.
    pub attempts: u32,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its next tick is due, while it waits.
    pub due_at: Option<Timestamp>,
    /// When it first started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// From start to end, in milliseconds.
    pub duration_ms: Option<f64>,
    /// Row of the definition it is pinned to.
    pub definition: i64,
    /// The flow it is a part of.
    pub parent: Option<Uid>,
    /// Its step number, for compare-and-set.
    pub machine_step: u64,
    /// Policy laid over the task's by schedule or preset.
    pub policy: Option<Policy>,
    /// Parts of a flow, as its record tells them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepView>,
}

/// A part of a flow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepView {
    /// Key: the step's id, with the index of its combination.
    pub step: String,
    /// Its run.
    pub id: Option<Uid>,
    /// How it ended; `running` while it lives.
    pub state: RunState,
    /// Whether that counts as good.
    pub good: bool,
    /// Why it failed.
    pub error: Option<TypedError>,
    /// Why it was skipped.
    pub reason: Option<String>,
    /// What it handed on.
    pub output: Value,
}

impl RunView {
    /// Whether its end counts as good: as declared, else success.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.as_expected.unwrap_or(self.state == RunState::Succeeded)
    }
}

/// One transition of a machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TransitionView {
    /// When.
    pub at: Timestamp,
    /// Its step after it.
    pub step: u64,
    /// What happened, in a word.
    pub kind: String,
    /// The details.
    pub body: Value,
}

/// Why a machine is as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Explanation {
    /// Which.
    pub id: Uid,
    /// What it is: `run of demo:pull`, `schedule demo:pull/s1`.
    pub what: String,
    /// Its state in a word.
    pub state: String,
    /// Why it exists, why it waits or how it ended, in sentences, the most telling first.
    pub because: Vec<String>,
    /// What one can do about it.
    pub hints: Vec<String>,
    /// The facts behind the sentences.
    pub facts: Value,
}

//! What tools are called with. The comments here are what an agent reads of each argument.

use ostler_api::{DefinitionsBy, LogStream, RunsBy, SchedulesBy, TriggersBy, paged, wire::Bounded};
use ostler_model::{RunState, Uid};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

/// The most entries of one list.
const MOST_ENTRIES: u32 = 200;
/// The most lines of one answer.
const MOST_LINES: u32 = 500;
/// The longest that `tail` waits, in seconds.
const LONGEST_TAIL: u32 = 30;
/// The longest that a run is waited for, in seconds: clients give up on a call after 60.
const LONGEST_RUN: u32 = 50;

/// How many entries.
pub(crate) type Entries = Bounded<1, MOST_ENTRIES>;
/// How many lines.
pub(crate) type Lines = Bounded<1, MOST_LINES>;

paged! {
    pub(crate) struct ListTasks[DefinitionsBy, Entries] {
        /// Only of this namespace (a prefix that fits one will do).
        #[serde(default)]
        pub(crate) namespace: Option<String>,
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ShowTask {
    /// The task: `task` or `namespace:task`.
    pub(crate) task: String,
}

paged! {
    pub(crate) struct ListRuns[RunsBy, Entries] {
        /// Only of this namespace (a prefix that fits one will do).
        #[serde(default)]
        pub(crate) namespace: Option<String>,
        /// Only of this task: `task` or `namespace:task`.
        #[serde(default)]
        pub(crate) task: Option<String>,
        /// Only in one of these states.
        #[serde(default)]
        pub(crate) states: Vec<RunState>,
        /// Only made since: a moment (`2026-11-20T07:00:00Z`) or so long ago (`90m`, `2d`).
        #[serde(default)]
        pub(crate) since: Option<String>,
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ShowRun {
    /// The id of the run.
    pub(crate) id: Uid,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Explain {
    /// The id of a run, a schedule or a trigger.
    pub(crate) id: Uid,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tail {
    /// The id of the run; the lines of a flow are those of its steps.
    pub(crate) id: Uid,
    /// So many lines; 50 when nothing is said.
    #[serde(default)]
    pub(crate) lines: Option<Lines>,
    /// Only of this stream.
    #[serde(default)]
    pub(crate) stream: Option<LogStream>,
    /// Only lines that hold this text.
    #[serde(default)]
    pub(crate) grep: Option<String>,
    /// Lines after this cursor (`next` of an answer before) instead of the last ones.
    #[serde(default)]
    pub(crate) after: Option<String>,
    /// When there is no line yet, wait so many seconds for one, or for the end of the run.
    #[serde(default)]
    pub(crate) wait_seconds: Option<Bounded<0, LONGEST_TAIL>>,
}

paged! {
    pub(crate) struct ListSchedules[SchedulesBy, Entries] {
        /// Only of this task: `task` or `namespace:task`.
        #[serde(default)]
        pub(crate) task: Option<String>,
    }
}

paged! {
    pub(crate) struct ListTriggers[TriggersBy, Entries] {
        /// Only of this task: `task` or `namespace:task`.
        #[serde(default)]
        pub(crate) task: Option<String>,
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunTask {
    /// The task: `task` or `namespace:task`.
    pub(crate) task: String,
    /// Its inputs by name, as `show_task` says them.
    #[serde(default)]
    pub(crate) inputs: Map<String, Value>,
    /// The id of a preset whose inputs are taken; `inputs` go before them.
    #[serde(default)]
    pub(crate) preset: Option<String>,
    /// The same key is answered with the same run, however often the task is started with it.
    #[serde(default)]
    pub(crate) idempotency_key: Option<String>,
    /// Wait so many seconds for the end of the run; nothing is waited for when nothing is said. The run goes on
    /// afterwards.
    #[serde(default)]
    pub(crate) wait_seconds: Option<Bounded<0, LONGEST_RUN>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CancelRuns {
    /// The ids of the runs.
    #[schemars(length(min = 1, max = 1000))]
    pub(crate) ids: Vec<Uid>,
    /// Why, for the record.
    #[serde(default)]
    pub(crate) reason: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RetryRun {
    /// The id of a run that has ended.
    pub(crate) id: Uid,
    /// Steps that succeeded are not run again.
    #[serde(default)]
    pub(crate) from_failed: bool,
    /// With the task's current definition; otherwise with the one that the run was pinned to.
    #[serde(default)]
    pub(crate) current: bool,
    /// Inputs laid over those of the run.
    #[serde(default)]
    pub(crate) inputs: Map<String, Value>,
    /// Wait so many seconds for the end of the new run; nothing is waited for when nothing is said. The run goes on
    /// afterwards.
    #[serde(default)]
    pub(crate) wait_seconds: Option<Bounded<0, LONGEST_RUN>>,
}

/// What a run is answered.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    /// Approves what a step waits for.
    Approve,
    /// Rejects it.
    Reject,
    /// Sends a signal; `signal` names it.
    Signal,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Answer {
    /// The id of the run.
    pub(crate) id: Uid,
    /// What it is answered.
    pub(crate) reply: Reply,
    /// Which step is approved or rejected, where several wait.
    #[serde(default)]
    pub(crate) step: Option<String>,
    /// The name of the signal, as the step that waits for it says.
    #[serde(default)]
    pub(crate) signal: Option<String>,
    /// What goes with it: outputs of the step.
    #[serde(default)]
    pub(crate) data: Value,
    /// For the record.
    #[serde(default)]
    pub(crate) comment: String,
}

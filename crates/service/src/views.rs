//! Views: what faces show, the same everywhere.

use jiff::Timestamp;
use ostler_engine::fields::{self, FlowFields};
use ostler_model::{Cause, Kind, RunState, TaskDef, TypedError, Uid, definition::Policy};
use ostler_store::{MachineRow, Micros, Phase};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Service, ServiceError};

/// One page of a list: what is on it, where the next one begins, and whether this is all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListPage<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// Where the next page begins.
    pub next: Option<String>,
    /// True when nothing comes after it.
    pub complete: bool,
}

impl<T> ListPage<T> {
    pub(crate) fn from_store<R>(page: ostler_store::Page<R>, view: impl FnMut(R) -> T) -> Self {
        let complete = page.next.is_none();
        Self { items: page.items.into_iter().map(view).collect(), next: page.next.map(|c| c.0), complete }
    }
}

/// A run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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

/// A task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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

/// A preset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    /// Tasks in it.
    pub tasks: u64,
    /// First seen.
    pub created_at: Timestamp,
    /// Last pushed.
    pub seen_at: Timestamp,
}

/// One transition of a machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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

impl Service {
    /// The view of a row.
    pub(crate) fn run_view(&self, row: &MachineRow) -> Result<RunView, ServiceError> {
        let all: FlowFields = fields::read(&row.fields).map_err(|e| {
            ostler_store::StoreError::Corrupt(format!("run {}: {}", self.uid(row.id), e.message))
        })?;
        let steps = all.parts.iter().map(|(key, part)| StepView {
            step: key.clone(),
            id: part.child.map(|c| self.uid(c)),
            state: part.state.unwrap_or(RunState::Running),
            good: part.good,
            error: part.error.clone(),
            reason: part.reason.clone(),
            output: part.output.clone(),
        });
        let steps = steps.collect();
        let run = all.run;
        let span = |a: Option<Micros>, b: Option<Micros>| Some((b? - a?) as f64 / 1000.0);
        Ok(RunView {
            id: self.uid(row.id),
            kind: if row.kind == Kind::FLOW { "flow" } else { "run" }.into(),
            namespace: row.namespace.clone(),
            task: row.task.clone(),
            step: row.parent.and(row.child_key.clone()),
            state: row.run_state(),
            as_expected: run.as_expected,
            cause: run.cause,
            preset: run.preset,
            inputs: run.inputs,
            output: run.output,
            error: run.error,
            exit_code: run.exit_code,
            reason: run.reason,
            attempts: run.attempts,
            created_at: Timestamp::from_millisecond(row.id.unix_ms()).unwrap_or_default(),
            due_at: Self::view_time(row.tick.as_ref().map(|t| t.due_at)),
            // While it is claimed for the first time, nothing has been committed yet.
            started_at: Self::view_time(
                row.started_at.or_else(|| row.tick.as_ref().filter(|t| t.phase == Phase::Claimed)?.since),
            ),
            finished_at: Self::view_time(row.finished_at),
            duration_ms: span(row.started_at, row.finished_at),
            definition: row.definition,
            parent: row.parent.map(|p| self.uid(p)),
            machine_step: row.step,
            policy: run.policy,
            steps,
        })
    }
}

//! Ticking one row: what its machine decides, and the commit that its decision is to the store.
//!
//! The loop ([`crate::Core`]) ticks what its own node has claimed; whoever claims for a worker ticks what the worker has.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use ostler_clock::Entropy;
use ostler_model::{Kind, RunState, TypedError};
use ostler_store::{Claimed, Commit, EventBody, Next, NodeId};

use crate::{
    Task,
    machine::{Change, Decision, Execution, Input, Machine, Outcome, World},
    time::{due, micros},
};

/// Finds the pinned version of a task by its definition row.
pub trait Tasks: Send + Sync {
    /// The version; `None` when the store has it no more.
    fn task(&self, definition: i64) -> Option<Arc<Task>>;
}

/// Ticks rows of one store.
pub struct Ticker {
    machines: BTreeMap<Kind, Arc<dyn Machine>>,
    /// The store's salt.
    pub salt: u64,
    /// Finds tasks.
    pub tasks: Arc<dyn Tasks>,
    /// Draws jitter.
    pub entropy: Arc<dyn Entropy>,
    /// Whether an executor repeats lost attempts by custom.
    pub reruns_lost: Arc<dyn Fn(&str) -> bool + Send + Sync>,
}

impl Ticker {
    /// Ticks these kinds of machines of the store with this salt.
    #[must_use]
    pub fn new(
        machines: &[Arc<dyn Machine>],
        salt: u64,
        tasks: Arc<dyn Tasks>,
        entropy: Arc<dyn Entropy>,
        reruns_lost: Arc<dyn Fn(&str) -> bool + Send + Sync>,
    ) -> Self {
        let machines = machines.iter().map(|m| (m.kind(), m.clone())).collect();
        Self { machines, salt, tasks, entropy, reruns_lost }
    }

    /// What a machine decides.
    #[must_use]
    pub fn tick(&self, now: Timestamp, row: &Claimed, input: Input<'_>) -> Decision {
        let Some(machine) = self.machines.get(&row.kind) else {
            let what = format!("this ostler knows no machines of kind {}", row.kind.0);
            return Decision::Commit(Box::new(failed(&what)));
        };
        let world = World { now, entropy: &*self.entropy, salt: self.salt, reruns_lost: &*self.reruns_lost };
        let task = self.tasks.task(row.definition);
        machine.tick(row, task.as_ref(), &world, input)
    }

    /// The commit of a row whose execution has ended.
    #[must_use]
    pub fn executed(&self, now: Timestamp, node: NodeId, row: &Claimed, execution: &Execution) -> Commit {
        let change = match self.tick(now, row, Input::Executed(execution)) {
            Decision::Commit(change) => *change,
            // A machine that wants to execute again without a commit in between would lose its record; it is ended.
            Decision::Execute(_) => failed("a machine asked for two executions in one tick"),
        };
        let took = micros(now).saturating_sub(micros(execution.started)).max(0);
        Commit { took, ..commit(node, row, change) }
    }
}

fn failed(what: &str) -> Change {
    let error = TypedError::new("internal", what);
    let event = EventBody::new("failed", &serde_json::json!({ "error": error }));
    Change::new(Outcome::Panic(RunState::Failed, Box::new(error)), event)
}

/// A change of a row as the store takes it.
#[must_use]
pub fn commit(node: NodeId, row: &Claimed, change: Change) -> Commit {
    let next = match change.outcome {
        Outcome::Stay { until, keep_permit } => Next::Stay { until: due(until), keep_permit },
        Outcome::Stop(state) | Outcome::Panic(state, _) => Next::End { state: state.code() },
    };
    Commit {
        id: row.id,
        node,
        step: row.step,
        fence: row.fence,
        receipt: row.receipt,
        fields: change.set,
        next,
        started_at: change.started.map(micros),
        took: 0,
        event: change.event,
        start: change.start,
        send: change.send,
        read_mail: row.mail.last().map(|(seq, _)| *seq),
    }
}

//! Rows of the store as faces see them.

use ostler_api::{RunView, StepView};
use ostler_engine::{
    fields::{self, FlowFields},
    machines::WAIT,
};
use ostler_model::{Kind, RunState};
use ostler_store::{MachineRow, Micros, Phase};

use crate::{Service, ServiceError};

impl Service {
    /// The view of a row.
    pub(crate) fn run_view(&self, row: &MachineRow) -> Result<RunView, ServiceError> {
        let all: FlowFields = fields::read(&row.fields).map_err(|e| {
            ostler_store::StoreError::Corrupt(format!("run {}: {}", self.uid(row.id), e.message))
        })?;
        let living = all.parts.values().any(|part| part.state.is_none());
        let task = if living { self.pinned_task(row.definition).ok() } else { None };
        let waits = |key: &str| task.as_ref().and_then(|t| t.step(key)).is_some_and(|s| s.uses == WAIT);
        let steps = all.parts.iter().map(|(key, part)| StepView {
            step: key.clone(),
            id: part.child.map(|c| self.uid(c)),
            state: part.state.unwrap_or(if waits(key) { RunState::Waiting } else { RunState::Running }),
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
            created_at: jiff::Timestamp::from_millisecond(row.id.unix_ms()).unwrap_or_default(),
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

//! A run: a machine with one state, whose tick calls an executor.

use std::sync::Arc;

use jiff::Timestamp;
use ostler_execution::{CancelReason, ExecOutcome};
use ostler_model::{
    Kind, RunState, Span, TypedError,
    definition::{Lost, Policy, StepDef},
};
use ostler_store::{Claimed, EventBody, Letter, MailTo};
use serde_json::json;

use super::WAIT;
use crate::{
    Task,
    call::{self, Known},
    fields::{self, LastWords, RunFields},
    machine::{Change, Decision, Execution, Input, Machine, Outcome, Work, World},
    time::{after, timestamp},
};

/// Attempts lost with their node that are made up for, whatever the retry policy says (decision 3).
const LOST_CAP: u32 = 3;

/// The machine of runs.
pub struct Run;

impl Machine for Run {
    fn kind(&self) -> Kind {
        Kind::RUN
    }

    fn tick(&self, row: &Claimed, task: Option<&Arc<Task>>, world: &World<'_>, input: Input<'_>) -> Decision {
        let fields: RunFields = match fields::read(&row.fields) {
            Ok(fields) => fields,
            Err(error) => return unreadable(error),
        };
        let Some(task) = task else {
            let error = TypedError::new("internal", "the definition of this run is gone from the store");
            return Tick::bare(row, fields, world).end(RunState::Failed, Some(error), None);
        };
        let step = row.child_key.as_deref().and_then(|key| task.step(key)).unwrap_or(&task.def.steps[0]);
        let policy = effective_policy(task, step, &fields, row.parent.is_some());
        let tick = Tick { row, fields, world, step: Some(step), task: Some(task), policy };
        match input {
            Input::Due => tick.due(),
            Input::Executed(execution) => tick.executed(execution),
        }
    }
}

/// What holds for a run: for a part of a flow the step's words over the task's, without what concerns the whole.
fn effective_policy(task: &Task, step: &StepDef, fields: &RunFields, is_part: bool) -> Policy {
    let mut policy = fields.policy.clone().unwrap_or_default().over(&task.def.policy);
    if is_part {
        policy.deadline = None;
        policy.timeout.total = None;
        policy.timeout.queue = None;
    }
    if step.retry.is_some() {
        policy.retry.clone_from(&step.retry);
    }
    policy.timeout.attempt = step.timeout.or(policy.timeout.attempt);
    policy.idempotent = step.idempotent.or(policy.idempotent);
    policy
}

/// The end of a machine whose fields do not read.
pub(super) fn unreadable(error: TypedError) -> Decision {
    let event = EventBody::new("failed", &json!({ "error": error }));
    Decision::Commit(Box::new(Change::new(Outcome::Panic(RunState::Failed, Box::new(error)), event)))
}

pub(super) struct Tick<'a> {
    pub(super) row: &'a Claimed,
    pub(super) fields: RunFields,
    pub(super) world: &'a World<'a>,
    step: Option<&'a StepDef>,
    task: Option<&'a Arc<Task>>,
    pub(super) policy: Policy,
}

impl<'a> Tick<'a> {
    fn bare(row: &'a Claimed, fields: RunFields, world: &'a World<'a>) -> Self {
        Self { row, fields, world, step: None, task: None, policy: Policy::default() }
    }

    fn due(mut self) -> Decision {
        if let Some(reason) = cancel_letter(self.row) {
            return self.cut_short(RunState::Cancelled, reason);
        }
        if self.row.refused {
            return self.cut_short(RunState::Skipped, "its concurrency limit was full".into());
        }
        if let Some(step) = self.step.filter(|s| s.uses == WAIT) {
            return self.wait(step);
        }
        if self.row.lost {
            return self.lost("the node that ran it died or lost its lease");
        }
        let now = self.world.now;
        if let (Some(limit), Some(due), None) =
            (self.policy.timeout.queue, self.fields.due, self.row.started_at)
            && after(timestamp(due), limit) <= now
        {
            let error =
                TypedError::new("timeout.queue", format!("it waited longer than {limit} for a free place"));
            return self.end(RunState::TimedOut, Some(error), None);
        }
        if let Some((stop, why)) = self.overall_stop()
            && stop <= now
        {
            return self.end(RunState::TimedOut, Some(TypedError::new("timeout", why)), None);
        }
        let mut request = match self.fields.call.take() {
            Some(call) => *call,
            None => match self.own_call() {
                Ok(request) => request,
                Err(error) => return self.end(RunState::Failed, Some(error), None),
            },
        };
        let root = self.row.parent.unwrap_or(self.row.id);
        let attempt = self.fields.attempts + 1;
        call::stamp(&mut request, self.row.id, root, self.world.salt, attempt, self.row.fence);
        let attempt_stop = self.policy.timeout.attempt.map(|limit| after(now, limit));
        let stop_at = call::earliest([attempt_stop, self.overall_stop().map(|(at, _)| at)]);
        Decision::Execute(Box::new(Work { request, stop_at }))
    }

    fn own_call(&self) -> Result<ostler_execution::ExecRequest, TypedError> {
        let (Some(task), Some(step)) = (self.task, self.step) else {
            return Err(TypedError::new("internal", "no definition"));
        };
        let (inputs, cause) = (&self.fields.inputs, self.fields.cause.as_ref());
        let known = match task.has_expressions(step) {
            true => Known::of_run(task, self.row.id, self.world.salt, inputs, cause),
            false => Known::inputs(inputs),
        };
        call::build(task, step, step.id.as_str(), known)
    }

    /// When the run as a whole must end, and the words for it.
    pub(super) fn overall_stop(&self) -> Option<(Timestamp, String)> {
        let started = self.row.started_at.map_or(self.world.now, timestamp);
        let total =
            self.policy.timeout.total.map(|t| (after(started, t), format!("it took longer than {t} in all")));
        let deadline = self.policy.deadline.and_then(|d| {
            let due = timestamp(self.fields.due?);
            Some((after(due, d), format!("its deadline, {d} after it was due, has passed")))
        });
        [total, deadline].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    fn executed(mut self, execution: &Execution) -> Decision {
        self.fields.attempts += 1;
        self.fields.exit_code = execution.end.exit_code;
        match &execution.end.outcome {
            ExecOutcome::Succeeded => {
                self.fields.output = execution.end.output.clone();
                self.fields.error = None;
                self.end(RunState::Succeeded, None, Some(execution.started))
            }
            ExecOutcome::Failed(error) => self.failed(error.clone(), execution.started, false),
            ExecOutcome::Interrupted => match execution.interrupted {
                Some(CancelReason::TimedOut) => {
                    let error = TypedError::new("timeout", self.timeout_words());
                    self.failed(error, execution.started, true)
                }
                Some(CancelReason::Cancelled) => {
                    let reason = execution.reason.clone().unwrap_or_else(|| "cancelled while it ran".into());
                    self.fields.reason.get_or_insert(reason);
                    self.end(RunState::Cancelled, None, Some(execution.started))
                }
                Some(CancelReason::Shutdown | CancelReason::Kill) | None => {
                    self.fields.attempts -= 1;
                    self.lost("the node was shut down while it ran")
                }
            },
        }
    }

    fn timeout_words(&self) -> String {
        let now = self.world.now;
        match (self.overall_stop(), self.policy.timeout.attempt) {
            (Some((at, why)), _) if at <= now => why,
            (_, Some(limit)) => format!("the attempt took longer than {limit}"),
            _ => "it took too long".into(),
        }
    }

    fn failed(mut self, error: TypedError, started: Timestamp, timed_out: bool) -> Decision {
        let attempt = self.fields.attempts;
        if let Some(wait) = self.retry_after(&error) {
            let until = after(self.world.now, wait);
            let mut event = json!({ "attempt": attempt, "error": error, "retry_at": until });
            if let Some(detail) = event["error"].get_mut("detail") {
                // The whole of it is in the log; the attempt's record keeps the end.
                *detail = json!(tail(detail.as_str().unwrap_or_default(), 2000));
            }
            self.fields.error = Some(error);
            return Decision::Commit(Box::new(Change {
                set: Some(fields::write(&self.fields)),
                started: Some(started),
                ..Change::new(
                    Outcome::Stay { until: Some(until), keep_permit: false },
                    EventBody::new("attempt_failed", &event),
                )
            }));
        }
        let state = if timed_out { RunState::TimedOut } else { RunState::Failed };
        self.end(state, Some(error), Some(started))
    }

    /// How long to wait before the next attempt; `None` when there is none.
    fn retry_after(&self, error: &TypedError) -> Option<Span> {
        let retry = self.policy.retry.as_ref()?;
        let failed = self.fields.attempts - self.fields.lost;
        if failed >= retry.attempts || !retry.covers(&error.class) {
            return None;
        }
        let mut wait = retry.delay(failed);
        if retry.jitter {
            let half = wait.as_micros() / 2;
            let drawn = self.world.entropy.below(half.unsigned_abs().max(1));
            wait = Span::from(std::time::Duration::from_micros(half.unsigned_abs() + drawn));
        }
        let wait = error.retry_after.map_or(wait, |asked| wait.max(asked));
        let until = after(self.world.now, wait);
        self.overall_stop().is_none_or(|(stop, _)| until < stop).then_some(wait)
    }

    /// An attempt went down with its node: run again or end (decision 3).
    fn lost(mut self, how: &str) -> Decision {
        self.fields.attempts += 1;
        self.fields.lost += 1;
        let uses = self.fields.call.as_ref().map(|c| c.uses.as_str()).or(self.step.map(|s| s.uses.as_str()));
        let by_custom =
            self.policy.idempotent.unwrap_or(false) || uses.is_some_and(|u| (self.world.reruns_lost)(u));
        let rule = self.policy.lost.unwrap_or(if by_custom { Lost::Rerun } else { Lost::Fail });
        let error = TypedError::new("lost", how);
        if rule == Lost::Rerun && self.fields.lost <= LOST_CAP {
            let event =
                EventBody::new("attempt_lost", &json!({ "attempt": self.fields.attempts, "error": error }));
            self.fields.error = Some(error);
            return Decision::Commit(Box::new(Change {
                set: Some(fields::write(&self.fields)),
                ..Change::new(Outcome::Stay { until: Some(self.world.now), keep_permit: false }, event)
            }));
        }
        self.end(RunState::Failed, Some(error), None)
    }

    fn cut_short(mut self, state: RunState, reason: String) -> Decision {
        self.fields.reason = Some(reason);
        self.end(state, None, None)
    }

    pub(super) fn end(
        mut self,
        state: RunState,
        error: Option<TypedError>,
        started: Option<Timestamp>,
    ) -> Decision {
        let expect = match self.row.parent {
            Some(_) => self.step.map(|s| s.expect.clone()),
            None => match (self.task, self.step) {
                (Some(task), _) if !task.def.expect.is_default() => Some(task.def.expect.clone()),
                (_, step) => step.map(|s| s.expect.clone()),
            },
        }
        .unwrap_or_default();
        let good = fields::is_good(&expect, state, error.as_ref());
        self.fields.as_expected = (!expect.is_default()).then_some(good);
        if error.is_some() {
            self.fields.error.clone_from(&error);
        }
        let body = match (&error, &self.fields.reason) {
            (Some(error), _) => json!({ "class": error.class, "message": error.message }),
            (None, Some(reason)) => json!({ "reason": reason }),
            (None, None) => serde_json::Value::Null,
        };
        let mut change = Change::new(
            match error {
                Some(error) => Outcome::Panic(state, Box::new(error)),
                None => Outcome::Stop(state),
            },
            EventBody::new(state.word(), &body),
        );
        if self.row.watcher.is_some() {
            let words =
                LastWords { output: self.fields.output.clone(), error: self.fields.error.clone(), good };
            change.send.push((
                MailTo::Watcher,
                Letter::ChildEnded {
                    child: self.row.id,
                    key: self.row.child_key.clone().unwrap_or_default(),
                    state: state.code(),
                    body: fields::write(&words),
                },
            ));
        }
        // The call of a part was worked out by its flow and is on the record of the flow's event; it is not needed
        // any more, and outputs that it repeats would be stored twice.
        self.fields.call = None;
        change.set = Some(fields::write(&self.fields));
        change.started = started;
        Decision::Commit(Box::new(change))
    }
}

/// What a letter that cancels says, if there is one.
pub(super) fn cancel_letter(row: &Claimed) -> Option<String> {
    row.mail.iter().find_map(|(_, letter)| match letter {
        Letter::Cancel { reason } => Some(reason.clone()),
        _ => None,
    })
}

/// The last `max` bytes of a text, from a character's beginning.
fn tail(text: &str, max: usize) -> &str {
    let from = text.len().saturating_sub(max);
    let from = (from..text.len()).find(|i| text.is_char_boundary(*i)).unwrap_or(text.len());
    &text[from..]
}

//! A flow: a task with several steps. Its tick starts the steps whose needs are met and stays until a part ends, so
//! a flow that waits holds no worker.

use std::{collections::BTreeSet, sync::Arc};

use jiff::Timestamp;
use ostler_expr::Expr;
use ostler_model::{
    Kind, RunState, TypedError,
    definition::{Policy, StepDef},
};
use ostler_store::{Claimed, EventBody, Letter, MailTo, NewMachine};
use serde_json::{Map, Value, json};

use super::{
    WAIT,
    run::{cancel_letter, unreadable},
    signal_of,
};
use crate::{
    Task,
    call::{self, Known},
    fields::{self, FlowFields, LastWords, Part, RunFields},
    machine::{Change, Decision, Input, Machine, Outcome, World},
    start,
    time::{after, micros, timestamp},
};

/// Parts started in one commit at most; the rest follow in the next tick.
const STARTS_A_TICK: usize = 500;

/// Signals that are kept until somebody waits for them.
const SIGNALS: usize = 100;

/// The machine of flows.
pub struct Flow;

impl Machine for Flow {
    fn kind(&self) -> Kind {
        Kind::FLOW
    }

    fn tick(&self, row: &Claimed, task: Option<&Arc<Task>>, world: &World<'_>, _: Input<'_>) -> Decision {
        let fields: FlowFields = match fields::read(&row.fields) {
            Ok(fields) => fields,
            Err(error) => return unreadable(error),
        };
        let Some(task) = task else {
            return unreadable(TypedError::new(
                "internal",
                "the definition of this flow is gone from the store",
            ));
        };
        let policy = fields.run.policy.clone().unwrap_or_default().over(&task.def.policy);
        let begun = row.started_at.map_or(world.now, timestamp);
        Tick { row, fields, task, world, policy, begun, change: Starts::default() }.tick()
    }
}

#[derive(Default)]
struct Starts {
    start: Vec<NewMachine>,
    send: Vec<(MailTo, Letter)>,
    full: bool,
}

struct Tick<'a> {
    row: &'a Claimed,
    fields: FlowFields,
    task: &'a Arc<Task>,
    world: &'a World<'a>,
    policy: Policy,
    begun: Timestamp,
    change: Starts,
}

impl Tick<'_> {
    fn tick(mut self) -> Decision {
        let heard = self.read_mail();
        let first = self.row.started_at.is_none();
        if first && self.row.refused {
            self.fields.run.reason = Some("its concurrency limit was full".into());
            return self.end(RunState::Skipped, None);
        }
        if let Some(reason) = cancel_letter(self.row)
            && self.fields.ended.is_none()
        {
            self.fields.run.reason = Some(reason);
            return self.cut_short(RunState::Cancelled);
        }
        if let Some((stop, why)) = self.stop_at()
            && stop <= self.world.now
            && self.fields.ended.is_none()
        {
            self.fields.run.error = Some(TypedError::new("timeout", why));
            return self.cut_short(RunState::TimedOut);
        }
        if self.fields.ended.is_none() {
            let steps = &self.task.clone().def.steps;
            self.advance(steps);
            if self.is_over(steps) {
                let state = if self.any_bad(steps) { RunState::Failed } else { RunState::Succeeded };
                self.fields.ended = Some(state);
            }
        }
        if let Some(state) = self.fields.ended {
            let task = self.task.clone();
            let handlers =
                if state == RunState::Succeeded { &task.def.on_success } else { &task.def.on_failure };
            let cancelled = state == RunState::Cancelled;
            // While parts still end after a cancel or timeout, handlers wait: they may look at how things ended.
            if !self.lives(&task.def.steps) {
                if !cancelled {
                    self.advance(handlers);
                }
                if cancelled || self.is_over(handlers) {
                    return self.end(state, None);
                }
            }
        }
        self.stay(first, heard)
    }

    fn read_mail(&mut self) -> Vec<String> {
        let mut heard = Vec::new();
        for (_, letter) in &self.row.mail {
            if let Letter::ChildEnded { child, key, state, body } = letter {
                let words: LastWords = fields::read(body).unwrap_or_default();
                let part = self.fields.parts.entry(key.clone()).or_default();
                *part = Part {
                    child: Some(*child),
                    state: RunState::from_code(*state),
                    good: words.good,
                    output: words.output,
                    error: words.error,
                    reason: None,
                };
                heard.push(key.clone());
            }
            if let Letter::Signal { name, body } = letter
                && self.fields.signals.len() < SIGNALS
            {
                self.fields.signals.push((name.clone(), body.clone()));
            }
        }
        for key in &heard {
            self.fail_fast(key);
        }
        heard
    }

    /// The first bad combination of a step ends the others, where its matrix says so.
    fn fail_fast(&mut self, key: &str) {
        let task = self.task.clone();
        let Some(step) = task.step(key).filter(|s| s.matrix.as_ref().is_some_and(|m| m.fail_fast)) else {
            return;
        };
        if self.fields.parts.get(key).is_none_or(|p| p.good) {
            return;
        }
        for sibling in keys(step) {
            match self.fields.parts.get(&sibling) {
                None => {
                    let reason = Some("another combination failed".to_owned());
                    self.fields
                        .parts
                        .insert(sibling, Part { state: Some(RunState::Skipped), reason, ..Part::default() });
                }
                Some(part) if part.state.is_none() => {
                    let reason = format!("another combination of step `{}` failed", step.id);
                    self.change.send.push((MailTo::Child(sibling), Letter::Cancel { reason }));
                }
                Some(_) => {}
            }
        }
    }

    /// Starts what can be started among some steps, and records as skipped what will not run, until nothing moves.
    fn advance(&mut self, steps: &[StepDef]) {
        loop {
            let mut moved = false;
            for step in steps {
                let keys = keys(step);
                let fresh = keys.iter().any(|k| !self.fields.parts.contains_key(k));
                if !fresh || !step.needs.iter().all(|need| self.has_ended(need.as_str())) {
                    continue;
                }
                moved |= self.begin(step, &keys);
            }
            if !moved || self.change.full {
                return;
            }
        }
    }

    fn begin(&mut self, step: &StepDef, keys: &[String]) -> bool {
        let known = self.known(step);
        let go = match step.condition.as_deref() {
            None => Ok(!known.failed && !known.cancelled),
            Some(source) => Expr::parse(source).and_then(|e| {
                let implied = e.uses_status() || (!known.failed && !known.cancelled);
                Ok(implied && e.truthy(&known.scope())?)
            }),
        };
        let settle = |this: &mut Self, part: &Part| {
            for key in keys {
                this.fields.parts.entry(key.clone()).or_insert_with(|| part.clone());
            }
            true
        };
        match go {
            Err(e) => {
                let error = TypedError::new("expression", format!("step `{}`, `if`: {e}", step.id));
                settle(self, &failed_part(error))
            }
            Ok(false) => {
                let reason = match &step.condition {
                    Some(source) => format!("`if: {source}` is false"),
                    None if known.cancelled => "the flow was cancelled".into(),
                    None => "a step that it needs failed".into(),
                };
                settle(
                    self,
                    &Part {
                        state: Some(RunState::Skipped),
                        good: true,
                        reason: Some(reason),
                        ..Part::default()
                    },
                )
            }
            Ok(true) => self.start_parts(step, keys, &known),
        }
    }

    fn start_parts(&mut self, step: &StepDef, keys: &[String], known: &Known) -> bool {
        let parallel = step.matrix.as_ref().and_then(|m| m.max_parallel).unwrap_or(u32::MAX);
        let siblings: Vec<&Part> = keys.iter().filter_map(|k| self.fields.parts.get(k)).collect();
        let mut living = siblings.iter().filter(|p| p.state.is_none()).count();
        let mut moved = false;
        for (index, key) in keys.iter().enumerate() {
            if self.fields.parts.contains_key(key) || living >= parallel as usize {
                continue;
            }
            if self.change.start.len() >= STARTS_A_TICK {
                self.change.full = true;
                return moved;
            }
            let mut known = known.clone();
            if let Some(combination) = step.matrix.as_ref().and_then(|m| m.combinations.get(index)) {
                known.names.insert("matrix".into(), Value::Object(combination.clone()));
            }
            match call::build(self.task, step, key, known) {
                Ok(request) => {
                    living += 1;
                    let run = RunFields {
                        call: Some(Box::new(request)),
                        inputs: Map::new(),
                        policy: self.fields.run.policy.clone(),
                        cause: None,
                        ..RunFields::default()
                    };
                    self.change.start.push(NewMachine {
                        kind: Kind::RUN.0,
                        namespace: self.row.namespace.to_string(),
                        task: self.row.task,
                        definition: self.row.definition,
                        fields: fields::write(&run),
                        light: step.uses == WAIT,
                        priority: self.policy.priority.unwrap_or_default().rank(),
                        due_at: micros(self.world.now),
                        parent: Some(self.row.id),
                        child_key: Some(key.clone()),
                        watcher: Some(self.row.id),
                        home: self.row.home,
                        labels: if self.row.home.is_some() { Vec::new() } else { start::labels(step) },
                        event: EventBody { kind: "created".into(), body: String::new() },
                        ..NewMachine::default()
                    });
                    self.fields.parts.insert(key.clone(), Part::default());
                }
                Err(error) => {
                    self.fields.parts.insert(key.clone(), failed_part(error));
                }
            }
            moved = true;
        }
        moved
    }

    /// What the expressions of a step see: the steps it needs, directly or through others.
    fn known(&self, step: &StepDef) -> Known {
        let run = &self.fields.run;
        let mut known =
            Known::of_run(self.task, self.row.id, self.world.salt, &run.inputs, run.cause.as_ref());
        let def = &self.task.def;
        let is_handler = !def.steps.iter().any(|s| s.id == step.id);
        let before: BTreeSet<&str> = if is_handler {
            def.steps.iter().map(|s| s.id.as_str()).collect()
        } else {
            ancestors(&def.steps, step)
        };
        let mut steps = Map::new();
        for other in def.steps.iter().filter(|s| before.contains(s.id.as_str())) {
            let view = self.view(other);
            known.failed |= view.bad && !other.continue_on_error;
            steps.insert(other.id.to_string(), view.json);
        }
        known.names.insert("steps".into(), Value::Object(steps));
        known.cancelled = self.fields.ended == Some(RunState::Cancelled);
        if is_handler {
            let state = self.fields.ended.unwrap_or(RunState::Failed);
            // A handler runs because of how the flow ended; `success()` inside it must not stop it, and every handler
            // gets its chance whatever the others came to (ledger E11).
            known.failed = false;
            if let Some(Value::Object(run)) = known.names.get_mut("run") {
                run.insert("state".into(), json!(state.word()));
                let bad = def.steps.iter().find(|s| self.view(s).bad).map(|s| s.id.to_string());
                run.insert("failed_step".into(), json!(bad));
            }
        }
        known
    }

    fn view(&self, step: &StepDef) -> View {
        let parts: Vec<(usize, &Part)> = keys(step)
            .iter()
            .enumerate()
            .filter_map(|(i, k)| self.fields.parts.get(k).map(|p| (i, p)))
            .collect();
        let bad = parts.iter().any(|(_, p)| p.state.is_some() && !p.good);
        let skipped = !parts.is_empty() && parts.iter().all(|(_, p)| p.state == Some(RunState::Skipped));
        let outcome = match (bad, skipped) {
            (true, _) => "failure",
            (_, true) => "skipped",
            _ => "success",
        };
        let mut json = json!({
            "outcome": outcome,
            "conclusion": if bad && step.continue_on_error { "success" } else { outcome },
        });
        match (&step.matrix, parts.first()) {
            (Some(_), _) => json["outputs"] = parts.iter().map(|(_, p)| p.output.clone()).collect(),
            (None, Some((_, part))) => {
                json["outputs"] = part.output.clone();
                if let Some(error) = &part.error {
                    json["error"] = json!({ "class": error.class, "message": error.message });
                }
            }
            (None, None) => {}
        }
        View { bad, json }
    }

    fn has_ended(&self, id: &str) -> bool {
        self.task.step(id).is_none_or(|step| {
            keys(step).iter().all(|k| self.fields.parts.get(k).is_some_and(|p| p.state.is_some()))
        })
    }

    fn is_over(&self, steps: &[StepDef]) -> bool {
        !self.change.full && steps.iter().all(|s| self.has_ended(s.id.as_str()))
    }

    fn lives(&self, steps: &[StepDef]) -> bool {
        steps.iter().flat_map(keys).any(|k| self.fields.parts.get(&k).is_some_and(|p| p.state.is_none()))
    }

    fn any_bad(&self, steps: &[StepDef]) -> bool {
        steps.iter().any(|s| !s.continue_on_error && self.view(s).bad)
    }

    fn stop_at(&self) -> Option<(Timestamp, String)> {
        let total = self
            .policy
            .timeout
            .total
            .map(|t| (after(self.begun, t), format!("the flow took longer than {t} in all")));
        let deadline = self.policy.deadline.and_then(|d| {
            Some((
                after(timestamp(self.fields.run.due?), d),
                format!("its deadline, {d} after it was due, has passed"),
            ))
        });
        [total, deadline].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// Ends what lives and records what has not begun; handlers and the end follow when the parts have ended.
    fn cut_short(mut self, state: RunState) -> Decision {
        self.fields.ended = Some(state);
        let reason = match state {
            RunState::TimedOut => "the flow ran out of time".to_owned(),
            _ => self.fields.run.reason.clone().unwrap_or_else(|| "the flow was cancelled".into()),
        };
        for key in self.task.def.steps.iter().flat_map(keys) {
            self.fields.parts.entry(key).or_insert_with(|| Part {
                state: Some(RunState::Skipped),
                reason: Some(reason.clone()),
                ..Part::default()
            });
        }
        if self.lives(&self.task.def.steps) {
            self.change.send.push((MailTo::Children, Letter::Cancel { reason }));
            return self.stay(false, Vec::new());
        }
        if state == RunState::Cancelled || self.task.def.on_failure.is_empty() {
            return self.end(state, None);
        }
        let task = self.task.clone();
        self.advance(&task.def.on_failure);
        if self.is_over(&task.def.on_failure) {
            return self.end(state, None);
        }
        self.stay(false, Vec::new())
    }

    /// Hands signals that came before anybody waited for them to the parts that do now.
    fn hand_on_signals(&mut self) {
        let parts = &self.fields.parts;
        let sent = &mut self.change.send;
        let task = self.task;
        self.fields.signals.retain(|(name, body)| {
            let waits = |(key, part): &(&String, &Part)| {
                part.state.is_none() && task.step(key).and_then(signal_of).as_ref() == Some(name)
            };
            let Some((key, _)) = parts.iter().find(waits) else { return true };
            let letter = Letter::Signal { name: name.clone(), body: body.clone() };
            sent.push((MailTo::Child(key.clone()), letter));
            false
        });
    }

    fn stay(mut self, first: bool, heard: Vec<String>) -> Decision {
        self.hand_on_signals();
        let until = if self.change.full {
            Some(self.world.now)
        } else {
            self.stop_at().filter(|_| self.fields.ended.is_none()).map(|(at, _)| at)
        };
        let started: Vec<_> = self.change.start.iter().filter_map(|m| m.child_key.clone()).collect();
        let kind = if first { "started" } else { "advanced" };
        let mut body = Map::new();
        if !started.is_empty() {
            body.insert("steps".into(), json!(started));
        }
        if !heard.is_empty() {
            body.insert("ended".into(), json!(heard));
        }
        let body = if body.is_empty() { Value::Null } else { Value::Object(body) };
        Decision::Commit(Box::new(Change {
            set: Some(fields::write(&self.fields)),
            started: Some(self.world.now),
            start: self.change.start,
            send: self.change.send,
            ..Change::new(Outcome::Stay { until, keep_permit: true }, EventBody::new(kind, &body))
        }))
    }

    fn end(mut self, state: RunState, error: Option<TypedError>) -> Decision {
        let def = &self.task.def;
        let bad = def.steps.iter().find(|s| !s.continue_on_error && self.view(s).bad);
        let error = error.or_else(|| self.fields.run.error.clone()).or_else(|| {
            let step = bad.filter(|_| state == RunState::Failed)?;
            let inner = keys(step).iter().find_map(|k| self.fields.parts.get(k)?.error.clone());
            Some(match inner {
                Some(inner) => {
                    TypedError { message: format!("step `{}`: {}", step.id, inner.message), ..inner }
                }
                None => TypedError::new("step", format!("step `{}` failed", step.id)),
            })
        });
        let good = fields::is_good(&def.expect, state, error.as_ref());
        self.fields.run.as_expected = (!def.expect.is_default()).then_some(good);
        self.fields.run.error.clone_from(&error);
        let last = def.steps.iter().rev().find(|s| self.view(s).json["outcome"] == "success");
        if let Some(step) = last {
            self.fields.run.output = self.view(step).json["outputs"].clone();
        }
        let body = match (&error, &self.fields.run.reason) {
            (Some(error), _) => json!({ "class": error.class, "message": error.message }),
            (None, Some(reason)) => json!({ "reason": reason }),
            (None, None) => Value::Null,
        };
        let mut send = self.change.send;
        if self.row.watcher.is_some() {
            let run = &self.fields.run;
            let words = LastWords { output: run.output.clone(), error: run.error.clone(), good };
            send.push((
                MailTo::Watcher,
                Letter::ChildEnded {
                    child: self.row.id,
                    key: self.row.child_key.clone().unwrap_or_default(),
                    state: state.code(),
                    body: fields::write(&words),
                },
            ));
        }
        let outcome = match error {
            Some(error) if state != RunState::Succeeded => Outcome::Panic(state, Box::new(error)),
            _ => Outcome::Stop(state),
        };
        Decision::Commit(Box::new(Change {
            set: Some(fields::write(&self.fields)),
            started: (state != RunState::Skipped).then_some(self.world.now),
            send,
            ..Change::new(outcome, EventBody::new(state.word(), &body))
        }))
    }
}

struct View {
    bad: bool,
    json: Value,
}

fn failed_part(error: TypedError) -> Part {
    Part { state: Some(RunState::Failed), error: Some(error), ..Part::default() }
}

/// The keys of a step's parts: its id, or one for each combination.
fn keys(step: &StepDef) -> Vec<String> {
    match &step.matrix {
        None => vec![step.id.to_string()],
        Some(matrix) => (0..matrix.combinations.len()).map(|i| format!("{}[{i}]", step.id)).collect(),
    }
}

/// All steps that must have ended before a step, directly or through others.
fn ancestors<'a>(steps: &'a [StepDef], of: &'a StepDef) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut next: Vec<&str> = of.needs.iter().map(|n| n.as_str()).collect();
    while let Some(id) = next.pop() {
        if found.insert(id)
            && let Some(step) = steps.iter().find(|s| s.id == *id)
        {
            next.extend(step.needs.iter().map(|n| n.as_str()));
        }
    }
    found
}

//! Signals and approvals: answers to runs that wait for one.

use ostler_api::{Answered, SignalRequest, Verdict};
use ostler_engine::{
    Task,
    machines::{Answer, WAIT, signal_of},
};
use ostler_model::{Kind, Uid, definition::StepDef};
use ostler_schema::Schema;
use ostler_store::{MachineRow, RunFilter};
use serde_json::Value;

use crate::{Actor, Service, ServiceError, Verb};

/// Parts of a flow that are looked through for those that wait.
const PARTS: u32 = 1000;

impl Service {
    /// Sends a run a signal. One that no step waits for yet, but one will, is kept.
    ///
    /// # Errors
    /// The run is not there or has ended, no step of it waits for that signal, or what it carries does not meet the
    /// step's `outputs`.
    pub fn signal(&self, actor: &Actor, id: Uid, request: &SignalRequest) -> Result<Answered, ServiceError> {
        let row = self.living(actor, id)?;
        let task = self.pinned_task(row.definition)?;
        let by_name = |step: &&StepDef| signal_of(step).as_deref() == Some(&*request.name);
        let Some(step) = steps_of(&task, &row).find(by_name) else {
            let known: Vec<_> = steps_of(&task, &row)
                .filter(|s| s.with.contains_key("signal"))
                .filter_map(signal_of)
                .collect();
            let known = match known.as_slice() {
                [] => "none of its steps waits for a signal".to_owned(),
                known => format!("it waits for {}", known.join(", ")),
            };
            let message = format!("run {id} knows no signal `{}`: {known}", request.name);
            return Err(ServiceError::BadInput(message));
        };
        self.may_answer(actor, &row, step)?;
        fits(step, &request.data)?;
        let waiting = self.waiting_parts(&row)?;
        let part = waiting.into_iter().find(|part| is_of(part, step));
        let answer = Answer {
            by: actor.to_string(),
            data: request.data.clone(),
            approved: None,
            comment: request.comment.clone(),
        };
        let to = part.as_ref().unwrap_or(&row);
        self.tell(to.id, &request.name, &answer)?;
        let delivered = part.is_some() || row.kind == Kind::RUN;
        Ok(Answered { run: self.uid(to.id), step: step.id.to_string(), delivered })
    }

    /// Approves or rejects what a run waits for.
    ///
    /// # Errors
    /// The run is not there or has ended, nothing of it waits for an approval, or several do and none is named.
    pub fn decide(&self, actor: &Actor, id: Uid, verdict: &Verdict) -> Result<Answered, ServiceError> {
        let row = self.living(actor, id)?;
        let task = self.pinned_task(row.definition)?;
        let mut waiting = Vec::new();
        for part in self.waiting_parts(&row)? {
            let step = steps_of(&task, &row).find(|step| is_of(&part, step)).cloned();
            if let Some(step) = step.filter(|s| s.uses == WAIT && s.with.contains_key("approval")) {
                waiting.push((part, step));
            }
        }
        if let Some(wanted) = &verdict.step {
            waiting.retain(|(_, step)| step.id == **wanted);
        }
        let (part, step) = match waiting.as_slice() {
            [] => {
                let which = verdict.step.as_ref().map_or_else(String::new, |s| format!(" in step `{s}`"));
                return Err(ServiceError::Conflict(format!("run {id} waits for no approval{which}")));
            }
            [one] => one,
            several => {
                let steps: Vec<_> = several.iter().map(|(_, step)| step.id.as_str()).collect();
                let message = format!("run {id} waits for several approvals; name one: {}", steps.join(", "));
                return Err(ServiceError::BadInput(message));
            }
        };
        self.may_answer(actor, &row, step)?;
        let answer = Answer {
            by: actor.to_string(),
            data: verdict.data.clone(),
            approved: Some(verdict.approve),
            comment: verdict.comment.clone(),
        };
        self.tell(part.id, &signal_of(step).unwrap_or_default(), &answer)?;
        Ok(Answered { run: self.uid(part.id), step: step.id.to_string(), delivered: true })
    }

    fn living(&self, actor: &Actor, id: Uid) -> Result<MachineRow, ServiceError> {
        let row = self.run_row(id)?;
        self.authorise(actor, Verb::Run, Some(&row.namespace))?;
        if row.state != 0 {
            return Err(ServiceError::Conflict(format!("run {id} has ended: it {}", row.run_state())));
        }
        Ok(row)
    }

    /// What the step says that whoever answers must be allowed to.
    fn may_answer(&self, actor: &Actor, row: &MachineRow, step: &StepDef) -> Result<(), ServiceError> {
        let verb = match step.with.get("permission").and_then(Value::as_str) {
            Some("change") => Verb::Change,
            Some("admin") => Verb::Grant,
            _ => Verb::Run,
        };
        self.authorise(actor, verb, Some(&row.namespace))
    }

    /// The living parts of a flow, or the run itself.
    fn waiting_parts(&self, row: &MachineRow) -> Result<Vec<MachineRow>, ServiceError> {
        if row.kind == Kind::RUN {
            return Ok(vec![row.clone()]);
        }
        let filter = RunFilter { parent: Some(row.id), ..RunFilter::default() };
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let page = self.read(|q| q.runs(&filter, after.as_ref(), PARTS))?;
            found.extend(page.items.into_iter().filter(|part| part.state == 0));
            after = page.next;
            if after.is_none() {
                return Ok(found);
            }
        }
    }
}

/// The steps that a machine carries out: all of a flow, the one of a run.
fn steps_of<'a>(task: &'a Task, row: &MachineRow) -> impl Iterator<Item = &'a StepDef> {
    let def = &task.def;
    let own = row.child_key.as_deref().filter(|_| row.parent.is_some()).and_then(|key| task.step(key));
    let all = def.steps.iter().chain(&def.on_success).chain(&def.on_failure);
    all.filter(move |step| own.is_none_or(|own| own.id == step.id))
}

fn is_of(part: &MachineRow, step: &StepDef) -> bool {
    match part.child_key.as_deref().filter(|_| part.parent.is_some()) {
        None => true,
        Some(key) => step.id == *key.split_once('[').map_or(key, |(id, _)| id),
    }
}

fn fits(step: &StepDef, data: &Value) -> Result<(), ServiceError> {
    let Some(schema) = step.outputs.as_ref().and_then(|s| Schema::compile(s).ok()) else { return Ok(()) };
    let faults: Vec<_> = schema.faults(data).iter().map(ToString::to_string).collect();
    match faults.is_empty() {
        true => Ok(()),
        false => Err(ServiceError::BadInput(format!(
            "what the signal carries does not meet the outputs of step `{}`: {}",
            step.id,
            faults.join("; ")
        ))),
    }
}

//! A trigger: its tick starts a run for what it was told, in the commit that takes the letter.
//!
//! The end of a run is told with the commit that ends it, a request and a file with a command of their own; each is a
//! letter, so nothing that was accepted is lost, and nothing is acted on twice.

use std::sync::Arc;

use ostler_expr::{Expr, Scope, render_json};
use ostler_model::{
    Cause, Kind, RunState, TypedError, Uid,
    definition::{EventSource, TriggerDef},
};
use ostler_store::{Claimed, EventBody, Letter, NewMachine};
use serde_json::{Map, Value, json};

use super::{
    run::{cancel_letter, unreadable},
    schedule::Presets,
};
use crate::{
    Task,
    fields::{self, Batched, FlowFields, Incoming, SeenFiles, TriggerFields},
    machine::{Change, Decision, Input, Machine, Outcome, World},
    start::{self, Wish},
    time::{after, micros, timestamp},
};

/// Deliveries that are remembered, so that a replay is known as one; older ones are known by the run they started.
const REMEMBERED: usize = 256;

/// How many runs may have led to one another. Two tasks that listen to each other would go on for ever.
const DEEPEST: u64 = 32;

/// Runs started in one commit at most.
const FIRINGS_A_TICK: usize = 200;

/// The machine of triggers.
pub struct Trigger {
    /// Finds presets by namespace and id.
    pub presets: Arc<Presets>,
}

impl Machine for Trigger {
    fn kind(&self) -> Kind {
        Kind::TRIGGER
    }

    fn tick(&self, row: &Claimed, task: Option<&Arc<Task>>, world: &World<'_>, _: Input<'_>) -> Decision {
        let mut fields: TriggerFields = match fields::read(&row.fields) {
            Ok(fields) => fields,
            Err(error) => return unreadable(error),
        };
        let found = task.and_then(|t| Some((t, t.trigger_def(&fields.trigger)?)));
        let gone = cancel_letter(row)
            .or_else(|| found.is_none().then(|| "its task does not have it any more".into()));
        let (Some((task, def)), None) = (found, &gone) else {
            let event = EventBody::new("ended", &json!({ "reason": gone }));
            fields.reason = gone;
            let mut change = Change::new(Outcome::Stop(RunState::Succeeded), event);
            change.set = Some(fields::write(&fields));
            return Decision::Commit(Box::new(change));
        };
        Tick { row, fields, task, def, world, presets: &*self.presets, start: Vec::new(), notes: Vec::new() }
            .tick()
    }
}

struct Tick<'a> {
    row: &'a Claimed,
    fields: TriggerFields,
    task: &'a Arc<Task>,
    def: &'a TriggerDef,
    world: &'a World<'a>,
    presets: &'a dyn Fn(&str, &str) -> Option<ostler_model::definition::PresetDef>,
    start: Vec<NewMachine>,
    /// Why events were ignored.
    notes: Vec<String>,
}

impl Tick<'_> {
    fn tick(mut self) -> Decision {
        let now = self.world.now;
        for incoming in std::mem::take(&mut self.fields.waiting) {
            self.take(incoming);
        }
        // What came while it was held back does not count.
        let mail = &self.row.mail;
        let since = mail.iter().rposition(|(_, letter)| matches!(letter, Letter::Resumed));
        for (_, letter) in mail.iter().skip(since.map_or(0, |at| at + 1)) {
            self.hear(letter);
        }
        if since.is_some() {
            self.fields.deadline = None;
        }
        self.watch_silence();
        if let Some(batch) = self.fields.batched.take_if(|b| timestamp(b.until) <= now) {
            self.fire(batch.last);
        }
        let until = match (self.fields.waiting.is_empty(), &self.fields.batched) {
            (false, _) => Some(now),
            (true, batched) => {
                let moments = [batched.as_ref().map(|b| b.until), self.fields.deadline];
                moments.into_iter().flatten().min().map(timestamp)
            }
        };
        let kind = match (self.start.is_empty(), self.notes.is_empty()) {
            (false, _) => "fired",
            (true, false) => "ignored",
            (true, true) => "heard",
        };
        let body = match self.notes.is_empty() {
            true => Value::Null,
            false => json!({ "ignored": self.notes }),
        };
        Decision::Commit(Box::new(Change {
            set: Some(fields::write(&self.fields)),
            start: self.start,
            ..Change::new(Outcome::Stay { until, keep_permit: false }, EventBody::new(kind, &body))
        }))
    }

    fn hear(&mut self, letter: &Letter) {
        match letter {
            Letter::RunEnded { run, namespace, task, state, fields } => {
                let Some(state) = RunState::from_code(*state) else { return };
                self.run_ended(Uid::of(*run, self.world.salt), (namespace, task), state, fields);
            }
            Letter::Signal { name, body } if name == "event" => match serde_json::from_str(body) {
                Ok(incoming) => self.take(incoming),
                Err(error) => self.ignore(format!("the event does not read: {error}")),
            },
            Letter::Signal { name, body } if name == "files" => match serde_json::from_str(body) {
                Ok(seen) => self.files(seen),
                Err(error) => self.ignore(format!("the list of files does not read: {error}")),
            },
            // Another definition begins to wait anew.
            Letter::Redefined => self.fields.deadline = None,
            _ => {}
        }
    }

    fn run_ended(&mut self, run: Uid, task: (&str, &str), state: RunState, fields: &str) {
        let all: FlowFields = match fields::read(fields) {
            Ok(all) => all,
            Err(error) => return self.ignore(error.message),
        };
        let of_run = all.run;
        match &self.def.source {
            EventSource::Run { states, .. } if states.contains(&state) => {
                let depth = match &of_run.cause {
                    Some(Cause::Event { body, .. }) => body["depth"].as_u64().unwrap_or_default() + 1,
                    _ => 1,
                };
                if depth > DEEPEST {
                    let words =
                        format!("run {run} is the {depth}th in a row of runs that started one another");
                    return self.ignore(words);
                }
                let body = json!({
                    "run": run.to_string(), "namespace": task.0, "task": task.1, "state": state.word(),
                    "inputs": of_run.inputs, "outputs": of_run.output, "error": of_run.error, "depth": depth,
                });
                // The commit that ends a run is made once, and so is its letter: it needs no delivery id.
                self.take(Incoming { name: "run".into(), delivery: None, body, fault: None });
            }
            EventSource::Silence { states, .. } if states.contains(&state) => {
                self.fields.deadline = None;
                self.fields.silent = false;
                self.fields.last_heard = Some(micros(self.world.now));
            }
            _ => {}
        }
    }

    /// A dead man's switch: counts from the last run that ended as it should, or from when it was made.
    fn watch_silence(&mut self) {
        let EventSource::Silence { task, after: limit, .. } = &self.def.source else { return };
        let now = self.world.now;
        if self.fields.silent {
            return;
        }
        let deadline = match self.fields.deadline {
            Some(deadline) => timestamp(deadline),
            None => {
                // After a pause or a change it has the whole time again.
                let deadline = after(now, *limit);
                self.fields.deadline = Some(micros(deadline));
                deadline
            }
        };
        if deadline <= now {
            self.fields.silent = true;
            self.fields.deadline = None;
            let since = self.fields.last_heard.map(|at| timestamp(at).to_string());
            let body = json!({ "task": task, "after": limit.to_string(), "last": since });
            self.take(Incoming { name: "silence".into(), delivery: None, body, fault: None });
        }
    }

    fn files(&mut self, seen: SeenFiles) {
        let EventSource::File { existing, .. } = &self.def.source else { return };
        let count_all = self.fields.files.is_some() || *existing;
        let mut files = self.fields.files.take().unwrap_or_default();
        for path in &seen.gone {
            files.remove(path);
        }
        let mut fresh = Vec::new();
        for (path, mark) in seen.files {
            if files.get(&path) != Some(&mark) {
                fresh.push((path.clone(), mark.clone()));
                files.insert(path, mark);
            }
        }
        self.fields.files = Some(files);
        for (path, mark) in fresh.into_iter().filter(|_| count_all) {
            let body = json!({ "path": path, "size": mark.size, "modified": mark.modified });
            self.take(Incoming { name: "file".into(), delivery: None, body, fault: None });
        }
    }

    fn ignore(&mut self, why: String) {
        self.fields.ignored += 1;
        if self.notes.len() < 10 {
            self.notes.push(why);
        }
    }

    /// An event has come: does it count, and does it fire now?
    fn take(&mut self, incoming: Incoming) {
        if self.start.len() >= FIRINGS_A_TICK {
            return self.fields.waiting.push(incoming);
        }
        if let Some(delivery) = &incoming.delivery {
            let mark = ostler_model::digest::digest_bytes(delivery.as_bytes())[..16].to_owned();
            if self.fields.deliveries.contains(&mark) {
                self.fields.replays += 1;
                return;
            }
            self.fields.deliveries.push(mark);
            let surplus = self.fields.deliveries.len().saturating_sub(REMEMBERED);
            self.fields.deliveries.drain(..surplus);
        }
        if !self.def.enabled {
            return self.ignore("the trigger is disabled".into());
        }
        if let Some(fault) = incoming.fault {
            return self.ignore(fault);
        }
        let names = names(&incoming);
        if let Some(source) = &self.def.condition {
            match Expr::parse(source).and_then(|e| e.truthy(&Scope::new(&names))) {
                Ok(true) => {}
                Ok(false) => return self.ignore(format!("`if: {source}` is false")),
                Err(error) => return self.ignore(format!("`if`: {error}")),
            }
        }
        match self.def.debounce {
            None => self.fire(incoming),
            Some(quiet) => {
                let until = micros(after(self.world.now, quiet));
                let count = self.fields.batched.as_ref().map_or(0, |b| b.count) + 1;
                self.fields.batched = Some(Batched { until, count, last: incoming });
            }
        }
    }

    fn fire(&mut self, incoming: Incoming) {
        let now = self.world.now;
        self.fields.fired += 1;
        self.fields.last = Some(micros(now));
        let trigger = format!("{}/{}", self.task.def.id, self.def.id);
        let key = incoming.delivery.as_ref().map(|delivery| format!("{trigger}:{delivery}"));
        let planned = self.plan(&incoming, key);
        let cause = Cause::Event { trigger, name: incoming.name, body: incoming.body };
        self.start.push(match planned {
            Ok(machine) => machine,
            // On record as a failed run: what does not fit must not be lost without a word.
            Err(error) => {
                start::record(self.task, RunState::Failed, cause, &error.message.clone(), Some(error), now)
            }
        });
    }

    fn plan(&self, incoming: &Incoming, key: Option<String>) -> Result<NewMachine, TypedError> {
        let names = names(incoming);
        let inputs =
            render_json(&Value::Object(self.def.inputs.clone()), &Scope::new(&names)).map_err(|e| {
                TypedError::new("expression", format!("inputs of trigger `{}`: {e}", self.def.id))
            })?;
        let preset =
            match &self.def.preset {
                None => None,
                Some(id) => Some((self.presets)(&self.row.namespace, id.as_str()).ok_or_else(|| {
                    TypedError::new("input", format!("preset `{id}` is not there any more"))
                })?),
            };
        let cause = Cause::Event {
            trigger: format!("{}/{}", self.task.def.id, self.def.id),
            name: incoming.name.clone(),
            body: incoming.body.clone(),
        };
        let wish = Wish {
            inputs: match inputs {
                Value::Object(map) => map,
                _ => Map::new(),
            },
            preset: preset.as_ref(),
            home: self.row.home,
            idempotency_key: key,
            ..Wish::new(cause, self.world.now)
        };
        Ok(start::plan(self.task, wish, self.world.now)?)
    }
}

/// What the trigger's expressions see.
fn names(incoming: &Incoming) -> Map<String, Value> {
    let event = json!({ "name": incoming.name, "body": incoming.body });
    Map::from_iter([("event".to_owned(), event)])
}

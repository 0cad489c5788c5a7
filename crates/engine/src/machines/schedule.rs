//! A schedule: its tick starts a run for each due moment and stays until the next one.
//!
//! The run is made in the commit that moves the schedule on, so each due moment is on record exactly once, whatever
//! crashes in between.

use std::sync::Arc;

use jiff::Timestamp;
use ostler_calendar::{Due, Trigger};
use ostler_model::{
    Cause, Kind, RunState, Span, TypedError,
    definition::{MissedPolicy, Overlap, PresetDef, ScheduleDef},
    trigger::Rhythm,
};
use ostler_store::{Claimed, EventBody, Letter, MailTo, NewMachine};
use serde_json::{Value, json};

use super::run::{cancel_letter, unreadable};
use crate::{
    Task,
    fields::{self, ScheduleFields},
    machine::{Change, Decision, Input, Machine, Outcome, World},
    start::{self, Wish},
    time::{micros, timestamp},
};

/// Moments made up for in one commit at most; the rest follow in the next tick.
const FIRINGS_A_TICK: usize = 200;

/// With `missed: skip`, a moment reached within this time is not missed, only a little late.
const PUNCTUAL: Span = Span::from_secs(30);

/// Finds presets by namespace and id.
pub type Presets = dyn Fn(&str, &str) -> Option<PresetDef> + Send + Sync;

/// The machine of schedules.
pub struct Schedule {
    /// Finds presets by namespace and id.
    pub presets: Arc<Presets>,
}

impl Machine for Schedule {
    fn kind(&self) -> Kind {
        Kind::SCHEDULE
    }

    fn tick(&self, row: &Claimed, task: Option<&Arc<Task>>, world: &World<'_>, _: Input<'_>) -> Decision {
        let fields: ScheduleFields = match fields::read(&row.fields) {
            Ok(fields) => fields,
            Err(error) => return unreadable(error),
        };
        if let Some(reason) = cancel_letter(row) {
            return ended(fields, reason);
        }
        let own = fields.own.clone();
        let Some((task, def)) =
            task.and_then(|t| Some((t, own.as_deref().or_else(|| t.schedule(&fields.schedule))?)))
        else {
            return ended(fields, "its task does not have this schedule any more".into());
        };
        let trigger = match task.trigger(def) {
            Ok(trigger) => trigger,
            Err(problem) => return ended(fields, problem),
        };
        let tick =
            Tick { row, fields, task, def, trigger, world, presets: &*self.presets, batch: Batch::default() };
        match tick.tick() {
            Ok(decision) => decision,
            Err(problem) => unreadable(TypedError::new("schedule", problem)),
        }
    }
}

fn ended(mut fields: ScheduleFields, reason: String) -> Decision {
    let event = EventBody::new("ended", &json!({ "reason": reason }));
    fields.reason = Some(reason);
    fields.next = None;
    let mut change = Change::new(Outcome::Stop(RunState::Succeeded), event);
    change.set = Some(fields::write(&fields));
    Decision::Commit(Box::new(change))
}

#[derive(Default)]
struct Batch {
    start: Vec<NewMachine>,
    send: Vec<(MailTo, Letter)>,
    fired: Vec<Timestamp>,
    /// Moments that were passed over: how many, the first, the last, and why.
    passed: Vec<(u64, Timestamp, Timestamp, String)>,
}

struct Tick<'a> {
    row: &'a Claimed,
    fields: ScheduleFields,
    task: &'a Arc<Task>,
    def: &'a ScheduleDef,
    trigger: Trigger,
    world: &'a World<'a>,
    presets: &'a dyn Fn(&str, &str) -> Option<PresetDef>,
    batch: Batch,
}

impl Tick<'_> {
    fn tick(mut self) -> Result<Decision, String> {
        let now = self.world.now;
        let first = self.fields.anchor.is_none();
        if first {
            self.fields.anchor = Some(micros(now));
            // `once`, and an interval typed at the prompt (as with watch(1)), are due at the anchor itself, so the first
            // moment that counts lies just before it; what is stored begins with the first moment after it.
            let at_once = match self.def.trigger.rhythm {
                Rhythm::Once => true,
                Rhythm::Every { .. } => self.fields.own.is_some(),
                _ => false,
            };
            self.fields.last = Some(micros(now) - i64::from(at_once));
        }
        let mut spaced_end = None;
        for (_, letter) in &self.row.mail {
            match letter {
                Letter::Redefined | Letter::Resumed => {
                    // Moments that passed while it was another schedule, or was held back on purpose, are not missed.
                    self.fields.last = Some(self.fields.last.unwrap_or(micros(now)).max(micros(now) - 1));
                }
                Letter::ChildEnded { key, .. } => {
                    self.fields.live.retain(|due| due.to_string() != *key);
                    spaced_end = Some(now);
                }
                Letter::Signal { name, .. } if name == "reboot" && self.trigger.is_reboot() => {
                    self.fire(now, now)?;
                }
                _ => {}
            }
        }
        if let Some(queued) = self.fields.queued
            && self.fields.live.is_empty()
        {
            self.fields.queued = None;
            self.start(timestamp(queued), now)?;
        }
        let next = if self.trigger.is_spaced() { self.spaced(spaced_end)? } else { self.gridded()? };
        Ok(self.commit(first, next))
    }

    /// A fixed grid: deals with every due moment up to now, and gives the next.
    fn gridded(&mut self) -> Result<Option<Timestamp>, String> {
        let now = self.world.now;
        let anchor = timestamp(self.fields.anchor.unwrap_or_default());
        let mut after = timestamp(self.fields.last.unwrap_or_else(|| micros(now)));
        let mut waiting: Option<Due> = None;
        loop {
            let due = self.trigger.next_after(after, anchor).map_err(|e| e.to_string())?;
            let Some(due) = due.filter(|_| !self.is_exhausted()) else {
                if let Some(last) = waiting.take() {
                    self.reach(&last)?;
                }
                return Ok(None);
            };
            if due.at > now {
                if let Some(last) = waiting.take() {
                    self.reach(&last)?;
                }
                return Ok((!self.is_exhausted()).then_some(due.at));
            }
            if self.batch.fired.len() >= FIRINGS_A_TICK {
                return Ok(Some(now));
            }
            after = due.nominal;
            // Which of several moments is the latest is known only when the next one lies ahead.
            if let Some(earlier) = waiting.replace(due) {
                match self.def.missed.policy {
                    MissedPolicy::All => self.reach(&earlier)?,
                    MissedPolicy::Latest | MissedPolicy::Skip => {
                        self.pass(earlier.nominal, "missed: a later moment was due as well".into());
                    }
                }
            }
        }
    }

    /// The interval is counted from the end of the run before.
    fn spaced(&mut self, ended: Option<Timestamp>) -> Result<Option<Timestamp>, String> {
        let now = self.world.now;
        if self.is_exhausted() || !self.fields.live.is_empty() {
            return Ok(None);
        }
        if self.fields.fired == 0 && self.fields.next.is_none() {
            self.fire(now, now)?;
            return Ok(None);
        }
        if let Some(ended) = ended {
            return Ok(self.trigger.after_end(ended).map(|d| d.at));
        }
        match self.fields.next.map(timestamp) {
            Some(next) if next > now => Ok(Some(next)),
            _ => {
                self.fire(now, now)?;
                // A start that could not be made leaves no run to wait for.
                Ok(if self.fields.live.is_empty() && self.batch.start.is_empty() {
                    self.trigger.after_end(now).map(|d| d.at)
                } else {
                    None
                })
            }
        }
    }

    fn is_exhausted(&self) -> bool {
        self.def.trigger.count.is_some_and(|count| self.fields.fired >= count)
    }

    /// A due moment has come: fire, unless it came too long ago.
    fn reach(&mut self, due: &Due) -> Result<(), String> {
        let late = self.world.now.duration_since(due.at);
        let within = match self.def.missed.policy {
            MissedPolicy::Skip => Some(self.def.missed.within.unwrap_or(PUNCTUAL)),
            MissedPolicy::Latest | MissedPolicy::All => self.def.missed.within,
        };
        if let Some(within) = within
            && late.unsigned_abs() > within.as_duration()
        {
            self.pass(due.nominal, format!("missed: reached more than {within} late"));
            return Ok(());
        }
        self.fire(due.nominal, due.at)
    }

    fn fire(&mut self, nominal: Timestamp, at: Timestamp) -> Result<(), String> {
        self.fields.fired += 1;
        self.fields.last = Some(micros(nominal));
        if !self.def.enabled || !self.def.activation.is_active(self.world.now) {
            self.fields.fired -= 1;
            self.pass(nominal, format!("inactive: schedule `{}` is not active", self.def.id));
            return Ok(());
        }
        if !self.fields.live.is_empty() {
            match self.def.overlap {
                Overlap::Allow => {}
                Overlap::Skip => {
                    self.pass(nominal, "overlap: the run before still runs".into());
                    return Ok(());
                }
                Overlap::Queue => {
                    if self.fields.queued.replace(micros(nominal)).is_some() {
                        self.pass(nominal, "overlap: another run waits already".into());
                    }
                    return Ok(());
                }
                Overlap::CancelRunning => {
                    let reason = "overlap: the schedule is due again".to_owned();
                    self.batch.send.push((MailTo::Watched, Letter::Cancel { reason }));
                }
            }
        }
        self.start(nominal, at)
    }

    fn watches(&self) -> bool {
        self.def.overlap != Overlap::Allow || self.trigger.is_spaced()
    }

    fn start(&mut self, nominal: Timestamp, due: Timestamp) -> Result<(), String> {
        let preset = match &self.def.preset {
            None => None,
            Some(id) => Some(
                (self.presets)(&self.row.namespace, id.as_str())
                    .ok_or_else(|| format!("preset `{id}` is not there any more"))?,
            ),
        };
        let cause =
            Cause::Schedule { schedule: format!("{}/{}", self.task.def.id, self.def.id), due: nominal };
        let wish = Wish {
            inputs: self.def.inputs.clone(),
            preset: preset.as_ref(),
            policy: self.def.policy.clone(),
            home: self.row.home,
            watcher: self.watches().then_some(self.row.id),
            ..Wish::new(cause.clone(), due)
        };
        match start::plan(self.task, wish, self.world.now) {
            Ok(mut machine) => {
                if machine.watcher.is_some() {
                    // Ids are the store's to give, so the run is known here by its due moment.
                    machine.child_key = Some(micros(nominal).to_string());
                    self.fields.live.push(micros(nominal));
                }
                self.batch.start.push(machine);
                self.batch.fired.push(nominal);
            }
            Err(error) => {
                // The firing is on record as a failed run: inputs that no longer fit must not stop the schedule.
                let error = TypedError::from(error);
                self.batch.start.push(start::record(
                    self.task,
                    RunState::Failed,
                    cause,
                    &error.message.clone(),
                    Some(error),
                    self.world.now,
                ));
                self.batch.fired.push(nominal);
            }
        }
        Ok(())
    }

    fn pass(&mut self, nominal: Timestamp, reason: String) {
        self.fields.last = Some(self.fields.last.unwrap_or(i64::MIN).max(micros(nominal)));
        match self.batch.passed.last_mut() {
            Some((count, _, last, same)) if *same == reason => {
                *count += 1;
                *last = nominal;
            }
            _ => self.batch.passed.push((1, nominal, nominal, reason)),
        }
    }

    fn commit(mut self, first: bool, next: Option<Timestamp>) -> Decision {
        for (count, from, last, reason) in std::mem::take(&mut self.batch.passed) {
            let reason = match count {
                1 => reason,
                _ => format!("{reason} ({count} moments, {from} to {last})"),
            };
            let cause =
                Cause::Schedule { schedule: format!("{}/{}", self.task.def.id, self.def.id), due: last };
            let record = start::record(self.task, RunState::Skipped, cause, &reason, None, self.world.now);
            self.batch.start.push(record);
        }
        self.fields.next = next.map(micros);
        let over =
            next.is_none() && self.fields.live.is_empty() && self.batch.start.iter().all(|m| m.state != 0);
        let waits = self.trigger.is_reboot() || self.fields.queued.is_some() || self.watches();
        let body = if self.batch.fired.is_empty() {
            Value::Null
        } else {
            json!({ "due": self.batch.fired.iter().map(ToString::to_string).collect::<Vec<_>>() })
        };
        let kind = match (first, self.batch.fired.is_empty()) {
            (_, false) => "fired",
            (true, true) => "scheduled",
            (false, true) => "advanced",
        };
        let outcome = if next.is_none() && over && !self.trigger.is_reboot() || next.is_none() && !waits {
            self.fields.reason = Some("it is never due again".into());
            Outcome::Stop(RunState::Succeeded)
        } else {
            Outcome::Stay { until: next, keep_permit: false }
        };
        Decision::Commit(Box::new(Change {
            set: Some(fields::write(&self.fields)),
            start: self.batch.start,
            send: self.batch.send,
            ..Change::new(outcome, EventBody::new(kind, &body))
        }))
    }
}

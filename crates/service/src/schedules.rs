//! Schedules: list, preview, replay, hold back.

use jiff::Timestamp;
use ostler_api::{FiringView, ListPage, PageRequest, ScheduleView, SchedulesBy};
use ostler_calendar::{Calendars, Shift, Trigger};
use ostler_engine::{
    Tasks, compile_trigger,
    fields::{self, ScheduleFields},
    start,
};
use ostler_model::{Kind, TaskDef, Uid, definition::ScheduleDef, trigger::Rhythm};
use ostler_store::{Command, Hold, Letter, MachineRow, NodeId, Page, Phase};

use crate::{
    Actor, Service, ServiceError, Verb,
    lists::{self, list_page},
};

impl Service {
    /// A page of schedules.
    ///
    /// # Errors
    /// The task is not there, the cursor is not one, or was made in another order.
    pub fn schedules(
        &self,
        actor: &Actor,
        task: Option<&(String, String)>,
        page: &PageRequest<SchedulesBy>,
    ) -> Result<ListPage<ScheduleView>, ServiceError> {
        self.authorise(actor, Verb::View, task.map(|(ns, _)| ns.as_str()))?;
        let row = task.map(|(namespace, name)| self.task_row(namespace, name)).transpose()?.map(|t| t.row);
        let found = lists::sorted(
            page,
            |after, limit| {
                let found = self.read(|q| q.machines(Kind::SCHEDULE, row, after, limit))?;
                let items = found.items.iter().map(|row| self.schedule_view(row)).collect();
                Ok(Page { items, next: found.next })
            },
            |s: &ScheduleView| {
                let id = s.id.to_string();
                match page.sort.by {
                    SchedulesBy::Created => id,
                    SchedulesBy::Name => lists::by_names(&[&s.namespace, &s.task, &s.schedule, &id]),
                    SchedulesBy::Next => lists::by_moment(s.next, page.sort.descending, &id),
                }
            },
        )?;
        Ok(list_page(found, |view| view))
    }

    /// Starts a schedule of a task that is not one of its definition.
    ///
    /// # Errors
    /// The task is not there, or the trigger does not compile.
    pub fn start_schedule(
        &self,
        actor: &Actor,
        task: &(String, String),
        schedule: ScheduleDef,
        home: Option<NodeId>,
    ) -> Result<Uid, ServiceError> {
        self.authorise(actor, Verb::Run, Some(&task.0))?;
        let task = self.current_task(&task.0, &task.1)?;
        task.trigger(&schedule).map_err(ServiceError::BadInput)?;
        let machine = start::plan_schedule(&task, schedule, home, self.now());
        Ok(self.start_machine(machine)?.id())
    }

    /// Tells schedules with `@reboot` that a `serve` has started. Gives how many there were.
    ///
    /// # Errors
    /// The store's.
    pub fn signal_reboot(&self, actor: &Actor) -> Result<u64, ServiceError> {
        self.authorise(actor, Verb::Run, None)?;
        let mut signalled = 0;
        let mut cursor = None;
        loop {
            let page = self.read(|q| q.machines(Kind::SCHEDULE, None, cursor.as_ref(), 1000))?;
            let letters: Vec<_> = page
                .items
                .iter()
                .filter(|row| row.state == 0 && self.is_reboot(row))
                .map(|row| (row.id, Letter::Signal { name: "reboot".into(), body: String::new() }))
                .collect();
            if !letters.is_empty() {
                signalled += letters.len() as u64;
                self.write(Command::Send(letters))?;
                self.wake();
            }
            cursor = page.next;
            if cursor.is_none() {
                return Ok(signalled);
            }
        }
    }

    fn is_reboot(&self, row: &MachineRow) -> bool {
        let name = row.child_key.as_deref().unwrap_or_default();
        self.tasks
            .task(row.definition)
            .is_some_and(|t| t.schedule(name).is_some_and(|s| s.trigger.rhythm == Rhythm::Reboot))
    }

    fn schedule_view(&self, row: &MachineRow) -> ScheduleView {
        let state: ScheduleFields = fields::read(&row.fields).unwrap_or_default();
        let task = self.tasks.task(row.definition);
        let own = state.own.map(|def| *def);
        let definition = own.or_else(|| task.as_ref().and_then(|t| t.schedule(&state.schedule).cloned()));
        let trigger = match (&task, &definition) {
            (Some(task), Some(def)) => task.trigger(def).ok(),
            _ => None,
        };
        ScheduleView {
            id: self.uid(row.id),
            namespace: row.namespace.clone(),
            task: row.task.clone(),
            schedule: state.schedule,
            words: trigger.as_ref().map(Trigger::describe).unwrap_or_default(),
            timezone: trigger.as_ref().map(|t| t.zone().to_owned()).unwrap_or_default(),
            next: Self::view_time(state.next.filter(|_| row.state == 0)),
            last: Self::view_time(state.last.filter(|_| state.fired > 0)),
            fired: state.fired,
            paused: row.tick.as_ref().is_some_and(|t| t.phase == Phase::Held),
            ended: state.reason.filter(|_| row.state != 0),
            definition,
        }
    }

    /// Holds back one schedule or trigger, or all of a task, or lets them go.
    ///
    /// # Errors
    /// It is not there, or has ended.
    pub fn hold_schedule(
        &self,
        actor: &Actor,
        task: &(String, String),
        schedule: Option<&str>,
        on: bool,
    ) -> Result<u64, ServiceError> {
        self.authorise(actor, Verb::Activate, Some(&task.0))?;
        let mut touched = 0;
        let mut found = false;
        let mut asked = PageRequest::first(500);
        loop {
            let page = self.schedules(actor, Some(task), &asked)?;
            for view in page.items.iter().filter(|v| v.ended.is_none()) {
                if schedule.is_none_or(|s| s == view.schedule) {
                    found = true;
                    touched += self.hold_what(Hold::Machine(self.machine_of(view.id)?), on)?;
                }
            }
            asked.after = page.next;
            if asked.after.is_none() {
                break;
            }
        }
        // A task has few triggers.
        let triggers = self.triggers(actor, Some(task), &PageRequest::first(1000))?;
        for view in triggers.items.iter().filter(|v| v.ended.is_none()) {
            if schedule.is_none_or(|s| s == view.trigger) {
                found = true;
                touched += self.hold_what(Hold::Machine(self.machine_of(view.id)?), on)?;
            }
        }
        if !found {
            let which = schedule.map_or_else(
                || "no schedule or trigger".to_owned(),
                |s| format!("no schedule or trigger `{s}`"),
            );
            return Err(ServiceError::NotFound(format!("task `{}:{}` has {which}", task.0, task.1)));
        }
        Ok(touched)
    }
}

/// What the schedules of some tasks would do between two moments, in order, at most `limit` firings; `anchor` is where
/// the grids of intervals begin. The second part says whether that was all.
///
/// # Errors
/// A trigger that does not compile.
pub fn preview(
    tasks: &[TaskDef],
    namespace: &str,
    from: Timestamp,
    until: Timestamp,
    limit: usize,
) -> Result<(Vec<FiringView>, bool), ServiceError> {
    let mut all = Vec::new();
    let mut complete = true;
    for task in tasks {
        for schedule in task.schedules.iter().filter(|s| s.enabled && task.enabled) {
            let trigger = compile_trigger(task, schedule, namespace).map_err(|e| {
                ServiceError::BadInput(format!("schedule `{}/{}`: {e}", task.id, schedule.id))
            })?;
            let count = schedule.trigger.count.unwrap_or(u64::MAX);
            for (taken, due) in trigger.between(from, until, from).enumerate() {
                let due = due.map_err(|e| {
                    ServiceError::BadInput(format!("schedule `{}/{}`: {e}", task.id, schedule.id))
                })?;
                if taken >= limit || taken as u64 >= count {
                    complete &= taken as u64 >= count;
                    break;
                }
                all.push(firing(task.id.as_str(), schedule.id.as_str(), trigger.zone(), due.at, due.shift));
            }
        }
    }
    all.sort_by(|a, b| (a.at, &a.task, &a.schedule).cmp(&(b.at, &b.task, &b.schedule)));
    complete &= all.len() <= limit;
    all.truncate(limit);
    Ok((all, complete))
}

fn firing(task: &str, schedule: &str, zone: &str, at: Timestamp, shift: Shift) -> FiringView {
    let local =
        at.in_tz(zone).map_or_else(|_| at.to_string(), |z| z.strftime("%a %Y-%m-%d %H:%M:%S %Z").to_string());
    FiringView {
        task: task.to_owned(),
        schedule: schedule.to_owned(),
        at,
        local,
        dst: match shift {
            Shift::None => None,
            Shift::Gap => Some("moved: this local time does not exist on that day".into()),
            Shift::FoldFirst => Some("this local time comes twice; this is the first".into()),
            Shift::FoldLast => Some("this local time comes twice; this is the second".into()),
        },
    }
}

/// A trigger by itself, as `calendar explain` takes it.
///
/// # Errors
/// It does not compile.
pub fn explain_trigger(spec: &ostler_model::TriggerSpec, zone: &str) -> Result<Trigger, ServiceError> {
    Trigger::compile(spec, zone, &Calendars::default(), 0).map_err(|e| ServiceError::BadInput(e.to_string()))
}

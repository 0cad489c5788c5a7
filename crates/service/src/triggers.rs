//! Triggers: list, hand them events.

use ostler_api::{Accepted, FireRequest, ListPage, ListeningView, PageRequest, TriggerView, TriggersBy};
use ostler_engine::{
    Tasks,
    fields::{self, Incoming, SeenFiles, TriggerFields},
};
use ostler_model::{
    Kind, MachineId, Uid,
    definition::{EventSource, MessageSource, TriggerDef},
};
use ostler_store::{
    Command, DutyRow, Letter, MachineRow, Mailbox, Page, Phase, Reply, StoreError, trigger_duty,
};
use serde::Serialize;

use crate::{
    Actor, Service, ServiceError, Verb,
    lists::{self, list_page},
    retention::unexpected,
};

/// What a request or an event by hand may carry, as JSON text.
pub const MAX_EVENT: usize = 1 << 20;

/// A trigger that listens to a broker.
#[derive(Clone, Debug)]
pub struct Listened {
    /// Its machine.
    pub machine: MachineId,
    /// The machine's public id.
    pub uid: Uid,
    /// `namespace:task/trigger`.
    pub name: String,
    /// Where messages come from.
    pub source: MessageSource,
    /// The folder that a relative path starts from.
    pub folder: Option<String>,
}

/// Where a trigger listens to files, and what it has seen.
#[derive(Clone, Debug)]
pub struct Watched {
    /// Its machine.
    pub id: ostler_model::MachineId,
    /// What it listens to.
    pub definition: TriggerDef,
    /// The folder that a relative path starts from.
    pub folder: Option<String>,
    /// What it has seen; `None`: it has never been told.
    pub seen: Option<std::collections::BTreeMap<String, fields::FileMark>>,
}

impl Service {
    /// A page of triggers.
    ///
    /// # Errors
    /// The task is not there, the cursor is not one, or was made in another order.
    pub fn triggers(
        &self,
        actor: &Actor,
        task: Option<&(String, String)>,
        page: &PageRequest<TriggersBy>,
    ) -> Result<ListPage<TriggerView>, ServiceError> {
        self.authorise(actor, Verb::View, task.map(|(ns, _)| ns.as_str()))?;
        let row = task.map(|(namespace, name)| self.task_row(namespace, name)).transpose()?.map(|t| t.row);
        let duties = self.read(|q| q.duties())?;
        let found = lists::sorted(
            page,
            |after, limit| {
                let found = self.read(|q| q.machines(Kind::TRIGGER, row, after, limit))?;
                let items = found.items.iter().map(|row| self.trigger_view(row, &duties)).collect();
                Ok(Page { items, next: found.next })
            },
            |t: &TriggerView| {
                let id = t.id.to_string();
                match page.sort.by {
                    TriggersBy::Created => id,
                    TriggersBy::Name => lists::by_names(&[&t.namespace, &t.task, &t.trigger, &id]),
                    TriggersBy::Last => lists::by_moment(t.last, page.sort.descending, &id),
                }
            },
        )?;
        Ok(list_page(found, |view| view))
    }

    fn trigger_view(&self, row: &MachineRow, duties: &[DutyRow]) -> TriggerView {
        let state: TriggerFields = fields::read(&row.fields).unwrap_or_default();
        let definition = self.tasks.task(row.definition).and_then(|t| t.trigger_def(&state.trigger).cloned());
        let source = definition.as_ref().map(|d| &d.source);
        let next = [state.batched.map(|b| b.until), state.deadline].into_iter().flatten().min();
        let duty = trigger_duty(row.id);
        let listening = duties.iter().find(|row| row.duty == duty).map(listening);
        TriggerView {
            listening,
            id: self.uid(row.id),
            namespace: row.namespace.clone(),
            task: row.task.clone(),
            words: source.map(EventSource::describe).unwrap_or_default(),
            path: matches!(source, Some(EventSource::Webhook { .. }))
                .then(|| format!("/hooks/{}/{}/{}", row.namespace, row.task, state.trigger)),
            trigger: state.trigger,
            fired: state.fired,
            ignored: state.ignored,
            replays: state.replays,
            last: Self::view_time(state.last),
            next: Self::view_time(next.filter(|_| row.state == 0)),
            paused: row.tick.as_ref().is_some_and(|t| t.phase == Phase::Held),
            ended: state.reason.filter(|_| row.state != 0),
            definition,
        }
    }

    /// Hands a trigger an event by hand.
    ///
    /// # Errors
    /// It is not there, it is held back, or the event is too large.
    pub fn fire(
        &self,
        actor: &Actor,
        trigger: (&str, &str, &str),
        request: FireRequest,
    ) -> Result<Accepted, ServiceError> {
        self.authorise(actor, Verb::Run, Some(trigger.0))?;
        let row = self.trigger_row(trigger)?;
        let name = self
            .tasks
            .task(row.definition)
            .and_then(|t| Some(t.trigger_def(trigger.2)?.source.word().to_owned()))
            .unwrap_or_default();
        self.hand_over(&row, Incoming { name, delivery: request.delivery, body: request.body, fault: None })
    }

    /// The definition of a webhook, for whoever checks the signature of a request to it.
    ///
    /// # Errors
    /// There is no such webhook.
    pub fn webhook(&self, trigger: (&str, &str, &str)) -> Result<TriggerDef, ServiceError> {
        let row = self.trigger_row(trigger)?;
        let task = self.pinned_task(row.definition)?;
        task.trigger_def(trigger.2)
            .filter(|def| matches!(def.source, EventSource::Webhook { .. }))
            .cloned()
            .ok_or_else(|| no_trigger(trigger))
    }

    /// Hands a webhook a request whose signature was checked.
    ///
    /// # Errors
    /// As [`Service::fire`].
    pub fn take_request(
        &self,
        trigger: (&str, &str, &str),
        request: FireRequest,
    ) -> Result<Accepted, ServiceError> {
        let row = self.trigger_row(trigger)?;
        self.hand_over(
            &row,
            Incoming { name: "webhook".into(), delivery: request.delivery, body: request.body, fault: None },
        )
    }

    fn hand_over(&self, row: &MachineRow, incoming: Incoming) -> Result<Accepted, ServiceError> {
        if row.tick.as_ref().is_some_and(|t| t.phase == Phase::Held) {
            let message = format!("trigger `{}` is held back", row.child_key.as_deref().unwrap_or_default());
            return Err(ServiceError::Conflict(message));
        }
        let delivery = incoming.delivery.clone();
        self.tell(row.id, "event", &incoming)?;
        Ok(Accepted { trigger: self.uid(row.id), delivery })
    }

    /// Sends a machine a signal with a body of JSON.
    pub(crate) fn tell<T: Serialize>(
        &self,
        machine: ostler_model::MachineId,
        name: &str,
        body: &T,
    ) -> Result<(), ServiceError> {
        let body = serde_json::to_string(body).map_err(|e| ServiceError::BadInput(e.to_string()))?;
        if body.len() > MAX_EVENT {
            let message = format!("an event may have {MAX_EVENT} bytes; this one has {}", body.len());
            return Err(ServiceError::BadInput(message));
        }
        let letter = Letter::Signal { name: name.to_owned(), body };
        match self.write(Command::Send(vec![(machine, letter)]))? {
            Reply::Sent(alive) if alive == [true] => {
                self.wake();
                Ok(())
            }
            Reply::Sent(_) => Err(ServiceError::Conflict("it has ended meanwhile".to_owned())),
            other => Err(unexpected(&other)),
        }
    }

    fn trigger_row(&self, trigger: (&str, &str, &str)) -> Result<MachineRow, ServiceError> {
        let (namespace, task, id) = trigger;
        let row = self.task_row(namespace, task).map_err(|_| no_trigger(trigger))?;
        let mut after = None;
        loop {
            let page = self.read(|q| q.machines(Kind::TRIGGER, Some(row.row), after.as_ref(), 100))?;
            let found = page.items.into_iter().find(|m| m.state == 0 && m.child_key.as_deref() == Some(id));
            if let Some(found) = found {
                return Ok(found);
            }
            after = page.next;
            if after.is_none() {
                return Err(no_trigger(trigger));
            }
        }
    }

    /// What a trigger listens to, if that is a broker and it lives and is enabled.
    ///
    /// # Errors
    /// The store's.
    pub fn listened(&self, machine: MachineId) -> Result<Option<Listened>, StoreError> {
        let Some(row) = self.readers.read(|q| q.machine(machine))?.filter(|row| row.state == 0) else {
            return Ok(None);
        };
        let state: TriggerFields = fields::read(&row.fields).unwrap_or_default();
        let Some(task) = self.tasks.task(row.definition) else { return Ok(None) };
        let Some(TriggerDef { source: EventSource::Message(source), enabled: true, .. }) =
            task.trigger_def(&state.trigger)
        else {
            return Ok(None);
        };
        Ok(Some(Listened {
            machine,
            uid: self.uid(machine),
            name: format!("{}:{}/{}", row.namespace, row.task, state.trigger),
            source: source.clone(),
            folder: task.def.source.folder.clone(),
        }))
    }

    /// Whether a node is to listen for a trigger.
    ///
    /// # Errors
    /// The store's.
    pub fn has_duty(&self, trigger: MachineId) -> Result<bool, StoreError> {
        let duty = trigger_duty(trigger);
        Ok(self.readers.read(|q| q.duties())?.iter().any(|row| row.duty == duty))
    }

    /// The mailbox of a machine that lives.
    ///
    /// # Errors
    /// The store's.
    pub fn mailbox(&self, machine: MachineId) -> Result<Option<Mailbox>, StoreError> {
        self.readers.read(|q| q.mailbox(machine))
    }

    /// All living triggers that listen to files, for whoever looks at files.
    ///
    /// # Errors
    /// The store's.
    pub fn watched_files(&self) -> Result<Vec<Watched>, ServiceError> {
        let mut all = Vec::new();
        let mut after = None;
        loop {
            let page = self.read(|q| q.machines(Kind::TRIGGER, None, after.as_ref(), 500))?;
            for row in page.items.iter().filter(|row| row.state == 0) {
                let held = row.tick.as_ref().is_some_and(|t| t.phase == Phase::Held);
                let state: TriggerFields = fields::read(&row.fields).unwrap_or_default();
                let Some(task) = self.tasks.task(row.definition).filter(|_| !held) else { continue };
                let Some(definition) = task.trigger_def(&state.trigger).cloned() else { continue };
                if matches!(definition.source, EventSource::File { .. }) {
                    let folder = task.def.source.folder.clone();
                    all.push(Watched { id: row.id, definition, folder, seen: state.files });
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(all);
            }
        }
    }

    /// Tells a trigger what a look at its files found.
    ///
    /// # Errors
    /// It has ended meanwhile, or the store's.
    pub fn saw_files(&self, trigger: ostler_model::MachineId, seen: &SeenFiles) -> Result<(), ServiceError> {
        self.tell(trigger, "files", seen)
    }
}

/// How listening goes, from the duty of it.
pub(crate) fn listening(row: &DutyRow) -> ListeningView {
    let note = &row.note;
    ListeningView {
        node: row.node.map(|node| node.0),
        since: Service::view_time(note.since).filter(|_| row.node.is_some()),
        trouble: note.trouble.as_ref().map(|trouble| trouble.words.clone()),
        trouble_since: Service::view_time(note.trouble.as_ref().map(|trouble| trouble.at)),
        missed: note.missed.as_ref().map(|missed| missed.words.clone()),
        taken: note.done,
        last: Service::view_time(note.done_at),
    }
}

fn no_trigger((namespace, task, id): (&str, &str, &str)) -> ServiceError {
    ServiceError::NotFound(format!("task `{namespace}:{task}` has no trigger `{id}`"))
}

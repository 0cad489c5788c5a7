//! Definitions: push, compare, list, hold back.

use std::collections::BTreeMap;

use ostler_api::{
    Change, DefinitionsBy, Diff, ListPage, NamespaceView, NamespacesBy, PageRequest, PresetView, PushReport,
    ScheduleCounts, Sort, TaskView, Weight,
};
use ostler_engine::time::timestamp;
use ostler_model::{
    Kind, TaskDef,
    definition::{EventSource, Timetable},
    digest::digest,
};
use ostler_store::{
    Command, Hold, Micros, NamespaceRow, PresetRow, Push, PushSink, PushStarter, PushTask, Pushed, Reply,
    StoreError, TaskRow,
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    Actor, Service, ServiceError, Verb,
    lists::{self, list_page},
    retention::unexpected,
};

/// The greatest weight.
const MOST_WEIGHT: u32 = 1000;

impl Service {
    /// Makes the definitions of one file what the file says.
    ///
    /// # Errors
    /// The store's.
    pub fn push(&self, actor: &Actor, timetable: &Timetable) -> Result<PushReport, ServiceError> {
        self.push_as(actor, timetable, true)
    }

    /// Pushes tasks without saying anything about others of their origin: for commands that make a task of what was
    /// typed.
    ///
    /// # Errors
    /// The store's.
    pub fn push_some(&self, actor: &Actor, timetable: &Timetable) -> Result<PushReport, ServiceError> {
        self.push_as(actor, timetable, false)
    }

    fn push_as(
        &self,
        actor: &Actor,
        timetable: &Timetable,
        complete: bool,
    ) -> Result<PushReport, ServiceError> {
        self.authorise(actor, Verb::Change, Some(timetable.namespace.as_str()))?;
        self.authorise_sinks(actor, timetable)?;
        let push = to_push(timetable, &actor.to_string(), complete)?;
        self.send_push(timetable, push)
    }

    fn send_push(&self, timetable: &Timetable, push: Push) -> Result<PushReport, ServiceError> {
        match self.write(Command::Push(Box::new(push)))? {
            Reply::Pushed(pushed) => {
                self.wake();
                Ok(push_report(timetable, *pushed))
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Makes tasks with their schedules what they are now, and says nothing about others of their origin.
    ///
    /// # Errors
    /// The store's, or a task has another digest than `expected`.
    pub fn push_task(
        &self,
        actor: &Actor,
        timetable: &Timetable,
        expected: Option<&str>,
    ) -> Result<PushReport, ServiceError> {
        self.authorise(actor, Verb::Change, Some(timetable.namespace.as_str()))?;
        for task in timetable.tasks.iter().filter(|_| expected.is_some()) {
            expect_digest(&self.task_row(timetable.namespace.as_str(), task.id.as_str())?, expected)?;
        }
        let push = Push { complete: false, ..to_push(timetable, &actor.to_string(), true)? };
        self.send_push(timetable, push)
    }

    /// Takes a task out of its origin's hands: it becomes missing and its schedules are held; its history stays.
    ///
    /// # Errors
    /// It is not there, or has another digest than `expected`.
    pub fn delete_task(
        &self,
        actor: &Actor,
        namespace: &str,
        name: &str,
        expected: Option<&str>,
    ) -> Result<TaskView, ServiceError> {
        self.authorise(actor, Verb::Delete, Some(namespace))?;
        let row = self.task_row(namespace, name)?;
        expect_digest(&row, expected)?;
        let gone = Command::Forget { namespace: namespace.to_owned(), task: name.to_owned() };
        match self.write(gone)? {
            Reply::Done => self.task(actor, namespace, name),
            other => Err(unexpected(&other)),
        }
    }

    /// What a push would change, field by field.
    ///
    /// # Errors
    /// The store's.
    pub fn diff(&self, actor: &Actor, timetable: &Timetable) -> Result<Diff, ServiceError> {
        self.authorise(actor, Verb::View, Some(timetable.namespace.as_str()))?;
        let mut known = BTreeMap::new();
        let mut cursor = None;
        loop {
            let page = self.read(|q| q.tasks(Some(timetable.namespace.as_str()), cursor.as_ref(), 500))?;
            known.extend(page.items.into_iter().map(|row| (row.name.clone(), row)));
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        let mut diff = Diff::default();
        for def in &timetable.tasks {
            let task = def.id.to_string();
            match known.remove(&task) {
                None => diff.changes.push(Change::Added { task }),
                Some(row) => {
                    let after = as_json(def)?;
                    let before: Value = serde_json::from_str(&row.body).unwrap_or_default();
                    let mut fields = BTreeMap::new();
                    compare("", &counted(&before), &counted(&after), &mut fields);
                    match (fields.is_empty(), row.missing) {
                        (true, false) => diff.unchanged += 1,
                        (true, true) => diff.changes.push(Change::Relinked { task }),
                        (false, _) => diff.changes.push(Change::Changed { task, fields }),
                    }
                }
            }
        }
        let gone = known.into_values().filter(|row| row.origin == timetable.origin && !row.missing);
        diff.changes.extend(gone.map(|row| Change::Missing { task: row.name }));
        Ok(diff)
    }

    /// One task by namespace and id.
    ///
    /// # Errors
    /// It is not there.
    pub fn task(&self, actor: &Actor, namespace: &str, name: &str) -> Result<TaskView, ServiceError> {
        self.authorise(actor, Verb::View, Some(namespace))?;
        task_view(self.task_row(namespace, name)?)
    }

    /// A page of tasks.
    ///
    /// # Errors
    /// The cursor is not one, or was made in another order.
    pub fn tasks(
        &self,
        actor: &Actor,
        namespace: Option<&str>,
        page: &PageRequest<DefinitionsBy>,
    ) -> Result<ListPage<TaskView>, ServiceError> {
        self.authorise(actor, Verb::View, namespace)?;
        let found = lists::sorted(
            page,
            |after, limit| self.read(|q| q.tasks(namespace, after, limit)),
            |row: &TaskRow| place(page.sort, &row.namespace, &row.name, row.updated_at),
        )?;
        let page = list_page(found, task_view);
        let items = page.items.into_iter().collect::<Result<_, _>>()?;
        Ok(ListPage { items, next: page.next, complete: page.complete })
    }

    /// A page of presets.
    ///
    /// # Errors
    /// The cursor is not one, or was made in another order.
    pub fn presets(
        &self,
        actor: &Actor,
        namespace: Option<&str>,
        page: &PageRequest<DefinitionsBy>,
    ) -> Result<ListPage<PresetView>, ServiceError> {
        self.authorise(actor, Verb::View, namespace)?;
        let found = lists::sorted(
            page,
            |after, limit| self.read(|q| q.presets(namespace, after, limit)),
            |row: &PresetRow| place(page.sort, &row.namespace, &row.name, row.updated_at),
        )?;
        Ok(list_page(found, |row| PresetView {
            namespace: row.namespace,
            id: row.name,
            task: row.task,
            missing: row.missing,
            definition: serde_json::from_str(&row.body).unwrap_or_default(),
            created_at: timestamp(row.created_at),
            updated_at: timestamp(row.updated_at),
        }))
    }

    /// A page of namespaces.
    ///
    /// # Errors
    /// The cursor was made in another order.
    pub fn namespaces(
        &self,
        actor: &Actor,
        page: &PageRequest<NamespacesBy>,
    ) -> Result<ListPage<NamespaceView>, ServiceError> {
        let found = lists::sorted(
            page,
            |after, limit| {
                let mut found = self.read(|q| q.namespaces(after, limit))?;
                found.items.retain(|row| self.authorise(actor, Verb::View, Some(&row.name)).is_ok());
                Ok(found)
            },
            |row: &NamespaceRow| match page.sort.by {
                NamespacesBy::Name => row.name.clone(),
                NamespacesBy::Seen => {
                    lists::by_moment(Some(timestamp(row.seen_at)), page.sort.descending, &row.name)
                }
            },
        )?;
        Ok(list_page(found, |row| NamespaceView {
            name: row.name,
            origin: row.origin,
            actor: row.actor,
            ephemeral: row.ephemeral,
            paused: row.paused,
            weight: row.weight,
            tasks: row.tasks,
            created_at: timestamp(row.created_at),
            seen_at: timestamp(row.seen_at),
        }))
    }

    /// The namespace of a name, or of a prefix that fits only one.
    ///
    /// # Errors
    /// None fits, or several do.
    pub fn resolve_namespace(&self, actor: &Actor, text: &str) -> Result<String, ServiceError> {
        let mut fitting = Vec::new();
        let mut cursor = None;
        loop {
            let page = self.read(|q| q.namespaces(cursor.as_ref(), 500))?;
            for row in page.items {
                if self.authorise(actor, Verb::View, Some(&row.name)).is_err() {
                    continue;
                }
                if row.name == text {
                    return Ok(row.name);
                }
                if row.name.starts_with(text) {
                    fitting.push(row.name);
                }
            }
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        match fitting.as_slice() {
            [one] => Ok(one.clone()),
            [] => Err(ServiceError::NotFound(format!(
                "there is no namespace `{text}`; `ostler namespaces list` shows those that are there"
            ))),
            several => Err(ServiceError::BadInput(format!(
                "`{text}` fits several namespaces: {}",
                several.join(", ")
            ))),
        }
    }

    /// Holds back a namespace or task, or lets it go. Gives how many machines it touched.
    ///
    /// # Errors
    /// It is not there.
    pub fn hold(
        &self,
        actor: &Actor,
        namespace: &str,
        task: Option<&str>,
        on: bool,
    ) -> Result<u64, ServiceError> {
        self.authorise(actor, Verb::Activate, Some(namespace))?;
        let what = match task {
            Some(task) => {
                self.task_row(namespace, task)?;
                Hold::Task(namespace.to_owned(), task.to_owned())
            }
            None => Hold::Namespace(namespace.to_owned()),
        };
        self.hold_what(what, on)
    }

    /// Gives a namespace a weight. What it gets others do not, so it takes the right to say so for all.
    ///
    /// # Errors
    /// It is not there, or the weight is none.
    pub fn weigh(&self, actor: &Actor, namespace: &str, weight: Weight) -> Result<Weight, ServiceError> {
        self.authorise(actor, Verb::Grant, None)?;
        if !(1..=MOST_WEIGHT).contains(&weight.weight) {
            return Err(ServiceError::BadInput(format!(
                "`weight` is {}, not 1 to {MOST_WEIGHT}",
                weight.weight
            )));
        }
        let namespace = self.resolve_namespace(actor, namespace)?;
        self.write(Command::Weigh { namespace, weight: weight.weight })?;
        Ok(weight)
    }

    pub(crate) fn hold_what(&self, what: Hold, on: bool) -> Result<u64, ServiceError> {
        match self.write(Command::Hold { what, on })? {
            Reply::Held(count) => {
                self.wake();
                Ok(count)
            }
            other => Err(unexpected(&other)),
        }
    }

    pub(crate) fn task_row(&self, namespace: &str, name: &str) -> Result<TaskRow, ServiceError> {
        self.read(|q| q.task(namespace, name))?.ok_or_else(|| {
            let near = self.nearest_task(namespace, name);
            let hint = near.map_or_else(String::new, |n| format!("; did you mean `{n}`?"));
            ServiceError::NotFound(format!("there is no task `{name}` in namespace `{namespace}`{hint}"))
        })
    }

    /// The task of an id that only one namespace has.
    ///
    /// # Errors
    /// No namespace has it, or several do.
    pub(crate) fn find_task(&self, actor: &Actor, name: &str) -> Result<TaskRow, ServiceError> {
        let mut found: Vec<TaskRow> = Vec::new();
        let mut cursor = None;
        loop {
            let page = self.read(|q| q.namespaces(cursor.as_ref(), 500))?;
            for namespace in page.items {
                if self.authorise(actor, Verb::View, Some(&namespace.name)).is_err() {
                    continue;
                }
                found.extend(self.read(|q| q.task(&namespace.name, name))?);
            }
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        let living: Vec<_> = found.iter().filter(|t| !t.missing).cloned().collect();
        let mut fitting = if living.is_empty() { found } else { living };
        match fitting.len() {
            0 => Err(ServiceError::NotFound(format!(
                "there is no task `{name}`; `ostler tasks list` shows those that are there, and `./{name}` would be a file"
            ))),
            1 => Ok(fitting.remove(0)),
            _ => {
                let names: Vec<_> = fitting.iter().map(|t| format!("{}:{}", t.namespace, t.name)).collect();
                Err(ServiceError::BadInput(format!(
                    "several namespaces have a task `{name}`: {}",
                    names.join(", ")
                )))
            }
        }
    }

    /// Namespace and id of a task spelled `task` or `namespace:task`.
    ///
    /// # Errors
    /// It is not there, or its id alone fits several.
    pub fn resolve_task(&self, actor: &Actor, text: &str) -> Result<(String, String), ServiceError> {
        let row = match text.split_once(':') {
            Some((namespace, task)) => self.task_row(&self.resolve_namespace(actor, namespace)?, task)?,
            None => self.find_task(actor, text)?,
        };
        Ok((row.namespace, row.name))
    }

    fn nearest_task(&self, namespace: &str, name: &str) -> Option<String> {
        let page = self.read(|q| q.tasks(Some(namespace), None, 500)).ok()?;
        page.items
            .into_iter()
            .map(|row| (strsim::damerau_levenshtein(&row.name, name), row.name))
            .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4)
            .min()
            .map(|(_, candidate)| candidate)
    }
}

/// Refuses when a definition is not the one that the caller has seen.
fn expect_digest(row: &TaskRow, expected: Option<&str>) -> Result<(), ServiceError> {
    match expected {
        Some(expected) if expected != row.digest => Err(ServiceError::Stale(format!(
            "task `{}:{}` is at {} now, not at {expected}; look at it again",
            row.namespace, row.name, row.digest
        ))),
        _ => Ok(()),
    }
}

/// Where a task or preset stands in an order.
pub(crate) fn place(sort: Sort<DefinitionsBy>, namespace: &str, name: &str, updated_at: Micros) -> String {
    let names = lists::by_names(&[namespace, name]);
    match sort.by {
        DefinitionsBy::Name => names,
        DefinitionsBy::Updated => lists::by_moment(Some(timestamp(updated_at)), sort.descending, &names),
    }
}

fn push_report(timetable: &Timetable, pushed: Pushed) -> PushReport {
    let counts = |(made, changed, ended)| ScheduleCounts { made, changed, ended };
    PushReport {
        namespace: timetable.namespace.to_string(),
        origin: timetable.origin.clone(),
        added: pushed.added,
        changed: pushed.changed,
        unchanged: pushed.unchanged,
        missing: pushed.missing,
        relinked: pushed.relinked,
        schedules: counts(pushed.starters),
        sinks: counts(pushed.sinks),
    }
}

fn task_view(row: TaskRow) -> Result<TaskView, ServiceError> {
    let definition: TaskDef = serde_json::from_str(&row.body).map_err(|e| {
        StoreError::Corrupt(format!("the definition of task `{}` does not read: {e}", row.name))
    })?;
    Ok(TaskView {
        namespace: row.namespace,
        id: row.name,
        enabled: row.enabled,
        paused: row.paused,
        missing: row.missing,
        version: row.version,
        digest: row.digest,
        origin: row.origin,
        created_at: timestamp(row.created_at),
        updated_at: timestamp(row.updated_at),
        definition,
    })
}

fn as_json<T: Serialize>(value: &T) -> Result<Value, ServiceError> {
    serde_json::to_value(value)
        .map_err(|e| ServiceError::BadInput(format!("a definition that cannot be stored: {e}")))
}

/// What counts when definitions are compared: not where in its file a task stands.
fn counted(definition: &Value) -> Value {
    let mut value = definition.clone();
    if let Some(source) = value.get_mut("source").and_then(Value::as_object_mut) {
        source.remove("line");
    }
    value
}

/// A timetable as the store takes it.
fn to_push(timetable: &Timetable, actor: &str, complete: bool) -> Result<Push, ServiceError> {
    let mut tasks = Vec::with_capacity(timetable.tasks.len());
    for def in &timetable.tasks {
        let body = as_json(def)?;
        let mut starters = Vec::with_capacity(def.schedules.len() + def.triggers.len());
        for schedule in &def.schedules {
            // What decides when it is due: a change of anything else must not reschedule it (ledger C6).
            let timing = json!([schedule.trigger, def.timezone, def.calendars, schedule.enabled]);
            starters.push(PushStarter {
                name: schedule.id.to_string(),
                kind: Kind::SCHEDULE.0,
                digest: digest(&timing),
                listens: None,
                has_duty: false,
            });
        }
        for trigger in &def.triggers {
            let listens = trigger.source.listens_to(timetable.namespace.as_str());
            starters.push(PushStarter {
                name: trigger.id.to_string(),
                kind: Kind::TRIGGER.0,
                digest: digest(&json!([trigger.source, trigger.debounce, trigger.enabled])),
                listens: listens.map(|(namespace, task)| (namespace.to_owned(), task.to_owned())),
                has_duty: trigger.enabled && matches!(trigger.source, EventSource::Message(_)),
            });
        }
        tasks.push(PushTask {
            name: def.id.to_string(),
            digest: digest(&counted(&body)),
            body: body.to_string(),
            enabled: def.enabled,
            starters: complete.then_some(starters),
        });
    }
    let mut presets = BTreeMap::new();
    for preset in &timetable.presets {
        presets.insert(preset.id.to_string(), (preset.task.to_string(), as_json(preset)?.to_string()));
    }
    let mut sinks = BTreeMap::new();
    for sink in timetable.sinks.iter().filter(|_| complete) {
        let push = PushSink { body: as_json(sink)?.to_string(), enabled: sink.enabled };
        sinks.insert(sink.id.to_string(), push);
    }
    Ok(Push {
        namespace: timetable.namespace.to_string(),
        ephemeral: timetable.ephemeral,
        origin: timetable.origin.clone(),
        actor: actor.to_owned(),
        complete,
        tasks,
        presets,
        sinks,
    })
}

/// Notes every leaf in which two values differ.
fn compare(path: &str, before: &Value, after: &Value, found: &mut BTreeMap<String, (Value, Value)>) {
    match (before, after) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                compare(&path, a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null), found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                compare(&format!("{path}[{i}]"), a, b, found);
            }
        }
        _ if before != after => {
            found.insert(path.to_owned(), (before.clone(), after.clone()));
        }
        _ => {}
    }
}

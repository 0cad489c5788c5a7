//! Runs: start, list, show, cancel, run again.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, mpsc},
};

use ostler_api::{
    ListPage, PageRequest, RerunRequest, RunQuery, RunView, RunsBy, StartRequest, Started, TransitionView,
};
use ostler_engine::{
    Task, Tasks,
    fields::{self, FlowFields, Part},
    start::{self, StartError, Wish},
};
use ostler_model::{Cause, Kind, MachineId, RunState, Uid, definition::PresetDef};
use ostler_store::{
    Answer, Command, Letter, MachineRow, NewMachine, NodeId, Order, Reply, RunFilter, StartOutcome,
};

use crate::{Actor, Service, ServiceError, Verb, lists, retention::unexpected};

impl Service {
    /// Starts a task.
    ///
    /// # Errors
    /// The task is not there, or its inputs are wrong; nothing is recorded then.
    pub fn start(&self, actor: &Actor, request: StartRequest) -> Result<Started, ServiceError> {
        self.start_at(actor, request, None)
    }

    /// Starts a task that only `home` may run.
    ///
    /// # Errors
    /// As [`Service::start`].
    pub fn start_at(
        &self,
        actor: &Actor,
        request: StartRequest,
        home: Option<NodeId>,
    ) -> Result<Started, ServiceError> {
        self.authorise(actor, Verb::Run, Some(&request.namespace))?;
        self.make_room(1)?;
        let task = self.current_task(&request.namespace, &request.task)?;
        let machine = self.prepare(actor, request, home, &task)?;
        self.start_machine(machine)
    }

    fn prepare(
        &self,
        actor: &Actor,
        request: StartRequest,
        home: Option<NodeId>,
        task: &Task,
    ) -> Result<NewMachine, ServiceError> {
        let preset = request.preset.as_deref().map(|p| self.preset_def(&request.namespace, p)).transpose()?;
        let cause = Cause::Actor { actor: actor.to_string() };
        self.plan(
            task,
            Wish {
                inputs: request.inputs,
                preset: preset.as_ref(),
                policy: request.policy,
                idempotency_key: request.idempotency_key,
                home,
                ..Wish::new(cause, request.due.unwrap_or_else(|| self.now()))
            },
        )
    }

    /// Starts many runs of tasks in one transaction; a wrong one refuses all.
    ///
    /// # Errors
    /// As [`Service::start`].
    pub fn start_many(
        &self,
        actor: &Actor,
        requests: Vec<StartRequest>,
    ) -> Result<Vec<Started>, ServiceError> {
        self.start_many_at(actor, requests, None)
    }

    /// Starts many that only `home` may run.
    ///
    /// # Errors
    /// As [`Service::start`].
    pub fn start_many_at(
        &self,
        actor: &Actor,
        requests: Vec<StartRequest>,
        home: Option<NodeId>,
    ) -> Result<Vec<Started>, ServiceError> {
        self.make_room(requests.len() as u64)?;
        // One look at each task, however many runs of it are wanted.
        let mut tasks: HashMap<(String, String), Arc<Task>> = HashMap::new();
        let mut machines = Vec::with_capacity(requests.len());
        for request in requests {
            self.authorise(actor, Verb::Run, Some(&request.namespace))?;
            let task = match tasks.entry((request.namespace.clone(), request.task.clone())) {
                Entry::Occupied(known) => known.get().clone(),
                Entry::Vacant(new) => {
                    new.insert(self.current_task(&request.namespace, &request.task)?).clone()
                }
            };
            machines.push(self.prepare(actor, request, home, &task)?);
        }
        let skipped: Vec<bool> = machines.iter().map(|m| m.state != 0).collect();
        match self.write(Command::Start(machines))? {
            Reply::Started(outcomes) => {
                self.wake();
                Ok(outcomes.into_iter().zip(skipped).map(|(o, skipped)| self.started(o, skipped)).collect())
            }
            other => Err(unexpected(&other)),
        }
    }

    pub(crate) fn plan(&self, task: &Task, wish: Wish<'_>) -> Result<NewMachine, ServiceError> {
        start::plan(task, wish, self.now()).map_err(|error| match error {
            StartError::Inputs(problems) => ServiceError::Inputs { task: task.def.id.to_string(), problems },
            StartError::Key(problem) => ServiceError::BadInput(problem),
        })
    }

    /// Hands a machine to the store, claimed at once when this process's node has a free slot (decision 10).
    pub(crate) fn start_machine(&self, machine: NewMachine) -> Result<Started, ServiceError> {
        let skipped = machine.state != 0;
        let Some(node) = self.node.as_ref().filter(|n| !skipped && n.has_room()) else {
            return match self.write(Command::Start(vec![machine]))? {
                Reply::Started(outcomes) if outcomes.len() == 1 => {
                    self.wake();
                    Ok(self.started(outcomes[0], skipped))
                }
                other => Err(unexpected(&other)),
            };
        };
        // The claim goes to the loop from the writer's thread, before anyone here wakes up.
        let (send, receive) = mpsc::sync_channel(1);
        let handle = node.clone();
        let answer: Answer = Box::new(move |_, reply| {
            let told = reply.map(|reply| match reply {
                Reply::StartedClaimed(outcome, claimed) => {
                    match claimed {
                        Some(row) => handle.claimed(row),
                        None => handle.wake(),
                    }
                    Ok(outcome)
                }
                other => Err(unexpected(&other)),
            });
            let _ = send.send(told);
        });
        let command = Command::StartClaimed { machine: Box::new(machine), node: node.id() };
        let gone = || ostler_store::StoreError::Unavailable("the store's writer has stopped".into());
        self.writer.post(vec![command], vec![answer]).map_err(|_| gone())?;
        let outcome = receive.recv().map_err(|_| gone())???;
        Ok(self.started(outcome, skipped))
    }

    fn started(&self, outcome: StartOutcome, skipped: bool) -> Started {
        let id = self.uid(outcome.id());
        match outcome {
            StartOutcome::Started(_) if skipped => Started::Skipped { id },
            StartOutcome::Started(_) => Started::Started { id },
            StartOutcome::AlreadyRunning(_) => Started::AlreadyRunning { id },
            StartOutcome::Repeated(_) => Started::Repeated { id },
        }
    }

    /// A page of runs.
    ///
    /// # Errors
    /// The task is not there, the cursor is not one, or was made in another order.
    pub fn runs(
        &self,
        actor: &Actor,
        query: &RunQuery,
        page: &PageRequest<RunsBy>,
    ) -> Result<ListPage<RunView>, ServiceError> {
        self.authorise(actor, Verb::View, query.namespace.as_deref())?;
        let task_row = match (&query.namespace, &query.task) {
            (Some(namespace), Some(task)) => Some(self.task_row(namespace, task)?.row),
            (None, Some(task)) => Some(self.find_task(actor, task)?.row),
            _ => None,
        };
        let filter = RunFilter {
            namespace: query.namespace.clone(),
            task_row,
            states: query.states.clone(),
            parent: query.parent.map(|p| self.machine_of(p)).transpose()?,
            since: query.since.map(|at| MachineId::first_at(at.as_millisecond())),
            until: query.until.map(|at| MachineId::first_at(at.as_millisecond())),
            order: match page.sort.descending {
                true => Order::NewestFirst,
                false => Order::OldestFirst,
            },
        };
        let cursor = lists::cursor(page)?;
        let found = self.read(|q| q.runs(&filter, cursor.as_ref(), page.limit))?;
        let page = lists::list_page(lists::marked(found, page.sort), |row| self.run_view(&row));
        let items = page.items.into_iter().collect::<Result<_, _>>()?;
        Ok(ListPage { items, next: page.next, complete: page.complete })
    }

    /// One run.
    ///
    /// # Errors
    /// It is not there.
    pub fn run(&self, actor: &Actor, id: Uid) -> Result<RunView, ServiceError> {
        let row = self.run_row(id)?;
        self.authorise(actor, Verb::View, Some(&row.namespace))?;
        self.run_view(&row)
    }

    /// What happened to a run, oldest first.
    ///
    /// # Errors
    /// It is not there.
    pub fn history(&self, actor: &Actor, id: Uid, limit: u32) -> Result<Vec<TransitionView>, ServiceError> {
        let row = self.machine_row(id)?;
        self.authorise(actor, Verb::View, Some(&row.namespace))?;
        let events = self.read(|q| q.history(row.id, limit))?;
        Ok(events
            .into_iter()
            .map(|e| TransitionView {
                at: ostler_engine::time::timestamp(e.at),
                step: e.step,
                kind: e.kind,
                body: serde_json::from_str(&e.body).unwrap_or_default(),
            })
            .collect())
    }

    /// Asks runs to end. For each: whether it lived.
    ///
    /// # Errors
    /// One of them is not there; nothing is asked then.
    pub fn cancel(&self, actor: &Actor, ids: &[Uid], reason: &str) -> Result<Vec<bool>, ServiceError> {
        let mut letters = Vec::with_capacity(ids.len());
        for id in ids {
            let row = self.machine_row(*id)?;
            self.authorise(actor, Verb::Run, Some(&row.namespace))?;
            letters
                .push((row.id, Letter::Cancel { reason: format!("cancelled by {actor}{}", suffix(reason)) }));
        }
        match self.write(Command::Send(letters))? {
            Reply::Sent(alive) => {
                self.wake();
                if let Some(node) = &self.node {
                    node.check_mail();
                }
                Ok(alive)
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Runs again what an ended run did.
    ///
    /// # Errors
    /// It is not there, it still lives, or the inputs are wrong.
    pub fn rerun(&self, actor: &Actor, id: Uid, how: &RerunRequest) -> Result<Started, ServiceError> {
        let row = self.run_row(id)?;
        self.authorise(actor, Verb::Run, Some(&row.namespace))?;
        if let Some(parent) = row.parent {
            return Err(ServiceError::BadInput(format!(
                "{id} is a step of flow {}; run that again, with `--from-failed` to keep what succeeded",
                self.uid(parent)
            )));
        }
        if row.state == 0 {
            return Err(ServiceError::Conflict(format!("run {id} is {}; cancel it first", row.run_state())));
        }
        let task = if how.current {
            self.current_task(&row.namespace, &row.task)?
        } else {
            self.pinned_task(row.definition)?
        };
        let old: FlowFields = fields::read(&row.fields).map_err(|e| ServiceError::BadInput(e.message))?;
        let done = if how.from_failed && row.kind == Kind::FLOW {
            old.parts.into_iter().filter(|(_, part)| counts_as_done(part)).collect()
        } else {
            std::collections::BTreeMap::new()
        };
        let mut inputs = old.run.inputs;
        inputs.extend(how.inputs.clone());
        let machine = self.plan(
            &task,
            Wish {
                inputs,
                policy: old.run.policy.unwrap_or_default(),
                done,
                ..Wish::new(Cause::Rerun { of: id, actor: actor.to_string() }, self.now())
            },
        )?;
        self.start_machine(machine)
    }

    pub(crate) fn machine_row(&self, id: Uid) -> Result<MachineRow, ServiceError> {
        let machine = self.machine_of(id)?;
        self.read(|q| q.machine(machine))?.ok_or_else(|| {
            ServiceError::NotFound(format!("there is no run {id} (retention may have taken it)"))
        })
    }

    pub(crate) fn run_row(&self, id: Uid) -> Result<MachineRow, ServiceError> {
        let row = self.machine_row(id)?;
        if row.kind == Kind::RUN || row.kind == Kind::FLOW {
            return Ok(row);
        }
        Err(ServiceError::BadInput(format!("{id} is a {}, not a run", row.kind.word())))
    }

    pub(crate) fn current_task(&self, namespace: &str, name: &str) -> Result<Arc<Task>, ServiceError> {
        let row = self.task_row(namespace, name)?;
        self.pinned_task(row.definition)
    }

    pub(crate) fn pinned_task(&self, definition: i64) -> Result<Arc<Task>, ServiceError> {
        self.tasks.task(definition).ok_or_else(|| {
            ServiceError::NotFound("the definition of this run is not in the store any more".to_owned())
        })
    }

    pub(crate) fn preset_def(&self, namespace: &str, name: &str) -> Result<PresetDef, ServiceError> {
        self.tasks.preset(namespace, name).ok_or_else(|| {
            ServiceError::NotFound(format!("there is no preset `{name}` in namespace `{namespace}`"))
        })
    }
}

fn counts_as_done(part: &Part) -> bool {
    part.good && part.state == Some(RunState::Succeeded)
}

fn suffix(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(": {reason}") }
}

//! Runs in the foreground: a guest node of its own, the runs it started, and what came of them.

use std::{collections::BTreeMap, io::IsTerminal, sync::Arc};

use comfy_table::Cell;
use ostler_clock::SystemClock;
use ostler_embedded::{Embedded, NodeOptions, Role, Running};
use ostler_execution::CancelReason;
use ostler_model::{
    MachineId, Name, RunState, TriggerSpec, Uid,
    definition::{Activation, Missed, Overlap, Policy, ScheduleDef},
};
use ostler_service::{Actor, RunView, Service, StartRequest, Started};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{Run, Target, read_inputs};
use crate::{
    commands::{Global, serve::signals},
    context,
    error::{CANCELLED, CONFLICT, CliError, FAILED, TIMED_OUT, USAGE},
    live::{Lines, Live},
    output::{self, Output},
    when::When,
};

/// A task to run, by namespace and id.
type Task = (String, String);

pub(super) fn run(global: &Global, run: &Run, target: Target, when: Option<When>) -> Result<u8, CliError> {
    if run.dry_run {
        return dry_run(global, run, target);
    }
    let secrets = context::secrets()?;
    let embedded = Embedded::open(context::place(global), Arc::new(SystemClock))?;
    let service = embedded.service();
    let actor = context::actor();
    let (tasks, inputs) = prepare(&service, &actor, run, target)?;
    if run.detach {
        return detach(global, run, &embedded, &service, &tasks, inputs);
    }
    let runtime = context::runtime()?;
    runtime.block_on(async {
        let many = tasks.len() > 1 || matches!(when, Some(When::Trigger(_)));
        let lines = match (global.output.is_machine(), many) {
            (true, _) => Lines::Hidden,
            (false, true) => Lines::Labelled,
            (false, false) => Lines::Raw,
        };
        let bars = !global.output.is_machine() && std::io::stderr().is_terminal();
        let (live, ended) = Live::new(lines, bars);
        let live = Arc::new(live);
        let onlooker = live.clone();
        let running = embedded.start_node(NodeOptions {
            role: Role::Guest,
            slots: run.slots,
            executors: context::executors(&embedded)?,
            observer: Arc::new(move |notice| onlooker.notice(notice)),
            lines: Some(live.clone()),
            secrets,
        })?;
        let session = Session { actor, running, live, ended, output: global.output };
        match when {
            Some(When::Trigger(trigger)) => session.daemon(&tasks, &trigger, &inputs).await,
            _ => session.once(run, &tasks, inputs).await,
        }
    })
}

/// Stores what is to be run, where it is not stored yet, and reads the inputs.
fn prepare(
    service: &Service,
    actor: &Actor,
    run: &Run,
    target: Target,
) -> Result<(Vec<Task>, serde_json::Map<String, Value>), CliError> {
    let mut tasks = Vec::new();
    let timetables = match target {
        Target::File(path) => context::load(&path)?.timetables,
        Target::Adhoc(timetable) => vec![*timetable],
        Target::Task(text) => {
            let task = service.resolve_task(actor, &text)?;
            let view = service.task(actor, &task.0, &task.1)?;
            let inputs = read_inputs(&run.inputs, view.definition.inputs.as_ref())?;
            return Ok((vec![task], inputs));
        }
    };
    let mut wanted_defs = Vec::new();
    for timetable in &timetables {
        for task in &timetable.tasks {
            let wanted = run.task.as_deref().map_or(task.enabled, |name| task.id == *name);
            if wanted {
                tasks.push((timetable.namespace.to_string(), task.id.to_string()));
                wanted_defs.push((timetable.namespace.to_string(), task));
            }
        }
    }
    if let (true, Some(name)) = (tasks.is_empty(), &run.task) {
        let known: Vec<_> = timetables.iter().flat_map(|t| &t.tasks).map(|t| t.id.to_string()).collect();
        let message = format!("the file has no task `{name}`; it has {}", known.join(", "));
        return Err(CliError::new(crate::error::NOT_FOUND, "not_found", message));
    }
    if tasks.len() > 1 && !run.inputs.is_empty() {
        return Err(CliError::usage("inputs go with one task; name it with `--task`"));
    }
    let schema = wanted_defs.last().and_then(|(_, task)| task.inputs.as_ref());
    let inputs = read_inputs(&run.inputs, schema)?;
    // Nothing is stored before everything is known to be right.
    for (namespace, def) in wanted_defs {
        checked(ostler_engine::Task::new(0, 0, &namespace, def.clone()), &inputs)?;
    }
    for timetable in &timetables {
        service.push_some(actor, timetable)?;
    }
    Ok((tasks, inputs))
}

fn request(run: &Run, task: &Task, inputs: &serde_json::Map<String, Value>) -> StartRequest {
    StartRequest {
        namespace: task.0.clone(),
        task: task.1.clone(),
        preset: run.preset.clone(),
        inputs: inputs.clone(),
        idempotency_key: run.idempotency_key.clone(),
        ..StartRequest::default()
    }
}

fn detach(
    global: &Global,
    run: &Run,
    embedded: &Embedded,
    service: &Service,
    tasks: &[Task],
    inputs: serde_json::Map<String, Value>,
) -> Result<u8, CliError> {
    let actor = context::actor();
    let requests = tasks.iter().map(|task| request(run, task, &inputs)).collect();
    let started = service.start_many(&actor, requests)?;
    let owner = embedded.owner();
    let document = json!({ "started": started, "owner": owner });
    global.output.show(&document, |_| {
        let mut lines: Vec<_> =
            tasks.iter().zip(&started).map(|(t, s)| format!("{}  {}:{}", s.id(), t.0, t.1)).collect();
        lines.push(match &owner {
            Some(owner) => format!("queued; {owner} will run it"),
            None => "queued; nobody serves this store now: `ostler serve` will run it".to_owned(),
        });
        lines.join("\n")
    });
    let refused =
        started.iter().any(|s| matches!(s, Started::AlreadyRunning { .. } | Started::Skipped { .. }));
    Ok(if refused { CONFLICT } else { 0 })
}

struct Session {
    actor: Actor,
    running: Running,
    live: Arc<Live>,
    ended: mpsc::UnboundedReceiver<MachineId>,
    output: Output,
}

/// What `run` prints as its one document.
#[derive(Serialize)]
struct Summary {
    ok: bool,
    runs: Vec<RunView>,
}

impl Session {
    /// Each task once, now.
    async fn once(
        mut self,
        run: &Run,
        tasks: &[Task],
        inputs: serde_json::Map<String, Value>,
    ) -> Result<u8, CliError> {
        let service = self.running.service.clone();
        let requests = tasks
            .iter()
            .map(|task| StartRequest { home: Some(self.running.id), ..request(run, task, &inputs) });
        let mut ids: Vec<Uid> = Vec::new();
        let mut waiting: BTreeMap<MachineId, Uid> = BTreeMap::new();
        let mut refused = false;
        let started: Vec<Started> = match requests.collect::<Vec<_>>() {
            // One start is claimed in the transaction that makes it.
            mut one if one.len() == 1 => {
                one.pop().map(|r| service.start(&self.actor, r)).transpose()?.into_iter().collect()
            }
            many => service.start_many(&self.actor, many)?,
        };
        for (task, started) in tasks.iter().zip(started) {
            let id = started.id();
            ids.push(id);
            match started {
                Started::Started { .. } => {
                    let machine = service.machine_of(id)?;
                    waiting.insert(machine, id);
                    self.live.follow(machine, &task.1);
                }
                Started::AlreadyRunning { .. } => {
                    refused = true;
                    eprintln!("{}:{} runs already: {id}", task.0, task.1);
                }
                Started::Repeated { .. } => {
                    eprintln!("{}:{} was started before with this key: {id}", task.0, task.1)
                }
                Started::Skipped { .. } => {}
            }
        }
        let interrupted = self.wait(&mut waiting).await;
        self.finish(run, &ids, refused, interrupted).await
    }

    /// Waits until all have ended; the first Ctrl-C asks them to end, the second ends them at once.
    async fn wait(&mut self, waiting: &mut BTreeMap<MachineId, Uid>) -> bool {
        let mut signals = signals();
        let mut interrupted = false;
        while !waiting.is_empty() {
            tokio::select! {
                Some(id) = self.ended.recv() => {
                    waiting.remove(&id);
                }
                () = signals.next() => {
                    if interrupted {
                        self.running.handle.interrupt(CancelReason::Kill);
                    } else {
                        interrupted = true;
                        eprintln!("ending what runs; once more to end it at once");
                        let ids: Vec<_> = waiting.values().copied().collect();
                        let (service, actor) = (self.running.service.clone(), self.actor.clone());
                        let asked = tokio::task::spawn_blocking(move || service.cancel(&actor, &ids, "Ctrl-C")).await;
                        if let Ok(Err(error)) = asked {
                            eprintln!("error: {error}");
                            self.running.handle.interrupt(CancelReason::Cancelled);
                        }
                    }
                }
                stopped = self.running.wait() => {
                    eprintln!("error: the node has stopped: {stopped:?}");
                    return interrupted;
                }
            }
        }
        interrupted
    }

    async fn finish(self, run: &Run, ids: &[Uid], refused: bool, interrupted: bool) -> Result<u8, CliError> {
        self.live.clear();
        let service = self.running.service.clone();
        let mut runs = Vec::with_capacity(ids.len());
        for id in ids {
            runs.push(service.run(&self.actor, *id)?);
        }
        let ok = runs.iter().all(RunView::is_good) && !refused;
        let code = exit_code(&runs, refused, interrupted, run.exit_code == "payload");
        let summary = Summary { ok, runs };
        if self.output.is_machine() {
            output::print(&self.output.text(&summary));
        } else if let [only] = summary.runs.as_slice() {
            tell_one(only);
        } else {
            output::print(&tell_many(&summary.runs, &service));
        }
        self.running.handle.drain();
        self.running.stopped().await;
        Ok(code)
    }

    /// A rhythm, until Ctrl-C or until it is never due again.
    async fn daemon(
        mut self,
        tasks: &[Task],
        trigger: &TriggerSpec,
        inputs: &serde_json::Map<String, Value>,
    ) -> Result<u8, CliError> {
        let service = self.running.service.clone();
        let mut schedules = Vec::new();
        for task in tasks {
            let schedule = ScheduleDef {
                id: Name::from_any("when"),
                trigger: trigger.clone(),
                preset: None,
                inputs: inputs.clone(),
                missed: Missed::default(),
                overlap: Overlap::Skip,
                policy: Policy::default(),
                enabled: true,
                activation: Activation::default(),
            };
            schedules.push(service.start_schedule(&self.actor, task, schedule, Some(self.running.id))?);
        }
        let compiled = ostler_service::explain_trigger(trigger, &context::machine_zone())?;
        if !self.output.is_machine() {
            eprintln!("{}; Ctrl-C ends it", compiled.describe());
            let now = service.now();
            if let Ok(Some(due)) = compiled.next_after(now, now) {
                eprintln!("next: {}", output::moment(Some(due.at), now));
            }
        }
        let mut signals = signals();
        let mut bad = 0;
        loop {
            tokio::select! {
                Some(id) = self.ended.recv() => {
                    let uid = service.uid(id);
                    if schedules.contains(&uid) {
                        break;
                    }
                    if let Ok(run) = service.run(&self.actor, uid) {
                        bad += u64::from(!run.is_good());
                        self.tell_firing(&run);
                    }
                }
                () = signals.next() => break,
                _ = self.running.wait() => break,
            }
        }
        let ids = schedules.clone();
        let (canceller, actor) = (service.clone(), self.actor.clone());
        let _ = tokio::task::spawn_blocking(move || canceller.cancel(&actor, &ids, "Ctrl-C")).await;
        self.running.handle.drain();
        let handle = self.running.handle.clone();
        tokio::select! {
            _ = self.running.wait() => {}
            () = signals.next() => {
                handle.interrupt(CancelReason::Kill);
                self.running.wait().await;
            }
        }
        Ok(if bad > 0 { FAILED } else { 0 })
    }

    fn tell_firing(&self, run: &RunView) {
        if self.output == Output::Json {
            output::print(&serde_json::to_string(run).unwrap_or_default());
        } else if self.output == Output::Yaml {
            output::print(&format!("---\n{}", self.output.text(run)));
        } else if !run.is_good() {
            eprintln!("{} | {} {}", run.task, run.state, crate::commands::runs::remark(run));
        }
    }
}

fn exit_code(runs: &[RunView], refused: bool, interrupted: bool, payload: bool) -> u8 {
    if let (true, [only]) = (payload, runs)
        && let Some(code) = only.exit_code
    {
        return u8::try_from(code).unwrap_or(FAILED);
    }
    let bad: Vec<_> = runs.iter().filter(|r| !r.is_good()).collect();
    if interrupted && bad.iter().any(|r| r.state == RunState::Cancelled) {
        return CANCELLED;
    }
    match bad.as_slice() {
        [] if refused => CONFLICT,
        [] => 0,
        bad if bad.iter().all(|r| r.state == RunState::TimedOut) => TIMED_OUT,
        bad if bad.iter().all(|r| r.state == RunState::Cancelled) => CANCELLED,
        bad if bad.iter().all(|r| r.state == RunState::Skipped) => CONFLICT,
        _ => FAILED,
    }
}

/// One line on standard error: standard output is the payload's.
fn tell_one(run: &RunView) {
    if run.is_good() && run.state == RunState::Succeeded && !std::io::stderr().is_terminal() {
        return;
    }
    let remark = crate::commands::runs::remark(run);
    let dash = if remark.is_empty() { "" } else { ": " };
    eprintln!("{} {} in {}{dash}{remark}", run.id, run.state, output::duration(run.duration_ms));
    if let Some(detail) = run.error.as_ref().filter(|_| !run.is_good()).and_then(|e| e.detail.as_ref()) {
        eprintln!("{detail}");
    }
}

fn tell_many(runs: &[RunView], service: &Service) -> String {
    let now = service.now();
    let rows = runs
        .iter()
        .map(|run| {
            vec![
                Cell::new(&run.task),
                output::state(run.state, run.is_good()),
                Cell::new(if run.is_good() { "ok" } else { "NOT OK" }),
                Cell::new(output::moment(run.started_at, now)),
                Cell::new(output::duration(run.duration_ms)),
                Cell::new(if run.kind == "flow" {
                    format!("{} steps", run.steps.len())
                } else {
                    run.attempts.to_string()
                }),
                Cell::new(crate::commands::runs::remark(run)),
            ]
        })
        .collect();
    let good = runs.iter().filter(|r| r.is_good()).count();
    let table = output::table(&["task", "state", "", "started", "took", "attempts", "what"], rows);
    format!("\n{table}\n\n{good} of {} ended as they should", runs.len())
}

/// A task with its inputs, defaults filled in, when they are right.
fn checked(
    task: ostler_engine::Task,
    given: &serde_json::Map<String, Value>,
) -> Result<(ostler_engine::Task, serde_json::Map<String, Value>), CliError> {
    match task.check_inputs(given) {
        Ok(inputs) => Ok((task, inputs)),
        Err(problems) => {
            let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
            let message = format!("task `{}`: {}", task.def.id, problems.join("; "));
            Err(CliError::new(USAGE, "bad_input", message))
        }
    }
}

/// What would run, with resolved inputs and the next due moments.
fn dry_run(global: &Global, run: &Run, target: Target) -> Result<u8, CliError> {
    let definitions: Vec<(String, ostler_model::TaskDef)> = match target {
        Target::File(path) => context::load(&path)?
            .timetables
            .into_iter()
            .flat_map(|t| {
                let namespace = t.namespace.to_string();
                t.tasks.into_iter().map(move |task| (namespace.clone(), task))
            })
            .filter(|(_, t)| run.task.as_deref().map_or(t.enabled, |name| t.id == *name))
            .collect(),
        Target::Adhoc(timetable) => {
            let namespace = timetable.namespace.to_string();
            timetable.tasks.into_iter().map(|t| (namespace.clone(), t)).collect()
        }
        Target::Task(text) => {
            let (_embedded, service) = context::service(global)?;
            let actor = context::actor();
            let (namespace, task) = service.resolve_task(&actor, &text)?;
            vec![(namespace.clone(), service.task(&actor, &namespace, &task)?.definition)]
        }
    };
    let now = ostler_clock::Clock::now(&SystemClock);
    let mut plans = Vec::new();
    for (namespace, def) in definitions {
        let given = read_inputs(&run.inputs, def.inputs.as_ref())?;
        let task = ostler_engine::Task::new(0, 0, &namespace, def);
        let (task, inputs) = checked(task, &given)?;
        let until =
            now.saturating_add(jiff::SignedDuration::from_hours(24 * 366)).unwrap_or(jiff::Timestamp::MAX);
        let (next, _) = ostler_service::preview(std::slice::from_ref(&task.def), &namespace, now, until, 3)?;
        let steps: Vec<_> = task
            .def
            .steps
            .iter()
            .map(|s| json!({ "id": s.id, "uses": s.uses, "needs": s.needs, "run": s.run, "with": s.with, "env": s.env }))
            .collect();
        plans.push(json!({
            "namespace": namespace, "task": task.def.id, "inputs": inputs, "policy": task.def.policy, "steps": steps, "next": next,
        }));
    }
    global
        .output
        .show(&plans, |plans| plans.iter().map(|p| Output::Yaml.text(p)).collect::<Vec<_>>().join("\n---\n"));
    Ok(0)
}

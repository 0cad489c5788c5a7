//! Runs in the foreground: a guest node of its own, the runs it started, and what came of them.

use std::{collections::BTreeMap, io::IsTerminal, sync::Arc};

use ostler_api::{RunView, Started, TaskRef};
use ostler_clock::SystemClock;
use ostler_embedded::{Embedded, NodeOptions, Role, Running};
use ostler_execution::CancelReason;
use ostler_model::{
    MachineId, Name, TriggerSpec, Uid,
    definition::{Activation, Missed, Overlap, Policy, ScheduleDef},
};
use ostler_service::{Actor, QueueLimit};
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use super::{
    Run, Target,
    outcome::{exit_code, tell},
    prepare::{detach, prepare, request},
};
use crate::{
    commands::{Global, serve::signals},
    context,
    error::{CliError, FAILED},
    live::{Lines, Live},
    output::{self, Output},
    when::When,
};

pub(super) fn run(global: &Global, run: &Run, target: Target, when: Option<When>) -> Result<u8, CliError> {
    let secrets = context::secrets()?;
    let executors = context::executors(None, !run.detach)?;
    let embedded = Embedded::open(context::place(global)?, Arc::new(SystemClock))?;
    let actor = context::actor();
    let api = embedded.local(actor.clone());
    let (tasks, inputs) = prepare(&api, run, target)?;
    if run.detach {
        return detach(global, run, &api, &tasks, inputs);
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
            labels: Vec::new(),
            only_labelled: false,
            worker_lease: ostler_embedded::LEASE,
            role: Role::Guest,
            slots: run.slots,
            limit: QueueLimit::none(),
            executors,
            observer: Arc::new(move |notice| onlooker.notice(notice)),
            lines: Some(live.clone()),
            secrets,
            duties: Vec::new(),
        })?;
        let session = Session { actor, running, live, ended, output: global.output };
        match when {
            Some(When::Trigger(trigger)) => session.daemon(&tasks, &trigger, &inputs).await,
            _ => session.once(run, &tasks, inputs).await,
        }
    })
}

struct Session {
    actor: Actor,
    running: Running,
    live: Arc<Live>,
    ended: mpsc::UnboundedReceiver<MachineId>,
    output: Output,
}

impl Session {
    /// Each task once, now.
    async fn once(
        mut self,
        run: &Run,
        tasks: &[TaskRef],
        inputs: Map<String, Value>,
    ) -> Result<u8, CliError> {
        let service = self.running.service.clone();
        let requests = tasks.iter().map(|task| request(run, task, &inputs));
        let home = Some(self.running.id);
        let mut ids: Vec<Uid> = Vec::new();
        let mut waiting: BTreeMap<MachineId, Uid> = BTreeMap::new();
        let mut refused = false;
        let started: Vec<Started> = match requests.collect::<Vec<_>>() {
            // One start is claimed in the transaction that makes it.
            mut one if one.len() == 1 => {
                one.pop().map(|r| service.start_at(&self.actor, r, home)).transpose()?.into_iter().collect()
            }
            many => service.start_many_at(&self.actor, many, home)?,
        };
        for (task, started) in tasks.iter().zip(started) {
            let id = started.id();
            ids.push(id);
            match started {
                Started::Started { .. } => {
                    let machine = service.machine_of(id)?;
                    waiting.insert(machine, id);
                    self.live.follow(machine, &task.task);
                }
                Started::AlreadyRunning { .. } => {
                    refused = true;
                    eprintln!("{}:{} runs already: {id}", task.namespace, task.task);
                }
                Started::Repeated { .. } => {
                    eprintln!("{}:{} was started before with this key: {id}", task.namespace, task.task)
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
        let code = exit_code(&runs, refused, interrupted, run.exit_code == "payload");
        tell(runs, refused, self.output);
        self.running.handle.drain();
        self.running.stopped().await;
        Ok(code)
    }

    /// A rhythm, until Ctrl-C or until it is never due again.
    async fn daemon(
        mut self,
        tasks: &[TaskRef],
        trigger: &TriggerSpec,
        inputs: &Map<String, Value>,
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
            let task = (task.namespace.clone(), task.task.clone());
            schedules.push(service.start_schedule(&self.actor, &task, schedule, Some(self.running.id))?);
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

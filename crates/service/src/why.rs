//! Why: explains any machine in words, from what is on record.

use jiff::{SignedDuration, Timestamp};
use ostler_api::Explanation;
use ostler_engine::{
    Tasks,
    fields::{self, FlowFields, ScheduleFields, TriggerFields},
    machines::{WAIT, signal_of},
    time::timestamp,
};
use ostler_model::{
    Cause, Kind, RunState, Span, Uid,
    definition::{EventSource, MessageSource},
};
use ostler_store::{MachineRow, NEVER, NodeId, NodeRow, Phase, TickRow, trigger_duty};
use serde_json::{Value, json};

use crate::{Actor, Service, ServiceError, Verb, triggers::listening};

mod stuck;

impl Service {
    /// Explains a machine.
    ///
    /// # Errors
    /// It is not there.
    pub fn why(&self, actor: &Actor, id: Uid) -> Result<Explanation, ServiceError> {
        let row = self.machine_row(id)?;
        self.authorise(actor, Verb::View, Some(&row.namespace))?;
        match row.kind {
            Kind::SCHEDULE => self.why_schedule(&row),
            Kind::TRIGGER => self.why_trigger(&row),
            _ => self.why_run(&row, 0),
        }
    }

    fn why_run(&self, row: &MachineRow, depth: u32) -> Result<Explanation, ServiceError> {
        let all: FlowFields = fields::read(&row.fields).map_err(|e| ServiceError::BadInput(e.message))?;
        let state = row.run_state();
        let mut story = Story::new(self);
        match state {
            RunState::Succeeded
            | RunState::Failed
            | RunState::TimedOut
            | RunState::Cancelled
            | RunState::Skipped => {
                story.ended(row, &all, state);
            }
            RunState::Running => story.running(row)?,
            RunState::Scheduled => story.scheduled(row),
            RunState::Ready => story.ready(row)?,
            RunState::Waiting => story.waiting(row, &all, depth)?,
        }
        if all.run.error.as_ref().is_none_or(|error| row.state == 0 || error.class.0 != "lost") {
            story.losses(&all);
        }
        if row.state == 0 {
            story.deadline(row, &all)?;
            story.slow_store()?;
        }
        story.origin(&all);
        Ok(Explanation {
            id: self.uid(row.id),
            what: format!(
                "{} of {}:{}{}",
                row.kind.word(),
                row.namespace,
                row.task,
                row.parent.and(row.child_key.as_ref()).map_or_else(String::new, |k| format!(", step {k}"))
            ),
            state: state.word().into(),
            because: story.because,
            hints: story.hints,
            facts: story.facts,
        })
    }

    fn why_schedule(&self, row: &MachineRow) -> Result<Explanation, ServiceError> {
        let state: ScheduleFields =
            fields::read(&row.fields).map_err(|e| ServiceError::BadInput(e.message))?;
        let mut story = Story::new(self);
        let word = if row.state != 0 {
            story.say(format!("it has ended: {}", state.reason.as_deref().unwrap_or("its task let it go")));
            "ended"
        } else if row.tick.as_ref().is_some_and(|t| t.phase == Phase::Held) {
            story.held(row)?;
            "held"
        } else {
            match state.next {
                Some(next) => story.say(format!("it is due {}", story.moment(timestamp(next)))),
                None if !state.live.is_empty() => story.say("it waits for its run to end".to_owned()),
                None => story.say("it has not been looked at yet".to_owned()),
            }
            story.nobody_at_work()?;
            "waiting"
        };
        if state.queued.is_some() {
            story.say("a firing waits until the run before has ended (overlap: queue)".to_owned());
        }
        story.say(format!("it has fired {} times", state.fired));
        story.facts["fields"] = serde_json::from_str(&row.fields).unwrap_or_default();
        Ok(Explanation {
            id: self.uid(row.id),
            what: format!("schedule {}:{}/{}", row.namespace, row.task, state.schedule),
            state: word.into(),
            because: story.because,
            hints: story.hints,
            facts: story.facts,
        })
    }
}

impl Service {
    /// Who listens to the broker of a trigger, and what is wrong with that.
    fn tell_listening(
        &self,
        row: &MachineRow,
        source: &MessageSource,
        story: &mut Story<'_>,
    ) -> Result<(), ServiceError> {
        let duty = trigger_duty(row.id);
        let duties = self.read(|q| q.duties())?;
        let Some(view) = duties.iter().find(|row| row.duty == duty).map(listening) else {
            story.say("nobody listens for it: it is disabled".into());
            return Ok(());
        };
        let node = view.node.map_or_else(|| "nobody".to_owned(), |node| format!("node {node}"));
        match (view.trouble, view.trouble_since, view.since) {
            (Some(trouble), Some(at), _) => {
                let at = story.moment(at);
                story.say(format!("{node} has tried to listen since {at}, and cannot: {trouble}"));
                story.hints.push(format!("see that {} can be reached from that node", source.word()));
            }
            (.., Some(at)) => {
                let at = story.moment(at);
                story.say(format!("{node} has listened since {at} and taken {} messages", view.taken));
            }
            _ => story.say(format!("{node} is about to listen for it")),
        }
        if let Some(missed) = view.missed {
            story.say(missed);
        }
        Ok(())
    }

    fn why_trigger(&self, row: &MachineRow) -> Result<Explanation, ServiceError> {
        let state: TriggerFields =
            fields::read(&row.fields).map_err(|e| ServiceError::BadInput(e.message))?;
        let mut story = Story::new(self);
        let task = self.tasks.task(row.definition);
        let def = task.as_ref().and_then(|t| t.trigger_def(&state.trigger));
        let word = if row.state != 0 {
            story.say(format!("it has ended: {}", state.reason.as_deref().unwrap_or("its task let it go")));
            "ended"
        } else if row.tick.as_ref().is_some_and(|t| t.phase == Phase::Held) {
            story.held(row)?;
            "held"
        } else {
            if let Some(def) = def {
                story.say(format!("it fires {}", def.source.describe()));
            }
            if let Some(EventSource::Message(source)) = def.map(|def| &def.source) {
                self.tell_listening(row, source, &mut story)?;
            }
            if let Some(batched) = &state.batched {
                let at = story.moment(timestamp(batched.until));
                story.say(format!("{} events wait for no more to come: it fires {at}", batched.count));
            }
            if let Some(deadline) = state.deadline {
                let at = story.moment(timestamp(deadline));
                story.say(format!("unless such a run ends before, it fires {at}"));
            }
            if state.silent {
                story.say(
                    "silence has lasted too long and was told; the next such run makes it listen again"
                        .into(),
                );
            }
            story.nobody_at_work()?;
            "waiting"
        };
        story.say(format!(
            "it has fired {} times, ignored {} events and known {} deliveries again",
            state.fired, state.ignored, state.replays
        ));
        let last = self.read(|q| q.history(row.id, 20))?;
        let ignored = last.iter().rev().find(|e| e.kind == "ignored" || e.body.contains("\"ignored\""));
        if let Some(reasons) = ignored.and_then(|e| serde_json::from_str::<Value>(&e.body).ok()) {
            let reasons: Vec<_> =
                reasons["ignored"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            if let Some(last) = reasons.last() {
                story.say(format!("the last event that it ignored: {last}"));
            }
        }
        story.facts["fields"] = serde_json::from_str(&row.fields).unwrap_or_default();
        Ok(Explanation {
            id: self.uid(row.id),
            what: format!("trigger {}:{}/{}", row.namespace, row.task, state.trigger),
            state: word.into(),
            because: story.because,
            hints: story.hints,
            facts: story.facts,
        })
    }
}

struct Story<'a> {
    service: &'a Service,
    now: Timestamp,
    because: Vec<String>,
    hints: Vec<String>,
    facts: Value,
}

impl<'a> Story<'a> {
    fn new(service: &'a Service) -> Self {
        Self { service, now: service.now(), because: Vec::new(), hints: Vec::new(), facts: json!({}) }
    }

    fn say(&mut self, sentence: String) {
        self.because.push(sentence);
    }

    /// A moment with its distance from now.
    fn moment(&self, at: Timestamp) -> String {
        let distance = at.duration_since(self.now);
        let span = Span::from(std::time::Duration::from_secs(distance.unsigned_abs().as_secs()));
        if distance > SignedDuration::ZERO {
            format!("at {at}, in {span}")
        } else {
            format!("since {at}, for {span}")
        }
    }

    fn origin(&mut self, all: &FlowFields) {
        let sentence = match &all.run.cause {
            Some(Cause::Actor { actor }) => format!("it exists because {actor} started it"),
            Some(Cause::Schedule { schedule, due }) => {
                format!("it exists because schedule `{schedule}` was due at {due}")
            }
            Some(Cause::Rerun { of, actor }) => format!("it exists because {actor} ran {of} again"),
            Some(Cause::Event { trigger, name, body }) => {
                let of = match body["run"].as_str() {
                    Some(run) => format!(" of run {run}"),
                    None => String::new(),
                };
                format!("it exists because trigger `{trigger}` had an event `{name}`{of}")
            }
            Some(Cause::Step { step }) => format!("it is step `{step}` of a flow"),
            None => "it is a step of a flow".to_owned(),
        };
        self.say(sentence);
    }

    fn ended(&mut self, row: &MachineRow, all: &FlowFields, state: RunState) {
        let run = &all.run;
        let attempts = match run.attempts {
            0 => String::new(),
            1 => " in its first attempt".to_owned(),
            n => format!(" in attempt {n}"),
        };
        let reason = run.reason.as_deref().unwrap_or("no reason is on record");
        match (state, &run.error) {
            (RunState::Succeeded, _) => match &run.reason {
                // Somebody answered what it waited for.
                Some(reason) => self.say(format!("it ended well: {reason}")),
                None => self.say(format!("it ended well{attempts}")),
            },
            (RunState::Skipped, _) => self.say(format!("it was not run: {reason}")),
            (RunState::Cancelled, _) => self.say(format!("it was ended: {reason}")),
            (_, Some(error)) => {
                self.say(format!("it ended badly{attempts}: {} ({})", error.message, error.class));
                self.no_retry(row, all);
            }
            (_, None) => self.say(format!("it ended badly{attempts}")),
        }
        match run.as_expected {
            Some(true) => self.say("that is how its file says it should end".to_owned()),
            Some(false) => self.say("its file says it should end otherwise (`expect`)".to_owned()),
            None => {}
        }
        let bad: Vec<_> =
            all.parts.iter().filter(|(_, p)| p.state.is_some() && !p.good).map(|(k, _)| k.as_str()).collect();
        if !bad.is_empty() {
            self.say(format!("steps that ended badly: {}", bad.join(", ")));
            self.hints.push(format!("ostler runs retry {} --from-failed", self.service.uid(row.id)));
        } else if matches!(state, RunState::Failed | RunState::TimedOut) {
            self.hints.push(format!("ostler runs retry {}", self.service.uid(row.id)));
        }
        if row.started_at.is_some() && row.kind == Kind::RUN {
            self.hints.push(format!("ostler logs {}", self.service.uid(row.id)));
        }
        self.facts["finished_at"] = json!(row.finished_at.map(timestamp));
    }

    fn no_retry(&mut self, row: &MachineRow, all: &FlowFields) {
        if row.kind != Kind::RUN || all.run.attempts == 0 {
            return;
        }
        if all.run.error.as_ref().is_some_and(|e| e.class.0 == "lost") {
            let words = match all.run.lost {
                0 | 1 => "it is not repeated, since nobody knows how far it had come; a task that says `lost: rerun` or \
                          `idempotent: true` is"
                    .to_owned(),
                lost => format!("it was begun again {} times and lost each time; no more is tried", lost - 1),
            };
            return self.say(words);
        }
        let Ok(task) = self.service.pinned_task(row.definition) else { return };
        let step = row.child_key.as_deref().and_then(|k| task.step(k));
        let retry = step
            .and_then(|s| s.retry.clone())
            .or_else(|| all.run.policy.as_ref()?.retry.clone())
            .or_else(|| task.def.policy.retry.clone());
        let Some(error) = &all.run.error else { return };
        self.say(match retry {
            None => "it is not tried again: its task says nothing of `retry`".to_owned(),
            Some(retry) if !retry.covers(&error.class) => {
                format!("it is not tried again: `retry` does not cover errors of class {}", error.class)
            }
            Some(retry) if all.run.attempts >= retry.attempts => {
                format!("it is not tried again: all {} attempts are used up", retry.attempts)
            }
            Some(_) => "it is not tried again: the next attempt would come after its time is up".to_owned(),
        });
    }

    fn running(&mut self, row: &MachineRow) -> Result<(), ServiceError> {
        let Some(tick) = &row.tick else { return Ok(()) };
        let node = self.node_words(tick.node)?;
        let since = row.started_at.map(timestamp);
        self.say(match since {
            Some(at) => format!("{node} is at it; it first started {at}"),
            None => format!("{node} is at it"),
        });
        self.facts["fence"] = json!(tick.fence);
        if tick.letters > 0 {
            self.say("it has been asked to end and has not yet".to_owned());
        }
        Ok(())
    }

    fn node_words(&self, node: Option<NodeId>) -> Result<String, ServiceError> {
        let nodes = self.service.read(|q| q.nodes())?;
        Ok(nodes.into_iter().find(|n| Some(n.node) == node).map_or_else(
            || "a node that is not known any more".to_owned(),
            |n| format!("node {} ({})", n.node.0, n.name),
        ))
    }

    fn scheduled(&mut self, row: &MachineRow) {
        if let Some(tick) = &row.tick {
            self.say(format!("it is due {}", self.moment(timestamp(tick.due_at))));
        }
    }

    fn ready(&mut self, row: &MachineRow) -> Result<(), ServiceError> {
        let Some(tick) = &row.tick else { return Ok(()) };
        self.say(format!("it has been due {}", self.moment(timestamp(tick.due_at))));
        if tick.lost {
            self.say("the node that had it died; it is to be looked after".to_owned());
        }
        self.blocked(row, tick)
    }

    /// What keeps a ready machine from being claimed.
    fn blocked(&mut self, row: &MachineRow, tick: &TickRow) -> Result<(), ServiceError> {
        let before = self.because.len();
        for limit in self.service.read(|q| q.limits(tick.lane))? {
            if limit.is_rate {
                let free = timestamp(limit.free_at);
                if free > self.now {
                    self.say(format!(
                        "rate limit `{}` is used up; it has room again {}",
                        limit.key,
                        self.moment(free)
                    ));
                }
            } else if limit.holders.len() >= limit.max as usize {
                let holders: Vec<_> =
                    limit.holders.iter().map(|h| self.service.uid(*h).to_string()).collect();
                self.say(format!(
                    "concurrency limit `{}` is full: {} of {} places are held by {}",
                    limit.key,
                    holders.len(),
                    limit.max,
                    holders.join(", ")
                ));
                self.facts["holders"] = json!(holders);
            }
        }
        let is_limited = self.because.len() > before;
        if let Some(lane) = self.service.read(|q| q.lane(tick.lane))? {
            if lane.paused {
                self.say(format!("namespace `{}` is paused", lane.namespace));
                self.hints.push(format!("ostler namespaces resume {}", lane.namespace));
            }
            if let Some(home) = lane.home {
                let node = self.node_words(Some(home))?;
                self.say(format!("it belongs to {node}, the command that started it"));
            }
            if !lane.labels.is_empty() {
                self.labels(&lane.labels)?;
            } else if lane.home.is_none() && row.kind == Kind::RUN {
                self.only_labelled()?;
            }
            if lane.ready > 1 {
                self.say(format!(
                    "{} are ready in its lane; order is by priority, then by due moment",
                    lane.ready
                ));
            }
            if !is_limited {
                self.turn(&lane.namespace)?;
            }
        }
        self.nobody_at_work()
    }

    /// What part of the work its namespace gets.
    fn turn(&mut self, namespace: &str) -> Result<(), ServiceError> {
        let waiting = self.service.read(|q| q.stats())?.waiting;
        let all: u64 = waiting.iter().map(|row| u64::from(row.weight)).sum();
        let own = waiting.iter().find(|row| row.namespace == namespace);
        if let (Some(own), 2..) = (own, waiting.len()) {
            let weight = u64::from(own.weight);
            self.say(format!(
                "{} namespaces have something ready and take turns: `{namespace}` has {weight} of their weights of {all}, \
                 that is {:.1} % of the time of slots",
                waiting.len(),
                weight as f64 * 100.0 / all as f64
            ));
            self.facts["turn"] = json!({ "weight": weight, "weights": all, "namespaces": waiting.len() });
        }
        Ok(())
    }

    /// Which nodes have what it asks for.
    fn labels(&mut self, asked: &[String]) -> Result<(), ServiceError> {
        self.facts["labels"] = json!(asked);
        let words = asked.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        let nodes = self.service.read(|q| q.nodes())?;
        let fit = |node: &&NodeRow| {
            !node.closed && !node.draining && asked.iter().all(|label| node.labels.contains(label))
        };
        let have: Vec<_> = nodes.iter().filter(fit).map(|n| format!("{} ({})", n.node.0, n.name)).collect();
        if have.is_empty() {
            self.say(format!("it runs on a node with the label {words}, and no living node has that"));
            self.hints.push(format!("ostler worker --server URL --label {}", asked.join(",")));
        } else {
            self.say(format!("it runs on a node with the label {words}: {}", have.join(", ")));
        }
        Ok(())
    }

    fn nobody_at_work(&mut self) -> Result<(), ServiceError> {
        let nodes = self.service.read(|q| q.nodes())?;
        let owner = nodes.iter().find(|n| n.owner && !n.closed);
        match owner {
            None => {
                self.say("no `ostler serve` works on this store".to_owned());
                self.hints.push("ostler serve".to_owned());
            }
            Some(owner) => self.say(format!(
                "node {} ({}) serves this store and has {} machines",
                owner.node.0, owner.name, owner.claims
            )),
        }
        let workers: Vec<_> = nodes.iter().filter(|n| n.worker.is_some() && !n.closed).collect();
        if !workers.is_empty() {
            let (have, slots) =
                workers.iter().fold((0, 0), |(have, slots), n| (have + n.claims, slots + u64::from(n.slots)));
            self.say(format!("{} workers have {have} jobs in {slots} slots", workers.len()));
        }
        Ok(())
    }

    fn held(&mut self, row: &MachineRow) -> Result<(), ServiceError> {
        let task = self.service.read(|q| q.task(&row.namespace, &row.task))?;
        let name = format!("{}:{}", row.namespace, row.task);
        match task {
            Some(task) if task.paused => {
                self.say(format!("task `{name}` is paused"));
                self.hints.push(format!("ostler tasks resume {name}"));
            }
            Some(task) if task.missing => {
                self.say(format!("task `{name}` is missing: {} does not hold it any more", task.origin));
            }
            Some(task) if !task.enabled => self.say(format!("task `{name}` is disabled in {}", task.origin)),
            _ => {
                let lane =
                    row.tick.as_ref().map(|t| self.service.read(|q| q.lane(t.lane))).transpose()?.flatten();
                if lane.is_some_and(|lane| lane.paused) {
                    self.say(format!("namespace `{}` is paused", row.namespace));
                    self.hints.push(format!("ostler namespaces resume {}", row.namespace));
                } else {
                    self.say("it is paused".to_owned());
                }
            }
        }
        Ok(())
    }

    /// A step that waits says for what, and how to answer.
    fn waits_for_an_answer(&mut self, row: &MachineRow) -> Result<bool, ServiceError> {
        let task = self.service.pinned_task(row.definition)?;
        let step = row.parent.and(row.child_key.as_deref()).and_then(|key| task.step(key));
        let step = step.unwrap_or(&task.def.steps[0]);
        if step.uses != WAIT {
            return Ok(false);
        }
        let id = self.service.uid(row.id);
        match step.with.get("approval").and_then(Value::as_str) {
            Some(question) => {
                self.say(format!("it waits for somebody to approve: {question}"));
                self.hints.push(format!("ostler approve {id}"));
                self.hints.push(format!("ostler reject {id}"));
            }
            None => {
                let name = signal_of(step).unwrap_or_default();
                self.say(format!("it waits for signal `{name}`"));
                self.hints.push(format!("ostler signal {id} {name}"));
            }
        }
        if let Some(tick) = row.tick.as_ref().filter(|t| t.due_at != NEVER) {
            self.say(format!("its time is up {}", self.moment(timestamp(tick.due_at))));
        }
        Ok(true)
    }

    fn waiting(&mut self, row: &MachineRow, all: &FlowFields, depth: u32) -> Result<(), ServiceError> {
        let Some(tick) = &row.tick else { return Ok(()) };
        if tick.phase == Phase::Held {
            return self.held(row);
        }
        let living: Vec<_> =
            all.parts.iter().filter(|(_, p)| p.state.is_none()).map(|(k, _)| k.clone()).collect();
        if row.kind == Kind::FLOW {
            if living.is_empty() {
                self.say("it is between two steps".to_owned());
                self.blocked(row, tick)?;
            } else {
                self.say(format!("it waits for {} to end", living.join(", ")));
            }
            if depth == 0 {
                let children = ostler_store::RunFilter { parent: Some(row.id), ..Default::default() };
                let page = self.service.read(|q| q.runs(&children, None, 20))?;
                for child in page.items.iter().filter(|c| c.state == 0) {
                    let inner = self.service.why_run(child, depth + 1)?;
                    let key = child.child_key.clone().unwrap_or_default();
                    // Its last sentence says that it is a step.
                    let because =
                        inner.because.split_last().map_or_else(String::new, |(_, rest)| rest.join("; "));
                    self.say(format!("step {key} is {}: {because}", inner.state));
                }
            }
            return Ok(());
        }
        if self.waits_for_an_answer(row)? {
            return Ok(());
        }
        if let Some(error) = &all.run.error {
            self.say(format!("attempt {} failed: {} ({})", all.run.attempts, error.message, error.class));
        }
        if tick.phase == Phase::Later && tick.due_at != NEVER {
            self.say(format!("it is tried again {}", self.moment(timestamp(tick.due_at))));
        } else {
            self.blocked(row, tick)?;
        }
        Ok(())
    }
}

//! The world of a test: store, loop, clock, scripted executions.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use ostler_api::{PageRequest, RunQuery, RunView, RunsBy, Sort};
use ostler_clock::{Clock, Entropy, FakeClock, SeededEntropy};
use ostler_engine::{
    Effect, Notice, Tasks,
    start::{self, Wish},
    time::{micros, timestamp},
};
use ostler_execution::ExecRequest;
use ostler_model::{Cause, MachineId, RunState, Span, definition::Timetable};
use ostler_service::{Actor, Readers, Service, TaskCache};
use ostler_store::{Command, Letter, NEVER, Reply, RunFilter, StartOutcome, Store, StoreError, Writer};
use ostler_store_postgres::scratch::Scratch;
use ostler_store_sqlite::{OpenOptions, SqliteStore};
use ostler_timetable::{Format, LoadOptions};

use crate::{
    node::{Node, new_node},
    script::{Behaviour, ends_well},
};

/// Where a crash happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// Before the transaction: nothing of it is on disk.
    Before,
    /// After the transaction: it is on disk, and nobody heard of it.
    After,
}

type Script = Box<dyn FnMut(&ExecRequest) -> Behaviour + Send>;

/// A whole engine in one thread.
pub struct World {
    pub(crate) clock: Arc<FakeClock>,
    pub(crate) entropy: Arc<SeededEntropy>,
    pub(crate) store: SharedStore,
    service: Service,
    pub(crate) tasks: Arc<TaskCache>,
    pub(crate) script: Script,
    pub(crate) node: Node,
    /// Nodes that were paused: they go on where they were when they are resumed.
    paused: Vec<Node>,
    pub(crate) slots: u32,
    pub(crate) applies: u64,
    pub(crate) crash: Option<(u64, Crash)>,
    pub(crate) order: u64,
    pub(crate) pace: Option<SeededEntropy>,
    pub(crate) log: Vec<Notice>,
    pub(crate) executions: Vec<(Timestamp, ExecRequest)>,
}

/// The store, used by the loop and by the service's writer in turn.
#[derive(Clone)]
pub(crate) struct SharedStore(Arc<Mutex<Box<dyn Store>>>);

impl Store for SharedStore {
    fn apply(&mut self, now: i64, batch: &[Command]) -> Vec<Result<Reply, StoreError>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).apply(now, batch)
    }

    fn next_due(&mut self) -> Result<Option<i64>, StoreError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).next_due()
    }

    fn data_version(&mut self) -> Result<i64, StoreError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).data_version()
    }

    fn queries(&self) -> Result<Box<dyn ostler_store::Queries>, StoreError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).queries()
    }
}

/// The store that worlds are made of: the embedded one in memory, or, where `OSTLER_TEST_STORE=postgres`, one in a
/// schema of its own.
fn empty_store() -> Box<dyn Store> {
    match std::env::var("OSTLER_TEST_STORE").as_deref() {
        Ok("postgres") => Box::new(Scratch::open("", None).expect("a store").expect("a server")),
        Ok(other) if other != "sqlite" => panic!("OSTLER_TEST_STORE is sqlite or postgres, not `{other}`"),
        _ => Box::new(SqliteStore::open_memory(&OpenOptions::default()).expect("a store in memory")),
    }
}

impl World {
    /// A world that begins at a moment (RFC 3339). What the store answers, what has ended and what was sent comes to
    /// the loop one after the other.
    ///
    /// # Panics
    /// The text is no moment.
    #[must_use]
    pub fn new(now: &str) -> Self {
        Self::with(now.parse().expect("a moment"), 0, None)
    }

    /// A world whose jitter is drawn from a seed, and so is what comes about between two turns of the loop.
    ///
    /// # Panics
    /// The store cannot be made.
    #[must_use]
    pub fn seeded(now: Timestamp, seed: u64) -> Self {
        // A number of its own, so that one more turn does not change what is drawn elsewhere.
        Self::with(now, seed, Some(SeededEntropy::new(seed ^ 0x9ace)))
    }

    fn with(now: Timestamp, seed: u64, pace: Option<SeededEntropy>) -> Self {
        let clock = Arc::new(FakeClock::at(now));
        let entropy = Arc::new(SeededEntropy::new(seed));
        let mut store = SharedStore(Arc::new(Mutex::new(empty_store())));
        let tasks = Arc::new(TaskCache::new(store.queries().expect("queries")));
        let for_writer = clock.clone();
        let (writer, _thread) =
            Writer::start(Box::new(store.clone()), Arc::new(move || micros(for_writer.now())))
                .expect("a thread");
        let queries = store.queries().expect("queries");
        let service = Service::new(writer, Readers::one(queries), clock.clone(), tasks.clone(), None);
        let slots = 8;
        let node = new_node(&mut store, &clock, &entropy, &tasks, slots);
        Self {
            clock,
            entropy,
            store,
            service,
            tasks,
            script: Box::new(|_| ends_well()),
            node,
            paused: Vec::new(),
            slots,
            applies: 0,
            crash: None,
            order: 0,
            pace,
            log: Vec::new(),
            executions: Vec::new(),
        }
    }

    /// Says what executions do.
    pub fn on_execute(&mut self, script: impl FnMut(&ExecRequest) -> Behaviour + Send + 'static) {
        self.script = Box::new(script);
    }

    /// Stores the definitions of a file given as text.
    ///
    /// # Panics
    /// The text has errors; they are shown.
    pub fn push(&mut self, yaml: &str) -> Timetable {
        let options = LoadOptions { machine_zone: "UTC".into(), ..LoadOptions::default() };
        let loaded = ostler_timetable::load_text(yaml.as_bytes(), "test.yaml", Format::Yaml, &options);
        let mut loaded = loaded.unwrap_or_else(|e| panic!("{}", e.render(false)));
        let timetable = loaded.timetables.remove(0);
        self.push_timetable(&timetable);
        timetable
    }

    /// Stores definitions.
    ///
    /// # Panics
    /// The store refuses.
    pub fn push_timetable(&mut self, timetable: &Timetable) {
        self.service.push(&Actor::local("test"), timetable).expect("pushed");
        self.node.core.wake();
    }

    /// Starts a task (`namespace:task`) with inputs.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn start(&mut self, task: &str, inputs: serde_json::Value) -> MachineId {
        self.try_start(task, inputs).expect("started").id()
    }

    /// Starts a task with inputs, as the store answers.
    ///
    /// # Errors
    /// As [`start::plan`].
    ///
    /// # Panics
    /// The task is not there.
    pub fn try_start(
        &mut self,
        task: &str,
        inputs: serde_json::Value,
    ) -> Result<StartOutcome, start::StartError> {
        let (namespace, name) = task.split_once(':').expect("namespace:task");
        let row =
            self.store.queries().expect("queries").task(namespace, name).expect("read").expect("the task");
        let task = self.tasks.task(row.definition).expect("the definition");
        let inputs = inputs.as_object().cloned().unwrap_or_default();
        let wish = Wish { inputs, ..Wish::new(Cause::Actor { actor: "test".into() }, self.now()) };
        let machine = start::plan(&task, wish, self.now())?;
        let replies = self.store.apply(micros(self.now()), &[Command::Start(vec![machine])]);
        self.node.core.wake();
        match replies.into_iter().next() {
            Some(Ok(Reply::Started(outcomes))) => Ok(outcomes[0]),
            other => panic!("{other:?}"),
        }
    }

    /// Asks a run to end.
    ///
    /// # Panics
    /// The store refuses.
    pub fn cancel(&mut self, id: MachineId) {
        let letter = Letter::Cancel { reason: "cancelled by test".into() };
        self.command(Command::Send(vec![(id, letter)]));
    }

    /// Hands a command to the store and lets the node look.
    ///
    /// # Panics
    /// The store refuses.
    pub fn command(&mut self, command: Command) -> Reply {
        let reply = self.store.apply(micros(self.now()), &[command]).remove(0).expect("done");
        self.node.core.wake();
        self.mail_has_come();
        reply
    }

    /// What time it is.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The use cases.
    #[must_use]
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Sets the wall clock without letting time pass.
    pub fn jump_to(&mut self, now: Timestamp) {
        self.clock.jump_to(now);
        self.node.core.wake();
    }

    /// Lets so much time pass, doing what is due on the way.
    ///
    /// # Panics
    /// The text is no duration.
    pub fn run_for(&mut self, span: &str) {
        let span: Span = span.parse().expect("a duration");
        let until = ostler_engine::time::after(self.now(), span);
        self.run_until(until);
    }

    /// Goes on to a moment, doing what is due on the way.
    pub fn run_until(&mut self, until: Timestamp) {
        loop {
            self.settle();
            match self.next_moment().filter(|at| *at <= until) {
                Some(at) => self.pass_to(at),
                None => break,
            }
        }
        self.pass_to(until);
        self.settle();
    }

    /// Goes on until no run lives; schedules may remain. Time passes as far as it must.
    ///
    /// # Panics
    /// Runs live and nothing will ever happen to them: the engine has lost a wake-up.
    pub fn run_until_idle(&mut self) {
        loop {
            self.settle();
            if self.living() == 0 {
                return;
            }
            let next = self.next_moment();
            let at = next.unwrap_or_else(|| panic!("runs live and nothing is due: {:#?}", self.runs()));
            self.pass_to(at);
        }
    }

    /// Crashes the node at the `n`-th transaction from now (1 is the next) and starts another in its place.
    pub fn crash_at(&mut self, n: u64, crash: Crash) {
        self.crash = Some((self.applies + n, crash));
    }

    /// Gives so many slots to nodes that begin from now on.
    pub fn set_slots(&mut self, slots: u32) {
        self.slots = slots;
    }

    /// Crashes the node now and starts another in its place, which looks after what the dead one held.
    pub fn crash(&mut self) {
        let dead = self.node.id;
        self.node = self.fresh_node();
        self.command(Command::Rescue { node: dead });
    }

    /// Pauses the node (as SIGSTOP does) and starts another; after a full lease that one takes over what the paused
    /// one held.
    pub fn pause_node(&mut self) {
        let fresh = self.fresh_node();
        let paused = std::mem::replace(&mut self.node, fresh);
        let id = paused.id;
        self.paused.push(paused);
        self.command(Command::Rescue { node: id });
    }

    /// Lets paused nodes go on with what they held, as if they had not noticed; gives the stale commits that the store
    /// refused.
    pub fn resume_paused(&mut self) -> usize {
        let mut stale = 0;
        for mut node in std::mem::take(&mut self.paused) {
            node.core.drain();
            let ends = std::mem::take(&mut node.ends);
            for (_, (id, fence, end)) in ends {
                node.core.executed(self.clock.now(), id, fence, end);
            }
            loop {
                let effects = node.core.turn(self.clock.now());
                if effects.is_empty() && !node.core.has_more() {
                    break;
                }
                for effect in effects {
                    match effect {
                        Effect::Apply(command) => {
                            let reply = self
                                .store
                                .apply(micros(self.clock.now()), std::slice::from_ref(&command))
                                .remove(0);
                            node.core.replied(self.clock.now(), command, reply);
                        }
                        Effect::Notice(Notice::Stale { .. }) => stale += 1,
                        Effect::Notice(Notice::Committed { id, .. }) => {
                            panic!("a paused holder committed {id:?}")
                        }
                        Effect::Execute(request) => panic!("a paused holder executed {request:?}"),
                        _ => {}
                    }
                }
            }
        }
        stale
    }

    /// All runs that are no part of another, oldest first.
    ///
    /// # Panics
    /// The store refuses.
    #[must_use]
    pub fn runs(&self) -> Vec<RunView> {
        let mut all = Vec::new();
        let oldest_first = Sort { by: RunsBy::Created, descending: false };
        let mut asked = PageRequest::first(500).sorted(oldest_first);
        loop {
            let page = self.service.runs(&Actor::local("test"), &RunQuery::default(), &asked);
            let page = page.expect("a page");
            all.extend(page.items);
            asked.after = page.next;
            if asked.after.is_none() {
                return all;
            }
        }
    }

    /// One run.
    ///
    /// # Panics
    /// It is not there.
    #[must_use]
    pub fn run(&self, id: MachineId) -> RunView {
        self.service.run(&Actor::local("test"), self.service.uid(id)).expect("the run")
    }

    /// Everything that was executed, with its moment.
    #[must_use]
    pub fn executions(&self) -> &[(Timestamp, ExecRequest)] {
        &self.executions
    }

    /// Everything the node told.
    #[must_use]
    pub fn notices(&self) -> &[Notice] {
        &self.log
    }

    /// A number drawn from the world's seed.
    #[must_use]
    pub fn draw(&self, below: u64) -> u64 {
        self.entropy.below(below)
    }

    fn living(&self) -> usize {
        let states = vec![RunState::Scheduled, RunState::Ready, RunState::Running, RunState::Waiting];
        let filter = RunFilter { states, ..RunFilter::default() };
        let page = self.store.queries().and_then(|q| q.runs(&filter, None, 1));
        page.expect("a page").items.len()
    }

    fn next_moment(&mut self) -> Option<Timestamp> {
        let due = self.store.next_due().expect("next due").filter(|at| *at != NEVER).map(timestamp);
        // What is due and not taken waits for a slot or a limit, and goes on when something ends.
        let due = due.filter(|at| *at > self.clock.now());
        let end = self.node.ends.keys().next().map(|(at, _)| *at);
        [due, end, self.node.core.next_stop()].into_iter().flatten().min()
    }

    fn pass_to(&mut self, at: Timestamp) {
        let by = Duration::try_from(at.duration_since(self.clock.now())).unwrap_or_default();
        self.clock.advance(by);
        self.node.core.wake();
    }
}

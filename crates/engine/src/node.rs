//! A node: the shell that drives the loop with a real clock, a store's writer and executors.

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::FutureExt;
use ostler_clock::Clock;
use ostler_execution::{
    Cancel, CancelReason, ExecContext, ExecEnd, ExecRequest, Executors, LogSink, ProgressSink, Secrets,
};
use ostler_model::{MachineId, Span};
use ostler_store::{
    Answer, Claimed, Command, Commit, Letter, Micros, NEVER, Next, NodeId, Queries, Reply, StoreError,
    Writer, WriterClosed,
};
use tokio::sync::mpsc;

use crate::{
    core::{Config, Core, Effect, Notice},
    time::timestamp,
};

/// The longest sleep: the wall clock may jump forward meanwhile.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// What a node works with, beside what its loop needs.
pub struct NodeConfig {
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// The writing side of the store.
    pub writer: Writer,
    /// A reading side of the store.
    pub queries: Box<dyn Queries>,
    /// Do the work.
    pub executors: Executors,
    /// Make a place for the output of each attempt.
    pub sinks: Arc<dyn Sinks>,
    /// Give the values of secrets.
    pub secrets: Arc<dyn Secrets>,
    /// After how long without renewal others may take what this node holds.
    pub lease: Span,
    /// How to look whether another process has written; `None`: nobody else does, or nothing of theirs concerns
    /// this node.
    pub poll: Option<Poll>,
    /// Is told what happens.
    pub observer: Arc<dyn Fn(&Notice) + Send + Sync>,
}

/// How to look whether another process has written.
pub struct Poll {
    /// How often.
    pub every: Span,
    /// Whether anybody at all may have written since the call before. It is asked before the store is: it should cost
    /// next to nothing, and may say yes too often.
    pub may_be: Box<dyn FnMut() -> bool + Send>,
}

/// Makes a place for the output of an attempt.
pub trait Sinks: Send + Sync {
    /// The places for one attempt.
    fn open(&self, request: &ExecRequest) -> (Arc<dyn LogSink>, Arc<dyn ProgressSink>);

    /// The attempt has ended; what it wrote should be readable now.
    fn close(&self, request: MachineId);
}

/// Why a node has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// It was told to, and everything it held has ended.
    Drained,
    /// It could not show for too long that it lives; what it held was killed and belongs to others now.
    LeaseLost,
}

enum Post {
    /// A command with its answer, and when it was handed to the store.
    Replied(Command, Result<Reply, StoreError>, Duration),
    Executed(MachineId, u64, ExecEnd),
    Claimed(Box<Claimed>),
    Wake,
    CheckMail,
    NextDue(Option<Micros>),
    DataVersion(i64),
    Drain,
    Interrupt(CancelReason),
}

/// A handle on a running node.
#[derive(Clone)]
pub struct NodeHandle {
    id: NodeId,
    posts: mpsc::UnboundedSender<Post>,
    has_room: Arc<AtomicBool>,
    lease: Lease,
}

/// How long a node may act as one that lives.
#[derive(Clone)]
struct Lease {
    clock: Arc<dyn Clock>,
    length: Span,
    /// Milliseconds of this boot.
    last_renewal: Arc<AtomicU64>,
}

impl Lease {
    /// Three quarters of it have passed: others may soon take what the node holds.
    fn is_lost(&self) -> bool {
        let since = as_millis(self.clock.elapsed()).saturating_sub(self.last_renewal.load(Ordering::Relaxed));
        since > as_millis(self.length.as_duration()) / 4 * 3
    }
}

impl NodeHandle {
    /// The node's id.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Something may be ready.
    pub fn wake(&self) {
        let _ = self.posts.send(Post::Wake);
    }

    /// Letters were written to machines that the node may hold.
    pub fn check_mail(&self) {
        let _ = self.posts.send(Post::CheckMail);
    }

    /// Whether a start may be claimed at once for this node.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.has_room.load(Ordering::Relaxed)
    }

    /// Whether the node has not shown for too long that it lives: it may do nothing more in its own name.
    #[must_use]
    pub fn lease_is_lost(&self) -> bool {
        self.lease.is_lost()
    }

    /// A machine was claimed for this node by its start.
    pub fn claimed(&self, row: Box<Claimed>) {
        let _ = self.posts.send(Post::Claimed(row));
    }

    /// Ends when all that is held has ended; claims nothing more.
    pub fn drain(&self) {
        let _ = self.posts.send(Post::Drain);
    }

    /// Cuts short everything that is being executed.
    pub fn interrupt(&self, reason: CancelReason) {
        let _ = self.posts.send(Post::Interrupt(reason));
    }
}

/// A node, ready to run.
pub struct Node {
    id: NodeId,
    config: NodeConfig,
    core: Core,
    posts: mpsc::UnboundedSender<Post>,
    inbox: mpsc::UnboundedReceiver<Post>,
    cancels: Arc<Mutex<HashMap<MachineId, Cancel>>>,
    has_room: Arc<AtomicBool>,
    next_due: Option<Micros>,
    data_version: Option<i64>,
    lease: Lease,
}

impl Node {
    /// A node and a handle on it.
    #[must_use]
    pub fn new(core: Config, config: NodeConfig) -> (Self, NodeHandle) {
        let (posts, inbox) = mpsc::unbounded_channel();
        let has_room = Arc::new(AtomicBool::new(!core.only_labelled));
        let id = core.node;
        let last_renewal = Arc::new(AtomicU64::new(as_millis(config.clock.elapsed())));
        let lease = Lease { clock: config.clock.clone(), length: config.lease, last_renewal };
        let handle =
            NodeHandle { id, posts: posts.clone(), has_room: has_room.clone(), lease: lease.clone() };
        let node = Self {
            id,
            config,
            core: Core::new(core),
            posts,
            inbox,
            cancels: Arc::default(),
            has_room,
            next_due: None,
            data_version: None,
            lease,
        };
        (node, handle)
    }

    /// Runs until drained or until the lease is lost.
    pub async fn run(mut self) -> Shutdown {
        let pulse = self.start_pulse();
        for executor in self.config.executors.all() {
            let executor = executor.clone();
            tokio::spawn(async move { executor.clear_away().await });
        }
        let mut draining = false;
        let mut buffer = Vec::with_capacity(1024);
        let ended = loop {
            self.turn();
            if draining && self.core.is_idle() {
                break Shutdown::Drained;
            }
            if self.lease.is_lost() {
                (self.config.observer)(&Notice::LeaseLost);
                self.core.interrupt_all(CancelReason::Shutdown);
                self.turn();
                self.core.abandon();
                self.wait_for_executions().await;
                break Shutdown::LeaseLost;
            }
            let (sleep, more) = (self.sleep(), self.core.has_more());
            tokio::select! {
                biased;
                count = self.inbox.recv_many(&mut buffer, 4096) => {
                    if count == 0 {
                        break Shutdown::Drained;
                    }
                    // What else is about to end on this thread may as well end first: one turn for all of it.
                    tokio::task::yield_now().await;
                    while let Ok(post) = self.inbox.try_recv() {
                        buffer.push(post);
                    }
                    for post in buffer.drain(..) {
                        draining |= matches!(post, Post::Drain);
                        self.take(post);
                    }
                }
                () = tokio::task::yield_now(), if more => {}
                () = tokio::time::sleep(sleep), if !more => {
                    // Something is due; or nothing has happened for long, and then a look costs little and would make
                    // good for whatever nobody told us.
                    self.next_due = None;
                    self.core.wake();
                }
            }
        };
        drop(pulse);
        ended
    }

    fn take(&mut self, post: Post) {
        let now = self.config.clock.now();
        match post {
            Post::Replied(command, answer, asked) => {
                if matches!((&command, &answer), (Command::Commit(_), Ok(_))) {
                    let took = self.config.clock.elapsed().saturating_sub(asked);
                    (self.config.observer)(&Notice::Stored { took });
                }
                let cancels = matches!(&command, Command::Commit(commits)
                    if commits.iter().any(|c| c.send.iter().any(|(_, l)| matches!(l, Letter::Cancel { .. }))));
                let claimed = matches!((&command, &answer), (Command::Claim(_), Ok(_)));
                if let (Command::Commit(commits), Ok(_)) = (&command, &answer) {
                    self.next_due = earliest_due(commits).into_iter().chain(self.next_due).min();
                }
                self.core.replied(now, command, answer);
                if cancels {
                    self.check_mail();
                }
                if claimed {
                    self.ask_next_due();
                }
            }
            Post::Executed(id, fence, end) => {
                self.cancels.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
                // After that an end is no word of the work's: it was cut short, by this node or in its stead.
                if !self.lease.is_lost() {
                    self.core.executed(now, id, fence, end);
                }
            }
            Post::Claimed(row) => self.core.claimed(*row),
            Post::Wake => self.core.wake(),
            Post::CheckMail => self.check_mail(),
            Post::NextDue(at) => {
                self.next_due = at;
                if at.is_some_and(|at| at <= now.as_microsecond()) {
                    self.next_due = None;
                    self.core.wake();
                }
            }
            Post::DataVersion(version) => {
                if self.data_version.replace(version).is_some_and(|known| known != version) {
                    self.core.wake();
                    self.check_mail();
                }
            }
            Post::Drain => self.core.drain(),
            Post::Interrupt(reason) => self.core.interrupt_all(reason),
        }
    }

    fn turn(&mut self) {
        let begun = self.config.clock.elapsed();
        let effects = self.core.turn(self.config.clock.now());
        let turned = self.config.clock.elapsed();
        (self.config.observer)(&Notice::Turned { took: turned.saturating_sub(begun) });
        let mut commands: Vec<Command> = Vec::new();
        for effect in effects {
            match effect {
                Effect::Apply(command) => commands.push(command),
                Effect::Execute(request) => self.execute(*request),
                Effect::Interrupt(id, reason) => {
                    if let Some(cancel) = self.cancels.lock().unwrap_or_else(PoisonError::into_inner).get(&id)
                    {
                        cancel.fire(reason);
                    }
                }
                Effect::Notice(notice) => (self.config.observer)(&notice),
            }
        }
        self.has_room.store(self.core.has_room_for_all(), Ordering::Relaxed);
        if commands.is_empty() {
            return;
        }
        let answers = commands
            .iter()
            .map(|_| {
                let posts = self.posts.clone();
                let answer: Answer = Box::new(move |command, reply| {
                    let _ = posts.send(Post::Replied(command, reply, turned));
                });
                answer
            })
            .collect();
        if self.config.writer.post(commands, answers).is_err() {
            tracing::error!("the store's writer has stopped");
        }
    }

    fn execute(&self, request: ExecRequest) {
        if self.lease.is_lost() {
            // It was claimed before this process was stopped, and may be at work elsewhere. The node ends in this turn.
            return;
        }
        let (id, fence) = (request.machine, request.fence);
        let posts = self.posts.clone();
        let Some(executor) = self.config.executors.get(&request.uses).cloned() else {
            let end = self.config.executors.missing(&request.uses);
            let _ = posts.send(Post::Executed(id, fence, end));
            return;
        };
        let cancel = Cancel::new();
        self.cancels.lock().unwrap_or_else(PoisonError::into_inner).insert(id, cancel.clone());
        let (log, progress) = self.config.sinks.open(&request);
        let context = ExecContext { cancel, log, progress, secrets: self.config.secrets.clone() };
        let sinks = self.config.sinks.clone();
        tokio::spawn(async move {
            let end = AssertUnwindSafe(executor.execute(request, context)).catch_unwind().await;
            sinks.close(id);
            let end = end.unwrap_or_else(|_| ExecEnd::error("internal", "the executor panicked"));
            let _ = posts.send(Post::Executed(id, fence, end));
        });
    }

    fn sleep(&self) -> Duration {
        let now = self.config.clock.now();
        let due = self.next_due.map(timestamp);
        let next = [self.core.next_stop(), due].into_iter().flatten().min();
        next.map_or(LONGEST_SLEEP, |at| {
            Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO).min(LONGEST_SLEEP)
        })
    }

    fn ask_next_due(&self) {
        let posts = self.posts.clone();
        let _ = self.config.writer.visit(move |store| {
            if let Ok(at) = store.next_due() {
                let _ = posts.send(Post::NextDue(at));
            }
        });
    }

    fn check_mail(&mut self) {
        let now = self.config.clock.now();
        match self.config.queries.claimed_with_mail(self.id) {
            Ok(found) => {
                for (id, letters) in found {
                    for letter in &letters {
                        self.core.letter(now, id, letter);
                    }
                }
            }
            Err(error) => (self.config.observer)(&Notice::StoreTrouble(error)),
        }
    }

    /// What a node does all the time, at rest too, from a thread of its own: it looks whether others have written, for
    /// which it need not wake a runtime, and it renews its lease at a third of it, so that a busy runtime cannot fake a
    /// death. It ends with what is returned.
    fn start_pulse(&mut self) -> std::sync::mpsc::Sender<()> {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let pulse = Pulse {
            node: self.id,
            writer: self.config.writer.clone(),
            clock: self.config.clock.clone(),
            posts: self.posts.clone(),
            waited: Arc::default(),
            executors: self.config.executors.clone(),
            lease: self.lease.clone(),
            hold: self.config.lease.as_duration() / 10 * 9,
        };
        keep_until(&pulse.executors, self.config.clock.elapsed() + pulse.hold);
        let renew_every = self.config.lease.as_duration() / 3;
        let mut poll = self.config.poll.take();
        let look_every = poll.as_ref().map_or(renew_every, |poll| poll.every.as_duration());
        let spawned = std::thread::Builder::new().name("ostler-pulse".into()).spawn(move || {
            let mut renew_in = renew_every;
            loop {
                if poll.as_mut().is_some_and(|poll| (poll.may_be)()) && pulse.look_for_others().is_err() {
                    return;
                }
                let wait = look_every.min(renew_in);
                let Err(std::sync::mpsc::RecvTimeoutError::Timeout) = stopped.recv_timeout(wait) else {
                    return;
                };
                renew_in -= wait;
                if renew_in.is_zero() {
                    renew_in = renew_every;
                    if pulse.renew().is_err() {
                        return;
                    }
                }
            }
        });
        if let Err(error) = spawned {
            tracing::error!(%error, "no thread for lease renewals");
        }
        stop
    }

    /// After the lease is lost nothing of ours may go on; executors end their processes within their grace.
    async fn wait_for_executions(&mut self) {
        while !self.cancels.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            match self.inbox.recv().await {
                Some(Post::Executed(id, ..)) => {
                    self.cancels.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
                }
                Some(_) => {}
                None => return,
            }
        }
    }
}

/// The earliest moment for which a commit has put something off.
fn earliest_due(commits: &[Commit]) -> Option<Micros> {
    let put_off = |commit: &Commit| match commit.next {
        Next::Stay { until, .. } => Some(until),
        Next::End { .. } => None,
    };
    let moments = commits
        .iter()
        .flat_map(|commit| commit.start.iter().map(|machine| machine.due_at).chain(put_off(commit)));
    moments.filter(|at| *at != NEVER).min()
}

/// What the thread of a node's pulse works with.
struct Pulse {
    node: NodeId,
    writer: Writer,
    clock: Arc<dyn Clock>,
    posts: mpsc::UnboundedSender<Post>,
    /// How long the store took for the last one, in microseconds.
    waited: Arc<AtomicU64>,
    executors: Executors,
    lease: Lease,
    /// How long after a renewal was asked for what is executed may go on, should this process be stopped. The node
    /// itself stops before, and then knows why.
    hold: Duration,
}

/// What is executed may go on until then.
fn keep_until(executors: &Executors, boot: Duration) {
    executors.all().for_each(|executor| executor.keep_until(boot));
}

impl Pulse {
    fn look_for_others(&self) -> Result<(), WriterClosed> {
        let posts = self.posts.clone();
        self.writer.visit(move |store| {
            if let Ok(version) = store.data_version() {
                let _ = posts.send(Post::DataVersion(version));
            }
        })
    }

    fn renew(&self) -> Result<(), WriterClosed> {
        // Counted from before the store was asked: what it grants begins no earlier.
        let asked = self.clock.elapsed();
        let (lease, executors, until) = (self.lease.clone(), self.executors.clone(), asked + self.hold);
        let (clock, waited) = (self.clock.clone(), self.waited.clone());
        let answer: Answer = Box::new(move |_, reply| {
            let took = clock.elapsed().saturating_sub(asked).as_micros();
            waited.store(u64::try_from(took).unwrap_or(u64::MAX), Ordering::Relaxed);
            // One that comes after the node should have ended its work does not count, whatever the store says of the
            // lease: while the node was stopped its work was ended in its stead, and those ends are no words of the
            // work's.
            if reply.is_ok() && !lease.is_lost() {
                lease.last_renewal.fetch_max(as_millis(asked), Ordering::Relaxed);
                keep_until(&executors, until);
            }
        });
        let waited = i64::try_from(self.waited.load(Ordering::Relaxed)).unwrap_or(i64::MAX);
        self.writer.post(vec![Command::Renew { node: self.node, waited }], vec![answer])
    }
}

fn as_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

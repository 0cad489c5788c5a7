//! Duties: what exactly one living node does for all, such as carrying events out or taking messages in.
//!
//! A duty is a row of the store with its node, a fence and a cursor. Each `serve` looks about once a second which of them
//! nobody has, takes those that it knows the work of, and does each in a task of its own. What is written for a duty names
//! its fence, so whoever has lost it without knowing writes nothing. Whoever changes what a duty is made from moves its
//! fence: then it is taken anew, by the changed words. A node that has come to three quarters of its lease drops what it
//! has in hand; a dead one loses its duties with its claims.
//!
//! A duty at rest writes nothing, and a store file that nobody writes to is not read.

use std::{
    collections::{HashMap, HashSet},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use ostler_clock::{Clock, Entropy, SeededEntropy};
use ostler_engine::{NodeHandle, time::micros};
use ostler_model::MachineId;
use ostler_store::{
    Answer, Command, DutyNote, DutyRow, Letter, Micros, Progress, Progressed, Queries, Reply, StoreError,
    Taken, Writer,
};
use ostler_store_sqlite::Changes;
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
};

/// How often it is looked for duties that nobody has.
const LOOK: Duration = Duration::from_secs(1);

/// How long a task may take to come to an end when its node has.
const PATIENCE: Duration = Duration::from_secs(2);

/// Knows what there is to do for some duties.
pub trait Duties: Send + Sync {
    /// The work of a duty by what is on record now; `None` where there is nothing to do, or where it is none of these. Asked
    /// again when the fence of the duty is another one.
    ///
    /// # Errors
    /// The store cannot be read.
    fn work(&self, duty: &str) -> Result<Option<Box<dyn Work>>, StoreError>;
}

/// A task at work.
pub type Doing = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What is to be done for a duty.
pub trait Work: Send {
    /// Does it, from where the cursor of `held` is, until [`Held::ending`] or until it is lost. It is dropped at any await
    /// when there is no time for that. What ends by itself is begun again.
    fn run(self: Box<Self>, held: Held) -> Doing;
}

/// A duty in hand.
pub struct Held {
    taken: Taken,
    node: NodeHandle,
    writer: Writer,
    clock: Arc<dyn Clock>,
    end: watch::Receiver<bool>,
}

/// How far a duty is; what is not said stays as it is.
#[derive(Debug, Default)]
pub struct Step {
    /// Where it goes on.
    pub cursor: Option<String>,
    /// What is to be known of it.
    pub note: Option<DutyNote>,
    /// Letters that go with it, in the same transaction.
    pub send: Vec<(MachineId, Letter)>,
}

/// Why a step was not written.
#[derive(Debug, thiserror::Error)]
pub enum Unwritten {
    /// It is another's now: there is nothing more to do here.
    #[error("the duty is another's now")]
    Lost,
    /// The store's own; the same may be tried again.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Held {
    /// Which.
    #[must_use]
    pub fn duty(&self) -> &str {
        &self.taken.duty
    }

    /// Where it goes on, if anybody has said so.
    #[must_use]
    pub fn cursor(&self) -> Option<&str> {
        self.taken.cursor.as_deref()
    }

    /// What was last noted of it.
    #[must_use]
    pub fn note(&self) -> &DutyNote {
        &self.taken.note
    }

    /// What time it is.
    #[must_use]
    pub fn now(&self) -> Micros {
        micros(self.clock.now())
    }

    /// Whether effects outside may still be made: a node that cannot show that it lives may have been replaced.
    #[must_use]
    pub fn may_go_on(&self) -> bool {
        !*self.end.borrow() && !self.node.lease_is_lost()
    }

    /// Becomes true when it is to be given back.
    #[must_use]
    pub fn end(&self) -> watch::Receiver<bool> {
        self.end.clone()
    }

    /// Waits until it is to be given back.
    pub async fn ending(&mut self) {
        // A keeper that is gone has no use for it either.
        let _ = self.end.wait_for(|end| *end).await;
    }

    /// Says how far it is. All of a step is written, or nothing.
    ///
    /// # Errors
    /// Another has it now, or the store's.
    pub async fn progress(&mut self, step: Step) -> Result<Vec<bool>, Unwritten> {
        let Step { cursor, note, send } = step;
        let letters = !send.is_empty();
        let progress = Progress {
            duty: self.taken.duty.clone(),
            node: self.node.id(),
            fence: self.taken.fence,
            cursor: cursor.clone(),
            note: note.clone(),
            send,
        };
        let (told, answer) = oneshot::channel();
        let tell: Answer = Box::new(move |_, reply| {
            let _ = told.send(reply);
        });
        let gone = |error: &dyn std::fmt::Display| StoreError::Unavailable(error.to_string());
        self.writer.post(vec![Command::Progress(Box::new(progress))], vec![tell]).map_err(|e| gone(&e))?;
        match answer.await.map_err(|e| gone(&e))?? {
            Reply::Progressed(Progressed::Kept { sent }) => {
                self.taken.cursor = cursor.or_else(|| self.taken.cursor.take());
                if let Some(note) = note {
                    self.taken.note = note;
                }
                if letters {
                    self.node.wake();
                    self.node.check_mail();
                }
                Ok(sent)
            }
            _ => Err(Unwritten::Lost),
        }
    }
}

/// Pauses between tries: they grow, and are uneven so that several do not march in step.
#[derive(Debug)]
pub struct Backoff {
    entropy: SeededEntropy,
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// From `first` up to `longest`.
    #[must_use]
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { entropy: SeededEntropy::from_os(), first, longest, next: first }
    }

    /// The next pause: between half of what has come to be its length, and all of it.
    pub fn pause(&mut self) -> Duration {
        let half = self.next / 2;
        self.next = (self.next * 2).min(self.longest);
        let more = self.entropy.below(u64::try_from(half.as_micros()).unwrap_or(u64::MAX));
        half + Duration::from_micros(more)
    }

    /// It went well.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

/// A duty that this node does.
struct Task {
    fence: u64,
    end: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// Looks after the duties of a node.
pub(crate) struct Keeper {
    node: NodeHandle,
    writer: Writer,
    queries: Box<dyn Queries>,
    changes: Changes,
    clock: Arc<dyn Clock>,
    known: Vec<Arc<dyn Duties>>,
    tasks: HashMap<String, Task>,
    /// Duties that nobody has and for which there is nothing to do, with the fences at which that was found.
    idle: HashMap<String, u64>,
    /// The last look did not come to its end.
    again: bool,
}

impl Keeper {
    pub(crate) fn new(
        node: NodeHandle,
        writer: Writer,
        queries: Box<dyn Queries>,
        changes: Changes,
        clock: Arc<dyn Clock>,
        known: Vec<Arc<dyn Duties>>,
    ) -> Self {
        let (tasks, idle) = (HashMap::new(), HashMap::new());
        Self { node, writer, queries, changes, clock, known, tasks, idle, again: false }
    }

    /// Works until it is told to end.
    pub(crate) async fn run(mut self, mut end: oneshot::Receiver<()>) {
        let mut interval = tokio::time::interval(LOOK);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = interval.tick() => {}
                _ = &mut end => break,
            }
            if self.node.lease_is_lost() {
                self.drop_all();
                continue;
            }
            let has_ended = self.tasks.values().any(|t| t.task.is_finished());
            if !(self.changes.may_be() || has_ended || self.again) {
                continue;
            }
            let looked = tokio::task::spawn_blocking(move || {
                let looked = self.look();
                self.again = looked.is_err();
                if let Err(error) = looked {
                    tracing::warn!(%error, "duties were not looked after");
                }
                self
            });
            match looked.await {
                Ok(keeper) => self = keeper,
                Err(error) => {
                    tracing::error!(%error, "duties are not looked after any more");
                    return;
                }
            }
        }
        self.end().await;
    }

    /// Drops what is another's now, gives back what has ended by itself, and takes what nobody has.
    fn look(&mut self) -> Result<(), StoreError> {
        let me = self.node.id();
        let rows = self.queries.duties()?;
        let fences: HashMap<&str, u64> =
            rows.iter().filter(|r| r.node == Some(me)).map(|r| (r.duty.as_str(), r.fence)).collect();
        self.tasks.retain(|duty, task| {
            let is_mine = fences.get(duty.as_str()) == Some(&task.fence);
            if !is_mine {
                task.task.abort();
            }
            is_mine && !task.task.is_finished()
        });
        // Ended by itself, or taken by an answer that never came.
        let left: Vec<(String, u64)> = fences
            .iter()
            .filter(|(duty, _)| !self.tasks.contains_key(**duty))
            .map(|(duty, fence)| ((*duty).to_owned(), *fence))
            .collect();
        if !left.is_empty() {
            self.writer.call(Command::LeaveDuties { node: me, duties: left })?;
        }
        let names: HashSet<&str> = rows.iter().map(|r| r.duty.as_str()).collect();
        self.idle.retain(|duty, _| names.contains(duty.as_str()));
        let mut works = HashMap::new();
        for row in rows.iter().filter(|r| r.node.is_none()) {
            if let Some(work) = self.work(row)? {
                works.insert(row.duty.clone(), (row.fence + 1, work));
            }
        }
        if works.is_empty() {
            return Ok(());
        }
        let duties = works.keys().cloned().collect();
        let Reply::Taken(taken) = self.writer.call(Command::TakeDuties { node: me, duties })? else {
            return Ok(());
        };
        for taken in taken {
            // One whose fence has moved meanwhile is made from other words: it is left at the next look.
            if let Some((fence, work)) = works.remove(&taken.duty)
                && fence == taken.fence
            {
                self.begin(taken, work);
            }
        }
        Ok(())
    }

    fn work(&mut self, row: &DutyRow) -> Result<Option<Box<dyn Work>>, StoreError> {
        if self.idle.get(&row.duty) == Some(&row.fence) {
            return Ok(None);
        }
        for duties in &self.known {
            if let Some(work) = duties.work(&row.duty)? {
                self.idle.remove(&row.duty);
                return Ok(Some(work));
            }
        }
        self.idle.insert(row.duty.clone(), row.fence);
        Ok(None)
    }

    fn begin(&mut self, taken: Taken, work: Box<dyn Work>) {
        tracing::debug!(duty = %taken.duty, cursor = ?taken.cursor, "this node has a duty");
        let (end, ended) = watch::channel(false);
        let (duty, fence) = (taken.duty.clone(), taken.fence);
        let held = Held {
            taken,
            node: self.node.clone(),
            writer: self.writer.clone(),
            clock: self.clock.clone(),
            end: ended,
        };
        self.tasks.insert(duty, Task { fence, end, task: tokio::spawn(work.run(held)) });
    }

    fn drop_all(&mut self) {
        for (duty, task) in self.tasks.drain() {
            tracing::warn!(%duty, "a duty is dropped: this node could not show in time that it lives");
            task.task.abort();
        }
    }

    /// Lets what is done come to an end; the node is about to be closed, which gives all of it back.
    async fn end(self) {
        for task in self.tasks.values() {
            let _ = task.end.send(true);
        }
        let until = tokio::time::Instant::now() + PATIENCE;
        for (duty, mut task) in self.tasks {
            if tokio::time::timeout_at(until, &mut task.task).await.is_err() {
                tracing::debug!(%duty, "a duty took too long to come to an end");
                task.task.abort();
            }
        }
    }
}

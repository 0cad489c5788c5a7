//! The loop, without I/O: claim what is due, tick it, commit the outcome.
//!
//! [`Core`] is told what happened (replies of the store, ends of executions, letters, the time) and answers with
//! [`Effect`]s. It reads no clock and starts no thread: the shell in [`crate::node`] drives it for real, the
//! simulation drives it with a seed.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use ostler_execution::{CancelReason, ExecEnd, ExecRequest};
use ostler_model::{MachineId, Span};
use ostler_store::{Claim, Claimed, Command, Commit, CommitOutcome, Letter, Next, NodeId, Reply, StoreError};

use crate::{
    machine::{Decision, Execution, Input},
    ticker::{Ticker, commit},
    time::{after, micros},
};

/// Machines that take no slot, claimed in one go.
const LIGHT_CLAIMS: u32 = 256;

/// So many claims in a row may take light machines alone.
const LIGHT_FIRST: u32 = 8;

/// Machines ticked in one turn: while the loop ticks the next ones, the store writes what came of these.
const TICKS: usize = 256;

/// How long the loop waits before it tries a refused store again.
const STORE_RETRY: Span = Span::from_millis(500);

/// What the loop needs to know once.
pub struct Config {
    /// Who claims.
    pub node: NodeId,
    /// Whether it claims what no node calls its own.
    pub shared: bool,
    /// How many executions at a time.
    pub slots: u32,
    /// What the node has: it takes what asks for no other label.
    pub labels: Vec<String>,
    /// And carries out nothing that asks for none.
    pub only_labelled: bool,
    /// Ticks what was claimed.
    pub ticker: Arc<Ticker>,
}

/// Something the shell must do.
#[derive(Debug)]
pub enum Effect {
    /// Hand this to the store and give [`Core::replied`] the command and its answer.
    Apply(Command),
    /// Carry this out and give [`Core::executed`] its end.
    Execute(Box<ExecRequest>),
    /// Cut an execution short.
    Interrupt(MachineId, CancelReason),
    /// Something that onlookers may want to know.
    Notice(Notice),
}

/// Something that onlookers may want to know. What is told of machines is told after the fact is on disk, except
/// `Executing` and `Executed`.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// An attempt begins.
    Executing {
        /// The run.
        id: MachineId,
        /// The machine it is a part of.
        parent: Option<MachineId>,
        /// Its namespace.
        namespace: Arc<str>,
        /// The attempt.
        attempt: u32,
        /// Task and step.
        task: String,
        /// Which step.
        step: String,
        /// How long ago it was due.
        lag: Duration,
    },
    /// An attempt has ended; what comes of it is not on record yet.
    Executed {
        /// Its namespace.
        namespace: Arc<str>,
        /// How long it took.
        took: Duration,
    },
    /// The store has taken commits.
    Stored {
        /// How long it took, from the loop and back.
        took: Duration,
    },
    /// The loop has made a turn.
    Turned {
        /// How long it took.
        took: Duration,
    },
    /// A machine was taken over: the node that held it died or lost its lease.
    Lost {
        /// Its namespace.
        namespace: Arc<str>,
    },
    /// The node could not show for too long that it lives: what it held is others' now.
    LeaseLost,
    /// A machine has moved on.
    Committed {
        /// Which.
        id: MachineId,
        /// Its namespace.
        namespace: Arc<str>,
        /// The machine it is a part of.
        parent: Option<MachineId>,
        /// Its final state code, or `None` while it lives.
        ended: Option<i64>,
        /// The event's word.
        event: String,
        /// The event's body.
        body: String,
    },
    /// A commit came too late: the machine had moved on.
    Stale {
        /// Which.
        id: MachineId,
    },
    /// The store refused for now.
    StoreTrouble(StoreError),
}

struct Held {
    row: Claimed,
    /// It takes one of the node's slots.
    slot: bool,
    execution: Option<Executing>,
}

struct Executing {
    started: Timestamp,
    stop_at: Option<Timestamp>,
    interrupted: Option<CancelReason>,
    /// What a letter that cancels says.
    reason: Option<String>,
}

/// The loop's state.
pub struct Core {
    config: Config,
    held: HashMap<MachineId, Held>,
    /// Claimed and not ticked yet.
    backlog: VecDeque<MachineId>,
    /// Slots that are taken, by what executes and by what is about to.
    taken: u32,
    stops: BTreeSet<(Timestamp, MachineId)>,
    commits: Vec<Commit>,
    /// Claimed beyond the slots, with their fences; to be given back.
    surplus: Vec<(MachineId, u64)>,
    hungry: bool,
    /// Claims in a row that brought as many light machines as they asked for.
    full_light: u32,
    claiming: bool,
    draining: bool,
    store_retry_at: Option<Timestamp>,
    effects: Vec<Effect>,
}

impl Core {
    /// A loop that holds nothing and wants work.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            held: HashMap::new(),
            backlog: VecDeque::new(),
            taken: 0,
            stops: BTreeSet::new(),
            commits: Vec::new(),
            surplus: Vec::new(),
            hungry: true,
            full_light: 0,
            claiming: false,
            draining: false,
            store_retry_at: None,
            effects: Vec::new(),
        }
    }

    /// Something may be ready: look at the next [`Core::turn`].
    pub fn wake(&mut self) {
        self.hungry = true;
    }

    /// Claims nothing more; what is held is brought to its end.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Whether nothing is held any more.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.held.is_empty() && self.commits.is_empty() && self.surplus.is_empty()
    }

    /// Whether another execution could begin at once.
    #[must_use]
    pub fn has_room(&self) -> bool {
        !self.draining && self.taken < self.config.slots
    }

    /// Whether what asks for no label could begin at once.
    #[must_use]
    pub fn has_room_for_all(&self) -> bool {
        self.has_room() && !self.config.only_labelled
    }

    /// Whether another turn has something to do although nothing happens.
    #[must_use]
    pub fn has_more(&self) -> bool {
        let to_write = !self.commits.is_empty() || !self.surplus.is_empty();
        !self.backlog.is_empty() || (to_write && self.store_retry_at.is_none())
    }

    /// Machines held, for tests and shutdown.
    pub fn held(&self) -> impl Iterator<Item = (MachineId, u64)> + '_ {
        self.held.iter().map(|(id, held)| (*id, held.row.fence))
    }

    /// When the loop wants a turn although nothing happens: the next timeout or retry of the store.
    #[must_use]
    pub fn next_stop(&self) -> Option<Timestamp> {
        [self.stops.first().map(|(at, _)| *at), self.store_retry_at].into_iter().flatten().min()
    }

    /// One turn: cuts short what is over time, sends commits, claims, and ticks some of what was claimed. Returns
    /// everything to be done, this and what earlier calls left. While [`Core::has_more`], there should be another turn.
    pub fn turn(&mut self, now: Timestamp) -> Vec<Effect> {
        while let Some((at, id)) = self.stops.first().copied().filter(|(at, _)| *at <= now) {
            self.stops.remove(&(at, id));
            self.interrupt(id, CancelReason::TimedOut);
        }
        if self.store_retry_at.is_some_and(|at| at <= now) {
            self.store_retry_at = None;
        }
        if self.store_retry_at.is_none() {
            if !self.commits.is_empty() {
                self.effects.push(Effect::Apply(Command::Commit(std::mem::take(&mut self.commits))));
            }
            if !self.surplus.is_empty() {
                let machines = std::mem::take(&mut self.surplus);
                self.effects.push(Effect::Apply(Command::Release { node: self.config.node, machines }));
            }
            if self.hungry && !self.claiming && !self.draining {
                self.claiming = true;
                self.hungry = false;
                // What is due goes on record before what was fired begins, as long as that is no flood.
                let light_first = self.full_light > 0 && self.full_light <= LIGHT_FIRST;
                let free = self.config.slots.saturating_sub(self.taken);
                self.effects.push(Effect::Apply(Command::Claim(Claim {
                    node: self.config.node,
                    want: if light_first { 0 } else { free },
                    light: LIGHT_CLAIMS,
                    shared: self.config.shared,
                    labels: self.config.labels.clone(),
                    only_labelled: self.config.only_labelled,
                })));
            }
        }
        self.work_off(now, TICKS);
        std::mem::take(&mut self.effects)
    }

    /// The store has answered.
    pub fn replied(&mut self, now: Timestamp, command: Command, answer: Result<Reply, StoreError>) {
        match (command, answer) {
            (Command::Claim(claim), Ok(Reply::Claimed(rows))) => {
                self.claiming = false;
                let light = rows.iter().filter(|row| row.light).count() as u32;
                let others = rows.len() as u32 - light;
                let is_full = light >= claim.light;
                self.full_light = match is_full {
                    true if self.full_light <= LIGHT_FIRST => self.full_light + 1,
                    // Others had their turn.
                    true => 1,
                    false => 0,
                };
                let held_back = claim.want == 0 && self.has_room();
                self.hungry |= is_full || held_back || (others > 0 && others >= claim.want);
                for row in rows {
                    self.claimed(row);
                }
            }
            (Command::Commit(commits), Ok(Reply::Committed(outcomes))) => {
                for (commit, outcome) in commits.into_iter().zip(outcomes) {
                    self.committed(commit, &outcome);
                }
            }
            (command, Err(error)) => {
                self.store_retry_at = Some(after(now, STORE_RETRY));
                self.effects.push(Effect::Notice(Notice::StoreTrouble(error)));
                match command {
                    Command::Claim(_) => {
                        self.claiming = false;
                        self.hungry = true;
                    }
                    // What was decided stays decided; the fence says whether it still counts when it gets through.
                    Command::Commit(mut commits) => {
                        commits.append(&mut self.commits);
                        self.commits = commits;
                    }
                    Command::Release { machines, .. } => self.surplus.extend(machines),
                    _ => {}
                }
            }
            _ => {}
        }
    }

    /// A row was claimed for this node; a turn will tick it. Starts that are claimed at once can be more than there are
    /// slots, since nobody waits for the loop to count them: what is too much is given back.
    pub fn claimed(&mut self, row: Claimed) {
        let id = row.id;
        if !row.light && self.taken >= self.config.slots {
            self.surplus.push((id, row.fence));
            return;
        }
        let slot = !row.light;
        self.taken += u32::from(slot);
        self.backlog.push_back(id);
        self.held.insert(id, Held { row, slot, execution: None });
    }

    /// Ticks the next machines of the backlog.
    fn work_off(&mut self, now: Timestamp, at_most: usize) {
        for _ in 0..at_most {
            let Some(id) = self.backlog.pop_front() else { return };
            let Some(held) = self.held.get_mut(&id) else { continue };
            if held.row.lost {
                self.effects.push(Effect::Notice(Notice::Lost { namespace: held.row.namespace.clone() }));
            }
            let decision = self.config.ticker.tick(now, &held.row, Input::Due);
            self.taken -= u32::from(held.slot);
            held.slot = matches!(decision, Decision::Execute(_));
            self.taken += u32::from(held.slot);
            match decision {
                Decision::Execute(work) => {
                    held.execution = Some(Executing {
                        started: now,
                        stop_at: work.stop_at,
                        interrupted: None,
                        reason: None,
                    });
                    if let Some(at) = work.stop_at {
                        self.stops.insert((at, id));
                    }
                    self.effects.push(Effect::Notice(Notice::Executing {
                        id,
                        parent: held.row.parent,
                        namespace: held.row.namespace.clone(),
                        attempt: work.request.attempt,
                        task: work.request.task.clone(),
                        step: work.request.step.clone(),
                        lag: Duration::from_micros(
                            micros(now).saturating_sub(held.row.due_at).max(0).unsigned_abs(),
                        ),
                    }));
                    self.effects.push(Effect::Execute(Box::new(work.request)));
                }
                Decision::Commit(change) => {
                    // A slot that was kept for it is free again.
                    self.hungry |= !held.row.light;
                    self.commits.push(commit(self.config.node, &held.row, *change));
                }
            }
        }
    }

    /// An execution has ended. One of an older claim, or of a machine that is not held any more, is dropped.
    pub fn executed(&mut self, now: Timestamp, id: MachineId, fence: u64, end: ExecEnd) {
        let Some(held) = self.held.get_mut(&id).filter(|held| held.row.fence == fence) else { return };
        let Some(executing) = held.execution.take() else { return };
        if let Some(at) = executing.stop_at {
            self.stops.remove(&(at, id));
        }
        self.taken -= u32::from(std::mem::take(&mut held.slot));
        self.hungry = true;
        let Executing { started, interrupted, reason, .. } = executing;
        let took = Duration::try_from(now.duration_since(started)).unwrap_or_default();
        self.effects.push(Effect::Notice(Notice::Executed { namespace: held.row.namespace.clone(), took }));
        let execution = Execution { end, interrupted, reason, started };
        self.commits.push(self.config.ticker.executed(now, self.config.node, &held.row, &execution));
    }

    /// A letter has come for a machine that this node holds.
    pub fn letter(&mut self, now: Timestamp, id: MachineId, letter: &Letter) {
        if let Letter::Cancel { reason } = letter {
            // What waits for its tick was claimed before the letter came, and would not see it.
            self.work_off(now, self.backlog.len());
            if let Some(execution) = self.held.get_mut(&id).and_then(|h| h.execution.as_mut()) {
                execution.reason.get_or_insert_with(|| reason.clone());
            }
            self.interrupt(id, CancelReason::Cancelled);
        }
    }

    /// Cuts short everything that is being executed: the lease is lost, or the node must go down now.
    pub fn interrupt_all(&mut self, reason: CancelReason) {
        let ids: Vec<_> =
            self.held.iter().filter(|(_, h)| h.execution.is_some()).map(|(id, _)| *id).collect();
        for id in ids {
            self.interrupt(id, reason);
        }
    }

    /// Forgets everything held: the lease has been lost, others may have it, and no commit of it would count.
    pub fn abandon(&mut self) {
        self.held.clear();
        self.backlog.clear();
        self.stops.clear();
        self.commits.clear();
        self.surplus.clear();
        self.taken = 0;
    }

    fn interrupt(&mut self, id: MachineId, reason: CancelReason) {
        if let Some(execution) = self.held.get_mut(&id).and_then(|h| h.execution.as_mut())
            && (execution.interrupted.is_none() || reason == CancelReason::Kill)
        {
            execution.interrupted.get_or_insert(reason);
            self.effects.push(Effect::Interrupt(id, reason));
        }
    }

    fn committed(&mut self, commit: Commit, outcome: &CommitOutcome) {
        let held = self.held.get(&commit.id);
        let parent = held.and_then(|held| held.row.parent);
        let namespace = held.map_or_else(|| Arc::from(""), |held| held.row.namespace.clone());
        if held.is_some_and(|held| held.row.fence == commit.fence) {
            self.held.remove(&commit.id);
        }
        match outcome {
            CommitOutcome::Committed { .. } => {
                let ended = match commit.next {
                    Next::End { state } => Some(state),
                    Next::Stay { .. } => None,
                };
                // Children and letters make others ready, a full limit may have room again; and a machine that stays is
                // ready at once when a letter came while it was held, which only the store knows.
                self.hungry = true;
                self.effects.push(Effect::Notice(Notice::Committed {
                    id: commit.id,
                    namespace,
                    parent,
                    ended,
                    event: commit.event.kind,
                    body: commit.event.body,
                }));
            }
            CommitOutcome::Conflict { .. } => {
                self.effects.push(Effect::Notice(Notice::Stale { id: commit.id }));
            }
        }
    }
}

#[cfg(test)]
mod tests;

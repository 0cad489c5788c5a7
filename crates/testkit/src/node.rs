//! A node of the world: its loop, and what comes about between two turns of it.
//!
//! As in the real shell, commands wait until the store gets to them, and answers, ends and letters wait until the loop
//! turns and takes all of them. How many of them come about before a turn, and in which order, is drawn from the seed:
//! commands keep their order, everything else may overtake. A world without a seed takes its turn when nothing waits.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use jiff::Timestamp;
use ostler_clock::{Clock, Entropy, FakeClock, SeededEntropy};
use ostler_engine::{Config, Core, Effect, Ticker, machines, time::micros};
use ostler_execution::{ExecEnd, ExecRequest};
use ostler_model::MachineId;
use ostler_service::TaskCache;
use ostler_store::{Command, NewNode, NodeId, Reply, Store, StoreError};

use crate::world::{Crash, SharedStore, World};

/// After how many happenings, on average, the loop turns although more could come about.
const BEFORE_A_TURN: u64 = 3;

pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) core: Core,
    /// Ends of executions by moment; the number keeps the order of those that fall together.
    pub(crate) ends: BTreeMap<(Timestamp, u64), (MachineId, u64, ExecEnd)>,
    deaf: Vec<MachineId>,
    /// What the store has not got to yet.
    posted: VecDeque<Command>,
    /// What has come about since the last turn.
    inbox: Vec<Post>,
    /// Letters may have come for what it holds, and it does not know yet.
    has_mail: bool,
}

enum Post {
    Replied(Command, Result<Reply, StoreError>),
    Executed(MachineId, u64, ExecEnd),
    CheckMail,
}

/// What can come about next.
#[derive(Clone, Copy)]
enum Happening {
    Applies,
    Ends,
    Mail,
}

impl World {
    /// Does everything that is due now.
    ///
    /// # Panics
    /// The loop rests although there is something for it to do: it has lost a wake-up.
    pub(crate) fn settle(&mut self) {
        // Whoever changes something tells the node.
        self.node.core.wake();
        loop {
            self.come_about();
            for post in std::mem::take(&mut self.node.inbox) {
                self.take(post);
            }
            let effects = self.node.core.turn(self.clock.now());
            if effects.is_empty() && !self.node.core.has_more() && self.happenings().is_empty() {
                break;
            }
            for effect in effects {
                self.carry_out(effect);
            }
        }
        self.nothing_is_left();
    }

    /// Lets things come about until the loop turns.
    fn come_about(&mut self) {
        loop {
            let possible = self.happenings();
            let draw = |below: usize| self.pace.as_ref().map_or(0, |pace| pace.below(below as u64) as usize);
            match possible.get(draw(possible.len().max(1))) {
                None => return,
                Some(Happening::Applies) => self.apply_next(),
                Some(Happening::Ends) => {
                    if let Some((_, (id, fence, end))) = self.node.ends.pop_first() {
                        self.node.deaf.retain(|d| *d != id);
                        self.node.inbox.push(Post::Executed(id, fence, end));
                    }
                }
                Some(Happening::Mail) => {
                    self.node.has_mail = false;
                    self.node.inbox.push(Post::CheckMail);
                }
            }
            if self.pace.as_ref().is_some_and(|pace| pace.below(BEFORE_A_TURN) == 0) {
                return;
            }
        }
    }

    fn happenings(&self) -> Vec<Happening> {
        let now = self.clock.now();
        let ends = self.node.ends.first_key_value().is_some_and(|((at, _), _)| *at <= now);
        let all = [
            (!self.node.posted.is_empty(), Happening::Applies),
            (ends, Happening::Ends),
            (self.node.has_mail, Happening::Mail),
        ];
        all.into_iter().filter(|(is_possible, _)| *is_possible).map(|(_, happening)| happening).collect()
    }

    /// The store gets to the next command, or the node crashes on it.
    fn apply_next(&mut self) {
        let Some(command) = self.node.posted.pop_front() else { return };
        self.applies += 1;
        let crash = self.crash.take_if(|(at, _)| *at == self.applies).map(|(_, crash)| crash);
        if crash == Some(Crash::Before) {
            self.crash();
            return;
        }
        let now = micros(self.clock.now());
        let reply = self.store.apply(now, std::slice::from_ref(&command)).remove(0);
        if crash == Some(Crash::After) {
            self.crash();
            return;
        }
        self.node.inbox.push(Post::Replied(command, reply));
    }

    fn take(&mut self, post: Post) {
        let now = self.clock.now();
        match post {
            Post::Replied(command, reply) => {
                self.node.core.replied(now, command, reply);
                self.mail_has_come();
            }
            Post::Executed(id, fence, end) => self.node.core.executed(now, id, fence, end),
            Post::CheckMail => self.deliver_letters(),
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        let now = self.clock.now();
        match effect {
            Effect::Apply(command) => self.node.posted.push_back(command),
            Effect::Execute(request) => self.execute(now, *request),
            Effect::Interrupt(id, _) => {
                if self.node.deaf.contains(&id) {
                    return;
                }
                if let Some(key) = self.node.ends.iter().find(|(_, end)| end.0 == id).map(|(key, _)| *key)
                    && let Some((id, fence, _)) = self.node.ends.remove(&key)
                {
                    self.node.ends.insert((now, key.1), (id, fence, ExecEnd::interrupted()));
                }
            }
            Effect::Notice(notice) => self.log.push(notice),
        }
    }

    fn execute(&mut self, now: Timestamp, request: ExecRequest) {
        let behaviour = (self.script)(&request);
        self.order += 1;
        let at = now.saturating_add(jiff::SignedDuration::try_from(behaviour.takes).expect("short"));
        let at = at.unwrap_or(Timestamp::MAX);
        if behaviour.deaf {
            self.node.deaf.push(request.machine);
        }
        self.node.ends.insert((at, self.order), (request.machine, request.fence, behaviour.end));
        self.executions.push((now, request));
    }

    /// Letters may have come for what the node holds.
    pub(crate) fn mail_has_come(&mut self) {
        match self.pace {
            None => self.deliver_letters(),
            Some(_) => self.node.has_mail = true,
        }
    }

    fn deliver_letters(&mut self) {
        let found = self.store.queries().and_then(|q| q.claimed_with_mail(self.node.id)).expect("letters");
        for (id, letters) in found {
            for letter in letters {
                self.node.core.letter(self.clock.now(), id, &letter);
            }
        }
    }

    /// Asks the store once more, as a node does that has heard of nothing for long.
    fn nothing_is_left(&mut self) {
        let now = self.clock.now();
        self.node.core.wake();
        for effect in self.node.core.turn(now) {
            let Effect::Apply(command) = effect else { panic!("{effect:?} at rest") };
            let reply = self.store.apply(micros(now), std::slice::from_ref(&command)).remove(0);
            if let Ok(Reply::Claimed(rows)) = &reply {
                assert!(rows.is_empty(), "the loop rested, and these were ready: {rows:#?}");
            }
            self.node.core.replied(now, command, reply);
        }
    }

    pub(crate) fn fresh_node(&mut self) -> Node {
        new_node(&mut self.store, &self.clock, &self.entropy, &self.tasks, self.slots)
    }
}

pub(crate) fn new_node(
    store: &mut SharedStore,
    clock: &FakeClock,
    entropy: &Arc<SeededEntropy>,
    tasks: &Arc<TaskCache>,
    slots: u32,
) -> Node {
    let register = NewNode { name: "test".into(), owner: true, slots, ..NewNode::default() };
    let register = Command::Register(register);
    let id = match store.apply(micros(clock.now()), &[register]).remove(0) {
        Ok(Reply::Node(id)) => id,
        other => panic!("{other:?}"),
    };
    let presets = tasks.clone();
    let ticker = Ticker::new(
        &machines::all(Arc::new(move |ns, name| presets.preset(ns, name))),
        store.queries().expect("queries").salt(),
        tasks.clone(),
        entropy.clone(),
        Arc::new(|uses| matches!(uses, "http" | "sql")),
    );
    let (labels, only_labelled) = (Vec::new(), false);
    let config = Config { node: id, shared: true, slots, labels, only_labelled, ticker: Arc::new(ticker) };
    Node {
        id,
        core: Core::new(config),
        ends: BTreeMap::new(),
        deaf: Vec::new(),
        posted: VecDeque::new(),
        inbox: Vec::new(),
        has_mail: false,
    }
}

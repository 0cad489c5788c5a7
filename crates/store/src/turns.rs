//! Whose turn it is: how a claim divides what it wants among namespaces, in every store.
//!
//! A namespace's account is the time that slots have spent on it, divided by its weight; the one with the least goes
//! first. A row is charged when it is claimed, with what such rows took lately, and settled with what it took when its
//! end is committed. A namespace that was away comes back with no more credit than [`CREDIT`].
//!
//! Inside a namespace the first class goes first, except that every other class that waits gets a sixteenth of the
//! namespace's time; inside a class lanes take turns.
//!
//! Kept in memory by each node: to write it would cost a row in each claim. What other nodes have spent is told to
//! [`Turns::hear`].

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap, VecDeque},
};

use crate::Micros;

/// How far behind the others one that was away may begin. It is what it may take before they have their turn again.
pub const CREDIT: Micros = 1_000_000;

/// What a row is charged before any of its sort has ended. Rather too much: that is put right as soon as it ends, and
/// too little only then.
const FIRST_GUESS: Micros = 100_000;

/// What the least costs that can be claimed: the rows that are written for it.
const LEAST: Micros = 20;

/// A class that is not the first of its namespace gets one part in so many: more than the 5 % that are promised.
const FLOOR: Micros = 16;

/// A new measurement counts one part in so many in the mean.
const MEMORY: Micros = 8;

/// Of what other nodes have spent on a namespace counts at most so much, in twentieths of what the least served one has
/// had here meanwhile: a namespace that has its share elsewhere still gets a twentieth of it here.
const HEARD: i128 = 19;

/// Accounts that are remembered at most.
const REMEMBERED: usize = 50_000;

/// Virtual time, in millionths of a microsecond, so that the least charge counts at any weight.
const UNIT: i128 = 1_000_000;

/// What namespaces have had.
#[derive(Debug, Default)]
pub struct Turns {
    accounts: HashMap<i64, Account>,
    /// What the least served one of those that waited had at the last claim.
    least: i128,
    /// What it had when others were last heard of.
    heard_at: i128,
    /// Walks over all lanes that have been made, by the labels of those for whom.
    walks: HashMap<Vec<String>, u64>,
}

#[derive(Clone, Debug)]
struct Account {
    /// Time spent on it by its weight.
    virtual_time: i128,
    weight: Micros,
    /// Time spent on it.
    spent: Micros,
    classes: BTreeMap<i64, Class>,
    /// For whom it was last found waiting, and in which of their walks.
    found: (Vec<String>, u64),
    /// What other nodes have not been told of `spent`.
    untold: Micros,
}

/// The rows of one priority in a namespace.
#[derive(Clone, Debug, Default)]
struct Class {
    /// What they took lately.
    mean: Option<Micros>,
    /// It has had its part of what its namespace had spent then; each of its own rows moves this on.
    had_upto: Micros,
    /// Claimed rows that were its part.
    parts: u32,
    /// The lane that was served last.
    last: i64,
    /// In which walk it was last found waiting.
    found: u64,
}

/// A lane with ready rows.
#[derive(Clone, Copy, Debug)]
pub struct Waiting<L> {
    /// Whose.
    pub namespace: i64,
    /// Its namespace's weight.
    pub weight: u32,
    /// Rank of the priority.
    pub class: i64,
    /// The lane's row.
    pub key: i64,
    /// The lane.
    pub lane: L,
}

/// Lanes with ready rows that are served one after the other.
#[derive(Debug)]
pub struct Queues<L>(Vec<Queue<L>>);

#[derive(Debug)]
struct Queue<L> {
    namespace: i64,
    classes: BTreeMap<i64, VecDeque<Waiting<L>>>,
}

/// So many rows of a lane.
#[derive(Debug)]
pub struct Turn<L> {
    /// Which.
    pub of: Waiting<L>,
    /// At most so many.
    pub count: usize,
    /// They are its class's part, behind another one that goes first.
    as_part: bool,
}

impl<L> Queues<L> {
    /// Whether no lane is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes out the lanes that are next, as if `want` rows were claimed one by one.
    pub fn deal(&mut self, turns: &Turns, want: usize) -> Vec<Turn<L>> {
        let mut accounts: Vec<Account> = self.0.iter().map(|queue| turns.account(queue.namespace)).collect();
        let mut order: BinaryHeap<_> =
            accounts.iter().enumerate().map(|(i, account)| Reverse((account.virtual_time, i))).collect();
        let mut counts: Vec<((usize, i64), usize)> = Vec::new();
        let mut places: HashMap<(usize, i64), usize> = HashMap::new();
        let mut left = want;
        while left > 0
            && let Some(Reverse((_, index))) = order.pop()
        {
            let account = &mut accounts[index];
            let others = order.peek().map(|Reverse((virtual_time, _))| *virtual_time);
            let Some((class, rows)) = account.next(self.0[index].classes.keys().copied(), others) else {
                continue;
            };
            let rows = rows.min(left);
            account.charge(class, rows, self.0[index].comes_later(class));
            left -= rows;
            order.push(Reverse((account.virtual_time, index)));
            let place = *places.entry((index, class)).or_insert_with(|| {
                counts.push(((index, class), 0));
                counts.len() - 1
            });
            counts[place].1 += rows;
        }
        let parts: Vec<bool> =
            counts.iter().map(|((index, class), _)| self.0[*index].comes_later(*class)).collect();
        let dealt = counts.into_iter().zip(parts).filter_map(|(((index, class), count), as_part)| {
            self.0[index].pop(class).map(|of| Turn { of, count, as_part })
        });
        let dealt = dealt.collect();
        self.0.retain(|queue| !queue.classes.is_empty());
        dealt
    }

    /// Puts a lane back in which there may be more; others of its class come first.
    pub fn put_back(&mut self, lane: Waiting<L>) {
        let known = self.0.iter_mut().find(|queue| queue.namespace == lane.namespace);
        match known {
            Some(queue) => queue.classes.entry(lane.class).or_default().push_back(lane),
            None => self.0.push(Queue {
                namespace: lane.namespace,
                classes: BTreeMap::from([(lane.class, VecDeque::from([lane]))]),
            }),
        }
    }
}

impl<L> Queue<L> {
    /// Whether another class goes before it.
    fn comes_later(&self, class: i64) -> bool {
        self.classes.keys().next() != Some(&class)
    }

    fn pop(&mut self, class: i64) -> Option<Waiting<L>> {
        let lanes = self.classes.get_mut(&class)?;
        let first = lanes.pop_front();
        if lanes.is_empty() {
            self.classes.remove(&class);
        }
        first
    }
}

impl Account {
    fn new(virtual_time: i128) -> Self {
        Self {
            virtual_time,
            weight: 1,
            spent: 0,
            classes: BTreeMap::new(),
            found: (Vec::new(), 0),
            untold: 0,
        }
    }

    /// What a row of a class is expected to take.
    fn estimate(&self, class: i64) -> Micros {
        let mean = self.classes.get(&class).and_then(|class| class.mean);
        mean.unwrap_or(FIRST_GUESS).max(LEAST)
    }

    fn virtual_of(&self, time: Micros) -> i128 {
        i128::from(time) * UNIT / i128::from(self.weight)
    }

    /// The class that is next among those that wait, and for how many rows: until another one, or a namespace that
    /// has had `others`, comes before it.
    fn next(&self, mut waiting: impl Iterator<Item = i64>, others: Option<i128>) -> Option<(i64, usize)> {
        let first = waiting.next()?;
        let each = self.estimate(first);
        let mut rows = match others {
            None => i64::MAX,
            Some(others) => {
                let ahead = (others - self.virtual_time).max(0) / self.virtual_of(each);
                i64::try_from(ahead).unwrap_or(i64::MAX).saturating_add(1)
            }
        };
        for class in waiting {
            let had_upto = self.classes.get(&class).map_or(self.spent, |class| class.had_upto);
            let missing = had_upto.saturating_add(FLOOR * self.estimate(class)) - self.spent;
            if missing <= 0 {
                return Some((class, 1));
            }
            rows = rows.min(missing / each + 1);
        }
        Some((first, usize::try_from(rows).unwrap_or(usize::MAX)))
    }

    /// Rows of a class are claimed, as its part or because it is the first.
    fn charge(&mut self, class: i64, rows: usize, as_part: bool) -> Micros {
        let each = self.estimate(class);
        let rows = i64::try_from(rows).unwrap_or(i64::MAX);
        self.spend(each.saturating_mul(rows));
        let spent = self.spent;
        let class = self.classes.entry(class).or_default();
        if as_part {
            let part = FLOOR.saturating_mul(each).saturating_mul(rows);
            class.had_upto = class.had_upto.saturating_add(part);
            class.parts = class.parts.saturating_add(u32::try_from(rows).unwrap_or(u32::MAX));
        } else {
            class.had_upto = spent;
            class.parts = 0;
        }
        each
    }

    fn spend(&mut self, time: Micros) {
        self.virtual_time += self.virtual_of(time);
        self.spent = self.spent.saturating_add(time);
        self.untold = self.untold.saturating_add(time);
    }

    fn settle(&mut self, class: i64, charged: Micros, took: Micros) {
        let took = took.max(LEAST);
        self.spend(took - charged);
        let class = self.classes.entry(class).or_default();
        let mean = class.mean.unwrap_or(took);
        class.mean = Some(mean + (took - mean) / MEMORY);
        if class.parts > 0 {
            class.parts -= 1;
            class.had_upto = class.had_upto.saturating_add(FLOOR.saturating_mul(took - charged));
        }
    }
}

impl Turns {
    /// A copy of an account.
    fn account(&self, namespace: i64) -> Account {
        self.accounts.get(&namespace).cloned().unwrap_or_else(|| Account::new(self.least))
    }

    /// The queues of lanes that were found for somebody with these labels.
    pub fn queues<L>(&mut self, lanes: impl IntoIterator<Item = Waiting<L>>, labels: &[String]) -> Queues<L> {
        if self.accounts.len() > REMEMBERED {
            self.accounts.clear();
        }
        let walk = self.walks.get(labels).copied().unwrap_or(0);
        let mut queues: Vec<Queue<L>> = Vec::new();
        let mut places: HashMap<i64, usize> = HashMap::new();
        for lane in lanes {
            let place = *places.entry(lane.namespace).or_insert_with(|| {
                queues.push(Queue { namespace: lane.namespace, classes: BTreeMap::new() });
                queues.len() - 1
            });
            let account = self.accounts.entry(lane.namespace).or_insert_with(|| Account::new(self.least));
            account.weight = i64::from(lane.weight.max(1));
            // A whole walk of the same sort that did not find it: it was away.
            let (labels_then, walk_then) = &account.found;
            let walks_now = self.walks.get(labels_then).copied().unwrap_or(0);
            if walks_now > walk_then + 1 {
                let credit = i128::from(CREDIT) * UNIT;
                account.virtual_time = account.virtual_time.max(self.least - credit);
            }
            if account.found.0 != labels {
                account.found.0 = labels.to_vec();
            }
            account.found.1 = walk;
            let spent = account.spent;
            let class = account.classes.entry(lane.class).or_insert_with(|| Class {
                had_upto: spent,
                found: walk,
                ..Class::default()
            });
            if walks_now > class.found + 1 {
                class.had_upto = class.had_upto.max(spent);
            }
            class.found = walk;
            queues[place].classes.entry(lane.class).or_default().push_back(lane);
        }
        for queue in &mut queues {
            let Some(account) = self.accounts.get(&queue.namespace) else { continue };
            for (class, lanes) in &mut queue.classes {
                // Behind the one that was served last, then from the beginning.
                let last = account.classes.get(class).map_or(0, |class| class.last);
                lanes.make_contiguous().sort_by_key(|lane| (lane.key <= last, lane.key));
            }
        }
        let found = queues.iter().filter_map(|queue| self.accounts.get(&queue.namespace));
        if let Some(least) = found.map(|account| account.virtual_time).min() {
            self.least = self.least.max(least);
        }
        Queues(queues)
    }

    /// All lanes have been looked at for somebody with these labels.
    pub fn walked(&mut self, labels: &[String]) {
        match self.walks.get_mut(labels) {
            Some(walks) => *walks += 1,
            None => drop(self.walks.insert(labels.to_vec(), 1)),
        }
    }

    /// So many rows of a turn have been claimed: each is charged [`Turns::estimate`].
    pub fn charge<L>(&mut self, turn: &Turn<L>, rows: usize) {
        let Waiting { namespace, class, key, .. } = turn.of;
        if rows > 0 {
            let account = self.account_mut(namespace);
            account.charge(class, rows, turn.as_part);
            account.classes.entry(class).or_default().last = key;
        }
    }

    /// What a row of a class is charged when it is claimed.
    #[must_use]
    pub fn estimate(&self, namespace: i64, class: i64) -> Micros {
        self.accounts.get(&namespace).map_or(FIRST_GUESS, |account| account.estimate(class))
    }

    /// A row was claimed by its start, since nothing else waited. Gives what it is charged.
    pub fn charge_start(&mut self, namespace: i64, class: i64) -> Micros {
        self.account_mut(namespace).charge(class, 1, false)
    }

    /// What a row has taken that was charged so much.
    pub fn settle(&mut self, namespace: i64, class: i64, charged: Micros, took: Micros) {
        self.account_mut(namespace).settle(class, charged, took);
    }

    /// A claim is given back that was charged so much: nothing was done.
    pub fn refund(&mut self, namespace: i64, charged: Micros) {
        self.account_mut(namespace).spend(-charged);
    }

    /// What has been spent on namespaces that others have not been told of.
    #[must_use]
    pub fn untold(&self) -> Vec<(i64, Micros)> {
        let all = self.accounts.iter().filter(|(_, account)| account.untold != 0);
        all.map(|(namespace, account)| (*namespace, account.untold)).collect()
    }

    /// Others have been told of so much.
    pub fn told(&mut self, namespace: i64, spent: Micros) {
        self.account_mut(namespace).untold -= spent;
    }

    /// What others have spent on namespaces since they were last heard of.
    pub fn hear(&mut self, spent: impl IntoIterator<Item = (i64, Micros)>) {
        let most = (self.least - self.heard_at) * HEARD / 20;
        self.heard_at = self.least;
        for (namespace, time) in spent {
            if let Some(account) = self.accounts.get_mut(&namespace) {
                account.virtual_time += account.virtual_of(time).clamp(0, most);
            }
        }
    }

    /// Namespaces that have an account.
    pub fn namespaces(&self) -> impl Iterator<Item = i64> + '_ {
        self.accounts.keys().copied()
    }

    fn account_mut(&mut self, namespace: i64) -> &mut Account {
        self.accounts.entry(namespace).or_insert_with(|| Account::new(self.least))
    }
}

#[cfg(all(test, feature = "conformance"))]
mod tests;

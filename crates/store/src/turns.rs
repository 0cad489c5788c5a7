//! Whose turn it is: how a claim divides what it wants among namespaces, in every store.
//!
//! Kept in memory by each node: to write it would cost a row in each claim.

use std::collections::{HashMap, VecDeque};

/// What each namespace has been given.
#[derive(Debug, Default)]
pub struct Turns {
    given: HashMap<i64, i64>,
    /// What the least served one had at the last claim: one that was idle has saved up nothing.
    least: i64,
}

/// The lanes of one namespace that have ready rows, by class.
#[derive(Debug)]
pub struct Queue<L> {
    namespace: i64,
    lanes: VecDeque<(i64, L)>,
}

impl<L> Queue<L> {
    /// Its namespace.
    #[must_use]
    pub fn namespace(&self) -> i64 {
        self.namespace
    }

    /// Whether no lane is left in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Takes the first lane, with its class.
    pub fn pop(&mut self) -> Option<(i64, L)> {
        self.lanes.pop_front()
    }

    /// Puts a lane back in which there may be more; others of its class come first.
    pub fn put_back(&mut self, class: i64, lane: L) {
        let after = self.lanes.partition_point(|(other, _)| *other <= class);
        self.lanes.insert(after, (class, lane));
    }
}

impl Turns {
    /// The queues of lanes given as (namespace, class, lane). A namespace that comes back begins where the least served
    /// one stands.
    pub fn queues<L>(&mut self, lanes: impl IntoIterator<Item = (i64, i64, L)>) -> Vec<Queue<L>> {
        let mut queues: Vec<Queue<L>> = Vec::new();
        let mut places: HashMap<i64, usize> = HashMap::new();
        for (namespace, class, lane) in lanes {
            let place = *places.entry(namespace).or_insert_with(|| {
                queues.push(Queue { namespace, lanes: VecDeque::new() });
                queues.len() - 1
            });
            queues[place].lanes.push_back((class, lane));
        }
        let least = self.least;
        for queue in &mut queues {
            queue.lanes.make_contiguous().sort_by_key(|(class, _)| *class);
            let given = self.given.entry(queue.namespace).or_insert(least);
            *given = (*given).max(least);
        }
        let active = queues.iter().filter_map(|q| self.given.get(&q.namespace));
        self.least = active.min().copied().unwrap_or(least);
        queues
    }

    /// What a namespace has been given so far; the one with the least is next.
    #[must_use]
    pub fn given(&self, namespace: i64) -> i64 {
        self.given.get(&namespace).copied().unwrap_or(self.least)
    }

    /// A namespace has been given so many rows.
    pub fn served(&mut self, namespace: i64, rows: usize) {
        *self.given.entry(namespace).or_default() += rows as i64;
    }
}

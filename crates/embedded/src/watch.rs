//! Looks after other nodes: what dead ones held is given back.
//!
//! A dead process has lost the lock on its node file, which is seen at once; one that is stopped or hangs keeps the
//! lock, and is judged by its renewals: unchanged for a full lease on our own clock (decision 6). A worker is elsewhere and
//! holds no lock: its renewals are all there is.

use std::{collections::HashMap, sync::Arc, time::Duration};

use ostler_clock::Clock;
use ostler_engine::NodeHandle;
use ostler_model::Span;
use ostler_store::{Command, NodeId, Queries, Writer};
use ostler_store_sqlite::is_node_alive;

use crate::{
    Place, Role,
    store::{Pace, Reader, StoreClock},
};

/// How often the store is asked for the time.
const SET_CLOCK: Duration = Duration::from_secs(10);

/// When a guest looks first. Most of them have done by then what they came for; a look needs a thread and a connection.
const GUEST: Duration = Duration::from_millis(20);

/// After how long of silence somebody is given up.
pub(crate) struct Leases {
    pub(crate) nodes: Pace,
    pub(crate) workers: Span,
}

pub(crate) struct Watch {
    place: Place,
    writer: Writer,
    queries: Box<dyn Queries>,
    own: NodeId,
    clock: Arc<dyn Clock>,
    leases: Leases,
    shared_clock: Option<(Arc<StoreClock>, Reader)>,
    clock_set: Duration,
    seen: HashMap<NodeId, (i64, Duration)>,
}

impl Watch {
    pub(crate) fn new(
        place: Place,
        writer: Writer,
        queries: Box<dyn Queries>,
        own: NodeId,
        clock: Arc<dyn Clock>,
        leases: Leases,
        shared_clock: Option<(Arc<StoreClock>, Reader)>,
    ) -> Self {
        let clock_set = clock.elapsed();
        Self { place, writer, queries, own, clock, leases, shared_clock, clock_set, seen: HashMap::new() }
    }

    pub(crate) async fn run(mut self, node: NodeHandle, role: Role) {
        let first = if role == Role::Owner { Duration::ZERO } else { GUEST };
        let mut interval =
            tokio::time::interval_at(tokio::time::Instant::now() + first, self.leases.nodes.watch);
        loop {
            interval.tick().await;
            let Ok((watch, rescued)) = tokio::task::spawn_blocking(move || {
                let rescued = self.look();
                (self, rescued)
            })
            .await
            else {
                return;
            };
            self = watch;
            if rescued {
                node.wake();
            }
        }
    }

    fn set_clock(&mut self) {
        let now = self.clock.elapsed();
        if let Some((clock, reader)) = &self.shared_clock
            && now.saturating_sub(self.clock_set) > SET_CLOCK
        {
            self.clock_set = now;
            if let Err(error) = clock.set(reader) {
                tracing::debug!(%error, "the store was not asked for the time");
            }
        }
    }

    /// Rescues what dead nodes held; true when there was any.
    fn look(&mut self) -> bool {
        let path = self.place.beside("");
        self.set_clock();
        let nodes = match self.queries.nodes() {
            Ok(nodes) => nodes,
            Err(error) => {
                tracing::warn!(%error, "other nodes cannot be looked after");
                self.seen.clear();
                return false;
            }
        };
        let now = self.clock.elapsed();
        let mut rescued = false;
        for row in nodes.into_iter().filter(|n| !n.closed && n.node != self.own) {
            let (renewals, since) = *self
                .seen
                .entry(row.node)
                .and_modify(|seen| {
                    if seen.0 != row.renewals {
                        *seen = (row.renewals, now);
                    }
                })
                .or_insert((row.renewals, now));
            let is_worker = row.worker.is_some();
            let lease = if is_worker { self.leases.workers } else { self.leases.nodes.lease };
            let expired = renewals == row.renewals && now.saturating_sub(since) > lease.as_duration();
            // A store in memory has no other process; on one that is shared only silence tells of a death.
            let has_lock = path.as_ref().is_none_or(|path| is_node_alive(path, row.node));
            if expired || !(is_worker || has_lock) {
                tracing::info!(node = row.node.0, name = %row.name, expired, "rescuing what a dead node held");
                self.seen.remove(&row.node);
                rescued |= self.writer.call(Command::Rescue { node: row.node }).is_ok();
            }
        }
        rescued
    }
}

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

use crate::{LEASE, Place};

/// How often to look.
const EVERY: Duration = Duration::from_secs(2);

pub(crate) struct Watch {
    place: Place,
    writer: Writer,
    queries: Box<dyn Queries>,
    own: NodeId,
    clock: Arc<dyn Clock>,
    /// Of workers.
    worker_lease: Span,
    seen: HashMap<NodeId, (i64, Duration)>,
}

impl Watch {
    pub(crate) fn new(
        place: Place,
        writer: Writer,
        queries: Box<dyn Queries>,
        own: NodeId,
        clock: Arc<dyn Clock>,
        worker_lease: Span,
    ) -> Self {
        Self { place, writer, queries, own, clock, worker_lease, seen: HashMap::new() }
    }

    pub(crate) async fn run(mut self, node: NodeHandle) {
        let mut interval = tokio::time::interval(EVERY);
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

    /// Rescues what dead nodes held; true when there was any.
    fn look(&mut self) -> bool {
        let path = self.place.beside("");
        let nodes = match self.queries.nodes() {
            Ok(nodes) => nodes,
            Err(error) => {
                tracing::warn!(%error, "other nodes cannot be looked after");
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
            let lease = if is_worker { self.worker_lease } else { LEASE };
            let expired = renewals == row.renewals && now.saturating_sub(since) > lease.as_duration();
            // A store in memory has no other process.
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

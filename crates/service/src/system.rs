//! The system itself: nodes and sizes.

use ostler_api::{NodeView, StatsView};
use ostler_engine::time::timestamp;
use ostler_store::{StoreError, StoreStats};

use crate::{Actor, Service, ServiceError, Verb};

impl Service {
    /// Processes that use the store or did lately.
    ///
    /// # Errors
    /// The store's.
    pub fn nodes(&self, actor: &Actor) -> Result<Vec<NodeView>, ServiceError> {
        self.authorise(actor, Verb::View, None)?;
        let nodes = self.read(|q| q.nodes())?;
        Ok(nodes
            .into_iter()
            .map(|row| NodeView {
                id: row.node.0,
                name: row.name,
                owner: row.owner,
                started_at: timestamp(row.started_at),
                closed: row.closed,
                claims: row.claims,
                labels: row.labels,
                only_labelled: row.only_labelled,
                slots: row.slots,
                worker: row.worker,
                draining: row.draining,
            })
            .collect())
    }

    /// Whether the store can be read and its writer answers.
    ///
    /// # Errors
    /// What is the matter.
    pub fn check_store(&self) -> Result<(), ServiceError> {
        self.sizes()?;
        self.writer.inspect(|_| ()).map_err(|e| StoreError::Unavailable(e.to_string()))?;
        Ok(())
    }

    /// Numbers about the store, for whoever watches over the process.
    ///
    /// # Errors
    /// The store's.
    pub fn sizes(&self) -> Result<StoreStats, ServiceError> {
        self.read(|q| q.stats())
    }

    /// Numbers about the store; the bytes of logs are not its.
    ///
    /// # Errors
    /// The store's.
    pub fn stats(&self, actor: &Actor) -> Result<StatsView, ServiceError> {
        self.authorise(actor, Verb::View, None)?;
        let stats = self.read(|q| q.stats())?;
        let [later, ready, claimed, held] = stats.queue;
        Ok(StatsView {
            schema: stats.schema,
            bytes: stats.bytes,
            free_bytes: stats.free_bytes,
            log_bytes: 0,
            later,
            ready,
            claimed,
            held,
            first_event: stats.first_event,
            last_event: stats.last_event,
        })
    }
}

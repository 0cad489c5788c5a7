//! Nodes: processes that use the store, and what becomes of their claims when they die.

use ostler_model::MachineId;
use ostler_store::{NodeId, Rescued, StoreError};
use rusqlite::params;

use crate::{Tx, error::told};

impl Tx<'_> {
    pub(crate) fn register(&mut self, name: &str, owner: bool) -> Result<NodeId, StoreError> {
        self.sql
            .prepare_cached("INSERT INTO node (name, owner, started_at) VALUES (?1, ?2, ?3)")
            .and_then(|mut s| s.insert(params![name, owner, self.now]))
            .map(NodeId)
            .map_err(told)
    }

    pub(crate) fn renew(&mut self, node: NodeId) -> Result<(), StoreError> {
        let renewed = self
            .sql
            .prepare_cached("UPDATE node SET renewals=renewals+1 WHERE id=?1 AND closed=0")
            .and_then(|mut s| s.execute([node.0]))
            .map_err(told)?;
        if renewed == 0 {
            return Err(StoreError::Refused(format!("node {} has been closed: others have what it held", node.0)));
        }
        Ok(())
    }

    /// Gives back what a node held, as lost, and what belongs to it, to everyone.
    pub(crate) fn rescue(&mut self, node: NodeId) -> Result<Rescued, StoreError> {
        let mut claimed = self.sql.prepare_cached("SELECT machine, lane FROM tick WHERE phase=2 AND node=?1").map_err(told)?;
        let rows: Vec<(i64, i64)> =
            claimed.query_map([node.0], |r| Ok((r.get(0)?, r.get(1)?))).and_then(Iterator::collect).map_err(told)?;
        drop(claimed);
        for (machine, lane) in &rows {
            let lane = self.shared_lane(*lane)?;
            self.sql
                .prepare_cached(
                    "UPDATE tick SET phase=CASE WHEN held THEN 3 ELSE 1 END, node=NULL, lost=1, lane=?2, due_at=min(due_at, ?3)
                     WHERE machine=?1",
                )
                .and_then(|mut s| s.execute(params![machine, lane, self.now]))
                .map_err(told)?;
            // It keeps its permit: nobody else may run in its place before its loss is dealt with.
        }
        // What waits in lanes of its own has no one to claim it any more.
        let mut own = self.sql.prepare_cached("SELECT id FROM lane WHERE home=?1").map_err(told)?;
        let lanes: Vec<i64> = own.query_map([node.0], |r| r.get(0)).and_then(Iterator::collect).map_err(told)?;
        drop(own);
        let started: i64 = self
            .sql
            .prepare_cached("SELECT coalesce((SELECT started_at FROM node WHERE id=?1), 0)")
            .and_then(|mut s| s.query_row([node.0], |r| r.get(0)))
            .map_err(told)?;
        let since = MachineId::first_at(started / 1000).0;
        for lane in lanes {
            let shared = self.shared_lane(lane)?;
            self.sql
                // Only machines made since it came can stand in its lanes: a range of the primary key.
                .prepare_cached("UPDATE tick SET lane=?2 WHERE lane=?1 AND machine>=?3")
                .and_then(|mut s| s.execute([lane, shared, since]))
                .map_err(told)?;
            self.sql.prepare_cached("DELETE FROM lane WHERE id=?1").and_then(|mut s| s.execute([lane])).map_err(told)?;
        }
        self.names.forget_lanes();
        self.sql
            .prepare_cached("UPDATE node SET closed=1 WHERE id=?1")
            .and_then(|mut s| s.execute([node.0]))
            .map_err(told)?;
        // Nodes that are gone are remembered for a while, for `why`.
        self.sql
            .prepare_cached("DELETE FROM node WHERE closed=1 AND id<?1-1000")
            .and_then(|mut s| s.execute([node.0]))
            .map_err(told)?;
        Ok(Rescued { lost: rows.len() as u64 })
    }

    pub(crate) fn release(&mut self, node: NodeId, machines: &[(MachineId, u64)]) -> Result<(), StoreError> {
        for (machine, fence) in machines {
            let released = self
                .sql
                .prepare_cached(
                    "UPDATE tick SET phase=CASE WHEN held THEN 3 ELSE 1 END, node=NULL
                     WHERE machine=?1 AND phase=2 AND node=?2 AND fence=?3",
                )
                .and_then(|mut s| s.execute(params![machine.0, node.0, *fence as i64]))
                .map_err(told)?;
            if released > 0 {
                self.give_back(*machine)?;
            }
        }
        Ok(())
    }
}

//! Nodes: processes that use the store, and what becomes of their claims when they die.

use ostler_model::MachineId;
use ostler_store::{Micros, NewNode, NodeId, Rescued, StoreError, label_text};
use rusqlite::params;

use crate::{Tx, names::Lane};

/// Closed nodes that are remembered, so that `why` can name them.
const REMEMBERED: i64 = 1000;

impl Tx<'_> {
    pub(crate) fn register(&mut self, node: &NewNode) -> Result<NodeId, StoreError> {
        let labels = label_text(&node.labels);
        let values =
            params![node.name, node.owner, self.now, labels, node.slots, node.worker, node.only_labelled];
        let sql = "INSERT INTO node (name, owner, started_at, labels, slots, worker, only_labelled)
          VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) RETURNING id";
        self.number(sql, values).map(NodeId)
    }

    pub(crate) fn drain(&mut self, node: NodeId) -> Result<(), StoreError> {
        if self.run("UPDATE node SET draining=1 WHERE id=?1 AND closed=0", [node.0])? == 0 {
            return Err(StoreError::NodeClosed(node));
        }
        Ok(())
    }

    pub(crate) fn renew(&mut self, node: NodeId, waited: Micros) -> Result<(), StoreError> {
        let sql = "UPDATE node SET renewals=renewals+1, waited=?2 WHERE id=?1 AND closed=0";
        if self.run(sql, [node.0, waited])? == 0 {
            return Err(StoreError::NodeClosed(node));
        }
        Ok(())
    }

    /// A node that was given up may not take anything: nobody would look after it.
    pub(crate) fn may_take(&self, node: NodeId) -> Result<(), StoreError> {
        match self.row("SELECT closed FROM node WHERE id=?1", [node.0], |r| r.get(0))? {
            Some(true) => Err(StoreError::NodeClosed(node)),
            _ => Ok(()),
        }
    }

    /// Gives back what a node held, as lost, and what belongs to it, to everyone.
    pub(crate) fn rescue(&mut self, node: NodeId) -> Result<Rescued, StoreError> {
        let lost = self.run(
            // Along `tick_claimed`. Permits stay: nobody runs in its place before its loss is dealt with.
            "UPDATE tick SET phase=CASE WHEN held<>0 THEN 3 ELSE 1 END, node=NULL, lost=1, due_at=min(due_at, ?2)
             WHERE phase=2 AND node=?1",
            [node.0, self.now],
        )?;
        self.give_back_duties(node)?;
        // What stands in lanes of its own has no one to claim it any more.
        let lanes = self.keys("SELECT id FROM lane WHERE home=?1 AND home<>0", [node.0])?;
        if !lanes.is_empty() {
            for id in lanes {
                let own = self.lane(id)?;
                let shared = self.lane_of(Lane { home: 0, ..own })?;
                // A scan of what lives: guests are few and their deaths rare, so no index is kept for it.
                self.run("UPDATE tick SET lane=?2 WHERE lane=?1", [id, shared])?;
                self.run("DELETE FROM lane WHERE id=?1", [id])?;
            }
            self.names.forget_lanes();
        }
        self.run("UPDATE node SET closed=1 WHERE id=?1 AND closed=0", [node.0])?;
        self.run("DELETE FROM node WHERE closed=1 AND id<?1", [node.0 - REMEMBERED])?;
        Ok(Rescued { lost: lost as u64 })
    }

    /// Gives back claims that were not begun. The permit goes back with it unless it was held before.
    pub(crate) fn release(&mut self, node: NodeId, machines: &[(MachineId, u64)]) -> Result<(), StoreError> {
        for (machine, fence) in machines {
            let released: Option<(i64, bool, i64)> = self.row(
                "UPDATE tick SET phase=CASE WHEN held<>0 THEN 3 ELSE 1 END, node=NULL
                 WHERE machine=?1 AND phase=2 AND node=?2 AND fence=?3
                 RETURNING lane, (SELECT started_at IS NOT NULL FROM machine WHERE id=?1), charged",
                params![machine.0, node.0, i64::try_from(*fence).unwrap_or(-1)],
                |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)),
            )?;
            let Some((lane, begun, charged)) = released else { continue };
            let lane = self.lane(lane)?;
            if !lane.light {
                self.turns.of(false).shares.refund(lane.ns, charged);
            }
            if !begun {
                self.give_back(&lane, machine.0)?;
            }
        }
        Ok(())
    }
}

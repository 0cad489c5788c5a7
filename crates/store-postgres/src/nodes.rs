//! Nodes: processes that use the store, and what becomes of their claims when they die.

use ostler_model::MachineId;
use ostler_store::{Micros, NewNode, NodeId, Rescued, StoreError, label_text};

use crate::{
    names::Lane,
    trouble::Done,
    tx::Tx,
    value::{Columns, values},
};

/// Closed nodes that are remembered, so that `why` can name them.
const REMEMBERED: i64 = 1000;

/// Along `tick_claimed`. Permits stay: nobody runs in its place before its loss is dealt with.
pub(crate) const RESCUE: &str =
    "UPDATE tick SET phase=CASE WHEN held<>0 THEN 3 ELSE 1 END, node=NULL, lost=TRUE,
    due_at=least(due_at, $2)
  WHERE machine=ANY(ARRAY(SELECT machine FROM tick WHERE phase=2 AND node=$1 FOR UPDATE))
    AND phase=2 AND node=$1";

/// A node that was given up may not take anything: nobody would look after it.
pub(crate) const OPEN: &str = "SELECT 1 FROM node WHERE id=$1 AND NOT closed FOR SHARE";

impl Tx<'_> {
    pub(crate) fn register(&mut self, node: &NewNode) -> Done<NodeId> {
        let labels = label_text(&node.labels);
        let sql = "INSERT INTO node (name, owner, started_at, labels, slots, worker, only_labelled)
          VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id";
        self.wrote = true;
        let (slots, worker) = (i64::from(node.slots), node.worker.as_deref());
        let values = values![&node.name, node.owner, self.now, &labels, slots, worker, node.only_labelled];
        self.number(sql, values).map(NodeId)
    }

    pub(crate) fn drain(&mut self, node: NodeId) -> Done<()> {
        if self.run("UPDATE node SET draining=TRUE WHERE id=$1 AND NOT closed", values![node.0])? == 0 {
            return Err(StoreError::NodeClosed(node).into());
        }
        Ok(())
    }

    pub(crate) fn renew(&mut self, node: NodeId, waited: Micros) -> Done<()> {
        let sql = "UPDATE node SET renewals=renewals+1, waited=$2 WHERE id=$1 AND NOT closed";
        if self.run(sql, values![node.0, waited])? == 0 {
            return Err(StoreError::NodeClosed(node).into());
        }
        Ok(())
    }

    /// Asked behind what a node takes, so that whoever gives it up sees that.
    pub(crate) fn may_take(&mut self, node: NodeId) -> Done<()> {
        if self.row(OPEN, values![node.0])?.is_none() {
            return Err(StoreError::NodeClosed(node).into());
        }
        Ok(())
    }

    /// Gives back what a node held, as lost, and what belongs to it, to everyone.
    pub(crate) fn rescue(&mut self, node: NodeId) -> Done<Rescued> {
        // First, so that a claim of the node that is not written yet is not written any more (it locks this row too).
        self.run("UPDATE node SET closed=TRUE WHERE id=$1 AND NOT closed", values![node.0])?;
        self.give_back_duties(node)?;
        let lost = self.run(RESCUE, values![node.0, self.now])?;
        // What stands in lanes of its own has no one to claim it any more.
        let lanes = self
            .keys("SELECT id FROM lane WHERE home=$1 AND home<>0 AND retired_at IS NULL", values![node.0])?;
        if !lanes.is_empty() {
            for id in lanes {
                let own = self.lane(id)?;
                let shared = self.lane_of(Lane { home: 0, ..own })?;
                // A scan of what lives: guests are few and their deaths rare, so no index is kept for it.
                self.run("UPDATE tick SET lane=$2 WHERE lane=$1", values![id, shared])?;
                self.run("UPDATE lane SET retired_at=$2 WHERE id=$1", values![id, self.now])?;
            }
            self.forget_everywhere()?;
        }
        self.run("DELETE FROM node WHERE closed AND id<$1", values![node.0 - REMEMBERED])?;
        self.woke |= lost > 0;
        Ok(Rescued { lost })
    }

    /// Gives back claims that were not begun. The permit goes back with it unless it was held before.
    pub(crate) fn release(&mut self, node: NodeId, machines: &[(MachineId, u64)]) -> Done<()> {
        let (ids, fences): (Vec<i64>, Vec<i64>) =
            machines.iter().map(|(id, fence)| (id.0, i64::try_from(*fence).unwrap_or(-1))).unzip();
        let released = self.written(
            "UPDATE tick t SET phase=CASE WHEN t.held<>0 THEN 3 ELSE 1 END, node=NULL
             FROM unnest($1, $2) u(machine, fence), machine m
             WHERE t.machine=u.machine AND t.machine=ANY($1) AND t.phase=2 AND t.node=$3 AND t.fence=u.fence AND m.id=t.machine
             RETURNING t.machine, t.lane, m.started_at IS NOT NULL, t.charged",
            values![ids, fences, node.0],
        )?;
        let mut permits = Vec::new();
        for row in &released {
            let lane = self.lane(row.int(1)?)?;
            if !lane.light {
                self.turns.of(false).shares.refund(lane.ns, row.int(3)?);
            }
            if !row.flag(2)? {
                permits.push((lane, row.int(0)?));
            }
        }
        self.woke |= !released.is_empty();
        self.give_back(&permits)
    }
}

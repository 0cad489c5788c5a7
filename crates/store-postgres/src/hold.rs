//! Hold: keeping machines from being claimed, and letting them go.
//!
//! A pause of a task or a namespace holds back what has not begun, and its schedules; what has begun goes on, with its
//! parts. Several things may hold one machine, and it goes on when the last of them lets go. One that is claimed
//! meanwhile keeps its claim and is held after its commit; one whose start did not see the pause is held by the claim.

use ostler_model::{Kind, MachineId};
use ostler_store::{Hold, Letter, StoreError};

use crate::{
    trouble::Done,
    tx::Tx,
    value::{Columns, values},
};

/// Held by itself.
pub(crate) const BY_HAND: i64 = 1;
/// Its task is paused; or it is a schedule, and its task is disabled or missing.
pub(crate) const BY_TASK: i64 = 2;
/// Its namespace is paused.
pub(crate) const BY_NAMESPACE: i64 = 4;

/// One that is to end (an unread cancellation) is not held any more.
const SET: &str = "UPDATE tick t SET held=t.held|$2::smallint,
    phase=CASE WHEN t.phase=2 OR (t.woken>0
        AND EXISTS (SELECT 1 FROM mail l WHERE l.machine=t.machine AND l.body LIKE '{\"cancel\":%'))
      THEN t.phase ELSE 3 END
  WHERE t.machine=ANY($1) AND t.held&$2::smallint=0";

const CLEAR: &str = "UPDATE tick t SET held=t.held & ~ $2::smallint,
    phase=CASE WHEN t.phase=3 AND t.held & ~ $2::smallint=0 THEN (CASE WHEN t.due_at<=$3 THEN 1 ELSE 0 END) ELSE t.phase END
  WHERE t.machine=ANY($1) AND t.held&$2::smallint<>0
  RETURNING t.machine, t.held, (SELECT m.kind FROM machine m WHERE m.id=t.machine)";

/// What a pause can hold. The scans are over what lives: history is not looked at.
const PAUSABLE_OF_NAMESPACE: &str = "SELECT t.machine FROM tick t JOIN machine m ON m.id=t.machine
  WHERE m.parent IS NULL AND (m.kind IN (3, 4) OR m.started_at IS NULL) AND t.held&$1::smallint=0 AND m.ns=$2 ORDER BY t.machine";
const PAUSABLE_OF_TASK: &str = "SELECT t.machine FROM tick t JOIN machine m ON m.id=t.machine
  WHERE m.parent IS NULL AND (m.kind IN (3, 4) OR m.started_at IS NULL) AND t.held&$1::smallint=0 AND m.task=$2 ORDER BY t.machine";
const PAUSED_OF_NAMESPACE: &str = "SELECT t.machine FROM tick t JOIN machine m ON m.id=t.machine
  WHERE t.held&$1::smallint<>0 AND m.ns=$2 ORDER BY t.machine";
const PAUSED_OF_TASK: &str = "SELECT t.machine FROM tick t JOIN machine m ON m.id=t.machine
  WHERE t.held&$1::smallint<>0 AND m.task=$2 ORDER BY t.machine";

/// What still holds a machine after a commit: a pause does not stop what has begun.
pub(crate) fn still(held: i64, kind: Kind, begun: bool) -> i64 {
    if begun && !kind.is_starter() { held & BY_HAND } else { held }
}

impl Tx<'_> {
    /// Gives the number of machines that it touched.
    pub(crate) fn hold(&mut self, what: &Hold, on: bool) -> Done<u64> {
        let (by, machines) = match what {
            Hold::Machine(id) => (BY_HAND, vec![id.0]),
            Hold::Namespace(name) => {
                let sql = "UPDATE namespace SET paused=$2 WHERE name=$1 RETURNING id";
                let ns = self.row(sql, values![name, on])?;
                let ns = ns
                    .ok_or_else(|| StoreError::Refused(format!("there is no namespace `{name}`")))?
                    .int(0)?;
                let scan = if on { PAUSABLE_OF_NAMESPACE } else { PAUSED_OF_NAMESPACE };
                (BY_NAMESPACE, self.keys(scan, values![BY_NAMESPACE, ns])?)
            }
            Hold::Task(namespace, name) => {
                let sql = "UPDATE task SET paused=$3
                  WHERE name=$2 AND ns=(SELECT id FROM namespace WHERE name=$1) RETURNING id";
                let task = self.row(sql, values![namespace, name, on])?;
                let task = task
                    .ok_or_else(|| StoreError::Refused(format!("there is no task `{namespace}:{name}`")))?
                    .int(0)?;
                let scan = if on { PAUSABLE_OF_TASK } else { PAUSED_OF_TASK };
                (BY_TASK, self.keys(scan, values![BY_TASK, task])?)
            }
        };
        self.forget_everywhere()?;
        match (on, by) {
            (true, _) => self.hold_back(&machines, by),
            (false, BY_TASK) => {
                let off = self.off(&machines)?;
                let free: Vec<i64> = machines.into_iter().filter(|id| !off.contains(id)).collect();
                self.let_go(&free, by)
            }
            (false, _) => self.let_go(&machines, by),
        }
    }

    pub(crate) fn hold_back(&mut self, machines: &[i64], by: i64) -> Done<u64> {
        if machines.is_empty() { Ok(0) } else { self.run(SET, values![machines, by]) }
    }

    /// One thing less holds them. A schedule that nothing holds any more is told.
    pub(crate) fn let_go(&mut self, machines: &[i64], by: i64) -> Done<u64> {
        if machines.is_empty() {
            return Ok(0);
        }
        let rows = self.written(CLEAR, values![machines, by, self.now])?;
        let mut told = Vec::new();
        for row in &rows {
            let kind = row.int_or(2)?.and_then(|kind| u8::try_from(kind).ok());
            if row.int(1)? == 0 && kind.is_some_and(|kind| Kind(kind).is_starter()) {
                told.push((MachineId(row.int(0)?), &Letter::Resumed));
            }
        }
        self.send(&told)?;
        self.woke |= !rows.is_empty();
        Ok(rows.len() as u64)
    }

    /// Those among them that are schedules whose task is disabled or missing: its pause is not all that holds them.
    fn off(&mut self, machines: &[i64]) -> Done<Vec<i64>> {
        self.keys(
            "SELECT m.id FROM machine m JOIN task t ON t.id=m.task
               JOIN schedule s ON s.task=t.id AND s.name=m.child_key AND s.machine=m.id
             WHERE m.id=ANY($1) AND (t.missing OR NOT t.enabled)",
            values![machines],
        )
    }
}

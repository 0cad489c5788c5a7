//! Hold: keeping machines from being claimed, and letting them go.
//!
//! A pause of a task or a namespace holds back what has not begun, and its schedules; what has begun goes on, with its
//! parts. Several things may hold one machine, and it goes on when the last of them lets go. One that is claimed
//! meanwhile keeps its claim and is held after its commit.

use ostler_model::{Kind, MachineId};
use ostler_store::{Hold, Letter, StoreError};
use rusqlite::params;

use crate::Tx;

/// Held by itself.
pub(crate) const BY_HAND: i64 = 1;
/// Its task is paused; or it is a schedule, and its task is disabled or missing.
pub(crate) const BY_TASK: i64 = 2;
/// Its namespace is paused.
pub(crate) const BY_NAMESPACE: i64 = 4;

/// One that is to end (an unread cancellation) is not held any more.
const SET: &str = "UPDATE tick SET held=held|?2,
    phase=CASE WHEN phase=2 OR (woken>0 AND EXISTS (SELECT 1 FROM mail WHERE machine=?1 AND body LIKE '{\"cancel\":%'))
      THEN phase ELSE 3 END
  WHERE machine=?1 AND held&?2=0";

const CLEAR: &str = "UPDATE tick SET held=held&~?2,
    phase=CASE WHEN phase=3 AND held&~?2=0 THEN (due_at<=?3) ELSE phase END
  WHERE machine=?1 AND held&?2<>0 RETURNING held";

/// What a pause can hold. The scans are over what lives: history is not looked at.
pub(crate) const PAUSABLE_OF_NAMESPACE: &str =
    "SELECT t.machine FROM tick t CROSS JOIN machine m ON m.id=t.machine
  WHERE m.parent IS NULL AND (m.kind IN (3, 4) OR m.started_at IS NULL) AND t.held&?1=0 AND m.ns=?2";
pub(crate) const PAUSABLE_OF_TASK: &str =
    "SELECT t.machine FROM tick t CROSS JOIN machine m ON m.id=t.machine
  WHERE m.parent IS NULL AND (m.kind IN (3, 4) OR m.started_at IS NULL) AND t.held&?1=0 AND m.task=?2";

const PAUSED_OF_NAMESPACE: &str =
    "SELECT t.machine FROM tick t CROSS JOIN machine m ON m.id=t.machine WHERE t.held&?1<>0 AND m.ns=?2";
const PAUSED_OF_TASK: &str =
    "SELECT t.machine FROM tick t CROSS JOIN machine m ON m.id=t.machine WHERE t.held&?1<>0 AND m.task=?2";

/// What still holds a machine after a commit: a pause does not stop what has begun.
pub(crate) fn still(held: i64, kind: Kind, begun: bool) -> i64 {
    if begun && !kind.is_starter() { held & BY_HAND } else { held }
}

impl Tx<'_> {
    /// Gives the number of machines that it touched.
    pub(crate) fn hold(&mut self, what: &Hold, on: bool) -> Result<u64, StoreError> {
        self.names.forget_holds();
        let (by, machines) = match what {
            Hold::Machine(id) => (BY_HAND, vec![id.0]),
            Hold::Namespace(name) => {
                let sql = "UPDATE namespace SET paused=?2 WHERE name=?1 RETURNING id";
                let ns: Option<i64> = self.row(sql, params![name, on], |r| r.get(0))?;
                let ns = ns.ok_or_else(|| StoreError::Refused(format!("there is no namespace `{name}`")))?;
                let scan = if on { PAUSABLE_OF_NAMESPACE } else { PAUSED_OF_NAMESPACE };
                (BY_NAMESPACE, self.keys(scan, [BY_NAMESPACE, ns])?)
            }
            Hold::Task(namespace, name) => {
                let sql =
                    "UPDATE task SET paused=?3 WHERE name=?2 AND ns=(SELECT id FROM namespace WHERE name=?1)
                           RETURNING id";
                let task: Option<i64> = self.row(sql, params![namespace, name, on], |r| r.get(0))?;
                let task = task
                    .ok_or_else(|| StoreError::Refused(format!("there is no task `{namespace}:{name}`")))?;
                let scan = if on { PAUSABLE_OF_TASK } else { PAUSED_OF_TASK };
                (BY_TASK, self.keys(scan, [BY_TASK, task])?)
            }
        };
        let mut touched = 0;
        for machine in machines {
            let changed = match (on, by) {
                (true, _) => self.hold_back(machine, by)?,
                (false, BY_TASK) if self.is_off(machine)? => false,
                (false, _) => self.let_go(machine, by)?,
            };
            touched += u64::from(changed);
        }
        Ok(touched)
    }

    pub(crate) fn hold_back(&self, machine: i64, by: i64) -> Result<bool, StoreError> {
        Ok(self.run(SET, [machine, by])? > 0)
    }

    /// One thing less holds it. A schedule that nothing holds any more is told.
    pub(crate) fn let_go(&mut self, machine: i64, by: i64) -> Result<bool, StoreError> {
        let left: Option<i64> = self.row(CLEAR, [machine, by, self.now], |r| r.get(0))?;
        if left == Some(0) {
            let kind = self.row("SELECT kind FROM machine WHERE id=?1", [machine], |r| r.get(0))?;
            if kind.is_some_and(|kind| Kind(kind).is_starter()) {
                self.send(MachineId(machine), &Letter::Resumed)?;
            }
        }
        Ok(left.is_some())
    }

    /// Whether it is a schedule whose task is disabled or missing: the task's pause is not all that holds it.
    fn is_off(&self, machine: i64) -> Result<bool, StoreError> {
        let sql = "SELECT 1 FROM machine m JOIN task t ON t.id=m.task JOIN schedule s ON s.task=t.id AND s.name=m.child_key
                   WHERE m.id=?1 AND s.machine=m.id AND (t.missing=1 OR t.enabled=0)";
        Ok(self.row(sql, [machine], |_| Ok(()))?.is_some())
    }
}

//! Hold: keeping machines from being claimed, and letting them go.

use ostler_model::{Kind, MachineId};
use ostler_store::{Hold, Letter, StoreError};
use rusqlite::{OptionalExtension, params};

use crate::{Tx, error::told};

impl Tx<'_> {
    pub(crate) fn hold(&mut self, what: &Hold, on: bool) -> Result<u64, StoreError> {
        self.names.forget_holds();
        let machines: Vec<i64> = match what {
            Hold::Machine(id) => vec![id.0],
            Hold::Namespace(name) => {
                let ns = self.namespace(name)?;
                self.write("UPDATE namespace SET paused=?2 WHERE id=?1", params![ns, on])?;
                self.living("SELECT t.machine FROM tick t JOIN machine m ON m.id=t.machine WHERE m.ns=?1", ns)?
            }
            Hold::Task(namespace, name) => {
                let ns = self.namespace(namespace)?;
                let task: Option<i64> = self
                    .sql
                    .prepare_cached("UPDATE task SET paused=?3 WHERE ns=?1 AND name=?2 RETURNING id")
                    .and_then(|mut s| s.query_row(params![ns, name, on], |r| r.get(0)).optional())
                    .map_err(told)?;
                let task = task.ok_or_else(|| StoreError::Refused(format!("there is no task `{name}`")))?;
                self.living("SELECT t.machine FROM tick t JOIN machine m ON m.id=t.machine WHERE m.task=?1", task)?
            }
        };
        let mut touched = 0;
        for machine in machines {
            touched += u64::from(if on { self.hold_one(machine)? } else { self.let_go(machine)? });
        }
        Ok(touched)
    }

    fn living(&self, sql: &str, key: i64) -> Result<Vec<i64>, StoreError> {
        let mut select = self.sql.prepare_cached(sql).map_err(told)?;
        select.query_map([key], |r| r.get(0)).and_then(Iterator::collect).map_err(told)
    }

    pub(crate) fn write(&self, sql: &str, values: impl rusqlite::Params) -> Result<usize, StoreError> {
        self.sql.prepare_cached(sql).and_then(|mut s| s.execute(values)).map_err(told)
    }

    /// Holds a machine back. One that is claimed now is held after its commit.
    pub(crate) fn hold_one(&self, machine: i64) -> Result<bool, StoreError> {
        let sql = "UPDATE tick SET held=1, phase=CASE WHEN phase=2 THEN 2 ELSE 3 END WHERE machine=?1 AND held=0";
        Ok(self.write(sql, [machine])? > 0)
    }

    /// Lets a machine go, unless something else holds it still. A schedule is told.
    pub(crate) fn let_go(&mut self, machine: i64) -> Result<bool, StoreError> {
        let (kind, ns, task, name): (u8, i64, i64, Option<String>) = self
            .sql
            .prepare_cached("SELECT kind, ns, task, child_key FROM machine WHERE id=?1")
            .and_then(|mut s| s.query_row([machine], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?))))
            .map_err(told)?;
        if self.is_held(ns, task)? || (Kind(kind) == Kind::SCHEDULE && self.is_off(task, name.as_deref())?) {
            return Ok(false);
        }
        let sql = "UPDATE tick SET held=0, phase=CASE WHEN phase=3 THEN (due_at<=?2) ELSE phase END WHERE machine=?1 AND held=1";
        let freed = self.write(sql, params![machine, self.now])? > 0;
        if freed && Kind(kind) == Kind::SCHEDULE {
            self.send(MachineId(machine), &Letter::Resumed)?;
        }
        Ok(freed)
    }

    /// Whether a schedule is off because its task is disabled or missing.
    fn is_off(&self, task: i64, schedule: Option<&str>) -> Result<bool, StoreError> {
        self.sql
            .prepare_cached(
                "SELECT 1 FROM task t JOIN schedule s ON s.task=t.id
                 WHERE t.id=?1 AND s.name=?2 AND (t.missing=1 OR t.enabled=0)",
            )
            .and_then(|mut s| s.exists(params![task, schedule]))
            .map_err(told)
    }
}

//! Names interned to integers, remembered between transactions as long as nobody else writes.

use std::{collections::HashMap, sync::Arc};

use ostler_store::{NewMachine, NodeId, OnFull, StoreError};
use rusqlite::{Connection, OptionalExtension, params};

use crate::{Tx, error::told};

/// What is remembered.
#[derive(Default)]
pub(crate) struct Names {
    namespaces: HashMap<String, i64>,
    namespace_names: HashMap<i64, Arc<str>>,
    lanes: HashMap<LaneKey, i64>,
    /// Limits with what was last said of them.
    limits: HashMap<(i64, i64, String), (i64, i64, i64, i64)>,
    /// Held tasks and namespaces: `None` where nobody has asked.
    held: HashMap<(i64, i64), bool>,
    data_version: i64,
    pub(crate) last_id: i64,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct LaneKey {
    ns: i64,
    class: i64,
    concurrency: i64,
    rate: i64,
    home: i64,
}

impl Names {
    /// A transaction begins: forgets everything when another process has written meanwhile.
    pub(crate) fn begin(&mut self, connection: &Connection) {
        let version = connection
            .prepare_cached("PRAGMA data_version")
            .and_then(|mut s| s.query_row([], |r| r.get(0)))
            .unwrap_or(-1);
        if version != self.data_version {
            self.forget();
            self.data_version = version;
        }
    }

    /// What was interned in a transaction that is rolled back is not there.
    pub(crate) fn forget(&mut self) {
        *self = Self { data_version: self.data_version, ..Self::default() };
    }

    pub(crate) fn forget_holds(&mut self) {
        self.held.clear();
    }

    pub(crate) fn forget_lanes(&mut self) {
        self.lanes.clear();
        self.limits.clear();
    }
}

/// How `on_full` is stored.
pub(crate) fn on_full_code(on_full: OnFull) -> i64 {
    match on_full {
        OnFull::Wait => 0,
        OnFull::Refuse => 1,
        OnFull::CancelHolders => 2,
    }
}

impl Tx<'_> {
    /// The row of a namespace, made when it is new.
    pub(crate) fn namespace(&mut self, name: &str) -> Result<i64, StoreError> {
        if let Some(id) = self.names.namespaces.get(name) {
            return Ok(*id);
        }
        let found = self
            .sql
            .prepare_cached("SELECT id FROM namespace WHERE name=?1")
            .and_then(|mut s| s.query_row([name], |r| r.get(0)).optional())
            .map_err(told)?;
        let id = match found {
            Some(id) => id,
            None => self
                .sql
                .prepare_cached("INSERT INTO namespace (name, created_at, seen_at) VALUES (?1, ?2, ?2) RETURNING id")
                .and_then(|mut s| s.query_row(params![name, self.now], |r| r.get(0)))
                .map_err(told)?,
        };
        self.names.namespaces.insert(name.to_owned(), id);
        Ok(id)
    }

    /// The name of a namespace's row.
    pub(crate) fn namespace_name(&mut self, id: i64) -> Result<Arc<str>, StoreError> {
        if let Some(name) = self.names.namespace_names.get(&id) {
            return Ok(name.clone());
        }
        let name: String = self
            .sql
            .prepare_cached("SELECT name FROM namespace WHERE id=?1")
            .and_then(|mut s| s.query_row([id], |r| r.get(0)))
            .map_err(told)?;
        let name: Arc<str> = name.into();
        self.names.namespace_names.insert(id, name.clone());
        Ok(name)
    }

    /// Whether starts of a task wait: its namespace or itself is paused.
    pub(crate) fn is_held(&mut self, ns: i64, task: i64) -> Result<bool, StoreError> {
        if let Some(held) = self.names.held.get(&(ns, task)) {
            return Ok(*held);
        }
        let held = self
            .sql
            .prepare_cached(
                "SELECT (SELECT paused FROM namespace WHERE id=?1) OR coalesce((SELECT paused FROM task WHERE id=?2), 0)",
            )
            .and_then(|mut s| s.query_row([ns, task], |r| r.get(0)))
            .map_err(told)?;
        self.names.held.insert((ns, task), held);
        Ok(held)
    }

    /// The lane of a machine, made when it is new; its limits take the newest word.
    pub(crate) fn lane(&mut self, ns: i64, machine: &NewMachine) -> Result<i64, StoreError> {
        let concurrency = match &machine.concurrency {
            Some(c) => self.limit(ns, 1, &c.key, i64::from(c.limit), 0, on_full_code(c.on_full))?,
            None => 0,
        };
        let rate = match &machine.rate {
            Some(r) => self.limit(ns, 2, &r.key, i64::from(r.burst), r.interval, 0)?,
            None => 0,
        };
        let home = machine.home.map_or(0, |NodeId(id)| id);
        self.lane_of(LaneKey { ns, class: machine.priority, concurrency, rate, home })
    }

    fn lane_of(&mut self, key: LaneKey) -> Result<i64, StoreError> {
        if let Some(id) = self.names.lanes.get(&key) {
            return Ok(*id);
        }
        let values = params![key.ns, key.class, key.concurrency, key.rate, key.home];
        self.sql
            .prepare_cached("INSERT OR IGNORE INTO lane (ns, class, concurrency, rate, home) VALUES (?1, ?2, ?3, ?4, ?5)")
            .and_then(|mut s| s.execute(values))
            .map_err(told)?;
        let id = self
            .sql
            .prepare_cached("SELECT id FROM lane WHERE ns=?1 AND class=?2 AND concurrency=?3 AND rate=?4 AND home=?5")
            .and_then(|mut s| s.query_row(values, |r| r.get(0)))
            .map_err(told)?;
        self.names.lanes.insert(key, id);
        Ok(id)
    }

    /// The same lane without a home: what a dead guest left goes to the owner.
    pub(crate) fn shared_lane(&mut self, lane: i64) -> Result<i64, StoreError> {
        let key = self
            .sql
            .prepare_cached("SELECT ns, class, concurrency, rate FROM lane WHERE id=?1")
            .and_then(|mut s| {
                s.query_row([lane], |r| {
                    Ok(LaneKey { ns: r.get(0)?, class: r.get(1)?, concurrency: r.get(2)?, rate: r.get(3)?, home: 0 })
                })
            })
            .map_err(told)?;
        self.lane_of(key)
    }

    fn limit(&mut self, ns: i64, kind: i64, key: &str, max: i64, interval: i64, on_full: i64) -> Result<i64, StoreError> {
        let name = (ns, kind, key.to_owned());
        if let Some((id, m, i, o)) = self.names.limits.get(&name)
            && (*m, *i, *o) == (max, interval, on_full)
        {
            return Ok(*id);
        }
        let id = self
            .sql
            .prepare_cached(
                "INSERT INTO \"limit\" (ns, kind, key, max, interval, on_full) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (ns, kind, key) DO UPDATE SET max=?4, interval=?5, on_full=?6 RETURNING id",
            )
            .and_then(|mut s| s.query_row(params![ns, kind, key, max, interval, on_full], |r| r.get(0)))
            .map_err(told)?;
        self.names.limits.insert(name, (id, max, interval, on_full));
        Ok(id)
    }
}

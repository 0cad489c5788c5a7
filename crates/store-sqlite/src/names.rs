//! Names interned to integers, remembered between transactions as long as nobody else writes.

use std::{collections::HashMap, sync::Arc};

use ostler_store::{Claim, LIGHT_LANES, NewMachine, NodeId, OnFull, StoreError, label_text, labels_of};
use rusqlite::{Connection, params};

use crate::{Tx, hold, open};

/// Names of one sort that are remembered at most; there may be a limit for each customer of a customer.
const REMEMBERED: usize = 20_000;

/// What is remembered.
#[derive(Default)]
pub(crate) struct Names {
    namespaces: HashMap<String, (i64, Arc<str>)>,
    namespace_names: HashMap<i64, Arc<str>>,
    lane_ids: HashMap<Lane, i64>,
    lanes: HashMap<i64, Lane>,
    /// Limits with what was last said of them.
    limits: HashMap<(i64, i64, String), Limit>,
    /// Why starts of a task of a namespace wait.
    held: HashMap<(i64, i64), i64>,
    /// Machines that are told of ends, by the row of the task; `None`: not looked up yet.
    pub(crate) listeners: Option<HashMap<i64, Vec<i64>>>,
    /// Weights of namespaces.
    pub(crate) weights: HashMap<i64, u32>,
    /// Sets of labels by their rows, which do not change.
    label_sets: HashMap<i64, Vec<String>>,
    data_version: i64,
    pub(crate) last_id: i64,
    pub(crate) last_seq: i64,
}

/// A limit's row with what was last said of it: how many, at what interval, and what happens when it is full.
type Limit = (i64, i64, i64, i64);

/// A sub-queue of the tick queue: what one claim may treat alike. The store's lanes are its rows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Lane {
    pub(crate) ns: i64,
    /// Rank of the priority.
    pub(crate) class: i64,
    /// Concurrency limit; 0 for none.
    pub(crate) concurrency: i64,
    /// Rate limit; 0 for none.
    pub(crate) rate: i64,
    /// The node it belongs to; 0 for all.
    pub(crate) home: i64,
    /// Its machines take no slot.
    pub(crate) light: bool,
    /// What a node must have to take from it: the row of a set of labels; 0 for nothing.
    pub(crate) labels: i64,
}

impl Lane {
    pub(crate) fn is_limited(&self) -> bool {
        self.concurrency != 0 || self.rate != 0
    }
}

impl Names {
    /// A transaction begins: forgets everything when another connection has written meanwhile. That may have been a mark
    /// which lets nobody change the store any more.
    pub(crate) fn begin(&mut self, connection: &Connection) -> Result<(), StoreError> {
        let version = connection
            .prepare_cached("PRAGMA data_version")
            .and_then(|mut s| s.query_row([], |r| r.get(0)))
            .unwrap_or(-1);
        if version != self.data_version {
            self.forget();
            if let Some(mark) = open::mark(connection)? {
                return Err(mark.refusal());
            }
            self.data_version = version;
        }
        Ok(())
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
        self.lane_ids.clear();
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
        if let Some((id, _)) = self.names.namespaces.get(name) {
            return Ok(*id);
        }
        let id = match self.row("SELECT id FROM namespace WHERE name=?1", [name], |r| r.get(0))? {
            Some(id) => id,
            None => self.number(
                "INSERT INTO namespace (name, created_at, seen_at) VALUES (?1, ?2, ?2) RETURNING id",
                params![name, self.now],
            )?,
        };
        self.names.namespaces.insert(name.to_owned(), (id, name.into()));
        Ok(id)
    }

    /// The name of a namespace's row.
    pub(crate) fn namespace_name(&mut self, id: i64) -> Result<Arc<str>, StoreError> {
        if let Some(name) = self.names.namespace_names.get(&id) {
            return Ok(name.clone());
        }
        let name: Option<String> = self.row("SELECT name FROM namespace WHERE id=?1", [id], |r| r.get(0))?;
        let name: Arc<str> = name.unwrap_or_default().into();
        self.names.namespace_names.insert(id, name.clone());
        Ok(name)
    }

    /// The weight of a namespace's row.
    pub(crate) fn weight(&mut self, id: i64) -> Result<u32, StoreError> {
        if let Some(weight) = self.names.weights.get(&id) {
            return Ok(*weight);
        }
        let weight = self.row("SELECT weight FROM namespace WHERE id=?1", [id], |r| r.get(0))?.unwrap_or(1);
        self.names.weights.insert(id, weight);
        Ok(weight)
    }

    /// Gives a namespace a weight.
    pub(crate) fn weigh(&mut self, name: &str, weight: u32) -> Result<(), StoreError> {
        if weight == 0 {
            return Err(StoreError::Refused("a weight is 1 or more".into()));
        }
        let sql = "UPDATE namespace SET weight=?2 WHERE name=?1 RETURNING id";
        let ns: Option<i64> = self.row(sql, params![name, weight], |r| r.get(0))?;
        let ns = ns.ok_or_else(|| StoreError::Refused(format!("there is no namespace `{name}`")))?;
        self.names.weights.insert(ns, weight);
        Ok(())
    }

    /// Why starts of a task wait: it is paused, or its namespace is.
    pub(crate) fn held_by_pause(&mut self, ns: i64, task: i64) -> Result<i64, StoreError> {
        if let Some(held) = self.names.held.get(&(ns, task)) {
            return Ok(*held);
        }
        let (namespace, own): (bool, bool) = self
            .row(
                "SELECT coalesce((SELECT paused FROM namespace WHERE id=?1), 0),
                   coalesce((SELECT paused FROM task WHERE id=?2), 0)",
                [ns, task],
                |r| Ok((r.get(0)?, r.get(1)?)),
            )?
            .unwrap_or_default();
        let held = if namespace { hold::BY_NAMESPACE } else { 0 } | if own { hold::BY_TASK } else { 0 };
        self.names.held.insert((ns, task), held);
        Ok(held)
    }

    /// The lane of a new machine, made when it is new; its limits take the newest word.
    pub(crate) fn lane_for(&mut self, ns: i64, machine: &NewMachine) -> Result<i64, StoreError> {
        let concurrency = match &machine.concurrency {
            Some(c) => self.limit(ns, 1, &c.key, i64::from(c.limit), 0, on_full_code(c.on_full))?,
            None => 0,
        };
        let rate = match &machine.rate {
            Some(r) => self.limit(ns, 2, &r.key, i64::from(r.burst), r.interval, 0)?,
            None => 0,
        };
        let home = machine.home.map_or(0, |NodeId(id)| id);
        let labels = self.label_set(&machine.labels)?;
        self.lane_of(Lane {
            ns,
            class: machine.priority,
            concurrency,
            rate,
            home,
            light: machine.light,
            labels,
        })
    }

    /// The row of a lane, made when it is new.
    pub(crate) fn lane_of(&mut self, lane: Lane) -> Result<i64, StoreError> {
        if let Some(id) = self.names.lane_ids.get(&lane) {
            return Ok(*id);
        }
        let values =
            params![lane.ns, lane.class, lane.concurrency, lane.rate, lane.home, lane.light, lane.labels];
        let known = self.row(
            "SELECT id FROM lane WHERE ns=?1 AND class=?2 AND concurrency=?3 AND rate=?4 AND home=?5 AND light=?6
               AND labels=?7",
            values,
            |r| r.get(0),
        )?;
        let id = match known {
            Some(id) => id,
            None => {
                let id = self.next_lane(&lane)?;
                let sql = "INSERT INTO lane (ns, class, concurrency, rate, home, light, labels, id)
                  VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
                let mut values = values.to_vec();
                values.push(&id);
                self.run(sql, &values[..])?;
                id
            }
        };
        if self.names.lanes.len() >= REMEMBERED {
            self.names.forget_lanes();
        }
        self.names.lane_ids.insert(lane, id);
        self.names.lanes.insert(id, lane);
        Ok(id)
    }

    /// A number for a lane that says what it is.
    fn next_lane(&self, lane: &Lane) -> Result<i64, StoreError> {
        let from = if lane.light { LIGHT_LANES } else { 0 };
        match lane.is_limited() {
            true => {
                let sql = "SELECT coalesce(min(id), ?1)-1 FROM lane WHERE id<?1 AND id>?2";
                self.number(sql, [-from, -from - LIGHT_LANES])
            }
            false => {
                let sql = "SELECT coalesce(max(id), ?1)+1 FROM lane WHERE id>?1 AND id<?2";
                self.number(sql, [from, from + LIGHT_LANES])
            }
        }
    }

    /// A lane by its row.
    pub(crate) fn lane(&mut self, id: i64) -> Result<Lane, StoreError> {
        if let Some(lane) = self.names.lanes.get(&id) {
            return Ok(*lane);
        }
        let sql = "SELECT ns, class, concurrency, rate, home, light, labels FROM lane WHERE id=?1";
        let lane = self.row(sql, [id], |r| {
            let (ns, class, concurrency) = (r.get(0)?, r.get(1)?, r.get(2)?);
            let (rate, home, light) = (r.get(3)?, r.get(4)?, r.get(5)?);
            Ok(Lane { ns, class, concurrency, rate, home, light, labels: r.get(6)? })
        })?;
        let lane = lane.ok_or_else(|| StoreError::Corrupt(format!("lane {id} is gone")))?;
        if self.names.lanes.len() >= REMEMBERED {
            self.names.forget_lanes();
        }
        self.names.lane_ids.insert(lane, id);
        self.names.lanes.insert(id, lane);
        Ok(lane)
    }

    /// The row of a set of labels, made when it is new; 0 for none.
    fn label_set(&mut self, labels: &[String]) -> Result<i64, StoreError> {
        if labels.is_empty() {
            return Ok(0);
        }
        // Written each time a machine that asks for labels is made: nothing changes, and it is one probe.
        let sql =
            "INSERT INTO label_set (labels) VALUES (?1) ON CONFLICT (labels) DO UPDATE SET labels=labels
          RETURNING id";
        self.number(sql, [label_text(labels)])
    }

    /// Whether what is claimed may come from a lane: whose it is, and which labels it asks for.
    pub(crate) fn fits(&mut self, lane: &Lane, claim: &Claim) -> Result<bool, StoreError> {
        if lane.home != claim.node.0 && (lane.home != 0 || !claim.shared) {
            return Ok(false);
        }
        if lane.labels == 0 {
            return Ok(lane.light || lane.home != 0 || !claim.only_labelled);
        }
        if !self.names.label_sets.contains_key(&lane.labels) {
            let sql = "SELECT labels FROM label_set WHERE id=?1";
            let text: Option<String> = self.row(sql, [lane.labels], |r| r.get(0))?;
            self.names.label_sets.insert(lane.labels, labels_of(&text.unwrap_or_default()));
        }
        let asked = self.names.label_sets.get(&lane.labels);
        Ok(asked.is_some_and(|asked| asked.iter().all(|label| claim.labels.contains(label))))
    }

    fn limit(
        &mut self,
        ns: i64,
        kind: i64,
        key: &str,
        max: i64,
        interval: i64,
        on_full: i64,
    ) -> Result<i64, StoreError> {
        let name = (ns, kind, key.to_owned());
        if let Some((id, m, i, o)) = self.names.limits.get(&name)
            && (*m, *i, *o) == (max, interval, on_full)
        {
            return Ok(*id);
        }
        let id = self.number(
            "INSERT INTO \"limit\" (ns, kind, key, max, interval, on_full) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (ns, kind, key) DO UPDATE SET max=?4, interval=?5, on_full=?6 RETURNING id",
            params![ns, kind, key, max, interval, on_full],
        )?;
        if self.names.limits.len() >= REMEMBERED {
            self.names.limits.clear();
        }
        self.names.limits.insert(name, (id, max, interval, on_full));
        Ok(id)
    }
}

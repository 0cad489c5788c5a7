//! Names interned to integers, remembered between transactions until a node says that something has changed.

use std::{collections::HashMap, sync::Arc};

use ostler_store::{Claim, LIGHT_LANES, NewMachine, NodeId, OnFull, StoreError, label_text, labels_of};

use crate::{
    hold,
    trouble::Done,
    tx::Tx,
    value::{Columns, values},
};

/// Names of one sort that are remembered at most; there may be a limit for each customer of a customer.
const REMEMBERED: usize = 20_000;

/// What is remembered.
#[derive(Default)]
pub(crate) struct Names {
    namespaces: HashMap<String, i64>,
    namespace_names: HashMap<i64, Arc<str>>,
    lane_ids: HashMap<Lane, i64>,
    lanes: HashMap<i64, Lane>,
    /// Limits with what was last said of them.
    limits: HashMap<(i64, i64, String), Limit>,
    /// Why starts of a task of a namespace wait.
    held: HashMap<(i64, i64), i64>,
    /// Machines that are told of ends, by the row of the task; `None`: not looked up yet.
    pub(crate) listeners: Option<HashMap<i64, Vec<i64>>>,
    /// Sets of labels by their rows.
    label_sets: HashMap<i64, Vec<String>>,
    generation: i64,
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
    /// A transaction begins and has read the generation.
    pub(crate) fn begin(&mut self, generation: i64) {
        if generation != self.generation {
            self.forget();
            self.generation = generation;
        }
    }

    /// What was interned in a transaction that is rolled back is not there.
    pub(crate) fn forget(&mut self) {
        *self = Self { generation: self.generation, ..Self::default() };
    }

    fn remember_lane(&mut self, id: i64, lane: Lane) {
        if self.lanes.len() >= REMEMBERED {
            self.lanes.clear();
            self.lane_ids.clear();
        }
        self.lane_ids.insert(lane, id);
        self.lanes.insert(id, lane);
    }
}

/// How `on_full` is stored.
fn on_full_code(on_full: OnFull) -> i64 {
    match on_full {
        OnFull::Wait => 0,
        OnFull::Refuse => 1,
        OnFull::CancelHolders => 2,
    }
}

impl Tx<'_> {
    /// The row of a namespace, made when it is new.
    pub(crate) fn namespace(&mut self, name: &str) -> Done<i64> {
        if let Some(id) = self.names.namespaces.get(name) {
            return Ok(*id);
        }
        let id = match self.row("SELECT id FROM namespace WHERE name=$1", values![name])? {
            Some(row) => row.int(0)?,
            None => {
                let sql = "INSERT INTO namespace (name, created_at, seen_at) VALUES ($1, $2, $2)
                  ON CONFLICT (name) DO UPDATE SET name=excluded.name RETURNING id";
                self.wrote = true;
                self.number(sql, values![name, self.now])?
            }
        };
        self.names.namespaces.insert(name.to_owned(), id);
        self.names.namespace_names.insert(id, name.into());
        Ok(id)
    }

    /// The name of a namespace's row.
    pub(crate) fn namespace_name(&mut self, id: i64) -> Done<Arc<str>> {
        if let Some(name) = self.names.namespace_names.get(&id) {
            return Ok(name.clone());
        }
        let row = self.row("SELECT name FROM namespace WHERE id=$1", values![id])?;
        let name: Arc<str> = row.map_or(Ok(String::new()), |r| r.text(0))?.into();
        self.names.namespace_names.insert(id, name.clone());
        Ok(name)
    }

    /// Gives a namespace a weight.
    pub(crate) fn weigh(&mut self, name: &str, weight: u32) -> Done<()> {
        if weight == 0 {
            return Err(StoreError::Refused("a weight is 1 or more".into()).into());
        }
        let sql = "UPDATE namespace SET weight=$2 WHERE name=$1";
        if self.run(sql, values![name, i64::from(weight)])? == 0 {
            return Err(StoreError::Refused(format!("there is no namespace `{name}`")).into());
        }
        Ok(())
    }

    /// Why starts of a task wait: it is paused, or its namespace is.
    pub(crate) fn held_by_pause(&mut self, ns: i64, task: i64) -> Done<i64> {
        if let Some(held) = self.names.held.get(&(ns, task)) {
            return Ok(*held);
        }
        let sql = "SELECT coalesce((SELECT paused FROM namespace WHERE id=$1), FALSE),
            coalesce((SELECT paused FROM task WHERE id=$2), FALSE)";
        let row = self.row(sql, values![ns, task])?;
        let (namespace, own) =
            row.map_or(Ok((false, false)), |r| Ok::<_, crate::trouble::Trouble>((r.flag(0)?, r.flag(1)?)))?;
        let held = if namespace { hold::BY_NAMESPACE } else { 0 } | if own { hold::BY_TASK } else { 0 };
        if self.names.held.len() >= REMEMBERED {
            self.names.held.clear();
        }
        self.names.held.insert((ns, task), held);
        Ok(held)
    }

    /// The lane of a new machine, made when it is new; its limits take the newest word.
    pub(crate) fn lane_for(&mut self, ns: i64, machine: &NewMachine) -> Done<(i64, Lane)> {
        let concurrency = match &machine.concurrency {
            Some(c) => self.limit(ns, 1, &c.key, (i64::from(c.limit), 0, on_full_code(c.on_full)))?,
            None => 0,
        };
        let rate = match &machine.rate {
            Some(r) => self.limit(ns, 2, &r.key, (i64::from(r.burst), r.interval, 0))?,
            None => 0,
        };
        let home = machine.home.map_or(0, |NodeId(id)| id);
        let labels = self.label_set(&machine.labels)?;
        let lane =
            Lane { ns, class: machine.priority, concurrency, rate, home, light: machine.light, labels };
        Ok((self.lane_of(lane)?, lane))
    }

    /// The row of a lane, made when it is new.
    pub(crate) fn lane_of(&mut self, lane: Lane) -> Done<i64> {
        if let Some(id) = self.names.lane_ids.get(&lane) {
            return Ok(*id);
        }
        let Lane { ns, class, concurrency, rate, home, light, labels } = lane;
        let values = values![ns, class, concurrency, rate, home, light, labels];
        let known = self.row(
            "SELECT id FROM lane WHERE ns=$1 AND class=$2 AND concurrency=$3 AND rate=$4 AND home=$5 AND light=$6
               AND labels=$7 AND retired_at IS NULL",
            values,
        )?;
        let id = match known {
            Some(row) => row.int(0)?,
            None => {
                self.wrote = true;
                let sign = if lane.is_limited() { -1 } else { 1 };
                let from = if light { LIGHT_LANES } else { 0 };
                self.number(
                    // The number says what it is.
                    "INSERT INTO lane (ns, class, concurrency, rate, home, light, labels, id)
                     SELECT $1, $2, $3, $4, $5, $6, $7, $8*(nextval(pg_get_serial_sequence('lane', 'id'))+$9)
                     ON CONFLICT (ns, class, concurrency, rate, home, light, labels) DO UPDATE SET retired_at=NULL RETURNING id",
                    values![ns, class, concurrency, rate, home, light, labels, sign, from],
                )?
            }
        };
        self.names.remember_lane(id, lane);
        Ok(id)
    }

    /// A lane by its row.
    pub(crate) fn lane(&mut self, id: i64) -> Done<Lane> {
        if let Some(lane) = self.names.lanes.get(&id) {
            return Ok(*lane);
        }
        let sql = "SELECT ns, class, concurrency, rate, home, light, labels FROM lane WHERE id=$1";
        let row = self.row(sql, values![id])?;
        let row = row.ok_or_else(|| StoreError::Corrupt(format!("lane {id} is gone")))?;
        let lane = Lane {
            ns: row.int(0)?,
            class: row.int(1)?,
            concurrency: row.int(2)?,
            rate: row.int(3)?,
            home: row.int(4)?,
            light: row.flag(5)?,
            labels: row.int(6)?,
        };
        self.names.remember_lane(id, lane);
        Ok(lane)
    }

    /// The row of a set of labels, made when it is new; 0 for none.
    fn label_set(&mut self, labels: &[String]) -> Done<i64> {
        if labels.is_empty() {
            return Ok(0);
        }
        let text = label_text(labels);
        if let Some(row) = self.row("SELECT id FROM label_set WHERE labels=$1", values![&text])? {
            return row.int(0);
        }
        self.wrote = true;
        let sql = "INSERT INTO label_set (labels) VALUES ($1)
          ON CONFLICT (labels) DO UPDATE SET labels=excluded.labels RETURNING id";
        self.number(sql, values![&text])
    }

    /// Whether what is claimed may come from a lane: whose it is, and which labels it asks for.
    pub(crate) fn fits(&mut self, lane: &Lane, claim: &Claim) -> Done<bool> {
        if lane.home != claim.node.0 && (lane.home != 0 || !claim.shared) {
            return Ok(false);
        }
        if lane.labels == 0 {
            return Ok(lane.light || lane.home != 0 || !claim.only_labelled);
        }
        if !self.names.label_sets.contains_key(&lane.labels) {
            let row = self.row("SELECT labels FROM label_set WHERE id=$1", values![lane.labels])?;
            let text = row.map_or(Ok(String::new()), |r| r.text(0))?;
            self.names.label_sets.insert(lane.labels, labels_of(&text));
        }
        let asked = self.names.label_sets.get(&lane.labels);
        Ok(asked.is_some_and(|asked| asked.iter().all(|label| claim.labels.contains(label))))
    }

    /// What a limit is said to be: (how many, at what interval, what happens when it is full).
    fn limit(&mut self, ns: i64, kind: i64, key: &str, said: (i64, i64, i64)) -> Done<i64> {
        let name = (ns, kind, key.to_owned());
        if let Some((id, max, interval, on_full)) = self.names.limits.get(&name)
            && (*max, *interval, *on_full) == said
        {
            return Ok(*id);
        }
        let (max, interval, on_full) = said;
        let sql = "SELECT id FROM \"limit\" WHERE ns=$1 AND kind=$2 AND key=$3 AND max=$4 AND \"interval\"=$5 AND on_full=$6";
        let values = values![ns, kind, key, max, interval, on_full];
        let id = match self.row(sql, values)? {
            Some(row) => row.int(0)?,
            None => {
                self.wrote = true;
                self.number(
                    "INSERT INTO \"limit\" (ns, kind, key, max, \"interval\", on_full) VALUES ($1, $2, $3, $4, $5, $6)
                     ON CONFLICT (ns, kind, key) DO UPDATE SET max=excluded.max, \"interval\"=excluded.\"interval\",
                       on_full=excluded.on_full RETURNING id",
                    values,
                )?
            }
        };
        if self.names.limits.len() >= REMEMBERED {
            self.names.limits.clear();
        }
        self.names.limits.insert(name, (id, max, interval, on_full));
        Ok(id)
    }
}

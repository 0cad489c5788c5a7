//! Start: making machines, as many as are asked for at once.

use std::collections::{BTreeSet, HashMap, HashSet};

use ostler_model::{Kind, MachineId};
use ostler_store::{Claimed, NewMachine, NodeId, Receipt, StartOutcome, StoreError};

use crate::{
    copy::{Column, Table},
    nodes,
    trouble::Done,
    tx::{Events, Tx},
    value::{Columns, Value, values},
};

/// A new machine's first step.
const FIRST_STEP: i64 = 1;

const BY_IDEMPOTENCY_KEY: &str = "SELECT u.ns, u.key, m.id FROM unnest($1, $2) u(ns, key)
  JOIN machine m ON m.ns=u.ns AND m.idem_key=u.key";
const BY_UNIQUE_KEY: &str = "SELECT u.ns, u.key, k.machine FROM unnest($1, $2) u(ns, key)
  JOIN unique_key k ON k.ns=u.ns AND k.key=u.key";

const MACHINES: Table = Table {
    insert: "INSERT INTO machine (id, kind, ns, task, definition, state, parent, child_key, watcher,
        finished_at, unique_key, idem_key, last_event, fields)
      SELECT u.* FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) u",
    copy: "COPY machine (id, kind, ns, task, definition, state, parent, child_key, watcher,
        finished_at, unique_key, idem_key, last_event, fields) FROM STDIN (FORMAT BINARY)",
    columns: {
        use Column::{Big, Int, Small, Text};
        &[Big, Small, Int, Int, Int, Small, Big, Text, Big, Big, Text, Text, Big, Text]
    },
};

const QUEUE: Table = Table {
    insert: "INSERT INTO tick (machine, lane, priority, due_at, held, phase)
      SELECT u.* FROM unnest($1, $2, $3, $4, $5, $6) u",
    copy: "COPY tick (machine, lane, priority, due_at, held, phase) FROM STDIN (FORMAT BINARY)",
    columns: &[Column::Big, Column::Int, Column::Int, Column::Big, Column::Small, Column::Small],
};

/// One that is wanted at once by a node is claimed where nothing of its lane is ready.
pub(crate) const INSERT_TICK: &str = "WITH u AS MATERIALIZED (
    SELECT u.*, u.node IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM tick t WHERE t.phase=1 AND t.lane=u.lane) AS at_once
      FROM unnest($1, $2, $3, $4, $5, $6, $7, $9) u(machine, lane, priority, due_at, held, phase, node, charged))
  INSERT INTO tick (machine, lane, priority, due_at, held, phase, node, fence, since, charged)
  SELECT machine, lane, priority, due_at, held, CASE WHEN at_once THEN 2 ELSE phase END,
    CASE WHEN at_once THEN node END, CASE WHEN at_once THEN 1 ELSE 0 END, CASE WHEN at_once THEN $8 END,
    CASE WHEN at_once THEN charged ELSE 0 END
  FROM u RETURNING machine, phase";

const INSERT_WATCHED: &str = "INSERT INTO watched (watcher, machine) SELECT u.* FROM unnest($1, $2) u";
const INSERT_UNIQUE: &str = "INSERT INTO unique_key (ns, key, machine) SELECT u.* FROM unnest($1, $2, $3) u";
pub(crate) const INSERT_BAD: &str = "INSERT INTO bad_end (state, machine) SELECT u.* FROM unnest($1, $2) u";

/// A machine that is wanted, and for whom at once.
#[derive(Clone, Copy)]
pub(crate) struct Wish<'a> {
    pub(crate) machine: &'a NewMachine,
    pub(crate) claim_for: Option<NodeId>,
}

/// What became of a wish.
pub(crate) type Granted = (StartOutcome, Option<Claimed>);

/// One that is to be made.
struct Made<'a> {
    wish: usize,
    machine: &'a NewMachine,
    id: MachineId,
    ns: i64,
    seq: i64,
    lane: i64,
    heard: i64,
}

/// Row of the task whose ends this machine's end is one of: parts of flows and what starts runs are none.
pub(crate) fn heard(kind: Kind, parent: Option<MachineId>, task: i64) -> i64 {
    if parent.is_some() || kind.is_starter() { 0 } else { task }
}

/// Places in the queue, column by column.
#[derive(Default)]
struct Places {
    columns: [Vec<i64>; 6],
    /// For whom each is to be claimed at once.
    takers: Vec<Option<i64>>,
    /// What each is charged then.
    charged: Vec<i64>,
}

/// Keys that are taken, with whom they belong to.
type Keys = HashMap<(i64, String), MachineId>;

impl Tx<'_> {
    /// Makes machines; for a node, claims one at once where nothing stands before it.
    pub(crate) fn start(&mut self, wishes: &[Wish<'_>]) -> Done<Vec<Granted>> {
        let mut namespaces = Vec::with_capacity(wishes.len());
        for wish in wishes {
            namespaces.push(self.namespace(&wish.machine.namespace)?);
        }
        let keyed = |key: fn(&NewMachine) -> Option<&String>| {
            wishes
                .iter()
                .zip(&namespaces)
                .filter_map(move |(w, ns)| key(w.machine).map(|k| (*ns, k.as_str())))
        };
        let mut repeated = self.taken(BY_IDEMPOTENCY_KEY, keyed(|m| m.idempotency_key.as_ref()).unzip())?;
        let mut running = self.taken(BY_UNIQUE_KEY, keyed(|m| m.unique_key.as_ref()).unzip())?;
        self.want_numbers(wishes.len())?;
        let mut granted: Vec<Granted> = Vec::with_capacity(wishes.len());
        let mut made: Vec<Made<'_>> = Vec::with_capacity(wishes.len());
        for (index, (Wish { machine, .. }, ns)) in wishes.iter().zip(&namespaces).enumerate() {
            let ns = *ns;
            let name = |key: &Option<String>| key.as_ref().map(|k| (ns, k.clone()));
            let (repeats, runs) = (name(&machine.idempotency_key), name(&machine.unique_key));
            if let Some(id) = repeats.as_ref().and_then(|k| repeated.get(k)) {
                granted.push((StartOutcome::Repeated(*id), None));
                continue;
            }
            if let Some(id) = runs.as_ref().and_then(|k| running.get(k)) {
                granted.push((StartOutcome::AlreadyRunning(*id), None));
                continue;
            }
            let id = self.numbers.next_id(self.now)?;
            let seq = self.numbers.next_seq()?;
            let lane = if machine.state == 0 { self.lane_for(ns, machine)?.0 } else { 0 };
            let heard = heard(Kind(machine.kind), machine.parent, machine.task);
            repeated.extend(repeats.map(|k| (k, id)));
            if machine.state == 0 {
                running.extend(runs.map(|k| (k, id)));
            }
            made.push(Made { wish: index, machine, id, ns, seq, lane, heard });
            granted.push((StartOutcome::Started(id), None));
        }
        if made.is_empty() {
            return Ok(granted);
        }
        let places = self.places(wishes, &made)?;
        let at_once = self.insert(&made, places)?;
        for m in &made {
            if m.machine.state != 0 {
                self.tell_end(m.id, m.heard)?;
            } else if at_once.contains(&m.id.0) {
                let claimed = self.claimed_at_once(m)?;
                granted[m.wish].1 = Some(claimed);
            }
        }
        Ok(granted)
    }

    fn taken(&mut self, sql: &str, (ns, keys): (Vec<i64>, Vec<&str>)) -> Done<Keys> {
        if keys.is_empty() {
            return Ok(Keys::new());
        }
        let rows = self.rows(sql, values![ns, keys])?;
        rows.iter().map(|r| Ok(((r.int(0)?, r.text(1)?), MachineId(r.int(2)?)))).collect()
    }

    /// Sees to it that so many machines can be made.
    pub(crate) fn want_numbers(&mut self, count: usize) -> Done<()> {
        let missing = count.saturating_sub(self.numbers.spare());
        if missing > 0 {
            let sql = "SELECT nextval('machine_low') FROM generate_series(1, $1)";
            let lows = self.keys(sql, values![missing as i64])?;
            self.numbers.add_lows(lows);
        }
        Ok(())
    }

    /// Writes all there is to write of them, in one message; gives those that were claimed at once.
    fn insert(&mut self, made: &[Made<'_>], places: Places) -> Done<HashSet<i64>> {
        let of = |f: fn(&Made<'_>) -> i64| Value::from(made.iter().map(f).collect::<Vec<_>>());
        let or = |f: fn(&Made<'_>) -> Option<i64>| Value::from(made.iter().map(f).collect::<Vec<_>>());
        let now = self.now;
        let machines = [
            of(|m| m.id.0),
            of(|m| m.machine.kind.into()),
            of(|m| m.ns),
            of(|m| m.machine.task),
            of(|m| m.machine.definition),
            of(|m| m.machine.state),
            or(|m| m.machine.parent.map(|p| p.0)),
            Value::Texts(made.iter().map(|m| m.machine.child_key.as_deref()).collect()),
            or(|m| m.machine.watcher.map(|w| w.0)),
            made.iter().map(|m| (m.machine.state != 0).then_some(now)).collect::<Vec<_>>().into(),
            Value::Texts(made.iter().map(|m| m.machine.unique_key.as_deref()).collect()),
            Value::Texts(made.iter().map(|m| m.machine.idempotency_key.as_deref()).collect()),
            of(|m| m.seq),
            made.iter().map(|m| m.machine.fields.as_str()).collect::<Vec<_>>().into(),
        ];
        let mut events = Events::default();
        for m in made {
            events.push(m.seq, m.id, FIRST_STEP, 0, &m.machine.event);
        }
        let events = events.values(now);
        let living = || made.iter().filter(|m| m.machine.state == 0);
        let watched = living().filter_map(|m| m.machine.watcher.map(|w| (w.0, m.id.0)));
        let (watchers, watched): (Vec<i64>, Vec<i64>) = watched.unzip();
        let unique: Vec<_> = living().filter(|m| m.machine.unique_key.is_some()).collect();
        let bad = made.iter().filter(|m| is_bad(m.machine.state, m.machine.parent));
        let (bad, bad_ids): (Vec<i64>, Vec<i64>) = bad.map(|m| (m.machine.state, m.id.0)).unzip();
        let [watched, unique, bad]: [Vec<Value<'_>>; 3] = [
            vec![watchers.into(), watched.into()],
            vec![
                unique.iter().map(|m| m.ns).collect::<Vec<_>>().into(),
                unique.iter().filter_map(|m| m.machine.unique_key.as_deref()).collect::<Vec<_>>().into(),
                unique.iter().map(|m| m.id.0).collect::<Vec<_>>().into(),
            ],
            vec![bad.into(), bad_ids.into()],
        ];
        let mut statements: Vec<(&str, &[Value<'_>])> = Vec::new();
        self.add(&MACHINES, &machines, &mut statements)?;
        self.add(&Events::TABLE, &events, &mut statements)?;
        for (sql, values) in [(INSERT_WATCHED, &watched), (INSERT_UNIQUE, &unique), (INSERT_BAD, &bad)] {
            if !matches!(&values[0], Value::Ints(list) if list.is_empty()) {
                statements.push((sql, values));
            }
        }
        self.put(statements, places)
    }

    /// Writes places in the queue behind other statements.
    fn put(
        &mut self,
        statements: Vec<(&str, &[Value<'_>])>,
        Places { columns, takers, charged }: Places,
    ) -> Done<HashSet<i64>> {
        let mut queued: Vec<Value<'_>> = columns.into_iter().map(Value::from).collect();
        let mut statements = statements;
        if takers.iter().all(Option::is_none) {
            if !takers.is_empty() {
                self.add(&QUEUE, &queued, &mut statements)?;
            }
            return self.run_all(&statements).map(|_| HashSet::new());
        }
        let asked: BTreeSet<i64> = takers.iter().flatten().copied().collect();
        let asking: Vec<[Value<'_>; 1]> = asked.iter().map(|node| [Value::from(*node)]).collect();
        let first = statements.len();
        statements.extend(asking.iter().map(|node| (nodes::OPEN, node.as_slice())));
        queued.extend([takers.into(), self.now.into(), charged.into()]);
        let (counts, rows) = self.run_all_then(&statements, (INSERT_TICK, queued.as_slice()))?;
        let mut at_once = HashSet::new();
        for row in rows {
            if row.int(1)? == 2 {
                at_once.insert(row.int(0)?);
            }
        }
        let closed = asked.iter().zip(&counts[first..]).find(|(_, open)| **open == 0);
        match closed.filter(|_| !at_once.is_empty()) {
            Some((node, _)) => Err(StoreError::NodeClosed(NodeId(*node)).into()),
            None => Ok(at_once),
        }
    }

    /// Where those that live stand in the queue.
    fn places(&mut self, wishes: &[Wish<'_>], made: &[Made<'_>]) -> Done<Places> {
        let mut places = Places::default();
        // Lanes in which something of this very command waits already.
        let mut waits: HashSet<i64> = HashSet::new();
        for m in made.iter().filter(|m| m.machine.state == 0) {
            let machine = m.machine;
            // A pause holds back what begins. A part belongs to something that has begun.
            let held = if machine.parent.is_some() { 0 } else { self.held_by_pause(m.ns, machine.task)? };
            let due = machine.due_at <= self.now;
            let free = machine.concurrency.is_none() && machine.rate.is_none() && machine.labels.is_empty();
            let free = free && !waits.contains(&m.lane);
            let node = wishes[m.wish]
                .claim_for
                .filter(|node| due && free && held == 0 && machine.home.is_none_or(|home| home == *node));
            let phase = if held != 0 { 3 } else { i64::from(due) };
            if phase == 1 && node.is_none() {
                waits.insert(m.lane);
                self.woke = true;
            }
            let row = [m.id.0, m.lane, machine.priority, machine.due_at, held, phase];
            places.columns.iter_mut().zip(row).for_each(|(column, value)| column.push(value));
            places.takers.push(node.map(|n| n.0));
            places.charged.push(if node.is_some() { self.at_once(m) } else { 0 });
        }
        Ok(places)
    }

    /// What a machine is charged that is claimed by its start.
    fn at_once(&mut self, made: &Made<'_>) -> i64 {
        match made.machine.light {
            true => 0,
            false => self.turns.of(false).shares.estimate(made.ns, made.machine.priority),
        }
    }

    fn claimed_at_once(&mut self, made: &Made<'_>) -> Done<Claimed> {
        let machine = made.machine;
        let charged = match machine.light {
            true => 0,
            false => self.turns.of(false).shares.charge_start(made.ns, machine.priority),
        };
        Ok(Claimed {
            id: made.id,
            kind: Kind(machine.kind),
            light: machine.light,
            namespace: self.namespace_name(made.ns)?,
            task: machine.task,
            definition: machine.definition,
            step: FIRST_STEP as u64,
            fence: 1,
            fields: machine.fields.clone(),
            due_at: machine.due_at,
            started_at: None,
            lost: false,
            refused: false,
            parent: machine.parent,
            child_key: machine.child_key.clone(),
            watcher: machine.watcher,
            home: machine.home,
            mail: Vec::new(),
            receipt: Receipt {
                lane: made.lane,
                last_event: made.seq,
                unique: machine.unique_key.is_some(),
                task: made.heard,
                charged,
            },
        })
    }
}

/// Whether an end is on the list of bad ones.
pub(crate) fn is_bad(state: i64, parent: Option<MachineId>) -> bool {
    state > 10 && parent.is_none()
}

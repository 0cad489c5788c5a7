//! Claim: taking ready machines for a node.
//!
//! What is due is promoted in batches. Then the lanes that have ready rows are found by a skip scan and served:
//! between namespaces by turns, inside a namespace strictly by class, inside a lane along the ready index, as far as
//! its limits ([`crate::limits`]) allow.

use ostler_model::{Kind, MachineId};
use ostler_store::{Claim, Claimed, Micros, NEVER, NodeId, Receipt, StoreError};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::{Tx, limits::Full, names::Lane};

/// How many due rows one claim promotes at most; the next claim promotes the rest.
const PROMOTED: i64 = 1000;

/// How many lanes are weighed against one another.
const LANES: usize = 256;

/// Rides on `tick_later`.
pub(crate) const PROMOTE: &str = "UPDATE tick SET phase=1 WHERE machine IN
  (SELECT machine FROM tick WHERE phase=0 AND due_at<=?1 ORDER BY due_at LIMIT ?2)";

/// The next lane that has ready rows: one probe of `tick_ready`, however many rows the lane holds.
pub(crate) const NEXT_LANE: &str = "SELECT lane FROM tick WHERE phase=1 AND lane>?1 ORDER BY lane LIMIT 1";

/// The first ready rows of a lane along `tick_ready`, each with its machine by primary key.
pub(crate) const READY: &str =
    "SELECT t.machine, t.fence, t.due_at, t.lost, t.woken, m.kind, m.task, m.definition, m.step,
    m.fields, m.started_at, m.parent, m.child_key, m.watcher, m.last_event, m.unique_key IS NOT NULL
  FROM tick t CROSS JOIN machine m ON m.id=t.machine
  WHERE t.phase=1 AND t.lane=?1 ORDER BY t.priority, t.due_at, t.machine LIMIT ?2";

/// The ready rows of a lane that hold its permit already: a flow that goes on.
pub(crate) const READY_HOLDERS: &str =
    "SELECT t.machine, t.fence, t.due_at, t.lost, t.woken, m.kind, m.task, m.definition,
    m.step, m.fields, m.started_at, m.parent, m.child_key, m.watcher, m.last_event, m.unique_key IS NOT NULL
  FROM permit p CROSS JOIN tick t ON t.machine=p.machine CROSS JOIN machine m ON m.id=t.machine
  WHERE p.\"limit\"=?3 AND t.phase=1 AND t.lane=?1 LIMIT ?2";

/// The same rows as [`READY`] has just read.
pub(crate) const MARK_READY: &str =
    "UPDATE tick SET phase=2, node=?3, fence=fence+1, since=?4 WHERE machine IN
  (SELECT machine FROM tick WHERE phase=1 AND lane=?1 ORDER BY priority, due_at, machine LIMIT ?2)";

const MARK: &str = "UPDATE tick SET phase=2, node=?2, fence=fence+1, since=?3 WHERE machine=?1";

/// Whose turn it is, and where the last claim left off.
#[derive(Default)]
pub(crate) struct Turns {
    /// What each namespace has been given.
    shares: ostler_store::Turns,
    /// Where the last claim left off when there were more lanes than it weighs.
    after: i64,
    /// When the rates of lanes were last looked at: of own lanes, of shared ones.
    looked: [Micros; 2],
}

/// Lanes by their rows.
type Lanes = Vec<(i64, Lane)>;

/// What a claim takes of one sort.
struct Quota {
    want: usize,
    taken: Vec<Claimed>,
}

impl Quota {
    fn new(want: u32) -> Self {
        Self { want: want as usize, taken: Vec::new() }
    }

    fn left(&self) -> usize {
        self.want.saturating_sub(self.taken.len())
    }

    fn is_met(&self) -> bool {
        self.left() == 0
    }
}

impl Tx<'_> {
    /// Takes at most `want` and `light` machines. When fewer of a sort come back, nothing of it that the node may take
    /// is ready, except what waits for a limit.
    pub(crate) fn claim(&mut self, claim: &Claim) -> Result<Vec<Claimed>, StoreError> {
        self.may_take(claim.node)?;
        self.run(PROMOTE, params![self.now, PROMOTED])?;
        self.turns.looked[0] = self.now;
        if claim.shared {
            self.turns.looked[1] = self.now;
        }
        let mut light = Quota::new(claim.light);
        let mut others = Quota::new(claim.want);
        let mut walk = Walk::from(self.turns.after);
        let mut enough = false;
        while !walk.ended && !enough {
            let (of_light, of_others) = self.ready_lanes(&mut walk, claim)?;
            self.serve(of_light, claim.node, &mut light)?;
            self.serve(of_others, claim.node, &mut others)?;
            enough = light.is_met() && others.is_met();
        }
        self.turns.after = if walk.ended { 0 } else { walk.at };
        light.taken.append(&mut others.taken);
        Ok(light.taken)
    }

    /// The next lanes with ready rows that the node may take from: of light machines, and of others.
    fn ready_lanes(&mut self, walk: &mut Walk, claim: &Claim) -> Result<(Lanes, Lanes), StoreError> {
        let (mut light, mut others) = (Lanes::new(), Lanes::new());
        while light.len() + others.len() < LANES {
            let Some(id) = walk.next(self.sql).map_err(crate::error::told)? else { break };
            let lane = self.lane(id)?;
            if self.fits(&lane, claim)? {
                if lane.light { &mut light } else { &mut others }.push((id, lane));
            }
        }
        Ok((light, others))
    }

    /// Serves lanes until enough is taken or nothing is left in them.
    fn serve(&mut self, lanes: Lanes, node: NodeId, quota: &mut Quota) -> Result<(), StoreError> {
        if quota.is_met() {
            return Ok(());
        }
        let lanes = lanes.into_iter().map(|(id, lane)| (lane.ns, lane.class, (id, lane)));
        let mut queues = self.turns.shares.queues(lanes);
        while !quota.is_met() && !queues.is_empty() {
            let next = (0..queues.len())
                .min_by_key(|i| self.turns.shares.given(queues[*i].namespace()))
                .unwrap_or_default();
            let turn = quota.left().min((quota.want / queues.len()).max(1));
            let ns = queues[next].namespace();
            let Some((class, (id, lane))) = queues[next].pop() else {
                queues.swap_remove(next);
                continue;
            };
            let before = quota.taken.len();
            self.take_from(id, &lane, node, turn, &mut quota.taken)?;
            let took = quota.taken.len() - before;
            self.turns.shares.served(ns, took);
            if took == turn {
                // There may be more in it.
                queues[next].put_back(class, (id, lane));
            }
        }
        Ok(())
    }

    /// Takes rows of one lane as its limits allow.
    fn take_from(
        &mut self,
        id: i64,
        lane: &Lane,
        node: NodeId,
        want: usize,
        taken: &mut Vec<Claimed>,
    ) -> Result<(), StoreError> {
        let end = taken.len() + want;
        if lane.concurrency != 0 {
            self.take_holders(id, lane, node, want as i64, taken)?;
        }
        let left = (end - taken.len()) as i64;
        let room = self.room(lane, left)?;
        if room.rows > 0 {
            let first = taken.len();
            self.take(id, lane, node, room.rows, taken)?;
            self.charge(lane, &taken[first..])?;
        }
        let left = (end - taken.len()) as i64;
        match room.full {
            Some(Full::Refuse) if left > 0 => {
                let first = taken.len();
                self.take(id, lane, node, left, taken)?;
                taken[first..].iter_mut().for_each(|row| row.refused = true);
            }
            Some(Full::CancelHolders) if self.has_ready(id)? => self.cancel_holders(lane.concurrency)?,
            _ => {}
        }
        Ok(())
    }

    /// The claim itself: reads the first rows of a lane with their machines and marks them as the node's.
    fn take(
        &mut self,
        id: i64,
        lane: &Lane,
        node: NodeId,
        count: i64,
        taken: &mut Vec<Claimed>,
    ) -> Result<(), StoreError> {
        let found = self.read(READY, params![id, count], id, lane, taken)?;
        if found > 0 {
            let marked = self.run(MARK_READY, params![id, count, node.0, self.now])?;
            debug_assert_eq!(marked, found);
        }
        Ok(())
    }

    fn take_holders(
        &mut self,
        id: i64,
        lane: &Lane,
        node: NodeId,
        count: i64,
        taken: &mut Vec<Claimed>,
    ) -> Result<(), StoreError> {
        let found = self.read(READY_HOLDERS, params![id, count, lane.concurrency], id, lane, taken)?;
        for row in &taken[taken.len() - found..] {
            self.run(MARK, params![row.id.0, node.0, self.now])?;
        }
        Ok(())
    }

    fn read(
        &mut self,
        which: &'static str,
        values: impl rusqlite::Params,
        id: i64,
        lane: &Lane,
        taken: &mut Vec<Claimed>,
    ) -> Result<usize, StoreError> {
        let namespace = self.namespace_name(lane.ns)?;
        let home = (lane.home != 0).then_some(NodeId(lane.home));
        let rows = self.rows(which, values, |r| claimed(r, namespace.clone(), home, (id, lane.light)))?;
        let found = rows.len();
        for (mut row, woken) in rows {
            if woken > 0 {
                row.mail = crate::letters::of(self.sql, row.id.0)?;
            }
            taken.push(row);
        }
        Ok(found)
    }

    pub(crate) fn has_ready(&self, lane: i64) -> Result<bool, StoreError> {
        Ok(self.row("SELECT 1 FROM tick WHERE phase=1 AND lane=?1 LIMIT 1", [lane], |_| Ok(()))?.is_some())
    }
}

/// Row of the task whose ends this machine's end is one of: parts of flows and what starts runs are none.
pub(crate) fn heard(kind: Kind, parent: Option<MachineId>, task: i64) -> i64 {
    if parent.is_some() || kind.is_starter() { 0 } else { task }
}

/// A row of a claim, and whether letters wait for it.
pub(crate) fn claimed(
    r: &Row<'_>,
    namespace: std::sync::Arc<str>,
    home: Option<NodeId>,
    (lane, light): (i64, bool),
) -> rusqlite::Result<(Claimed, i64)> {
    let (kind, parent) = (Kind(r.get(5)?), r.get::<_, Option<i64>>(11)?.map(MachineId));
    let task = r.get(6)?;
    let row = Claimed {
        id: MachineId(r.get(0)?),
        kind,
        light,
        namespace,
        task,
        definition: r.get(7)?,
        step: r.get::<_, i64>(8)? as u64,
        fence: r.get::<_, i64>(1)? as u64 + 1,
        fields: r.get(9)?,
        due_at: r.get(2)?,
        started_at: r.get(10)?,
        lost: r.get(3)?,
        refused: false,
        parent,
        child_key: r.get(12)?,
        watcher: r.get::<_, Option<i64>>(13)?.map(MachineId),
        home,
        mail: Vec::new(),
        receipt: Receipt {
            lane,
            last_event: r.get(14)?,
            unique: r.get(15)?,
            task: heard(kind, parent, task),
        },
    };
    Ok((row, r.get(4)?))
}

/// A walk over the lanes that have ready rows: from where the last one left off to the end, then from the beginning.
struct Walk {
    start: i64,
    at: i64,
    wrapped: bool,
    ended: bool,
}

impl Walk {
    fn from(start: i64) -> Self {
        Self { start, at: start, wrapped: start == 0, ended: false }
    }

    fn next(&mut self, sql: &Connection) -> rusqlite::Result<Option<i64>> {
        while !self.ended {
            let found =
                sql.prepare_cached(NEXT_LANE)?.query_row([self.at], |r| r.get::<_, i64>(0)).optional()?;
            match found {
                Some(lane) if !self.wrapped || self.start == 0 || lane <= self.start => {
                    self.at = lane;
                    return Ok(Some(lane));
                }
                None if !self.wrapped => (self.wrapped, self.at) = (true, 0),
                _ => self.ended = true,
            }
        }
        Ok(None)
    }
}

/// The earliest moment at which time alone makes something ready: a due moment, or a rate that has room again.
///
/// A rate that had room at the last claim does not count: what is left in its lane waits for something else.
pub(crate) fn next_due(sql: &Connection, turns: &Turns) -> rusqlite::Result<Option<Micros>> {
    let later: Option<Micros> = sql
        .prepare_cached("SELECT due_at FROM tick WHERE phase=0 ORDER BY due_at LIMIT 1")?
        .query_row([], |r| r.get(0))
        .optional()?;
    let rate: Option<Micros> = sql
        .prepare_cached(
            "SELECT min(r.tat-(r.max-1)*r.interval) FROM lane l CROSS JOIN \"limit\" r ON r.id=l.rate
             WHERE l.rate<>0 AND r.max>0 AND r.tat-(r.max-1)*r.interval>CASE WHEN l.home=0 THEN ?2 ELSE ?1 END
               AND EXISTS (SELECT 1 FROM tick t WHERE t.phase=1 AND t.lane=l.id)",
        )?
        .query_row(turns.looked, |r| r.get(0))?;
    Ok([later.filter(|at| *at != NEVER), rate].into_iter().flatten().min())
}

//! Claim: taking ready machines for a node.
//!
//! What is due is promoted in batches. Then lanes that have ready rows are found ([`crate::lanes`]) and served: between
//! namespaces by turns, inside a namespace by class, inside a lane along the ready index, as far as its limits
//! ([`crate::limits`]) allow.

use ostler_model::{Kind, MachineId};
use ostler_store::{Claim, Claimed, Micros, NEVER, NodeId, Queues, Receipt, StoreError, Turn, Waiting, Walk};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::{Tx, lanes::Sort, limits::Full, names::Lane};

/// How many due rows one claim promotes at most; the next claim promotes the rest.
const PROMOTED: i64 = 1000;

/// Rides on `tick_later`.
pub(crate) const PROMOTE: &str = "UPDATE tick SET phase=1 WHERE machine IN
  (SELECT machine FROM tick WHERE phase=0 AND due_at<=?1 ORDER BY due_at LIMIT ?2)";

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
    "UPDATE tick SET phase=2, node=?3, fence=fence+1, since=?4, charged=?5 WHERE machine IN
  (SELECT machine FROM tick WHERE phase=1 AND lane=?1 ORDER BY priority, due_at, machine LIMIT ?2)";

const MARK: &str = "UPDATE tick SET phase=2, node=?2, fence=fence+1, since=?3, charged=?4 WHERE machine=?1";

/// The first moment at which a lane is to be looked at that has passed no claim.
pub(crate) const NEXT_RATE: &str = "SELECT v.at FROM visit v CROSS JOIN lane l ON l.id=v.lane
  WHERE v.light=?1 AND v.at>min(?2, ?3) AND v.at>CASE WHEN l.home=0 THEN ?3 ELSE ?2 END ORDER BY v.at LIMIT 1";

/// Whose turn it is, and where the last claim left off.
pub(crate) struct Turns {
    /// Of what takes a slot, and of what is light.
    sorts: [Sort; 2],
    /// When lanes were last looked at: own ones, shared ones.
    looked: [Micros; 2],
}

impl Default for Turns {
    fn default() -> Self {
        // Who never looks at shared lanes waits for no moment of theirs.
        Self { sorts: [Sort::new(false), Sort::new(true)], looked: [0, NEVER] }
    }
}

impl Turns {
    pub(crate) fn of(&mut self, light: bool) -> &mut Sort {
        &mut self.sorts[usize::from(light)]
    }
}

/// What is left of a lane that was served.
enum Left {
    /// There may be more.
    More,
    /// Nothing that may be taken before somebody says so.
    Nothing,
    /// More, when its rate has room again.
    Until(Micros),
}

/// A lane that is taken from.
struct Taking {
    key: i64,
    lane: Lane,
    node: NodeId,
    /// What its namespace is charged for each row.
    charged: Micros,
}

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
        let mut taken = self.claim_sort(claim, true, claim.light)?;
        taken.append(&mut self.claim_sort(claim, false, claim.want)?);
        Ok(taken)
    }

    fn claim_sort(&mut self, claim: &Claim, light: bool, want: u32) -> Result<Vec<Claimed>, StoreError> {
        let mut quota = Quota::new(want);
        let mut walk = Walk::behind(self.turns.of(light).after, light);
        while !walk.is_ended() && !quota.is_met() {
            let lanes = self.next_lanes(&mut walk, light, claim)?;
            let queues = self.turns.of(light).shares.queues(lanes, &claim.labels);
            self.serve(queues, claim.node, light, &mut quota)?;
        }
        let sort = self.turns.of(light);
        sort.after = walk.next();
        if walk.is_ended() {
            sort.shares.walked(&claim.labels);
        }
        Ok(quota.taken)
    }

    /// Serves lanes until enough is taken or nothing is left in them.
    fn serve(
        &mut self,
        mut queues: Queues<Lane>,
        node: NodeId,
        light: bool,
        quota: &mut Quota,
    ) -> Result<(), StoreError> {
        while !quota.is_met() && !queues.is_empty() {
            for turn in queues.deal(&self.turns.of(light).shares, quota.left()) {
                let before = quota.taken.len();
                let left = self.take_from(&turn, node, &mut quota.taken)?;
                let rows = quota.taken.len() - before;
                self.turns.of(light).shares.charge(&turn, rows);
                if let Left::More = left {
                    queues.put_back(turn.of);
                }
            }
        }
        Ok(())
    }

    /// Takes rows of one lane as its limits allow.
    fn take_from(
        &mut self,
        turn: &Turn<Lane>,
        node: NodeId,
        taken: &mut Vec<Claimed>,
    ) -> Result<Left, StoreError> {
        let Waiting { key, lane, .. } = turn.of;
        let charged = if lane.light { 0 } else { self.turns.of(false).shares.estimate(lane.ns, lane.class) };
        let taking = Taking { key, lane, node, charged };
        if !lane.is_limited() {
            let found = self.take(&taking, turn.count as i64, taken)?;
            return Ok(if found == turn.count { Left::More } else { Left::Nothing });
        }
        let end = taken.len() + turn.count;
        if lane.concurrency != 0 {
            self.take_holders(&taking, turn.count as i64, taken)?;
        }
        let room = self.room(&lane, (end - taken.len()) as i64)?;
        let first = taken.len();
        if room.rows > 0 {
            self.take(&taking, room.rows, taken)?;
            self.charge(&lane, &taken[first..])?;
        }
        let by_rate = room.free_at.filter(|_| (taken.len() - first) as i64 == room.rows);
        let missing = (end - taken.len()) as i64;
        if let Some(Full::Refuse) = room.full
            && missing > 0
        {
            let first = taken.len();
            self.take(&taking, missing, taken)?;
            taken[first..].iter_mut().for_each(|row| row.refused = true);
        }
        let left = match by_rate {
            _ if taken.len() == end => Left::More,
            Some(at) if room.full.is_none() && self.has_ready(key)? => Left::Until(at),
            _ => Left::Nothing,
        };
        match left {
            Left::More => {}
            Left::Nothing => drop(self.run("DELETE FROM visit WHERE lane=?1", [key])?),
            Left::Until(at) => drop(self.run("UPDATE visit SET at=?2 WHERE lane=?1", [key, at])?),
        }
        // Last, since the letters may wake what stands in this lane.
        if room.full == Some(Full::CancelHolders) && self.has_ready(key)? {
            self.cancel_holders(lane.concurrency)?;
        }
        Ok(left)
    }

    /// The claim itself: reads the first rows of a lane with their machines and marks them as the node's.
    fn take(&mut self, taking: &Taking, count: i64, taken: &mut Vec<Claimed>) -> Result<usize, StoreError> {
        let found = self.read(READY, params![taking.key, count], taking, taken)?;
        if found > 0 {
            let values = params![taking.key, count, taking.node.0, self.now, taking.charged];
            let marked = self.run(MARK_READY, values)?;
            debug_assert_eq!(marked, found);
        }
        Ok(found)
    }

    fn take_holders(
        &mut self,
        taking: &Taking,
        count: i64,
        taken: &mut Vec<Claimed>,
    ) -> Result<(), StoreError> {
        let values = params![taking.key, count, taking.lane.concurrency];
        let found = self.read(READY_HOLDERS, values, taking, taken)?;
        for row in &taken[taken.len() - found..] {
            self.run(MARK, params![row.id.0, taking.node.0, self.now, taking.charged])?;
        }
        Ok(())
    }

    fn read(
        &mut self,
        which: &'static str,
        values: impl rusqlite::Params,
        taking: &Taking,
        taken: &mut Vec<Claimed>,
    ) -> Result<usize, StoreError> {
        let lane = taking.lane;
        let namespace = self.namespace_name(lane.ns)?;
        let home = (lane.home != 0).then_some(NodeId(lane.home));
        let rows =
            self.rows(which, values, |r| claimed(r, namespace.clone(), home, (taking.key, lane.light)))?;
        let found = rows.len();
        for (mut row, woken) in rows {
            row.receipt.charged = taking.charged;
            if woken > 0 {
                row.mail = crate::letters::of(self.sql, row.id.0)?;
            }
            taken.push(row);
        }
        Ok(found)
    }

    /// A claim that was charged has ended: its namespace is charged what it took.
    pub(crate) fn settle(&mut self, receipt: &Receipt, took: Micros) {
        if let Ok(lane) = self.lane(receipt.lane)
            && !lane.light
        {
            self.turns.of(false).shares.settle(lane.ns, lane.class, receipt.charged, took);
        }
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
            charged: 0,
        },
    };
    Ok((row, r.get(4)?))
}

/// The earliest moment at which time alone makes something ready: a due moment, or a rate that has room again.
///
/// A rate that had room at the last claim does not count: what is left in its lane waits for something else.
pub(crate) fn next_due(sql: &Connection, turns: &Turns) -> rusqlite::Result<Option<Micros>> {
    let later: Option<Micros> = sql
        .prepare_cached("SELECT due_at FROM tick WHERE phase=0 ORDER BY due_at LIMIT 1")?
        .query_row([], |r| r.get(0))
        .optional()?;
    let [own, shared] = turns.looked;
    let rate = |light: bool| -> rusqlite::Result<Option<Micros>> {
        sql.prepare_cached(NEXT_RATE)?.query_row(params![light, own, shared], |r| r.get(0)).optional()
    };
    let rates = [rate(false)?, rate(true)?];
    Ok(rates.into_iter().chain([later.filter(|at| *at != NEVER)]).flatten().min())
}

//! Claim: taking ready machines for a node, beside other nodes that do the same.
//!
//! What is due is promoted in batches. Then the lanes that have ready rows are found by a skip scan and served in
//! rounds: between namespaces by turns, inside a namespace strictly by class, inside a lane along the ready index. One
//! round is one statement, for however many lanes. Lanes with limits ([`crate::limits`]) are served one by one.
//!
//! A row that another transaction has in its hands is passed over: it is being claimed, or told something, and whoever
//! has it looks after it.

use std::collections::{HashMap, HashSet};

use ostler_model::{Kind, MachineId};
use ostler_store::{Claim, Claimed, Letter, NodeId, Queue, Receipt};
use tokio_postgres::Row;

use crate::{
    limits::Full,
    names::Lane,
    start::heard,
    trouble::Done,
    tx::Tx,
    value::{Columns, values},
};

/// How many due rows one claim promotes at most; the next claim promotes the rest.
const PROMOTED: i64 = 1000;

/// How many lanes are weighed against one another.
const LANES: i64 = 256;

/// Rides on `tick_later`.
pub(crate) const PROMOTE: &str = "UPDATE tick SET phase=1 WHERE machine=ANY(ARRAY(
  SELECT machine FROM tick WHERE phase=0 AND due_at<=$1 ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED))";

/// The next lanes that have ready rows: one probe of `tick_ready` for each, however many rows the lane holds.
pub(crate) const NEXT_LANES: &str = "WITH RECURSIVE found (lane, count) AS (
    (SELECT lane, 1 FROM tick WHERE phase=1 AND lane>$1 ORDER BY lane LIMIT 1)
    UNION ALL
    SELECT (SELECT t.lane FROM tick t WHERE t.phase=1 AND t.lane>found.lane ORDER BY t.lane LIMIT 1), count+1
      FROM found WHERE found.lane IS NOT NULL AND count<$2)
  SELECT l.id, l.ns, l.class, l.concurrency, l.rate, l.home, l.light, l.labels FROM found JOIN lane l ON l.id=found.lane
  ORDER BY l.id";

/// The first ready rows of each lane, marked as the node's, each with its machine.
pub(crate) const TAKE: &str = "WITH picked AS MATERIALIZED (
    SELECT p.machine FROM unnest($1, $2) u(lane, count) CROSS JOIN LATERAL (
      SELECT t.machine FROM tick t WHERE t.phase=1 AND t.lane=u.lane
      ORDER BY t.priority, t.due_at, t.machine LIMIT u.count FOR UPDATE SKIP LOCKED) p),
  marked AS (
    UPDATE tick t SET phase=2, node=$3, fence=t.fence+1, since=$4 WHERE t.machine=ANY(ARRAY(SELECT machine FROM picked))
    RETURNING t.machine, t.fence, t.due_at, t.lost, t.woken, t.lane, t.priority)
  SELECT t.machine, t.fence, t.due_at, t.lost, t.woken, t.lane, m.kind, m.task, m.definition, m.step, m.fields,
    m.started_at, m.parent, m.child_key, m.watcher, m.last_event, m.unique_key IS NOT NULL, t.priority
  FROM marked t JOIN machine m ON m.id=t.machine ORDER BY t.lane, t.priority, t.due_at, t.machine";

/// The ready rows of a lane that hold its permit already: a flow that goes on.
pub(crate) const TAKE_HOLDERS: &str = "WITH picked AS MATERIALIZED (
    SELECT t.machine FROM permit p JOIN tick t ON t.machine=p.machine
    WHERE p.\"limit\"=$5 AND t.phase=1 AND t.lane=$1 LIMIT $2 FOR UPDATE OF t SKIP LOCKED),
  marked AS (
    UPDATE tick t SET phase=2, node=$3, fence=t.fence+1, since=$4 WHERE t.machine=ANY(ARRAY(SELECT machine FROM picked))
    RETURNING t.machine, t.fence, t.due_at, t.lost, t.woken, t.lane, t.priority)
  SELECT t.machine, t.fence, t.due_at, t.lost, t.woken, t.lane, m.kind, m.task, m.definition, m.step, m.fields,
    m.started_at, m.parent, m.child_key, m.watcher, m.last_event, m.unique_key IS NOT NULL, t.priority
  FROM marked t JOIN machine m ON m.id=t.machine ORDER BY t.priority, t.due_at, t.machine";

const LETTERS: &str = "SELECT machine, seq, body FROM mail WHERE machine=ANY($1) ORDER BY machine, seq";

const HOLD_BACK: &str = "UPDATE tick t SET phase=3, node=NULL, held=t.held|u.held::smallint
  FROM unnest($1, $2) u(machine, held) WHERE t.machine=u.machine AND t.machine=ANY($1)";

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

/// A lane with its row.
type Numbered = (i64, Lane);

/// A lane of a round, with its queue and what it may give.
struct Turn {
    queue: usize,
    lane: Numbered,
    count: usize,
}

impl Tx<'_> {
    /// Takes at most `want` and `light` machines. When fewer of a sort come back, nothing of it that the node may take
    /// is ready, except what waits for a limit or is in another transaction's hands.
    pub(crate) fn claim(&mut self, claim: &Claim) -> Done<Vec<Claimed>> {
        self.run(PROMOTE, values![self.now, PROMOTED])?;
        self.turns.look(self.now, claim.shared);
        let mut light = Quota::new(claim.light);
        let mut others = Quota::new(claim.want);
        let start = self.turns.after;
        let (mut at, mut wrapped, mut ended) = (start, start == 0, false);
        while !(ended || light.is_met() && others.is_met()) {
            let found = self.next_lanes(at)?;
            ended = wrapped && (found.len() as i64) < LANES;
            at = match found.last() {
                Some((last, _)) if (found.len() as i64) == LANES => *last,
                _ => 0,
            };
            let beyond = |id: i64| wrapped && start != 0 && id > start;
            ended |= found.iter().any(|(id, _)| beyond(*id));
            let (mut of_light, mut of_others): (Vec<Numbered>, Vec<Numbered>) = Default::default();
            for (id, lane) in found.into_iter().filter(|(id, _)| !beyond(*id)) {
                if self.fits(&lane, claim)? {
                    if lane.light { &mut of_light } else { &mut of_others }.push((id, lane));
                }
            }
            self.serve(of_light, claim.node, &mut light)?;
            self.serve(of_others, claim.node, &mut others)?;
            wrapped |= at == 0;
        }
        self.turns.after = if ended { 0 } else { at };
        light.taken.append(&mut others.taken);
        let mut taken = light.taken;
        self.hold_back_paused(&mut taken)?;
        self.bring_letters(&mut taken)?;
        Ok(taken)
    }

    fn next_lanes(&mut self, after: i64) -> Done<Vec<Numbered>> {
        let rows = self.rows(NEXT_LANES, values![after, LANES])?;
        rows.iter()
            .map(|r| {
                let lane = Lane {
                    ns: r.int(1)?,
                    class: r.int(2)?,
                    concurrency: r.int(3)?,
                    rate: r.int(4)?,
                    home: r.int(5)?,
                    light: r.flag(6)?,
                    labels: r.int(7)?,
                };
                Ok((r.int(0)?, lane))
            })
            .collect()
    }

    /// Serves lanes until enough is taken or nothing is left in them.
    fn serve(&mut self, lanes: Vec<Numbered>, node: NodeId, quota: &mut Quota) -> Done<()> {
        if quota.is_met() || lanes.is_empty() {
            return Ok(());
        }
        let lanes = lanes.into_iter().map(|numbered| (numbered.1.ns, numbered.1.class, numbered));
        let mut queues = self.turns.shares.queues(lanes);
        while !quota.is_met() && !queues.is_empty() {
            let mut round = self.round(&mut queues, quota);
            let (limited, free): (Vec<Turn>, Vec<Turn>) =
                round.drain(..).partition(|turn| turn.lane.1.concurrency != 0 || turn.lane.1.rate != 0);
            let mut took = self.take_free(&free, node, quota)?;
            for turn in &limited {
                let before = quota.taken.len();
                self.take_limited(turn.lane, node, turn.count, &mut quota.taken)?;
                took.insert(turn.lane.0, quota.taken.len() - before);
            }
            for turn in limited.into_iter().chain(free) {
                let rows = took.get(&turn.lane.0).copied().unwrap_or(0);
                let queue = &mut queues[turn.queue];
                self.turns.shares.served(queue.namespace(), rows);
                if rows == turn.count {
                    // There may be more in it.
                    queue.put_back(turn.lane.1.class, turn.lane);
                }
            }
            queues.retain(|queue| !queue.is_empty());
        }
        Ok(())
    }

    /// The first lane of each namespace, the least served first, with an equal part of what is wanted.
    fn round(&self, queues: &mut [Queue<Numbered>], quota: &Quota) -> Vec<Turn> {
        let mut order: Vec<usize> = (0..queues.len()).collect();
        order.sort_by_key(|i| self.turns.shares.given(queues[*i].namespace()));
        let share = (quota.left() / queues.len()).max(1);
        let mut left = quota.left();
        let mut round = Vec::new();
        for queue in order {
            let count = share.min(left);
            if count == 0 {
                break;
            }
            if let Some((_, lane)) = queues[queue].pop() {
                left -= count;
                round.push(Turn { queue, lane, count });
            }
        }
        round
    }

    /// Takes rows of lanes without limits; says how many of each.
    fn take_free(&mut self, round: &[Turn], node: NodeId, quota: &mut Quota) -> Done<HashMap<i64, usize>> {
        let mut took: HashMap<i64, usize> = HashMap::new();
        if round.is_empty() {
            return Ok(took);
        }
        let lanes: HashMap<i64, Lane> = round.iter().map(|turn| turn.lane).collect();
        let ids: Vec<i64> = round.iter().map(|turn| turn.lane.0).collect();
        let counts: Vec<i64> = round.iter().map(|turn| turn.count as i64).collect();
        let rows = self.written(TAKE, values![ids, counts, node.0, self.now])?;
        let mut found: HashMap<i64, Vec<Claimed>> = HashMap::new();
        for row in &rows {
            let id = row.int(5)?;
            let Some(lane) = lanes.get(&id) else { continue };
            *took.entry(id).or_default() += 1;
            let claimed = self.claimed(row, (id, *lane))?;
            found.entry(id).or_default().push(claimed);
        }
        // In the order of turns, inside a lane as it stands.
        for turn in round {
            quota.taken.extend(found.remove(&turn.lane.0).unwrap_or_default());
        }
        Ok(took)
    }

    /// Takes rows of one lane as its limits allow.
    fn take_limited(
        &mut self,
        lane: Numbered,
        node: NodeId,
        want: usize,
        taken: &mut Vec<Claimed>,
    ) -> Done<()> {
        // Whoever has the limit in hand is claiming from it; this node comes back.
        if !self.lock_limits(&lane.1)? {
            self.turns.come_back(self.now);
            return Ok(());
        }
        let end = taken.len() + want;
        if lane.1.concurrency != 0 {
            let values = values![lane.0, want as i64, node.0, self.now, lane.1.concurrency];
            for row in self.written(TAKE_HOLDERS, values)? {
                let claimed = self.claimed(&row, lane)?;
                taken.push(claimed);
            }
        }
        let room = self.room(&lane.1, (end - taken.len()) as i64)?;
        if room.rows > 0 {
            let first = taken.len();
            self.take(lane, node, room.rows, taken)?;
            self.charge(&lane.1, &taken[first..])?;
        }
        let left = (end - taken.len()) as i64;
        match room.full {
            Some(Full::Refuse) if left > 0 => {
                let first = taken.len();
                self.take(lane, node, left, taken)?;
                taken[first..].iter_mut().for_each(|row| row.refused = true);
            }
            Some(Full::CancelHolders) if self.has_ready(lane.0)? => {
                self.cancel_holders(lane.1.concurrency)?
            }
            _ => {}
        }
        Ok(())
    }

    fn take(&mut self, lane: Numbered, node: NodeId, count: i64, taken: &mut Vec<Claimed>) -> Done<()> {
        for row in self.written(TAKE, values![vec![lane.0], vec![count], node.0, self.now])? {
            let claimed = self.claimed(&row, lane)?;
            taken.push(claimed);
        }
        Ok(())
    }

    fn has_ready(&mut self, lane: i64) -> Done<bool> {
        Ok(self.row("SELECT 1 FROM tick WHERE phase=1 AND lane=$1 LIMIT 1", values![lane])?.is_some())
    }

    /// A start that did not see the pause which came beside it is held when it is to be claimed.
    fn hold_back_paused(&mut self, taken: &mut Vec<Claimed>) -> Done<()> {
        let mut held: Vec<(MachineId, i64)> = Vec::new();
        for row in taken.iter() {
            let begins = row.parent.is_none() && (row.started_at.is_none() || row.kind.is_starter());
            if begins && !row.refused {
                let ns = self.namespace(&row.namespace)?;
                let by = self.held_by_pause(ns, row.task)?;
                if by != 0 {
                    held.push((row.id, by));
                }
            }
        }
        if held.is_empty() {
            return Ok(());
        }
        // One that is to end is not held; its letter says so.
        let ids: Vec<i64> = held.iter().map(|(id, _)| id.0).collect();
        let sql = "SELECT DISTINCT machine FROM mail WHERE machine=ANY($1) AND body LIKE '{\"cancel\":%'";
        let cancelled: HashSet<i64> = self.keys(sql, values![ids])?.into_iter().collect();
        held.retain(|(id, _)| !cancelled.contains(&id.0));
        let gone: HashSet<MachineId> = held.iter().map(|(id, _)| *id).collect();
        for row in taken.iter().filter(|row| gone.contains(&row.id)) {
            let lane = self.lane(row.receipt.lane)?;
            self.give_back(&[(lane, row.id.0)])?;
        }
        let (ids, by): (Vec<i64>, Vec<i64>) = held.iter().map(|(id, by)| (id.0, *by)).unzip();
        self.run(HOLD_BACK, values![ids, by])?;
        taken.retain(|row| !gone.contains(&row.id));
        Ok(())
    }

    fn bring_letters(&mut self, taken: &mut [Claimed]) -> Done<()> {
        // What was woken is marked by a place-holder, since the count is not kept in the row.
        let woken: Vec<i64> = taken.iter().filter(|row| !row.mail.is_empty()).map(|row| row.id.0).collect();
        if woken.is_empty() {
            return Ok(());
        }
        let mut letters: HashMap<i64, Vec<(i64, Letter)>> = HashMap::new();
        for row in self.rows(LETTERS, values![woken])? {
            letters.entry(row.int(0)?).or_default().push((row.int(1)?, letter(row.text(2)?)));
        }
        for row in taken.iter_mut().filter(|row| !row.mail.is_empty()) {
            row.mail = letters.remove(&row.id.0).unwrap_or_default();
        }
        Ok(())
    }

    fn claimed(&mut self, r: &Row, (id, lane): Numbered) -> Done<Claimed> {
        let (kind, parent) = (Kind(u8::try_from(r.int(6)?).unwrap_or(0)), r.int_or(12)?.map(MachineId));
        let task = r.int(7)?;
        let place_holder = (0, Letter::Redefined);
        Ok(Claimed {
            id: MachineId(r.int(0)?),
            kind,
            light: lane.light,
            namespace: self.namespace_name(lane.ns)?,
            task,
            definition: r.int(8)?,
            step: r.int(9)? as u64,
            fence: r.int(1)? as u64,
            fields: r.text(10)?,
            due_at: r.int(2)?,
            started_at: r.int_or(11)?,
            lost: r.flag(3)?,
            refused: false,
            parent,
            child_key: r.text_or(13)?,
            watcher: r.int_or(14)?.map(MachineId),
            home: (lane.home != 0).then_some(NodeId(lane.home)),
            mail: if r.int(4)? > 0 { vec![place_holder] } else { Vec::new() },
            receipt: Receipt {
                lane: id,
                last_event: r.int(15)?,
                unique: r.flag(16)?,
                task: heard(kind, parent, task),
            },
        })
    }
}

/// One that does not read is told as a signal: it must not keep the machine, and with it everything else that is
/// claimed, from going on.
pub(crate) fn letter(body: String) -> Letter {
    match serde_json::from_str(&body) {
        Ok(letter) => letter,
        Err(_) => Letter::Signal { name: "unreadable".into(), body },
    }
}

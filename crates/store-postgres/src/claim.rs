//! Claim: taking ready machines for a node, beside other nodes that do the same.
//!
//! What is due is promoted in batches. Then lanes that have ready rows are found ([`crate::lanes`]) and served in rounds:
//! between namespaces by turns, inside a namespace by class, inside a lane along the ready index. One round is one
//! statement, for however many lanes. Lanes with limits ([`crate::limits`]) are served one by one.
//!
//! A row that another transaction has in its hands is passed over: it is being claimed, or told something, and whoever
//! has it looks after it.

use std::collections::{HashMap, HashSet};

use ostler_model::{Kind, MachineId};
use ostler_store::{Claim, Claimed, Letter, Micros, NodeId, Queues, Receipt, Turn, Waiting, Walk};
use tokio_postgres::Row;

use crate::{
    lanes::{self, Page},
    limits::Full,
    names::Lane,
    start::heard,
    trouble::Done,
    turns::COME_BACK,
    tx::Tx,
    value::{Columns, values},
};

/// How many due rows one claim promotes at most; the next claim promotes the rest.
const PROMOTED: i64 = 1000;

/// Rides on `tick_later`.
pub(crate) const PROMOTE: &str = "UPDATE tick SET phase=1 WHERE machine=ANY(ARRAY(
  SELECT machine FROM tick WHERE phase=0 AND due_at<=$1 ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED))";

/// The first ready rows of each lane, marked as the node's, each with its machine.
pub(crate) const TAKE: &str = "WITH picked AS MATERIALIZED (
    SELECT p.machine FROM unnest($1, $2) u(lane, count) CROSS JOIN LATERAL (
      SELECT t.machine FROM tick t WHERE t.phase=1 AND t.lane=u.lane
      ORDER BY t.priority, t.due_at, t.machine LIMIT u.count FOR UPDATE SKIP LOCKED) p),
  marked AS (
    UPDATE tick t SET phase=2, node=$3, fence=t.fence+1, since=$4,
      charged=($5)[array_position($1, t.lane::bigint)]
    WHERE t.machine=ANY(ARRAY(SELECT machine FROM picked))
    RETURNING t.machine, t.fence, t.due_at, t.lost, t.woken, t.lane, t.priority)
  SELECT t.machine, t.fence, t.due_at, t.lost, t.woken, t.lane, m.kind, m.task, m.definition, m.step, m.fields,
    m.started_at, m.parent, m.child_key, m.watcher, m.last_event, m.unique_key IS NOT NULL, t.priority
  FROM marked t JOIN machine m ON m.id=t.machine ORDER BY t.lane, t.priority, t.due_at, t.machine";

/// The ready rows of a lane that hold its permit already: a flow that goes on.
pub(crate) const TAKE_HOLDERS: &str = "WITH picked AS MATERIALIZED (
    SELECT t.machine FROM permit p JOIN tick t ON t.machine=p.machine
    WHERE p.\"limit\"=$5 AND t.phase=1 AND t.lane=$1 LIMIT $2 FOR UPDATE OF t SKIP LOCKED),
  marked AS (
    UPDATE tick t SET phase=2, node=$3, fence=t.fence+1, since=$4, charged=$6
    WHERE t.machine=ANY(ARRAY(SELECT machine FROM picked))
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

/// A lane that is taken from.
#[derive(Clone, Copy)]
struct Taking {
    key: i64,
    lane: Lane,
    node: NodeId,
    /// What its namespace is charged for each row.
    charged: Micros,
}

/// What is left of a lane that was served.
enum Left {
    /// There may be more.
    More,
    /// Nothing that may be taken before somebody says so.
    Nothing,
    /// More, from a moment on.
    Until(Micros),
}

impl Tx<'_> {
    /// Takes at most `want` and `light` machines. When fewer of a sort come back, nothing of it that the node may take
    /// is ready, except what waits for a limit or is in another transaction's hands.
    pub(crate) fn claim(&mut self, claim: &Claim) -> Done<Vec<Claimed>> {
        self.run_all(&[(lanes::RESOLVE, &[]), (PROMOTE, values![self.now, PROMOTED])])?;
        self.turns.look(self.now, claim.shared);
        if claim.shared {
            self.tell_and_hear()?;
        }
        let sorts = [(true, claim.light), (false, claim.want)];
        let wanted: Vec<_> = sorts.into_iter().filter(|(_, want)| *want > 0).collect();
        let places: Vec<_> = wanted.iter().map(|(light, _)| (*light, self.turns.of(*light).after)).collect();
        let pages = self.pages(&places)?;
        let mut taken = Vec::new();
        for ((light, want), page) in wanted.into_iter().zip(pages) {
            taken.append(&mut self.claim_sort(claim, light, want, page)?);
        }
        self.hold_back_paused(&mut taken)?;
        self.bring_letters(&mut taken)?;
        Ok(taken)
    }

    fn claim_sort(&mut self, claim: &Claim, light: bool, want: u32, first: Page) -> Done<Vec<Claimed>> {
        let mut quota = Quota::new(want);
        let mut walk = Walk::behind(self.turns.of(light).after, light);
        let mut page = Some(first);
        while !walk.is_ended() && !quota.is_met() {
            let page = match page.take() {
                Some(page) => page,
                None => self.pages(&[(light, walk.at())])?.pop().unwrap_or_default(),
            };
            let mut lanes = Vec::new();
            for found in walk.pass(page.found, page.more) {
                let lane = found.lane;
                if self.fits(&lane, claim)? {
                    lanes.push(found);
                }
            }
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
    fn serve(&mut self, mut queues: Queues<Lane>, node: NodeId, light: bool, quota: &mut Quota) -> Done<()> {
        while !quota.is_met() && !queues.is_empty() {
            let round = queues.deal(&self.turns.of(light).shares, quota.left());
            let (limited, free): (Vec<Turn<Lane>>, Vec<Turn<Lane>>) =
                round.into_iter().partition(|turn| turn.of.lane.is_limited());
            let took = self.take_free(&free, node, quota)?;
            for turn in free {
                let rows = took.get(&turn.of.key).copied().unwrap_or(0);
                self.turns.of(light).shares.charge(&turn, rows);
                if rows == turn.count {
                    // There may be more in it.
                    queues.put_back(turn.of);
                }
            }
            for turn in limited {
                let before = quota.taken.len();
                let left = self.take_limited(&turn, node, &mut quota.taken)?;
                self.turns.of(light).shares.charge(&turn, quota.taken.len() - before);
                if let Left::More = left {
                    queues.put_back(turn.of);
                }
            }
        }
        Ok(())
    }

    fn taking(&mut self, of: &Waiting<Lane>, node: NodeId) -> Taking {
        let Waiting { key, lane, .. } = *of;
        let charged = if lane.light { 0 } else { self.turns.of(false).shares.estimate(lane.ns, lane.class) };
        Taking { key, lane, node, charged }
    }

    /// Takes rows of lanes without limits; says how many of each.
    fn take_free(
        &mut self,
        round: &[Turn<Lane>],
        node: NodeId,
        quota: &mut Quota,
    ) -> Done<HashMap<i64, usize>> {
        let mut took: HashMap<i64, usize> = HashMap::new();
        if round.is_empty() {
            return Ok(took);
        }
        let takings: Vec<Taking> = round.iter().map(|turn| self.taking(&turn.of, node)).collect();
        let keys: Vec<i64> = takings.iter().map(|taking| taking.key).collect();
        let counts: Vec<i64> = round.iter().map(|turn| turn.count as i64).collect();
        let charged: Vec<i64> = takings.iter().map(|taking| taking.charged).collect();
        let rows = self.written(TAKE, values![keys, counts, node.0, self.now, charged])?;
        let by_key: HashMap<i64, Taking> = takings.iter().map(|taking| (taking.key, *taking)).collect();
        let mut found: HashMap<i64, Vec<Claimed>> = HashMap::new();
        for row in &rows {
            let key = row.int(5)?;
            let Some(taking) = by_key.get(&key) else { continue };
            *took.entry(key).or_default() += 1;
            let claimed = self.claimed(row, taking)?;
            found.entry(key).or_default().push(claimed);
        }
        // In the order of turns, inside a lane as it stands.
        for turn in round {
            quota.taken.extend(found.remove(&turn.of.key).unwrap_or_default());
        }
        Ok(took)
    }

    /// Takes rows of one lane as its limits allow.
    fn take_limited(&mut self, turn: &Turn<Lane>, node: NodeId, taken: &mut Vec<Claimed>) -> Done<Left> {
        let taking = self.taking(&turn.of, node);
        let Taking { key, lane, .. } = taking;
        // Whoever has the limit in hand is claiming from it; this node comes back.
        if !self.lock_limits(&lane)? {
            self.turns.come_back(self.now);
            return Ok(Left::Nothing);
        }
        // What is said from here on is not seen here, and stays on the list.
        self.visited(key)?;
        let end = taken.len() + turn.count;
        if lane.concurrency != 0 {
            let values = values![key, turn.count as i64, node.0, self.now, lane.concurrency, taking.charged];
            for row in self.written(TAKE_HOLDERS, values)? {
                let claimed = self.claimed(&row, &taking)?;
                taken.push(claimed);
            }
        }
        let room = self.room(&lane, (end - taken.len()) as i64)?;
        let first = taken.len();
        if room.rows > 0 {
            self.take(&taking, room.rows, taken)?;
            self.charge(&lane, &taken[first..])?;
        }
        let all_of_room = (taken.len() - first) as i64 == room.rows;
        let missing = (end - taken.len()) as i64;
        if let Some(Full::Refuse) = room.full
            && missing > 0
        {
            let first = taken.len();
            self.take(&taking, missing, taken)?;
            taken[first..].iter_mut().for_each(|row| row.refused = true);
        }
        let waits_for_permit = all_of_room && matches!(room.full, Some(Full::Wait | Full::CancelHolders));
        let left = match room.free_at.filter(|_| all_of_room && room.full.is_none()) {
            _ if taken.len() == end => Left::More,
            _ if waits_for_permit => Left::Nothing,
            at if self.has_ready(key)? => {
                // What is ready and was not taken is in another transaction's hands.
                Left::Until(at.unwrap_or(self.now + COME_BACK))
            }
            _ => Left::Nothing,
        };
        match left {
            Left::More => self.visit_again(&lane, key, 0)?,
            Left::Until(at) => self.visit_again(&lane, key, at)?,
            Left::Nothing => {}
        }
        if room.full == Some(Full::CancelHolders) && self.has_ready(key)? {
            self.cancel_holders(lane.concurrency)?;
        }
        Ok(left)
    }

    fn take(&mut self, taking: &Taking, count: i64, taken: &mut Vec<Claimed>) -> Done<()> {
        let (keys, counts, charged) = (vec![taking.key], vec![count], vec![taking.charged]);
        for row in self.written(TAKE, values![keys, counts, taking.node.0, self.now, charged])? {
            let claimed = self.claimed(&row, taking)?;
            taken.push(claimed);
        }
        Ok(())
    }

    /// A claim that was charged has ended: its namespace is charged what it took.
    pub(crate) fn settle(&mut self, receipt: &Receipt, took: Micros) {
        if let Ok(lane) = self.lane(receipt.lane)
            && !lane.light
        {
            self.turns.of(false).shares.settle(lane.ns, lane.class, receipt.charged, took);
        }
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

    fn claimed(&mut self, r: &Row, taking: &Taking) -> Done<Claimed> {
        let lane = taking.lane;
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
                lane: taking.key,
                last_event: r.int(15)?,
                unique: r.flag(16)?,
                task: heard(kind, parent, task),
                charged: taking.charged,
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

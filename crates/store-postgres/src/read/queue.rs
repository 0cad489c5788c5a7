//! The queue: lanes, limits, nodes, letters that wait, numbers.

use ostler_model::{Kind, MachineId};
use ostler_store::{
    Claimed, LaneRow, Letter, LimitRow, Mailbox, NodeId, NodeRow, Receipt, StoreStats, WaitingRow, labels_of,
};
use tokio_postgres::Row;

use super::View;
use crate::{
    claim::letter,
    migrate::SCHEMA,
    start::heard,
    trouble::Done,
    value::{Columns, values},
};

pub(crate) const WITH_MAIL: &str = "SELECT t.machine, l.body FROM tick t JOIN mail l ON l.machine=t.machine
  WHERE t.phase=2 AND t.node=$1 AND t.woken>0 ORDER BY l.machine, l.seq";
const MAILBOX: &str =
    "SELECT (SELECT count(*) FROM mail WHERE machine=$1), held<>0 FROM tick WHERE machine=$1";
const CLAIMS: &str = "SELECT machine, fence FROM tick WHERE phase=2 AND node=$1";
/// What a claim has read, and what it knew of the lane. Whoever holds no permit of a limit of its lane was claimed to be
/// refused.
const CLAIMED: &str = "SELECT t.machine, t.fence, t.due_at, t.lost, m.kind, m.task, m.definition, m.step, m.fields,
    m.started_at, m.parent, m.child_key, m.watcher, m.last_event, m.unique_key IS NOT NULL, n.name, l.home, l.id, l.light, t.charged,
    l.concurrency<>0 AND NOT EXISTS
      (SELECT 1 FROM permit p WHERE p.\"limit\"=l.concurrency AND p.machine=t.machine)
  FROM tick t JOIN machine m ON m.id=t.machine JOIN lane l ON l.id=t.lane JOIN namespace n ON n.id=l.ns
  WHERE t.machine=$1 AND t.phase=2 AND t.node=$2";
const MAIL: &str = "SELECT seq, body FROM mail WHERE machine=$1 ORDER BY seq";
const NODE: &str = "SELECT n.id, n.name, n.owner, n.started_at, n.renewals, n.closed,
    (SELECT count(*) FROM tick t WHERE t.phase=2 AND t.node=n.id), n.labels, n.slots, n.worker, n.draining,
    n.only_labelled, n.waited FROM node n";
const HOLDERS: &str = "SELECT machine FROM permit WHERE \"limit\"=$1 ORDER BY machine LIMIT 100";

/// The earliest due moment of what is ready, by namespace: from the first row of a lane and class to the next along
/// `tick_ready`, however many rows stand between.
pub(crate) const WAITING: &str = "WITH RECURSIVE head (lane, priority, due_at) AS (
    (SELECT lane, priority, due_at FROM tick WHERE phase=1 ORDER BY lane, priority, due_at LIMIT 1)
    UNION ALL
    SELECT n.* FROM head h CROSS JOIN LATERAL (
      SELECT t.lane, t.priority, t.due_at FROM tick t
      WHERE t.phase=1 AND (t.lane, t.priority)>(h.lane, h.priority) ORDER BY t.lane, t.priority, t.due_at LIMIT 1) n)
  SELECT n.name, min(h.due_at), n.weight FROM head h JOIN lane l ON l.id=h.lane JOIN namespace n ON n.id=l.ns GROUP BY n.id";

impl View<'_> {
    pub(super) fn claimed_with_mail(&mut self, node: NodeId) -> Done<Vec<(MachineId, Vec<Letter>)>> {
        let mut found: Vec<(MachineId, Vec<Letter>)> = Vec::new();
        for (id, letter) in
            self.many(WITH_MAIL, values![node.0], |r| Ok((MachineId(r.int(0)?), letter(r.text(1)?))))?
        {
            match found.last_mut() {
                Some((last, letters)) if *last == id => letters.push(letter),
                _ => found.push((id, vec![letter])),
            }
        }
        Ok(found)
    }

    pub(super) fn claims(&mut self, node: NodeId) -> Done<Vec<(MachineId, u64)>> {
        self.many(CLAIMS, values![node.0], |r| Ok((MachineId(r.int(0)?), r.int(1)? as u64)))
    }

    pub(super) fn mailbox(&mut self, machine: MachineId) -> Done<Option<Mailbox>> {
        let letters = |n: i64| u64::try_from(n).unwrap_or_default();
        self.one(MAILBOX, values![machine.0], |r| {
            Ok(Mailbox { unread: letters(r.int(0)?), held: r.flag(1)? })
        })
    }

    pub(super) fn claimed(&mut self, node: NodeId, machine: MachineId) -> Done<Option<Claimed>> {
        let row = self.one(CLAIMED, values![machine.0, node.0], |r| {
            let (kind, parent) = (Kind(u8::try_from(r.int(4)?).unwrap_or(0)), r.int_or(10)?.map(MachineId));
            let (task, home) = (r.int(5)?, r.int(16)?);
            Ok(Claimed {
                id: MachineId(r.int(0)?),
                kind,
                light: r.flag(18)?,
                namespace: r.text(15)?.into(),
                task,
                definition: r.int(6)?,
                step: r.int(7)? as u64,
                fence: r.int(1)? as u64,
                fields: r.text(8)?,
                due_at: r.int(2)?,
                started_at: r.int_or(9)?,
                lost: r.flag(3)?,
                refused: r.flag(20)?,
                parent,
                child_key: r.text_or(11)?,
                watcher: r.int_or(12)?.map(MachineId),
                home: (home != 0).then_some(NodeId(home)),
                mail: Vec::new(),
                receipt: Receipt {
                    lane: r.int(17)?,
                    last_event: r.int(13)?,
                    unique: r.flag(14)?,
                    task: heard(kind, parent, task),
                    charged: r.int(19)?,
                },
            })
        })?;
        let Some(mut row) = row else { return Ok(None) };
        row.mail = self.many(MAIL, values![machine.0], |r| Ok((r.int(0)?, letter(r.text(1)?))))?;
        Ok(Some(row))
    }

    pub(super) fn lane(&mut self, lane: i64) -> Done<Option<LaneRow>> {
        self.one(
            "SELECT l.id, n.name, n.paused, c.key, r.key, l.home,
               (SELECT count(*) FROM tick t WHERE t.phase=1 AND t.lane=l.id), s.labels
             FROM lane l JOIN namespace n ON n.id=l.ns LEFT JOIN label_set s ON s.id=l.labels LEFT JOIN \"limit\" c ON c.id=l.concurrency
               LEFT JOIN \"limit\" r ON r.id=l.rate WHERE l.id=$1",
            values![lane],
            |r| {
                let home = r.int(5)?;
                Ok(LaneRow {
                    lane: r.int(0)?,
                    namespace: r.text(1)?,
                    paused: r.flag(2)?,
                    concurrency: r.text_or(3)?,
                    rate: r.text_or(4)?,
                    home: (home != 0).then_some(NodeId(home)),
                    labels: labels_of(&r.text_or(7)?.unwrap_or_default()),
                    ready: r.int(6)? as u64,
                })
            },
        )
    }

    pub(super) fn limits(&mut self, lane: i64) -> Done<Vec<LimitRow>> {
        let rows = self.many(
            "SELECT i.id, n.name, i.key, i.kind, i.max, i.\"interval\", i.tat FROM lane l
             JOIN \"limit\" i ON i.id IN (l.concurrency, l.rate) JOIN namespace n ON n.id=i.ns WHERE l.id=$1 ORDER BY i.kind",
            values![lane],
            |r| {
                let (max, interval, tat) = (r.int(4)?, r.int(5)?, r.int(6)?);
                let limit = LimitRow {
                    namespace: r.text(1)?,
                    key: r.text(2)?,
                    is_rate: r.int(3)? == 2,
                    max: u32::try_from(max).unwrap_or(u32::MAX),
                    interval,
                    free_at: tat - (max - 1) * interval,
                    holders: Vec::new(),
                };
                Ok((r.int(0)?, limit))
            },
        )?;
        let mut limits = Vec::new();
        for (id, mut limit) in rows {
            limit.holders = self.many(HOLDERS, values![id], |r| Ok(MachineId(r.int(0)?)))?;
            limits.push(limit);
        }
        Ok(limits)
    }

    pub(super) fn nodes(&mut self) -> Done<Vec<NodeRow>> {
        self.many(&format!("{NODE} ORDER BY n.closed, n.id DESC LIMIT 200"), &[], node_row)
    }

    pub(super) fn node(&mut self, node: NodeId) -> Done<Option<NodeRow>> {
        self.one(&format!("{NODE} WHERE n.id=$1"), values![node.0], node_row)
    }

    pub(super) fn stats(&mut self) -> Done<StoreStats> {
        let sql = "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class c
          WHERE c.relnamespace=current_schema()::regnamespace AND c.relkind='r'";
        let bytes = self.one(sql, &[], |r| r.int(0))?.unwrap_or(0);
        let mut stats = StoreStats { schema: SCHEMA, bytes: bytes as u64, ..StoreStats::default() };
        for (phase, count) in
            self.many("SELECT phase, count(*) FROM tick GROUP BY phase", &[], |r| Ok((r.int(0)?, r.int(1)?)))?
        {
            if let Some(place) = usize::try_from(phase).ok().and_then(|p| stats.queue.get_mut(p)) {
                *place = count as u64;
            }
        }
        stats.waiting = self.many(WAITING, &[], |r| {
            let weight = u32::try_from(r.int(2)?).unwrap_or(1);
            Ok(WaitingRow { namespace: r.text(0)?, since: r.int(1)?, weight })
        })?;
        let first = self.one("SELECT value FROM meta WHERE key='first_event'", &[], |r| r.int(0))?;
        let ends = "SELECT (SELECT seq FROM event ORDER BY seq LIMIT 1), (SELECT seq FROM event ORDER BY seq DESC LIMIT 1)";
        let (oldest, last) = self.one(ends, &[], |r| Ok((r.int_or(0)?, r.int_or(1)?)))?.unwrap_or_default();
        // A number that was pruned is not given again. Numbers have gaps; where nothing was pruned the first is at hand.
        stats.first_event = first.or(oldest).unwrap_or(1);
        stats.last_event = last.unwrap_or(0).max(stats.first_event - 1);
        Ok(stats)
    }
}

fn node_row(r: &Row) -> Done<NodeRow> {
    Ok(NodeRow {
        node: NodeId(r.int(0)?),
        name: r.text(1)?,
        owner: r.flag(2)?,
        started_at: r.int(3)?,
        renewals: r.int(4)?,
        closed: r.flag(5)?,
        claims: r.int(6)? as u64,
        labels: labels_of(&r.text(7)?),
        slots: u32::try_from(r.int(8)?).unwrap_or(0),
        worker: r.text_or(9)?,
        draining: r.flag(10)?,
        only_labelled: r.flag(11)?,
        waited: r.int(12)?,
    })
}

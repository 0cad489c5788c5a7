//! The queue: lanes, limits, nodes, letters that wait, numbers.

use ostler_model::MachineId;
use ostler_store::{LaneRow, Letter, LimitRow, NodeId, NodeRow, StoreStats};

use super::View;
use crate::{
    claim::letter,
    migrate::SCHEMA,
    trouble::Done,
    value::{Columns, values},
};

pub(crate) const WITH_MAIL: &str = "SELECT t.machine, l.body FROM tick t JOIN mail l ON l.machine=t.machine
  WHERE t.phase=2 AND t.node=$1 AND t.woken>0 ORDER BY l.machine, l.seq";
const HOLDERS: &str = "SELECT machine FROM permit WHERE \"limit\"=$1 ORDER BY machine LIMIT 100";

/// The earliest due moment of what is ready, by namespace: from the first row of a lane and class to the next along
/// `tick_ready`, however many rows stand between.
pub(crate) const OLDEST_READY: &str = "WITH RECURSIVE head (lane, priority, due_at) AS (
    (SELECT lane, priority, due_at FROM tick WHERE phase=1 ORDER BY lane, priority, due_at LIMIT 1)
    UNION ALL
    SELECT n.* FROM head h CROSS JOIN LATERAL (
      SELECT t.lane, t.priority, t.due_at FROM tick t
      WHERE t.phase=1 AND (t.lane, t.priority)>(h.lane, h.priority) ORDER BY t.lane, t.priority, t.due_at LIMIT 1) n)
  SELECT n.name, min(h.due_at) FROM head h JOIN lane l ON l.id=h.lane JOIN namespace n ON n.id=l.ns GROUP BY n.name";

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

    pub(super) fn lane(&mut self, lane: i64) -> Done<Option<LaneRow>> {
        self.one(
            "SELECT l.id, n.name, n.paused, c.key, r.key, l.home,
               (SELECT count(*) FROM tick t WHERE t.phase=1 AND t.lane=l.id)
             FROM lane l JOIN namespace n ON n.id=l.ns LEFT JOIN \"limit\" c ON c.id=l.concurrency
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
        self.many(
            "SELECT n.id, n.name, n.owner, n.started_at, n.renewals, n.closed,
               (SELECT count(*) FROM tick t WHERE t.phase=2 AND t.node=n.id)
             FROM node n ORDER BY n.closed, n.id DESC LIMIT 200",
            &[],
            |r| {
                Ok(NodeRow {
                    node: NodeId(r.int(0)?),
                    name: r.text(1)?,
                    owner: r.flag(2)?,
                    started_at: r.int(3)?,
                    renewals: r.int(4)?,
                    closed: r.flag(5)?,
                    claims: r.int(6)? as u64,
                })
            },
        )
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
        stats.oldest_ready = self.many(OLDEST_READY, &[], |r| Ok((r.text(0)?, r.int(1)?)))?;
        let first = self.one("SELECT value FROM meta WHERE key='first_event'", &[], |r| r.int(0))?;
        let ends = "SELECT (SELECT seq FROM event ORDER BY seq LIMIT 1), (SELECT seq FROM event ORDER BY seq DESC LIMIT 1)";
        let (oldest, last) = self.one(ends, &[], |r| Ok((r.int_or(0)?, r.int_or(1)?)))?.unwrap_or_default();
        // A number that was pruned is not given again. Numbers have gaps; where nothing was pruned the first is at hand.
        stats.first_event = first.or(oldest).unwrap_or(1);
        stats.last_event = last.unwrap_or(0).max(stats.first_event - 1);
        Ok(stats)
    }
}

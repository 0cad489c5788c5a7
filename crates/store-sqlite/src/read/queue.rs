//! The queue: lanes, limits, nodes, letters that wait, numbers.

use ostler_model::MachineId;
use ostler_store::{
    Claimed, LaneRow, Letter, LimitRow, Mailbox, NodeId, NodeRow, StoreError, StoreStats, WaitingRow,
    labels_of,
};
use rusqlite::Row;

use super::View;
use crate::{claim::claimed, error::told, letters};

const WITH_MAIL: &str = "SELECT machine FROM tick WHERE phase=2 AND node=?1 AND woken>0";
const MAILBOX: &str =
    "SELECT (SELECT count(*) FROM mail WHERE machine=?1), held<>0 FROM tick WHERE machine=?1";
const CLAIMS: &str = "SELECT machine, fence FROM tick WHERE phase=2 AND node=?1";
/// The columns of a claim, as it reads them, and what it knew of the lane. Whoever holds no permit of a limit of its lane
/// was claimed to be refused.
const CLAIMED: &str = "SELECT t.machine, t.fence-1, t.due_at, t.lost, t.woken, m.kind, m.task, m.definition, m.step,
    m.fields, m.started_at, m.parent, m.child_key, m.watcher, m.last_event, m.unique_key IS NOT NULL,
    n.name, l.home, l.id, l.light, t.charged, l.concurrency<>0 AND NOT EXISTS
      (SELECT 1 FROM permit p WHERE p.\"limit\"=l.concurrency AND p.machine=t.machine)
  FROM tick t CROSS JOIN machine m ON m.id=t.machine CROSS JOIN lane l ON l.id=t.lane CROSS JOIN namespace n ON n.id=l.ns
  WHERE t.machine=?1 AND +t.phase=2 AND +t.node=?2";
const NODE: &str = "SELECT id, name, owner, started_at, renewals, closed,
    (SELECT count(*) FROM tick WHERE phase=2 AND node=n.id), labels, slots, worker, draining, only_labelled, waited
  FROM node n";
const HOLDERS: &str = "SELECT machine FROM permit WHERE \"limit\"=?1 ORDER BY machine LIMIT 100";

/// Goes from one lane and priority to the next along tick_ready, so its cost does not grow with the queue.
const WAITING: &str = "WITH RECURSIVE head (machine) AS (
    SELECT (SELECT machine FROM tick WHERE phase=1 ORDER BY lane, priority, due_at LIMIT 1)
    UNION ALL
    SELECT coalesce(
      (SELECT p.machine FROM tick p WHERE p.phase=1 AND p.lane=t.lane AND p.priority>t.priority
       ORDER BY p.priority, p.due_at LIMIT 1),
      (SELECT n.machine FROM tick n WHERE n.phase=1 AND n.lane>t.lane
       ORDER BY n.lane, n.priority, n.due_at LIMIT 1))
    FROM head h CROSS JOIN tick t ON t.machine=h.machine)
  SELECT ns.name, min(t.due_at), ns.weight FROM head h CROSS JOIN tick t ON t.machine=h.machine
    CROSS JOIN lane l ON l.id=t.lane CROSS JOIN namespace ns ON ns.id=l.ns
  GROUP BY ns.id";

#[cfg(test)]
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    (WITH_MAIL, "SEARCH tick USING INDEX tick_claimed (node=?)"),
    (MAILBOX, "SEARCH mail USING INDEX mail_machine (machine=?)"),
    (WAITING, "SEARCH p USING INDEX tick_ready (lane=? AND priority>?)"),
    (WAITING, "SEARCH n USING INDEX tick_ready (lane>?)"),
    (CLAIMS, "SEARCH tick USING INDEX tick_claimed (node=?)"),
    (CLAIMED, "SEARCH t USING INTEGER PRIMARY KEY (rowid=?)"),
    (HOLDERS, "SEARCH permit USING PRIMARY KEY (limit=?)"),
];

impl View<'_> {
    pub(super) fn claimed_with_mail(
        &self,
        node: NodeId,
    ) -> Result<Vec<(MachineId, Vec<Letter>)>, StoreError> {
        let machines: Vec<i64> = self.many(WITH_MAIL, [node.0], |r| r.get(0))?;
        let with_letters = machines.into_iter().map(|id| {
            let letters = letters::of(self.sql, id)?;
            Ok((MachineId(id), letters.into_iter().map(|(_, letter)| letter).collect()))
        });
        with_letters.collect()
    }

    pub(super) fn claims(&self, node: NodeId) -> Result<Vec<(MachineId, u64)>, StoreError> {
        self.many(CLAIMS, [node.0], |r| Ok((MachineId(r.get(0)?), r.get::<_, i64>(1)? as u64)))
    }

    pub(super) fn mailbox(&self, machine: MachineId) -> Result<Option<Mailbox>, StoreError> {
        let letters = |n: i64| u64::try_from(n).unwrap_or_default();
        self.one(MAILBOX, [machine.0], |r| Ok(Mailbox { unread: letters(r.get(0)?), held: r.get(1)? }))
    }

    pub(super) fn claimed(&self, node: NodeId, machine: MachineId) -> Result<Option<Claimed>, StoreError> {
        let row = self.one(CLAIMED, [machine.0, node.0], |r| {
            let home: i64 = r.get(17)?;
            let home = (home != 0).then_some(NodeId(home));
            let (mut row, woken) =
                claimed(r, r.get::<_, String>(16)?.into(), home, (r.get(18)?, r.get(19)?))?;
            row.receipt.charged = r.get(20)?;
            row.refused = r.get(21)?;
            Ok((row, woken))
        })?;
        let Some((mut row, woken)) = row else { return Ok(None) };
        if woken > 0 {
            row.mail = letters::of(self.sql, machine.0)?;
        }
        Ok(Some(row))
    }

    pub(super) fn lane(&self, lane: i64) -> Result<Option<LaneRow>, StoreError> {
        self.one(
            "SELECT l.id, n.name, n.paused, c.key, r.key, l.home, (SELECT count(*) FROM tick WHERE phase=1 AND lane=l.id),
               s.labels
             FROM lane l JOIN namespace n ON n.id=l.ns LEFT JOIN label_set s ON s.id=l.labels LEFT JOIN \"limit\" c ON c.id=l.concurrency
               LEFT JOIN \"limit\" r ON r.id=l.rate WHERE l.id=?1",
            [lane],
            |r| {
                let home: i64 = r.get(5)?;
                Ok(LaneRow {
                    lane: r.get(0)?,
                    namespace: r.get(1)?,
                    paused: r.get(2)?,
                    concurrency: r.get(3)?,
                    rate: r.get(4)?,
                    home: (home != 0).then_some(NodeId(home)),
                    labels: labels_of(&r.get::<_, Option<String>>(7)?.unwrap_or_default()),
                    ready: r.get::<_, i64>(6)? as u64,
                })
            },
        )
    }

    pub(super) fn limits(&self, lane: i64) -> Result<Vec<LimitRow>, StoreError> {
        let rows = self.many(
            "SELECT i.id, n.name, i.key, i.kind, i.max, i.interval, i.tat FROM lane l
             JOIN \"limit\" i ON i.id IN (l.concurrency, l.rate) JOIN namespace n ON n.id=i.ns WHERE l.id=?1 ORDER BY i.kind",
            [lane],
            |r| {
                let (max, interval, tat): (u32, i64, i64) = (r.get(4)?, r.get(5)?, r.get(6)?);
                let limit = LimitRow {
                    namespace: r.get(1)?,
                    key: r.get(2)?,
                    is_rate: r.get::<_, i64>(3)? == 2,
                    max,
                    interval,
                    free_at: tat - (i64::from(max) - 1) * interval,
                    holders: Vec::new(),
                };
                Ok((r.get::<_, i64>(0)?, limit))
            },
        )?;
        rows.into_iter()
            .map(|(id, mut limit)| {
                limit.holders = self.many(HOLDERS, [id], |r| r.get(0).map(MachineId))?;
                Ok(limit)
            })
            .collect()
    }

    pub(super) fn nodes(&self) -> Result<Vec<NodeRow>, StoreError> {
        self.many(&format!("{NODE} ORDER BY closed, id DESC LIMIT 200"), [], node_row)
    }

    pub(super) fn node(&self, node: NodeId) -> Result<Option<NodeRow>, StoreError> {
        self.one(&format!("{NODE} WHERE id=?1"), [node.0], node_row)
    }

    pub(super) fn stats(&self) -> Result<StoreStats, StoreError> {
        let pragma =
            |name: &str| self.sql.pragma_query_value(None, name, |r| r.get::<_, i64>(0)).map_err(told);
        let page = pragma("page_size")?;
        let mut stats = StoreStats {
            schema: pragma("user_version")?,
            bytes: (pragma("page_count")? * page) as u64,
            free_bytes: (pragma("freelist_count")? * page) as u64,
            ..StoreStats::default()
        };
        let mut select =
            self.sql.prepare_cached("SELECT phase, count(*) FROM tick GROUP BY phase").map_err(told)?;
        let mut rows = select.query([]).map_err(told)?;
        while let Some(row) = rows.next().map_err(told)? {
            let phase: i64 = row.get(0).map_err(told)?;
            if let Some(count) = usize::try_from(phase).ok().and_then(|p| stats.queue.get_mut(p)) {
                *count = row.get::<_, i64>(1).map_err(told)? as u64;
            }
        }
        drop(rows);
        stats.waiting = self.waiting()?;
        stats.first_event =
            self.one("SELECT value FROM meta WHERE key='first_event'", [], |r| r.get(0))?.unwrap_or(1);
        let last: Option<i64> = self.one("SELECT max(seq) FROM event", [], |r| r.get(0))?.flatten();
        // A number that was pruned is not given again.
        stats.last_event = last.unwrap_or(0).max(stats.first_event - 1);
        Ok(stats)
    }

    /// The earliest due moment of what is ready, by namespace.
    fn waiting(&self) -> Result<Vec<WaitingRow>, StoreError> {
        let read = |r: &Row<'_>| Ok(WaitingRow { namespace: r.get(0)?, since: r.get(1)?, weight: r.get(2)? });
        self.many(WAITING, [], read)
    }
}

fn node_row(r: &Row<'_>) -> rusqlite::Result<NodeRow> {
    Ok(NodeRow {
        node: NodeId(r.get(0)?),
        name: r.get(1)?,
        owner: r.get(2)?,
        started_at: r.get(3)?,
        renewals: r.get(4)?,
        closed: r.get(5)?,
        claims: r.get::<_, i64>(6)? as u64,
        labels: labels_of(&r.get::<_, String>(7)?),
        slots: r.get(8)?,
        worker: r.get(9)?,
        draining: r.get(10)?,
        only_labelled: r.get(11)?,
        waited: r.get(12)?,
    })
}

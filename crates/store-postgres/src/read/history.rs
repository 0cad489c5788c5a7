//! Events: the outbox of all nodes in one order, and the history of one machine along its chain.

use ostler_model::{Kind, MachineId};
use ostler_store::{EventPage, EventRow, Subject};
use tokio_postgres::Row;

use super::View;
use crate::{
    link::{Link, Mode},
    numbers::first_of,
    trouble::Done,
    value::{Columns, values},
};

/// The oldest transaction that may still write events, or the first that has not begun.
///
/// Of those that the snapshot has at work, a transaction counts when it holds the lock of the table of events, which
/// whoever writes events takes before it is given its number; and when it is not in the list of locks at all, since it
/// is given its number a moment before that shows there (or has just ended, which the next look will see). Others have
/// nothing to do with events, however long they last. The list shows the lower half of a number.
const OLDEST: &str = "WITH now AS MATERIALIZED (SELECT pg_current_snapshot() AS it),
    locks AS MATERIALIZED (SELECT locktype, database, relation, transactionid, virtualtransaction, mode FROM pg_locks),
    working AS (SELECT t::text::bigint AS t FROM now CROSS JOIN pg_snapshot_xip(it) t)
  SELECT least(pg_snapshot_xmax(it)::text::bigint, (SELECT min(w.t) FROM working w LEFT JOIN locks x
      ON x.locktype='transactionid' AND x.mode='ExclusiveLock' AND x.transactionid::text::bigint=w.t & 4294967295
    WHERE x.transactionid IS NULL OR EXISTS (SELECT 1 FROM locks r WHERE r.virtualtransaction=x.virtualtransaction
      AND r.locktype='relation' AND r.mode='RowExclusiveLock' AND r.relation='event'::regclass
      AND r.database=(SELECT oid FROM pg_database WHERE datname=current_database()))))
  FROM now";

pub(crate) const AFTER: &str = "SELECT seq, at, machine, step, kind, body FROM event
  WHERE seq>$1 AND seq<$2 ORDER BY seq LIMIT $3";
pub(crate) const SUBJECTS: &str = "SELECT m.id, m.kind, n.name, coalesce(t.name, ''), m.parent, m.child_key
  FROM machine m JOIN namespace n ON n.id=m.ns LEFT JOIN task t ON t.id=m.task WHERE m.id=ANY($1)";
const BEHIND: &str = "SELECT count(*) FROM (SELECT 1 FROM event WHERE seq>$1 ORDER BY seq LIMIT $2) e";
const FIRST: &str = "SELECT value FROM meta WHERE key='first_event'";
const HISTORY: &str = "WITH RECURSIVE chain AS (
    SELECT e.*, 1 AS place FROM machine m JOIN event e ON e.seq=m.last_event WHERE m.id=$1
    UNION ALL SELECT e.*, c.place+1 FROM chain c JOIN event e ON e.seq=c.prev WHERE c.prev<>0 AND c.place<$2)
  SELECT seq, at, machine, step, kind, body FROM chain ORDER BY place DESC";

/// The first event that is not settled: below it nothing can appear any more.
pub(crate) fn horizon(link: &mut Link, base: i64) -> Done<i64> {
    let row = link.rows(OLDEST, &[])?;
    row.first().map_or(Ok(0), |r| r.int(0)).map(|oldest| first_of(oldest + base))
}

/// Events after a number. The horizon is read by a statement of its own, before the events: what it says is over is
/// seen by every later snapshot.
pub(crate) fn events(link: &mut Link, base: i64, after: i64, limit: u32) -> Done<EventPage> {
    link.begin(Mode::Write, None)?;
    let found: Done<(Vec<EventRow>, i64)> = (|| {
        let horizon = horizon(link, base)?;
        let items = link.rows(AFTER, values![after, horizon, i64::from(limit)])?;
        let items = items.iter().map(event_row).collect::<Done<Vec<_>>>()?;
        // Last: what was pruned while the events were read is told.
        let first = link.rows(FIRST, &[])?.first().map_or(Ok(1), |r| r.int(0))?;
        Ok((items, first))
    })();
    let ended = link.script("COMMIT");
    let (items, first) = found?;
    ended?;
    // Numbers have gaps, so one that begins at the beginning has missed something only if something was pruned.
    if after + 1 < first {
        return Ok(EventPage::Gone { oldest: first });
    }
    let next = items.last().map_or(after, |e| e.seq);
    Ok(EventPage::Events { items, next })
}

impl View<'_> {
    pub(super) fn events_after(&mut self, after: i64, most: u32) -> Done<u64> {
        let count = self.one(BEHIND, values![after, i64::from(most)], |r| r.int(0))?;
        Ok(count.unwrap_or(0) as u64)
    }

    pub(super) fn subjects(&mut self, machines: &[MachineId]) -> Done<Vec<Subject>> {
        let ids: Vec<i64> = machines.iter().map(|id| id.0).collect();
        self.many(SUBJECTS, values![ids], |r| {
            Ok(Subject {
                id: MachineId(r.int(0)?),
                kind: Kind(u8::try_from(r.int(1)?).unwrap_or_default()),
                namespace: r.text(2)?,
                task: r.text(3)?,
                parent: r.int_or(4)?.map(MachineId),
                child_key: r.text_or(5)?,
            })
        })
    }

    pub(super) fn history(&mut self, machine: MachineId, limit: u32) -> Done<Vec<EventRow>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        self.many(HISTORY, values![machine.0, i64::from(limit)], event_row)
    }
}

fn event_row(r: &Row) -> Done<EventRow> {
    Ok(EventRow {
        seq: r.int(0)?,
        at: r.int(1)?,
        machine: MachineId(r.int(2)?),
        step: r.int(3)? as u64,
        kind: r.text(4)?,
        body: r.text(5)?,
    })
}

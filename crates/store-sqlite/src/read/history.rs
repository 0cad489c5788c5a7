//! Events: the outbox in order, and the history of one machine along its chain.

use ostler_model::{Kind, MachineId};
use ostler_store::{EventPage, EventRow, StoreError, Subject};
use rusqlite::{Row, params};

use super::View;

const AFTER: &str = "SELECT seq, at, machine, step, kind, body FROM event WHERE seq>?1 ORDER BY seq LIMIT ?2";
const ONE: &str = "SELECT seq, at, machine, step, kind, body, prev FROM event WHERE seq=?1";

const BEHIND: &str = "SELECT count(*) FROM (SELECT 1 FROM event WHERE seq>?1 LIMIT ?2)";
const SUBJECT: &str = "SELECT m.id, m.kind, n.name, coalesce(t.name, ''), m.parent, m.child_key
  FROM machine m CROSS JOIN namespace n ON n.id=m.ns LEFT JOIN task t ON t.id=m.task WHERE m.id=?1";

#[cfg(test)]
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    (AFTER, "SEARCH event USING INTEGER PRIMARY KEY (rowid>?)"),
    (ONE, "SEARCH event USING INTEGER PRIMARY KEY (rowid=?)"),
    (BEHIND, "SEARCH event USING INTEGER PRIMARY KEY (rowid>?)"),
    (SUBJECT, "SEARCH m USING INTEGER PRIMARY KEY (rowid=?)"),
];

impl View<'_> {
    pub(super) fn events(&self, after: i64, limit: u32) -> Result<EventPage, StoreError> {
        let first: i64 =
            self.one("SELECT value FROM meta WHERE key='first_event'", [], |r| r.get(0))?.unwrap_or(1);
        if after + 1 < first {
            return Ok(EventPage::Gone { oldest: first });
        }
        let items = self.many(AFTER, params![after, limit], event_row)?;
        let next = items.last().map_or(after, |e| e.seq);
        Ok(EventPage::Events { items, next })
    }

    pub(super) fn events_after(&self, after: i64, most: u32) -> Result<u64, StoreError> {
        Ok(self.one(BEHIND, params![after, most], |r| r.get::<_, i64>(0))?.unwrap_or(0) as u64)
    }

    pub(super) fn subjects(&self, machines: &[MachineId]) -> Result<Vec<Subject>, StoreError> {
        let mut found = Vec::with_capacity(machines.len());
        for id in machines {
            found.extend(self.one(SUBJECT, [id.0], |r| {
                Ok(Subject {
                    id: *id,
                    kind: Kind(r.get(1)?),
                    namespace: r.get(2)?,
                    task: r.get(3)?,
                    parent: r.get::<_, Option<i64>>(4)?.map(MachineId),
                    child_key: r.get(5)?,
                })
            })?);
        }
        Ok(found)
    }

    pub(super) fn history(&self, machine: MachineId, limit: u32) -> Result<Vec<EventRow>, StoreError> {
        let sql = "SELECT last_event FROM machine WHERE id=?1";
        let mut seq: i64 = self.one(sql, [machine.0], |r| r.get(0))?.unwrap_or(0);
        let mut events = Vec::new();
        while seq != 0 && events.len() < limit as usize {
            let Some((event, prev)) = self.one(ONE, [seq], |r| Ok((event_row(r)?, r.get(6)?)))? else {
                break;
            };
            events.push(event);
            seq = prev;
        }
        events.reverse();
        Ok(events)
    }
}

fn event_row(r: &Row<'_>) -> rusqlite::Result<EventRow> {
    Ok(EventRow {
        seq: r.get(0)?,
        at: r.get(1)?,
        machine: MachineId(r.get(2)?),
        step: r.get::<_, i64>(3)? as u64,
        kind: r.get(4)?,
        body: r.get(5)?,
    })
}

//! Sinks: definitions of what carries events out. How far each is, is its duty's cursor.

use std::collections::BTreeMap;

use ostler_store::{Push, PushSink, Pushed, SinkRow, StoreError, event_cursor, sink_duty};
use rusqlite::{Row, params};

use crate::Tx;

/// By namespace and name; there are few.
pub(crate) const SINK: &str =
    "SELECT n.name, s.name, s.body, s.enabled, s.paused, s.missing, s.origin, s.created_at, s.updated_at
  FROM namespace n CROSS JOIN sink s ON s.ns=n.id";

impl Tx<'_> {
    /// One that is new begins with what happens from now on; one that has changed, or is back, goes on where it was.
    pub(crate) fn push_sinks(&mut self, ns: i64, push: &Push, pushed: &mut Pushed) -> Result<(), StoreError> {
        for (name, PushSink { body, enabled }) in &push.sinks {
            let sql = "SELECT body=?3 AND enabled=?4 AND missing=0 FROM sink WHERE ns=?1 AND name=?2";
            match self.row(sql, params![ns, name, body, enabled], |r| r.get::<_, bool>(0))? {
                Some(true) => {
                    let sql = "UPDATE sink SET origin=?3 WHERE ns=?1 AND name=?2 AND origin<>?3";
                    self.run(sql, params![ns, name, push.origin])?;
                    continue;
                }
                Some(false) => pushed.sinks.1 += 1,
                None => pushed.sinks.0 += 1,
            }
            self.run(
                "INSERT INTO sink (ns, name, body, enabled, origin, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)
                 ON CONFLICT (ns, name) DO UPDATE SET body=?3, enabled=?4, origin=?5, missing=0, updated_at=?6",
                params![ns, name, body, enabled, push.origin, self.now],
            )?;
            let last = self.last_seq()?;
            self.renew_duty(&sink_duty(&push.namespace, name), &event_cursor(last))?;
        }
        Ok(())
    }

    /// Sinks that their origin does not hold any more stay on record, and nobody carries anything out for them.
    pub(crate) fn mark_sinks_missing(
        &mut self,
        ns: i64,
        push: &Push,
        pushed: &mut Pushed,
    ) -> Result<(), StoreError> {
        let sql = "SELECT name, id FROM sink WHERE ns=?1 AND origin=?2 AND missing=0";
        let known: BTreeMap<String, i64> =
            self.rows(sql, params![ns, push.origin], |r| Ok((r.get(0)?, r.get(1)?)))?.into_iter().collect();
        for (name, row) in known.into_iter().filter(|(name, _)| !push.sinks.contains_key(name)) {
            self.run("UPDATE sink SET missing=1, updated_at=?2 WHERE id=?1", [row, self.now])?;
            self.take_duty_away(&sink_duty(&push.namespace, &name))?;
            pushed.sinks.2 += 1;
        }
        Ok(())
    }

    pub(crate) fn pause_sink(&mut self, namespace: &str, name: &str, on: bool) -> Result<(), StoreError> {
        let sql = "UPDATE sink SET paused=?3 WHERE name=?2 AND ns=(SELECT id FROM namespace WHERE name=?1)";
        if self.run(sql, params![namespace, name, on])? == 0 {
            return Err(StoreError::Refused(format!("there is no sink `{namespace}:{name}`")));
        }
        self.take_duty_away(&sink_duty(namespace, name))
    }
}

pub(crate) fn sink_row(r: &Row<'_>) -> rusqlite::Result<SinkRow> {
    Ok(SinkRow {
        namespace: r.get(0)?,
        name: r.get(1)?,
        body: r.get(2)?,
        enabled: r.get(3)?,
        paused: r.get(4)?,
        missing: r.get(5)?,
        origin: r.get(6)?,
        created_at: r.get(7)?,
        updated_at: r.get(8)?,
    })
}

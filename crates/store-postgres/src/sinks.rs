//! Sinks: definitions of what carries events out. How far each is, is its duty's cursor.

use ostler_store::{Push, PushSink, Pushed, SinkRow, StoreError, event_cursor, sink_duty};
use tokio_postgres::Row;

use crate::{
    trouble::Done,
    tx::Tx,
    value::{Columns, values},
};

/// By namespace and name; there are few.
pub(crate) const SINK: &str =
    "SELECT n.name, s.name, s.body, s.enabled, s.paused, s.missing, s.origin, s.created_at, s.updated_at
  FROM namespace n JOIN sink s ON s.ns=n.id";

impl Tx<'_> {
    /// One that is new begins with what happens from now on; one that has changed, or is back, goes on where it was.
    pub(crate) fn push_sinks(&mut self, ns: i64, push: &Push, pushed: &mut Pushed) -> Done<()> {
        for (name, PushSink { body, enabled }) in &push.sinks {
            let sql = "SELECT body=$3 AND enabled=$4 AND NOT missing FROM sink WHERE ns=$1 AND name=$2";
            match self.row(sql, values![ns, name, body, *enabled])?.map(|r| r.flag(0)).transpose()? {
                Some(true) => {
                    let sql = "UPDATE sink SET origin=$3 WHERE ns=$1 AND name=$2 AND origin<>$3";
                    self.run(sql, values![ns, name, &push.origin])?;
                    continue;
                }
                Some(false) => pushed.sinks.1 += 1,
                None => pushed.sinks.0 += 1,
            }
            self.run(
                "INSERT INTO sink (ns, name, body, enabled, origin, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $6)
                 ON CONFLICT (ns, name) DO UPDATE SET body=excluded.body, enabled=excluded.enabled, origin=excluded.origin,
                   missing=FALSE, updated_at=excluded.updated_at",
                values![ns, name, body, *enabled, &push.origin, self.now],
            )?;
            let last = self.numbers.last_seq_before();
            self.renew_duty(&sink_duty(&push.namespace, name), &event_cursor(last))?;
        }
        Ok(())
    }

    /// Sinks that their origin does not hold any more stay on record, and nobody carries anything out for them.
    pub(crate) fn mark_sinks_missing(&mut self, ns: i64, push: &Push, pushed: &mut Pushed) -> Done<()> {
        let sql = "SELECT name, id FROM sink WHERE ns=$1 AND origin=$2 AND NOT missing ORDER BY name";
        for row in self.rows(sql, values![ns, &push.origin])? {
            let name = row.text(0)?;
            if !push.sinks.contains_key(&name) {
                let sql = "UPDATE sink SET missing=TRUE, updated_at=$2 WHERE id=$1";
                self.run(sql, values![row.int(1)?, self.now])?;
                self.take_duty_away(&sink_duty(&push.namespace, &name))?;
                pushed.sinks.2 += 1;
            }
        }
        Ok(())
    }

    pub(crate) fn pause_sink(&mut self, namespace: &str, name: &str, on: bool) -> Done<()> {
        let sql = "UPDATE sink SET paused=$3 WHERE name=$2 AND ns=(SELECT id FROM namespace WHERE name=$1)";
        if self.run(sql, values![namespace, name, on])? == 0 {
            return Err(StoreError::Refused(format!("there is no sink `{namespace}:{name}`")).into());
        }
        self.take_duty_away(&sink_duty(namespace, name))
    }
}

pub(crate) fn sink_row(r: &Row) -> Done<SinkRow> {
    Ok(SinkRow {
        namespace: r.text(0)?,
        name: r.text(1)?,
        body: r.text(2)?,
        enabled: r.flag(3)?,
        paused: r.flag(4)?,
        missing: r.flag(5)?,
        origin: r.text(6)?,
        created_at: r.int(7)?,
        updated_at: r.int(8)?,
    })
}

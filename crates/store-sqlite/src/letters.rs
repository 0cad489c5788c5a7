//! Letters: what machines are told, and being woken by it.

use ostler_model::MachineId;
use ostler_store::{Letter, StoreError};
use rusqlite::{Connection, params};

use crate::{Tx, error::told};

impl Tx<'_> {
    /// Puts a letter into a mailbox and wakes its owner; false when that has ended. A wake-up brings a due moment
    /// forward and never pushes it back; a held machine stays held and is due when it is let go.
    pub(crate) fn send(&mut self, machine: MachineId, letter: &Letter) -> Result<bool, StoreError> {
        let woken = self
            .sql
            .prepare_cached(
                "UPDATE tick SET woken=woken+1, due_at=CASE WHEN phase=2 THEN due_at ELSE min(due_at, ?2) END,
                   phase=CASE WHEN phase=0 THEN 1 ELSE phase END WHERE machine=?1",
            )
            .and_then(|mut s| s.execute(params![machine.0, self.now]))
            .map_err(told)?;
        if woken == 0 {
            return Ok(false);
        }
        let body = serde_json::to_string(letter).map_err(|e| StoreError::Refused(e.to_string()))?;
        self.sql
            .prepare_cached("INSERT INTO mail (machine, body) VALUES (?1, ?2)")
            .and_then(|mut s| s.execute(params![machine.0, body]))
            .map_err(told)?;
        Ok(true)
    }
}

/// The letters of a machine, oldest first.
pub(crate) fn of(sql: &Connection, machine: i64) -> Result<Vec<(i64, Letter)>, StoreError> {
    let mut select = sql.prepare_cached("SELECT seq, body FROM mail WHERE machine=?1 ORDER BY seq").map_err(told)?;
    let rows: Vec<(i64, String)> =
        select.query_map([machine], |r| Ok((r.get(0)?, r.get(1)?))).and_then(Iterator::collect).map_err(told)?;
    rows.into_iter()
        .map(|(seq, body)| match serde_json::from_str(&body) {
            Ok(letter) => Ok((seq, letter)),
            Err(e) => Err(StoreError::Corrupt(format!("letter {seq} does not read: {e}"))),
        })
        .collect()
}

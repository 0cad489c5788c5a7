//! One transaction: what the subjects work with.

use std::cell::RefCell;

use ostler_model::MachineId;
use ostler_store::{Micros, StoreError};
use rusqlite::{CachedStatement, Connection, OptionalExtension, Params, Row};

use crate::{claim::Turns, error::told, names::Names};

/// One transaction. All its statements are constants and stay prepared.
pub(crate) struct Tx<'a> {
    pub(crate) sql: &'a Connection,
    pub(crate) now: Micros,
    pub(crate) names: &'a mut Names,
    pub(crate) turns: &'a mut Turns,
    at_hand: RefCell<Vec<AtHand<'a>>>,
}

/// A statement that this transaction has used, by the place of its text: the connection's cache would hash the whole
/// text twice for each use, which was a fifth of the time of a commit.
struct AtHand<'a> {
    text: *const str,
    statement: CachedStatement<'a>,
}

impl<'a> Tx<'a> {
    pub(crate) fn new(sql: &'a Connection, now: Micros, names: &'a mut Names, turns: &'a mut Turns) -> Self {
        Self { sql, now, names, turns, at_hand: RefCell::default() }
    }

    fn with<T>(
        &self,
        sql: &'static str,
        work: impl FnOnce(&mut CachedStatement<'a>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let place = self.at_hand.borrow().iter().rposition(|s| std::ptr::eq(s.text, sql));
        let mut statement = match place {
            Some(place) => self.at_hand.borrow_mut().swap_remove(place).statement,
            None => self.sql.prepare_cached(sql).map_err(told)?,
        };
        let done = work(&mut statement);
        self.at_hand.borrow_mut().push(AtHand { text: sql, statement });
        done.map_err(told)
    }

    /// Runs a statement; gives the number of rows it changed.
    pub(crate) fn run(&self, sql: &'static str, values: impl Params) -> Result<usize, StoreError> {
        self.with(sql, |s| s.execute(values))
    }

    /// The first row of a query, if it has one.
    pub(crate) fn row<T>(
        &self,
        sql: &'static str,
        values: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, StoreError> {
        self.with(sql, |s| s.query_row(values, read).optional())
    }

    /// A number that is always there.
    pub(crate) fn number(&self, sql: &'static str, values: impl Params) -> Result<i64, StoreError> {
        self.with(sql, |s| s.query_row(values, |r| r.get(0)))
    }

    /// All rows of a query.
    pub(crate) fn rows<T>(
        &self,
        sql: &'static str,
        values: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        self.with(sql, |s| s.query_map(values, read).and_then(Iterator::collect))
    }

    /// The keys that a query finds.
    pub(crate) fn keys(&self, sql: &'static str, values: impl Params) -> Result<Vec<i64>, StoreError> {
        self.rows(sql, values, |r| r.get(0))
    }

    /// A remembered number.
    pub(crate) fn meta(&self, key: &str) -> Result<i64, StoreError> {
        Ok(self.row("SELECT value FROM meta WHERE key=?1", [key], |r| r.get(0))?.unwrap_or(0))
    }

    /// Remembers a number.
    pub(crate) fn set_meta(&self, key: &str, value: i64) -> Result<(), StoreError> {
        let sql = "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value=?2";
        self.run(sql, (key, value)).map(drop)
    }

    /// The next machine's key: later than all others, whatever the clock did, and pruned ones included.
    pub(crate) fn next_id(&mut self) -> Result<MachineId, StoreError> {
        if self.names.last_id == 0 {
            let last = self.number("SELECT coalesce(max(id), 0) FROM machine", ())?;
            self.names.last_id = last.max(self.meta("last_pruned")?);
        }
        self.names.last_id = (self.names.last_id + 1).max(MachineId::first_at(self.now / 1000).0);
        Ok(MachineId(self.names.last_id))
    }

    /// The next event's number. Not by AUTOINCREMENT, which would write one more row in each statement.
    pub(crate) fn next_seq(&mut self) -> Result<i64, StoreError> {
        self.names.last_seq = self.last_seq()? + 1;
        Ok(self.names.last_seq)
    }

    /// The last event's number.
    pub(crate) fn last_seq(&mut self) -> Result<i64, StoreError> {
        if self.names.last_seq == 0 {
            let last = self.number("SELECT coalesce(max(seq), 0) FROM event", ())?;
            self.names.last_seq = last.max(self.meta("first_event")? - 1);
        }
        Ok(self.names.last_seq)
    }
}

//! Prune: deleting old history in bounded batches, and giving the room back to the file system.

use ostler_model::MachineId;
use ostler_store::{Prune, Pruned, StoreError};
use rusqlite::params;

use crate::{Tx, error::told};

/// Free pages given back in one transaction: 16 MiB.
const PAGES: i64 = 2048;

impl Tx<'_> {
    pub(crate) fn prune(&mut self, prune: &Prune) -> Result<Pruned, StoreError> {
        let batch = i64::from(prune.batch.max(1));
        let mut doomed = Vec::new();
        if let Some(before) = prune.before {
            // Keys are in the order of their making, and what ended before a moment was made before it.
            let limit = MachineId::first_at(before / 1000).0;
            doomed = self.oldest(
                "SELECT id FROM machine WHERE id<?1 AND state<>0 AND parent IS NULL AND finished_at<?2 ORDER BY id LIMIT ?3",
                params![limit, before, batch],
            )?;
        }
        if doomed.is_empty()
            && let Some(keep) = prune.keep
        {
            // The key above which so many ended machines lie, counted along the primary key; at most a batch goes.
            let total: i64 = self.count("SELECT count(*) FROM machine WHERE state<>0 AND parent IS NULL")?;
            let excess = total - i64::try_from(keep).unwrap_or(i64::MAX);
            if excess > 0 {
                doomed = self.oldest(
                    "SELECT id FROM machine WHERE state<>0 AND parent IS NULL ORDER BY id LIMIT ?1",
                    params![excess.min(batch)],
                )?;
            }
        }
        if doomed.is_empty()
            && let Some(max) = prune.max_bytes
        {
            let used = (self.pragma("page_count")? - self.pragma("freelist_count")?) * self.pragma("page_size")?;
            if used > i64::try_from(max).unwrap_or(i64::MAX) {
                doomed = self.oldest(
                    "SELECT id FROM machine WHERE state<>0 AND parent IS NULL ORDER BY id LIMIT ?1",
                    params![batch],
                )?;
            }
        }
        let mut pruned = Pruned { more: doomed.len() as i64 >= batch, ..Pruned::default() };
        for id in doomed {
            self.delete_tree(id, &mut pruned)?;
        }
        if let Some(before) = prune.events_before {
            pruned.events += self.delete_events(before, batch)?;
            pruned.more |= pruned.events as i64 >= batch;
        }
        if pruned.machines.is_empty() {
            self.tidy()?;
        }
        // Freed pages are returned in bounded steps; the file shrinks at the next checkpoint.
        self.sql
            .prepare(&format!("PRAGMA incremental_vacuum({PAGES})"))
            .and_then(|mut s| {
                let mut rows = s.query([])?;
                while rows.next()?.is_some() {}
                Ok(())
            })
            .map_err(told)?;
        pruned.more |= self.pragma("freelist_count")? > PAGES;
        Ok(pruned)
    }

    fn oldest(&self, sql: &str, values: impl rusqlite::Params) -> Result<Vec<i64>, StoreError> {
        let mut select = self.sql.prepare_cached(sql).map_err(told)?;
        select.query_map(values, |r| r.get(0)).and_then(Iterator::collect).map_err(told)
    }

    fn count(&self, sql: &str) -> Result<i64, StoreError> {
        self.sql.prepare_cached(sql).and_then(|mut s| s.query_row([], |r| r.get(0))).map_err(told)
    }

    fn pragma(&self, name: &str) -> Result<i64, StoreError> {
        self.sql.pragma_query_value(None, name, |r| r.get(0)).map_err(told)
    }

    /// A machine with its parts and everything that is theirs.
    fn delete_tree(&mut self, id: i64, pruned: &mut Pruned) -> Result<(), StoreError> {
        let children = self.oldest("SELECT id FROM machine WHERE parent=?1 AND parent IS NOT NULL", [id])?;
        for child in children {
            self.delete_tree(child, pruned)?;
        }
        let mut seq: i64 = self
            .sql
            .prepare_cached("SELECT last_event FROM machine WHERE id=?1")
            .and_then(|mut s| s.query_row([id], |r| r.get(0)))
            .map_err(told)?;
        // Along the chain of the machine's events, by primary key.
        while seq != 0 {
            let prev: Option<i64> = self
                .sql
                .prepare_cached("DELETE FROM event WHERE seq=?1 RETURNING prev")
                .and_then(|mut s| s.query_map([seq], |r| r.get(0))?.next().transpose())
                .map_err(told)?;
            pruned.events += u64::from(prev.is_some());
            self.low_water(seq)?;
            seq = prev.unwrap_or(0);
        }
        self.write("DELETE FROM mail WHERE machine=?1", [id])?;
        self.write("DELETE FROM machine WHERE id=?1", [id])?;
        pruned.machines.push(MachineId(id));
        Ok(())
    }

    /// Events up to here may be missing.
    fn low_water(&self, seq: i64) -> Result<(), StoreError> {
        self.write("UPDATE meta SET value=?1 WHERE key='first_event' AND value<?1", [seq + 1]).map(drop)
    }

    /// Events of living machines, from the oldest on.
    fn delete_events(&self, before: i64, batch: i64) -> Result<u64, StoreError> {
        let seqs = self.oldest(
            "SELECT e.seq FROM event e WHERE e.at<?1 AND e.seq<=(SELECT min(seq)+?2 FROM event) ORDER BY e.seq LIMIT ?2",
            [before, batch],
        )?;
        for seq in &seqs {
            self.write("DELETE FROM event WHERE seq=?1", [*seq])?;
            self.low_water(*seq)?;
        }
        Ok(seqs.len() as u64)
    }

    /// Definitions, lanes and limits that nothing refers to any more.
    fn tidy(&mut self) -> Result<(), StoreError> {
        self.write(
            "DELETE FROM definition WHERE id IN (
               SELECT d.id FROM definition d WHERE d.id NOT IN (SELECT definition FROM task)
                 AND NOT EXISTS (SELECT 1 FROM machine m WHERE m.task=d.task AND m.definition=d.id) LIMIT 100)",
            [],
        )?;
        self.write("DELETE FROM lane WHERE home=0 AND concurrency<>0 AND id NOT IN (SELECT lane FROM tick)", [])?;
        self.write(
            "DELETE FROM \"limit\" WHERE tat<?1 AND id NOT IN (SELECT concurrency FROM lane) AND id NOT IN (SELECT rate FROM lane)
               AND id NOT IN (SELECT \"limit\" FROM permit)",
            [self.now],
        )?;
        self.names.forget_lanes();
        Ok(())
    }
}

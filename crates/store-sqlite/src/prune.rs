//! Prune: deleting old history in bounded batches, and giving the room back to the file system.
//!
//! The events are walked in their order, each once over all prunes. A machine's last event is where it ended, so the
//! walk meets ended machines in the order of their ends without an index for it, and stops at the first that stays.

use ostler_model::MachineId;
use ostler_store::{Prune, Pruned, StoreError, Unsent};
use rusqlite::{Connection, params};

use crate::Tx;

/// Free pages given back in one transaction.
const PAGES: i64 = 2048;

/// Events looked at for each machine that a batch may delete.
const LOOKS: i64 = 16;

/// Lanes that are not worth tidying.
const FEW_LANES: i64 = 64;

/// How often the size is measured again, in machines.
const MEASURED: usize = 64;

/// By primary keys.
pub(crate) const WALK: &str =
    "SELECT e.seq, e.machine, m.state, m.last_event=e.seq, m.parent, m.finished_at, e.at
  FROM event e LEFT JOIN machine m ON m.id=e.machine WHERE e.seq>?1 ORDER BY e.seq LIMIT ?2";

/// By primary keys.
pub(crate) const TRIM: &str = "SELECT e.seq, e.prev, m.state=0 AND m.last_event<>e.seq
  FROM event e LEFT JOIN machine m ON m.id=e.machine WHERE e.seq>?1 AND e.at<?2 AND (e.seq<=?4 OR e.at<?5)
  ORDER BY e.seq LIMIT ?3";

/// What is deleted in one prune.
struct Doomed {
    pruned: Pruned,
    /// Machines that may still be deleted.
    left: i64,
    /// The last event deleted.
    last_event: i64,
    /// Roots deleted, of those that are counted.
    roots: i64,
    counted_to: i64,
    definitions: Vec<i64>,
}

impl Tx<'_> {
    pub(crate) fn prune(&mut self, prune: &Prune) -> Result<Pruned, StoreError> {
        let batch = i64::from(prune.batch.max(1));
        let ended = match prune.keep {
            Some(_) => self.ended_roots()?,
            None => 0,
        };
        let mut doomed = Doomed {
            pruned: Pruned::default(),
            left: batch,
            last_event: 0,
            roots: 0,
            counted_to: self.meta("roots_upto")?,
            definitions: Vec::new(),
        };
        let end = self.walk(prune, batch, ended, &mut doomed)?;
        if let Some(before) = prune.events_before {
            doomed.pruned.more |= self.trim(before, prune.unsent, batch * LOOKS, &mut doomed)?;
        }
        doomed.pruned.more |= end;
        if doomed.last_event > 0 {
            let first = self.meta("first_event")?.max(doomed.last_event + 1);
            self.set_meta("first_event", first)?;
        }
        if let Some(last) = doomed.pruned.machines.iter().max() {
            let last = self.meta("last_pruned")?.max(last.0);
            self.set_meta("last_pruned", last)?;
        }
        if doomed.roots > 0 {
            self.set_meta("roots", self.meta("roots")? - doomed.roots)?;
        }
        self.drop_definitions(&doomed.definitions)?;
        if doomed.pruned.machines.is_empty() {
            self.tidy()?;
        }
        // Free pages are given back in bounded steps; the file shrinks at the next checkpoint.
        self.sql
            .prepare(&format!("PRAGMA incremental_vacuum({PAGES})"))
            .and_then(|mut s| {
                let mut rows = s.query([])?;
                while rows.next()?.is_some() {}
                Ok(())
            })
            .map_err(crate::error::told)?;
        doomed.pruned.more |= self.pragma("freelist_count")? > PAGES;
        Ok(doomed.pruned)
    }

    /// Walks on along the events; true when the walk has not come to its end.
    fn walk(
        &mut self,
        prune: &Prune,
        batch: i64,
        ended: i64,
        doomed: &mut Doomed,
    ) -> Result<bool, StoreError> {
        let start = self.meta("pruned_to")?;
        let mut at = start;
        let mut is_big = self.is_big(prune)?;
        let mut measured = 0;
        let mut more = false;
        let events = self.rows(WALK, [start, batch * LOOKS], |r| {
            let end = match (r.get::<_, Option<i64>>(2)?, r.get::<_, Option<bool>>(3)?) {
                (Some(1..), Some(true)) => Some((r.get::<_, Option<i64>>(4)?, r.get::<_, Option<i64>>(5)?)),
                _ => None,
            };
            Ok((r.get::<_, i64>(0)?, r.get::<_, i64>(1)?, end, r.get::<_, i64>(6)?))
        })?;
        let all = (events.len() as i64) < batch * LOOKS;
        for (seq, machine, end, event_at) in events {
            if let Some((parent, finished)) = end {
                let too_old = prune.before.is_some_and(|before| finished.is_none_or(|at| at < before));
                let too_many = prune
                    .keep
                    .is_some_and(|keep| ended - doomed.roots > i64::try_from(keep).unwrap_or(i64::MAX));
                if doomed.pruned.machines.len() >= measured + MEASURED {
                    measured = doomed.pruned.machines.len();
                    is_big = self.is_big(prune)?;
                }
                let unsent = prune.unsent.filter(|_| !is_big);
                let waits = unsent.is_some_and(|u| seq > u.after && event_at >= u.since);
                if waits || !(too_old || too_many || is_big) {
                    self.set_pruned_to(start, at)?;
                    return Ok(false);
                }
                if doomed.left <= 0 {
                    more = true;
                    break;
                }
                // A part goes with its root, when the root and all its parts have ended and nothing of them waits.
                let upto = unsent.map_or(i64::MAX, |u| u.after.max(seq));
                let root = self.root(machine, parent)?;
                if let Some(root) = root
                    && !self.stays(root, upto)?
                    && !(self.delete_tree(root, machine, doomed)? && self.delete_one(machine, doomed)?)
                {
                    more = true;
                    break;
                }
            }
            at = seq;
        }
        self.set_pruned_to(start, at)?;
        Ok(more || !all)
    }

    fn set_pruned_to(&self, from: i64, to: i64) -> Result<(), StoreError> {
        if from == to { Ok(()) } else { self.set_meta("pruned_to", to) }
    }

    /// The root of a tree of machines that has ended; `None` while it lives.
    fn root(&self, machine: i64, parent: Option<i64>) -> Result<Option<i64>, StoreError> {
        let (mut at, mut above) = (machine, parent);
        while let Some(parent) = above {
            let sql = "SELECT parent, state FROM machine WHERE id=?1";
            match self.row(sql, [parent], |r| Ok((r.get::<_, Option<i64>>(0)?, r.get::<_, i64>(1)?)))? {
                Some((_, 0)) => return Ok(None),
                Some((next, _)) => (at, above) = (parent, next),
                None => break,
            }
        }
        Ok(Some(at))
    }

    /// Whether one that has ended stays: it, or a part, has an event behind that one; or a part lives.
    fn stays(&self, root: i64, upto: i64) -> Result<bool, StoreError> {
        let sql = "SELECT last_event>?2 FROM machine WHERE id=?1";
        if upto != i64::MAX && self.row(sql, [root, upto], |r| r.get(0))?.unwrap_or(false) {
            return Ok(true);
        }
        self.has_part_that_stays(root, upto)
    }

    fn has_part_that_stays(&self, machine: i64, upto: i64) -> Result<bool, StoreError> {
        let sql = "SELECT id, state=0 OR last_event>?2 FROM machine WHERE parent=?1 AND parent IS NOT NULL";
        for (part, stays) in
            self.rows(sql, [machine, upto], |r| Ok((r.get::<_, i64>(0)?, r.get::<_, bool>(1)?)))?
        {
            if stays || self.has_part_that_stays(part, upto)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A machine with its parts, parts first, except the one by which the walk came here: its event leads to what is
    /// left when the batch is full before the end. True when all is gone.
    fn delete_tree(&mut self, id: i64, except: i64, doomed: &mut Doomed) -> Result<bool, StoreError> {
        let sql = "SELECT id FROM machine WHERE parent=?1 AND parent IS NOT NULL LIMIT ?2";
        for part in self.keys(sql, [id, doomed.left.max(0) + 2])? {
            if !self.delete_tree(part, except, doomed)? {
                return Ok(false);
            }
        }
        if id == except { Ok(true) } else { self.delete_one(id, doomed) }
    }

    /// A machine and its events; false when the batch is full.
    fn delete_one(&mut self, id: i64, doomed: &mut Doomed) -> Result<bool, StoreError> {
        if doomed.left <= 0 {
            return Ok(false);
        }
        let sql = "DELETE FROM machine WHERE id=?1 RETURNING last_event, parent, definition";
        let gone = self.row(sql, [id], |r| {
            Ok((r.get::<_, i64>(0)?, r.get::<_, Option<i64>>(1)?, r.get::<_, i64>(2)?))
        })?;
        if let Some((last_event, parent, definition)) = gone {
            self.delete_chain(last_event, doomed)?;
            doomed.left -= 1;
            doomed.roots += i64::from(parent.is_none() && id <= doomed.counted_to);
            if definition != 0 && !doomed.definitions.contains(&definition) {
                doomed.definitions.push(definition);
            }
            doomed.pruned.machines.push(MachineId(id));
        }
        Ok(true)
    }

    /// Events of one machine from a given one backwards, by primary key.
    fn delete_chain(&self, from: i64, doomed: &mut Doomed) -> Result<(), StoreError> {
        let mut seq = from;
        while seq != 0 {
            match self.row("DELETE FROM event WHERE seq=?1 RETURNING prev", [seq], |r| r.get(0))? {
                Some(prev) => {
                    doomed.pruned.events += 1;
                    doomed.last_event = doomed.last_event.max(seq);
                    seq = prev;
                }
                None => break,
            }
        }
        Ok(())
    }

    /// Events of living machines, except the last of each. Those of ended ones go with their machines.
    fn trim(
        &mut self,
        before: i64,
        unsent: Option<Unsent>,
        batch: i64,
        doomed: &mut Doomed,
    ) -> Result<bool, StoreError> {
        let start = self.meta("trimmed_to")?;
        let (after, since) = unsent.map_or((i64::MAX, i64::MAX), |u| (u.after, u.since));
        let events = self.rows(TRIM, [start, before, batch, after, since], |r| {
            Ok((r.get::<_, i64>(0)?, r.get::<_, i64>(1)?, r.get::<_, Option<bool>>(2)?.unwrap_or(false)))
        })?;
        for (seq, _, goes) in &events {
            if *goes {
                // With it what stayed behind it as the last event of its time.
                self.delete_chain(*seq, doomed)?;
            }
        }
        if let Some((last, ..)) = events.last() {
            self.set_meta("trimmed_to", *last)?;
        }
        Ok(events.len() as i64 >= batch)
    }

    /// Machines on record that have ended and are no parts. Counts only what is new since the last prune.
    fn ended_roots(&mut self) -> Result<i64, StoreError> {
        let (upto, known) = (self.meta("roots_upto")?, self.meta("roots")?);
        let new: (i64, i64) = self
            .row(
                "SELECT count(*), coalesce(max(id), ?1) FROM machine WHERE id>?1 AND parent IS NULL",
                [upto],
                |r| Ok((r.get(0)?, r.get(1)?)),
            )?
            .unwrap_or((0, upto));
        if new.0 > 0 {
            self.set_meta("roots", known + new.0)?;
            self.set_meta("roots_upto", new.1)?;
        }
        let sql = "SELECT count(*) FROM tick t CROSS JOIN machine m ON m.id=t.machine WHERE m.parent IS NULL";
        Ok(known + new.0 - self.number(sql, ())?)
    }

    fn is_big(&self, prune: &Prune) -> Result<bool, StoreError> {
        let Some(max) = prune.max_bytes else { return Ok(false) };
        let pages = self.pragma("page_count")? - self.pragma("freelist_count")?;
        Ok(pages * self.pragma("page_size")? > i64::try_from(max).unwrap_or(i64::MAX))
    }

    fn pragma(&self, name: &str) -> Result<i64, StoreError> {
        self.sql.pragma_query_value(None, name, |r| r.get(0)).map_err(crate::error::told)
    }

    /// Definitions that were replaced and whose last machine may have gone.
    fn drop_definitions(&self, which: &[i64]) -> Result<(), StoreError> {
        for id in which {
            self.run(
                // Machines go oldest first, so one that is left stands near the beginning of `machine_task`.
                "DELETE FROM definition WHERE id=?1 AND replaced_at IS NOT NULL
                   AND NOT EXISTS (SELECT 1 FROM machine m WHERE m.task=definition.task AND m.parent IS NULL
                     AND m.definition=?1)",
                [*id],
            )?;
        }
        Ok(())
    }

    /// What nothing refers to any more: a definition that never had a machine, lanes, limits.
    fn tidy(&mut self) -> Result<(), StoreError> {
        let oldest =
            self.number("SELECT coalesce(min(id), ?1) FROM machine WHERE parent IS NULL", [i64::MAX])?;
        let replaced_before = MachineId(oldest).unix_ms().saturating_mul(1000);
        let sql = "SELECT id FROM definition WHERE replaced_at<?1 ORDER BY replaced_at LIMIT 1";
        let candidates = self.keys(sql, [replaced_before])?;
        self.drop_definitions(&candidates)?;
        if self.number("SELECT count(*) FROM (SELECT 1 FROM lane LIMIT ?1)", [FEW_LANES])? < FEW_LANES {
            return Ok(());
        }
        let gone = self.run("DELETE FROM lane WHERE id NOT IN (SELECT lane FROM tick)", ())?;
        let gone = gone
            + self.run(
                "DELETE FROM \"limit\" WHERE tat<?1 AND id NOT IN (SELECT concurrency FROM lane)
               AND id NOT IN (SELECT rate FROM lane) AND id NOT IN (SELECT \"limit\" FROM permit)",
                params![self.now],
            )?;
        if gone > 0 {
            self.names.forget_lanes();
        }
        Ok(())
    }
}

/// Empties the write-ahead log into the file and cuts both to their size. Skipped while another process reads.
pub(crate) fn shrink(connection: &Connection) {
    let _ = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
}

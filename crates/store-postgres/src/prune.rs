//! Prune: deleting old history in bounded batches, by one node at a time.
//!
//! The events are walked in their order, each once over all prunes, as far as no transaction can add to them any more.
//! A machine's last event is where it ended, so the walk meets ended machines in the order of their ends without an
//! index for it, and stops at the first that stays. What is deleted is given back by autovacuum.

use std::collections::HashSet;

use ostler_model::MachineId;
use ostler_store::{Prune, Pruned, StoreError, Unsent};

use crate::{
    link::{Link, Mode},
    read::history,
    trouble::Done,
    tx::Tx,
    value::{Columns, values},
};

/// Events looked at for each machine that a batch may delete.
const LOOKS: i64 = 16;

/// Lanes that are not worth tidying.
const FEW_LANES: i64 = 64;

/// How long a lane that nobody stands in is kept, in microseconds: longer than any transaction that may still put
/// something into it.
const RETIRED: i64 = 10 * 60 * 1_000_000;

/// By primary keys.
pub(crate) const WALK: &str =
    "SELECT e.seq, e.machine, m.state, m.last_event=e.seq, m.parent, m.finished_at, e.at
  FROM event e LEFT JOIN machine m ON m.id=e.machine WHERE e.seq>$1 AND e.seq<$2 ORDER BY e.seq LIMIT $3";

/// By primary keys.
pub(crate) const TRIM: &str = "SELECT e.seq, coalesce(m.state=0 AND m.last_event<>e.seq, FALSE)
  FROM event e LEFT JOIN machine m ON m.id=e.machine WHERE e.seq>$1 AND e.seq<$2 AND e.at<$3
    AND (e.seq<=$5 OR e.at<$6) ORDER BY e.seq LIMIT $4";

/// Events backwards from given ones, by primary key.
const CHAINS: &str = "WITH RECURSIVE chain (seq, prev) AS (
    SELECT e.seq, e.prev FROM event e WHERE e.seq=ANY($1)
    UNION SELECT e.seq, e.prev FROM chain c JOIN event e ON e.seq=c.prev WHERE c.prev<>0)
  DELETE FROM event e USING chain c WHERE e.seq=c.seq RETURNING e.seq";

/// What is deleted in one prune.
struct Doomed {
    pruned: Pruned,
    /// Machines that may still be deleted.
    left: i64,
    /// The last event deleted.
    last_event: i64,
    /// Roots deleted, and those of them that are counted in `meta`.
    roots: i64,
    counted: i64,
    counted_to: i64,
    definitions: Vec<i64>,
    /// Last events of machines that were deleted.
    chains: Vec<i64>,
}

impl Tx<'_> {
    pub(crate) fn prune(&mut self, prune: &Prune, horizon: i64) -> Done<Pruned> {
        if prune.max_bytes.is_some() {
            return Err(StoreError::Refused(
                "history cannot be limited by size on PostgreSQL, which gives room back later; limit it by age or number"
                    .into(),
            )
            .into());
        }
        // Whoever has this row in hand prunes; others have nothing to do.
        let mine = "SELECT value FROM meta WHERE key='pruned_to' FOR UPDATE SKIP LOCKED";
        let Some(start) = self.row(mine, &[])? else { return Ok(Pruned::default()) };
        let start = start.int(0)?;
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
            counted: 0,
            counted_to: self.meta("roots_upto")?,
            definitions: Vec::new(),
            chains: Vec::new(),
        };
        let end = self.walk(prune, (start, horizon), ended, &mut doomed)?;
        self.delete_chains(&mut doomed)?;
        if let Some(before) = prune.events_before {
            let room = batch * LOOKS;
            doomed.pruned.more |= self.trim((before, horizon), prune.unsent, room, &mut doomed)?;
        }
        doomed.pruned.more |= end;
        if doomed.last_event > 0 {
            let first = self.meta("first_event")?.max(doomed.last_event + 1);
            self.set_meta("first_event", first)?;
        }
        if doomed.counted > 0 {
            let roots = self.meta("roots")?;
            self.set_meta("roots", roots - doomed.counted)?;
        }
        self.drop_definitions(&doomed.definitions)?;
        if doomed.pruned.machines.is_empty() {
            self.tidy()?;
        }
        Ok(doomed.pruned)
    }

    /// Walks on along the events; true when the walk has not come to its end.
    fn walk(
        &mut self,
        prune: &Prune,
        (start, horizon): (i64, i64),
        ended: i64,
        doomed: &mut Doomed,
    ) -> Done<bool> {
        let looks = doomed.left * LOOKS;
        let events = self.rows(WALK, values![start, horizon, looks])?;
        let all = (events.len() as i64) < looks;
        let mut at = start;
        let mut more = false;
        for event in &events {
            let (seq, machine) = (event.int(0)?, event.int(1)?);
            let is_end = event.int_or(2)?.is_some_and(|state| state > 0) && event.flag(3)?;
            if is_end {
                let (parent, finished) = (event.int_or(4)?, event.int_or(5)?);
                let too_old = prune.before.is_some_and(|before| finished.is_none_or(|at| at < before));
                let too_many = prune
                    .keep
                    .is_some_and(|keep| ended - doomed.roots > i64::try_from(keep).unwrap_or(i64::MAX));
                let waits = match prune.unsent {
                    Some(unsent) => seq > unsent.after && event.int(6)? >= unsent.since,
                    None => false,
                };
                if waits || !(too_old || too_many) {
                    self.set_pruned_to(start, at)?;
                    return Ok(false);
                }
                if doomed.left <= 0 {
                    more = true;
                    break;
                }
                // A part goes with its root, when the root and all its parts have ended and nothing of them waits.
                let upto = prune.unsent.map_or(i64::MAX, |u| u.after.max(seq));
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

    fn set_pruned_to(&mut self, from: i64, to: i64) -> Done<()> {
        if from == to { Ok(()) } else { self.set_meta("pruned_to", to) }
    }

    /// The root of a tree of machines that has ended; `None` while it lives.
    fn root(&mut self, machine: i64, parent: Option<i64>) -> Done<Option<i64>> {
        let (mut at, mut above) = (machine, parent);
        while let Some(parent) = above {
            match self.row("SELECT parent, state FROM machine WHERE id=$1", values![parent])? {
                Some(row) if row.int(1)? == 0 => return Ok(None),
                Some(row) => (at, above) = (parent, row.int_or(0)?),
                None => break,
            }
        }
        Ok(Some(at))
    }

    /// Whether a machine, or a part of it, lives or has an event behind that one.
    fn stays(&mut self, machine: i64, upto: i64) -> Done<bool> {
        let sql = "WITH RECURSIVE part (id, state, last_event) AS (
            SELECT id, state, last_event FROM machine WHERE id=$1
            UNION ALL SELECT m.id, m.state, m.last_event FROM part
              JOIN machine m ON m.parent=part.id AND m.parent IS NOT NULL)
          SELECT 1 FROM part WHERE state=0 OR last_event>$2 LIMIT 1";
        Ok(self.row(sql, values![machine, upto])?.is_some())
    }

    /// A machine with its parts, parts first, except the one by which the walk came here: its event leads to what is
    /// left when the batch is full before the end. True when all is gone.
    fn delete_tree(&mut self, id: i64, except: i64, doomed: &mut Doomed) -> Done<bool> {
        let sql = "SELECT id FROM machine WHERE parent=$1 AND parent IS NOT NULL ORDER BY id LIMIT $2";
        for part in self.keys(sql, values![id, doomed.left.max(0) + 2])? {
            if !self.delete_tree(part, except, doomed)? {
                return Ok(false);
            }
        }
        if id == except { Ok(true) } else { self.delete_one(id, doomed) }
    }

    /// A machine; false when the batch is full. Its events go with all others' at the end.
    fn delete_one(&mut self, id: i64, doomed: &mut Doomed) -> Done<bool> {
        if doomed.left <= 0 {
            return Ok(false);
        }
        let sql = "DELETE FROM machine WHERE id=$1 RETURNING last_event, parent, definition, state";
        if let Some(gone) = self.written(sql, values![id])?.into_iter().next() {
            let (parent, definition, state) = (gone.int_or(1)?, gone.int(2)?, gone.int(3)?);
            if state > 10 && parent.is_none() {
                self.run("DELETE FROM bad_end WHERE state=$1 AND machine=$2", values![state, id])?;
            }
            doomed.chains.push(gone.int(0)?);
            doomed.left -= 1;
            doomed.roots += i64::from(parent.is_none());
            doomed.counted += i64::from(parent.is_none() && id <= doomed.counted_to);
            if definition != 0 && !doomed.definitions.contains(&definition) {
                doomed.definitions.push(definition);
            }
            doomed.pruned.machines.push(MachineId(id));
        }
        Ok(true)
    }

    fn delete_chains(&mut self, doomed: &mut Doomed) -> Done<()> {
        if doomed.chains.is_empty() {
            return Ok(());
        }
        let gone = self.written(CHAINS, values![std::mem::take(&mut doomed.chains)])?;
        doomed.pruned.events += gone.len() as u64;
        for row in gone {
            doomed.last_event = doomed.last_event.max(row.int(0)?);
        }
        Ok(())
    }

    /// Events of living machines, except the last of each. Those of ended ones go with their machines.
    fn trim(
        &mut self,
        (before, horizon): (i64, i64),
        unsent: Option<Unsent>,
        batch: i64,
        doomed: &mut Doomed,
    ) -> Done<bool> {
        let start = self.meta("trimmed_to")?;
        let (after, since) = unsent.map_or((i64::MAX, i64::MAX), |u| (u.after, u.since));
        let events = self.rows(TRIM, values![start, horizon, before, batch, after, since])?;
        for event in &events {
            if event.flag(1)? {
                // With it what stayed behind it as the last event of its time.
                doomed.chains.push(event.int(0)?);
            }
        }
        self.delete_chains(doomed)?;
        if let Some(last) = events.last() {
            self.set_meta("trimmed_to", last.int(0)?)?;
        }
        Ok(events.len() as i64 >= batch)
    }

    /// Machines on record that have ended and are no parts. Counts only what is new since the last prune.
    fn ended_roots(&mut self) -> Done<i64> {
        let (upto, known) = (self.meta("roots_upto")?, self.meta("roots")?);
        // What was made within the last minute may still be joined by a machine with a lower key from another node.
        let settled = MachineId::first_at((self.now - 60_000_000) / 1000).0;
        let sql =
            "SELECT count(*), coalesce(max(id), $1) FROM machine WHERE id>$1 AND id<$2 AND parent IS NULL";
        let (new, last) = match self.row(sql, values![upto, settled])? {
            Some(row) => (row.int(0)?, row.int(1)?),
            None => (0, upto),
        };
        if new > 0 {
            self.set_meta("roots", known + new)?;
            self.set_meta("roots_upto", last)?;
        }
        let sql = "SELECT count(*) FROM machine WHERE id>=$1 AND id>$2 AND parent IS NULL";
        let newest = self.number(sql, values![settled, last])?;
        let sql = "SELECT count(*) FROM tick t JOIN machine m ON m.id=t.machine WHERE m.parent IS NULL";
        Ok(known + new + newest - self.number(sql, &[])?)
    }

    /// Definitions that were replaced and whose last machine may have gone.
    fn drop_definitions(&mut self, which: &[i64]) -> Done<()> {
        for id in which {
            self.run(
                // Machines go oldest first, so one that is left stands near the beginning of `machine_task`.
                "DELETE FROM definition d WHERE d.id=$1 AND d.replaced_at IS NOT NULL
                   AND NOT EXISTS (SELECT 1 FROM machine m WHERE m.task=d.task AND m.parent IS NULL AND m.definition=$1)",
                values![*id],
            )?;
        }
        Ok(())
    }

    /// What nothing refers to any more: a definition that never had a machine, lanes, limits.
    fn tidy(&mut self) -> Done<()> {
        let sql = "SELECT id FROM machine WHERE parent IS NULL ORDER BY id LIMIT 1";
        let oldest = self.row(sql, &[])?.map_or(Ok(i64::MAX), |r| r.int(0))?;
        let replaced_before = MachineId(oldest).unix_ms().saturating_mul(1000);
        let sql = "SELECT id FROM definition WHERE replaced_at<$1 ORDER BY replaced_at LIMIT 1";
        let candidates = self.keys(sql, values![replaced_before])?;
        self.drop_definitions(&candidates)?;
        let sql = "SELECT count(*) FROM (SELECT 1 FROM lane LIMIT $1) l";
        if self.number(sql, values![FEW_LANES])? < FEW_LANES {
            return Ok(());
        }
        // In two steps: a transaction that knew a lane may be about to use it. Nobody knows one that is retired, and
        // whoever wants it again takes it back.
        let used: HashSet<i64> = self.keys("SELECT DISTINCT lane FROM tick", &[])?.into_iter().collect();
        let mut gone = 0;
        let unused = "SELECT id FROM lane WHERE retired_at IS NULL";
        let unused: Vec<i64> = self.keys(unused, &[])?.into_iter().filter(|id| !used.contains(id)).collect();
        if !unused.is_empty() {
            gone += self.run("UPDATE lane SET retired_at=$2 WHERE id=ANY($1)", values![unused, self.now])?;
        }
        let sql = "DELETE FROM lane l WHERE l.retired_at<$1 AND NOT EXISTS (SELECT 1 FROM tick t WHERE t.lane=l.id)";
        gone += self.run(sql, values![self.now - RETIRED])?;
        self.run("DELETE FROM visit v WHERE NOT EXISTS (SELECT 1 FROM lane l WHERE l.id=v.lane)", &[])?;
        gone += self.run(
            "DELETE FROM \"limit\" i WHERE i.tat<$1 AND NOT EXISTS (SELECT 1 FROM lane l WHERE l.concurrency=i.id OR l.rate=i.id)
               AND NOT EXISTS (SELECT 1 FROM permit p WHERE p.\"limit\"=i.id)",
            values![self.now],
        )?;
        if gone > 0 {
            self.forget_everywhere()?;
        }
        Ok(())
    }
}

/// How far events may be walked: asked before the transaction of the prune begins.
pub(crate) fn horizon(link: &mut Link, base: i64) -> Done<i64> {
    link.begin(Mode::Write, None)?;
    let horizon = history::horizon(link, base);
    link.script("COMMIT")?;
    horizon
}

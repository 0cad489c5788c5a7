//! Letters: what machines are told, and being woken by it.
//!
//! Whoever writes to a machine has its row of the queue in hand until the commit. So letters of one machine are in the
//! order of their numbers, and a claim, which passes over rows that others have in hand, has read all letters up to the
//! last one that it was given.

use std::collections::{HashMap, HashSet};

use ostler_model::MachineId;
use ostler_store::{Letter, MailTo, StoreError};

use crate::{
    names::Lane,
    trouble::Done,
    tx::Tx,
    value::{Columns, values},
};

const LISTENERS: &str = "SELECT t.id, l.machine FROM listener l
    JOIN namespace n ON n.name=l.ns JOIN task t ON t.ns=n.id AND t.name=l.task ORDER BY l.machine";

/// In the order of keys, so that two senders do not wait for one another.
pub(crate) const IN_HAND: &str =
    "SELECT t.machine FROM tick t WHERE t.machine=ANY($1) ORDER BY t.machine FOR UPDATE";

pub(crate) const WAKE: &str = "UPDATE tick t SET woken=t.woken+u.letters::integer,
    due_at=CASE WHEN t.phase=2 THEN t.due_at ELSE least(t.due_at, $4) END,
    phase=CASE WHEN t.phase=0 OR (t.phase=3 AND u.cancels) THEN 1 ELSE t.phase END
  FROM unnest($1, $2, $3) u(machine, letters, cancels) WHERE t.machine=u.machine AND t.machine=ANY($1)
  RETURNING t.machine, t.phase, t.lane, u.cancels";

const INSERT: &str = "INSERT INTO mail (machine, body)
  SELECT u.machine, u.body FROM unnest($1, $2) WITH ORDINALITY u(machine, body, place) ORDER BY u.place";

impl Tx<'_> {
    /// Puts letters into mailboxes and wakes their owners; says of each whether its machine lives.
    ///
    /// A wake-up brings a due moment forward and never pushes it back. A held machine stays held and is due when it is
    /// let go; only a cancellation passes, since nothing else could end what is held.
    pub(crate) fn send(&mut self, letters: &[(MachineId, &Letter)]) -> Done<Vec<bool>> {
        if letters.is_empty() {
            return Ok(Vec::new());
        }
        let mut told: HashMap<i64, (i64, bool)> = HashMap::new();
        for (machine, letter) in letters {
            let entry = told.entry(machine.0).or_default();
            *entry = (entry.0 + 1, entry.1 || matches!(letter, Letter::Cancel { .. }));
        }
        let ids: Vec<i64> = told.keys().copied().collect();
        if ids.len() > 1 {
            self.rows(IN_HAND, values![ids.as_slice()])?;
        }
        let counts: Vec<i64> = ids.iter().map(|id| told[id].0).collect();
        let cancels: Vec<bool> = ids.iter().map(|id| told[id].1).collect();
        let mut alive = HashSet::new();
        for row in self.written(WAKE, values![ids, counts, cancels, self.now])? {
            let (machine, phase, lane) = (row.int(0)?, row.int(1)?, row.int(2)?);
            alive.insert(machine);
            // One that is claimed is told by its node, which may be another.
            self.woke = true;
            if row.flag(3)? && phase != 2 {
                self.pass_limits(machine, lane)?;
            }
        }
        let bodies = letters
            .iter()
            .filter(|(machine, _)| alive.contains(&machine.0))
            .map(|(machine, letter)| Ok((machine.0, serde_json::to_string(letter)?)))
            .collect::<Result<Vec<_>, serde_json::Error>>()
            .map_err(|e| StoreError::Refused(e.to_string()))?;
        if !bodies.is_empty() {
            let machines: Vec<i64> = bodies.iter().map(|(machine, _)| *machine).collect();
            let texts: Vec<&str> = bodies.iter().map(|(_, body)| body.as_str()).collect();
            self.run(INSERT, values![machines, texts])?;
        }
        Ok(letters.iter().map(|(machine, _)| alive.contains(&machine.0)).collect())
    }

    /// One that is to end takes no slot for it and asks for no label; and where it holds no permit it waits for none: it would stand behind
    /// what it waits for.
    fn pass_limits(&mut self, machine: i64, id: i64) -> Done<()> {
        let lane = self.lane(id)?;
        let limited = lane.concurrency != 0 || lane.rate != 0;
        let passing = match limited && !self.has_permit(&lane, machine)? {
            true => Lane { concurrency: 0, rate: 0, light: true, labels: 0, ..lane },
            false => Lane { light: true, labels: 0, ..lane },
        };
        if passing != lane {
            let passing = self.lane_of(passing)?;
            self.run("UPDATE tick SET lane=$2 WHERE machine=$1", values![machine, passing])?;
        }
        Ok(())
    }

    /// To whom a letter of the machine that commits goes.
    pub(crate) fn addressees(
        &mut self,
        from: MachineId,
        watcher: Option<i64>,
        to: &MailTo,
    ) -> Done<Vec<i64>> {
        match to {
            MailTo::Machine(id) => Ok(vec![id.0]),
            MailTo::Watcher => Ok(Vec::from_iter(watcher)),
            MailTo::Child(key) => self.keys(
                "SELECT id FROM machine WHERE parent=$1 AND parent IS NOT NULL AND state=0 AND child_key=$2 ORDER BY id",
                values![from.0, key],
            ),
            MailTo::Children => self.keys(
                "SELECT id FROM machine WHERE parent=$1 AND parent IS NOT NULL AND state=0 ORDER BY id",
                values![from.0],
            ),
            MailTo::Watched => {
                self.keys("SELECT machine FROM watched WHERE watcher=$1 ORDER BY machine", values![from.0])
            }
        }
    }

    /// Whether anybody is told of the ends of a task's runs.
    pub(crate) fn is_heard(&mut self, task: i64) -> Done<bool> {
        if task == 0 {
            return Ok(false);
        }
        if self.names.listeners.is_none() {
            let mut listeners: HashMap<i64, Vec<i64>> = HashMap::new();
            for row in self.rows(LISTENERS, &[])? {
                listeners.entry(row.int(0)?).or_default().push(row.int(1)?);
            }
            self.names.listeners = Some(listeners);
        }
        Ok(self.names.listeners.as_ref().is_some_and(|l| l.contains_key(&task)))
    }

    /// Tells those who listen to a task that a run of it has ended. What is held back hears nothing: events that come
    /// meanwhile do not count.
    pub(crate) fn tell_end(&mut self, run: MachineId, task: i64) -> Done<()> {
        if !self.is_heard(task)? {
            return Ok(());
        }
        let machines = self.names.listeners.as_ref().and_then(|l| l.get(&task)).cloned().unwrap_or_default();
        let sql = "SELECT n.name, t.name, m.state, m.fields FROM machine m
                     JOIN task t ON t.id=m.task JOIN namespace n ON n.id=m.ns WHERE m.id=$1";
        let Some(row) = self.row(sql, values![run.0])? else { return Ok(()) };
        let letter = Letter::RunEnded {
            run,
            namespace: row.text(0)?,
            task: row.text(1)?,
            state: row.int(2)?,
            fields: row.text(3)?,
        };
        let sql = "SELECT machine FROM tick WHERE machine=ANY($1) AND phase<>3 ORDER BY machine";
        let hearing = self.keys(sql, values![machines])?;
        let letters: Vec<_> = hearing.into_iter().map(|id| (MachineId(id), &letter)).collect();
        self.send(&letters).map(drop)
    }

    /// Of machines: letters that wait, and whether one of them is a cancellation.
    pub(crate) fn unread(&mut self, machines: Vec<i64>) -> Done<HashMap<i64, (i64, bool)>> {
        if machines.is_empty() {
            return Ok(HashMap::new());
        }
        let sql = "SELECT machine, count(*), bool_or(body LIKE '{\"cancel\":%') FROM mail WHERE machine=ANY($1) GROUP BY machine";
        let rows = self.rows(sql, values![machines])?;
        rows.iter().map(|r| Ok((r.int(0)?, (r.int(1)?, r.flag(2)?)))).collect()
    }
}

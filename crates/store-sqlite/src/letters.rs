//! Letters: what machines are told, and being woken by it.

use std::collections::HashMap;

use ostler_model::MachineId;
use ostler_store::{Letter, MailTo, StoreError};
use rusqlite::{Connection, params};

use crate::{Tx, error::told, names::Lane};

const LISTENERS: &str = "SELECT t.id, l.machine FROM listener l
    JOIN namespace n ON n.name=l.ns JOIN task t ON t.ns=n.id AND t.name=l.task ORDER BY l.machine";

impl Tx<'_> {
    /// Puts a letter into a mailbox and wakes its owner; false when that has ended.
    ///
    /// A wake-up brings a due moment forward and never pushes it back. A held machine stays held and is due when it is
    /// let go; only a cancellation passes, since nothing else could end what is held.
    pub(crate) fn send(&mut self, machine: MachineId, letter: &Letter) -> Result<bool, StoreError> {
        let cancels = matches!(letter, Letter::Cancel { .. });
        let woken = self.row(
            "UPDATE tick SET woken=woken+1, due_at=CASE WHEN phase=2 THEN due_at ELSE min(due_at, ?2) END,
               phase=CASE WHEN phase=0 OR (phase=3 AND ?3) THEN 1 ELSE phase END WHERE machine=?1 RETURNING phase, lane",
            params![machine.0, self.now, cancels],
            |r| Ok((r.get::<_, i64>(0)?, r.get::<_, i64>(1)?)),
        )?;
        let Some((phase, lane)) = woken else { return Ok(false) };
        if cancels && phase != 2 {
            self.pass_limits(machine.0, lane)?;
        }
        let body = serde_json::to_string(letter).map_err(|e| StoreError::Refused(e.to_string()))?;
        self.run("INSERT INTO mail (machine, body) VALUES (?1, ?2)", params![machine.0, body])?;
        Ok(true)
    }

    /// One that is to end takes no slot for it and asks for no label; and where it holds no permit it waits for none: it would stand behind
    /// what it waits for.
    fn pass_limits(&mut self, machine: i64, id: i64) -> Result<(), StoreError> {
        let lane = self.lane(id)?;
        let limited = lane.concurrency != 0 || lane.rate != 0;
        let passing = match limited && !self.has_permit(&lane, machine)? {
            true => Lane { concurrency: 0, rate: 0, light: true, labels: 0, ..lane },
            false => Lane { light: true, labels: 0, ..lane },
        };
        if passing != lane {
            let passing = self.lane_of(passing)?;
            self.run("UPDATE tick SET lane=?2 WHERE machine=?1", [machine, passing])?;
        }
        Ok(())
    }

    /// Sends a letter of the machine that commits.
    pub(crate) fn post(
        &mut self,
        from: MachineId,
        watcher: Option<i64>,
        to: &MailTo,
        letter: &Letter,
    ) -> Result<(), StoreError> {
        // Over `machine_parent` and `machine_watched`.
        let ids = match to {
            MailTo::Machine(id) => vec![id.0],
            MailTo::Watcher => Vec::from_iter(watcher),
            MailTo::Child(key) => self.keys(
                "SELECT id FROM machine WHERE parent=?1 AND parent IS NOT NULL AND state=0 AND child_key=?2",
                params![from.0, key],
            )?,
            MailTo::Children => self.keys(
                "SELECT id FROM machine WHERE parent=?1 AND parent IS NOT NULL AND state=0",
                [from.0],
            )?,
            MailTo::Watched => self.keys(
                "SELECT id FROM machine WHERE watcher=?1 AND watcher IS NOT NULL AND state=0",
                [from.0],
            )?,
        };
        ids.into_iter().try_for_each(|id| self.send(MachineId(id), letter).map(drop))
    }

    /// Whether anybody is told of the ends of a task's runs.
    pub(crate) fn is_heard(&mut self, task: i64) -> Result<bool, StoreError> {
        if task == 0 {
            return Ok(false);
        }
        if self.names.listeners.is_none() {
            let mut listeners: HashMap<i64, Vec<i64>> = HashMap::new();
            for (task, machine) in self.rows(LISTENERS, [], |r| Ok((r.get(0)?, r.get(1)?)))? {
                listeners.entry(task).or_default().push(machine);
            }
            self.names.listeners = Some(listeners);
        }
        Ok(self.names.listeners.as_ref().is_some_and(|l| l.contains_key(&task)))
    }

    /// Tells those who listen to a task that a run of it has ended. What is held back hears nothing: events that come
    /// meanwhile do not count.
    pub(crate) fn tell_end(&mut self, run: MachineId, task: i64) -> Result<(), StoreError> {
        if !self.is_heard(task)? {
            return Ok(());
        }
        let machines = self.names.listeners.as_ref().and_then(|l| l.get(&task)).cloned().unwrap_or_default();
        let sql = "SELECT n.name, t.name, m.state, m.fields FROM machine m
                     JOIN task t ON t.id=m.task JOIN namespace n ON n.id=m.ns WHERE m.id=?1";
        let ended = self.row(sql, [run.0], |r| {
            Ok(Letter::RunEnded {
                run,
                namespace: r.get(0)?,
                task: r.get(1)?,
                state: r.get(2)?,
                fields: r.get(3)?,
            })
        })?;
        let Some(letter) = ended else { return Ok(()) };
        for machine in machines {
            let held = self.row("SELECT phase FROM tick WHERE machine=?1", [machine], |r| r.get(0))?;
            if held != Some(3) {
                self.send(MachineId(machine), &letter)?;
            }
        }
        Ok(())
    }

    /// Letters that wait for a machine, and whether one of them is a cancellation.
    pub(crate) fn unread(&self, machine: i64) -> Result<(i64, bool), StoreError> {
        let sql = "SELECT count(*), coalesce(max(body LIKE '{\"cancel\":%'), 0) FROM mail WHERE machine=?1";
        Ok(self.row(sql, [machine], |r| Ok((r.get(0)?, r.get(1)?)))?.unwrap_or((0, false)))
    }
}

/// The letters of a machine, oldest first. One that does not read is told as a signal: it must not keep the machine,
/// and with it everything else that is claimed, from going on.
pub(crate) fn of(sql: &Connection, machine: i64) -> Result<Vec<(i64, Letter)>, StoreError> {
    let mut select =
        sql.prepare_cached("SELECT seq, body FROM mail WHERE machine=?1 ORDER BY seq").map_err(told)?;
    let rows: Vec<(i64, String)> = select
        .query_map([machine], |r| Ok((r.get(0)?, r.get(1)?)))
        .and_then(Iterator::collect)
        .map_err(told)?;
    let letters = rows.into_iter().map(|(seq, body)| {
        let unreadable = |_| Letter::Signal { name: "unreadable".into(), body: body.clone() };
        (seq, serde_json::from_str(&body).unwrap_or_else(unreadable))
    });
    Ok(letters.collect())
}

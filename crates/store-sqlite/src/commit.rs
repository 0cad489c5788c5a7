//! Commit: the end of a tick, as compare-and-set on (machine, step, node, fence).

use ostler_model::MachineId;
use ostler_store::{Commit, CommitOutcome, Letter, MailTo, Next, StoreError};
use rusqlite::{OptionalExtension, params};

use crate::{Tx, error::told};

/// What a commit finds of its machine.
struct Found {
    step: i64,
    fence: i64,
    node: Option<i64>,
    phase: i64,
    held: bool,
    last_event: i64,
    watcher: Option<i64>,
    limited: bool,
    woken: i64,
}

impl Tx<'_> {
    pub(crate) fn commit(&mut self, commit: &Commit) -> Result<CommitOutcome, StoreError> {
        let found = self.find_claim(commit.id)?;
        let expected = (commit.step, commit.fence);
        let found = match found {
            Some(f)
                if f.phase == 2
                    && f.node == Some(commit.node.0)
                    && (f.step as u64, f.fence as u64) == expected =>
            {
                f
            }
            other => {
                let actual = other.map(|f| (f.step as u64, f.fence as u64));
                return Ok(CommitOutcome::Conflict { expected, actual });
            }
        };
        let event = self.event(commit.id, found.step + 1, found.last_event, &commit.event)?;
        let (state, finished) = match commit.next {
            Next::End { state } => (state, Some(self.now)),
            Next::Stay { .. } => (0, None),
        };
        self.sql
            .prepare_cached(
                "UPDATE machine SET state=?2, step=step+1, fields=coalesce(?3, fields), last_event=?4,
                   started_at=coalesce(started_at, ?5), finished_at=?6,
                   unique_key=CASE WHEN ?2=0 THEN unique_key END
                 WHERE id=?1",
            )
            .and_then(|mut s| {
                s.execute(params![commit.id.0, state, commit.fields, event, commit.started_at, finished])
            })
            .map_err(told)?;
        if let Some(last) = commit.read_mail {
            self.sql
                .prepare_cached("DELETE FROM mail WHERE machine=?1 AND seq<=?2")
                .and_then(|mut s| s.execute(params![commit.id.0, last]))
                .map_err(told)?;
        }
        let mut started = Vec::with_capacity(commit.start.len());
        for child in &commit.start {
            started.push(self.start(child, None)?.0);
        }
        for (to, letter) in &commit.send {
            self.post(commit.id, found.watcher, to, letter)?;
        }
        match commit.next {
            Next::End { .. } => self.end(commit.id, &found)?,
            Next::Stay { until, keep_permit } => self.stay(commit.id, &found, until, keep_permit, commit.read_mail)?,
        }
        Ok(CommitOutcome::Committed { started })
    }

    fn find_claim(&self, id: MachineId) -> Result<Option<Found>, StoreError> {
        self.sql
            .prepare_cached(
                "SELECT m.step, t.fence, t.node, t.phase, t.held, m.last_event, m.watcher, l.concurrency<>0, t.woken
                 FROM tick t JOIN machine m ON m.id=t.machine JOIN lane l ON l.id=t.lane WHERE t.machine=?1",
            )
            .and_then(|mut s| {
                s.query_row([id.0], |r| {
                    Ok(Found {
                        step: r.get(0)?,
                        fence: r.get(1)?,
                        node: r.get(2)?,
                        phase: r.get(3)?,
                        held: r.get(4)?,
                        last_event: r.get(5)?,
                        watcher: r.get(6)?,
                        limited: r.get(7)?,
                        woken: r.get(8)?,
                    })
                })
                .optional()
            })
            .map_err(told)
    }

    fn end(&self, id: MachineId, found: &Found) -> Result<(), StoreError> {
        self.sql
            .prepare_cached("DELETE FROM tick WHERE machine=?1")
            .and_then(|mut s| s.execute([id.0]))
            .map_err(told)?;
        if found.limited {
            self.give_back(id)?;
        }
        if found.woken > 0 {
            self.sql
                .prepare_cached("DELETE FROM mail WHERE machine=?1")
                .and_then(|mut s| s.execute([id.0]))
                .map_err(told)?;
        }
        Ok(())
    }

    fn stay(
        &self,
        id: MachineId,
        found: &Found,
        until: i64,
        keep_permit: bool,
        read_mail: Option<i64>,
    ) -> Result<(), StoreError> {
        if found.limited && !keep_permit {
            self.give_back(id)?;
        }
        // A letter that came while it was claimed makes it ready at once; one that was read does not count any more.
        let unread: i64 = if found.woken > 0 || read_mail.is_some() {
            self.sql
                .prepare_cached("SELECT count(*) FROM mail WHERE machine=?1")
                .and_then(|mut s| s.query_row([id.0], |r| r.get(0)))
                .map_err(told)?
        } else {
            0
        };
        let due = if unread > 0 { until.min(self.now) } else { until };
        let phase = if found.held { 3 } else { i64::from(due <= self.now) };
        self.sql
            .prepare_cached("UPDATE tick SET phase=?2, due_at=?3, node=NULL, woken=?4 WHERE machine=?1")
            .and_then(|mut s| s.execute(params![id.0, phase, due, unread]))
            .map_err(told)?;
        Ok(())
    }

    pub(crate) fn give_back(&self, id: MachineId) -> Result<(), StoreError> {
        self.sql
            .prepare_cached("DELETE FROM permit WHERE machine=?1")
            .and_then(|mut s| s.execute([id.0]))
            .map_err(told)?;
        Ok(())
    }

    fn post(&mut self, from: MachineId, watcher: Option<i64>, to: &MailTo, letter: &Letter) -> Result<(), StoreError> {
        let sql = match to {
            MailTo::Machine(id) => return self.send(*id, letter).map(drop),
            MailTo::Watcher => return watcher.map_or(Ok(()), |w| self.send(MachineId(w), letter).map(drop)),
            MailTo::Child(_) => {
                "SELECT id FROM machine WHERE parent=?1 AND parent IS NOT NULL AND state=0 AND child_key=?2"
            }
            MailTo::Children => "SELECT id FROM machine WHERE parent=?1 AND parent IS NOT NULL AND state=0",
            MailTo::Watched => "SELECT id FROM machine WHERE watcher=?1 AND watcher IS NOT NULL AND state=0",
        };
        let mut select = self.sql.prepare_cached(sql).map_err(told)?;
        let key = if let MailTo::Child(key) = to { Some(key) } else { None };
        let ids: Vec<i64> = match key {
            Some(key) => select.query_map(params![from.0, key], |r| r.get(0)).and_then(Iterator::collect),
            None => select.query_map([from.0], |r| r.get(0)).and_then(Iterator::collect),
        }
        .map_err(told)?;
        drop(select);
        for id in ids {
            self.send(MachineId(id), letter)?;
        }
        Ok(())
    }
}

//! Commit: the end of a tick, as compare-and-set on (machine, step, node, fence).

use ostler_model::{Kind, MachineId};
use ostler_store::{Commit, CommitOutcome, Next, StoreError};
use rusqlite::params;

use crate::{Tx, claim::heard, hold, names::Lane};

/// By primary keys.
pub(crate) const FIND: &str =
    "SELECT m.step, t.fence, t.node, t.phase, t.held, t.woken, t.lane, m.last_event, m.watcher, m.kind,
    m.started_at, m.unique_key IS NOT NULL, m.parent, m.task
  FROM tick t CROSS JOIN machine m ON m.id=t.machine WHERE t.machine=?1";

/// Three statements, since a column that is set costs the upkeep of its indexes, changed or not.
const GO_ON: &str = "UPDATE machine SET step=step+1, last_event=?2, fields=coalesce(?3, fields),
    started_at=coalesce(started_at, ?4) WHERE id=?1";
const END: &str = "UPDATE machine SET step=step+1, last_event=?2, fields=coalesce(?3, fields),
    started_at=coalesce(started_at, ?4), state=?5, finished_at=?6 WHERE id=?1";
const END_UNIQUE: &str = "UPDATE machine SET step=step+1, last_event=?2, fields=coalesce(?3, fields),
    started_at=coalesce(started_at, ?4), state=?5, finished_at=?6, unique_key=NULL WHERE id=?1";

/// The claim is the node's still, nothing has come to the machine since, and it is where the commit left it.
const GONE: &str = "DELETE FROM tick WHERE machine=?1 AND phase=2 AND node=?2 AND fence=?3 AND woken=0
    AND EXISTS (SELECT 1 FROM machine WHERE id=?1 AND step=?4)";

/// What a commit finds of its machine.
struct Found {
    step: i64,
    fence: i64,
    /// The node that has it now.
    claimed_by: Option<i64>,
    held: i64,
    woken: i64,
    lane: i64,
    last_event: i64,
    watcher: Option<i64>,
    kind: Kind,
    begun: bool,
    unique: bool,
    /// Row of the task whose ends its end is one of.
    task: i64,
}

impl Tx<'_> {
    pub(crate) fn commit(&mut self, commit: &Commit) -> Result<CommitOutcome, StoreError> {
        let state = match commit.next {
            Next::End { state } if state <= 0 => {
                return Err(StoreError::Refused(format!("{state} is not a state to end in")));
            }
            Next::End { state } => state,
            Next::Stay { .. } => 0,
        };
        if state > 0 && self.end_alone(commit, state)? {
            return Ok(CommitOutcome::Committed { started: Vec::new() });
        }
        let expected = (commit.step, commit.fence);
        let found = match self.find_claim(commit.id)? {
            Some(f) if f.claimed_by == Some(commit.node.0) && f.is_at(expected) => f,
            other => {
                let actual = other.map(|f| (f.step as u64, f.fence as u64));
                return Ok(CommitOutcome::Conflict { expected, actual });
            }
        };
        let event = self.event(commit.id, found.step + 1, found.last_event, &commit.event)?;
        let values = params![commit.id.0, event, commit.fields, commit.started_at, state, self.now];
        match commit.next {
            Next::Stay { .. } => self.run(GO_ON, &values[..4])?,
            Next::End { .. } if found.unique => self.run(END_UNIQUE, values)?,
            Next::End { .. } => self.run(END, values)?,
        };
        if let Some(last) = commit.read_mail {
            self.run("DELETE FROM mail WHERE machine=?1 AND seq<=?2", params![commit.id.0, last])?;
        }
        let mut started = Vec::with_capacity(commit.start.len());
        for child in &commit.start {
            started.push(self.start(child, None)?.0);
        }
        for (to, letter) in &commit.send {
            self.post(commit.id, found.watcher, to, letter)?;
        }
        match commit.next {
            Next::End { .. } => self.end(commit, &found)?,
            Next::Stay { until, keep_permit } => self.stay(commit, &found, until, keep_permit)?,
        }
        self.settle(&commit.receipt, commit.took);
        Ok(CommitOutcome::Committed { started })
    }

    /// Most ends concern nobody else: three statements, since the receipt says what else would be asked. False where
    /// there is more to it, with nothing written.
    fn end_alone(&mut self, commit: &Commit, state: i64) -> Result<bool, StoreError> {
        let alone = commit.start.is_empty() && commit.send.is_empty() && commit.read_mail.is_none();
        let (id, receipt) = (commit.id.0, commit.receipt);
        let claim = params![id, commit.node.0, commit.fence as i64, commit.step as i64];
        if !alone || self.is_heard(receipt.task)? || self.run(GONE, claim)? == 0 {
            return Ok(false);
        }
        let event = self.event(commit.id, commit.step as i64 + 1, receipt.last_event, &commit.event)?;
        let end = if receipt.unique { END_UNIQUE } else { END };
        self.run(end, params![id, event, commit.fields, commit.started_at, state, self.now])?;
        let lane = self.lane(receipt.lane)?;
        self.give_back(&lane, id)?;
        self.settle(&receipt, commit.took);
        Ok(true)
    }

    fn find_claim(&self, id: MachineId) -> Result<Option<Found>, StoreError> {
        self.row(FIND, [id.0], |r| {
            let node: Option<i64> = r.get(2)?;
            let phase: i64 = r.get(3)?;
            Ok(Found {
                step: r.get(0)?,
                fence: r.get(1)?,
                claimed_by: node.filter(|_| phase == 2),
                held: r.get(4)?,
                woken: r.get(5)?,
                lane: r.get(6)?,
                last_event: r.get(7)?,
                watcher: r.get(8)?,
                kind: Kind(r.get(9)?),
                begun: r.get::<_, Option<i64>>(10)?.is_some(),
                unique: r.get(11)?,
                task: heard(Kind(r.get(9)?), r.get::<_, Option<i64>>(12)?.map(MachineId), r.get(13)?),
            })
        })
    }

    fn end(&mut self, commit: &Commit, found: &Found) -> Result<(), StoreError> {
        let id = commit.id.0;
        self.run("DELETE FROM tick WHERE machine=?1", [id])?;
        let lane = self.lane(found.lane)?;
        self.give_back(&lane, id)?;
        self.tell_end(commit.id, found.task)?;
        // Its own letters may have come to itself while it ended.
        if found.woken > 0 || !commit.send.is_empty() {
            self.run("DELETE FROM mail WHERE machine=?1", [id])?;
        }
        Ok(())
    }

    fn stay(
        &mut self,
        commit: &Commit,
        found: &Found,
        until: i64,
        keep_permit: bool,
    ) -> Result<(), StoreError> {
        let id = commit.id.0;
        let lane = self.lane(found.lane)?;
        if !keep_permit {
            self.give_back(&lane, id)?;
        }
        // A rate counts starts of work; one that stays at work has been counted.
        let next_lane = match lane.rate {
            0 => found.lane,
            _ if keep_permit => self.lane_of(Lane { rate: 0, ..lane })?,
            _ => found.lane,
        };
        // A letter that came while it was claimed makes it ready at once; one that was read does not count any more.
        let may_have_mail = found.woken > 0 || commit.read_mail.is_some() || !commit.send.is_empty();
        let (unread, cancelled) = if may_have_mail { self.unread(id)? } else { (0, false) };
        let due = if unread > 0 { until.min(self.now) } else { until };
        let held = hold::still(found.held, found.kind, found.begun || commit.started_at.is_some());
        let phase = if held != 0 && !cancelled { 3 } else { i64::from(due <= self.now) };
        self.run(
            "UPDATE tick SET phase=?2, due_at=?3, node=NULL, woken=?4, held=?5, lane=?6, lost=0 WHERE machine=?1",
            params![id, phase, due, unread, held, next_lane],
        )?;
        Ok(())
    }
}

impl Found {
    fn is_at(&self, (step, fence): (u64, u64)) -> bool {
        (self.step as u64, self.fence as u64) == (step, fence)
    }
}

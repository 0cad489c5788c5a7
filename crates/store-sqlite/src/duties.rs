//! Duties: what exactly one living node does for all.

use ostler_model::MachineId;
use ostler_store::{DutyNote, DutyRow, NodeId, Progress, Progressed, StoreError, Taken};
use rusqlite::{Row, params};

use crate::Tx;

/// All of them; there are few.
pub(crate) const ALL: &str = "SELECT name, node, fence, cursor, note FROM duty ORDER BY name";

impl Tx<'_> {
    /// Takes duties that nobody has. A node that is given up has none: that is done with its claims (`rescue`).
    pub(crate) fn take_duties(&self, node: NodeId, duties: &[String]) -> Result<Vec<Taken>, StoreError> {
        self.may_take(node)?;
        let mut taken = Vec::new();
        for duty in duties {
            let given = self.row(
                // The first fence is the moment: one that was ended and is made again has none of those that it had.
                "INSERT INTO duty (name, node, fence) VALUES (?1, ?2, ?3)
                 ON CONFLICT (name) DO UPDATE SET node=?2, fence=fence+1 WHERE node IS NULL
                 RETURNING fence, cursor, note",
                params![duty, node.0, self.now],
                |r| {
                    let fence = r.get::<_, i64>(0)? as u64;
                    Ok(Taken { duty: duty.clone(), fence, cursor: r.get(1)?, note: note(r, 2)? })
                },
            )?;
            taken.extend(given);
        }
        Ok(taken)
    }

    pub(crate) fn progress(&mut self, progress: &Progress) -> Result<Progressed, StoreError> {
        let Progress { duty, node, fence, cursor, note, send } = progress;
        let kept = self.run(
            "UPDATE duty SET cursor=coalesce(?4, cursor), note=coalesce(?5, note) WHERE name=?1 AND node=?2 AND fence=?3",
            params![duty, node.0, fence_code(*fence), cursor, note.as_ref().map(DutyNote::text)],
        )?;
        if kept == 0 {
            return Ok(Progressed::Lost);
        }
        let sent =
            send.iter().map(|(machine, letter)| Ok(!self.is_held(*machine)? && self.send(*machine, letter)?));
        Ok(Progressed::Kept { sent: sent.collect::<Result<_, StoreError>>()? })
    }

    fn is_held(&self, machine: MachineId) -> Result<bool, StoreError> {
        let held = self.row("SELECT held<>0 FROM tick WHERE machine=?1", [machine.0], |r| r.get(0))?;
        Ok(held == Some(true))
    }

    pub(crate) fn leave_duties(&self, node: NodeId, duties: &[(String, u64)]) -> Result<(), StoreError> {
        for (duty, fence) in duties {
            let sql = "UPDATE duty SET node=NULL, fence=fence+1 WHERE name=?1 AND node=?2 AND fence=?3";
            self.run(sql, params![duty, node.0, fence_code(*fence)])?;
        }
        Ok(())
    }

    /// What a node had, nobody has.
    pub(crate) fn give_back_duties(&self, node: NodeId) -> Result<(), StoreError> {
        self.run("UPDATE duty SET node=NULL, fence=fence+1 WHERE node=?1", [node.0]).map(drop)
    }

    pub(crate) fn move_duty(&self, duty: &str, cursor: &str) -> Result<(), StoreError> {
        let sql = "INSERT INTO duty (name, cursor, fence) VALUES (?1, ?2, ?3)
          ON CONFLICT (name) DO UPDATE SET cursor=?2, node=NULL, fence=fence+1";
        self.run(sql, params![duty, cursor, self.now]).map(drop)
    }

    /// What it is made from has changed: whoever has it is to take it anew. One that is new begins at the cursor.
    pub(crate) fn renew_duty(&self, duty: &str, cursor: &str) -> Result<(), StoreError> {
        let sql = "INSERT INTO duty (name, cursor, fence) VALUES (?1, ?2, ?3)
          ON CONFLICT (name) DO UPDATE SET node=NULL, fence=fence+1";
        self.run(sql, params![duty, cursor, self.now]).map(drop)
    }

    pub(crate) fn take_duty_away(&self, duty: &str) -> Result<(), StoreError> {
        self.run("UPDATE duty SET node=NULL, fence=fence+1 WHERE name=?1", [duty]).map(drop)
    }

    pub(crate) fn end_duty(&self, duty: &str) -> Result<(), StoreError> {
        self.run("DELETE FROM duty WHERE name=?1", [duty]).map(drop)
    }
}

/// A fence that no row has stands for one that is too large.
fn fence_code(fence: u64) -> i64 {
    i64::try_from(fence).unwrap_or(-1)
}

pub(crate) fn duty_row(r: &Row<'_>) -> rusqlite::Result<DutyRow> {
    Ok(DutyRow {
        duty: r.get(0)?,
        node: r.get::<_, Option<i64>>(1)?.map(NodeId),
        fence: r.get::<_, i64>(2)? as u64,
        cursor: r.get(3)?,
        note: note(r, 4)?,
    })
}

fn note(r: &Row<'_>, at: usize) -> rusqlite::Result<DutyNote> {
    Ok(DutyNote::read(r.get::<_, Option<String>>(at)?.as_deref()))
}

//! Duties: what exactly one living node does for all.
//!
//! Whoever speaks for a duty has its row in hand until the commit, and takes it before rows of the queue.

use std::collections::HashSet;

use ostler_store::{DutyNote, DutyRow, NodeId, Progress, Progressed, Taken};
use tokio_postgres::Row;

use crate::{
    trouble::Done,
    tx::Tx,
    value::{Columns, values},
};

/// All of them; there are few.
pub(crate) const ALL: &str = "SELECT name, node, fence, cursor, note FROM duty ORDER BY name";

/// The first fence is the moment: one that was ended and is made again has none of those that it had.
const MAKE: &str = "INSERT INTO duty (name, fence) SELECT u.name, $2 FROM unnest($1) u(name)
  WHERE NOT EXISTS (SELECT 1 FROM duty d WHERE d.name=u.name) ORDER BY u.name ON CONFLICT (name) DO NOTHING";

/// A row that another has in hand is about to be another's.
const TAKE: &str = "UPDATE duty d SET node=$2, fence=d.fence+1
  WHERE d.name=ANY(ARRAY(SELECT name FROM duty WHERE name=ANY($1) AND node IS NULL ORDER BY name FOR UPDATE SKIP LOCKED))
  RETURNING d.name, d.fence, d.cursor, d.note";

impl Tx<'_> {
    /// Takes duties that nobody has. A node that is given up has none: that is done with its claims (`rescue`).
    pub(crate) fn take_duties(&mut self, node: NodeId, duties: &[String]) -> Done<Vec<Taken>> {
        let names: Vec<&str> = duties.iter().map(String::as_str).collect();
        self.run(MAKE, values![names.clone(), self.now])?;
        let taken = self.written(TAKE, values![names, node.0])?;
        if !taken.is_empty() {
            self.may_take(node)?;
        }
        taken
            .iter()
            .map(|r| {
                let fence = r.int(1)? as u64;
                Ok(Taken { duty: r.text(0)?, fence, cursor: r.text_or(2)?, note: note(r, 3)? })
            })
            .collect()
    }

    pub(crate) fn progress(&mut self, progress: &Progress) -> Done<Progressed> {
        let Progress { duty, node, fence, cursor, note, send } = progress;
        let note = note.as_ref().map(DutyNote::text);
        let kept = self.run(
            "UPDATE duty SET cursor=coalesce($4, cursor), note=coalesce($5, note) WHERE name=$1 AND node=$2 AND fence=$3",
            values![duty, node.0, fence_code(*fence), cursor.as_deref(), note.as_deref()],
        )?;
        if kept == 0 {
            return Ok(Progressed::Lost);
        }
        let machines: Vec<i64> = send.iter().map(|(machine, _)| machine.0).collect();
        let sql = "SELECT machine FROM tick WHERE machine=ANY($1) AND held=0 ORDER BY machine";
        let hearing: HashSet<i64> = match send.is_empty() {
            true => HashSet::new(),
            false => self.keys(sql, values![machines])?.into_iter().collect(),
        };
        let letters: Vec<_> =
            send.iter().filter(|(m, _)| hearing.contains(&m.0)).map(|(m, l)| (*m, l)).collect();
        let mut told = self.send(&letters)?.into_iter();
        let sent = send.iter().map(|(m, _)| hearing.contains(&m.0) && told.next().unwrap_or_default());
        Ok(Progressed::Kept { sent: sent.collect() })
    }

    pub(crate) fn leave_duties(&mut self, node: NodeId, duties: &[(String, u64)]) -> Done<()> {
        for (duty, fence) in duties {
            let sql = "UPDATE duty SET node=NULL, fence=fence+1 WHERE name=$1 AND node=$2 AND fence=$3";
            self.run(sql, values![duty, node.0, fence_code(*fence)])?;
        }
        Ok(())
    }

    /// What a node had, nobody has.
    pub(crate) fn give_back_duties(&mut self, node: NodeId) -> Done<()> {
        self.run("UPDATE duty SET node=NULL, fence=fence+1 WHERE node=$1", values![node.0]).map(drop)
    }

    pub(crate) fn move_duty(&mut self, duty: &str, cursor: &str) -> Done<()> {
        let sql = "INSERT INTO duty (name, cursor, fence) VALUES ($1, $2, $3)
          ON CONFLICT (name) DO UPDATE SET cursor=excluded.cursor, node=NULL, fence=duty.fence+1";
        self.run(sql, values![duty, cursor, self.now]).map(drop)
    }

    /// What it is made from has changed: whoever has it is to take it anew. One that is new begins at the cursor.
    pub(crate) fn renew_duty(&mut self, duty: &str, cursor: &str) -> Done<()> {
        let sql = "INSERT INTO duty (name, cursor, fence) VALUES ($1, $2, $3)
          ON CONFLICT (name) DO UPDATE SET node=NULL, fence=duty.fence+1";
        self.run(sql, values![duty, cursor, self.now]).map(drop)
    }

    pub(crate) fn take_duty_away(&mut self, duty: &str) -> Done<()> {
        self.run("UPDATE duty SET node=NULL, fence=fence+1 WHERE name=$1", values![duty]).map(drop)
    }

    pub(crate) fn end_duty(&mut self, duty: &str) -> Done<()> {
        self.run("DELETE FROM duty WHERE name=$1", values![duty]).map(drop)
    }
}

/// A fence that no row has stands for one that is too large.
fn fence_code(fence: u64) -> i64 {
    i64::try_from(fence).unwrap_or(-1)
}

pub(crate) fn duty_row(r: &Row) -> Done<DutyRow> {
    Ok(DutyRow {
        duty: r.text(0)?,
        node: r.int_or(1)?.map(NodeId),
        fence: r.int(2)? as u64,
        cursor: r.text_or(3)?,
        note: note(r, 4)?,
    })
}

fn note(r: &Row, at: usize) -> Done<DutyNote> {
    Ok(DutyNote::read(r.text_or(at)?.as_deref()))
}

//! Limits: permits of a number at a time, and rates, over all nodes.
//!
//! A permit is a row with its holder, never a counter, so that no crash can leave one behind that nobody has. It is
//! taken in the claim by whoever has the limit's row in hand, and given back in the commit, and stays with a machine
//! whose node died. What is being given back counts as held until it is.

use ostler_model::MachineId;
use ostler_store::{Claimed, Letter, Micros, NEVER};

use crate::{
    names::Lane,
    trouble::Done,
    tx::Tx,
    value::{Columns, values},
};

/// The limits of a lane, in hand until the claim is written. Fewer rows than asked for: another node has one.
pub(crate) const LOCK: &str =
    "SELECT id FROM \"limit\" WHERE id=$1 OR id=$2 ORDER BY id FOR UPDATE SKIP LOCKED";

/// How many rows of a lane may be taken, and what happens to the rest.
pub(crate) struct Room {
    pub(crate) rows: i64,
    pub(crate) full: Option<Full>,
    /// When the rate has room again once so many are taken; `None`: it holds back none that is wanted.
    pub(crate) free_at: Option<Micros>,
}

/// What happens where no permit is left.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    Wait,
    Refuse,
    CancelHolders,
}

impl Tx<'_> {
    /// Takes the limits of a lane in hand; false where another node has one of them.
    pub(crate) fn lock_limits(&mut self, lane: &Lane) -> Done<bool> {
        let wanted = usize::from(lane.concurrency != 0) + usize::from(lane.rate != 0);
        Ok(self.keys(LOCK, values![lane.concurrency, lane.rate])?.len() == wanted)
    }

    /// How many of `want` rows the limits of a lane allow now.
    pub(crate) fn room(&mut self, lane: &Lane, want: i64) -> Done<Room> {
        let mut room = Room { rows: want, full: None, free_at: None };
        if lane.rate != 0 {
            let (rows, free_at) = self.rate_room(lane.rate)?;
            room.free_at = (rows < want).then_some(free_at);
            room.rows = room.rows.min(rows);
        }
        if lane.concurrency != 0 {
            let sql = "SELECT max, on_full, (SELECT count(*) FROM permit WHERE \"limit\"=$1) FROM \"limit\" WHERE id=$1";
            let (max, on_full, held) = match self.row(sql, values![lane.concurrency])? {
                Some(row) => (row.int(0)?, row.int(1)?, row.int(2)?),
                None => (i64::MAX, 0, 0),
            };
            let free = (max - held).max(0);
            // Only what the permits stop is refused, not what the rate delays.
            if free < want {
                room.full = (free <= room.rows).then_some(match on_full {
                    1 => Full::Refuse,
                    2 => Full::CancelHolders,
                    _ => Full::Wait,
                });
            }
            room.rows = room.rows.min(free);
        }
        Ok(room)
    }

    /// Books the permits and the rate for rows that were taken.
    pub(crate) fn charge(&mut self, lane: &Lane, taken: &[Claimed]) -> Done<()> {
        if taken.is_empty() {
            return Ok(());
        }
        if lane.concurrency != 0 {
            let ids: Vec<i64> = taken.iter().map(|row| row.id.0).collect();
            let sql = "INSERT INTO permit (\"limit\", machine) SELECT $1, u FROM unnest($2) u";
            self.run(sql, values![lane.concurrency, ids])?;
        }
        if lane.rate != 0 {
            let sql = "UPDATE \"limit\" SET tat=greatest(tat, $2)+\"interval\"*$3 WHERE id=$1";
            self.run(sql, values![lane.rate, self.now, taken.len() as i64])?;
        }
        Ok(())
    }

    /// How many starts a rate allows now, and when it allows the next (GCRA: the theoretical arrival time may lie `burst`
    /// intervals ahead).
    fn rate_room(&mut self, limit: i64) -> Done<(i64, Micros)> {
        let row = self.row("SELECT max, \"interval\", tat FROM \"limit\" WHERE id=$1", values![limit])?;
        let Some(row) = row else { return Ok((i64::MAX, NEVER)) };
        let (burst, interval, tat) = (row.int(0)?, row.int(1)?, row.int(2)?);
        if interval <= 0 {
            return Ok((i64::MAX, NEVER));
        }
        let ahead = tat.saturating_sub(self.now).max(0);
        let rows = (burst.saturating_mul(interval) - ahead).max(0) / interval;
        let then = tat.max(self.now).saturating_add(rows.saturating_mul(interval));
        Ok((rows, then.saturating_sub((burst - 1).saturating_mul(interval))))
    }

    pub(crate) fn has_permit(&mut self, lane: &Lane, machine: i64) -> Done<bool> {
        if lane.concurrency == 0 {
            return Ok(false);
        }
        let sql = "SELECT 1 FROM permit WHERE \"limit\"=$1 AND machine=$2";
        Ok(self.row(sql, values![lane.concurrency, machine])?.is_some())
    }

    /// Gives permits back, of machines with their lanes.
    pub(crate) fn give_back(&mut self, which: &[(Lane, i64)]) -> Done<()> {
        let limited = which.iter().filter(|(lane, _)| lane.concurrency != 0);
        let (limits, machines): (Vec<i64>, Vec<i64>) =
            limited.map(|(lane, id)| (lane.concurrency, *id)).unzip();
        if machines.is_empty() {
            return Ok(());
        }
        let sql = "DELETE FROM permit p USING unnest($1, $2) u(bound, machine)
          WHERE p.\"limit\"=u.bound AND p.machine=u.machine";
        self.woke |= self.run(sql, values![limits, machines])? > 0;
        Ok(())
    }

    /// Asks those that hold the permits of a limit to end, each once.
    pub(crate) fn cancel_holders(&mut self, limit: i64) -> Done<()> {
        let sql = "UPDATE permit SET asked=TRUE WHERE \"limit\"=$1 AND NOT asked RETURNING machine";
        let reason = "another run with the same concurrency key wants its place";
        let letter = Letter::Cancel { reason: reason.to_owned() };
        let holders = self.keys(sql, values![limit])?;
        let letters: Vec<_> = holders.into_iter().map(|id| (MachineId(id), &letter)).collect();
        self.send(&letters).map(drop)
    }
}

//! Limits: permits of a number at a time, and rates.
//!
//! A permit is a row with its holder, never a counter, so that no crash can leave one behind that nobody has. It is
//! taken in the claim and given back in the commit, and stays with a machine whose node died.

use ostler_model::MachineId;
use ostler_store::{Claimed, Letter, Micros, NEVER, StoreError};
use rusqlite::params;

use crate::{Tx, names::Lane};

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
    /// How many of `want` rows the limits of a lane allow now.
    pub(crate) fn room(&self, lane: &Lane, want: i64) -> Result<Room, StoreError> {
        let mut room = Room { rows: want, full: None, free_at: None };
        if lane.rate != 0 {
            let (rows, free_at) = self.rate_room(lane.rate)?;
            room.free_at = (rows < want).then_some(free_at);
            room.rows = room.rows.min(rows);
        }
        if lane.concurrency != 0 {
            let limit = self.row(
                "SELECT max, on_full, (SELECT count(*) FROM permit WHERE \"limit\"=?1) FROM \"limit\" WHERE id=?1",
                [lane.concurrency],
                |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)),
            )?;
            let (max, on_full, held): (i64, i64, i64) = limit.unwrap_or((i64::MAX, 0, 0));
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
    pub(crate) fn charge(&self, lane: &Lane, taken: &[Claimed]) -> Result<(), StoreError> {
        if lane.concurrency != 0 {
            for row in taken {
                self.run(
                    "INSERT INTO permit (\"limit\", machine) VALUES (?1, ?2)",
                    [lane.concurrency, row.id.0],
                )?;
            }
        }
        if lane.rate != 0 && !taken.is_empty() {
            let sql = "UPDATE \"limit\" SET tat=max(tat, ?2)+interval*?3 WHERE id=?1";
            self.run(sql, params![lane.rate, self.now, taken.len() as i64])?;
        }
        Ok(())
    }

    /// How many starts a rate allows now, and when it allows the next (GCRA: the theoretical arrival time may lie `burst`
    /// intervals ahead).
    fn rate_room(&self, limit: i64) -> Result<(i64, Micros), StoreError> {
        let rate = self.row("SELECT max, interval, tat FROM \"limit\" WHERE id=?1", [limit], |r| {
            Ok((r.get::<_, i64>(0)?, r.get::<_, i64>(1)?, r.get::<_, i64>(2)?))
        })?;
        Ok(match rate {
            Some((burst, interval, tat)) if interval > 0 => {
                let ahead = tat.saturating_sub(self.now).max(0);
                let rows = (burst.saturating_mul(interval) - ahead).max(0) / interval;
                let then = tat.max(self.now).saturating_add(rows.saturating_mul(interval));
                (rows, then.saturating_sub((burst - 1).saturating_mul(interval)))
            }
            _ => (i64::MAX, NEVER),
        })
    }

    pub(crate) fn has_permit(&self, lane: &Lane, machine: i64) -> Result<bool, StoreError> {
        if lane.concurrency == 0 {
            return Ok(false);
        }
        let sql = "SELECT 1 FROM permit WHERE \"limit\"=?1 AND machine=?2";
        Ok(self.row(sql, [lane.concurrency, machine], |_| Ok(()))?.is_some())
    }

    pub(crate) fn give_back(&self, lane: &Lane, machine: i64) -> Result<(), StoreError> {
        if lane.concurrency != 0 {
            self.run("DELETE FROM permit WHERE \"limit\"=?1 AND machine=?2", [lane.concurrency, machine])?;
        }
        Ok(())
    }

    /// Asks those that hold the permits of a limit to end, each once.
    pub(crate) fn cancel_holders(&mut self, limit: i64) -> Result<(), StoreError> {
        let sql = "UPDATE permit SET asked=1 WHERE \"limit\"=?1 AND asked=0 RETURNING machine";
        for holder in self.keys(sql, [limit])? {
            let reason = "another run with the same concurrency key wants its place".to_owned();
            self.send(MachineId(holder), &Letter::Cancel { reason })?;
        }
        Ok(())
    }
}

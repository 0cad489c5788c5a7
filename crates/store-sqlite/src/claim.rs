//! Claim: taking ready machines for a node.
//!
//! Reads and writes only the hot table, along its partial indexes: what is due later is promoted in batches, then
//! lanes that have ready rows are visited in order of class and virtual time, and rows taken along the ready index.

use ostler_model::{Kind, MachineId};
use ostler_store::{Claim, Claimed, Letter, Micros, NodeId, StoreError};
use rusqlite::{Connection, OptionalExtension, params};

use crate::{Tx, error::told};

/// How many due rows one claim promotes at most.
const PROMOTED: i64 = 2000;

/// How many lanes one claim looks at.
const LANES: usize = 256;

/// A lane with what decides whether its rows may be taken.
struct Lane {
    id: i64,
    class: i64,
    vtime: i64,
    paused: bool,
    home: i64,
    concurrency: i64,
    rate: i64,
}

impl Tx<'_> {
    pub(crate) fn claim(&mut self, claim: &Claim) -> Result<Vec<Claimed>, StoreError> {
        self.promote()?;
        let mut lanes = self.ready_lanes()?;
        lanes.retain(|lane| !lane.paused && (lane.home == claim.node.0 || (lane.home == 0 && claim.shared)));
        lanes.sort_by_key(|lane| (lane.class, lane.vtime, lane.id));
        let mut taken: Vec<(i64, bool)> = Vec::new();
        let mut left = i64::from(claim.want);
        for lane in &lanes {
            if left <= 0 {
                break;
            }
            let before = taken.len();
            self.take_from(lane, claim.node, left, &mut taken)?;
            let took = (taken.len() - before) as i64;
            left -= took;
            if took > 0 && lanes.len() > 1 {
                self.spend(lane, took)?;
            }
        }
        self.load(&taken)
    }

    /// Rides on `tick_later`.
    fn promote(&self) -> Result<(), StoreError> {
        self.sql
            .prepare_cached(
                "UPDATE tick SET phase=1 WHERE machine IN
                   (SELECT machine FROM tick WHERE phase=0 AND due_at<=?1 ORDER BY due_at LIMIT ?2)",
            )
            .and_then(|mut s| s.execute(params![self.now, PROMOTED]))
            .map_err(told)?;
        Ok(())
    }

    /// Lanes with ready rows, by a skip scan along `tick_ready`: one probe a lane, however many rows it holds.
    fn ready_lanes(&self) -> Result<Vec<Lane>, StoreError> {
        let mut next =
            self.sql.prepare_cached("SELECT lane FROM tick WHERE phase=1 AND lane>?1 ORDER BY lane LIMIT 1").map_err(told)?;
        let mut describe = self
            .sql
            .prepare_cached(
                "SELECT l.class, l.vtime, n.paused, l.home, l.concurrency, l.rate
                 FROM lane l JOIN namespace n ON n.id=l.ns WHERE l.id=?1",
            )
            .map_err(told)?;
        let mut lanes = Vec::new();
        let mut last = 0i64;
        while lanes.len() < LANES
            && let Some(id) = next.query_row([last], |r| r.get::<_, i64>(0)).optional().map_err(told)?
        {
            last = id;
            let lane = describe
                .query_row([id], |r| {
                    Ok(Lane {
                        id,
                        class: r.get(0)?,
                        vtime: r.get(1)?,
                        paused: r.get(2)?,
                        home: r.get(3)?,
                        concurrency: r.get(4)?,
                        rate: r.get(5)?,
                    })
                })
                .map_err(told)?;
            lanes.push(lane);
        }
        Ok(lanes)
    }

    /// Takes rows of one lane as its limits allow: (machine, refused).
    fn take_from(
        &mut self,
        lane: &Lane,
        node: NodeId,
        left: i64,
        taken: &mut Vec<(i64, bool)>,
    ) -> Result<(), StoreError> {
        let mut allowed = left;
        if lane.rate != 0 {
            allowed = allowed.min(self.rate_room(lane.rate)?);
        }
        if lane.concurrency == 0 {
            let found = self.mark(lane.id, node, allowed)?;
            if lane.rate != 0 {
                self.rate_spend(lane.rate, found.len() as i64)?;
            }
            taken.extend(found.into_iter().map(|id| (id, false)));
            return Ok(());
        }
        let (max, on_full): (i64, i64) = self
            .sql
            .prepare_cached("SELECT max, on_full FROM \"limit\" WHERE id=?1")
            .and_then(|mut s| s.query_row([lane.concurrency], |r| Ok((r.get(0)?, r.get(1)?))))
            .map_err(told)?;
        // Those that hold their permit already (a flow that goes on) are taken whatever the limit says.
        let holders = self.mark_holders(lane, node, left)?;
        taken.extend(holders.into_iter().map(|id| (id, false)));
        let held: i64 = self
            .sql
            .prepare_cached("SELECT count(*) FROM permit WHERE \"limit\"=?1")
            .and_then(|mut s| s.query_row([lane.concurrency], |r| r.get(0)))
            .map_err(told)?;
        let found = self.mark(lane.id, node, allowed.min(max - held))?;
        for id in &found {
            self.sql
                .prepare_cached("INSERT OR IGNORE INTO permit (\"limit\", machine) VALUES (?1, ?2)")
                .and_then(|mut s| s.execute([lane.concurrency, *id]))
                .map_err(told)?;
        }
        if lane.rate != 0 {
            self.rate_spend(lane.rate, found.len() as i64)?;
        }
        let full = held + found.len() as i64 >= max;
        taken.extend(found.into_iter().map(|id| (id, false)));
        match on_full {
            1 if full => {
                let refused = self.mark(lane.id, node, left)?;
                taken.extend(refused.into_iter().map(|id| (id, true)));
            }
            2 if full && self.lane_has_ready(lane.id)? => self.cancel_holders(lane.concurrency)?,
            _ => {}
        }
        Ok(())
    }

    /// The claim itself, along `tick_ready`.
    fn mark(&self, lane: i64, node: NodeId, count: i64) -> Result<Vec<i64>, StoreError> {
        if count <= 0 {
            return Ok(Vec::new());
        }
        let mut select = self
            .sql
            .prepare_cached("SELECT machine FROM tick WHERE phase=1 AND lane=?1 ORDER BY priority, due_at, machine LIMIT ?2")
            .map_err(told)?;
        let found: Vec<i64> =
            select.query_map([lane, count], |r| r.get(0)).and_then(Iterator::collect).map_err(told)?;
        for id in &found {
            self.mark_one(*id, node)?;
        }
        Ok(found)
    }

    fn mark_one(&self, machine: i64, node: NodeId) -> Result<(), StoreError> {
        self.sql
            .prepare_cached("UPDATE tick SET phase=2, node=?2, fence=fence+1, since=?3 WHERE machine=?1")
            .and_then(|mut s| s.execute([machine, node.0, self.now]))
            .map_err(told)?;
        Ok(())
    }

    fn mark_holders(&self, lane: &Lane, node: NodeId, count: i64) -> Result<Vec<i64>, StoreError> {
        let mut select = self
            .sql
            .prepare_cached(
                "SELECT p.machine FROM permit p JOIN tick t ON t.machine=p.machine
                 WHERE p.\"limit\"=?1 AND t.phase=1 AND t.lane=?2 LIMIT ?3",
            )
            .map_err(told)?;
        let found: Vec<i64> = select
            .query_map([lane.concurrency, lane.id, count], |r| r.get(0))
            .and_then(Iterator::collect)
            .map_err(told)?;
        for id in &found {
            self.mark_one(*id, node)?;
        }
        Ok(found)
    }

    fn lane_has_ready(&self, lane: i64) -> Result<bool, StoreError> {
        self.sql
            .prepare_cached("SELECT 1 FROM tick WHERE phase=1 AND lane=?1 LIMIT 1")
            .and_then(|mut s| s.exists([lane]))
            .map_err(told)
    }

    /// Each holder is asked once: one that has an unread letter has been asked.
    fn cancel_holders(&mut self, limit: i64) -> Result<(), StoreError> {
        let mut select = self
            .sql
            .prepare_cached(
                "SELECT p.machine FROM permit p JOIN tick t ON t.machine=p.machine WHERE p.\"limit\"=?1 AND t.woken=0",
            )
            .map_err(told)?;
        let holders: Vec<i64> = select.query_map([limit], |r| r.get(0)).and_then(Iterator::collect).map_err(told)?;
        drop(select);
        for holder in holders {
            let reason = "another run with the same concurrency key wants its place".to_owned();
            self.send(MachineId(holder), &Letter::Cancel { reason })?;
        }
        Ok(())
    }

    /// How many starts a rate allows now (GCRA: the theoretical arrival time may lie `burst` intervals ahead).
    fn rate_room(&self, limit: i64) -> Result<i64, StoreError> {
        let (burst, interval, tat) = self.rate(limit)?;
        let backlog = (tat - self.now).max(0);
        Ok(if interval <= 0 { i64::MAX } else { (burst * interval - backlog) / interval })
    }

    fn rate_spend(&self, limit: i64, count: i64) -> Result<(), StoreError> {
        if count == 0 {
            return Ok(());
        }
        self.sql
            .prepare_cached("UPDATE \"limit\" SET tat=max(tat, ?2)+interval*?3 WHERE id=?1")
            .and_then(|mut s| s.execute([limit, self.now, count]))
            .map_err(told)?;
        Ok(())
    }

    fn rate(&self, limit: i64) -> Result<(i64, i64, i64), StoreError> {
        self.sql
            .prepare_cached("SELECT max, interval, tat FROM \"limit\" WHERE id=?1")
            .and_then(|mut s| s.query_row([limit], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?))))
            .map_err(told)
    }

    /// A lane that was served goes back; one that was idle does not bank more than the busiest has spent.
    fn spend(&self, lane: &Lane, took: i64) -> Result<(), StoreError> {
        self.sql
            .prepare_cached("UPDATE lane SET vtime=?2 WHERE id=?1")
            .and_then(|mut s| s.execute([lane.id, lane.vtime.max(self.now - 1_000_000) + took * 100]))
            .map_err(told)?;
        Ok(())
    }

    /// What the ticks need of the rows taken, by primary key.
    fn load(&mut self, taken: &[(i64, bool)]) -> Result<Vec<Claimed>, StoreError> {
        let mut claimed = Vec::with_capacity(taken.len());
        for (id, refused) in taken {
            let (ns, home, woken, mut row) = self
                .sql
                .prepare_cached(
                    "SELECT m.kind, m.ns, m.task, m.definition, m.step, t.fence, m.fields, t.due_at, m.started_at, t.lost,
                       m.parent, m.child_key, m.watcher, l.home, t.woken
                     FROM tick t JOIN machine m ON m.id=t.machine JOIN lane l ON l.id=t.lane WHERE t.machine=?1",
                )
                .and_then(|mut s| {
                    s.query_row([id], |r| {
                        Ok((
                            r.get::<_, i64>(1)?,
                            r.get::<_, i64>(13)?,
                            r.get::<_, i64>(14)?,
                            Claimed {
                                id: MachineId(*id),
                                kind: Kind(r.get(0)?),
                                namespace: "".into(),
                                task: r.get(2)?,
                                definition: r.get(3)?,
                                step: r.get::<_, i64>(4)? as u64,
                                fence: r.get::<_, i64>(5)? as u64,
                                fields: r.get(6)?,
                                due_at: r.get(7)?,
                                started_at: r.get(8)?,
                                lost: r.get(9)?,
                                refused: *refused,
                                parent: r.get::<_, Option<i64>>(10)?.map(MachineId),
                                child_key: r.get(11)?,
                                watcher: r.get::<_, Option<i64>>(12)?.map(MachineId),
                                home: None,
                                mail: Vec::new(),
                            },
                        ))
                    })
                })
                .map_err(told)?;
            row.namespace = self.namespace_name(ns)?;
            row.home = (home != 0).then_some(NodeId(home));
            if row.lost {
                self.sql
                    .prepare_cached("UPDATE tick SET lost=0 WHERE machine=?1")
                    .and_then(|mut s| s.execute([id]))
                    .map_err(told)?;
            }
            if woken > 0 {
                row.mail = crate::letters::of(self.sql, *id)?;
            }
            claimed.push(row);
        }
        Ok(claimed)
    }
}

/// The earliest moment at which a claim may find something: now where something is ready and not blocked for a known
/// time, else when the next row is due or a rate has room.
pub(crate) fn next_due(sql: &Connection) -> rusqlite::Result<Option<Micros>> {
    let later: Option<Micros> = sql
        .prepare_cached("SELECT due_at FROM tick WHERE phase=0 ORDER BY due_at LIMIT 1")?
        .query_row([], |r| r.get(0))
        .optional()?;
    // A rate that is used up wakes the loop when it has room again; other limits when someone gives a permit back.
    let rate: Option<Micros> = sql
        .prepare_cached(
            "SELECT min(r.tat - (r.max - 1) * r.interval) FROM lane l JOIN \"limit\" r ON r.id=l.rate
             WHERE l.rate<>0 AND EXISTS (SELECT 1 FROM tick t WHERE t.phase=1 AND t.lane=l.id)",
        )?
        .query_row([], |r| r.get(0))?;
    Ok([later, rate].into_iter().flatten().min())
}

//! The lanes that a claim looks at, a page at a time: those that have ready rows, along the ready index, and those under a
//! limit that are to be visited.
//!
//! What makes a row ready, gives a permit back or changes a limit puts its lanes on the list of visits: triggers see
//! every way in which that happens (`migrations/0006.sql`), beside a start, which says so itself.

use ostler_store::{Claim, Place, StoreError, Waiting, Walk};
use rusqlite::{OptionalExtension, params};

use crate::{Tx, error::told, names::Lane};

/// How many lanes of each list are weighed against one another.
const LANES: i64 = 256;

/// The next lane without limits that has ready rows: one probe of `tick_ready`, however many rows the lane holds.
pub(crate) const NEXT_LANE: &str =
    "SELECT lane FROM tick WHERE phase=1 AND lane>?1 AND lane<?2 ORDER BY lane LIMIT 1";

/// The next lanes to be visited, along `visit_at`.
pub(crate) const NEXT_VISITS: &str =
    "SELECT at, lane FROM visit WHERE light=?1 AND (at, lane)>(?2, ?3) AND at<=?4
  ORDER BY at, lane LIMIT ?5";

/// A lane has something new that is ready.
pub(crate) const VISIT: &str = "INSERT INTO visit (lane, light, at) VALUES (?1, ?2, 0)
  ON CONFLICT (lane) DO UPDATE SET at=0 WHERE at<>0";

/// Lanes of one sort: of light machines, or of those that take a slot.
pub(crate) struct Sort {
    /// What each namespace has had.
    pub(crate) shares: ostler_store::Turns,
    /// Where the last claim left off.
    pub(crate) after: Place,
}

impl Sort {
    pub(crate) fn new(light: bool) -> Self {
        Self { shares: ostler_store::Turns::default(), after: Place::first(light) }
    }
}

impl Tx<'_> {
    /// The next lanes that may have something for a claim.
    pub(crate) fn next_lanes(
        &mut self,
        walk: &mut Walk,
        light: bool,
        claim: &Claim,
    ) -> Result<Vec<Waiting<Lane>>, StoreError> {
        let (found, more) = self.page(walk.at(), light)?;
        let mut lanes = Vec::with_capacity(found.len());
        for key in walk.pass(found, more) {
            let lane = self.lane(key)?;
            if self.fits(&lane, claim)? {
                let weight = self.weight(lane.ns)?;
                lanes.push(Waiting { namespace: lane.ns, weight, class: lane.class, key, lane });
            }
        }
        Ok(lanes)
    }

    /// Lanes behind a place, and whether there are more.
    fn page(&self, at: Place, light: bool) -> Result<(Vec<(Place, i64)>, bool), StoreError> {
        let mut found = Vec::new();
        if let Some((mut after, end)) = at.lanes(light) {
            let mut next = self.sql.prepare_cached(NEXT_LANE).map_err(told)?;
            while let Some(lane) = next.query_row([after, end], |r| r.get(0)).optional().map_err(told)? {
                found.push((Place::Lane(lane), lane));
                after = lane;
                if found.len() as i64 == LANES {
                    return Ok((found, true));
                }
            }
        }
        let (after, lane) = at.visits();
        let values = params![light, after, lane, self.now, LANES];
        let visits = self.rows(NEXT_VISITS, values, |r| {
            let (at, lane) = (r.get(0)?, r.get(1)?);
            Ok((Place::Visit(at, lane), lane))
        })?;
        let more = visits.len() as i64 == LANES;
        found.extend(visits);
        Ok((found, more))
    }
}

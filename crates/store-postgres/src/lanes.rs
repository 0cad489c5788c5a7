//! The lanes that a claim looks at, a page at a time: those that have ready rows, along the ready index, and those under a
//! limit that are to be visited.
//!
//! What makes a row ready puts its lane on the list of visits, and what gives a permit back or changes a limit puts that
//! on a list of its own, by triggers (`migrations/0002_turns.sql`). Nothing is lost between a claim that finds a lane full
//! and a commit beside it that gives a permit back: each sees the other, or comes later.

use ostler_store::{Micros, Place, Waiting};
use tokio_postgres::Row;

use crate::{
    names::Lane,
    trouble::Done,
    tx::Tx,
    value::{Columns, Value, values},
};

/// How many lanes of each list are weighed against one another.
const LANES: i64 = 256;

/// Of limits that have got a permit back, those lanes in which something is ready. What is made ready beside it by a
/// transaction that is not seen here says so itself.
pub(crate) const RESOLVE: &str = "WITH gone AS (
    DELETE FROM freed WHERE ctid=ANY(ARRAY(
      SELECT ctid FROM freed ORDER BY bound, tx LIMIT 1000 FOR UPDATE SKIP LOCKED)) RETURNING bound),
  lanes AS (
    SELECT l.id, l.light FROM gone g JOIN lane l ON l.concurrency=g.bound WHERE l.concurrency<>0
    UNION SELECT l.id, l.light FROM gone g JOIN lane l ON l.rate=g.bound WHERE l.rate<>0)
  INSERT INTO visit (lane, tx, light, at)
  SELECT l.id, txid_current(), l.light, 0 FROM lanes l
  WHERE EXISTS (SELECT 1 FROM tick t WHERE t.phase=1 AND t.lane=l.id)
  ON CONFLICT (lane, tx) DO UPDATE SET at=0";

/// The next lanes without limits that have ready rows: one probe of `tick_ready` for each, however many rows the lane
/// holds.
pub(crate) const NEXT_LANES: &str = "WITH RECURSIVE found (lane, count) AS (
    (SELECT lane, 1 FROM tick WHERE phase=1 AND lane>$1 AND lane<$2 ORDER BY lane LIMIT 1)
    UNION ALL
    SELECT (SELECT t.lane FROM tick t WHERE t.phase=1 AND t.lane>found.lane AND t.lane<$2 ORDER BY t.lane LIMIT 1), count+1
      FROM found WHERE found.lane IS NOT NULL AND count<$3)
  SELECT l.id, l.ns, l.class, l.concurrency, l.rate, l.home, l.light, l.labels, n.weight
  FROM found JOIN lane l ON l.id=found.lane JOIN namespace n ON n.id=l.ns ORDER BY l.id";

/// The next lanes to be visited, along `visit_at`.
pub(crate) const NEXT_VISITS: &str =
    "SELECT l.id, l.ns, l.class, l.concurrency, l.rate, l.home, l.light, l.labels, n.weight, v.at
  FROM (SELECT DISTINCT at, lane FROM visit WHERE light=$1 AND (at, lane)>($2, $3) AND at<=$4
    ORDER BY at, lane LIMIT $5) v
  JOIN lane l ON l.id=v.lane JOIN namespace n ON n.id=l.ns ORDER BY v.at, l.id";

/// Lanes that come next on a walk.
#[derive(Default)]
pub(crate) struct Page {
    pub(crate) found: Vec<(Place, Waiting<Lane>)>,
    /// There are others behind them.
    pub(crate) more: bool,
}

impl Tx<'_> {
    /// The lanes behind each of these places of light machines, or of others, in one message.
    pub(crate) fn pages(&mut self, places: &[(bool, Place)]) -> Done<Vec<Page>> {
        let mut statements: Vec<(&str, Vec<Value<'_>>)> = Vec::new();
        for (light, at) in places {
            if let Some((after, end)) = at.lanes(*light) {
                statements.push((NEXT_LANES, vec![after.into(), end.into(), LANES.into()]));
            }
            let (after, lane) = at.visits();
            let values = vec![(*light).into(), after.into(), lane.into(), self.now.into(), LANES.into()];
            statements.push((NEXT_VISITS, values));
        }
        let asked: Vec<_> = statements.iter().map(|(sql, values)| (*sql, values.as_slice())).collect();
        let mut answers = self.link.rows_all(&asked)?.into_iter();
        let mut pages = Vec::with_capacity(places.len());
        for (light, at) in places {
            let mut page = Page::default();
            if at.lanes(*light).is_some() {
                for row in answers.next().unwrap_or_default() {
                    let lane = waiting(&row)?;
                    page.found.push((Place::Lane(lane.key), lane));
                }
            }
            let visits = answers.next().unwrap_or_default();
            page.more = page.found.len() as i64 == LANES;
            if !page.more {
                page.more = visits.len() as i64 == LANES;
                for row in visits {
                    let lane = waiting(&row)?;
                    page.found.push((Place::Visit(row.int(9)?, lane.key), lane));
                }
            }
            pages.push(page);
        }
        Ok(pages)
    }

    /// A lane is being looked at by whoever has its limits in hand.
    pub(crate) fn visited(&mut self, lane: i64) -> Done<()> {
        self.run("DELETE FROM visit WHERE lane=$1", values![lane]).map(drop)
    }

    /// A lane is to be looked at, from a moment on.
    pub(crate) fn visit_again(&mut self, lane: &Lane, key: i64, at: Micros) -> Done<()> {
        let sql = "INSERT INTO visit (lane, tx, light, at) VALUES ($1, txid_current(), $2, $3)
          ON CONFLICT (lane, tx) DO UPDATE SET at=least(visit.at, excluded.at)";
        self.run(sql, values![key, lane.light, at]).map(drop)
    }
}

fn waiting(r: &Row) -> Done<Waiting<Lane>> {
    let lane = Lane {
        ns: r.int(1)?,
        class: r.int(2)?,
        concurrency: r.int(3)?,
        rate: r.int(4)?,
        home: r.int(5)?,
        light: r.flag(6)?,
        labels: r.int(7)?,
    };
    let weight = u32::try_from(r.int(8)?).unwrap_or(1);
    Ok(Waiting { namespace: lane.ns, weight, class: lane.class, key: r.int(0)?, lane })
}

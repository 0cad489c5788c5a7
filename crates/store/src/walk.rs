//! The way of a claim over lanes, in every store.
//!
//! First come lanes without limits that have ready rows, by their numbers, then those under a limit that are to be
//! visited, by their moments. A lane that is full is in neither list, so it costs nothing. A claim looks at some, and the
//! next one goes on where it left off.

use crate::{LIGHT_LANES, Micros};

/// A place on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// At a lane without limits.
    Lane(i64),
    /// At a visit: its moment and its lane.
    Visit(Micros, i64),
}

impl Place {
    /// Before all lanes of light machines, or of others.
    #[must_use]
    pub const fn first(light: bool) -> Self {
        Self::Lane(if light { LIGHT_LANES } else { 0 })
    }

    /// The numbers between which the lanes without limits lie that come behind it; `None`: it is behind them all.
    #[must_use]
    pub const fn lanes(self, light: bool) -> Option<(i64, i64)> {
        match self {
            Self::Lane(after) => Some((after, if light { 2 * LIGHT_LANES } else { LIGHT_LANES } + 1)),
            Self::Visit(..) => None,
        }
    }

    /// Moment and lane behind which the visits lie that come behind it.
    #[must_use]
    pub const fn visits(self) -> (Micros, i64) {
        match self {
            Self::Lane(_) => (-1, 0),
            Self::Visit(at, lane) => (at, lane),
        }
    }
}

/// A walk over all lanes, from where the last one left off to the end, and from the beginning up to there.
#[derive(Debug)]
pub struct Walk {
    light: bool,
    at: Place,
    /// Where it began, unless it was at the beginning.
    upto: Option<Place>,
    wrapped: bool,
    ended: bool,
}

impl Walk {
    /// Begins behind a place.
    #[must_use]
    pub fn behind(after: Place, light: bool) -> Self {
        let upto = (after != Place::first(light)).then_some(after);
        Self { light, at: after, upto, wrapped: upto.is_none(), ended: false }
    }

    /// Where it is.
    #[must_use]
    pub fn at(&self) -> Place {
        self.at
    }

    /// Whether all lanes have been passed.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// Where the next walk begins.
    #[must_use]
    pub fn next(&self) -> Place {
        if self.ended { Place::first(self.light) } else { self.at }
    }

    /// Passes the places that come next; `more`: there are others behind them. Gives what is at those that were not
    /// passed before.
    pub fn pass<L>(&mut self, found: Vec<(Place, L)>, more: bool) -> Vec<L> {
        let mut passed = Vec::with_capacity(found.len());
        for (place, lane) in found {
            if self.wrapped && self.upto.is_some_and(|upto| place > upto) {
                self.ended = true;
                return passed;
            }
            self.at = place;
            passed.push(lane);
        }
        match (more, self.wrapped) {
            (true, _) => {}
            (false, true) => self.ended = true,
            (false, false) => (self.wrapped, self.at) = (true, Place::first(self.light)),
        }
        passed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Wherever it begins and however long the pages are, it passes each lane once, those behind its beginning first.
        #[test]
        fn each_lane_is_passed_once(
            lanes in prop::collection::btree_set(1i64..40, 0..30),
            visits in prop::collection::btree_set((0i64..5, -40i64..0), 0..30),
            after in 0i64..45,
            page in 1usize..7,
        ) {
            let lanes = lanes.into_iter().map(Place::Lane);
            let all: Vec<Place> = lanes.chain(visits.into_iter().map(|(at, lane)| Place::Visit(at, lane))).collect();
            let begin = all.get(after as usize).copied().unwrap_or(Place::first(false));
            let mut walk = Walk::behind(begin, false);
            let mut passed = Vec::new();
            while !walk.is_ended() {
                let behind: Vec<_> = all.iter().filter(|p| **p > walk.at()).map(|p| (*p, *p)).collect();
                let more = behind.len() > page;
                passed.extend(walk.pass(behind.into_iter().take(page).collect(), more));
            }
            let (before, behind): (Vec<Place>, Vec<Place>) = all.into_iter().partition(|p| *p <= begin);
            prop_assert_eq!(passed, behind.into_iter().chain(before).collect::<Vec<_>>());
            prop_assert_eq!(walk.next(), Place::first(false));
        }
    }
}

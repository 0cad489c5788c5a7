//! Intervals: a grid of elapsed time, or whole months of the local clock.

use ostler_model::Span;

use crate::{
    CalendarError,
    local::{DAY, Date},
    zone::Series,
};

/// The shortest interval: below it a schedule is a busy loop.
const SHORTEST: Span = Span::from_millis(1);

/// Refuses intervals that cannot be kept.
pub(crate) fn check_interval(interval: Span) -> Result<(), CalendarError> {
    if interval < SHORTEST {
        return Err(CalendarError::Interval(format!(
            "an interval of {interval} is too short; write at least {SHORTEST}"
        )));
    }
    Ok(())
}

/// The moments `origin`, `origin + interval`, `origin + 2 * interval` and so on, in microseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grid {
    pub origin: i64,
    pub interval: i64,
}

impl Grid {
    /// The first at or after `from`.
    pub(crate) fn at_or_after(self, from: i64) -> Option<i64> {
        if from <= self.origin {
            return Some(self.origin);
        }
        let past = i128::from(from) - i128::from(self.origin);
        let interval = i128::from(self.interval);
        let steps = (past + interval - 1) / interval;
        i64::try_from(i128::from(self.origin) + steps * interval).ok()
    }

    /// The last at or before `upto`.
    pub(crate) fn at_or_before(self, upto: i64) -> Option<i64> {
        let past = upto.checked_sub(self.origin)?;
        (past >= 0).then(|| self.origin + past / self.interval * self.interval)
    }
}

/// The local time `origin`, and the same time of the same day every so many months on; a day that a month does not
/// have becomes its last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Monthly {
    pub origin: i64,
    pub months: u32,
}

impl Monthly {
    fn nth(self, n: i64) -> i64 {
        let date = Date::of_day(self.origin.div_euclid(DAY)).plus_months(n * i64::from(self.months));
        date.days() * DAY + self.origin.rem_euclid(DAY)
    }

    /// The number of the occurrence in or just before the month of `local`; may be one off either way.
    fn near(self, local: i64) -> i64 {
        let index = |seconds: i64| {
            let date = Date::of_day(seconds.div_euclid(DAY));
            date.year * 12 + i64::from(date.month)
        };
        (index(local) - index(self.origin)).div_euclid(i64::from(self.months)).max(0)
    }
}

impl Series for Monthly {
    fn at_or_after(&self, from: i64) -> Option<i64> {
        let near = self.near(from);
        [near, near + 1].map(|n| self.nth(n)).into_iter().find(|at| *at >= from)
    }

    fn at_or_before(&self, upto: i64) -> Option<i64> {
        let near = self.near(upto);
        [near, near - 1].into_iter().filter(|n| *n >= 0).map(|n| self.nth(n)).find(|at| *at <= upto)
    }
}

//! A set of local times, as bits: what cron and systemd expressions come down to, and the search through it.
//!
//! Which days of a month match depends on two things only, the weekday of its first day and its length. So the day
//! rule, however odd (`LW`, `5#2`, day or weekday), is a table of 28 masks, made once; a search for the next time is
//! a few bit operations for each month it passes.

use crate::{
    local::{DAY, Date, month_length, weekday},
    zone::Series,
};

/// The Gregorian calendar repeats after this many years, weekdays included: what does not come in them never does.
const CYCLE_YEARS: i64 = 400;

/// The last year that a moment can lie in.
const LAST_YEAR: i64 = 9_999;

/// A set of local times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    pub seconds: u64,
    pub minutes: u64,
    pub hours: u32,
    pub days: Days,
    /// Bit 1 is January.
    pub months: u16,
    pub years: Years,
}

/// The days of a month that match: a mask (bit 1 is the 1st) for each weekday of the 1st (0 is Sunday) and length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Days([[u32; 4]; 7]);

/// The years that match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Years {
    All,
    /// Sorted.
    Only(Box<[u16]>),
}

impl Days {
    /// Asks `matches(first weekday, length)` for the mask of each kind of month.
    pub(crate) fn tabulate(mut mask: impl FnMut(u8, u8) -> u32) -> Self {
        let mut table = [[0; 4]; 7];
        for (first, row) in table.iter_mut().enumerate() {
            for (length, cell) in row.iter_mut().enumerate() {
                let length = length as u8 + 28;
                *cell = mask(first as u8, length) & days_up_to(length);
            }
        }
        Self(table)
    }

    fn of_month(&self, year: i64, month: u8) -> u32 {
        let first = weekday(Date { year, month, day: 1 }.days());
        self.0[usize::from(first)][usize::from(month_length(year, month) - 28)]
    }
}

/// Bits 1 to `length`.
pub(crate) fn days_up_to(length: u8) -> u32 {
    (u32::MAX >> (31 - length)) & !1
}

impl Years {
    fn at_or_after(&self, year: i64) -> Option<i64> {
        match self {
            Self::All => (year <= LAST_YEAR).then_some(year),
            Self::Only(years) => {
                years.get(years.partition_point(|y| i64::from(*y) < year)).map(|y| i64::from(*y))
            }
        }
    }

    fn at_or_before(&self, year: i64) -> Option<i64> {
        match self {
            Self::All => (year >= -LAST_YEAR).then_some(year),
            Self::Only(years) => {
                let before = years.partition_point(|y| i64::from(*y) <= year);
                before.checked_sub(1).map(|i| i64::from(years[i]))
            }
        }
    }
}

impl Pattern {
    /// True when no local time matches.
    pub(crate) fn is_empty(&self) -> bool {
        let start = match &self.years {
            Years::All => 1970,
            Years::Only(years) => years.first().map_or(1970, |y| i64::from(*y)),
        };
        self.at_or_after(Date { year: start, month: 1, day: 1 }.days() * DAY).is_none()
    }

    fn day_matches(&self, date: Date) -> bool {
        has(u64::from(self.months), date.month)
            && has(u64::from(self.days.of_month(date.year, date.month)), date.day)
            && self.years.at_or_after(date.year) == Some(date.year)
    }

    /// The first matching time of day at or after `second`.
    fn time_at_or_after(&self, second: i64) -> Option<i64> {
        let (h, m, s) = ((second / 3_600) as u8, (second / 60 % 60) as u8, (second % 60) as u8);
        let hours = u64::from(self.hours);
        if has(hours, h) {
            if has(self.minutes, m)
                && let Some(s) = bit_from(self.seconds, s)
            {
                return Some(time(h, m, s));
            }
            if let Some(m) = bit_from(self.minutes, m + 1) {
                return Some(time(h, m, lowest(self.seconds)));
            }
        }
        bit_from(hours, h + 1).map(|h| time(h, lowest(self.minutes), lowest(self.seconds)))
    }

    /// The last matching time of day at or before `second`.
    fn time_at_or_before(&self, second: i64) -> Option<i64> {
        let (h, m, s) = ((second / 3_600) as u8, (second / 60 % 60) as u8, (second % 60) as u8);
        let hours = u64::from(self.hours);
        if has(hours, h) {
            if has(self.minutes, m)
                && let Some(s) = bit_to(self.seconds, s)
            {
                return Some(time(h, m, s));
            }
            if let Some(m) = m.checked_sub(1).and_then(|m| bit_to(self.minutes, m)) {
                return Some(time(h, m, highest(self.seconds)));
            }
        }
        let h = h.checked_sub(1).and_then(|h| bit_to(hours, h))?;
        Some(time(h, highest(self.minutes), highest(self.seconds)))
    }

    /// The first matching day after `from`.
    fn day_after(&self, from: Date) -> Option<i64> {
        let months = u64::from(self.months);
        let mut after = from.day;
        let mut month = from.month;
        let mut year = from.year;
        loop {
            let matching = self.years.at_or_after(year)?;
            if matching > from.year + CYCLE_YEARS && matches!(self.years, Years::All) {
                return None;
            }
            if matching != year {
                (year, month, after) = (matching, 1, 0);
            }
            while let Some(next) = bit_from(months, month) {
                if next != month {
                    (month, after) = (next, 0);
                }
                let mask = u64::from(self.days.of_month(year, month));
                if let Some(day) = bit_from(mask, after + 1) {
                    return Some(Date { year, month, day }.days());
                }
                (month, after) = (month + 1, 0);
            }
            (year, month, after) = (year + 1, 1, 0);
        }
    }

    /// The last matching day before `from`.
    fn day_before(&self, from: Date) -> Option<i64> {
        let months = u64::from(self.months);
        let mut before = from.day;
        let mut month = from.month;
        let mut year = from.year;
        loop {
            let matching = self.years.at_or_before(year)?;
            if matching < from.year - CYCLE_YEARS && matches!(self.years, Years::All) {
                return None;
            }
            if matching != year {
                (year, month, before) = (matching, 12, 32);
            }
            while let Some(next) = bit_to(months, month) {
                if next != month {
                    (month, before) = (next, 32);
                }
                let mask = u64::from(self.days.of_month(year, month));
                if let Some(day) = bit_to(mask, before - 1) {
                    return Some(Date { year, month, day }.days());
                }
                (month, before) = (month - 1, 32);
            }
            (year, month, before) = (year - 1, 12, 32);
        }
    }
}

impl Series for Pattern {
    fn at_or_after(&self, from: i64) -> Option<i64> {
        let day = from.div_euclid(DAY);
        let date = Date::of_day(day);
        if self.day_matches(date)
            && let Some(time) = self.time_at_or_after(from.rem_euclid(DAY))
        {
            return Some(day * DAY + time);
        }
        let first = time(lowest(u64::from(self.hours)), lowest(self.minutes), lowest(self.seconds));
        self.day_after(date).map(|day| day * DAY + first)
    }

    fn at_or_before(&self, upto: i64) -> Option<i64> {
        let day = upto.div_euclid(DAY);
        let date = Date::of_day(day);
        if self.day_matches(date)
            && let Some(time) = self.time_at_or_before(upto.rem_euclid(DAY))
        {
            return Some(day * DAY + time);
        }
        let last = time(highest(u64::from(self.hours)), highest(self.minutes), highest(self.seconds));
        self.day_before(date).map(|day| day * DAY + last)
    }
}

fn time(hour: u8, minute: u8, second: u8) -> i64 {
    i64::from(hour) * 3_600 + i64::from(minute) * 60 + i64::from(second)
}

fn has(bits: u64, bit: u8) -> bool {
    bits >> bit & 1 == 1
}

/// The lowest bit set at or above `from`, which is at most 60.
fn bit_from(bits: u64, from: u8) -> Option<u8> {
    let rest = bits >> from;
    (rest != 0).then(|| from + rest.trailing_zeros() as u8)
}

/// The highest bit set at or below `upto`, which is at most 59.
fn bit_to(bits: u64, upto: u8) -> Option<u8> {
    let rest = bits & (u64::MAX >> (63 - upto));
    (rest != 0).then(|| 63 - rest.leading_zeros() as u8)
}

fn lowest(bits: u64) -> u8 {
    bits.trailing_zeros() as u8
}

fn highest(bits: u64) -> u8 {
    63 - bits.leading_zeros() as u8
}

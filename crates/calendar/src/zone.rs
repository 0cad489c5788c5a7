//! From local times to moments: time zones, and what happens where the local clock jumps.
//!
//! A zone is a row of segments with one offset each. Inside a segment local time and elapsed time run alike, so the
//! search asks a [`Series`] for its next local time in the segment and goes on to the next segment when there is
//! none. All rules of daylight saving time are about the edges:
//!
//! - a **gap** (the clock goes forward): local times that no segment holds. `shift` makes the first moment after the
//!   gap due when one of them is; `skip` does nothing.
//! - a **fold** (the clock goes back): local times that two segments hold. `first` drops them from the later segment,
//!   `last` from the earlier, `both` keeps them.
//! - [`Reading::Elapsed`] is `skip` with `both`: each moment whose local time matches, so an interval goes on in step
//!   with elapsed time.
//!
//! Moments are found in the order in which they come, whatever the clock on the wall does meanwhile.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use jiff::{Timestamp, tz::TimeZone};
use ostler_model::trigger::{Dst, Fold, Gap};

use crate::{CalendarError, Shift, error::nearest};

/// Local times in order, each in seconds of the local clock.
pub(crate) trait Series {
    /// The first at or after `from`.
    fn at_or_after(&self, from: i64) -> Option<i64>;
    /// The last at or before `upto`.
    fn at_or_before(&self, upto: i64) -> Option<i64>;
}

/// How a series becomes moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Times of the day, by these rules.
    Fixed(Dst),
    /// Interval-like: every moment whose local time matches.
    Elapsed,
}

impl Reading {
    fn shifts(self) -> bool {
        matches!(self, Self::Fixed(dst) if dst.gap == Gap::Shift)
    }

    fn fold(self) -> Fold {
        match self {
            Self::Fixed(dst) => dst.fold,
            Self::Elapsed => Fold::Both,
        }
    }
}

/// A stretch of time with one offset, and the offsets beside it. Moments are seconds since 1970 in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub start: i64,
    pub end: i64,
    pub offset: i64,
    pub offset_before: i64,
    pub offset_after: i64,
}

/// No moment: the open ends of the first and last segment.
const OPEN_START: i64 = i64::MIN / 4;
const OPEN_END: i64 = i64::MAX / 4;

/// Segments of these years are kept in a table; others are asked of jiff each time.
const TABLE_YEARS: (i16, i16) = (1970, 2100);

/// More than any offset from UTC.
const FAR: i64 = 26 * 3_600;

/// A time zone with its segments at hand.
#[derive(Debug)]
pub(crate) struct Zone {
    name: Box<str>,
    tz: TimeZone,
    table: Box<[Segment]>,
}

impl Zone {
    /// The zone of that IANA name; each is built once in a process.
    pub(crate) fn named(name: &str) -> Result<Arc<Self>, CalendarError> {
        static KNOWN: OnceLock<Mutex<HashMap<Box<str>, Arc<Zone>>>> = OnceLock::new();
        let known = KNOWN.get_or_init(Mutex::default);
        if let Some(zone) = known.lock().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Ok(zone.clone());
        }
        let tz = TimeZone::get(name).map_err(|_| unknown_zone(name))?;
        let name: Box<str> = tz.iana_name().unwrap_or(name).into();
        let zone = Arc::new(Self { table: table(&tz), tz, name: name.clone() });
        known.lock().unwrap_or_else(PoisonError::into_inner).insert(name, zone.clone());
        Ok(zone)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn tz(&self) -> &TimeZone {
        &self.tz
    }

    /// The segment that holds a moment.
    pub(crate) fn segment(&self, at: i64) -> Segment {
        let index = self.table.partition_point(|s| s.end <= at);
        match self.table.get(index) {
            Some(segment) if segment.start <= at => *segment,
            _ => measure(&self.tz, at),
        }
    }

    /// Seconds on the local clock at a moment.
    pub(crate) fn local(&self, at: i64) -> i64 {
        at + self.segment(at).offset
    }

    /// The first moment of the series at or after `from`.
    pub(crate) fn at_or_after(
        &self,
        series: &dyn Series,
        reading: Reading,
        from: i64,
    ) -> Option<(i64, Shift)> {
        let mut from = from;
        let mut segment = self.segment(from);
        loop {
            if from <= segment.start && reading.shifts() && is_shifted(&segment, series) {
                return Some((segment.start, Shift::Gap));
            }
            let (lowest, end) = local_bounds(&segment, reading.fold());
            let low = lowest.max(from.max(segment.start) + segment.offset);
            if let Some(local) = series.at_or_after(low).filter(|local| *local < end) {
                return Some((local - segment.offset, shift(&segment, local)));
            }
            if segment.end == OPEN_END {
                return None;
            }
            // The next segment may begin at an earlier local time than was looked at, so it is asked for what it
            // can hold before far-off segments are passed over.
            let next = series.at_or_after(low.min(segment.end + segment.offset_after.min(segment.offset)))?;
            from = segment.end.max(next - FAR);
            segment = self.segment(from);
        }
    }

    /// The last moment of the series at or before `upto`.
    pub(crate) fn at_or_before(
        &self,
        series: &dyn Series,
        reading: Reading,
        upto: i64,
    ) -> Option<(i64, Shift)> {
        let mut upto = upto;
        let mut segment = self.segment(upto);
        loop {
            let (start, end) = local_bounds(&segment, reading.fold());
            let high = (end - 1).min(upto.min(segment.end - 1) + segment.offset);
            if let Some(local) = series.at_or_before(high).filter(|local| *local >= start) {
                return Some((local - segment.offset, shift(&segment, local)));
            }
            if reading.shifts() && is_shifted(&segment, series) {
                return Some((segment.start, Shift::Gap));
            }
            if segment.start == OPEN_START {
                return None;
            }
            let previous =
                series.at_or_before(high.max(segment.start + segment.offset_before.max(segment.offset)))?;
            upto = (segment.start - 1).min(previous + FAR);
            segment = self.segment(upto);
        }
    }

    /// The moment of one local time, or `None` where the rule skips it.
    pub(crate) fn resolve(&self, local: i64, dst: Dst) -> Vec<(i64, Shift)> {
        let once = Single(local);
        let mut moments = Vec::new();
        let mut from = local - FAR;
        while let Some((at, shift)) = self.at_or_after(&once, Reading::Fixed(dst), from) {
            moments.push((at, shift));
            from = at + 1;
        }
        moments
    }
}

/// The local times of a segment that count: from, and before.
fn local_bounds(segment: &Segment, fold: Fold) -> (i64, i64) {
    let (mut start, mut end) = (segment.start + segment.offset, segment.end + segment.offset);
    match fold {
        Fold::First => start = start.max(segment.start + segment.offset_before),
        Fold::Last => end = end.min(segment.end + segment.offset_after),
        Fold::Both => {}
    }
    (start, end)
}

/// True when the gap before the segment swallowed a time of the series, and the segment's first moment is not one
/// by itself.
fn is_shifted(segment: &Segment, series: &dyn Series) -> bool {
    let (gap, end) = (segment.start + segment.offset_before, segment.start + segment.offset);
    gap < end
        && series.at_or_after(gap).is_some_and(|local| local < end)
        && series.at_or_after(end) != Some(end)
}

fn shift(segment: &Segment, local: i64) -> Shift {
    if local < segment.start + segment.offset_before {
        Shift::FoldLast
    } else if local >= segment.end + segment.offset_after {
        Shift::FoldFirst
    } else {
        Shift::None
    }
}

/// A series of one local time.
struct Single(i64);

impl Series for Single {
    fn at_or_after(&self, from: i64) -> Option<i64> {
        (self.0 >= from).then_some(self.0)
    }

    fn at_or_before(&self, upto: i64) -> Option<i64> {
        (self.0 <= upto).then_some(self.0)
    }
}

fn table(tz: &TimeZone) -> Box<[Segment]> {
    let year = |year: i16| {
        let day = i64::from(year - 1970) * 365 + i64::from((year - 1969) / 4);
        day * crate::local::DAY
    };
    let (mut at, end) = (year(TABLE_YEARS.0), year(TABLE_YEARS.1));
    let mut segments = Vec::new();
    while at < end {
        let segment = measure(tz, at);
        segments.push(segment);
        at = segment.end;
    }
    segments.into()
}

/// Asks jiff for the segment around a moment; what it calls transitions without a change of offset are passed over.
fn measure(tz: &TimeZone, at: i64) -> Segment {
    let clamp =
        |s: i64| Timestamp::from_second(s).unwrap_or(if s < 0 { Timestamp::MIN } else { Timestamp::MAX });
    let offset = i64::from(tz.to_offset(clamp(at)).seconds());
    let mut segment =
        Segment { start: OPEN_START, end: OPEN_END, offset, offset_before: offset, offset_after: offset };
    // The transition that begins the segment may lie exactly at `at`, and `preceding` is exclusive.
    for change in tz.preceding(clamp(at + 1)) {
        let start = change.timestamp().as_second();
        let before = i64::from(tz.to_offset(clamp(start - 1)).seconds());
        if before != offset {
            (segment.start, segment.offset_before) = (start, before);
            break;
        }
    }
    for change in tz.following(clamp(at)) {
        let after = i64::from(change.offset().seconds());
        if after != offset {
            (segment.end, segment.offset_after) = (change.timestamp().as_second(), after);
            break;
        }
    }
    segment
}

fn unknown_zone(name: &str) -> CalendarError {
    let names = jiff::tz::db().available().map(|n| n.as_str().to_owned()).collect::<Vec<_>>();
    let hint = nearest(name, names.iter().map(String::as_str)).map_or_else(
        || "write an IANA name such as Europe/Berlin, or UTC".into(),
        |near| format!("did you mean {near}?"),
    );
    CalendarError::UnknownZone { name: name.to_owned(), hint }
}

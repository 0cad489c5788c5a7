//! A trigger that can be asked when it is due.

use std::sync::Arc;

use jiff::{Timestamp, Zoned};
use ostler_model::{
    Span, TriggerSpec,
    trigger::{Interval, Pace, Rhythm},
};

use crate::{
    CalendarError, Calendars,
    calendars::Calendar,
    cron::Cron,
    every::{Grid, Monthly, check_interval},
    moments,
    pattern::Pattern,
    rrule::Rules,
    systemd, words,
    zone::{Reading, Series, Zone},
};

/// Microseconds in a second: moments are kept to the microsecond, as the stores keep them.
const SECOND: i64 = 1_000_000;

/// A search gives up when calendars refuse every moment for this long: nobody waits for more.
const PATIENCE: i64 = 100 * 366 * 86_400 * SECOND;

/// A moment at which a trigger is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// The moment by the rule: what identifies the firing.
    pub nominal: Timestamp,
    /// When it is really due: later than `nominal` by the trigger's offset and jitter.
    pub at: Timestamp,
    /// What daylight saving time did to it.
    pub shift: Shift,
}

/// What daylight saving time did to a due moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Shift {
    /// Nothing.
    #[default]
    None,
    /// Its local time does not exist; this is the first moment after the gap.
    Gap,
    /// Its local time comes twice; this is the first.
    FoldFirst,
    /// Its local time comes twice; this is the second.
    FoldLast,
}

/// A trigger ready to be asked. Cheap to clone.
///
/// It keeps no state and reads no clock: each question carries the moment it is asked about.
#[derive(Clone, Debug)]
pub struct Trigger(Arc<Compiled>);

#[derive(Debug)]
struct Compiled {
    kind: Kind,
    zone: Arc<Zone>,
    only: Vec<Arc<Calendar>>,
    except: Vec<Arc<Calendar>>,
    /// Bounds in microseconds since 1970, both included.
    start: Option<i64>,
    end: i64,
    offset: i64,
    jitter: i64,
    seed: u64,
    dst: ostler_model::trigger::Dst,
    words: String,
}

#[derive(Debug)]
enum Kind {
    /// Cron and systemd expressions.
    Pattern(Box<Pattern>, Reading),
    Rules(Box<Rules>, Reading),
    /// A grid of elapsed time.
    Grid(i64),
    /// The local clock's months.
    Months(u32),
    /// From the end of the run before.
    Spaced(Interval),
    /// Given moments, sorted.
    Moments(Vec<(i64, Shift)>),
    Once,
    Reboot,
}

impl Trigger {
    /// Compiles a trigger. `zone` is used when the spec names none; `seed` makes the jitter of one schedule differ
    /// from another's, and must be the same each time for the jitter to stay.
    ///
    /// # Errors
    /// Whatever is wrong with the rhythm, the zone, the calendars or the bounds, and what would be right.
    pub fn compile(
        spec: &TriggerSpec,
        zone: &str,
        calendars: &Calendars,
        seed: u64,
    ) -> Result<Self, CalendarError> {
        let find = |names: &[ostler_model::Name]| {
            names.iter().map(|n| calendars.get(n)).collect::<Result<Vec<_>, _>>()
        };
        let (only, except) = (find(&spec.only)?, find(&spec.except)?);
        let (kind, zone) = Kind::compile(spec, zone)?;
        if let (Some(start), Some(end)) = (spec.start, spec.end)
            && start > end
        {
            return Err(CalendarError::Interval(format!(
                "the end {end} lies before the start {start}; put them the other way round"
            )));
        }
        let (offset, jitter) =
            (spec.offset.map_or(0, Span::as_micros), spec.jitter.map_or(0, Span::as_micros));
        if let Kind::Grid(interval) = kind {
            for (word, length) in [("offset", offset), ("jitter", jitter)] {
                if length >= interval && length > 0 {
                    return Err(CalendarError::Interval(format!(
                        "the {word} of {} is not shorter than the interval of {}; write less",
                        span(length),
                        span(interval)
                    )));
                }
            }
        }
        let words = words::trigger(spec, zone.name())?;
        Ok(Self(Arc::new(Compiled {
            kind,
            zone,
            only,
            except,
            start: spec.start.map(ceiling),
            end: spec.end.map_or(i64::MAX, floor),
            offset,
            jitter,
            seed,
            dst: spec.dst,
            words,
        })))
    }

    /// The first due moment whose nominal moment lies strictly after `after`.
    ///
    /// `anchor` is when the schedule was made: `once` is due then; the grid of `every` begins then (at the trigger's
    /// `start` when it has one), and that first moment is due itself; a bare RRULE counts from then.
    ///
    /// # Errors
    /// None today; kept for rules whose search can fail.
    pub fn next_after(&self, after: Timestamp, anchor: Timestamp) -> Result<Option<Due>, CalendarError> {
        Ok(self.0.at_or_after(floor(after).saturating_add(1), floor(anchor)))
    }

    /// The last due moment whose nominal moment lies strictly before `before`.
    ///
    /// # Errors
    /// None today; kept for rules whose search can fail.
    pub fn previous_before(
        &self,
        before: Timestamp,
        anchor: Timestamp,
    ) -> Result<Option<Due>, CalendarError> {
        Ok(self.0.at_or_before(ceiling(before).saturating_sub(1), floor(anchor)))
    }

    /// The due moments whose nominal moments lie in `from..until`. The caller bounds how many are taken.
    pub fn between(
        &self,
        from: Timestamp,
        until: Timestamp,
        anchor: Timestamp,
    ) -> impl Iterator<Item = Result<Due, CalendarError>> + use<> {
        let compiled = self.0.clone();
        let mut from = ceiling(from);
        std::iter::from_fn(move || {
            let due = compiled.at_or_after(from, floor(anchor)).filter(|due| due.nominal < until)?;
            from = floor(due.nominal) + 1;
            Some(Ok(due))
        })
    }

    /// For [`Pace::Spaced`]: the due moment after a run that ended at `ended`. `None` for other triggers and after the
    /// trigger's end.
    #[must_use]
    pub fn after_end(&self, ended: Timestamp) -> Option<Due> {
        let Kind::Spaced(interval) = self.0.kind else { return None };
        let ended = floor(ended);
        let at = match interval {
            Interval::Elapsed(span) => ended.checked_add(span.as_micros())?,
            Interval::Months(months) => {
                // The occurrence after the origin is the end plus one interval.
                self.0.monthly_at_or_after(ended, months, ended + 1)?.0
            }
        };
        self.0.admit(at, |from| Some((from, Shift::None)))
    }

    /// True for intervals counted from the end of the run before: ask [`after_end`](Self::after_end).
    #[must_use]
    pub fn is_spaced(&self) -> bool {
        matches!(self.0.kind, Kind::Spaced(_))
    }

    /// True for `@reboot`: due when a `serve` starts, never by the clock.
    #[must_use]
    pub fn is_reboot(&self) -> bool {
        matches!(self.0.kind, Kind::Reboot)
    }

    /// True when it is never due after that moment.
    #[must_use]
    pub fn is_over(&self, after: Timestamp, anchor: Timestamp) -> bool {
        match self.0.kind {
            Kind::Spaced(_) | Kind::Reboot => floor(after) >= self.0.end,
            _ => self.0.at_or_after(floor(after).saturating_add(1), floor(anchor)).is_none(),
        }
    }

    /// IANA name of the zone it is read in.
    #[must_use]
    pub fn zone(&self) -> &str {
        self.0.zone.name()
    }

    /// A moment on the clock of the trigger's zone.
    #[must_use]
    pub fn local(&self, at: Timestamp) -> Zoned {
        at.to_zoned(self.0.zone.tz().clone())
    }

    /// In English words, as in "every 5 minutes from 09:00 through 17:59, Monday through Friday, Europe/Berlin".
    #[must_use]
    pub fn describe(&self) -> String {
        self.0.words.clone()
    }
}

impl Kind {
    fn compile(spec: &TriggerSpec, zone: &str) -> Result<(Self, Arc<Zone>), CalendarError> {
        let own_zone = |own: Option<&str>| match (own, &spec.timezone) {
            (Some(own), Some(given)) if own != given => {
                Err(CalendarError::TwoZones { own: own.to_owned(), given: given.clone() })
            }
            (Some(own), _) => Zone::named(own),
            (None, Some(given)) => Zone::named(given),
            (None, None) => Zone::named(zone),
        };
        let plain = || own_zone(None);
        let reading = |elapsed| if elapsed { Reading::Elapsed } else { Reading::Fixed(spec.dst) };
        Ok(match &spec.rhythm {
            Rhythm::Cron { expression, dialect } => {
                let cron = Cron::parse(expression, *dialect).map_err(|error| CalendarError::Cron {
                    expression: expression.clone(),
                    error: Box::new(error),
                })?;
                match cron {
                    Cron::Fields(fields) => {
                        let reading = reading(fields.is_interval_like());
                        (Self::Pattern(Box::new(fields.pattern()), reading), plain()?)
                    }
                    Cron::Reboot => (Self::Reboot, plain()?),
                    Cron::Every(span) => (Self::Grid(span.as_micros()), plain()?),
                }
            }
            Rhythm::Calendar(expression) => {
                let (fields, own) = systemd::parse(expression)?;
                let pattern = fields.pattern();
                if pattern.is_empty() {
                    return Err(CalendarError::Never {
                        what: format!("`{expression}`"),
                        reason: "there is no such day".into(),
                    });
                }
                (
                    Self::Pattern(Box::new(pattern), reading(fields.is_interval_like())),
                    own_zone(own.as_deref())?,
                )
            }
            Rhythm::Rrule(text) => {
                let mut rules = Rules::parse(text)?;
                let zone = own_zone(rules.zone())?;
                rules.settle(&zone)?;
                if rules.is_never_due() {
                    return Err(CalendarError::Never {
                        what: format!("`{}`", text.trim()),
                        reason: "no day satisfies all its parts".into(),
                    });
                }
                let reading = reading(rules.is_interval_like());
                (Self::Rules(Box::new(rules), reading), zone)
            }
            Rhythm::Every { interval, pace } => {
                match interval {
                    Interval::Elapsed(span) => check_interval(*span)?,
                    Interval::Months(0) => {
                        return Err(CalendarError::Interval(
                            "an interval of 0 months never goes on; write 1 or more".into(),
                        ));
                    }
                    Interval::Months(_) => {}
                }
                let kind = match (pace, interval) {
                    (Pace::Spaced, interval) => Self::Spaced(*interval),
                    (Pace::Precise, Interval::Elapsed(span)) => Self::Grid(span.as_micros()),
                    (Pace::Precise, Interval::Months(months)) => Self::Months(*months),
                };
                (kind, plain()?)
            }
            Rhythm::At(texts) => {
                let zone = plain()?;
                (Self::Moments(moments::parse(texts, &zone, spec.dst)?), zone)
            }
            Rhythm::Once => (Self::Once, plain()?),
            Rhythm::Reboot => (Self::Reboot, plain()?),
        })
    }
}

impl Compiled {
    fn at_or_after(&self, from: i64, anchor: i64) -> Option<Due> {
        self.admit(from, |from| self.raw_at_or_after(from, anchor))
    }

    /// The first moment that `next` gives within the bounds and that the calendars let pass.
    fn admit(&self, from: i64, next: impl Fn(i64) -> Option<(i64, Shift)>) -> Option<Due> {
        let mut from = from.max(self.start.unwrap_or(i64::MIN));
        let give_up = from.saturating_add(PATIENCE);
        loop {
            let (at, shift) = next(from)?;
            if at > self.end {
                return None;
            }
            if self.only.is_empty() && self.except.is_empty() {
                return self.due(at, shift);
            }
            let segment = self.zone.segment(at.div_euclid(SECOND));
            let local = at.div_euclid(SECOND) + segment.offset;
            if self.calendars_admit(local) {
                return self.due(at, shift);
            }
            if at > give_up {
                return None;
            }
            let calendars = self.only.iter().chain(&self.except);
            let until = calendars.map(|c| c.holds_until(local)).min().unwrap_or(local + 1);
            from = (until - segment.offset).min(segment.end).saturating_mul(SECOND).max(at + 1);
        }
    }

    fn at_or_before(&self, upto: i64, anchor: i64) -> Option<Due> {
        let mut upto = upto.min(self.end);
        let give_up = upto.saturating_sub(PATIENCE);
        loop {
            let (at, shift) = self.raw_at_or_before(upto, anchor)?;
            if self.start.is_some_and(|start| at < start) {
                return None;
            }
            if self.only.is_empty() && self.except.is_empty() {
                return self.due(at, shift);
            }
            let segment = self.zone.segment(at.div_euclid(SECOND));
            let local = at.div_euclid(SECOND) + segment.offset;
            if self.calendars_admit(local) {
                return self.due(at, shift);
            }
            if at < give_up {
                return None;
            }
            let calendars = self.only.iter().chain(&self.except);
            let since = calendars.map(|c| c.holds_since(local)).max().unwrap_or(local);
            upto = (since - segment.offset).max(segment.start).saturating_mul(SECOND).min(at) - 1;
        }
    }

    fn calendars_admit(&self, local: i64) -> bool {
        self.only.iter().all(|c| c.holds(local)) && !self.except.iter().any(|c| c.holds(local))
    }

    /// Where the grid of an interval begins.
    fn origin(&self, anchor: i64) -> i64 {
        self.start.unwrap_or(anchor)
    }

    fn raw_at_or_after(&self, from: i64, anchor: i64) -> Option<(i64, Shift)> {
        match &self.kind {
            Kind::Pattern(pattern, reading) => self.series_at_or_after(&**pattern, *reading, from),
            Kind::Rules(rules, reading) => {
                let start = self.zone.local(ceiling_seconds(anchor));
                self.series_at_or_after(&rules.series(start), *reading, from)
            }
            Kind::Grid(interval) => {
                let grid = Grid { origin: self.origin(anchor), interval: *interval };
                Some((grid.at_or_after(from)?, Shift::None))
            }
            Kind::Months(months) => self.monthly_at_or_after(self.origin(anchor), *months, from),
            Kind::Moments(moments) => moments.get(moments.partition_point(|(at, _)| *at < from)).copied(),
            Kind::Once => Some(self.once(anchor)).filter(|at| *at >= from).map(|at| (at, Shift::None)),
            Kind::Spaced(_) | Kind::Reboot => None,
        }
    }

    fn raw_at_or_before(&self, upto: i64, anchor: i64) -> Option<(i64, Shift)> {
        match &self.kind {
            Kind::Pattern(pattern, reading) => self.series_at_or_before(&**pattern, *reading, upto),
            Kind::Rules(rules, reading) => {
                let start = self.zone.local(ceiling_seconds(anchor));
                self.series_at_or_before(&rules.series(start), *reading, upto)
            }
            Kind::Grid(interval) => {
                let grid = Grid { origin: self.origin(anchor), interval: *interval };
                Some((grid.at_or_before(upto)?, Shift::None))
            }
            Kind::Months(months) => {
                let (series, fraction) = self.monthly(self.origin(anchor), *months);
                let (at, shift) =
                    self.series_at_or_before(&series, Reading::Fixed(self.dst), upto - fraction)?;
                Some((at + fraction, shift))
            }
            Kind::Moments(moments) => {
                moments.partition_point(|(at, _)| *at <= upto).checked_sub(1).map(|index| moments[index])
            }
            Kind::Once => Some(self.once(anchor)).filter(|at| *at <= upto).map(|at| (at, Shift::None)),
            Kind::Spaced(_) | Kind::Reboot => None,
        }
    }

    fn once(&self, anchor: i64) -> i64 {
        anchor.max(self.start.unwrap_or(i64::MIN))
    }

    /// The series of an interval of months, and the part of a second by which its moments lie later.
    fn monthly(&self, origin: i64, months: u32) -> (Monthly, i64) {
        let (seconds, fraction) = (origin.div_euclid(SECOND), origin.rem_euclid(SECOND));
        (Monthly { origin: self.zone.local(seconds), months }, fraction)
    }

    fn monthly_at_or_after(&self, origin: i64, months: u32, from: i64) -> Option<(i64, Shift)> {
        let (series, fraction) = self.monthly(origin, months);
        let (at, shift) = self.series_at_or_after(&series, Reading::Fixed(self.dst), from - fraction)?;
        Some((at + fraction, shift))
    }

    fn series_at_or_after(&self, series: &dyn Series, reading: Reading, from: i64) -> Option<(i64, Shift)> {
        let (at, shift) = self.zone.at_or_after(series, reading, ceiling_seconds(from))?;
        Some((at.checked_mul(SECOND)?, shift))
    }

    fn series_at_or_before(&self, series: &dyn Series, reading: Reading, upto: i64) -> Option<(i64, Shift)> {
        let (at, shift) = self.zone.at_or_before(series, reading, upto.div_euclid(SECOND))?;
        Some((at.checked_mul(SECOND)?, shift))
    }

    fn due(&self, nominal: i64, shift: Shift) -> Option<Due> {
        let at = nominal.checked_add(self.offset)?.checked_add(self.jitter(nominal))?;
        Some(Due {
            nominal: Timestamp::from_microsecond(nominal).ok()?,
            at: Timestamp::from_microsecond(at).ok()?,
            shift,
        })
    }

    /// A number of microseconds from 0 to the jitter, the same for the same seed and moment (SplitMix64).
    fn jitter(&self, nominal: i64) -> i64 {
        if self.jitter == 0 {
            return 0;
        }
        let mut z = self.seed ^ (nominal as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ z >> 31) % (self.jitter as u64 + 1)) as i64
    }
}

fn span(micros: i64) -> Span {
    std::time::Duration::from_micros(micros.unsigned_abs()).into()
}

/// Whole microseconds at or before a moment.
fn floor(at: Timestamp) -> i64 {
    at.as_nanosecond().div_euclid(1_000) as i64
}

/// Whole microseconds at or after a moment.
fn ceiling(at: Timestamp) -> i64 {
    -(-at.as_nanosecond()).div_euclid(1_000) as i64
}

fn ceiling_seconds(micros: i64) -> i64 {
    micros.div_euclid(SECOND) + i64::from(micros.rem_euclid(SECOND) != 0)
}

//! Named calendars: days and periods that triggers are confined to or kept out of.

use std::{collections::BTreeMap, sync::Arc};

use jiff::civil;
use ostler_model::{
    Name,
    trigger::{CalendarDef, Dialect},
};

use crate::{
    CalendarError,
    cron::Cron,
    error::nearest,
    local::{DAY, Date, month_length, seconds_of},
    rrule::Rules,
    zone::Series,
};

/// As far as is looked when a calendar holds nothing more: beyond where a search gives up.
const FAR: i64 = 400 * 366 * DAY;

/// The named calendars of one definition file, compiled.
///
/// ```
/// use std::collections::BTreeMap;
/// use jiff::civil::date;
/// use ostler_calendar::Calendars;
/// use ostler_model::trigger::CalendarDef;
///
/// let holidays = CalendarDef { dates: vec!["12-25".into(), "2026-04-06".into()], ..CalendarDef::default() };
/// let calendars = Calendars::compile(&BTreeMap::from([("holidays".parse().unwrap(), holidays)])).unwrap();
/// assert_eq!(calendars.contains("holidays", date(2030, 12, 25).at(9, 0, 0, 0)), Some(true));
/// assert_eq!(calendars.contains("holidays", date(2030, 4, 6).at(9, 0, 0, 0)), Some(false));
/// assert_eq!(calendars.contains("vacation", date(2030, 4, 6).at(9, 0, 0, 0)), None);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Calendars(BTreeMap<Name, Arc<Calendar>>);

impl Calendars {
    /// Compiles the calendars of a file.
    ///
    /// # Errors
    /// An entry that is no date, weekday, period or rule; it names the calendar and says what to write.
    pub fn compile(definitions: &BTreeMap<Name, CalendarDef>) -> Result<Self, CalendarError> {
        definitions
            .iter()
            .map(|(name, def)| Ok((name.clone(), Arc::new(Calendar::compile(name, def)?))))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether a calendar holds a local time; `None` when there is no such calendar.
    #[must_use]
    pub fn contains(&self, name: &str, at: civil::DateTime) -> Option<bool> {
        self.0.get(name).map(|calendar| calendar.holds(seconds_of(at)))
    }

    /// The names of the calendars.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.0.keys()
    }

    pub(crate) fn get(&self, name: &Name) -> Result<Arc<Calendar>, CalendarError> {
        self.0.get(name.as_str()).cloned().ok_or_else(|| {
            let hint = match nearest(name.as_str(), self.0.keys().map(Name::as_str)) {
                Some(near) => format!("; did you mean `{near}`?"),
                None if self.0.is_empty() => "; the file defines none under `calendars`".into(),
                None => format!(
                    "; the file defines {}",
                    self.0.keys().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
                ),
            };
            CalendarError::UnknownCalendar { name: name.to_string(), hint }
        })
    }
}

/// One calendar. A local time is in it when any entry holds it.
#[derive(Debug, Default)]
pub(crate) struct Calendar {
    /// Days since 1970, sorted.
    days: Vec<i64>,
    /// Month and day of every year.
    yearly: Vec<(u8, u8)>,
    /// Bit 0 is Sunday.
    weekdays: u8,
    /// Local seconds, half open; in order and apart from one another.
    periods: Vec<(i64, i64)>,
    /// Seconds of the day, likewise.
    daily: Vec<(i64, i64)>,
    rules: Vec<Rules>,
}

impl Calendar {
    fn compile(name: &Name, def: &CalendarDef) -> Result<Self, CalendarError> {
        let refuse = |text: &str, problem: String| CalendarError::Entry {
            calendar: name.to_string(),
            text: text.to_owned(),
            problem,
        };
        let mut calendar = Self::default();
        for text in &def.dates {
            match day_of(text.trim()) {
                Some(Day::Once(day)) => calendar.days.push(day),
                Some(Day::Yearly(month, day)) => calendar.yearly.push((month, day)),
                None => {
                    let problem = "is not a date; write `2026-12-25`, or `12-25` for every year".into();
                    return Err(refuse(text, problem));
                }
            }
        }
        calendar.days.sort_unstable();
        for text in &def.weekdays {
            // The weekday field of cron reads the same names and ranges, and knows how to correct them.
            let cron = Cron::parse(&format!("0 0 * * {}", text.trim().replace(' ', "")), Dialect::Vixie);
            match cron {
                Ok(Cron::Fields(fields)) if fields.plain_weekdays().is_some() => {
                    calendar.weekdays |= fields.plain_weekdays().unwrap_or_default();
                }
                Ok(_) => {
                    return Err(refuse(text, "is not a day of the week; write `sat` or `mon-fri`".into()));
                }
                Err(error) => return Err(refuse(text, format!("is not a day of the week: {error}"))),
            }
        }
        for text in &def.periods {
            let Some((from, to)) = text.split_once('/').or_else(|| daily_halves(text)) else {
                let problem =
                    "is not a period; write `2026-12-24T18:00/2026-12-27`, or `22:00-06:00` for every day";
                return Err(refuse(text, problem.into()));
            };
            if let (Some(from), Some(to)) = (time_of(from), time_of(to)) {
                // Where midnight is inside, the end lies before the start.
                calendar.daily.extend(if from < to { vec![(from, to)] } else { vec![(from, DAY), (0, to)] });
                continue;
            }
            let (Some(from), Some(to)) = (moment_of(from), moment_of(to)) else {
                let problem =
                    "is not a period; write `2026-12-24T18:00/2026-12-27`, or `22:00-06:00` for every day";
                return Err(refuse(text, problem.into()));
            };
            if from >= to {
                return Err(refuse(text, "ends before it begins; the end is not part of the period".into()));
            }
            calendar.periods.push((from, to));
        }
        for text in &def.rules {
            let rules =
                Rules::parse(text).map_err(|error| refuse(text, format!("is not a rule: {error}")))?;
            if rules.start().is_none() {
                let problem = "needs a first day: put `DTSTART:20260101` on a line before the rule".into();
                return Err(refuse(text, problem));
            }
            if rules.is_never_due() {
                return Err(refuse(text, "never comes: no day satisfies all its parts".into()));
            }
            calendar.rules.push(rules);
        }
        calendar.daily = joined(calendar.daily);
        calendar.periods = joined(calendar.periods);
        Ok(calendar)
    }

    /// True when the calendar holds that local time.
    pub(crate) fn holds(&self, local: i64) -> bool {
        let (day, second) = (local.div_euclid(DAY), local.rem_euclid(DAY));
        is_in(&self.periods, local) || is_in(&self.daily, second) || self.holds_day(day)
    }

    /// True when it holds all of a day, whatever its periods.
    fn holds_day(&self, day: i64) -> bool {
        self.weekdays >> crate::local::weekday(day) & 1 == 1
            || self.days.binary_search(&day).is_ok()
            || (!self.yearly.is_empty() && {
                let date = Date::of_day(day);
                self.yearly.contains(&(date.month, date.day))
            })
            || self
                .rules
                .iter()
                .any(|rules| rules.series(0).first_within(day * DAY, (day + 1) * DAY - 1).is_some())
    }

    /// A later local time until which `holds` cannot change: the next midnight where it holds the whole day, else the
    /// next edge of a period or the next day that it may hold.
    pub(crate) fn holds_until(&self, local: i64) -> i64 {
        let day = local.div_euclid(DAY);
        let midnight = (day + 1) * DAY;
        if self.holds_day(day) {
            return midnight;
        }
        let any_day = self.weekdays != 0 || !self.yearly.is_empty() || !self.daily.is_empty();
        let daily = self.daily.iter().flat_map(|(from, to)| [day * DAY + from, day * DAY + to]);
        let periods = self.periods.iter().flat_map(|(from, to)| [*from, *to]);
        let days = self.days.iter().map(|day| day * DAY);
        // What comes on a later day does not count where every day may hold something.
        let rules = if any_day { &[] } else { self.rules.as_slice() };
        let rules = rules.iter().filter_map(|rules| rules.series(0).at_or_after(midnight));
        daily
            .chain(periods)
            .chain(days)
            .chain(rules.map(|at| at.div_euclid(DAY) * DAY))
            .filter(|edge| *edge > local)
            .fold(if any_day { midnight } else { local + FAR }, i64::min)
    }

    /// The earliest local time since which `holds` cannot have changed, likewise.
    pub(crate) fn holds_since(&self, local: i64) -> i64 {
        let day = local.div_euclid(DAY);
        let midnight = day * DAY;
        if self.holds_day(day) {
            return midnight;
        }
        let any_day = self.weekdays != 0 || !self.yearly.is_empty() || !self.daily.is_empty();
        let daily = self.daily.iter().flat_map(|(from, to)| [midnight + from, midnight + to]);
        let periods = self.periods.iter().flat_map(|(from, to)| [*from, *to]);
        let days = self.days.iter().map(|day| (day + 1) * DAY);
        let rules = if any_day { &[] } else { self.rules.as_slice() };
        let rules = rules.iter().filter_map(|rules| rules.series(0).at_or_before(midnight - 1));
        daily
            .chain(periods)
            .chain(days)
            .chain(rules.map(|at| (at.div_euclid(DAY) + 1) * DAY))
            .filter(|edge| *edge <= local)
            .fold(if any_day { midnight } else { local - FAR }, i64::max)
    }
}

/// In order, with those that overlap or touch made one: a day cut into minutes is one period, not 1 440 edges.
fn joined(mut periods: Vec<(i64, i64)>) -> Vec<(i64, i64)> {
    periods.sort_unstable();
    let mut joined: Vec<(i64, i64)> = Vec::new();
    for (from, to) in periods.into_iter().filter(|(from, to)| from < to) {
        match joined.last_mut() {
            Some((_, end)) if from <= *end => *end = to.max(*end),
            _ => joined.push((from, to)),
        }
    }
    joined
}

fn is_in(periods: &[(i64, i64)], at: i64) -> bool {
    let later = periods.partition_point(|(from, _)| *from <= at);
    later.checked_sub(1).is_some_and(|index| at < periods[index].1)
}

enum Day {
    Once(i64),
    Yearly(u8, u8),
}

fn day_of(text: &str) -> Option<Day> {
    // jiff reads a date from a date and time as well, which would lose the time without a word.
    if let (10, Ok(date)) = (text.len(), text.parse::<civil::Date>()) {
        return Some(Day::Once(seconds_of(date.at(0, 0, 0, 0)) / DAY));
    }
    let (month, day) = text.split_once('-')?;
    let (month, day) = (month.parse().ok()?, day.parse().ok()?);
    let real = (1..=12).contains(&month) && (1..=month_length(2024, month)).contains(&day);
    real.then_some(Day::Yearly(month, day))
}

fn time_of(text: &str) -> Option<i64> {
    let text = text.trim();
    if text == "24:00" {
        return Some(DAY);
    }
    let time: civil::Time = text.contains(':').then(|| text.parse().ok()).flatten()?;
    Some(i64::from(time.hour()) * 3_600 + i64::from(time.minute()) * 60 + i64::from(time.second()))
}

fn moment_of(text: &str) -> Option<i64> {
    let text = text.trim();
    let at = text
        .parse::<civil::DateTime>()
        .ok()
        .or_else(|| Some(text.parse::<civil::Date>().ok()?.at(0, 0, 0, 0)))?;
    Some(seconds_of(at))
}

fn daily_halves(text: &str) -> Option<(&str, &str)> {
    text.split_once('-').filter(|(from, _)| from.contains(':'))
}

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
    /// Local seconds, half open.
    periods: Vec<(i64, i64)>,
    /// Seconds of the day, half open; the end lies before the start where midnight is inside.
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
                calendar.daily.push((from, to));
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
            calendar.rules.push(rules);
        }
        Ok(calendar)
    }

    /// True when the calendar holds that local time.
    pub(crate) fn holds(&self, local: i64) -> bool {
        let (day, second) = (local.div_euclid(DAY), local.rem_euclid(DAY));
        self.weekdays >> crate::local::weekday(day) & 1 == 1
            || self.days.binary_search(&day).is_ok()
            || (!self.yearly.is_empty() && {
                let date = Date::of_day(day);
                self.yearly.contains(&(date.month, date.day))
            })
            || self.periods.iter().any(|(from, to)| (*from..*to).contains(&local))
            || self.daily.iter().any(|(from, to)| {
                if from < to { (*from..*to).contains(&second) } else { second >= *from || second < *to }
            })
            || self
                .rules
                .iter()
                .any(|rules| rules.series(0).at_or_after(day * DAY).is_some_and(|at| at < (day + 1) * DAY))
    }

    /// A later local time until which `holds` cannot change: the next midnight, or an edge of a period before it.
    pub(crate) fn holds_until(&self, local: i64) -> i64 {
        let midnight = (local.div_euclid(DAY) + 1) * DAY;
        let day = local.div_euclid(DAY) * DAY;
        let daily = self.daily.iter().flat_map(|(from, to)| [day + from, day + to]);
        let periods = self.periods.iter().flat_map(|(from, to)| [*from, *to]);
        daily.chain(periods).filter(|edge| *edge > local).fold(midnight, i64::min)
    }

    /// The earliest local time since which `holds` cannot have changed: the last midnight, or a later edge.
    pub(crate) fn holds_since(&self, local: i64) -> i64 {
        let day = local.div_euclid(DAY) * DAY;
        let daily = self.daily.iter().flat_map(|(from, to)| [day + from, day + to]);
        let periods = self.periods.iter().flat_map(|(from, to)| [*from, *to]);
        daily.chain(periods).filter(|edge| *edge <= local).fold(day, i64::max)
    }
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

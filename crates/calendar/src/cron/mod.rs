//! Cron expressions: what their fields say, and the set of local times that this makes.
//!
//! **Fields.** 5 are `minute hour day month weekday`; 6 have the second in front; 7 have the year at the end.
//!
//! **Dialects.** In crontab(5)'s, 0 and 7 are Sunday. Day and weekday are alternatives when both are restricted; a
//! field that begins with `*` is not restricted, so `*/2` beside a weekday means both, as in Vixie cron (`DOM_STAR`,
//! `DOW_STAR`). In APScheduler's (supertask timetables) 0 is Monday, 7 is an error, and day and weekday must both
//! match always.
//!
//! **Interval-like** is, as in Vixie cron (`MIN_STAR`, `HR_STAR`), an expression whose hour, minute or second field
//! begins with `*`; so is one that names every hour in another way (`0-23`) or steps from a start (`5/15`). It fires
//! whenever the local clock shows a matching time: not in a gap, twice in a fold. All other expressions name times of
//! the day and follow the trigger's `dst` rule.

mod alias;
mod field;
mod parse;

use std::ops::Range;

use ostler_model::{Span, trigger::Dialect};

pub(crate) use self::field::{DayPart, Fields, Part, WeekdayPart};
use crate::{
    error::CronError,
    pattern::{Days, Pattern, Years, days_up_to},
};

/// What a cron expression says, once it is known to be right.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CronInfo {
    /// How many fields it has; an alias counts as the expression it stands for, `@reboot` and `@every` as 0.
    pub fields: usize,
    /// It follows elapsed time where the local clock jumps (see the crate's documentation on daylight saving time).
    pub interval_like: bool,
    /// It is `@reboot`.
    pub reboot: bool,
    /// It is `@every` this.
    pub every: Option<Span>,
    /// What it means in words, without a zone.
    pub words: String,
}

/// What stands for an expression.
#[derive(Clone, Debug)]
pub(crate) enum Cron {
    Fields(Box<Fields>),
    Reboot,
    Every(Span),
}

/// Reads a cron expression, and says what it means or what is wrong with it.
///
/// ```
/// use ostler_calendar::check_cron;
/// use ostler_model::trigger::Dialect;
///
/// let info = check_cron("*/5 9-17 * * MON-FRI", Dialect::Vixie).unwrap();
/// assert_eq!(info.words, "every 5 minutes from 09:00 through 17:59, Monday through Friday");
/// let error = check_cron("61 * * * *", Dialect::Vixie).unwrap_err();
/// assert_eq!(error.to_string(), "`61` is not a minute: 0 to 59");
/// assert_eq!(error.range(), 0..2);
/// ```
///
/// # Errors
/// What is wrong, where, and what would be right; also when it can never fire.
pub fn check_cron(expression: &str, dialect: Dialect) -> Result<CronInfo, CronError> {
    let cron = Cron::parse(expression, dialect)?;
    let words = crate::words::cron(&cron);
    Ok(match cron {
        Cron::Fields(fields) => CronInfo {
            fields: fields.written,
            interval_like: fields.is_interval_like(),
            reboot: false,
            every: None,
            words,
        },
        Cron::Reboot => CronInfo { fields: 0, interval_like: false, reboot: true, every: None, words },
        Cron::Every(span) => {
            CronInfo { fields: 0, interval_like: true, reboot: false, every: Some(span), words }
        }
    })
}

/// True when crontab(5) and APScheduler (supertask timetables) read an expression differently: other moments, or only
/// one of them accepts it. What neither accepts does not differ.
#[must_use]
pub fn differs_between_dialects(expression: &str) -> bool {
    let read = |dialect| match Cron::parse(expression, dialect) {
        Ok(Cron::Fields(fields)) => Some(Some(fields.pattern())),
        Ok(_) => Some(None),
        Err(_) => None,
    };
    read(Dialect::Vixie) != read(Dialect::Supertask)
}

impl Cron {
    pub(crate) fn parse(expression: &str, dialect: Dialect) -> Result<Self, CronError> {
        let trimmed = expression.trim_start();
        if trimmed.starts_with('@') {
            let at = expression.len() - trimmed.len()..expression.trim_end().len();
            return alias::parse(trimmed.trim_end(), at, dialect);
        }
        let fields = parse::fields(expression, dialect)?;
        if fields.pattern().is_empty() {
            return Err(CronError::Never { reason: fields.why_never(), at: 0..expression.len() });
        }
        Ok(Self::Fields(Box::new(fields)))
    }
}

impl Fields {
    /// The local times that match.
    pub(crate) fn pattern(&self) -> Pattern {
        Pattern {
            seconds: bits(&self.second),
            minutes: bits(&self.minute),
            hours: bits(&self.hour) as u32,
            days: Days::tabulate(|first, length| self.days(first, length)),
            months: bits(&self.month) as u16,
            years: self.years(),
        }
    }

    /// It follows elapsed time where the local clock jumps.
    pub(crate) fn is_interval_like(&self) -> bool {
        let starred = |parts: &[Part]| parts.iter().any(|p| p.star || p.open);
        starred(&self.second) || starred(&self.minute) || starred(&self.hour) || bits(&self.hour) == 0xff_ffff
    }

    fn years(&self) -> Years {
        if self.year.iter().any(|p| p.star && p.step == 1) {
            return Years::All;
        }
        let mut years: Vec<u16> = self.year.iter().flat_map(Part::values).collect();
        years.sort_unstable();
        years.dedup();
        Years::Only(years.into())
    }

    fn days(&self, first: u8, length: u8) -> u32 {
        let days = self.day.iter().fold(0, |mask, part| mask | part.days(first, length));
        let weekdays = self.weekday.iter().fold(0, |mask, part| mask | part.days(first, length));
        if self.either && !self.day_starred() && !self.weekday_starred() {
            days | weekdays
        } else {
            days & weekdays
        }
    }

    /// The day field begins with `*` (or is `?`).
    pub(crate) fn day_starred(&self) -> bool {
        matches!(self.day.first(), Some(DayPart::Days(part)) if part.star)
    }

    /// The weekday field begins with `*` (or is `?`).
    pub(crate) fn weekday_starred(&self) -> bool {
        matches!(self.weekday.first(), Some(WeekdayPart::Days { star: true, .. }))
    }

    /// The weekdays as a set whose bit 0 is Sunday, when nothing else (`#`, `L`) is among them.
    pub(crate) fn plain_weekdays(&self) -> Option<u8> {
        self.weekday.iter().try_fold(0, |set, part| match part {
            WeekdayPart::Days { set: more, .. } => Some(set | more),
            WeekdayPart::Nth { .. } | WeekdayPart::Last { .. } => None,
        })
    }

    fn why_never(&self) -> String {
        let months = crate::words::months(&self.month);
        match self.year.as_slice() {
            [year] if !year.star => format!("no such day comes in {}", year.from),
            _ if months.is_empty() => "no month has such a day".into(),
            _ => format!("no {months} has such a day"),
        }
    }
}

impl DayPart {
    /// The days of a month that begins on weekday `first` (0 is Sunday) and has `length` days.
    fn days(&self, first: u8, length: u8) -> u32 {
        let weekday = |day: u8| (first + day - 1) % 7;
        match *self {
            Self::Days(ref part) => part.values().fold(0, |mask, day| mask | 1 << day),
            Self::Last { before } => length.checked_sub(before).map_or(0, |day| 1 << day),
            Self::LastWorkday => (length - 2..=length)
                .rev()
                .find(|day| !matches!(weekday(*day), 0 | 6))
                .map_or(0, |day| 1 << day),
            Self::NearestWorkday(day) if day > length => 0,
            // The nearest Monday to Friday in the same month, as Quartz has it.
            Self::NearestWorkday(day) => {
                1 << match weekday(day) {
                    6 if day == 1 => 3,
                    6 => day - 1,
                    0 if day == length => day - 2,
                    0 => day + 1,
                    _ => day,
                }
            }
        }
    }
}

impl WeekdayPart {
    fn days(&self, first: u8, length: u8) -> u32 {
        let falling = |set: u8, range: Range<u8>| {
            range
                .filter(|day| set >> ((first + day - 1) % 7) & 1 == 1)
                .fold(0, |mask: u32, day| mask | 1 << day)
        };
        match *self {
            Self::Days { set: 0x7f, .. } => days_up_to(length),
            Self::Days { set, .. } => falling(set, 1..length + 1),
            Self::Nth { set, nth } => falling(set, nth * 7 - 6..(nth * 7 + 1).min(length + 1)),
            Self::Last { set } => falling(set, length - 6..length + 1),
        }
    }
}

fn bits(parts: &[Part]) -> u64 {
    parts.iter().flat_map(Part::values).fold(0, |bits, value| bits | 1 << value)
}

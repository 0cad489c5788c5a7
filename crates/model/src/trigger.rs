//! When something is due, as data: the parsed form of one entry of `on.schedule`.
//!
//! `ostler-calendar` turns a [`TriggerSpec`] into due moments and words.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Name, Span};

/// One time trigger: a rhythm, the zone it is read in, and what bends it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub struct TriggerSpec {
    /// When it is due.
    pub rhythm: Rhythm,
    /// IANA name of the zone in which it is read; `None` until the zone of the file or machine is filled in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// What happens at local times that do not exist or come twice.
    #[serde(default)]
    pub dst: Dst,
    /// Each due moment is moved later by a pseudo-random part of this, the same one each time it is computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Span>,
    /// Each due moment is moved later by this; for intervals, where in the interval it lies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<Span>,
    /// Calendars of the file: due only on days that every one of these holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<Name>,
    /// Calendars of the file: never due on days or in periods that one of these holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<Name>,
    /// Not before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Timestamp>,
    /// Not after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<Timestamp>,
    /// At most so many firings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

/// The rhythm of a trigger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rhythm {
    /// A cron expression with 5, 6 (seconds first) or 7 (years last) fields, or an alias such as `@daily`.
    Cron {
        /// The expression.
        expression: String,
        /// Whose meaning of weekday numbers and of day with weekday.
        #[serde(default)]
        dialect: Dialect,
    },
    /// At a fixed interval.
    Every {
        /// The interval, from 1 ms to years.
        interval: Interval,
        /// From the planned start (a fixed grid) or from the end of the run before.
        #[serde(default)]
        pace: Pace,
    },
    /// At given moments: RFC 3339, or a local date and time in the trigger's zone.
    At(Vec<String>),
    /// An RFC 5545 recurrence (`DTSTART`, `RRULE`, `RDATE`, `EXDATE` lines, or the bare rule).
    Rrule(String),
    /// A systemd calendar expression (`OnCalendar=`), as in `Mon..Fri 09:00`.
    Calendar(String),
    /// Once, when the trigger is first seen.
    Once,
    /// Each time a `serve` starts.
    Reboot,
}

/// An interval: elapsed time, or calendar units that follow the local clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Interval {
    /// Elapsed time, whatever the local clock does.
    Elapsed(Span),
    /// Whole months (a year is twelve), on the local clock; the day is cut at the month's end.
    Months(u32),
}

/// How intervals follow one another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pace {
    /// Starts lie on a fixed grid, as `watch --precise`.
    #[default]
    Precise,
    /// The interval is counted from the end of the run before, as `watch`.
    Spaced,
}

/// The meaning of a cron expression's weekday numbers, and of a day beside a weekday.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// crontab(5): 0 and 7 are Sunday; day OR weekday when both are given.
    #[default]
    Vixie,
    /// APScheduler 3, which supertask timetables were written for: 0 is Monday; day AND weekday.
    Supertask,
}

/// What happens where the local clock jumps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub struct Dst {
    /// A local time that does not exist.
    #[serde(default)]
    pub gap: Gap,
    /// A local time that comes twice.
    #[serde(default)]
    pub fold: Fold,
}

/// A local time that does not exist (the clock goes forward).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Gap {
    /// Due at the first moment after the gap.
    #[default]
    Shift,
    /// Not due that day.
    Skip,
}

/// A local time that comes twice (the clock goes back).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fold {
    /// Due the first time.
    #[default]
    First,
    /// Due the second time.
    Last,
    /// Due both times.
    Both,
}

/// A named calendar of a file: days and periods that triggers may be confined to or kept out of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub struct CalendarDef {
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Single days, `2026-12-25`, or every year, `12-25`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dates: Vec<String>,
    /// Days of the week, `sat`, `sunday`, `mon-fri`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weekdays: Vec<String>,
    /// Periods, `2026-12-24T18:00/2026-12-27` (local) or daily ones, `22:00-06:00`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub periods: Vec<String>,
    /// RFC 5545 rules; each occurrence is a whole day.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
}

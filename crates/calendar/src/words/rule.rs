//! Recurrences of RFC 5545 in words.

use super::{
    days::{WEEKDAYS, month_name},
    join, ordinal,
};
use crate::{
    local::civil_of,
    rrule::{Freq, Rule, Rules},
};

/// A recurrence set in words.
pub(super) fn rules(rules: &Rules) -> String {
    let mut words = rules.rules.iter().map(rule).collect::<Vec<_>>().join(", and ");
    let (extra, except) = rules.exceptions();
    if extra > 0 {
        let and = if words.is_empty() { "" } else { ", and " };
        words += &format!("{and}on {extra} given {}", if extra == 1 { "date" } else { "dates" });
    }
    if except > 0 {
        words += &format!(", except {except} given {}", if except == 1 { "date" } else { "dates" });
    }
    if let Some(start) = rules.start().and_then(civil_of) {
        words += &format!(", from {} on", start.strftime("%Y-%m-%d %H:%M:%S"));
    }
    words
}

fn rule(rule: &Rule) -> String {
    let unit = match rule.freq {
        Freq::Yearly => "year",
        Freq::Monthly => "month",
        Freq::Weekly => "week",
        Freq::Daily => "day",
        Freq::Hourly => "hour",
        Freq::Minutely => "minute",
        Freq::Secondly => "second",
    };
    let mut words = match rule.interval {
        1 => format!("every {unit}"),
        n => format!("every {n} {unit}s"),
    };
    if !rule.months.is_empty() {
        words += &format!(" in {}", join(rule.months.iter().map(|month| month_name(u16::from(*month)))));
    }
    if !rule.weeks.is_empty() {
        words += &format!(" in {}", numbered(rule.weeks.iter().map(|w| i16::from(*w)), "week"));
    }
    if !rule.year_days.is_empty() {
        words += &format!(" on {} of the year", numbered(rule.year_days.iter().copied(), "day"));
    }
    if !rule.month_days.is_empty() {
        words +=
            &format!(" on {} of the month", numbered(rule.month_days.iter().map(|d| i16::from(*d)), "day"));
    }
    if !rule.days.is_empty() {
        let joiner = if rule.month_days.is_empty() { " on" } else { " when that is a" };
        let days = rule.days.iter().map(|(nth, day)| {
            let name = WEEKDAYS[usize::from(*day)];
            match nth {
                0 => name.to_owned(),
                n => format!("the {} {name}", nth_word(i16::from(*n))),
            }
        });
        words += &format!("{joiner} {}", join(days));
    }
    words += &time_of_day(rule);
    if !rule.positions.is_empty() {
        let positions = rule.positions.iter().map(|p| nth_word(*p));
        words += &format!(", only the {} of these in each {unit}", join(positions));
    }
    if let Some(count) = rule.count {
        words += &format!(", {count} {}", if count == 1 { "time" } else { "times" });
    }
    if let Some(until) = rule.until.as_ref().and_then(|until| civil_of(until.local)) {
        words += &format!(", until {}", until.strftime("%Y-%m-%d %H:%M:%S"));
    }
    words
}

fn time_of_day(rule: &Rule) -> String {
    let (hours, minutes, seconds) = (&rule.hours, &rule.minutes, &rule.seconds);
    let zero = [0];
    if !hours.is_empty()
        && rule.freq <= Freq::Daily
        && seconds.len() <= 1
        && !minutes.is_empty()
        && hours.len() * minutes.len() <= 8
    {
        let second = seconds.first().unwrap_or(&zero[0]);
        let times = hours.iter().flat_map(|hour| {
            minutes.iter().map(move |minute| match second {
                0 => format!("{hour:02}:{minute:02}"),
                second => format!("{hour:02}:{minute:02}:{second:02}"),
            })
        });
        return format!(" at {}", join(times));
    }
    let mut words = String::new();
    for (unit, list) in [("hour", hours), ("minute", minutes), ("second", seconds)] {
        if !list.is_empty() {
            let plural = if list.len() == 1 { "" } else { "s" };
            words += &format!(" at {unit}{plural} {}", join(list.iter().map(ToString::to_string)));
        }
    }
    words
}

/// "day 1 and 15", "the last day".
fn numbered(numbers: impl Iterator<Item = i16>, unit: &str) -> String {
    join(numbers.map(|n| if n > 0 { format!("{unit} {n}") } else { format!("the {} {unit}", nth_word(n)) }))
}

/// "2nd", "last", "2nd to last".
fn nth_word(n: i16) -> String {
    match n {
        -1 => "last".into(),
        n if n < 0 => format!("{} to last", ordinal(n.unsigned_abs())),
        n => ordinal(n.unsigned_abs()),
    }
}

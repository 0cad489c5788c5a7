//! Times of the day in words.

use super::{join, ordinal, values};
use crate::cron::{Fields, Part};

/// At most so many times are written out one by one.
const LISTED: usize = 6;

/// The time of day in words, and whether these are times (`at 09:00`) rather than an interval.
pub(super) fn times(fields: &Fields) -> (String, bool) {
    let (second, minute, hour) = (&fields.second, &fields.minute, &fields.hour);
    if only(second) == Some(0) {
        return of_minutes(minute, hour);
    }
    if let Some(list) = listed(second, minute, hour) {
        return (list, true);
    }
    let scope = scope(minute, hour);
    if is_all(second) {
        return (format!("every second{scope}"), false);
    }
    if let Some(step) = step(second) {
        return (format!("{}{scope}", stepped(step, "second", "minute", 60, second)), false);
    }
    let scope = match scope.trim_start() {
        "" => "every minute".to_owned(),
        scope if scope.starts_with("in ") => scope.trim_start_matches("in ").to_owned(),
        scope => format!("every minute {scope}"),
    };
    (format!("at {} of {scope}", counted("second", second)), false)
}

fn of_minutes(minute: &[Part], hour: &[Part]) -> (String, bool) {
    if is_all(minute) {
        return (format!("every minute{}", during(hour)), false);
    }
    if let Some(step) = step(minute) {
        return (format!("{}{}", stepped(step, "minute", "hour", 60, minute), during(hour)), false);
    }
    let sharp = only(minute);
    if is_all(hour) || covers(hour, 24) {
        let words = match sharp {
            Some(0) => "every hour".into(),
            _ => format!("at {} of every hour", counted("minute", minute)),
        };
        return (words, false);
    }
    if let Some(step) = step(hour) {
        let every = stepped(step, "hour", "day", 24, hour);
        let words = match sharp {
            Some(0) => every,
            Some(_) => format!("{every} at {}", counted("minute", minute)),
            None => format!("at {} of every {} hour", counted("minute", minute), ordinal(step)),
        };
        return (words, false);
    }
    if let ([part], Some(minute)) = (hour, sharp)
        && part.values().count() > 2
    {
        let last = part.values().last().unwrap_or(part.to);
        let every = if part.step == 1 { "every hour".into() } else { format!("every {} hours", part.step) };
        return (format!("{every} from {} through {}", clock(part.from, minute), clock(last, minute)), false);
    }
    match listed(&[Part::one(0)], minute, hour) {
        Some(list) => (list, true),
        None => {
            let hours = counted("hour", hour);
            let the = if hours.starts_with("hours") { "the " } else { "" };
            (format!("at {} of {the}{hours}", counted("minute", minute)), false)
        }
    }
}

/// "at 09:00 and 17:30", when the times are few.
fn listed(second: &[Part], minute: &[Part], hour: &[Part]) -> Option<String> {
    let set = |parts: &[Part]| {
        let mut all: Vec<u16> = parts.iter().flat_map(Part::values).collect();
        all.sort_unstable();
        all.dedup();
        all
    };
    let (seconds, minutes, hours) = (set(second), set(minute), set(hour));
    if seconds.len() * minutes.len() * hours.len() > LISTED {
        return None;
    }
    let mut times = Vec::new();
    for hour in &hours {
        for minute in &minutes {
            for second in &seconds {
                times.push(match only(&[Part::one(*second)]).filter(|s| *s > 0 || seconds.len() > 1) {
                    Some(second) => format!("{}:{second:02}", clock(*hour, *minute)),
                    None => clock(*hour, *minute),
                });
            }
        }
    }
    Some(format!("at {}", join(times)))
}

/// The minutes within which seconds are counted, with a space in front; empty for all.
fn scope(minute: &[Part], hour: &[Part]) -> String {
    if is_all(minute) {
        return during(hour);
    }
    let minutes = match step(minute) {
        Some(step) => format!(" in every {} minute", ordinal(step)),
        None => format!(" in {}", counted("minute", minute)),
    };
    match (is_all(hour), step(minute)) {
        (true, Some(_)) => minutes,
        (true, None) => format!("{minutes} of every hour"),
        (false, Some(_)) => format!("{minutes}{}", during(hour)),
        (false, None) => format!("{minutes} of {}", counted("hour", hour)),
    }
}

/// The hours in which something goes on, with a space in front; empty for all.
fn during(hour: &[Part]) -> String {
    if is_all(hour) || covers(hour, 24) {
        return String::new();
    }
    if let Some(step) = step(hour) {
        return format!(" in every {} hour", ordinal(step));
    }
    if hour.iter().all(|part| part.step == 1) {
        let spans =
            hour.iter().map(|part| format!("from {} through {}", clock(part.from, 0), clock(part.to, 59)));
        return format!(" {}", join(spans));
    }
    format!(" in {}", counted("hour", hour))
}

/// "every 5 minutes", or for a step that does not fill its whole "every 7 minutes of each hour (0, 7 … 56)".
fn stepped(step: u16, unit: &str, whole: &str, size: u16, parts: &[Part]) -> String {
    if size.is_multiple_of(step) && parts.first().is_some_and(|part| part.from == 0) {
        return format!("every {step} {unit}s");
    }
    format!("every {step} {unit}s of each {whole} ({})", values(parts, |value| value.to_string()))
}

/// "minute 5", "minutes 5 and 35".
fn counted(unit: &str, parts: &[Part]) -> String {
    let plural = if only(parts).is_some() { "" } else { "s" };
    format!("{unit}{plural} {}", values(parts, |value| value.to_string()))
}

fn clock(hour: u16, minute: u16) -> String {
    format!("{hour:02}:{minute:02}")
}

/// The single value of a field.
fn only(parts: &[Part]) -> Option<u16> {
    match parts {
        [part] if part.from == part.to => Some(part.from),
        _ => None,
    }
}

pub(super) fn is_all(parts: &[Part]) -> bool {
    parts.iter().any(|part| part.star && part.step == 1)
}

fn covers(parts: &[Part], size: u32) -> bool {
    parts.iter().flat_map(Part::values).fold(0u64, |bits, v| bits | 1 << v).count_ones() == size
}

/// The step of `*/n` or `a/n`.
fn step(parts: &[Part]) -> Option<u16> {
    match parts {
        [part] if (part.star || part.open) && part.step > 1 => Some(part.step),
        _ => None,
    }
}

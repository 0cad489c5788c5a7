//! Triggers in English words.

mod days;
mod rule;
mod times;

use ostler_model::{
    Span, TriggerSpec,
    trigger::{Fold, Gap, Interval, Pace, Rhythm},
};

use crate::{
    CalendarError,
    cron::{Cron, Fields, Part},
    rrule::Rules,
    systemd,
};

/// A cron expression in words, without its zone.
pub(crate) fn cron(cron: &Cron) -> String {
    match cron {
        Cron::Fields(fields) => of_fields(fields),
        Cron::Reboot => "each time a server starts".into(),
        Cron::Every(span) => format!("every {}", length(*span)),
    }
}

/// The months of a field, as in "January and July"; empty for all of them.
pub(crate) fn months(parts: &[Part]) -> String {
    days::months(parts)
}

/// A whole trigger in words.
pub(crate) fn trigger(spec: &TriggerSpec, zone: &str) -> Result<String, CalendarError> {
    let Rhythmic { mut words, zoned, dst } = rhythm(&spec.rhythm)?;
    let names = |names: &[ostler_model::Name], last: &str| {
        join(names.iter().map(|name| format!("`{name}`"))).replace(" and ", last)
    };
    if !spec.only.is_empty() {
        words += &format!(", only in {}", names(&spec.only, " together with "));
    }
    if !spec.except.is_empty() {
        words += &format!(", not in {}", names(&spec.except, " or "));
    }
    if zoned || !spec.only.is_empty() || !spec.except.is_empty() {
        words += &format!(", {zone}");
    }
    if dst {
        if spec.dst.gap == Gap::Skip {
            words += ", not where the clock skips the time";
        }
        words += match spec.dst.fold {
            Fold::First => "",
            Fold::Last => ", the second time where the clock repeats it",
            Fold::Both => ", both times where the clock repeats it",
        };
    }
    if let Some(offset) = spec.offset.filter(|offset| !offset.is_zero()) {
        words += &format!(", {} later", count_first(&length(offset)));
    }
    if let Some(jitter) = spec.jitter.filter(|jitter| !jitter.is_zero()) {
        words += &format!(", spread over {}", count_first(&length(jitter)));
    }
    if let Some(start) = spec.start {
        words += &format!(", from {start}");
    }
    if let Some(end) = spec.end {
        words += &format!(", until {end}");
    }
    match spec.count {
        Some(1) => words += ", 1 time at most",
        Some(count) => words += &format!(", {count} times at most"),
        None => {}
    }
    Ok(words)
}

/// A rhythm in words, and what else has to be said with it.
struct Rhythmic {
    words: String,
    /// The zone matters.
    zoned: bool,
    /// The rule for daylight saving time matters.
    dst: bool,
}

fn rhythm(rhythm: &Rhythm) -> Result<Rhythmic, CalendarError> {
    let local = |words: String, interval_like: bool| Rhythmic { words, zoned: true, dst: !interval_like };
    let elapsed = |words: String| Rhythmic { words, zoned: false, dst: false };
    Ok(match rhythm {
        Rhythm::Cron { expression, dialect } => {
            let read = Cron::parse(expression, *dialect).map_err(|error| CalendarError::Cron {
                expression: expression.clone(),
                error: Box::new(error),
            })?;
            match &read {
                Cron::Fields(fields) => local(of_fields(fields), fields.is_interval_like()),
                Cron::Every(_) | Cron::Reboot => elapsed(cron(&read)),
            }
        }
        Rhythm::Calendar(expression) => {
            let fields = systemd::parse(expression)?.0;
            local(of_fields(&fields), fields.is_interval_like())
        }
        Rhythm::Rrule(text) => {
            let rules = Rules::parse(text)?;
            local(rule::rules(&rules), rules.is_interval_like())
        }
        Rhythm::Every { interval, pace } => {
            let length = match interval {
                Interval::Elapsed(span) => length(*span),
                Interval::Months(months) => months_long(*months),
            };
            let words = match pace {
                Pace::Precise => format!("every {length}"),
                Pace::Spaced => format!("{} after the end of the run before", count_first(&length)),
            };
            match interval {
                Interval::Elapsed(_) => elapsed(words),
                Interval::Months(_) => local(words, false),
            }
        }
        Rhythm::At(moments) => {
            let words = match moments.as_slice() {
                [first, _, _, _, _, ..] => format!("at {} moments from {} on", moments.len(), first.trim()),
                few => format!("at {}", join(few.iter().map(|text| text.trim().replace('T', " ")))),
            };
            if moments.iter().all(|text| text.trim().parse::<jiff::Timestamp>().is_ok()) {
                elapsed(words)
            } else {
                local(words, false)
            }
        }
        Rhythm::Once => elapsed("once".into()),
        Rhythm::Reboot => elapsed("each time a server starts".into()),
    })
}

fn of_fields(fields: &Fields) -> String {
    let (time, at_times) = times::times(fields);
    days::with_days(&time, fields, at_times)
}

/// A length of time that follows "every": "minute", "5 minutes", "1 hour 30 minutes".
fn length(span: Span) -> String {
    let mut rest = span.as_duration().as_micros();
    let mut words = Vec::new();
    for (unit, micros) in [
        ("day", 86_400_000_000),
        ("hour", 3_600_000_000),
        ("minute", 60_000_000),
        ("second", 1_000_000),
        ("millisecond", 1_000),
        ("microsecond", 1),
    ] {
        let count = rest / micros;
        rest %= micros;
        match count {
            0 => {}
            1 => words.push(format!("1 {unit}")),
            n => words.push(format!("{n} {unit}s")),
        }
    }
    match words.as_slice() {
        [single] => single.strip_prefix("1 ").unwrap_or(single).to_owned(),
        words => words.join(" "),
    }
}

fn months_long(months: u32) -> String {
    match months {
        1 => "month".into(),
        12 => "year".into(),
        n if n % 12 == 0 => format!("{} years", n / 12),
        n => format!("{n} months"),
    }
}

/// A length that stands alone: "1 minute" for "minute".
fn count_first(length: &str) -> String {
    if length.starts_with(|c: char| c.is_ascii_digit()) { length.to_owned() } else { format!("1 {length}") }
}

/// "a", "a and b", "a, b and c".
fn join(items: impl IntoIterator<Item = String>) -> String {
    let mut items: Vec<String> = items.into_iter().collect();
    match items.pop() {
        None => String::new(),
        Some(last) if items.is_empty() => last,
        Some(last) => format!("{} and {last}", items.join(", ")),
    }
}

/// "1st", "22nd".
fn ordinal(n: u16) -> String {
    let suffix = match (n % 10, n % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{n}{suffix}")
}

/// The values of a field, written out by `name`: single ones, "a through b", and "a, b … z" for long steps.
fn values(parts: &[Part], name: impl Fn(u16) -> String) -> String {
    let mut items = Vec::new();
    for part in parts {
        let all: Vec<u16> = part.values().collect();
        match all.as_slice() {
            [from, .., to] if part.step == 1 && all.len() > 2 => {
                items.push(format!("{} through {}", name(*from), name(*to)))
            }
            [first, second, .., last] if all.len() > 6 => {
                items.push(format!("{}, {} … {}", name(*first), name(*second), name(*last)));
            }
            all => items.extend(all.iter().map(|value| name(*value))),
        }
    }
    join(items)
}

//! systemd calendar expressions (`OnCalendar=`, systemd.time(7)): `Mon..Fri *-*-* 09:00:00 Europe/Berlin`.
//!
//! They become the same fields as cron's, with day and weekday always both required. Parts of a second are refused.

use crate::{
    CalendarError,
    cron::{DayPart, Fields, Part, WeekdayPart},
    error::nearest,
};

const NICKNAMES: &[(&str, &str)] = &[
    ("minutely", "*-*-* *:*:00"),
    ("hourly", "*-*-* *:00:00"),
    ("daily", "*-*-* 00:00:00"),
    ("weekly", "Mon *-*-* 00:00:00"),
    ("monthly", "*-*-01 00:00:00"),
    ("quarterly", "*-01,04,07,10-01 00:00:00"),
    ("semiannually", "*-01,07-01 00:00:00"),
    ("yearly", "*-01-01 00:00:00"),
    ("annually", "*-01-01 00:00:00"),
];

const WEEKDAYS: &[&str] = &["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];

/// Reads an expression; the zone is the one that it names at its end.
pub(crate) fn parse(expression: &str) -> Result<(Fields, Option<String>), CalendarError> {
    let refuse = |problem: String| CalendarError::Systemd { expression: expression.to_owned(), problem };
    let mut words: Vec<&str> = expression.split_whitespace().collect();
    let zone = words.pop_if(|last| is_zone(last)).map(str::to_owned);
    if let [word] = words.as_slice()
        && word.chars().all(|c| c.is_ascii_alphabetic())
        && weekday(word).is_none()
    {
        let lower = word.to_ascii_lowercase();
        let names = NICKNAMES.iter().map(|(name, _)| *name);
        return match NICKNAMES.iter().find(|(name, _)| *name == lower) {
            Some((_, long)) => Ok((parse(long)?.0, zone)),
            None => Err(refuse(match nearest(&lower, names.chain(WEEKDAYS.iter().copied())) {
                Some(near) => format!("`{word}` is not known; did you mean {near}?"),
                None => format!(
                    "`{word}` is not known; write daily, weekly, `Mon..Fri 09:00` or `*-*-01 00:00:00`"
                ),
            })),
        };
    }
    let mut fields = Fields {
        second: vec![Part::one(0)],
        minute: vec![Part::one(0)],
        hour: vec![Part::one(0)],
        day: vec![DayPart::Days(Part::star(1, 31))],
        month: vec![Part::star(1, 12)],
        weekday: vec![WeekdayPart::Days { set: 0x7f, star: true }],
        year: vec![Part::star(1970, 9999)],
        either: false,
        written: 0,
    };
    let mut rest = words.as_slice();
    if rest.is_empty() {
        return Err(refuse("it is empty; write daily, weekly, `Mon..Fri 09:00` or `*-*-01 00:00:00`".into()));
    }
    if let [first, tail @ ..] = rest
        && first.starts_with(|c: char| c.is_ascii_alphabetic())
    {
        fields.weekday = vec![WeekdayPart::Days { set: weekdays(first).map_err(refuse)?, star: false }];
        rest = tail;
    }
    if let [first, tail @ ..] = rest
        && !first.contains(':')
    {
        date(first, &mut fields).map_err(refuse)?;
        rest = tail;
    }
    if let [first, tail @ ..] = rest {
        time(first, &mut fields).map_err(refuse)?;
        rest = tail;
    }
    match rest {
        [] => Ok((fields, zone)),
        [extra, ..] => {
            Err(refuse(format!("`{extra}` was not expected; the order is weekday, date, time, zone")))
        }
    }
}

fn is_zone(word: &str) -> bool {
    word.contains('/') && word.starts_with(|c: char| c.is_ascii_alphabetic())
        || word.eq_ignore_ascii_case("utc")
}

fn weekday(word: &str) -> Option<u8> {
    let lower = word.to_ascii_lowercase();
    WEEKDAYS.iter().position(|name| *name == lower || name[..3] == lower).map(|index| index as u8)
}

fn weekdays(text: &str) -> Result<u8, String> {
    let read = |word: &str| {
        weekday(word).ok_or_else(|| match nearest(word, WEEKDAYS.iter().copied()) {
            Some(near) => format!("`{word}` is not a weekday; did you mean {near}?"),
            None => format!("`{word}` is not a weekday; write Mon to Sun"),
        })
    };
    let mut set = 0;
    for part in text.trim_end_matches(',').split(',') {
        let (from, to) = part.split_once("..").or_else(|| part.split_once('-')).unwrap_or((part, part));
        let (from, to) = (read(from)?, read(to)?);
        // The week begins on Monday; `Sat..Tue` goes over its end.
        let mut day = from;
        set |= 1 << day;
        while day != to {
            day = (day + 1) % 7;
            set |= 1 << day;
        }
    }
    Ok(set)
}

fn date(text: &str, fields: &mut Fields) -> Result<(), String> {
    let (front, last_days) = match text.split_once('~') {
        Some((front, days)) => (front, Some(days)),
        None => (text, None),
    };
    let pieces: Vec<&str> = front.split('-').collect();
    let (year, month, day) = match (pieces.as_slice(), last_days.as_ref()) {
        ([year, month, day], None) | ([year, month], Some(day)) => (Some(*year), *month, *day),
        ([month, day], None) | ([month], Some(day)) => (None, *month, *day),
        _ => {
            return Err(format!("`{text}` is not a date; write `2026-12-25`, `12-25`, `*-*-01` or `*-*~01`"));
        }
    };
    if let Some(year) = year {
        fields.year = parts(year, "year", 1970, 9999)?;
    }
    fields.month = parts(month, "month", 1, 12)?;
    let days = parts(day, "day", 1, 31)?;
    fields.day = if last_days.is_some() {
        // `~1` is the last day of the month.
        days.iter().flat_map(Part::values).map(|day| DayPart::Last { before: day as u8 - 1 }).collect()
    } else {
        days.into_iter().map(DayPart::Days).collect()
    };
    Ok(())
}

fn time(text: &str, fields: &mut Fields) -> Result<(), String> {
    let pieces: Vec<&str> = text.split(':').collect();
    let (hour, minute, second) = match pieces.as_slice() {
        [hour, minute] => (*hour, *minute, "0"),
        [hour, minute, second] => (*hour, *minute, *second),
        _ => return Err(format!("`{text}` is not a time; write `09:00`, `*:0/15` or `09:00:30`")),
    };
    if second.contains('.') && !second.contains("..") {
        return Err(format!("`{second}` has parts of a second; write whole seconds, or use `every: 500ms`"));
    }
    fields.hour = parts(hour, "hour", 0, 23)?;
    fields.minute = parts(minute, "minute", 0, 59)?;
    fields.second = parts(second, "second", 0, 59)?;
    Ok(())
}

fn parts(text: &str, noun: &str, min: u16, max: u16) -> Result<Vec<Part>, String> {
    text.split(',').map(|text| part(text, noun, min, max)).collect()
}

fn part(text: &str, noun: &str, min: u16, max: u16) -> Result<Part, String> {
    let (body, step) = text.split_once('/').map_or((text, None), |(body, step)| (body, Some(step)));
    let value = |text: &str| match text.parse::<u16>() {
        // systemd reads two digits as 1970 to 2069.
        Ok(year) if noun == "year" && text.len() == 2 => Ok(year + if year < 70 { 2000 } else { 1900 }),
        Ok(value) if (min..=max).contains(&value) => Ok(value),
        _ => Err(format!("`{text}` is not a {noun}: {min} to {max}")),
    };
    let mut part = if body == "*" {
        Part::star(min, max)
    } else if let Some((from, to)) = body.split_once("..") {
        let (from, to) = (value(from)?, value(to)?);
        if from > to {
            return Err(format!("`{body}` runs backwards; write `{from}..{max},{min}..{to}`"));
        }
        Part::range(from, to)
    } else if step.is_some() {
        Part { open: true, ..Part::range(value(body)?, max) }
    } else {
        Part::one(value(body)?)
    };
    if let Some(step) = step {
        part.step = match step.parse() {
            Ok(step) if (1..=part.to - part.from).contains(&step) => step,
            _ => return Err(format!("`{text}`: a step is 1 to {} here", part.to - part.from)),
        };
    }
    Ok(part)
}

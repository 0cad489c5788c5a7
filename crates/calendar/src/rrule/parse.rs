//! From iCalendar text to rules.

use super::{Freq, Rule, Rules, When};
use crate::{
    CalendarError,
    error::nearest,
    local::{DAY, Date, month_length},
};

const FREQS: &[(&str, Freq)] = &[
    ("YEARLY", Freq::Yearly),
    ("MONTHLY", Freq::Monthly),
    ("WEEKLY", Freq::Weekly),
    ("DAILY", Freq::Daily),
    ("HOURLY", Freq::Hourly),
    ("MINUTELY", Freq::Minutely),
    ("SECONDLY", Freq::Secondly),
];

const PARTS: &[&str] = &[
    "FREQ",
    "INTERVAL",
    "COUNT",
    "UNTIL",
    "BYSECOND",
    "BYMINUTE",
    "BYHOUR",
    "BYDAY",
    "BYMONTHDAY",
    "BYYEARDAY",
    "BYWEEKNO",
    "BYMONTH",
    "BYSETPOS",
    "WKST",
];

/// The occurrences of a COUNT are counted one by one from the start, so there is an end to it; UNTIL has none.
const LARGEST_COUNT: i64 = 100_000;

const WEEKDAYS: &[&str] = &["SU", "MO", "TU", "WE", "TH", "FR", "SA"];

fn refuse(part: &str, problem: impl Into<String>) -> CalendarError {
    CalendarError::Rrule { part: part.to_owned(), problem: problem.into() }
}

/// Reads a recurrence set.
pub(super) fn rules(text: &str) -> Result<Rules, CalendarError> {
    let mut rules = Rules::default();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (head, body) = match line.split_once(':') {
            Some(parts) => parts,
            None if line.to_ascii_uppercase().contains("FREQ=") => ("RRULE", line),
            None => {
                return Err(refuse(
                    line,
                    "is no line of a recurrence; write `RRULE:FREQ=...` or `DTSTART:...`",
                ));
            }
        };
        let mut pieces = head.split(';');
        let name = pieces.next().unwrap_or_default().to_ascii_uppercase();
        let mut zone = None;
        for parameter in pieces {
            match parameter.split_once('=') {
                Some((key, value)) if key.eq_ignore_ascii_case("TZID") => zone = Some(value.to_owned()),
                Some((key, value))
                    if key.eq_ignore_ascii_case("VALUE") && !value.eq_ignore_ascii_case("PERIOD") => {}
                _ => return Err(refuse(parameter, "is not known here; write TZID=... or VALUE=DATE")),
            }
        }
        let times = |body: &str| {
            body.split(',').map(|text| when(text.trim(), zone.as_deref())).collect::<Result<Vec<_>, _>>()
        };
        match name.as_str() {
            "DTSTART" if rules.start.is_some() => return Err(refuse(line, "is a second DTSTART; write one")),
            "DTSTART" => rules.start = Some(when(body.trim(), zone.as_deref())?),
            "RRULE" => rules.rules.push(rule(body)?),
            "RDATE" => rules.extra.extend(times(body)?),
            "EXDATE" => rules.except.extend(times(body)?),
            "EXRULE" => {
                return Err(refuse(
                    "EXRULE",
                    "was taken out of the standard; write EXDATE, or `except` with a calendar",
                ));
            }
            other => {
                let known = ["DTSTART", "RRULE", "RDATE", "EXDATE"];
                let hint = nearest(other, known.into_iter()).unwrap_or("RRULE");
                return Err(refuse(other, format!("is not known; did you mean {hint}?")));
            }
        }
    }
    if rules.rules.is_empty() && rules.extra.is_empty() {
        return Err(refuse(text.trim(), "has no rule; write one such as `FREQ=MONTHLY;BYDAY=-1FR`"));
    }
    rules.ends = rules.rules.iter().map(|_| std::sync::Mutex::default()).collect();
    rules.extra.sort_unstable_by_key(|when| when.local);
    rules.except.sort_unstable_by_key(|when| when.local);
    Ok(rules)
}

/// `20260102`, `20260102T030405`, `20260102T030405Z`.
fn when(text: &str, zone: Option<&str>) -> Result<When, CalendarError> {
    let problem = "is not a date; write `20261231`, `20261231T090000` or `20261231T090000Z`";
    let (body, zulu) = text.strip_suffix(['Z', 'z']).map_or((text, false), |body| (body, true));
    let (date, time) = body.split_once(['T', 't']).unwrap_or((body, "000000"));
    if date.len() != 8 || time.len() != 6 || !date.bytes().chain(time.bytes()).all(|b| b.is_ascii_digit()) {
        return Err(refuse(text, problem));
    }
    let number = |digits: &str| digits.parse::<i64>().map_err(|_| refuse(text, problem));
    let (year, month, day) = (number(&date[..4])?, number(&date[4..6])? as u8, number(&date[6..])? as u8);
    let (hour, minute, second) = (number(&time[..2])?, number(&time[2..4])?, number(&time[4..])?);
    if !(1..=12).contains(&month) || !(1..=month_length(year, month)).contains(&day) {
        return Err(refuse(text, "there is no such day"));
    }
    if hour > 23 || minute > 59 || second > 59 {
        return Err(refuse(text, "there is no such time of day"));
    }
    let local = Date { year, month, day }.days() * DAY + hour * 3_600 + minute * 60 + second;
    Ok(When { local, zone: if zulu { Some("UTC".into()) } else { zone.map(str::to_owned) } })
}

fn rule(body: &str) -> Result<Rule, CalendarError> {
    let mut rule = Rule {
        freq: Freq::Yearly,
        interval: 1,
        count: None,
        until: None,
        seconds: vec![],
        minutes: vec![],
        hours: vec![],
        days: vec![],
        month_days: vec![],
        year_days: vec![],
        weeks: vec![],
        months: vec![],
        positions: vec![],
        week_start: 1,
    };
    let mut seen: Vec<String> = Vec::new();
    for part in body.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        let (key, value) =
            part.split_once('=').ok_or_else(|| refuse(part, "has no `=`; write `NAME=value`"))?;
        let (key, value) = (key.trim().to_ascii_uppercase(), value.trim().to_ascii_uppercase());
        if seen.contains(&key) {
            return Err(refuse(part, format!("{key} comes twice; write it once")));
        }
        match key.as_str() {
            "FREQ" => {
                let found = FREQS.iter().find(|(name, _)| *name == value);
                rule.freq = found.map(|(_, freq)| *freq).ok_or_else(|| {
                    let hint = nearest(&value, FREQS.iter().map(|(name, _)| *name)).unwrap_or("DAILY");
                    refuse(part, format!("`{value}` is not a frequency; did you mean {hint}?"))
                })?;
            }
            "INTERVAL" => rule.interval = number(part, &value, 1, 1_000_000)?,
            "COUNT" => rule.count = Some(number(part, &value, 1, LARGEST_COUNT)? as u64),
            "UNTIL" => {
                let mut until = when(&value, None)?;
                // A bare date means the whole of that day.
                until.local += if value.contains('T') { 0 } else { DAY - 1 };
                rule.until = Some(until);
            }
            "BYSECOND" => rule.seconds = list(part, &value, 0, 59, false)?,
            "BYMINUTE" => rule.minutes = list(part, &value, 0, 59, false)?,
            "BYHOUR" => rule.hours = list(part, &value, 0, 23, false)?,
            "BYDAY" => {
                rule.days = value.split(',').map(|day| weekday(part, day)).collect::<Result<_, _>>()?
            }
            "BYMONTHDAY" => rule.month_days = list(part, &value, 1, 31, true)?,
            "BYYEARDAY" => rule.year_days = list(part, &value, 1, 366, true)?,
            "BYWEEKNO" => rule.weeks = list(part, &value, 1, 53, true)?,
            "BYMONTH" => rule.months = list(part, &value, 1, 12, false)?,
            "BYSETPOS" => rule.positions = list(part, &value, 1, 366, true)?,
            "WKST" => rule.week_start = weekday(part, &value)?.1,
            other => {
                let hint = nearest(other, PARTS.iter().copied());
                let hint = hint.map_or_else(
                    || format!("known are {}", PARTS.join(", ")),
                    |near| format!("did you mean {near}?"),
                );
                return Err(refuse(part, format!("`{other}` is not a part of a rule; {hint}")));
            }
        }
        seen.push(key);
    }
    check(&rule, &seen, body)?;
    Ok(rule)
}

fn check(rule: &Rule, seen: &[String], body: &str) -> Result<(), CalendarError> {
    let has = |key: &str| seen.iter().any(|k| k == key);
    if !has("FREQ") {
        return Err(refuse(body, "has no FREQ; write `FREQ=DAILY` or another frequency first"));
    }
    if rule.count.is_some() && rule.until.is_some() {
        return Err(refuse(body, "has both COUNT and UNTIL; write one of them"));
    }
    if has("BYSETPOS") && seen.iter().filter(|key| key.starts_with("BY")).count() == 1 {
        return Err(refuse(body, "has BYSETPOS alone; it picks from what another BY... part gives"));
    }
    if has("BYWEEKNO") && rule.freq != Freq::Yearly {
        return Err(refuse(body, "BYWEEKNO goes with FREQ=YEARLY only"));
    }
    if rule.days.iter().any(|(nth, _)| *nth != 0) && rule.freq > Freq::Monthly {
        return Err(refuse(body, "numbered weekdays (as in `2FR`) go with FREQ=MONTHLY or YEARLY only"));
    }
    Ok(())
}

fn number(part: &str, text: &str, min: i64, max: i64) -> Result<i64, CalendarError> {
    match text.parse() {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        _ => Err(refuse(part, format!("`{text}` is not a number of {min} to {max}"))),
    }
}

fn list<T: TryFrom<i64> + Ord>(
    part: &str,
    text: &str,
    min: i64,
    max: i64,
    signed: bool,
) -> Result<Vec<T>, CalendarError> {
    let mut values = Vec::new();
    for text in text.split(',') {
        let value: Option<i64> = text.trim().parse().ok();
        let value = value.filter(|v| (min..=max).contains(v) || signed && (-max..=-min).contains(v));
        match value.and_then(|value| T::try_from(value).ok()) {
            Some(value) => values.push(value),
            None => {
                let or = if signed { format!(", or -{max} to -{min} from the end") } else { String::new() };
                return Err(refuse(part, format!("`{text}` is not a number of {min} to {max}{or}")));
            }
        }
    }
    values.sort_unstable();
    values.dedup();
    Ok(values)
}

fn weekday(part: &str, text: &str) -> Result<(i8, u8), CalendarError> {
    let text = text.trim();
    let split = text.len().saturating_sub(2);
    let (nth, name) = (text.get(..split).unwrap_or_default(), text.get(split..).unwrap_or_default());
    let index = WEEKDAYS.iter().position(|day| *day == name);
    let nth = if nth.is_empty() {
        Some(0)
    } else {
        nth.parse().ok().filter(|n: &i8| *n != 0 && (-53..=53).contains(n))
    };
    match (nth, index) {
        (Some(nth), Some(index)) => Ok((nth, index as u8)),
        _ => Err(refuse(
            part,
            format!("`{text}` is not a weekday; write MO to SU, or numbered as in `2FR` or `-1MO`"),
        )),
    }
}

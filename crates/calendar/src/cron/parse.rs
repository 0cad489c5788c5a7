//! From text to fields, in either dialect.

use std::ops::Range;

use ostler_model::trigger::Dialect;

use super::{DayPart, Fields, Part, WeekdayPart};
use crate::error::{CronError, nearest};

/// One field of the grammar.
struct Kind {
    noun: &'static str,
    /// APScheduler's name.
    field: &'static str,
    min: u16,
    max: u16,
    names: &'static [&'static str],
}

const SECOND: Kind = Kind { noun: "a second", field: "second", min: 0, max: 59, names: &[] };
const MINUTE: Kind = Kind { noun: "a minute", field: "minute", min: 0, max: 59, names: &[] };
const HOUR: Kind = Kind { noun: "an hour", field: "hour", min: 0, max: 23, names: &[] };
const DAY: Kind = Kind { noun: "a day of the month", field: "day", min: 1, max: 31, names: &[] };
const MONTH: Kind = Kind { noun: "a month", field: "month", min: 1, max: 12, names: MONTHS };
const WEEKDAY: Kind = Kind { noun: "a weekday", field: "day_of_week", min: 0, max: 7, names: SUNDAY_FIRST };
const MONDAY_WEEKDAY: Kind = Kind { max: 6, names: MONDAY_FIRST, ..WEEKDAY };
const YEAR: Kind = Kind { noun: "a year", field: "year", min: 1970, max: 9999, names: &[] };

const MONTHS: &[&str] = &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const SUNDAY_FIRST: &[&str] = &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
const MONDAY_FIRST: &[&str] = &["MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN"];
const LONG_NAMES: &[&str] = &[
    "JANUARY",
    "FEBRUARY",
    "MARCH",
    "APRIL",
    "JUNE",
    "JULY",
    "AUGUST",
    "SEPTEMBER",
    "OCTOBER",
    "NOVEMBER",
    "DECEMBER",
    "SUNDAY",
    "MONDAY",
    "TUESDAY",
    "WEDNESDAY",
    "THURSDAY",
    "FRIDAY",
    "SATURDAY",
];

/// A piece of the expression and where it stands.
#[derive(Clone, Copy)]
struct Text<'a> {
    text: &'a str,
    start: usize,
}

impl<'a> Text<'a> {
    fn at(self) -> Range<usize> {
        self.start..self.start + self.text.len()
    }

    /// The pieces between separators.
    fn split(self, separator: impl Fn(char) -> bool) -> impl Iterator<Item = Text<'a>> {
        let mut start = 0;
        self.text.split(separator).map(move |text| {
            let piece = Text { text, start: self.start + start };
            start += text.len() + 1;
            piece
        })
    }

    fn split_once(self, separator: char) -> Option<(Text<'a>, Text<'a>)> {
        let (left, right) = self.text.split_once(separator)?;
        Some((
            Text { text: left, start: self.start },
            Text { text: right, start: self.start + left.len() + 1 },
        ))
    }
}

/// Reads the fields of an expression.
pub(super) fn fields(expression: &str, dialect: Dialect) -> Result<Fields, CronError> {
    let whole = Text { text: expression, start: 0 };
    // Only one-byte white space keeps `split`'s positions right; other white space ends up in a field and is refused.
    let words: Vec<Text<'_>> =
        whole.split(|c| c.is_ascii_whitespace()).filter(|t| !t.text.is_empty()).collect();
    let (second, rest, year) = match words.as_slice() {
        rest @ [_, _, _, _, _] => (None, rest, None),
        [second, rest @ ..] if rest.len() == 5 => (Some(*second), rest, None),
        [second, rest @ .., year] if rest.len() == 5 => (Some(*second), rest, Some(*year)),
        words => {
            let found = match words.len() {
                0 => "no fields".to_owned(),
                1 => "1 field".to_owned(),
                n => format!("{n} fields"),
            };
            return Err(CronError::FieldCount { found, at: 0..expression.len() });
        }
    };
    let vixie = dialect == Dialect::Vixie;
    let weekday = if vixie { &WEEKDAY } else { &MONDAY_WEEKDAY };
    let read = Reader { vixie };
    Ok(Fields {
        second: second.map_or_else(|| Ok(vec![Part::one(0)]), |text| read.parts(text, &SECOND))?,
        minute: read.parts(rest[0], &MINUTE)?,
        hour: read.parts(rest[1], &HOUR)?,
        day: list(rest[2], &DAY)?.map(|text| read.day(text)).collect::<Result<_, _>>()?,
        month: read.parts(rest[3], &MONTH)?,
        weekday: list(rest[4], weekday)?.map(|text| read.weekday(text, weekday)).collect::<Result<_, _>>()?,
        year: year
            .map_or_else(|| Ok(vec![Part::star(YEAR.min, YEAR.max)]), |text| read.parts(text, &YEAR))?,
        either: vixie,
        written: words.len(),
    })
}

/// The comma-separated parts of a field.
fn list<'a>(text: Text<'a>, kind: &Kind) -> Result<impl Iterator<Item = Text<'a>>, CronError> {
    match text.split(|c| c == ',').find(|part| part.text.is_empty()) {
        None => Ok(text.split(|c| c == ',')),
        Some(_) => Err(CronError::Unreadable {
            value: text.text.to_owned(),
            noun: kind.noun,
            problem: "there is nothing beside a comma; leave the comma out or write a value there".into(),
            at: text.at(),
        }),
    }
}

struct Reader {
    vixie: bool,
}

impl Reader {
    fn parts(&self, text: Text<'_>, kind: &Kind) -> Result<Vec<Part>, CronError> {
        list(text, kind)?.map(|part| self.part(part, kind)).collect()
    }

    /// `*`, `a`, `a-b`, each with `/n`.
    fn part(&self, text: Text<'_>, kind: &Kind) -> Result<Part, CronError> {
        let (body, step) = match text.split_once('/') {
            Some((body, step)) => (body, Some(step)),
            None => (text, None),
        };
        if body.text.is_empty() {
            return Err(CronError::Step {
                value: text.text.to_owned(),
                problem: format!("a step needs a start; write `*{}`", text.text),
                at: text.at(),
            });
        }
        let mut part = if body.text == "*" {
            Part::star(kind.min, kind.max)
        } else if body.text == "?" {
            return Err(self.unknown(text, kind, "`?` stands for a day or weekday only; write `*`"));
        } else if let Some((from, to)) = body.split_once('-') {
            let (from, mut to) = (self.value(from, kind)?, self.value(to, kind)?);
            // `FRI-SUN` and `6-0`: Sunday ends the week as well as it begins it.
            if self.vixie && kind.max == 7 && to == 0 && from > 0 {
                to = 7;
            }
            if from > to {
                return Err(backwards(body, from, to, kind));
            }
            Part::range(from, to)
        } else {
            let value = self.value(body, kind)?;
            match step {
                Some(_) => Part { open: true, ..Part::range(value, kind.max) },
                None => Part::one(value),
            }
        };
        if !self.vixie && step.is_some() && body.text.chars().any(char::is_alphabetic) {
            return Err(self.unknown(text, kind, "in this dialect names take no step; write numbers"));
        }
        if let Some(step) = step {
            part.step = self.step(text, step, &part, kind)?;
        }
        // The 7 of crontab(5) is not an eighth day to step on.
        if kind.max == 7 && (part.star || part.open) {
            part.to = 6.max(part.from);
        }
        Ok(part)
    }

    fn step(&self, whole: Text<'_>, step: Text<'_>, part: &Part, kind: &Kind) -> Result<u16, CronError> {
        let refuse =
            |problem: String| CronError::Step { value: whole.text.to_owned(), problem, at: whole.at() };
        let number: u32 = match step.text.parse() {
            Ok(number) if step.text.bytes().all(|b| b.is_ascii_digit()) => number,
            _ => {
                return Err(refuse(format!("`{}` is not a step; write a whole number after `/`", step.text)));
            }
        };
        if number == 0 {
            return Err(refuse("a step of 0 never goes on; write 1 or more".into()));
        }
        let span = part.to.min(if kind.max == 7 && part.star { 6 } else { part.to }) - part.from;
        if number > u32::from(span) {
            let unit = match kind.field {
                "second" => Some('s'),
                "minute" => Some('m'),
                "hour" => Some('h'),
                _ => None,
            };
            let instead = match unit {
                Some(unit) if part.star => {
                    format!("; to fire every {number}{unit} use `every: {number}{unit}`")
                }
                _ => String::new(),
            };
            return Err(refuse(format!(
                "a step of {number} is higher than the range ({span}), so only {} would match; write `{}`{instead}",
                part.from, part.from
            )));
        }
        Ok(number as u16)
    }

    /// A number or a name.
    fn value(&self, text: Text<'_>, kind: &Kind) -> Result<u16, CronError> {
        let word = text.text;
        if !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit()) {
            return match word.parse::<u16>() {
                Ok(value) if (kind.min..=kind.max).contains(&value) => Ok(value),
                _ => Err(self.out_of_range(text, kind)),
            };
        }
        let upper = word.to_ascii_uppercase();
        // Full names are as good as short ones: nobody means something else by them.
        let short = if self.vixie && LONG_NAMES.contains(&upper.as_str()) { &upper[..3] } else { &upper };
        if let Some(index) = kind.names.iter().position(|name| *name == short) {
            return Ok(index as u16 + kind.min);
        }
        if let Some(digits) = word.strip_prefix('-').filter(|rest| rest.parse::<u32>().is_ok()) {
            let _ = digits;
            return Err(self.out_of_range(text, kind));
        }
        Err(self.unknown(text, kind, ""))
    }

    fn out_of_range(&self, text: Text<'_>, kind: &Kind) -> CronError {
        let hint = match (kind.field, text.text) {
            ("day_of_week", "7") => "; Sunday is 6 in this dialect, or SUN".to_owned(),
            ("hour", "24") => "; midnight is 0".to_owned(),
            ("minute" | "second", "60") => "; the full hour or minute is 0".to_owned(),
            _ => String::new(),
        };
        let range = match kind.field {
            "day_of_week" if self.vixie => "0 to 7 (0 and 7 are Sunday), or SUN to SAT".into(),
            "day_of_week" => "0 to 6 (0 is Monday), or MON to SUN".into(),
            "month" => "1 to 12, or JAN to DEC".into(),
            _ => format!("{} to {}", kind.min, kind.max),
        };
        CronError::OutOfRange { value: text.text.to_owned(), noun: kind.noun, range, hint, at: text.at() }
    }

    /// A text that is no value of the field.
    fn unknown(&self, text: Text<'_>, kind: &Kind, problem: &str) -> CronError {
        let (value, at) = (text.text.to_owned(), text.at());
        let names = kind.names.iter().copied();
        let near = (text.text.len() > 1).then(|| nearest(text.text, names)).flatten();
        let hint = if !problem.is_empty() {
            problem.to_owned()
        } else if let Some(near) = near {
            format!("did you mean {near}?")
        } else if text.text.contains('H') && kind.field != "day_of_week" && kind.field != "month" {
            "Jenkins' `H` is not known here; write a number and give the schedule a `jitter`".into()
        } else if kind.field == "day_of_week" && text.text.eq_ignore_ascii_case("L") {
            "write the weekday before it, as in `5L` for the last Friday of the month".into()
        } else if let (Some(first), Some(last)) = (kind.names.first(), kind.names.last()) {
            format!("write {} to {}, or {first} to {last}", kind.min, kind.max)
        } else {
            format!(
                "write {} to {}, a range such as `{}-{}`, or `*`",
                kind.min,
                kind.max,
                kind.min + 1,
                kind.min + 4
            )
        };
        if !self.vixie {
            return CronError::NotInDialect { value, field: kind.field, hint, at };
        }
        CronError::UnknownName { value, noun: kind.noun, hint, at }
    }

    fn day(&self, text: Text<'_>) -> Result<DayPart, CronError> {
        let upper = text.text.to_ascii_uppercase();
        if !self.vixie {
            return match upper.as_str() {
                "LAST" => Ok(DayPart::Last { before: 0 }),
                "L" => Err(self.unknown(text, &DAY, "write `last` for the last day of the month")),
                "?" => Err(self.unknown(text, &DAY, "write `*`")),
                _ => self.part(text, &DAY).map(DayPart::Days),
            };
        }
        match upper.as_str() {
            "?" => Ok(DayPart::Days(Part::star(DAY.min, DAY.max))),
            "L" => Ok(DayPart::Last { before: 0 }),
            "LW" | "WL" => Ok(DayPart::LastWorkday),
            "LAST" => Err(self.unknown(text, &DAY, "write `L` for the last day of the month")),
            _ => {
                if let Some(before) = upper.strip_prefix("L-") {
                    let before = Text { text: before, start: text.start + 2 };
                    return match before.text.parse() {
                        Ok(days @ 0..=30u8) => Ok(DayPart::Last { before: days }),
                        _ => Err(CronError::Unreadable {
                            value: text.text.to_owned(),
                            noun: DAY.noun,
                            problem: "write `L-` and 0 to 30 days before the last of the month, as in `L-3`"
                                .into(),
                            at: text.at(),
                        }),
                    };
                }
                if let Some(day) = upper.strip_suffix('W') {
                    return match day.parse() {
                        Ok(day @ 1..=31u8) => Ok(DayPart::NearestWorkday(day)),
                        _ => Err(CronError::Unreadable {
                            value: text.text.to_owned(),
                            noun: DAY.noun,
                            problem: "write one day of 1 to 31 before `W`, as in `15W`, or `LW`".into(),
                            at: text.at(),
                        }),
                    };
                }
                self.part(text, &DAY).map(DayPart::Days)
            }
        }
    }

    fn weekday(&self, text: Text<'_>, kind: &Kind) -> Result<WeekdayPart, CronError> {
        if self.vixie {
            if text.text == "?" {
                return Ok(WeekdayPart::Days { set: 0x7f, star: true });
            }
            if let Some((days, nth)) = text.split_once('#') {
                let set = self.weekdays(days, kind)?.0;
                return match nth.text {
                    "L" | "l" => Ok(WeekdayPart::Last { set }),
                    text if matches!(text.as_bytes(), [b'1'..=b'5']) => {
                        Ok(WeekdayPart::Nth { set, nth: text.as_bytes()[0] - b'0' })
                    }
                    _ => Err(CronError::Unreadable {
                        value: text.text.to_owned(),
                        noun: kind.noun,
                        problem: "write 1 to 5, or L for the last, after `#`, as in `FRI#2`".into(),
                        at: text.at(),
                    }),
                };
            }
            let ends = text.text.len().checked_sub(1).filter(|_| text.text.ends_with(['L', 'l']));
            if let Some(end) = ends.filter(|end| *end > 0) {
                let days = Text { text: &text.text[..end], ..text };
                return Ok(WeekdayPart::Last { set: self.weekdays(days, kind)?.0 });
            }
        }
        let (set, star) = self.weekdays(text, kind)?;
        Ok(WeekdayPart::Days { set, star })
    }

    /// A set whose bit 0 is Sunday, and whether it was written with a star.
    fn weekdays(&self, text: Text<'_>, kind: &Kind) -> Result<(u8, bool), CronError> {
        let part = self.part(text, kind)?;
        let shift = if self.vixie { 0 } else { 1 };
        Ok((part.values().fold(0, |set, day| set | 1 << ((day + shift) % 7)), part.star))
    }
}

fn backwards(text: Text<'_>, from: u16, to: u16, kind: &Kind) -> CronError {
    let name = |value: u16| match kind.names.get(usize::from(value - kind.min)) {
        Some(name) if text.text.contains(char::is_alphabetic) => (*name).to_owned(),
        _ => value.to_string(),
    };
    let last = if kind.names == SUNDAY_FIRST { 6 } else { kind.max };
    let range = |a: u16, b: u16| if a == b { name(a) } else { format!("{}-{}", name(a), name(b)) };
    let instead = format!("{},{}", range(from, last), range(kind.min, to));
    CronError::Backwards { value: text.text.to_owned(), instead, at: text.at() }
}

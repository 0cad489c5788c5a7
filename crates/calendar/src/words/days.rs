//! Days, months and years in words.

use super::{join, ordinal, times::is_all, values};
use crate::cron::{DayPart, Fields, Part, WeekdayPart};

pub(super) const WEEKDAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

const NTH: [&str; 5] = ["first", "second", "third", "fourth", "fifth"];

/// The time with the days on which it comes.
pub(super) fn with_days(time: &str, fields: &Fields, at_times: bool) -> String {
    let every_day = is_every_day(fields);
    let every_weekday = fields.plain_weekdays() == Some(0x7f);
    let months = months(&fields.month);
    let of = if months.is_empty() { " of the month".to_owned() } else { format!(" of {months}") };
    let either = fields.either && !fields.day_starred() && !fields.weekday_starred();
    let mut text = time.to_owned();
    match (every_day, every_weekday) {
        _ if either && (every_day || every_weekday) => text += &everyday(at_times, &months),
        (true, true) => text += &everyday(at_times, &months),
        (false, true) => text += &format!(" on {}{of}", days(&fields.day)),
        (true, false) => {
            let names = weekdays(&fields.weekday);
            if names.starts_with("the ") {
                text += &format!(" on {names}{of}");
            } else {
                text += &format!(", {names}");
                if !months.is_empty() {
                    text += &format!(" in {months}");
                }
            }
        }
        (false, false) => {
            let (day, names) = (days(&fields.day), weekdays(&fields.weekday));
            if either {
                // The months hold for both, so they are not said with the day alone.
                text += &format!(" on {day} of the month or on {names}");
                if !months.is_empty() {
                    text += &format!(", in {months}");
                }
            } else {
                let article = if names.starts_with("the ") { "" } else { "a " };
                text += &format!(" on {day}{of} when that is {article}{}", names.replace(" and ", " or "));
            }
        }
    }
    if !is_all(&fields.year) {
        text += &format!(" in {}", values(&fields.year, |year| year.to_string()));
    }
    text
}

/// The months of a field; empty for all.
pub(super) fn months(parts: &[Part]) -> String {
    if is_all(parts) || parts.iter().any(|part| part.from == 1 && part.to == 12 && part.step == 1) {
        return String::new();
    }
    values(parts, month_name)
}

pub(super) fn month_name(month: u16) -> String {
    MONTHS
        .get(usize::from(month).wrapping_sub(1))
        .map_or_else(|| month.to_string(), |name| (*name).to_owned())
}

fn everyday(at_times: bool, months: &str) -> String {
    match (at_times, months) {
        (true, "") => " every day".into(),
        (true, months) => format!(" every day in {months}"),
        (false, "") => String::new(),
        (false, months) => format!(" in {months}"),
    }
}

fn is_every_day(fields: &Fields) -> bool {
    fields
        .day
        .iter()
        .any(|part| matches!(part, DayPart::Days(part) if part.from == 1 && part.to == 31 && part.step == 1))
}

fn days(parts: &[DayPart]) -> String {
    let mut items = Vec::new();
    for part in parts {
        match part {
            DayPart::Days(part) => items.push(format!("the {}", values(std::slice::from_ref(part), ordinal))),
            DayPart::Last { before: 0 } => items.push("the last day".into()),
            DayPart::Last { before: 1 } => items.push("the day before the last day".into()),
            DayPart::Last { before } => {
                items.push(format!("the {} day before the last day", ordinal(u16::from(*before))))
            }
            DayPart::LastWorkday => items.push("the last weekday (Monday to Friday)".into()),
            DayPart::NearestWorkday(day) => {
                items.push(format!(
                    "the weekday (Monday to Friday) nearest to the {}",
                    ordinal(u16::from(*day))
                ));
            }
        }
    }
    join(items)
}

fn weekdays(parts: &[WeekdayPart]) -> String {
    let mut plain = 0;
    let mut items = Vec::new();
    for part in parts {
        match *part {
            WeekdayPart::Days { set, .. } => plain |= set,
            WeekdayPart::Nth { set, nth } => {
                items.push(format!("the {} {}", NTH[usize::from(nth) - 1], weekday_set(set)));
            }
            WeekdayPart::Last { set } => items.push(format!("the last {}", weekday_set(set))),
        }
    }
    if plain != 0 {
        items.push(if items.is_empty() {
            weekday_set(plain)
        } else {
            format!("every {}", weekday_set(plain))
        });
    }
    join(items)
}

/// The names of a set of weekdays, from Monday on: "Monday through Friday".
pub(super) fn weekday_set(set: u8) -> String {
    let in_order: Vec<u8> = [1, 2, 3, 4, 5, 6, 0].into_iter().filter(|day| set >> day & 1 == 1).collect();
    let mut items: Vec<String> = Vec::new();
    let mut rest = in_order.as_slice();
    while let Some(first) = rest.first() {
        let run = rest.iter().zip(0..).take_while(|(day, i)| (**day + 6) % 7 == (*first + 6) % 7 + i).count();
        let name = |index: usize| WEEKDAYS[usize::from(rest[index])].to_owned();
        if run > 2 {
            items.push(format!("{} through {}", name(0), name(run - 1)));
        } else {
            items.extend((0..run).map(name));
        }
        rest = &rest[run..];
    }
    join(items)
}

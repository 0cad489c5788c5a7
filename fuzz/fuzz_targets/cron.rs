//! Everything that says when something is due: cron in both dialects, recurrences, systemd expressions, given moments,
//! calendars. The moments found are in order, the same forwards and backwards.
//!
//! Byte 0 says the kind (`c` crontab, `s` supertask, `r` RRULE, `d` systemd, `a` given moments, `k` crontab with a
//! calendar), byte 1 the zone, byte 2 the rules where clocks jump and how the calendar counts, byte 3 how far the
//! anchor lies back, bytes 4 to 11 the moment in seconds; the rest is the text.
#![no_main]

use std::collections::BTreeMap;

use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use ostler_calendar::{Calendars, Trigger, check_cron, differs_between_dialects};
use ostler_model::{
    Name, TriggerSpec,
    trigger::{CalendarDef, Dialect, Dst, Fold, Gap, Rhythm},
};

/// Where clocks jump in every way that is known, and where they do not.
const ZONES: [&str; 8] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Africa/Casablanca",
    "America/Sao_Paulo",
    "Asia/Kathmandu",
];

/// How many moments are taken in each direction.
const STEPS: usize = 6;

fuzz_target!(|data: &[u8]| {
    let Some((head, text)) = data.split_first_chunk::<12>() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let mut calendars = Calendars::default();
    let mut own = Vec::new();
    let rhythm = match head[0] {
        b's' => Rhythm::Cron { expression: text.to_owned(), dialect: Dialect::Supertask },
        b'r' => Rhythm::Rrule(text.to_owned()),
        b'd' => Rhythm::Calendar(text.to_owned()),
        b'a' => Rhythm::At(text.lines().map(str::to_owned).collect()),
        b'k' => {
            let (expression, entries) = text.split_once('\n').unwrap_or((text, ""));
            let name: Name = "own".parse().expect("a name");
            let Ok(made) = Calendars::compile(&BTreeMap::from([(name.clone(), calendar(entries))])) else {
                return;
            };
            (calendars, own) = (made, vec![name]);
            Rhythm::Cron { expression: expression.to_owned(), dialect: Dialect::Vixie }
        }
        _ => Rhythm::Cron { expression: text.to_owned(), dialect: Dialect::Vixie },
    };
    if let Rhythm::Cron { expression, dialect } = &rhythm {
        if let Err(error) = check_cron(expression, *dialect) {
            assert!(!error.to_string().is_empty());
            assert!(expression.get(error.range()).is_some(), "{error:?} in {expression:?}");
        }
        let _ = differs_between_dialects(expression);
    }
    let zone = ZONES[usize::from(head[1]) % ZONES.len()];
    let flags = head[2];
    let dst = Dst {
        gap: if flags & 1 == 0 { Gap::Shift } else { Gap::Skip },
        fold: [Fold::First, Fold::Last, Fold::Both, Fold::First][usize::from(flags >> 1 & 3)],
    };
    let (only, except) = if flags & 8 == 0 { (own, vec![]) } else { (vec![], own) };
    let spec = TriggerSpec {
        rhythm,
        timezone: None,
        dst,
        jitter: None,
        offset: None,
        only,
        except,
        start: None,
        end: None,
        count: None,
    };
    let trigger = match Trigger::compile(&spec, zone, &calendars, 7) {
        Ok(trigger) => trigger,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    assert!(!trigger.describe().is_empty());
    let (first, last) = (Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
    let given = i64::from_le_bytes(head[4..12].try_into().expect("eight bytes"));
    let after = first + given.rem_euclid(last - first);
    // From the moment itself to years before.
    let anchor = (after - i64::from(head[3]) * 1_000_003).max(first);
    let moment = |second| Timestamp::from_second(second).expect("a moment within bounds");
    let (begin, anchor) = (moment(after), moment(anchor));

    let mut found: Vec<Timestamp> = Vec::new();
    let mut after = begin;
    while found.len() < STEPS
        && let Some(due) = trigger.next_after(after, anchor).expect("an answer")
    {
        assert!(due.nominal > after, "{} does not come after {after}", due.nominal);
        assert!(due.at >= due.nominal);
        after = due.nominal;
        found.push(after);
    }
    for pair in found.windows(2) {
        let back = trigger.previous_before(pair[1], anchor).expect("an answer").map(|due| due.nominal);
        assert_eq!(back, Some(pair[0]), "before {}", pair[1]);
    }
    let (mut before, mut is_due) = found.first().map_or((begin, false), |first| (*first, true));
    for _ in 0..STEPS {
        let Some(due) = trigger.previous_before(before, anchor).expect("an answer") else { break };
        assert!(due.nominal < before, "{} does not come before {before}", due.nominal);
        let on = trigger.next_after(due.nominal, anchor).expect("an answer").map(|due| due.nominal);
        if is_due {
            assert_eq!(on, Some(before), "after {}", due.nominal);
        } else {
            assert!(on.is_none_or(|on| on >= before), "{on:?} lies between {} and {before}", due.nominal);
        }
        (before, is_due) = (due.nominal, true);
    }
});

/// One entry a line: rules (with `|` for the end of a line), periods, days of the week, dates.
fn calendar(entries: &str) -> CalendarDef {
    let mut calendar = CalendarDef::default();
    for entry in entries.lines() {
        let list = if entry.contains('=') {
            calendar.rules.push(entry.replace('|', "\n"));
            continue;
        } else if entry.contains(':') || entry.contains('/') {
            &mut calendar.periods
        } else if entry.starts_with(|c: char| c.is_ascii_alphabetic()) {
            &mut calendar.weekdays
        } else {
            &mut calendar.dates
        };
        list.push(entry.to_owned());
    }
    calendar
}

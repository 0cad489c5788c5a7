//! What expressions say in words: `tests/golden/words.txt`, one `expression | words` a line.
//!
//! The expressions are read from the file itself, so a line is added by writing `expression |` and letting
//! `OSTLER_UPDATE_GOLDEN=1` fill in the words, which a person then reads. Prefixes name what is not crontab(5):
//! `supertask:`, `calendar:`, `rrule:`, `every:`, `spaced:`.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::fmt::Write;

use ostler_calendar::check_cron;
use ostler_model::{
    Span, TriggerSpec,
    trigger::{Dialect, Dst, Fold, Gap, Interval, Pace, Rhythm},
};
use support::*;

fn read(text: &str) -> TriggerSpec {
    let interval = |text: &str| match text.split_once(' ') {
        Some((n, "months")) => Interval::Months(n.parse().unwrap()),
        _ => Interval::Elapsed(text.parse::<Span>().unwrap()),
    };
    match text.split_once(": ") {
        Some(("supertask", rest)) => supertask(rest),
        Some(("calendar", rest)) => spec(Rhythm::Calendar(rest.into())),
        Some(("rrule", rest)) => spec(Rhythm::Rrule(rest.replace("\\n", "\n"))),
        Some(("every", rest)) => spec(Rhythm::Every { interval: interval(rest), pace: Pace::Precise }),
        Some(("spaced", rest)) => spec(Rhythm::Every { interval: interval(rest), pace: Pace::Spaced }),
        _ => cron(text),
    }
}

#[test]
fn the_golden_file_of_words() {
    let golden_text = include_str!("golden/words.txt");
    let mut table = String::new();
    for line in golden_text.lines() {
        let (expression, _) = line.split_once('|').unwrap();
        let trigger = compile(&read(expression.trim()), "Europe/Berlin").unwrap_or_else(|e| panic!("{e}"));
        writeln!(table, "{} | {}", expression.trim(), trigger.describe()).unwrap();
    }
    assert!(table.lines().count() >= 200, "only {} lines", table.lines().count());
    golden("words.txt", &table);
}

#[test]
fn what_bends_a_trigger_is_said() {
    let mut bent = cron("30 2 * * *");
    bent.dst = Dst { gap: Gap::Skip, fold: Fold::Both };
    bent.jitter = Some(Span::from_secs(10));
    bent.offset = Some(Span::from_secs(300));
    bent.start = Some(at("2026-01-01T00:00:00Z"));
    bent.end = Some(at("2027-01-01T00:00:00Z"));
    bent.count = Some(3);
    assert_eq!(
        compile(&bent, "Europe/Berlin").unwrap().describe(),
        "at 02:30 every day, Europe/Berlin, not where the clock skips the time, both times where the clock repeats it, \
         5 minutes later, spread over 10 seconds, from 2026-01-01T00:00:00Z, until 2027-01-01T00:00:00Z, 3 times at most"
    );
    let moments = spec(Rhythm::At(vec!["2026-03-01T09:00".into(), "2026-04-01T09:00".into()]));
    assert_eq!(
        compile(&moments, "Europe/Berlin").unwrap().describe(),
        "at 2026-03-01 09:00 and 2026-04-01 09:00, Europe/Berlin"
    );
    assert_eq!(compile(&spec(Rhythm::Once), "UTC").unwrap().describe(), "once");
}

#[test]
fn an_expression_that_is_checked_says_more_than_its_words() {
    let info = check_cron("*/5 9-17 * * MON-FRI", Dialect::Vixie).unwrap();
    assert_eq!((info.fields, info.interval_like, info.reboot, info.every), (5, true, false, None));
    let info = check_cron("@every 5m", Dialect::Vixie).unwrap();
    assert_eq!(info.every, Some(Span::from_secs(300)));
    assert!(check_cron("@reboot", Dialect::Vixie).unwrap().reboot);
    assert!(!check_cron("0,30 2 * * *", Dialect::Vixie).unwrap().interval_like);
    assert!(check_cron("0 0-23 * * *", Dialect::Vixie).unwrap().interval_like);
}

//! What a question costs. The bounds are for an unoptimised build on a busy machine; `--release --no-capture` shows
//! the figures that count.

#![allow(clippy::disallowed_methods, reason = "this is where time itself is measured")]
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::{collections::BTreeMap, time::Instant};

use ostler_calendar::{Calendars, Trigger};
use ostler_model::trigger::{CalendarDef, Rhythm};
use support::*;

#[test]
fn a_hundred_thousand_schedules_compute_their_next_moments_at_once() {
    let expressions = [
        ("0 3 * * *", "daily"),
        ("*/5 * * * *", "every five minutes"),
        ("*/5 9-17 * * MON-FRI", "office hours"),
        ("30 2 1 * *", "monthly"),
        ("0 0 L * *", "last of the month"),
        ("0 0 29 2 *", "leap days"),
        ("0 0 13 * FRI", "day or weekday"),
        ("* * * * * *", "every second"),
    ];
    let mut triggers: Vec<(&str, Trigger)> =
        expressions.map(|(text, name)| (name, compile(&cron(text), "Europe/Berlin").unwrap())).into();
    triggers.push(("interval", compile(&every("50ms"), "UTC").unwrap()));
    let rule = "DTSTART;TZID=America/New_York:19970902T090000\nRRULE:FREQ=MONTHLY;BYDAY=-1FR".to_owned();
    triggers.push(("recurrence", compile(&spec(Rhythm::Rrule(rule)), "UTC").unwrap()));
    let anchor = at("2026-01-01T00:00:00Z");
    let rounds = 10_000;
    let mut all = std::time::Duration::ZERO;
    for (name, trigger) in &triggers {
        let begin = Instant::now();
        let mut after = anchor;
        for _ in 0..rounds {
            after = trigger.next_after(after, anchor).unwrap().map_or(anchor, |due| due.nominal);
        }
        let took = begin.elapsed();
        all += took;
        eprintln!("{name:<20} {:>6} ns", took.as_nanos() / rounds);
    }
    let begin = Instant::now();
    for _ in 0..1_000 {
        compile(&cron("*/5 9-17 * * MON-FRI"), "Europe/Berlin").unwrap();
    }
    eprintln!("{:<20} {:>6} ns", "compile", begin.elapsed().as_nanos() / 1_000);
    assert!(all.as_secs() < 10, "100 000 questions took {all:?}");
}

/// What took fuzzing (a slow build, a dozen questions) from half a minute to minutes.
#[test]
fn no_schedule_takes_long_to_answer() {
    let all = |n: u32| (0..n).map(|i| i.to_string()).collect::<Vec<_>>().join(",");
    let every_second = format!(
        "FREQ=YEARLY;BYMONTHDAY={};BYHOUR={};BYMINUTE={};BYSECOND={}",
        all(32).split_off(2),
        all(24),
        all(60),
        all(60)
    );
    let days = "DTSTART:00010101\nRRULE:FREQ=YEARLY;BYDAY=SU,MO,TU,WE,TH,FR,SA".to_owned();
    let minutes = (0..1440)
        .map(|m| format!("{:02}:{:02}-{:02}:{:02}", m / 60, m % 60, (m + 1) / 60 % 24, (m + 1) % 60));
    let calendars = BTreeMap::from([
        (
            "rare".parse().unwrap(),
            CalendarDef {
                rules: vec!["DTSTART:20250101\nRRULE:FREQ=YEARLY;INTERVAL=900".into()],
                ..CalendarDef::default()
            },
        ),
        ("always".parse().unwrap(), CalendarDef { rules: vec![days], ..CalendarDef::default() }),
        ("minutes".parse().unwrap(), CalendarDef { periods: minutes.collect(), ..CalendarDef::default() }),
        ("over".parse().unwrap(), CalendarDef { dates: vec!["2020-01-01".into()], ..CalendarDef::default() }),
        (
            "weeks".parse().unwrap(),
            CalendarDef {
                rules: vec!["DTSTART:00010101\nRRULE:FREQ=YEARLY;BYDAY=MO,SU;BYWEEKNO=1,2,3".into()],
                periods: vec!["13:00-13:00".into()],
                ..CalendarDef::default()
            },
        ),
    ]);
    let calendars = Calendars::compile(&calendars).unwrap();
    let within = |only: &str, except: &str| {
        let mut spec = cron("* * * * * *");
        spec.only = only.split_whitespace().map(|name| name.parse().unwrap()).collect();
        spec.except = except.split_whitespace().map(|name| name.parse().unwrap()).collect();
        spec
    };
    for (name, spec, is_due) in [
        ("all seconds", spec(Rhythm::Rrule(every_second.clone())), true),
        ("the first of them", spec(Rhythm::Rrule(format!("{every_second};BYSETPOS=1,-1"))), true),
        ("a rare day", within("rare", ""), false),
        ("no day is left", within("", "always"), false),
        ("no minute is left", within("", "minutes"), false),
        ("no day beside weeks", within("", "weeks"), false),
        ("a day that is over", within("over", ""), false),
    ] {
        let begin = Instant::now();
        let trigger = Trigger::compile(&spec, "Europe/Berlin", &calendars, 7).unwrap();
        let after = at("2026-01-01T00:00:00Z");
        let next = trigger.next_after(after, after).unwrap();
        assert_eq!(next.is_some(), is_due, "{name}: {next:?}");
        let _ = trigger.previous_before(after, after).unwrap();
        let took = begin.elapsed();
        eprintln!("{name:<20} {took:?}");
        assert!(took.as_secs() < 3, "{name} took {took:?}");
    }
}

#[test]
fn a_count_is_counted_once() {
    let rule = "FREQ=DAILY;COUNT=100000;BYHOUR=1,2,3".to_owned();
    let trigger = compile(&spec(Rhythm::Rrule(rule)), "UTC").unwrap();
    let (anchor, begin) = (at("2026-01-01T00:00:00Z"), Instant::now());
    let mut last = anchor;
    for _ in 0..1_000 {
        last = trigger.previous_before(at("2200-01-01T00:00:00Z"), anchor).unwrap().unwrap().nominal;
    }
    assert!(begin.elapsed().as_secs() < 3, "took {:?}", begin.elapsed());
    assert_eq!(last, at("2117-04-07T01:00:00Z"));
}

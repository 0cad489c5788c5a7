//! What a question costs. The bounds are for an unoptimised build on a busy machine; `--release --no-capture` shows
//! the figures that count.

#![allow(clippy::disallowed_methods, reason = "this is where time itself is measured")]
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::time::Instant;

use ostler_calendar::Trigger;
use ostler_model::trigger::Rhythm;
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

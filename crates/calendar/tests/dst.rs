//! Daylight saving time: every change of the clocks from 2020 through 2035 in ten zones, under each rule.
//!
//! `tests/golden/dst.txt` is the table that people read. It follows the zone data of the machine (or the one built in
//! where the machine has none): when governments change their minds, it changes.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::fmt::Write;

use jiff::{Timestamp, ToSpan, tz::TimeZone};
use ostler_calendar::{Shift, Trigger};
use ostler_model::trigger::{Fold, Gap, Interval, Pace, Rhythm};
use support::*;

const ZONES: &[&str] = &[
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Beirut",
    "America/Santiago",
    "Africa/Cairo",
    "Pacific/Apia",
    "Europe/Dublin",
    "Asia/Gaza",
    "America/Havana",
];

const GAPS: &[(&str, Gap)] = &[("gap: shift", Gap::Shift), ("gap: skip", Gap::Skip)];
const FOLDS: &[(&str, Fold)] =
    &[("fold: first", Fold::First), ("fold: last", Fold::Last), ("fold: both", Fold::Both)];

#[test]
fn every_change_of_the_clocks_until_2035() {
    let mut table = String::from(
        "# Local due moments within two hours of each change. `>` moved out of a gap, `#1` and `#2` first and second of a time that comes twice.\n",
    );
    for zone in ZONES {
        let tz = TimeZone::get(zone).unwrap();
        let mut offset = tz.to_offset(at("2020-01-01T00:00:00Z"));
        let changes: Vec<Timestamp> = tz
            .following(at("2020-01-01T00:00:00Z"))
            .map(|change| change.timestamp())
            .take_while(|change| *change < at("2036-01-01T00:00:00Z"))
            .collect();
        for change in changes {
            let (before, after) = (offset, tz.to_offset(change));
            offset = after;
            let jump = after.seconds() - before.seconds();
            if jump == 0 {
                continue;
            }
            // The local time in the middle of what is missing or repeated.
            let middle = before.to_datetime(change) + i64::from(jump / 2).seconds();
            let fixed = format!("{} {} * * *", middle.minute(), middle.hour());
            writeln!(
                table,
                "\n{zone} {} {before} -> {after}",
                before.to_datetime(change).strftime("%Y-%m-%d %H:%M")
            )
            .unwrap();
            let rules: Vec<(&str, Gap, Fold)> = if jump > 0 {
                GAPS.iter().map(|(word, gap)| (*word, *gap, Fold::First)).collect()
            } else {
                FOLDS.iter().map(|(word, fold)| (*word, Gap::Shift, *fold)).collect()
            };
            for (word, gap, fold) in rules {
                let mut spec = cron(&fixed);
                spec.dst = dst(gap, fold);
                row(&mut table, word, &fixed, &compile(&spec, zone).unwrap(), change);
            }
            let steps = "*/20 * * * *";
            row(&mut table, "elapsed", steps, &compile(&cron(steps), zone).unwrap(), change);
        }
    }
    golden("dst.txt", &table);
}

fn row(table: &mut String, rule: &str, expression: &str, trigger: &Trigger, change: Timestamp) {
    let window = if expression.starts_with('*') { 1.hour() } else { 2.hours() };
    let mut last = change - window - 1.second();
    let mut moments = Vec::new();
    for due in trigger.between(change - window, change + window, change) {
        let due = due.unwrap();
        assert!(due.nominal > last);
        last = due.nominal;
        let (moved, which) = match due.shift {
            Shift::None => ("", ""),
            Shift::Gap => (">", ""),
            Shift::FoldFirst => ("", "#1"),
            Shift::FoldLast => ("", "#2"),
        };
        moments.push(format!("{moved}{}{which}", trigger.local(due.nominal).strftime("%H:%M%:z")));
    }
    let moments = if moments.is_empty() { "-".to_owned() } else { moments.join(" ") };
    writeln!(table, "  {rule:<12}{expression:<14}{moments}").unwrap();
}

#[test]
fn a_time_in_the_gap_is_due_at_the_first_moment_after_it() {
    for (zone, expression, from, local) in [
        ("America/New_York", "30 2 * * *", "2026-03-08T05:30:00Z", "Sun 2026-03-08 03:00:00 -0400"),
        ("Asia/Beirut", "0 0 * * *", "2026-03-28T12:00:00Z", "Sun 2026-03-29 01:00:00 +0300"),
        ("Australia/Lord_Howe", "15 2 * * *", "2026-10-03T00:00:00Z", "Sun 2026-10-04 02:30:00 +1100"),
        ("Pacific/Apia", "0 8 * * *", "2011-12-29T20:00:00Z", "Sat 2011-12-31 00:00:00 +1400"),
    ] {
        let trigger = compile(&cron(expression), zone).unwrap();
        assert_eq!(locals(&trigger, from, 1), [local], "{zone}");
        assert_eq!(next(&trigger, from, 1)[0].shift, Shift::Gap, "{zone}");
    }
}

#[test]
fn several_times_in_one_gap_are_due_once() {
    let trigger = compile(&cron("0,15,30,45 2,3 * * *"), "America/New_York").unwrap();
    assert_eq!(
        locals(&trigger, "2026-03-08T06:00:00Z", 3),
        ["Sun 2026-03-08 03:00:00 -0400", "Sun 2026-03-08 03:15:00 -0400", "Sun 2026-03-08 03:30:00 -0400"]
    );
}

#[test]
fn intervals_go_through_a_repeated_hour_twice_and_in_order() {
    let trigger = compile(&cron("*/30 * * * *"), "America/New_York").unwrap();
    let hours: Vec<String> =
        locals(&trigger, "2026-11-01T04:59:00Z", 5).iter().map(|l| l[15..].to_owned()).collect();
    assert_eq!(
        hours,
        ["01:00:00 -0400", "01:30:00 -0400", "01:00:00 -0500", "01:30:00 -0500", "02:00:00 -0500"]
    );
}

#[test]
fn months_and_recurrences_follow_the_same_rule_as_cron() {
    let mut monthly = spec(Rhythm::Every { interval: Interval::Months(1), pace: Pace::Precise });
    monthly.start = Some(at("2026-01-29T01:30:00Z"));
    let trigger = compile(&monthly, "Europe/Berlin").unwrap();
    assert_eq!(
        locals(&trigger, "2026-02-01T00:00:00Z", 2),
        ["Sat 2026-02-28 02:30:00 +0100", "Sun 2026-03-29 03:00:00 +0200"]
    );
    let rule = spec(Rhythm::Rrule("DTSTART;TZID=Europe/Berlin:20260328T023000\nRRULE:FREQ=DAILY".into()));
    let trigger = compile(&rule, "UTC").unwrap();
    assert_eq!(
        locals(&trigger, "2026-03-28T12:00:00Z", 2),
        ["Sun 2026-03-29 03:00:00 +0200", "Mon 2026-03-30 02:30:00 +0200"]
    );
}

#[test]
fn moments_always_come_in_order_in_every_zone() {
    let expressions =
        ["30 2 * * *", "0 0 * * *", "*/20 0-4 * * *", "15,45 1 * * *", "0 */2 * * *", "0 3 L * *"];
    let mut zones = 0;
    for (index, name) in jiff::tz::db().available().enumerate() {
        let mut spec = cron(expressions[index % expressions.len()]);
        spec.dst.fold = [Fold::First, Fold::Last, Fold::Both][index % 3];
        let trigger = compile(&spec, name.as_str()).unwrap();
        let (from, until) = (at("2026-01-01T00:00:00Z"), at("2027-01-01T00:00:00Z"));
        let forward: Vec<_> = trigger.between(from, until, from).map(|due| due.unwrap()).collect();
        assert!(forward.windows(2).all(|pair| pair[0].nominal < pair[1].nominal), "{name}");
        let mut before = until;
        for due in forward.iter().rev().take(150) {
            let back = trigger.previous_before(before, from).unwrap().unwrap();
            assert_eq!((back.nominal, back.shift), (due.nominal, due.shift), "{name}");
            before = back.nominal;
        }
        zones += 1;
    }
    assert!(zones > 400, "only {zones} zones were found");
}

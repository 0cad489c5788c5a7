//! Everything about triggers that is not cron: intervals, given moments, recurrences, systemd, calendars, bounds.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::collections::BTreeMap;

use jiff::Timestamp;
use ostler_calendar::{Calendars, Trigger};
use ostler_model::{
    Span,
    trigger::{CalendarDef, Interval, Pace, Rhythm},
};
use support::*;

#[test]
fn an_interval_is_a_grid_from_the_anchor_and_the_anchor_is_on_it() {
    let trigger = compile(&every("5m"), "UTC").unwrap();
    let anchor = at("2026-01-01T00:01:30Z");
    let first = trigger.next_after(at("2026-01-01T00:01:29.999999Z"), anchor).unwrap().unwrap();
    assert_eq!(first.nominal, anchor);
    let second = trigger.next_after(anchor, anchor).unwrap().unwrap();
    assert_eq!(second.nominal, at("2026-01-01T00:06:30Z"));
    assert_eq!(trigger.previous_before(second.nominal, anchor).unwrap(), Some(first));
    assert_eq!(trigger.previous_before(anchor, anchor).unwrap(), None);
}

#[test]
fn twenty_hertz_stays_on_its_grid() {
    let trigger = compile(&every("50ms"), "UTC").unwrap();
    let anchor = at("2026-01-01T00:00:00.013Z");
    let moments: Vec<Timestamp> = trigger
        .between(anchor, at("2026-01-01T00:00:10.013Z"), anchor)
        .map(|due| due.unwrap().nominal)
        .collect();
    assert_eq!(moments.len(), 200);
    assert!(moments.iter().zip(0..).all(|(at, n)| at.as_millisecond() == anchor.as_millisecond() + n * 50));
}

#[test]
fn a_fifty_year_interval_fires() {
    let spec = spec(Rhythm::Every { interval: Interval::Months(600), pace: Pace::Precise });
    let trigger = compile(&spec, "Europe/Berlin").unwrap();
    assert_eq!(trigger.describe(), "every 50 years, Europe/Berlin");
    assert_eq!(
        locals(&trigger, "2028-02-29T09:00:00Z", 3),
        ["Mon 2078-02-28 10:00:00 +0100", "Sun 2128-02-29 10:00:00 +0100", "Sat 2178-02-28 10:00:00 +0100"]
    );
    let trigger = compile(&every("18262d"), "UTC").unwrap();
    assert_eq!(next(&trigger, "2026-01-01T00:00:00Z", 1)[0].nominal, at("2076-01-01T00:00:00Z"));
}

#[test]
fn months_keep_the_day_where_they_have_it() {
    let spec = spec(Rhythm::Every { interval: Interval::Months(1), pace: Pace::Precise });
    let trigger = compile(&spec, "UTC").unwrap();
    assert_eq!(
        locals(&trigger, "2026-01-31T10:00:00.5Z", 3),
        ["Sat 2026-02-28 10:00:00 +0000", "Tue 2026-03-31 10:00:00 +0000", "Thu 2026-04-30 10:00:00 +0000"]
    );
    assert_eq!(next(&trigger, "2026-01-31T10:00:00.5Z", 1)[0].nominal, at("2026-02-28T10:00:00.5Z"));
}

#[test]
fn spaced_intervals_count_from_the_end_of_the_run() {
    for (interval, expected) in [
        (Interval::Elapsed("90s".parse().unwrap()), "2026-03-28T01:31:30Z"),
        // The same local time a month later, when summer time has begun.
        (Interval::Months(1), "2026-04-28T00:30:00Z"),
    ] {
        let mut spaced = spec(Rhythm::Every { interval, pace: Pace::Spaced });
        let trigger = compile(&spaced, "Europe/Berlin").unwrap();
        assert!(trigger.is_spaced());
        let ended = at("2026-03-28T01:30:00Z");
        assert_eq!(trigger.after_end(ended).unwrap().nominal, at(expected));
        assert_eq!(trigger.next_after(ended, ended).unwrap(), None);
        spaced.end = Some(ended);
        assert_eq!(compile(&spaced, "UTC").unwrap().after_end(ended), None);
    }
    assert_eq!(compile(&every("1s"), "UTC").unwrap().after_end(at("2026-01-01T00:00:00Z")), None);
}

#[test]
fn intervals_that_cannot_be_kept_are_refused() {
    let message = |spec| compile(&spec, "UTC").unwrap_err().to_string();
    assert_eq!(message(every("10us")), "an interval of 10us is too short; write at least 1ms");
    let mut late = every("10s");
    late.offset = Some(Span::from_secs(10));
    assert_eq!(message(late), "the offset of 10s is not shorter than the interval of 10s; write less");
    let mut shaky = every("10s");
    shaky.jitter = Some(Span::from_secs(11));
    assert_eq!(message(shaky), "the jitter of 11s is not shorter than the interval of 10s; write less");
    let mut inverted = every("10s");
    (inverted.start, inverted.end) = (Some(at("2027-01-01T00:00:00Z")), Some(at("2026-01-01T00:00:00Z")));
    assert_eq!(
        message(inverted),
        "the end 2026-01-01T00:00:00Z lies before the start 2027-01-01T00:00:00Z; put them the other way round"
    );
}

#[test]
fn once_is_due_at_the_anchor_and_never_again() {
    let trigger = compile(&spec(Rhythm::Once), "UTC").unwrap();
    let anchor = at("2026-01-01T00:00:00.000001Z");
    assert_eq!(trigger.next_after(at("2026-01-01T00:00:00Z"), anchor).unwrap().unwrap().nominal, anchor);
    assert_eq!(trigger.next_after(anchor, anchor).unwrap(), None);
    assert!(trigger.is_over(anchor, anchor));
}

#[test]
fn reboot_is_never_due_by_the_clock() {
    for spec in [spec(Rhythm::Reboot), cron("@reboot")] {
        let trigger = compile(&spec, "UTC").unwrap();
        assert!(trigger.is_reboot());
        assert!(next(&trigger, "2026-01-01T00:00:00Z", 1).is_empty());
        assert_eq!(trigger.describe(), "each time a server starts");
    }
}

#[test]
fn given_moments_come_in_order_and_each_once() {
    let texts = ["2026-03-29 02:30", "2026-01-01T00:00:00Z", "2026-01-01T01:00:00+01:00", "2026-10-25T02:30"];
    let trigger = compile(&spec(Rhythm::At(texts.map(String::from).to_vec())), "Europe/Berlin").unwrap();
    assert_eq!(
        locals(&trigger, "2025-01-01T00:00:00Z", 9),
        ["Thu 2026-01-01 01:00:00 +0100", "Sun 2026-03-29 03:00:00 +0200", "Sun 2026-10-25 02:30:00 +0200"]
    );
    let error = compile(&spec(Rhythm::At(vec!["tomorrow".into()])), "UTC").unwrap_err();
    assert_eq!(
        error.to_string(),
        "`tomorrow` is not a moment: write `2026-03-01T09:00:00Z`, or a local `2026-03-01 09:00` in the schedule's zone"
    );
}

#[test]
fn the_alias_every_is_an_interval() {
    let trigger = compile(&cron("@every 1h30m"), "UTC").unwrap();
    assert_eq!(trigger.describe(), "every 1 hour 30 minutes");
    assert_eq!(next(&trigger, "2026-01-01T00:10:00Z", 1)[0].nominal, at("2026-01-01T01:40:00Z"));
}

#[test]
fn misspelt_zones_and_calendars_get_a_suggestion() {
    let error = compile(&cron("@daily"), "Europe/Berln").unwrap_err();
    assert_eq!(error.to_string(), "`Europe/Berln` is not a time zone; did you mean Europe/Berlin?");
    let mut spec = cron("@daily");
    spec.except = vec!["holiday".parse().unwrap()];
    let calendars = calendars(&[("holidays", CalendarDef::default())]);
    let error = Trigger::compile(&spec, "UTC", &calendars, 0).unwrap_err();
    assert_eq!(error.to_string(), "there is no calendar `holiday`; did you mean `holidays`?");
}

#[test]
fn jitter_stays_within_its_length_and_is_the_same_each_time() {
    let mut spec = cron("* * * * *");
    spec.jitter = Some(Span::from_secs(10));
    spec.offset = Some(Span::from_secs(5));
    let anchor = at("2026-01-01T00:00:00Z");
    let delays = |seed| -> Vec<i128> {
        let trigger = Trigger::compile(&spec, "UTC", &Calendars::default(), seed).unwrap();
        let dues = trigger.between(anchor, at("2026-01-02T00:00:00Z"), anchor);
        dues.map(|due| due.unwrap()).map(|due| due.at.as_nanosecond() - due.nominal.as_nanosecond()).collect()
    };
    let one = delays(1);
    assert_eq!(one, delays(1));
    assert_ne!(one, delays(2));
    assert!(one.iter().all(|delay| (5_000_000_000..=15_000_000_000).contains(delay)));
    let mean = one.iter().sum::<i128>() / one.len() as i128;
    assert!((9_500_000_000..10_500_000_000).contains(&mean), "{mean}");
}

fn calendars(entries: &[(&str, CalendarDef)]) -> Calendars {
    let map: BTreeMap<_, _> =
        entries.iter().map(|(name, def)| (name.parse().unwrap(), def.clone())).collect();
    Calendars::compile(&map).unwrap()
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn calendars_keep_triggers_in_and_out() {
    let calendars = calendars(&[
        ("workdays", CalendarDef { weekdays: texts(&["mon-fri"]), ..Default::default() }),
        ("holidays", CalendarDef { dates: texts(&["12-25", "2026-12-28"]), ..Default::default() }),
        (
            "closed",
            CalendarDef {
                periods: texts(&["2026-12-30T12:00/2027-01-04", "22:00-06:00"]),
                ..Default::default()
            },
        ),
    ]);
    let mut spec = cron("0 7,23 * * *");
    spec.only = vec!["workdays".parse().unwrap()];
    spec.except = vec!["holidays".parse().unwrap(), "closed".parse().unwrap()];
    let trigger = Trigger::compile(&spec, "Europe/Berlin", &calendars, 0).unwrap();
    let expected = [
        "Thu 2026-12-24 07:00:00 +0100",
        "Tue 2026-12-29 07:00:00 +0100",
        "Wed 2026-12-30 07:00:00 +0100",
        "Mon 2027-01-04 07:00:00 +0100",
    ];
    assert_eq!(locals(&trigger, "2026-12-24T00:00:00Z", 4), expected);
    let mut before = at("2027-01-04T12:00:00Z");
    for expected in expected.iter().rev() {
        before = trigger.previous_before(before, before).unwrap().unwrap().nominal;
        assert_eq!(trigger.local(before).strftime("%a %Y-%m-%d %H:%M:%S %z").to_string(), *expected);
    }
    assert_eq!(
        trigger.describe(),
        "at 07:00 and 23:00 every day, only in `workdays`, not in `holidays` or `closed`, Europe/Berlin"
    );
}

#[test]
fn a_fast_interval_skips_a_closed_weekend_at_once() {
    let calendars =
        calendars(&[("weekend", CalendarDef { weekdays: texts(&["sat", "sun"]), ..Default::default() })]);
    let mut spec = every("1ms");
    spec.except = vec!["weekend".parse().unwrap()];
    let trigger = Trigger::compile(&spec, "America/New_York", &calendars, 0).unwrap();
    let anchor = at("2026-03-01T00:00:00Z");
    let friday = at("2026-03-07T04:59:59.9995Z");
    let due = trigger.next_after(friday, anchor).unwrap().unwrap();
    assert_eq!(due.nominal, at("2026-03-09T04:00:00Z"));
    assert_eq!(
        trigger.previous_before(due.nominal, anchor).unwrap().unwrap().nominal,
        at("2026-03-07T04:59:59.999Z")
    );
}

#[test]
fn a_calendar_that_holds_every_day_ends_the_search() {
    let calendars =
        calendars(&[("all", CalendarDef { weekdays: texts(&["mon-sun"]), ..Default::default() })]);
    let mut spec = every("1s");
    spec.except = vec!["all".parse().unwrap()];
    let trigger = Trigger::compile(&spec, "UTC", &calendars, 0).unwrap();
    assert!(next(&trigger, "2026-01-01T00:00:00Z", 1).is_empty());
    assert_eq!(
        trigger.previous_before(at("2026-01-01T00:00:00Z"), at("2020-01-01T00:00:00Z")).unwrap(),
        None
    );
}

#[test]
fn entries_of_calendars_are_checked() {
    let refuse = |def: CalendarDef| {
        Calendars::compile(&BTreeMap::from([("c".parse().unwrap(), def)])).unwrap_err().to_string()
    };
    for (def, message) in [
        (
            CalendarDef { dates: texts(&["25.12."]), ..Default::default() },
            "calendar `c`: `25.12.` is not a date; write `2026-12-25`, or `12-25` for every year",
        ),
        (
            CalendarDef { weekdays: texts(&["frieday"]), ..Default::default() },
            "calendar `c`: `frieday` is not a day of the week: `frieday` is not a weekday; write 0 to 7, or SUN to SAT",
        ),
        (
            CalendarDef { periods: texts(&["2026-12-24"]), ..Default::default() },
            "calendar `c`: `2026-12-24` is not a period; write `2026-12-24T18:00/2026-12-27`, or `22:00-06:00` for every day",
        ),
        (
            CalendarDef { periods: texts(&["2026-12-24/2026-12-23"]), ..Default::default() },
            "calendar `c`: `2026-12-24/2026-12-23` ends before it begins; the end is not part of the period",
        ),
        (
            CalendarDef { rules: texts(&["FREQ=YEARLY"]), ..Default::default() },
            "calendar `c`: `FREQ=YEARLY` needs a first day: put `DTSTART:20260101` on a line before the rule",
        ),
        (
            CalendarDef {
                rules: texts(&["DTSTART:20260101\nRRULE:FREQ=MONTHLY;BYDAY=-7FR"]),
                ..Default::default()
            },
            "calendar `c`: `DTSTART:20260101\nRRULE:FREQ=MONTHLY;BYDAY=-7FR` never comes: no day satisfies all its parts",
        ),
    ] {
        assert_eq!(refuse(def), message);
    }
}

#[test]
fn a_rule_in_a_calendar_holds_whole_days() {
    let rules = texts(&["DTSTART:20260101\nRRULE:FREQ=YEARLY;BYMONTH=11;BYDAY=4TH"]);
    let calendars = calendars(&[("thanksgiving", CalendarDef { rules, ..Default::default() })]);
    assert_eq!(calendars.contains("thanksgiving", "2027-11-25T17:00".parse().unwrap()), Some(true));
    assert_eq!(calendars.contains("thanksgiving", "2027-11-26T00:00".parse().unwrap()), Some(false));
}

#[test]
fn start_and_end_bound_and_both_count() {
    let mut spec = cron("0 * * * *");
    (spec.start, spec.end) = (Some(at("2026-01-01T10:00:00Z")), Some(at("2026-01-01T12:00:00Z")));
    let trigger = compile(&spec, "UTC").unwrap();
    assert_eq!(next(&trigger, "2025-01-01T00:00:00Z", 9).len(), 3);
    assert_eq!(
        trigger
            .previous_before(at("2030-01-01T00:00:00Z"), at("2025-01-01T00:00:00Z"))
            .unwrap()
            .unwrap()
            .nominal,
        at("2026-01-01T12:00:00Z")
    );
    let mut grid = every("7m");
    grid.start = Some(at("2026-01-01T00:03:00Z"));
    let trigger = compile(&grid, "UTC").unwrap();
    assert_eq!(next(&trigger, "2025-06-01T00:00:00Z", 1)[0].nominal, at("2026-01-01T00:03:00Z"));
}

#[test]
fn systemd_expressions_are_read_as_systemd_does() {
    for (expression, expected) in [
        ("Mon..Fri 09:00", ["Thu 2026-01-01 09:00:00", "Fri 2026-01-02 09:00:00", "Mon 2026-01-05 09:00:00"]),
        ("weekly", ["Mon 2026-01-05 00:00:00", "Mon 2026-01-12 00:00:00", "Mon 2026-01-19 00:00:00"]),
        (
            "*-*-01 00:00:00",
            ["Sun 2026-02-01 00:00:00", "Sun 2026-03-01 00:00:00", "Wed 2026-04-01 00:00:00"],
        ),
        (
            "Mon *-*-1..7 10:00",
            ["Mon 2026-01-05 10:00:00", "Mon 2026-02-02 10:00:00", "Mon 2026-03-02 10:00:00"],
        ),
        ("*-02~01", ["Sat 2026-02-28 00:00:00", "Sun 2027-02-28 00:00:00", "Tue 2028-02-29 00:00:00"]),
        ("*:0/15", ["Thu 2026-01-01 00:15:00", "Thu 2026-01-01 00:30:00", "Thu 2026-01-01 00:45:00"]),
        (
            "Sat,Sun 12-05 08:05:40",
            ["Sat 2026-12-05 08:05:40", "Sun 2027-12-05 08:05:40", "Sun 2032-12-05 08:05:40"],
        ),
        ("quarterly", ["Wed 2026-04-01 00:00:00", "Wed 2026-07-01 00:00:00", "Thu 2026-10-01 00:00:00"]),
        ("05:40:23/5", ["Thu 2026-01-01 05:40:23", "Thu 2026-01-01 05:40:28", "Thu 2026-01-01 05:40:33"]),
        ("2027-*-31 UTC", ["Sun 2027-01-31 00:00:00", "Wed 2027-03-31 00:00:00", "Mon 2027-05-31 00:00:00"]),
    ] {
        let trigger = compile(&spec(Rhythm::Calendar(expression.into())), "UTC").unwrap();
        let found: Vec<String> =
            locals(&trigger, "2026-01-01T00:00:00Z", 3).iter().map(|l| l[..23].to_owned()).collect();
        assert_eq!(found, expected, "{expression}");
    }
    let trigger = compile(&spec(Rhythm::Calendar("Mon *-*-1..7 10:00 Europe/Berlin".into())), "UTC").unwrap();
    assert_eq!(trigger.zone(), "Europe/Berlin");
    for (expression, message) in [
        ("Mun 09:00", "calendar expression `Mun 09:00`: `Mun` is not a weekday; write Mon to Sun"),
        (
            "Munday 09:00",
            "calendar expression `Munday 09:00`: `Munday` is not a weekday; did you mean monday?",
        ),
        ("weakly", "calendar expression `weakly`: `weakly` is not known; did you mean weekly?"),
        ("25:00", "calendar expression `25:00`: `25` is not a hour: 0 to 23"),
        (
            "*-*-* *:*:0.5",
            "calendar expression `*-*-* *:*:0.5`: `0.5` has parts of a second; write whole seconds, or use `every: 500ms`",
        ),
        ("*-02-30", "`*-02-30` never fires: there is no such day"),
    ] {
        assert_eq!(
            compile(&spec(Rhythm::Calendar(expression.into())), "UTC").unwrap_err().to_string(),
            message
        );
    }
}

#[test]
fn an_expression_and_a_timezone_that_contradict_are_refused() {
    let mut spec = spec(Rhythm::Calendar("09:00 Europe/Berlin".into()));
    spec.timezone = Some("UTC".into());
    assert_eq!(
        compile(&spec, "UTC").unwrap_err().to_string(),
        "the expression says Europe/Berlin and `timezone` says UTC; write one of them only"
    );
}

#[test]
fn any_text_and_any_moment_get_an_answer() {
    let mut seeded = Seeded(3);
    let pieces = [
        "FREQ=",
        "DAILY",
        "YEARLY",
        ";",
        "BYDAY=",
        "-1",
        "MO",
        "BYMONTHDAY=",
        "-9223372036854775808",
        "-128",
        "=",
        ",",
        ":",
        "RRULE:",
        "DTSTART:",
        "20260101T000000Z",
        "EXDATE",
        "\n",
        "*",
        "-",
        "..",
        "/",
        "~",
        "Mon",
        "09",
        "00",
        " ",
        "Europe/Berlin",
        "é",
        "INTERVAL=1000000",
        "COUNT=100000",
        "BYSETPOS=-366",
        "2026-01-01",
        "T",
    ];
    let edges = [Timestamp::MIN, Timestamp::MAX, at("1900-01-01T00:00:00Z"), at("2026-01-01T00:00:00Z")];
    let mut compiled = 0;
    for _ in 0..20_000 {
        let text: String = (0..1 + seeded.below(9)).map(|_| *seeded.pick(&pieces)).collect();
        let rhythm = match seeded.below(4) {
            0 => Rhythm::Rrule(text.clone()),
            1 => Rhythm::Rrule(format!("FREQ=DAILY;{text}")),
            2 => Rhythm::At(vec![text.clone()]),
            _ => Rhythm::Calendar(text.clone()),
        };
        let def = CalendarDef {
            dates: vec![text.clone()],
            weekdays: vec![text.clone()],
            periods: vec![text.clone()],
            ..Default::default()
        };
        assert!(Calendars::compile(&BTreeMap::from([("c".parse().unwrap(), def)])).is_err());
        if let Ok(trigger) = compile(&spec(rhythm), "Europe/Berlin") {
            compiled += 1;
            let (moment, anchor) = (*seeded.pick(&edges), *seeded.pick(&edges));
            trigger.next_after(moment, anchor).unwrap();
            trigger.previous_before(moment, anchor).unwrap();
        }
    }
    assert!(compiled > 100, "only {compiled} compiled");
}

#[test]
fn the_edges_of_time_are_answered() {
    let edges = [Timestamp::MIN, Timestamp::MAX, at("1900-01-01T00:00:00Z"), at("2026-01-01T00:00:00Z")];
    let months = |months| spec(Rhythm::Every { interval: Interval::Months(months), pace: Pace::Precise });
    for spec in [
        cron("0 0 29 2 *"),
        cron("* * * * * * 2026"),
        every("5m"),
        every("213503d"),
        months(1),
        months(u32::MAX),
    ] {
        let trigger = compile(&spec, "America/New_York").unwrap();
        for moment in edges {
            for anchor in edges {
                trigger.next_after(moment, anchor).unwrap();
                trigger.previous_before(moment, anchor).unwrap();
            }
        }
    }
}

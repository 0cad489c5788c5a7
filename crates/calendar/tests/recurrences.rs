//! RFC 5545 recurrences against python-dateutil: its answers are in `tests/golden/rrule.txt`, written by
//! `tests/croniter/rrule_golden.py`; the first lines are the examples of the RFC itself.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use jiff::{Timestamp, civil};
use ostler_model::trigger::Rhythm;
use support::*;

const LAST_YEAR: i16 = 2150;

#[test]
fn recurrences_agree_with_dateutil() {
    let mut compared = 0;
    for line in include_str!("golden/rrule.txt").lines() {
        let mut parts = line.split(" | ");
        let (rule, start, times) =
            (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap_or_default());
        let times: Vec<&str> = times.split_whitespace().collect();
        let text = format!("DTSTART:{start}\nRRULE:{}", rule);
        let trigger = match compile(&spec(Rhythm::Rrule(text)), "UTC") {
            Ok(trigger) => trigger,
            Err(error) => {
                assert!(
                    times.is_empty() && error.to_string().contains("never fires"),
                    "{rule} from {start}: {error}"
                );
                continue;
            }
        };
        let from =
            civil::DateTime::strptime("%Y%m%dT%H%M%S", start).unwrap().in_tz("UTC").unwrap().timestamp();
        let mut after = Timestamp::from_second(from.as_second() - 1).unwrap();
        let mut found = Vec::new();
        while found.len() < 12
            && let Some(due) = trigger.next_after(after, from).unwrap()
            && trigger.local(due.nominal).year() <= LAST_YEAR
        {
            after = due.nominal;
            found.push(trigger.local(after).strftime("%Y%m%dT%H%M%S").to_string());
        }
        assert_eq!(found, times, "{rule} from {start}");
        // Backwards, from just after the last.
        let mut before = Timestamp::from_second(after.as_second() + 1).unwrap();
        for expected in times.iter().rev() {
            let due = trigger.previous_before(before, from).unwrap().unwrap();
            assert_eq!(
                trigger.local(due.nominal).strftime("%Y%m%dT%H%M%S").to_string(),
                *expected,
                "{rule} back from {before}"
            );
            before = due.nominal;
        }
        assert_eq!(trigger.previous_before(before, from).unwrap().map(|due| due.nominal), None, "{rule}");
        compared += found.len();
    }
    assert!(compared > 4_000, "only {compared} moments were compared");
}

#[test]
fn a_bare_rule_counts_from_the_anchor() {
    let trigger =
        compile(&spec(Rhythm::Rrule("FREQ=DAILY;INTERVAL=2;COUNT=3".into())), "Europe/Berlin").unwrap();
    let anchor = at("2026-03-28T08:00:00.25Z");
    let moments: Vec<String> = trigger
        .between(anchor, at("2027-01-01T00:00:00Z"), anchor)
        .map(|due| trigger.local(due.unwrap().nominal).strftime("%m-%d %H:%M:%S").to_string())
        .collect();
    assert_eq!(moments, ["03-28 09:00:01", "03-30 09:00:01", "04-01 09:00:01"]);
}

#[test]
fn dates_are_added_and_taken_away_in_any_zone() {
    let text = "DTSTART;TZID=America/New_York:20260601T090000\nRRULE:FREQ=DAILY;UNTIL=20260604T130000Z\n\
                EXDATE;TZID=Europe/Berlin:20260602T150000\nRDATE:20260701T130000Z,20260702T090000";
    let trigger = compile(&spec(Rhythm::Rrule(text.into())), "UTC").unwrap();
    assert_eq!(trigger.zone(), "America/New_York");
    let days: Vec<String> =
        locals(&trigger, "2026-01-01T00:00:00Z", 9).iter().map(|l| l[4..20].to_owned()).collect();
    assert_eq!(
        days,
        ["2026-06-01 09:00", "2026-06-03 09:00", "2026-06-04 09:00", "2026-07-01 09:00", "2026-07-02 09:00"]
    );
}

#[test]
fn rules_that_are_wrong_say_what_would_be_right() {
    for (text, message) in [
        ("FREQ=DAYLY", "recurrence `FREQ=DAYLY`: `DAYLY` is not a frequency; did you mean DAILY?"),
        (
            "FREQ=DAILY;BYHOURS=9",
            "recurrence `BYHOURS=9`: `BYHOURS` is not a part of a rule; did you mean BYHOUR?",
        ),
        ("FREQ=DAILY;BYHOUR=24", "recurrence `BYHOUR=24`: `24` is not a number of 0 to 23"),
        (
            "FREQ=MONTHLY;BYDAY=XX",
            "recurrence `BYDAY=XX`: `XX` is not a weekday; write MO to SU, or numbered as in `2FR` or `-1MO`",
        ),
        (
            "FREQ=WEEKLY;BYDAY=2MO",
            "recurrence `FREQ=WEEKLY;BYDAY=2MO`: numbered weekdays (as in `2FR`) go with FREQ=MONTHLY or YEARLY only",
        ),
        (
            "FREQ=DAILY;COUNT=1;UNTIL=20260101",
            "recurrence `FREQ=DAILY;COUNT=1;UNTIL=20260101`: has both COUNT and UNTIL; write one of them",
        ),
        (
            "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30",
            "`FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30` never fires: no day satisfies all its parts",
        ),
        ("FREQ=DAILY;UNTIL=20260230", "recurrence `20260230`: there is no such day"),
        (
            "DTSTART:20260101\nRRULE:FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30",
            "`DTSTART:20260101\nRRULE:FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30` never fires: no day satisfies all its parts",
        ),
    ] {
        assert_eq!(compile(&spec(Rhythm::Rrule(text.into())), "UTC").unwrap_err().to_string(), message);
    }
}

//! What expressions mean in crontab(5) and in APScheduler, which supertask timetables were written for.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use ostler_calendar::{check_cron, differs_between_dialects};
use ostler_model::trigger::Dialect;
use support::*;

const VIENNA: &str = "Europe/Vienna";

#[test]
fn the_supertask_dialect_reads_zero_as_monday() {
    let trigger = compile(&supertask("0 0 * * 0"), VIENNA).unwrap();
    assert_eq!(
        locals(&trigger, "2026-01-01T00:00:00Z", 2),
        ["Mon 2026-01-05 00:00:00 +0100", "Mon 2026-01-12 00:00:00 +0100"]
    );
    let trigger = compile(&cron("0 0 * * 0"), VIENNA).unwrap();
    assert_eq!(locals(&trigger, "2026-01-01T00:00:00Z", 1), ["Sun 2026-01-04 00:00:00 +0100"]);
}

#[test]
fn the_supertask_dialect_reads_one_to_five_as_tuesday_to_saturday() {
    let trigger = compile(&supertask("0 0 * * 1-5"), VIENNA).unwrap();
    let days: Vec<String> =
        locals(&trigger, "2026-01-04T12:00:00Z", 6).iter().map(|l| l[..3].to_owned()).collect();
    assert_eq!(days, ["Tue", "Wed", "Thu", "Fri", "Sat", "Tue"]);
}

#[test]
fn the_supertask_dialect_refuses_seven() {
    let error = check_cron("0 0 * * 7", Dialect::Supertask).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`7` is not a weekday: 0 to 6 (0 is Monday), or MON to SUN; Sunday is 6 in this dialect, or SUN"
    );
    assert_eq!(error.range(), 8..9);
}

#[test]
fn the_supertask_dialect_wants_day_and_weekday() {
    let trigger = compile(&supertask("0 0 1 * 1"), VIENNA).unwrap();
    assert_eq!(
        locals(&trigger, "2026-01-01T00:00:00Z", 2),
        ["Tue 2026-09-01 00:00:00 +0200", "Tue 2026-12-01 00:00:00 +0100"]
    );
    let trigger = compile(&cron("0 0 1 * 1"), VIENNA).unwrap();
    assert_eq!(
        locals(&trigger, "2026-01-30T00:00:00Z", 2),
        ["Sun 2026-02-01 00:00:00 +0100", "Mon 2026-02-02 00:00:00 +0100"]
    );
}

#[test]
fn the_supertask_dialect_has_last_and_names() {
    let trigger = compile(&supertask("0 0 last * *"), VIENNA).unwrap();
    assert_eq!(
        locals(&trigger, "2028-02-01T00:00:00Z", 2),
        ["Tue 2028-02-29 00:00:00 +0100", "Fri 2028-03-31 00:00:00 +0200"]
    );
    let trigger = compile(&supertask("0 0 * JAN mon"), VIENNA).unwrap();
    assert_eq!(locals(&trigger, "2026-02-01T00:00:00Z", 1), ["Mon 2027-01-04 00:00:00 +0100"]);
}

#[test]
fn the_supertask_dialect_refuses_what_apscheduler_refuses() {
    for (expression, message) in [
        (
            "0 0 L * *",
            "Unrecognized expression \"L\" for field \"day\": write `last` for the last day of the month",
        ),
        (
            "0 12 1W * *",
            "Unrecognized expression \"1W\" for field \"day\": write 1 to 31, a range such as `2-5`, or `*`",
        ),
        (
            "H * * * *",
            "Unrecognized expression \"H\" for field \"minute\": Jenkins' `H` is not known here; write a number and give the schedule a `jitter`",
        ),
        ("0 0 ? * *", "Unrecognized expression \"?\" for field \"day\": write `*`"),
        (
            "0 0 * * 5L",
            "Unrecognized expression \"5L\" for field \"day_of_week\": write 0 to 6, or MON to SUN",
        ),
        (
            "0 0 * * 5#2",
            "Unrecognized expression \"5#2\" for field \"day_of_week\": write 0 to 6, or MON to SUN",
        ),
        ("@daily", "`@daily` is not an alias; this dialect has no aliases; write `0 0 * * *`"),
        (
            "0 0 * *",
            "it has 4 fields; write 5 (minute hour day month weekday), 6 (second first) or 7 (year last)",
        ),
        (
            "0 0 0 0 * * * *",
            "it has 8 fields; write 5 (minute hour day month weekday), 6 (second first) or 7 (year last)",
        ),
    ] {
        assert_eq!(
            check_cron(expression, Dialect::Supertask).unwrap_err().to_string(),
            message,
            "{expression}"
        );
    }
}

#[test]
fn seven_fields_are_seconds_first_and_years_last() {
    for dialect in [supertask("*/10 * * * * * 2026"), cron("*/10 * * * * * 2026")] {
        let trigger = compile(&dialect, "UTC").unwrap();
        assert_eq!(
            locals(&trigger, "2026-12-31T23:59:35Z", 5),
            ["Thu 2026-12-31 23:59:40 +0000", "Thu 2026-12-31 23:59:50 +0000"]
        );
    }
}

#[test]
fn a_starred_day_beside_a_weekday_means_both_as_in_vixie_cron() {
    let trigger = compile(&cron("0 0 */2 * 1"), "UTC").unwrap();
    assert_eq!(
        locals(&trigger, "2026-01-01T00:00:00Z", 3),
        ["Mon 2026-01-05 00:00:00 +0000", "Mon 2026-01-19 00:00:00 +0000", "Mon 2026-02-09 00:00:00 +0000"]
    );
}

#[test]
fn what_differs_between_the_dialects_is_found() {
    for expression in [
        "0 0 * * 0",
        "0 0 * * 1-5",
        "0 0 * * 7",
        "0 0 1 * 1",
        "0 0 L * *",
        "@daily",
        "0 0 last * *",
        "@every 5m",
        "0 0 ? * *",
    ] {
        assert!(differs_between_dialects(expression), "{expression}");
    }
    for expression in [
        "*/5 * * * * * *",
        "0 0 * * mon-fri",
        "2-3,25 * * * *",
        "0 0 1 * *",
        "0 0 * JAN mon",
        "nonsense",
        "0 0 */2 * MON",
    ] {
        assert!(!differs_between_dialects(expression), "{expression}");
    }
}

#[test]
fn errors_name_the_value_the_field_and_what_would_be_right() {
    for (expression, message, part) in [
        ("61 * * * *", "`61` is not a minute: 0 to 59", "61"),
        ("0 24 * * *", "`24` is not an hour: 0 to 23; midnight is 0", "24"),
        ("0 0 32 * *", "`32` is not a day of the month: 1 to 31", "32"),
        ("0 0 * 13 *", "`13` is not a month: 1 to 12, or JAN to DEC", "13"),
        ("0 0 * * 8", "`8` is not a weekday: 0 to 7 (0 and 7 are Sunday), or SUN to SAT", "8"),
        ("0 0 * * MOM", "`MOM` is not a weekday; did you mean MON?", "MOM"),
        ("0 0 * * MON,TEU", "`TEU` is not a weekday; did you mean TUE?", "TEU"),
        ("0 0 * JUM *", "`JUM` is not a month; did you mean JUN?", "JUM"),
        ("0 22-6 * * *", "`22-6` runs backwards; write `22-23,0-6`", "22-6"),
        ("0 0 * * FRI-MON", "`FRI-MON` runs backwards; write `FRI-SAT,SUN-MON`", "FRI-MON"),
        ("/5 * * * *", "`/5`: a step needs a start; write `*/5`", "/5"),
        ("*/0 * * * *", "`*/0`: a step of 0 never goes on; write 1 or more", "*/0"),
        (
            "*/90 * * * *",
            "`*/90`: a step of 90 is higher than the range (59), so only 0 would match; write `0`; to fire every 90m use `every: 90m`",
            "*/90",
        ),
        ("*/x * * * *", "`*/x`: `x` is not a step; write a whole number after `/`", "*/x"),
        (
            "5, * * * *",
            "`5,` cannot be read as a minute: there is nothing beside a comma; leave the comma out or write a value there",
            "5,",
        ),
        (
            "0 0 L-31 * *",
            "`L-31` cannot be read as a day of the month: write `L-` and 0 to 30 days before the last of the month, as in `L-3`",
            "L-31",
        ),
        (
            "0 0 0W * *",
            "`0W` cannot be read as a day of the month: write one day of 1 to 31 before `W`, as in `15W`, or `LW`",
            "0W",
        ),
        (
            "0 0 * * 5#6",
            "`5#6` cannot be read as a weekday: write 1 to 5, or L for the last, after `#`, as in `FRI#2`",
            "5#6",
        ),
        (
            "0 0 * * L",
            "`L` is not a weekday; write the weekday before it, as in `5L` for the last Friday of the month",
            "L",
        ),
        (
            "H * * * *",
            "`H` is not a minute; Jenkins' `H` is not known here; write a number and give the schedule a `jitter`",
            "H",
        ),
        ("0 0 last * *", "`last` is not a day of the month; write `L` for the last day of the month", "last"),
        ("@dayly", "`@dayly` is not an alias; did you mean @daily?", "@dayly"),
        ("@every", "`@every` is not an alias; write the interval after it, as in `@every 5m`", "@every"),
        (
            "@every 5",
            "`@every 5` cannot be read as an interval: `5` is not a duration: `5` has no unit; write it with units, as in `90s`, `10m`, `1h30m` or `250ms`",
            "5",
        ),
        ("0 0 31 2 *", "it never fires: no February has such a day", "0 0 31 2 *"),
        ("0 0 30 2 *", "it never fires: no February has such a day", "0 0 30 2 *"),
        (
            "0 0 31 4,6,9,11 *",
            "it never fires: no April, June, September and November has such a day",
            "0 0 31 4,6,9,11 *",
        ),
        ("0 0 0 29 2 * 2027", "it never fires: no such day comes in 2027", "0 0 0 29 2 * 2027"),
        (
            "* * *",
            "it has 3 fields; write 5 (minute hour day month weekday), 6 (second first) or 7 (year last)",
            "* * *",
        ),
    ] {
        let error = check_cron(expression, Dialect::Vixie).unwrap_err();
        assert_eq!(error.to_string(), message, "{expression}");
        assert_eq!(&expression[error.range()], part, "{expression}");
    }
}

#[test]
fn any_text_gets_an_answer_and_a_range_inside_it() {
    let mut seeded = Seeded(11);
    let pieces = [
        "*",
        "/",
        "-",
        ",",
        "5",
        "0",
        "L",
        "W",
        "#",
        "?",
        " ",
        "MON",
        "jan",
        "@",
        "every",
        "é",
        "\u{a0}",
        "99999999999",
        "\t",
    ];
    for _ in 0..20_000 {
        let text: String = (0..seeded.below(16)).map(|_| *seeded.pick(&pieces)).collect();
        for dialect in [Dialect::Vixie, Dialect::Supertask] {
            if let Err(error) = check_cron(&text, dialect) {
                assert!(text.get(error.range()).is_some(), "{text:?}: {error:?}");
            }
        }
    }
}

#[test]
fn the_number_of_a_weekday_is_one_digit() {
    for nth in ["+1", "01", "6", "0", ""] {
        let expression = format!("0 0 * * MON#{nth}");
        let error = check_cron(&expression, Dialect::Vixie).unwrap_err();
        assert!(error.to_string().contains("write 1 to 5, or L for the last"), "{expression}: {error}");
    }
    assert!(check_cron("0 0 * * MON#5", Dialect::Vixie).is_ok());
}

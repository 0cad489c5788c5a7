//! The search against croner, an implementation by other people, over 10 000 random expressions and 50 moments each.
//!
//! Known differences, kept out of the comparison:
//!
//! - croner counts as a time of the day only what names one single second, minute and hour; `0,30 2 * * *` is an
//!   interval to it, and a time of the day here (as in Vixie cron). Such expressions are compared in UTC.
//! - croner ends its search in years without a day (`TimeSearchLimitExceeded`), for example in a zone that skipped a
//!   whole day; and it does not look beyond the year 5000.
//! - a day field such as `*/2` beside a weekday: croner takes only a bare `*` as unrestricted and so reads "or" where
//!   Vixie cron and this crate read "and". croner is told to with its `+` there.
//! - croner has no `L-3`, `5L` (it writes `5#L`), `5/10`, `@every`.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use croner::parser::{CronParser, Seconds, Year};
use jiff::{Timestamp, tz::TimeZone};
use support::*;

const ZONES: &[&str] = &[
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Beirut",
    "America/Santiago",
    "Africa/Cairo",
    "Europe/Dublin",
    "Asia/Gaza",
    "America/Havana",
    "Asia/Kolkata",
];

struct Random {
    expression: String,
    /// The same to croner.
    theirs: String,
    /// One second, minute and hour, or interval-like in both senses.
    same_class: bool,
}

fn field(seeded: &mut Seeded, min: u64, max: u64, star: u64, single: u64) -> String {
    if seeded.chance(star) {
        return if seeded.chance(60) {
            "*".into()
        } else {
            format!("*/{}", 2 + seeded.below((max - min - 1).min(14)))
        };
    }
    if seeded.chance(single) {
        return (min + seeded.below(max - min + 1)).to_string();
    }
    let mut parts = Vec::new();
    for _ in 0..1 + seeded.below(3) {
        let from = min + seeded.below(max - min + 1);
        let to = from + seeded.below(max - from + 1);
        parts.push(match seeded.below(4) {
            0 if to > from + 1 => format!("{from}-{to}/{}", 1 + seeded.below(to - from)),
            1 => format!("{from}-{to}"),
            _ => from.to_string(),
        });
    }
    parts.join(",")
}

fn random(seeded: &mut Seeded) -> Random {
    let second = if seeded.chance(25) { Some(field(seeded, 0, 59, 30, 70)) } else { None };
    let minute = field(seeded, 0, 59, 30, 60);
    let hour = field(seeded, 0, 23, 40, 60);
    let restricted_day = seeded.chance(30);
    let day = match (restricted_day, seeded.below(6)) {
        (false, _) => "*".to_owned(),
        (_, 0) => "L".to_owned(),
        (_, 1) => format!("{}W", 1 + seeded.below(28)),
        (_, 2) => "LW".to_owned(),
        _ => field(seeded, 1, 31, 25, 50),
    };
    let month = field(seeded, 1, 12, 80, 50);
    let names = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
    let weekday = match (seeded.chance(35), seeded.below(5)) {
        (false, _) => "*".to_owned(),
        (_, 0) => format!("{}#{}", seeded.below(7), 1 + seeded.below(4)),
        (_, 1) => format!("{}#L", seeded.below(7)),
        (_, 2) => names[seeded.below(7) as usize].to_owned(),
        _ => field(seeded, 0, 6, 15, 50),
    };
    let starred =
        [Some(&minute), Some(&hour), second.as_ref()].into_iter().flatten().any(|f| f.starts_with('*'));
    let single =
        [Some(&minute), Some(&hour), second.as_ref()].into_iter().flatten().all(|f| f.parse::<u8>().is_ok());
    let starred_step = |field: &str| field.starts_with("*/");
    let both = day != "*" && weekday != "*" && (starred_step(&day) || starred_step(&weekday));
    let year = if second.is_some() && seeded.chance(10) { " 2026-2099/2" } else { "" };
    let write = |and: &str| {
        let front = second.as_ref().map(|second| format!("{second} ")).unwrap_or_default();
        format!("{front}{minute} {hour} {day} {month} {and}{weekday}{year}")
    };
    Random {
        expression: write(""),
        theirs: write(if both { "+" } else { "" }),
        same_class: starred || single,
    }
}

/// Compares `count` expressions; gives how many moments were compared.
fn compare(seed: u64, count: usize) -> usize {
    let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Optional).build();
    let mut seeded = Seeded(seed);
    let (mut compared, mut expressions) = (0, 0);
    while expressions < count {
        let random = random(&mut seeded);
        let zone = if random.same_class { *seeded.pick(ZONES) } else { "UTC" };
        let start = Timestamp::from_second(1_577_836_800 + seeded.below(500_000_000) as i64).unwrap();
        let Ok(trigger) = compile(&cron(&random.expression), zone) else {
            assert!(
                parser.parse(&random.theirs).is_ok_and(|theirs| {
                    theirs.find_next_occurrence(&start.to_zoned(TimeZone::UTC), false).is_err()
                }),
                "only we refuse {}",
                random.expression
            );
            continue;
        };
        expressions += 1;
        let theirs = parser.parse(&random.theirs).unwrap_or_else(|e| panic!("{}: {e}", random.expression));
        let tz = TimeZone::get(zone).unwrap();
        let mut after = start;
        for theirs in theirs.iter_after(start.to_zoned(tz)).take(50) {
            let ours = trigger.next_after(after, start).unwrap().map(|due| due.nominal);
            assert_eq!(ours, Some(theirs.timestamp()), "{} in {zone} after {after}", random.expression);
            after = theirs.timestamp();
            compared += 1;
        }
    }
    compared
}

macro_rules! quarters {
    ($($name:ident: $seed:literal),*) => {$(
        #[test]
        fn $name() {
            let compared = compare($seed, 2_500);
            assert!(compared > 110_000, "only {compared} moments were compared");
        }
    )*};
}

// Four tests, so that they run beside one another.
quarters! {
    the_first_2500_random_expressions_agree_with_croner: 1,
    the_second_2500_random_expressions_agree_with_croner: 2,
    the_third_2500_random_expressions_agree_with_croner: 3,
    the_fourth_2500_random_expressions_agree_with_croner: 4
}

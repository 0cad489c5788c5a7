//! The search against a walk over every second (or minute) of UTC that asks a naive matcher.
//!
//! The matcher shares nothing with the crate: it reads the text of the expression itself and asks jiff for the local
//! time of each moment. It knows the meaning of daylight saving time from its definition: a moment is due when its
//! local time matches and is, for times of the day, the first (last) of that local time; and the first moment after a
//! gap is due when a local time in the gap matches.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::collections::BTreeSet;

use jiff::{Timestamp, ToSpan, civil, tz::TimeZone};
use ostler_model::trigger::{Fold, Gap};
use support::*;

const ZONES: &[&str] = &[
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Beirut",
    "America/Santiago",
    "Africa/Cairo",
    "Europe/Dublin",
    "Asia/Gaza",
    "America/Havana",
    "Africa/Casablanca",
    "Asia/Kathmandu",
    "America/St_Johns",
];

struct Naive {
    sets: [BTreeSet<i64>; 5],
    either: bool,
    interval_like: bool,
}

impl Naive {
    /// Five fields of numbers, ranges, steps and stars.
    fn read(text: &str) -> Self {
        let fields: Vec<&str> = text.split(' ').collect();
        let bounds = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 6)];
        let sets = std::array::from_fn(|i| {
            let mut set = BTreeSet::new();
            for part in fields[i].split(',') {
                let (body, step) = part.split_once('/').unwrap_or((part, "1"));
                let (from, to) = match body.split_once('-') {
                    _ if body == "*" => bounds[i],
                    Some((from, to)) => (from.parse().unwrap(), to.parse().unwrap()),
                    None => (body.parse().unwrap(), body.parse().unwrap()),
                };
                set.extend((from..=to).step_by(step.parse().unwrap()));
            }
            set
        });
        let star = |i: usize| fields[i].starts_with('*');
        Self { either: !star(2) && !star(4), interval_like: star(0) || star(1) || sets[1].len() == 24, sets }
    }

    fn matches(&self, at: civil::DateTime) -> bool {
        let has = |i: usize, value: i8| self.sets[i].contains(&i64::from(value));
        let day = has(2, at.day());
        let weekday = has(4, at.weekday().to_sunday_zero_offset());
        let days = if self.either { day || weekday } else { day && weekday };
        at.second() == 0 && has(0, at.minute()) && has(1, at.hour()) && has(3, at.month()) && days
    }

    fn due(&self, from: Timestamp, until: Timestamp, tz: &TimeZone, gap: Gap, fold: Fold) -> Vec<Timestamp> {
        let mut all = Vec::new();
        let mut at = from;
        let mut before = tz.to_datetime(at - 1.minute());
        while at < until {
            let local = tz.to_datetime(at);
            let kept = self.interval_like
                || match tz.to_ambiguous_timestamp(local) {
                    ambiguous if !ambiguous.is_ambiguous() => true,
                    ambiguous => match fold {
                        Fold::First => ambiguous.earlier().unwrap() == at,
                        Fold::Last => ambiguous.later().unwrap() == at,
                        Fold::Both => true,
                    },
                };
            let mut due = kept && self.matches(local);
            if !self.interval_like && gap == Gap::Shift {
                let mut missing = before + 1.minute();
                while missing < local {
                    due |= self.matches(missing);
                    missing += 1.minute();
                }
            }
            if due {
                all.push(at);
            }
            before = local;
            at += 1.minute();
        }
        all
    }
}

fn field(seeded: &mut Seeded, min: u64, max: u64, star: u64) -> String {
    if seeded.chance(star) {
        return if seeded.chance(70) {
            "*".into()
        } else {
            format!("*/{}", 1 + seeded.below((max - min).min(12)))
        };
    }
    let mut parts = Vec::new();
    for _ in 0..1 + seeded.below(3) {
        let from = min + seeded.below(max - min + 1);
        parts.push(match seeded.below(3) {
            0 => {
                let to = from + seeded.below(max - from + 1);
                let steps = if to > from && seeded.chance(40) {
                    format!("/{}", 1 + seeded.below(to - from))
                } else {
                    String::new()
                };
                format!("{from}-{to}{steps}")
            }
            _ => from.to_string(),
        });
    }
    parts.join(",")
}

fn random_expression(seeded: &mut Seeded) -> String {
    let minute = field(seeded, 0, 59, 30);
    // Hours near the changes of the clocks, mostly.
    let hour = if seeded.chance(60) {
        (0..1 + seeded.below(2)).map(|_| seeded.below(4).to_string()).collect::<Vec<_>>().join(",")
    } else {
        field(seeded, 0, 23, 40)
    };
    let day = field(seeded, 1, 31, 75);
    let month = field(seeded, 1, 12, 85);
    let weekday = field(seeded, 0, 6, 70);
    format!("{minute} {hour} {day} {month} {weekday}")
}

#[test]
fn every_minute_around_every_kind_of_change_agrees_with_a_naive_walk() {
    let mut seeded = Seeded(2026);
    let mut compared = 0;
    for zone in ZONES {
        let tz = TimeZone::get(zone).unwrap();
        let mut changes: Vec<Timestamp> = tz
            .following(at("2020-01-01T00:00:00Z"))
            .map(|t| t.timestamp())
            .take_while(|t| *t < at("2036-01-01T00:00:00Z"))
            .collect();
        changes.push(at("2026-02-28T12:00:00Z"));
        for _ in 0..24 {
            let change = *seeded.pick(&changes);
            let (from, until) = (change - 30.hours(), change + 40.hours());
            let expression = random_expression(&mut seeded);
            let naive = Naive::read(&expression);
            let (gap, fold) = (
                *seeded.pick(&[Gap::Shift, Gap::Skip]),
                *seeded.pick(&[Fold::First, Fold::Last, Fold::Both]),
            );
            let mut wanted = cron(&expression);
            wanted.dst = dst(gap, fold);
            let Ok(trigger) = compile(&wanted, zone) else { continue };
            let ours: Vec<Timestamp> =
                trigger.between(from, until, from).map(|due| due.unwrap().nominal).collect();
            let theirs = naive.due(from, until, &tz, gap, fold);
            assert_eq!(ours, theirs, "{expression} in {zone} around {change}, {gap:?} {fold:?}");
            let mut back = Vec::new();
            let mut before = until;
            while let Some(due) =
                trigger.previous_before(before, from).unwrap().filter(|due| due.nominal >= from)
            {
                back.push(due.nominal);
                before = due.nominal;
            }
            back.reverse();
            assert_eq!(back, theirs, "{expression} in {zone} backwards around {change}, {gap:?} {fold:?}");
            compared += theirs.len();
        }
    }
    assert!(compared > 5_000, "only {compared} moments were compared");
}

#[test]
fn a_whole_missing_day_agrees_with_a_naive_walk() {
    let tz = TimeZone::get("Pacific/Apia").unwrap();
    let (from, until) = (at("2011-12-29T00:00:00Z"), at("2012-01-02T00:00:00Z"));
    for expression in ["0 8 * * *", "0 0 * * *", "30 23 * * *", "*/30 * * * *", "0 12 30 12 *", "0 0 * * 5"] {
        for gap in [Gap::Shift, Gap::Skip] {
            let mut wanted = cron(expression);
            wanted.dst = dst(gap, Fold::First);
            let trigger = compile(&wanted, "Pacific/Apia").unwrap();
            let ours: Vec<Timestamp> =
                trigger.between(from, until, from).map(|due| due.unwrap().nominal).collect();
            assert_eq!(
                ours,
                Naive::read(expression).due(from, until, &tz, gap, Fold::First),
                "{expression} {gap:?}"
            );
        }
    }
}

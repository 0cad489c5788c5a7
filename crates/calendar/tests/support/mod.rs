//! Triggers in few words, for tests.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    reason = "each test binary uses its part"
)]

use jiff::Timestamp;
use ostler_calendar::{CalendarError, Calendars, Due, Trigger};
use ostler_model::{
    Span, TriggerSpec,
    trigger::{Dialect, Dst, Fold, Gap, Interval, Pace, Rhythm},
};

pub fn spec(rhythm: Rhythm) -> TriggerSpec {
    TriggerSpec {
        rhythm,
        timezone: None,
        dst: Dst::default(),
        jitter: None,
        offset: None,
        only: vec![],
        except: vec![],
        start: None,
        end: None,
        count: None,
    }
}

pub fn cron(expression: &str) -> TriggerSpec {
    spec(Rhythm::Cron { expression: expression.into(), dialect: Dialect::Vixie })
}

pub fn supertask(expression: &str) -> TriggerSpec {
    spec(Rhythm::Cron { expression: expression.into(), dialect: Dialect::Supertask })
}

pub fn every(span: &str) -> TriggerSpec {
    let span: Span = span.parse().unwrap();
    spec(Rhythm::Every { interval: Interval::Elapsed(span), pace: Pace::Precise })
}

pub fn dst(gap: Gap, fold: Fold) -> Dst {
    Dst { gap, fold }
}

pub fn compile(spec: &TriggerSpec, zone: &str) -> Result<Trigger, CalendarError> {
    Trigger::compile(spec, zone, &Calendars::default(), 7)
}

pub fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The first due moments after one, with the anchor at that moment.
pub fn next(trigger: &Trigger, after: &str, count: usize) -> Vec<Due> {
    let anchor = at(after);
    let mut after = anchor;
    let mut all = Vec::new();
    while all.len() < count
        && let Some(due) = trigger.next_after(after, anchor).unwrap()
    {
        assert!(due.nominal > after, "{} is not after {after}", due.nominal);
        after = due.nominal;
        all.push(due);
    }
    all
}

/// Their local times in the trigger's zone.
pub fn locals(trigger: &Trigger, after: &str, count: usize) -> Vec<String> {
    next(trigger, after, count)
        .iter()
        .map(|due| trigger.local(due.nominal).strftime("%a %Y-%m-%d %H:%M:%S %z").to_string())
        .collect()
}

/// A reproducible stream of numbers (SplitMix64).
pub struct Seeded(pub u64);

impl Seeded {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }
}

/// Compares with a file of `tests/golden`; with `OSTLER_UPDATE_GOLDEN=1` writes it instead.
pub fn golden(name: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("OSTLER_UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
        return;
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    for (number, (golden, now)) in golden.lines().zip(text.lines()).enumerate() {
        assert_eq!(now, golden, "tests/golden/{name}:{}; OSTLER_UPDATE_GOLDEN=1 writes it anew", number + 1);
    }
    assert_eq!(
        text.lines().count(),
        golden.lines().count(),
        "tests/golden/{name} has another number of lines"
    );
}

//! The search against two Python programs, croniter and APScheduler 3, over 10 000 random expressions and 50 moments
//! each, in UTC (their rules for daylight saving time are their own). It runs with `OSTLER_TEST_CRONITER=1`; see
//! `tests/croniter/compare.py` for what it needs. Without it the test says that it was skipped.
//!
//! Known differences, kept out of the comparison:
//!
//! - croniter wants a numbered weekday (`6#3`) and a day both, where plain weekdays are "or"; here both are "or".
//! - croniter takes `*/2` beside a weekday as restricted, so "or" where Vixie cron says "and".

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::{
    io::Write,
    process::{Command, Stdio},
};

use jiff::Timestamp;
use ostler_model::TriggerSpec;
use support::*;

fn field(seeded: &mut Seeded, min: u64, max: u64, star: u64, step: u64) -> String {
    if seeded.chance(star) {
        return if seeded.chance(100 - step) {
            "*".into()
        } else {
            format!("*/{}", 2 + seeded.below((max - min - 1).min(14)))
        };
    }
    let mut parts = Vec::new();
    for _ in 0..1 + seeded.below(3) {
        let from = min + seeded.below(max - min + 1);
        let to = from + seeded.below(max - from + 1);
        parts.push(match seeded.below(4) {
            0 if to > from + 1 => format!("{from}-{to}/{}", 1 + seeded.below(to - from)),
            1 if to > from => format!("{from}-{to}"),
            _ => from.to_string(),
        });
    }
    parts.join(",")
}

fn random(seeded: &mut Seeded, supertask: bool) -> String {
    let seconds = if seeded.chance(20) { field(seeded, 0, 59, 30, 40) + " " } else { String::new() };
    let minute = field(seeded, 0, 59, 30, 40);
    let hour = field(seeded, 0, 23, 40, 40);
    let day = match seeded.below(12) {
        0 if supertask => "last".to_owned(),
        0 => "L".to_owned(),
        _ => field(seeded, 1, 31, 65, if supertask { 30 } else { 0 }),
    };
    let month = field(seeded, 1, 12, 80, 30);
    let weekday = match seeded.below(12) {
        0 => "mon-fri".to_owned(),
        1 if !supertask && day == "*" => format!("{}#{}", seeded.below(7), 1 + seeded.below(4)),
        _ => field(seeded, 0, 6, 65, if supertask { 30 } else { 0 }),
    };
    format!("{seconds}{minute} {hour} {day} {month} {weekday}")
}

#[test]
fn ten_thousand_random_expressions_agree_with_croniter_and_apscheduler() {
    if std::env::var_os("OSTLER_TEST_CRONITER").is_none() {
        eprintln!(
            "SKIPPED: croniter and APScheduler as oracles; OSTLER_TEST_CRONITER=1 runs it (tests/croniter/compare.py)"
        );
        return;
    }
    let count: usize = std::env::var("OSTLER_TEST_CRONITER_COUNT").map_or(10_000, |n| n.parse().unwrap());
    let mut seeded = Seeded(424_242);
    let mut cases: Vec<(&str, TriggerSpec, String, i64)> = Vec::new();
    while cases.len() < count {
        let dialect = if cases.len().is_multiple_of(2) { "croniter" } else { "apscheduler" };
        let expression = random(&mut seeded, dialect == "apscheduler");
        let spec = if dialect == "croniter" { cron(&expression) } else { supertask(&expression) };
        if compile(&spec, "UTC").is_ok() {
            let start = 1_577_836_800 + seeded.below(400_000_000) as i64;
            cases.push((dialect, spec, expression, start));
        }
    }
    let python = std::env::var("OSTLER_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/croniter/compare.py");
    let mut child =
        Command::new(python).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let questions: String = cases
        .iter()
        .map(|(oracle, _, expression, start)| format!("{oracle}\t{expression}\t{start}\n"))
        .collect();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(questions.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    let answers = String::from_utf8(output.stdout).unwrap();
    let (mut moments, mut slow, mut refused) = (0, 0, Vec::new());
    for ((oracle, spec, expression, start), answer) in cases.iter().zip(answers.lines()) {
        match answer {
            "slow" => slow += 1,
            "error" => refused.push(expression),
            _ => {
                let trigger = compile(spec, "UTC").unwrap();
                let mut after = Timestamp::from_second(*start).unwrap();
                for theirs in answer.split(' ').filter(|text| !text.is_empty()) {
                    let ours = trigger.next_after(after, after).unwrap().unwrap().nominal;
                    assert_eq!(
                        ours.as_second(),
                        theirs.parse::<i64>().unwrap(),
                        "{oracle}: `{expression}` after {after}"
                    );
                    after = ours;
                    moments += 1;
                }
            }
        }
    }
    assert_eq!(answers.lines().count(), cases.len());
    eprintln!(
        "{} expressions, {moments} moments; too slow for them: {slow}; refused by them: {refused:?}",
        cases.len()
    );
    assert!(refused.len() * 50 < cases.len(), "they refused {} expressions", refused.len());
}

//! APScheduler's jobs: each is due when APScheduler itself says, and what cannot be carried over is told.
//!
//! The comparison with APScheduler runs with `OSTLER_TEST_CRONITER=1` and a Python that has it (`OSTLER_TEST_PYTHON`); see
//! `tests/apscheduler/next.py`. Without it the test says that it was skipped.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    io::Write,
    process::{Command, Stdio},
};

use jiff::Timestamp;
use ostler_import::{File, Options, apscheduler};
use ostler_model::{
    definition::{MissedPolicy, OnConflict, Overlap, TaskDef},
    trigger::Rhythm,
};
use serde_json::{Map, Value, json};
use support::{golden, load};

fn imported(name: &str, text: &str) -> Vec<TaskDef> {
    let options = Options { timezone: Some("UTC".into()), ..Options::default() };
    let imported = apscheduler(&[File::new(name, text)], &options).unwrap_or_else(|e| panic!("{e}"));
    load(&imported).tasks
}

#[test]
fn a_python_source_is_imported_as_a_whole() {
    let file = File::new("app/jobs.py", include_str!("golden/apscheduler.input.py"));
    let imported = apscheduler(&[file], &Options::default()).unwrap();
    golden("apscheduler.yaml", &imported.yaml);
    let tasks = load(&imported).tasks;
    assert_eq!(tasks.len(), 12);
    let task = |id: &str| tasks.iter().find(|t| t.id.as_str() == id).unwrap_or_else(|| panic!("{id}"));
    assert_eq!(task("digest").schedules[0].missed.policy, MissedPolicy::Latest);
    assert_eq!(task("digest").schedules[0].overlap, Overlap::Skip);
    assert_eq!(task("report").schedules[0].missed.policy, MissedPolicy::All);
    let limit = task("count").policy.concurrency.as_ref().unwrap();
    assert_eq!((limit.limit, limit.on_conflict), (3, OnConflict::Skip));
    for id in ["unknown", "old"] {
        assert!(!task(id).enabled, "{id}");
    }
    assert!(!task("weekly").schedules[0].enabled);
    assert_eq!(task("both").schedules.len(), 2);
}

#[test]
fn a_list_in_json_is_the_same_as_one_in_python() {
    let json = r#"{"SCHEDULER_TIMEZONE": "Asia/Tokyo", "JOBS": [{"id": "a", "func": "m:f", "trigger": "cron", "hour": 3}]}"#;
    let python = "class Config:\n  SCHEDULER_TIMEZONE: str = 'Asia/Tokyo'\n  JOBS = [dict(id='a', func='m:f', trigger='cron', hour=3)]\n";
    let (json, python) = (imported("jobs.json", json), imported("jobs.py", python));
    assert_eq!(json, python);
    assert_eq!(json[0].schedules[0].trigger.timezone.as_deref(), Some("Asia/Tokyo"));
    let app = "app.config['JOBS'] = [{'func': 'm:f', 'trigger': 'date'}]\nsettings = {'SCHEDULER_TIMEZONE': 'UTC'}\n";
    assert_eq!(imported("app.py", app)[0].schedules[0].trigger.rhythm, Rhythm::Reboot);
}

#[test]
fn what_is_wrong_is_told_with_file_and_line() {
    let told =
        |text: &str| apscheduler(&[File::new("j.py", text)], &Options::default()).unwrap_err().to_string();
    for (text, words) in [
        ("x = 1\n", "j.py: there are no jobs"),
        (
            "JOBS = [\n {'id': 'a'}]\n",
            "j.py:2: the job has no `func`: write `func: \"package.module:function\"`",
        ),
        ("JOBS = [{'func': 'f', 'trigger': 'cron'}]\n", "j.py:1: `func`: `f` cannot be called by name"),
        (
            "s.add_job(lambda: 1, 'interval', hours=1)\n",
            "j.py:1: `func`: `lambda: 1` cannot be called by name",
        ),
        ("JOBS = [{'func': 'm:f',\n 'trigger': 'solar'}]\n", "j.py:2: the trigger `solar` is not known"),
        ("s.add_job('m:f', 'cron', day_of_week=7)\n", "j.py:1: cron `0 0 * * 7`: `7` is not a weekday"),
        ("s.add_job('m:f', 'cron', hour=24)\n", "`24` is not an hour"),
        ("s.add_job('m:f', 'date', run_date='soon')\n", "`run_date`: `soon` is not a moment"),
        ("s.add_job('m:f', 'cron', hour=1, timezone='Mars')\n", "timezone: "),
        ("JOBS = [1]\n", "this job is no map"),
    ] {
        let found = told(text);
        assert!(found.contains(words), "{text}: {found}");
    }
}

/// A stream of numbers that is the same each time (SplitMix64).
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len() as u64) as usize]
    }
}

/// The arguments of a random trigger.
fn random(seeded: &mut Seeded) -> Map<String, Value> {
    let mut job = Map::new();
    let starts = ["2027-02-01 00:00:00", "2027-03-05T10:20:30", "2026-12-31"];
    match seeded.below(10) {
        0 => {
            job.insert("trigger".into(), "date".into());
            job.insert(
                "run_date".into(),
                seeded.one(&["2027-05-01 10:00:00", "2027-05-02", "2027-05-03T04:05:06+02:00"]).into(),
            );
        }
        1 | 2 => {
            job.insert("trigger".into(), "interval".into());
            let unit = seeded.one(&["weeks", "days", "hours", "minutes", "seconds"]);
            job.insert(unit.into(), (1 + seeded.below(90)).into());
            if seeded.below(2) == 0 {
                job.insert("minutes".into(), (1 + seeded.below(90)).into());
            }
            job.insert("start_date".into(), seeded.one(&starts).into());
        }
        _ => {
            job.insert("trigger".into(), "cron".into());
            for (name, values) in [
                ("year", &["2027", "2027-2029", "*"][..]),
                ("month", &["1", "*/3", "jan-mar", "6,12", "*"]),
                (
                    "day",
                    &[
                        "1",
                        "last",
                        "*/5",
                        "10-20",
                        "31",
                        "1st mon",
                        "2nd fri,4th fri",
                        "last sun",
                        "3rd wed, 15",
                    ],
                ),
                ("day_of_week", &["0", "mon-fri", "6", "sat,sun", "*/2", "0-4"]),
                ("hour", &["3", "*/4", "9-17", "0,12", "8-18/3", "*"]),
                ("minute", &["30", "*/15", "5,35", "0-30/10", "*"]),
                ("second", &["10", "*/20", "*"]),
            ] {
                if seeded.below(10) < 3 {
                    let value = seeded.one(values);
                    // A position of a weekday beside a weekday is not carried over.
                    let is_position = |v: &str| {
                        v.contains("mon") || v.contains("fri") || v.contains("sun") || v.contains("wed")
                    };
                    if name == "day_of_week"
                        && job.get("day").and_then(Value::as_str).is_some_and(is_position)
                    {
                        continue;
                    }
                    let number = value.parse::<u32>().ok().filter(|_| seeded.below(2) == 0);
                    job.insert(name.into(), number.map_or_else(|| value.into(), Value::from));
                }
            }
        }
    }
    for (key, moment) in [("start_date", "2027-02-14 12:00:00"), ("end_date", "2027-09-30 12:00:00")] {
        if job["trigger"] != "date" && !job.contains_key(key) && seeded.below(5) == 0 {
            job.insert(key.into(), moment.into());
        }
    }
    job
}

#[test]
fn two_thousand_random_jobs_are_due_when_apscheduler_says() {
    if std::env::var_os("OSTLER_TEST_CRONITER").is_none() {
        eprintln!(
            "SKIPPED: APScheduler as an oracle; OSTLER_TEST_CRONITER=1 runs it (tests/apscheduler/next.py)"
        );
        return;
    }
    let mut seeded = Seeded(20_270_101);
    let jobs: Vec<Map<String, Value>> = (0..2000).map(|_| random(&mut seeded)).collect();
    let after: Timestamp = "2027-01-15T00:00:00Z".parse().unwrap();
    let question = json!({ "after": after.as_second(), "count": 20, "jobs": jobs }).to_string();
    let python = std::env::var("OSTLER_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/apscheduler/next.py");
    let mut child =
        Command::new(python).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(question.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let answers: Vec<Option<Vec<i64>>> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answers.len(), jobs.len());
    let (mut moments, mut never) = (0, 0);
    for (mut job, theirs) in jobs.into_iter().zip(answers) {
        job.insert("func".into(), "m:f".into());
        let text = json!([job]).to_string();
        let options = Options { timezone: Some("UTC".into()), ..Options::default() };
        let found = match apscheduler(&[File::new("jobs.json", text.clone())], &options) {
            Ok(found) => found,
            // What can never come is refused here, and not there.
            Err(error) => {
                assert_eq!(theirs.unwrap_or_default(), Vec::<i64>::new(), "{error}: {text}");
                never += 1;
                continue;
            }
        };
        let tasks = load(&found).tasks;
        let task = &tasks[0];
        assert!(task.enabled && task.schedules[0].enabled, "{text}: {}", found.yaml);
        let trigger = ostler_engine::compile_trigger(task, &task.schedules[0], "demo").unwrap();
        let mut ours = Vec::new();
        let mut at = after;
        while ours.len() < 20
            && let Some(due) = trigger.next_after(at, after).unwrap()
        {
            ours.push(due.nominal.as_second());
            at = due.nominal;
        }
        let theirs = theirs.unwrap_or_else(|| panic!("APScheduler refuses {text}"));
        assert_eq!(ours, theirs, "{text}\n{}", found.yaml);
        moments += ours.len();
    }
    eprintln!("2000 jobs, {moments} moments; {never} that never come");
    assert!(moments > 20_000 && never < 100, "{moments} moments, {never}");
}

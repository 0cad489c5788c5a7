//! Seeded histories of a whole engine over the real store in memory: crashes at commit boundaries, lost and paused
//! nodes, clock jumps, slow, failing and deaf executions, answers, ends and letters that overtake one another, checked
//! against what must hold whatever happens.
//!
//! `OSTLER_SIM_SEEDS=10000` runs more of them, `OSTLER_SIM_SEED=7` one, with everything that happened printed.
#![allow(clippy::unwrap_used, reason = "a test fails where a value is missing")]

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use jiff::{SignedDuration, Timestamp};
use ostler_api::{PageRequest, RunQuery, SignalRequest};
use ostler_clock::{Entropy, SeededEntropy};
use ostler_model::{Cause, MachineId, RunState, definition::Timetable};
use ostler_service::Actor;
use ostler_store::StartOutcome;
use ostler_testkit::{Crash, World, ends_with, fails};
use serde_json::json;

/// How many seeds a plain test run takes.
const DEFAULT_SEEDS: u64 = 100;

/// Length of the schedule's grid.
const EVERY: i64 = 7 * 60;

/// Every way to end.
const FINAL: [&str; 5] = ["succeeded", "failed", "cancelled", "skipped", "timed_out"];

/// How many of `limited` may run at a time.
const LIMIT: usize = 2;

fn timetable() -> Timetable {
    let step =
        |id: &str, uses: &str, needs: &[&str]| json!({ "id": id, "uses": uses, "run": "x", "needs": needs });
    let task = |id: &str, rest: serde_json::Value| {
        let mut task =
            json!({ "id": id, "name": id, "timezone": "UTC", "steps": [step("main", "shell", &[])] });
        task.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        task
    };
    let retry = json!({ "attempts": 3, "initial": "5s", "jitter": true });
    let every = json!({ "rhythm": { "every": { "interval": { "elapsed": "7m" }, "pace": "precise" } } });
    serde_json::from_value(json!({
        "namespace": "sim", "ephemeral": false, "origin": "sim",
        "tasks": [
            task("once", json!({})),
            task("again", json!({ "policy": { "idempotent": true, "retry": retry, "timeout": { "attempt": "40s" } } })),
            task("sql", json!({ "steps": [step("main", "sql", &[])], "policy": { "timeout": { "total": "5m" } } })),
            task("limited", json!({ "policy": { "idempotent": true, "concurrency": { "limit": LIMIT } } })),
            task("rated", json!({ "policy": { "idempotent": true, "rate_limit": { "limit": 3, "per": "1m" } } })),
            task("unique", json!({ "policy": { "idempotent": true, "unique": "the one" } })),
            task("flow", json!({
                "policy": { "idempotent": true, "retry": retry },
                "steps": [
                    step("a", "shell", &[]),
                    { "id": "m", "uses": "shell", "run": "x", "needs": ["a"],
                      "matrix": { "combinations": [{ "n": 1 }, { "n": 2 }, { "n": 3 }], "max_parallel": 2, "fail_fast": true } },
                    step("b", "sql", &["a"]),
                    { "id": "c", "uses": "shell", "run": "x", "needs": ["m", "b"], "if": "always()" },
                ],
                "on_failure": [step("mourn", "shell", &[])],
            })),
            task("asking", json!({
                "policy": { "idempotent": true, "concurrency": { "limit": 2 } },
                "steps": [
                    step("a", "shell", &[]),
                    { "id": "w", "uses": "wait", "with": { "signal": "go" }, "timeout": "20m", "needs": ["a"] },
                    step("b", "shell", &["w"]),
                ],
            })),
            task("told", json!({
                "policy": { "idempotent": true },
                "triggers": [{ "id": "run1", "source": { "kind": "run", "task": "sql", "states": FINAL } }],
            })),
            task("ticking", json!({
                "policy": { "idempotent": true },
                "schedules": [{ "id": "s1", "trigger": every, "missed": { "policy": "all" } }],
            })),
        ],
    }))
    .unwrap()
}

/// What a seed showed.
#[derive(Default)]
struct Told {
    runs: usize,
    crashes: usize,
    stale: usize,
    states: BTreeSet<RunState>,
}

impl Told {
    fn add(&mut self, other: Self) {
        self.runs += other.runs;
        self.crashes += other.crashes;
        self.stale += other.stale;
        self.states.extend(other.states);
    }
}

fn simulate(seed: u64, aloud: bool) -> Told {
    let draw = SeededEntropy::new(seed);
    let begin: Timestamp = "2027-01-01T00:00:00Z".parse().unwrap();
    let mut world = World::seeded(begin, seed);
    world.push_timetable(&timetable());
    let dice = Arc::new(SeededEntropy::new(seed ^ 0x5eed));
    // What was executed, by machine: fences must grow, whoever executes.
    let fences: Arc<Mutex<HashMap<MachineId, Vec<u64>>>> = Arc::default();
    let seen = fences.clone();
    world.on_execute(move |request| {
        seen.lock().unwrap().entry(request.machine).or_default().push(request.fence);
        let mut behaviour =
            if dice.below(5) == 0 { fails("exit:1") } else { ends_with(json!(request.attempt)) };
        // Half of them in steps of half a minute, so that several end, and other things are due, at the same moment.
        let steps = if dice.below(2) == 0 { 30_000 } else { 1 };
        behaviour.takes = std::time::Duration::from_millis(dice.below(90_000) / steps * steps);
        behaviour.deaf = dice.below(20) == 0;
        behaviour
    });
    let tasks = ["once", "again", "sql", "limited", "rated", "unique", "flow", "asking"];
    let mut started: BTreeMap<MachineId, &str> = BTreeMap::new();
    let mut told = Told::default();
    for _ in 0..40 + draw.below(60) {
        let what = draw.below(22);
        match what {
            0..=7 => {
                let task = tasks[draw.below(tasks.len() as u64) as usize];
                if let StartOutcome::Started(id) = world.try_start(&format!("sim:{task}"), json!({})).unwrap()
                {
                    started.insert(id, task);
                }
            }
            8 => {
                if let Some((id, _)) = started.iter().nth(draw.below(started.len().max(1) as u64) as usize) {
                    world.cancel(*id);
                }
            }
            9 => {
                world.crash();
                told.crashes += 1;
            }
            10 | 11 => {
                let crash = if draw.below(2) == 0 { Crash::Before } else { Crash::After };
                world.crash_at(1 + draw.below(12), crash);
                told.crashes += 1;
            }
            12 => world.pause_node(),
            13 => told.stale += world.resume_paused(),
            14 => {
                // Forward or back by up to half an hour.
                let by = SignedDuration::from_secs(draw.below(3600) as i64 - 1800);
                let to = world.now().saturating_add(by).unwrap().max(begin);
                world.jump_to(to);
            }
            15 | 16 => {
                let asking: Vec<_> = started.iter().filter(|(_, task)| **task == "asking").collect();
                if !asking.is_empty() {
                    let id = world.service().uid(*asking[draw.below(asking.len() as u64) as usize].0);
                    let signal = SignalRequest { name: "go".into(), ..SignalRequest::default() };
                    // It may have ended, or been told before.
                    let _ = world.service().signal(&Actor::local("sim"), id, &signal);
                }
            }
            _ => {
                let until = world
                    .now()
                    .saturating_add(SignedDuration::from_millis(draw.below(120_000) as i64))
                    .unwrap();
                world.run_until(until);
            }
        }
        if aloud {
            println!("{} after {what}: {} runs", world.now(), world.runs().len());
        }
        check_limit(&world);
    }
    told.stale += world.resume_paused();
    world.run_until_idle();
    check(&world, &started, &fences.lock().unwrap(), &mut told);
    told
}

fn check_limit(world: &World) {
    let query = RunQuery {
        namespace: Some("sim".into()),
        task: Some("limited".into()),
        states: vec![RunState::Running],
        ..RunQuery::default()
    };
    let running =
        world.service().runs(&Actor::local("sim"), &query, &PageRequest::first(100)).unwrap().items.len();
    assert!(running <= LIMIT, "{running} of a task with limit {LIMIT} run at a time");
}

fn check(
    world: &World,
    started: &BTreeMap<MachineId, &str>,
    fences: &HashMap<MachineId, Vec<u64>>,
    told: &mut Told,
) {
    let actor = Actor::local("sim");
    let runs = world.runs();
    told.runs = runs.len();
    for (machine, fences) in fences {
        assert!(fences.windows(2).all(|w| w[0] < w[1]), "fences of {machine:?} do not grow: {fences:?}");
    }
    // Each end was told once, whatever crashed.
    let ended = runs.iter().filter(|r| r.task == "sql").map(|r| r.id.to_string());
    let ended: BTreeSet<String> = ended.collect();
    let heard: Vec<String> = runs
        .iter()
        .filter(|r| r.task == "told")
        .map(|r| match &r.cause {
            Some(Cause::Event { body, .. }) => body["run"].as_str().unwrap().to_owned(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(heard.len(), ended.len(), "an end was told twice or not at all");
    assert_eq!(heard.into_iter().collect::<BTreeSet<_>>(), ended);
    for (id, task) in started {
        let run = world.run(*id);
        told.states.insert(run.state);
        assert!(run.state.is_final(), "{task} was lost: {run:#?}");
        let history = world.service().history(&actor, run.id, 10_000).unwrap();
        let ends =
            history.iter().filter(|t| t.kind.parse::<RunState>().is_ok_and(RunState::is_final)).count();
        assert_eq!(ends, 1, "{task} ended {ends} times: {history:#?}");
        let steps: Vec<u64> = history.iter().map(|t| t.step).collect();
        assert!(steps.windows(2).all(|w| w[1] == w[0] + 1), "steps of {task} have a gap: {steps:?}");
        assert_eq!(steps.first(), Some(&1));
        let executions = fences.get(id).map_or(0, Vec::len);
        if *task == "once" {
            assert!(executions <= 1, "{task} was executed {executions} times");
        }
        if run.kind == "run" {
            // A claim that was lost counts as an attempt, whether its execution had begun or not: nobody can know.
            let lost_at_last =
                run.error.as_ref().is_some_and(|e| e.class.0 == "lost") && run.state == RunState::Failed;
            let lost =
                history.iter().filter(|t| t.kind == "attempt_lost").count() + usize::from(lost_at_last);
            assert!(run.attempts as usize <= executions + lost, "{task}: {executions} executions, {run:#?}");
            assert!(
                run.state != RunState::Succeeded || executions > 0,
                "{task} succeeded without being executed"
            );
        } else if *task == "flow" {
            let mourned = run.steps.iter().any(|s| s.step == "mourn" && s.state != RunState::Skipped);
            let failed = matches!(run.state, RunState::Failed | RunState::TimedOut);
            assert_eq!(mourned, failed, "the handler of {run:#?}");
        }
    }
    // Each due moment of the schedule has one run, without gaps, whatever the clock did.
    let mut due: Vec<i64> = runs
        .iter()
        .filter_map(|r| match &r.cause {
            Some(Cause::Schedule { due, .. }) => Some(due.as_second()),
            _ => None,
        })
        .collect();
    let fired = due.len();
    due.sort_unstable();
    due.dedup();
    assert_eq!(fired, due.len(), "a due moment fired twice");
    assert!(due.windows(2).all(|w| w[1] - w[0] == EVERY), "due moments have a gap: {due:?}");
}

#[test]
fn histories_with_crashes_keep_what_was_promised() {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    if let Some(seed) = number("OSTLER_SIM_SEED") {
        simulate(seed, true);
        return;
    }
    let seeds = number("OSTLER_SIM_SEEDS").unwrap_or(DEFAULT_SEEDS);
    // Each seed is a world of its own, so that as many run at a time as there are cores.
    let next = AtomicU64::new(0);
    let share = || {
        let mut mine = Told::default();
        while let Some(seed) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed < seeds) {
            let told = catch_unwind(AssertUnwindSafe(|| simulate(seed, false)));
            mine.add(
                told.unwrap_or_else(|_| panic!("seed {seed} failed; OSTLER_SIM_SEED={seed} shows it alone")),
            );
        }
        mine
    };
    let mut all = Told::default();
    std::thread::scope(|scope| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(share)).collect();
        threads.into_iter().for_each(|thread| all.add(thread.join().unwrap()));
    });
    println!(
        "{seeds} seeds: {} runs, {} crashes, {} stale commits refused, ends {:?}",
        all.runs, all.crashes, all.stale, all.states
    );
    // A simulation in which nothing goes wrong proves nothing.
    assert!(all.crashes > 0 && all.stale > 0 && all.states.len() >= 4);
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let (a, b) = (simulate(42, false), simulate(42, false));
    assert_eq!((a.runs, a.crashes, a.stale, a.states), (b.runs, b.crashes, b.stale, b.states));
}

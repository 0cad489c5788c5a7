//! Triggers, signals and approvals, through crashes too.
#![allow(clippy::unwrap_used, reason = "a test fails where a value is missing")]

use ostler_api::{FireRequest, PageRequest, SignalRequest, TriggerView, Verdict};
use ostler_engine::fields::{FileMark, SeenFiles};
use ostler_model::{MachineId, RunState};
use ostler_service::{Actor, ServiceError};
use ostler_testkit::{Crash, World, ends_well, ends_with, fails};
use serde_json::{Value, json};

fn world(tasks: &str) -> World {
    let mut world = World::new("2027-01-01T00:00:00Z");
    world.push(&format!(
        "meta: {{ type: ostler-timetable, version: 1, namespace: demo, timezone: UTC }}\ntasks:\n{tasks}"
    ));
    world.run_for("1s");
    world
}

fn me() -> Actor {
    Actor::local("me")
}

fn trigger(world: &World, task: &str) -> TriggerView {
    let page = world.service().triggers(&me(), None, &PageRequest::first(50)).unwrap();
    page.items.into_iter().find(|t| t.task == task && t.ended.is_none()).unwrap()
}

/// States and inputs of a task's runs, oldest first.
fn runs_of(world: &World, task: &str) -> Vec<(RunState, Value)> {
    world.runs().into_iter().filter(|r| r.task == task).map(|r| (r.state, Value::Object(r.inputs))).collect()
}

const CHAIN: &str = "  - { meta: { id: a }, inputs: { day: { type: string, default: mon } }, run: x }
  - meta: { id: b }
    inputs: { day: string, file: string, why: string }
    on:
      run:
        task: a
        state: [succeeded, failed]
        if: event.body.inputs.day != 'sun'
        inputs:
          day: ${{ event.body.inputs.day }}
          file: ${{ event.body.outputs.file ?? 'none' }}
          why: ${{ event.body.state }}
    run: x
";

#[test]
fn the_end_of_a_run_starts_another_once() {
    let mut world = world(CHAIN);
    world.on_execute(|r| match (&*r.task, r.inputs["day"].as_str()) {
        ("a", Some("tue")) => fails("exit:1"),
        ("a", _) => ends_with(json!({ "file": "f.csv" })),
        _ => ends_well(),
    });
    for day in ["mon", "tue", "sun"] {
        world.start("demo:a", json!({ "day": day }));
        world.run_until_idle();
    }
    let expected = [
        (RunState::Succeeded, json!({ "day": "mon", "file": "f.csv", "why": "succeeded" })),
        (RunState::Succeeded, json!({ "day": "tue", "file": "none", "why": "failed" })),
    ];
    assert_eq!(runs_of(&world, "b"), expected);
    let view = trigger(&world, "b");
    assert_eq!((view.fired, view.ignored, view.trigger.as_str()), (2, 1, "run1"));
}

#[test]
fn whatever_crashes_each_end_starts_one_run() {
    // Each write of the whole history is once the last one before a crash, before and after it.
    for crash in [Crash::Before, Crash::After] {
        for n in 1..40 {
            let mut world = world(CHAIN);
            world.on_execute(|_| ends_with(json!({ "file": "f" })));
            world.crash_at(n, crash);
            world.start("demo:a", json!({}));
            world.run_for("10m");
            let of_a = runs_of(&world, "a");
            let good = of_a.iter().filter(|(state, _)| *state == RunState::Succeeded).count();
            let ended = of_a.iter().filter(|(state, _)| state.is_final()).count();
            let of_b = runs_of(&world, "b").len();
            assert_eq!((ended, of_b), (1, 1), "crash {crash:?} at {n}: {good} good");
        }
    }
}

#[test]
fn runs_that_start_one_another_come_to_an_end() {
    let mut world = world(
        "  - { meta: { id: ping }, on: { run: pong }, run: x }\n  - { meta: { id: pong }, on: { run: ping }, run: x }\n",
    );
    world.start("demo:ping", json!({}));
    world.run_for("10m");
    assert_eq!(world.runs().len(), 33);
    let ignored = trigger(&world, "ping").ignored + trigger(&world, "pong").ignored;
    assert_eq!(ignored, 1);
}

#[test]
fn a_replay_is_counted_and_does_nothing() {
    let mut world = world(
        "  - meta: { id: hook }\n    inputs: { ref: string }\n    on: { webhook: { unsigned: true, inputs: { ref: '${{ event.body.ref }}' } } }\n    run: x\n",
    );
    let send = |world: &mut World, delivery: Option<&str>, body: Value| {
        let request = FireRequest { body, delivery: delivery.map(str::to_owned) };
        world.service().fire(&me(), ("demo", "hook", "webhook1"), request).unwrap();
        world.run_for("1s");
    };
    for delivery in [Some("d1"), Some("d2"), Some("d1"), None, None, Some("d2")] {
        send(&mut world, delivery, json!({ "ref": "main" }));
    }
    let view = trigger(&world, "hook");
    assert_eq!((view.fired, view.replays), (4, 2));
    assert_eq!(runs_of(&world, "hook").len(), 4);
    // One that was forgotten is known by its run.
    for n in 0..300 {
        send(&mut world, Some(&format!("n{n}")), json!({ "ref": "main" }));
    }
    send(&mut world, Some("d1"), json!({ "ref": "main" }));
    assert_eq!(runs_of(&world, "hook").len(), 304);
    // What does not fit is on record as a failed run.
    send(&mut world, Some("bad"), json!({ "ref": 3 }));
    assert_eq!(runs_of(&world, "hook").last().unwrap().0, RunState::Failed);
    let error =
        world.service().fire(&me(), ("demo", "hook", "webhook2"), FireRequest::default()).unwrap_err();
    assert_eq!(error, ServiceError::NotFound("task `demo:hook` has no trigger `webhook2`".into()));
}

#[test]
fn a_pause_makes_deaf() {
    let mut world = world(CHAIN);
    let task = ("demo".to_owned(), "b".to_owned());
    world.service().hold_schedule(&me(), &task, Some("run1"), true).unwrap();
    world.start("demo:a", json!({}));
    world.run_for("1m");
    let error = world.service().fire(&me(), ("demo", "b", "run1"), FireRequest::default()).unwrap_err();
    assert_eq!(error, ServiceError::Conflict("trigger `run1` is held back".into()));
    world.service().hold_schedule(&me(), &task, Some("run1"), false).unwrap();
    world.run_for("1m");
    assert_eq!(runs_of(&world, "b"), []);
    world.start("demo:a", json!({}));
    world.run_for("1m");
    assert_eq!(runs_of(&world, "b").len(), 1);
}

#[test]
fn a_debounce_waits_until_it_is_quiet() {
    let mut world = world(
        "  - { meta: { id: a }, run: x }\n  - { meta: { id: b }, on: { run: { task: a, debounce: 10s } }, run: x }\n",
    );
    for _ in 0..5 {
        world.start("demo:a", json!({}));
        world.run_for("6s");
    }
    assert_eq!(runs_of(&world, "b").len(), 0);
    world.run_for("5s");
    assert_eq!(runs_of(&world, "b").len(), 1);
    world.run_for("1h");
    assert_eq!((runs_of(&world, "b").len(), trigger(&world, "b").fired), (1, 1));
}

#[test]
fn silence_is_told_once_until_it_is_broken() {
    let mut world = world(
        "  - { meta: { id: backup }, run: x }
  - { meta: { id: alarm }, on: { silence: { task: backup, after: 25h } }, run: x }
",
    );
    world.run_for("24h");
    world.start("demo:backup", json!({}));
    world.run_for("24h");
    assert_eq!(runs_of(&world, "alarm").len(), 0, "a run ended well in time");
    world.run_for("2h");
    assert_eq!(runs_of(&world, "alarm").len(), 1);
    world.run_for("200h");
    assert_eq!(runs_of(&world, "alarm").len(), 1, "told once");
    // Bad ends do not break it.
    world.on_execute(|r| if r.task == "backup" { fails("exit:1") } else { ends_well() });
    world.start("demo:backup", json!({}));
    world.run_for("30h");
    assert_eq!(runs_of(&world, "alarm").len(), 1);
    world.on_execute(|_| ends_well());
    world.start("demo:backup", json!({}));
    world.run_for("26h");
    assert_eq!(runs_of(&world, "alarm").len(), 2);
}

#[test]
fn files_that_are_new_or_changed_start_runs() {
    let mut world = world(
        "  - meta: { id: load }\n    inputs: { path: string }\n    on: { file: { path: 'in/*.csv', inputs: { path: '${{ event.body.path }}' } } }\n    run: x\n",
    );
    let mark = |size| FileMark { size, modified: 1 };
    let see = |world: &mut World, files: &[(&str, u64)], gone: &[&str]| {
        let watched = world.service().watched_files().unwrap().remove(0);
        let seen = SeenFiles {
            files: files.iter().map(|(path, size)| ((*path).to_owned(), mark(*size))).collect(),
            gone: gone.iter().map(|p| (*p).to_owned()).collect(),
        };
        world.service().saw_files(watched.id, &seen).unwrap();
        world.run_for("1s");
    };
    see(&mut world, &[("old", 1)], &[]);
    see(&mut world, &[("a", 1), ("b", 1)], &[]);
    see(&mut world, &[("a", 1)], &[]);
    see(&mut world, &[("a", 2), ("old", 2)], &["b"]);
    see(&mut world, &[("b", 1)], &[]);
    let paths: Vec<_> =
        runs_of(&world, "load").iter().map(|(_, i)| i["path"].as_str().unwrap().to_owned()).collect();
    assert_eq!(paths, ["a", "b", "a", "old", "b"]);
}

const RELEASE: &str = "  - meta: { id: release }
    policy: { concurrency: { limit: 1 } }
    steps:
      - { id: build, run: x }
      - { id: paid, uses: wait, with: { signal: paid }, outputs: { type: object, required: [amount] } }
      - { id: ok, uses: wait, with: { approval: 'Release it?', permission: change }, timeout: 2h }
      - { id: ship, run: x, env: { BY: '${{ steps.ok.outputs.by }}', SUM: '${{ steps.paid.outputs.amount }}' } }
";

fn signal(name: &str, data: Value) -> SignalRequest {
    SignalRequest { name: name.into(), data, comment: String::new() }
}

#[test]
fn a_run_waits_for_a_signal_and_an_approval_and_survives_crashes() {
    let mut world = world(RELEASE);
    let id = world.start("demo:release", json!({}));
    let uid = world.service().uid(id);
    // The signal comes before anybody waits for it, and is kept.
    let kept = world.service().signal(&me(), uid, &signal("paid", json!({ "amount": 12 }))).unwrap();
    assert_eq!((kept.step.as_str(), kept.delivered), ("paid", false));
    world.run_for("1h");
    world.crash();
    world.run_for("30m");
    assert_eq!(world.run(id).state, RunState::Waiting);
    let why = world.service().why(&me(), uid).unwrap();
    let said = why.because.join("\n");
    assert!(said.contains("it waits for somebody to approve: Release it?"), "{said}");
    let verdict = Verdict { approve: true, comment: "fine".into(), ..Verdict::default() };
    let runner = Actor::token("ci", &["run".parse().unwrap()]);
    let denied = world.service().decide(&runner, uid, &verdict).unwrap_err();
    assert!(matches!(denied, ServiceError::Denied(_)), "{denied}");
    world.service().decide(&me(), uid, &verdict).unwrap();
    world.crash();
    world.run_for("10m");
    assert_eq!(world.run(id).state, RunState::Succeeded);
    let ship = world.executions().iter().find(|(_, r)| r.step == "ship").unwrap();
    assert_eq!((ship.1.env["BY"].as_str(), ship.1.env["SUM"].as_str()), ("cli:me", "12"));
    let again = world.service().decide(&me(), uid, &verdict).unwrap_err();
    assert!(matches!(again, ServiceError::Conflict(_)), "{again}");
}

/// The state of a step of a flow, and the words with it.
fn step(world: &World, id: MachineId, step: &str) -> (RunState, String) {
    let run = world.run(id);
    let step = run.steps.iter().find(|s| s.step == step).unwrap();
    (step.state, step.error.as_ref().map(|e| e.message.clone()).unwrap_or_default())
}

#[test]
fn a_rejection_and_silence_fail_the_step() {
    let mut world = world(RELEASE);
    let start = |world: &mut World| {
        let id = world.start("demo:release", json!({}));
        world.run_for("1s");
        let uid = world.service().uid(id);
        world.service().signal(&me(), uid, &signal("paid", json!({ "amount": 1 }))).unwrap();
        world.run_for("1s");
        (id, uid)
    };
    let (id, uid) = start(&mut world);
    let verdict = Verdict { approve: false, comment: "not on a Friday".into(), ..Verdict::default() };
    world.service().decide(&me(), uid, &verdict).unwrap();
    world.run_for("1s");
    assert_eq!(world.run(id).state, RunState::Failed);
    assert_eq!(step(&world, id, "ok"), (RunState::Failed, "cli:me rejected it: not on a Friday".into()));
    let (id, _) = start(&mut world);
    world.run_for("2h");
    assert_eq!(step(&world, id, "ok").0, RunState::TimedOut);
    // A run that is cancelled while it waits ends at once.
    let (id, _) = start(&mut world);
    world.cancel(id);
    world.run_for("1s");
    assert_eq!(world.run(id).state, RunState::Cancelled);
}

#[test]
fn wrong_answers_are_refused() {
    let mut world = world(&format!("{RELEASE}  - {{ meta: {{ id: plain }}, run: x }}\n"));
    let id = world.start("demo:release", json!({}));
    world.run_for("1s");
    let uid = world.service().uid(id);
    let service = world.service();
    let refused = |request: &SignalRequest| service.signal(&me(), uid, request).unwrap_err().to_string();
    assert_eq!(
        refused(&signal("pid", json!(null))),
        format!("run {uid} knows no signal `pid`: it waits for paid")
    );
    assert!(refused(&signal("paid", json!({}))).contains("does not meet the outputs of step `paid`"));
    let error = service.decide(&me(), uid, &Verdict::default()).unwrap_err();
    assert_eq!(error, ServiceError::Conflict(format!("run {uid} waits for no approval")));
}

#[test]
fn waiting_takes_no_slot() {
    let mut world = world(
        "  - { meta: { id: wait }, uses: wait, with: { signal: go } }\n  - { meta: { id: work }, run: x }\n",
    );
    let waiting: Vec<_> = (0..50).map(|_| world.start("demo:wait", json!({}))).collect();
    world.run_for("1s");
    let id = world.start("demo:work", json!({}));
    world.run_for("1s");
    assert_eq!(world.run(id).state, RunState::Succeeded);
    for id in &waiting {
        let uid = world.service().uid(*id);
        assert!(world.service().signal(&me(), uid, &signal("go", json!(7))).unwrap().delivered);
    }
    world.run_for("1s");
    assert!(waiting.iter().all(|id| world.run(*id).output == json!(7)));
}

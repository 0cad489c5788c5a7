//! The engine through its test kit: runs, flows, schedules, limits, crashes.
#![allow(clippy::unwrap_used, reason = "a test fails where a value is missing")]

use ostler_model::{RunState, definition::Timetable};
use ostler_testkit::{Crash, World, ends_well, ends_with, fails, takes};
use serde_json::{Value, json};

fn world() -> World {
    World::new("2027-01-01T00:00:00Z")
}

/// A timetable of lowered tasks with the least said.
fn timetable(tasks: Value) -> Timetable {
    let tasks: Vec<Value> = tasks
        .as_array()
        .unwrap()
        .iter()
        .map(|t| {
            let mut task = json!({ "name": t["id"], "timezone": "UTC", "enabled": true });
            task.as_object_mut().unwrap().extend(t.as_object().unwrap().clone());
            if task.get("steps").is_none() {
                task["steps"] = json!([{ "id": "main", "uses": "shell", "run": "true" }]);
            }
            task
        })
        .collect();
    serde_json::from_value(
        json!({ "namespace": "demo", "ephemeral": false, "origin": "test", "tasks": tasks }),
    )
    .unwrap()
}

fn push(world: &mut World, tasks: Value) {
    world.push_timetable(&timetable(tasks));
}

fn cron(expression: &str) -> Value {
    json!({ "rhythm": { "cron": { "expression": expression } } })
}

fn every(interval: &str, pace: &str) -> Value {
    json!({ "rhythm": { "every": { "interval": { "elapsed": interval }, "pace": pace } } })
}

#[test]
fn a_run_succeeds_and_its_output_is_on_record() {
    let mut world = world();
    push(&mut world, json!([{ "id": "a" }]));
    world.on_execute(|_| ends_with(json!({ "x": 1 })).taking("2s"));
    let id = world.start("demo:a", json!({}));
    world.run_until_idle();
    let run = world.run(id);
    assert_eq!((run.state, run.attempts, run.output), (RunState::Succeeded, 1, json!({ "x": 1 })));
    assert_eq!(run.duration_ms, Some(2000.0));
}

#[test]
fn a_failed_attempt_is_tried_again_after_the_backoff() {
    let mut world = world();
    push(&mut world, json!([{ "id": "a", "policy": { "retry": { "attempts": 3, "initial": "10s" } } }]));
    world.on_execute(|r| if r.attempt < 3 { fails("exit:1") } else { ends_well() });
    let id = world.start("demo:a", json!({}));
    world.run_until_idle();
    assert_eq!((world.run(id).state, world.run(id).attempts), (RunState::Succeeded, 3));
    let starts: Vec<_> = world.executions().iter().map(|(at, _)| at.as_second() - 1_798_761_600).collect();
    assert_eq!(starts, [0, 10, 30]);
}

#[test]
fn retries_and_takeovers_repeat_the_idempotency_key_and_a_rerun_does_not() {
    let mut world = world();
    push(&mut world, json!([{ "id": "a", "policy": { "retry": { "attempts": 2 } } }]));
    world.on_execute(|_| fails("exit:1"));
    let id = world.start("demo:a", json!({}));
    world.run_until_idle();
    world.start("demo:a", json!({}));
    world.run_until_idle();
    let keys: Vec<_> = world.executions().iter().map(|(_, r)| r.idempotency_key.clone()).collect();
    assert_eq!(keys[0], keys[1]);
    assert_eq!(keys[2], keys[3]);
    assert_ne!(keys[0], keys[2]);
    assert!(world.run(id).error.is_some());
}

#[test]
fn a_slow_attempt_times_out() {
    let mut world = world();
    push(&mut world, json!([{ "id": "a", "policy": { "timeout": { "attempt": "5s" } } }]));
    world.on_execute(|_| takes("1h"));
    let id = world.start("demo:a", json!({}));
    world.run_until_idle();
    let run = world.run(id);
    assert_eq!((run.state, run.duration_ms), (RunState::TimedOut, Some(5000.0)));
    assert_eq!(run.error.unwrap().message, "the attempt took longer than 5s");
}

#[test]
fn total_timeout_ends_the_retries() {
    let mut world = world();
    let policy = json!({ "timeout": { "total": "25s" }, "retry": { "attempts": 100, "backoff": "fixed", "initial": "10s" } });
    push(&mut world, json!([{ "id": "a", "policy": policy }]));
    world.on_execute(|_| fails("exit:1"));
    let id = world.start("demo:a", json!({}));
    world.run_until_idle();
    assert_eq!((world.run(id).state, world.run(id).attempts), (RunState::Failed, 3));
}

#[test]
fn cancelling_ends_what_runs_and_what_waits() {
    let mut world = world();
    push(
        &mut world,
        json!([{ "id": "a" }, { "id": "later", "policy": { "retry": { "attempts": 5, "initial": "1h", "max": "2h" } } }]),
    );
    world.on_execute(|r| if r.task == "a" { takes("1h") } else { fails("exit:1") });
    let running = world.start("demo:a", json!({}));
    let waiting = world.start("demo:later", json!({}));
    world.run_for("1s");
    assert_eq!((world.run(running).state, world.run(waiting).state), (RunState::Running, RunState::Waiting));
    world.cancel(running);
    world.cancel(waiting);
    world.run_for("1s");
    assert_eq!(
        (world.run(running).state, world.run(waiting).state),
        (RunState::Cancelled, RunState::Cancelled)
    );
}

#[test]
fn a_lost_shell_attempt_fails_and_a_lost_sql_attempt_is_repeated() {
    let mut world = world();
    let sql = json!([{ "id": "main", "uses": "sql" }]);
    push(&mut world, json!([{ "id": "shell" }, { "id": "sql", "steps": sql }]));
    world.on_execute(|_| takes("10s"));
    let shell = world.start("demo:shell", json!({}));
    let sql = world.start("demo:sql", json!({}));
    world.run_for("5s");
    world.crash();
    world.run_until_idle();
    let (shell, sql) = (world.run(shell), world.run(sql));
    assert_eq!((shell.state, shell.error.unwrap().class.0.as_str()), (RunState::Failed, "lost"));
    assert_eq!((sql.state, sql.attempts), (RunState::Succeeded, 2));
    let fences: Vec<_> =
        world.executions().iter().filter(|(_, r)| r.task == "sql").map(|(_, r)| r.fence).collect();
    assert!(fences[0] < fences[1], "{fences:?}");
}

#[test]
fn a_paused_holder_cannot_commit() {
    let mut world = world();
    push(&mut world, json!([{ "id": "a", "policy": { "idempotent": true } }]));
    world.on_execute(|_| takes("10s"));
    let id = world.start("demo:a", json!({}));
    world.run_for("1s");
    world.pause_node();
    world.run_until_idle();
    assert_eq!((world.run(id).state, world.run(id).attempts), (RunState::Succeeded, 2));
    assert_eq!(world.resume_paused(), 1);
    assert_eq!(world.run(id).attempts, 2);
}

fn flow(steps: Value) -> Value {
    let steps: Vec<Value> = steps
        .as_array()
        .unwrap()
        .iter()
        .map(|s| {
            let mut step = json!({ "uses": "shell", "run": "true" });
            step.as_object_mut().unwrap().extend(s.as_object().unwrap().clone());
            step
        })
        .collect();
    json!([{ "id": "f", "steps": steps }])
}

fn states(world: &World, id: ostler_model::MachineId) -> Vec<(String, RunState)> {
    world.run(id).steps.into_iter().map(|s| (s.step, s.state)).collect()
}

#[test]
fn steps_hand_outputs_on() {
    let mut world = world();
    let steps =
        json!([{ "id": "a" }, { "id": "b", "needs": ["a"], "env": { "X": "${{ steps.a.outputs.n + 1 }}" } }]);
    push(&mut world, flow(steps));
    world.on_execute(|r| {
        if r.step == "a" { ends_with(json!({ "n": 41 })) } else { ends_with(json!(r.env["X"])) }
    });
    let id = world.start("demo:f", json!({}));
    world.run_until_idle();
    assert_eq!((world.run(id).state, world.run(id).output), (RunState::Succeeded, json!("42")));
}

#[test]
fn a_failed_step_skips_those_that_need_it_and_runs_those_that_ask_for_failure() {
    let mut world = world();
    let steps = json!([
        { "id": "a" },
        { "id": "b", "needs": ["a"] },
        { "id": "tell", "needs": ["b"], "if": "failure()" },
        { "id": "always", "needs": ["tell"], "if": "always()" },
        { "id": "alone" }
    ]);
    push(&mut world, flow(steps));
    world.on_execute(|r| if r.step == "a" { fails("exit:2") } else { ends_well() });
    let id = world.start("demo:f", json!({}));
    world.run_until_idle();
    use RunState::{Failed, Skipped, Succeeded};
    let expected =
        [("a", Failed), ("alone", Succeeded), ("always", Succeeded), ("b", Skipped), ("tell", Succeeded)];
    assert_eq!(states(&world, id), expected.map(|(k, s)| (k.to_owned(), s)));
    assert_eq!(world.run(id).error.unwrap().message, "step `a`: scripted");
}

#[test]
fn a_matrix_runs_each_combination_within_its_limit() {
    let mut world = world();
    let matrix = json!({ "combinations": [{ "n": 1 }, { "n": 2 }, { "n": 3 }], "max_parallel": 1 });
    push(&mut world, flow(json!([{ "id": "m", "matrix": matrix, "env": { "N": "${{ matrix.n }}" } }])));
    world.on_execute(|r| ends_with(json!(r.env["N"])).taking("1s"));
    let id = world.start("demo:f", json!({}));
    world.run_until_idle();
    let run = world.run(id);
    assert_eq!(
        (run.state, run.output, run.duration_ms),
        (RunState::Succeeded, json!(["1", "2", "3"]), Some(3000.0))
    );
}

#[test]
fn fail_fast_cancels_the_other_combinations() {
    let mut world = world();
    let matrix = json!({ "combinations": [{ "n": 1 }, { "n": 2 }] });
    push(&mut world, flow(json!([{ "id": "m", "matrix": matrix }])));
    world.on_execute(|r| if r.step == "m[0]" { fails("exit:1").taking("1s") } else { takes("1h") });
    let id = world.start("demo:f", json!({}));
    world.run_until_idle();
    assert_eq!(states(&world, id), [("m[0]".into(), RunState::Failed), ("m[1]".into(), RunState::Cancelled)]);
}

#[test]
fn handlers_each_get_their_chance() {
    let mut world = world();
    let mut tasks = flow(json!([{ "id": "a" }]));
    tasks[0]["on_failure"] = json!([
        { "id": "h1", "uses": "shell", "run": "x" },
        { "id": "h2", "uses": "shell", "run": "x", "needs": ["h1"], "env": { "S": "${{ run.state }} ${{ run.failed_step }}" } }
    ]);
    push(&mut world, tasks);
    world.on_execute(|r| if r.step == "h2" { ends_with(json!(r.env["S"])) } else { fails("exit:1") });
    let id = world.start("demo:f", json!({}));
    world.run_until_idle();
    let run = world.run(id);
    assert_eq!(run.state, RunState::Failed);
    assert_eq!(run.steps[2].output, json!("failed a"));
}

#[test]
fn cancelling_a_flow_cancels_its_parts() {
    let mut world = world();
    push(&mut world, flow(json!([{ "id": "a" }, { "id": "b", "needs": ["a"] }])));
    world.on_execute(|_| takes("1h"));
    let id = world.start("demo:f", json!({}));
    world.run_for("1m");
    world.cancel(id);
    world.run_for("1s");
    assert_eq!(world.run(id).state, RunState::Cancelled);
    assert_eq!(states(&world, id), [("a".into(), RunState::Cancelled), ("b".into(), RunState::Skipped)]);
}

#[test]
fn a_flow_survives_a_crash_at_every_commit() {
    for n in 1..40 {
        for crash in [Crash::Before, Crash::After] {
            let mut world = world();
            let steps = json!([{ "id": "a" }, { "id": "b", "needs": ["a"] }, { "id": "c", "needs": ["a"] }, { "id": "d", "needs": ["b", "c"] }]);
            let mut tasks = flow(steps);
            tasks[0]["policy"] = json!({ "idempotent": true });
            push(&mut world, tasks);
            world.on_execute(|_| takes("1s"));
            let id = world.start("demo:f", json!({}));
            world.crash_at(n, crash);
            world.run_until_idle();
            let run = world.run(id);
            assert_eq!(run.state, RunState::Succeeded, "crash {crash:?} at {n}: {run:#?}");
            assert!(run.steps.iter().all(|s| s.state == RunState::Succeeded), "crash {crash:?} at {n}");
        }
    }
}

#[test]
fn a_schedule_fires_once_for_each_due_moment() {
    let mut world = world();
    push(&mut world, json!([{ "id": "a", "schedules": [{ "id": "s1", "trigger": cron("*/10 * * * *") }] }]));
    world.run_for("1h");
    let due: Vec<_> = world.runs().iter().map(|r| r.started_at.unwrap().as_second() % 3600 / 60).collect();
    assert_eq!(due, [10, 20, 30, 40, 50, 0]);
}

#[test]
fn after_an_hour_down_each_policy_gives_its_runs() {
    for (missed, ran, skipped) in [("skip", 0, 60), ("latest", 1, 59), ("all", 60, 0)] {
        let mut world = world();
        let schedule = json!({ "id": "s1", "trigger": cron("* * * * *"), "missed": { "policy": missed } });
        push(&mut world, json!([{ "id": "a", "schedules": [schedule] }]));
        world.run_for("30s");
        let later = world.now().saturating_add(jiff::SignedDuration::from_secs(3600 + 10)).unwrap();
        world.jump_to(later);
        world.run_for("1s");
        let runs = world.runs();
        let good = runs.iter().filter(|r| r.state == RunState::Succeeded).count();
        assert_eq!(good, ran, "{missed}");
        let words: Vec<_> = runs.iter().filter_map(|r| r.reason.clone()).collect();
        let told = words
            .iter()
            .map(|w| {
                w.split(" moments").next().unwrap().rsplit('(').next().unwrap().parse::<usize>().unwrap_or(1)
            })
            .sum::<usize>();
        assert_eq!(told, skipped, "{missed}: {words:?}");
    }
}

#[test]
fn overlap_rules() {
    for (overlap, states) in [
        ("allow", vec![RunState::Running; 3]),
        ("skip", vec![RunState::Running, RunState::Skipped, RunState::Skipped]),
        ("queue", vec![RunState::Running, RunState::Skipped]),
        ("cancel-running", vec![RunState::Cancelled, RunState::Cancelled, RunState::Running]),
    ] {
        let mut world = world();
        let schedule = json!({ "id": "s1", "trigger": every("1m", "precise"), "overlap": overlap });
        push(&mut world, json!([{ "id": "a", "schedules": [schedule] }]));
        world.on_execute(|_| takes("10m"));
        world.run_for("3m30s");
        let found: Vec<_> = world.runs().iter().map(|r| r.state).collect();
        assert_eq!(found, states, "{overlap}");
    }
}

#[test]
fn a_spaced_interval_counts_from_the_end() {
    let mut world = world();
    push(&mut world, json!([{ "id": "a", "schedules": [{ "id": "s1", "trigger": every("1s", "spaced") }] }]));
    world.on_execute(|_| takes("400ms"));
    world.run_for("10s");
    let starts: Vec<_> =
        world.runs().iter().map(|r| r.started_at.unwrap().as_millisecond() % 100_000).collect();
    assert!(starts.len() >= 7, "{starts:?}");
    assert!(starts.windows(2).all(|w| w[1] - w[0] == 1400), "{starts:?}");
}

#[test]
fn a_schedule_survives_crashes_without_missing_or_doubling() {
    for n in 1..30 {
        for crash in [Crash::Before, Crash::After] {
            let mut world = world();
            let schedule =
                json!({ "id": "s1", "trigger": every("1m", "precise"), "missed": { "policy": "all" } });
            push(
                &mut world,
                json!([{ "id": "a", "policy": { "idempotent": true }, "schedules": [schedule] }]),
            );
            world.crash_at(n, crash);
            world.run_for("10m30s");
            let mut due: Vec<_> = world
                .runs()
                .into_iter()
                .filter_map(|r| match r.cause {
                    Some(ostler_model::Cause::Schedule { due, .. }) => Some(due),
                    _ => None,
                })
                .collect();
            let all = due.len();
            due.dedup();
            assert_eq!((all, due.len()), (10, 10), "crash {crash:?} at {n}");
        }
    }
}

#[test]
fn no_more_than_the_slots_execute_and_schedules_and_flows_go_on_beside_them() {
    let mut world = world();
    let schedule = json!({ "id": "s1", "trigger": every("1m", "precise"), "overlap": "skip" });
    let steps = json!([{ "id": "one", "uses": "shell", "run": "true" }, { "id": "two", "uses": "shell", "run": "true" }]);
    push(
        &mut world,
        json!([{ "id": "long" }, { "id": "often", "schedules": [schedule] }, { "id": "flow", "steps": steps }]),
    );
    world.on_execute(|_| takes("10m"));
    for _ in 0..20 {
        world.start("demo:long", json!({}));
    }
    world.run_for("1s");
    assert_eq!(world.executions().len(), 8, "the test kit's node has eight slots");
    let flow = world.start("demo:flow", json!({}));
    world.run_for("5m");
    let often: Vec<_> = world.runs().into_iter().filter(|r| r.task == "often").map(|r| r.state).collect();
    assert_eq!(often[0], RunState::Ready, "the first waits for a slot");
    assert_eq!(often[1..], [RunState::Skipped; 4], "and the others are due nevertheless");
    assert_eq!(world.run(flow).state, RunState::Waiting, "a flow waits for its parts without a slot");
    world.cancel(flow);
    world.run_for("1s");
    assert_eq!(world.run(flow).state, RunState::Cancelled);
}

#[test]
fn a_concurrency_limit_holds() {
    let mut world = world();
    push(&mut world, json!([{ "id": "a", "policy": { "concurrency": { "limit": 2 } } }]));
    world.on_execute(|_| takes("10s"));
    let ids: Vec<_> = (0..5).map(|_| world.start("demo:a", json!({}))).collect();
    world.run_for("1s");
    let running = ids.iter().filter(|id| world.run(**id).state == RunState::Running).count();
    assert_eq!(running, 2);
    world.run_until_idle();
    let seconds: Vec<_> = world.executions().iter().map(|(at, _)| at.as_second() - 1_798_761_600).collect();
    assert_eq!(seconds, [0, 0, 10, 10, 20]);
}

#[test]
fn one_too_many_is_skipped_or_cancels_the_others() {
    for (on_conflict, first, second) in [
        ("skip", RunState::Running, RunState::Skipped),
        ("cancel_running", RunState::Cancelled, RunState::Running),
    ] {
        let mut world = world();
        push(
            &mut world,
            json!([{ "id": "a", "policy": { "concurrency": { "limit": 1, "on_conflict": on_conflict } } }]),
        );
        world.on_execute(|_| takes("10s"));
        let a = world.start("demo:a", json!({}));
        world.run_for("1s");
        let b = world.start("demo:a", json!({}));
        world.run_for("1s");
        assert_eq!((world.run(a).state, world.run(b).state), (first, second), "{on_conflict}");
    }
}

#[test]
fn a_rate_limit_spreads_starts() {
    let mut world = world();
    push(&mut world, json!([{ "id": "a", "policy": { "rate_limit": { "limit": 2, "per": "10s" } } }]));
    for _ in 0..6 {
        world.start("demo:a", json!({}));
    }
    world.run_until_idle();
    let seconds: Vec<_> = world.executions().iter().map(|(at, _)| at.as_second() - 1_798_761_600).collect();
    assert_eq!(seconds, [0, 0, 5, 10, 15, 20]);
}

#[test]
fn a_unique_key_answers_with_the_run_that_lives() {
    let mut world = world();
    let inputs = json!({ "type": "object", "properties": { "n": { "type": "integer" } }, "additionalProperties": false });
    push(&mut world, json!([{ "id": "a", "inputs": inputs, "policy": { "unique": "n-${{ inputs.n }}" } }]));
    world.on_execute(|_| takes("10s"));
    let a = world.start("demo:a", json!({ "n": 1 }));
    let same = world.start("demo:a", json!({ "n": 1 }));
    let other = world.start("demo:a", json!({ "n": 2 }));
    assert_eq!(a, same);
    assert_ne!(a, other);
    world.run_until_idle();
    assert_ne!(world.start("demo:a", json!({ "n": 1 })), a);
}

#[test]
fn wrong_inputs_are_refused_and_nothing_is_recorded() {
    let mut world = world();
    let inputs = json!({ "type": "object", "properties": { "n": { "type": "integer", "default": 3 } }, "additionalProperties": false });
    push(&mut world, json!([{ "id": "a", "inputs": inputs }]));
    for bad in [json!({ "n": "x" }), json!({ "m": 1 })] {
        assert!(world.try_start("demo:a", bad).is_err());
    }
    assert!(world.runs().is_empty());
    let id = world.start("demo:a", json!({}));
    assert_eq!(world.run(id).inputs["n"], 3);
}

#[test]
fn an_inactive_task_is_recorded_as_skipped() {
    let mut world = world();
    push(&mut world, json!([{ "id": "a", "activation": { "mode": "off" } }]));
    let id = world.start("demo:a", json!({}));
    assert_eq!(world.run(id).state, RunState::Skipped);
    assert_eq!(world.run(id).reason.unwrap(), "inactive: task `a` is outside its activation dates");
}

#[test]
fn pushing_again_does_not_reschedule() {
    let mut world = world();
    let tasks = json!([{ "id": "a", "schedules": [{ "id": "s1", "trigger": every("10m", "precise") }] }]);
    push(&mut world, tasks.clone());
    world.run_for("7m");
    push(&mut world, tasks);
    world.run_for("4m");
    assert_eq!(world.runs().len(), 1);
}

//! Ostler as a person uses it: the real binary, a store of its own.
#![allow(clippy::unwrap_used, reason = "a test fails where a value is missing")]

mod support;

use std::{io::Read, time::Duration};

use serde_json::json;
use support::Shop;

const FILE: &str = "
meta: { type: ostler-timetable, version: 1, namespace: demo }
tasks:
  - meta: { id: greet }
    inputs: { name: { type: string, default: world } }
    run: |
      echo \"hello, $INPUT_NAME\"
      echo \"letters=${#INPUT_NAME}\" >> \"$OSTLER_OUTPUT\"
  - meta: { id: steps }
    steps:
      - { id: a, run: 'echo n=41 >> \"$OSTLER_OUTPUT\"' }
      - { id: b, env: { N: '${{ steps.a.outputs.n }}' }, run: 'echo \"sum=$((N + 1))\" >> \"$OSTLER_OUTPUT\"' }
";

fn signal(child: &std::process::Child, name: &str) {
    let sent = std::process::Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status();
    assert!(sent.unwrap().success());
}

#[test]
fn one_run_gives_its_payload_and_nothing_else_on_standard_output() {
    let shop = Shop::new();
    let told = shop.run(&["run", "--command", "echo $((1+1))"]);
    assert_eq!((told.code, told.out.as_str()), (0, "2\n"));
    let told = shop.run(&["run", "--", "echo", "$((1+1))"]);
    assert_eq!((told.code, told.out.as_str()), (0, "$((1+1))\n"));
    let told = shop.run(&["run", "--", "cmd:echo a; exit 7"]);
    assert_eq!((told.code, told.out.as_str()), (1, "a\n"));
    assert_eq!(shop.run(&["run", "--exit-code", "payload", "--command", "exit 7"]).code, 7);
}

#[test]
fn a_file_runs_each_task_once_with_labels() {
    let shop = Shop::new();
    shop.write("ostler.yaml", FILE);
    let told = shop.run(&["run"]);
    assert_eq!(told.code, 0, "{}{}", told.out, told.err);
    assert!(told.out.contains("greet/main | hello, world\n"), "{}", told.out);
    assert!(told.out.contains("2 of 2 ended as they should"), "{}", told.out);
    let runs = shop.json(&["runs", "list"]);
    let outputs: Vec<_> = runs["items"].as_array().unwrap().iter().map(|r| r["output"].clone()).collect();
    assert_eq!(outputs, [json!({ "sum": "42" }), json!({ "letters": "5" })]);
    assert_eq!(runs["complete"], true);
}

#[test]
fn inputs_reach_the_task_and_the_record() {
    let shop = Shop::new();
    shop.write("a.yaml", FILE);
    let told = shop.run(&["run", "a.yaml", "--task", "greet", "-i", "name=Wien"]);
    assert_eq!((told.code, told.out.as_str()), (0, "hello, Wien\n"));
    let run = &shop.json(&["runs", "list", "--task", "demo:greet"])["items"][0];
    assert_eq!(run["inputs"], json!({ "name": "Wien" }));
    let shown = shop.json(&["runs", "show", run["id"].as_str().unwrap()]);
    let start: jiff::Timestamp = shown["run"]["started_at"].as_str().unwrap().parse().unwrap();
    let end: jiff::Timestamp = shown["run"]["finished_at"].as_str().unwrap().parse().unwrap();
    let took = shown["run"]["duration_ms"].as_f64().unwrap();
    assert!((end.duration_since(start).as_secs_f64() * 1000.0 - took).abs() < 0.01);
    assert!(
        shown["definition_digest"].is_string()
            && shown["source"]["file"].as_str().unwrap().ends_with("a.yaml")
    );
}

#[test]
fn push_twice_changes_nothing_and_export_reads_back() {
    let shop = Shop::new();
    shop.write(
        "a.yaml",
        &FILE.replace("- meta: { id: greet }", "- meta: { id: greet }\n    on: { schedule: '0 7 * * *' }"),
    );
    let first = shop.json(&["push", "a.yaml"]);
    assert_eq!(
        (&first[0]["added"], &first[0]["schedules"]),
        (&json!(["greet", "steps"]), &json!({ "made": 1, "changed": 0, "ended": 0 }))
    );
    let second = shop.json(&["push", "a.yaml"]);
    assert_eq!(
        (&second[0]["unchanged"], &second[0]["schedules"]),
        (&json!(["greet", "steps"]), &json!({ "made": 0, "changed": 0, "ended": 0 }))
    );
    assert_eq!(shop.run(&["diff", "a.yaml", "--exit-code"]).code, 0);
    shop.write("a.yaml", FILE);
    let told = shop.run(&["diff", "a.yaml", "--exit-code"]);
    assert_eq!(told.code, 1, "{}", told.out);
    let exported = shop.run(&["export", "demo"]);
    shop.write("b.yaml", &exported.out);
    assert_eq!(shop.run(&["check", "b.yaml"]).code, 0, "{}", exported.out);
    shop.json(&["push", "a.yaml"]);
    let schedules = shop.json(&["schedules", "list"]);
    assert!(
        schedules["items"].as_array().unwrap().iter().all(|s| s["next"].is_null() || s["ended"].is_null())
    );
}

#[test]
fn a_detached_run_waits_for_a_serve_and_a_serve_takes_it() {
    let shop = Shop::new();
    shop.write("a.yaml", FILE);
    let queued = shop.run(&["run", "a.yaml", "--task", "greet", "--detach"]);
    assert_eq!(queued.code, 0);
    assert!(queued.out.contains("nobody serves this store now"), "{}", queued.out);
    let id = shop.json(&["runs", "list"])["items"][0]["id"].as_str().unwrap().to_owned();
    let why = shop.json(&["why", &id]);
    assert_eq!(why["state"], "ready");
    assert!(why["because"].to_string().contains("no `ostler serve` works on this store"), "{why}");
    let mut serve = shop.spawn(&["serve"]);
    shop.wait_for("its end", || shop.json(&["runs", "show", &id])["run"]["state"] == "succeeded");
    // A second owner is refused; a guest beside the owner works.
    let second = shop.run(&["serve"]);
    assert_eq!(second.code, 4, "{}", second.err);
    assert_eq!(shop.run(&["run", "demo:greet"]).out, "hello, world\n");
    signal(&serve, "TERM");
    assert!(serve.wait().unwrap().success());
}

#[test]
fn ctrl_c_ends_the_run_with_grace_and_twice_at_once() {
    let shop = Shop::new();
    let begin = shop.path().join("begun");
    let line = format!(
        "trap 'echo graceful; exit 0' TERM; touch {}; while :; do sleep 0.05 || :; done",
        begin.display()
    );
    let mut child = shop.spawn(&["run", "--command", &line]);
    shop.wait_for("its beginning", || begin.exists());
    signal(&child, "INT");
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    let code = child.wait().unwrap().code();
    assert!(out.contains("graceful"), "{out}");
    assert!(matches!(code, Some(130 | 0)), "{code:?}");

    std::fs::remove_file(&begin).unwrap();
    let line = format!("trap '' TERM; touch {}; while :; do sleep 0.05 || :; done", begin.display());
    let mut child = shop.spawn(&["run", "--command", &line]);
    shop.wait_for("its beginning", || begin.exists());
    signal(&child, "INT");
    std::thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none(), "it did not wait for its grace");
    signal(&child, "INT");
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn when_every_runs_until_it_is_told_to_stop() {
    let shop = Shop::new();
    let mut child = shop.spawn(&["run", "--when", "every 200ms", "--", "cmd:date"]);
    let succeeded =
        || shop.json(&["runs", "list", "--state", "succeeded"])["items"].as_array().unwrap().len();
    shop.wait_for("three runs", || shop.store().exists() && succeeded() >= 3);
    signal(&child, "INT");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let after = succeeded();
    let left = shop.json(&["runs", "list", "--state", "scheduled,ready,running,waiting"]);
    assert_eq!(left["items"], json!([]));
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(succeeded(), after, "it went on after its end");
}

#[test]
fn a_serve_at_rest_fires_what_is_pushed_to_it() {
    let shop = Shop::new();
    let mut serve = shop.spawn(&["serve"]);
    shop.wait_for("the store", || shop.store().exists() && shop.run(&["runs", "list"]).code == 0);
    let file = |every: &str| {
        format!(
            "meta: {{ type: ostler-timetable, version: 1, namespace: demo }}
tasks: [{{ meta: {{ id: beat }}, run: date, on: {{ schedule: {{ every: {every} }} }} }}]
"
        )
    };
    shop.write("beat.yaml", &file("300ms"));
    assert_eq!(shop.run(&["push", "beat.yaml"]).code, 0);
    let beats = || shop.json(&["runs", "list", "--state", "succeeded"])["items"].as_array().unwrap().len();
    shop.wait_for("three firings", || beats() >= 3);
    // Changed while it waits, it takes the new rhythm at once.
    shop.write("beat.yaml", &file("1h"));
    assert_eq!(shop.run(&["push", "beat.yaml"]).code, 0);
    let schedules = shop.json(&["schedules", "list"]);
    assert_eq!(schedules["items"][0]["words"], "every hour", "{schedules}");
    signal(&serve, "TERM");
    assert!(serve.wait().unwrap().success());
}

#[test]
fn retry_from_failed_keeps_what_succeeded() {
    let shop = Shop::new();
    let marker = shop.path().join("ok");
    let file = format!(
        "meta: {{ namespace: demo }}\ntasks:\n  - meta: {{ id: f }}\n    steps:\n      - {{ id: a, run: 'echo a >> a.txt' }}\n      - {{ id: b, run: 'test -e {}' }}\n",
        marker.display()
    );
    shop.write("f.yaml", &file);
    assert_eq!(shop.run(&["run", "f.yaml"]).code, 1);
    std::fs::write(&marker, "").unwrap();
    let id = shop.json(&["runs", "list"])["items"][0]["id"].as_str().unwrap().to_owned();
    let again = shop.json(&["runs", "retry", &id, "--from-failed"])["id"].as_str().unwrap().to_owned();
    let mut serve = shop.spawn(&["serve"]);
    shop.wait_for("its end", || shop.json(&["runs", "show", &again])["run"]["state"] == "succeeded");
    signal(&serve, "TERM");
    serve.wait().unwrap();
    assert_eq!(std::fs::read_to_string(shop.path().join("a.txt")).unwrap(), "a\n");
}

#[test]
fn logs_follow_a_run_in_another_process() {
    let shop = Shop::new();
    let gate = shop.path().join("gate");
    let line = format!("echo first; while [ ! -e {} ]; do sleep 0.05; done; echo last", gate.display());
    let mut child = shop.spawn(&["run", "--command", &line]);
    let running =
        || shop.json(&["runs", "list", "--state", "running"])["items"][0]["id"].as_str().map(str::to_owned);
    shop.wait_for("a running run", || shop.store().exists() && running().is_some());
    let id = running().unwrap();
    shop.wait_for("its first line", || shop.run(&["logs", &id]).out == "first\n");
    let follower = shop.spawn(&["logs", "-f", &id]);
    std::fs::write(&gate, "").unwrap();
    assert!(child.wait().unwrap().success());
    let told = follower.told();
    assert_eq!((told.code, told.out.as_str()), (0, "first\nlast\n"));
}

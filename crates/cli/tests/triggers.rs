//! What starts tasks besides the clock, and what runs wait for, through the real binary.
#![allow(clippy::unwrap_used, reason = "a test fails where a value is missing")]

mod support;

use std::io::Write as _;

use ring::hmac;
use serde_json::{Value, json};
use support::{Answer, Server, Shop};

const FILE: &str = "
meta: { type: ostler-timetable, version: 1, namespace: demo }
tasks:
  - meta: { id: build }
    inputs: { ref: string }
    on:
      webhook:
        secret: ${{ secrets.HOOK }}
        if: event.body.headers['x-kind'] == 'push'
        inputs: { ref: '${{ event.body.json.ref }}' }
    run: 'echo building $INPUT_REF'
  - meta: { id: tell }
    inputs: { of: string }
    on: { run: { task: build, inputs: { of: '${{ event.body.inputs.ref }}' } } }
    run: 'echo built $INPUT_OF'
  - meta: { id: load }
    inputs: { path: string }
    on: { file: { path: 'in/*.csv', settle: 200ms, inputs: { path: '${{ event.body.path }}' } } }
    run: 'cat \"$INPUT_PATH\"'
  - meta: { id: release }
    steps:
      - { id: ok, uses: wait, with: { approval: Release it? } }
      - { id: ship, run: 'echo shipped' }
";

const SECRET: &str = "OSTLER_SECRET_HOOK";

fn signature(body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"opensesame");
    let tag = hmac::sign(&key, body.as_bytes());
    format!("sha256={}", tag.as_ref().iter().map(|b| format!("{b:02x}")).collect::<String>())
}

fn shop() -> Shop {
    let mut shop = Shop::new();
    shop.set(SECRET, "opensesame");
    shop.write("demo.yaml", FILE);
    std::fs::create_dir(shop.path().join("in")).unwrap();
    shop
}

/// Runs of a task that have ended, oldest first.
fn ended(server: &Server, task: &str) -> Vec<Value> {
    let page = server.get(&format!("/api/v1/runs?namespace=demo&task={task}&limit=100")).json();
    let mut runs = page["items"].as_array().unwrap().clone();
    runs.retain(|run| !run["finished_at"].is_null());
    runs.reverse();
    runs
}

fn trigger(server: &Server, task: &str) -> Value {
    let page = server.get(&format!("/api/v1/triggers?task=demo:{task}")).json();
    page["items"][0].clone()
}

fn hook(server: &Server, body: &str, headers: &[(&str, &str)]) -> Answer {
    server.ask("POST", "/hooks/demo/build/webhook1", headers, body)
}

#[test]
fn a_signed_request_starts_a_run_once_and_its_end_another() {
    let shop = shop();
    // Whoever asks needs no token where the signature is the proof.
    let token = shop.run(&["tokens", "create", "me", "--scope", "admin"]);
    let server = shop.serve(&["demo.yaml", "--require-token"]);
    let body = r#"{"ref":"main"}"#;
    let signed = signature(body);
    let push = [("x-kind", "push"), ("x-hub-signature-256", signed.as_str()), ("x-github-delivery", "d-1")];
    for _ in 0..3 {
        let answer = hook(&server, body, &push);
        assert_eq!(
            (answer.status, answer.json()["delivery"].as_str()),
            (202, Some("d-1")),
            "{}",
            answer.text
        );
    }
    let other = hook(&server, body, &[("x-kind", "ping"), push[1]]);
    assert_eq!(other.status, 202);
    for (headers, body) in [(&push[..], r#"{"ref":"evil"}"#), (&push[..1], body)] {
        let refused = hook(&server, body, headers);
        assert_eq!(refused.status, 401, "{}", refused.text);
        assert_eq!(refused.header("content-type"), "application/problem+json");
    }
    assert_eq!(server.ask("POST", "/hooks/demo/build/none", &push, body).status, 404);
    assert_eq!(server.get("/api/v1/runs").status, 401);
    drop(server);
    // What is on record is acted on, by whichever server comes next.
    let server = shop.serve(&["demo.yaml"]);
    shop.wait_for("both runs", || ended(&server, "tell").len() == 1);
    assert_eq!(
        (ended(&server, "build").len(), ended(&server, "tell")[0]["inputs"]["of"].as_str()),
        (1, Some("main"))
    );
    let seen = trigger(&server, "build");
    assert_eq!((&seen["fired"], &seen["replays"], &seen["ignored"]), (&json!(1), &json!(2), &json!(1)));
    assert_eq!(seen["path"], "/hooks/demo/build/webhook1");
    let listed = shop.run(&["triggers", "list", "--server", &server.url]);
    assert!(listed.out.contains("demo:build/webhook1"), "{}{}", listed.out, listed.err);
    let why = shop.run(&["why", ended(&server, "tell")[0]["id"].as_str().unwrap()]);
    assert!(
        why.out.contains("it exists because trigger `tell/run1` had an event `run` of run"),
        "{}",
        why.out
    );
    assert_eq!(token.code, 0);
}

#[test]
fn a_new_file_starts_a_run_and_so_does_one_that_came_while_nobody_served() {
    let shop = shop();
    shop.write("in/old.csv", "old");
    let server = shop.serve(&["demo.yaml"]);
    let known = || trigger(&server, "load")["id"].as_str().unwrap().to_owned();
    let why = || server.get(&format!("/api/v1/why/{}", known())).json();
    shop.wait_for("the first look", || why()["facts"]["fields"]["files"].is_object());
    // One that grows is told when it has come to rest, whole.
    let mut file = std::fs::File::create(shop.path().join("in/a.csv")).unwrap();
    for line in ["1\n", "2\n", "3\n"] {
        file.write_all(line.as_bytes()).unwrap();
        file.sync_all().unwrap();
    }
    shop.wait_for("its run", || ended(&server, "load").len() == 1);
    let run = ended(&server, "load").remove(0);
    assert!(run["inputs"]["path"].as_str().unwrap().ends_with("in/a.csv"), "{run}");
    let lines = shop.run(&["logs", run["id"].as_str().unwrap()]);
    assert_eq!(lines.out, "1\n2\n3\n");
    assert_eq!(server.end(), 0);
    shop.write("in/b.csv", "b");
    let server = shop.serve(&["demo.yaml"]);
    shop.wait_for("the run of the file that came meanwhile", || ended(&server, "load").len() == 2);
    assert!(ended(&server, "load")[1]["inputs"]["path"].as_str().unwrap().ends_with("in/b.csv"));
}

#[test]
fn an_approval_survives_a_kill_and_who_gave_it_is_on_record() {
    let shop = shop();
    let server = shop.serve(&["demo.yaml"]);
    let started = server.post("/api/v1/tasks/demo/release/runs", &json!({}));
    let id = started.json()["id"].as_str().unwrap().to_owned();
    let run = |server: &Server| server.get(&format!("/api/v1/runs/{id}")).json();
    shop.wait_for("it to wait", || run(&server)["steps"][0]["state"] == "waiting");
    server.kill();
    let server = shop.serve(&["demo.yaml"]);
    assert_eq!(run(&server)["state"], "waiting");
    let why = shop.run(&["why", &id]);
    assert!(why.out.contains("it waits for somebody to approve: Release it?"), "{}", why.out);
    let wrong = shop.run(&["approve", &id, "--step", "ship"]);
    assert_eq!(wrong.code, 4, "{}", wrong.err);
    let told = shop.run(&["approve", &id, "--comment", "go", "--server", &server.url]);
    assert_eq!((told.code, told.out.as_str()), (0, "approved: step ok\n"), "{}", told.err);
    shop.wait_for("its end", || run(&server)["state"] == "succeeded");
    let step = run(&server)["steps"][0]["id"].as_str().unwrap().to_owned();
    let history = server.get(&format!("/api/v1/runs/{step}/history")).json();
    let last = history.as_array().unwrap().last().unwrap();
    assert_eq!(last["body"]["reason"], "http:loopback approved it: go");
    assert_eq!(shop.run(&["approve", &id]).code, 4);
}

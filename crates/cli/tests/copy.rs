//! Moving a store between a file and PostgreSQL, through the real binary: what real work has left comes along, and goes on
//! there.
#![allow(clippy::unwrap_used, reason = "a test fails where a value is missing")]

mod support;

use std::{path::Path, process::Stdio};

use ostler_store_postgres::scratch::Schema;
use serde_json::{Value, json};
use support::{Server, Shop};

/// Something of everything that a store holds.
const FILE: &str = r#"
meta: { type: ostler-timetable, version: 1, namespace: demo }
tasks:
  - meta: { id: ticking }
    on: { schedule: [{ cron: "* * * * * *", missed: all, overlap: allow }] }
    run: echo "tick of $OSTLER_RUN_ID"
  - meta: { id: heard }
    on: { run: { task: ticking } }
    run: 'true'
  - meta: { id: flow }
    steps:
      - { id: a, run: 'for n in $(seq 3000); do echo "line $n of a flow"; done' }
      - { id: b, run: echo b }
  - meta: { id: release }
    steps:
      - id: paid
        uses: wait
        with: { signal: paid }
        outputs: { type: object, required: [amount], properties: { amount: { type: number } } }
      - { id: ship, env: { AMOUNT: "${{ steps.paid.outputs.amount }}" }, run: 'echo "paid $AMOUNT"' }
  - meta: { id: fails }
    policy: { retry: { attempts: 2, initial: 10ms } }
    run: exit 3
  - meta: { id: limited }
    inputs: { key: { type: string, default: one } }
    policy:
      concurrency: { key: "k-${{ inputs.key }}", limit: 1, on_conflict: queue }
      rate_limit: { limit: 5, per: 1s }
      unique: "u-${{ inputs.key }}"
      priority: high
    run: 'true'
  - meta: { id: elsewhere }
    runs_on: [gpu, big]
    run: 'true'
  - meta: { id: paused }
    run: 'true'
  - meta: { id: naps }
    run: exec sleep 600
"#;

/// What a shop has on record, to be found again.
struct Trace {
    waiting: String,
    flow: String,
    failed: String,
    elsewhere: String,
    limited: String,
    cursor: String,
}

/// Runs at work until everything has happened once, and stops in order.
fn live(shop: &Shop) -> Trace {
    shop.write("demo.yaml", FILE);
    let server = shop.serve(&["demo.yaml"]);
    let on = |args: &[&str]| shop.json(&[args, &["--server", &server.url]].concat());
    let id = |task: &str, key: &str| start(&server, task, key)["id"].as_str().unwrap().to_owned();
    let (waiting, flow) = (id("release", "r"), id("flow", "f"));
    let (failed, elsewhere) = (id("fails", "x"), id("elsewhere", "e"));
    let limited = id("limited", "one");
    on(&["tasks", "pause", "demo:paused"]);
    id("paused", "p");
    shop.json(&["tokens", "create", "ops", "--scope", "admin", "--server", &server.url]);
    shop.wait_for("ends", || {
        let ended = |id: &str| server.get(&format!("/api/v1/runs/{id}")).json()["finished_at"] != Value::Null;
        ended(&flow) && ended(&failed) && ended(&limited) && !fired(&server, "heard", 2).is_empty()
    });
    let cursor = on(&["events", "--limit", "5"])["next"].as_str().unwrap().to_owned();
    assert_eq!(server.end(), 0);
    Trace { waiting, flow, failed, elsewhere, limited, cursor }
}

/// Starts a run under a key of its own.
fn start(server: &Server, task: &str, key: &str) -> Value {
    let headers = [("content-type", "application/json"), ("idempotency-key", key)];
    let answer = server.ask("POST", &format!("/api/v1/tasks/demo/{task}/runs"), &headers, "{}");
    assert!(answer.status < 300, "{task}: {}", answer.text);
    answer.json()
}

/// Ended runs of a task, when there are so many.
fn fired(server: &Server, task: &str, least: usize) -> Vec<Value> {
    let page =
        server.get(&format!("/api/v1/runs?namespace=demo&task={task}&state=succeeded&limit=500")).json();
    let runs = page["items"].as_array().unwrap().clone();
    if runs.len() >= least { runs } else { Vec::new() }
}

/// Checksums by table, as a copy tells them.
fn sums(told: &Value) -> Vec<(String, u64, String)> {
    let of = |table: &Value| {
        let text = |key: &str| table[key].as_str().unwrap().to_owned();
        (text("table"), table["rows"].as_u64().unwrap(), text("checksum"))
    };
    told["tables"].as_array().unwrap().iter().map(of).collect()
}

/// What was there before is found, what waited goes on, what is due fires on, and those who follow events go on.
fn goes_on(shop: &Shop, store: &str, trace: &Trace) {
    let at = |args: &[&str]| shop.json(&[&["--store", store][..], args].concat());
    let before = at(&["runs", "list", "--task", "demo:ticking", "--limit", "1000"]);
    let before = before["items"].as_array().unwrap().len();
    assert!(before >= 2, "{before}");
    let behind = at(&["events", "--after", &trace.cursor, "--limit", "10000"]);
    let (known, cursor) = (behind["items"].as_array().unwrap().len(), behind["next"].as_str().unwrap());
    assert!(known > 10, "{known}");
    assert!(shop.run(&["--store", store, "tasks", "list"]).out.contains("paused"));
    let tokens = at(&["tokens", "list"]);
    assert!(tokens.to_string().contains("ops"), "{tokens}");
    let log = shop.run(&["--store", store, "logs", &trace.flow]);
    let lines = log.out.lines().filter(|l| l.contains("of a flow")).count();
    assert_eq!(lines, 3000, "{}", log.err);
    let failed = at(&["runs", "show", &trace.failed]);
    assert_eq!(failed["run"]["state"], "failed", "{failed}");

    let mut serve = shop.command(&["--store", store, "serve", "demo.yaml", "--listen", "127.0.0.1:0"]);
    serve.stdout(Stdio::piped()).stderr(Stdio::piped());
    let server = shop.serve_by(serve);
    let run = |id: &str| server.get(&format!("/api/v1/runs/{id}")).json();
    assert_eq!(run(&trace.elsewhere)["state"], "ready");
    let signal = ["signal", &trace.waiting, "paid", "--data", r#"{"amount": 12}"#, "--server", &server.url];
    let told = shop.run(&signal);
    assert_eq!(told.code, 0, "{}", told.err);
    shop.wait_for("the run that waited", || run(&trace.waiting)["state"] == "succeeded");
    shop.wait_for("more ticks", || !fired(&server, "ticking", before + 2).is_empty());
    // The same key is the same run.
    let again = start(&server, "limited", "one");
    assert_eq!((&again["outcome"], &again["id"]), (&json!("repeated"), &json!(trace.limited)));
    let more = server.get(&format!("/api/v1/events?after={cursor}&limit=1000")).json();
    assert!(!more["items"].as_array().unwrap().is_empty(), "{more}");
    assert_eq!(server.end(), 0);
    // What was due at each second was fired for each second, here, there and in between, and once.
    let ticks = at(&["runs", "list", "--task", "demo:ticking", "--limit", "1000"]);
    let due =
        |run: &Value| run["cause"]["due"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_second();
    let mut due: Vec<i64> = ticks["items"].as_array().unwrap().iter().map(due).collect();
    due.sort_unstable();
    let each: Vec<i64> = (due[0]..).take(due.len()).collect();
    assert_eq!(due, each);
    let check = shop.run(&["--store", store, "db", "check"]);
    assert_eq!((check.code, check.out.trim()), (0, "ok"), "{}", check.err);
}

fn copy(shop: &Shop, from: &str, to: &str) -> Value {
    shop.json(&["db", "copy", from, to])
}

fn file(shop: &Shop, name: &str) -> String {
    format!("sqlite:{}", shop.path().join(name).display())
}

#[test]
fn a_store_moves_to_postgres_and_back_equal_by_checksum_and_goes_on() {
    let Some(schema) = Schema::new("") else { return };
    let shop = Shop::new();
    let trace = live(&shop);
    let (first, back) = (file(&shop, "ostler.db"), file(&shop, "back.db"));
    let planned = shop.json(&["db", "copy", "--dry-run", &first, schema.url()]);
    let there = copy(&shop, &first, schema.url());
    assert_eq!(planned["rows"], there["rows"]);
    for table in
        ["machine", "event", "tick", "schedule", "listener", "token", "lane", "label_set", "limit", "log"]
    {
        assert!(sums(&there).iter().any(|(name, rows, _)| name == table && *rows > 0), "{table}: {there}");
    }

    // The old one may be looked at, and not changed.
    assert_eq!(shop.run(&["runs", "list"]).code, 0);
    for args in [&["run", "demo:flow", "--detach"][..], &["serve", "demo.yaml"], &["push", "demo.yaml"]] {
        let told = shop.run(args);
        assert_eq!(told.code, 5, "{args:?}: {}{}", told.out, told.err);
        assert!(told.err.contains("was moved to") && told.err.contains("ostler db unmark"), "{}", told.err);
    }
    let twice = shop.run(&["db", "copy", &first, schema.url()]);
    assert_eq!(twice.code, 4, "{}", twice.err);
    assert!(twice.err.contains("was moved to") && twice.err.contains("--verify"), "{}", twice.err);
    let into = shop.run(&["db", "copy", "--keep-source", &first, &first.replace("ostler.db", "demo.db")]);
    assert_eq!(into.code, 0, "{}", into.err);
    let full = shop.run(&["db", "copy", &first.replace("ostler.db", "demo.db"), schema.url()]);
    assert_eq!(full.code, 4, "{}", full.err);
    assert!(full.err.contains("is not empty"), "{}", full.err);
    assert_eq!(shop.run(&["--store", "demo.db", "push", "demo.yaml"]).code, 0, "nothing of that was marked");

    let here = copy(&shop, schema.url(), &back);
    assert_eq!(sums(&there), sums(&here));
    goes_on(&shop, &back, &trace);

    // The first one again, and on from PostgreSQL.
    assert_eq!(shop.run(&["db", "unmark"]).code, 0);
    assert_eq!(shop.run(&["db", "unmark", "--store", schema.url()]).code, 0);
    goes_on(&shop, schema.url(), &trace);
}

#[test]
fn a_copy_that_was_killed_goes_on_and_what_is_different_is_told() {
    // By its name the connection of the copy is known from those of other tests.
    let name = format!("ostler-copy-{}", std::process::id());
    let Some(schema) = Schema::new(&format!("&application_name={name}")) else { return };
    let shop = Shop::new();
    live(&shop);
    let first = file(&shop, "ostler.db");
    // Made before, so that one of its tables can be made to wait.
    assert_eq!(shop.run(&["--store", schema.url(), "db", "stats"]).code, 0);
    schema
        .script(
            "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS
               $$ BEGIN PERFORM pg_sleep(600); RETURN NULL; END $$;
             CREATE TRIGGER dawdle AFTER INSERT ON event FOR EACH STATEMENT EXECUTE FUNCTION dawdle();",
        )
        .unwrap();
    let mut copying = shop.spawn(&["db", "copy", &first, schema.url()]);
    let mark = |words: &str| {
        let told = shop.run(&["--store", schema.url(), "runs", "list"]);
        told.code == 5 && told.err.contains(words)
    };
    shop.wait_for("the mark of the new store", || mark("is not complete"));
    let asleep = format!("FROM pg_stat_activity WHERE wait_event='PgSleep' AND application_name='{name}'");
    shop.wait_for("rows of events", || schema.script(&format!("SELECT 1/count(*) {asleep}")).is_ok());
    copying.kill().unwrap();
    copying.wait().unwrap();
    // The server has not heard of it while the statement sleeps.
    schema
        .script(&format!("SELECT pg_terminate_backend(pid) {asleep}; DROP FUNCTION dawdle() CASCADE"))
        .unwrap();

    // Nobody else uses either of them meanwhile.
    let told = shop.run(&["push", "demo.yaml"]);
    assert_eq!(told.code, 5, "{}", told.err);
    assert!(told.err.contains("is being moved to") && told.err.contains("db copy"), "{}", told.err);
    for args in
        [&["runs", "list"][..], &["serve"], &["db", "check"], &["db", "unmark"], &["db", "backup", "x.db"]]
    {
        let told = shop.run(&[&["--store", schema.url()][..], args].concat());
        assert_eq!(told.code, 5, "{args:?}: {}{}", told.out, told.err);
        assert!(told.err.contains("is not complete"), "{args:?}: {}", told.err);
    }
    let other = Shop::new();
    other.write("demo.yaml", FILE);
    assert_eq!(other.run(&["push", "demo.yaml"]).code, 0);
    let told = shop.run(&["db", "copy", &file(&other, "ostler.db"), schema.url()]);
    assert_eq!(told.code, 4, "{}", told.err);
    assert!(told.err.contains("is being filled from") && told.err.contains("ostler.db"), "{}", told.err);
    let told = shop.run(&["db", "copy", &first, &file(&shop, "elsewhere.db")]);
    assert_eq!(told.code, 4, "{}", told.err);
    assert!(told.err.contains("is moved to"), "{}", told.err);

    // What the first attempt has written is not written again, and is compared.
    schema.script("UPDATE machine SET fields='{}' WHERE id=(SELECT min(id) FROM machine)").unwrap();
    let told = shop.run(&["db", "copy", &first, schema.url()]);
    assert_eq!(told.code, 1, "{}{}", told.out, told.err);
    assert!(told.err.contains("differ in `machine`"), "{}", told.err);
    assert!(mark("is not complete"));
    schema.script("DELETE FROM tick; DELETE FROM machine").unwrap();
    copy(&shop, &first, schema.url());
    shop.json(&["db", "copy", "--verify", &first, schema.url()]);
    schema.script("UPDATE event SET body='{}' WHERE seq=(SELECT max(seq) FROM event)").unwrap();
    let told = shop.run(&["db", "copy", "--verify", &first, schema.url()]);
    assert_eq!(told.code, 1, "{}{}", told.out, told.err);
    assert!(told.err.contains("differ in `event`"), "{}", told.err);
}

#[test]
fn a_store_that_is_in_use_is_not_moved_and_is_backed_up() {
    let Some(schema) = Schema::new("") else { return };
    let shop = Shop::new();
    let trace = live(&shop);
    let first = file(&shop, "ostler.db");
    let server = shop.serve(&["demo.yaml"]);
    let told = shop.run(&["db", "copy", &first, schema.url()]);
    assert_eq!(told.code, 4, "{}", told.err);
    assert!(told.err.contains("serves it"), "{}", told.err);
    // As it is at this moment, while it is served.
    shop.json(&["db", "copy", "--keep-source", &first, schema.url()]);
    assert_eq!(server.end(), 0);

    let mut serve = shop.command(&["--store", schema.url(), "serve", "demo.yaml", "--listen", "127.0.0.1:0"]);
    serve.stdout(Stdio::piped()).stderr(Stdio::piped());
    let server = shop.serve_by(serve);
    start(&server, "flow", "once more");
    let told = shop.run(&["db", "copy", schema.url(), &file(&shop, "away.db")]);
    assert_eq!(told.code, 4, "{}", told.err);
    assert!(told.err.contains("is in use: node") && told.err.contains("--keep-source"), "{}", told.err);
    let backup = shop.path().join("backup.db");
    let told = shop.json(&["--store", schema.url(), "db", "backup", "backup.db"]);
    assert!(sums(&told).iter().any(|(table, rows, _)| table == "log" && *rows > 0), "{told}");
    assert!(!Path::new(&format!("{}.part", backup.display())).exists());
    assert_eq!(shop.run(&["--store", schema.url(), "db", "backup", "backup.db"]).code, 2);
    // The node that was at work has not come along, and what it had in hand is to be had again.
    let stats = shop.json(&["--store", "backup.db", "db", "stats"]);
    assert_eq!(stats["stats"]["claimed"], 0, "{stats}");
    let check = shop.run(&["--store", "backup.db", "db", "check"]);
    assert_eq!((check.code, check.out.trim()), (0, "ok"), "{}", check.err);
    let check = shop.run(&["--store", schema.url(), "db", "check"]);
    assert_eq!((check.code, check.out.trim()), (0, "ok"), "{}", check.err);
    assert_eq!(server.end(), 0);

    // Restored into an empty database, and gone on with there.
    let Some(restored) = Schema::new("") else { return };
    shop.json(&["db", "copy", "--keep-source", "backup.db", restored.url()]);
    goes_on(&shop, restored.url(), &trace);
    restored.script("DELETE FROM tick WHERE machine=(SELECT min(machine) FROM tick)").unwrap();
    let check = shop.run(&["--store", restored.url(), "db", "check"]);
    assert_eq!(check.code, 1, "{}", check.out);
    assert!(check.out.contains("1 machines that live and have no place in the queue"), "{}", check.out);
}

/// A node is killed while it has something in hand: no more is needed to leave its store, and the work is lost work there.
#[test]
fn a_store_whose_node_was_killed_is_moved_in_both_directions() {
    let Some(schema) = Schema::new("") else { return };
    let shop = Shop::new();
    shop.write("demo.yaml", FILE);
    let (first, back) = (file(&shop, "ostler.db"), file(&shop, "back.db"));
    let mut from = first.clone();
    let mut lost: Option<String> = None;
    for to in [Some(schema.url().to_owned()), Some(back), None] {
        let mut serve = shop.command(&["--store", &from, "serve", "demo.yaml", "--listen", "127.0.0.1:0"]);
        serve.stdout(Stdio::piped()).stderr(Stdio::piped());
        let server = shop.serve_by(serve);
        let state = |id: &str| server.get(&format!("/api/v1/runs/{id}")).json();
        if let Some(lost) = &lost {
            shop.wait_for("the loss", || state(lost)["state"] == "failed");
            assert_eq!(state(lost)["error"]["class"], "lost", "{}", state(lost));
        }
        let Some(to) = to else { break };
        let id = start(&server, "naps", &from)["id"].as_str().unwrap().to_owned();
        shop.wait_for("work in hand", || state(&id)["state"] == "running");
        server.kill();
        copy(&shop, &from, &to);
        let stats = shop.json(&["--store", &to, "db", "stats"]);
        assert_eq!(stats["stats"]["claimed"], 0, "{stats}");
        (from, lost) = (to, Some(id));
    }
}

#[test]
fn a_store_that_is_taken_back_while_it_is_copied_is_not_left() {
    let (Some(from), Some(to)) = (Schema::new(""), Schema::new("")) else { return };
    let shop = Shop::new();
    shop.write("demo.yaml", FILE);
    let push = || shop.run(&["--store", from.url(), "push", "demo.yaml"]);
    assert_eq!(push().code, 0);
    assert_eq!(shop.run(&["--store", to.url(), "db", "stats"]).code, 0);
    to.script(
        "CREATE TABLE go (n INTEGER);
         CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN WHILE NOT EXISTS (SELECT 1 FROM go) LOOP PERFORM pg_sleep(0.05); END LOOP; RETURN NULL; END $$;
         CREATE TRIGGER dawdle AFTER INSERT ON task FOR EACH STATEMENT EXECUTE FUNCTION dawdle();",
    )
    .unwrap();
    let copying = shop.spawn(&["db", "copy", from.url(), to.url()]);
    shop.wait_for("the mark", || push().err.contains("is being moved to"));
    // By hand: `ostler db unmark` waits for the copy, and gives up.
    from.script("DELETE FROM meta WHERE key='mark'").unwrap();
    assert_eq!(push().code, 0);
    to.script("INSERT INTO go VALUES (1)").unwrap();
    let told = copying.told();
    assert_eq!(told.code, 4, "{}{}", told.out, told.err);
    assert!(told.err.contains("was taken back"), "{}", told.err);
    assert_eq!(shop.run(&["--store", to.url(), "runs", "list"]).code, 5);
    assert_eq!(push().code, 0);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let shop = Shop::new();
    shop.write("demo.yaml", FILE);
    assert_eq!(shop.run(&["push", "demo.yaml"]).code, 0);
    for (args, code, words) in [
        (&["db", "copy", "ostler.db", "sqlite:ostler.db"][..], 2, "is one store"),
        (&["db", "copy", "none.db", "new.db"][..], 3, "there is no store at `none.db`"),
        (&["db", "copy", ":memory:", "new.db"][..], 2, "in memory"),
        (&["db", "copy", "ostler.db", "demo.yaml"][..], 5, "not an SQLite file"),
        (&["db", "copy", "ostler.db", "postgres://127.0.0.1:1/none"][..], 5, "127.0.0.1:1"),
    ] {
        let told = shop.run(args);
        assert_eq!(told.code, code, "{args:?}: {}{}", told.out, told.err);
        assert!(told.err.contains(words), "{args:?}: {}", told.err);
    }
    // Nothing of that has kept anybody from using it.
    assert_eq!(shop.run(&["push", "demo.yaml"]).code, 0);
    copy(&shop, "ostler.db", "moved.db");
    assert_eq!(shop.run(&["--store", "moved.db", "push", "demo.yaml"]).code, 0);
    assert_eq!(shop.run(&["push", "demo.yaml"]).code, 5);
    assert_eq!(shop.run(&["db", "unmark"]).code, 0);
    assert_eq!(shop.run(&["push", "demo.yaml"]).code, 0);
}

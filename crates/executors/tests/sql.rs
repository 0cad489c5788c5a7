//! `sql` on SQLite.
#![allow(clippy::unwrap_used, reason = "a test that cannot build its world has failed")]

mod support;

use std::time::Duration;

use ostler_clock::{Clock, SystemClock};
use ostler_execution::{CancelReason, ExecOutcome, ExecRequest};
use serde_json::{Value, json};
use support::{Bench, request};

const URL: &str = "sqlite:data.db";

fn sql(script: &str, with: Value) -> ExecRequest {
    let mut call = request("sql", Some(script), with);
    call.with.entry("url").or_insert(json!(URL));
    call
}

async fn count(bench: &Bench) -> Value {
    bench.output(sql("select count(*) as n from t", json!({}))).await["rows"][0]["n"].clone()
}

#[tokio::test]
async fn a_script_takes_parameters_and_gives_rows() {
    let bench = Bench::new();
    let script = "create table t (a integer, b text, c blob, d real);\n\
                  insert into t values (:a, :b, x'00ff', 1.5), (2, null, null, null);\n\
                  select * from t order by a;";
    let output = bench.output(sql(script, json!({"params": {"a": 1, "b": "it's; größe"}}))).await;
    let rows = json!([{"a": 1, "b": "it's; größe", "c": "AP8=", "d": 1.5}, {"a": 2, "b": null, "c": null, "d": null}]);
    assert_eq!(output, json!({"row_count": 2, "changed": 2, "rows": rows}));
    assert!(bench.path().join("data.db").exists());
    let csv = bench.output(sql("select a, b from t", json!({"format": "csv"}))).await;
    assert_eq!(csv["rows"], "a,b\r\n1,it's; größe\r\n2,\r\n");
    let lines =
        bench.output(sql("select a from t", json!({"format": "jsonl", "file": "out/rows.jsonl"}))).await;
    assert_eq!(lines["row_count"], 2);
    assert_eq!(
        std::fs::read_to_string(bench.path().join("out/rows.jsonl")).unwrap(),
        "{\"a\":1}\n{\"a\":2}\n"
    );
    let every = bench.output(sql("select 1 as x; select 2 as y", json!({"every": true}))).await;
    assert_eq!(every["results"], json!([[{"x": 1}], [{"y": 2}]]));
}

#[tokio::test]
async fn a_failing_statement_is_named_and_rolled_back() {
    let bench = Bench::new();
    bench.output(sql("create table t (a integer primary key)", json!({}))).await;
    let script = "insert into t values (1);\n-- the same; again\ninsert into t values (:one);\nselect 1";
    let error = bench.error(sql(script, json!({"params": {"one": 1}}))).await;
    assert_eq!(error.class.0, "sql");
    assert!(error.message.contains("statement 2: UNIQUE constraint failed: t.a"), "{error}");
    assert_eq!(error.detail.as_deref(), Some("-- the same; again\ninsert into t values (:one)"));
    assert_eq!(count(&bench).await, 0);
    // Without a transaction what went well stays.
    bench.error(sql(script, json!({"params": {"one": 1}, "transaction": false}))).await;
    assert_eq!(count(&bench).await, 1);
    let error = bench.error(sql("select 1; selct 2", json!({}))).await;
    assert!(error.message.contains("statement 2") && error.message.contains("syntax error"), "{error}");
    let error = bench.error(sql("select :x", json!({"params": {"y": 1}}))).await;
    assert!(error.message.contains("`:x` is not given under `params` (given: y)"), "{error}");
}

#[tokio::test]
async fn too_many_rows_are_an_error_not_a_cut() {
    let bench = Bench::new();
    let script = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 500000) select i, 'some text' as t from n";
    let error = bench.error(sql(script, json!({"url": "sqlite::memory:"}))).await;
    assert!(error.message.contains("`file`"), "{error}");
    let output = bench
        .output(sql(script, json!({"url": "sqlite::memory:", "file": "rows.csv", "format": "csv"})))
        .await;
    assert_eq!(output["row_count"], 500_000);
}

#[tokio::test]
async fn cancel_interrupts_a_query_and_a_wait() {
    let bench = Bench::new();
    bench.output(sql("create table t (a)", json!({}))).await;
    let endless = "insert into t values (1); with recursive n(i) as (select 1 union all select i + 1 from n) select max(i) from n";
    let holder = rusqlite::Connection::open(bench.path().join("data.db")).unwrap();
    for wait in [false, true] {
        if wait {
            holder.execute_batch("begin immediate").unwrap();
        }
        let (cancel, _, running) = bench.start(sql(endless, json!({})));
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!running.is_finished());
        let started = SystemClock.elapsed();
        cancel.fire(CancelReason::TimedOut);
        assert_eq!(running.await.unwrap().outcome, ExecOutcome::Interrupted);
        assert!(SystemClock.elapsed() - started < Duration::from_secs(2));
    }
    holder.execute_batch("rollback").unwrap();
    assert_eq!(count(&bench).await, 0);
}

#[tokio::test]
async fn two_writers_wait_for_one_another() {
    let bench = std::sync::Arc::new(Bench::new());
    bench.output(sql("pragma journal_mode = wal", json!({"transaction": false}))).await;
    bench.output(sql("create table t (a); insert into t values (0)", json!({}))).await;
    let runs: Vec<_> = (0..8)
        .map(|_| {
            let bench = bench.clone();
            tokio::spawn(async move {
                bench.output(sql("select a from t; update t set a = a + 1", json!({}))).await
            })
        })
        .collect();
    for run in runs {
        run.await.unwrap();
    }
    assert_eq!(bench.output(sql("select a from t", json!({}))).await["rows"][0]["a"], 8);
}

#[tokio::test]
async fn settings_faults_say_what_is_wrong() {
    let bench = Bench::new();
    let fault = async |script: &str, with: Value| bench.error(sql(script, with)).await;
    let unknown = fault("select 1", json!({"url": "oracle://u:hidden@x"})).await;
    assert!(unknown.message.contains("sqlite:FILE") && !unknown.message.contains("hidden"), "{unknown}");
    assert_eq!(fault("select 1", json!({"file": "/etc/x"})).await.class.0, "settings");
    assert!(fault("select 1", json!({"parms": {}})).await.message.contains("parms"));
    let list = request(
        "sql",
        None,
        json!({"url": "sqlite::memory:", "statements": ["create table t (a)", "select 1 as b"]}),
    );
    assert_eq!(bench.output(list).await["rows"], json!([{"b": 1}]));
}

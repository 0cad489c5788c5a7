//! `sql` on MySQL and MariaDB.
#![cfg(feature = "mysql")]
#![allow(clippy::unwrap_used, reason = "a test that cannot build its world has failed")]

mod support;

use std::time::Duration;

use ostler_clock::{Clock, SystemClock};
use ostler_execution::{CancelReason, ExecOutcome, ExecRequest};
use ostler_test_servers::MYSQL;
use serde_json::{Value, json};
use support::{Bench, request};

/// A database of the test's own.
struct World {
    bench: Bench,
    admin: String,
    /// The server, without a database.
    server: String,
    database: String,
}

impl World {
    async fn new(name: &str) -> Option<Self> {
        let admin = MYSQL.url()?;
        let bench = Bench::new();
        let database = format!("ostler_test_{name}_{}", std::process::id());
        let server = admin.rsplit_once('/').unwrap().0.to_owned();
        let world = Self { bench, admin, server, database };
        world
            .admin(&format!(
                "drop database if exists {0}; create database {0} character set utf8mb4",
                world.database
            ))
            .await;
        Some(world)
    }

    async fn admin(&self, script: &str) -> Value {
        self.bench.output(request("sql", Some(script), json!({ "url": self.admin }))).await
    }

    fn url(&self, query: &str) -> String {
        format!("{}/{}?{query}", self.server, self.database)
    }

    fn sql(&self, script: &str, with: Value) -> ExecRequest {
        let mut call = request("sql", Some(script), with);
        call.with.entry("url").or_insert(json!(self.url("")));
        call
    }

    async fn rows(&self, script: &str, params: Value) -> Value {
        self.bench.output(self.sql(script, json!({ "params": params }))).await["rows"].clone()
    }

    async fn end(self) {
        self.admin(&format!("drop database {}", self.database)).await;
    }
}

#[tokio::test]
async fn a_script_takes_parameters_and_gives_rows() {
    let Some(world) = World::new("script").await else { return };
    let script = "create table t (a int primary key, b text, c blob, d double, e datetime(3), f bool);\n\
                  insert into t values (:a, :b, from_base64(:c), :d, :at, :f), (2, null, null, null, null, null);\n\
                  select * from t order by a;";
    let params = json!({"a": 1, "b": "it's; größe 🐎", "c": "AP8=", "d": 1.5, "at": "2027-03-01 09:00:00.25", "f": true});
    let output = world.bench.output(world.sql(script, json!({ "params": params }))).await;
    assert_eq!(output["changed"], 2);
    let rows = json!([
        {"a": 1, "b": "it's; größe 🐎", "c": "AP8=", "d": 1.5, "e": "2027-03-01T09:00:00.25", "f": 1},
        {"a": 2, "b": null, "c": null, "d": null, "e": null, "f": null},
    ]);
    assert_eq!(output["rows"], rows);
    // The same by a prepared statement, which answers in another form.
    assert_eq!(
        world.rows("select * from t where a < :n or b = :b order by a", json!({"n": 9, "b": "x"})).await,
        rows
    );
    let every = world
        .bench
        .output(
            world.sql("select 1 as x; select :y as y, :y as z", json!({"every": true, "params": {"y": "z"}})),
        )
        .await;
    assert_eq!(every["results"], json!([[{"x": 1}], [{"y": "z", "z": "z"}]]));
    world.end().await;
}

#[tokio::test]
async fn every_type_has_its_form_in_json() {
    let Some(world) = World::new("types").await else { return };
    for (expression, expected) in [
        ("cast(1 as unsigned)", json!(1)),
        ("18446744073709551615", json!(u64::MAX)),
        ("cast(12.50 as decimal(10,2))", json!(12.5)),
        ("cast('123456789012345678.90' as decimal(30,2))", json!("123456789012345678.90")),
        ("date '2027-03-01'", json!("2027-03-01")),
        ("timestamp '2027-03-01 09:00:00.250'", json!("2027-03-01T09:00:00.25")),
        ("time '-27:30:00'", json!("-27:30:00")),
        ("0.1e0", json!(0.1)),
        ("x'00ff'", json!("AP8=")),
        ("b'101'", json!("BQ==")),
        ("'größe'", json!("größe")),
        ("null", Value::Null),
    ] {
        for params in [json!({}), json!({"zero": 0})] {
            let filter = if params.as_object().unwrap().is_empty() { "0" } else { ":zero" };
            let rows = world
                .rows(
                    &format!("select {expression} as v from (select 0 as n) as t where n = {filter}"),
                    params,
                )
                .await;
            assert_eq!(rows, json!([{ "v": expected }]), "{expression} {filter}");
        }
    }
    world.end().await;
}

#[tokio::test]
async fn a_failing_statement_is_named_and_rolled_back() {
    let Some(world) = World::new("fails").await else { return };
    world.bench.output(world.sql("create table t (a int primary key)", json!({}))).await;
    let count = async || world.rows("select count(*) as n from t", json!({})).await[0]["n"].clone();
    let script = "insert into t values (1);\n# the same; again\ninsert into t values (:one);\nselect 1";
    let error = world.bench.error(world.sql(script, json!({"params": {"one": 1}}))).await;
    assert_eq!(error.class.0, "sql:23000");
    assert!(error.message.starts_with("statement 2: Duplicate entry '1' for key"), "{error}");
    assert!(error.message.ends_with("(error 1062, SQLSTATE 23000); everything was rolled back"), "{error}");
    assert_eq!(error.detail.as_deref(), Some("# the same; again\ninsert into t values (:one)"));
    assert_eq!(count().await, 0);
    world.bench.error(world.sql(script, json!({"params": {"one": 1}, "transaction": false}))).await;
    assert_eq!(count().await, 1);
    for (script, params, class, words) in [
        ("select 1;\n  selct 2", json!({}), "sql:42000", "near 'selct 2' at line 2 (error 1064"),
        ("select :x, nope", json!({"x": 1}), "sql:42S22", "'nope'"),
        ("select :x", json!({"y": 1}), "sql", "`:x` is not given under `params` (given: y)"),
        ("select ?, :x", json!({"x": 1}), "sql", "a `?` has no name"),
        ("signal sqlstate '45000' set message_text = 'so; what'", json!({}), "sql:45000", "so; what"),
    ] {
        let error = world.bench.error(world.sql(script, json!({ "params": params }))).await;
        assert_eq!(error.class.0, class, "{script}: {error}");
        assert!(error.message.contains(words), "{script}: {error}");
    }
    world.end().await;
}

#[tokio::test]
async fn what_the_server_commits_by_itself_is_told() {
    let Some(world) = World::new("commits").await else { return };
    world.bench.output(world.sql("create table t (a int primary key)", json!({}))).await;
    let script = "insert into t values (1); create table u (a int); insert into t values (2); insert into t values (2)";
    let error = world.bench.error(world.sql(script, json!({}))).await;
    assert!(
        error.message.contains("statement 4: Duplicate")
            && error.message.contains("all after statement 2 was rolled back"),
        "{error}"
    );
    assert_eq!(world.rows("select a from t", json!({})).await, json!([{"a": 1}]));
    world.end().await;
}

#[tokio::test]
async fn routines_have_bodies_and_several_results() {
    let Some(world) = World::new("routines").await else { return };
    let script = "create procedure p(n int)\nbegin\n  if n > 1 then select n as n; end if;\n  select 'b' as b;\nend;\ncall p(:n)";
    let output = world.bench.output(world.sql(script, json!({"every": true, "params": {"n": 2}}))).await;
    assert_eq!(output["results"], json!([[{"n": 2}], [{"b": "b"}]]));
    world.end().await;
}

#[tokio::test]
async fn cancel_ends_the_statement_on_the_server() {
    let Some(world) = World::new("cancel").await else { return };
    world.bench.output(world.sql("create table t (a int)", json!({}))).await;
    let at_work = format!(
        "select count(*) as n from information_schema.processlist where info like '%sleep%' and db = '{}'",
        world.database
    );
    let at_work = async || world.admin(&at_work).await["rows"][0]["n"].as_i64().unwrap();
    for reason in [CancelReason::TimedOut, CancelReason::Kill] {
        let script = "insert into t values (1); select sleep(1000); insert into t values (2)";
        let (cancel, record, running) = world.bench.start(world.sql(script, json!({})));
        while at_work().await == 0 {
            assert!(!running.is_finished(), "{}", record.all());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let started = SystemClock.elapsed();
        cancel.fire(reason);
        assert_eq!(running.await.unwrap().outcome, ExecOutcome::Interrupted);
        assert!(SystemClock.elapsed() - started < Duration::from_secs(4));
        assert_eq!(at_work().await, 0);
    }
    assert_eq!(world.rows("select count(*) as n from t", json!({})).await, json!([{"n": 0}]));
    world.end().await;
}

#[tokio::test]
async fn who_is_not_let_in_is_told_why() {
    let Some(world) = World::new("refused").await else { return };
    let fault =
        async |url: &str| world.bench.error(request("sql", Some("select 1"), json!({ "url": url }))).await;
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = fault(&format!("mysql://u:hidden@127.0.0.1:{port}/x")).await;
    assert_eq!(error.class.0, "connect");
    assert!(error.message.contains("refused") && error.message.contains(&port.to_string()), "{error}");
    let error = fault("mysql://u:hidden@no-such-host.invalid/x").await;
    assert_eq!(error.class.0, "connect", "{error}");
    let place = world.server.rsplit_once('@').unwrap().1;
    let error = fault(&format!("mysql://nobody_known:hidden@{place}/x")).await;
    assert_eq!(error.class.0, "sql:28000", "{error}");
    assert!(error.message.contains("Access denied") && !error.message.contains("hidden"), "{error}");
    let error = fault(&format!("{}/no_such_database", world.server)).await;
    assert!(error.message.contains("Unknown database"), "{error}");
    for (query, words) in
        [("sslmode=maybe", "there is no sslmode `maybe`"), ("colour=red", "it knows no `colour`")]
    {
        let error = fault(&world.url(query)).await;
        assert_eq!(error.class.0, "settings", "{error}");
        assert!(error.message.contains(words), "{error}");
    }
    world.end().await;
}

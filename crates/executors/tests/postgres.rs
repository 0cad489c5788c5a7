//! `sql` on PostgreSQL.
#![allow(clippy::unwrap_used, reason = "a test that cannot build its world has failed")]

mod support;

use std::time::Duration;

use ostler_clock::{Clock, SystemClock};
use ostler_execution::{CancelReason, ExecOutcome, ExecRequest};
use ostler_test_servers::POSTGRES;
use serde_json::{Value, json};
use support::{Bench, request};

/// A schema of the test's own.
struct World {
    bench: Bench,
    url: String,
    schema: String,
}

impl World {
    async fn new(name: &str) -> Option<Self> {
        let url = POSTGRES.url()?;
        let bench = Bench::new();
        let schema = format!("ostler_test_{name}_{}", std::process::id());
        let world = Self { bench, url, schema };
        world.admin(&format!("drop schema if exists {0} cascade; create schema {0}", world.schema)).await;
        Some(world)
    }

    async fn admin(&self, script: &str) -> Value {
        self.bench.output(request("sql", Some(script), json!({ "url": self.url }))).await
    }

    fn with(&self, query: &str) -> String {
        let mark = if self.url.contains('?') { '&' } else { '?' };
        format!("{}{mark}{query}", self.url)
    }

    fn sql(&self, script: &str, with: Value) -> ExecRequest {
        let mut call = request("sql", Some(script), with);
        let url = self.with(&format!("options=-csearch_path%3D{}", self.schema));
        call.with.entry("url").or_insert(json!(url));
        call
    }

    async fn rows(&self, script: &str, params: Value) -> Value {
        self.bench.output(self.sql(script, json!({ "params": params }))).await["rows"].clone()
    }

    async fn end(self) {
        self.admin(&format!("drop schema {} cascade", self.schema)).await;
    }
}

#[tokio::test]
async fn a_script_takes_parameters_and_gives_rows() {
    let Some(world) = World::new("script").await else { return };
    let script = "create table t (a int primary key, b text, c bytea, d float8, e timestamptz, f jsonb, g text[]);\n\
                  insert into t values (:a, :b, :c, :d::float8, :at, :doc, :list), (2, null, null, null, null, null, null);\n\
                  select * from t order by a;";
    let params = json!({
        "a": 1, "b": "it's; größe", "c": "AP8=", "d": 1.5, "at": "2027-03-01T09:00:00+01:00",
        "doc": {"x": [1, "two", null]}, "list": ["a", null, "b \"c\" \\ ,{}"],
    });
    let output = world.bench.output(world.sql(script, json!({ "params": params }))).await;
    assert_eq!(output["changed"], 2);
    let rows = json!([
        {"a": 1, "b": "it's; größe", "c": "AP8=", "d": 1.5, "e": "2027-03-01T08:00:00Z", "f": {"x": [1, "two", null]}, "g": ["a", null, "b \"c\" \\ ,{}"]},
        {"a": 2, "b": null, "c": null, "d": null, "e": null, "f": null, "g": null},
    ]);
    assert_eq!(output["rows"], rows);
    let found = world
        .rows("select a from t where a = any(:ids) and a = :one", json!({"ids": [1, 2], "one": 1.0}))
        .await;
    assert_eq!(found, json!([{"a": 1}]));
    let csv = world.bench.output(world.sql("select a, b from t order by a", json!({"format": "csv"}))).await;
    assert_eq!(csv["rows"], "a,b\r\n1,it's; größe\r\n2,\r\n");
    let every = world
        .bench
        .output(world.sql("select 1 as x; select :y as y", json!({"every": true, "params": {"y": "z"}})))
        .await;
    assert_eq!(every["results"], json!([[{"x": 1}], [{"y": "z"}]]));
    world.end().await;
}

#[tokio::test]
async fn every_type_has_its_form_in_json() {
    let Some(world) = World::new("types").await else { return };
    world
        .bench
        .output(world.sql(
            "create type mood as enum ('sad', 'ok'); create domain small as int check (value < 10); create type pair as (x int, y text)",
            json!({}),
        ))
        .await;
    for (expression, expected) in [
        ("true", json!(true)),
        ("32767::int2", json!(32767)),
        ("9223372036854775807::int8", json!(i64::MAX)),
        ("0.1::float4", json!(0.1)),
        ("'NaN'::float8", json!("NaN")),
        ("1234.50::numeric", json!(1234.5)),
        ("-0.00012::numeric", json!(-0.00012)),
        ("100000000::numeric", json!(100_000_000)),
        ("123456789012345678901234567890.5::numeric", json!("123456789012345678901234567890.5")),
        ("date '2027-03-01'", json!("2027-03-01")),
        ("date 'infinity'", json!("infinity")),
        ("timestamp '2027-03-01 09:00:00.25'", json!("2027-03-01T09:00:00.25")),
        ("timestamptz '2027-03-01 09:00+01'", json!("2027-03-01T08:00:00Z")),
        ("time '09:30'", json!("09:30:00")),
        ("interval '1 day 2 hours'", json!("P1DT2H")),
        ("'6f1e3a52-7b0d-4c8e-9d6a-0123456789ab'::uuid", json!("6f1e3a52-7b0d-4c8e-9d6a-0123456789ab")),
        ("'{\"a\": 1}'::json", json!({"a": 1})),
        ("'[1]'::jsonb", json!([1])),
        ("'\\x00ff'::bytea", json!("AP8=")),
        ("array[[1, 2], [3, null]]", json!([[1, 2], [3, null]])),
        ("'{}'::int[]", json!([])),
        ("'ok'::mood", json!("ok")),
        ("array['ok', 'sad']::mood[]", json!(["ok", "sad"])),
        ("7::small", json!(7)),
        ("(1, 'a')::pair", json!({"x": 1, "y": "a"})),
        ("inet '10.0.0.1'", json!("10.0.0.1")),
        ("cidr '10.0.0.0/8'", json!("10.0.0.0/8")),
        ("'x'::char(3)", json!("x  ")),
        ("null::int", Value::Null),
        ("pg_notify('ostler_test', '')", Value::Null),
    ] {
        let rows = world.rows(&format!("select {expression} as v"), json!({})).await;
        assert_eq!(rows, json!([{ "v": expected }]), "{expression}");
    }
    for (kind, value) in [
        ("numeric", json!(12.5)),
        ("int8", json!(5)),
        ("bool", json!(true)),
        ("uuid", json!("6f1e3a52-7b0d-4c8e-9d6a-0123456789ab")),
        ("date", json!("2027-03-01")),
        ("timestamptz", json!("2027-03-01T08:00:00Z")),
        ("jsonb", json!("text")),
        ("jsonb[]", json!([{"a": 1}, [2]])),
        ("mood", json!("sad")),
        ("small", json!(3)),
        ("text", json!(5)),
        ("bytea", json!("\\x00ff")),
    ] {
        let rows = world.rows(&format!("select :v::{kind} as v"), json!({ "v": value })).await;
        let expected = match kind {
            "text" => json!("5"),
            "bytea" => json!("AP8="),
            _ => value,
        };
        assert_eq!(rows, json!([{ "v": expected }]), "{kind}");
    }
    let error = world.bench.error(world.sql("select point(1, 2) as p", json!({}))).await;
    assert!(
        error.message.contains("column `p` has the type `point`") && error.message.contains("::text"),
        "{error}"
    );
    world.end().await;
}

#[tokio::test]
async fn a_failing_statement_is_named_and_rolled_back() {
    let Some(world) = World::new("fails").await else { return };
    world.bench.output(world.sql("create table t (a int primary key)", json!({}))).await;
    let count = async || world.rows("select count(*)::int as n from t", json!({})).await[0]["n"].clone();
    let script = "insert into t values (1);\n-- the same; again\ninsert into t values (:one);\nselect 1";
    let error = world.bench.error(world.sql(script, json!({"params": {"one": 1}}))).await;
    assert_eq!(error.class.0, "sql:23505");
    let told = "statement 2: duplicate key value violates unique constraint \"t_pkey\" (SQLSTATE 23505); everything was rolled back";
    assert_eq!(error.message, told);
    let detail = error.detail.unwrap();
    assert!(
        detail.starts_with("-- the same; again\ninsert into t values (:one)\n\ndetail: Key (a)=(1)"),
        "{detail}"
    );
    assert_eq!(count().await, 0);
    world.bench.error(world.sql(script, json!({"params": {"one": 1}, "transaction": false}))).await;
    assert_eq!(count().await, 1);
    for (script, params, class, words) in [
        (
            "select 1;\n  selct 2",
            json!({}),
            "sql:42601",
            "statement 2: syntax error at or near \"selct\" (SQLSTATE 42601, line 2, column 3)",
        ),
        ("select :x, nope", json!({"x": 1}), "sql:42703", "(SQLSTATE 42703, line 1, column 12)"),
        ("select :x", json!({"y": 1}), "sql", "`:x` is not given under `params` (given: y)"),
        ("select $1::int", json!({}), "sql", "parameter $1 has no name"),
        ("insert into t values (:n)", json!({"n": "many"}), "sql:22P02", "parameter `:n`"),
        ("select :b::bytea", json!({"b": "?"}), "sql", "`:b` is for a `bytea`"),
        ("select json_build_object('a', :v)", json!({"v": 1}), "sql:42P18", "write its type: `:v::text`"),
        (
            "do $$ begin raise exception 'so; what' using errcode = 'OS001'; end $$",
            json!({}),
            "sql:OS001",
            "so; what",
        ),
        ("copy t from stdin", json!({}), "sql", "stdin"),
    ] {
        let error = world.bench.error(world.sql(script, json!({ "params": params }))).await;
        assert_eq!(error.class.0, class, "{script}: {error}");
        assert!(error.message.contains(words), "{script}: {error}");
    }
    // What fails at the commit is no statement's fault.
    let late = "create table l (a int, constraint once unique (a) deferrable initially deferred); insert into l values (1), (1)";
    let error = world.bench.error(world.sql(late, json!({}))).await;
    assert!(
        error.message.starts_with("everything was rolled back, for the commit failed: duplicate"),
        "{error}"
    );
    world.end().await;
}

#[tokio::test]
async fn functions_notices_and_statements_outside_of_transactions_work() {
    let Some(world) = World::new("functions").await else { return };
    let script = "create function twice(n int) returns int language plpgsql as $$ begin raise notice 'twice; %', n; return 2 * n; end $$;\n\
                  create function three() returns int begin atomic select 1; select 3; end;\n\
                  select twice(:n) + three() as v;";
    let (end, record) = world.bench.run(world.sql(script, json!({"params": {"n": 21}}))).await;
    assert_eq!(end.output["rows"], json!([{"v": 45}]), "{end:?}");
    assert!(record.all().contains("NOTICE: twice; 21"), "{}", record.all());
    let outside = world.sql("create table v (a int); vacuum v", json!({"transaction": false}));
    world.bench.output(outside).await;
    world.end().await;
}

#[tokio::test]
async fn cancel_ends_the_statement_on_the_server() {
    let Some(world) = World::new("cancel").await else { return };
    world.bench.output(world.sql("create table t (a int)", json!({}))).await;
    let mark = format!("/* {} */", world.schema);
    let at_work = format!(
        "select count(*)::int as n from pg_stat_activity where state = 'active' and query like '%{}%' and pid <> pg_backend_pid()",
        world.schema
    );
    let at_work = async || world.admin(&at_work).await["rows"][0]["n"].as_i64().unwrap();
    for reason in [CancelReason::TimedOut, CancelReason::Kill] {
        let script = format!("insert into t values (1); select pg_sleep(1000) {mark}");
        let (cancel, record, running) = world.bench.start(world.sql(&script, json!({})));
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
    assert_eq!(world.rows("select count(*)::int as n from t", json!({})).await, json!([{"n": 0}]));
    world.end().await;
}

#[tokio::test]
async fn who_is_not_let_in_is_told_why() {
    let Some(world) = World::new("refused").await else { return };
    let fault =
        async |url: &str| world.bench.error(request("sql", Some("select 1"), json!({ "url": url }))).await;
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = fault(&format!("postgres://u:hidden@127.0.0.1:{port}/x")).await;
    assert_eq!(error.class.0, "connect");
    assert!(error.message.contains("refused") && error.message.contains(&port.to_string()), "{error}");
    let error = fault("postgres://u:hidden@no-such-host.invalid/x").await;
    assert_eq!(error.class.0, "connect", "{error}");
    assert!(error.message.contains("no-such-host.invalid") && !error.message.contains("hidden"), "{error}");
    let name = world.with("x").rsplit_once('/').unwrap().0.to_owned();
    let error = fault(&format!("{name}/no_such_database")).await;
    assert_eq!(error.class.0, "sql:3D000", "{error}");
    assert!(error.message.contains("no_such_database"), "{error}");
    for (url, words) in [
        (world.with("sslmode=maybe"), "`url` has the sslmode `maybe`; there are `disable`, `prefer`"),
        (world.with("colour=red"), "`url` knows no `colour`; there are `sslmode`"),
        ("postgres://127.0.0.1/x".to_owned(), "names no user"),
        ("postgres://u@127.0.0.1:many/x".to_owned(), "port"),
        (world.with("sslmode=verify-full&sslrootcert=none.pem"), "none.pem"),
    ] {
        let error = fault(&url).await;
        assert_eq!(error.class.0, "settings", "{error}");
        assert!(error.message.contains(words), "{error}");
    }
    world.end().await;
}

#[tokio::test]
async fn sslmode_says_how_the_way_is_protected() {
    let Some(world) = World::new("tls").await else { return };
    let has_tls = world.admin("show ssl").await["rows"][0]["ssl"] == "on";
    let asked = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
    for (mode, secured) in
        [("disable", Some(false)), ("prefer", Some(has_tls)), ("require", has_tls.then_some(true))]
    {
        let call = request("sql", Some(asked), json!({ "url": world.with(&format!("sslmode={mode}")) }));
        match secured {
            Some(secured) => {
                assert_eq!(world.bench.output(call).await["rows"], json!([{ "ssl": secured }]), "{mode}")
            }
            None => assert_eq!(world.bench.error(call).await.class.0, "tls", "{mode}"),
        }
    }
    // A certificate that vouches for nobody here.
    let other = include_str!("support/other-ca.pem");
    world.bench.write("other.pem", other);
    let url = world.with("sslmode=verify-full&sslrootcert=other.pem");
    let error = world.bench.error(request("sql", Some(asked), json!({ "url": url }))).await;
    assert_eq!(error.class.0, "tls", "{error}");
    world.end().await;
}

#[tokio::test]
async fn too_many_rows_are_an_error_not_a_cut() {
    let Some(world) = World::new("many").await else { return };
    let script = "select i, 'some text' as t from generate_series(1, 300000) i";
    let error = world.bench.error(world.sql(script, json!({}))).await;
    assert!(error.message.contains("`file`"), "{error}");
    let output = world.bench.output(world.sql(script, json!({"file": "rows.csv", "format": "csv"}))).await;
    assert_eq!(output["row_count"], 300_000);
    world.end().await;
}

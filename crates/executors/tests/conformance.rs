//! What every executor owes, asked of each in its own tongue.
#![allow(clippy::unwrap_used, reason = "a test that cannot build its world has failed")]

mod support;

use std::{fmt::Write, time::Duration};

use ostler_clock::{Clock, SystemClock};
use ostler_execution::{CancelReason, ExecOutcome, ExecRequest};
use ostler_test_servers::POSTGRES;
use serde_json::{Value, json};
use support::{
    Bench, SECRET, request,
    server::{Reply, Server, ok},
};

/// One executor's way of doing what is asked.
struct Tongue {
    name: &'static str,
    /// Hands on a text (with quotes, umlauts and an emoji) that comes back in the output.
    unicode: ExecRequest,
    /// Fails, with a class.
    fails: (ExecRequest, &'static str),
    /// Takes for ever.
    endless: ExecRequest,
    /// Hands on two mebibytes.
    too_much: ExecRequest,
    /// Hands on a secret, and shows it where it can.
    leaks: ExecRequest,
    /// Has no such thing in its settings.
    bad_settings: ExecRequest,
}

const TEXT: &str = "größe \"quoted\" 'single' 🐎 \\ end";

fn with_env(mut request: ExecRequest, name: &str, value: &str) -> ExecRequest {
    request.env.insert(name.into(), value.into());
    request
}

fn tongues(server: &Server) -> Vec<Tongue> {
    let handle = "\u{0}secret:TOKEN\u{0}";
    let shell = |script: &str| request("shell", Some(script), json!({}));
    let exec = |argv: &[&str]| request("exec", None, json!({"argv": argv, "capture": "text"}));
    let python = |code: &str| request("python", Some(code), json!({}));
    let http = |path: &str| request("http", None, json!({"url": format!("{}{path}", server.url)}));
    let sql = |script: &str, params: Value| {
        request("sql", Some(script), json!({"url": "sqlite::memory:", "params": params}))
    };
    let entry = |function: &str, kwargs: Value| {
        let mut call = request("python", None, json!({"entrypoint": format!("conform:{function}")}));
        call.kwargs = kwargs.as_object().unwrap().clone();
        call
    };
    let mut http_leak = http("/echo");
    http_leak.with.insert("body".into(), json!({"$secret": "TOKEN"}));
    let mut http_unicode = http("/echo");
    http_unicode.with.insert("body".into(), json!(TEXT));
    let mut tongues = vec![
        Tongue {
            name: "shell",
            unicode: with_env(shell("printf 'text=%s\\n' \"$T\" >> $OSTLER_OUTPUT"), "T", TEXT),
            fails: (shell("echo why >&2; exit 75"), "exit:75"),
            endless: shell("sleep 1000"),
            too_much: shell("head -c 2097152 /dev/zero | tr '\\0' x | sed 's/^/big=/' > $OSTLER_OUTPUT"),
            leaks: with_env(
                shell(
                    "echo \"$T\"; echo \"$T\" >&2; echo \"$T\" | base64; echo \"t=$T\" > $OSTLER_OUTPUT; exit ${C:-0}",
                ),
                "T",
                handle,
            ),
            bad_settings: request("shell", Some("true"), json!({"capture": 3})),
        },
        Tongue {
            name: "exec",
            unicode: exec(&["printf", "%s", TEXT]),
            fails: (exec(&["false"]), "exit:1"),
            endless: exec(&["sleep", "1000"]),
            too_much: exec(&["head", "-c", "2097152", "/dev/zero"]),
            leaks: exec(&["echo", handle]),
            bad_settings: request("exec", None, json!({"argv": "true"})),
        },
        Tongue {
            name: "python snippet",
            unicode: with_env(python("import os\nreturn os.environ['T']"), "T", TEXT),
            fails: (python("raise LookupError('why')"), "python.LookupError"),
            endless: python("while True: pass"),
            too_much: python("return 'x' * 2097152"),
            leaks: with_env(
                python(
                    "import os, sys\nprint(os.environ['T'])\nprint(os.environ['T'], file=sys.stderr)\nreturn os.environ['T']",
                ),
                "T",
                handle,
            ),
            bad_settings: request("python", Some("1"), json!({"entrypoint": 3})),
        },
        Tongue {
            name: "python entrypoint",
            unicode: entry("same", json!({"value": TEXT})),
            fails: (entry("fail", json!({})), "python.LookupError"),
            endless: entry("endless", json!({})),
            too_much: entry("same", json!({"value": "x".repeat(2 << 20)})),
            leaks: entry("show", json!({"value": {"$secret": "TOKEN"}})),
            bad_settings: request("python", None, json!({"entrypoint": "conform:same", "file": "x.py"})),
        },
        Tongue {
            name: "http",
            unicode: http_unicode,
            fails: (http("/fail"), "http:503"),
            endless: http("/endless"),
            too_much: http("/big"),
            leaks: http_leak,
            bad_settings: request("http", None, json!({"uri": "x"})),
        },
        Tongue {
            name: "sql",
            unicode: sql("select :t as t", json!({"t": TEXT})),
            fails: (sql("select * from nowhere", json!({})), "sql"),
            endless: sql(
                "with recursive n(i) as (select 1 union all select i + 1 from n) select max(i) from n",
                json!({}),
            ),
            too_much: sql("select hex(zeroblob(1048576)) as big", json!({})),
            leaks: sql("select :t as t", json!({"t": {"$secret": "TOKEN"}})),
            bad_settings: request("sql", Some("select 1"), json!({"url": 3})),
        },
    ];
    tongues.extend(POSTGRES.url().map(|url| Tongue {
        name: "sql on PostgreSQL",
        fails: (request("sql", Some("select * from nowhere"), json!({ "url": url })), "sql:42P01"),
        endless: request("sql", Some("select pg_sleep(1000)"), json!({ "url": url })),
        ..server_sql(&url)
    }));
    #[cfg(feature = "mysql")]
    tongues.extend(ostler_test_servers::MYSQL.url().map(|url| Tongue {
        name: "sql on MySQL",
        fails: (request("sql", Some("select * from nowhere"), json!({ "url": url })), "sql:42S02"),
        endless: request("sql", Some("select sleep(1000)"), json!({ "url": url })),
        ..server_sql(&url)
    }));
    tongues
}

/// What databases on servers say alike.
fn server_sql(url: &str) -> Tongue {
    let sql =
        |script: &str, params: Value| request("sql", Some(script), json!({ "url": url, "params": params }));
    Tongue {
        name: "sql",
        unicode: sql("select :t as t", json!({"t": TEXT})),
        fails: (sql("select", json!({})), "sql"),
        endless: sql("select", json!({})),
        too_much: sql("select repeat('x', 2097152) as big", json!({})),
        leaks: sql("select :t as t", json!({"t": {"$secret": "TOKEN"}})),
        bad_settings: sql("select 1", json!(3)),
    }
}

async fn world() -> (Bench, Vec<Tongue>) {
    let bench = Bench::new();
    bench.write(
        "conform.py",
        "import sys\ndef same(value): return value\ndef fail(): raise LookupError('why')\ndef endless():\n    while True: pass\n\
         def show(value):\n    print(value)\n    print(value, file=sys.stderr)\n    return value\n",
    );
    let server = Server::start(|asked, _| match asked.line.split(' ').nth(1).unwrap() {
        "/fail" => Reply::Text("503 Service Unavailable", vec![], "why".into()),
        "/endless" => Reply::Silence,
        "/big" => Reply::Text("200 OK", vec![], "x".repeat(2 << 20)),
        "/echo" => Reply::Text("200 OK", vec![], asked.body.clone()),
        _ => ok("{}"),
    })
    .await;
    let tongues = tongues(&server);
    (bench, tongues)
}

#[tokio::test]
async fn texts_come_through_unharmed() {
    let (bench, tongues) = world().await;
    for tongue in tongues {
        let output = bench.output(tongue.unicode).await;
        let expected = serde_json::to_string(TEXT).unwrap();
        assert!(output.to_string().contains(&expected), "{}: {output}", tongue.name);
    }
}

#[tokio::test]
async fn failures_have_their_class_and_never_an_empty_message() {
    let (bench, tongues) = world().await;
    for tongue in tongues {
        let (call, class) = tongue.fails;
        let error = bench.error(call).await;
        assert_eq!(error.class.0, class, "{}", tongue.name);
        assert!(!error.message.is_empty());
        let error = bench.error(tongue.bad_settings).await;
        assert_eq!(error.class.0, "settings", "{}: {error}", tongue.name);
    }
}

#[tokio::test]
async fn cancel_timeout_and_shutdown_end_soon() {
    for reason in
        [CancelReason::Cancelled, CancelReason::TimedOut, CancelReason::Shutdown, CancelReason::Kill]
    {
        let (bench, tongues) = world().await;
        let mut running = Vec::new();
        for tongue in tongues {
            running.push((tongue.name, bench.start(tongue.endless)));
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        let started = SystemClock.elapsed();
        for (_, (cancel, ..)) in &running {
            cancel.fire(reason);
        }
        for (name, (_, _, end)) in running {
            let end = end.await.unwrap();
            assert_eq!(end.outcome, ExecOutcome::Interrupted, "{name} {reason:?}");
        }
        assert!(SystemClock.elapsed() - started < Duration::from_secs(5), "{reason:?}");
    }
}

#[tokio::test]
async fn a_token_that_has_fired_already_is_heeded() {
    let (bench, tongues) = world().await;
    for tongue in tongues {
        let (cancel, _, running) = bench.start(tongue.endless);
        cancel.fire(CancelReason::Cancelled);
        assert_eq!(running.await.unwrap().outcome, ExecOutcome::Interrupted, "{}", tongue.name);
    }
}

#[tokio::test]
async fn outputs_over_the_limit_are_refused_with_a_way_out() {
    let (bench, tongues) = world().await;
    for tongue in tongues {
        let error = bench.error(tongue.too_much).await;
        let class = error.class.0.as_str();
        assert!(class == "output" || class == "sql", "{}: {error}", tongue.name);
        assert!(error.message.contains("file"), "{}: {error}", tongue.name);
    }
}

#[tokio::test]
async fn secrets_are_nowhere_to_be_seen() {
    let (bench, tongues) = world().await;
    for tongue in tongues {
        let (end, record) = bench.run(tongue.leaks).await;
        let mut shown = record.all();
        write!(shown, "{end:?}").unwrap();
        assert_eq!(end.outcome, ExecOutcome::Succeeded, "{}: {shown}", tongue.name);
        assert!(!shown.contains(SECRET) && shown.contains("***"), "{}: {shown}", tongue.name);
    }
}

#[tokio::test]
async fn outputs_are_checked_against_their_schema() {
    let (bench, tongues) = world().await;
    for tongue in tongues {
        let mut call = tongue.unicode;
        call.output_schema = Some(json!({"type": "object", "required": ["never there"]}));
        let error = bench.error(call).await;
        assert_eq!(error.class.0, "output", "{}: {error}", tongue.name);
        assert!(error.message.contains("declares"), "{error}");
    }
}

#[test]
fn settings_are_closed_and_described() {
    for (name, schema) in ostler_executors::settings() {
        assert_eq!(schema["additionalProperties"], false, "{name}");
        assert!(schema["description"].is_string(), "{name}");
        for (key, property) in schema["properties"].as_object().unwrap() {
            assert!(property["description"].is_string(), "{name}: `{key}` has no description");
        }
        ostler_schema::Schema::compile(&schema).unwrap();
    }
}

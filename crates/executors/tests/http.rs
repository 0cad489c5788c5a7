//! `http` against a server on loopback with faults.
#![allow(clippy::unwrap_used, reason = "a test that cannot build its world has failed")]

mod support;

use std::time::Duration;

use ostler_clock::{Clock, SystemClock};
use ostler_execution::{CancelReason, ExecOutcome, ExecRequest};
use serde_json::{Value, json};
use support::{
    Bench, SECRET, eventually, request,
    server::{Reply, Server, ok},
};

fn http(with: Value) -> ExecRequest {
    request("http", None, with)
}

#[tokio::test]
async fn answers_become_outputs() {
    let bench = Bench::new();
    let server = Server::start(|asked, _| match asked.line.as_str() {
        line if line.contains("/plain") => Reply::Text("200 OK", vec![], "größe".into()),
        _ => ok(r#"{"main": {"temp": 7.5}, "list": [1, 2]}"#),
    })
    .await;
    let with = json!({"url": format!("{}/a?x=1", server.url), "query": {"q": "a b&c", "n": [1, 2]}, "extract": {"celsius": "/main/temp", "second": "/list/1"}});
    let output = bench.output(http(with)).await;
    assert_eq!(
        (&output["status"], &output["celsius"], &output["second"]),
        (&json!(200), &json!(7.5), &json!(2))
    );
    assert_eq!(output["json"]["list"], json!([1, 2]));
    assert_eq!(output["headers"]["content-type"], "application/json");
    assert_eq!(server.asked()[0].line.trim(), "GET /a?x=1&q=a+b%26c&n=1&n=2 HTTP/1.1");
    let output = bench.output(http(json!({"url": format!("{}/plain", server.url)}))).await;
    assert_eq!(output["body"], "größe");
    let error = bench.error(http(json!({"url": server.url, "extract": {"x": "/no"}}))).await;
    assert!(error.class.0 == "output" && error.message.contains("/no"), "{error}");
}

#[tokio::test]
async fn bodies_auth_and_keys_are_sent() {
    let bench = Bench::new();
    let server = Server::start(|_, _| ok("{}")).await;
    let url = server.url.clone();
    bench.write("up.txt", "from a file");
    for with in [
        json!({"url": url, "json": {"a": [1]}, "auth": {"bearer": {"$secret": "TOKEN"}}}),
        json!({"url": url, "form": {"a": "b c"}, "auth": {"basic": {"user": "u", "password": "p"}}, "method": "put"}),
        json!({"url": url, "body_file": "up.txt", "idempotency_key": false, "headers": {"X-N": 3}}),
        json!({"url": url, "multipart": {"t": "text", "f": {"file": "up.txt"}}}),
        json!({"url": url}),
    ] {
        let mut call = http(with);
        call.traceparent = Some("00-aa-bb-01".into());
        bench.output(call).await;
    }
    let asked = server.asked();
    assert_eq!(
        (asked[0].body.as_str(), asked[0].header("authorization").unwrap()),
        ("{\"a\":[1]}", format!("Bearer {SECRET}").as_str())
    );
    assert_eq!(asked[0].header("idempotency-key"), Some("run/step/0"));
    assert_eq!(asked[0].header("traceparent"), Some("00-aa-bb-01"));
    assert_eq!((asked[1].line.as_str().split(' ').next(), asked[1].body.as_str()), (Some("PUT"), "a=b+c"));
    assert_eq!(asked[1].header("authorization"), Some("Basic dTpw"));
    assert_eq!(
        (asked[2].body.as_str(), asked[2].header("idempotency-key"), asked[2].header("x-n")),
        ("from a file", None, Some("3"))
    );
    assert!(asked[3].body.contains("filename=\"up.txt\"") && asked[3].body.contains("from a file"));
    assert_eq!(asked[4].header("idempotency-key"), None);
    for bad in [
        json!({"url": url, "body_file": "../x"}),
        json!({"url": url, "multipart": {"f": {"file": "/etc/passwd"}}}),
    ] {
        assert_eq!(bench.error(http(bad)).await.class.0, "settings");
    }
}

#[tokio::test]
async fn a_bad_status_is_typed_and_says_when_to_come_again() {
    let bench = Bench::new();
    let date = (SystemClock.now() + jiff::SignedDuration::from_secs(60))
        .strftime("%a, %d %b %Y %H:%M:%S GMT")
        .to_string();
    let server = Server::start(move |_, n| match n {
        0 => Reply::Text("503 Service Unavailable", vec![("Retry-After", "7".into())], "come back".into()),
        1 => Reply::Text("429 Too Many Requests", vec![("Retry-After", date.clone())], String::new()),
        2 => Reply::Text("404 Not Found", vec![], format!("no {SECRET}")),
        _ => ok("{}"),
    })
    .await;
    let call = || http(json!({"url": server.url, "headers": {"X": "\u{0}secret:TOKEN\u{0}"}}));
    let error = bench.error(call()).await;
    assert_eq!((error.class.0.as_str(), error.retry_after.unwrap().as_secs()), ("http:503", 7));
    assert_eq!(error.detail.as_deref(), Some("come back"));
    assert!(error.class.matches("5xx"));
    let error = bench.error(call()).await;
    assert!((58..=60).contains(&error.retry_after.unwrap().as_secs()), "{error:?}");
    let error = bench.error(call()).await;
    assert_eq!((error.class.0.as_str(), error.detail.as_deref()), ("http:404", Some("no ***")));
    assert_eq!(bench.output(call()).await["status"], 200);
    let strict = http(json!({"url": server.url, "expect": [201, "3xx"]}));
    assert_eq!(bench.error(strict).await.class.0, "http:200");
}

#[tokio::test]
async fn no_answer_is_typed_too() {
    let bench = Bench::new();
    let server = Server::start(|asked, _| match asked.line.split(' ').nth(1).unwrap() {
        "/loop" => Reply::Text("302 Found", vec![("Location", "/loop".into())], String::new()),
        "/once" => Reply::Text("302 Found", vec![("Location", "/there".into())], String::new()),
        "/short" => Reply::Truncated,
        "/silent" => Reply::Silence,
        _ => ok("{}"),
    })
    .await;
    let url = |path: &str| format!("{}{path}", server.url);
    let class = async |with: Value| bench.error(http(with)).await.class.0;
    assert_eq!(class(json!({"url": url("/loop")})).await, "http.redirect");
    assert_eq!(class(json!({"url": url("/once"), "redirects": 0})).await, "http:302");
    assert_eq!(bench.output(http(json!({"url": url("/once")}))).await["status"], 200);
    assert_eq!(class(json!({"url": url("/short")})).await, "http.body");
    assert_eq!(class(json!({"url": url("/silent"), "timeout": "100ms"})).await, "timeout");
    assert_eq!(class(json!({"url": url("/silent"), "read_timeout": "100ms"})).await, "timeout");
    assert_eq!(class(json!({"url": "http://127.0.0.1:1/"})).await, "connect");
    assert_eq!(class(json!({"url": server.url.replace("http", "https")})).await, "tls");
    assert_eq!(class(json!({"url": "ftp://x"})).await, "settings");
    assert_eq!(class(json!({"url": url("/"), "jsn": 1})).await, "settings");
}

#[tokio::test]
async fn answers_are_saved_whole_or_not_at_all() {
    let bench = Bench::new();
    let server = Server::start(|asked, _| match asked.line.split(' ').nth(1).unwrap() {
        "/short" => Reply::Truncated,
        _ => Reply::Text("200 OK", vec![], "x".repeat(3_000_000)),
    })
    .await;
    let save = |path: &str, file: &str| http(json!({"url": format!("{}{path}", server.url), "file": file}));
    let output = bench.output(save("/", "out/big.bin")).await;
    assert_eq!(output["bytes"], 3_000_000);
    assert_eq!(std::fs::metadata(bench.path().join("out/big.bin")).unwrap().len(), 3_000_000);
    assert_eq!(bench.error(save("/short", "out/short.bin")).await.class.0, "http.body");
    assert_eq!(std::fs::read_dir(bench.path().join("out")).unwrap().count(), 1);
    assert_eq!(bench.error(save("/", "../out.bin")).await.class.0, "settings");
    let error = bench.error(http(json!({"url": server.url}))).await;
    assert!(error.class.0 == "output" && error.message.contains("`file`"), "{error}");
}

#[tokio::test]
async fn cancel_ends_it_at_once() {
    let bench = Bench::new();
    let server = Server::start(|_, _| Reply::Silence).await;
    let (cancel, _, running) = bench.start(http(json!({"url": server.url, "file": "f"})));
    assert!(eventually(|| !server.asked().is_empty()).await);
    let started = SystemClock.elapsed();
    cancel.fire(CancelReason::Cancelled);
    assert_eq!(running.await.unwrap().outcome, ExecOutcome::Interrupted);
    assert!(SystemClock.elapsed() - started < Duration::from_secs(1));
}

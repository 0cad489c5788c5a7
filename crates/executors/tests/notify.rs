//! `notify` against servers on loopback: what arrives, and what is told of what did not.
#![allow(clippy::unwrap_used, reason = "a test that cannot build its world has failed")]

mod support;

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use ostler_clock::{Clock, SystemClock};
use ostler_execution::{CancelReason, ExecOutcome, ExecRequest, Stream};
use ring::hmac;
use serde_json::{Value, json};
use support::{
    Bench, SECRET, eventually,
    mail::MailServer,
    request,
    server::{Asked, Reply, Server, ok},
};

const HANDLE: &str = "\u{0}secret:TOKEN\u{0}";

/// A step with a title, a message and these channels.
fn notify(channels: Value) -> ExecRequest {
    let mut with = json!({ "title": "pull failed", "message": "größe & <b>\nsecond line" });
    with.as_object_mut().unwrap().extend(channels.as_object().unwrap().clone());
    request("notify", None, with)
}

fn mail(server: &MailServer, to: Value) -> Value {
    json!({ "server": format!("smtp://{}", server.address), "from": "Ostler <ostler@example.org>", "to": to })
}

fn is_signed(asked: &Asked, secret: &str) -> bool {
    let given = asked.header("x-ostler-signature").unwrap().strip_prefix("sha256=").unwrap();
    let bytes: Vec<u8> =
        (0..given.len()).step_by(2).map(|at| u8::from_str_radix(&given[at..at + 2], 16).unwrap()).collect();
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    hmac::verify(&key, asked.body.as_bytes(), &bytes).is_ok()
}

#[tokio::test]
async fn a_webhook_says_what_happened_where_and_is_signed() {
    let bench = Bench::new();
    let server = Server::start(|_, _| ok("{}")).await;
    let with = json!({ "webhook": { "url": server.url, "secret": HANDLE, "headers": { "X-N": 3, "traceparent": "mine" } } });
    let mut call = notify(with);
    call.traceparent = Some("00-aa-bb-01".into());
    let output = bench.output(call).await;
    assert_eq!(output, json!({ "webhook": { "status": 200 } }));
    let asked = server.asked().remove(0);
    let mut body: Value = serde_json::from_str(&asked.body).unwrap();
    let at: jiff::Timestamp = body["at"].take().as_str().unwrap().parse().unwrap();
    assert!(SystemClock.now().duration_since(at) < jiff::SignedDuration::from_secs(60));
    let run = body["run"].take();
    assert_eq!(run.as_str().unwrap().len(), 36, "{run}");
    let expected = json!({
        "title": "pull failed", "message": "größe & <b>\nsecond line", "namespace": "demo", "task": "pull",
        "run": null, "step": "fetch", "attempt": 2, "at": null,
    });
    assert_eq!(body, expected);
    assert!(is_signed(&asked, SECRET) && !is_signed(&asked, "other"));
    assert!(asked.line.starts_with("POST / "), "{}", asked.line);
    for (name, value) in [
        ("content-type", "application/json"),
        ("idempotency-key", "run/step/0"),
        ("x-n", "3"),
        ("traceparent", "mine"),
    ] {
        assert_eq!(asked.header(name), Some(value), "{name}");
    }
}

#[tokio::test]
async fn slack_gets_what_it_reads_and_a_bare_address_will_do() {
    let bench = Bench::new();
    let server = Server::start(|_, _| ok("ok")).await;
    bench.output(notify(json!({ "webhook": { "url": server.url, "form": "slack" } }))).await;
    bench.output(notify(json!({ "webhook": format!("{}/x", server.url) }))).await;
    let asked = server.asked();
    let body: Value = serde_json::from_str(&asked[0].body).unwrap();
    assert_eq!(body, json!({ "text": "*pull failed*\ngröße &amp; &lt;b&gt;\nsecond line" }));
    assert_eq!((asked[1].line.starts_with("POST /x "), asked[1].header("x-ostler-signature")), (true, None));
}

#[tokio::test]
async fn an_e_mail_arrives_and_can_be_recognised_when_it_comes_again() {
    let bench = Bench::new();
    let server = MailServer::start(|_| None).await;
    let mut settings = mail(&server, json!(["ops@example.org", "Ärger <two@example.org>"]));
    settings["server"] = json!(format!("smtp://me%40x:{HANDLE}@{}", server.address));
    settings["subject"] = json!("größe\r\nBcc: evil@example.org");
    for attempt in [1, 2] {
        let mut call = notify(json!({ "email": settings }));
        call.attempt = attempt;
        let output = bench.output(call).await;
        assert_eq!(output, json!({ "email": { "accepted": ["ops@example.org", "two@example.org"] } }));
    }
    let taken = server.taken();
    let first = &taken[0];
    assert_eq!(
        (first.from.as_str(), &*first.to),
        ("ostler@example.org", &["ops@example.org".to_owned(), "two@example.org".into()][..])
    );
    assert_eq!(first.login.as_deref(), Some(&*STANDARD.encode(format!("\0me@x\0{SECRET}"))));
    assert_eq!(first.header("Bcc"), None);
    assert!(first.header("Subject").unwrap().contains("Bcc: evil@example.org"), "{}", first.text);
    assert_eq!(first.header("Auto-Submitted").as_deref(), Some("auto-generated"));
    let id = first.header("Message-ID").unwrap();
    assert!(id.starts_with('<') && id.ends_with("@example.org>") && id.len() == 46, "{id}");
    assert_eq!(taken[1].header("Message-ID").unwrap(), id, "another attempt has the same id");
    assert!(first.header("Date").unwrap().ends_with("+0000"));
    assert!(first.text.is_ascii(), "{}", first.text);
    let mut other = notify(json!({ "email": mail(&server, json!("ops@example.org")) }));
    other.idempotency_key = "run/step/1".into();
    other.with.insert("message".into(), json!(".\nplain"));
    bench.output(other).await;
    let other = server.taken().remove(2);
    assert_ne!(other.header("Message-ID").unwrap(), id);
    assert_eq!((other.header("Subject").as_deref(), other.login), (Some("pull failed"), None));
    let body = other.text.split_once("\r\n\r\n").unwrap().1;
    assert!(body.starts_with(".\r\nplain\r\n\r\n-- \r\ndemo:pull, step fetch, attempt 2, run "), "{body}");
}

#[tokio::test]
async fn whom_the_server_refuses_keeps_nobody_else_from_it() {
    let bench = Bench::new();
    let server =
        MailServer::start(|line| (line.contains("gone@")).then(|| "550 5.1.1 no such user".into())).await;
    let call = notify(json!({ "email": mail(&server, json!(["gone@example.org", "ops@example.org"])) }));
    let (end, _) = bench.run(call).await;
    let ExecOutcome::Failed(error) = &end.outcome else { panic!("{end:?}") };
    assert_eq!(error.class.0, "notify");
    let told = "1 of 1 channel failed: email: 127.0.0.1 refused gone@example.org: it answered 550 5.1.1 no such user";
    assert_eq!(error.message, told);
    let expected = json!({ "email": { "accepted": ["ops@example.org"], "refused": ["gone@example.org"] } });
    assert_eq!(end.output, expected);
    assert_eq!(server.taken()[0].to, ["ops@example.org"]);
    let error = bench.error(notify(json!({ "email": mail(&server, json!("gone@example.org")) }))).await;
    assert!(error.message.contains("refused gone@"), "{error}");
    assert_eq!(server.taken().len(), 1);
}

#[tokio::test]
async fn a_command_gets_the_message_on_its_standard_input() {
    let bench = Bench::new();
    let call =
        notify(json!({ "command": ["sh", "-c", "cat > got; echo \"$0 $OSTLER_IDEMPOTENCY_KEY\"", "said"] }));
    let (end, record) = bench.run(call).await;
    assert_eq!((end.output, end.outcome), (json!({ "command": { "exit_code": 0 } }), ExecOutcome::Succeeded));
    assert_eq!(std::fs::read_to_string(bench.path().join("got")).unwrap(), "größe & <b>\nsecond line");
    assert_eq!(record.stdout(), ["said run/step/0"]);
    let mut silent = notify(json!({ "command": ["sh", "-c", "cat > got"] }));
    silent.with.remove("message");
    bench.output(silent).await;
    assert_eq!(std::fs::read_to_string(bench.path().join("got")).unwrap(), "");
}

#[tokio::test]
async fn all_channels_are_tried_and_those_that_failed_are_named() {
    let bench = Bench::new();
    let mails = MailServer::start(|_| None).await;
    let server = Server::start(|_, _| {
        Reply::Text("429 Too Many Requests", vec![("Retry-After", "7".into())], "slow down".into())
    })
    .await;
    let with = json!({
        "webhook": server.url,
        "email": mail(&mails, json!("ops@example.org")),
        "command": ["sh", "-c", "echo why >&2; exit 3"],
    });
    let (end, record) = bench.run(notify(with)).await;
    let ExecOutcome::Failed(error) = &end.outcome else { panic!("{end:?}") };
    assert_eq!((error.class.0.as_str(), error.retry_after.unwrap().as_secs()), ("notify", 7));
    let told = format!(
        "2 of 3 channels failed: webhook: {} answered 429 Too Many Requests; command: the command ended with exit code 3: why",
        server.url
    );
    assert_eq!(error.message, told);
    assert_eq!(error.detail.as_deref(), Some("webhook: slow down\ncommand: why"));
    let expected = json!({
        "webhook": { "status": 429 }, "email": { "accepted": ["ops@example.org"] }, "command": { "exit_code": 3 },
    });
    assert_eq!((end.output, end.exit_code), (expected, None));
    assert!(record.of(Stream::System).contains(&"email: 127.0.0.1 took it for ops@example.org".to_owned()));
    assert_eq!(mails.taken().len(), 1);
}

#[tokio::test]
async fn who_cannot_be_reached_is_named_too() {
    let bench = Bench::new();
    let plain = MailServer::start(|line| line.starts_with("MAIL").then(|| "451 later".into())).await;
    let redirecting =
        Server::start(|_, _| Reply::Text("302 Found", vec![("Location", "/there".into())], String::new()))
            .await;
    let to = |scheme: &str| {
        let mut settings = mail(&plain, json!("ops@example.org"));
        settings["server"] = json!(format!("{scheme}://{}", plain.address));
        json!({ "email": settings })
    };
    let mut nowhere = to("smtp");
    nowhere["email"]["server"] = json!("smtp://127.0.0.1:1");
    for (channels, words) in [
        (json!({ "webhook": "http://127.0.0.1:1/secret-path" }), "webhook: http://127.0.0.1:1: "),
        (json!({ "webhook": redirecting.url }), "answered 302 Found"),
        (json!({ "command": ["no-such-program"] }), "command: "),
        (nowhere, "email: 127.0.0.1: "),
        (to("smtp"), "email: 127.0.0.1: it answered 451 later"),
        (to("smtp+starttls"), "STARTTLS is not supported"),
        (to("smtps"), "email: 127.0.0.1: "),
    ] {
        let error = bench.error(notify(channels)).await;
        assert_eq!(error.class.0, "notify", "{error}");
        assert!(
            error.message.starts_with("1 of 1 channel failed: ") && error.message.contains(words),
            "{error}"
        );
        assert!(!error.message.contains("secret-path"), "{error}");
    }
    assert_eq!((plain.taken().len(), redirecting.asked().len()), (0, 1));
}

#[tokio::test]
async fn nothing_is_sent_when_a_setting_is_wrong() {
    let bench = Bench::new();
    let server = Server::start(|_, _| ok("{}")).await;
    let email = |key: &str, value: Value| {
        let mut email =
            json!({ "server": "smtps://127.0.0.1:1", "from": "a@example.org", "to": ["b@example.org"] });
        email[key] = value;
        json!({ "webhook": server.url, "email": email })
    };
    for (channels, words) in [
        (json!({}), "names no channel"),
        (json!({ "title": " ", "webhook": server.url }), "`title` is empty"),
        (json!({ "webhok": server.url }), "webhok"),
        (json!({ "webhook": { "url": server.url, "form": "teams" } }), "teams"),
        (json!({ "webhook": { "url": server.url, "sekret": "x" } }), "sekret"),
        (json!({ "webhook": "no address" }), "`webhook.url` is not an address"),
        (json!({ "webhook": "ftp://x" }), "neither http nor https"),
        (json!({ "webhook": { "url": server.url, "headers": { "A": "b\r\nC: d" } } }), "line break"),
        (json!({ "webhook": { "url": server.url, "headers": { "A B": "c" } } }), "not the name of a header"),
        (json!({ "webhook": server.url, "command": [] }), "names no program"),
        (email("server", json!("smtp://mail.example.org")), "`insecure: true`"),
        (email("server", json!("mail.example.org")), "`email.server` is not an address"),
        (email("user", json!("me")), "go together"),
        (email("from", json!("nobody")), "`email.from`: `nobody` is not an address"),
        (email("to", json!("a@example.org\r\nBcc: c@example.org")), "`email.to`"),
        (email("to", json!([])), "names nobody"),
        (email("to", json!(3)), "`email`: `to` is an address or a list"),
        (email("too", json!("x")), "`email`: unknown field `too`"),
    ] {
        let error = bench.error(notify(channels)).await;
        assert_eq!(error.class.0, "settings", "{error}");
        assert!(error.message.contains(words), "{words}: {error}");
    }
    assert_eq!(server.asked().len(), 0);
}

#[tokio::test]
async fn secrets_are_nowhere_to_be_seen() {
    let bench = Bench::new();
    let server =
        Server::start(|asked, _| Reply::Text("500 Oops", vec![], asked.header("x-key").unwrap().into()))
            .await;
    let mails =
        MailServer::start(|line| line.strip_prefix("AUTH PLAIN ").map(|text| format!("535 not {text}")))
            .await;
    let mut email = mail(&mails, json!("ops@example.org"));
    email["server"] = json!(format!("smtp://me:{HANDLE}@{}", mails.address));
    let with = json!({
        "message": format!("the key is {HANDLE}"),
        "webhook": { "url": server.url, "headers": { "X-Key": HANDLE } },
        "email": email,
        "command": ["sh", "-c", "cat; cat >&2; echo \"$0\"; exit 1", HANDLE],
    });
    let (end, record) = bench.run(notify(with)).await;
    let shown = format!("{}{end:?}", record.all());
    let encoded = STANDARD.encode(format!("\0me\0{SECRET}"));
    assert!(!shown.contains(SECRET) && !shown.contains(&encoded) && shown.contains("***"), "{shown}");
    assert!(shown.contains("3 of 3 channels failed"), "{shown}");
    assert!(server.asked()[0].body.contains(SECRET), "who is meant to have it has it");
}

#[tokio::test]
async fn cancel_ends_all_of_it() {
    for reason in [CancelReason::Cancelled, CancelReason::Kill] {
        let bench = Bench::new();
        let server = Server::start(|_, _| Reply::Silence).await;
        let with =
            json!({ "webhook": server.url, "command": ["sh", "-c", "echo begun > begun; sleep 1000"] });
        let (cancel, _, running) = bench.start(notify(with));
        assert!(eventually(|| !server.asked().is_empty() && bench.path().join("begun").exists()).await);
        let started = SystemClock.elapsed();
        cancel.fire(reason);
        assert_eq!(running.await.unwrap().outcome, ExecOutcome::Interrupted);
        assert!(SystemClock.elapsed() - started < Duration::from_secs(5), "{reason:?}");
    }
    let bench = Bench::new();
    let (cancel, _, running) = bench.start(notify(json!({ "command": ["touch", "made"] })));
    cancel.fire(CancelReason::Shutdown);
    assert_eq!(running.await.unwrap().outcome, ExecOutcome::Interrupted);
    assert!(!bench.path().join("made").exists());
}

#[test]
fn a_lost_attempt_may_be_repeated() {
    assert!(Bench::new().executors.get("notify").unwrap().reruns_lost());
}

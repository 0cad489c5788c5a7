//! `notify` by Redis, NATS and MQTT, on real brokers. What they got is asked of them by the smallest of clients.
#![allow(clippy::unwrap_used, reason = "a test that cannot build its world has failed")]

mod support;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

use ostler_execution::ExecRequest;
use ostler_test_servers::{MQTT, NATS, REDIS};
use serde_json::{Value, json};
use support::{Bench, request};

fn notify(with: Value) -> ExecRequest {
    let mut call = request("notify", None, with);
    call.with.insert("title".into(), json!("pull failed"));
    call.with.entry("message").or_insert(json!("größe: \"1\"\r\n2"));
    call.idempotency_key = format!("key-{}-{}", std::process::id(), call.with.len());
    call
}

/// A plain connection to a server, without login.
fn plain(url: &str) -> BufReader<TcpStream> {
    let place = url.split_once("://").unwrap().1;
    let place = place.rsplit('@').next().unwrap().split('/').next().unwrap();
    let tcp = TcpStream::connect(place).unwrap();
    tcp.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    BufReader::new(tcp)
}

fn line(link: &mut BufReader<TcpStream>) -> String {
    let mut text = String::new();
    link.read_line(&mut text).unwrap();
    text.trim_end().to_owned()
}

fn own(name: &str) -> String {
    format!("ostler_test_{name}_{}", std::process::id())
}

/// A port that was free a moment ago.
fn nowhere() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn redis_publishes_and_adds_to_streams() {
    let Some(url) = REDIS.url() else { return };
    let bench = Bench::new();
    let (channel, stream) = (own("channel"), own("stream"));
    let mut link = plain(&url);
    write!(link.get_mut(), "SUBSCRIBE {channel}\r\n").unwrap();
    // Three parts of an answer: two texts, each with its length, and a number.
    for _ in 0..6 {
        line(&mut link);
    }
    let output =
        bench.output(notify(json!({"redis": {"url": url, "channel": channel, "body": "message"}}))).await;
    assert_eq!(output, json!({"redis": {"receivers": 1}}));
    let told: Vec<String> = (0..8).map(|_| line(&mut link)).collect();
    assert_eq!(told[6..], ["größe: \"1\"", "2"], "{told:?}");
    let call = notify(json!({"redis": {"url": format!("{url}/0"), "stream": stream, "max_length": 10}}));
    let output = bench.output(call.clone()).await;
    assert!(output["redis"]["id"].as_str().unwrap().contains('-'), "{output}");
    let mut link = plain(&url);
    write!(link.get_mut(), "XRANGE {stream} - +\r\nDEL {stream}\r\nQUIT\r\n").unwrap();
    let mut all = String::new();
    link.read_to_string(&mut all).unwrap();
    assert!(all.contains(&call.idempotency_key) && all.contains("\"title\":\"pull failed\""), "{all}");
    let error = bench
        .error(notify(
            json!({"redis": {"url": url.replace("redis://", "redis://u:hidden@"), "channel": "x"}}),
        ))
        .await;
    assert!(error.message.contains("redis: ") && !error.message.contains("hidden"), "{error}");
}

#[tokio::test]
async fn nats_publishes_and_streams_acknowledge() {
    let Some(url) = NATS.url() else { return };
    let bench = Bench::new();
    let subject = own("subject");
    let mut link = plain(&url);
    write!(link.get_mut(), "CONNECT {{\"verbose\":false,\"headers\":true}}\r\nSUB {subject} 1\r\nPING\r\n")
        .unwrap();
    while line(&mut link) != "PONG" {}
    let output =
        bench.output(notify(json!({"nats": {"url": url, "subject": subject, "body": "message"}}))).await;
    assert_eq!(output, json!({"nats": {"subject": subject}}));
    let told: Vec<String> = (0..6).map(|_| line(&mut link)).collect();
    assert!(told[0].starts_with("HMSG") && told[2].starts_with("Nats-Msg-Id: key-"), "{told:?}");
    assert_eq!(told[4..], ["größe: \"1\"", "2"]);
    // Nobody keeps it, then a stream does.
    let kept = own("kept");
    let call = notify(json!({"nats": {"url": url, "subject": kept, "jetstream": true}}));
    let error = bench.error(call.clone()).await;
    assert!(error.message.contains("no stream of JetStream takes this subject"), "{error}");
    let config = json!({"name": kept, "subjects": [kept], "storage": "memory"}).to_string();
    let api = format!("$JS.API.STREAM.CREATE.{kept}");
    write!(link.get_mut(), "SUB reply 2\r\nPUB {api} reply {}\r\n{config}\r\n", config.len()).unwrap();
    while !line(&mut link).starts_with("MSG reply") {}
    assert!(line(&mut link).contains("\"did_create\":true"));
    let first = bench.output(call.clone()).await;
    assert_eq!(first, json!({"nats": {"stream": kept, "sequence": 1}}));
    let again = bench.output(call).await;
    assert_eq!(again, json!({"nats": {"stream": kept, "sequence": 1, "duplicate": true}}));
    write!(link.get_mut(), "PUB $JS.API.STREAM.DELETE.{kept} reply 0\r\n\r\n").unwrap();
    while !line(&mut link).contains("stream_delete_response") {}
    let error = bench.error(notify(json!({"nats": {"url": url, "subject": "a b"}}))).await;
    assert_eq!(error.class.0, "settings", "{error}");
}

#[tokio::test]
async fn mqtt_publishes_and_is_acknowledged() {
    let Some(url) = MQTT.url() else { return };
    let bench = Bench::new();
    let topic = own("topic");
    // Kept by the broker, so that whoever comes later gets it.
    for (qos, message) in [(0, "nought"), (1, "größe")] {
        let with = json!({"message": message, "mqtt": {"url": url, "topic": topic, "qos": qos, "retain": true, "body": "message"}});
        assert_eq!(bench.output(notify(with)).await, json!({"mqtt": {"topic": topic}}));
        assert_eq!(retained(&url, &topic), message);
    }
    let with =
        json!({"message": "", "mqtt": {"url": url, "topic": topic, "retain": true, "body": "message"}});
    bench.output(notify(with)).await;
    for (mqtt, words) in [
        (json!({"url": url, "topic": "a/+"}), "without `+`"),
        (json!({"url": url, "topic": "a", "qos": 2}), "`mqtt.qos`"),
        (json!({"url": "http://x", "topic": "a"}), "mqtts://"),
    ] {
        let error = bench.error(notify(json!({ "mqtt": mqtt }))).await;
        assert_eq!(error.class.0, "settings", "{error}");
        assert!(error.message.contains(words), "{error}");
    }
}

/// What the broker keeps of a topic: subscribed to by hand.
fn retained(url: &str, topic: &str) -> String {
    let mut link = plain(url);
    let client = own("reader");
    let mut hello = vec![0x10, 12 + client.len() as u8, 0, 4];
    hello.extend(b"MQTT\x04\x02\x00\x3c\x00");
    hello.push(client.len() as u8);
    hello.extend(client.as_bytes());
    hello.extend([0x82, 5 + topic.len() as u8, 0, 1, 0, topic.len() as u8]);
    hello.extend(topic.as_bytes());
    hello.push(0);
    link.get_mut().write_all(&hello).unwrap();
    loop {
        let mut head = [0; 2];
        link.read_exact(&mut head).unwrap();
        let mut body = vec![0; usize::from(head[1])];
        link.read_exact(&mut body).unwrap();
        if head[0] & 0xF0 == 0x30 {
            return String::from_utf8(body[2 + topic.len()..].to_vec()).unwrap();
        }
    }
}

#[tokio::test]
async fn one_broker_that_fails_keeps_no_other_from_being_told() {
    let Some(url) = REDIS.url() else { return };
    let bench = Bench::new();
    let port = nowhere();
    let with = json!({
        "redis": {"url": url, "channel": own("nobody")},
        "mqtt": {"url": format!("mqtt://u:hidden@127.0.0.1:{port}"), "topic": "x"},
        "nats": {"url": format!("nats://127.0.0.1:{port}"), "subject": "x"},
    });
    let (end, record) = bench.run(notify(with)).await;
    assert_eq!(end.output, json!({"redis": {"receivers": 0}}), "{}", record.all());
    let told = format!("{end:?}{}", record.all());
    assert!(told.contains("2 of 3 channels failed: mqtt: 127.0.0.1:") && !told.contains("hidden"), "{told}");
}

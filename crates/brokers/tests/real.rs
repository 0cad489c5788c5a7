//! The clients against the real brokers.
#![allow(clippy::unwrap_used, reason = "a test that cannot build its world has failed")]

use std::{path::Path, time::Duration};

use ostler_brokers::{BrokerError, Content, mqtt, nats, postgres, redis};
use ostler_test_servers::{MQTT, NATS, POSTGRES, REDIS};

fn own(name: &str) -> String {
    format!("ostler_brokers_{name}_{}", std::process::id())
}

fn whole(content: Content) -> Vec<u8> {
    match content {
        Content::Whole(bytes) => bytes.to_vec(),
        Content::Cut(size) => panic!("{size} bytes were too many"),
    }
}

/// What must come soon.
async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work).await.unwrap()
}

/// A port that was free a moment ago.
fn nowhere() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn redis_answers_many_commands_in_their_order() {
    let Some(url) = REDIS.url() else { return };
    let mut redis = redis::Server::parse(&format!("{url}/0")).unwrap().connect().await.unwrap();
    let stream = own("stream");
    // More than fits into the buffers of both directions at once.
    let body = "x".repeat(3000);
    let mut commands: Vec<_> = (0..5000)
        .map(|n| redis::words(["XADD", &stream, &format!("{}-0", n + 1), "n", &n.to_string(), "body", &body]))
        .collect();
    commands[17] = redis::words(["NOSUCH", "x"]);
    let answers = redis.ask_all(&commands).await.unwrap();
    assert_eq!(answers.len(), 5000);
    assert!(answers[17].as_ref().unwrap_err().contains("unknown command"), "{:?}", answers[17]);
    assert_eq!(answers[4999].as_ref().unwrap().text(), Some("5000-0"));
    assert_eq!(redis.ask(&redis::words(["XLEN", &stream])).await.unwrap(), redis::Value::Integer(4999));
    // An answer that has no room for all of it is cut, and the next is whole.
    let all = redis.ask(&redis::words(["XRANGE", &stream, "-", "+"])).await.unwrap();
    assert_eq!(all.array().map(<[_]>::len), Some(4999));
    assert!(format!("{all:?}").contains("Cut("));
    assert_eq!(redis.ask(&redis::words(["DEL", &stream])).await.unwrap(), redis::Value::Integer(1));
}

#[tokio::test]
async fn redis_tells_what_is_published() {
    let Some(url) = REDIS.url() else { return };
    let server = redis::Server::parse(&url).unwrap();
    let (mut hears, mut says) = (server.connect().await.unwrap(), server.connect().await.unwrap());
    let channel = own("channel");
    hears.subscribe(&format!("{channel}*"), true).await.unwrap();
    let large = vec![b'x'; 9 << 20];
    for body in [&b"\xFF\r\n0"[..], &large, b"last"] {
        let command = [b"PUBLISH".to_vec(), format!("{channel}.a").into_bytes(), body.to_vec()];
        assert_eq!(says.ask(&command).await.unwrap(), redis::Value::Integer(1));
    }
    let (from, first) = soon(hears.published()).await.unwrap();
    assert_eq!((from, whole(first)), (format!("{channel}.a"), b"\xFF\r\n0".to_vec()));
    assert_eq!(soon(hears.published()).await.unwrap().1, Content::Cut(9 << 20));
    assert_eq!(whole(soon(hears.published()).await.unwrap().1), b"last");
    let refused =
        redis::Server::parse(&url.replace("redis://", "redis://u:hidden@")).unwrap().connect().await;
    let told = refused.err().unwrap();
    assert!(matches!(told, BrokerError::Refused { .. }) && !told.to_string().contains("hidden"), "{told}");
}

#[tokio::test]
async fn nats_tells_what_is_published_and_refuses_what_is_too_large() {
    let Some(url) = NATS.url() else { return };
    let server = nats::Server::parse(&url).unwrap();
    let (mut hears, mut says) = (server.connect().await.unwrap(), server.connect().await.unwrap());
    let subject = own("subject");
    hears.subscribe(&format!("{subject}.>")).await.unwrap();
    let to = format!("{subject}.a");
    let headers = [("Kind".to_owned(), "order\r\nEvil: 1".to_owned())];
    let large = vec![0; 9 << 20];
    let posts = [
        nats::Post { subject: &to, id: Some("7"), headers: &headers, body: b"one\r\n" },
        nats::Post { subject: &to, body: &large, ..nats::Post::default() },
        nats::Post { subject: &to, body: b"two", ..nats::Post::default() },
    ];
    let told = says.publish(&posts).await.unwrap();
    assert!(told[0].is_ok() && told[2].is_ok());
    assert!(told[1].as_ref().unwrap_err().contains("max_payload"), "{told:?}");
    let first = soon(hears.next()).await.unwrap();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(first.headers, [pair("Nats-Msg-Id", "7"), pair("Kind", "orderEvil: 1")]);
    assert_eq!((first.subject, whole(first.content)), (to.clone(), b"one\r\n".to_vec()));
    assert_eq!(whole(soon(hears.next()).await.unwrap().content), b"two");
}

#[tokio::test]
async fn jetstream_keeps_and_gives_in_order() {
    let Some(url) = NATS.url() else { return };
    let server = nats::Server::parse(&url).unwrap();
    let mut nats = server.connect().await.unwrap();
    let stream = own("kept");
    let missing = nats.stream(&stream).await.unwrap_err();
    assert!(missing.to_string().contains("stream not found"), "{missing}");
    let nobody = nats.publish_kept(&[nats::Post { subject: &stream, ..Default::default() }]).await.unwrap();
    assert!(nobody[0].as_ref().unwrap_err().contains("no stream"), "{nobody:?}");
    let config =
        serde_json::json!({"name": stream, "subjects": [format!("{stream}.*")], "storage": "memory"});
    nats.api(&format!("STREAM.CREATE.{stream}"), &config).await.unwrap();
    let subjects: Vec<String> = (0..3000).map(|n| format!("{stream}.{}", n % 2)).collect();
    let bodies: Vec<String> = (0..3000).map(|n| format!("{n}{}", " ".repeat(1000))).collect();
    let ids: Vec<String> = (0..3000).map(|n| format!("id-{}", n / 2)).collect();
    let posts: Vec<_> = (0..3000)
        .map(|n| nats::Post {
            subject: &subjects[n],
            id: Some(&ids[n]),
            body: bodies[n].as_bytes(),
            headers: &[],
        })
        .collect();
    let kept = nats.publish_kept(&posts).await.unwrap();
    let kept: Vec<_> = kept.into_iter().map(Result::unwrap).collect();
    assert!(kept.iter().enumerate().all(|(n, k)| k.duplicate == (n % 2 == 1)), "each id is kept once");
    assert_eq!(kept[2999].sequence, 1500);
    let state = nats.stream(&stream).await.unwrap();
    assert_eq!((state.first, state.last), (1, 1500));
    let mut consumer = nats.consume(&stream, Some(&format!("{stream}.0")), 100).await.unwrap();
    for expected in 101..=1500 {
        let (number, message) = soon(nats.pulled(&mut consumer)).await.unwrap();
        let text = String::from_utf8(whole(message.content)).unwrap();
        assert_eq!((number, text.trim()), (expected, ((expected - 1) * 2).to_string().as_str()));
    }
    // What comes later is given on the pull that waits.
    let mut other = server.connect().await.unwrap();
    let late = [nats::Post { subject: &subjects[0], body: b"late", ..Default::default() }];
    let (found, kept) = tokio::join!(soon(nats.pulled(&mut consumer)), other.publish_kept(&late));
    assert_eq!((found.unwrap().0, kept.unwrap()[0].as_ref().unwrap().sequence), (1501, 1501));
    other.api(&format!("STREAM.DELETE.{stream}"), &serde_json::json!({})).await.unwrap();
    let gone = soon(nats.pulled(&mut consumer)).await.unwrap_err();
    assert!(gone.to_string().contains("has ended"), "{gone}");
}

#[tokio::test]
async fn mqtt_keeps_a_session_and_sends_again_what_was_not_acknowledged() {
    let Some(url) = MQTT.url() else { return };
    let server = mqtt::Server::parse(&url).unwrap();
    let (topic, client) = (own("topic"), own("client"));
    let session = mqtt::Session { client, kept: true };
    let mut hears = server.connect(&session).await.unwrap();
    assert!(!hears.is_known());
    assert_eq!(hears.subscribe(&format!("{topic}/+"), true).await.unwrap(), []);
    let to = format!("{topic}/a");
    let mut says = server.connect(&mqtt::Session { client: own("says"), kept: false }).await.unwrap();
    let bodies: Vec<String> = (0..700).map(|n| n.to_string()).collect();
    let post = |body: &'static str| mqtt::Post {
        topic: &to,
        acknowledged: true,
        retain: false,
        body: body.as_bytes(),
    };
    says.publish(&[post("one"), post("two")]).await.unwrap();
    let one = soon(hears.next()).await.unwrap();
    let two = soon(hears.next()).await.unwrap();
    assert_eq!((one.topic.as_str(), one.again, one.retained), (to.as_str(), false, false));
    hears.acknowledge(one.number).await.unwrap();
    hears.settle().await.unwrap();
    drop(hears);
    // What is published while nobody listens waits, behind what was given and not acknowledged.
    let posts: Vec<_> = bodies
        .iter()
        .map(|body| mqtt::Post { topic: &to, acknowledged: true, retain: false, body: body.as_bytes() })
        .collect();
    says.publish(&posts).await.unwrap();
    let mut hears = server.connect(&session).await.unwrap();
    assert!(hears.is_known());
    let again = soon(hears.next()).await.unwrap();
    assert!(again.again, "{again:?}");
    assert_eq!((again.number, whole(again.content)), (two.number, b"two".to_vec()));
    hears.acknowledge(again.number).await.unwrap();
    for expected in &bodies {
        let message = soon(hears.next()).await.unwrap();
        hears.acknowledge(message.number).await.unwrap();
        assert_eq!(whole(message.content), expected.as_bytes());
    }
    // Who comes clean is not known any more.
    hears.goodbye().await.unwrap();
    let clean = mqtt::Session { kept: false, ..session.clone() };
    server.connect(&clean).await.unwrap().goodbye().await.unwrap();
    let hears = server.connect(&session).await.unwrap();
    assert!(!hears.is_known());
    hears.goodbye().await.unwrap();
    server.connect(&clean).await.unwrap().goodbye().await.unwrap();
}

#[tokio::test]
async fn postgres_tells_what_notify_says() {
    let Some(url) = POSTGRES.url() else { return };
    let server = postgres::Server::parse(&url, Path::new("."), "ostler brokers test").unwrap();
    let channel = format!("Odd \"{}", own("channel"));
    let mut hears = server.listen(&channel).await.unwrap();
    let (client, connection) = server.open().await.unwrap();
    let driver = tokio::spawn(connection);
    for payload in ["", "größe 'x'"] {
        client.execute("SELECT pg_notify($1, $2)", &[&channel, &payload]).await.unwrap();
    }
    let first = soon(hears.next()).await.unwrap();
    assert_eq!((first.channel.as_str(), first.payload.as_str()), (channel.as_str(), ""));
    assert_eq!(soon(hears.next()).await.unwrap().payload, "größe 'x'");
    drop(client);
    driver.await.unwrap().unwrap();
    let nobody = url.replace("postgres@", "no_such_user_of_tests@");
    let refused = postgres::Server::parse(&nobody, Path::new("."), "x").unwrap().listen("x").await;
    assert!(matches!(refused.err().unwrap(), BrokerError::Refused { .. }));
}

#[tokio::test]
async fn who_is_not_there_is_away_and_wrong_addresses_are_told() {
    let port = nowhere();
    let away = |told: BrokerError| {
        let told = format!("{told:?} {told}");
        assert!(
            told.contains("Away") && told.contains(&port.to_string()) && !told.contains("hidden"),
            "{told}"
        );
    };
    let at = |scheme: &str| format!("{scheme}://u:hidden@127.0.0.1:{port}");
    away(redis::Server::parse(&at("redis")).unwrap().connect().await.err().unwrap());
    away(nats::Server::parse(&at("nats")).unwrap().connect().await.err().unwrap());
    let session = mqtt::Session { client: "x".into(), kept: false };
    away(mqtt::Server::parse(&at("mqtt")).unwrap().connect(&session).await.err().unwrap());
    away(
        postgres::Server::parse(&at("postgres"), Path::new("."), "x")
            .unwrap()
            .listen("x")
            .await
            .err()
            .unwrap(),
    );
    for wrong in [
        redis::Server::parse("nats://u:hidden@x").err(),
        redis::Server::parse("redis://u:hidden@x/orders").err(),
        nats::Server::parse("hidden").err(),
        mqtt::Server::parse("mqtt://u:hidden@").err(),
        postgres::Server::parse("postgres://u:hidden@x?colour=red", Path::new("."), "x").err(),
        postgres::Server::parse("mysql://u:hidden@x", Path::new("."), "x").err(),
    ] {
        let told = wrong.unwrap();
        assert!(matches!(told, BrokerError::Wrong(_)) && !told.to_string().contains("hidden"), "{told}");
    }
    assert!(!format!("{:?}", redis::Server::parse("redis://u:hidden@x").unwrap()).contains("hidden"));
}

//! Triggers on messages of real brokers, through the real binary: each message once, whoever is killed; brokers that are
//! away; what is published in a burst, too large, filtered, or while nobody serves.
#![allow(clippy::unwrap_used, reason = "a test fails where a value is missing")]

mod support;

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use ostler_brokers::{mqtt, nats, postgres, redis};
use ostler_store_postgres::scratch::Schema;
use ostler_test_servers::{MQTT, NATS, POSTGRES, REDIS};
use serde_json::{Value, json};
use support::{Server, Shop};

/// A name that no other test has at the broker.
fn own(name: &str) -> String {
    format!("ostler_messages_{name}_{}", std::process::id())
}

/// A file with one task, which is given each message's number. Nothing carries it out: its runs are counted.
fn file(on: &str) -> String {
    format!(
        "
meta: {{ type: ostler-timetable, version: 1, namespace: demo }}
tasks:
  - meta: {{ id: hear }}
    inputs: {{ n: {{ type: [integer, string, object] }} }}
    on: {on}
    run: 'true'
"
    )
}

const NUMBER: &str = "inputs: { n: '${{ event.body.json.n }}' }";

/// A shop that serves such a file; nothing of it is carried out.
fn served(on: &str) -> (Shop, Server) {
    let shop = Shop::new();
    shop.write("demo.yaml", &file(on));
    let server = serve(&shop);
    (shop, server)
}

fn serve(shop: &Shop) -> Server {
    shop.serve(&["demo.yaml", "--slots", "0"])
}

fn trigger(server: &Server) -> Value {
    server.get("/api/v1/triggers?task=demo:hear").json()["items"][0].clone()
}

fn count(server: &Server, key: &str) -> u64 {
    trigger(server)[key].as_u64().unwrap()
}

/// Waits until a node hears the broker.
fn heard(shop: &Shop, server: &Server) {
    shop.wait_for("a node that listens", || !trigger(server)["listening"]["since"].is_null());
}

fn fired(shop: &Shop, server: &Server, count: u64) {
    shop.wait_for(&format!("{count} firings"), || self::count(server, "fired") >= count);
}

/// How often each number has started a run.
fn numbers(server: &Server) -> BTreeMap<String, u32> {
    let (mut found, mut after) = (BTreeMap::new(), String::new());
    loop {
        let page = server.get(&format!("/api/v1/runs?namespace=demo&task=hear&limit=1000{after}")).json();
        for run in page["items"].as_array().unwrap() {
            *found.entry(run["inputs"]["n"].to_string()).or_default() += 1;
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return found,
        }
    }
}

/// Each number up to this one has started one run.
fn assert_each_once(server: &Server, count: usize) {
    let found = numbers(server);
    let wrong: Vec<_> = (0..count)
        .map(|n| (n, found.get(&n.to_string()).copied().unwrap_or_default()))
        .filter(|(_, times)| *times != 1)
        .collect();
    assert!(
        wrong.is_empty(),
        "{} numbers did not come once, as in {:?}",
        wrong.len(),
        &wrong[..wrong.len().min(9)]
    );
    assert_eq!(found.len(), count, "nothing else has started a run");
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn ask(url: &str, command: &[&str]) -> redis::Value {
    block_on(async {
        let mut redis = redis::Server::parse(url).unwrap().connect().await.unwrap();
        redis.ask(&redis::words(command.iter().copied())).await.unwrap()
    })
}

fn add(url: &str, stream: &str, numbers: std::ops::Range<usize>) {
    block_on(async {
        let mut redis = redis::Server::parse(url).unwrap().connect().await.unwrap();
        let body = |n: usize| json!({ "n": n }).to_string();
        let commands: Vec<_> =
            numbers.map(|n| redis::words(["XADD", stream, "*", "key", "k", "body", &body(n)])).collect();
        assert!(redis.ask_all(&commands).await.unwrap().iter().all(Result::is_ok));
    });
}

/// A stream of JetStream that goes with its test.
struct Stream {
    url: String,
    name: String,
}

impl Stream {
    fn new(url: &str, name: &str) -> Self {
        let stream = Self { url: url.to_owned(), name: own(name) };
        let config =
            json!({"name": stream.name, "subjects": [format!("{}.*", stream.name)], "storage": "memory"});
        stream.api("CREATE", &config);
        stream
    }

    fn api(&self, call: &str, body: &Value) {
        block_on(async {
            let mut nats = nats::Server::parse(&self.url).unwrap().connect().await.unwrap();
            nats.api(&format!("STREAM.{call}.{}", self.name), body).await.unwrap();
        });
    }

    fn add(&self, numbers: std::ops::Range<usize>) {
        let bodies: Vec<String> = numbers.map(|n| json!({ "n": n }).to_string()).collect();
        let subject = format!("{}.x", self.name);
        let posts: Vec<_> = bodies
            .iter()
            .map(|body| nats::Post { subject: &subject, body: body.as_bytes(), ..nats::Post::default() })
            .collect();
        block_on(async {
            let mut nats = nats::Server::parse(&self.url).unwrap().connect().await.unwrap();
            assert!(nats.publish_kept(&posts).await.unwrap().iter().all(Result::is_ok));
        });
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.api("DELETE", &json!({}));
    }
}

/// A way to a broker that can be cut.
struct Way {
    port: u16,
    cut: Arc<AtomicBool>,
}

impl Way {
    fn to(url: &str) -> Self {
        let place = url.split_once("://").unwrap().1;
        let place = place.rsplit('@').next().unwrap().split('/').next().unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, cut) = (listener.local_addr().unwrap().port(), Arc::new(AtomicBool::new(false)));
        let is_cut = cut.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(broker) = TcpStream::connect(&place) else { continue };
                for (mut from, mut to) in
                    [(client.try_clone().unwrap(), broker.try_clone().unwrap()), (broker, client)]
                {
                    let is_cut = is_cut.clone();
                    from.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
                    thread::spawn(move || {
                        let mut buffer = [0; 4096];
                        while !is_cut.load(Ordering::Relaxed) {
                            match from.read(&mut buffer) {
                                Ok(read) if read > 0 && to.write_all(&buffer[..read]).is_ok() => {}
                                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
                                _ => break,
                            }
                        }
                        let _ = to.shutdown(std::net::Shutdown::Both);
                        let _ = from.shutdown(std::net::Shutdown::Both);
                    });
                }
            }
        });
        Self { port, cut }
    }

    fn cut(&self, on: bool) {
        self.cut.store(on, Ordering::Relaxed);
    }
}

/// Two nodes on PostgreSQL, of which the one that listens is killed twice while messages come.
fn each_once_while_listeners_are_killed(on: &str, add: impl Fn(std::ops::Range<usize>)) {
    const EACH: usize = 150;
    let Some(schema) = Schema::new("") else { return };
    let shop = Shop::new();
    shop.write("demo.yaml", &file(on));
    let start = || shop.serve(&["demo.yaml", "--slots", "0", "--store", schema.url()]);
    let mut nodes = [start(), start()];
    heard(&shop, &nodes[0]);
    for round in 0..3 {
        add(round * EACH..round * EACH + EACH / 2);
        if round < 2 {
            // Killed among its messages.
            fired(&shop, &nodes[0], (round * EACH + 1) as u64);
            let listening = trigger(&nodes[0])["listening"]["node"].as_i64().unwrap();
            let all = nodes[0].get("/api/v1/nodes").json();
            let name = all.as_array().unwrap().iter().find(|n| n["id"] == listening).unwrap()["name"].clone();
            let killed =
                nodes.iter().position(|n| name.as_str().unwrap().ends_with(&format!(" {}", n.child.id())));
            let killed = killed.unwrap_or_else(|| panic!("none of the nodes is {name}"));
            nodes[killed].kill_now();
            nodes[killed] = start();
            let is_another = || {
                let now = trigger(&nodes[0])["listening"].clone();
                now["node"] != listening && !now["since"].is_null()
            };
            shop.wait_for("another node that listens", is_another);
        }
        add(round * EACH + EACH / 2..(round + 1) * EACH);
    }
    fired(&shop, &nodes[0], 3 * EACH as u64);
    thread::sleep(Duration::from_millis(300));
    assert_each_once(&nodes[0], 3 * EACH);
    assert_eq!(count(&nodes[1], "fired"), 3 * EACH as u64);
}

#[test]
fn each_entry_of_a_redis_stream_fires_once_while_listeners_are_killed() {
    let Some(url) = REDIS.url() else { return };
    let stream = own("killed");
    let on = format!("{{ redis: {{ url: '{url}', stream: {stream}, {NUMBER} }} }}");
    each_once_while_listeners_are_killed(&on, |numbers| self::add(&url, &stream, numbers));
    ask(&url, &["DEL", &stream]);
}

#[test]
fn each_message_of_jetstream_fires_once_while_listeners_are_killed() {
    let Some(url) = NATS.url() else { return };
    let stream = Stream::new(&url, "killed");
    let on = format!("{{ nats: {{ url: '{url}', stream: {}, {NUMBER} }} }}", stream.name);
    each_once_while_listeners_are_killed(&on, |numbers| stream.add(numbers));
}

#[test]
fn each_element_of_a_redis_list_fires_once_while_listeners_are_killed() {
    let Some(url) = REDIS.url() else { return };
    let list = own("list_killed");
    let on = format!("{{ redis: {{ url: '{url}', list: {list}, {NUMBER} }} }}");
    each_once_while_listeners_are_killed(&on, |numbers| push(&url, &list, numbers));
    assert_eq!(ask(&url, &["LLEN", &list]), redis::Value::Integer(0));
}

fn push(url: &str, list: &str, numbers: std::ops::Range<usize>) {
    let bodies: Vec<String> = numbers.map(|n| json!({ "n": n }).to_string()).collect();
    let command: Vec<&str> = ["LPUSH", list].into_iter().chain(bodies.iter().map(String::as_str)).collect();
    ask(url, &command);
}

#[test]
fn a_burst_of_10_000_entries_arrives_and_nothing_piles_up() {
    let Some(url) = REDIS.url() else { return };
    let stream = own("burst");
    add(&url, &stream, 0..10_000);
    let on = format!("{{ redis: {{ url: '{url}', stream: {stream}, existing: true, {NUMBER} }} }}");
    let (shop, server) = served(&on);
    fired(&shop, &server, 10_000);
    assert_each_once(&server, 10_000);
    server.assert_well(300);
    ask(&url, &["DEL", &stream]);
}

#[test]
fn a_burst_of_10_000_messages_of_jetstream_arrives() {
    let Some(url) = NATS.url() else { return };
    let stream = Stream::new(&url, "burst");
    stream.add(0..3_000);
    let on = format!(
        "{{ nats: {{ url: '{url}', stream: {0}, subject: {0}.x, existing: true, {NUMBER} }} }}",
        stream.name
    );
    let (shop, server) = served(&on);
    heard(&shop, &server);
    stream.add(3_000..10_000);
    fired(&shop, &server, 10_000);
    assert_each_once(&server, 10_000);
}

#[test]
fn a_broker_that_is_away_is_told_and_nothing_is_lost() {
    let Some(url) = REDIS.url() else { return };
    let (stream, way) = (own("away"), Way::to(&url));
    way.cut(true);
    let on = format!(
        "{{ redis: {{ url: 'redis://127.0.0.1:{}', stream: {stream}, existing: true, {NUMBER} }} }}",
        way.port
    );
    // It keeps no server from starting.
    let (shop, server) = served(&on);
    shop.wait_for("the trouble", || trigger(&server)["listening"]["trouble"].is_string());
    let told = trigger(&server)["listening"].clone();
    assert!(told["trouble"].as_str().unwrap().contains(&way.port.to_string()), "{told}");
    assert!(told["trouble_since"].is_string() && told["since"].is_null(), "{told}");
    let list = shop.run(&["triggers", "list"]);
    assert!(list.out.contains("does not hear"), "{}", list.out);
    let why = shop.run(&["why", trigger(&server)["id"].as_str().unwrap()]);
    assert!(why.out.contains("and cannot: 127.0.0.1:"), "{}", why.out);
    add(&url, &stream, 0..100);
    way.cut(false);
    fired(&shop, &server, 100);
    assert!(trigger(&server)["listening"]["trouble"].is_null());
    // Away for a while, among its messages.
    add(&url, &stream, 100..200);
    way.cut(true);
    add(&url, &stream, 200..300);
    shop.wait_for("the trouble", || trigger(&server)["listening"]["trouble"].is_string());
    way.cut(false);
    fired(&shop, &server, 300);
    assert_each_once(&server, 300);
    assert_eq!(server.end(), 0);
    ask(&url, &["DEL", &stream]);
}

#[test]
fn a_stream_that_is_missing_is_told_and_heard_when_it_is_there() {
    let Some(url) = NATS.url() else { return };
    let name = own("missing");
    let on = format!("{{ nats: {{ url: '{url}', stream: {name}, existing: true, {NUMBER} }} }}");
    let (shop, server) = served(&on);
    shop.wait_for("the trouble", || trigger(&server)["listening"]["trouble"].is_string());
    let told = trigger(&server)["listening"]["trouble"].clone();
    assert!(told.as_str().unwrap().contains("stream not found"), "{told}");
    let stream = Stream::new(&url, "missing");
    stream.add(0..10);
    fired(&shop, &server, 10);
    // What it drops before it was heard is on record.
    server.kill();
    stream.add(10..20);
    stream.api("PURGE", &json!({ "keep": 2 }));
    let server = serve(&shop);
    fired(&shop, &server, 12);
    let missed = trigger(&server)["listening"]["missed"].clone();
    assert!(missed.as_str().unwrap().contains("has dropped its messages 11 to 18"), "{missed}");
}

#[test]
fn mqtt_keeps_messages_while_no_server_runs() {
    let Some(url) = MQTT.url() else { return };
    let topic = own("topic");
    let on = format!("{{ mqtt: {{ url: '{url}', topic: '{topic}/+/temp', {NUMBER} }} }}");
    let publish = |numbers: std::ops::Range<usize>| {
        let bodies: Vec<String> = numbers.map(|n| json!({ "n": n }).to_string()).collect();
        let topic = format!("{topic}/1/temp");
        let posts: Vec<_> = bodies
            .iter()
            .map(|body| mqtt::Post {
                topic: &topic,
                acknowledged: true,
                retain: false,
                body: body.as_bytes(),
            })
            .collect();
        block_on(async {
            let session = mqtt::Session { client: own("publisher"), kept: false };
            let mut mqtt = mqtt::Server::parse(&url).unwrap().connect(&session).await.unwrap();
            mqtt.publish(&posts).await.unwrap();
            mqtt.goodbye().await.unwrap();
        });
    };
    // What the broker retains is of before.
    let retained = mqtt::Post {
        topic: &format!("{topic}/0/temp"),
        acknowledged: true,
        retain: true,
        body: b"{\"n\":999}",
    };
    let retain = |post: mqtt::Post<'_>| {
        block_on(async {
            let session = mqtt::Session { client: own("retainer"), kept: false };
            let mut mqtt = mqtt::Server::parse(&url).unwrap().connect(&session).await.unwrap();
            mqtt.publish(&[post]).await.unwrap();
        });
    };
    retain(retained);
    let (shop, server) = served(&on);
    heard(&shop, &server);
    publish(0..200);
    fired(&shop, &server, 200);
    assert_eq!(server.end(), 0);
    publish(200..400);
    let server = serve(&shop);
    fired(&shop, &server, 400);
    assert_each_once(&server, 400);
    // Killed, nothing is lost; what was not acknowledged comes again.
    server.kill();
    publish(400..600);
    let server = serve(&shop);
    fired(&shop, &server, 600);
    let found = numbers(&server);
    assert!((0..600).all(|n| found.contains_key(&n.to_string())), "{} numbers of 600", found.len());
    retain(mqtt::Post { body: b"", ..retained });
}

#[test]
fn what_is_published_to_whoever_listens_is_heard_filtered_and_carried() {
    let (Some(redis), Some(nats), Some(postgres)) = (REDIS.url(), NATS.url(), POSTGRES.url()) else { return };
    let (channel, subject, notes) = (own("channel"), own("subject"), own("notes"));
    let on = format!(
        "
      redis: {{ url: '{redis}', channel: '{channel}.*', if: 'event.body.json.n != 1', inputs: {{ n: '${{{{ event.body }}}}' }} }}
      nats: {{ url: '{nats}', subject: '{subject}.>', if: 'event.body.json.n != 1', inputs: {{ n: '${{{{ event.body }}}}' }} }}
      postgres: {{ url: '{postgres}', channel: {notes}, if: 'event.body.json.n != 1', inputs: {{ n: '${{{{ event.body }}}}' }} }}"
    );
    let (shop, server) = served(&on);
    let all = || server.get("/api/v1/triggers?task=demo:hear").json()["items"].as_array().unwrap().clone();
    shop.wait_for("three that listen", || all().iter().all(|t| !t["listening"]["since"].is_null()));
    let bodies = ["{\"n\":0}", "{\"n\":1}", "plain"];
    for body in bodies {
        ask(&redis, &["PUBLISH", &format!("{channel}.a"), body]);
    }
    let headers = [("Kind".to_owned(), "order".to_owned())];
    let subject = format!("{subject}.a.b");
    let posts = bodies.map(|body| nats::Post {
        subject: &subject,
        headers: &headers,
        body: body.as_bytes(),
        id: None,
    });
    block_on(async {
        let mut nats = nats::Server::parse(&nats).unwrap().connect().await.unwrap();
        assert!(nats.publish(&posts).await.unwrap().iter().all(Result::is_ok));
        let server = postgres::Server::parse(&postgres, std::path::Path::new("."), "ostler test").unwrap();
        let (client, connection) = server.open().await.unwrap();
        let driver = tokio::spawn(connection);
        for body in bodies {
            client.execute("SELECT pg_notify($1, $2)", &[&notes, &body]).await.unwrap();
        }
        drop(client);
        driver.await.unwrap().unwrap();
    });
    // A condition over `json` of a message that is none is an error, and the message ignored.
    let counts = || all().iter().map(|t| (t["fired"].as_u64(), t["ignored"].as_u64())).collect::<Vec<_>>();
    shop.wait_for("all messages", || counts() == [(Some(1), Some(2)); 3]);
    let found: Vec<String> = numbers(&server).into_keys().collect();
    let expected = [
        json!({"channel": format!("{channel}.a"), "json": {"n": 0}}),
        json!({"subject": subject, "headers": {"kind": "order"}, "json": {"n": 0}}),
        json!({"channel": notes, "json": {"n": 0}}),
    ];
    for body in expected {
        assert!(
            found.iter().any(|f| serde_json::from_str::<Value>(f).unwrap() == body),
            "{body} in {found:?}"
        );
    }
}

#[test]
fn a_message_that_is_too_large_is_on_record_and_the_next_is_heard() {
    let Some(url) = REDIS.url() else { return };
    let stream = own("large");
    let large = format!("\"{}\"", "x".repeat(2 << 20));
    let huge = "x".repeat(10 << 20);
    add(&url, &stream, 0..1);
    ask(&url, &["XADD", &stream, "*", "body", &large]);
    add(&url, &stream, 1..2);
    ask(&url, &["XADD", &stream, "*", "body", &huge]);
    add(&url, &stream, 2..3);
    let on = format!("{{ redis: {{ url: '{url}', stream: {stream}, existing: true, {NUMBER} }} }}");
    let (shop, server) = served(&on);
    fired(&shop, &server, 3);
    assert_each_once(&server, 3);
    assert_eq!(count(&server, "ignored"), 2);
    let why = shop.run(&["why", trigger(&server)["id"].as_str().unwrap()]);
    assert!(why.out.contains("too large") || why.out.contains("bytes; more than"), "{}", why.out);
    ask(&url, &["DEL", &stream]);
}

#[test]
fn what_comes_during_a_pause_does_not_count_and_stays_in_a_list() {
    let Some(url) = REDIS.url() else { return };
    let (stream, list) = (own("paused"), own("paused_list"));
    let on = format!(
        "{{ redis: [{{ url: '{url}', stream: {stream}, {NUMBER} }}, {{ url: '{url}', list: {list}, {NUMBER} }}] }}"
    );
    let (shop, server) = served(&on);
    let all = || server.get("/api/v1/triggers?task=demo:hear").json()["items"].as_array().unwrap().clone();
    shop.wait_for("two that listen", || all().iter().all(|t| !t["listening"]["since"].is_null()));
    add(&url, &stream, 0..5);
    push(&url, &list, 5..10);
    shop.wait_for("ten runs", || numbers(&server).len() == 10);
    for name in ["redis1", "redis2"] {
        assert_eq!(shop.run(&["triggers", "pause", "hear", name]).code, 0);
    }
    add(&url, &stream, 100..105);
    push(&url, &list, 10..15);
    // The place in the stream moves on: it has taken what nobody hears.
    shop.wait_for("what nobody hears", || all()[0]["listening"]["taken"].as_u64() == Some(10));
    let waiting = |count| ask(&url, &["LLEN", &list]) == redis::Value::Integer(count);
    shop.wait_for("the elements in their list", || waiting(5));
    for name in ["redis1", "redis2"] {
        assert_eq!(shop.run(&["triggers", "resume", "hear", name]).code, 0);
    }
    add(&url, &stream, 15..20);
    shop.wait_for("twenty runs", || numbers(&server).len() == 20);
    assert_each_once(&server, 20);
    // Without its trigger nobody listens.
    shop.write("demo.yaml", &file("{ schedule: [{ cron: '0 0 1 1 *', inputs: { n: 1 } }] }"));
    shop.wait_for("no duty", || all().iter().all(|t| t["listening"].is_null()));
    push(&url, &list, 20..21);
    shop.wait_for("the element in its list", || waiting(1));
    ask(&url, &["DEL", &stream, &list]);
}

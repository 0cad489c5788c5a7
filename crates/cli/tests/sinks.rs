//! Events are carried out by the real binary to real brokers, in order and at least once, whatever is down meanwhile.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails where a value is missing, and the real time passes for real processes"
)]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead as _, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use ostler_brokers::{Content, mqtt, nats, postgres, redis};
use ostler_store_postgres::scratch::Schema;
use ostler_test_servers::{MQTT, NATS, POSTGRES, REDIS};
use serde_json::{Value, json};
use support::{Server, Shop};

/// A way to a server that can be shut: then whoever comes is turned away, and whoever is there is cut off.
struct Gate {
    port: u16,
    shut: Arc<AtomicBool>,
}

impl Gate {
    fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shut = Arc::new(AtomicBool::new(false));
        let is_shut = shut.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if is_shut.load(Ordering::Relaxed) {
                    continue;
                }
                let Ok(upstream) = TcpStream::connect(&server) else { continue };
                let pairs =
                    [(client.try_clone().unwrap(), upstream.try_clone().unwrap()), (upstream, client)];
                for (from, to) in pairs {
                    let is_shut = is_shut.clone();
                    thread::spawn(move || pass_on(from, to, &is_shut));
                }
            }
        });
        Self { port, shut }
    }

    fn shut(&self, on: bool) {
        self.shut.store(on, Ordering::Relaxed);
    }
}

fn pass_on(mut from: TcpStream, mut to: TcpStream, is_shut: &AtomicBool) {
    from.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut buffer = [0; 65536];
    while !is_shut.load(Ordering::Relaxed) {
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) if to.write_all(&buffer[..n]).is_err() => break,
            Err(e) if !matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                break;
            }
            _ => {}
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
    let _ = from.shutdown(std::net::Shutdown::Both);
}

/// The host and port of an address, and the address through a gate.
fn gated(url: &str) -> (Gate, String) {
    let mut through: url::Url = url.parse().unwrap();
    let gate = Gate::to(format!("{}:{}", through.host_str().unwrap(), through.port().unwrap()));
    through.set_host(Some("127.0.0.1")).unwrap();
    through.set_port(Some(gate.port)).unwrap();
    (gate, through.to_string())
}

/// A request that an address got.
#[derive(Clone)]
struct Post {
    headers: BTreeMap<String, String>,
    body: String,
}

/// An address that keeps what is posted to it.
struct Hook {
    port: u16,
    posts: Arc<Mutex<Vec<Post>>>,
}

impl Hook {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let posts = Arc::new(Mutex::new(Vec::new()));
        let kept = posts.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let kept = kept.clone();
                thread::spawn(move || while answer(&stream, &kept).is_some() {});
            }
        });
        Self { port, posts }
    }

    /// The events of all posts, in their order.
    fn events(&self) -> Vec<Value> {
        let posts = self.posts.lock().unwrap();
        let bodies = posts.iter().map(|post| serde_json::from_str::<Value>(&post.body).unwrap());
        bodies.flat_map(|body| body.as_array().cloned().unwrap_or_else(|| vec![body])).collect()
    }
}

/// Reads one request and answers it; `None` when there is none any more.
fn answer(stream: &TcpStream, kept: &Mutex<Vec<Post>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut headers = BTreeMap::new();
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    loop {
        line.clear();
        reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let mut body = vec![0; headers.get("content-length")?.parse().ok()?];
    reader.read_exact(&mut body).ok()?;
    kept.lock().unwrap().push(Post { headers, body: String::from_utf8(body).ok()? });
    let mut stream = stream;
    stream.write_all(b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n").ok()
}

/// `text` with `NAME` for what no other test has.
fn own(text: &str, name: &str) -> String {
    text.replace("NAME", name)
}

fn name(of: &str) -> String {
    format!("ostler-test-{of}-{}", std::process::id())
}

/// Runs a task so often, and waits until all have ended.
fn run(server: &Server, shop: &Shop, task: &str, times: usize) {
    let runs: Vec<Value> = (0..times).map(|_| json!({ "namespace": "demo", "task": task })).collect();
    let answer = server.post("/api/v1/runs/batch", &json!({ "runs": runs }));
    assert_eq!(answer.status, 201, "{}", answer.text);
    shop.wait_for("the end of all runs", || {
        let page =
            server.get("/api/v1/runs?namespace=demo&limit=1000&state=scheduled,ready,running,waiting").json();
        page["items"].as_array().unwrap().is_empty()
    });
}

fn sink(server: &Server, id: &str) -> Value {
    let page = server.get("/api/v1/sinks?namespace=demo").json();
    page["items"].as_array().unwrap().iter().find(|s| s["id"] == id).cloned().unwrap_or_default()
}

/// Waits until a sink has come to the end of what there is.
fn caught_up(server: &Server, shop: &Shop, id: &str) {
    shop.wait_for("the sink to catch up", || sink(server, id)["behind"] == 0);
}

/// The events of a server that happened to runs as a whole, oldest first: cursor and type.
fn happened(server: &Server, after: &str) -> Vec<(String, String)> {
    let (mut all, mut cursor) = (Vec::new(), after.to_owned());
    loop {
        let page = server.get(&format!("/api/v1/events?after={cursor}&limit=1000")).json();
        for event in page["items"].as_array().unwrap() {
            all.push((text(&event["cursor"]), text(&event["kind"])));
        }
        cursor = text(&page["next"]);
        if page["complete"] == true {
            return all;
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value}")).to_owned()
}

/// Cursor and kind of events as they were carried out.
fn told(events: &[Value]) -> Vec<(String, String)> {
    events.iter().map(|event| (text(&event["data"]["cursor"]), text(&event["data"]["kind"]))).collect()
}

/// The first of each; what comes again comes in the order in which it came first.
fn first_of_each(events: &[(String, String)]) -> Vec<(String, String)> {
    let mut seen = BTreeSet::new();
    events.iter().filter(|event| seen.insert(event.0.clone())).cloned().collect()
}

const WEBHOOK: &str = "
meta: { type: ostler-timetable, version: 1, namespace: demo }
tasks:
  - { meta: { id: good }, run: 'true' }
  - { meta: { id: bad }, run: 'exit 3' }
sinks:
  - id: hook
    events: EVENTS
    webhook:
      url: 'http://127.0.0.1:${{ secrets.PORT }}/events'
      secret: ${{ secrets.HOOK }}
      headers: { X-Team: data }
";

#[test]
fn a_webhook_that_is_down_gets_all_of_it_when_it_is_back() {
    let hook = Hook::start();
    let gate = Gate::to(format!("127.0.0.1:{}", hook.port));
    let mut shop = Shop::new();
    shop.set("OSTLER_SECRET_PORT", Box::leak(gate.port.to_string().into_boxed_str()));
    shop.set("OSTLER_SECRET_HOOK", "opensesame");
    let file = |events: &str| shop.write("demo.yaml", &WEBHOOK.replace("EVENTS", events));
    file("[run.*]");
    let server = shop.serve(&["demo.yaml"]);
    let from = text(&sink(&server, "hook")["cursor"]);
    run(&server, &shop, "good", 3);
    caught_up(&server, &shop, "hook");
    assert_eq!(told(&hook.events()), happened(&server, &from));
    let first = hook.posts.lock().unwrap()[0].clone();
    let event: Value = serde_json::from_str(&first.body).unwrap();
    assert_eq!(
        json!([
            event["specversion"],
            event["type"],
            event["source"],
            event["data"]["task"],
            event["data"]["kind"]
        ]),
        json!(["1.0", "run.created", "/namespaces/demo/tasks/good", "good", "created"])
    );
    assert_eq!(text(&event["id"]), format!("{}.1", text(&event["data"]["machine"])));
    assert_eq!(first.headers["content-type"], "application/cloudevents+json");
    assert_eq!(first.headers["x-team"], "data");
    assert_eq!(first.headers["x-ostler-event"], text(&event["data"]["cursor"]));
    assert_eq!(
        first.headers["x-ostler-signature"],
        ostler_executors::webhook::signature("opensesame", &first.body)
    );
    // Down: the sink says so, and nothing is left out.
    gate.shut(true);
    run(&server, &shop, "good", 5);
    shop.wait_for("the trouble to be told", || sink(&server, "hook")["trouble"]["words"].is_string());
    let list = shop.run(&["sinks", "list", "demo"]);
    assert!(list.out.contains("demo:hook stands still"), "{}{}", list.out, list.err);
    assert!(!list.out.contains("opensesame"));
    let metrics = server.get("/metrics").text;
    assert!(metrics.contains("ostler_sink_behind{namespace=\"demo\",sink=\"hook\"} 10"), "{metrics}");
    gate.shut(false);
    caught_up(&server, &shop, "hook");
    assert_eq!(first_of_each(&told(&hook.events())), happened(&server, &from));
    let view = sink(&server, "hook");
    assert_eq!((view["state"].as_str(), view["trouble"].is_null()), (Some("active"), true));
    // An end in order, and a start again: what comes meanwhile is carried out, and nothing once more.
    let before = hook.events().len();
    assert_eq!(server.end(), 0);
    assert_eq!(sink_state(&shop), "waiting");
    assert_eq!(shop.run(&["run", "demo:good"]).code, 0);
    let server = shop.serve(&["demo.yaml"]);
    caught_up(&server, &shop, "hook");
    let all = hook.events();
    assert_eq!((all.len(), first_of_each(&told(&all))), (before + 2, happened(&server, &from)));
    // Another filter counts as soon as a node has taken the sink by it.
    file("[run.failed]");
    shop.wait_for("the change", || {
        let view = sink(&server, "hook");
        view["definition"]["events"] == json!(["run.failed"]) && view["state"] == "active"
    });
    let before = hook.events().len();
    let since = || -> Vec<String> {
        let new = hook.events().split_off(before);
        let kinds: BTreeMap<String, String> =
            new.iter().map(|e| (text(&e["data"]["cursor"]), text(&e["type"]))).collect();
        kinds.into_values().collect()
    };
    run(&server, &shop, "good", 2);
    run(&server, &shop, "bad", 2);
    caught_up(&server, &shop, "hook");
    assert_eq!(since(), ["run.failed"; 2]);
    // What is paused stays where it is, and goes on from there.
    assert_eq!(shop.run(&["sinks", "pause", "hook"]).code, 0);
    assert_eq!(sink(&server, "hook")["state"], "paused");
    run(&server, &shop, "bad", 1);
    assert_eq!(sink(&server, "hook")["behind"], 2);
    assert_eq!(shop.run(&["sinks", "resume", "demo:hook"]).code, 0);
    caught_up(&server, &shop, "hook");
    assert_eq!(since(), ["run.failed"; 3]);
    // Once more from the beginning.
    let before_reset = hook.events().len();
    assert_eq!(shop.run(&["sinks", "reset", "hook", "--from", "oldest"]).code, 0);
    shop.wait_for("the repetition", || hook.events().len() >= before_reset + 3);
    caught_up(&server, &shop, "hook");
    assert_eq!(since(), ["run.failed"; 3]);
    // One that is gone from the file stays where it was.
    shop.write("demo.yaml", WEBHOOK.split("sinks:").next().unwrap());
    shop.wait_for("the end of the sink", || sink(&server, "hook")["state"] == "missing");
    run(&server, &shop, "bad", 1);
    assert_eq!(sink(&server, "hook")["behind"], 2);
    let none = shop.run(&["sinks", "reset", "nothing", "--from", "now"]);
    assert_eq!((none.code, none.err.contains("there is no sink `nothing`")), (3, true), "{}", none.err);
    assert_eq!(server.end(), 0);
}

fn sink_state(shop: &Shop) -> String {
    text(&shop.json(&["sinks", "list"])["items"][0]["state"])
}

const BROKERS: &str = "
meta: { type: ostler-timetable, version: 1, namespace: demo }
tasks:
  - { meta: { id: good }, run: 'true' }
  - meta: { id: flow }
    steps: [{ id: a, run: 'true' }, { id: b, run: 'true' }]
sinks:
  stream: { redis: { url: 'REDIS', stream: 'NAME:${{ event.namespace }}', max_length: 100000 } }
  jetstream: { nats: { url: 'NATS', subject: 'NAME.${{ event.type }}' } }
  topic: { mqtt: { url: 'MQTT', topic: 'NAME/${{ event.task }}' }, events: 'run.*' }
  channel: { postgres: { url: 'POSTGRES', channel: 'NAME' } }
";

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// The bodies of the entries of a stream of Redis, in their order.
async fn entries(redis: &mut redis::Redis, stream: &str) -> Vec<Value> {
    let answer = redis.ask(&redis::words(["XRANGE", stream, "-", "+"])).await.unwrap();
    let entries = answer.array().unwrap().iter().map(|entry| {
        let fields = entry.array().unwrap()[1].array().unwrap();
        let names: Vec<&str> = fields.iter().step_by(2).map(|f| f.text().unwrap()).collect();
        assert_eq!(names, ["key", "event", "type", "body"]);
        serde_json::from_str(fields[7].text().unwrap()).unwrap()
    });
    entries.collect()
}

#[test]
fn brokers_get_all_events_in_order_although_they_were_away() {
    let (Some(redis_url), Some(nats_url), Some(mqtt_url), Some(postgres_url)) =
        (REDIS.url(), NATS.url(), MQTT.url(), POSTGRES.url())
    else {
        return;
    };
    let runtime = runtime();
    let name = name("sinks");
    let urls = [("REDIS", &redis_url), ("NATS", &nats_url), ("MQTT", &mqtt_url), ("POSTGRES", &postgres_url)];
    let gates: Vec<(&str, Gate, String)> = urls
        .iter()
        .map(|(word, url)| {
            let (gate, through) = gated(url);
            (*word, gate, through)
        })
        .collect();
    let mut file = own(BROKERS, &name);
    for (word, _, through) in &gates {
        file = file.replace(word, through);
    }
    let shop = Shop::new();
    shop.write("demo.yaml", &file);
    // Who listens is there before.
    let (heard, noted) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
    let mut nats = runtime.block_on(async {
        let mut nats = nats::Server::parse(&nats_url).unwrap().connect().await.unwrap();
        let stream = json!({ "name": name, "subjects": [format!("{name}.>")], "storage": "memory" });
        nats.api(&format!("STREAM.CREATE.{name}"), &stream).await.unwrap();
        let session = mqtt::Session { client: name.clone(), kept: false };
        let mut mqtt = mqtt::Server::parse(&mqtt_url).unwrap().connect(&session).await.unwrap();
        mqtt.subscribe(&format!("{name}/#"), true).await.unwrap();
        let kept = heard.clone();
        tokio::spawn(async move {
            while let Ok(message) = mqtt.next().await {
                let Content::Whole(body) = &message.content else { panic!("{message:?}") };
                kept.lock().unwrap().push(serde_json::from_slice::<Value>(body).unwrap());
                mqtt.acknowledge(message.number).await.unwrap();
            }
        });
        let server = postgres::Server::parse(&postgres_url, std::path::Path::new("/"), &name).unwrap();
        let mut listener = server.listen(&name).await.unwrap();
        let kept = noted.clone();
        tokio::spawn(async move {
            while let Ok(note) = listener.next().await {
                kept.lock().unwrap().push(serde_json::from_str::<Value>(&note.payload).unwrap());
            }
        });
        nats
    });
    let server = shop.serve(&["demo.yaml"]);
    let from = text(&sink(&server, "stream")["cursor"]);
    let all = ["stream", "jetstream", "topic", "channel"];
    let settle = || all.iter().for_each(|id| caught_up(&server, &shop, id));
    run(&server, &shop, "good", 20);
    settle();
    for (_, gate, _) in &gates {
        gate.shut(true);
    }
    run(&server, &shop, "flow", 20);
    for id in all {
        shop.wait_for("the trouble to be told", || sink(&server, id)["trouble"]["words"].is_string());
    }
    for (_, gate, _) in &gates {
        gate.shut(false);
    }
    settle();
    let expected = happened(&server, &from);
    assert!(expected.len() > 150, "{}", expected.len());
    let mut redis =
        runtime.block_on(async { redis::Server::parse(&redis_url).unwrap().connect().await.unwrap() });
    let stream = format!("{name}:demo");
    let entries = runtime.block_on(entries(&mut redis, &stream));
    assert_eq!(first_of_each(&told(&entries)), expected);
    let state = runtime.block_on(nats.stream(&name)).unwrap();
    assert_eq!(state.last, expected.len() as u64, "what came again is known by its id");
    // Once more from the beginning: JetStream knows all of it.
    assert_eq!(shop.run(&["sinks", "reset", "jetstream", "--from", "oldest"]).code, 0);
    shop.wait_for("the repetition", || {
        sink(&server, "jetstream")["delivered"].as_u64() > Some(expected.len() as u64 + 150)
    });
    caught_up(&server, &shop, "jetstream");
    assert_eq!(runtime.block_on(nats.stream(&name)).unwrap().last, expected.len() as u64);
    shop.wait_for("the last notification", || {
        first_of_each(&told(&noted.lock().unwrap())).len() == expected.len()
    });
    assert_eq!(first_of_each(&told(&noted.lock().unwrap())), expected);
    let of_runs = || -> Vec<(String, String)> {
        let heard = heard.lock().unwrap();
        assert!(heard.iter().all(|event| text(&event["type"]).starts_with("run.")));
        first_of_each(&told(&heard))
    };
    let runs: BTreeSet<String> = entries
        .iter()
        .filter(|e| text(&e["type"]).starts_with("run."))
        .map(|e| text(&e["data"]["cursor"]))
        .collect();
    shop.wait_for("the last message", || of_runs().len() == runs.len());
    let expected: Vec<_> = expected.into_iter().filter(|(cursor, _)| runs.contains(cursor)).collect();
    assert_eq!(of_runs(), expected);
    assert_eq!(server.end(), 0);
    runtime.block_on(async {
        redis.ask(&redis::words(["DEL", &stream])).await.unwrap();
        nats.api(&format!("STREAM.DELETE.{name}"), &json!({})).await.unwrap();
    });
}

const FLEET: &str = "
meta: { type: ostler-timetable, version: 1, namespace: demo }
tasks:
  - { meta: { id: good }, policy: { idempotent: true }, run: 'true' }
sinks:
  stream: { redis: { url: 'REDIS', stream: NAME } }
";

#[test]
fn another_node_carries_on_when_the_one_that_did_is_killed() {
    let Some(redis_url) = REDIS.url() else { return };
    let Some(schema) = Schema::new("") else { return };
    let name = name("sinks-fleet");
    let shop = Shop::new();
    shop.write("demo.yaml", &own(FLEET, &name).replace("REDIS", &redis_url));
    let store = ["--store", schema.url()];
    let start = || shop.serve(&[&store[..], &["demo.yaml"]].concat());
    let mut nodes = vec![start(), start()];
    let cursor = text(&sink(&nodes[0], "stream")["cursor"]);
    for round in 0..3 {
        let runs: Vec<Value> = (0..40).map(|_| json!({ "namespace": "demo", "task": "good" })).collect();
        let answer = nodes[0].post("/api/v1/runs/batch", &json!({ "runs": runs }));
        assert_eq!(answer.status, 201, "{}", answer.text);
        // The one that has it is killed while there is something to carry out, and a new one comes.
        let mut victim = None;
        shop.wait_for("a carrier that lives", || {
            let view = sink(&nodes[1], "stream");
            let name = view["node"].as_str().unwrap_or_default();
            victim = nodes.iter().position(|n| name.ends_with(&format!(" pid {}", n.child.id())));
            victim.is_some()
        });
        let victim = victim.unwrap_or_else(|| panic!("round {round}: nobody has it"));
        nodes.remove(victim).kill();
        nodes.push(start());
    }
    shop.wait_for("the end of all runs", || {
        let page = nodes[0].get("/api/v1/runs?limit=1000&state=scheduled,ready,running,waiting").json();
        page["items"].as_array().unwrap().is_empty()
    });
    caught_up(&nodes[0], &shop, "stream");
    let expected = happened(&nodes[0], &cursor);
    let runtime = runtime();
    let carried = runtime.block_on(async {
        let mut redis = redis::Server::parse(&redis_url).unwrap().connect().await.unwrap();
        let carried = entries(&mut redis, &name).await;
        redis.ask(&redis::words(["DEL", &name])).await.unwrap();
        carried
    });
    let told = told(&carried);
    println!("{} events, {} came again", expected.len(), told.len() - expected.len());
    assert_eq!(first_of_each(&told), expected);
    // What comes again comes in order too: no event of a machine stands before an earlier one of it that is new.
    let mut order: BTreeMap<String, i64> = BTreeMap::new();
    for event in &carried {
        let machine = text(&event["data"]["machine"]);
        let step = event["data"]["step"].as_i64().unwrap();
        let known = order.entry(machine).or_insert(0);
        assert!(step <= *known + 1, "{event}");
        *known = step.max(*known);
    }
}

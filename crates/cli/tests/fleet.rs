//! Several nodes as real processes on one PostgreSQL store: killed, stopped past their lease, cut off, behind a way that
//! delays. Nothing is lost, nothing happens oftener than its policy says, nothing is stuck. `OSTLER_CHAOS_SECONDS` says
//! for how long (20 unless told otherwise, 600 in `./test long`).
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails where a value is missing, and the real time passes for real processes"
)]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use ostler_store_postgres::scratch::Schema;
use serde_json::Value;
use support::{Shop, Spawned, draw::Draw};

/// Every attempt says when it begins and when it ends, and who it is: what must never overlap, and what a fence is for.
const FILE: &str = r#"
meta: { type: ostler-timetable, version: 1, namespace: fleet }
defaults: { inherit_env: [EFFECTS] }
tasks:
  - meta: { id: rerun }
    policy: { idempotent: true }
    run: |
      echo "begin $OSTLER_IDEMPOTENCY_KEY $OSTLER_FENCE $$" >> "$EFFECTS"
      sleep 0.3
      echo "end $OSTLER_IDEMPOTENCY_KEY $OSTLER_FENCE $$" >> "$EFFECTS"
  - meta: { id: once }
    run: |
      echo "begin $OSTLER_IDEMPOTENCY_KEY $OSTLER_FENCE $$" >> "$EFFECTS"
      sleep 0.2
      echo "end $OSTLER_IDEMPOTENCY_KEY $OSTLER_FENCE $$" >> "$EFFECTS"
  - meta: { id: flow }
    policy: { idempotent: true }
    steps:
      - { id: a, run: sleep 0.05 }
      - { id: b, run: sleep 0.05 }
      - { id: c, run: sleep 0.05 }
  - meta: { id: ticking }
    on: { schedule: [{ cron: "* * * * * *", missed: all, overlap: allow }] }
    run: 'true'
"#;

/// A way to the server that can be cut and slowed down.
struct Way {
    port: u16,
    cut: Arc<AtomicBool>,
    delay_ms: Arc<AtomicU64>,
}

impl Way {
    fn start(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (cut, delay_ms) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (is_cut, delay) = (cut.clone(), delay_ms.clone());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(upstream) = TcpStream::connect(&server) else { continue };
                let pairs =
                    [(client.try_clone().unwrap(), upstream.try_clone().unwrap()), (upstream, client)];
                for (mut from, mut to) in pairs {
                    let (is_cut, delay) = (is_cut.clone(), delay.clone());
                    from.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
                    thread::spawn(move || {
                        let mut buffer = [0; 65536];
                        loop {
                            if is_cut.load(Ordering::Relaxed) {
                                break;
                            }
                            match from.read(&mut buffer) {
                                Ok(0) => break,
                                Ok(n) => {
                                    thread::sleep(Duration::from_millis(delay.load(Ordering::Relaxed)));
                                    if is_cut.load(Ordering::Relaxed) || to.write_all(&buffer[..n]).is_err() {
                                        break;
                                    }
                                }
                                Err(e)
                                    if matches!(
                                        e.kind(),
                                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                                    ) => {}
                                Err(_) => break,
                            }
                        }
                        let _ = to.shutdown(std::net::Shutdown::Both);
                        let _ = from.shutdown(std::net::Shutdown::Both);
                    });
                }
            }
        });
        Self { port, cut, delay_ms }
    }
}

fn signal(node: &Spawned, signal: &str) {
    let status = std::process::Command::new("kill").args([signal, &node.id().to_string()]).status().unwrap();
    assert!(status.success());
}

#[test]
fn whatever_happens_to_nodes_each_run_goes_as_its_policy_says() {
    // By its name the connections of this store are known from those of other tests.
    let name = format!("ostler-fleet-{}", std::process::id());
    let Some(schema) = Schema::new(&format!("&sslmode=disable&application_name={name}")) else { return };
    let seconds: u64 = std::env::var("OSTLER_CHAOS_SECONDS").ok().and_then(|v| v.parse().ok()).unwrap_or(20);
    let (mut draw, seed) = Draw::seeded("OSTLER_CHAOS_SEED");
    println!("{seconds} s, OSTLER_CHAOS_SEED={seed}");
    let shop = Shop::new();
    shop.write("fleet.yaml", FILE);
    let effects = shop.path().join("effects");
    std::fs::write(&effects, "").unwrap();
    let server: url::Url = schema.url().parse().unwrap();
    let host = format!("{}:{}", server.host_str().unwrap(), server.port().unwrap_or(5432));
    let way = Way::start(host);
    let through = {
        let mut url = server.clone();
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(way.port)).unwrap();
        url.to_string()
    };
    let at = |args: &[&str]| {
        let mut all = vec!["--store", schema.url()];
        all.extend(args);
        shop.run(&all)
    };
    let pushed = at(&["push", "fleet.yaml"]);
    assert_eq!(pushed.code, 0, "{}", pushed.err);
    let urls = [schema.url().to_owned(), schema.url().to_owned(), through];
    let start = |n: usize| {
        let mut command = shop.command(&["serve", "--slots", "8", "--store", &urls[n]]);
        command.env("EFFECTS", &effects);
        shop.spawn_quietly(command)
    };
    let mut nodes: Vec<Spawned> = (0..3).map(start).collect();
    let mut accepted: BTreeMap<String, &str> = BTreeMap::new();
    let mut faults: BTreeMap<&str, u32> = BTreeMap::new();
    let begin = Instant::now();
    let mut round = 0;
    while begin.elapsed() < Duration::from_secs(seconds) {
        for task in ["rerun", "once", "flow", "rerun", "once", "rerun", "flow", "once"] {
            let started = at(&["run", &format!("fleet:{task}"), "--detach", "--output", "json"]);
            if started.code == 0 {
                let document: Value = serde_json::from_str(&started.out).unwrap();
                for run in document["started"].as_array().unwrap() {
                    accepted.insert(run["id"].as_str().unwrap().to_owned(), task);
                }
            }
        }
        let which = draw.below(3) as usize;
        // Each sort of fault comes within the shortest time, in an order that is drawn.
        let fault = if round < 4 { (round + seed % 4) % 4 } else { draw.below(5) };
        round += 1;
        match fault {
            0 => {
                *faults.entry("kill -9").or_default() += 1;
                nodes[which].kill().unwrap();
                nodes[which].wait().unwrap();
                nodes[which] = start(which);
            }
            1 => {
                *faults.entry("stopped past the lease").or_default() += 1;
                signal(&nodes[which], "-STOP");
                thread::sleep(Duration::from_secs(10));
                signal(&nodes[which], "-CONT");
            }
            2 => {
                *faults.entry("connections ended").or_default() += 1;
                let all = format!(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                     WHERE application_name='{name}' AND pid<>pg_backend_pid()"
                );
                schema.script(&all).unwrap();
            }
            3 => {
                *faults.entry("the way cut and slow").or_default() += 1;
                way.cut.store(true, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(500 + draw.below(8000)));
                way.cut.store(false, Ordering::Relaxed);
                way.delay_ms.store(draw.below(60), Ordering::Relaxed);
            }
            _ => thread::sleep(Duration::from_millis(draw.below(1000))),
        }
        // A node that lost its lease has ended and is started again, as a service manager would.
        for (n, node) in nodes.iter_mut().enumerate() {
            if node.try_wait().unwrap().is_some() {
                *faults.entry("ended by itself").or_default() += 1;
                *node = start(n);
            }
        }
    }
    way.delay_ms.store(0, Ordering::Relaxed);
    assert_eq!(at(&["schedules", "pause", "fleet:ticking"]).code, 0);
    let json = |args: &[&str]| -> Value {
        let mut all = args.to_vec();
        all.extend(["--output", "json"]);
        let told = at(&all);
        assert_eq!(told.code, 0, "{args:?}: {}", told.err);
        serde_json::from_str(&told.out).unwrap()
    };
    shop.wait_for("the end of all runs", || {
        for (n, node) in nodes.iter_mut().enumerate() {
            if node.try_wait().unwrap().is_some() {
                *node = start(n);
            }
        }
        json(&["runs", "list", "--state", "scheduled,ready,running,waiting"])["items"]
            .as_array()
            .unwrap()
            .is_empty()
    });
    println!("{} runs accepted, faults: {faults:?}", accepted.len());
    let runs = json(&["runs", "list", "--all"]);
    let runs: BTreeMap<&str, &Value> =
        runs["items"].as_array().unwrap().iter().map(|r| (r["id"].as_str().unwrap(), r)).collect();
    let mut lost = 0;
    for (id, task) in &accepted {
        let run = runs.get(id.as_str()).unwrap_or_else(|| panic!("{id} of {task} is not on record"));
        let state = run["state"].as_str().unwrap();
        match *task {
            "once" if state == "failed" => {
                assert_eq!(run["error"]["class"], "lost", "{run}");
                lost += 1;
            }
            _ => assert_eq!(state, "succeeded", "{id} of {task}: {run}"),
        }
    }
    // No two attempts of one run at the same time, none twice with one fence, and `once` once at most.
    let mut open: BTreeMap<String, String> = BTreeMap::new();
    let mut begun: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in std::fs::read_to_string(&effects).unwrap().lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [what, key, fence, _pid] = words[..] else { panic!("{line}") };
        if what == "begin" {
            assert!(
                begun.entry(key.to_owned()).or_default().insert(fence.to_owned()),
                "twice with one fence: {line}"
            );
            open.insert(key.to_owned(), fence.to_owned());
        } else {
            let last = open.get(key).unwrap_or_else(|| panic!("an end without a beginning: {line}"));
            assert_eq!(last, fence, "an older attempt went on beside a newer one: {line}");
        }
    }
    let again = begun.values().filter(|fences| fences.len() > 1).count();
    println!("{} effects, {again} of them tried again, {lost} given up as lost", begun.len());
    // Each due moment fired once: of one schedule, no two runs for one second.
    let mut due = BTreeSet::new();
    let firings = runs.values().filter(|r| r["task"] == "fleet:ticking" || r["task"] == "ticking");
    for run in firings {
        let at = run["cause"]["due"].as_str().unwrap_or_else(|| panic!("{run}")).to_owned();
        assert!(due.insert(at), "fired twice: {run}");
    }
    assert!(due.len() as u64 >= seconds / 2, "{} firings", due.len());
    println!("{} due moments, each fired once", due.len());
}

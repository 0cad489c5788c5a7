//! Many who listen, and some who do not read: nobody is held up, and nothing is kept for them beyond stated bounds. The
//! real binary, raw sockets on the loopback address.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test fails where a value is missing")]

mod support;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    sync::Barrier,
    time::{Duration, Instant},
};

use serde_json::json;
use support::{Server, Shop, is_long};

const FILE: &str = "
meta: { type: ostler-timetable, version: 1, namespace: demo }
tasks:
  - meta: { id: greet }
    run: 'true'
  - meta: { id: held }
    run: 'true'
";

/// The peak of the server's resident memory, in MiB: what ten thousand starts in one request take, 256 for answers that
/// are not read, 64 that are made at a time, and what the server needs itself.
const PEAK: usize = 900;

fn served(args: &[&str]) -> (Shop, Server) {
    let (shop, server) = support::served(FILE, args);
    assert_eq!(server.post("/api/v1/tasks/demo/held/pause", &json!(null)).status, 200);
    (shop, server)
}

/// A connection that has asked for something and has not read anything.
fn asked(server: &Server, path: &str) -> TcpStream {
    let mut stream = server.connect();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).unwrap();
    stream
}

/// How many follow the events.
fn followers(server: &Server) -> usize {
    let text = server.get("/metrics").text;
    let line = text.lines().find(|l| l.starts_with("ostler_event_followers ")).unwrap();
    line.split(' ').nth(1).unwrap().parse().unwrap()
}

fn last_event(server: &Server) -> i64 {
    server.get("/api/v1/stats").json()["last_event"].as_i64().unwrap()
}

/// Starts so many runs that stay where they are, and ends them.
fn events(shop: &Shop, server: &Server, runs: usize) {
    let starts: Vec<_> = (0..runs).map(|_| json!({ "namespace": "demo", "task": "held" })).collect();
    assert_eq!(server.post("/api/v1/runs/batch", &json!({ "runs": starts })).status, 201);
    let all = json!({ "query": { "namespace": "demo", "task": "held" } });
    assert_eq!(server.post("/api/v1/runs/cancel", &all).json()["asked"], runs);
    shop.wait_for("their ends", || {
        let stats = server.get("/api/v1/stats").json();
        stats["ready"].as_u64().unwrap() + stats["held"].as_u64().unwrap() == 0
    });
}

#[test]
fn a_listener_that_does_not_read_holds_nothing_and_finds_everything_later() {
    let (shop, server) = served(&["--client-time", "60s"]);
    let first = last_event(&server);
    let slow = asked(&server, "/api/v1/events/stream");
    shop.wait_for("it to follow", || followers(&server) == 1);
    events(&shop, &server, 10_000);
    let last = last_event(&server);
    assert!(last - first >= 20_000, "{}", last - first);
    server.assert_well(PEAK);
    // It reads now, and misses nothing, although the ring has long gone on.
    let mut at = first;
    for line in BufReader::new(slow).lines() {
        let line = line.unwrap();
        let Some(number) = line.strip_prefix("id: e") else { continue };
        let number: i64 = number.parse().unwrap();
        assert!(number > at, "{number} behind {at}");
        assert_eq!(number, at + 1, "a gap");
        at = number;
        if at == last {
            break;
        }
    }
    assert_eq!(at, last);
}

#[test]
fn a_listener_that_never_reads_is_cut() {
    let (shop, server) = served(&["--client-time", "1s"]);
    let mut slow: Vec<TcpStream> =
        (0..20).map(|_| asked(&server, "/api/v1/events/stream?after=e0")).collect();
    shop.wait_for("them to follow", || followers(&server) == 20);
    events(&shop, &server, 5_000);
    // What the system keeps for a socket is not much less than all events here: more come until it is full.
    let begun = Instant::now();
    while followers(&server) > 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "{} are still there", followers(&server));
        events(&shop, &server, 2_000);
    }
    server.assert_well(PEAK);
    // Whoever reads at last finds what had been sent, and the end.
    let mut text = Vec::new();
    let _ = slow[0].read_to_end(&mut text);
    assert!(text.starts_with(b"HTTP/1.1 200"));
}

#[test]
fn answers_that_nobody_reads_are_kept_within_a_bound() {
    let (shop, server) = served(&["--client-time", "10m"]);
    // The sum is reached at full size only: the build that is tested otherwise makes such answers slowly.
    let (runs, wanted) = if is_long() { (10_000, 80) } else { (3_000, 15) };
    events(&shop, &server, runs);
    let mut open: Vec<TcpStream> = (0..wanted).map(|_| asked(&server, "/api/v1/runs?limit=10000")).collect();
    // Small ones are answered meanwhile.
    assert_eq!(server.get("/healthz").status, 200);
    assert_eq!(server.get("/api/v1/runs?limit=10").status, 200);
    // The line with the status is all that is read.
    let status = |stream: &mut TcpStream| {
        let mut line = [0; 12];
        stream.set_read_timeout(Some(Duration::from_secs(300))).unwrap();
        stream.read_exact(&mut line).unwrap();
        String::from_utf8_lossy(&line[9..]).into_owned()
    };
    let found: Vec<String> = open.iter_mut().map(status).collect();
    let refused = found.iter().filter(|s| *s == "429").count();
    println!("{wanted} large answers not read, {refused} of them refused");
    assert!(found.iter().all(|s| s == "200" || s == "429"), "{found:?}");
    assert_eq!(refused > 0, is_long(), "{found:?}");
    server.assert_well(PEAK);
    // When those who do not read are gone, there is room again.
    drop(open);
    shop.wait_for("room", || server.get("/api/v1/runs?limit=10000").status == 200);
}

#[test]
fn all_listeners_see_a_run_end() {
    let (shop, server) = served(&[]);
    let wanted = if is_long() { 1_000 } else { 100 };
    let told = Barrier::new(2);
    let took = std::thread::scope(|scope| {
        let (server, told) = (&server, &told);
        let listening = scope.spawn(move || {
            let mut all: Vec<_> =
                (0..wanted).map(|_| BufReader::new(asked(server, "/api/v1/events/stream"))).collect();
            // The comment with which a stream begins.
            for listener in &mut all {
                assert!(listener.by_ref().lines().any(|l| l.unwrap().starts_with(": ostler")));
            }
            told.wait();
            for listener in &mut all {
                let mut lines = listener.by_ref().lines().map(Result::unwrap);
                // The very first event, too, although nobody listened before them.
                assert!(lines.any(|l| l.starts_with("event: ")), "no event came");
                let first = lines.next().unwrap();
                assert!(first.contains("\"created\""), "{first}");
                assert!(lines.any(|l| l.starts_with("data: ") && l.contains("\"succeeded\"")), "no end came");
            }
        });
        told.wait();
        assert_eq!(followers(server), wanted);
        let begun = Instant::now();
        assert_eq!(server.post("/api/v1/tasks/demo/greet/runs", &json!({})).status, 201);
        listening.join().unwrap();
        begun.elapsed()
    });
    println!("{wanted} listeners saw the end of a run {took:?} after it was asked for");
    // What is written to one that has gone away tells that it has.
    shop.wait_for("them to be gone", || {
        server.post("/api/v1/tasks/demo/greet/runs", &json!({})).status == 201 && followers(&server) == 0
    });
    server.assert_well(PEAK);
}

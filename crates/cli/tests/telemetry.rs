//! Traces at a collector: a real request of the exporter, with the ids that people see.
#![cfg(feature = "otel")]
#![allow(clippy::unwrap_used, reason = "a test fails where a value is missing")]

mod support;

use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::{Arc, Mutex},
};

use serde_json::json;
use support::Shop;

/// Where something was posted, and what.
type Posted = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// A collector that keeps the bodies of what is posted to it, and where they were posted.
fn collector() -> (String, Posted) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let posted = Posted::default();
    let kept = posted.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) > 0 {
                head.push(byte[0]);
            }
            let head = String::from_utf8_lossy(&head).to_lowercase();
            let length = head.lines().find_map(|l| l.strip_prefix("content-length:")).map_or("0", str::trim);
            let mut body = vec![0; length.parse().unwrap()];
            stream.read_exact(&mut body).unwrap();
            kept.lock().unwrap().push((head.lines().next().unwrap_or_default().to_owned(), body));
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    (url, posted)
}

fn holds(bytes: &[u8], part: &[u8]) -> usize {
    bytes.windows(part.len()).filter(|window| *window == part).count()
}

#[test]
fn a_flow_is_one_trace_with_a_span_for_each_step_and_attempt() {
    let (url, posted) = collector();
    let mut shop = Shop::new();
    shop.set("OTEL_EXPORTER_OTLP_ENDPOINT", Box::leak(url.into_boxed_str()));
    shop.write(
        "demo.yaml",
        "
meta: { type: ostler-timetable, version: 1, namespace: demo }
tasks:
  - meta: { id: two }
    steps:
      - { id: one, run: 'echo 1' }
      - { id: fails, run: 'exit 3', retry: { attempts: 2, initial: 1ms } }
",
    );
    let server = shop.serve(&["demo.yaml"]);
    let started = server.post("/api/v1/tasks/demo/two/runs", &json!({}));
    let id = started.json()["id"].as_str().unwrap().to_owned();
    shop.wait_for("its end", || server.get(&format!("/api/v1/runs/{id}")).json()["state"] == "failed");
    // What waits to be sent is sent before the end.
    assert_eq!(server.end(), 0);
    let posted = posted.lock().unwrap();
    assert!(posted.iter().all(|(line, _)| line == "post /v1/traces http/1.1"), "{posted:?}");
    let bytes: Vec<u8> = posted.iter().flat_map(|(_, body)| body.clone()).collect();
    let hex: String = id.chars().filter(|c| *c != '-').collect();
    let trace = u128::from_str_radix(&hex, 16).unwrap().to_be_bytes();
    // One span for the flow, one for the first step, two for the attempts of the second.
    assert_eq!(holds(&bytes, &trace), 4);
    assert_eq!((holds(&bytes, b"two/one"), holds(&bytes, b"two/fails")), (1, 2));
    assert!(holds(&bytes, b"ostler.attempt") == 4 && holds(&bytes, id.as_bytes()) == 1);
}

//! Traces and metrics at a collector: real requests of the exporters, with the ids and numbers that people see.
#![cfg(feature = "otel")]
#![allow(clippy::unwrap_used, reason = "a test fails where a value is missing")]

mod support;

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::TcpListener,
    sync::{Arc, Mutex},
};

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    metrics::v1::{AggregationTemporality, HistogramDataPoint, metric::Data, number_data_point},
};
use prost::Message as _;
use serde_json::json;
use support::{Server, Shop};

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

/// Serves a task of two steps, the second of which fails twice, and runs it to its end.
fn serve_and_run(shop: &Shop) -> (Server, String) {
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
    (server, id)
}

#[test]
fn a_flow_is_one_trace_with_a_span_for_each_step_and_attempt() {
    let (url, posted) = collector();
    let mut shop = Shop::new();
    shop.set("OTEL_EXPORTER_OTLP_ENDPOINT", Box::leak(url.into_boxed_str()));
    shop.set("OTEL_METRICS_EXPORTER", "none");
    let (server, id) = serve_and_run(&shop);
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

/// `{namespace="demo"}` and the like, as `/metrics` writes it.
fn labels(attributes: &[KeyValue]) -> String {
    let words = attributes.iter().map(|pair| {
        let Some(Value::StringValue(text)) = pair.value.as_ref().unwrap().value.as_ref() else {
            panic!("{pair:?} is no text")
        };
        format!("{}=\"{text}\"", pair.key)
    });
    let words = words.collect::<Vec<_>>().join(",");
    if words.is_empty() { words } else { format!("{{{words}}}") }
}

/// What the last request for metrics says: numbers and histograms by name and labels, and who tells.
struct Told {
    numbers: BTreeMap<String, f64>,
    histograms: BTreeMap<String, HistogramDataPoint>,
    who: String,
}

fn last_metrics(posted: &[(String, Vec<u8>)]) -> Option<Told> {
    let (_, body) = posted.iter().rfind(|(line, _)| line == "post /v1/metrics http/1.1")?;
    let request = ExportMetricsServiceRequest::decode(body.as_slice()).unwrap();
    let resource = &request.resource_metrics[0];
    let who = labels(&resource.resource.as_ref().unwrap().attributes);
    let mut told = Told { numbers: BTreeMap::new(), histograms: BTreeMap::new(), who };
    for metric in &resource.scope_metrics[0].metrics {
        let points = match metric.data.as_ref().unwrap() {
            Data::Gauge(gauge) => &gauge.data_points,
            Data::Sum(sum) => {
                assert!(sum.is_monotonic, "{}", metric.name);
                assert_eq!(sum.aggregation_temporality(), AggregationTemporality::Cumulative);
                &sum.data_points
            }
            Data::Histogram(histogram) => {
                assert_eq!(histogram.aggregation_temporality(), AggregationTemporality::Cumulative);
                for point in &histogram.data_points {
                    assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
                    assert_eq!(point.bucket_counts.iter().sum::<u64>(), point.count);
                    let name = format!("{}{}", metric.name, labels(&point.attributes));
                    told.histograms.insert(name, point.clone());
                }
                continue;
            }
            other => panic!("{other:?}"),
        };
        for point in points {
            assert!(point.time_unix_nano > point.start_time_unix_nano);
            let Some(number_data_point::Value::AsDouble(value)) = point.value else { panic!("{point:?}") };
            told.numbers.insert(format!("{}{}", metric.name, labels(&point.attributes)), value);
        }
    }
    Some(told)
}

#[test]
fn metrics_reach_a_collector_as_the_scraped_ones_have_them() {
    let (url, posted) = collector();
    let mut shop = Shop::new();
    shop.set("OTEL_EXPORTER_OTLP_ENDPOINT", Box::leak(url.into_boxed_str()));
    shop.set("OTEL_TRACES_EXPORTER", "none");
    shop.set("OTEL_METRIC_EXPORT_INTERVAL", "50");
    shop.set("OTEL_RESOURCE_ATTRIBUTES", "service.name=yard,deployment=test");
    let (server, _) = serve_and_run(&shop);
    // It is sent while it serves, not only at the end.
    let ended = "ostler_runs_ended_total{namespace=\"demo\",state=\"failed\"}";
    shop.wait_for("the end of the run at the collector", || {
        let posted = posted.lock().unwrap();
        last_metrics(&posted).is_some_and(|told| told.numbers.get(ended) == Some(&1.0))
    });
    let text = server.get("/metrics").text;
    assert_eq!(server.end(), 0);
    let posted = posted.lock().unwrap();
    assert!(posted.iter().all(|(line, _)| line.starts_with("post /v1/metrics")), "traces were switched off");
    let told = last_metrics(&posted).unwrap();
    assert!(told.who.contains("service.name=\"yard\"") && told.who.contains("deployment=\"test\""));
    // The same instruments: what does not change any more has the same value in both.
    for name in [
        ended,
        "ostler_executions_total{namespace=\"demo\"}",
        "ostler_attempts_failed_total{namespace=\"demo\"}",
        "ostler_leases_lost_total",
        "ostler_stale_commits_total",
    ] {
        let line = format!("{name} {}", told.numbers[name]);
        assert!(text.lines().any(|l| l == line), "`{line}` is not in\n{text}");
    }
    assert_eq!(told.numbers["ostler_executions_total{namespace=\"demo\"}"], 3.0);
    for name in ["ostler_start_lag_seconds", "ostler_execution_seconds"] {
        let histogram = &told.histograms[&format!("{name}{{namespace=\"demo\"}}")];
        assert_eq!(histogram.count, 3, "{name}");
        assert!(text.contains(&format!("{name}_count{{namespace=\"demo\"}} 3")), "{text}");
        assert!(histogram.sum.is_some_and(|sum| sum > 0.0 && sum < 600.0), "{histogram:?}");
    }
    for name in ["ostler_turn_seconds", "ostler_commit_seconds"] {
        assert!(told.histograms[name].count > 0, "{name}");
    }
}

#[test]
fn what_the_variables_say_wrong_is_told_before_anything_runs() {
    for (name, value, words) in [
        (
            "OTEL_METRIC_EXPORT_INTERVAL",
            "soon",
            "`OTEL_METRIC_EXPORT_INTERVAL=soon` is no number of milliseconds",
        ),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "only `http/protobuf` is spoken"),
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "x",
            "`OTEL_EXPORTER_OTLP_HEADERS` does not read `name=value,name=value`",
        ),
    ] {
        let mut shop = Shop::new();
        shop.set("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1");
        shop.set(name, value);
        let told = shop.run(&["serve"]);
        assert_eq!(told.code, 2, "{name}: {}", told.err);
        assert!(told.err.contains(words), "{name}: {}", told.err);
    }
}

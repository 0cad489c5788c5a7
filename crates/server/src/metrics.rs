//! Metrics in the Prometheus text format. Labels are few: routes by their pattern, states, kinds of trouble.

use std::time::Duration;

use axum::{
    body::Body,
    extract::{MatchedPath, Request, State},
    http::{HeaderValue, Method, Response},
    middleware::Next,
};
use ostler_engine::Notice;
use ostler_model::RunState;
use ostler_service::Service;
use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    Opts, Registry, TextEncoder,
};

use crate::App;

tokio::task_local! {
    /// The id of the request that is being answered.
    static REQUEST: HeaderValue;
}

/// The id of the request that is being answered, if one is.
pub(crate) fn request_id() -> Option<String> {
    REQUEST.try_with(|id| id.to_str().ok().map(str::to_owned)).ok().flatten()
}

/// Name of the header that carries the id of a request.
const REQUEST_ID: &str = "x-request-id";

/// What is counted and measured.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    in_flight: IntGauge,
    executions: IntCounter,
    ended: IntCounterVec,
    attempts_failed: IntCounter,
    stale_commits: IntCounter,
    store_trouble: IntCounter,
    lag_seconds: Histogram,
    queue: GaugeVec,
    store_bytes: Gauge,
    followers: IntGauge,
    ready: IntGauge,
}

/// A metric that cannot be made is a defect of this file, told when the server starts.
type Made<T> = Result<T, prometheus::Error>;

impl Metrics {
    /// Metrics that stand at nothing.
    ///
    /// # Errors
    /// Two of them have one name.
    pub fn new() -> Made<Self> {
        let registry = Registry::new();
        fn known<T: prometheus::core::Collector + Clone + 'static>(
            registry: &Registry,
            made: Made<T>,
        ) -> Made<T> {
            let metric = made?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        }
        let counter = |name: &str, help: &str| known(&registry, IntCounter::new(name, help));
        let counters = |name: &str, help: &str, labels: &[&str]| {
            known(&registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let gauge = |name: &str, help: &str| known(&registry, IntGauge::new(name, help));
        let seconds = |name: &str, help: &str| {
            HistogramOpts::new(name, help)
                .buckets(vec![0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 300.0])
        };
        Ok(Self {
            requests: counters(
                "ostler_http_requests_total",
                "Requests answered.",
                &["method", "route", "status"],
            )?,
            request_seconds: known(
                &registry,
                HistogramVec::new(
                    seconds("ostler_http_request_seconds", "Time to the head of an answer."),
                    &["route"],
                ),
            )?,
            in_flight: gauge("ostler_http_in_flight", "Requests that are being answered.")?,
            executions: counter("ostler_executions_total", "Executions begun.")?,
            ended: counters(
                "ostler_runs_ended_total",
                "Runs that have ended, parts of flows left out.",
                &["state"],
            )?,
            attempts_failed: counter(
                "ostler_attempts_failed_total",
                "Attempts that failed and are made again.",
            )?,
            stale_commits: counter(
                "ostler_stale_commits_total",
                "Commits refused since the lease was lost.",
            )?,
            store_trouble: counter("ostler_store_refusals_total", "Batches that the store did not take.")?,
            lag_seconds: known(
                &registry,
                Histogram::with_opts(seconds(
                    "ostler_start_lag_seconds",
                    "From due to the beginning of the execution.",
                )),
            )?,
            queue: known(
                &registry,
                GaugeVec::new(Opts::new("ostler_queue", "Machines in the queue, by phase."), &["phase"]),
            )?,
            store_bytes: known(&registry, Gauge::new("ostler_store_bytes", "Size of the store."))?,
            followers: gauge("ostler_event_followers", "Who follows the stream of events.")?,
            ready: gauge("ostler_ready", "Whether work is taken.")?,
            registry,
        })
    }

    /// Takes in what a node tells.
    pub fn notice(&self, notice: &Notice) {
        match notice {
            Notice::Executing { lag, .. } => {
                self.executions.inc();
                self.lag_seconds.observe(lag.as_secs_f64());
            }
            Notice::Committed { ended: Some(code), parent: None, .. } => {
                let state = RunState::from_code(*code).map_or("other", RunState::word);
                self.ended.with_label_values(&[state]).inc();
            }
            Notice::Committed { event, .. } if event == "attempt_failed" => self.attempts_failed.inc(),
            Notice::Committed { .. } => {}
            Notice::Stale { .. } => self.stale_commits.inc(),
            Notice::StoreTrouble(_) => self.store_trouble.inc(),
        }
    }

    /// The text that is scraped.
    pub(crate) fn text(&self, service: &Service, followers: usize, ready: bool) -> String {
        if let Ok(stats) = service.sizes() {
            let [later, ready, claimed, held] = stats.queue;
            for (phase, count) in [("later", later), ("ready", ready), ("claimed", claimed), ("held", held)] {
                self.queue.with_label_values(&[phase]).set(count as f64);
            }
            self.store_bytes.set(stats.bytes as f64);
        }
        self.followers.set(i64::try_from(followers).unwrap_or(i64::MAX));
        self.ready.set(i64::from(ready));
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "metrics cannot be written");
        }
        String::from_utf8(text).unwrap_or_default()
    }
}

/// Counts a request, gives it an id, and writes it to the log.
pub(crate) async fn count(State(app): State<App>, request: Request, next: Next) -> Response<Body> {
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let method = request.method().clone();
    // One that a proxy gave is kept, so that both logs speak of the same thing.
    let given = request.headers().get(REQUEST_ID).filter(|v| v.len() <= 128 && v.to_str().is_ok()).cloned();
    let id = given.unwrap_or_else(|| fresh_id(&app));
    let begun = ostler_clock::Clock::elapsed(&ostler_clock::SystemClock);
    let in_flight = InFlight::new(&app.metrics.in_flight);
    let mut response = REQUEST.scope(id.clone(), next.run(request)).await;
    drop(in_flight);
    let took = ostler_clock::Clock::elapsed(&ostler_clock::SystemClock).saturating_sub(begun);
    let status = response.status();
    app.metrics.requests.with_label_values(&[method_label(&method), &route, status.as_str()]).inc();
    app.metrics.request_seconds.with_label_values(&[route.as_str()]).observe(took.as_secs_f64());
    tracing::debug!(id = ?id, %method, %route, status = status.as_u16(), ms = ms(took), "answered");
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// Counts itself. A request whose connection ends before it is answered does not come to the end of its function.
struct InFlight(IntGauge);

impl InFlight {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The label of a method. Anybody can make methods up, and each label is kept for good.
fn method_label(method: &Method) -> &str {
    match method.as_str() {
        known @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS") => known,
        _ => "other",
    }
}

fn ms(took: Duration) -> f64 {
    took.as_secs_f64() * 1000.0
}

fn fresh_id(app: &App) -> HeaderValue {
    let number = ostler_clock::Entropy::next_u64(&app.entropy);
    HeaderValue::from_str(&format!("{number:016x}")).unwrap_or_else(|_| HeaderValue::from_static("none"))
}

//! Metrics: one set of instruments, written as Prometheus text and gathered by whoever sends them elsewhere. Labels are
//! few: routes by their pattern, states, and namespaces as long as they are few, too.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};

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
    Opts, Registry, TextEncoder, proto::MetricFamily,
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

/// So many namespaces are told apart; those that come later share the label [`OTHERS`].
const NAMESPACES: usize = 50;

/// So many sinks have numbers of their own.
const SINKS: usize = 200;

/// The label of namespaces beyond the first [`NAMESPACES`]. No namespace has a name with a `*`.
const OTHERS: &str = "*";

/// Bounds of the buckets of what people wait for, in seconds.
const WAITS: [f64; 10] = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 300.0];

/// Bounds of the buckets of executions, in seconds.
const WORK: [f64; 10] = [0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 300.0, 1800.0, 21_600.0];

/// Bounds of the buckets of what the loop and the store do, in seconds.
const INSIDE: [f64; 10] = [0.000_1, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 5.0];

/// What is counted and measured.
pub struct Metrics {
    registry: Registry,
    /// Namespaces that have a label of their own.
    namespaces: Mutex<BTreeSet<String>>,
    /// Those that are read from the store are read and gathered by one at a time.
    gathering: Mutex<()>,
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    in_flight: IntGauge,
    executions: IntCounterVec,
    ended: IntCounterVec,
    attempts_failed: IntCounterVec,
    claims_lost: IntCounterVec,
    leases_lost: IntCounter,
    stale_commits: IntCounter,
    store_trouble: IntCounter,
    lag_seconds: HistogramVec,
    execution_seconds: HistogramVec,
    turn_seconds: Histogram,
    commit_seconds: Histogram,
    queue: GaugeVec,
    queue_age: GaugeVec,
    store_bytes: Gauge,
    sink_behind: GaugeVec,
    sink_delivered: GaugeVec,
    sink_trouble: GaugeVec,
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
        let seconds = |name: &str, help: &str, buckets: [f64; 10]| {
            HistogramOpts::new(name, help).buckets(buckets.to_vec())
        };
        let inside =
            |name: &str, help: &str| known(&registry, Histogram::with_opts(seconds(name, help, INSIDE)));
        let of_sink = |name: &str, help: &str| {
            known(&registry, GaugeVec::new(Opts::new(name, help), &["namespace", "sink"]))
        };
        let by_namespace = |name: &str, help: &str, buckets: [f64; 10]| {
            known(&registry, HistogramVec::new(seconds(name, help, buckets), &["namespace"]))
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
                    seconds("ostler_http_request_seconds", "Time to the head of an answer.", WAITS),
                    &["route"],
                ),
            )?,
            in_flight: gauge("ostler_http_in_flight", "Requests that are being answered.")?,
            executions: counters("ostler_executions_total", "Executions begun.", &["namespace"])?,
            ended: counters(
                "ostler_runs_ended_total",
                "Runs that have ended, parts of flows left out.",
                &["namespace", "state"],
            )?,
            attempts_failed: counters(
                "ostler_attempts_failed_total",
                "Attempts that failed and are made again.",
                &["namespace"],
            )?,
            claims_lost: counters(
                "ostler_claims_lost_total",
                "Machines taken over by this node from one that died or lost its lease.",
                &["namespace"],
            )?,
            leases_lost: counter(
                "ostler_leases_lost_total",
                "Leases that this node could not renew in time: it gives up what it holds, and ends.",
            )?,
            stale_commits: counter(
                "ostler_stale_commits_total",
                "Commits refused since the lease was lost.",
            )?,
            store_trouble: counter("ostler_store_refusals_total", "Batches that the store did not take.")?,
            lag_seconds: by_namespace(
                "ostler_start_lag_seconds",
                "From due to the beginning of the execution.",
                WAITS,
            )?,
            execution_seconds: by_namespace(
                "ostler_execution_seconds",
                "From the beginning of an execution to its end.",
                WORK,
            )?,
            turn_seconds: inside("ostler_turn_seconds", "A turn of the loop: up to 256 ticks.")?,
            commit_seconds: inside(
                "ostler_commit_seconds",
                "From handing commits to the store to its answer, its flush included.",
            )?,
            queue: known(
                &registry,
                GaugeVec::new(Opts::new("ostler_queue", "Machines in the queue, by phase."), &["phase"]),
            )?,
            queue_age: known(
                &registry,
                GaugeVec::new(
                    Opts::new(
                        "ostler_queue_age_seconds",
                        "How long the oldest machine that is ready has been due.",
                    ),
                    &["namespace"],
                ),
            )?,
            sink_behind: of_sink(
                "ostler_sink_behind",
                "Events that the sink has not come to yet; more than 10000 are not counted.",
            )?,
            sink_delivered: of_sink("ostler_sink_delivered", "Events that the sink has carried out.")?,
            sink_trouble: of_sink(
                "ostler_sink_trouble_seconds",
                "For how long the sink has not been able to go on; 0 when it is.",
            )?,
            store_bytes: known(&registry, Gauge::new("ostler_store_bytes", "Size of the store."))?,
            followers: gauge("ostler_event_followers", "Who follows the stream of events.")?,
            ready: gauge("ostler_ready", "Whether work is taken.")?,
            namespaces: Mutex::default(),
            gathering: Mutex::default(),
            registry,
        })
    }

    /// Gives the label of a namespace. Each label is kept for good, so there are no more than [`NAMESPACES`].
    fn in_namespace<T>(&self, namespace: &str, with: impl FnOnce(&str) -> T) -> T {
        let mut known = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = known.contains(namespace);
        if !is_known && known.len() < NAMESPACES {
            known.insert(namespace.to_owned());
        }
        let own = is_known || known.contains(namespace);
        drop(known);
        with(if own { namespace } else { OTHERS })
    }

    /// Takes in what a node tells.
    pub fn notice(&self, notice: &Notice) {
        match notice {
            Notice::Executing { namespace, lag, .. } => self.in_namespace(namespace, |namespace| {
                self.executions.with_label_values(&[namespace]).inc();
                self.lag_seconds.with_label_values(&[namespace]).observe(lag.as_secs_f64());
            }),
            Notice::Executed { namespace, took } => self.in_namespace(namespace, |namespace| {
                self.execution_seconds.with_label_values(&[namespace]).observe(took.as_secs_f64());
            }),
            Notice::Stored { took } => self.commit_seconds.observe(took.as_secs_f64()),
            Notice::Turned { took } => self.turn_seconds.observe(took.as_secs_f64()),
            Notice::Lost { namespace } => self.in_namespace(namespace, |namespace| {
                self.claims_lost.with_label_values(&[namespace]).inc();
            }),
            Notice::LeaseLost => self.leases_lost.inc(),
            Notice::Committed { namespace, ended, parent, event, .. } => {
                self.in_namespace(namespace, |namespace| {
                    if event == "attempt_failed" {
                        self.attempts_failed.with_label_values(&[namespace]).inc();
                    }
                    if let (Some(code), None) = (ended, parent) {
                        let state = RunState::from_code(*code).map_or("other", RunState::word);
                        self.ended.with_label_values(&[namespace, state]).inc();
                    }
                });
            }
            Notice::Stale { .. } => self.stale_commits.inc(),
            Notice::StoreTrouble(_) => self.store_trouble.inc(),
        }
    }

    /// All of them as they are now; what is read from the store is looked up. Called where blocking is allowed.
    pub fn gather(&self, service: &Service, followers: usize, ready: bool) -> Vec<MetricFamily> {
        let _alone = self.gathering.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(stats) = service.sizes() {
            let [later, ready, claimed, held] = stats.queue;
            for (phase, count) in [("later", later), ("ready", ready), ("claimed", claimed), ("held", held)] {
                self.queue.with_label_values(&[phase]).set(count as f64);
            }
            self.store_bytes.set(stats.bytes as f64);
            let now = service.now().as_microsecond();
            // A namespace of which nothing is ready has no age.
            self.queue_age.reset();
            for waiting in &stats.waiting {
                let age = Duration::from_micros(now.saturating_sub(waiting.since).max(0).unsigned_abs());
                self.in_namespace(&waiting.namespace, |namespace| {
                    let gauge = self.queue_age.with_label_values(&[namespace]);
                    gauge.set(gauge.get().max(age.as_secs_f64()));
                });
            }
        }
        self.gather_sinks(service);
        self.followers.set(i64::try_from(followers).unwrap_or(i64::MAX));
        self.ready.set(i64::from(ready));
        self.registry.gather()
    }

    /// Sinks are few, and one that is gone has no number.
    fn gather_sinks(&self, service: &Service) {
        let Ok(sinks) = service.sink_marks(SINKS) else { return };
        let now = service.now().as_microsecond();
        for gauge in [&self.sink_behind, &self.sink_delivered, &self.sink_trouble] {
            gauge.reset();
        }
        for mark in sinks {
            let since = mark.trouble_since.map_or(0, |since| now.saturating_sub(since).max(0));
            self.in_namespace(&mark.namespace, |namespace| {
                let labels = [namespace, mark.sink.as_str()];
                self.sink_behind.with_label_values(&labels).set(mark.behind as f64);
                self.sink_delivered.with_label_values(&labels).set(mark.delivered as f64);
                let seconds = Duration::from_micros(since.unsigned_abs()).as_secs_f64();
                self.sink_trouble.with_label_values(&labels).set(seconds);
            });
        }
    }

    /// The text that is scraped.
    pub(crate) fn text(&self, service: &Service, followers: usize, ready: bool) -> String {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.gather(service, followers, ready), &mut text) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_beyond_the_first_share_a_label() {
        let metrics = Metrics::new().unwrap();
        for number in 0..NAMESPACES + 10 {
            let namespace = format!("n{number}").into();
            metrics.notice(&Notice::Executed { namespace, took: Duration::from_secs(1) });
        }
        metrics.notice(&Notice::Lost { namespace: "n0".into() });
        let families = metrics.registry.gather();
        let family = |name: &str| families.iter().find(|f| f.name() == name).unwrap();
        let told = family("ostler_execution_seconds").get_metric();
        assert_eq!(told.len(), NAMESPACES + 1);
        let others = told.iter().find(|m| m.get_label()[0].value() == OTHERS).unwrap();
        assert_eq!(others.get_histogram().get_sample_count(), 10);
        assert_eq!(family("ostler_claims_lost_total").get_metric()[0].get_label()[0].value(), "n0");
    }
}

//! Metrics for an OpenTelemetry collector: what `/metrics` shows, sent over OTLP (`http/protobuf`) again and again.
//!
//! The instruments are those of [`ostler_server::Metrics`]; here they are only written in another form. The SDK of
//! OpenTelemetry takes no metrics that somebody else has counted, so the message is made from its protocol's types.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    metrics::v1::{
        AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
        ResourceMetrics, ScopeMetrics, Sum, metric::Data, number_data_point,
    },
    resource::v1::Resource,
};
use prometheus::proto::{LabelPair, MetricFamily, MetricType};
use prost::Message;
use tokio::{sync::oneshot, task::JoinHandle};

use super::otlp::{self, Signal};
use crate::error::CliError;

/// The time between two sendings when `OTEL_METRIC_EXPORT_INTERVAL` does not say it.
const EVERY: Duration = Duration::from_secs(60);

/// How long the last sending may take when the process ends.
const LAST: Duration = Duration::from_secs(5);

/// Gives all metrics as they are now. Called where blocking is allowed.
pub type Gather = Arc<dyn Fn() -> Vec<MetricFamily> + Send + Sync>;

/// A sender at work.
pub struct Sender {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Sender {
    /// Begins to send, where an endpoint is set. Called in a runtime.
    pub fn start(gather: Gather) -> Result<Option<Self>, CliError> {
        let Some(endpoint) = otlp::endpoint(Signal::Metrics) else { return Ok(None) };
        otlp::check_protocol(Signal::Metrics)?;
        let client = ostler_client::plain(otlp::timeout(Signal::Metrics)?).map_err(otlp::trouble)?;
        let sending = Sending {
            client,
            endpoint,
            headers: otlp::headers(Signal::Metrics)?,
            gather,
            resource: resource(),
            since: nanos(),
        };
        let every = otlp::milliseconds("OTEL_METRIC_EXPORT_INTERVAL")?.unwrap_or(EVERY);
        let (stop, mut stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let mut interval = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
            let mut is_well = true;
            loop {
                let ends = tokio::select! {
                    _ = interval.tick() => false,
                    _ = &mut stopped => true,
                };
                let sent = sending.send().await;
                match &sent {
                    Err(why) if is_well => {
                        tracing::warn!(endpoint = %sending.endpoint, "metrics are not exported: {why}")
                    }
                    Ok(()) if !is_well => {
                        tracing::warn!(endpoint = %sending.endpoint, "metrics are exported again")
                    }
                    _ => {}
                }
                is_well = sent.is_ok();
                if ends {
                    return;
                }
            }
        });
        Ok(Some(Self { stop, task }))
    }

    /// Sends once more, and ends.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        if tokio::time::timeout(LAST, self.task).await.is_err() {
            tracing::warn!("the last metrics were not exported: the collector took too long");
        }
    }
}

struct Sending {
    client: reqwest::Client,
    endpoint: String,
    headers: Vec<(String, String)>,
    gather: Gather,
    resource: Resource,
    /// When counting began.
    since: u64,
}

impl Sending {
    async fn send(&self) -> Result<(), String> {
        let gather = self.gather.clone();
        let families = tokio::task::spawn_blocking(move || gather()).await.map_err(|e| e.to_string())?;
        let request = ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics {
                resource: Some(self.resource.clone()),
                scope_metrics: vec![ScopeMetrics {
                    scope: Some(InstrumentationScope { name: "ostler".into(), ..Default::default() }),
                    metrics: families.iter().map(|family| metric(family, self.since, nanos())).collect(),
                    ..Default::default()
                }],
                ..Default::default()
            }],
        };
        let mut post = self.client.post(&self.endpoint).header("content-type", "application/x-protobuf");
        for (name, value) in &self.headers {
            post = post.header(name, value);
        }
        let answer = post.body(request.encode_to_vec()).send().await.map_err(|e| {
            let mut at: &dyn std::error::Error = &e;
            while let Some(source) = at.source() {
                at = source;
            }
            at.to_string()
        })?;
        match answer.status().is_success() {
            true => Ok(()),
            false => Err(format!("the collector answered {}", answer.status())),
        }
    }
}

/// Who tells.
fn resource() -> Resource {
    let attributes = otlp::resource();
    let attributes = attributes.iter().map(|(key, value)| pair(key.as_str(), &value.as_str())).collect();
    Resource { attributes, ..Resource::default() }
}

fn pair(key: &str, value: &str) -> KeyValue {
    let value = AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) };
    KeyValue { key: key.to_owned(), value: Some(value), ..Default::default() }
}

fn labels(labels: &[LabelPair]) -> Vec<KeyValue> {
    labels.iter().map(|label| pair(label.name(), label.value())).collect()
}

/// One metric with all of its series.
fn metric(family: &MetricFamily, since: u64, now: u64) -> Metric {
    let number = |of: &prometheus::proto::Metric, value: f64| NumberDataPoint {
        attributes: labels(of.get_label()),
        start_time_unix_nano: since,
        time_unix_nano: now,
        value: Some(number_data_point::Value::AsDouble(value)),
        ..Default::default()
    };
    let temporality = AggregationTemporality::Cumulative.into();
    let all = family.get_metric().iter();
    let data = match family.get_field_type() {
        MetricType::COUNTER => Data::Sum(Sum {
            data_points: all.map(|m| number(m, m.get_counter().get_value())).collect(),
            aggregation_temporality: temporality,
            is_monotonic: true,
        }),
        MetricType::HISTOGRAM => Data::Histogram(Histogram {
            data_points: all.map(|m| histogram(m, since, now)).collect(),
            aggregation_temporality: temporality,
        }),
        _ => Data::Gauge(Gauge { data_points: all.map(|m| number(m, m.get_gauge().get_value())).collect() }),
    };
    let name = family.name();
    let unit = match name {
        _ if name.ends_with("_seconds") => "s",
        _ if name.ends_with("_bytes") => "By",
        _ => "1",
    };
    Metric {
        name: name.to_owned(),
        description: family.help().to_owned(),
        unit: unit.to_owned(),
        data: Some(data),
        ..Default::default()
    }
}

/// Prometheus counts what is at most a bound, OpenTelemetry what lies between two, and has one bucket more.
fn histogram(of: &prometheus::proto::Metric, since: u64, now: u64) -> HistogramDataPoint {
    let told = of.get_histogram();
    let finite = || told.get_bucket().iter().filter(|bucket| bucket.upper_bound().is_finite());
    let mut below = 0;
    let mut bucket_counts: Vec<u64> = finite()
        .map(|bucket| {
            let count = bucket.cumulative_count().saturating_sub(below);
            below = bucket.cumulative_count();
            count
        })
        .collect();
    bucket_counts.push(told.get_sample_count().saturating_sub(below));
    HistogramDataPoint {
        attributes: labels(of.get_label()),
        start_time_unix_nano: since,
        time_unix_nano: now,
        count: told.get_sample_count(),
        sum: Some(told.get_sample_sum()),
        explicit_bounds: finite().map(prometheus::proto::Bucket::upper_bound).collect(),
        bucket_counts,
        ..Default::default()
    }
}

#[expect(clippy::disallowed_methods, reason = "the moment of a measurement is no engine's time")]
fn nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

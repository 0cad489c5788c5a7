//! Traces for an OpenTelemetry collector: one trace for each run, one span for it and for each of its steps' attempts.
//!
//! On when `OTEL_EXPORTER_OTLP_ENDPOINT` (or `..._TRACES_ENDPOINT`) is set, `OTEL_TRACES_EXPORTER` is not `none`, and the
//! program was built with the feature `otel`; the exporter reads the other `OTEL_*` variables itself. Ids are those of the run, so that a trace is found
//! by the id that people see: the trace id is the run's id without its dashes.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use opentelemetry::{
    InstrumentationScope, KeyValue, SpanId, TraceFlags, TraceId,
    trace::{SpanContext, SpanKind, Status, TraceState},
};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::trace::{BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor};
use ostler_engine::Notice;
use ostler_model::{MachineId, RunState, Uid};

use super::otlp::{self, Signal};
use crate::error::{CliError, STORE};

/// Living runs that are known at most; one that is forgotten has a span that begins late.
const KNOWN: usize = 100_000;

/// Tells a collector of runs.
pub struct Telemetry {
    processor: BatchSpanProcessor,
    salt: u64,
    living: Mutex<HashMap<MachineId, Living>>,
}

/// What is known of a run that lives.
struct Living {
    since: SystemTime,
    name: String,
    attempt: u32,
}

impl Telemetry {
    /// A sender of traces, where an endpoint is set. To be called outside of an asynchronous context.
    pub fn from_environment(salt: u64) -> Result<Option<Arc<Self>>, CliError> {
        if otlp::endpoint(Signal::Traces).is_none() {
            return Ok(None);
        }
        otlp::check_protocol(Signal::Traces)?;
        // The program has one provider of cryptography; whoever is first names it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let exporter = SpanExporter::builder().with_http().with_protocol(Protocol::HttpBinary).build();
        let exporter = exporter
            .map_err(|e| CliError::new(STORE, "process", format!("traces cannot be exported: {e}")))?;
        let mut processor = BatchSpanProcessor::builder(exporter).build();
        processor.set_resource(&otlp::resource());
        Ok(Some(Arc::new(Self { processor, salt, living: Mutex::default() })))
    }

    /// Takes in what the node tells.
    pub fn notice(&self, notice: &Notice) {
        let mut living = self.living.lock().unwrap_or_else(PoisonError::into_inner);
        match notice {
            Notice::Executing { id, parent, attempt, task, step, .. } => {
                let now = moment();
                if living.len() >= KNOWN {
                    living.clear();
                }
                if let Some(flow) = parent {
                    let flow = living.entry(*flow);
                    flow.or_insert_with(|| Living { since: now, name: task.clone(), attempt: 1 })
                        .name
                        .clone_from(task);
                }
                let name = if parent.is_some() { format!("{task}/{step}") } else { task.clone() };
                living.insert(*id, Living { since: now, name, attempt: *attempt });
            }
            Notice::Committed { id, parent, ended, event, body, .. } => {
                let is_attempt = matches!(event.as_str(), "attempt_failed" | "attempt_lost");
                let state = ended.and_then(RunState::from_code);
                if state.is_none() && !is_attempt {
                    return;
                }
                let Some(known) = living.remove(id) else { return };
                drop(living);
                self.processor.on_end(self.span(*id, *parent, known, state, body));
            }
            _ => {}
        }
    }

    fn span(
        &self,
        id: MachineId,
        parent: Option<MachineId>,
        known: Living,
        state: Option<RunState>,
        body: &str,
    ) -> SpanData {
        let uid = Uid::of(id, self.salt);
        let root = Uid::of(parent.unwrap_or(id), self.salt);
        // Attempts of one run are spans of their own.
        let own = span_id(uid).wrapping_add(u64::from(known.attempt) - 1);
        let trace = TraceId::from_bytes(bytes_of(root));
        let context = SpanContext::new(
            trace,
            SpanId::from_bytes(own.to_be_bytes()),
            TraceFlags::SAMPLED,
            false,
            TraceState::default(),
        );
        let good = matches!(state, Some(RunState::Succeeded | RunState::Skipped));
        SpanData {
            span_context: context,
            parent_span_id: parent
                .map_or(SpanId::INVALID, |_| SpanId::from_bytes(span_id(root).to_be_bytes())),
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: known.name.into(),
            start_time: known.since,
            end_time: moment(),
            attributes: vec![
                KeyValue::new("ostler.run", uid.to_string()),
                KeyValue::new("ostler.state", state.map_or("failed", RunState::word)),
                KeyValue::new("ostler.attempt", i64::from(known.attempt)),
            ],
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: if good { Status::Ok } else { Status::error(body.to_owned()) },
            instrumentation_scope: InstrumentationScope::builder("ostler").build(),
        }
    }

    /// Sends what is left.
    pub fn stop(&self) {
        if let Err(error) = self.processor.shutdown() {
            tracing::warn!(%error, "the last traces were not exported");
        }
    }
}

fn bytes_of(uid: Uid) -> [u8; 16] {
    let hex: String = uid.to_string().chars().filter(|c| *c != '-').collect();
    u128::from_str_radix(&hex, 16).unwrap_or_default().to_be_bytes()
}

fn span_id(uid: Uid) -> u64 {
    let bytes = u128::from_be_bytes(bytes_of(uid));
    // Both halves: keys of one millisecond differ in the first, salts in the second.
    (bytes >> 64) as u64 ^ bytes as u64
}

#[expect(clippy::disallowed_methods, reason = "a span's moments are no engine's time")]
fn moment() -> SystemTime {
    SystemTime::now()
}

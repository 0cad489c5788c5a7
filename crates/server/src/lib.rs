//! The HTTP face of Ostler: `/api/v1` with its OpenAPI document, streams of events and lines, `/mcp` for agents, health,
//! metrics.
//!
//! A route is added together with the types of its path, query, body and answer, and the document is made from those
//! (`operation.rs`, `document.rs`), so that no route can be missing from it. Handlers are plain functions on an
//! [`Api`](ostler_api::Api); they run where blocking is allowed.
//!
//! What a stranger can do to a server is bounded: connections, headers and the time they may take (`listen.rs`), bodies
//! and their sum (`body.rs`), what they say (`json.rs`), answers that nobody reads (`answers.rs`, `patience.rs`), work at
//! a time (`operation.rs`), and who may ask at all (`access.rs`).
//!
//! ```
//! let document = ostler_server::openapi();
//! assert_eq!(document["openapi"], "3.1.0");
//! assert!(document["paths"]["/api/v1/runs/{id}"]["get"].is_object());
//! ```

mod access;
mod answers;
mod body;
mod document;
mod feed;
mod health;
mod hooks;
mod json;
mod listen;
mod mcp;
mod metrics;
mod operation;
mod patience;
mod problem;
mod routes;
mod stream;

use std::{net::SocketAddr, sync::Arc, time::Duration};

pub use access::Access;
use axum::{Router, middleware};
pub use feed::Feed;
pub use health::Readiness;
pub use listen::{Limits, ListenError, Listener};
pub use metrics::Metrics;
use ostler_clock::SeededEntropy;
use ostler_embedded::{Local, WorkerLogs};
use ostler_execution::Secrets;
use ostler_service::Workers;
use ostler_timetable::LoadOptions;

use crate::{answers::Unread, body::Budget};

/// What a server is made of.
pub struct Config {
    /// Answers what is asked, as somebody else for each request.
    pub local: Local,
    /// Who may ask.
    pub access: Access,
    /// What definitions are read with.
    pub load: LoadOptions,
    /// Give the values of secrets, by which requests to webhooks are checked.
    pub secrets: Arc<dyn Secrets>,
    /// What workers ask for.
    pub workers: Workers,
    /// Writes what their jobs write.
    pub worker_logs: WorkerLogs,
    /// Tells of changes.
    pub feed: Arc<Feed>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Whether work can be taken.
    pub readiness: Readiness,
    /// Whether agents may change anything at `/mcp`, as far as their tokens go.
    pub mcp_changes: bool,
    /// What those who connect may have and take.
    pub limits: Limits,
}

/// What handlers share.
#[derive(Clone)]
pub(crate) struct App(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) local: Local,
    pub(crate) access: Access,
    pub(crate) load: LoadOptions,
    pub(crate) secrets: Arc<dyn Secrets>,
    pub(crate) workers: Workers,
    pub(crate) worker_logs: WorkerLogs,
    pub(crate) feed: Arc<Feed>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) readiness: Readiness,
    pub(crate) budget: Budget,
    pub(crate) unread: Unread,
    pub(crate) entropy: SeededEntropy,
    pub(crate) agents: mcp::Agents,
}

impl std::ops::Deref for App {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// The whole of the HTTP face as a service.
pub fn router(config: Config) -> Router {
    let app = App(Arc::new(Inner {
        local: config.local,
        access: config.access,
        load: config.load,
        secrets: config.secrets,
        workers: config.workers,
        worker_logs: config.worker_logs,
        feed: config.feed,
        metrics: config.metrics,
        readiness: config.readiness,
        budget: Budget::new(config.limits.body, config.limits.client_time * 2),
        unread: Unread::default(),
        entropy: SeededEntropy::from_os(),
        agents: mcp::Agents::new(config.mcp_changes),
    }));
    let api = routes::all();
    api.router
        .merge(health::routes())
        .merge(hooks::routes())
        .merge(mcp::routes())
        .fallback(problem::no_route)
        .method_not_allowed_fallback(problem::no_method)
        .layer(middleware::from_fn_with_state(app.clone(), access::check))
        .layer(middleware::from_fn_with_state(app.clone(), answers::bound))
        .layer(middleware::from_fn_with_state(app.clone(), metrics::count))
        .with_state(app)
}

/// The OpenAPI document of `/api/v1`.
#[must_use]
pub fn openapi() -> serde_json::Value {
    routes::all().document()
}

/// Serves until `stop` is done, then lets what is being answered end, for `patience` at most.
pub async fn serve(
    listener: Listener,
    config: Config,
    stop: impl Future<Output = ()> + Send,
    patience: Duration,
) {
    let limits = config.limits;
    listen::serve(listener, router(config), limits, stop, patience).await;
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

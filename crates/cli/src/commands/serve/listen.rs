//! Answering over HTTP beside the node.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use ostler_embedded::Local;
use ostler_engine::Notice;
use ostler_execution::Secrets;
use ostler_server::{Access, Config, Feed, Limits, Listener, Metrics, Readiness};
use ostler_service::{Service, Workers};
use tokio::{sync::oneshot, task::JoinHandle};

use crate::{
    context,
    error::{CONFLICT, CliError, STORE},
};

/// What is being answered may take so long when the node has ended; streams end then.
const PATIENCE: Duration = Duration::from_secs(2);

/// Listens at an address; a bare port is one of the loopback address.
pub fn bind(text: &str) -> Result<Listener, CliError> {
    let port = text.strip_prefix(':').unwrap_or(text);
    let address = if port.parse::<u16>().is_ok() { format!("127.0.0.1:{port}") } else { text.to_owned() };
    Listener::bind(&address).map_err(|error| match error {
        ostler_server::ListenError::InUse(_) => CliError::new(CONFLICT, "conflict", error.to_string()),
        ostler_server::ListenError::Address { .. } => CliError::usage(error.to_string()),
        other => CliError::new(STORE, "process", other.to_string()),
    })
}

/// Who may ask there. An address that others can reach is not served before there is a token.
pub fn access(listener: &Listener, require_token: bool, service: &Service) -> Result<Access, CliError> {
    let access = if require_token { Access::Tokens } else { listener.access() };
    if access == Access::Tokens && !service.has_tokens()? {
        return Err(CliError::usage(format!(
            "{} asks for tokens, and this store has none that counts; nothing was started",
            listener.address()
        ))
        .hint("make one first: ostler tokens create NAME --scope admin"));
    }
    Ok(access)
}

/// What is told and counted while the node works.
#[derive(Clone)]
pub struct Watched {
    feed: Arc<Feed>,
    metrics: Arc<Metrics>,
    pub readiness: Readiness,
}

impl Watched {
    pub fn new() -> Result<Self, CliError> {
        let metrics = Metrics::new()
            .map_err(|e| CliError::new(STORE, "process", format!("metrics cannot be counted: {e}")))?;
        Ok(Self { feed: Arc::default(), metrics: Arc::new(metrics), readiness: Readiness::default() })
    }

    /// What gathers the metrics for others than `/metrics`.
    #[cfg(feature = "otel")]
    pub fn gather(&self, service: Service) -> super::otlp_metrics::Gather {
        let watched = self.clone();
        Arc::new(move || {
            let ready = watched.readiness.reason().is_none() && service.check_store().is_ok();
            watched.metrics.gather(&service, watched.feed.followers(), ready)
        })
    }

    /// Takes in what the node tells.
    pub fn notice(&self, notice: &Notice) {
        self.metrics.notice(notice);
        if matches!(notice, Notice::Committed { .. }) {
            self.feed.touch();
        }
    }
}

/// A server at work.
pub struct Http {
    /// Where it listens.
    pub address: SocketAddr,
    stop: oneshot::Sender<()>,
    tasks: [JoinHandle<()>; 2],
}

/// What is offered there beyond the use cases.
pub struct Offer {
    /// Give the values of secrets.
    pub secrets: Arc<dyn Secrets>,
    /// What workers ask for.
    pub workers: Workers,
    /// Whether agents may change things.
    pub mcp_changes: bool,
    /// What those who connect may have and take.
    pub limits: Limits,
}

/// Starts to answer.
pub fn start(listener: Listener, access: Access, local: Local, watched: &Watched, offer: Offer) -> Http {
    let address = listener.address();
    let (stop, stopped) = oneshot::channel();
    let config = Config {
        local: local.clone(),
        access,
        load: context::load_options(),
        secrets: offer.secrets,
        workers: offer.workers,
        worker_logs: local.worker_logs(),
        feed: watched.feed.clone(),
        metrics: watched.metrics.clone(),
        readiness: watched.readiness.clone(),
        mcp_changes: offer.mcp_changes,
        limits: offer.limits,
    };
    let feeding = tokio::spawn(watched.feed.clone().run(local));
    let serving = tokio::spawn(ostler_server::serve(
        listener,
        config,
        async {
            let _ = stopped.await;
        },
        PATIENCE,
    ));
    Http { address, stop, tasks: [serving, feeding] }
}

impl Http {
    /// Lets what is being answered end.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        let [serving, feeding] = self.tasks;
        let _ = serving.await;
        feeding.abort();
    }
}

/// Tells the service manager (`sd_notify`), where there is one.
pub fn tell_system(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager was not told");
    }
}

//! A worker: takes jobs from a server and carries them out with the executors of this machine.
//!
//! What it is told and tells is the protocol of `docs/worker.md`. It asks for jobs ([`session`](mod@session)), carries
//! each out under the same contract as a node does ([`job`]), and sends what they write and come to ([`sending`]) until
//! the server has taken it, also across a restart of the server. When no heartbeat was answered for three quarters of the
//! lease, it ends everything it runs: somebody else may begin it again.

mod job;
mod lines;
mod sending;
mod session;

use std::{sync::Arc, time::Duration};

use ostler_api::{ApiError, ErrorKind, workers::NewWorker};
use ostler_client::Client;
use ostler_clock::{Clock, Entropy, SeededEntropy};
use ostler_execution::Executors;
use ostler_model::Name;
use tokio::sync::watch;

use crate::session::{Ended, Session};

/// The first pause after a request that failed.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What a worker is to be.
pub struct WorkerConfig {
    /// For people: host and process.
    pub name: String,
    /// How many jobs at a time.
    pub slots: u32,
    /// What it has.
    pub labels: Vec<Name>,
    /// Takes only what asks for one of them.
    pub only_labelled: bool,
    /// Do the work.
    pub executors: Executors,
    /// The folder for jobs whose own is not on this machine; `None`: such jobs fail.
    pub folder: Option<String>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Is told the number that the worker has got, each time.
    pub registered: Arc<dyn Fn(i64) + Send + Sync>,
}

/// What a worker is told by whoever runs it. Grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    /// Work.
    #[default]
    Work,
    /// Take nothing more, bring what runs to its end, and leave.
    Drain,
    /// End what runs within its grace, and leave.
    Interrupt,
    /// End it at once, and leave.
    Kill,
}

/// Works until told to leave. A server that does not answer is waited for.
///
/// # Errors
/// The server knows no such token, or it does not let work, or it does not understand.
pub async fn work(
    client: Client,
    config: WorkerConfig,
    mut orders: watch::Receiver<Order>,
) -> Result<(), ApiError> {
    let config = Arc::new(config);
    let mut pause = Pause::up_to(LONGEST_PAUSE);
    loop {
        let worker = NewWorker {
            name: config.name.clone(),
            slots: config.slots,
            labels: config.labels.clone(),
            only_labelled: config.only_labelled,
        };
        let registered = tokio::select! {
            registered = client.register_worker(&worker) => registered,
            () = ordered(&mut orders, Order::Drain) => return Ok(()),
        };
        let view = match registered {
            Ok(view) => view,
            Err(error) if may_pass(&error) => {
                tracing::warn!(%error, "the server does not take this worker yet");
                tokio::select! {
                    () = pause.next() => continue,
                    () = ordered(&mut orders, Order::Drain) => return Ok(()),
                }
            }
            Err(error) => return Err(error),
        };
        pause = Pause::up_to(LONGEST_PAUSE);
        (config.registered)(view.node);
        match Session::new(client.clone(), config.clone(), view).run(orders.clone()).await? {
            Ended::Left => return Ok(()),
            Ended::GivenUp => tracing::warn!("the server has given this worker up; registering again"),
        }
    }
}

/// Waits for an order at least as strong.
pub(crate) async fn ordered(orders: &mut watch::Receiver<Order>, at_least: Order) {
    if orders.wait_for(|order| *order >= at_least).await.is_err() {
        // Nobody orders any more.
        std::future::pending::<()>().await;
    }
}

/// Whether the same request may be answered better later.
pub(crate) fn may_pass(error: &ApiError) -> bool {
    matches!(error.kind, ErrorKind::Unreachable | ErrorKind::Store | ErrorKind::Busy)
}

/// Whether the server has given the worker up.
pub(crate) fn is_given_up(error: &ApiError) -> bool {
    matches!(error.kind, ErrorKind::Gone | ErrorKind::NotFound)
}

/// Pauses between tries: each twice the one before, with jitter, up to a limit.
pub(crate) struct Pause {
    next: Duration,
    longest: Duration,
    entropy: SeededEntropy,
}

impl Pause {
    pub(crate) fn up_to(longest: Duration) -> Self {
        Self { next: FIRST_PAUSE, longest: longest.min(LONGEST_PAUSE), entropy: SeededEntropy::from_os() }
    }

    pub(crate) async fn next(&mut self) {
        let half = self.next / 2;
        let jitter = self.entropy.below(u64::try_from(half.as_micros()).unwrap_or(1).max(1));
        self.next = (self.next * 2).min(self.longest);
        tokio::time::sleep(half + Duration::from_micros(jitter)).await;
    }
}

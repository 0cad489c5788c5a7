//! `ostler serve`: the owner of a store, in the foreground.

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::Args;
use ostler_clock::SystemClock;
use ostler_embedded::{Embedded, NodeOptions, Role};
use ostler_engine::{Notice, Shutdown};
use ostler_execution::CancelReason;
use ostler_model::Span;
use ostler_service::{RetentionPolicy, Service};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Global;
use crate::{
    context,
    error::{CliError, STORE},
};

/// How often old history is looked for.
const RETENTION_EVERY: Duration = Duration::from_secs(60);

/// Fire schedules and run what is queued, until told to stop
#[derive(Args)]
#[command(
    after_help = "SIGTERM and Ctrl-C let what runs end, for as long as --drain says; a second one ends it at once.\n\nExamples:\n  ostler serve\n  ostler serve timetable.yaml --store ostler.db"
)]
pub struct Serve {
    /// Definition files or folders to push first
    paths: Vec<PathBuf>,
    /// How many steps at a time
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    slots: u32,
    /// How long what runs may take to end after SIGTERM
    #[arg(long, default_value = "10m")]
    drain: Span,
    /// Ended runs are kept so long
    #[arg(long, default_value = "90d")]
    keep_age: Span,
    /// So many ended runs are kept
    #[arg(long, default_value_t = 1_000_000)]
    keep_count: u64,
    /// The store stays below so many bytes
    #[arg(long, default_value_t = 10 << 30)]
    keep_bytes: u64,
}

impl Serve {
    pub fn run(self, global: &Global) -> Result<u8, CliError> {
        let retention = RetentionPolicy {
            age: Some(self.keep_age),
            count: Some(self.keep_count),
            bytes: Some(self.keep_bytes),
        };
        serve(global, &self.paths, self.slots, self.drain, retention)
    }
}

/// Follows a file's own schedules in the foreground: `ostler run FILE --when file`.
pub fn follow(global: &Global, path: PathBuf, slots: u32) -> Result<u8, CliError> {
    serve(global, &[path], slots, Span::from_secs(600), RetentionPolicy::default())
}

fn serve(
    global: &Global,
    paths: &[PathBuf],
    slots: u32,
    drain: Span,
    retention: RetentionPolicy,
) -> Result<u8, CliError> {
    let mut loaded = Vec::new();
    for path in paths {
        loaded.extend(context::load(path)?.timetables);
    }
    let embedded = Embedded::own(context::place(global), Arc::new(SystemClock))?;
    let actor = context::actor();
    let service = embedded.service();
    for timetable in &loaded {
        let pushed = service.push(&actor, timetable)?;
        tracing::info!(namespace = %timetable.namespace, added = pushed.added.len(), changed = pushed.changed.len(), "pushed");
    }
    let runtime = context::runtime()?;
    let ended = runtime.block_on(async {
        let mut running = embedded.start_node(NodeOptions {
            role: Role::Owner,
            slots,
            executors: context::executors(&embedded)?,
            observer: Arc::new(tell),
            lines: None,
            secrets: context::secrets()?,
        })?;
        let mut signals = signals();
        let (service, teller) = (running.service.clone(), actor.clone());
        tokio::task::spawn_blocking(move || {
            if let Err(error) = service.signal_reboot(&teller) {
                tracing::warn!(%error, "schedules with @reboot were not told");
            }
        });
        if !global.output.is_machine() {
            eprintln!("serving {}; Ctrl-C or SIGTERM ends it", embedded.place());
        }
        let keeper = tokio::spawn(keep(running.service.clone(), embedded.logs().clone(), retention));
        let handle = running.handle.clone();
        let ended = tokio::select! {
            ended = running.wait() => ended,
            () = signals.next() => {
                eprintln!("ending: waiting for what runs, {drain} at most; once more to end it at once");
                handle.drain();
                let patience = tokio::time::sleep(drain.as_duration());
                tokio::pin!(patience);
                let mut hurried = false;
                loop {
                    tokio::select! {
                        ended = running.wait() => break ended,
                        () = signals.next() => handle.interrupt(CancelReason::Kill),
                        () = &mut patience, if !hurried => {
                            hurried = true;
                            handle.interrupt(CancelReason::Shutdown);
                        }
                    }
                }
            }
        };
        keeper.abort();
        Ok::<_, CliError>(ended)
    })?;
    match ended {
        Shutdown::Drained => Ok(0),
        Shutdown::LeaseLost => Err(CliError::new(
            STORE,
            "store",
            "the lease was lost: the store could not be written for too long",
        )),
    }
}

fn tell(notice: &Notice) {
    match notice {
        Notice::Executing { id, task, step, attempt, .. } => {
            tracing::debug!(machine = id.0, %task, %step, attempt, "executing")
        }
        Notice::Committed { id, event, ended: Some(_), parent: None, .. } => {
            tracing::info!(machine = id.0, %event, "ended")
        }
        Notice::Committed { .. } => {}
        Notice::Stale { id } => tracing::warn!(machine = id.0, "a commit came too late and was refused"),
        Notice::StoreTrouble(error) => tracing::warn!(%error, "the store refused; trying again"),
    }
}

/// Takes old history away in bounded batches, with the logs of what it takes.
async fn keep(service: Service, logs: Arc<ostler_executors::RunLogs>, policy: RetentionPolicy) {
    let actor = context::actor();
    let mut interval = tokio::time::interval(RETENTION_EVERY);
    loop {
        interval.tick().await;
        loop {
            let (service, actor, logs) = (service.clone(), actor.clone(), logs.clone());
            let pruned = tokio::task::spawn_blocking(move || {
                let report = service.prune(&actor, &policy, 1000)?;
                for run in &report.runs {
                    let _ = logs.delete(*run);
                }
                Ok::<_, ostler_service::ServiceError>(report.more)
            })
            .await;
            match pruned {
                Ok(Ok(true)) => tokio::time::sleep(Duration::from_millis(50)).await,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "old history was not taken away");
                    break;
                }
                _ => break,
            }
        }
    }
}

/// Ctrl-C and SIGTERM.
pub struct Signals {
    interrupt: Option<Signal>,
    terminate: Option<Signal>,
}

/// Listens for Ctrl-C and SIGTERM.
pub fn signals() -> Signals {
    Signals {
        interrupt: signal(SignalKind::interrupt()).ok(),
        terminate: signal(SignalKind::terminate()).ok(),
    }
}

impl Signals {
    /// The next one.
    pub async fn next(&mut self) {
        async fn one(signal: &mut Option<Signal>) {
            match signal {
                Some(signal) => {
                    signal.recv().await;
                }
                None => std::future::pending().await,
            }
        }
        tokio::select! {
            () = one(&mut self.interrupt) => {}
            () = one(&mut self.terminate) => {}
        }
    }
}

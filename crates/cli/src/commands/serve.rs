//! `ostler serve`: the owner of a store, in the foreground.

mod file_triggers;
mod listen;
mod live_files;
mod open_files;
mod otlp;
#[cfg(feature = "otel")]
mod otlp_metrics;
#[cfg(feature = "otel")]
mod telemetry;

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::Args;
use ostler_api::{Api, RetentionPolicy};
use ostler_clock::SystemClock;
use ostler_embedded::{Embedded, Local, NodeOptions, Place, Role};
use ostler_engine::{Notice, Shutdown};
use ostler_execution::CancelReason;
use ostler_listening::Listening;
use ostler_model::{Name, Span};
use ostler_server::Limits;
use ostler_service::QueueLimit;
use ostler_sinks::Sinks;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::{file_triggers::FileTriggers, live_files::LiveSource};
use super::Global;
use crate::{
    context,
    error::{CliError, STORE},
    sources::Source,
};

/// The size of a store's file unless told otherwise.
const KEEP_BYTES: u64 = 10 << 30;

/// How often old history is looked for.
const RETENTION_EVERY: Duration = Duration::from_secs(60);

/// Fire schedules and run what is queued, until told to stop
#[derive(Args)]
#[command(
    after_help = "Files are watched: a change is live within two seconds, a broken one is told and changes nothing.\nSIGTERM and Ctrl-C let what runs end, for as long as --drain says; a second one ends it at once.\n\nElsewhere is an https document or archive (.tar.gz), an object of s3:// or gs:// (read by `aws` or `gcloud`),\nor a repository (git+https://, git+ssh://). Behind `#`: sha256=HEX pins it, path=FOLDER names a part;\nfor repositories ref=BRANCH and commit=HEX.\n\nExamples:\n  ostler serve\n  ostler serve timetable.yaml --store ostler.db\n  ostler serve timetable.yaml --listen 7467        answers at http://127.0.0.1:7467\n  ostler serve 'git+https://example.org/ops.git#ref=main&path=jobs'"
)]
pub struct Serve {
    /// Definition files, folders of them, or what lies elsewhere: pushed first, then watched
    #[arg(value_name = "FILE|DIR|URL")]
    paths: Vec<PathBuf>,
    /// How often what lies elsewhere is looked at again
    #[arg(long, default_value = "60s", value_name = "SPAN")]
    poll: Span,
    /// Answer over HTTP at this address: `HOST:PORT`, or a port on the loopback address. Any other than a loopback
    /// address needs tokens (`ostler tokens create`)
    #[arg(long, env = "OSTLER_LISTEN", value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Ask for a token on a loopback address, too
    #[arg(long)]
    require_token: bool,
    /// Let agents change things at `/mcp`, as far as their tokens go; they only look otherwise
    #[arg(long)]
    mcp_changes: bool,
    /// A client may take so long for the head of a request, and to read on when an answer waits for it
    #[arg(long, default_value = "20s", value_name = "SPAN")]
    client_time: Span,
    /// So many machines may stand in the queue; starts beyond it are refused
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    max_queue: u64,
    /// How many steps at a time; with 0 all of them are left to workers
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    slots: u32,
    /// What this machine has, for steps that ask for it (`runs_on`); may be given several times
    #[arg(long, value_name = "LABEL", value_delimiter = ',')]
    label: Vec<Name>,
    /// Carry out only steps that ask for one of these labels; those that ask for none are left to others
    #[arg(long, requires = "label")]
    only_labelled: bool,
    /// A worker (`ostler worker`) that is not heard of for so long counts as dead, and others get what it held
    #[arg(long, default_value = "30s", value_name = "SPAN")]
    worker_lease: Span,
    /// How long what runs may take to end after SIGTERM
    #[arg(long, default_value = "10m")]
    drain: Span,
    /// Ended runs are kept so long
    #[arg(long, default_value = "90d")]
    keep_age: Span,
    /// So many ended runs are kept
    #[arg(long, default_value_t = 1_000_000)]
    keep_count: u64,
    /// The store stays below so many bytes [default: 10 GiB of a file; a store on PostgreSQL has no such limit]
    #[arg(long)]
    keep_bytes: Option<u64>,
}

impl Serve {
    pub fn run(self, global: &Global) -> Result<u8, CliError> {
        let retention = RetentionPolicy {
            age: Some(self.keep_age),
            count: Some(self.keep_count),
            bytes: match context::place(global)? {
                Place::Postgres(_) => self.keep_bytes,
                _ => Some(self.keep_bytes.unwrap_or(KEEP_BYTES)),
            },
        };
        serve(global, self, retention)
    }
}

/// Follows a file's own schedules in the foreground: `ostler run FILE --when file`.
pub fn follow(global: &Global, path: PathBuf, slots: u32) -> Result<u8, CliError> {
    let serving = Serve {
        paths: vec![path],
        poll: Span::from_secs(60),
        listen: None,
        require_token: false,
        mcp_changes: false,
        client_time: Span::from_secs(20),
        max_queue: u64::MAX,
        slots,
        label: Vec::new(),
        only_labelled: false,
        worker_lease: ostler_embedded::LEASE,
        drain: Span::from_secs(600),
        keep_age: Span::default(),
        keep_count: 0,
        keep_bytes: None,
    };
    serve(global, serving, RetentionPolicy::default())
}

fn serve(global: &Global, serving: Serve, retention: RetentionPolicy) -> Result<u8, CliError> {
    let Serve { paths, slots, drain, .. } = &serving;
    let mut sources = Vec::new();
    for path in paths {
        sources.push(LiveSource::open(Source::parse(path)?)?);
    }
    // An address that is taken and a store that is locked are told before anything runs.
    if serving.client_time == Span::default() {
        return Err(CliError::usage("`--client-time` is more than nothing: nobody could ask for anything"));
    }
    if serving.worker_lease < Span::from_secs(3) {
        return Err(CliError::usage(format!(
            "`--worker-lease {}` is shorter than 3s: a worker could not show in time that it lives",
            serving.worker_lease
        )));
    }
    let files = open_files::raise();
    let listener = serving.listen.as_deref().map(listen::bind).transpose()?;
    let embedded = Embedded::own(context::place(global)?, Arc::new(SystemClock))?;
    let actor = context::actor();
    let service = embedded.service();
    let access = listener.as_ref().map(|l| listen::access(l, serving.require_token, &service)).transpose()?;
    for timetable in sources.iter().flat_map(LiveSource::timetables) {
        let pushed = service.push(&actor, timetable)?;
        tracing::info!(namespace = %timetable.namespace, added = pushed.added.len(), changed = pushed.changed.len(), "pushed");
    }
    #[cfg(feature = "otel")]
    let telemetry = telemetry::Telemetry::from_environment(embedded.queries().salt())?;
    #[cfg(not(feature = "otel"))]
    if [otlp::Signal::Traces, otlp::Signal::Metrics].into_iter().any(|s| otlp::endpoint(s).is_some()) {
        tracing::warn!("nothing is told to the collector: this ostler was built without the feature `otel`");
    }
    #[cfg(feature = "otel")]
    let tracer = telemetry.clone();
    let runtime = context::runtime()?;
    let ended = runtime.block_on(async {
        let watched = listen::Watched::new()?;
        let onlooker = watched.clone();
        let secrets = context::secrets()?;
        let sinks = Sinks::new(&embedded, Arc::new(SystemClock), secrets.clone());
        let carriers = sinks.clone();
        let mut running = embedded.start_node(NodeOptions {
            role: Role::Owner,
            slots: *slots,
            labels: serving.label.iter().map(ToString::to_string).collect(),
            only_labelled: serving.only_labelled,
            worker_lease: serving.worker_lease,
            limit: QueueLimit::of(serving.max_queue),
            executors: context::executors(files.before, false)?,
            observer: Arc::new(move |notice| {
                onlooker.notice(notice);
                if matches!(notice, Notice::Committed { .. }) {
                    carriers.touch();
                }
                #[cfg(feature = "otel")]
                if let Some(tracer) = &tracer {
                    tracer.notice(notice);
                }
                tell(notice);
            }),
            lines: None,
            secrets: secrets.clone(),
            duties: vec![sinks, Arc::new(Listening::new(embedded.service(), secrets.clone()))],
        })?;
        let mut signals = signals();
        #[cfg(feature = "otel")]
        let metrics = otlp_metrics::Sender::start(watched.gather(running.service.clone()))?;
        let (service, teller) = (running.service.clone(), actor.clone());
        tokio::task::spawn_blocking(move || {
            if let Err(error) = service.signal_reboot(&teller) {
                tracing::warn!(%error, "schedules with @reboot were not told");
            }
        });
        let local = embedded.local_with(running.service.clone(), actor.clone());
        let limits = Limits {
            connections: files.connections(),
            client_time: serving.client_time.as_duration(),
            ..Limits::default()
        };
        let http = listener.zip(access).map(|(l, access)| {
            let workers = running.workers.clone();
            let offer = listen::Offer { secrets, workers, mcp_changes: serving.mcp_changes, limits };
            listen::start(l, access, local.clone(), &watched, offer)
        });
        if !global.output.is_machine() {
            let address = http.as_ref().map_or_else(String::new, |h| format!(" at http://{}", h.address));
            eprintln!("serving {}{address}; Ctrl-C or SIGTERM ends it", embedded.place());
        }
        watched.readiness.started();
        listen::tell_system(&[sd_notify::NotifyState::Ready]);
        let keeper = tokio::spawn(keep(local, retention));
        let watch =
            live_files::watch(sources, serving.poll.as_duration(), running.service.clone(), actor.clone())
                .map_err(|e| CliError::new(STORE, "process", format!("files cannot be watched: {e}")))?;
        let file_triggers = FileTriggers::start(running.service.clone(), embedded.changes())
            .map_err(|e| CliError::new(STORE, "process", format!("files cannot be watched: {e}")))?;
        let handle = running.handle.clone();
        let ended = tokio::select! {
            ended = running.wait() => ended,
            () = signals.next() => {
                eprintln!("ending: waiting for what runs, {drain} at most; once more to end it at once");
                watched.readiness.stopping("it is ending: what runs may end, nothing new is begun");
                listen::tell_system(&[sd_notify::NotifyState::Stopping]);
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
        watch.stop();
        drop(file_triggers);
        watched.readiness.stopping("the node has stopped");
        if let Some(http) = http {
            http.stop().await;
        }
        keeper.abort();
        #[cfg(feature = "otel")]
        if let Some(metrics) = metrics {
            metrics.stop().await;
        }
        Ok::<_, CliError>(ended)
    })?;
    #[cfg(feature = "otel")]
    if let Some(telemetry) = telemetry {
        telemetry.stop();
    }
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
        Notice::Committed { .. }
        | Notice::Executed { .. }
        | Notice::Lost { .. }
        | Notice::Stored { .. }
        | Notice::Turned { .. } => {}
        Notice::LeaseLost => tracing::error!("the lease is lost: what this node held is others' now"),
        Notice::Stale { id } => tracing::warn!(machine = id.0, "a commit came too late and was refused"),
        Notice::StoreTrouble(error) => tracing::warn!(%error, "the store refused; trying again"),
    }
}

/// Takes old history away in bounded batches, with the logs of what it takes.
async fn keep(local: Local, policy: RetentionPolicy) {
    let mut interval = tokio::time::interval(RETENTION_EVERY);
    loop {
        interval.tick().await;
        loop {
            let local = local.clone();
            match tokio::task::spawn_blocking(move || local.prune(&policy)).await {
                Ok(Ok(report)) if report.more => tokio::time::sleep(Duration::from_millis(50)).await,
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

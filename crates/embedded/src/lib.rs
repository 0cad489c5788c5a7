//! An engine inside one process, on the embedded store or on PostgreSQL.
//!
//! Many processes may use one store file. At most one of them, a `serve`, is its *owner*: it claims shared work and
//! listens on a local socket. The others are *guests*: they send their commands through the owner, or write to the
//! file themselves when there is none, and run only what they started (decision 4). On PostgreSQL nobody is special:
//! every `serve` claims shared work.
//!
//! ```
//! use std::sync::Arc;
//! use ostler_api::PageRequest;
//! use ostler_clock::SystemClock;
//! use ostler_embedded::{Embedded, Place};
//! use ostler_service::Actor;
//!
//! let embedded = Embedded::open(Place::Memory, Arc::new(SystemClock)).unwrap();
//! let service = embedded.service();
//! assert!(service.namespaces(&Actor::local("me"), &PageRequest::first(10)).unwrap().complete);
//! ```

pub mod copy;
mod duties;
mod lines;
mod link;
mod local;
mod place;
mod secrets;
mod sinks;
mod store;
mod watch;
mod worker_logs;

use std::{path::PathBuf, sync::Arc, thread::JoinHandle};

pub use crate::{
    duties::{Backoff, Doing, Duties, Held, Step, Unwritten, Work},
    local::Local,
    place::{Place, cache_dir, config_dir, data_dir},
    secrets::{LocalSecrets, SecretsError},
    sinks::{LineObserver, RunSinks},
    worker_logs::WorkerLogs,
};
use ostler_clock::{Clock, SeededEntropy};
use ostler_engine::{
    Config, Node, NodeConfig, NodeHandle, Notice, Poll, Shutdown, Ticker, machines, time::micros,
};
use ostler_execution::{Executors, Secrets};
use ostler_executors::RunLogs;
use ostler_model::Span;
use ostler_service::{Actor, QueueLimit, Readers, Service, TaskCache, Workers};
use ostler_store::{Command, NewNode, NodeId, Queries, Reply, Store, StoreError, Writer};
use ostler_store_postgres::Wakes;
pub use ostler_store_sqlite::Changes;
use ostler_store_sqlite::{NodeLock, OwnerLock};
use tokio::sync::oneshot;

use crate::store::{Beside, Opened, Pace, Reader, StoreClock};

/// After how long without a sign of life others may take what a node holds.
pub const LEASE: Span = Span::from_secs(30);

/// The same on a store that is shared between hosts, where nothing else than silence tells of a death. Long enough for
/// a database that starts again, short enough that work is taken over within ten seconds.
pub const SHARED_LEASE: Span = Span::from_secs(7);

/// Reading sides of an owner: requests that come together do not wait for one another's looks.
const READERS: usize = 8;

/// Why a store cannot be used as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The store's own.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another process owns it.
    #[error(
        "store {place} is locked: {owner} serves it; stop that, or let it do the work (`ostler push`, `ostler run --detach`)"
    )]
    Owned {
        /// The store.
        place: String,
        /// Who.
        owner: String,
    },
    /// Something of the process.
    #[error("{what}: {error}")]
    Process {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        error: std::io::Error,
    },
    /// The file of secrets.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
}

/// What a node is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The owner: claims shared work and listens to guests.
    Owner,
    /// A guest: runs what it started.
    Guest,
}

/// What a node is started with.
pub struct NodeOptions {
    /// What it is to be.
    pub role: Role,
    /// How many executions at a time.
    pub slots: u32,
    /// What it has: it takes what asks for no other label.
    pub labels: Vec<String>,
    /// It carries out only what asks for one of them.
    pub only_labelled: bool,
    /// After how long without a sign of life others may take what a worker holds.
    pub worker_lease: Span,
    /// How much may stand in the queue.
    pub limit: QueueLimit,
    /// Do the work.
    pub executors: Executors,
    /// Is told what happens.
    pub observer: Arc<dyn Fn(&Notice) + Send + Sync>,
    /// Is told each line of output.
    pub lines: Option<Arc<dyn LineObserver>>,
    /// Give the values of secrets.
    pub secrets: Arc<dyn Secrets>,
    /// Know what there is to do for duties; an owner does those that no other node does.
    pub duties: Vec<Arc<dyn Duties>>,
}

/// An open store.
pub struct Embedded {
    place: Place,
    clock: Arc<dyn Clock>,
    writer: Writer,
    reader: Reader,
    wakes: Option<Wakes>,
    shared_clock: Option<Arc<StoreClock>>,
    owner: Option<OwnerLock>,
    logs: Arc<RunLogs>,
    _thread: JoinHandle<()>,
}

impl Embedded {
    /// Opens a store for looking and writing, as a guest of its owner if it has one.
    ///
    /// # Errors
    /// The store cannot be opened.
    pub fn open(place: Place, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let store = Opened::open(&place)?;
        let socket = OwnerLock::owner_of(place.beside("").as_deref()).and_then(|_| socket_path(&place));
        let beside = Beside { reader: store.guest_reader(), wakes: store.wakes(), logs: store.logs(&place) };
        let writing: Box<dyn Store> = match (store, socket) {
            (Opened::Sqlite(store), Some(socket)) => Box::new(link::GuestStore::new(*store, Some(&socket))),
            (store, _) => store.writing(),
        };
        Self::assemble(place, clock, writing, beside, None)
    }

    /// Opens a store as its owner.
    ///
    /// # Errors
    /// Another process owns it, or it cannot be opened.
    pub fn own(place: Place, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        // Opened first: the lock file's folder may have to be made.
        let store = Opened::open(&place)?;
        let owner = match place.beside("") {
            None => None,
            Some(path) => match OwnerLock::try_acquire(&path)? {
                Some(lock) => Some(lock),
                None => {
                    let owner = OwnerLock::owner_of(Some(&path)).unwrap_or_else(|| "another process".into());
                    return Err(OpenError::Owned { place: place.to_string(), owner });
                }
            },
        };
        let beside = Beside { reader: store.reader(), wakes: store.wakes(), logs: store.logs(&place) };
        Self::assemble(place, clock, store.writing(), beside, owner)
    }

    fn assemble(
        place: Place,
        clock: Arc<dyn Clock>,
        store: Box<dyn Store>,
        beside: Beside,
        owner: Option<OwnerLock>,
    ) -> Result<Self, OpenError> {
        let Beside { reader, wakes, logs } = beside;
        let shared_clock =
            matches!(place, Place::Postgres(_)).then(|| Arc::new(StoreClock::new(clock.clone())));
        let clock: Arc<dyn Clock> = match &shared_clock {
            Some(shared) => {
                shared.set(&reader)?;
                shared.clone()
            }
            None => clock,
        };
        let for_writer = clock.clone();
        let (writer, thread) = Writer::start(store, Arc::new(move || micros(for_writer.now())))
            .map_err(|error| OpenError::Process { what: "starting the store's writer", error })?;
        let logs = Arc::new(logs(clock.clone()));
        Ok(Self { place, clock, writer, reader, wakes, shared_clock, owner, logs, _thread: thread })
    }

    /// Where it is.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Tells, at next to no cost, whether anybody may have written to it.
    #[must_use]
    pub fn changes(&self) -> Changes {
        Changes::of(self.place.beside("").as_deref())
    }

    /// The logs of its runs.
    #[must_use]
    pub fn logs(&self) -> &Arc<RunLogs> {
        &self.logs
    }

    /// Its writing side.
    #[must_use]
    pub fn writer(&self) -> &Writer {
        &self.writer
    }

    /// A reading side.
    #[must_use]
    pub fn queries(&self) -> Box<dyn Queries> {
        self.reader.queries()
    }

    /// The use cases, without a node.
    #[must_use]
    pub fn service(&self) -> Service {
        let tasks = Arc::new(TaskCache::new(self.queries()));
        Service::new(self.writer.clone(), Readers::one(self.queries()), self.clock.clone(), tasks, None)
    }

    /// Everything a face can ask for, as one actor, without a node.
    #[must_use]
    pub fn local(&self, actor: Actor) -> Local {
        self.local_with(self.service(), actor)
    }

    /// Everything a face can ask for, as one actor, of the use cases of a node at work.
    #[must_use]
    pub fn local_with(&self, service: Service, actor: Actor) -> Local {
        Local::new(service, self.logs.clone(), actor, self.place.clone())
    }

    /// Starts a node in the current tokio runtime.
    ///
    /// # Errors
    /// The store's, or the process has no more files.
    pub fn start_node(&self, options: NodeOptions) -> Result<Running, OpenError> {
        let process = std::process::id();
        let name = format!("{} pid {process}", host_name());
        let owner = options.role == Role::Owner;
        let new = NewNode {
            name,
            owner,
            labels: options.labels.clone(),
            only_labelled: options.only_labelled,
            slots: options.slots,
            worker: None,
        };
        let node = match self.writer.call(Command::Register(new))? {
            Reply::Node(node) => node,
            _ => return Err(StoreError::Refused("the store gave no node".into()).into()),
        };
        let lock = self.place.beside("").map(|path| NodeLock::acquire(&path, node)).transpose()?;
        let tasks = Arc::new(TaskCache::new(self.queries()));
        let presets = tasks.clone();
        let executors = options.executors.clone();
        let queries = self.queries();
        let pace = Pace::of(&self.place, self.wakes.as_ref());
        let ticker = Arc::new(Ticker::new(
            &machines::all(Arc::new(move |ns, name| presets.preset(ns, name))),
            queries.salt(),
            tasks.clone(),
            Arc::new(SeededEntropy::from_os()),
            Arc::new(move |uses| executors.get(uses).is_some_and(|e| e.reruns_lost())),
        ));
        let core = Config {
            node,
            shared: owner,
            slots: options.slots,
            labels: options.labels,
            only_labelled: options.only_labelled,
            ticker: ticker.clone(),
        };
        let (secrets, observer) = (options.secrets.clone(), options.observer.clone());
        let config = NodeConfig {
            clock: self.clock.clone(),
            writer: self.writer.clone(),
            queries,
            executors: options.executors,
            sinks: Arc::new(RunSinks::new(self.logs.clone(), options.lines)),
            secrets: options.secrets,
            lease: pace.lease,
            poll: pace.poll.map(|every| {
                let mut changes = self.changes();
                Poll { every, may_be: Box::new(move || changes.may_be()) }
            }),
            observer: options.observer,
        };
        let (node_loop, handle) = Node::new(core, config);
        let readers = match options.role {
            Role::Owner => Readers::several((0..READERS).map(|_| self.queries())),
            Role::Guest => Readers::one(self.queries()),
        };
        let service =
            Service::new(self.writer.clone(), readers, self.clock.clone(), tasks, Some(handle.clone()))
                .with_limit(options.limit);
        let workers = Workers::new(service.clone(), ticker, secrets, observer, options.worker_lease);
        let listener = match (owner, socket_path(&self.place)) {
            (true, Some(path)) => Some(
                link::Listener::start(&path, self.writer.clone(), handle.clone())
                    .map_err(|error| OpenError::Process { what: "listening for guests", error })?,
            ),
            _ => None,
        };
        let watch = watch::Watch::new(
            self.place.clone(),
            self.writer.clone(),
            self.queries(),
            node,
            self.clock.clone(),
            watch::Leases { nodes: pace, workers: options.worker_lease },
            self.shared_clock.clone().map(|clock| (clock, self.reader.clone())),
        );
        let told = handle.clone();
        let heard = self.wakes.as_ref().map(|wakes| {
            wakes.listen(move || {
                told.wake();
                told.check_mail();
            })
        });
        let watching = tokio::spawn(watch.run(handle.clone(), options.role));
        let (end_duties, duties_end) = oneshot::channel();
        let keeping = (owner && !options.duties.is_empty()).then(|| {
            let (handle, writer, queries) = (handle.clone(), self.writer.clone(), self.queries());
            let keeper = duties::Keeper::new(
                handle,
                writer,
                queries,
                self.changes(),
                self.clock.clone(),
                options.duties,
            );
            tokio::spawn(keeper.run(duties_end))
        });
        let writer = self.writer.clone();
        let task = tokio::spawn(async move {
            let ended = node_loop.run().await;
            watching.abort();
            let _ = end_duties.send(());
            if let Some(keeping) = keeping {
                let _ = keeping.await;
            }
            // What is still held after a lost lease belongs to others; closing gives the rest back.
            let _ = tokio::task::spawn_blocking(move || writer.call(Command::Close { node })).await;
            drop((lock, listener, heard));
            ended
        });
        Ok(Running { service, workers, handle, task, id: node })
    }

    /// True when this process owns the store.
    #[must_use]
    pub fn is_owner(&self) -> bool {
        self.owner.is_some() || !matches!(self.place, Place::File(_))
    }

    /// Who owns the store, if another process does.
    #[must_use]
    pub fn owner(&self) -> Option<String> {
        OwnerLock::owner_of(self.place.beside("").as_deref())
    }
}

/// A node at work.
pub struct Running {
    /// The use cases, with this node at hand.
    pub service: Service,
    /// What workers ask for.
    pub workers: Workers,
    /// The node.
    pub handle: NodeHandle,
    /// Its id.
    pub id: NodeId,
    task: tokio::task::JoinHandle<Shutdown>,
}

impl Running {
    /// Waits until the node has stopped.
    pub async fn stopped(self) -> Shutdown {
        self.task.await.unwrap_or(Shutdown::LeaseLost)
    }

    /// Waits until the node has stopped, without giving up on it.
    pub async fn wait(&mut self) -> Shutdown {
        (&mut self.task).await.unwrap_or(Shutdown::LeaseLost)
    }
}

/// The owner's socket: beside the store, or, where that is too long for a socket, in the temporary folder under a
/// name made from it.
fn socket_path(place: &Place) -> Option<PathBuf> {
    /// `sun_path` holds 108 bytes on Linux and 104 elsewhere, the final zero included.
    const LONGEST: usize = 100;
    let path = std::path::absolute(place.beside(".sock")?).ok()?;
    if path.as_os_str().len() <= LONGEST {
        return Some(path);
    }
    let digest =
        ostler_model::digest::digest(&serde_json::Value::String(path.to_string_lossy().into_owned()));
    Some(std::env::temp_dir().join(format!("ostler-{}-{digest}.sock", user_id())))
}

/// The name of this host.
#[must_use]
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The id of the user of this process.
#[must_use]
pub fn user_id() -> u32 {
    rustix::process::getuid().as_raw()
}

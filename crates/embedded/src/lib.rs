//! An engine on the embedded store inside one process.
//!
//! Many processes may use one store file. At most one of them, a `serve`, is its *owner*: it claims shared work and
//! listens on a local socket. The others are *guests*: they send their commands through the owner, or write to the
//! file themselves when there is none, and run only what they started (decision 4).
//!
//! ```
//! use std::sync::Arc;
//! use ostler_clock::SystemClock;
//! use ostler_embedded::{Embedded, Place};
//! use ostler_service::Actor;
//!
//! let embedded = Embedded::open(Place::Memory, Arc::new(SystemClock)).unwrap();
//! let service = embedded.service();
//! assert!(service.namespaces(&Actor::local("me"), None, 10).unwrap().complete);
//! ```

mod lines;
mod link;
mod local;
mod place;
mod secrets;
mod sinks;
mod watch;
mod worker_logs;

use std::{path::PathBuf, sync::Arc, thread::JoinHandle};

pub use crate::{
    local::Local,
    place::{Place, cache_dir, config_dir, data_dir},
    secrets::{LocalSecrets, SecretsError},
    sinks::{LineObserver, RunSinks},
    worker_logs::WorkerLogs,
};
use ostler_clock::{Clock, SeededEntropy};
use ostler_engine::{Config, Node, NodeConfig, NodeHandle, Notice, Shutdown, Ticker, machines, time::micros};
use ostler_execution::{Executors, Secrets};
use ostler_executors::RunLogs;
use ostler_model::Span;
use ostler_service::{Actor, QueueLimit, Readers, Service, TaskCache, Workers};
use ostler_store::{Command, NewNode, NodeId, Queries, Reply, Store, StoreError, Writer};
use ostler_store_sqlite::{NodeLock, OpenOptions, OwnerLock, ReaderFactory, SqliteStore};

/// After how long without a sign of life others may take what a node holds.
pub const LEASE: Span = Span::from_secs(30);

/// How often the owner looks whether a process that does not use its socket has written.
const POLL: Span = Span::from_millis(50);

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
}

/// An open store.
pub struct Embedded {
    place: Place,
    clock: Arc<dyn Clock>,
    writer: Writer,
    reader: ReaderFactory,
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
        let store = open_store(&place)?;
        let socket = OwnerLock::owner_of(place.beside("").as_deref()).and_then(|_| socket_path(&place));
        let reader = store.reader();
        let writing: Box<dyn Store> = match socket {
            Some(socket) => Box::new(link::GuestStore::new(store, Some(&socket))),
            None => Box::new(store),
        };
        Self::assemble(place, clock, writing, reader, None)
    }

    /// Opens a store as its owner.
    ///
    /// # Errors
    /// Another process owns it, or it cannot be opened.
    pub fn own(place: Place, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        // Opened first: the lock file's folder may have to be made.
        let store = open_store(&place)?;
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
        let reader = store.reader();
        Self::assemble(place, clock, Box::new(store), reader, owner)
    }

    fn assemble(
        place: Place,
        clock: Arc<dyn Clock>,
        store: Box<dyn Store>,
        reader: ReaderFactory,
        owner: Option<OwnerLock>,
    ) -> Result<Self, OpenError> {
        let for_writer = clock.clone();
        let (writer, thread) = Writer::start(store, Arc::new(move || micros(for_writer.now())))
            .map_err(|error| OpenError::Process { what: "starting the store's writer", error })?;
        let logs = Arc::new(RunLogs::new(place.logs(), clock.clone()));
        Ok(Self { place, clock, writer, reader, owner, logs, _thread: thread })
    }

    /// Where it is.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
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
        let new = NewNode { name, owner, labels: options.labels.clone(), slots: options.slots, worker: None };
        let node = match self.writer.call(Command::Register(new))? {
            Reply::Node(node) => node,
            _ => return Err(StoreError::Refused("the store gave no node".into()).into()),
        };
        let lock = self.place.beside("").map(|path| NodeLock::acquire(&path, node)).transpose()?;
        let tasks = Arc::new(TaskCache::new(self.queries()));
        let presets = tasks.clone();
        let executors = options.executors.clone();
        let queries = self.queries();
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
            lease: LEASE,
            poll: matches!(self.place, Place::File(_)).then_some(POLL),
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
            options.worker_lease,
        );
        let watching = tokio::spawn(watch.run(handle.clone()));
        let writer = self.writer.clone();
        let task = tokio::spawn(async move {
            let ended = node_loop.run().await;
            watching.abort();
            // What is still held after a lost lease belongs to others; closing gives the rest back.
            let _ = tokio::task::spawn_blocking(move || writer.call(Command::Close { node })).await;
            drop((lock, listener));
            ended
        });
        Ok(Running { service, workers, handle, task, id: node })
    }

    /// True when this process owns the store.
    #[must_use]
    pub fn is_owner(&self) -> bool {
        self.owner.is_some() || self.place == Place::Memory
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

fn open_store(place: &Place) -> Result<SqliteStore, StoreError> {
    match place {
        Place::Memory => SqliteStore::open_memory(&OpenOptions::default()),
        Place::File(path) => SqliteStore::open(path, &OpenOptions::default()),
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

//! The use cases that every face calls: authorise, validate, change, tell.
//!
//! A face (command line, HTTP, console, MCP) makes an [`Actor`] and calls [`Service`]; nothing above this crate talks
//! to the engine or a store. Answers are views: plain data with public ids and RFC 3339 moments, the same in every
//! face.
//!
//! ```
//! use ostler_service::Actor;
//! assert_eq!(Actor::local("alice").to_string(), "cli:alice");
//! ```

mod actor;
mod bulk;
mod definitions;
mod depth;
mod error;
mod events;
mod lists;
mod readers;
mod retention;
mod runs;
mod schedules;
mod signals;
mod sinks;
mod system;
mod tokens;
mod triggers;
mod views;
mod why;
mod workers;

use std::sync::{Arc, Mutex, PoisonError};

pub use actor::{Actor, Verb};
pub use depth::QueueLimit;
pub use error::ServiceError;
use jiff::Timestamp;
use ostler_clock::Clock;
use ostler_engine::{NodeHandle, Task, time::micros};
use ostler_model::{MachineId, Uid, definition::PresetDef};
use ostler_store::{Command, Queries, Reply, StoreError, Writer};
pub use readers::Readers;
pub use schedules::{explain_trigger, preview};
pub use sinks::SinkMark;
pub use triggers::{Listened, MAX_EVENT, Watched};
pub use workers::Workers;

/// The use cases over one store.
#[derive(Clone)]
pub struct Service {
    writer: Writer,
    readers: Readers,
    clock: Arc<dyn Clock>,
    tasks: Arc<TaskCache>,
    node: Option<NodeHandle>,
    salt: u64,
    limit: QueueLimit,
}

impl Service {
    /// The use cases over a store, and the node of this process if it has one.
    #[must_use]
    pub fn new(
        writer: Writer,
        readers: Readers,
        clock: Arc<dyn Clock>,
        tasks: Arc<TaskCache>,
        node: Option<NodeHandle>,
    ) -> Self {
        let salt = readers.read(|q| q.salt());
        Self { writer, readers, clock, tasks, node, salt, limit: QueueLimit::none() }
    }

    /// With a limit to what may stand in the queue.
    #[must_use]
    pub fn with_limit(mut self, limit: QueueLimit) -> Self {
        self.limit = limit;
        self
    }

    /// What time it is for this service.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The public id of a machine.
    #[must_use]
    pub fn uid(&self, id: MachineId) -> Uid {
        Uid::of(id, self.salt)
    }

    /// The machine of a public id.
    ///
    /// # Errors
    /// The id is of another store.
    pub fn machine_of(&self, uid: Uid) -> Result<MachineId, ServiceError> {
        let id = uid.machine();
        if self.uid(id) == uid {
            return Ok(id);
        }
        Err(ServiceError::NotFound(format!("there is no run {uid} in this store")))
    }

    fn read<T>(&self, look: impl FnOnce(&dyn Queries) -> Result<T, StoreError>) -> Result<T, ServiceError> {
        Ok(self.readers.read(look)?)
    }

    fn write(&self, command: Command) -> Result<Reply, ServiceError> {
        Ok(self.writer.call(command)?)
    }

    fn wake(&self) {
        if let Some(node) = &self.node {
            node.wake();
        }
    }

    fn view_time(at: Option<i64>) -> Option<Timestamp> {
        at.filter(|at| *at != ostler_store::NEVER).map(ostler_engine::time::timestamp)
    }

    fn now_micros(&self) -> i64 {
        micros(self.now())
    }
}

/// Pinned versions of tasks, kept while they are used; shared by the loop and the use cases.
pub struct TaskCache {
    queries: Mutex<Box<dyn Queries>>,
    known: Mutex<std::collections::HashMap<i64, Arc<Task>>>,
}

/// How many versions are kept; more than a busy node runs at a time.
const CACHED_TASKS: usize = 4096;

impl TaskCache {
    /// A cache over a reading side of its own.
    #[must_use]
    pub fn new(queries: Box<dyn Queries>) -> Self {
        Self { queries: Mutex::new(queries), known: Mutex::default() }
    }

    /// A preset's definition.
    #[must_use]
    pub fn preset(&self, namespace: &str, name: &str) -> Option<PresetDef> {
        let queries = self.queries.lock().unwrap_or_else(PoisonError::into_inner);
        let row = queries.preset(namespace, name).ok()??;
        serde_json::from_str(&row.body).ok()
    }
}

impl ostler_engine::Tasks for TaskCache {
    fn task(&self, definition: i64) -> Option<Arc<Task>> {
        if let Some(task) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&definition) {
            return Some(task.clone());
        }
        let found = self.queries.lock().unwrap_or_else(PoisonError::into_inner).definition(definition);
        let (row, namespace, _, body) = found.ok()??;
        let def = serde_json::from_str(&body).ok()?;
        let task = Arc::new(Task::new(row, definition, &namespace, def));
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= CACHED_TASKS {
            known.clear();
        }
        known.insert(definition, task.clone());
        Some(task)
    }
}

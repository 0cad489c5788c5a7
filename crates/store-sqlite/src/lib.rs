//! The embedded store on SQLite: one file in WAL mode, one writer, readers that never wait for it.
//!
//! ```
//! use ostler_store::{Command, Reply, Store};
//! use ostler_store_sqlite::{OpenOptions, SqliteStore};
//! let mut store = SqliteStore::open_memory(&OpenOptions::default()).unwrap();
//! let replies = store.apply(0, &[Command::Register { name: "me".into(), owner: true }]);
//! assert!(matches!(replies[0], Ok(Reply::Node(_))));
//! ```

pub mod admin;
mod claim;
mod commit;
mod error;
mod hold;
mod letters;
mod names;
mod nodes;
mod open;
mod owner;
mod prune;
mod push;
mod read;
mod start;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

pub use open::{Durability, OpenOptions};
pub use owner::{NodeLock, OwnerLock, is_node_alive};
use ostler_store::{Command, Micros, Queries, Reply, Store, StoreError};
use rusqlite::Connection;

use crate::{error::told, names::Names, read::Reader};

/// A store in one SQLite file, or in memory.
pub struct SqliteStore {
    connection: Arc<Mutex<Connection>>,
    names: Names,
    reader: ReaderFactory,
    options: OpenOptions,
}

/// Makes reading sides.
#[derive(Clone)]
pub struct ReaderFactory {
    place: ReadFrom,
    salt: u64,
}

#[derive(Clone)]
enum ReadFrom {
    /// A connection of its own.
    File(PathBuf),
    /// The writer's connection: a database in memory has no other.
    Shared(Arc<Mutex<Connection>>),
}

impl ReaderFactory {
    /// A reading side.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn queries(&self) -> Result<Box<dyn Queries>, StoreError> {
        let connection = match &self.place {
            ReadFrom::File(path) => Arc::new(Mutex::new(open::reading(path)?)),
            ReadFrom::Shared(connection) => connection.clone(),
        };
        Ok(Box::new(Reader { connection, salt: self.salt }))
    }
}

impl SqliteStore {
    /// Something that makes reading sides without the store.
    #[must_use]
    pub fn reader(&self) -> ReaderFactory {
        self.reader.clone()
    }
}

/// What the subjects work with inside one transaction.
struct Tx<'a> {
    sql: &'a Connection,
    now: Micros,
    names: &'a mut Names,
}

impl Store for SqliteStore {
    fn apply(&mut self, now: Micros, batch: &[Command]) -> Vec<Result<Reply, StoreError>> {
        let connection = self.connection.clone();
        let connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
        // A sign of life is worth no flush: when it is lost with the power, so is the process.
        let idle = batch.iter().all(|c| matches!(c, Command::Renew { .. }));
        let relaxed = idle && self.options.durability == Durability::Full;
        if relaxed {
            let _ = connection.execute_batch("PRAGMA synchronous=NORMAL");
        }
        let replies = self.transaction(&connection, now, batch);
        if relaxed {
            let _ = connection.execute_batch("PRAGMA synchronous=FULL");
        }
        replies
    }

    fn next_due(&mut self) -> Result<Option<Micros>, StoreError> {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        claim::next_due(&connection).map_err(told)
    }

    fn data_version(&mut self) -> Result<i64, StoreError> {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        connection.pragma_query_value(None, "data_version", |row| row.get(0)).map_err(told)
    }

    fn queries(&self) -> Result<Box<dyn Queries>, StoreError> {
        self.reader.queries()
    }
}

impl SqliteStore {
    fn transaction(
        &mut self,
        connection: &Connection,
        now: Micros,
        batch: &[Command],
    ) -> Vec<Result<Reply, StoreError>> {
        let all = |error: &StoreError| batch.iter().map(|_| Err(error.clone())).collect();
        if let Err(error) = open::begin(connection, self.options.patience) {
            return all(&error);
        }
        self.names.begin(connection);
        let mut tx = Tx { sql: connection, now, names: &mut self.names };
        let mut replies = Vec::with_capacity(batch.len());
        for command in batch {
            let reply = if batch.len() == 1 { tx.command(command) } else { tx.in_savepoint(command) };
            let broken = matches!(&reply, Err(e) if !matches!(e, StoreError::Refused(_)));
            replies.push(reply);
            if broken || connection.is_autocommit() {
                break;
            }
        }
        // A failure of the file, not of a command, takes the whole transaction with it.
        let failure = replies.iter().find_map(|r| r.as_ref().err().filter(|e| !matches!(e, StoreError::Refused(_))));
        let refused_alone = batch.len() == 1 && replies.first().is_some_and(Result::is_err);
        let ended = match failure {
            Some(error) => Err(error.clone()),
            None if refused_alone => {
                self.names.forget();
                let _ = connection.execute_batch("ROLLBACK");
                return replies;
            }
            None => connection.execute_batch("COMMIT").map_err(told),
        };
        if let Err(error) = ended {
            if !connection.is_autocommit() {
                let _ = connection.execute_batch("ROLLBACK");
            }
            self.names.forget();
            return all(&error);
        }
        replies
    }
}

impl Tx<'_> {
    fn in_savepoint(&mut self, command: &Command) -> Result<Reply, StoreError> {
        self.run("SAVEPOINT command")?;
        let reply = self.command(command);
        if reply.is_err() {
            self.names.forget();
            self.run("ROLLBACK TO command")?;
        }
        self.run("RELEASE command")?;
        reply
    }

    fn run(&self, sql: &str) -> Result<(), StoreError> {
        self.sql.prepare_cached(sql).and_then(|mut s| s.execute([])).map_err(told)?;
        Ok(())
    }

    fn command(&mut self, command: &Command) -> Result<Reply, StoreError> {
        match command {
            Command::Start(machines) => {
                let outcomes = machines.iter().map(|m| self.start(m, None).map(|(o, _)| o));
                Ok(Reply::Started(outcomes.collect::<Result<_, _>>()?))
            }
            Command::StartClaimed { machine, node } => {
                let (outcome, claimed) = self.start(machine, Some(*node))?;
                Ok(Reply::StartedClaimed(outcome, claimed.map(Box::new)))
            }
            Command::Claim(claim) => self.claim(claim).map(Reply::Claimed),
            Command::Commit(commits) => {
                let outcomes = commits.iter().map(|c| self.commit(c));
                Ok(Reply::Committed(outcomes.collect::<Result<_, _>>()?))
            }
            Command::Send(letters) => {
                let alive = letters.iter().map(|(machine, letter)| self.send(*machine, letter));
                Ok(Reply::Sent(alive.collect::<Result<_, _>>()?))
            }
            Command::Register { name, owner } => self.register(name, *owner).map(Reply::Node),
            Command::Renew { node } => self.renew(*node).map(|()| Reply::Done),
            Command::Close { node } | Command::Rescue { node } => self.rescue(*node).map(Reply::Rescued),
            Command::Release { node, machines } => self.release(*node, machines).map(|()| Reply::Done),
            Command::Push(push) => self.push(push).map(|p| Reply::Pushed(Box::new(p))),
            Command::Hold { what, on } => self.hold(what, *on).map(Reply::Held),
            Command::Prune(prune) => self.prune(prune).map(Reply::Pruned),
        }
    }
}

//! The embedded store on SQLite: one file in WAL mode, one writer, readers that never wait for it.
//!
//! Each file holds the SQL and the rows of one subject: `start`, `claim`, `limits`, `commit`, `letters`, `hold`, `push`,
//! `nodes`, `prune`, and under `read` the lists, definitions and history.
//!
//! ```
//! use ostler_store::{Command, NewNode, Reply, Store};
//! use ostler_store_sqlite::{OpenOptions, SqliteStore};
//! let mut store = SqliteStore::open_memory(&OpenOptions::default()).unwrap();
//! let me = NewNode { name: "me".into(), owner: true, ..NewNode::default() };
//! let replies = store.apply(0, &[Command::Register(me)]);
//! assert!(matches!(replies[0], Ok(Reply::Node(_))));
//! ```
//!
//! # Promises and where they are kept
//! - A machine that lives has exactly one row in `tick`, one that has ended has none ([`admin::check`]).
//! - A commit counts only from the claim that it ends: machine, step, node and fence are compared (`commit.rs`).
//! - A run that does nothing costs 7 row writes and 3 entries of secondary indexes (`budget.rs` counts them).
//! - What was answered `Ok` is flushed, once for each batch; the beginning, the signs of life and the end of a node are
//!   not worth a flush.

pub mod admin;
mod changes;
mod claim;
mod commit;
mod error;
mod hold;
mod letters;
mod limits;
mod names;
mod nodes;
mod open;
mod owner;
mod prune;
mod push;
mod read;
mod start;
mod tables;
mod tokens;
mod tx;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

pub use changes::Changes;
pub use open::{Durability, OpenOptions};
use ostler_store::{Command, Micros, Queries, Reply, Store, StoreError};
pub use owner::{NodeLock, OwnerLock, is_node_alive};
use rusqlite::Connection;
pub use tables::SqliteTables;

use crate::{claim::Turns, error::told, names::Names, read::Reader, tx::Tx};

/// A store in one SQLite file, or in memory.
pub struct SqliteStore {
    connection: Arc<Mutex<Connection>>,
    names: Names,
    turns: Turns,
    reader: ReaderFactory,
    options: OpenOptions,
    flushes: u64,
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
    /// A connection that is opened by the first of those who share it.
    One(PathBuf, Arc<Mutex<Option<Connection>>>),
    /// The writer's connection: a database in memory has no other.
    Shared(Arc<Mutex<Connection>>),
}

impl ReaderFactory {
    /// A reading side. That its file cannot be opened is told by the first question.
    #[must_use]
    pub fn queries(&self) -> Box<dyn Queries> {
        Box::new(Reader::new(&self.place, self.salt))
    }

    /// The same for a process that asks little: its reading sides take turns on one connection, since each connection
    /// reads the whole schema first.
    #[must_use]
    pub fn on_one_connection(self) -> Self {
        let place = match self.place {
            ReadFrom::File(path) => ReadFrom::One(path, Arc::default()),
            shared => shared,
        };
        Self { place, ..self }
    }
}

impl SqliteStore {
    /// Something that makes reading sides without the store.
    #[must_use]
    pub fn reader(&self) -> ReaderFactory {
        self.reader.clone()
    }

    /// How many transactions waited for a flush since it was opened.
    #[must_use]
    pub fn flushes(&self) -> u64 {
        self.flushes
    }
}

/// How the commands of a batch are kept apart.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Apart {
    /// Not at all: most commands either do everything or refuse before their first write.
    No,
    /// With a savepoint for each (a fifth of the speed): the batch is done again so when one fails half-way.
    BySavepoint,
}

/// Why a batch has to be rolled back.
enum Failed {
    /// The file, not a command: every answer is this error.
    All(StoreError),
    /// One command, half-way.
    One,
}

impl Store for SqliteStore {
    fn apply(&mut self, now: Micros, batch: &[Command]) -> Vec<Result<Reply, StoreError>> {
        let connection = self.connection.clone();
        let connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
        let flush = self.options.durability == Durability::Full;
        let relaxed = flush && batch.iter().all(is_sign_of_life);
        if relaxed {
            let _ = connection.execute_batch("PRAGMA synchronous=NORMAL");
        }
        let before = connection.total_changes();
        let mut ended = self.transaction(&connection, now, batch, Apart::No);
        if matches!(ended, Err(Failed::One)) {
            ended = self.transaction(&connection, now, batch, Apart::BySavepoint);
        }
        if relaxed {
            let _ = connection.execute_batch("PRAGMA synchronous=FULL");
        } else if flush && connection.total_changes() != before {
            self.flushes += 1;
        }
        let replies = match ended {
            Ok(replies) => replies,
            Err(Failed::All(error)) => vec![Err(error); batch.len()],
            Err(Failed::One) => {
                vec![Err(StoreError::Unavailable("a savepoint did not hold".into())); batch.len()]
            }
        };
        if replies.iter().any(|r| matches!(r, Ok(Reply::Pruned(pruned)) if !pruned.more)) {
            prune::shrink(&connection);
        }
        if batch.iter().any(|command| matches!(command, Command::Close { .. }))
            && let ReadFrom::File(path) = &self.reader.place
        {
            open::fold_log(&connection, path);
        }
        replies
    }

    fn next_due(&mut self) -> Result<Option<Micros>, StoreError> {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        claim::next_due(&connection, &self.turns).map_err(told)
    }

    fn data_version(&mut self) -> Result<i64, StoreError> {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ask = connection.prepare_cached("PRAGMA data_version").map_err(told)?;
        ask.query_row([], |row| row.get(0)).map_err(told)
    }

    fn queries(&self) -> Result<Box<dyn Queries>, StoreError> {
        Ok(self.reader.queries())
    }
}

/// Commands that are worth no flush. When a node's beginning or a sign of its life is lost with the power, so is the node,
/// and the flush of whatever it does next takes them along, since the log is one. When its end is lost, it is one that
/// died, and what it gave back is given back by whoever looks after it.
fn is_sign_of_life(command: &Command) -> bool {
    matches!(command, Command::Register { .. } | Command::Renew { .. } | Command::Close { .. })
}

impl SqliteStore {
    fn transaction(
        &mut self,
        connection: &Connection,
        now: Micros,
        batch: &[Command],
        apart: Apart,
    ) -> Result<Vec<Result<Reply, StoreError>>, Failed> {
        open::begin(connection, self.options.patience).map_err(Failed::All)?;
        if let Err(refused) = self.names.begin(connection) {
            let _ = connection.execute_batch("ROLLBACK");
            return Err(Failed::All(match &self.reader.place {
                ReadFrom::File(path) => open::at(path, refused),
                _ => refused,
            }));
        }
        let mut tx = Tx::new(connection, now, &mut self.names, &mut self.turns);
        let mut replies = Vec::with_capacity(batch.len());
        let done = batch.iter().try_for_each(|command| {
            replies.push(tx.keep_apart(command, apart)?);
            Ok(())
        });
        drop(tx);
        let done = done.and_then(|()| connection.execute_batch("COMMIT").map_err(|e| Failed::All(told(e))));
        if done.is_err() {
            // Where SQLite has rolled back itself there is nothing left to roll back.
            let _ = connection.execute_batch("ROLLBACK");
            self.names.forget();
        }
        done.map(|()| replies)
    }
}

impl Tx<'_> {
    /// Carries out one command so that its failure does not touch its neighbours.
    fn keep_apart(&mut self, command: &Command, apart: Apart) -> Result<Result<Reply, StoreError>, Failed> {
        let savepoint = apart == Apart::BySavepoint;
        if savepoint {
            self.run("SAVEPOINT command", ()).map_err(Failed::All)?;
        }
        let before = self.sql.total_changes();
        let reply = self.command(command);
        match &reply {
            Ok(_) => {}
            Err(StoreError::Refused(_)) if self.sql.total_changes() == before => {}
            Err(StoreError::Refused(_)) if savepoint => {
                self.run("ROLLBACK TO command", ()).map_err(Failed::All)?;
                self.names.forget();
            }
            Err(StoreError::Refused(_)) => return Err(Failed::One),
            Err(error) => return Err(Failed::All(error.clone())),
        }
        if savepoint {
            self.run("RELEASE command", ()).map_err(Failed::All)?;
        }
        Ok(reply)
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
            Command::Register(node) => self.register(node).map(Reply::Node),
            Command::Renew { node } => self.renew(*node).map(|()| Reply::Done),
            Command::Drain { node } => self.drain(*node).map(|()| Reply::Done),
            Command::Close { node } | Command::Rescue { node } => self.rescue(*node).map(Reply::Rescued),
            Command::Release { node, machines } => self.release(*node, machines).map(|()| Reply::Done),
            Command::Push(push) => self.push(push).map(|p| Reply::Pushed(Box::new(p))),
            Command::Hold { what, on } => self.hold(what, *on).map(Reply::Held),
            Command::Forget { namespace, task } => self.forget(namespace, task).map(|()| Reply::Done),
            Command::AddToken(token) => self.add_token(token).map(|()| Reply::Done),
            Command::RevokeToken { name } => self.revoke_token(name).map(|()| Reply::Done),
            Command::Prune(prune) => self.prune(prune).map(Reply::Pruned),
        }
    }
}

#[cfg(test)]
mod budget;
#[cfg(test)]
mod plans;

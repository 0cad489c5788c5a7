//! The store contract: commands, replies, queries and the conformance suite.
//!
//! A store is changed by [`Command`]s and by nothing else. [`Store::apply`] takes a batch and carries it out in one
//! transaction; a refused command does not take its neighbours with it, and what was answered `Ok` is on disk. Reading goes through [`Queries`], which never waits for the writer.
//!
//! Moments are microseconds since 1970 ([`Micros`]); the caller says what time it is.
//!
//! ```
//! use ostler_store::{Claim, Command, NodeId};
//! let claim = Command::Claim(Claim { node: NodeId(1), want: 16, light: 0, shared: true, labels: Vec::new(), only_labelled: false });
//! assert!(serde_json::to_string(&claim).unwrap().contains("\"want\":16"));
//! ```

mod blocks;
mod command;
#[cfg(feature = "conformance")]
pub mod conformance;
mod error;
mod invariants;
mod mark;
mod query;
mod rows;
pub mod tables;
mod turns;
mod walk;
mod writer;

pub use blocks::{BlockPlace, BlockReader, BlockStore, BlockWriter, FoundBlock, Stored};
pub use command::{
    Claim, Claimed, Command, Commit, CommitOutcome, Concurrency, EventBody, Hold, Letter, MailTo, NewMachine,
    NewNode, Next, OnFull, Progress, Progressed, Prune, Pruned, Push, PushSink, PushStarter, PushTask,
    Pushed, RateLimit, Receipt, Reply, Rescued, StartOutcome, Taken, Unsent, duty_trigger, trigger_duty,
};
pub use error::StoreError;
pub use invariants::INVARIANTS;
pub use mark::Mark;
pub use query::{Cursor, EventPage, Order, Page, Queries, RunFilter};
pub use rows::{
    DutyNote, DutyRow, EventRow, LaneRow, LimitRow, MachineRow, Mailbox, NamespaceRow, NodeRow, Phase,
    PresetRow, Remark, SinkRow, StoreStats, Subject, TaskRow, TickRow, TokenRow, WaitingRow,
};
use serde::{Deserialize, Serialize};
pub use turns::{CREDIT, Queues, Turn, Turns, Waiting};
pub use walk::{Place, Walk};
pub use writer::{Answer, Writer, WriterClosed};

/// Labels as one text by which sets of them are told apart: sorted, each once, spaces between.
#[must_use]
pub fn label_text(labels: &[String]) -> String {
    let sorted: std::collections::BTreeSet<&str> = labels.iter().map(String::as_str).collect();
    sorted.into_iter().collect::<Vec<_>>().join(" ")
}

/// The labels of such a text.
#[must_use]
pub fn labels_of(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// The cursor behind an event.
#[must_use]
pub fn event_cursor(seq: i64) -> String {
    format!("e{seq}")
}

/// The event that a cursor stands behind.
#[must_use]
pub fn event_number(cursor: &str) -> Option<i64> {
    cursor.strip_prefix('e').and_then(|number| number.parse().ok())
}

/// The duty of carrying out what a sink is for.
#[must_use]
pub fn sink_duty(namespace: &str, sink: &str) -> String {
    format!("sink:{namespace}/{sink}")
}

/// Namespace and name of a sink, by its duty.
#[must_use]
pub fn sink_of_duty(duty: &str) -> Option<(&str, &str)> {
    duty.strip_prefix("sink:")?.split_once('/')
}

/// A lane's number says what it is, so that a claim finds those that it may take side by side: lanes of light machines
/// ([`NewMachine::light`]) are so far from zero, and those under a limit are negative.
pub const LIGHT_LANES: i64 = 1 << 30;

/// Microseconds since 1970, by whoever is asked for the time.
pub type Micros = i64;

/// A moment that never comes: due only when woken.
pub const NEVER: Micros = i64::MAX;

/// One lifetime of one process that uses the store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub i64);

/// A store's writing side. Not shared: whoever holds it is the writer of this process.
pub trait Store: Send {
    /// Carries out a batch in one transaction and answers each command in its place.
    ///
    /// # Errors
    /// Each answer is its own; when the transaction as a whole cannot be committed (disk full, I/O error, locked by
    /// another process for too long) every answer is that error and nothing was changed.
    fn apply(&mut self, now: Micros, batch: &[Command]) -> Vec<Result<Reply, StoreError>>;

    /// The earliest moment at which time alone makes something ready: a due moment, or a rate that has room again;
    /// `None` when nothing waits for time. A moment that has passed means that a claim finds something.
    ///
    /// What is ready already is not reported, since it may wait for a slot, a limit or another node. A claim that
    /// gives less than was wanted has left nothing behind that time or a slot would free; one that gives all is to be
    /// repeated.
    fn next_due(&mut self) -> Result<Option<Micros>, StoreError>;

    /// A number that changes when another process has written.
    fn data_version(&mut self) -> Result<i64, StoreError>;

    /// A reading side of the same store.
    fn queries(&self) -> Result<Box<dyn Queries>, StoreError>;
}

impl<S: Store + ?Sized> Store for Box<S> {
    fn apply(&mut self, now: Micros, batch: &[Command]) -> Vec<Result<Reply, StoreError>> {
        (**self).apply(now, batch)
    }

    fn next_due(&mut self) -> Result<Option<Micros>, StoreError> {
        (**self).next_due()
    }

    fn data_version(&mut self) -> Result<i64, StoreError> {
        (**self).data_version()
    }

    fn queries(&self) -> Result<Box<dyn Queries>, StoreError> {
        (**self).queries()
    }
}

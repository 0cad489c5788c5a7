//! The one idea: a machine is ticked and says what comes of it.

use std::sync::Arc;

use jiff::Timestamp;
use ostler_clock::Entropy;
use ostler_execution::{CancelReason, ExecEnd, ExecRequest};
use ostler_model::{Kind, RunState, TypedError};
use ostler_store::{Claimed, EventBody, Letter, MailTo, NewMachine};

use crate::Task;

/// One kind of machine. `tick` is pure: it looks at the row, its letters, the time and what its last execution came
/// to, and decides; the loop carries the decision out. A new kind is one implementation and one line where it is
/// registered.
pub trait Machine: Send + Sync {
    /// The kind of rows it ticks.
    fn kind(&self) -> Kind;

    /// Decides. `input` says why it is ticked.
    fn tick(&self, row: &Claimed, task: Option<&Arc<Task>>, world: &World<'_>, input: Input<'_>) -> Decision;
}

/// What a tick may know of the world.
pub struct World<'a> {
    /// What time it is.
    pub now: Timestamp,
    /// Draws jitter.
    pub entropy: &'a dyn Entropy,
    /// The store's salt, by which public ids are made.
    pub salt: u64,
    /// Whether an executor repeats lost attempts by custom.
    pub reruns_lost: &'a dyn Fn(&str) -> bool,
}

/// Why a machine is ticked.
#[derive(Debug)]
pub enum Input<'a> {
    /// It was due, or a letter came; see also `lost`, `refused` and `mail` of the claim.
    Due,
    /// The execution that its last decision asked for has ended.
    Executed(&'a Execution),
}

/// An execution that has ended.
#[derive(Debug)]
pub struct Execution {
    /// How.
    pub end: ExecEnd,
    /// Who cut it short, if somebody did.
    pub interrupted: Option<CancelReason>,
    /// What the letter said that cancelled it.
    pub reason: Option<String>,
    /// When it began.
    pub started: Timestamp,
}

/// What comes of a tick.
#[derive(Debug)]
pub enum Decision {
    /// Carry this out and tick again with its end. Nothing is written (decision 7).
    Execute(Box<Work>),
    /// Write this.
    Commit(Box<Change>),
}

/// Something to carry out.
#[derive(Debug)]
pub struct Work {
    /// What.
    pub request: ExecRequest,
    /// When it is cut short.
    pub stop_at: Option<Timestamp>,
}

/// Something to write in one transaction.
#[derive(Debug)]
pub struct Change {
    /// Where the machine goes.
    pub outcome: Outcome,
    /// New fields as JSON; `None` leaves them.
    pub set: Option<String>,
    /// When its work began, if the row does not say.
    pub started: Option<Timestamp>,
    /// The transition's event.
    pub event: EventBody,
    /// Machines to start.
    pub start: Vec<NewMachine>,
    /// Letters to send.
    pub send: Vec<(MailTo, Letter)>,
}

impl Change {
    /// A change of state alone.
    #[must_use]
    pub fn new(outcome: Outcome, event: EventBody) -> Self {
        Self { outcome, set: None, started: None, event, start: Vec::new(), send: Vec::new() }
    }
}

/// Where a tick leads.
#[derive(Debug, PartialEq)]
pub enum Outcome {
    /// Nothing to do before a moment or a letter.
    Stay {
        /// The moment; `None`: only a letter.
        until: Option<Timestamp>,
        /// Whether a permit is kept meanwhile.
        keep_permit: bool,
    },
    /// It has ended, well or by someone's word.
    Stop(RunState),
    /// It has ended badly.
    Panic(RunState, Box<TypedError>),
}

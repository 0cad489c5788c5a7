//! What queries answer with.

use ostler_model::{Kind, MachineId, RunState};
use serde::{Deserialize, Serialize};

use crate::{Micros, NodeId};

/// Where a machine stands in the tick queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Due later, or when woken.
    Later,
    /// Due.
    Ready,
    /// A node has it.
    Claimed,
    /// Held back by a pause.
    Held,
}

impl Phase {
    /// The stored number.
    #[must_use]
    pub const fn code(self) -> i64 {
        match self {
            Self::Later => 0,
            Self::Ready => 1,
            Self::Claimed => 2,
            Self::Held => 3,
        }
    }

    /// The phase of a stored number.
    #[must_use]
    pub const fn from_code(code: i64) -> Self {
        match code {
            0 => Self::Later,
            1 => Self::Ready,
            2 => Self::Claimed,
            _ => Self::Held,
        }
    }
}

/// A row of the tick queue.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TickRow {
    /// Lane it stands in.
    pub lane: i64,
    /// Where it stands.
    pub phase: Phase,
    /// When it is due.
    pub due_at: Micros,
    /// Who has it.
    pub node: Option<NodeId>,
    /// The fence of the last claim.
    pub fence: u64,
    /// When it was last claimed.
    pub since: Option<Micros>,
    /// Letters that wait.
    pub letters: u64,
    /// A node held it and died.
    pub lost: bool,
    /// Rank of its priority.
    pub priority: i64,
}

/// A machine with its place in the queue.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct MachineRow {
    /// Which.
    pub id: MachineId,
    /// What sort.
    pub kind: Kind,
    /// Namespace.
    pub namespace: String,
    /// Task id; empty for none.
    pub task: String,
    /// Row of its task.
    pub task_row: i64,
    /// Row of the definition it is pinned to.
    pub definition: i64,
    /// Stored state: 0 while it lives.
    pub state: i64,
    /// Its step.
    pub step: u64,
    /// The machine it is a part of.
    pub parent: Option<MachineId>,
    /// Which part.
    pub child_key: Option<String>,
    /// When its work first started.
    pub started_at: Option<Micros>,
    /// When it ended.
    pub finished_at: Option<Micros>,
    /// Its fields as JSON.
    pub fields: String,
    /// Its last event.
    pub last_event: i64,
    /// Its place in the tick queue while it lives.
    pub tick: Option<TickRow>,
}

impl MachineRow {
    /// The state that people see (decision 7): stored when final, else derived from the queue. A flow or a run that
    /// has begun and stands in the queue is waiting.
    #[must_use]
    pub fn run_state(&self) -> RunState {
        if let Some(state) = RunState::from_code(self.state) {
            return state;
        }
        let begun = self.started_at.is_some();
        match self.tick.as_ref().map(|t| t.phase) {
            Some(Phase::Claimed) => RunState::Running,
            Some(_) if begun => RunState::Waiting,
            Some(Phase::Ready) => RunState::Ready,
            Some(Phase::Later) => RunState::Scheduled,
            Some(Phase::Held) | None => RunState::Waiting,
        }
    }
}

/// A task.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TaskRow {
    /// Row.
    pub row: i64,
    /// Namespace.
    pub namespace: String,
    /// Id.
    pub name: String,
    /// Row of the current definition.
    pub definition: i64,
    /// How many versions there were.
    pub version: u32,
    /// Digest of the current definition.
    pub digest: String,
    /// Lowered definition as JSON.
    pub body: String,
    /// Let go by its definition.
    pub enabled: bool,
    /// Held back by hand.
    pub paused: bool,
    /// Its origin does not hold it any more.
    pub missing: bool,
    /// Where it comes from.
    pub origin: String,
    /// First pushed.
    pub created_at: Micros,
    /// Last changed.
    pub updated_at: Micros,
}

/// A preset.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PresetRow {
    /// Namespace.
    pub namespace: String,
    /// Id.
    pub name: String,
    /// Its task.
    pub task: String,
    /// Definition as JSON.
    pub body: String,
    /// Its origin does not hold it any more.
    pub missing: bool,
    /// First pushed.
    pub created_at: Micros,
    /// Last changed.
    pub updated_at: Micros,
}

/// A namespace.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct NamespaceRow {
    /// Name.
    pub name: String,
    /// Where its definitions came from last.
    pub origin: String,
    /// Who pushed them last.
    pub actor: String,
    /// Nobody named it.
    pub ephemeral: bool,
    /// Held back.
    pub paused: bool,
    /// The part of the work that it gets beside others that wait.
    pub weight: u32,
    /// First seen.
    pub created_at: Micros,
    /// Last pushed.
    pub seen_at: Micros,
    /// Tasks in it.
    pub tasks: u64,
}

/// An event: a fact in the outbox.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct EventRow {
    /// Its number; grows.
    pub seq: i64,
    /// When.
    pub at: Micros,
    /// Which machine.
    pub machine: MachineId,
    /// The step of the machine after it.
    pub step: u64,
    /// What sort.
    pub kind: String,
    /// JSON; may be empty.
    pub body: String,
}

/// A limit and who holds its permits.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct LimitRow {
    /// Namespace.
    pub namespace: String,
    /// Key.
    pub key: String,
    /// True: a rate; false: a number at a time.
    pub is_rate: bool,
    /// How many at a time, or the burst of a rate.
    pub max: u32,
    /// Microseconds for each start of a rate.
    pub interval: Micros,
    /// When a rate has room again.
    pub free_at: Micros,
    /// Machines that hold a permit.
    pub holders: Vec<MachineId>,
}

/// A lane: a sub-queue of the tick queue.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct LaneRow {
    /// Row.
    pub lane: i64,
    /// Namespace.
    pub namespace: String,
    /// Whether the namespace is held back.
    pub paused: bool,
    /// Key of its concurrency limit.
    pub concurrency: Option<String>,
    /// Key of its rate limit.
    pub rate: Option<String>,
    /// The node it belongs to.
    pub home: Option<NodeId>,
    /// What a node must have to take from it.
    pub labels: Vec<String>,
    /// Ready machines in it.
    pub ready: u64,
}

/// A process that uses the store.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct NodeRow {
    /// Which.
    pub node: NodeId,
    /// Host and process.
    pub name: String,
    /// The owner.
    pub owner: bool,
    /// When it came.
    pub started_at: Micros,
    /// How often it has shown that it lives.
    pub renewals: i64,
    /// How long the last time but one waited for the store.
    pub waited: Micros,
    /// It has gone in order, or was rescued.
    pub closed: bool,
    /// What it has.
    pub labels: Vec<String>,
    /// It carries out only what asks for one of them.
    pub only_labelled: bool,
    /// How many executions at a time, where it has said so.
    pub slots: u32,
    /// For a worker the actor that speaks for it.
    pub worker: Option<String>,
    /// It is to take nothing more.
    pub draining: bool,
    /// Machines it has now.
    pub claims: u64,
}

/// A sink: what carries events out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SinkRow {
    /// Namespace.
    pub namespace: String,
    /// Id.
    pub name: String,
    /// Definition as JSON.
    pub body: String,
    /// Let go by its definition.
    pub enabled: bool,
    /// Held back by hand.
    pub paused: bool,
    /// Its origin does not hold it any more.
    pub missing: bool,
    /// Where it comes from.
    pub origin: String,
    /// First pushed.
    pub created_at: Micros,
    /// Last changed.
    pub updated_at: Micros,
}

impl SinkRow {
    /// Whether there is anything to carry out for it.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.enabled && !self.paused && !self.missing
    }
}

/// What an event is about.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Subject {
    /// Which machine.
    pub id: MachineId,
    /// What sort.
    pub kind: Kind,
    /// Namespace.
    pub namespace: String,
    /// Task id; empty for none.
    pub task: String,
    /// The machine it is a part of.
    pub parent: Option<MachineId>,
    /// Which part, or which of the task's starters.
    pub child_key: Option<String>,
}

/// A duty: something that exactly one living node does for all.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DutyRow {
    /// Which.
    pub duty: String,
    /// Who has it.
    pub node: Option<NodeId>,
    /// Grows whenever it is given, moved or taken back.
    pub fence: u64,
    /// Where it goes on, if anybody has said so.
    pub cursor: Option<String>,
    /// What was last noted of it.
    pub note: DutyNote,
}

/// What is to be known of a duty, as whoever does it has noted it.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DutyNote {
    /// What keeps it from going on, and since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Remark>,
    /// What it last had to pass over for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed: Option<Remark>,
    /// How much it has done: events delivered, messages taken.
    #[serde(default)]
    pub done: u64,
    /// Since when it is at work without trouble.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Micros>,
    /// When it last did something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done_at: Option<Micros>,
}

/// What waits for a machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Mailbox {
    /// Letters that it has not read.
    pub unread: u64,
    /// It is held back, and hears nothing.
    pub held: bool,
}

/// Words of a moment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Remark {
    /// Since when, or when.
    pub at: Micros,
    /// What there is to say.
    pub words: String,
}

impl DutyNote {
    /// As it is stored.
    #[must_use]
    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// As it was stored; what does not read is no note.
    #[must_use]
    pub fn read(text: Option<&str>) -> Self {
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }
}

/// A token by which a caller over the network is known. Its secret is nowhere.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TokenRow {
    /// What it is for; unique among those that are not revoked.
    pub name: String,
    /// Digest of its secret.
    pub hash: String,
    /// First characters of its secret.
    pub prefix: String,
    /// JSON of what it lets do.
    pub scopes: String,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: Micros,
    /// From then on it does not count.
    pub expires_at: Option<Micros>,
    /// Since then it does not count.
    pub revoked_at: Option<Micros>,
}

/// Numbers about the store.
#[derive(Clone, Default, PartialEq, Debug, Serialize, Deserialize)]
pub struct StoreStats {
    /// Schema version.
    pub schema: i64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Bytes of pages that are free.
    pub free_bytes: u64,
    /// Machines in the queue, by phase: later, ready, claimed, held.
    pub queue: [u64; 4],
    /// Namespaces with machines that are ready.
    pub waiting: Vec<WaitingRow>,
    /// The last event.
    pub last_event: i64,
    /// The oldest event still there.
    pub first_event: i64,
}

/// A namespace with machines that are ready.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WaitingRow {
    /// Name.
    pub namespace: String,
    /// Since when the oldest of them has been due.
    pub since: Micros,
    /// The part of the work that it gets beside the others.
    pub weight: u32,
}

//! Commands: everything that changes a store, and what it answers.

use std::collections::BTreeMap;

use ostler_model::{Kind, MachineId};
use serde::{Deserialize, Serialize};

use crate::{DutyNote, Micros, NodeId, TokenRow};

/// A change of the store.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Makes machines. Answer: [`Reply::Started`], one outcome each.
    Start(Vec<NewMachine>),
    /// Takes ready machines for a node. Answer: [`Reply::Claimed`].
    Claim(Claim),
    /// Makes machines and takes them for a node in the same breath, where nothing else is ready and no limit is in
    /// the way. Answer: [`Reply::StartedClaimed`].
    StartClaimed {
        /// The machine.
        machine: Box<NewMachine>,
        /// For whom.
        node: NodeId,
    },
    /// Ends ticks. Answer: [`Reply::Committed`], one outcome each.
    Commit(Vec<Commit>),
    /// Puts letters into mailboxes and wakes their owners. Answer: [`Reply::Sent`].
    ///
    /// A wake-up is never lost and never pushes back an earlier due moment. A held machine stays held; only
    /// [`Letter::Cancel`] passes, and passes limits as well, since nothing else could end what waits for them.
    Send(Vec<(MachineId, Letter)>),
    /// A process begins to use the store. Answer: [`Reply::Node`].
    Register(NewNode),
    /// A process shows that it lives. Answer: [`Reply::Done`].
    Renew {
        /// Which.
        node: NodeId,
        /// How long its last renewal waited for the store, for people.
        waited: Micros,
    },
    /// A node is to take nothing more; what it holds goes on. Answer: [`Reply::Done`].
    Drain {
        /// Which.
        node: NodeId,
    },
    /// A process ends in order. What it still holds becomes ready again, as lost. Answer: [`Reply::Rescued`].
    Close {
        /// Which.
        node: NodeId,
    },
    /// A process is known to be dead: what it held becomes ready again, as lost. Answer: [`Reply::Rescued`].
    Rescue {
        /// Which.
        node: NodeId,
    },
    /// Gives back claims that were not begun (shutdown): they are ready again, and not lost. Those that are not the
    /// node's any more are passed over. Answer: [`Reply::Done`].
    Release {
        /// By whom.
        node: NodeId,
        /// Which, with their fences.
        machines: Vec<(MachineId, u64)>,
    },
    /// Makes the definitions of one origin what they are now. Answer: [`Reply::Pushed`].
    Push(Box<Push>),
    /// Holds back or lets go what belongs to a namespace, a task or a schedule. Answer: [`Reply::Held`].
    ///
    /// A pause of a namespace or a task holds back what has not begun, and schedules; what has begun goes on with its
    /// parts. What is claimed keeps its claim and is held after its commit. Several things may hold one machine; it
    /// goes on when the last of them lets go, and a schedule is then told [`Letter::Resumed`].
    Hold {
        /// What.
        what: Hold,
        /// True: hold back.
        on: bool,
    },
    /// Holds a sink back, or lets it go; its duty is taken from whoever has it. Refused where there is none. Answer:
    /// [`Reply::Done`].
    PauseSink {
        /// Namespace.
        namespace: String,
        /// Sink.
        sink: String,
        /// True: hold back.
        on: bool,
    },
    /// Gives a namespace a weight: the part of the work that it gets beside others that wait. Answer: [`Reply::Done`].
    Weigh {
        /// Namespace.
        namespace: String,
        /// From 1 on.
        weight: u32,
    },
    /// Takes a task out of its origin's hands: it is missing until it is pushed again. Answer: [`Reply::Done`].
    Forget {
        /// Namespace.
        namespace: String,
        /// Task.
        task: String,
    },
    /// Takes duties for a node: of these, those that nobody has. One that is new is made, without a cursor. Refused for a
    /// node that is closed. Answer: [`Reply::Taken`].
    TakeDuties {
        /// For whom.
        node: NodeId,
        /// Which.
        duties: Vec<String>,
    },
    /// Says how far a duty is, and sends what that was reached with: both, or, where another has the duty now, nothing.
    /// Answer: [`Reply::Progressed`].
    Progress(Box<Progress>),
    /// Gives duties back; those that are not the holder's any more are passed over. Answer: [`Reply::Done`].
    LeaveDuties {
        /// By whom.
        node: NodeId,
        /// Which, with their fences.
        duties: Vec<(String, u64)>,
    },
    /// Says where a duty is to go on, and takes it from whoever has it. One that is new is made. Answer: [`Reply::Done`].
    MoveDuty {
        /// Which.
        duty: String,
        /// Where it is to go on.
        cursor: String,
    },
    /// Takes a duty from whoever has it, and forgets it with its cursor. Answer: [`Reply::Done`], whether there was one
    /// or not.
    EndDuty {
        /// Which.
        duty: String,
    },
    /// Adds a token. Refused when one of its name is not revoked. Answer: [`Reply::Done`].
    AddToken(Box<TokenRow>),
    /// Revokes the token of a name. Answer: [`Reply::Done`], whether there was one or not.
    RevokeToken {
        /// Its name.
        name: String,
    },
    /// Deletes a bounded batch of old history. Answer: [`Reply::Pruned`].
    Prune(Prune),
}

/// How far a duty is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Which duty.
    pub duty: String,
    /// Who has it.
    pub node: NodeId,
    /// The fence under which it was taken.
    pub fence: u64,
    /// Where it goes on; `None` leaves that as it is.
    pub cursor: Option<String>,
    /// What is to be known of it; `None` leaves that as it is.
    pub note: Option<DutyNote>,
    /// Letters that go with it. What is held back hears nothing.
    pub send: Vec<(MachineId, Letter)>,
}

/// A duty that a node was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Which.
    pub duty: String,
    /// The fence: whoever speaks for the duty must name it. It grows whenever the duty is given, moved or taken back.
    pub fence: u64,
    /// Where it goes on, if anybody has said so.
    pub cursor: Option<String>,
    /// What was last noted of it.
    pub note: DutyNote,
}

/// What became of a progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progressed {
    /// It is written.
    Kept {
        /// For each letter whether its machine hears it: one that is held back, or has ended, does not.
        sent: Vec<bool>,
    },
    /// The duty is another's now, or nobody's; nothing is written.
    Lost,
}

/// A process that begins to use the store, or a worker that begins to take work through one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewNode {
    /// Host and process, for people.
    pub name: String,
    /// Whether it is the owner.
    #[serde(default)]
    pub owner: bool,
    /// What it has: it takes what asks for nothing else.
    #[serde(default)]
    pub labels: Vec<String>,
    /// It carries out only what asks for one of them.
    #[serde(default)]
    pub only_labelled: bool,
    /// How many executions at a time, for people.
    #[serde(default)]
    pub slots: u32,
    /// For a worker the actor that speaks for it; `None`: a process that has the store open.
    #[serde(default)]
    pub worker: Option<String>,
}

/// Makes the definitions of one origin what they are now.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Push {
    /// The namespace.
    pub namespace: String,
    /// True when nobody named it.
    pub ephemeral: bool,
    /// Where the definitions come from; tasks of the same origin that are not in the list become `missing`.
    pub origin: String,
    /// Who pushes, as in `cli:alice`.
    pub actor: String,
    /// Whether tasks of this origin that are not in the list become missing.
    pub complete: bool,
    /// Tasks.
    pub tasks: Vec<PushTask>,
    /// Presets: name to (task, body).
    pub presets: BTreeMap<String, (String, String)>,
    /// Sinks by name. One that is new, changed, or back has its duty taken from whoever has it; a new one begins with what
    /// happens from then on.
    #[serde(default)]
    pub sinks: BTreeMap<String, PushSink>,
}

/// A sink to push.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushSink {
    /// Definition as JSON.
    pub body: String,
    /// Whether it carries anything out.
    pub enabled: bool,
}

/// One task to push.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PushTask {
    /// Its id.
    pub name: String,
    /// Digest of what counts when it runs.
    pub digest: String,
    /// The lowered definition as JSON.
    pub body: String,
    /// Whether its runs and schedules are let go.
    pub enabled: bool,
    /// What starts it. `None` leaves that as it is: a command that only runs a file does not touch what a `serve`
    /// fires.
    pub starters: Option<Vec<PushStarter>>,
}

/// A schedule or trigger to push.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushStarter {
    /// Its id, unique among those of the task.
    pub name: String,
    /// What sort of machine it is.
    pub kind: u8,
    /// Digest of what decides when it fires.
    pub digest: String,
    /// The task, with its namespace, whose ends it is told ([`Letter::RunEnded`]).
    pub listens: Option<(String, String)>,
    /// One node listens for it elsewhere: it has a duty ([`trigger_duty`]), which begins anew when the digest has changed.
    #[serde(default)]
    pub has_duty: bool,
}

/// The duty of listening for a trigger.
#[must_use]
pub fn trigger_duty(machine: MachineId) -> String {
    format!("trigger:{}", machine.0)
}

/// The trigger of a duty; `None` when it is another sort of duty.
#[must_use]
pub fn duty_trigger(duty: &str) -> Option<MachineId> {
    duty.strip_prefix("trigger:")?.parse().ok().map(MachineId)
}

/// What a push changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pushed {
    /// Names of new tasks.
    pub added: Vec<String>,
    /// Names of tasks with a new version.
    pub changed: Vec<String>,
    /// Names of tasks that are as they were.
    pub unchanged: Vec<String>,
    /// Names of tasks of this origin that are gone from it.
    pub missing: Vec<String>,
    /// Names of tasks that were missing and are back.
    pub relinked: Vec<String>,
    /// Schedules and triggers made, changed and ended.
    pub starters: (u32, u32, u32),
    /// Sinks made, changed (or back) and missing.
    #[serde(default)]
    pub sinks: (u32, u32, u32),
    /// Definition ids of all tasks pushed.
    pub definitions: BTreeMap<String, i64>,
}

/// What is held back or let go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    /// All of a namespace.
    Namespace(String),
    /// A task: its runs and schedules.
    Task(String, String),
    /// One machine, such as a schedule.
    Machine(MachineId),
}

/// A machine to be made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NewMachine {
    /// What sort.
    pub kind: u8,
    /// Its namespace; made when it is new.
    pub namespace: String,
    /// Row of its task; 0 for none.
    #[serde(default)]
    pub task: i64,
    /// Row of the definition it is pinned to; 0 for none.
    #[serde(default)]
    pub definition: i64,
    /// JSON of its fields.
    pub fields: String,
    /// Its ticks carry nothing out, so that it is claimed although a node has no slot free.
    #[serde(default)]
    pub light: bool,
    /// Rank of its priority: the smaller goes first.
    pub priority: i64,
    /// When its first tick is due; [`crate::NEVER`] for not before a letter comes.
    pub due_at: Micros,
    /// State to begin with: 0, or a final one for what is recorded and never ticks.
    #[serde(default)]
    pub state: i64,
    /// The machine it is a part of.
    #[serde(default)]
    pub parent: Option<MachineId>,
    /// Which part.
    #[serde(default)]
    pub child_key: Option<String>,
    /// The machine that gets its last letter.
    #[serde(default)]
    pub watcher: Option<MachineId>,
    /// Only this node may claim it (a guest's own run).
    #[serde(default)]
    pub home: Option<NodeId>,
    /// Only a node with all of these labels may claim it.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Concurrency limit it comes under.
    #[serde(default)]
    pub concurrency: Option<Concurrency>,
    /// Rate limit it comes under.
    #[serde(default)]
    pub rate: Option<RateLimit>,
    /// While a machine of the namespace with this key lives, it is not made.
    #[serde(default)]
    pub unique_key: Option<String>,
    /// While a machine of the namespace with this key is on record, it is not made.
    #[serde(default)]
    pub idempotency_key: Option<String>,
    /// The first event.
    pub event: EventBody,
}

/// A concurrency limit: so many machines with this key at a time.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Concurrency {
    /// The key, within the namespace.
    pub key: String,
    /// How many; the newest word counts for all.
    pub limit: u32,
    /// What happens to one too many.
    pub on_full: OnFull,
}

/// What happens to a ready machine whose limit is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFull {
    /// It waits.
    Wait,
    /// It is claimed with [`Claimed::refused`] set, so that its tick can end it.
    Refuse,
    /// Those that hold the permits get a letter that cancels them; it waits.
    CancelHolders,
}

/// A rate limit: a token bucket, kept as the theoretical arrival time of GCRA.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RateLimit {
    /// The key, within the namespace.
    pub key: String,
    /// Microseconds for each start.
    pub interval: Micros,
    /// How many may start at once after a pause.
    pub burst: u32,
}

/// A kind of event and its JSON body.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventBody {
    /// One word, as in `created`, `attempt_failed`.
    pub kind: String,
    /// JSON; may be empty.
    #[serde(default)]
    pub body: String,
}

impl EventBody {
    /// An event with a body; `null` becomes an empty one.
    #[must_use]
    pub fn new(kind: &str, body: &serde_json::Value) -> Self {
        Self { kind: kind.to_owned(), body: if body.is_null() { String::new() } else { body.to_string() } }
    }
}

/// What became of a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartOutcome {
    /// It was made.
    Started(MachineId),
    /// A machine with its unique key lives.
    AlreadyRunning(MachineId),
    /// A machine with its idempotency key is on record.
    Repeated(MachineId),
}

impl StartOutcome {
    /// The machine it speaks of.
    #[must_use]
    pub fn id(self) -> MachineId {
        match self {
            Self::Started(id) | Self::AlreadyRunning(id) | Self::Repeated(id) => id,
        }
    }
}

/// A wish for ready machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// For whom.
    pub node: NodeId,
    /// At most so many that take a slot.
    pub want: u32,
    /// And so many that take none ([`NewMachine::light`]).
    pub light: u32,
    /// Also what no node calls its own (the owner does; guests do not).
    pub shared: bool,
    /// Labels of the node: what asks for others is not for it.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Nor is what takes a slot and asks for none.
    #[serde(default)]
    pub only_labelled: bool,
}

/// A machine taken for a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Claimed {
    /// Which.
    pub id: MachineId,
    /// What sort.
    pub kind: Kind,
    /// It takes no slot.
    #[serde(default)]
    pub light: bool,
    /// Its namespace.
    pub namespace: std::sync::Arc<str>,
    /// Row of its task.
    pub task: i64,
    /// Row of its definition.
    pub definition: i64,
    /// Its step: the commit must name it.
    pub step: u64,
    /// The fence of this claim: the commit must name it.
    pub fence: u64,
    /// JSON of its fields.
    pub fields: String,
    /// When it was due.
    pub due_at: Micros,
    /// When it first started, if it did.
    pub started_at: Option<Micros>,
    /// A node held it and died. Told in each claim until a commit.
    pub lost: bool,
    /// Its limit is full and [`OnFull::Refuse`] holds.
    pub refused: bool,
    /// The machine it is a part of.
    pub parent: Option<MachineId>,
    /// Which part.
    pub child_key: Option<String>,
    /// The machine that gets its last letter.
    pub watcher: Option<MachineId>,
    /// The node it belongs to.
    pub home: Option<NodeId>,
    /// Its letters, oldest first.
    pub mail: Vec<(i64, Letter)>,
    /// To be given back with the commit.
    pub receipt: Receipt,
}

/// What the store has found of a machine at its claim and would have to look up again at its commit. It is nobody
/// else's business, and nothing is believed of it that the fence does not vouch for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Row of its lane.
    pub lane: i64,
    /// Its last event.
    pub last_event: i64,
    /// It has a unique key.
    pub unique: bool,
    /// Row of its task, when it is no part: somebody may listen to its end.
    #[serde(default)]
    pub task: i64,
    /// What its namespace was charged for it ([`crate::Turns`]).
    #[serde(default)]
    pub charged: Micros,
}

/// What one machine tells another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Letter {
    /// End, please.
    Cancel {
        /// Who wants it and why.
        reason: String,
    },
    /// A part of you has ended.
    ChildEnded {
        /// Which machine.
        child: MachineId,
        /// Which part.
        key: String,
        /// Its final state.
        state: i64,
        /// JSON of its output, error and so on, as its machine tells it.
        body: String,
    },
    /// Your definition is another one now.
    Redefined,
    /// You were held back and are let go.
    Resumed,
    /// A run of the task that you listen to has ended. The store sends it with the commit that ends the run.
    RunEnded {
        /// Which.
        run: MachineId,
        /// Its namespace.
        namespace: String,
        /// Its task.
        task: String,
        /// Its final state.
        state: i64,
        /// JSON of its fields.
        fields: String,
    },
    /// A named signal from outside.
    Signal {
        /// Its name.
        name: String,
        /// JSON.
        body: String,
    },
}

/// The end of one tick: all of it is written, or none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Commit {
    /// Which machine.
    pub id: MachineId,
    /// Who held it.
    pub node: NodeId,
    /// The step it was at.
    pub step: u64,
    /// The fence of the claim.
    pub fence: u64,
    /// The receipt of the claim.
    pub receipt: Receipt,
    /// New fields; `None` leaves them.
    pub fields: Option<String>,
    /// What comes next.
    pub next: Next,
    /// When its work first started.
    pub started_at: Option<Micros>,
    /// How long a slot has been at it.
    #[serde(default)]
    pub took: Micros,
    /// The transition.
    pub event: EventBody,
    /// Machines to make.
    pub start: Vec<NewMachine>,
    /// Letters to send.
    pub send: Vec<(MailTo, Letter)>,
    /// Letters up to this one were read and go. Others make it ready at once.
    pub read_mail: Option<i64>,
}

/// What comes after a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Next {
    /// It lives on.
    Stay {
        /// Its next tick; a letter brings it forward.
        until: Micros,
        /// It keeps its permit (a flow) or gives it back meanwhile (a run that waits to try again).
        keep_permit: bool,
    },
    /// It has ended, in this state.
    End {
        /// The final state.
        state: i64,
    },
}

/// To whom a letter goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MailTo {
    /// That machine.
    Machine(MachineId),
    /// The watcher of the machine that commits, if there is one.
    Watcher,
    /// Every living part of the machine that commits.
    Children,
    /// The living part of the machine that commits with this key.
    Child(String),
    /// Every living machine whose watcher is the machine that commits (runs of a schedule).
    Watched,
}

/// What became of a commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommitOutcome {
    /// It is written.
    Committed {
        /// What became of the starts.
        started: Vec<StartOutcome>,
    },
    /// The machine has moved on, or another holds it.
    Conflict {
        /// The step and fence that were named.
        expected: (u64, u64),
        /// The step and fence it has; `None` when it is gone or has ended.
        actual: Option<(u64, u64)>,
    },
}

/// How much history to keep. Deletes at most `batch` machines with their events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prune {
    /// Machines that ended before this moment go, in the order of their ends. Parts go with their root, when all of
    /// its parts have ended.
    pub before: Option<Micros>,
    /// Only so many ended machines that are no parts stay.
    pub keep: Option<u64>,
    /// The file should not hold more than so many bytes of pages in use.
    pub max_bytes: Option<u64>,
    /// Events of living machines before this moment go, except the last of each.
    pub events_before: Option<Micros>,
    /// Events that have still to be carried out stay, with their machines.
    #[serde(default)]
    pub unsent: Option<Unsent>,
    /// At most so many machines in this transaction.
    pub batch: u32,
}

/// Events that have still to be carried out. Where the store has grown beyond its bytes they go all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsent {
    /// Those after this one.
    pub after: i64,
    /// Before this moment they have waited for too long, and go.
    pub since: Micros,
}

/// What a prune did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pruned {
    /// Machines deleted, by which their logs may go too.
    pub machines: Vec<MachineId>,
    /// Events deleted.
    pub events: u64,
    /// There is more to delete.
    pub more: bool,
}

/// What a rescue found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rescued {
    /// Claims that were taken back.
    pub lost: u64,
}

/// The answer to a command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// To [`Command::Start`].
    Started(Vec<StartOutcome>),
    /// To [`Command::StartClaimed`]: the claim is missing where it had to queue.
    StartedClaimed(StartOutcome, Option<Box<Claimed>>),
    /// To [`Command::Claim`].
    Claimed(Vec<Claimed>),
    /// To [`Command::Commit`].
    Committed(Vec<CommitOutcome>),
    /// To [`Command::Send`]: for each letter whether its machine lives.
    Sent(Vec<bool>),
    /// To [`Command::Register`].
    Node(NodeId),
    /// To [`Command::Rescue`] and [`Command::Close`].
    Rescued(Rescued),
    /// To [`Command::Push`].
    Pushed(Box<Pushed>),
    /// To [`Command::Hold`]: how many machines it touched.
    Held(u64),
    /// To [`Command::TakeDuties`]: those that it was given.
    Taken(Vec<Taken>),
    /// To [`Command::Progress`].
    Progressed(Progressed),
    /// To [`Command::Prune`].
    Pruned(Pruned),
    /// Done.
    Done,
}

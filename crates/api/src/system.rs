//! The system itself: the server, nodes, sizes, retention.

use jiff::Timestamp;
use ostler_model::{Span, Uid};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServerInfo {
    /// The program's version.
    pub version: String,
    /// What time it is there.
    pub now: Timestamp,
    /// Who is asking, as the record will name them.
    pub actor: String,
    /// The process that serves the store, if one does.
    pub owner: Option<String>,
}

/// Numbers about the store.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StatsView {
    /// Schema version.
    pub schema: i64,
    /// Bytes of the store.
    pub bytes: u64,
    /// Bytes of it that are free.
    pub free_bytes: u64,
    /// Bytes of run logs.
    pub log_bytes: u64,
    /// Machines that are due later.
    pub later: u64,
    /// Machines that are due and wait for a node, a slot or a limit.
    pub ready: u64,
    /// Machines that a node has.
    pub claimed: u64,
    /// Machines that are held back.
    pub held: u64,
    /// The oldest event still there.
    pub first_event: i64,
    /// The last event.
    pub last_event: i64,
}

/// One lifetime of one process that uses the store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NodeView {
    /// Its number.
    pub id: i64,
    /// Host and process.
    pub name: String,
    /// Whether it serves the store.
    pub owner: bool,
    /// When it came.
    pub started_at: Timestamp,
    /// It has gone.
    pub closed: bool,
    /// Machines it has now.
    pub claims: u64,
    /// What it has, for tasks that ask for it (`runs_on`).
    #[serde(default)]
    pub labels: Vec<String>,
    /// It carries out only what asks for one of them.
    #[serde(default)]
    pub only_labelled: bool,
    /// How many executions at a time, where it has said so.
    #[serde(default)]
    pub slots: u32,
    /// For a worker who speaks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// It gets nothing more.
    #[serde(default)]
    pub draining: bool,
}

/// How much history stays. Whatever comes first takes the oldest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetentionPolicy {
    /// Ended runs are kept so long.
    #[serde(default)]
    pub age: Option<Span>,
    /// So many ended runs are kept.
    #[serde(default)]
    pub count: Option<u64>,
    /// The store's pages in use stay below so many bytes.
    #[serde(default)]
    pub bytes: Option<u64>,
}

impl Default for RetentionPolicy {
    /// 90 days, a million runs, 10 GiB.
    fn default() -> Self {
        Self { age: Some(Span::from_secs(90 * 86_400)), count: Some(1_000_000), bytes: Some(10 << 30) }
    }
}

/// What retention took.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PruneReport {
    /// Runs whose logs went too.
    pub runs: Vec<Uid>,
    /// Events.
    pub events: u64,
    /// There is more to take.
    pub more: bool,
}

//! The protocol of workers: programs that take jobs from a server and bring back what became of them.
//!
//! A job is one attempt at one step, as an executor would get it. A worker is a node of the store, so that what it holds
//! survives a restart of the server; the server itself remembers nothing of it between two requests. `docs/worker.md` is
//! the page to implement it from.

use std::collections::BTreeMap;

use ostler_model::{Name, TypedError, Uid};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    LogStream,
    wire::{Bounded, Seconds},
};

/// Jobs that one request may take or speak of.
pub const MAX_JOBS: usize = 1000;

/// How many jobs.
pub type Jobs = Bounded<0, 1000>;

/// A worker that begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewWorker {
    /// For people, as in lists of nodes: host and process.
    #[schemars(length(min = 1, max = 200))]
    pub name: String,
    /// How many jobs it carries out at a time, for people.
    #[serde(default)]
    pub slots: u32,
    /// What it has: it gets jobs that ask for none of other labels.
    #[serde(default)]
    pub labels: Vec<Name>,
    /// It gets only jobs that ask for one of them.
    #[serde(default)]
    pub only_labelled: bool,
}

/// A worker that has registered, and how it is to behave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerView {
    /// Its number, which stands in the path of everything it asks for.
    pub node: i64,
    /// Not heard of for so many milliseconds it counts as dead, and others get what it held.
    pub lease_ms: u64,
    /// It is to send a heartbeat at least so often, in milliseconds.
    pub heartbeat_ms: u64,
    /// The longest that an answer is held back, in seconds.
    pub max_wait: u32,
}

/// A job that a worker has: the run and the claim of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobRef {
    /// The run.
    pub run: Uid,
    /// The fence of the claim.
    pub fence: u64,
}

/// A wish for jobs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClaimRequest {
    /// At most so many.
    #[serde(default)]
    pub want: Option<Jobs>,
    /// Hold an answer without jobs back so many seconds.
    #[serde(default)]
    pub wait: Option<Seconds>,
    /// Every job that the worker has, also those whose outcome was not acknowledged. What the server gave it beyond these
    /// was lost on the way and is answered again.
    #[serde(default)]
    pub holds: Vec<JobRef>,
}

/// Jobs for a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClaimAnswer {
    /// What it is to carry out.
    pub jobs: Vec<Job>,
    /// It gets nothing more and is to leave when it has done what it has.
    pub drain: bool,
}

/// One attempt at one step, everything worked out, the values of secrets put in.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Job {
    /// The run.
    pub run: Uid,
    /// The claim: with `run` it names the job.
    pub fence: u64,
    /// From 1.
    pub attempt: u32,
    /// Same for every attempt and takeover, for whatever the job calls.
    pub idempotency_key: String,
    /// Where the task lives.
    pub namespace: String,
    /// The task.
    pub task: String,
    /// The step.
    pub step: String,
    /// The executor: `shell`, `exec`, `python`, `http`, ...
    pub uses: String,
    /// The code, for executors that run some.
    pub code: Option<String>,
    /// Positional arguments.
    pub args: Vec<Value>,
    /// Keyword arguments.
    pub kwargs: Map<String, Value>,
    /// Settings of the executor.
    pub with: Map<String, Value>,
    /// Inputs of the run.
    pub inputs: Value,
    /// Variables of the environment.
    pub env: BTreeMap<String, String>,
    /// Files of variables, below `env` in rank.
    pub env_file: Vec<String>,
    /// Variables of the worker to hand on.
    pub inherit_env: Vec<String>,
    /// Absolute.
    pub working_directory: Option<String>,
    /// Text for standard input.
    pub stdin: Option<String>,
    /// Between the polite signal and the kill, in milliseconds; 0: as the executor has it (10 s).
    pub grace_ms: u64,
    /// After so many milliseconds it is to be cut short, and its end is `timed_out`.
    pub stop_in_ms: Option<u64>,
    /// JSON Schema of what it hands on. The server checks it, too.
    pub output_schema: Option<Value>,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// Values of secrets in this job. None may appear in lines, outputs or errors: a worker writes `***` in their place.
    pub mask: Vec<String>,
}

impl std::fmt::Debug for Job {
    /// Without what secrets may be in.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { run, fence, attempt, task, uses, .. } = self;
        write!(f, "Job({run} fence {fence} attempt {attempt}: {task} by {uses})")
    }
}

/// What became of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Ended well.
    Succeeded,
    /// Ended badly; `error` says how.
    Failed,
    /// Cut short when `stop_in_ms` had passed.
    TimedOut,
    /// Cut short because a heartbeat's answer said so.
    Cancelled,
    /// Cut short because the worker goes down.
    Lost,
}

/// The end of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobOutcome {
    /// The run.
    pub run: Uid,
    /// The fence of the claim.
    pub fence: u64,
    /// How.
    pub state: JobState,
    /// What it hands on; at most 1 MiB.
    #[serde(default)]
    pub output: Value,
    /// Of a process.
    #[serde(default)]
    pub exit_code: Option<i32>,
    /// Why it failed.
    #[serde(default)]
    pub error: Option<TypedError>,
    /// So many milliseconds before this request the work began.
    #[serde(default)]
    pub began_ms_ago: u64,
}

/// Ends of jobs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutcomesRequest {
    /// At most 1000.
    pub outcomes: Vec<JobOutcome>,
}

/// What became of an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeResult {
    /// It is on record, by this request or by an earlier one.
    Committed,
    /// The claim does not count any more: somebody else has the run, or it has ended.
    Stale,
    /// There is no such run.
    Unknown,
}

/// What became of one outcome.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OutcomeAnswer {
    /// The run.
    pub run: Uid,
    /// The fence of the claim.
    pub fence: u64,
    /// Whether it is on record. Whatever it is, the worker is done with the job.
    pub result: OutcomeResult,
}

/// What became of outcomes, in their order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OutcomesAnswer {
    /// One for each.
    pub outcomes: Vec<OutcomeAnswer>,
}

/// A sign of life.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeartbeatRequest {
    /// Hold an answer without news back so many seconds; not longer than until the next heartbeat.
    #[serde(default)]
    pub wait: Option<Seconds>,
    /// Every job that the worker has.
    #[serde(default)]
    pub holds: Vec<JobRef>,
    /// Those of them that it has been told to end.
    #[serde(default)]
    pub cancelled: Vec<JobRef>,
    /// It knows that it is to leave.
    #[serde(default)]
    pub draining: bool,
}

/// A job that is to be ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CancelJob {
    /// The run.
    pub run: Uid,
    /// The fence of the claim.
    pub fence: u64,
    /// Who wants it and why.
    pub reason: String,
}

/// What a worker should know.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HeartbeatAnswer {
    /// Jobs to be ended, within their grace; their end is `cancelled`.
    pub cancel: Vec<CancelJob>,
    /// Jobs that are not the worker's any more: to be killed, and no outcome of them counts.
    pub lost: Vec<JobRef>,
    /// It gets nothing more and is to leave when it has done what it has.
    pub drain: bool,
}

/// How far a job is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProgressReport {
    /// Done so far.
    #[serde(default)]
    pub done: Option<u64>,
    /// Of how many.
    #[serde(default)]
    pub total: Option<u64>,
    /// What is being done.
    #[serde(default)]
    pub message: Option<String>,
}

/// One entry of a job's log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, deny_unknown_fields)]
pub enum LogEntry {
    /// A line, without its end; at most 64 KiB.
    Line {
        /// Where it comes from.
        stream: LogStream,
        /// The text, secrets masked.
        line: String,
    },
    /// How far the job is; once a second at most.
    Progress {
        /// The report.
        progress: ProgressReport,
    },
}

/// What a job wrote, one entry after the other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobEntries {
    /// The run.
    pub run: Uid,
    /// The fence of the claim.
    pub fence: u64,
    /// The attempt, as the job said.
    pub attempt: u32,
    /// The number of the first entry; the first of the attempt is 0.
    pub first: u64,
    /// From there on.
    pub entries: Vec<LogEntry>,
}

/// What jobs wrote.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogsRequest {
    /// Each job once.
    pub logs: Vec<JobEntries>,
}

/// How far a job's log has come.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogsAt {
    /// The run.
    pub run: Uid,
    /// The fence of the claim.
    pub fence: u64,
    /// The number of the next entry; `null`: the job is not the worker's, and nothing was written.
    pub next: Option<u64>,
}

/// How far logs have come, in the order of the request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogsAnswer {
    /// One for each job.
    pub logs: Vec<LogsAt>,
}

/// Jobs that were not begun and are given back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseRequest {
    /// Which. Those that are not the worker's are passed over.
    pub jobs: Vec<JobRef>,
}

/// Jobs that were given back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReleaseAnswer {
    /// Which.
    pub released: Vec<JobRef>,
}

/// A worker that has left.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerLeft {
    /// Jobs that it still had; they count as lost.
    pub lost: u64,
}

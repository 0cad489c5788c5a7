//! What an executor is asked to do and what it answers.

use std::{collections::BTreeMap, time::Duration};

use ostler_model::{MachineId, TypedError, Uid};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One attempt at one step, with every expression resolved except secrets.
///
/// Where a secret belongs, a value holds the handle `{"$secret": "NAME"}` (whole value) or, in `env`,
/// `\u{0}secret:NAME\u{0}` inside the text; the executor puts the value in and masks it in the log.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ExecRequest {
    /// The run this is an attempt of.
    pub machine: MachineId,
    /// Its public id.
    pub run: Option<Uid>,
    /// Same for every attempt and takeover of this call (decision 2).
    pub idempotency_key: String,
    /// Grows with every claim of this run.
    pub fence: u64,
    /// From 1.
    pub attempt: u32,
    /// Namespace, for logs and the environment of the child.
    pub namespace: String,
    /// Task id.
    pub task: String,
    /// Step id.
    pub step: String,
    /// The executor's name.
    pub uses: String,
    /// The code.
    pub run_text: Option<String>,
    /// Positional arguments.
    pub args: Vec<Value>,
    /// Keyword arguments.
    pub kwargs: Map<String, Value>,
    /// The executor's settings.
    pub with: Map<String, Value>,
    /// The run's inputs, as JSON, given to children as `$OSTLER_INPUTS`.
    pub inputs: Value,
    /// Environment on top of PATH, HOME, LANG, TZ.
    pub env: BTreeMap<String, String>,
    /// Files with `K=V` lines, below `env` in rank.
    pub env_file: Vec<String>,
    /// Variables of the node to hand on.
    pub inherit_env: Vec<String>,
    /// Absolute working directory.
    pub working_directory: Option<String>,
    /// Text for standard input.
    pub stdin: Option<String>,
    /// Time between the polite signal and the kill; zero means the executor's own (10 s).
    pub grace: Duration,
    /// JSON Schema of the outputs.
    pub output_schema: Option<Value>,
    /// W3C trace context for children and HTTP calls.
    #[serde(default)]
    pub traceparent: Option<String>,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExecEnd {
    /// Well, badly or cut short.
    pub outcome: ExecOutcome,
    /// What it hands on: an object for steps that write outputs, any JSON for results of functions.
    pub output: Value,
    /// Exit code of a process.
    pub exit_code: Option<i32>,
}

/// Well, badly or cut short.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecOutcome {
    /// Ended well.
    Succeeded,
    /// Ended badly.
    Failed(TypedError),
    /// Ended because the cancel token fired; why is known to whoever fired it.
    Interrupted,
}

impl ExecEnd {
    /// A good end.
    #[must_use]
    pub fn succeeded(output: Value) -> Self {
        Self { outcome: ExecOutcome::Succeeded, output, exit_code: None }
    }

    /// A bad end.
    #[must_use]
    pub fn failed(error: TypedError) -> Self {
        let exit_code = error.exit_code;
        Self { outcome: ExecOutcome::Failed(error), output: Value::Null, exit_code }
    }

    /// A bad end with a class and a message.
    #[must_use]
    pub fn error(class: &str, message: impl Into<String>) -> Self {
        Self::failed(TypedError::new(class, message))
    }

    /// The end of work whose token fired.
    #[must_use]
    pub fn interrupted() -> Self {
        Self { outcome: ExecOutcome::Interrupted, output: Value::Null, exit_code: None }
    }
}

/// Which stream a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Ostler's own remarks about the run.
    System,
}

/// A progress report: so many of so many, and a word about it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Done so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<u64>,
    /// Of how many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// What is being done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

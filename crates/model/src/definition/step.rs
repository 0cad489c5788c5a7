//! Steps: one call of an executor.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Expect, Retry};
use crate::{Name, Span};

/// One step: which executor does what, when, and what it hands on.
///
/// Texts marked *template* may hold `${{ }}` expressions; `run` may use constants and `matrix` only
/// (decision "code is never built from values").
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepDef {
    /// Unique within the task.
    pub id: Name,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The executor: `shell`, `exec`, `python`, `http`, `sql`.
    pub uses: String,
    /// The code: a shell script, an SQL script, Python.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Positional arguments (templates).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<Value>,
    /// Keyword arguments (templates).
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub kwargs: Map<String, Value>,
    /// Settings of the executor (templates).
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub with: Map<String, Value>,
    /// Steps that must have ended before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<Name>,
    /// The source of `if`, without `${{ }}`; `None` is `success()`.
    #[serde(default, rename = "if", skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// Environment (templates): the file's, the task's and the step's, merged.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Files with `K=V` lines, read when the step starts; later ones win, `env` wins over all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env_file: Vec<String>,
    /// Variables of the node's own environment that are handed on, beside PATH, HOME, LANG and TZ.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inherit_env: Vec<String>,
    /// Labels that a node must have to carry it out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs_on: Vec<Name>,
    /// Working directory (template); relative to the folder of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_directory: Option<String>,
    /// Text for standard input (template).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// The step is run once for each combination.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matrix: Option<Matrix>,
    /// A failure of this step does not fail the task.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub continue_on_error: bool,
    /// Laid over the task's retry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// One attempt of this step; laid over the task's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// JSON Schema that the outputs must meet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs: Option<Value>,
    /// How it should end.
    #[serde(default, skip_serializing_if = "Expect::is_default")]
    pub expect: Expect,
    /// The work may be done twice without harm; laid over the task's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotent: Option<bool>,
}

/// Combinations of values.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Matrix {
    /// The combinations, worked out when the file is read: `exclude` taken out, `include` added.
    pub combinations: Vec<Map<String, Value>>,
    /// How many at a time; `None`: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_parallel: Option<u32>,
    /// The first failure cancels the others.
    #[serde(default = "yes")]
    pub fail_fast: bool,
}

fn yes() -> bool {
    true
}

//! Schedules: a time trigger with inputs and what happens to late and overlapping firings.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Activation, Policy};
use crate::{Name, Span, TriggerSpec};

/// A schedule of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScheduleDef {
    /// Unique within the task: as given, or `s1`, `s2` by place.
    pub id: Name,
    /// When.
    pub trigger: TriggerSpec,
    /// The preset that is run; its inputs lie under `inputs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<Name>,
    /// Inputs of the runs.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub inputs: Map<String, Value>,
    /// What happens to moments that passed while nobody was there.
    #[serde(default)]
    pub missed: Missed,
    /// What happens when the run before still runs.
    #[serde(default)]
    pub overlap: Overlap,
    /// Laid over the policies of the preset and the task.
    #[serde(default)]
    pub policy: Policy,
    /// Fires at all.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// When its firings count.
    #[serde(default)]
    pub activation: Activation,
}

fn yes() -> bool {
    true
}

/// What happens to moments that passed while nobody was there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Missed {
    /// Which of them are made up for.
    #[serde(default)]
    pub policy: MissedPolicy,
    /// Only moments that are not longer ago than this; without it, however long ago.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Span>,
}

/// Which missed moments are made up for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MissedPolicy {
    /// None: they are recorded as skipped.
    Skip,
    /// The latest one runs, the others are recorded as skipped.
    #[default]
    Latest,
    /// Each runs.
    All,
}

/// What happens when the run before still runs at a due moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Overlap {
    /// Both run.
    #[default]
    Allow,
    /// It starts when the one before has ended; at most one waits, others are recorded as skipped.
    Queue,
    /// It is recorded as skipped.
    Skip,
    /// The one before is cancelled.
    CancelRunning,
}

//! Tasks, presets and the timetable they come in.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Policy, ScheduleDef, SinkDef, StepDef, TriggerDef};
use crate::{Name, RunState, trigger::CalendarDef};

/// All definitions of one file (or folder), lowered and checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Timetable {
    /// The namespace they belong to.
    pub namespace: Name,
    /// True when the file names no namespace and the digest of host, user and file stands for it.
    pub ephemeral: bool,
    /// Where they come from: absolute path or URL.
    pub origin: String,
    /// The calendars that triggers name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub calendars: BTreeMap<Name, CalendarDef>,
    /// Tasks in the order of the file.
    pub tasks: Vec<TaskDef>,
    /// Presets in the order of the file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub presets: Vec<PresetDef>,
    /// What carries events out, in the order of the file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sinks: Vec<SinkDef>,
}

/// A task: named, versioned definition of work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TaskDef {
    /// Stable id, unique within the namespace.
    pub id: Name,
    /// For people; the id when the file gives none.
    pub name: String,
    /// What it is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Runs at all.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Who answers for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Words to find it by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Who wrote it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub authors: Vec<String>,
    /// Where it was read.
    #[serde(default)]
    pub source: Source,
    /// The zone of its schedules that name none.
    pub timezone: String,
    /// JSON Schema of the inputs: an object with `properties`, `required`, `additionalProperties: false`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<Value>,
    /// JSON Schema of the outputs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs: Option<Value>,
    /// How its runs are treated.
    #[serde(default)]
    pub policy: Policy,
    /// When its runs count at all.
    #[serde(default)]
    pub activation: Activation,
    /// Its schedules.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schedules: Vec<ScheduleDef>,
    /// Its triggers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub triggers: Vec<TriggerDef>,
    /// At least one. With one, the task is a plain run; with several, a flow.
    pub steps: Vec<StepDef>,
    /// Run after the last step when the task succeeded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on_success: Vec<StepDef>,
    /// Run after the last step when it did not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on_failure: Vec<StepDef>,
    /// How a run of it should end.
    #[serde(default, skip_serializing_if = "Expect::is_default")]
    pub expect: Expect,
    /// Calendars of the file that its triggers name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub calendars: BTreeMap<Name, CalendarDef>,
}

fn yes() -> bool {
    true
}

impl TaskDef {
    /// True when its runs are flows: several steps, a matrix, a condition or handlers.
    #[must_use]
    pub fn is_flow(&self) -> bool {
        self.steps.len() != 1
            || !self.on_success.is_empty()
            || !self.on_failure.is_empty()
            || self.steps.iter().any(|s| s.matrix.is_some() || s.condition.is_some() || s.continue_on_error)
    }
}

/// Where a definition was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Source {
    /// Absolute path or URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// First line of the task in it, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// The folder that relative paths start from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
}

/// A task with some or all inputs filled in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PresetDef {
    /// Unique within the namespace.
    pub id: Name,
    /// The task.
    pub task: Name,
    /// What it is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The inputs.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub inputs: Map<String, Value>,
    /// Laid over the task's policy.
    #[serde(default)]
    pub policy: Policy,
    /// When it may be started.
    #[serde(default)]
    pub activation: Activation,
}

/// When a task, preset or schedule is active.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Activation {
    /// Not before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activate_on: Option<Timestamp>,
    /// Not from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deactivate_on: Option<Timestamp>,
    /// Whether the dates count.
    #[serde(default)]
    pub mode: ActivationMode,
}

/// Whether the dates of an [`Activation`] count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ActivationMode {
    /// They count.
    #[default]
    ByDates,
    /// Active whatever the dates say.
    On,
    /// Inactive whatever the dates say.
    Off,
}

impl Activation {
    /// Whether it is active at a moment. When `deactivate_on` comes before `activate_on`, the dates describe a pause
    /// from the first to the second.
    #[must_use]
    pub fn is_active(&self, now: Timestamp) -> bool {
        match self.mode {
            ActivationMode::On => true,
            ActivationMode::Off => false,
            ActivationMode::ByDates => match (self.activate_on, self.deactivate_on) {
                (None, None) => true,
                (Some(on), None) => now >= on,
                (None, Some(off)) => now < off,
                (Some(on), Some(off)) if on <= off => now >= on && now < off,
                (Some(on), Some(off)) => now >= on || now < off,
            },
        }
    }
}

/// How something should end: a tour or a test may declare a failure as what is right.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The final state; default `succeeded`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<RunState>,
    /// The class of its error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Expect {
    /// True when nothing is declared: success is expected.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Whether an end is the expected one.
    #[must_use]
    pub fn is_met(&self, state: RunState, error: Option<&crate::TypedError>) -> bool {
        state == self.state.unwrap_or(RunState::Succeeded)
            && self.error.as_deref().is_none_or(|p| error.is_some_and(|e| e.class.matches(p)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_activation_table() {
        let at = |s: i64| Timestamp::from_second(s).unwrap();
        let table = [
            (None, None, [true, true, true]),
            (Some(10), None, [false, true, true]),
            (None, Some(20), [true, true, false]),
            (Some(10), Some(20), [false, true, false]),
            (Some(20), Some(10), [true, false, true]),
        ];
        for (on, off, by_dates) in table {
            for (mode, expected) in [
                (ActivationMode::ByDates, by_dates),
                (ActivationMode::On, [true; 3]),
                (ActivationMode::Off, [false; 3]),
            ] {
                let activation = Activation { activate_on: on.map(at), deactivate_on: off.map(at), mode };
                assert_eq!([5, 15, 25].map(|s| activation.is_active(at(s))), expected, "{activation:?}");
            }
        }
    }
}

//! Triggers: something other than the clock that starts a task.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::MessageSource;
use crate::{Name, RunState, Span};

/// A trigger of a task: what it listens to, which events count, and what the run is given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TriggerDef {
    /// Unique among the schedules and triggers of the task: as given, or the source's word and its place (`run1`).
    pub id: Name,
    /// What it listens to.
    pub source: EventSource,
    /// The source of `if`, without `${{ }}`, over `event`; an event for which it is false is counted and ignored.
    #[serde(default, rename = "if", skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// The preset that is run; its inputs lie under `inputs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<Name>,
    /// Inputs of the runs (templates over `event`).
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub inputs: Map<String, Value>,
    /// It fires when no event has come for so long, once for all that came, with the last of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub debounce: Option<Span>,
    /// Fires at all.
    #[serde(default = "yes")]
    pub enabled: bool,
}

fn yes() -> bool {
    true
}

/// What a trigger listens to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EventSource {
    /// The end of a run of a task.
    Run {
        /// The task: `task` of the same namespace, or `namespace:task`.
        task: String,
        /// The ends that count; never empty.
        states: Vec<RunState>,
    },
    /// No run of a task has ended in one of these ways for too long (a dead man's switch). It fires once, and again
    /// only after such a run.
    Silence {
        /// The task: `task` of the same namespace, or `namespace:task`.
        task: String,
        /// The ends that count; never empty.
        states: Vec<RunState>,
        /// How long is too long.
        after: Span,
    },
    /// A request to `/hooks/NAMESPACE/TASK/ID` of a server.
    Webhook {
        /// The secret's name by which the request is signed (HMAC-SHA256); `None`: whoever can reach the address may.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        secret: Option<String>,
    },
    /// A file that is new or has changed.
    File {
        /// Absolute path, or relative to the folder of the file; `*`, `?` and `**` are wild.
        path: String,
        /// A file counts when it has been as it is for so long.
        settle: Span,
        /// Files that are there when the trigger is made count too.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        existing: bool,
    },
    /// A message of a broker.
    Message(MessageSource),
}

impl EventSource {
    /// The word for it in definition files.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Run { .. } => "run",
            Self::Silence { .. } => "silence",
            Self::Webhook { .. } => "webhook",
            Self::File { .. } => "file",
            Self::Message(source) => source.word(),
        }
    }

    /// The task whose ends it listens to, with its namespace; `home` is the namespace of the trigger.
    #[must_use]
    pub fn listens_to<'a>(&'a self, home: &'a str) -> Option<(&'a str, &'a str)> {
        match self {
            Self::Run { task, .. } | Self::Silence { task, .. } => {
                Some(task.split_once(':').unwrap_or((home, task)))
            }
            Self::Webhook { .. } | Self::File { .. } | Self::Message(_) => None,
        }
    }

    /// What it waits for, in words.
    #[must_use]
    pub fn describe(&self) -> String {
        let ends = |states: &[RunState]| {
            states.iter().map(|s| s.word().replace('_', " ")).collect::<Vec<_>>().join(" or ")
        };
        match self {
            Self::Run { task, states } => format!("when a run of {task} has {}", ends(states)),
            Self::Silence { task, states, after } => {
                format!("when no run of {task} has {} for {after}", ends(states))
            }
            Self::Webhook { secret: Some(secret) } => format!("at each request signed with secret {secret}"),
            Self::Webhook { secret: None } => "at each request, signed or not".to_owned(),
            Self::File { path, .. } => format!("when a file {path} is new or has changed"),
            Self::Message(source) => source.describe(),
        }
    }
}

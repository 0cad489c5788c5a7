//! What stands in query strings. No field is flattened: form encoding gives texts only, and a flattened number would
//! not be read.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use ostler_model::{RunState, Uid};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    DefinitionsBy, LogRequest, LogStream, NamespacesBy, PageRequest, RunQuery, RunsBy, SchedulesBy, Sort,
    TokensBy, TriggersBy,
};

/// The longest that an answer is held back, in seconds.
pub const MAX_WAIT_S: u32 = 60;

/// A number within bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Bounded<const MIN: u32, const MAX: u32>(pub u32);

/// How many of something one answer may hold.
pub type Count = Bounded<1, 10_000>;

/// For how long an answer may be held back.
pub type Seconds = Bounded<0, MAX_WAIT_S>;

impl<const MIN: u32, const MAX: u32> Bounded<MIN, MAX> {
    /// The number.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }
}

impl<'de, const MIN: u32, const MAX: u32> Deserialize<'de> for Bounded<MIN, MAX> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u32::deserialize(deserializer)?;
        if (MIN..=MAX).contains(&number) {
            return Ok(Self(number));
        }
        Err(serde::de::Error::custom(format!("`{number}` is not between {MIN} and {MAX}")))
    }
}

impl<const MIN: u32, const MAX: u32> JsonSchema for Bounded<MIN, MAX> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("From{MIN}To{MAX}").into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "integer", "minimum": MIN, "maximum": MAX })
    }
}

crate::paged! {
    /// Which page of the list of namespaces.
    pub struct NamespacesParams[NamespacesBy, Count] {}
}

crate::paged! {
    /// Which page of a list of definitions of one namespace, or of all.
    pub struct DefinitionsParams[DefinitionsBy, Count] {
        /// Only of this namespace.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub namespace: Option<String>,
    }
}

crate::paged! {
    /// Which page of the list of schedules of one task, or of all.
    pub struct SchedulesParams[SchedulesBy, Count] {
        /// Only of this task: `namespace:task`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub task: Option<String>,
    }
}

crate::paged! {
    /// Which page of the list of triggers of one task, or of all.
    pub struct TriggersParams[TriggersBy, Count] {
        /// Only of this task: `namespace:task`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub task: Option<String>,
    }
}

/// In which order all tokens are listed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokensParams {
    /// The order of the list; `-` turns it round.
    #[serde(default, skip_serializing_if = "Sort::is_default")]
    pub sort: Sort<TokensBy>,
}

/// States, with commas between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct States(pub Vec<RunState>);

impl fmt::Display for States {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.0.iter().map(|s| s.word()).collect();
        f.write_str(&words.join(","))
    }
}

impl Serialize for States {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for States {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let states = text.split(',').map(|word| RunState::from_str(word.trim()));
        states.collect::<Result<_, _>>().map(Self).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for States {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "States".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let words: Vec<_> = RunState::ALL.into_iter().map(RunState::word).collect();
        let one = words.join("|");
        schemars::json_schema!({
            "type": "string",
            "pattern": format!("^({one})(,({one}))*$"),
            "description": "States of runs, with commas between them.",
            "examples": ["failed,timed_out"],
        })
    }
}

crate::paged! {
    /// Which page of which runs.
    pub struct RunsParams[RunsBy, Count] {
        /// Only of this namespace.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub namespace: Option<String>,
        /// Only of this task (with its namespace, where several have one).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub task: Option<String>,
        /// Only in these states.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub state: Option<States>,
        /// Only made at or after.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub since: Option<Timestamp>,
        /// Only made before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub until: Option<Timestamp>,
        /// Only parts of this flow.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub parent: Option<Uid>,
    }
}

impl RunsParams {
    /// A page of what a query finds.
    #[must_use]
    pub fn new(query: &RunQuery, page: &PageRequest<RunsBy>) -> Self {
        let query = query.clone();
        Self {
            namespace: query.namespace,
            task: query.task,
            state: (!query.states.is_empty()).then_some(States(query.states)),
            since: query.since,
            until: query.until,
            parent: query.parent,
            ..Self::from(page)
        }
    }

    /// What is looked for, and which page of it.
    #[must_use]
    pub fn read(self) -> (RunQuery, PageRequest<RunsBy>) {
        let page = self.page();
        let query = RunQuery {
            namespace: self.namespace,
            task: self.task,
            states: self.state.map(|s| s.0).unwrap_or_default(),
            since: self.since,
            until: self.until,
            parent: self.parent,
        };
        (query, page)
    }
}

/// Which events, and how long an answer without any is held back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventsParams {
    /// Go on after this cursor; from the oldest when nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// At most so many; 50 when nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Count>,
    /// Hold an answer without events back so many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Seconds>,
}

/// How many transitions of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HistoryParams {
    /// At most so many of the newest; 50 when nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Count>,
}

/// Which lines of a run, and how long an answer without any is held back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogsParams {
    /// Only of this stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<LogStream>,
    /// Only of this attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Only lines that hold this text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grep: Option<String>,
    /// Only the last so many lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tail: Option<Count>,
    /// Go on after this cursor (`next` of the page before).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// At most so many lines; 1 000 when nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<Count>,
    /// Hold an answer without lines back so many seconds, unless the run has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Seconds>,
}

impl LogsParams {
    /// As they are asked for over a network.
    #[must_use]
    pub fn new(request: &LogRequest, wait: u32) -> Self {
        let request = request.clone();
        Self {
            stream: request.stream,
            attempt: request.attempt,
            grep: request.grep,
            tail: request.tail.map(Bounded),
            after: request.after,
            limit: request.limit.map(Bounded),
            wait: Some(Bounded(wait)),
        }
    }

    /// What is asked for.
    #[must_use]
    pub fn request(self) -> LogRequest {
        LogRequest {
            stream: self.stream,
            attempt: self.attempt,
            grep: self.grep,
            tail: self.tail.map(Count::get),
            after: self.after,
            limit: self.limit.map(Count::get),
        }
    }
}

/// A name as people spell it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResolveParams {
    /// A namespace, or the beginning of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// A task: `task` or `namespace:task`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Resolved {
    /// The namespace.
    pub namespace: String,
    /// The task, where one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
}

/// Which schedule of a task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleParams {
    /// Only this one; all of the task when nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
}

/// How definitions in the body are to be taken.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PushParams {
    /// Where they come from: tasks of the same origin that are not sent become missing; `api` when nothing is said. An
    /// absolute path is taken as the file's, so that relative paths in it start from its folder on the serving machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1000))]
    pub origin: Option<String>,
    /// Nobody named their namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ephemeral: Option<bool>,
    /// Whether what is sent is all of its origin (the rule); otherwise other tasks, and all schedules, stay as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complete: Option<bool>,
}

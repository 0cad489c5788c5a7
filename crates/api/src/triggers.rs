//! Triggers, and answers to what waits for one.

use jiff::Timestamp;
use ostler_model::{Uid, definition::TriggerDef};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A trigger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TriggerView {
    /// Its machine.
    pub id: Uid,
    /// Namespace.
    pub namespace: String,
    /// Task id.
    pub task: String,
    /// Its id within the task.
    pub trigger: String,
    /// What it listens to, in words.
    pub words: String,
    /// The path of its requests, for a webhook.
    pub path: Option<String>,
    /// How often it has fired.
    pub fired: u64,
    /// Events that did not count.
    pub ignored: u64,
    /// Deliveries that had come before.
    pub replays: u64,
    /// When it last fired.
    pub last: Option<Timestamp>,
    /// When it will fire, unless something comes before: the end of a debounce, or of what silence is allowed.
    pub next: Option<Timestamp>,
    /// Held back: by hand, or because its task is disabled or missing.
    pub paused: bool,
    /// Why it does not fire any more.
    pub ended: Option<String>,
    /// How listening goes, for one that listens to a broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listening: Option<ListeningView>,
    /// The definition.
    pub definition: Option<TriggerDef>,
}

/// How listening to a broker goes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ListeningView {
    /// The number of the node that listens; one does for all.
    pub node: Option<i64>,
    /// Since when it hears the broker.
    pub since: Option<Timestamp>,
    /// What keeps it from hearing.
    pub trouble: Option<String>,
    /// Since when that keeps it.
    pub trouble_since: Option<Timestamp>,
    /// What was lost the last time before it could be heard, as far as the broker tells.
    pub missed: Option<String>,
    /// How many messages it has taken.
    pub taken: u64,
    /// When it took the last one.
    pub last: Option<Timestamp>,
}

/// An event for a trigger, sent by hand.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FireRequest {
    /// What it carries: `event.body` in expressions.
    #[serde(default)]
    pub body: Value,
    /// By which a replay is known: a second event with the same one is counted and does nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<String>,
}

/// An event that was taken; it is on record, and acted on once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Accepted {
    /// The trigger's machine.
    pub trigger: Uid,
    /// By which a replay is known.
    pub delivery: Option<String>,
}

/// A signal for a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignalRequest {
    /// Its name, as the step that waits for it says.
    pub name: String,
    /// What it carries: the outputs of the step.
    #[serde(default)]
    pub data: Value,
    /// For the record.
    #[serde(default)]
    pub comment: String,
}

/// Yes or no to what a run waits for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// Yes or no.
    pub approve: bool,
    /// Which step, where several wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// What goes with it: `outputs.data` of the step.
    #[serde(default)]
    pub data: Value,
    /// For the record.
    #[serde(default)]
    pub comment: String,
}

/// What became of a signal or verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Answered {
    /// The run that has it.
    pub run: Uid,
    /// The step that waits, or will.
    pub step: String,
    /// False: no step waits for it yet; it is kept until one does.
    pub delivered: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_handed_on_stays_the_same() {
        let text = r#"{"name":"go","data":[10617445.073709553,0.1,1e300],"comment":""}"#;
        let request: SignalRequest = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&request).unwrap(), text.replace("1e300", "1e+300"));
        let again: SignalRequest = serde_json::from_str(&serde_json::to_string(&request).unwrap()).unwrap();
        assert_eq!(again, request);
    }
}

//! Waiting for a signal or an approval: a step that no executor carries out. It holds no worker, and survives whatever
//! happens to nodes, since it is a row and a letter.

use ostler_model::{RunState, TypedError, definition::StepDef};
use ostler_store::{EventBody, Letter};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::run::Tick;
use crate::{
    call::earliest,
    machine::{Change, Decision, Outcome},
    time::{after, timestamp},
};

/// The word in `uses` for a step that waits.
pub const WAIT: &str = "wait";

/// The name of the signal that a step waits for; an approval is a signal named after its step.
#[must_use]
pub fn signal_of(step: &StepDef) -> Option<String> {
    if step.uses != WAIT {
        return None;
    }
    match step.with.get("signal").and_then(Value::as_str) {
        Some(name) => Some(name.to_owned()),
        None => Some(format!("approval/{}", step.id)),
    }
}

/// What a signal carries.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Who sent it, as in `cli:alice`.
    pub by: String,
    /// For the step's outputs.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub data: Value,
    /// For an approval: the word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved: Option<bool>,
    /// For the record.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
}

impl Tick<'_> {
    /// Ends with the answer that has come, or waits on.
    pub(super) fn wait(mut self, step: &StepDef) -> Decision {
        let now = self.world.now;
        let begun = self.row.started_at.map_or(now, timestamp);
        let name = signal_of(step).unwrap_or_default();
        let answer = self.row.mail.iter().find_map(|(_, letter)| match letter {
            Letter::Signal { name: of, body } if *of == name => Some(body),
            _ => None,
        });
        if let Some(body) = answer {
            self.fields.attempts = 1;
            return match serde_json::from_str::<Answer>(body) {
                Ok(answer) => self.answered(answer),
                Err(error) => {
                    let error = TypedError::new("signal", format!("signal `{name}` does not read: {error}"));
                    self.end(RunState::Failed, Some(error), Some(begun))
                }
            };
        }
        let limit = self.policy.timeout.attempt.map(|limit| after(begun, limit));
        let until = earliest([limit, self.overall_stop().map(|(at, _)| at)]);
        if until.is_some_and(|until| until <= now) {
            let words = match step.with.contains_key("signal") {
                true => format!("signal `{name}` did not come in time"),
                false => "nobody approved or rejected it in time".to_owned(),
            };
            let error = TypedError::new("timeout", words);
            return self.end(RunState::TimedOut, Some(error), Some(begun));
        }
        let event = EventBody::new("waiting", &json!({ "signal": name }));
        let mut change = Change::new(Outcome::Stay { until, keep_permit: true }, event);
        change.started = Some(begun);
        Decision::Commit(Box::new(change))
    }

    fn answered(mut self, answer: Answer) -> Decision {
        let begun = self.row.started_at.map_or(self.world.now, timestamp);
        let comment = match answer.comment.as_str() {
            "" => String::new(),
            comment => format!(": {comment}"),
        };
        match answer.approved {
            Some(false) => {
                let error = TypedError::new("rejected", format!("{} rejected it{comment}", answer.by));
                self.end(RunState::Failed, Some(error), Some(begun))
            }
            Some(true) => {
                self.fields.reason = Some(format!("{} approved it{comment}", answer.by));
                self.fields.output = json!({ "approved": true, "by": answer.by, "comment": answer.comment, "data": answer.data });
                self.end(RunState::Succeeded, None, Some(begun))
            }
            None => {
                self.fields.reason = Some(format!("{} sent the signal{comment}", answer.by));
                self.fields.output = answer.data;
                self.end(RunState::Succeeded, None, Some(begun))
            }
        }
    }
}

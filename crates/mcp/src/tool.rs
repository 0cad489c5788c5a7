//! The tools: their names, what an agent reads of them, and what carries them out.

use std::{
    pin::Pin,
    sync::{Arc, LazyLock},
    time::Duration,
};

use ostler_api::{Api, ApiError, ErrorKind};
use rmcp::{
    handler::server::common::{schema_for_empty_input, schema_for_input},
    model::{JsonObject, Tool, ToolAnnotations},
};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;

use crate::{Changes, change, look, told::Told};

type Answer<T> = Result<T, ApiError>;
type Work = Pin<Box<dyn Future<Output = Answer<Told>> + Send>>;

/// How long the first pause of a wait is, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(25), Duration::from_millis(400));

/// Whoever calls a tool.
#[derive(Clone)]
pub(crate) struct Caller(pub(crate) Arc<dyn Api>);

impl Caller {
    /// Asks where blocking is allowed. A panic is an error of this call and of no other.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&dyn Api) -> Answer<T> + Send + 'static,
    ) -> Answer<T> {
        let api = self.0.clone();
        let asked = tokio::task::spawn_blocking(move || question(&*api)).await;
        asked.unwrap_or_else(|error| {
            tracing::error!(%error, "a tool was not carried out");
            let message = "the tool was not carried out: a defect, which the log describes";
            Err(ApiError::new(ErrorKind::Store, message))
        })
    }

    /// Asks again and again until the answer is worth giving or the time is up. No thread is held in between.
    pub(crate) async fn wait<T: Send + 'static>(
        &self,
        wait: Duration,
        question: impl Fn(&dyn Api) -> Answer<T> + Clone + Send + 'static,
        is_worth: impl Fn(&T) -> bool,
    ) -> Answer<T> {
        let until = Instant::now() + wait;
        let (mut pause, longest) = PAUSES;
        loop {
            let answer = self.ask(question.clone()).await?;
            let now = Instant::now();
            if is_worth(&answer) || now >= until {
                return Ok(answer);
            }
            tokio::time::sleep(pause.min(until - now)).await;
            pause = (pause * 2).min(longest);
        }
    }
}

/// What a tool does to the world, for clients that ask their user before it is called.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// It looks.
    Looks,
    /// It makes a task do whatever the task does.
    Runs,
    /// It ends what runs; once more changes nothing.
    Ends,
}

impl Effect {
    fn annotations(self, title: &str) -> ToolAnnotations {
        let looks = self == Self::Looks;
        ToolAnnotations::with_title(title)
            .read_only(looks)
            .destructive(!looks)
            .idempotent(self != Self::Runs)
            .open_world(self == Self::Runs)
    }
}

/// A tool with what carries it out.
pub(crate) struct Entry {
    pub(crate) tool: Tool,
    pub(crate) changes: bool,
    work: Box<dyn Fn(Caller, JsonObject) -> Work + Send + Sync>,
}

impl Entry {
    /// A tool that asks once.
    fn asks<A: DeserializeOwned + JsonSchema + Send + 'static>(
        effect: Effect,
        name: &'static str,
        title: &'static str,
        about: &'static str,
        question: fn(&dyn Api, A) -> Answer<Told>,
    ) -> Self {
        Self::works(effect, name, title, about, move |caller: Caller, arguments: A| async move {
            caller.ask(move |api| question(api, arguments)).await
        })
    }

    /// A tool that asks as often as it likes.
    fn works<A, F>(
        effect: Effect,
        name: &'static str,
        title: &'static str,
        about: &'static str,
        work: impl Fn(Caller, A) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        A: DeserializeOwned + JsonSchema + Send + 'static,
        F: Future<Output = Answer<Told>> + Send + 'static,
    {
        // Arguments are structs, whose schemas are objects.
        let schema = schema_for_input::<A>().unwrap_or_else(|_| schema_for_empty_input());
        let tool =
            Tool::new(name, about, schema).with_title(title).with_annotations(effect.annotations(title));
        let work = move |caller: Caller, arguments: JsonObject| -> Work {
            let work = work.clone();
            Box::pin(async move {
                let arguments = serde_json::from_value(Value::Object(arguments)).map_err(|e| {
                    ApiError::bad_input(format!("the arguments of `{name}` do not read: {e}"))
                })?;
                work(caller, arguments).await
            })
        };
        Self { tool, changes: effect != Effect::Looks, work: Box::new(work) }
    }

    /// Carries it out.
    pub(crate) async fn call(&self, caller: Caller, arguments: JsonObject) -> Answer<Told> {
        (self.work)(caller, arguments).await
    }
}

/// All of them, those that only look first.
pub(crate) static ENTRIES: LazyLock<Vec<Entry>> = LazyLock::new(|| {
    vec![
        Entry::asks(
            Effect::Looks,
            "list_tasks",
            "List tasks",
            "Tasks by namespace and id, without their definitions (`show_task` has those).",
            look::list_tasks,
        ),
        Entry::asks(
            Effect::Looks,
            "show_task",
            "Show a task",
            "One task with its definition: inputs, steps, policies, schedules, triggers.",
            look::show_task,
        ),
        Entry::asks(
            Effect::Looks,
            "list_runs",
            "List runs",
            "Runs without what they handed on (`show_run` has that). A run of several steps is a flow; \
             its steps are runs of their own and not on this list.",
            look::list_runs,
        ),
        Entry::asks(
            Effect::Looks,
            "show_run",
            "Show a run",
            "One run with its inputs, its outputs, its error and its steps.",
            look::show_run,
        ),
        Entry::asks(
            Effect::Looks,
            "explain",
            "Explain",
            "Why a run, a schedule or a trigger is as it is: why it exists, what it waits for, how it ended, and what \
             one can do about it.",
            look::explain,
        ),
        Entry::works(
            Effect::Looks,
            "tail",
            "Show what a run wrote",
            "The last lines of a run, or those after a cursor; at most 500 lines and 64 KiB. `complete` says that the \
             run has ended and that no more will come.",
            look::tail,
        ),
        Entry::asks(
            Effect::Looks,
            "list_schedules",
            "List schedules",
            "Schedules with what they do in words, and when they are due next.",
            look::list_schedules,
        ),
        Entry::asks(
            Effect::Looks,
            "list_triggers",
            "List triggers",
            "Triggers with what they listen to in words, and how often they have fired.",
            look::list_triggers,
        ),
        Entry::works(
            Effect::Runs,
            "run_task",
            "Run a task",
            "Starts a task now. With `wait_seconds` it waits for the end and gives the state and the last lines; a run \
             that takes longer goes on, and `show_run` and `tail` say how.",
            change::run_task,
        ),
        Entry::asks(
            Effect::Ends,
            "cancel_runs",
            "Cancel runs",
            "Asks runs to end. They end soon, not at once; `show_run` says when they have.",
            change::cancel_runs,
        ),
        Entry::works(
            Effect::Runs,
            "retry_run",
            "Run again",
            "Runs again what a run did that has ended, as a new run.",
            change::retry_run,
        ),
        Entry::asks(
            Effect::Runs,
            "answer",
            "Answer a run",
            "Approves or rejects what a run waits for, or sends it a signal. `explain` says what it waits for.",
            change::answer,
        ),
    ]
});

/// The tools that a client is told of.
#[must_use]
pub fn tools(changes: Changes) -> Vec<Tool> {
    let allowed = changes == Changes::Allowed;
    ENTRIES.iter().filter(|e| allowed || !e.changes).map(|e| e.tool.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_and_every_argument_is_described() {
        for tool in tools(Changes::Allowed) {
            let schema = Value::Object(tool.input_schema.as_ref().clone());
            let fields = schema["properties"].as_object().unwrap();
            assert!(!fields.is_empty() && schema["additionalProperties"] == false, "{schema}");
            for (name, field) in fields {
                assert!(field["description"].is_string(), "{}.{name}: {field}", tool.name);
            }
            assert!(tool.description.is_some_and(|d| d.len() > 20), "{}", tool.name);
        }
    }

    #[test]
    fn what_a_tool_does_is_announced() {
        let told = |name: &str| {
            let tool = tools(Changes::Allowed).into_iter().find(|t| t.name == name).unwrap();
            let hints = tool.annotations.unwrap();
            (hints.read_only_hint, hints.destructive_hint, hints.idempotent_hint, hints.open_world_hint)
        };
        let hints = |a, b, c, d| (Some(a), Some(b), Some(c), Some(d));
        assert_eq!(told("explain"), hints(true, false, true, false));
        assert_eq!(told("run_task"), hints(false, true, false, true));
        assert_eq!(told("cancel_runs"), hints(false, true, true, false));
        let looking = tools(Changes::refused("no"));
        assert!(
            looking.len() == 8
                && looking
                    .iter()
                    .all(|t| { t.annotations.as_ref().is_some_and(|a| a.read_only_hint == Some(true)) })
        );
    }
}

//! Tasks and presets.

use ostler_api::{
    Api, ApiError, ErrorKind, Held, ListPage, PresetView, StartRequest, Started, TaskView,
    wire::DefinitionsParams,
};
use ostler_model::definition::Policy;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Nothing, OneTask};
use crate::{
    json::Json,
    operation::{Call, Operation, Plain, Routes, Tagged},
};

/// What a task named in the path is started with.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct StartTask {
    /// Preset id.
    #[serde(default)]
    preset: Option<String>,
    /// Inputs, laid over the preset's.
    #[serde(default)]
    inputs: Map<String, Value>,
    /// Laid over the policies of preset and task.
    #[serde(default)]
    policy: Policy,
    /// When it is due; now when nothing is said.
    #[serde(default)]
    due: Option<jiff::Timestamp>,
}

pub(crate) fn add(routes: Routes) -> Routes {
    routes
        .add(Operation::get("/tasks", "tasks", "Tasks"), |call: Call<Nothing, DefinitionsParams, ()>| {
            let page = call.api.tasks(call.query.namespace.as_deref(), &call.query.page())?;
            Ok(Plain::<ListPage<TaskView>>(page))
        })
        .add(
            Operation::get("/tasks/{namespace}/{task}", "task", "One task with its definition").etag(),
            |call: Call<OneTask, Nothing, ()>| Ok(tagged(call.api.task(&call.path.task())?)),
        )
        .add(
            Operation::delete(
                "/tasks/{namespace}/{task}",
                "delete_task",
                "Take a task out: it is missing, its schedules are held, its history stays",
            )
            .if_match(),
            |call: Call<OneTask, Nothing, ()>| {
                let expected = call.if_match()?;
                Ok(Plain(call.api.delete_task(&call.path.task(), expected.as_deref())?))
            },
        )
        .add(
            Operation::post("/tasks/{namespace}/{task}/pause", "pause_task", "Hold back a task").if_match(),
            |call: Call<OneTask, Nothing, ()>| hold(&call, true),
        )
        .add(
            Operation::post("/tasks/{namespace}/{task}/resume", "resume_task", "Let a task go").if_match(),
            |call: Call<OneTask, Nothing, ()>| hold(&call, false),
        )
        .add(
            Operation::post("/tasks/{namespace}/{task}/runs", "start_task", "Start a task").creates().keyed(),
            |call: Call<OneTask, Nothing, Json<StartTask>>| {
                let idempotency_key = call.idempotency_key()?;
                let Json(start) = call.body;
                let request = StartRequest {
                    namespace: call.path.namespace,
                    task: call.path.task,
                    preset: start.preset,
                    inputs: start.inputs,
                    policy: start.policy,
                    due: start.due,
                    idempotency_key,
                };
                Ok(Plain::<Started>(call.api.start(request)?))
            },
        )
        .add(
            Operation::get("/presets", "presets", "Presets"),
            |call: Call<Nothing, DefinitionsParams, ()>| {
                let page = call.api.presets(call.query.namespace.as_deref(), &call.query.page())?;
                Ok(Plain::<ListPage<PresetView>>(page))
            },
        )
}

fn tagged(view: TaskView) -> Tagged<TaskView> {
    let tag = view.digest.clone();
    Tagged(view, tag)
}

fn hold(call: &Call<OneTask, Nothing, ()>, on: bool) -> Result<Plain<Held>, ApiError> {
    let task = call.path.task();
    if let Some(expected) = call.if_match()? {
        let found = call.api.task(&task)?.digest;
        if found != expected {
            let message = format!("task `{task}` is at {found} now, not at {expected}; look at it again");
            return Err(ApiError::new(ErrorKind::Stale, message));
        }
    }
    Ok(Plain(call.api.hold_task(&task, on)?))
}

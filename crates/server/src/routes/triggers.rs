//! Triggers, signals, approvals.

use ostler_api::{
    Accepted, Answered, Api, FireRequest, ListPage, SignalRequest, TaskRef, TriggerView, Verdict,
    wire::TriggersParams,
};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Nothing, OneRun};
use crate::{
    json::Json,
    operation::{Call, Operation, Plain, Routes},
};

/// The parameters of a path that names a trigger.
#[derive(Deserialize, JsonSchema)]
struct OneTrigger {
    /// The namespace.
    namespace: String,
    /// The task.
    task: String,
    /// The trigger.
    trigger: String,
}

pub(crate) fn add(routes: Routes) -> Routes {
    routes
        .add(
            Operation::get("/triggers", "triggers", "Triggers"),
            |call: Call<Nothing, TriggersParams, ()>| {
                let task = call.query.task.as_deref().map(|text| call.api.resolve_task(text)).transpose()?;
                Ok(Plain::<ListPage<TriggerView>>(call.api.triggers(task.as_ref(), &call.query.page())?))
            },
        )
        .add(
            Operation::post(
                "/triggers/{namespace}/{task}/{trigger}/fire",
                "fire",
                "Hand a trigger an event; it is acted on once",
            ),
            |call: Call<OneTrigger, Nothing, Json<FireRequest>>| {
                let task = TaskRef::new(&*call.path.namespace, &*call.path.task);
                Ok(Plain::<Accepted>(call.api.fire(&task, &call.path.trigger, &call.body.0)?))
            },
        )
        .add(
            Operation::post("/runs/{id}/signals", "signal", "Send a run a signal"),
            |call: Call<OneRun, Nothing, Json<SignalRequest>>| {
                Ok(Plain::<Answered>(call.api.signal(call.path.id, &call.body.0)?))
            },
        )
        .add(
            Operation::post("/runs/{id}/approval", "decide", "Approve or reject what a run waits for"),
            |call: Call<OneRun, Nothing, Json<Verdict>>| {
                Ok(Plain::<Answered>(call.api.decide(call.path.id, &call.body.0)?))
            },
        )
}

//! Schedules and what they will do.

use jiff::Timestamp;
use ostler_api::{
    Api, FiringsPage, ListPage, ScheduleView,
    wire::{Bounded, ScheduleParams, SchedulesParams},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Nothing, OneTask};
use crate::operation::{Call, Operation, Plain, Routes};

/// How far a preview looks.
const FAR: jiff::SignedDuration = jiff::SignedDuration::from_hours(24 * 366 * 30);

/// What a preview shows.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NextParams {
    /// From this moment; now when nothing is said.
    #[serde(default)]
    from: Option<Timestamp>,
    /// At most so many; 5 when nothing is said.
    #[serde(default)]
    limit: Option<Bounded<1, 1000>>,
}

pub(crate) fn add(routes: Routes) -> Routes {
    routes
        .add(
            Operation::get("/schedules", "schedules", "Schedules"),
            |call: Call<Nothing, SchedulesParams, ()>| {
                let task = call.query.task.as_deref().map(|text| call.api.resolve_task(text)).transpose()?;
                Ok(Plain::<ListPage<ScheduleView>>(call.api.schedules(task.as_ref(), &call.query.page())?))
            },
        )
        .add(
            Operation::get(
                "/schedules/{namespace}/{task}/next",
                "next_firings",
                "What the schedules of a task will do",
            ),
            |call: Call<OneTask, NextParams, ()>| {
                let view = call.api.task(&call.path.task())?;
                let from = call.query.from.unwrap_or_else(|| call.api.service().now());
                let until = from.saturating_add(FAR).unwrap_or(Timestamp::MAX);
                let limit = call.query.limit.map_or(5, Bounded::get) as usize;
                let tasks = std::slice::from_ref(&view.definition);
                let (items, complete) = ostler_service::preview(tasks, &view.namespace, from, until, limit)?;
                Ok(Plain(FiringsPage { items, complete }))
            },
        )
        .add(
            Operation::post(
                "/schedules/{namespace}/{task}/pause",
                "pause_schedule",
                "Hold back schedules of a task",
            ),
            |call: Call<OneTask, ScheduleParams, ()>| {
                Ok(Plain(call.api.hold_schedule(&call.path.task(), call.query.schedule.as_deref(), true)?))
            },
        )
        .add(
            Operation::post(
                "/schedules/{namespace}/{task}/resume",
                "resume_schedule",
                "Let schedules of a task go",
            ),
            |call: Call<OneTask, ScheduleParams, ()>| {
                Ok(Plain(call.api.hold_schedule(&call.path.task(), call.query.schedule.as_deref(), false)?))
            },
        )
}

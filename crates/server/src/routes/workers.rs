//! Workers: programs that take jobs and bring back what became of them. `docs/worker.md` tells how.

use std::time::Duration;

use ostler_api::{
    ApiError,
    wire::{Bounded, Seconds},
    workers::{
        ClaimAnswer, ClaimRequest, HeartbeatAnswer, HeartbeatRequest, JobRef, LogsAnswer, LogsAt,
        LogsRequest, NewWorker, OutcomesAnswer, OutcomesRequest, ReleaseAnswer, ReleaseRequest, WorkerLeft,
        WorkerView,
    },
};
use ostler_service::Actor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Nothing;
use crate::{
    json::Json,
    operation::{Call, Look, Operation, Plain, Routes, blocking, held_back},
};

/// Between two looks of a request that waits, at least: a busy store changes more often.
const PAUSE: Duration = Duration::from_millis(20);

/// The parameters of a path that names a worker.
#[derive(Deserialize, JsonSchema)]
struct OneWorker {
    /// Its number, as registering has given it.
    #[schemars(regex(pattern = "^[0-9]{1,18}$"))]
    node: String,
}

/// A worker that was told to leave.
#[derive(Serialize, JsonSchema)]
struct Draining {
    /// Which.
    node: i64,
}

impl<B> Call<OneWorker, Nothing, B> {
    fn node(&self) -> Result<i64, ApiError> {
        let text = &self.path.node;
        let number =
            text.parse().ok().filter(|_| text.len() <= 18 && text.bytes().all(|b| b.is_ascii_digit()));
        number.ok_or_else(|| {
            let shown: String = text.chars().take(40).collect();
            ApiError::bad_input(format!("`{shown}` is not the number of a worker"))
        })
    }

    fn actor(&self) -> &Actor {
        self.api.actor()
    }
}

pub(crate) fn add(routes: Routes) -> Routes {
    let routes = begin_and_end(routes);
    let routes = waiting(routes);
    results(routes)
}

fn begin_and_end(routes: Routes) -> Routes {
    routes
        .add(
            Operation::post("/workers", "register_worker", "Begin to work").creates(),
            |call: Call<Nothing, Nothing, Json<NewWorker>>| {
                Ok(Plain::<WorkerView>(call.app.workers.register(call.api.actor(), call.body.0)?))
            },
        )
        .add(
            Operation::delete(
                "/workers/{node}",
                "leave_worker",
                "Leave; what the worker still has counts as lost",
            ),
            |call: Call<OneWorker, Nothing, ()>| {
                Ok(Plain::<WorkerLeft>(call.app.workers.leave(call.actor(), call.node()?)?))
            },
        )
        .add(
            Operation::post(
                "/workers/{node}/drain",
                "drain_worker",
                "Have a worker leave when it has done what it has (for operators)",
            ),
            |call: Call<OneWorker, Nothing, ()>| {
                let node = call.node()?;
                call.app.workers.drain(call.actor(), node)?;
                Ok(Plain(Draining { node }))
            },
        )
}

fn waiting(routes: Routes) -> Routes {
    routes
        .add_async(
            Operation::post(
                "/workers/{node}/claim",
                "claim_jobs",
                "Take jobs, waiting for them where there are none",
            ),
            |call: Call<OneWorker, Nothing, Json<ClaimRequest>>| async move {
                let (node, actor) = (call.node()?, call.actor().clone());
                let wait = wait(call.body.0.wait);
                let app = call.app.clone();
                let answer = held_back(wait, &call.app.feed, None, |_| {
                    let (app, actor, request) = (app.clone(), actor.clone(), call.body.0.clone());
                    let line = call.line.clone();
                    async move {
                        // Jobs for one that has gone would be lost when its lease has passed.
                        if line.is_some_and(|line| line.is_closed()) {
                            return Err(ApiError::bad_input("the worker has gone while it waited for jobs"));
                        }
                        let found = blocking(move || Ok(app.workers.claim(&actor, node, &request)?)).await?;
                        let is_worth = !found.jobs.is_empty() || found.drain;
                        paused(is_worth, found).await
                    }
                });
                Ok(Plain::<ClaimAnswer>(answer.await?))
            },
        )
        .add_async(
            Operation::post(
                "/workers/{node}/heartbeat",
                "heartbeat",
                "Say that the worker lives, and hear which jobs are to be ended",
            ),
            |call: Call<OneWorker, Nothing, Json<HeartbeatRequest>>| async move {
                let (node, actor) = (call.node()?, call.actor().clone());
                let wait = wait(call.body.0.wait);
                let app = call.app.clone();
                let renewing = (app.clone(), actor.clone());
                blocking(move || Ok(renewing.0.workers.renew(&renewing.1, node)?)).await?;
                let answer = held_back(wait, &call.app.feed, None, |_| {
                    let (app, actor, request) = (app.clone(), actor.clone(), call.body.0.clone());
                    async move {
                        let knows = request.draining;
                        let found = blocking(move || Ok(app.workers.news(&actor, node, &request)?)).await?;
                        let is_worth =
                            !found.cancel.is_empty() || !found.lost.is_empty() || (found.drain && !knows);
                        paused(is_worth, found).await
                    }
                });
                Ok(Plain::<HeartbeatAnswer>(answer.await?))
            },
        )
}

fn wait(seconds: Option<Seconds>) -> Duration {
    Duration::from_secs(seconds.map_or(0, Bounded::get).into())
}

async fn paused<T>(is_worth: bool, found: T) -> Result<Look<T>, ApiError> {
    if !is_worth {
        tokio::time::sleep(PAUSE).await;
    }
    Ok(Look { found, is_worth, next: String::new() })
}

fn results(routes: Routes) -> Routes {
    routes
        .add(
            Operation::post("/workers/{node}/outcomes", "send_outcomes", "Bring back what became of jobs"),
            |call: Call<OneWorker, Nothing, Json<OutcomesRequest>>| {
                let (node, actor) = (call.node()?, call.actor().clone());
                let outcomes = call.app.workers.outcomes(&actor, node, call.body.0.outcomes)?;
                Ok(Plain(OutcomesAnswer { outcomes }))
            },
        )
        .add(
            Operation::post("/workers/{node}/logs", "send_logs", "Add to the logs of jobs"),
            |call: Call<OneWorker, Nothing, Json<LogsRequest>>| {
                let node = call.node()?;
                let LogsRequest { logs } = &call.body.0;
                let jobs: Vec<JobRef> =
                    logs.iter().map(|of| JobRef { run: of.run, fence: of.fence }).collect();
                let held = call.app.workers.held(call.actor(), node, &jobs)?;
                let written = logs.iter().zip(held).map(|(of, held)| {
                    let next = if held { Some(write(&call, of)?) } else { None };
                    Ok(LogsAt { run: of.run, fence: of.fence, next })
                });
                Ok(Plain(LogsAnswer { logs: written.collect::<Result<_, ApiError>>()? }))
            },
        )
        .add(
            Operation::post("/workers/{node}/release", "release_jobs", "Give back jobs that were not begun"),
            |call: Call<OneWorker, Nothing, Json<ReleaseRequest>>| {
                let released = call.app.workers.release(call.actor(), call.node()?, &call.body.0.jobs)?;
                Ok(Plain(ReleaseAnswer { released }))
            },
        )
}

fn write<B>(
    call: &Call<OneWorker, Nothing, B>,
    of: &ostler_api::workers::JobEntries,
) -> Result<u64, ApiError> {
    call.app.worker_logs.write(of).map_err(|error| {
        ApiError::new(ostler_api::ErrorKind::Store, format!("the log of {} cannot be read: {error}", of.run))
    })
}

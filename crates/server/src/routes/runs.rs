//! Runs: start, list, show, end, run again, lines.

use std::time::Duration;

use ostler_api::{
    Api, ApiError, BulkFilter, CancelReport, ErrorKind, ListPage, LogPage, LogRequest, MAX_STARTS,
    RerunRequest, RetryReport, RunView, StartRequest, Started,
    bodies::{RetryMany, StartMany},
    wire::{Count, HistoryParams, LogsParams, RunsParams, Seconds},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Nothing, OneRun};
use crate::{
    json::Json,
    operation::{Call, Look, Operation, Plain, Routes, Tagged, blocking, held_back},
    stream,
};

/// Why a run is to end.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CancelOne {
    /// For the record.
    #[serde(default)]
    reason: String,
}

pub(crate) fn add(routes: Routes) -> Routes {
    let routes = starts(routes);
    let routes = looks(routes);
    changes(routes)
}

fn starts(routes: Routes) -> Routes {
    routes
        .add(
            Operation::post("/runs", "start", "Start a task").creates().keyed(),
            |call: Call<Nothing, Nothing, Json<StartRequest>>| {
                let key = call.idempotency_key()?;
                let Json(mut request) = call.body;
                request.idempotency_key = request.idempotency_key.or(key);
                Ok(Plain::<Started>(call.api.start(request)?))
            },
        )
        .add(
            Operation::post(
                "/runs/batch",
                "start_many",
                "Start many in one transaction; a wrong one refuses all",
            )
            .creates()
            .keyed(),
            |call: Call<Nothing, Nothing, Json<StartMany>>| {
                let key = call.idempotency_key()?;
                let Json(StartMany { mut runs }) = call.body;
                if runs.len() > MAX_STARTS {
                    let message =
                        format!("{} starts in one request; at most {MAX_STARTS} are taken", runs.len());
                    return Err(ApiError::new(ErrorKind::TooLarge, message));
                }
                for (index, request) in runs.iter_mut().enumerate() {
                    if let (Some(key), None) = (&key, &request.idempotency_key) {
                        request.idempotency_key = Some(format!("{key}/{index}"));
                    }
                }
                Ok(Plain::<Vec<Started>>(call.api.start_many(runs)?))
            },
        )
}

fn looks(routes: Routes) -> Routes {
    routes
        .add(Operation::get("/runs", "runs", "Runs"), |call: Call<Nothing, RunsParams, ()>| {
            let (query, page) = call.query.read();
            Ok(Plain::<ListPage<RunView>>(call.api.runs(&query, &page)?))
        })
        .add(Operation::get("/runs/{id}", "run", "One run").etag(), |call: Call<OneRun, Nothing, ()>| {
            let run = call.api.run(call.path.id)?;
            let tag = tag_of(&run);
            Ok(Tagged(run, tag))
        })
        .add(
            Operation::get("/runs/{id}/history", "history", "What happened to a run, oldest first"),
            |call: Call<OneRun, HistoryParams, ()>| {
                Ok(Plain(call.api.history(call.path.id, call.query.limit.map_or(50, Count::get))?))
            },
        )
        .add(
            Operation::get("/why/{id}", "why", "Why a run or schedule is as it is"),
            |call: Call<OneRun, Nothing, ()>| Ok(Plain(call.api.why(call.path.id)?)),
        )
        .add_async(
            Operation::get("/runs/{id}/logs", "logs", "What a run wrote"),
            |call: Call<OneRun, LogsParams, ()>| async move {
                let wait = Duration::from_secs(u64::from(call.query.wait.map_or(0, Seconds::get)));
                let id = call.path.id;
                let request = call.query.request();
                let page = held_back(wait, &call.app.feed, request.after.clone(), |after| {
                    let (api, asked) = (call.api.clone(), LogRequest { after, ..request.clone() });
                    blocking(move || {
                        let found = api.logs(id, &asked, Duration::ZERO)?;
                        let is_worth = found.complete || !found.items.is_empty() || asked.tail.is_some();
                        Ok(Look { is_worth, next: found.next.clone(), found })
                    })
                });
                Ok(Plain::<LogPage>(page.await?))
            },
        )
        .add_async(
            Operation::get(
                "/runs/{id}/logs/stream",
                "follow_logs",
                "Lines of a run as they come, until it has ended",
            ),
            |call: Call<OneRun, LogsParams, ()>| async move {
                let mut request = call.query.request();
                request.tail = None;
                request.after = stream::last_event_id(&call.headers)?.or(request.after);
                stream::lines(call.api, call.path.id, request).await
            },
        )
}

fn changes(routes: Routes) -> Routes {
    routes
        .add(
            Operation::post("/runs/cancel", "cancel_many", "Ask runs to end: those named, or all that fit"),
            |call: Call<Nothing, Nothing, Json<BulkFilter>>| {
                Ok(Plain::<CancelReport>(call.api.cancel(&call.body.0)?))
            },
        )
        .add(
            Operation::post(
                "/runs/retry",
                "retry_many",
                "Run again what ended runs did: those named, or all that fit",
            ),
            |call: Call<Nothing, Nothing, Json<RetryMany>>| {
                let Json(RetryMany { which, how }) = call.body;
                Ok(Plain::<RetryReport>(call.api.rerun_many(&which, &how)?))
            },
        )
        .add(
            Operation::post("/runs/{id}/cancel", "cancel", "Ask a run to end").if_match(),
            |call: Call<OneRun, Nothing, Json<CancelOne>>| {
                expect_step(&call)?;
                let which = BulkFilter {
                    ids: vec![call.path.id],
                    reason: call.body.0.reason,
                    ..BulkFilter::default()
                };
                Ok(Plain::<CancelReport>(call.api.cancel(&which)?))
            },
        )
        .add(
            Operation::post("/runs/{id}/retry", "retry", "Run again what an ended run did")
                .creates()
                .if_match(),
            |call: Call<OneRun, Nothing, Json<RerunRequest>>| {
                expect_step(&call)?;
                Ok(Plain::<Started>(call.api.rerun(call.path.id, &call.body.0)?))
            },
        )
}

fn tag_of(run: &RunView) -> String {
    format!("{}-{}", run.machine_step, run.state)
}

/// Refuses when a run has moved on since the caller looked.
fn expect_step<B>(call: &Call<OneRun, Nothing, B>) -> Result<(), ApiError> {
    let Some(expected) = call.if_match()? else { return Ok(()) };
    let found = tag_of(&call.api.run(call.path.id)?);
    if found == expected {
        return Ok(());
    }
    let message = format!("run {} is at {found} now, not at {expected}; look at it again", call.path.id);
    Err(ApiError::new(ErrorKind::Stale, message))
}

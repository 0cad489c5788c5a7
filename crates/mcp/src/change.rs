//! Tools that change something.

use std::time::Duration;

use ostler_api::{
    Api, ApiError, BulkFilter, LogPage, LogRequest, RerunRequest, RunView, SignalRequest, StartRequest,
    Started, Verdict,
};
use serde_json::json;

use crate::{
    arguments::{Answer as Answering, CancelRuns, Reply, RetryRun, RunTask},
    look::{lines_of, said, written},
    told::Told,
    tool::Caller,
};

type Answer<T> = Result<T, ApiError>;

/// Lines that are shown with a run that was waited for.
const LINES: u32 = 50;

pub(crate) async fn run_task(caller: Caller, asked: RunTask) -> Answer<Told> {
    let wait = asked.wait_seconds.map_or(0, |w| w.get());
    let started = caller
        .ask(move |api| {
            let task = api.resolve_task(&asked.task)?;
            api.start(StartRequest {
                namespace: task.namespace,
                task: task.task,
                preset: asked.preset,
                inputs: asked.inputs,
                idempotency_key: asked.idempotency_key,
                ..StartRequest::default()
            })
        })
        .await?;
    followed(&caller, started, wait).await
}

pub(crate) async fn retry_run(caller: Caller, asked: RetryRun) -> Answer<Told> {
    let wait = asked.wait_seconds.map_or(0, |w| w.get());
    let how = RerunRequest { from_failed: asked.from_failed, inputs: asked.inputs, current: asked.current };
    let started = caller.ask(move |api| api.rerun(asked.id, &how)).await?;
    followed(&caller, started, wait).await
}

pub(crate) fn cancel_runs(api: &dyn Api, asked: CancelRuns) -> Answer<Told> {
    if asked.ids.is_empty() {
        return Err(ApiError::bad_input("`ids` names no run"));
    }
    let report = api.cancel(&BulkFilter { ids: asked.ids, reason: asked.reason, ..BulkFilter::default() })?;
    let text = format!("{} asked to end, {} had ended already", report.asked, report.ended_already);
    Told::new(text, &report)
}

pub(crate) fn answer(api: &dyn Api, asked: Answering) -> Answer<Told> {
    let Answering { id, reply, step, signal, data, comment } = asked;
    let (answered, word) = match (reply, signal) {
        (Reply::Signal, Some(name)) => {
            (api.signal(id, &SignalRequest { name, data, comment })?, "the signal was sent")
        }
        (Reply::Signal, None) => {
            return Err(ApiError::bad_input("a signal needs its name: `signal`")
                .hint("`explain` says what the run waits for"));
        }
        (_, Some(_)) => {
            return Err(ApiError::bad_input("`signal` goes with the reply `signal` only"));
        }
        (Reply::Approve, None) => {
            (api.decide(id, &Verdict { approve: true, step, data, comment })?, "approved")
        }
        (Reply::Reject, None) => {
            (api.decide(id, &Verdict { approve: false, step, data, comment })?, "rejected")
        }
    };
    let text = match answered.delivered {
        true => format!("{word}: step {}", answered.step),
        false => format!("{word}: kept until step {} waits for it", answered.step),
    };
    Told::new(text, &answered)
}

/// What became of a start, after so many seconds at most.
async fn followed(caller: &Caller, started: Started, wait: u32) -> Answer<Told> {
    let id = started.id();
    let outcome = match started {
        Started::Started { .. } => "was started",
        Started::AlreadyRunning { .. } => "runs already, with the same unique key",
        Started::Repeated { .. } => "was started before, with the same idempotency key",
        Started::Skipped { .. } => "was skipped",
    };
    match look(caller, started, wait).await {
        Ok((run, log, note)) => {
            let mut text = format!("{id} {outcome}; {}", said(&run));
            if let Some(log) = log.as_ref().filter(|log| !log.items.is_empty()) {
                text.push_str(&format!("\nlast lines:\n{}", written(log)));
            }
            if let Some(note) = note {
                text.push_str(&format!("\n{note}"));
            }
            Told::new(text, &json!({ "start": started, "run": run, "log": log }))
        }
        // It was started, which must not be lost: whoever does not know starts it once more.
        Err(error) => Told::new(
            format!("{id} {outcome}; it could not be looked at afterwards: {error}"),
            &json!({ "start": started, "run": null, "log": null }),
        ),
    }
}

/// The run, its last lines once it was waited for, and what one should know of it.
async fn look(
    caller: &Caller,
    started: Started,
    wait: u32,
) -> Answer<(RunView, Option<LogPage>, Option<&'static str>)> {
    let id = started.id();
    let wait = Duration::from_secs(wait.into());
    let run = caller.wait(wait, move |api| api.run(id), |run| run.state.is_final()).await?;
    if run.state.is_final() || !wait.is_zero() {
        let is_skipped = matches!(started, Started::Skipped { .. });
        let is_final = run.state.is_final();
        let (log, owner) = caller
            .ask(move |api| {
                let log = match is_skipped {
                    true => None,
                    false => Some(lines_of(api, id, &LogRequest::default(), LINES)?),
                };
                Ok((log, if is_final { None } else { Some(api.info()?.owner) }))
            })
            .await?;
        let note = match owner {
            Some(None) => Some("no `ostler serve` works on this store: the run waits until one does"),
            Some(Some(_)) => Some("it goes on: `show_run`, `tail` and `explain` say how it stands"),
            None => None,
        };
        return Ok((run, log, note));
    }
    Ok((run, None, Some("`show_run`, `tail` and `explain` say how it stands")))
}

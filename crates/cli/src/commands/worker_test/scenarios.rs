//! What a worker is tried with.

use std::{future::Future, pin::Pin, time::Duration};

use ostler_api::RunView;
use ostler_model::{RunState, Uid};
use rustix::process::{Pid, Signal};
use serde_json::json;
use tokio::time::Instant;

use super::{
    proxy::Loss,
    yard::{LEASE_S, SECRET, SLOTS, Yard},
};

type Played<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + 'a>>;

/// One thing that a worker is to do right.
pub struct Scenario {
    pub name: &'static str,
    pub play: fn(&mut Yard) -> Played<'_>,
}

macro_rules! scenarios {
    ($($name:literal => $play:ident,)*) => {
        /// All of them, in their order.
        pub const SCENARIOS: &[Scenario] = &[
            $(Scenario { name: $name, play: |yard| Box::pin($play(yard)) },)*
        ];
    };
}

scenarios! {
    "success" => success,
    "failure" => failure,
    "retry" => retry,
    "other-executor" => other_executor,
    "timeout" => timeout,
    "cancellation" => cancellation,
    "stubborn-job" => stubborn_job,
    "order-of-lines" => order_of_lines,
    "secrets" => secrets,
    "slots" => slots,
    "lost-claim" => lost_claim,
    "lost-outcome" => lost_outcome,
    "lost-lines" => lost_lines,
    "server-restart" => server_restart,
    "server-away" => server_away,
    "paused-past-lease" => paused_past_lease,
    "drain" => drain,
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what} is {found:?}, not {expected:?}"))
}

/// Starts a task and gives its run when it has ended.
async fn played(yard: &mut Yard, task: &str) -> Result<RunView, String> {
    yard.has_worker().await?;
    let id = yard.start(task).await?;
    yard.ended(id).await
}

fn succeeded(run: &RunView, attempts: u32) -> Result<(), String> {
    expect("the state", run.state, RunState::Succeeded)?;
    expect("the number of attempts", run.attempts, attempts)
}

async fn success(yard: &mut Yard) -> Result<(), String> {
    let run = played(yard, "hands-on").await?;
    succeeded(&run, 1)?;
    expect("the output `attempt`", run.output["attempt"].clone(), json!("1"))?;
    let key = run.output["key"].as_str().unwrap_or_default();
    if !key.starts_with(&run.id.to_string()) {
        return Err(format!("the output `key` is `{key}`, not the idempotency key of the job"));
    }
    expect("the log", yard.lines(run.id).await?, vec!["hello, world".to_owned()])
}

async fn failure(yard: &mut Yard) -> Result<(), String> {
    let run = played(yard, "fails").await?;
    expect("the state", run.state, RunState::Failed)?;
    let class = run.error.map(|error| error.class.to_string());
    expect("the error's class", class.as_deref(), Some("exit:3"))?;
    expect("the log", yard.lines(run.id).await?, vec!["oh no".to_owned()])
}

async fn retry(yard: &mut Yard) -> Result<(), String> {
    succeeded(&played(yard, "fails-once").await?, 2)
}

/// Knows it or not: the run ends.
async fn other_executor(yard: &mut Yard) -> Result<(), String> {
    expect("the state", played(yard, "other-work").await?.state, RunState::Failed)
}

async fn timeout(yard: &mut Yard) -> Result<(), String> {
    let began = Instant::now();
    expect("the state", played(yard, "takes-too-long").await?.state, RunState::TimedOut)?;
    quick("a timeout of 1s with a grace of 1s", began, 8)
}

fn quick(what: &str, since: Instant, seconds: u64) -> Result<(), String> {
    let took = since.elapsed();
    if took <= Duration::from_secs(seconds) {
        return Ok(());
    }
    Err(format!("{what} took {:.1} s", took.as_secs_f64()))
}

async fn cancellation(yard: &mut Yard) -> Result<(), String> {
    cancelled(yard, "sleeps", 5).await
}

async fn stubborn_job(yard: &mut Yard) -> Result<(), String> {
    cancelled(yard, "stubborn", 7).await
}

async fn cancelled(yard: &mut Yard, task: &str, seconds: u64) -> Result<(), String> {
    yard.has_worker().await?;
    let id = yard.start(task).await?;
    yard.begun(id).await?;
    let asked = Instant::now();
    yard.cancel(id).await?;
    let run = yard.ended(id).await?;
    expect("the state", run.state, RunState::Cancelled)?;
    let reason = run.reason.unwrap_or_default();
    expect("that the reason is told", reason.ends_with("the test says so"), true)?;
    quick("the end of a cancelled job", asked, seconds)
}

async fn order_of_lines(yard: &mut Yard) -> Result<(), String> {
    let run = played(yard, "counts").await?;
    in_order(yard, &run).await
}

async fn in_order(yard: &Yard, run: &RunView) -> Result<(), String> {
    succeeded(run, 1)?;
    let lines = yard.lines(run.id).await?;
    let expected = (0..500).map(|i| format!("line {i}"));
    match lines.iter().zip(expected).position(|(found, expected)| *found != expected) {
        Some(at) => Err(format!("line {at} of the log is `{}`", lines[at])),
        None => expect("the number of lines", lines.len(), 500),
    }
}

async fn secrets(yard: &mut Yard) -> Result<(), String> {
    let run = played(yard, "keeps-quiet").await?;
    succeeded(&run, 1)?;
    expect("the log", yard.lines(run.id).await?, vec!["the key is ***".to_owned()])?;
    if run.output.to_string().contains(SECRET) {
        return Err("the output has the value of a secret in it".into());
    }
    Ok(())
}

async fn slots(yard: &mut Yard) -> Result<(), String> {
    yard.has_worker().await?;
    let began = Instant::now();
    let mut ids = Vec::new();
    for _ in 0..SLOTS {
        ids.push(yard.start("naps").await?);
    }
    for id in ids {
        succeeded(&yard.ended(id).await?, 1)?;
    }
    quick(&format!("{SLOTS} jobs of a second each, with {SLOTS} slots,"), began, 3)
}

async fn lost_claim(yard: &mut Yard) -> Result<(), String> {
    yard.has_worker().await?;
    yard.proxy.lose(Loss::Jobs);
    let run = played(yard, "hands-on").await?;
    expect("that an answer with a job was lost", yard.proxy.has_lost(), true)?;
    succeeded(&run, 1)
}

async fn lost_outcome(yard: &mut Yard) -> Result<(), String> {
    yard.has_worker().await?;
    yard.proxy.lose(Loss::Outcomes);
    let run = played(yard, "hands-on").await?;
    yard.until("an answer to outcomes was lost", async |yard| Ok(yard.proxy.has_lost())).await?;
    succeeded(&run, 1)?;
    // The worker is well: it takes the next one.
    succeeded(&played(yard, "hands-on").await?, 1)?;
    expect("the number of transitions", yard.history(run.id).await?.len(), 2)
}

async fn lost_lines(yard: &mut Yard) -> Result<(), String> {
    yard.has_worker().await?;
    yard.proxy.lose(Loss::Logs);
    let run = played(yard, "counts").await?;
    expect("that an answer to lines was lost", yard.proxy.has_lost(), true)?;
    in_order(yard, &run).await
}

async fn server_restart(yard: &mut Yard) -> Result<(), String> {
    yard.has_worker().await?;
    let id = yard.start("naps").await?;
    yard.begun(id).await?;
    yard.server_dies().await?;
    // The job ends meanwhile.
    tokio::time::sleep(Duration::from_millis(1300)).await;
    yard.server_is_back().await?;
    succeeded(&yard.ended(id).await?, 1)?;
    expect("the number of transitions", yard.history(id).await?.len(), 2)?;
    expect("the log", yard.lines(id).await?, vec!["begun".to_owned(), "done".to_owned()])
}

/// Starts what sleeps in its first attempt and ends well in its second; gives the run and the process of the first.
async fn begun_again(yard: &mut Yard) -> Result<(Uid, Pid), String> {
    yard.has_worker().await?;
    let before = yard.marks("again").len();
    let id = yard.start("again").await?;
    yard.until("the job has begun", async |yard| Ok(yard.marks("again").len() > before)).await?;
    let process = yard.marks("again").get(before).and_then(|text| Pid::from_raw(text.parse().ok()?));
    Ok((id, process.ok_or("the job left no mark")?))
}

async fn has_ended(yard: &Yard, process: Pid) -> Result<(), String> {
    let is_gone = async |_: &Yard| Ok(rustix::process::test_kill_process(process).is_err());
    yard.until("the process of the first attempt has ended", is_gone).await
}

/// Nothing runs on when the worker could not say for too long that it lives.
async fn server_away(yard: &mut Yard) -> Result<(), String> {
    let (id, process) = begun_again(yard).await?;
    yard.server_dies().await?;
    let away = Instant::now();
    let ended = has_ended(yard, process).await;
    yard.server_is_back().await?;
    ended?;
    quick("the end of what ran when the server was not there", away, LEASE_S + 1)?;
    succeeded(&yard.ended(id).await?, 2)
}

async fn paused_past_lease(yard: &mut Yard) -> Result<(), String> {
    let (id, process) = begun_again(yard).await?;
    let known = yard.workers().await?.len();
    yard.signal(Signal::STOP)?;
    tokio::time::sleep(Duration::from_secs(LEASE_S)).await;
    let given_up = async |yard: &Yard| Ok(yard.workers().await?.iter().all(|worker| worker.closed));
    let gone = yard.until("the server has given the worker up", given_up).await;
    yard.signal(Signal::CONT)?;
    gone?;
    yard.until("the worker has registered again", async |yard| Ok(yard.workers().await?.len() > known))
        .await?;
    succeeded(&yard.ended(id).await?, 2)?;
    has_ended(yard, process).await
}

async fn drain(yard: &mut Yard) -> Result<(), String> {
    yard.has_worker().await?;
    let id = yard.start("naps").await?;
    yard.begun(id).await?;
    yard.signal(Signal::TERM)?;
    let waits = yard.start("hands-on").await?;
    let code = yard.worker_ends().await?;
    expect("the worker's exit code", code, Some(0))?;
    succeeded(&yard.ended(id).await?, 1)?;
    expect("that every worker has left", yard.workers().await?.iter().all(|w| w.closed), true)?;
    // An answer that was on its way may have given it to this one; either way it was not lost.
    yard.has_worker().await?;
    succeeded(&yard.ended(waits).await?, 1)
}

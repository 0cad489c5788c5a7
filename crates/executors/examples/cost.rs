//! What starting things costs: `cargo run --release -p ostler-executors --example cost`.
//!
//! Prints the median of each; the bare figures are of the same run, so that a busy machine shows in both.

use std::{process::ExitCode, sync::Arc, time::Duration};

use ostler_clock::{Clock, SystemClock};
use ostler_execution::{Cancel, Discard, ExecContext, ExecEnd, ExecRequest, Executors};
use ostler_executors::{
    ExecutorConfig,
    spawner::{SpawnSpec, Spawner, SpawnerProgram, spawner_main},
    standard,
};
use serde_json::json;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("__spawner") {
        return spawner_main();
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads");
    runtime.block_on(measure());
    ExitCode::SUCCESS
}

async fn measure() {
    const TIMES: usize = 200;
    let mut bare = Vec::new();
    let mut bare_shell = Vec::new();
    for _ in 0..TIMES {
        bare.push(timed(async { bare_process(&["/bin/true"]) }).await);
        bare_shell.push(timed(async { bare_process(&["/bin/sh", "-c", "true"]) }).await);
    }
    let program = || SpawnerProgram::this_binary(["__spawner"]);
    let mut first = Vec::new();
    for _ in 0..20 {
        let spawner = Spawner::new(program());
        first.push(timed(spawned(&spawner)).await);
    }
    let spawner = Spawner::new(program());
    let mut spawns = Vec::new();
    spawned(&spawner).await;
    for _ in 0..TIMES {
        spawns.push(timed(spawned(&spawner)).await);
    }
    let executors = standard(ExecutorConfig { spawner: program(), ..ExecutorConfig::default() });
    let shell = ExecRequest { uses: "shell".into(), run_text: Some("true".into()), ..ExecRequest::default() };
    execute(&executors, &shell).await;
    let mut steps = Vec::new();
    for _ in 0..TIMES {
        steps.push(timed(execute(&executors, &shell)).await);
    }
    let mut entry =
        ExecRequest { uses: "python".into(), args: vec![json!(2), json!(10)], ..ExecRequest::default() };
    entry.with.insert("entrypoint".into(), json!("operator:pow"));
    execute(&executors, &entry).await;
    let mut calls = Vec::new();
    for _ in 0..2000 {
        calls.push(timed(execute(&executors, &entry)).await);
    }
    let total: Duration = calls.iter().sum();
    let rate = 2000.0 / total.as_secs_f64();

    println!("bare true                    {:?}", median(bare));
    println!("bare sh -c true              {:?}", median(bare_shell));
    println!("true, first of a new spawner {:?}", median(first));
    println!("true by the spawner          {:?}", median(spawns));
    println!("shell step `true`            {:?}", median(steps));
    println!("warm Python call             {:?}, {rate:.0} a second", median(calls));
}

fn bare_process(argv: &[&str]) {
    let ended = std::process::Command::new(argv[0]).args(&argv[1..]).status();
    assert!(ended.is_ok_and(|status| status.success()));
}

async fn spawned(spawner: &Spawner) {
    let mut child = spawner.spawn(SpawnSpec::new("/bin/true")).await.expect("a child");
    child.wait().await.expect("an end");
}

async fn execute(executors: &Executors, request: &ExecRequest) -> ExecEnd {
    let sink = Arc::new(Discard);
    let context =
        ExecContext { cancel: Cancel::new(), log: sink.clone(), progress: sink.clone(), secrets: sink };
    let end = executors.get(&request.uses).expect("an executor").execute(request.clone(), context).await;
    assert_eq!(end.outcome, ostler_execution::ExecOutcome::Succeeded, "{end:?}");
    end
}

async fn timed<T>(work: impl Future<Output = T>) -> Duration {
    let started = SystemClock.elapsed();
    work.await;
    SystemClock.elapsed().saturating_sub(started)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

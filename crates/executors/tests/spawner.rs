//! The spawner: real processes, real kill -9.
#![allow(clippy::unwrap_used, reason = "a test that cannot build its world has failed")]

mod support;

use std::{
    io::{BufRead, BufReader, Read},
    process::{Command, Stdio},
    time::Duration,
};

use ostler_executors::spawner::{Exit, Limits, SpawnError, SpawnSpec, Spawner, find_program};
use rustix::process::Signal;
use support::{alive, eventually, spawner, test_node};

fn sh(script: &str) -> SpawnSpec {
    let mut spec = SpawnSpec::new("/bin/sh");
    spec.args = vec!["-c".into(), script.into()];
    spec.env = vec![("PATH".into(), std::env::var("PATH").unwrap())];
    spec
}

/// Starts a script and hands back what it prints until everything that holds its stdout is gone.
async fn printed(spawner: &Spawner, mut spec: SpawnSpec) -> (Exit, String) {
    let (read, write) = std::io::pipe().unwrap();
    spec.stdout = Some(write.into());
    let mut child = spawner.spawn(spec).await.unwrap();
    let text = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        let mut read = read;
        read.read_to_string(&mut text).unwrap();
        text
    });
    let exit = child.wait().await.unwrap();
    (exit, text.await.unwrap())
}

#[tokio::test]
async fn a_command_runs_and_its_exit_is_told() {
    let spawner = spawner();
    let (exit, text) = printed(&spawner, sh("echo hello; exit 3")).await;
    assert_eq!((exit, text.as_str()), (Exit::Code(3), "hello\n"));
    let (exit, _) = printed(&spawner, sh("kill -9 $$")).await;
    assert_eq!(exit, Exit::Signal(9));
}

#[tokio::test]
async fn a_node_that_fell_silent_starts_nothing_until_it_is_heard_of_again() {
    let spawner = spawner();
    let now = || ostler_clock::Clock::elapsed(&ostler_clock::SystemClock);
    let mut child = spawner.spawn(sh("exec sleep 60")).await.unwrap();
    spawner.keep_until(now() + std::time::Duration::from_millis(50));
    assert_eq!(child.wait().await.unwrap(), Exit::Signal(9));
    let refused = spawner.spawn(sh("true")).await.err().unwrap().to_string();
    assert!(refused.contains("not heard of"), "{refused}");
    spawner.keep_until(now() + std::time::Duration::from_secs(60));
    let (exit, text) = printed(&spawner, sh("echo again")).await;
    assert_eq!((exit, text.as_str()), (Exit::Code(0), "again\n"));
}

#[tokio::test]
async fn environment_folder_umask_and_limits_are_as_ordered() {
    let spawner = spawner();
    let mut spec = sh("echo $A; pwd; umask; ulimit -n; echo \"${HOME-none}\"");
    spec.env.push(("A".into(), "ä b".into()));
    spec.cwd = Some("/usr".into());
    spec.umask = Some(0o027);
    spec.limits = Limits { files: Some(77), ..Limits::default() };
    let (exit, text) = printed(&spawner, spec).await;
    assert_eq!((exit, text.as_str()), (Exit::Code(0), "ä b\n/usr\n0027\n77\nnone\n"));
    // Neither stays with the spawner.
    let (_, text) = printed(&spawner, sh("umask; ulimit -n")).await;
    assert!(!text.contains("0027") && !text.contains("77\n"), "{text}");
}

#[tokio::test]
async fn what_cannot_be_started_says_why() {
    let spawner = spawner();
    let error = spawner.spawn(SpawnSpec::new("/no/such/program")).await.err().unwrap();
    assert!(matches!(&error, SpawnError::Refused { errno: Some(2), .. }), "{error}");
    let error = find_program("no-such-program", "/bin:/usr/bin", None).unwrap_err();
    assert_eq!(error.to_string(), "`no-such-program` was not found in PATH (/bin:/usr/bin)");
}

#[tokio::test]
async fn a_polite_end_gives_time_and_then_kills() {
    let spawner = spawner();
    let mut polite =
        spawner.spawn(sh("trap 'exit 9' TERM; while :; do sleep 0.01 || :; done")).await.unwrap();
    let mut deaf = spawner.spawn(sh("trap '' TERM; while :; do sleep 0.01 || :; done")).await.unwrap();
    // Traps are set some time after the start; a signal before that just ends them.
    tokio::time::sleep(Duration::from_millis(300)).await;
    polite.end_with_grace(Duration::from_secs(10));
    deaf.end_with_grace(Duration::from_millis(200));
    assert_eq!(polite.wait().await.unwrap(), Exit::Code(9));
    assert_eq!(deaf.wait().await.unwrap(), Exit::Signal(9));
}

#[tokio::test]
async fn signals_reach_the_whole_group() {
    let spawner = spawner();
    let mut child = spawner.spawn(sh("sleep 100 & exec sleep 100")).await.unwrap();
    child.signal(Signal::INT);
    // Background jobs of a shell ignore SIGINT, but the end of the leader ends them.
    assert_eq!(child.wait().await.unwrap(), Exit::Signal(2));
    assert!(eventually(|| !support::group_alive(child.pid())).await);
}

#[tokio::test]
async fn nothing_of_a_command_is_left_when_its_end_is_told() {
    let spawner = spawner();
    let (_, text) =
        printed(&spawner, sh("sleep 100 & echo $!; setsid sleep 100 & sleep 0.2; (setsid sh -c 'echo $$; sleep 100' &); sleep 0.2"))
            .await;
    for pid in text.split_whitespace() {
        assert!(!alive(pid.parse().unwrap()), "{pid} of {text} lives");
    }
}

#[tokio::test]
async fn a_child_that_catches_the_signal_has_its_grace_after_its_leader() {
    let spawner = spawner();
    let script = "sh -c 'trap \"sleep 0.3; echo saved; exit\" TERM; echo ready; while :; do sleep 0.01 || :; done' & wait";
    let (read, write) = std::io::pipe().unwrap();
    let mut spec = sh(script);
    spec.stdout = Some(write.into());
    let mut child = spawner.spawn(spec).await.unwrap();
    let mut lines = BufReader::new(read).lines();
    let (mut lines, ready) = tokio::task::spawn_blocking(move || {
        let ready = lines.next();
        (lines, ready)
    })
    .await
    .unwrap();
    assert_eq!(ready.unwrap().unwrap(), "ready");
    child.end_with_grace(Duration::from_secs(10));
    child.wait().await.unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "saved");
}

#[tokio::test]
async fn dropping_the_handle_kills() {
    let spawner = spawner();
    let child = spawner.spawn(sh("trap '' TERM; sleep 100")).await.unwrap();
    let pid = child.pid();
    drop(child);
    assert!(eventually(|| !alive(pid)).await);
}

#[tokio::test]
async fn kill_9_of_the_node_leaves_nothing() {
    let script = "trap '' TERM INT HUP; sleep 1000 & echo $! >&2; \
                  (setsid sh -c 'echo $$ >&2; exec sleep 1000' &); \
                  (setsid env -i sh -c 'echo $$ >&2; exec sleep 1000' &); \
                  while :; do sleep 1; done";
    let mut node = Command::new(test_node()).args(["node", script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut leader = String::new();
    BufReader::new(node.stdout.take().unwrap()).read_line(&mut leader).unwrap();
    let leader: i32 = leader.trim().parse().unwrap();
    let spawner = support::parent_of(leader);
    let mut pids = Vec::new();
    assert!(
        eventually(|| {
            pids = support::below(spawner);
            // The leader, its sleep of a second, and three that sleep long.
            pids.len() >= 5
        })
        .await
    );
    rustix::process::kill_process(rustix::process::Pid::from_raw(node.id() as i32).unwrap(), Signal::KILL)
        .unwrap();
    node.wait().unwrap();
    assert!(eventually(|| !alive(spawner) && pids.iter().all(|pid| !alive(*pid))).await, "{pids:?}");
}

#[tokio::test]
async fn the_death_of_the_spawner_ends_its_groups_and_a_new_one_starts() {
    let spawner = spawner();
    let mut child = spawner.spawn(sh("trap '' TERM HUP; sleep 1000")).await.unwrap();
    let keeper = support::parent_of(child.pid());
    rustix::process::kill_process(rustix::process::Pid::from_raw(keeper).unwrap(), Signal::KILL).unwrap();
    assert!(matches!(child.wait().await, Err(SpawnError::Lost)));
    assert!(eventually(|| !alive(child.pid())).await);
    let (exit, text) = printed(&spawner, sh("echo again")).await;
    assert_eq!((exit, text.as_str()), (Exit::Code(0), "again\n"));
}

#[tokio::test]
async fn many_at_once() {
    let spawner = spawner();
    let runs: Vec<_> = (0..100)
        .map(|n| {
            let spawner = spawner.clone();
            tokio::spawn(async move { printed(&spawner, sh(&format!("echo {n}; exit {}", n % 7))).await })
        })
        .collect();
    for (n, run) in runs.into_iter().enumerate() {
        assert_eq!(run.await.unwrap(), (Exit::Code(n as i32 % 7), format!("{n}\n")));
    }
}

#[tokio::test]
async fn a_long_environment_fits() {
    let spawner = spawner();
    let mut spec = sh("echo ${#BIG}");
    spec.env.push(("BIG".into(), "x".repeat(100_000)));
    for n in 0..10 {
        spec.env.push((format!("BIG{n}"), "y".repeat(100_000)));
    }
    assert_eq!(printed(&spawner, spec).await, (Exit::Code(0), "100000\n".into()));
}

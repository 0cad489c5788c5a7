//! `container` on a real engine, which `tests/container.sh` starts; without `OSTLER_TEST_ENGINE` only what needs none.
#![allow(clippy::unwrap_used, reason = "a test that cannot build its world has failed")]

mod support;

use std::{collections::HashMap, time::Duration};

use bollard::{API_DEFAULT_VERSION, Docker, query_parameters::ListContainersOptions};
use ostler_clock::{Clock, SystemClock};
use ostler_execution::{CancelReason, ExecOutcome, ExecRequest};
use ostler_model::MachineId;
use serde_json::{Value, json};
use support::{Bench, SECRET, eventually, request};

const IMAGE: &str = "localhost/ostler-test:busybox";

/// A node with an engine.
struct World {
    bench: Bench,
    engine: String,
    docker: Docker,
}

impl World {
    fn new() -> Option<Self> {
        let Ok(engine) = std::env::var("OSTLER_TEST_ENGINE") else {
            eprintln!("left out: run tests/container.sh, or set OSTLER_TEST_ENGINE");
            return None;
        };
        let docker = Docker::connect_with_unix(&engine, 60, API_DEFAULT_VERSION).unwrap();
        Some(Self { bench: Bench::new(), engine, docker })
    }

    /// A step in a container; `number` tells its containers from those of other tests.
    fn step(&self, number: i64, run: Option<&str>, with: Value) -> ExecRequest {
        let mut call = request("container", run, with);
        call.run = None;
        call.machine = MachineId(number * 1_000_000 + i64::from(std::process::id() % 1_000_000));
        call.with.entry("image").or_insert(json!(IMAGE));
        call.with.entry("engine").or_insert(json!(self.engine));
        call
    }

    /// The containers of a step, running or not.
    async fn containers(&self, call: &ExecRequest) -> usize {
        let label = format!("ostler.run={}", call.machine.0);
        let filters = HashMap::from([("label".to_owned(), vec![label])]);
        let options = ListContainersOptions { all: true, filters: Some(filters), ..Default::default() };
        let docker = self.docker.clone().negotiate_version().await.unwrap();
        docker.list_containers(Some(options)).await.unwrap().len()
    }
}

#[tokio::test]
async fn a_script_has_its_environment_volumes_arguments_and_outputs() {
    let Some(world) = World::new() else { return };
    world.bench.write("data/in.txt", "one\ntwo\n");
    let script = "echo out $1 $2; echo err >&2; cat; wc -l < /data/in.txt > /data/lines; pwd; id -u\n\
                  echo \"n=$(cat /data/lines)\" >> $OSTLER_OUTPUT; echo \"key=$OSTLER_IDEMPOTENCY_KEY\" >> $OSTLER_OUTPUT\n\
                  touch $OSTLER_SCRATCH/x; echo \"v=$V ${HOME_OF_NODE-none}\" >> $OSTLER_OUTPUT";
    let mut call = world.step(
        1,
        Some(script),
        json!({"volumes": ["./data:/data"], "workdir": "/data", "user": "1234:1234", "network": "none", "labels": {"team": "x"}}),
    );
    std::os::unix::fs::chown(world.bench.path().join("data"), Some(1234), Some(1234)).unwrap();
    call.args = vec![json!("a b"), json!(2)];
    call.env.insert("V".into(), "größe".into());
    call.stdin = Some("from stdin\n".into());
    call.idempotency_key = "key-1".into();
    let (end, record) = world.bench.run(call.clone()).await;
    assert_eq!(end.outcome, ExecOutcome::Succeeded, "{}", record.all());
    assert_eq!(end.exit_code, Some(0));
    assert_eq!(end.output, json!({"n": "2", "key": "key-1", "v": "größe none"}));
    assert_eq!(record.stdout(), ["out a b 2", "from stdin", "/data", "1234"]);
    assert!(record.all().contains("err"));
    assert_eq!(world.containers(&call).await, 0);
}

#[tokio::test]
async fn entrypoint_and_command_replace_those_of_the_image() {
    let Some(world) = World::new() else { return };
    let with =
        json!({"entrypoint": ["/bin/echo", "a"], "command": ["b", 3], "capture": "text", "network": "none"});
    let output = world.bench.output(world.step(2, None, with)).await;
    assert_eq!(output["stdout"], "a b 3");
    let with = json!({"command": ["/bin/cat", "/proc/self/mounts"], "capture": "text", "read_only": true, "network": "none"});
    let output = world.bench.output(world.step(2, None, with)).await;
    let root = output["stdout"]
        .as_str()
        .unwrap()
        .lines()
        .find(|l| l.split(' ').nth(1) == Some("/"))
        .unwrap()
        .to_owned();
    assert!(root.split(' ').nth(3).unwrap().starts_with("ro"), "{root}");
}

#[tokio::test]
async fn exit_codes_have_their_meaning_and_nothing_is_left() {
    let Some(world) = World::new() else { return };
    let call = world.step(3, Some("echo why >&2; exit 75"), json!({"network": "none"}));
    let error = world.bench.error(call.clone()).await;
    assert_eq!((error.class.0.as_str(), error.exit_code), ("exit:75", Some(75)));
    assert!(error.message.contains("why"), "{error}");
    let codes = json!({"exit_codes": {"skip": [75]}, "network": "none"});
    let output = world.bench.output(world.step(3, Some("exit 75"), codes)).await;
    assert_eq!(output["skipped"], true);
    let error = world
        .bench
        .error(world.step(3, None, json!({"entrypoint": "/no/such/program", "network": "none"})))
        .await;
    assert_eq!(error.class.0, "spawn", "{error}");
    assert!(error.message.contains("/no/such/program"), "{error}");
    assert_eq!(world.containers(&call).await, 0);
}

#[tokio::test]
async fn limits_bind() {
    let Some(world) = World::new() else { return };
    // All of it is in memory at once: tail must have the last line.
    let script = "x=a; while true; do x=$x$x; done";
    let with = json!({"limits": {"memory": "32M", "cpu": 0.5, "processes": 20}, "network": "none"});
    let error = world.bench.error(world.step(4, Some(script), with)).await;
    assert_eq!(error.class.0, "exit:137", "{error}");
}

#[tokio::test]
async fn cancelled_containers_are_gone() {
    let Some(world) = World::new() else { return };
    for (reason, script) in [
        (CancelReason::TimedOut, "trap 'echo bye; exit 3' TERM; echo up; while true; do sleep 0.1; done"),
        (CancelReason::Cancelled, "trap '' TERM; echo up; while true; do sleep 0.1; done"),
        (CancelReason::Kill, "trap '' TERM; echo up; while true; do sleep 0.1; done"),
    ] {
        let mut call = world.step(5, Some(script), json!({"network": "none"}));
        call.grace = Duration::from_secs(2);
        let (cancel, record, running) = world.bench.start(call.clone());
        assert!(eventually(|| running.is_finished() || record.all().contains("up")).await);
        assert_eq!(world.containers(&call).await, 1, "{}", record.all());
        let started = SystemClock.elapsed();
        cancel.fire(reason);
        let end = running.await.unwrap();
        assert_eq!(end.outcome, ExecOutcome::Interrupted);
        assert!(SystemClock.elapsed() - started < Duration::from_secs(8), "{reason:?}");
        if reason == CancelReason::TimedOut {
            assert_eq!((end.exit_code, record.stdout().last().unwrap().as_str()), (Some(3), "bye"));
        }
        assert_eq!(world.containers(&call).await, 0);
    }
}

#[tokio::test]
async fn containers_of_a_dead_node_are_removed_at_the_start_of_the_next() {
    let Some(world) = World::new() else { return };
    let call = world.step(6, Some("sleep 1000"), json!({"network": "none"}));
    let (_, record, running) = world.bench.start(call.clone());
    while world.containers(&call).await == 0 {
        assert!(!running.is_finished(), "{}", record.all());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // The living node's containers stay; then its mark gets the name of one that is gone, as its containers have it.
    let executor = world.bench.executors.get("container").unwrap().clone();
    executor.clear_away().await;
    assert_eq!(world.containers(&call).await, 1);
    let marks = world.bench.path().join("scratch/containers");
    let mark = std::fs::read_dir(&marks).unwrap().next().unwrap().unwrap().path();
    let token = mark.file_name().unwrap().to_string_lossy().into_owned();
    let dead = "999999999-1-gone";
    std::fs::rename(&mark, marks.join(dead)).unwrap();
    let mut config = bollard::models::ContainerCreateBody { image: Some(IMAGE.into()), ..Default::default() };
    config.labels = Some(HashMap::from([
        ("ostler.node".into(), dead.into()),
        ("ostler.run".into(), call.machine.0.to_string()),
    ]));
    let docker = world.docker.clone().negotiate_version().await.unwrap();
    docker.create_container(None, config).await.unwrap();
    assert_eq!(world.containers(&call).await, 2);
    executor.clear_away().await;
    assert_eq!(world.containers(&call).await, 1, "the living one's stays ({token})");
    assert!(!marks.join(dead).exists());
    running.abort();
    // Nobody waits for the call any more: it is removed all the same.
    let _ = running.await;
    for _ in 0..200 {
        if world.containers(&call).await == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the container of an aborted call is still there");
}

#[tokio::test]
async fn secrets_are_masked_and_images_that_are_not_there_are_told() {
    let Some(world) = World::new() else { return };
    let mut call =
        world.step(7, Some("echo $T; echo \"t=$T\" >> $OSTLER_OUTPUT"), json!({"network": "none"}));
    call.env.insert("T".into(), "\u{0}secret:TOKEN\u{0}".into());
    let (end, record) = world.bench.run(call).await;
    assert_eq!(end.output, json!({"t": "***"}), "{}", record.all());
    assert!(!record.all().contains(SECRET));
    let with = json!({"image": "localhost/ostler-test:none", "pull": "never"});
    let error = world.bench.error(world.step(7, Some("true"), with)).await;
    assert_eq!(error.class.0, "container.image");
    assert!(error.message.contains("`pull: missing`"), "{error}");
    let with = json!({"image": "127.0.0.1:1/none:1"});
    let error = world.bench.error(world.step(7, Some("true"), with)).await;
    assert_eq!(error.class.0, "container.image", "{error}");
}

#[tokio::test]
async fn without_an_engine_it_is_said_what_to_do() {
    let bench = Bench::new();
    let step = |with: Value| request("container", Some("true"), with);
    let error = bench.error(step(json!({"image": "x", "engine": "unix:///nowhere/engine.sock"}))).await;
    assert_eq!(error.class.0, "container.engine");
    assert!(error.message.contains("unix:///nowhere/engine.sock"), "{error}");
    for (with, words) in [
        (json!({"image": "x", "volumes": ["a"], "engine": "unix:///n"}), "container"),
        (json!({"image": ""}), "`image` is empty"),
        (json!({"image": "x", "command": ["y"]}), "either `run` or"),
        (json!({}), "image"),
        (json!({"image": "x", "pull": "often"}), "often"),
    ] {
        let error = bench.error(step(with)).await;
        assert!(error.message.contains(words), "{error}");
    }
}

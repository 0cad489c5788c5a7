//! What the tests of this crate share.
#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod mail;
pub(crate) mod server;

use std::{path::PathBuf, time::Duration};

use ostler_executors::spawner::{Spawner, SpawnerProgram};

/// The example binary that is the spawner and a bare node.
pub(crate) fn test_node() -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.join("examples/ostler-test-node")
}

pub(crate) fn spawner_program() -> SpawnerProgram {
    SpawnerProgram { path: test_node(), args: vec!["__spawner".into()] }
}

pub(crate) fn spawner() -> Spawner {
    Spawner::new(spawner_program())
}

fn stat(pid: i32) -> Option<(String, i32, i32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    Some((fields.next()?.into(), fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn everyone() -> Vec<i32> {
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse().ok())
        .collect()
}

/// Runs, and is not a zombie.
pub(crate) fn alive(pid: i32) -> bool {
    stat(pid).is_some_and(|(state, ..)| state != "Z" && state != "X")
}

pub(crate) fn parent_of(pid: i32) -> i32 {
    stat(pid).unwrap().1
}

pub(crate) fn group_alive(group: i32) -> bool {
    everyone().into_iter().any(|pid| alive(pid) && stat(pid).is_some_and(|s| s.2 == group))
}

/// All descendants.
pub(crate) fn below(root: i32) -> Vec<i32> {
    let mut found = vec![root];
    let mut at = 0;
    while at < found.len() {
        let parent = found[at];
        found.extend(everyone().into_iter().filter(|pid| stat(*pid).is_some_and(|s| s.1 == parent)));
        at += 1;
    }
    found.remove(0);
    found
}

/// Looks until it is so, for at most ten seconds.
pub(crate) async fn eventually(mut so: impl FnMut() -> bool) -> bool {
    for _ in 0..1000 {
        if so() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use ostler_execution::{
    Cancel, ExecContext, ExecEnd, ExecOutcome, ExecRequest, Executors, LogSink, Progress, ProgressSink,
    Secrets, Stream,
};
use ostler_executors::{ExecutorConfig, logs::Masker};
use ostler_model::{MachineId, TypedError, Uid};
use serde_json::{Map, Value};
use tempfile::TempDir;

/// A node's executors in a folder of their own.
pub(crate) struct Bench {
    pub(crate) dir: TempDir,
    pub(crate) executors: Executors,
}

/// What a call left behind.
#[derive(Default)]
pub(crate) struct Record {
    lines: Mutex<Vec<(Stream, String)>>,
    progress: Mutex<Vec<Progress>>,
    masker: Mutex<Masker>,
}

impl LogSink for Record {
    fn line(&self, stream: Stream, line: &[u8]) {
        let line = self.masker.lock().unwrap().mask(line).into_owned();
        self.lines.lock().unwrap().push((stream, String::from_utf8_lossy(&line).into_owned()));
    }

    fn mask(&self, secret: &str) {
        self.masker.lock().unwrap().add(secret);
    }
}

impl ProgressSink for Record {
    fn report(&self, progress: Progress) {
        self.progress.lock().unwrap().push(progress);
    }
}

impl Record {
    pub(crate) fn of(&self, stream: Stream) -> Vec<String> {
        self.lines.lock().unwrap().iter().filter(|l| l.0 == stream).map(|l| l.1.clone()).collect()
    }

    pub(crate) fn stdout(&self) -> Vec<String> {
        self.of(Stream::Stdout)
    }

    pub(crate) fn all(&self) -> String {
        self.lines.lock().unwrap().iter().map(|l| format!("{}\n", l.1)).collect()
    }

    pub(crate) fn progress(&self) -> Vec<Progress> {
        self.progress.lock().unwrap().clone()
    }
}

struct TestSecrets;

pub(crate) const SECRET: &str = "s3cr3t/of the=test";

impl Secrets for TestSecrets {
    fn get(&self, name: &str) -> Option<String> {
        (name == "TOKEN").then(|| SECRET.into())
    }
}

pub(crate) fn context(cancel: &Cancel) -> (ExecContext, Arc<Record>) {
    let record = Arc::new(Record::default());
    let context = ExecContext {
        cancel: cancel.clone(),
        log: record.clone(),
        progress: record.clone(),
        secrets: Arc::new(TestSecrets),
    };
    (context, record)
}

/// A request as the engine would make it.
pub(crate) fn request(uses: &str, run: Option<&str>, with: Value) -> ExecRequest {
    ExecRequest {
        machine: MachineId(7),
        run: Some(Uid::of(MachineId::first_at(1_800_000_000_000), 7)),
        idempotency_key: "run/step/0".into(),
        fence: 3,
        attempt: 2,
        namespace: "demo".into(),
        task: "pull".into(),
        step: "fetch".into(),
        uses: uses.into(),
        run_text: run.map(Into::into),
        with: with.as_object().cloned().unwrap_or_else(Map::new),
        inputs: serde_json::json!({}),
        ..ExecRequest::default()
    }
}

impl Bench {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = ExecutorConfig {
            spawner: spawner_program(),
            cache: dir.path().join("cache"),
            scratch: dir.path().join("scratch"),
            ..ExecutorConfig::default()
        };
        Self { executors: ostler_executors::standard(config), dir }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(crate) async fn run(&self, mut request: ExecRequest) -> (ExecEnd, Arc<Record>) {
        if request.working_directory.is_none() {
            request.working_directory = Some(self.path().to_string_lossy().into_owned());
        }
        let (context, record) = context(&Cancel::new());
        let executor = self.executors.get(&request.uses).unwrap().clone();
        (executor.execute(request, context).await, record)
    }

    /// Runs what must succeed.
    pub(crate) async fn output(&self, request: ExecRequest) -> Value {
        let (end, record) = self.run(request).await;
        assert_eq!(end.outcome, ExecOutcome::Succeeded, "{}", record.all());
        end.output
    }

    /// Runs what must fail.
    pub(crate) async fn error(&self, request: ExecRequest) -> TypedError {
        let (end, record) = self.run(request).await;
        match end.outcome {
            ExecOutcome::Failed(error) => error,
            other => panic!("{other:?} {}", record.all()),
        }
    }

    /// Starts a call that will be cancelled.
    pub(crate) fn start(
        &self,
        mut request: ExecRequest,
    ) -> (Cancel, Arc<Record>, tokio::task::JoinHandle<ExecEnd>) {
        if request.working_directory.is_none() {
            request.working_directory = Some(self.path().to_string_lossy().into_owned());
        }
        let cancel = Cancel::new();
        let (context, record) = context(&cancel);
        let executor = self.executors.get(&request.uses).unwrap().clone();
        (cancel, record, tokio::spawn(async move { executor.execute(request, context).await }))
    }
}

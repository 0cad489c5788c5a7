//! The same work on Ostler: the embedded store, the loop, executors.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use ostler_api::{PageRequest, RunQuery, StartRequest};
use ostler_clock::{Clock as _, SystemClock};
use ostler_embedded::{Embedded, LocalSecrets, NodeOptions, Place, Role, Running};
use ostler_engine::Notice;
use ostler_execution::{ExecContext, ExecEnd, ExecRequest, Executor, Executors};
use ostler_executors::{ExecutorConfig, SpawnerProgram, standard};
use ostler_model::{Name, definition::Timetable};
use ostler_service::{Actor, Service};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// Runs in one call.
const BATCH: usize = 1000;

pub(crate) struct Shop {
    runtime: Runtime,
    embedded: Embedded,
    service: Service,
}

/// Does nothing, and tells when.
struct Noop {
    told: Option<mpsc::Sender<Instant>>,
}

#[async_trait::async_trait]
impl Executor for Noop {
    fn name(&self) -> &'static str {
        "noop"
    }

    async fn execute(&self, request: ExecRequest, _: ExecContext) -> ExecEnd {
        if let Some(told) = &self.told {
            let _ = told.send(Instant::now());
        }
        if request.with.get("fails") == Some(&Value::Bool(true)) {
            return ExecEnd::error("bench", "as it was asked to");
        }
        ExecEnd::succeeded(Value::Null)
    }
}

/// Tells how late it was called, in milliseconds, by the due moment that it is given.
struct Late {
    told: mpsc::Sender<f64>,
}

#[async_trait::async_trait]
impl Executor for Late {
    fn name(&self) -> &'static str {
        "late"
    }

    async fn execute(&self, request: ExecRequest, _: ExecContext) -> ExecEnd {
        let due: jiff::Timestamp = request.with["due"].as_str().unwrap().parse().unwrap();
        let late = SystemClock.now().duration_since(due);
        let _ = self.told.send(late.as_secs_f64() * 1000.0);
        ExecEnd::succeeded(Value::Null)
    }
}

impl Shop {
    pub(crate) fn open(path: &Path) -> Self {
        Self::at(Place::File(path.to_owned()))
    }

    pub(crate) fn at(place: Place) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let embedded = Embedded::own(place, Arc::new(SystemClock)).unwrap();
        let service = embedded.service();
        let task = |id: &str, uses: &str| json!({ "id": id, "name": id, "timezone": "UTC", "steps": [{ "id": "main", "uses": uses, "run": "true" }] });
        let timetable: Timetable = serde_json::from_value(json!({
            "namespace": Name::from_any("bench"), "ephemeral": false, "origin": "bench",
            "tasks": [task("noop", "noop"), task("shell", "shell")],
        }))
        .unwrap();
        service.push(&Actor::local("bench"), &timetable).unwrap();
        Self { runtime, embedded, service }
    }

    fn request(task: &str) -> StartRequest {
        StartRequest { namespace: "bench".into(), task: task.into(), ..StartRequest::default() }
    }

    pub(crate) fn enqueue(&self, count: usize) {
        self.enqueue_in(count, BATCH);
    }

    /// Starts so many runs, so many in a call.
    pub(crate) fn enqueue_in(&self, count: usize, batch: usize) {
        let mut left = count;
        while left > 0 {
            let part = left.min(batch);
            let requests = (0..part).map(|_| Self::request("noop")).collect();
            self.service.start_many(&Actor::local("bench"), requests).unwrap();
            left -= part;
        }
    }

    /// Starts one run.
    pub(crate) fn start(&self) {
        self.service.start(&Actor::local("bench"), Self::request("noop")).unwrap();
    }

    /// How many runs are ready.
    pub(crate) fn ready(&self) -> usize {
        usize::try_from(self.embedded.queries().stats().unwrap().queue[1]).unwrap()
    }

    /// Ends so many runs, after a hundred of a namespace of their own, half of which fail: what is rare lies far back.
    pub(crate) fn finish_with_rare_ones(&self, count: usize) {
        let task = |id: &str, fails: bool| {
            let steps = json!([{ "id": "main", "uses": "noop", "with": { "fails": fails } }]);
            json!({ "id": id, "name": id, "timezone": "UTC", "steps": steps })
        };
        let timetable: Timetable = serde_json::from_value(json!({
            "namespace": "rare", "ephemeral": false, "origin": "rare",
            "tasks": [task("good", false), task("bad", true)],
        }))
        .unwrap();
        let actor = Actor::local("bench");
        self.service.push(&actor, &timetable).unwrap();
        let rare = |task: &str| StartRequest { namespace: "rare".into(), ..Self::request(task) };
        let requests = (0..100).map(|n| rare(if n % 2 == 0 { "good" } else { "bad" })).collect();
        self.service.start_many(&actor, requests).unwrap();
        self.drain(100);
        let mut left = count;
        while left > 0 {
            let part = left.min(50_000);
            self.enqueue(part);
            self.drain(part);
            left -= part;
        }
    }

    fn node(
        &self,
        executors: Executors,
        slots: u32,
        observer: Arc<dyn Fn(&Notice) + Send + Sync>,
    ) -> Running {
        self.runtime.block_on(async {
            self.embedded
                .start_node(NodeOptions {
                    labels: Vec::new(),
                    only_labelled: false,
                    worker_lease: ostler_embedded::LEASE,
                    role: Role::Owner,
                    limit: ostler_service::QueueLimit::none(),
                    slots,
                    executors,
                    observer,
                    lines: None,
                    secrets: Arc::new(LocalSecrets::default()),
                    duties: Vec::new(),
                })
                .unwrap()
        })
    }

    pub(crate) fn stop(&self, running: Running) {
        running.handle.drain();
        self.runtime.block_on(running.stopped());
    }

    /// Seconds until so many runs have ended.
    pub(crate) fn drain(&self, count: usize) -> f64 {
        let (done, finished) = mpsc::channel();
        let left = AtomicUsize::new(count);
        let observer = Arc::new(move |notice: &Notice| {
            if matches!(notice, Notice::Committed { ended: Some(_), .. })
                && left.fetch_sub(1, Ordering::Relaxed) == 1
            {
                let _ = done.send(());
            }
        });
        let begin = Instant::now();
        let running = self.start_noops(observer);
        finished.recv().unwrap();
        let took = begin.elapsed().as_secs_f64();
        self.stop(running);
        took
    }

    /// From the call that enqueues to the handler, one at a time on an idle queue.
    pub(crate) fn start_latencies(&self, count: usize, pause: Duration) -> Vec<f64> {
        let (told, started) = mpsc::channel();
        let running = self.start_prompt(told);
        let actor = Actor::local("bench");
        let found = (0..count)
            .map(|_| {
                std::thread::sleep(pause);
                let begin = Instant::now();
                running.service.start(&actor, Self::request("noop")).unwrap();
                started.recv().unwrap().duration_since(begin).as_secs_f64()
            })
            .collect();
        self.stop(running);
        found
    }

    /// Seconds for so many shell runs, one after the other, each recorded before the next begins.
    pub(crate) fn shells(&self, count: usize) -> f64 {
        let (done, finished) = mpsc::channel();
        let observer = Arc::new(move |notice: &Notice| {
            if matches!(notice, Notice::Committed { ended: Some(_), .. }) {
                let _ = done.send(());
            }
        });
        let executors = standard(ExecutorConfig {
            spawner: SpawnerProgram::this_binary(["__spawner"]),
            ..ExecutorConfig::default()
        });
        let running = self.node(executors, 16, observer);
        let actor = Actor::local("bench");
        let one = || {
            running.service.start(&actor, Self::request("shell")).unwrap();
            finished.recv().unwrap();
        };
        one();
        let begin = Instant::now();
        (0..count).for_each(|_| one());
        let took = begin.elapsed().as_secs_f64();
        self.stop(running);
        took
    }

    /// Pushes so many tasks with so many schedules each, due at different minutes of New Year's Day.
    pub(crate) fn push_schedules(&self, tasks: usize, schedules: usize) {
        let tasks: Vec<Value> = (0..tasks)
            .map(|t| {
                let schedules: Vec<Value> = (0..schedules)
                    .map(|s| {
                        let expression = format!("{} {} 1 1 *", (t + s) % 60, s % 24);
                        json!({ "id": format!("s{s}"), "trigger": { "rhythm": { "cron": { "expression": expression } } } })
                    })
                    .collect();
                json!({ "id": format!("t{t}"), "name": "t", "timezone": "UTC", "schedules": schedules,
                        "steps": [{ "id": "main", "uses": "noop" }] })
            })
            .collect();
        let timetable: Timetable = serde_json::from_value(json!({
            "namespace": "many", "ephemeral": false, "origin": "many", "tasks": tasks,
        }))
        .unwrap();
        self.service.push(&Actor::local("bench"), &timetable).unwrap();
    }

    /// How late each firing of so many schedules was, in milliseconds: on record (the commit that makes the run has
    /// returned), and at the handler.
    pub(crate) fn lateness(&self, count: usize, rhythm: &Value, time: Duration) -> (Vec<f64>, Vec<f64>) {
        let schedules: Vec<Value> = (0..count)
            .map(|s| json!({ "id": format!("s{s}"), "trigger": { "rhythm": rhythm }, "overlap": "allow" }))
            .collect();
        let timetable: Timetable = serde_json::from_value(json!({
            "namespace": "late", "ephemeral": false, "origin": "late",
            "tasks": [{ "id": "t", "name": "t", "timezone": "UTC", "schedules": schedules,
                        "steps": [{ "id": "main", "uses": "late", "with": { "due": "${{ run.due }}" } }] }],
        }))
        .unwrap();
        self.service.push(&Actor::local("bench"), &timetable).unwrap();
        let (told, late) = mpsc::channel();
        let (tell_recorded, recorded) = mpsc::channel();
        let observer = Arc::new(move |notice: &Notice| {
            if let Notice::Committed { event, body, .. } = notice
                && event == "fired"
            {
                let now = jiff::Timestamp::now();
                let body: Value = serde_json::from_str(body).unwrap();
                for due in body["due"].as_array().unwrap() {
                    let due: jiff::Timestamp = due.as_str().unwrap().parse().unwrap();
                    let _ = tell_recorded.send(now.duration_since(due).as_secs_f64() * 1000.0);
                }
            }
        });
        let running = self.node(Executors::new().with(Arc::new(Late { told })), 2000, observer);
        std::thread::sleep(time);
        self.stop(running);
        (recorded.try_iter().collect(), late.try_iter().collect())
    }

    /// A node that does nothing, and tells.
    pub(crate) fn start_noops(&self, observer: Arc<dyn Fn(&Notice) + Send + Sync>) -> Running {
        self.node(Executors::new().with(Arc::new(Noop { told: None })), 2000, observer)
    }

    /// A node that does nothing, and tells when.
    pub(crate) fn start_prompt(&self, told: mpsc::Sender<Instant>) -> Running {
        self.node(Executors::new().with(Arc::new(Noop { told: Some(told) })), 16, Arc::new(|_| {}))
    }

    /// A node with nothing to execute.
    pub(crate) fn start_idle(&self) -> Running {
        self.node(Executors::new(), 64, Arc::new(|_| {}))
    }

    /// Runs a node until no schedule is due any more.
    pub(crate) fn settle_schedules(&self) {
        let running = self.node(Executors::new(), 2000, Arc::new(|_| {}));
        let queries = self.embedded.queries();
        loop {
            let [_, ready, claimed, _] = queries.stats().unwrap().queue;
            if ready + claimed == 0 {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.stop(running);
    }

    /// The newest page of runs.
    pub(crate) fn page(&self) {
        let page =
            self.service.runs(&Actor::local("bench"), &RunQuery::default(), &PageRequest::first(50)).unwrap();
        assert_eq!(page.items.len(), 50);
    }
}

/// Processor time of a process so far, in seconds; `self` is this one.
pub(crate) fn cpu_seconds(process: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // utime and stime are the 14th and 15th fields of proc(5), in ticks of a hundredth of a second.
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

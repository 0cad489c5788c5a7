//! Each way in which a run can be stuck is named by `ostler why`, on both stores, by the real binary.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails where a value is missing, and the real time passes for real processes"
)]

mod support;

use std::{
    process::Command,
    time::{Duration, Instant},
};

use ostler_store_postgres::scratch::Schema;
use support::{Shop, Spawned};

const FILE: &str = "
meta: { type: ostler-timetable, version: 1, namespace: demo }
tasks:
  - meta: { id: gpu }
    runs_on: gpu
    run: 'true'
  - meta: { id: late }
    runs_on: gpu
    policy: { deadline: 1s }
    run: 'true'
  - meta: { id: full }
    policy: { concurrency: { key: door, limit: 1 } }
    uses: wait
    with: { signal: open }
  - meta: { id: parent }
    steps: [{ id: child, runs_on: gpu, run: 'true' }, { id: then, run: 'true' }]
  - meta: { id: off, enabled: false }
    on: { schedule: { every: 1h } }
    run: 'true'
  - meta: { id: deadly }
    policy: { lost: rerun }
    run: echo begun >> begun; exec sleep 600
";

/// A store with somebody who serves it.
struct Stage<'a> {
    shop: &'a Shop,
    store: String,
    serving: Option<Spawned>,
}

impl<'a> Stage<'a> {
    fn new(shop: &'a Shop, store: String) -> Self {
        shop.write("demo.yaml", FILE);
        let mut stage = Self { shop, store, serving: None };
        stage.serve();
        stage
    }

    /// Somebody serves it who was not there before; the one before is killed.
    fn serve(&mut self) {
        if let Some(mut before) = self.serving.take() {
            before.kill().unwrap();
            before.wait().unwrap();
        }
        let command = self.shop.command(&["serve", "demo.yaml", "--store", &self.store]);
        self.serving = Some(self.shop.spawn_quietly(command));
    }

    fn json(&self, args: &[&str]) -> serde_json::Value {
        self.shop.json(&[args, &["--store", &self.store]].concat())
    }

    fn start(&self, task: &str) -> String {
        let store = ["--store", &self.store];
        self.shop.wait_for("a start", || {
            self.shop.run(&[&["tasks", "show", task][..], &store].concat()).code == 0
        });
        // One whose task is disabled is on record as skipped, with an exit code of its own.
        let told =
            self.shop.run(&[&["run", "--task", task, "--detach", "--output", "json"][..], &store].concat());
        assert!([0, 4].contains(&told.code), "{}", told.err);
        let started: serde_json::Value = serde_json::from_str(&told.out).unwrap();
        started["started"][0]["id"].as_str().unwrap().to_owned()
    }

    /// Waits until `why` says so, a minute at most; does something between two looks.
    fn named_after(&self, id: &str, words: &str, between: impl Fn()) {
        let begun = Instant::now();
        loop {
            let why = self.json(&["why", id]);
            let mut because =
                why["because"].as_array().unwrap().iter().map(|because| because.as_str().unwrap());
            if because.any(|because| because.contains(words)) {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "`{words}` is not said: {why}");
            between();
        }
    }

    fn named(&self, id: &str, words: &str) {
        self.named_after(id, words, || std::thread::sleep(Duration::from_millis(200)));
    }

    /// Blocks the store now and again, until a sign of life has met with it and that is told.
    fn slow(&self, block: impl Fn()) {
        let runs = self.json(&["runs", "list", "--task", "demo:gpu"]);
        let id = runs["items"][0]["id"].as_str().unwrap();
        self.named_after(id, "the store is slow: node", || {
            block();
            std::thread::sleep(Duration::from_secs(3));
        });
    }

    /// Everything but a slow store.
    fn is_told(&mut self) {
        let begun =
            || std::fs::read_to_string(self.shop.path().join("begun")).unwrap_or_default().lines().count();
        let gpu = self.start("demo:gpu");
        self.named(&gpu, "label `gpu`, and no living node has that");
        let late = self.start("demo:late");
        self.named(&late, "its deadline, 1s, is over");
        let first = self.start("demo:full");
        self.named(&first, "it waits for signal `open`");
        let second = self.start("demo:full");
        self.named(&second, &format!("concurrency limit `door` is full: 1 of 1 places are held by {first}"));
        let parent = self.start("demo:parent");
        self.named(&parent, "it waits for child to end");
        self.named(&parent, "step child is ready: it has been due");
        let off = self.start("demo:off");
        self.named(&off, "task `off` is disabled");
        let schedules = self.json(&["schedules", "list"]);
        let schedule = schedules["items"].as_array().unwrap().iter().find(|s| s["task"] == "off").unwrap();
        self.named(schedule["id"].as_str().unwrap(), "task `demo:off` is disabled");
        let deadly = self.start("demo:deadly");
        for lost in 1..=2 {
            self.shop.wait_for("the next attempt", || begun() == lost);
            self.serve();
        }
        self.named(&deadly, "2 attempts of it were lost");
    }
}

#[test]
fn on_the_embedded_store() {
    let shop = Shop::new();
    let store = shop.store().to_str().unwrap().to_owned();
    let mut stage = Stage::new(&shop, store);
    stage.is_told();
    // Another program writes for long, but not for so long that the lease is lost.
    let script =
        "import sqlite3, sys, time; c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=5)
c.execute('BEGIN IMMEDIATE'); time.sleep(8)";
    stage.slow(|| {
        let mut command = Command::new("python3");
        assert!(command.args(["-c", script]).arg(shop.store()).status().unwrap().success());
    });
}

#[test]
fn on_postgresql() {
    let Some(schema) = Schema::new("&sslmode=disable") else { return };
    let shop = Shop::new();
    let mut stage = Stage::new(&shop, schema.url().to_owned());
    stage.is_told();
    stage.slow(|| {
        schema.script("BEGIN; LOCK TABLE node IN EXCLUSIVE MODE; SELECT pg_sleep(2.2); COMMIT").unwrap();
    });
}

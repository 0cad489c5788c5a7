//! The same work on Ostler and on the bare limit, side by side in one run, as ratios.
//!
//!     cargo run --profile fast -p ostler-bench            all of it
//!     cargo run --profile fast -p ostler-bench -- q1 q3   some of it
//!
//! Q1: durable no-op runs, enqueue and drain, against a bare SQLite program that writes the same rows. Q3: start latency
//! on an idle queue, with one flush beside it. Q8: cost against size. Q9: a shell task against bare fork, exec and
//! wait; a cold `ostler run` against `sh -c true`. C2: how late firings are. C11: 100 000 schedules. HTTP: the built
//! `ostler serve` beside a million finished runs: pages, many starts and ends in one request, listeners, rates, memory.
//!
//! With `--tenth`, Q8, C11 and HTTP go to a tenth of their sizes, and C2 takes a tenth of its time.
//!
//! Each figure is the median of several rounds in turn; figures are ratios of one run on one machine, and the machine's
//! noise is in the spread that is printed beside them.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a measurement stops at the first surprise, and reads the clock"
)]

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod bare;
mod http;
mod whole;

use std::time::Instant;

use serde_json::json;

/// How often each figure is measured.
const ROUNDS: usize = 5;

fn main() {
    if std::env::args().nth(1).as_deref() == Some("__spawner") {
        let _ = ostler_executors::spawner_main();
        return;
    }
    let mut wanted: Vec<String> = std::env::args().skip(1).map(|a| a.to_lowercase()).collect();
    let part = if wanted.iter().any(|w| w == "--tenth") { 10 } else { 1 };
    wanted.retain(|w| w != "--tenth");
    let wants = |name: &str| wanted.is_empty() || wanted.iter().any(|w| w == name);
    println!(
        "{} cores, medians of {ROUNDS} rounds, [least .. most]\n",
        std::thread::available_parallelism().map_or(0, usize::from)
    );
    if wants("q1") {
        q1();
    }
    if wants("q3") {
        q3();
    }
    if wants("q8") {
        q8(1_000_000 / part);
    }
    if wants("q9") {
        q9();
    }
    if wants("c2") {
        c2(60 / part as u64);
    }
    if wants("c11") {
        c11(1000 / part);
    }
    if wants("http") {
        http::http(1_000_000 / part, 10_000 / part, 1000 / part);
    }
}

/// Median with least and most.
struct Figure {
    values: Vec<f64>,
}

impl Figure {
    fn new() -> Self {
        Self { values: Vec::new() }
    }

    fn push(&mut self, value: f64) {
        self.values.push(value);
        self.values.sort_by(f64::total_cmp);
    }

    fn fill(&mut self, values: Vec<f64>) {
        self.values = values;
        self.values.sort_by(f64::total_cmp);
    }

    fn median(&self) -> f64 {
        self.values[self.values.len() / 2]
    }

    fn at(&self, share: f64) -> f64 {
        self.values[((self.values.len() - 1) as f64 * share).round() as usize]
    }

    fn shown(&self, unit: &str) -> String {
        format!("{:>10.2} {unit} [{:.2} .. {:.2}]", self.median(), self.at(0.0), self.at(1.0))
    }
}

fn seconds(work: impl FnOnce()) -> f64 {
    let begin = Instant::now();
    work();
    begin.elapsed().as_secs_f64()
}

fn q1() {
    const RUNS: usize = 50_000;
    let mut figures = [Figure::new(), Figure::new(), Figure::new(), Figure::new()];
    let (mut enqueue, mut drain) = (Figure::new(), Figure::new());
    for _ in 0..ROUNDS {
        let folder = tempfile::tempdir().unwrap();
        let mut bare = bare::Bare::open(&folder.path().join("bare.db"));
        let a = RUNS as f64 / seconds(|| bare.enqueue(RUNS));
        let b = RUNS as f64 / seconds(|| bare.drain(RUNS));
        let shop = whole::Shop::open(&folder.path().join("ostler.db"));
        let c = RUNS as f64 / seconds(|| shop.enqueue(RUNS));
        let d = RUNS as f64 / shop.drain(RUNS);
        for (figure, value) in figures.iter_mut().zip([a, b, c, d]) {
            figure.push(value / 1000.0);
        }
        enqueue.push(c / a);
        drain.push(d / b);
    }
    println!("Q1  {RUNS} durable no-op runs, batches of 1000, synchronous=FULL, full history");
    println!("    enqueue  bare   {}", figures[0].shown("k/s"));
    println!("             ostler {}", figures[2].shown("k/s"));
    println!("             ratio  {}", enqueue.shown(""));
    println!("    drain    bare   {}", figures[1].shown("k/s"));
    println!("             ostler {}", figures[3].shown("k/s"));
    println!("             ratio  {}\n", drain.shown(""));
}

fn q3() {
    const STARTS: usize = 400;
    let folder = tempfile::tempdir().unwrap();
    let mut flush = Figure::new();
    for value in bare::flushes(&folder.path().join("flush"), STARTS) {
        flush.push(value * 1000.0);
    }
    let shop = whole::Shop::open(&folder.path().join("ostler.db"));
    let mut latency = Figure::new();
    for value in shop.start_latencies(STARTS) {
        latency.push(value * 1000.0);
    }
    println!("Q3  start latency on an idle queue, {STARTS} single enqueues (call to handler)");
    println!("    one flush of 4 KiB  p50 {:.3} ms  p99 {:.3} ms", flush.at(0.5), flush.at(0.99));
    println!("    ostler              p50 {:.3} ms  p99 {:.3} ms\n", latency.at(0.5), latency.at(0.99));
}

fn q8(most: usize) {
    println!("Q8  cost against size: drain of 5000 no-op runs beside so many finished ones");
    let folder = tempfile::tempdir().unwrap();
    let shop = whole::Shop::open(&folder.path().join("ostler.db"));
    let mut done = 0;
    let mut first = None;
    for size in [1_000usize, 10_000, 100_000, 1_000_000].into_iter().filter(|size| *size <= most) {
        while done < size {
            let more = (size - done).min(50_000);
            shop.enqueue(more);
            shop.drain(more);
            done += more;
        }
        let mut figure = Figure::new();
        let mut page = Figure::new();
        for _ in 0..ROUNDS {
            shop.enqueue(5000);
            figure.push(shop.drain(5000) / 5000.0 * 1e6);
            page.push(seconds(|| shop.page()) * 1000.0);
            done += 5000;
        }
        let base = *first.get_or_insert(figure.median());
        println!(
            "    {size:>9} finished  {}  {:.2}x   a page of 50: {:.2} ms",
            figure.shown("us/run"),
            figure.median() / base,
            page.median()
        );
    }
    println!();
}

fn q9() {
    const RUNS: usize = 300;
    let folder = tempfile::tempdir().unwrap();
    let shop = whole::Shop::open(&folder.path().join("ostler.db"));
    let (mut bare, mut ours, mut ratio) = (Figure::new(), Figure::new(), Figure::new());
    for _ in 0..ROUNDS {
        let a = seconds(|| bare::shells(RUNS)) / RUNS as f64 * 1000.0;
        let b = shop.shells(RUNS) / RUNS as f64 * 1000.0;
        bare.push(a);
        ours.push(b);
        ratio.push(b / a);
    }
    println!("Q9  `sh -c true`, {RUNS} one after the other");
    println!("    fork, exec, wait   {}", bare.shown("ms"));
    println!("    run, recorded      {}", ours.shown("ms"));
    println!("    ratio              {}", ratio.shown(""));
    let Some(program) = program() else {
        println!("    cold start: skipped, {NO_PROGRAM}\n");
        return;
    };
    let store = folder.path().join("cold.db");
    let (mut bare, mut ours, mut over) = (Figure::new(), Figure::new(), Figure::new());
    for _ in 0..20 {
        let a = seconds(|| bare::shells(1)) * 1000.0;
        let b = seconds(|| {
            let status = std::process::Command::new(&program)
                .args(["run", "--command", "true", "--store"])
                .arg(&store)
                .status()
                .unwrap();
            assert!(status.success());
        }) * 1000.0;
        bare.push(a);
        ours.push(b);
        over.push(b - a);
    }
    println!("    cold `sh -c true`              {}", bare.shown("ms"));
    println!("    cold `ostler run --command true` {}", ours.shown("ms"));
    println!("    over it                        {}\n", over.shown("ms"));
}

const NO_PROGRAM: &str = "there is no `ostler` beside this program (cargo build --profile fast)";

/// The built binary.
fn program() -> Option<std::path::PathBuf> {
    std::env::current_exe().ok().map(|p| p.with_file_name("ostler")).filter(|p| p.exists())
}

/// From the due moment to the handler: a schedule of 20 Hz alone, and a thousand that are all due at each full second.
fn c2(seconds: u64) {
    println!("C2  from the due moment to the handler, over {seconds} s");
    let thousand = json!({ "cron": { "expression": "* * * * * *" } });
    let often = json!({ "every": { "interval": { "elapsed": "50ms" }, "pace": "precise" } });
    for (what, count, rhythm) in [("every 50 ms", 1, often), ("1000 at each full second", 1000, thousand)] {
        let folder = tempfile::tempdir().unwrap();
        let shop = whole::Shop::open(&folder.path().join("ostler.db"));
        let mut late = Figure::new();
        late.fill(shop.lateness(count, &rhythm, std::time::Duration::from_secs(seconds)));
        println!(
            "    {what:<26} {:>6} firings  p50 {:.2} ms  p99 {:.2} ms  most {:.2} ms",
            late.values.len(),
            late.at(0.5),
            late.at(0.99),
            late.at(1.0)
        );
    }
    println!();
}

/// A hundred schedules for each of so many tasks: how long a `serve` takes to be ready beside them, and what it costs
/// while none is due.
fn c11(tasks: usize) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ostler.db");
    let shop = whole::Shop::open(&path);
    let pushed = seconds(|| shop.push_schedules(tasks, 100));
    let ticked = seconds(|| shop.settle_schedules());
    drop(shop);
    let (mut ready, mut idle) = (Figure::new(), 0.0);
    for round in 0..ROUNDS {
        let begin = Instant::now();
        let shop = whole::Shop::open(&path);
        let running = shop.start_idle();
        ready.push(begin.elapsed().as_secs_f64() * 1000.0);
        if round == 0 {
            let before = whole::cpu_seconds();
            std::thread::sleep(std::time::Duration::from_secs(5));
            idle = (whole::cpu_seconds() - before) / 5.0 * 100.0;
        }
        shop.stop(running);
    }
    println!("C11 {} schedules ({tasks} tasks with 100 each)", tasks * 100);
    println!("    pushed in {pushed:.2} s, first looked at in {ticked:.2} s");
    println!("    start to ready     {}", ready.shown("ms"));
    println!("    idle               {idle:>10.2} % of one core\n");
}

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
//! Only when they are named, on the server that `OSTLER_TEST_POSTGRES` names: `postgres`, which is Q2, Q3 and Q8;
//! `postgres-scale`: many starts in one call, claims beside a long backlog, memory, long lists; `copy`, which moves a store
//! of a million runs there and back; `claims`: what a claim costs beside 10, 1000 and 10 000 lanes, on both stores; and
//! `reader`, on a server of its own: transactions that stay open beside a queue under load.
//!
//! With `--tenth`, Q8, C11, HTTP and scale go to a tenth of their sizes, and C2 takes a tenth of its time.
//!
//! With `--json`, one round of each, a figure a line, as `bench/peers/run.py` takes it from every peer.
//!
//! Without it, each figure is the median of several rounds in turn; figures are ratios of one run on one machine, and the machine's
//! noise is in the spread that is printed beside them.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a measurement stops at the first surprise, and reads the clock"
)]

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod bare;
mod claims;
mod http;
mod lines;
mod moving;
mod postgres;
mod reader;
mod rounds;
mod whole;

use std::time::{Duration, Instant};

/// How often each figure is measured.
const ROUNDS: usize = 5;

fn main() {
    let given: Vec<String> = std::env::args().skip(1).collect();
    match given.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["__spawner", ..] => {
            let _ = ostler_executors::spawner_main();
            return;
        }
        ["__worker", kind, place] => return postgres::work(kind, place),
        _ => {}
    }
    let mut wanted: Vec<String> = given.iter().map(|a| a.to_lowercase()).collect();
    let part = if wanted.iter().any(|w| w == "--tenth") { 10 } else { 1 };
    let as_lines = wanted.iter().any(|w| w == "--json");
    wanted.retain(|w| w != "--tenth" && w != "--json");
    let named = |name: &str| wanted.iter().any(|w| w == name);
    let wants = |name: &str| wanted.is_empty() || named(name);
    if as_lines {
        lines::print(wants, part);
        postgres::lines::print(named, part);
        return;
    }
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
    // Only when they are asked for: they need a server.
    if named("postgres") {
        postgres::print(part);
    }
    if named("postgres-scale") {
        postgres::print_scale(part);
    }
    if named("copy") {
        moving::copies(1_000_000 / part);
    }
    if named("reader") {
        reader::reader(Duration::from_secs(60) / part as u32);
    }
    if named("claims") {
        claims::claims(10_000 / part);
    }
    if wants("c2") {
        c2(Duration::from_secs(60 / part as u64));
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
        let [a, b, c, d] = rounds::q1(RUNS);
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
    for value in shop.start_latencies(STARTS, Duration::from_millis(2)) {
        latency.push(value * 1000.0);
    }
    println!("Q3  start latency on an idle queue, {STARTS} single enqueues (call to handler)");
    println!("    one flush of 4 KiB  p50 {:.3} ms  p99 {:.3} ms", flush.at(0.5), flush.at(0.99));
    println!("    ostler              p50 {:.3} ms  p99 {:.3} ms\n", latency.at(0.5), latency.at(0.99));
}

fn q8(most: usize) {
    println!("Q8  cost against size: drain of 5000 no-op runs beside so many finished ones");
    let mut first = None;
    rounds::q8(most, |size, figure, page| {
        let base = *first.get_or_insert(figure.median());
        println!(
            "    {size:>9} finished  {}  {:.2}x   a page of 50: {:.2} ms",
            figure.shown("us/run"),
            figure.median() / base,
            page.median()
        );
    });
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
    let Some([bare, ours, over]) = rounds::cold(20) else {
        println!(
            "    cold start: skipped, there is no `ostler` beside this program (cargo build --profile fast)\n"
        );
        return;
    };
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
fn c2(time: Duration) {
    println!("C2  from the due moment to the record and to the handler, over {} s", time.as_secs());
    for (what, count, rhythm) in rounds::rhythms() {
        for (place, late) in rounds::late(count, &rhythm, time) {
            println!(
                "    {what:<26} {place:<12} {:>6} firings  p50 {:.2} ms  p99 {:.2} ms  most {:.2} ms",
                late.values.len(),
                late.at(0.5),
                late.at(0.99),
                late.at(1.0)
            );
        }
    }
    println!();
}

/// A hundred schedules for each of so many tasks: how long a `serve` takes to be ready beside them, and what it costs
/// while none is due.
fn c11(tasks: usize) {
    let rounds::Many { pushed, ticked, ready, idle, .. } = rounds::c11(tasks, ROUNDS, Duration::ZERO);
    println!("C11 {} schedules ({tasks} tasks with 100 each)", tasks * 100);
    println!("    pushed in {pushed:.2} s, first looked at in {ticked:.2} s");
    println!("    start to ready     {}", ready.shown("ms"));
    println!("    idle               {idle:>10.2} % of one core\n");
}

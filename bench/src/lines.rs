//! One round of the figures, a line of JSON each, in the form of `bench/peers/drivers/common.py`: Ostler as the peer
//! `ostler`, the limit that was measured beside it as the peer `bare`.

use std::time::Duration;

use serde_json::json;

use crate::{Figure, ROUNDS, bare, rounds, seconds, whole};

/// As the drivers of the peers do it.
pub(crate) const PAUSE: Duration = Duration::from_millis(10);

/// How many starts are not counted.
pub(crate) const WARM: usize = 3;

/// How long lateness is measured for, in seconds.
const LATE: u64 = 20;

/// A figure by its name; the number divides the full size.
pub(crate) type Named = (&'static str, fn(usize));

/// Prints what is wanted, at the whole sizes or a part of them.
pub(crate) fn print(wants: impl Fn(&str) -> bool, part: usize) {
    let figures: [Named; 7] =
        [("q1", q1), ("q3", q3), ("q8", q8), ("q9", q9), ("q11", q11), ("c2", c2), ("c11", c11)];
    for (name, measure) in figures {
        if wants(name) {
            measure(part);
        }
    }
}

pub(crate) fn ostler(figure: &str, value: f64, unit: &str, note: &str) {
    line("ostler", env!("CARGO_PKG_VERSION"), figure, value, unit, note);
}

fn by_hand(figure: &str, value: f64, unit: &str, note: &str) {
    line("bare", "", figure, value, unit, note);
}

pub(crate) fn line(peer: &str, version: &str, figure: &str, value: f64, unit: &str, note: &str) {
    println!(
        "{}",
        json!({ "peer": peer, "version": version, "figure": figure, "value": value, "unit": unit, "note": note })
    );
}

/// The bare program has the SQLite of Ostler.
fn sqlite(figure: &str, value: f64, unit: &str, note: &str) {
    line("bare", &format!("SQLite {}", rusqlite::version()), figure, value, unit, note);
}

fn q1(part: usize) {
    let runs = 50_000 / part;
    let [a, b, c, d] = rounds::q1(runs);
    let limit = format!("{runs}, transactions of 1000 that write as many rows, synchronous=FULL");
    sqlite("q1_enqueue", a, "jobs/s", &limit);
    sqlite("q1_drain", b, "jobs/s", &limit);
    ostler("q1_enqueue", c, "jobs/s", &format!("{runs}, start_many of 1000, synchronous=FULL, history kept"));
    ostler("q1_drain", d, "jobs/s", &format!("{runs}, 2000 slots, synchronous=FULL, history kept"));
    ostler("q1_enqueue_ratio", c / a, "x", "rate of Ostler through rate of the bare program, in one round");
    ostler("q1_drain_ratio", d / b, "x", "rate of Ostler through rate of the bare program, in one round");
}

fn q3(part: usize) {
    let starts = 200 / part;
    let folder = tempfile::tempdir().unwrap();
    let tell = |to: fn(&str, f64, &str, &str), what: &str, values: &[f64], note: &str| {
        let mut figure = Figure::new();
        figure.fill(values.iter().map(|value| value * 1000.0).collect());
        to(&format!("{what}_p50"), figure.at(0.5), "ms", note);
        to(&format!("{what}_p99"), figure.at(0.99), "ms", note);
    };
    let flushes = bare::flushes(&folder.path().join("flush"), starts);
    tell(by_hand, "q3_flush", &flushes, "4 KiB appended and flushed");
    let mut limit = bare::Bare::open(&folder.path().join("bare.db"));
    let found = limit.start_latencies(WARM + starts, PAUSE);
    tell(sqlite, "q3", &found[WARM..], "one transaction that queues, one that claims, synchronous=FULL");
    let shop = whole::Shop::open(&folder.path().join("ostler.db"));
    let found = shop.start_latencies(WARM + starts, PAUSE);
    tell(ostler, "q3", &found[WARM..], "woken in the same process, synchronous=FULL");
}

fn q8(part: usize) {
    rounds::q8(1_000_000 / part, |size, cost, page| {
        let beside = format!("beside {size} finished runs, median of {ROUNDS}");
        ostler(&format!("q8_run_{size}"), cost.median(), "us", &format!("a no-op run of 5000, {beside}"));
        ostler(&format!("q8_page_{size}"), page.median(), "ms", &format!("the newest 50 runs, {beside}"));
    });
}

fn q9(part: usize) {
    let runs = 300 / part;
    let folder = tempfile::tempdir().unwrap();
    let shop = whole::Shop::open(&folder.path().join("ostler.db"));
    let limit = seconds(|| bare::shells(runs)) / runs as f64 * 1000.0;
    let ours = shop.shells(runs) / runs as f64 * 1000.0;
    by_hand(
        "q9_shell",
        limit,
        "ms",
        &format!("`sh -c true`, {runs} in a row: fork, exec, wait, pipes read to their end"),
    );
    ostler(
        "q9_shell",
        ours,
        "ms",
        &format!("shell task `true`, {runs} in a row, each recorded before the next"),
    );
    ostler("q9_ratio", ours / limit, "x", "time of Ostler through time of the bare program, in one round");
    if let Some([limit, ours, _]) = rounds::cold(20) {
        by_hand("q9_cold", limit.median(), "ms", "`sh -c true`, median of 20");
        ostler("q9_cold", ours.median(), "ms", "`ostler run --command true`, median of 20");
    }
}

/// The limit alone: `ostler` itself is measured from outside, by its driver.
fn q11(part: usize) {
    let one: Vec<f64> = (0..ROUNDS).map(|_| seconds(|| bare::shells(1))).collect();
    let mut median = Figure::new();
    median.fill(one);
    by_hand("q11_one", median.median(), "s", &format!("`sh -c true`, median of {ROUNDS}"));
    by_hand("q11_chain100", seconds(|| bare::shells(100)), "s", "`sh -c true`, 100 in a row");
    by_hand(
        "q11_par100",
        seconds(|| bare::shells_at_once(100)),
        "s",
        "`sh -c true`, 100 begun, then waited for",
    );
    let (count, threads) = (1000 / part, std::thread::available_parallelism().map_or(1, usize::from));
    let took = seconds(|| {
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| bare::shells(count / threads));
            }
        });
    });
    by_hand("q11_queued1000", took, "s", &format!("`sh -c true`, {count} by {threads} threads"));
}

fn c2(part: usize) {
    let time = Duration::from_millis(1000 * LATE / part as u64);
    for ((what, count, rhythm), name) in rounds::rhythms().into_iter().zip(["often", "thousand"]) {
        let [(_, recorded), (_, begun)] = rounds::late(count, &rhythm, time);
        lateness(&format!("c2_{name}_recorded"), &recorded, &format!("{what}: due moment to record"));
        lateness(&format!("c2_{name}"), &begun, &format!("{what}: due moment to handler"));
    }
}

/// The figures of lateness.
fn lateness(name: &str, late: &Figure, note: &str) {
    let note = format!("{note}, {} firings", late.values.len());
    for (share, what) in [(0.5, "p50"), (0.99, "p99"), (1.0, "most")] {
        ostler(&format!("{name}_{what}"), late.at(share), "ms", &note);
    }
}

fn c11(part: usize) {
    let tasks = 1000 / part;
    let time = Duration::from_millis(1000 * LATE / part as u64);
    let found = rounds::c11(tasks, ROUNDS, time);
    let beside = format!("{} schedules", tasks * 100);
    ostler("c11_push", found.pushed, "s", &format!("{beside} of {tasks} tasks, one push"));
    ostler("c11_look", found.ticked, "s", &format!("{beside}, each looked at for the first time"));
    ostler(
        "c11_start",
        found.ready.median(),
        "ms",
        &format!("{beside}: store opened to node at work, median of {ROUNDS}"),
    );
    ostler("c11_idle_cpu", found.idle, "%", &format!("{beside}, none due: of one core, over 5 s"));
    lateness(
        "c11_late",
        &found.late,
        &format!("one more, every 50 ms, beside {beside}: due moment to handler"),
    );
}

//! What the text and the lines of JSON both measure.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{Figure, ROUNDS, bare, seconds, whole};

/// Runs per second: enqueue and drain of the bare program, enqueue and drain of Ostler.
pub(crate) fn q1(runs: usize) -> [f64; 4] {
    let folder = tempfile::tempdir().unwrap();
    let mut bare = bare::Bare::open(&folder.path().join("bare.db"));
    let a = runs as f64 / seconds(|| bare.enqueue(runs));
    let b = runs as f64 / seconds(|| bare.drain(runs));
    let shop = whole::Shop::open(&folder.path().join("ostler.db"));
    let c = runs as f64 / seconds(|| shop.enqueue(runs));
    let d = runs as f64 / shop.drain(runs);
    [a, b, c, d]
}

/// Tells, for each size up to the most, what a run costs beside so many finished ones in microseconds, and a page of
/// runs in milliseconds.
pub(crate) fn q8(most: usize, mut tell: impl FnMut(usize, &Figure, &Figure)) {
    let folder = tempfile::tempdir().unwrap();
    let shop = whole::Shop::open(&folder.path().join("ostler.db"));
    let mut done = 0;
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
        tell(size, &figure, &page);
    }
}

/// `sh -c true`, a cold `ostler run` of it, and how much it takes longer, in milliseconds; none if there is no `ostler`
/// beside this program.
pub(crate) fn cold(count: usize) -> Option<[Figure; 3]> {
    let program = std::env::current_exe().ok().map(|p| p.with_file_name("ostler")).filter(|p| p.exists())?;
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("cold.db");
    let (mut bare, mut ours, mut over) = (Figure::new(), Figure::new(), Figure::new());
    for _ in 0..count {
        let a = seconds(|| bare::shells(1)) * 1000.0;
        let b = seconds(|| {
            let status = std::process::Command::new(&program)
                .args(["run", "--command", "true", "--store"])
                .arg(&store)
                .stdout(std::process::Stdio::null())
                .status()
                .unwrap();
            assert!(status.success());
        }) * 1000.0;
        bare.push(a);
        ours.push(b);
        over.push(b - a);
    }
    Some([bare, ours, over])
}

/// A schedule of 20 Hz alone, and a thousand that are all due at each full second.
pub(crate) fn rhythms() -> [(&'static str, usize, Value); 2] {
    let thousand = json!({ "cron": { "expression": "* * * * * *" } });
    [("every 50 ms", 1, often()), ("1000 at each full second", 1000, thousand)]
}

fn often() -> Value {
    json!({ "every": { "interval": { "elapsed": "50ms" }, "pace": "precise" } })
}

/// How late the firings of so many schedules were, in milliseconds: on record (the commit that makes the run has
/// returned), and at the handler.
pub(crate) fn late(count: usize, rhythm: &Value, time: Duration) -> [(&'static str, Figure); 2] {
    let folder = tempfile::tempdir().unwrap();
    let shop = whole::Shop::open(&folder.path().join("ostler.db"));
    let (recorded, begun) = shop.lateness(count, rhythm, time);
    [("on record", recorded), ("at the handler", begun)].map(|(place, values)| {
        let mut late = Figure::new();
        late.fill(values);
        (place, late)
    })
}

/// What a hundred schedules for each of many tasks cost.
pub(crate) struct Many {
    /// Seconds to push them.
    pub(crate) pushed: f64,
    /// Seconds until each was looked at once.
    pub(crate) ticked: f64,
    /// Milliseconds from opening the store to a node at work.
    pub(crate) ready: Figure,
    /// Percent of one core while none is due.
    pub(crate) idle: f64,
    /// How late a schedule of 20 Hz is beside them, in milliseconds.
    pub(crate) late: Figure,
}

/// So many tasks with a hundred schedules each; a `serve` beside them starts so many times. Lateness is measured for
/// this time.
pub(crate) fn c11(tasks: usize, starts: usize, late_for: Duration) -> Many {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ostler.db");
    let shop = whole::Shop::open(&path);
    let pushed = seconds(|| shop.push_schedules(tasks, 100));
    let ticked = seconds(|| shop.settle_schedules());
    drop(shop);
    let (mut ready, mut idle, mut late) = (Figure::new(), 0.0, Figure::new());
    for round in 0..starts {
        let begin = Instant::now();
        let shop = whole::Shop::open(&path);
        let running = shop.start_idle();
        ready.push(begin.elapsed().as_secs_f64() * 1000.0);
        if round == 0 {
            let before = whole::cpu_seconds("self");
            std::thread::sleep(Duration::from_secs(5));
            idle = (whole::cpu_seconds("self") - before) / 5.0 * 100.0;
        }
        shop.stop(running);
    }
    if !late_for.is_zero() {
        late.fill(whole::Shop::open(&path).lateness(1, &often(), late_for).1);
    }
    Many { pushed, ticked, ready, idle, late }
}

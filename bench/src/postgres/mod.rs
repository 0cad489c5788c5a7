//! Ostler on PostgreSQL: the bare limit by hand, one node, three nodes, each a process of its own, on one server.

mod bare;
mod fleet;
pub(crate) mod lines;
mod scale;

use std::time::Duration;

use ostler_embedded::Place;
use ostler_store_postgres::scratch::Schema;

pub(crate) use self::fleet::work;
use self::{
    bare::{Bare, Rows},
    fleet::{Fleet, Kind},
};
use crate::{Figure, ROUNDS, seconds, whole::Shop};

/// Sizes of histories.
const SIZES: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];

/// Jobs per second: given to the queue, drained by one process, drained by three.
type Rates = [f64; 3];

fn schema() -> Schema {
    Schema::new("").expect("a server: OSTLER_TEST_WITHOUT leaves it out")
}

fn place(schema: &Schema) -> Place {
    Place::Postgres(Box::new(schema.address().unwrap()))
}

fn drained(jobs: usize, kind: Kind, place: &str, workers: usize) -> f64 {
    jobs as f64 / Fleet::start(kind, place, workers).drain(jobs)
}

fn bare_round(rows: Rows, jobs: usize) -> Rates {
    let schema = schema();
    let bare = Bare::make(&schema, rows);
    let enqueued = jobs as f64 / seconds(|| bare.enqueue(jobs));
    let one = drained(jobs, Kind::Bare(rows), schema.name(), 1);
    bare.enqueue(jobs);
    [enqueued, one, drained(jobs, Kind::Bare(rows), schema.name(), 3)]
}

fn ostler_round(runs: usize) -> Rates {
    let schema = schema();
    let shop = Shop::at(place(&schema));
    let enqueued = runs as f64 / seconds(|| shop.enqueue(runs));
    let one = drained(runs, Kind::Node, schema.url(), 1);
    shop.enqueue(runs);
    [enqueued, one, drained(runs, Kind::Node, schema.url(), 3)]
}

/// Milliseconds from the call that starts a run on an idle queue to its handler: in the process that is asked, and in
/// another one.
fn start_latencies(starts: usize, pause: Duration) -> [Vec<f64>; 2] {
    let schema = schema();
    let shop = Shop::at(place(&schema));
    let here = shop.start_latencies(starts, pause);
    // One that has had no node: it tells the others itself.
    let shop = Shop::at(place(&schema));
    let there = Fleet::start(Kind::Prompt, schema.url(), 1).latencies(starts, pause, || shop.start());
    [here, there].map(|found| found.into_iter().map(|s| s * 1000.0).collect())
}

/// What a store costs beside so many finished runs.
struct Cost {
    size: usize,
    /// Microseconds for a run of a drain of 5000, each in its turn.
    run: Figure,
    /// Milliseconds for the newest page.
    page: Figure,
    /// Milliseconds for a claim of a hundred, and for their ends.
    claim: Figure,
    commit: Figure,
}

fn q8(most: usize, mut tell: impl FnMut(&Cost)) {
    let schema = schema();
    let shop = Shop::at(place(&schema));
    let mut done = 0;
    for size in SIZES.into_iter().filter(|size| *size <= most) {
        while done < size {
            let more = (size - done).min(50_000);
            shop.enqueue(more);
            shop.drain(more);
            done += more;
        }
        let (mut run, mut page) = (Figure::new(), Figure::new());
        for _ in 0..ROUNDS {
            shop.enqueue(5000);
            run.push(shop.drain(5000) / 5000.0 * 1e6);
            page.push(seconds(|| shop.page()) * 1000.0);
        }
        shop.enqueue(scale::ENDED);
        let [claim, commit] = scale::claims(&schema);
        done += ROUNDS * 5000 + scale::ENDED;
        tell(&Cost { size, run, page, claim, commit });
    }
}

/// Prints Q2, Q3 and Q8, the medians of some rounds.
pub(crate) fn print(part: usize) {
    print_q2(50_000, ROUNDS);
    let [here, there] = start_latencies(400, Duration::from_millis(5)).map(|values| {
        let mut figure = Figure::new();
        figure.fill(values);
        format!("p50 {:.3} ms  p99 {:.3} ms", figure.at(0.5), figure.at(0.99))
    });
    println!("Q3  start latency on an idle queue on PostgreSQL, 400 single enqueues (call to handler)");
    println!("    in the node that is asked  {here}\n    in another process         {there}\n");
    println!(
        "Q8  on PostgreSQL, beside so many finished runs: a no-op run of 5000, a claim and a commit of a hundred"
    );
    let mut first = None;
    q8(1_000_000 / part, |cost| {
        let base = *first.get_or_insert(cost.run.median());
        println!(
            "    {:>9}  {}  {:.2}x   claim p99 {:.2} ms, commit p99 {:.2} ms   a page of 50: {:.2} ms",
            cost.size,
            cost.run.shown("us/run"),
            cost.run.median() / base,
            cost.claim.at(0.99),
            cost.commit.at(0.99),
            cost.page.median()
        );
    });
    println!();
}

fn print_q2(runs: usize, rounds: usize) {
    let mut figures: [[Figure; 3]; 3] = std::array::from_fn(|_| std::array::from_fn(|_| Figure::new()));
    let mut ratios: [[Figure; 3]; 2] = std::array::from_fn(|_| std::array::from_fn(|_| Figure::new()));
    for _ in 0..rounds {
        let [same, least] = Rows::ALL.map(|rows| bare_round(rows, runs));
        let ours = ostler_round(runs);
        for (figures, rates) in figures.iter_mut().zip([same, least, ours]) {
            figures.iter_mut().zip(rates).for_each(|(figure, rate)| figure.push(rate / 1000.0));
        }
        for (ratios, limit) in ratios.iter_mut().zip([same, least]) {
            ratios.iter_mut().zip(ours.iter().zip(limit)).for_each(|(ratio, (a, b))| ratio.push(a / b));
        }
    }
    println!("Q2  {runs} durable no-op runs on PostgreSQL, workers as processes, full history");
    for (which, what) in ["enqueue", "drain, one process", "drain, three"].into_iter().enumerate() {
        println!("    {what}");
        for (figures, who) in figures.iter().zip(["bare, as many rows", "bare, a row each", "ostler"]) {
            println!("        {who:<20} {}", figures[which].shown("k/s"));
        }
        for (ratios, who) in ratios.iter().zip(["of as many rows", "of a row each"]) {
            println!("        {who:<20} {}", ratios[which].shown("x"));
        }
    }
    println!();
}

/// Prints the facts of size.
pub(crate) fn print_scale(part: usize) {
    println!("Scale, on PostgreSQL");
    scale::measure(part, |fact| {
        println!("    {:<44} {:>10.2} {:<7} {}", fact.name, fact.value, fact.unit, fact.note)
    });
    println!();
}

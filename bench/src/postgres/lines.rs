//! One round of the figures on PostgreSQL, a line of JSON each.

use ostler_test_servers::POSTGRES;
use tokio_postgres::NoTls;

use super::{
    Cost, Rates,
    bare::{Bare, Rows},
    bare_round, ostler_round, q8, scale, schema, start_latencies,
};
use crate::{
    Figure, ROUNDS,
    lines::{Named, PAUSE, WARM, line, ostler},
};

const RATES: [(&str, &str); 3] = [
    ("q2_enqueue", "given to the queue, a thousand at a time"),
    ("q2_drain", "1 process"),
    ("q2_drain3", "3 processes"),
];

/// Prints what is named.
pub(crate) fn print(named: impl Fn(&str) -> bool, part: usize) {
    let figures: [Named; 4] =
        [("postgres-q2", q2), ("postgres-q3", q3), ("postgres-q8", sizes), ("postgres-scale", facts)];
    for (_, measure) in figures.into_iter().filter(|(name, _)| named(name)) {
        measure(part);
    }
}

fn q2(part: usize) {
    let runs = 50_000 / part;
    let settings = settings();
    let [same, least] = Rows::ALL.map(|rows| bare_round(rows, runs));
    let ours = ostler_round(runs);
    rates(
        |figure, rate, how| {
            let note = format!("{runs}, {how}; as many rows and index entries as Ostler writes; {settings}");
            line(Rows::Same.name(), "", figure, rate, "jobs/s", &note);
        },
        same,
    );
    rates(
        |figure, rate, how| {
            let note = format!(
                "{runs}, {how}; a row each that goes with its job: fewer rows, no history; {settings}"
            );
            line(Rows::Least.name(), "", figure, rate, "jobs/s", &note);
        },
        least,
    );
    rates(
        |figure, rate, how| {
            ostler(
                figure,
                rate,
                "jobs/s",
                &format!("{runs}, {how}, 2000 slots each, history kept; {settings}"),
            );
        },
        ours,
    );
    for (place, (figure, _)) in RATES.into_iter().enumerate() {
        let note = "rate of Ostler through rate of the bare program that writes as many rows, in one round";
        ostler(&format!("{figure}_ratio"), ours[place] / same[place], "x", note);
        let note = "rate of Ostler through rate of the bare program that keeps nothing, in one round";
        ostler(&format!("{figure}_least"), ours[place] / least[place], "x", note);
    }
}

fn rates(tell: impl Fn(&str, f64, &str), found: Rates) {
    for ((figure, how), rate) in RATES.into_iter().zip(found) {
        tell(figure, rate, how);
    }
}

/// What decides about durability, as the server says.
fn settings() -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let row = runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(&POSTGRES.url().unwrap(), NoTls).await.unwrap();
        tokio::spawn(connection);
        let sql = "SELECT current_setting('synchronous_commit'), current_setting('fsync')";
        client.query_one(sql, &[]).await.unwrap()
    });
    format!("synchronous_commit={}, fsync={}", row.get::<_, String>(0), row.get::<_, String>(1))
}

fn q3(part: usize) {
    let starts = WARM + 200 / part;
    let tell = |name: &str, values: &[f64], note: &str, tell: fn(&str, f64, &str, &str)| {
        let mut figure = Figure::new();
        figure.fill(values[WARM..].to_vec());
        for (what, share) in [("p50", 0.5), ("p99", 0.99)] {
            tell(&format!("{name}_{what}"), figure.at(share), "ms", note);
        }
    };
    let schema = schema();
    let limit: Vec<f64> = Bare::make(&schema, Rows::Same)
        .start_latencies(starts, PAUSE)
        .into_iter()
        .map(|seconds| seconds * 1000.0)
        .collect();
    tell(
        "q3",
        &limit,
        "one transaction that queues, one that claims, nobody to be woken",
        |figure, value, unit, note| {
            line(Rows::Same.name(), "", figure, value, unit, note);
        },
    );
    let [here, there] = start_latencies(starts, PAUSE);
    tell("q3", &here, "by a node in the process that is asked", ostler);
    tell("q3_apart", &there, "by a node in another process, woken by NOTIFY", ostler);
}

fn sizes(part: usize) {
    q8(1_000_000 / part, |cost| {
        let Cost { size, run, page, claim, commit } = cost;
        let beside = format!("beside {size} finished runs");
        let note = format!("a no-op run of 5000, {beside}, median of {ROUNDS}");
        ostler(&format!("q8_run_{size}"), run.median(), "us", &note);
        let note = format!("the newest 50 runs, {beside}, median of {ROUNDS}");
        ostler(&format!("q8_page_{size}"), page.median(), "ms", &note);
        for (what, figure) in [("claim", claim), ("commit", commit)] {
            for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
                let note = format!("a {what} of a hundred runs, {beside}");
                ostler(&format!("q8_{what}_{name}_{size}"), figure.at(share), "ms", &note);
            }
        }
    });
}

fn facts(part: usize) {
    scale::measure(part, |fact| ostler(&fact.name, fact.value, fact.unit, &fact.note));
}

//! Q2 and Q3 on PostgreSQL: the bare limit by hand, one node, three nodes, on one server in one run.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use ostler_embedded::Place;
use ostler_engine::Notice;
use ostler_store_postgres::scratch::Schema;
use ostler_test_servers::POSTGRES;
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls};

use crate::{Figure, seconds, whole::Shop};

/// Runs in one transaction.
const BATCH: i64 = 1000;

/// A bare program with SKIP LOCKED and batches that writes as many rows for a run as Ostler does: a run, a place in the
/// queue and an event when it is queued; the place again when it is claimed; run, place and event when it ends.
pub(crate) struct Bare {
    runtime: Runtime,
    client: Client,
    _schema: Schema,
}

impl Bare {
    pub(crate) fn open() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let schema = Schema::new("").unwrap();
        let client = runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&POSTGRES.url().unwrap(), NoTls).await.unwrap();
            tokio::spawn(connection);
            client
                .batch_execute(&format!(
                    "CREATE SCHEMA {0}; SET search_path TO {0};
                     CREATE TABLE run (id BIGINT PRIMARY KEY, started BIGINT, finished BIGINT, task INT, state SMALLINT,
                       step INT, fields TEXT) WITH (fillfactor=80);
                     CREATE INDEX run_task ON run (task, id);
                     CREATE TABLE queue (run BIGINT PRIMARY KEY, due BIGINT, fence BIGINT, lane INT, node INT, phase SMALLINT)
                       WITH (fillfactor=70, autovacuum_vacuum_scale_factor=0, autovacuum_vacuum_threshold=5000,
                         autovacuum_vacuum_cost_delay=0);
                     CREATE INDEX queue_ready ON queue (lane, due, run) WHERE phase=1;
                     CREATE INDEX queue_claimed ON queue (node) WHERE phase=2;
                     CREATE TABLE event (seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at BIGINT, run BIGINT,
                       step INT, kind TEXT, body TEXT);
                     CREATE SEQUENCE ids",
                    schema.name()
                ))
                .await
                .unwrap();
            client
        });
        Self { runtime, client, _schema: schema }
    }

    pub(crate) fn enqueue(&self, count: usize) {
        let fields = r#"{"cause":{"by":"actor","actor":"cli:bench"}}"#;
        self.runtime.block_on(async {
            let queue = self
                .client
                .prepare(
                    "WITH r AS (INSERT INTO run SELECT nextval('ids'), NULL, NULL, 1, 0, 1, f FROM unnest($1::text[]) f RETURNING id),
                     q AS (INSERT INTO queue SELECT id, id, 0, 1, NULL, 1 FROM r)
                     INSERT INTO event (at, run, step, kind, body) SELECT id, id, 1, 'created', '' FROM r",
                )
                .await
                .unwrap();
            let batch = vec![fields; BATCH as usize];
            for _ in 0..count as i64 / BATCH {
                self.client.execute(&queue, &[&batch]).await.unwrap();
            }
        });
    }

    pub(crate) fn drain(&self, count: usize) {
        let fields = r#"{"cause":{"by":"actor","actor":"cli:bench"},"attempts":1}"#;
        self.runtime.block_on(async {
            let claim = self
                .client
                .prepare(
                    "WITH p AS (SELECT run FROM queue WHERE phase=1 AND lane=1 ORDER BY due, run LIMIT $1 FOR UPDATE SKIP LOCKED),
                     m AS (UPDATE queue q SET phase=2, node=1, fence=fence+1 FROM p WHERE q.run=p.run RETURNING q.run)
                     SELECT r.id, r.fields FROM m JOIN run r ON r.id=m.run",
                )
                .await
                .unwrap();
            let end = self
                .client
                .prepare(
                    "WITH u AS (SELECT * FROM unnest($1::bigint[], $2::text[]) u(id, fields)),
                     g AS (DELETE FROM queue q USING u WHERE q.run=u.id AND q.fence=1 RETURNING q.run),
                     e AS (INSERT INTO event (at, run, step, kind, body) SELECT run, run, 2, 'succeeded', '' FROM g)
                     UPDATE run r SET state=10, step=2, started=u.id, finished=u.id, fields=u.fields
                     FROM u JOIN g ON g.run=u.id WHERE r.id=u.id AND r.step=1",
                )
                .await
                .unwrap();
            let mut left = count as i64;
            while left > 0 {
                let rows = self.client.query(&claim, &[&BATCH]).await.unwrap();
                let ids: Vec<i64> = rows.iter().map(|r| r.get(0)).collect();
                let all = vec![fields; ids.len()];
                left -= ids.len() as i64;
                self.client.execute(&end, &[&ids, &all]).await.unwrap();
            }
        });
    }
}

/// Seconds until so many runs have ended on all the nodes together.
fn drain(shops: &[Shop], count: usize) -> f64 {
    let (done, finished) = mpsc::channel();
    let left = Arc::new(AtomicUsize::new(count));
    let begin = Instant::now();
    let running: Vec<_> = shops
        .iter()
        .map(|shop| {
            let (done, left) = (done.clone(), left.clone());
            shop.start_noops(Arc::new(move |notice: &Notice| {
                if matches!(notice, Notice::Committed { ended: Some(_), .. })
                    && left.fetch_sub(1, Ordering::Relaxed) == 1
                {
                    let _ = done.send(());
                }
            }))
        })
        .collect();
    finished.recv().unwrap();
    let took = begin.elapsed().as_secs_f64();
    for (shop, running) in shops.iter().zip(running) {
        shop.stop(running);
    }
    took
}

/// Runs per second: enqueue and drain of the bare program, enqueue and drain of one node, drain of three.
pub(crate) fn round(runs: usize) -> [f64; 5] {
    let bare = Bare::open();
    let a = runs as f64 / seconds(|| bare.enqueue(runs));
    let b = runs as f64 / seconds(|| bare.drain(runs));
    drop(bare);
    let schema = Schema::new("").unwrap();
    let place = || Place::Postgres(Box::new(schema.address().unwrap()));
    let mut shops = vec![Shop::at(place())];
    let c = runs as f64 / seconds(|| shops[0].enqueue(runs));
    let d = runs as f64 / drain(&shops, runs);
    shops.push(Shop::at(place()));
    shops.push(Shop::at(place()));
    shops[0].enqueue(runs);
    let e = runs as f64 / drain(&shops, runs);
    [a, b, c, d, e]
}

pub(crate) fn q2(runs: usize, rounds: usize) {
    let mut figures: [Figure; 5] = std::array::from_fn(|_| Figure::new());
    let mut ratios: [Figure; 3] = std::array::from_fn(|_| Figure::new());
    for _ in 0..rounds {
        let [a, b, c, d, e] = round(runs);
        for (figure, value) in figures.iter_mut().zip([a, b, c, d, e]) {
            figure.push(value / 1000.0);
        }
        for (ratio, value) in ratios.iter_mut().zip([c / a, d / b, e / b]) {
            ratio.push(value);
        }
    }
    println!(
        "Q2  {runs} durable no-op runs on PostgreSQL, batches of 1000, synchronous_commit=on, full history"
    );
    println!("    enqueue  bare     {}", figures[0].shown("k/s"));
    println!("             ostler   {}", figures[2].shown("k/s"));
    println!("             ratio    {}", ratios[0].shown(""));
    println!("    drain    bare     {}", figures[1].shown("k/s"));
    println!("             one node {}", figures[3].shown("k/s"));
    println!("             ratio    {}", ratios[1].shown(""));
    println!("             three    {}", figures[4].shown("k/s"));
    println!("             ratio    {}\n", ratios[2].shown(""));
}

/// Start latency of one node on an idle queue.
pub(crate) fn q3(starts: usize) {
    let schema = Schema::new("").unwrap();
    let shop = Shop::at(Place::Postgres(Box::new(schema.address().unwrap())));
    let mut latency = Figure::new();
    latency.fill(shop.start_latencies(starts, Duration::from_millis(5)).iter().map(|s| s * 1000.0).collect());
    drop(shop);
    println!("Q3  start latency on an idle queue on PostgreSQL, {starts} single enqueues (call to handler)");
    println!("    ostler              p50 {:.3} ms  p99 {:.3} ms\n", latency.at(0.5), latency.at(0.99));
}

/// Cost against size: drain of 5000 no-op runs beside so many finished ones.
pub(crate) fn q8(most: usize) {
    let schema = Schema::new("").unwrap();
    let shop = Shop::at(Place::Postgres(Box::new(schema.address().unwrap())));
    println!("Q8  on PostgreSQL: drain of 5000 no-op runs beside so many finished ones");
    let mut done = 0;
    let mut first = None;
    for size in [1_000usize, 10_000, 100_000, 1_000_000].into_iter().filter(|size| *size <= most) {
        while done < size {
            let more = (size - done).min(50_000);
            shop.enqueue(more);
            shop.drain(more);
            done += more;
        }
        let (mut figure, mut page) = (Figure::new(), Figure::new());
        for _ in 0..5 {
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

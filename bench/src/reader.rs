//! What a transaction that stays open does to a queue under load on PostgreSQL: vacuum takes no row that ended after it
//! began. On a server of its own, so that nobody else's transactions count.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use ostler_embedded::Place;
use ostler_engine::Notice;
use ostler_store_postgres::scratch::Schema;
use ostler_test_servers::private::Postgres;
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls};

use crate::whole::Shop;

/// So many runs wait or are at work at most.
const QUEUED: usize = 4000;

/// Lines of figures for each part of the time.
const LINES: u32 = 4;

/// Drains for a while as it is, with each sort of transaction left open, and after each.
pub(crate) fn reader(part: Duration) {
    let Some(postgres) = Postgres::start() else { return };
    let schema = Schema::on(&postgres.url(), "");
    let shop = Shop::at(Place::Postgres(Box::new(schema.address().unwrap())));
    let runtime = Runtime::new().unwrap();
    let connect = || connect(&runtime, &postgres.url(), schema.name());
    let (watcher, stranger) = (connect(), connect());
    let (ended, queued, over) = (Arc::new(AtomicUsize::new(0)), AtomicUsize::new(0), AtomicBool::new(false));
    let told = ended.clone();
    let running = shop.start_noops(Arc::new(move |notice: &Notice| {
        if matches!(notice, Notice::Committed { ended: Some(_), .. }) {
            told.fetch_add(1, Ordering::Relaxed);
        }
    }));
    println!("a transaction left open beside a queue under load on PostgreSQL, no-op runs");
    println!("                              runs/s   tick MiB  its indexes   dead rows  vacuums");
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                if queued.load(Ordering::Relaxed) < ended.load(Ordering::Relaxed) + QUEUED {
                    shop.enqueue(1000);
                    queued.fetch_add(1000, Ordering::Relaxed);
                } else {
                    thread::sleep(Duration::from_millis(1));
                }
            }
        });
        let watch = |what: &str| {
            for _ in 0..LINES {
                let (begin, before) = (Instant::now(), ended.load(Ordering::Relaxed));
                thread::sleep(part / LINES);
                let rate = (ended.load(Ordering::Relaxed) - before) as f64 / begin.elapsed().as_secs_f64();
                println!("    {what:<22} {rate:>9.0} {}", sizes(&runtime, &watcher));
            }
        };
        let say = |sql: &str| runtime.block_on(stranger.batch_execute(sql)).unwrap();
        watch("before");
        say("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM tick");
        watch("a reader");
        say("COMMIT");
        watch("after it");
        watch("");
        say("BEGIN; SELECT pg_current_xact_id()");
        watch("an idle writer");
        say("COMMIT");
        watch("after it");
        watch("");
        say("BEGIN; SELECT count(*) FROM tick");
        watch("an idle onlooker");
        say("COMMIT");
        over.store(true, Ordering::Relaxed);
    });
    shop.stop(running);
    drop(shop);
    println!();
}

fn connect(runtime: &Runtime, server: &str, schema: &str) -> Client {
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(server, NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute(&format!("SET search_path TO {schema}")).await.unwrap();
        client
    })
}

fn sizes(runtime: &Runtime, client: &Client) -> String {
    let sql = "SELECT pg_relation_size(relid)/1048576.0::float8, pg_indexes_size(relid)/1048576.0::float8, n_dead_tup,
        vacuum_count+autovacuum_count
      FROM pg_stat_user_tables WHERE schemaname=current_schema() AND relname='tick'";
    let row = runtime.block_on(client.query_one(sql, &[])).unwrap();
    let (table, indexes): (f64, f64) = (row.get(0), row.get(1));
    let (dead, vacuums): (i64, i64) = (row.get(2), row.get(3));
    format!("{table:>10.1} {indexes:>12.1} {dead:>11} {vacuums:>8}")
}

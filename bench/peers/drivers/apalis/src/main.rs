//! apalis on SQLite: Q1 (jobs given and drained) and Q3 (call to handler), in the figures of the other peers.
//!
//! Its `setup` turns `synchronous` off on the connection that it has. The jobs go over connections that were opened
//! afterwards, which have SQLite's own FULL, so that what it acknowledges is kept as it is by the others. The worker is
//! woken by SQLite's update hook, which is the fastest way that it offers, and takes batches.

use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use apalis::prelude::*;
use apalis_sqlite::{Config, SqlitePool, SqliteStorage};
use futures::StreamExt;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const BATCH: usize = 50;
const VERSION: &str = "1.0.0";
const QUEUE: &str = "bench";

/// What the handler does with each job.
#[derive(Clone)]
struct Seen {
    count: Arc<AtomicUsize>,
    moments: mpsc::Sender<Instant>,
}

async fn handle(_: u32, seen: Data<Seen>) -> Result<(), BoxDynError> {
    seen.count.fetch_add(1, Ordering::Relaxed);
    seen.moments.send(Instant::now())?;
    Ok(())
}

fn scale() -> f64 {
    env::var("OSTLER_BENCH_SCALE").ok().and_then(|s| s.parse().ok()).unwrap_or(1.0)
}

fn figure(name: &str, value: f64, unit: &str, note: &str) {
    let peer = env::var("OSTLER_BENCH_PEER").unwrap_or_else(|_| "apalis".into());
    let line = serde_json::json!({
        "peer": peer, "version": VERSION, "figure": name, "value": value, "unit": unit, "note": note,
    });
    println!("{line}");
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let folder = env::var("OSTLER_BENCH_SCRATCH").unwrap_or_else(|_| ".".into());
    let url = format!("sqlite://{folder}/apalis.db?mode=rwc");
    let setup = SqlitePool::connect(&url).await?;
    SqliteStorage::setup(&setup).await?;
    setup.close().await;
    let (pool, listener) = SqliteStorage::connect_with_callback(&url)?;
    let config = Config::default().queue(QUEUE).batch_size(BATCH);

    let jobs = (5_000.0 * scale()) as u32;
    let mut queue = SqliteStorage::<u32>::new(&pool).with_config(config.clone());
    let start = Instant::now();
    for first in (0..jobs).step_by(1000) {
        queue.push_bulk((first..jobs.min(first + 1000)).collect()).await?;
    }
    let rate = f64::from(jobs) / start.elapsed().as_secs_f64();
    figure("q1_enqueue", rate, "jobs/s", &format!("{jobs}, push_bulk of 1000, WAL with synchronous=FULL"));

    let count = Arc::new(AtomicUsize::new(0));
    let (moments, begun) = mpsc::channel();
    let strategy = Strategy::new().stream(listener.ready_chunks(BATCH)).interval(Duration::from_millis(10));
    let worker = WorkerBuilder::new("bench-worker")
        .backend(SqliteStorage::<u32>::new(&pool).with_config(config).poll_with_strategy(strategy))
        .data(Seen { count: count.clone(), moments })
        .concurrency(BATCH)
        .build(handle);
    let start = Instant::now();
    let worker = tokio::spawn(worker.run());
    // What others count too: until the store holds no job as open any more.
    let open = "SELECT COUNT(*) FROM Jobs WHERE status <> 'Done'";
    while count.load(Ordering::Relaxed) < jobs as usize
        || sqlx::query_scalar::<_, i64>(open).fetch_one(&pool).await? > 0
    {
        if start.elapsed() > Duration::from_secs(100) || worker.is_finished() {
            return Err(format!(
                "after {:?} {} of {jobs} were handled",
                start.elapsed(),
                count.load(Ordering::Relaxed)
            )
            .into());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let rate = f64::from(jobs) / start.elapsed().as_secs_f64();
    figure(
        "q1_drain",
        rate,
        "jobs/s",
        &format!("{jobs}, batches of {BATCH}, woken by the update hook, synchronous=FULL"),
    );

    while begun.try_recv().is_ok() {}
    let mut took = Vec::new();
    let deadline = Instant::now() + Duration::from_secs_f64((20.0 * scale()).max(2.0));
    for i in -3..((200.0 * scale()) as i32).max(20) {
        let at = Instant::now();
        queue.push(1).await?;
        let moment = begun.recv_timeout(Duration::from_secs(30))?;
        if i >= 0 {
            took.push((moment - at).as_secs_f64() * 1000.0);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        if Instant::now() > deadline && took.len() >= 5 {
            break;
        }
    }
    took.sort_by(f64::total_cmp);
    let note = format!("woken by the update hook, synchronous=FULL; {} samples", took.len());
    for (name, part) in [("q3_p50", 0.5), ("q3_p99", 0.99)] {
        figure(name, took[(part * took.len() as f64).ceil() as usize - 1], "ms", &note);
    }
    Ok(())
}

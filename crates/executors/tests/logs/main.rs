//! Run logs: whatever keeps their blocks, they grow, are read, cut and found again.
#![allow(clippy::unwrap_used, reason = "a test that cannot build its world has failed")]

mod files;
mod postgres;
mod suite;

use std::sync::Arc;

use ostler_clock::SystemClock;
use ostler_executors::{LogQuery, RunLogs};
use ostler_model::{MachineId, Uid};

/// By which the tests' stores make ids.
const SALT: u64 = 1;

/// A place of logs, and a run.
struct World {
    logs: RunLogs,
    run: Uid,
    elsewhere: Box<dyn Fn() -> RunLogs>,
}

impl World {
    /// In a place that gives logs as often as it is asked, each time with nothing in common but the place.
    fn of(elsewhere: impl Fn() -> RunLogs + 'static) -> Self {
        Self { logs: elsewhere(), run: run_at(1_800_000_000_000), elsewhere: Box::new(elsewhere) }
    }

    /// As another process finds them.
    fn elsewhere(&self) -> RunLogs {
        (self.elsewhere)()
    }
}

/// A run that was made then, in milliseconds since 1970.
fn run_at(unix_ms: i64) -> Uid {
    Uid::of(MachineId::first_at(unix_ms), SALT)
}

fn lines(logs: &RunLogs, run: Uid, query: &LogQuery) -> Vec<String> {
    let (records, _) = logs.read(run, query, None).unwrap();
    records.into_iter().map(|r| String::from_utf8(r.line).unwrap()).collect()
}

fn clock() -> Arc<SystemClock> {
    Arc::new(SystemClock)
}

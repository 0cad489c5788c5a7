//! Workers that wait for the next call.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ostler_clock::{Clock, SystemClock};

use super::worker::Worker;

/// A worker goes after so many calls: what a module leaks stays bounded.
const CALLS: u32 = 10_000;
/// A worker goes after so long without a call.
const IDLE: Duration = Duration::from_secs(60);
/// So many wait at most; the one that waits longest goes first.
const KEPT: usize = 16;

/// What calls must have in common to share a worker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) python: PathBuf,
    pub(super) cwd: PathBuf,
    pub(super) environment: BTreeMap<String, String>,
    /// User, mask and limits.
    pub(super) process: String,
}

#[derive(Clone, Default)]
pub(super) struct Pool {
    idle: Arc<Mutex<Idle>>,
}

#[derive(Default)]
struct Idle {
    by_key: HashMap<Key, Vec<(Duration, Worker)>>,
    /// A task looks after those that waited too long.
    kept: bool,
}

impl Idle {
    /// Takes out everyone who has waited since before `moment`.
    fn expire(&mut self, moment: Duration) -> Vec<Worker> {
        let mut expired = Vec::new();
        self.by_key.retain(|_, workers| {
            expired.extend(workers.extract_if(.., |(since, _)| *since <= moment).map(|(_, worker)| worker));
            !workers.is_empty()
        });
        expired
    }

    fn count(&self) -> usize {
        self.by_key.values().map(Vec::len).sum()
    }
}

impl Pool {
    /// The worker that was used last.
    pub(super) fn take(&self, key: &Key) -> Option<Worker> {
        self.lock().by_key.get_mut(key)?.pop().map(|(_, worker)| worker)
    }

    pub(super) fn put(&self, key: Key, worker: Worker) {
        if worker.calls >= CALLS {
            return;
        }
        let mut idle = self.lock();
        let surplus = if idle.count() >= KEPT {
            let oldest = idle.by_key.values().flatten().map(|(since, _)| *since).min();
            oldest.map(|moment| idle.expire(moment))
        } else {
            None
        };
        idle.by_key.entry(key).or_default().push((SystemClock.elapsed(), worker));
        if !std::mem::replace(&mut idle.kept, true) {
            let pool = Arc::downgrade(&self.idle);
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(IDLE / 4).await;
                    let Some(pool) = pool.upgrade() else { return };
                    let mut idle = pool.lock().unwrap_or_else(PoisonError::into_inner);
                    let expired = idle.expire(SystemClock.elapsed().saturating_sub(IDLE));
                    let empty = idle.count() == 0;
                    idle.kept = !empty;
                    drop(idle);
                    drop(expired);
                    if empty {
                        return;
                    }
                }
            });
        }
        drop(idle);
        drop(surplus);
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! Backpressure: a limit to what stands in the queue (ledger E15).

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::{Service, ServiceError};

/// For how long a count is good. Starts in between are added to it.
const COUNTED_FOR: Duration = Duration::from_millis(250);

/// How many machines may stand in the queue. What would go beyond it is refused with a typed answer; what is there
/// already, schedules and the steps of flows are never refused.
#[derive(Clone)]
pub struct QueueLimit {
    most: Option<u64>,
    counted: Arc<Mutex<Counted>>,
}

#[derive(Default)]
struct Counted {
    at: Option<Duration>,
    depth: u64,
}

impl QueueLimit {
    /// No limit.
    #[must_use]
    pub fn none() -> Self {
        Self { most: None, counted: Arc::default() }
    }

    /// So many.
    #[must_use]
    pub fn of(most: u64) -> Self {
        Self { most: Some(most), ..Self::none() }
    }
}

impl Service {
    /// Refuses when so many more would be too many.
    pub(crate) fn make_room(&self, more: u64) -> Result<(), ServiceError> {
        let Some(most) = self.limit.most else { return Ok(()) };
        let now = self.clock.elapsed();
        let mut counted = self.limit.counted.lock().unwrap_or_else(PoisonError::into_inner);
        if counted.at.is_none_or(|at| now.saturating_sub(at) > COUNTED_FOR) {
            let [later, ready, claimed, held] = self.read(|q| q.stats())?.queue;
            *counted = Counted { at: Some(now), depth: later + ready + claimed + held };
        }
        if counted.depth.saturating_add(more) > most {
            return Err(ServiceError::Busy {
                message: format!(
                    "the queue is full: {} stand in it, {most} may, and {more} more were asked for; nothing was started",
                    counted.depth
                ),
                retry_after: 1,
            });
        }
        counted.depth += more;
        Ok(())
    }
}

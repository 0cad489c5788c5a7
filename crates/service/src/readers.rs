//! Reading sides, shared by everyone who asks.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, TryLockError,
    atomic::{AtomicUsize, Ordering},
};

use ostler_store::Queries;

/// Some reading sides of one store. A look takes one that is free, so that a long one holds nobody up.
#[derive(Clone)]
pub struct Readers {
    sides: Arc<[Mutex<Box<dyn Queries>>]>,
    next: Arc<AtomicUsize>,
}

impl Readers {
    /// One, for whoever asks one thing after the other.
    #[must_use]
    pub fn one(queries: Box<dyn Queries>) -> Self {
        Self::several([queries])
    }

    /// Several; at least one.
    #[must_use]
    pub fn several(queries: impl IntoIterator<Item = Box<dyn Queries>>) -> Self {
        Self { sides: queries.into_iter().map(Mutex::new).collect(), next: Arc::default() }
    }

    /// Looks.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&dyn Queries) -> T) -> T {
        look(&**self.free())
    }

    fn free(&self) -> MutexGuard<'_, Box<dyn Queries>> {
        let start = self.next.fetch_add(1, Ordering::Relaxed) % self.sides.len();
        let (before, from) = self.sides.split_at(start);
        for side in from.iter().chain(before) {
            match side.try_lock() {
                Ok(free) => return free,
                Err(TryLockError::Poisoned(free)) => return free.into_inner(),
                Err(TryLockError::WouldBlock) => {}
            }
        }
        self.sides[start].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! The token that tells an executor to end.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use tokio::sync::Notify;

/// Why work must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelReason {
    /// Someone cancelled the run.
    Cancelled,
    /// The attempt, the run or its deadline took too long.
    TimedOut,
    /// The node is going down or has lost its lease.
    Shutdown,
    /// At once: no grace. Sent on the second Ctrl-C.
    Kill,
}

impl CancelReason {
    const ALL: [Self; 4] = [Self::Cancelled, Self::TimedOut, Self::Shutdown, Self::Kill];

    /// Its code, where 0 stands for none.
    fn code(self) -> u8 {
        1 + Self::ALL.iter().position(|reason| *reason == self).unwrap_or_default() as u8
    }

    fn of(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code).checked_sub(1)?).copied()
    }
}

/// Fires at most twice: once to end with grace, and perhaps once more with [`CancelReason::Kill`].
#[derive(Clone, Debug, Default)]
pub struct Cancel {
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    reason: AtomicU8,
    changed: Notify,
}

impl Cancel {
    /// A token that has not fired.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Fires it. The first reason stays, except that `Kill` comes over any.
    pub fn fire(&self, reason: CancelReason) {
        let fired = self.state.reason.fetch_update(Ordering::AcqRel, Ordering::Acquire, |known| {
            let kills = reason == CancelReason::Kill && known != reason.code();
            (known == 0 || kills).then_some(reason.code())
        });
        if fired.is_ok() {
            self.state.changed.notify_waiters();
        }
    }

    /// Why it fired, if it has.
    #[must_use]
    pub fn reason(&self) -> Option<CancelReason> {
        CancelReason::of(self.state.reason.load(Ordering::Acquire))
    }

    /// Waits until it fires.
    pub async fn fired(&self) -> CancelReason {
        self.until(|_| true).await
    }

    /// Waits until it is told to end at once.
    pub async fn killed(&self) {
        self.until(|reason| reason == CancelReason::Kill).await;
    }

    async fn until(&self, wanted: impl Fn(CancelReason) -> bool) -> CancelReason {
        loop {
            let mut changed = std::pin::pin!(self.state.changed.notified());
            // Counts as waiting before the look, so that nothing is missed between look and wait.
            changed.as_mut().enable();
            if let Some(reason) = self.reason().filter(|reason| wanted(*reason)) {
                return reason;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_reason_stays_and_kill_comes_over_it() {
        let cancel = Cancel::new();
        assert_eq!(cancel.reason(), None);
        let waiting = tokio::spawn({
            let cancel = cancel.clone();
            async move { (cancel.fired().await, cancel.killed().await).0 }
        });
        cancel.fire(CancelReason::TimedOut);
        cancel.fire(CancelReason::Cancelled);
        assert_eq!(cancel.fired().await, CancelReason::TimedOut);
        cancel.fire(CancelReason::Kill);
        cancel.fire(CancelReason::Shutdown);
        assert_eq!(cancel.reason(), Some(CancelReason::Kill));
        waiting.await.unwrap();
    }
}

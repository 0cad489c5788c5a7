//! The token that tells an executor to end.

use std::sync::Arc;

use tokio::sync::watch;

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

/// Fires at most twice: once to end with grace, and perhaps once more with [`CancelReason::Kill`].
#[derive(Clone, Debug)]
pub struct Cancel {
    state: Arc<watch::Sender<Option<CancelReason>>>,
}

impl Default for Cancel {
    fn default() -> Self {
        Self { state: Arc::new(watch::Sender::new(None)) }
    }
}

impl Cancel {
    /// A token that has not fired.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Fires it. The first reason stays, except that `Kill` comes over any.
    pub fn fire(&self, reason: CancelReason) {
        self.state.send_if_modified(|state| {
            let newer =
                state.is_none() || (reason == CancelReason::Kill && *state != Some(CancelReason::Kill));
            if newer {
                *state = Some(reason);
            }
            newer
        });
    }

    /// Why it fired, if it has.
    #[must_use]
    pub fn reason(&self) -> Option<CancelReason> {
        *self.state.borrow()
    }

    /// Waits until it fires.
    pub async fn fired(&self) -> CancelReason {
        let mut receiver = self.state.subscribe();
        loop {
            if let Some(reason) = *receiver.borrow_and_update() {
                return reason;
            }
            if receiver.changed().await.is_err() {
                // The sender lives in `self`, so this cannot happen; waiting for ever is the harmless answer.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until it is told to end at once.
    pub async fn killed(&self) {
        let mut receiver = self.state.subscribe();
        let _ = receiver.wait_for(|state| *state == Some(CancelReason::Kill)).await;
    }
}

//! News: whether there may be events that have not been read.
//!
//! Commits of this node are told. What other processes write is looked for, by one look for all sinks of the node, and only
//! while there are any: at a file by its write-ahead log, on a server by asking for events.

use std::{
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use ostler_store_sqlite::Changes;
use tokio::{sync::watch, task::JoinHandle};

use crate::Outbox;

/// How often it is looked for what others have written.
const LOOK: Duration = Duration::from_millis(500);

#[derive(Clone)]
pub(crate) struct News(Arc<Inner>);

struct Inner {
    store: Arc<Outbox>,
    told: watch::Sender<u64>,
    /// How far any sink of the node has read.
    read: AtomicI64,
    /// For a store file; until the first look.
    changes: Mutex<Option<Changes>>,
    looking: Mutex<Option<JoinHandle<()>>>,
}

impl News {
    pub(crate) fn new(changes: Option<Changes>, store: Arc<Outbox>) -> Self {
        Self(Arc::new(Inner {
            store,
            told: watch::channel(0).0,
            read: AtomicI64::new(0),
            changes: Mutex::new(changes),
            looking: Mutex::default(),
        }))
    }

    pub(crate) fn touch(&self) {
        self.0.told.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// A sink has read so far.
    pub(crate) fn read(&self, upto: i64) {
        self.0.read.fetch_max(upto, Ordering::Relaxed);
    }

    /// Is told from now on when there may be something new.
    pub(crate) fn listen(&self) -> watch::Receiver<u64> {
        let receiver = self.0.told.subscribe();
        let mut looking = self.0.looking.lock().unwrap_or_else(PoisonError::into_inner);
        if looking.as_ref().is_none_or(JoinHandle::is_finished) {
            *looking = Some(tokio::spawn(look(Arc::downgrade(&self.0))));
        }
        receiver
    }
}

/// Looks for what others have written, while anybody listens.
async fn look(inner: Weak<Inner>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(inner) = inner.upgrade() else { return };
        if inner.told.receiver_count() == 0 {
            // Whoever begins to listen now finds the lock taken until this has ended, and begins a look of its own.
            let mut looking = inner.looking.lock().unwrap_or_else(PoisonError::into_inner);
            if inner.told.receiver_count() == 0 {
                *looking = None;
                return;
            }
        }
        let found =
            inner.changes.lock().unwrap_or_else(PoisonError::into_inner).as_mut().map(Changes::may_be);
        let is_news = match found {
            Some(is_news) => is_news,
            None => {
                let inner = inner.clone();
                let after = inner.read.load(Ordering::Relaxed);
                let asked = tokio::task::spawn_blocking(move || inner.store.has_after(after)).await;
                // What is wrong with the store is told by whoever reads events.
                matches!(asked, Ok(Ok(true) | Err(_)))
            }
        };
        if is_news {
            inner.told.send_modify(|n| *n = n.wrapping_add(1));
        }
    }
}

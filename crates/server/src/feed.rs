//! The feed: one reader of the outbox for all who follow it.
//!
//! Events are read once and handed to followers as finished text, through a ring of bounded size. A follower that is
//! too slow for the ring reads from the store where it left off; it holds nobody up, and nothing is kept for it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use ostler_api::EventView;
use ostler_embedded::Local;
use tokio::sync::{Notify, broadcast, watch};

/// Events that a follower may be behind before it has to read the store itself.
const RING: usize = 4096;

/// How often the outbox is looked at without having been told: processes beside this one write, too.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Events read at a time.
pub(crate) const PAGE: u32 = 1000;

/// An event on its way to followers.
#[derive(Clone)]
pub(crate) struct Fed {
    /// The number up to which the feed had handed on everything before it. Whoever is not there yet has missed
    /// something that the ring never had, and finds it in the store.
    pub(crate) after: i64,
    /// Its number.
    pub(crate) seq: i64,
    /// The text of a server-sent event.
    pub(crate) text: Bytes,
}

/// Tells of what has changed.
pub struct Feed {
    changed: watch::Sender<u64>,
    events: broadcast::Sender<Fed>,
    /// Somebody has begun to follow.
    followed: Notify,
}

impl Default for Feed {
    fn default() -> Self {
        Self { changed: watch::channel(0).0, events: broadcast::channel(RING).0, followed: Notify::new() }
    }
}

impl Feed {
    /// Something was committed.
    pub fn touch(&self) {
        self.changed.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// Waits until something was committed, or for as long as it takes to look anyway.
    ///
    /// Changes count from this call on, whenever the answer is waited for.
    pub(crate) fn changed(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut changed = self.changed.subscribe();
        async move {
            let _ = tokio::time::timeout(LOOK_EVERY, changed.changed()).await;
        }
    }

    /// Events from now on.
    pub(crate) fn follow(&self) -> broadcast::Receiver<Fed> {
        let events = self.events.subscribe();
        self.followed.notify_one();
        events
    }

    /// How many follow.
    pub fn followers(&self) -> usize {
        self.events.receiver_count()
    }

    /// Reads the outbox for as long as somebody follows it, until it is dropped.
    pub async fn run(self: Arc<Self>, local: Local) {
        let mut changed = self.changed.subscribe();
        let mut cursor: Option<String> = None;
        loop {
            if self.events.receiver_count() == 0 {
                cursor = None;
                self.followed.notified().await;
            } else {
                let _ = tokio::time::timeout(LOOK_EVERY, changed.changed()).await;
            }
            changed.mark_unchanged();
            let (feed, local, from) = (self.clone(), local.clone(), cursor.clone());
            let read = tokio::task::spawn_blocking(move || feed.read(&local, from)).await;
            match read {
                Ok(Ok(next)) => cursor = Some(next),
                Ok(Err(error)) => {
                    tracing::warn!(%error, "events cannot be read for those who follow them");
                    cursor = None;
                }
                Err(error) => tracing::error!(%error, "events were not read"),
            }
        }
    }

    /// Hands on what there is after a cursor; without one, begins with the last there is now.
    fn read(&self, local: &Local, from: Option<String>) -> Result<String, ostler_service::ServiceError> {
        let (service, actor) = (local.service(), local.actor());
        let mut cursor = match from {
            Some(cursor) => cursor,
            None => {
                // What came between the first follower's look and this one is not handed on: they are told where it
                // begins.
                let at = service.stats(actor)?.last_event;
                let _ = self.events.send(Fed { after: at, seq: at, text: Bytes::new() });
                format!("e{at}")
            }
        };
        loop {
            let page = service.events(actor, Some(&cursor), PAGE)?;
            let mut after = number(&cursor);
            for event in page.items {
                let seq = number(&event.cursor);
                // Nobody there is no error.
                let _ = self.events.send(Fed { after, seq, text: text_of(&event) });
                after = seq;
            }
            cursor = page.next;
            if page.complete {
                return Ok(cursor);
            }
        }
    }
}

/// The number of an event's cursor.
pub(crate) fn number(cursor: &str) -> i64 {
    cursor.strip_prefix('e').and_then(|n| n.parse().ok()).unwrap_or_default()
}

/// An event as server-sent text (WHATWG HTML, section 9.2).
pub(crate) fn text_of(event: &EventView) -> Bytes {
    let data = serde_json::to_string(event).unwrap_or_default();
    Bytes::from(format!("id: {}\nevent: {}\ndata: {data}\n\n", event.cursor, event.kind))
}

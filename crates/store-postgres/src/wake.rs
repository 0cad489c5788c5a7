//! Telling other nodes that something may be ready.
//!
//! Never inside a transaction of the hot path, whose commits it would put in a row: a thread tells what the last moment
//! brought, once, and nobody is told more often than that. Nothing depends on it: every node looks once a second.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use futures::{StreamExt, executor::block_on, future::poll_fn, stream};
use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{
    link::driver,
    trouble::{Done, Trouble},
    url::Address,
};

/// How long what is to be told is gathered.
const GATHER: Duration = Duration::from_millis(20);

/// How long until a lost connection is opened again.
const AGAIN: Duration = Duration::from_secs(1);

/// Remembers that there is something to tell.
#[derive(Clone, Default)]
pub(crate) struct Waker {
    state: Arc<(Mutex<Pending>, Condvar)>,
}

#[derive(Default)]
struct Pending {
    told: bool,
    /// A thread tells it; where there is none, whoever has something to tell does.
    listening: bool,
    /// The listener that counts. One that has ended leaves no number behind, and the next one has another.
    listener: u64,
}

impl Waker {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.state.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This process has made something ready; false where no thread is there to tell it.
    pub(crate) fn told(&self) -> bool {
        let mut pending = self.pending();
        pending.told = true;
        self.state.1.notify_all();
        pending.listening
    }

    /// The number of a new listener.
    fn begin(&self) -> u64 {
        let mut pending = self.pending();
        pending.listener += 1;
        pending.listening = false;
        pending.listener
    }

    fn listening(&self, listener: u64, on: bool) {
        let mut pending = self.pending();
        if pending.listener == listener {
            pending.listening = on;
        }
    }

    fn has_ended(&self, listener: u64) -> bool {
        self.pending().listener != listener
    }

    /// From here on whoever has something to tell does it.
    fn end(&self, listener: u64) {
        let mut pending = self.pending();
        if pending.listener == listener {
            pending.listener += 1;
            pending.listening = false;
        }
        self.state.1.notify_all();
    }

    /// Waits until there is something to tell; false when the listener has ended.
    fn wait(&self, listener: u64) -> bool {
        let waiting = |p: &mut Pending| !p.told && p.listener == listener;
        let waited = self.state.1.wait_while(self.pending(), waiting);
        let mut pending = waited.unwrap_or_else(PoisonError::into_inner);
        if pending.listener != listener {
            return false;
        }
        pending.told = false;
        true
    }
}

/// Hears what other nodes tell, and tells them, until it is dropped. Behind a pooler in transaction mode it does
/// neither.
pub struct Listener {
    waker: Waker,
    number: u64,
}

/// How the nodes of a store hear of one another.
#[derive(Clone)]
pub struct Wakes {
    pub(crate) address: Address,
    pub(crate) waker: Waker,
}

impl Wakes {
    /// Whether there is anything to hear; behind a pooler in transaction mode there is not.
    #[must_use]
    pub fn can_listen(&self) -> bool {
        !self.address.pooled
    }

    /// Calls `told` when another node has made something ready, until the listener is dropped.
    #[must_use]
    pub fn listen(&self, told: impl Fn() + Send + Sync + 'static) -> Listener {
        Listener::start(&self.address, self.waker.clone(), told)
    }
}

/// The channel on which the nodes of a schema tell one another.
pub(crate) fn notify(address: &Address) -> String {
    format!("NOTIFY ostler_{}", address.schema)
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.waker.end(self.number);
    }
}

impl Listener {
    fn start(address: &Address, waker: Waker, told: impl Fn() + Send + Sync + 'static) -> Self {
        let number = waker.begin();
        let listener = Self { waker: waker.clone(), number };
        if !address.pooled {
            let address = address.clone();
            let spawned = thread::Builder::new().name("ostler-wake".into()).spawn(move || {
                let told = Arc::new(told);
                while let Err(trouble) = talk(&address, &waker, number, &told) {
                    waker.listening(number, false);
                    if waker.has_ended(number) {
                        return;
                    }
                    tracing::warn!(error = %trouble.told(), "other nodes are not heard; this one looks once a second");
                    thread::sleep(AGAIN);
                }
            });
            if let Err(error) = spawned {
                tracing::warn!(%error, "no thread to hear other nodes with; this one looks once a second");
            }
        }
        listener
    }
}

/// Tells and hears on one connection, until it is lost or the listener ends.
fn talk(
    address: &Address,
    waker: &Waker,
    number: u64,
    told: &Arc<impl Fn() + Send + Sync + 'static>,
) -> Done<()> {
    let driver = driver()?;
    let (heard, mut news) = mpsc::unbounded_channel::<i32>();
    let client = block_on(async {
        let _context = driver.enter();
        macro_rules! driven {
            ($tls:expr) => {{
                let (client, mut connection) = address.config.connect($tls).await?;
                let lost = waker.clone();
                driver.spawn(async move {
                    let mut messages = stream::poll_fn(move |context| connection.poll_message(context));
                    while let Some(Ok(message)) = messages.next().await {
                        if let AsyncMessage::Notification(note) = message
                            && heard.send(note.process_id()).is_err()
                        {
                            return;
                        }
                    }
                    // Whoever waits for something to tell finds the connection gone.
                    lost.told();
                });
                client
            }};
        }
        let client = match &address.tls {
            None => driven!(NoTls),
            Some(tls) => driven!(MakeRustlsConnect::new((**tls).clone())),
        };
        Ok::<_, tokio_postgres::Error>(client)
    })?;
    block_on(client.batch_execute(&format!("LISTEN ostler_{}", address.schema)))?;
    let row = block_on(client.query_one("SELECT pg_backend_pid()", &[]))?;
    let own: i32 = row.try_get(0).map_err(Trouble::from)?;
    // What came while nobody was heard.
    told();
    waker.listening(number, true);
    let told = told.clone();
    driver.spawn(async move {
        while let Some(from) = poll_fn(|context| news.poll_recv(context)).await {
            if from != own {
                told();
            }
        }
    });
    while waker.wait(number) {
        block_on(client.batch_execute(&notify(address)))?;
        thread::sleep(GATHER);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_something_to_tell_does_it_when_no_listener_is_left() {
        let waker = Waker::default();
        assert!(!waker.told());
        let first = waker.begin();
        waker.listening(first, true);
        assert!(waker.told() && waker.wait(first));
        waker.end(first);
        assert!(!waker.told() && !waker.wait(first) && waker.has_ended(first));
        // A late word of a listener that has ended is not believed.
        let second = waker.begin();
        waker.listening(first, true);
        assert!(!waker.told());
        waker.listening(second, true);
        waker.end(first);
        assert!(waker.told() && waker.wait(second) && !waker.has_ended(second));
    }
}

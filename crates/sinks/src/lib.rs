//! Sinks: events are carried out of the store, to brokers, databases and webhooks, in order and at least once.
//!
//! The table of events is the outbox: what is in it was committed with what it tells of. Carrying them out is a duty
//! ([`ostler_embedded::Duties`]), so one living node does it for each sink; its cursor stands behind the last event that the
//! other side has acknowledged, and moves over nothing else. A node that dies, or a broker that is down, costs that what was
//! not on record comes again; nothing is left out, and nothing overtakes what was not acknowledged.
//!
//! ```
//! # use ostler_sinks::SinkError;
//! let error = SinkError::Setting { field: "url", words: "there is no secret `HOOK`".into() };
//! assert_eq!(error.to_string(), "`url`: there is no secret `HOOK`");
//! ```

mod carry;
mod event;
mod news;
mod outlet;

use std::sync::{Arc, Mutex, PoisonError};

use ostler_clock::Clock;
use ostler_embedded::{Duties, Embedded, Work};
use ostler_execution::Secrets;
use ostler_model::{MachineId, definition::SinkDef};
use ostler_store::{EventPage, Queries, StoreError, Subject, sink_of_duty};

use crate::{carry::Carrier, event::Filter, news::News, outlet::Outlet};

/// Why a sink cannot work as it is written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SinkError {
    /// A setting cannot be worked out, or makes no sense.
    #[error("`{field}`: {words}")]
    Setting {
        /// Which.
        field: &'static str,
        /// What is wrong, and what would be right.
        words: String,
    },
    /// The process cannot do it.
    #[error("{0}")]
    Process(String),
}

/// All sinks of a store, as a node sees them.
pub struct Sinks {
    store: Arc<Outbox>,
    secrets: Arc<dyn Secrets>,
    clock: Arc<dyn Clock>,
    news: News,
}

/// The reading side of the store, for all sinks of the node.
pub(crate) struct Outbox {
    queries: Mutex<Box<dyn Queries>>,
}

impl Outbox {
    pub(crate) fn salt(&self) -> u64 {
        self.queries.lock().unwrap_or_else(PoisonError::into_inner).salt()
    }

    /// Events after a number, with what they are about.
    pub(crate) fn page(&self, after: i64, limit: u32) -> Result<(EventPage, Vec<Subject>), StoreError> {
        let queries = self.queries.lock().unwrap_or_else(PoisonError::into_inner);
        let page = queries.events(after, limit)?;
        let EventPage::Events { items, .. } = &page else { return Ok((page, Vec::new())) };
        let mut machines: Vec<MachineId> = items.iter().map(|event| event.machine).collect();
        machines.sort_unstable();
        machines.dedup();
        let subjects = if machines.is_empty() { Vec::new() } else { queries.subjects(&machines)? };
        Ok((page, subjects))
    }

    pub(crate) fn has_after(&self, after: i64) -> Result<bool, StoreError> {
        Ok(self.queries.lock().unwrap_or_else(PoisonError::into_inner).events_after(after, 1)? > 0)
    }
}

impl Sinks {
    /// The sinks of a store, with the values of secrets.
    #[must_use]
    pub fn new(embedded: &Embedded, clock: Arc<dyn Clock>, secrets: Arc<dyn Secrets>) -> Arc<Self> {
        let store = Arc::new(Outbox { queries: Mutex::new(embedded.queries()) });
        let news = News::new(embedded.place().beside("").map(|_| embedded.changes()), store.clone());
        Arc::new(Self { store, secrets, clock, news })
    }

    /// Something was committed.
    pub fn touch(&self) {
        self.news.touch();
    }
}

impl Sinks {
    fn ready(&self, duty: &str, namespace: &str, body: &str) -> Result<(Filter, Outlet), SinkError> {
        let def: SinkDef = serde_json::from_str(body)
            .map_err(|e| SinkError::Process(format!("its definition does not read: {e}")))?;
        let outlet = Outlet::new(&def.to, duty, &*self.secrets, self.clock.clone())?;
        Ok((Filter::new(&def, namespace)?, outlet))
    }
}

impl Duties for Sinks {
    fn work(&self, duty: &str) -> Result<Option<Box<dyn Work>>, StoreError> {
        let Some((namespace, name)) = sink_of_duty(duty) else { return Ok(None) };
        let row = self.store.queries.lock().unwrap_or_else(PoisonError::into_inner).sink(namespace, name)?;
        let Some(row) = row.filter(|row| row.is_active()) else { return Ok(None) };
        let ready = self.ready(duty, namespace, &row.body);
        Ok(Some(Box::new(Carrier {
            store: self.store.clone(),
            news: self.news.clone(),
            salt: self.store.salt(),
            ready: ready.map_err(|e| e.to_string()),
        })))
    }
}

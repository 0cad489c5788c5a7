//! Events: reading the outbox.

use ostler_api::{EventView, EventsPage};
use ostler_engine::time::timestamp;
use ostler_store::{EventPage, EventRow, event_cursor, event_number};

use crate::{Actor, Service, ServiceError, Verb, sinks::gone};

impl Service {
    /// Events after a cursor (or from the oldest), in order.
    ///
    /// # Errors
    /// The cursor is not one, or retention has taken events after it.
    pub fn events(&self, actor: &Actor, after: Option<&str>, limit: u32) -> Result<EventsPage, ServiceError> {
        self.authorise(actor, Verb::View, None)?;
        let after = match after {
            None => self.read(|q| q.stats())?.first_event.max(1) - 1,
            Some(cursor) => event_number(cursor)
                .ok_or_else(|| ServiceError::BadInput(format!("`{cursor}` is not an event cursor")))?,
        };
        match self.read(|q| q.events(after, limit))? {
            EventPage::Events { items, next } => Ok(EventsPage {
                complete: items.len() < limit as usize,
                items: items.into_iter().map(|e| self.event_view(e)).collect(),
                next: event_cursor(next),
            }),
            EventPage::Gone { oldest } => Err(gone(after, oldest)),
        }
    }

    pub(crate) fn event_view(&self, event: EventRow) -> EventView {
        EventView {
            cursor: event_cursor(event.seq),
            at: timestamp(event.at),
            machine: self.uid(event.machine),
            step: event.step,
            kind: event.kind,
            body: serde_json::from_str(&event.body).unwrap_or_default(),
        }
    }
}

//! PostgreSQL: notifications of a channel. They reach who listens at the moment, in the order of their events.

use async_trait::async_trait;
use ostler_store_postgres::Address;
use tokio_postgres::{Client, types::Type};

use super::{Door, Line, Sent};
use crate::{SinkError, event::Outgoing};

/// A notification is shorter than so many bytes (`NOTIFY_PAYLOAD_MAX_LENGTH`).
const LONGEST: usize = 8000;

/// Events in one transaction.
const BATCH: usize = 64;

/// In one transaction, whose notifications come in the order in which they were made.
const NOTIFY: &str = "SELECT pg_notify($1, n.body)
  FROM (SELECT u.body FROM unnest($2) WITH ORDINALITY u(body, place) ORDER BY u.place) n";

pub(super) struct Place {
    address: Address,
    channel: String,
}

impl Place {
    pub(super) fn new(url: &str, channel: &str) -> Result<Self, SinkError> {
        let address = Address::parse(url)
            .map_err(|e| SinkError::Setting { field: "url", words: e.to_string() })?;
        Ok(Self { address, channel: channel.to_owned() })
    }
}

#[async_trait]
impl Door for Place {
    async fn open(&self) -> Result<Box<dyn Line>, String> {
        let client = self.address.connect().await.map_err(|e| e.to_string())?;
        Ok(Box::new(Channel { client, name: self.channel.clone() }))
    }
}

struct Channel {
    client: Client,
    name: String,
}

#[async_trait]
impl Line for Channel {
    fn most(&self) -> usize {
        BATCH
    }

    async fn send(&mut self, events: &[Outgoing]) -> Sent {
        let bodies: Vec<String> = events
            .iter()
            .map(|event| {
                let whole = event.document().to_string();
                if whole.len() < LONGEST { whole } else { event.reference().to_string() }
            })
            .collect();
        match self.client.query_typed(NOTIFY, &[(&self.name, Type::TEXT), (&bodies, Type::TEXT_ARRAY)]).await {
            Ok(_) => Sent::all(events.len()),
            Err(error) => Sent::wait(0, ostler_store_postgres::words(&error)),
        }
    }
}

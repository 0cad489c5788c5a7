//! PostgreSQL: notifications of a channel. They reach who listens at the moment, in the order of their events.

use std::path::Path;

use async_trait::async_trait;
use ostler_brokers::{BrokerError, postgres::Server};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Error, error::DbError, types::Type};

use super::{Door, Line, Sent, wrong};
use crate::{SinkError, event::Outgoing};

/// A notification is shorter than so many bytes (`NOTIFY_PAYLOAD_MAX_LENGTH`).
const LONGEST: usize = 8000;

/// Events in one transaction.
const BATCH: usize = 64;

/// In one transaction, whose notifications come in the order in which they were made.
const NOTIFY: &str = "SELECT pg_notify($1, n.body)
  FROM (SELECT u.body FROM unnest($2) WITH ORDINALITY u(body, place) ORDER BY u.place) n";

pub(super) struct Place {
    server: Server,
    channel: String,
}

impl Place {
    pub(super) fn new(url: &str, channel: &str) -> Result<Self, SinkError> {
        // A sink may be carried out by any node, so a file of certificates is named by a path from the root.
        let server = Server::parse(url, Path::new("/"), "ostler").map_err(|e| wrong("url", &e))?;
        Ok(Self { server, channel: channel.to_owned() })
    }

    fn away(&self, error: &Error) -> String {
        BrokerError::Away { place: self.server.name().to_owned(), why: words(error) }.to_string()
    }
}

#[async_trait]
impl Door for Place {
    async fn open(&self) -> Result<Box<dyn Line>, String> {
        let (client, connection) = self.server.open().await.map_err(|e| self.away(&e))?;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to PostgreSQL has ended");
            }
        });
        Ok(Box::new(Channel { client, driver, name: self.channel.clone() }))
    }
}

struct Channel {
    client: Client,
    driver: JoinHandle<()>,
    name: String,
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.driver.abort();
    }
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
        match self.client.query_typed(NOTIFY, &[(&self.name, Type::TEXT), (&bodies, Type::TEXT_ARRAY)]).await
        {
            Ok(_) => Sent::all(events.len()),
            Err(error) => Sent::wait(0, words(&error)),
        }
    }
}

/// The server's words, or what is underneath; the driver's own say only where it happened.
fn words(error: &Error) -> String {
    match error.as_db_error().map(DbError::message) {
        Some(told) => told.to_owned(),
        None => std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string),
    }
}

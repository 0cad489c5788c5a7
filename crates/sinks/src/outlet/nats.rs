//! NATS: messages to subjects, kept by a stream of JetStream unless told otherwise.

use async_trait::async_trait;
use ostler_brokers::nats::{Nats, Post, Server};
use ostler_model::places::is_nats_subject;
use ostler_store::event_cursor;

use super::{Door, Halt, Line, Sent, Target, wrong};
use crate::{SinkError, event::Outgoing};

/// Messages on the way at a time. A server that refuses one and keeps the next would have them in another order; what it
/// refuses (no stream, a full one), it refuses of all.
const BATCH: usize = 256;

/// Headers of a message and the words around it, beside its body.
const HEAD: usize = 1024;

pub(super) struct Place {
    server: Server,
    target: Target,
    jetstream: bool,
}

impl Place {
    pub(super) fn new(url: &str, target: Target, jetstream: bool) -> Result<Self, SinkError> {
        Ok(Self { server: Server::parse(url).map_err(|e| wrong("url", &e))?, target, jetstream })
    }
}

#[async_trait]
impl Door for Place {
    async fn open(&self) -> Result<Box<dyn Line>, String> {
        let nats = self.server.connect().await.map_err(|e| e.to_string())?;
        let place = self.server.name();
        Ok(Box::new(Connection { nats, place, target: self.target.clone(), jetstream: self.jetstream }))
    }
}

struct Connection {
    nats: Nats,
    place: String,
    target: Target,
    jetstream: bool,
}

#[async_trait]
impl Line for Connection {
    fn most(&self) -> usize {
        BATCH
    }

    async fn send(&mut self, events: &[Outgoing]) -> Sent {
        let (subjects, mut unfit) = self.target.of(events);
        let largest = self.nats.largest().saturating_sub(HEAD);
        let mut parts = Vec::new();
        for (subject, event) in subjects.into_iter().zip(events) {
            let body = event.document().to_string();
            if !is_nats_subject(&subject) {
                unfit = Some(Halt::Unfit(format!(
                    "`{subject}` is no subject: words joined by dots, without `*` and `>`"
                )));
                break;
            }
            if body.len() > largest {
                unfit = Some(Halt::Unfit(format!(
                    "it has {} bytes; {} takes {largest} at most",
                    body.len(),
                    self.place
                )));
                break;
            }
            let headers = [("Ostler-Event", event_cursor(event.seq)), ("Ostler-Type", event.kind.clone())];
            parts.push((subject, headers.map(|(name, value)| (name.to_owned(), value)), body));
        }
        let posts: Vec<Post<'_>> = parts
            .iter()
            .zip(events)
            .map(|((subject, headers, body), event)| Post {
                subject,
                id: Some(&event.id),
                headers,
                body: body.as_bytes(),
            })
            .collect();
        if posts.is_empty() {
            return Sent { taken: 0, halt: unfit };
        }
        let told: Result<Vec<Result<(), String>>, _> = match self.jetstream {
            true => self
                .nats
                .publish_kept(&posts)
                .await
                .map(|kept| kept.into_iter().map(|k| k.map(drop)).collect()),
            false => self.nats.publish(&posts).await,
        };
        let told = match told {
            Ok(told) => told,
            Err(error) => return Sent::wait(0, error.to_string()),
        };
        let taken = told.iter().take_while(|told| told.is_ok()).count();
        match told.into_iter().nth(taken) {
            Some(Err(why)) => Sent::wait(taken, format!("{}: {why}", self.place)),
            _ => Sent { taken, halt: unfit },
        }
    }
}

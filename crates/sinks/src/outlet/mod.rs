//! Where events go: one file for each sort of place.
//!
//! A place takes events in their order and says how many of the first it has; what it says nothing of is handed over again.

mod mqtt;
mod nats;
mod postgres;
mod redis;
mod webhook;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use ostler_brokers::BrokerError;
use ostler_clock::Clock;
use ostler_execution::{Secrets, reveal_in};
use ostler_expr::{Scope, Template};
use ostler_model::definition;
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::{SinkError, event::Outgoing};

/// How long a place may take to let us in, and then for what it is handed at once.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection that rests for so long is closed: brokers ask those that stay whether they live, and nobody would answer.
const REST: Duration = Duration::from_secs(30);

/// What became of events that were handed over.
#[derive(Debug)]
pub(crate) struct Sent {
    /// So many of the first were taken.
    pub(crate) taken: usize,
    /// Why the next was not.
    pub(crate) halt: Option<Halt>,
}

/// Why an event was not taken.
#[derive(Debug)]
pub(crate) enum Halt {
    /// It may be later; not before so long, where the place has said so.
    Wait(String, Option<Duration>),
    /// It never will: there is something about the event itself.
    Unfit(String),
}

impl Sent {
    pub(crate) fn all(taken: usize) -> Self {
        Self { taken, halt: None }
    }

    pub(crate) fn wait(taken: usize, words: impl Into<String>) -> Self {
        Self { taken, halt: Some(Halt::Wait(words.into(), None)) }
    }
}

/// A connection.
#[async_trait]
pub(crate) trait Line: Send {
    /// How many events it is handed at once at most.
    fn most(&self) -> usize;

    /// Hands events over, in their order, and waits until it is known of each what became of it.
    async fn send(&mut self, events: &[Outgoing]) -> Sent;
}

/// Opens connections.
#[async_trait]
trait Door: Send + Sync {
    /// Lets us in, or says in words why not.
    async fn open(&self) -> Result<Box<dyn Line>, String>;
}

/// Where a sink's events go, with the connection to it.
pub(crate) struct Outlet {
    door: Box<dyn Door>,
    line: Option<(Box<dyn Line>, Instant)>,
}

impl Outlet {
    pub(crate) fn new(
        to: &definition::Outlet,
        duty: &str,
        secrets: &dyn Secrets,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SinkError> {
        let door: Box<dyn Door> = match to {
            definition::Outlet::Postgres { url, channel } => {
                Box::new(postgres::Place::new(&with_secrets("url", url, secrets)?, channel)?)
            }
            definition::Outlet::Webhook { url, secret, headers, batch } => {
                let url = with_secrets("url", url, secrets)?;
                let secret = secret.as_ref().map(|s| with_secrets("secret", s, secrets)).transpose()?;
                let headers = headers
                    .iter()
                    .map(|(name, value)| Ok((name.clone(), with_secrets("headers", value, secrets)?)));
                let headers = headers.collect::<Result<BTreeMap<_, _>, SinkError>>()?;
                Box::new(webhook::Place::new(&url, secret, &headers, *batch as usize, clock)?)
            }
            definition::Outlet::RedisStream { url, stream, max_length } => {
                let url = with_secrets("url", url, secrets)?;
                Box::new(redis::Place::new(
                    &url,
                    Target::new("stream", stream)?,
                    redis::Sort::Stream(*max_length),
                )?)
            }
            definition::Outlet::RedisChannel { url, channel } => {
                let url = with_secrets("url", url, secrets)?;
                Box::new(redis::Place::new(&url, Target::new("channel", channel)?, redis::Sort::Channel)?)
            }
            definition::Outlet::Nats { url, subject, jetstream } => {
                let url = with_secrets("url", url, secrets)?;
                Box::new(nats::Place::new(&url, Target::new("subject", subject)?, *jetstream)?)
            }
            definition::Outlet::Mqtt { url, topic, retain, client_id } => {
                let (url, topic) = (with_secrets("url", url, secrets)?, Target::new("topic", topic)?);
                Box::new(mqtt::Place::new(&url, topic, *retain, client_id.as_deref(), duty)?)
            }
        };
        Ok(Self { door, line: None })
    }

    /// Hands over as many of the first events as are handed at once. Where a connection that has rested is found broken,
    /// a new one is tried at once.
    pub(crate) async fn send(&mut self, events: &[Outgoing]) -> Sent {
        let was_open = self.line.is_some();
        let sent = self.try_to_send(events).await;
        match &sent.halt {
            Some(Halt::Wait(..)) if was_open && sent.taken == 0 => self.try_to_send(events).await,
            _ => sent,
        }
    }

    async fn try_to_send(&mut self, events: &[Outgoing]) -> Sent {
        let late = |what: &str| Sent::wait(0, format!("{what} took longer than {} s", PATIENCE.as_secs()));
        let mut line = match self.line.take() {
            Some((line, _)) => line,
            None => match tokio::time::timeout(PATIENCE, self.door.open()).await {
                Ok(Ok(line)) => line,
                Ok(Err(words)) => return Sent::wait(0, words),
                Err(_) => return late("to be let in"),
            },
        };
        let some = &events[..events.len().min(line.most())];
        match tokio::time::timeout(PATIENCE, line.send(some)).await {
            Ok(sent) => {
                if !matches!(sent.halt, Some(Halt::Wait(..))) {
                    self.line = Some((line, Instant::now()));
                }
                sent
            }
            // Nobody knows what was taken.
            Err(_) => late("an answer"),
        }
    }

    /// When the connection will have rested for too long.
    pub(crate) fn closes_at(&self) -> Option<Instant> {
        self.line.as_ref().map(|(_, used)| *used + REST)
    }

    pub(crate) fn close(&mut self) {
        self.line = None;
    }
}

/// The name of a stream, a subject, a topic: worked out for each event.
#[derive(Clone)]
struct Target(Arc<Template>);

impl Target {
    fn new(field: &'static str, text: &str) -> Result<Self, SinkError> {
        let template = Template::parse(text).map_err(|e| SinkError::Setting { field, words: e.message })?;
        Ok(Self(Arc::new(template)))
    }

    /// The names of the first events, and why the next has none.
    fn of(&self, events: &[Outgoing]) -> (Vec<String>, Option<Halt>) {
        let mut names = Vec::with_capacity(events.len());
        for event in events {
            match self.0.render_text(&Scope::new(&event.names)) {
                Ok(name) => names.push(name),
                Err(error) => return (names, Some(Halt::Unfit(error.message))),
            }
        }
        (names, None)
    }
}

/// What a broker's address is not. No message of theirs holds a login.
fn wrong(field: &'static str, error: &BrokerError) -> SinkError {
    SinkError::Setting { field, words: error.to_string() }
}

/// A text with the values of the secrets that it names.
fn with_secrets(field: &'static str, text: &str, secrets: &dyn Secrets) -> Result<String, SinkError> {
    let wrong = |words: String| SinkError::Setting { field, words };
    let template = Template::parse(text).map_err(|e| wrong(e.message))?;
    let nothing = Map::new();
    let mut value = template.render(&Scope::new(&nothing)).map_err(|e| wrong(e.message))?;
    reveal_in(&mut value, &mut |name: &str| {
        let missing = || wrong(format!("there is no secret `{name}` on this node; set OSTLER_SECRET_{name}"));
        secrets.get(name).ok_or_else(missing)
    })?;
    match value {
        Value::String(text) => Ok(text),
        other => Ok(other.to_string()),
    }
}

//! Redis: entries of a stream, or messages to a channel.

use async_trait::async_trait;
use ostler_brokers::redis::{Redis, Server, Value};
use ostler_store::event_cursor;

use super::{Door, Line, Sent, Target, wrong};
use crate::{SinkError, event::Outgoing};

/// Commands in one transaction.
const BATCH: usize = 256;

pub(super) struct Place {
    server: Server,
    target: Target,
    sort: Sort,
}

/// What a command does.
#[derive(Clone, Copy)]
pub(super) enum Sort {
    /// An entry of a stream, which keeps about so many.
    Stream(Option<u64>),
    /// A message to a channel.
    Channel,
}

impl Place {
    pub(super) fn new(url: &str, target: Target, sort: Sort) -> Result<Self, SinkError> {
        Ok(Self { server: Server::parse(url).map_err(|e| wrong("url", &e))?, target, sort })
    }
}

#[async_trait]
impl Door for Place {
    async fn open(&self) -> Result<Box<dyn Line>, String> {
        let redis = self.server.connect().await.map_err(|e| e.to_string())?;
        let place = self.server.name();
        Ok(Box::new(Connection { redis, place, target: self.target.clone(), sort: self.sort }))
    }
}

struct Connection {
    redis: Redis,
    place: String,
    target: Target,
    sort: Sort,
}

impl Connection {
    fn command(&self, key: String, event: &Outgoing) -> Vec<Vec<u8>> {
        let body = event.document().to_string();
        let words = match self.sort {
            Sort::Channel => vec!["PUBLISH".to_owned(), key, body],
            Sort::Stream(limit) => {
                let limit = limit.map(|n| ["MAXLEN".to_owned(), "~".into(), n.to_string()]);
                let fields = [
                    ("key", event.id.clone()),
                    ("event", event_cursor(event.seq)),
                    ("type", event.kind.clone()),
                    ("body", body),
                ];
                let fields = fields.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
                let head = ["XADD".to_owned(), key].into_iter().chain(limit.into_iter().flatten());
                head.chain(["*".to_owned()]).chain(fields).collect()
            }
        };
        words.into_iter().map(String::into_bytes).collect()
    }
}

#[async_trait]
impl Line for Connection {
    fn most(&self) -> usize {
        BATCH
    }

    /// In one transaction: what is refused when it is queued (no memory left, read only) refuses all, and no event
    /// overtakes another.
    async fn send(&mut self, events: &[Outgoing]) -> Sent {
        let (keys, unfit) = self.target.of(events);
        if keys.is_empty() {
            return Sent { taken: 0, halt: unfit };
        }
        let word = |word: &str| vec![word.as_bytes().to_vec()];
        let count = keys.len();
        let commands = keys.into_iter().zip(events).map(|(key, event)| self.command(key, event));
        let commands: Vec<Vec<Vec<u8>>> =
            [word("MULTI")].into_iter().chain(commands).chain([word("EXEC")]).collect();
        let answers = match self.redis.ask_all(&commands).await {
            Ok(answers) => answers,
            Err(error) => return Sent::wait(0, error.to_string()),
        };
        let refused = |why: &str| Sent::wait(0, format!("{}: {why}", self.place));
        // Why it was not queued says more than that the transaction was given up for it.
        if let Some(Err(why)) = answers.iter().find(|answer| answer.is_err()) {
            return refused(why);
        }
        let Some(Ok(Value::Array(done))) = answers.last() else {
            return refused("it did not carry out a transaction");
        };
        let taken = done.iter().take_while(|answer| !matches!(answer, Value::Error(_) | Value::Nil)).count();
        match done.get(taken) {
            Some(Value::Error(why)) => Sent::wait(taken, format!("{}: {why}", self.place)),
            Some(_) => Sent::wait(taken, format!("{}: an entry was not added", self.place)),
            None => Sent { taken: taken.min(count), halt: unfit },
        }
    }
}

//! NATS: subjects, and streams of JetStream.

use std::collections::BTreeMap;

use ostler_brokers::{
    BrokerError,
    nats::{Consumer, Message, Nats, Server},
};
use serde_json::{Value, json};

use crate::{
    message,
    source::{Batch, Opened, Published, Source, gather},
};

/// What is published while somebody listens.
struct Subject {
    nats: Nats,
}

pub(crate) async fn subject(url: &str, subject: &str) -> Result<Opened, BrokerError> {
    let mut nats = Server::parse(url)?.connect().await?;
    nats.subscribe(subject).await?;
    Ok((Box::new(Subject { nats }), None))
}

impl Published for Subject {
    type Message = Message;

    async fn next(&mut self) -> Result<Message, BrokerError> {
        self.nats.next().await
    }

    fn size(message: &Message) -> usize {
        message.content.kept()
    }
}

#[async_trait::async_trait]
impl Source for Subject {
    async fn batch(&mut self) -> Result<Batch, BrokerError> {
        let messages = gather(self).await?;
        let events = messages.into_iter().map(|m| message::event("nats", about(&m), &m.content)).collect();
        Ok(Batch { events, at: None })
    }
}

/// Messages of a stream, from some number on.
struct Stream {
    nats: Nats,
    consumer: Consumer,
    stream: String,
    missed: Option<String>,
}

pub(crate) async fn stream(
    url: &str,
    stream: &str,
    subject: Option<&str>,
    existing: bool,
    at: Option<&str>,
) -> Result<Opened, BrokerError> {
    let mut nats = Server::parse(url)?.connect().await?;
    let state = nats.stream(stream).await?;
    let known: Option<u64> = at.and_then(|at| at.parse().ok());
    let mut missed = None;
    let behind = match known {
        // Its numbers have begun anew: all of it is new.
        Some(known) if known > state.last => {
            missed = Some(format!("stream {stream} was made anew; what the old one still held is lost"));
            state.first.saturating_sub(1)
        }
        Some(known) => {
            if state.first > known + 1 {
                let last = state.first - 1;
                missed = Some(format!(
                    "stream {stream} has dropped its messages {} to {last} before they were heard",
                    known + 1
                ));
            }
            known
        }
        None if existing => state.first.saturating_sub(1),
        None => state.last,
    };
    let consumer = nats.consume(stream, subject, behind).await?;
    let at = (known != Some(behind)).then(|| behind.to_string());
    Ok((Box::new(Stream { nats, consumer, stream: stream.to_owned(), missed }), at))
}

impl Published for Stream {
    type Message = (u64, Message);

    async fn next(&mut self) -> Result<(u64, Message), BrokerError> {
        self.nats.pulled(&mut self.consumer).await
    }

    fn size((_, message): &(u64, Message)) -> usize {
        message.content.kept()
    }
}

#[async_trait::async_trait]
impl Source for Stream {
    async fn batch(&mut self) -> Result<Batch, BrokerError> {
        let messages = gather(self).await?;
        let stream = &self.stream;
        let at = messages.last().map(|(number, _)| number.to_string());
        let event = |(number, message): (u64, Message)| {
            let mut about = about(&message);
            about["stream"] = json!(stream);
            about["sequence"] = json!(number);
            message::event("nats", about, &message.content)
        };
        Ok(Batch { events: messages.into_iter().map(event).collect(), at })
    }

    fn missed(&mut self) -> Option<String> {
        self.missed.take()
    }
}

fn about(message: &Message) -> Value {
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in &message.headers {
        headers
            .entry(name.to_lowercase())
            .and_modify(|all| *all = format!("{all}, {value}"))
            .or_insert_with(|| value.clone());
    }
    json!({ "subject": message.subject, "headers": headers })
}

//! Where messages come from: what all brokers have in common.

use std::{path::PathBuf, time::Duration};

use ostler_brokers::BrokerError;
use ostler_engine::fields::Incoming;
use ostler_model::{definition::MessageSource, digest::digest};
use serde_json::{Value, json};

use crate::{mqtt, nats, postgres, redis};

/// Messages that are told in one transaction. A tick of a trigger starts as many runs.
pub(crate) const MOST: usize = 200;

/// Bytes of them.
const MOST_BYTES: usize = 4 << 20;

/// How long more messages are waited for when there is one.
const LINGER: Duration = Duration::from_millis(3);

/// What is told in one transaction.
#[derive(Default)]
pub(crate) struct Batch {
    /// Messages, in their order.
    pub(crate) events: Vec<Incoming>,
    /// The place behind them, where the broker has places.
    pub(crate) at: Option<String>,
}

/// Whom messages are for.
pub(crate) struct Wishes {
    /// The trigger's public id.
    pub(crate) uid: String,
    /// By which a server shows the connection.
    pub(crate) name: String,
    /// Files of certificates are looked for from here on.
    pub(crate) folder: PathBuf,
}

/// A broker that is listened to.
#[async_trait::async_trait]
pub(crate) trait Source: Send {
    /// The next messages, whenever they come. Those before have been told.
    async fn batch(&mut self) -> Result<Batch, BrokerError>;

    /// The last batch has been told.
    async fn done(&mut self) -> Result<(), BrokerError> {
        Ok(())
    }

    /// Messages are taken out of a queue, where others could have taken them.
    fn keeps(&self) -> bool {
        false
    }

    /// Puts the last batch back into its queue.
    async fn give_back(&mut self) -> Result<(), BrokerError> {
        Ok(())
    }

    /// What was lost before it could be heard, as far as the broker tells.
    fn missed(&mut self) -> Option<String> {
        None
    }
}

/// A broker, and the place from which it is listened to where none was known before.
pub(crate) type Opened = (Box<dyn Source>, Option<String>);

/// Connects and begins to listen, from a place on if there is one.
pub(crate) async fn open(
    source: &MessageSource,
    url: &str,
    wishes: &Wishes,
    at: Option<&str>,
) -> Result<Opened, BrokerError> {
    match source {
        MessageSource::RedisStream { stream, existing, .. } => {
            redis::stream(url, stream, *existing, at).await
        }
        MessageSource::RedisChannel { channel, .. } => redis::channel(url, channel).await,
        MessageSource::RedisList { list, end, .. } => redis::list(url, list, *end, &wishes.uid, at).await,
        MessageSource::Nats { subject, .. } => nats::subject(url, subject).await,
        MessageSource::NatsStream { stream, subject, existing, .. } => {
            nats::stream(url, stream, subject.as_deref(), *existing, at).await
        }
        MessageSource::Mqtt { topic, qos, client_id, existing, .. } => {
            let client = client_id.clone().unwrap_or_else(|| mqtt::client_id(&wishes.uid));
            mqtt::topic(url, topic, *qos, client, *existing, at).await
        }
        MessageSource::Postgres { channel, .. } => postgres::channel(url, channel, wishes).await,
    }
}

/// A broker that sends message by message.
pub(crate) trait Published: Send {
    type Message: Send;

    /// The next message, whenever it comes. Dropped before its end, it loses nothing.
    fn next(&mut self) -> impl Future<Output = Result<Self::Message, BrokerError>> + Send;

    fn size(message: &Self::Message) -> usize;
}

/// Gathers what is there: waits for the first message, and for more of them a moment. What goes wrong behind messages is
/// found again by the next batch.
pub(crate) async fn gather<P: Published>(from: &mut P) -> Result<Vec<P::Message>, BrokerError> {
    let first = from.next().await?;
    let mut bytes = P::size(&first);
    let mut found = vec![first];
    while found.len() < MOST && bytes < MOST_BYTES {
        match tokio::time::timeout(LINGER, from.next()).await {
            Ok(Ok(message)) => {
                bytes += P::size(&message);
                found.push(message);
            }
            Ok(Err(_)) | Err(_) => break,
        }
    }
    Ok(found)
}

/// The cursor of a duty: a place, and of what. A trigger that listens elsewhere now begins anew there.
pub(crate) struct Spot;

impl Spot {
    pub(crate) fn read(cursor: Option<&str>, source: &MessageSource) -> Option<String> {
        let cursor: Value = serde_json::from_str(cursor?).ok()?;
        (cursor["of"] == Self::of(source)).then(|| cursor["at"].as_str().map(str::to_owned))?
    }

    pub(crate) fn write(source: &MessageSource, at: String) -> String {
        json!({ "of": Self::of(source), "at": at }).to_string()
    }

    fn of(source: &MessageSource) -> String {
        let mut value = serde_json::to_value(source).unwrap_or_default();
        // Where it begins says nothing of where it is.
        if let Some(fields) = value.as_object_mut() {
            fields.remove("existing");
        }
        digest(&value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_one_of_its_source_only() {
        let stream = |stream: &str, existing| MessageSource::RedisStream {
            url: "redis://h".into(),
            stream: stream.into(),
            existing,
        };
        let cursor = Spot::write(&stream("a", false), "7-0".into());
        assert_eq!(Spot::read(Some(&cursor), &stream("a", true)).as_deref(), Some("7-0"));
        assert_eq!(Spot::read(Some(&cursor), &stream("b", false)), None);
        assert_eq!(Spot::read(Some(""), &stream("a", false)), None);
        assert_eq!(Spot::read(None, &stream("a", false)), None);
    }
}

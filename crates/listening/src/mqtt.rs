//! MQTT: a session that the broker keeps, so that what comes while nobody listens is not lost (quality 1).

use ostler_brokers::{
    BrokerError,
    mqtt::{Message, Mqtt, Server, Session},
};
use serde_json::json;

use crate::{
    message,
    source::{Batch, Opened, Published, Source, gather},
};

struct Topic {
    mqtt: Mqtt,
    /// What has come before the broker had heard our wish.
    early: Vec<Message>,
    /// Numbers to acknowledge when they have been told.
    taken: Vec<u16>,
    existing: bool,
    missed: Option<String>,
}

/// 23 letters and digits are what every broker takes.
pub(crate) fn client_id(uid: &str) -> String {
    format!("ostler{}", &ostler_model::digest::digest_bytes(uid.as_bytes())[..17])
}

pub(crate) async fn topic(
    url: &str,
    topic: &str,
    qos: u8,
    client: String,
    existing: bool,
    at: Option<&str>,
) -> Result<Opened, BrokerError> {
    let server = Server::parse(url)?;
    if at.is_none() {
        // What the broker keeps for this name is of something else that was listened to.
        let session = Session { client: client.clone(), kept: false };
        server.connect(&session).await?.goodbye().await?;
    }
    let mut mqtt = server.connect(&Session { client, kept: true }).await?;
    let is_known = mqtt.is_known();
    // A broker tells what it keeps of a topic at each subscription, so there is one only where it does not know us.
    let early = if is_known { Vec::new() } else { mqtt.subscribe(topic, qos == 1).await? };
    let missed = (at.is_some() && !is_known && qos == 1)
        .then(|| "the broker had forgotten the session; what came while nobody listened is lost".to_owned());
    let at = at.is_none().then(String::new);
    Ok((Box::new(Topic { mqtt, early, taken: Vec::new(), existing, missed }), at))
}

impl Published for Topic {
    type Message = Message;

    async fn next(&mut self) -> Result<Message, BrokerError> {
        self.mqtt.next().await
    }

    fn size(message: &Message) -> usize {
        message.content.kept()
    }
}

#[async_trait::async_trait]
impl Source for Topic {
    async fn batch(&mut self) -> Result<Batch, BrokerError> {
        let messages = match self.early.is_empty() {
            true => gather(self).await?,
            false => std::mem::take(&mut self.early),
        };
        self.taken = messages.iter().filter_map(|m| m.number).collect();
        let existing = self.existing;
        let events = messages.into_iter().filter(|m| existing || !m.retained).map(|m| {
            let about = json!({ "topic": m.topic, "retained": m.retained, "again": m.again });
            message::event("mqtt", about, &m.content)
        });
        Ok(Batch { events: events.collect(), at: None })
    }

    async fn done(&mut self) -> Result<(), BrokerError> {
        self.mqtt.acknowledge(std::mem::take(&mut self.taken)).await
    }

    fn missed(&mut self) -> Option<String> {
        self.missed.take()
    }
}

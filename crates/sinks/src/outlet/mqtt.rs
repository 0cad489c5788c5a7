//! MQTT: messages to topics, with quality of service 1.

use async_trait::async_trait;
use ostler_brokers::mqtt::{Mqtt, Post, Server, Session};
use ostler_model::places::is_mqtt_topic;

use super::{Door, Halt, Line, Sent, Target, wrong};
use crate::{SinkError, event::Outgoing};

/// Messages on the way at a time; what an acknowledgement says of is one of them.
const BATCH: usize = 100;

pub(super) struct Place {
    server: Server,
    target: Target,
    retain: bool,
    client: String,
}

impl Place {
    pub(super) fn new(
        url: &str,
        target: Target,
        retain: bool,
        client: Option<&str>,
        duty: &str,
    ) -> Result<Self, SinkError> {
        // The same on every node: a broker that is told of a second one ends the connection of the first, which must
        // have lost the duty without knowing it. Every broker takes 23 letters and digits.
        let own = || {
            let digest = ostler_model::digest::digest(&duty.into());
            let letters = digest.chars().filter(char::is_ascii_alphanumeric).take(16);
            format!("ostler{}", letters.collect::<String>())
        };
        let client = client.map_or_else(own, str::to_owned);
        Ok(Self { server: Server::parse(url).map_err(|e| wrong("url", &e))?, target, retain, client })
    }
}

#[async_trait]
impl Door for Place {
    async fn open(&self) -> Result<Box<dyn Line>, String> {
        let session = Session { client: self.client.clone(), kept: false };
        let mqtt = self.server.connect(&session).await.map_err(|e| e.to_string())?;
        Ok(Box::new(Connection { mqtt, target: self.target.clone(), retain: self.retain }))
    }
}

struct Connection {
    mqtt: Mqtt,
    target: Target,
    retain: bool,
}

#[async_trait]
impl Line for Connection {
    fn most(&self) -> usize {
        BATCH
    }

    async fn send(&mut self, events: &[Outgoing]) -> Sent {
        let (topics, mut unfit) = self.target.of(events);
        let mut parts = Vec::new();
        for (topic, event) in topics.into_iter().zip(events) {
            if !is_mqtt_topic(&topic) {
                unfit = Some(Halt::Unfit(format!("`{topic}` is no topic to publish to")));
                break;
            }
            parts.push((topic, event.document().to_string()));
        }
        let posts: Vec<Post<'_>> = parts
            .iter()
            .map(|(topic, body)| Post {
                topic,
                acknowledged: true,
                retain: self.retain,
                body: body.as_bytes(),
            })
            .collect();
        match self.mqtt.publish(&posts).await {
            Ok(()) => Sent { taken: posts.len(), halt: unfit },
            Err(error) => Sent::wait(0, error.to_string()),
        }
    }
}

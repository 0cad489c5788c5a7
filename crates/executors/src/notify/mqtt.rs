//! A notification by MQTT.

use jiff::Timestamp;
use ostler_brokers::{
    BrokerError,
    mqtt::{Post as Message, Server, Session},
};
use ostler_model::{TypedError, places};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Delivery, Notice,
    broker::{self, Body},
    wrong,
};
use crate::call::Call;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    url: String,
    topic: String,
    #[serde(default = "once")]
    qos: u8,
    #[serde(default)]
    retain: bool,
    client_id: Option<String>,
    #[serde(default)]
    body: Body,
}

fn once() -> u8 {
    1
}

pub(super) fn schema() -> Value {
    let text = |what: &str| json!({ "type": "string", "description": what });
    json!({
        "type": "object",
        "description": "A message to a topic of MQTT",
        "required": ["url", "topic"],
        "additionalProperties": false,
        "properties": {
            "url": text("mqtt://user:password@host:1883, or mqtts:// for TLS"),
            "topic": text("The topic"),
            "qos": { "enum": [0, 1], "default": 1, "description": "1: wait until the broker has it; 0: do not" },
            "retain": { "type": "boolean", "description": "The broker keeps it for those who subscribe later; default false" },
            "client_id": text("The name by which the broker knows the sender; one for each run when nothing is said"),
            "body": Body::schema(),
        },
    })
}

/// A message that is ready to be published.
pub(super) struct Post {
    server: Server,
    session: Session,
    topic: String,
    qos: u8,
    retain: bool,
    body: String,
}

impl Post {
    pub(super) fn new(
        settings: Value,
        notice: &Notice,
        call: &Call,
        now: Timestamp,
    ) -> Result<Self, TypedError> {
        let settings: Settings =
            serde_json::from_value(settings).map_err(|e| wrong(format!("`mqtt`: {e}")))?;
        let server = Server::parse(&settings.url).map_err(|e| broker::wrong_url("mqtt", &e))?;
        let topic = settings.topic;
        if !places::is_mqtt_topic(&topic) {
            return Err(wrong("`mqtt.topic` is a topic without `+` and `#`"));
        }
        if settings.qos > 1 {
            return Err(wrong("`mqtt.qos` is 0 or 1"));
        }
        // 23 letters and digits are what every broker takes.
        let digest = blake3::hash(call.request.idempotency_key.as_bytes()).to_hex();
        let client = settings.client_id.unwrap_or_else(|| format!("ostler{}", &digest[..17]));
        let body = settings.body.text(notice, call, now);
        let session = Session { client, kept: false };
        Ok(Self { server, session, topic, qos: settings.qos, retain: settings.retain, body })
    }

    pub(super) async fn send(self, call: &Call) -> Delivery {
        broker::told("mqtt", &self.server.name(), self.publish().await, call)
    }

    async fn publish(&self) -> Result<Value, BrokerError> {
        let mut mqtt = self.server.connect(&self.session).await?;
        let Self { topic, retain, body, .. } = self;
        let acknowledged = self.qos == 1;
        let message = Message { topic, acknowledged, retain: *retain, body: body.as_bytes() };
        mqtt.publish(&[message]).await?;
        if !acknowledged {
            mqtt.settle().await?;
        }
        mqtt.goodbye().await?;
        Ok(json!({ "topic": topic }))
    }
}

//! A notification by NATS: published, or kept by a stream of JetStream, which says so.

use jiff::Timestamp;
use ostler_brokers::{
    BrokerError,
    nats::{Post as Message, Server},
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
    subject: String,
    #[serde(default)]
    jetstream: bool,
    #[serde(default)]
    body: Body,
}

pub(super) fn schema() -> Value {
    let text = |what: &str| json!({ "type": "string", "description": what });
    json!({
        "type": "object",
        "description": "A message to a subject of NATS",
        "required": ["url", "subject"],
        "additionalProperties": false,
        "properties": {
            "url": text("nats://user:password@host:4222 (a token stands where the user does), or tls:// for TLS"),
            "subject": text("The subject"),
            "jetstream": { "type": "boolean", "description": "Wait until a stream has it; a repeated delivery is known by its id. Default false" },
            "body": Body::schema(),
        },
    })
}

/// A message that is ready to be published.
pub(super) struct Post {
    server: Server,
    subject: String,
    jetstream: bool,
    id: String,
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
            serde_json::from_value(settings).map_err(|e| wrong(format!("`nats`: {e}")))?;
        let server = Server::parse(&settings.url).map_err(|e| broker::wrong_url("nats", &e))?;
        let subject = settings.subject;
        if !places::is_nats_subject(&subject) {
            return Err(wrong("`nats.subject` is not words joined by dots, without `*` and `>`"));
        }
        let body = settings.body.text(notice, call, now);
        let id = call.request.idempotency_key.clone();
        Ok(Self { server, subject, jetstream: settings.jetstream, id, body })
    }

    pub(super) async fn send(self, call: &Call) -> Delivery {
        broker::told("nats", &self.server.name(), self.publish().await, call)
    }

    async fn publish(&self) -> Result<Value, BrokerError> {
        let Self { server, subject, jetstream, id, body } = self;
        let refused = |why| BrokerError::Refused { place: server.name(), why };
        let message = Message { subject, id: Some(id), body: body.as_bytes(), headers: &[] };
        let mut nats = server.connect().await?;
        if !jetstream {
            nats.publish(&[message]).await?.into_iter().collect::<Result<(), _>>().map_err(refused)?;
            return Ok(json!({ "subject": subject }));
        }
        let kept = nats.publish_kept(&[message]).await?.into_iter().collect::<Result<Vec<_>, _>>();
        let mut output = json!({});
        for kept in kept.map_err(refused)? {
            output = json!({ "stream": kept.stream, "sequence": kept.sequence });
            if kept.duplicate {
                output["duplicate"] = json!(true);
            }
        }
        Ok(output)
    }
}

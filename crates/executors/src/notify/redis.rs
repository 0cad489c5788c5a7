//! A notification by Redis: published to a channel, or added to a stream.

use jiff::Timestamp;
use ostler_brokers::{
    BrokerError,
    redis::{self, Server},
};
use ostler_model::TypedError;
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
    channel: Option<String>,
    stream: Option<String>,
    max_length: Option<u64>,
    #[serde(default)]
    body: Body,
}

pub(super) fn schema() -> Value {
    let text = |what: &str| json!({ "type": "string", "description": what });
    json!({
        "type": "object",
        "description": "A message to a channel or an entry of a stream of Redis",
        "required": ["url"],
        "additionalProperties": false,
        "properties": {
            "url": text("redis://user:password@host:6379/0, or rediss:// for TLS"),
            "channel": text("Publish to this channel"),
            "stream": text("Add an entry to this stream"),
            "max_length": { "type": "integer", "minimum": 1, "description": "The stream keeps about so many entries" },
            "body": Body::schema(),
        },
    })
}

/// A command that is ready to be given.
pub(super) struct Post {
    server: Server,
    command: Vec<Vec<u8>>,
    /// What the answer is called in the output.
    answer: &'static str,
}

impl Post {
    pub(super) fn new(
        settings: Value,
        notice: &Notice,
        call: &Call,
        now: Timestamp,
    ) -> Result<Self, TypedError> {
        let settings: Settings =
            serde_json::from_value(settings).map_err(|e| wrong(format!("`redis`: {e}")))?;
        let server = Server::parse(&settings.url).map_err(|e| broker::wrong_url("redis", &e))?;
        let body = settings.body.text(notice, call, now);
        let (words, answer): (Vec<String>, _) = match (settings.channel, settings.stream) {
            (Some(channel), None) => (vec!["PUBLISH".into(), channel, body], "receivers"),
            (None, Some(stream)) => {
                let limit = settings.max_length.map(|n| ["MAXLEN".to_owned(), "~".into(), n.to_string()]);
                let key = call.request.idempotency_key.clone();
                let mut words = vec!["XADD".to_owned(), stream];
                words.extend(limit.into_iter().flatten());
                words.extend(["*".into(), "key".into(), key, "body".into(), body]);
                (words, "id")
            }
            _ => return Err(wrong("`redis` needs either a `channel` or a `stream`")),
        };
        Ok(Self { server, command: redis::words(words.iter().map(String::as_str)), answer })
    }

    pub(super) async fn send(self, call: &Call) -> Delivery {
        broker::told("redis", &self.server.name(), self.give().await, call)
    }

    async fn give(&self) -> Result<Value, BrokerError> {
        let answer = match self.server.connect().await?.ask(&self.command).await? {
            redis::Value::Integer(number) => json!(number),
            answer => json!(answer.text()),
        };
        Ok(json!({ self.answer: answer }))
    }
}

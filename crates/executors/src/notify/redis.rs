//! A notification by Redis: published to a channel, or added to a stream (RESP, <https://redis.io/docs/latest/develop/reference/protocol-spec/>).

use jiff::Timestamp;
use ostler_model::TypedError;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    Delivery, Notice,
    broker::{Body, Link, Place, line},
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
    place: Place,
    database: Option<String>,
    command: Vec<String>,
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
        let place = Place::parse("redis", &settings.url, [("redis", 6379), ("rediss", 6379)])?;
        let database = Some(place.address.path.clone()).filter(|path| !path.is_empty());
        if database.as_ref().is_some_and(|number| number.parse::<u32>().is_err()) {
            return Err(wrong("`redis.url`: what follows the host is the number of a database, as in /0"));
        }
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
        Ok(Self { place, database, command: words, answer })
    }

    pub(super) async fn send(self, call: &Call) -> Delivery {
        let name = self.place.name();
        match self.give().await {
            Ok(answer) => {
                call.remark(&format!("redis: {name} took it"));
                Delivery::made(json!({ self.answer: answer }))
            }
            Err(why) => Delivery::failed(format!("{name}: {why}")),
        }
    }

    async fn give(&self) -> Result<Value, String> {
        let mut link = self.place.connect().await?;
        if self.place.secured {
            link = self.place.secure(link).await?;
        }
        let address = &self.place.address;
        if let Some(password) = &address.password {
            let login = [address.user.as_deref(), Some(password)];
            ask(&mut link, std::iter::once("AUTH").chain(login.into_iter().flatten())).await?;
        }
        if let Some(number) = &self.database {
            ask(&mut link, ["SELECT", number]).await?;
        }
        ask(&mut link, self.command.iter().map(String::as_str)).await
    }
}

/// Gives one command and reads its answer.
async fn ask<'a>(link: &mut Link, words: impl IntoIterator<Item = &'a str>) -> Result<Value, String> {
    let words: Vec<&str> = words.into_iter().collect();
    let mut text = format!("*{}\r\n", words.len());
    for word in words {
        text += &format!("${}\r\n{word}\r\n", word.len());
    }
    link.write_all(text.as_bytes()).await.map_err(|e| e.to_string())?;
    link.flush().await.map_err(|e| e.to_string())?;
    let head = line(link).await?;
    let rest = head.get(1..).unwrap_or_default();
    match head.as_bytes().first() {
        Some(b'+') => Ok(rest.into()),
        Some(b':') => Ok(rest.parse::<i64>().map_or_else(|_| rest.into(), Value::from)),
        Some(b'-') => Err(rest.to_owned()),
        Some(b'$') => {
            let length: usize = rest.parse().map_err(|_| "its answer makes no sense")?;
            let mut bytes = Vec::new();
            link.take(length as u64 + 2).read_to_end(&mut bytes).await.map_err(|e| e.to_string())?;
            bytes.truncate(length);
            Ok(String::from_utf8_lossy(&bytes).into_owned().into())
        }
        _ => Err("its answer makes no sense".into()),
    }
}

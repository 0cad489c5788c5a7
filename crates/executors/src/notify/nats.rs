//! A notification by NATS: published, or kept by a stream of JetStream, which says so
//! (<https://docs.nats.io/reference/reference-protocols/nats-protocol>).

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
    place: Place,
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
        let place = Place::parse("nats", &settings.url, [("nats", 4222), ("tls", 4222)])?;
        let subject = settings.subject;
        // A space or line break would begin another word of the protocol.
        let is_subject = subject.split('.').all(|part| !part.is_empty() && part != "*" && part != ">")
            && !subject.chars().any(|c| c.is_whitespace() || c.is_control());
        if !is_subject {
            return Err(wrong("`nats.subject` is not words joined by dots, without `*` and `>`"));
        }
        let body = settings.body.text(notice, call, now);
        // The key is made of ids; what is no letter of a header is left out all the same.
        let id = call.request.idempotency_key.chars().filter(|c| !c.is_control()).collect();
        Ok(Self { place, subject, jetstream: settings.jetstream, id, body })
    }

    pub(super) async fn send(self, call: &Call) -> Delivery {
        let name = self.place.name();
        match self.publish().await {
            Ok(output) => {
                call.remark(&format!("nats: {name} took it"));
                Delivery::made(output)
            }
            Err(why) => Delivery::failed(format!("{name}: {why}")),
        }
    }

    async fn publish(&self) -> Result<Value, String> {
        let mut link = self.place.connect().await?;
        let hello = line(&mut link).await?;
        let info: Value = hello
            .strip_prefix("INFO ")
            .and_then(|text| serde_json::from_str(text).ok())
            .ok_or("it does not greet as NATS does")?;
        if self.place.secured || info["tls_required"] == true {
            link = self.place.secure(link).await?;
        }
        let address = &self.place.address;
        let mut options = json!({
            "verbose": false, "pedantic": false, "lang": "rust", "version": env!("CARGO_PKG_VERSION"),
            "name": "ostler", "headers": true, "no_responders": true,
        });
        match (&address.user, &address.password) {
            (Some(user), Some(password)) => {
                options["user"] = json!(user);
                options["pass"] = json!(password);
            }
            (Some(token), None) => options["auth_token"] = json!(token),
            _ => {}
        }
        let inbox = format!("_INBOX.ostler.{}", &blake3::hash(self.id.as_bytes()).to_hex()[..32]);
        let head = format!("NATS/1.0\r\nNats-Msg-Id: {}\r\n\r\n", self.id);
        let reply = if self.jetstream { format!("{inbox} ") } else { String::new() };
        let mut text = format!("CONNECT {options}\r\n");
        if self.jetstream {
            text += &format!("SUB {inbox} 1\r\n");
        }
        let Self { subject, body, .. } = self;
        text += &format!(
            "HPUB {subject} {reply}{} {}\r\n{head}{body}\r\nPING\r\n",
            head.len(),
            head.len() + body.len()
        );
        link.write_all(text.as_bytes()).await.map_err(|e| e.to_string())?;
        link.flush().await.map_err(|e| e.to_string())?;
        loop {
            let told = line(&mut link).await?;
            let words: Vec<&str> = told.split(' ').collect();
            match words[0] {
                // What came before the PING has been dealt with by now.
                "PONG" if !self.jetstream => return Ok(json!({ "subject": subject })),
                "PING" => {
                    link.write_all(b"PONG\r\n").await.map_err(|e| e.to_string())?;
                    link.flush().await.map_err(|e| e.to_string())?;
                }
                "-ERR" => return Err(told[4..].trim().trim_matches('\'').to_owned()),
                "MSG" | "HMSG" => return acknowledged(&mut link, &words).await,
                _ => {}
            }
        }
    }
}

/// What the stream says.
async fn acknowledged(link: &mut Link, words: &[&str]) -> Result<Value, String> {
    let length: u64 = words.last().and_then(|n| n.parse().ok()).ok_or("its answer makes no sense")?;
    let mut bytes = Vec::new();
    link.take(length).read_to_end(&mut bytes).await.map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&bytes);
    if words[0] == "HMSG" && text.starts_with("NATS/1.0 503") {
        return Err("no stream of JetStream takes this subject".into());
    }
    let answer: Value = serde_json::from_str(&text).map_err(|_| "its answer makes no sense")?;
    if let Some(why) = answer["error"]["description"].as_str() {
        return Err(why.to_owned());
    }
    let mut output = json!({ "stream": answer["stream"], "sequence": answer["seq"] });
    if answer["duplicate"] == true {
        output["duplicate"] = json!(true);
    }
    Ok(output)
}

//! A notification by MQTT 3.1.1, which brokers of version 5 speak as well
//! (<https://docs.oasis-open.org/mqtt/mqtt/v3.1.1/os/mqtt-v3.1.1-os.html>).

use jiff::Timestamp;
use ostler_model::TypedError;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    Delivery, Notice,
    broker::{Body, Link, Place},
    wrong,
};
use crate::call::Call;

const CONNECT: u8 = 0x10;
const CONNACK: u8 = 0x20;
const PUBLISH: u8 = 0x30;
const PUBACK: u8 = 0x40;
const DISCONNECT: u8 = 0xE0;
/// The number of the only message of a connection.
const NUMBER: u16 = 1;
/// Larger packets than this are not read.
const ANSWER: usize = 4096;

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
    place: Place,
    client: String,
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
        let place = Place::parse("mqtt", &settings.url, [("mqtt", 1883), ("mqtts", 8883)])?;
        let topic = settings.topic;
        if topic.is_empty() || topic.len() > 65_535 || topic.contains(['+', '#', '\0']) {
            return Err(wrong("`mqtt.topic` is a topic without `+` and `#`"));
        }
        if settings.qos > 1 {
            return Err(wrong("`mqtt.qos` is 0 or 1"));
        }
        // 23 letters and digits are what every broker takes.
        let digest = blake3::hash(call.request.idempotency_key.as_bytes()).to_hex();
        let client = settings.client_id.unwrap_or_else(|| format!("ostler{}", &digest[..17]));
        let body = settings.body.text(notice, call, now);
        Ok(Self { place, client, topic, qos: settings.qos, retain: settings.retain, body })
    }

    pub(super) async fn send(self, call: &Call) -> Delivery {
        let name = self.place.name();
        match self.publish().await {
            Ok(()) => {
                call.remark(&format!("mqtt: {name} took it"));
                Delivery::made(json!({ "topic": self.topic }))
            }
            Err(why) => Delivery::failed(format!("{name}: {why}")),
        }
    }

    async fn publish(&self) -> Result<(), String> {
        let mut link = self.place.connect().await?;
        if self.place.secured {
            link = self.place.secure(link).await?;
        }
        send(&mut link, &self.greeting()).await?;
        match *receive(&mut link, CONNACK).await?.as_slice() {
            [_, 0] => {}
            [_, code] => return Err(refusal(code)),
            _ => return Err("its answer makes no sense".into()),
        }
        let flags = PUBLISH | self.qos << 1 | u8::from(self.retain);
        let number = if self.qos == 0 { Vec::new() } else { NUMBER.to_be_bytes().to_vec() };
        let message = [text(&self.topic), number, self.body.clone().into_bytes()].concat();
        send(&mut link, &packet(flags, &message)).await?;
        if self.qos == 1 && receive(&mut link, PUBACK).await?.get(..2) != Some(&NUMBER.to_be_bytes()[..]) {
            return Err("it acknowledges another message".into());
        }
        send(&mut link, &packet(DISCONNECT, &[])).await?;
        // Whoever is told nothing has at least to read all before the end.
        let mut rest = [0; 64];
        while self.qos == 0 && link.read(&mut rest).await.is_ok_and(|read| read > 0) {}
        Ok(())
    }

    fn greeting(&self) -> Vec<u8> {
        const CLEAN: u8 = 0x02;
        let address = &self.place.address;
        let login = [(address.user.as_deref(), 0x80_u8), (address.password.as_deref(), 0x40)];
        let flags =
            login.iter().fold(CLEAN, |flags, (given, bit)| if given.is_some() { flags | bit } else { flags });
        let keep_alive = 60_u16.to_be_bytes();
        let mut body = [text("MQTT"), vec![4, flags], keep_alive.to_vec(), text(&self.client)].concat();
        body.extend(login.iter().filter_map(|(given, _)| *given).flat_map(text));
        packet(CONNECT, &body)
    }
}

/// A text with its length before it.
fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    let bytes = &text.as_bytes()[..usize::from(length)];
    [&length.to_be_bytes()[..], bytes].concat()
}

/// A packet: its head, its length in groups of seven bits, the rest.
fn packet(head: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![head];
    let mut length = body.len();
    loop {
        let more = if length > 127 { 0x80 } else { 0 };
        bytes.push((length % 128) as u8 | more);
        length /= 128;
        if length == 0 {
            break;
        }
    }
    bytes.extend_from_slice(body);
    bytes
}

async fn send(link: &mut Link, bytes: &[u8]) -> Result<(), String> {
    link.write_all(bytes).await.map_err(|e| e.to_string())?;
    link.flush().await.map_err(|e| e.to_string())
}

/// The body of the next packet, which must be of this kind.
async fn receive(link: &mut Link, kind: u8) -> Result<Vec<u8>, String> {
    let closed = |_| "it closed the connection".to_owned();
    let head = link.read_u8().await.map_err(closed)?;
    let (mut length, mut shift) = (0_usize, 0);
    loop {
        let byte = link.read_u8().await.map_err(closed)?;
        length |= usize::from(byte & 0x7F) << shift;
        shift += 7;
        if byte < 0x80 || shift > 21 {
            break;
        }
    }
    if head & 0xF0 != kind || length > ANSWER {
        return Err("its answer makes no sense".into());
    }
    let mut body = vec![0; length];
    link.read_exact(&mut body).await.map_err(closed)?;
    Ok(body)
}

fn refusal(code: u8) -> String {
    let why = match code {
        1 => "it does not speak MQTT 3.1.1",
        2 => "it refuses the client id",
        3 => "it is not at work",
        4 => "user or password are wrong",
        5 => "it does not let us in",
        _ => return format!("it refuses with code {code}"),
    };
    why.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_as_the_standard_has_them() {
        for (length, expected) in
            [(0, vec![0]), (127, vec![0x7F]), (128, vec![0x80, 1]), (16_384, vec![0x80, 0x80, 1])]
        {
            let bytes = packet(PUBLISH, &vec![0; length]);
            assert_eq!(bytes[1..bytes.len() - length], expected, "{length}");
        }
    }
}

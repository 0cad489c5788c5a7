//! What a message is as an event.

use base64::{Engine, prelude::BASE64_STANDARD};
use ostler_brokers::{Content, LIMIT};
use ostler_engine::fields::Incoming;
use serde_json::{Map, Value, json};

/// An event with what is said of it and what it carries: `json`, or `text` when it is no JSON, or `base64` when it is no
/// text either.
pub(crate) fn event(name: &str, about: Value, content: &Content) -> Incoming {
    let mut body = match about {
        Value::Object(about) => about,
        _ => Map::new(),
    };
    let fault = match content {
        Content::Whole(bytes) => {
            let (key, value) = carried(bytes);
            body.insert(key.into(), value);
            None
        }
        Content::Cut(size) => Some(too_large(*size)),
    };
    Incoming { name: name.into(), delivery: None, body: Value::Object(body), fault }
}

/// Bytes as what they are.
pub(crate) fn carried(bytes: &[u8]) -> (&'static str, Value) {
    match (serde_json::from_slice(bytes), std::str::from_utf8(bytes)) {
        (Ok(value), _) => ("json", value),
        (_, Ok(text)) => ("text", json!(text)),
        _ => ("base64", json!(BASE64_STANDARD.encode(bytes))),
    }
}

pub(crate) fn too_large(size: u64) -> String {
    format!("the message has {size} bytes; more than {LIMIT} are not taken")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_what_they_look_like() {
        assert_eq!(carried(b"{\"a\":1}"), ("json", json!({"a": 1})));
        assert_eq!(carried("größe".as_bytes()), ("text", json!("größe")));
        assert_eq!(carried(b""), ("text", json!("")));
        assert_eq!(carried(&[0xFF, 0]), ("base64", json!("/wA=")));
        let large = event("mqtt", json!({"topic": "t"}), &Content::Cut(2_000_000));
        assert_eq!(large.body, json!({"topic": "t"}));
        assert!(large.fault.unwrap().contains("2000000 bytes"));
    }
}

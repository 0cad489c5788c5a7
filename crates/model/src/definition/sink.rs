//! Sinks: what carries events out of the store, to a broker, a database or an address.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Name;

/// A sink: which events it carries out, and to where.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SinkDef {
    /// Unique within the namespace.
    pub id: Name,
    /// What it is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Carries anything out at all.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Types of events, as in `run.failed`; `*` is wild. Empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<String>,
    /// Tasks that they are of; `*` is wild. Empty: all, and what is of no task.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<String>,
    /// Namespaces that they are of; `*` is wild. Empty: its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// The source of `if`, without `${{ }}`, over `event`; an event for which it is false is passed over.
    #[serde(default, rename = "if", skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// Where they go.
    pub to: Outlet,
}

fn yes() -> bool {
    true
}

/// Where events go. Addresses, secrets and headers may look up `secrets`; names of streams, subjects and topics may look up
/// `event`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outlet {
    /// An entry of a stream of Redis.
    RedisStream {
        /// `redis://user:password@host:6379/0`, or `rediss://` for TLS.
        url: String,
        /// The key of the stream.
        stream: String,
        /// The stream keeps about so many entries.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_length: Option<u64>,
    },
    /// A message to those who subscribe to a channel of Redis at the moment.
    RedisChannel {
        /// As of a stream.
        url: String,
        /// The channel.
        channel: String,
    },
    /// A message to a subject of NATS.
    Nats {
        /// `nats://user:password@host:4222`, or `tls://`.
        url: String,
        /// The subject.
        subject: String,
        /// Wait until a stream has it.
        #[serde(default = "yes")]
        jetstream: bool,
    },
    /// A message to a topic of MQTT, with quality of service 1.
    Mqtt {
        /// `mqtt://user:password@host:1883`, or `mqtts://` for TLS.
        url: String,
        /// The topic.
        topic: String,
        /// The broker keeps the last one for those who subscribe later.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        retain: bool,
        /// The name by which the broker knows the sender; one of the sink's own where nothing is said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        client_id: Option<String>,
    },
    /// A notification of PostgreSQL.
    Postgres {
        /// `postgres://user:password@host/database`.
        url: String,
        /// The channel.
        channel: String,
    },
    /// A request to an address.
    Webhook {
        /// `https://` or `http://`.
        url: String,
        /// Signs the body by HMAC-SHA256, in `X-Ostler-Signature`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        secret: Option<String>,
        /// Headers by name, besides Ostler's own and instead of them.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        headers: BTreeMap<String, String>,
        /// So many events in one request at most; with more than one the body is a list.
        #[serde(default = "one", skip_serializing_if = "is_one")]
        batch: u32,
    },
}

fn one() -> u32 {
    1
}

fn is_one(batch: &u32) -> bool {
    *batch == 1
}

impl Outlet {
    /// The word for it in definition files.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::RedisStream { .. } | Self::RedisChannel { .. } => "redis",
            Self::Nats { .. } => "nats",
            Self::Mqtt { .. } => "mqtt",
            Self::Postgres { .. } => "postgres",
            Self::Webhook { .. } => "webhook",
        }
    }

    /// Where it goes, in words and without its address, in which there may be a password.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::RedisStream { stream, .. } => format!("redis stream {stream}"),
            Self::RedisChannel { channel, .. } => format!("redis channel {channel}"),
            Self::Nats { subject, jetstream: true, .. } => format!("nats stream of {subject}"),
            Self::Nats { subject, .. } => format!("nats subject {subject}"),
            Self::Mqtt { topic, .. } => format!("mqtt topic {topic}"),
            Self::Postgres { channel, .. } => format!("postgres channel {channel}"),
            Self::Webhook { .. } => "webhook".to_owned(),
        }
    }
}

/// What events can be of, and what can have happened to it: `run.failed`. A step is a part of a run.
pub const EVENT_TYPES: [(&str, &[&str]); 4] = [
    ("run", RUN),
    ("step", RUN),
    ("schedule", &["created", "scheduled", "fired", "advanced", "failed", "ended"]),
    ("trigger", &["created", "fired", "ignored", "heard", "failed", "ended"]),
];

const RUN: &[&str] = &[
    "created",
    "started",
    "advanced",
    "waiting",
    "attempt_failed",
    "attempt_lost",
    "succeeded",
    "failed",
    "cancelled",
    "skipped",
    "timed_out",
];

/// Whether a text is of a pattern in which `*` stands for any characters, and for none.
#[must_use]
pub fn is_like(text: &str, pattern: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return text == pattern };
    let Some(mut left) = text.strip_prefix(first) else { return false };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return left.ends_with(part);
        }
        match left.split_once(part) {
            Some((_, behind)) => left = behind,
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        let fits = [
            ("run.failed", "run.failed"),
            ("run.failed", "run.*"),
            ("run.failed", "*"),
            ("run.failed", "*.failed"),
            ("run.failed", "r*.f*d"),
            ("aXbXb", "a*b"),
            ("ab", "a**b"),
        ];
        let misses =
            [("run.failed", "run"), ("run.failed", "*.fail"), ("a", "a*a"), ("", "a*"), ("ac", "a*b*c")];
        assert!(fits.iter().all(|(text, pattern)| is_like(text, pattern)));
        assert!(!misses.iter().any(|(text, pattern)| is_like(text, pattern)));
    }

    #[test]
    fn what_is_stored_reads_back() {
        let redis = json!({ "redis_stream": { "url": "redis://r", "stream": "s", "max_length": 5 } });
        let outlet: Outlet = serde_json::from_value(redis.clone()).unwrap();
        assert_eq!(
            (outlet.describe().as_str(), serde_json::to_value(&outlet).unwrap()),
            ("redis stream s", redis)
        );
        let nats: Outlet =
            serde_json::from_value(json!({ "nats": { "url": "nats://n", "subject": "a.b" } })).unwrap();
        assert_eq!(nats.describe(), "nats stream of a.b");
        let hook: Outlet =
            serde_json::from_value(json!({ "webhook": { "url": "https://user:pw@h" } })).unwrap();
        assert_eq!(hook.describe(), "webhook");
        assert!(matches!(hook, Outlet::Webhook { batch: 1, .. }));
    }
}

//! Messages of brokers that triggers listen to.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where messages come from. `url` is a template over `secrets`: the values are put in by whoever listens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum MessageSource {
    /// Entries of a stream of Redis: each once.
    RedisStream {
        /// `redis://` or `rediss://`.
        url: String,
        /// The stream's key.
        stream: String,
        /// Entries that are there when the trigger is made count too.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        existing: bool,
    },
    /// What is published to a channel of Redis while somebody listens.
    RedisChannel {
        /// `redis://` or `rediss://`.
        url: String,
        /// The channel; with `*`, `?` or `[` a pattern of channels.
        channel: String,
    },
    /// Elements of a list of Redis, which are taken out of it: each once.
    RedisList {
        /// `redis://` or `rediss://`.
        url: String,
        /// The list's key.
        list: String,
        /// From which end they are taken.
        #[serde(default)]
        end: ListEnd,
    },
    /// What is published to a subject of NATS while somebody listens.
    Nats {
        /// `nats://` or `tls://`.
        url: String,
        /// The subject, `*` and `>` are wild.
        subject: String,
    },
    /// Messages of a stream of JetStream: each once.
    NatsStream {
        /// `nats://` or `tls://`.
        url: String,
        /// The stream.
        stream: String,
        /// Only those of these subjects.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subject: Option<String>,
        /// Messages that are there when the trigger is made count too.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        existing: bool,
    },
    /// Messages of MQTT.
    Mqtt {
        /// `mqtt://` or `mqtts://`.
        url: String,
        /// The topic; `+` and `#` are wild.
        topic: String,
        /// 1: the broker keeps them until they are taken; 0: only while somebody listens.
        qos: u8,
        /// By which the broker knows the listener; made from the trigger's id when nothing is said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        client_id: Option<String>,
        /// What the broker keeps of the topic when the trigger is made counts too.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        existing: bool,
    },
    /// What NOTIFY says on a channel of PostgreSQL while somebody listens.
    Postgres {
        /// `postgres://`.
        url: String,
        /// The channel.
        channel: String,
    },
}

/// An end of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ListEnd {
    /// The first element: what `RPUSH` has added longest ago.
    Left,
    /// The last element: what `LPUSH` has added longest ago.
    #[default]
    Right,
}

impl ListEnd {
    /// The word for it in definition files.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Right => "right",
        }
    }
}

impl MessageSource {
    /// The address of the broker, secrets not put in.
    #[must_use]
    pub fn url(&self) -> &str {
        match self {
            Self::RedisStream { url, .. }
            | Self::RedisChannel { url, .. }
            | Self::RedisList { url, .. }
            | Self::Nats { url, .. }
            | Self::NatsStream { url, .. }
            | Self::Mqtt { url, .. }
            | Self::Postgres { url, .. } => url,
        }
    }

    /// The word for it in definition files.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::RedisStream { .. } | Self::RedisChannel { .. } | Self::RedisList { .. } => "redis",
            Self::Nats { .. } | Self::NatsStream { .. } => "nats",
            Self::Mqtt { .. } => "mqtt",
            Self::Postgres { .. } => "postgres",
        }
    }

    /// What it waits for, in words.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::RedisStream { stream, .. } => format!("at each entry of the Redis stream {stream}"),
            Self::RedisChannel { channel, .. } => format!("at each message to the Redis channel {channel}"),
            Self::RedisList { list, .. } => format!("at each element of the Redis list {list}"),
            Self::Nats { subject, .. } => format!("at each message to the NATS subject {subject}"),
            Self::NatsStream { stream, subject: None, .. } => {
                format!("at each message of the NATS stream {stream}")
            }
            Self::NatsStream { stream, subject: Some(subject), .. } => {
                format!("at each message to {subject} of the NATS stream {stream}")
            }
            Self::Mqtt { topic, .. } => format!("at each message to the MQTT topic {topic}"),
            Self::Postgres { channel, .. } => format!("at each NOTIFY on the PostgreSQL channel {channel}"),
        }
    }
}

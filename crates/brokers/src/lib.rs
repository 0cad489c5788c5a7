//! Small clients of Redis, NATS, MQTT and PostgreSQL's NOTIFY.
//!
//! What Ostler needs of these protocols is little: hand over messages and wait until they are acknowledged, take
//! messages and say which are taken. So they are spoken here. The usual client libraries, with their clusters, pools and
//! reconnections, cost a multiple of this crate to build, and hold messages in buffers of their own where the broker
//! should keep them.
//!
//! All four are alike: a `Server` is read from an address, which tells what is wrong with it before anything is sent;
//! `connect` gives one connection; an error of a connection ends it, and whoever has it connects again. Whatever a broker
//! sends is bounded: the content of a message beyond [`LIMIT`] is read over and told as [`Content::Cut`].
//!
//! ```no_run
//! # async fn example() -> Result<(), ostler_brokers::BrokerError> {
//! use ostler_brokers::redis;
//! let server = redis::Server::parse("redis://127.0.0.1:6379/0")?;
//! let mut redis = server.connect().await?;
//! let entry = ["XADD", "orders", "*", "body", "{}"].map(|word| word.as_bytes().to_vec());
//! let id = redis.ask(&entry).await?;
//! # Ok(()) }
//! ```

mod address;
mod error;
mod link;
pub mod mqtt;
pub mod nats;
mod place;
pub mod postgres;
pub mod redis;
pub mod tls;

use std::time::Duration;

use bytes::Bytes;

pub use crate::{address::Address, error::BrokerError};

/// The most that is kept of the content of one message.
pub const LIMIT: usize = 1 << 20;

/// How long a broker may take to let us in.
const GREETING: Duration = Duration::from_secs(10);

/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(20);

/// After how long of silence a broker is asked whether it is still there.
const SILENCE: Duration = Duration::from_secs(30);

/// What a message carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// All of it.
    Whole(Bytes),
    /// It had so many bytes, which is too many: they were read over.
    Cut(u64),
}

impl Content {
    /// How many bytes of it are kept.
    #[must_use]
    pub fn kept(&self) -> usize {
        match self {
            Self::Whole(bytes) => bytes.len(),
            Self::Cut(_) => 0,
        }
    }
}

//! Redis, from version 6 on.

mod resp;

use std::time::Duration;

use resp::{ROOM, Resp};

pub use self::resp::Value;
use crate::{
    ANSWER, BrokerError,
    link::{Link, greeted},
    place::Place,
};

/// Commands that are sent before their answers are waited for; more go in several turns.
const AT_A_TIME: usize = 1000;

/// Where a Redis is, and who asks.
#[derive(Clone, Debug)]
pub struct Server {
    place: Place,
    database: Option<String>,
}

impl Server {
    /// Reads `redis://user:password@host:6379/0`, or `rediss://` for TLS.
    ///
    /// # Errors
    /// [`BrokerError::Wrong`].
    pub fn parse(url: &str) -> Result<Self, BrokerError> {
        let place = Place::parse(url, [("redis", 6379), ("rediss", 6379)])?;
        let database = Some(place.address.path.clone()).filter(|path| !path.is_empty());
        if database.as_ref().is_some_and(|number| number.parse::<u32>().is_err()) {
            let why = "has something behind the host that is not the number of a database, as in /0";
            return Err(BrokerError::Wrong(why.into()));
        }
        Ok(Self { place, database })
    }

    /// Host and port.
    #[must_use]
    pub fn name(&self) -> String {
        self.place.name()
    }

    /// Connects and logs in.
    ///
    /// # Errors
    /// It is away, or does not let us in.
    pub async fn connect(&self) -> Result<Redis, BrokerError> {
        greeted(&self.place, self.greet()).await
    }

    async fn greet(&self) -> Result<Redis, BrokerError> {
        let mut wire = self.place.connect().await?;
        if self.place.secured {
            wire = self.place.secure(wire).await?;
        }
        let mut redis = Redis { link: Link::new(&self.place, wire, Resp::new(ROOM)) };
        let address = &self.place.address;
        if let Some(password) = &address.password {
            let login = [Some("AUTH"), address.user.as_deref(), Some(password)];
            redis.ask(&words(login.into_iter().flatten())).await?;
        }
        if let Some(number) = &self.database {
            redis.ask(&words(["SELECT", number])).await?;
        }
        Ok(redis)
    }
}

/// The words of a command.
pub fn words<'a>(words: impl IntoIterator<Item = &'a str>) -> Vec<Vec<u8>> {
    words.into_iter().map(|word| word.as_bytes().to_vec()).collect()
}

/// A connection to Redis.
pub struct Redis {
    link: Link<Resp>,
}

impl Redis {
    /// Gives one command and waits for its answer.
    ///
    /// # Errors
    /// The connection's, or the server's.
    pub async fn ask(&mut self, command: &[Vec<u8>]) -> Result<Value, BrokerError> {
        self.ask_patiently(command, Duration::ZERO).await
    }

    /// Gives a command that waits for something on the server's side, for as long as this.
    ///
    /// # Errors
    /// As [`Redis::ask`].
    pub async fn ask_patiently(
        &mut self,
        command: &[Vec<u8>],
        block: Duration,
    ) -> Result<Value, BrokerError> {
        self.link.outgoing.send(&encoded(&[command])).await?;
        match self.link.incoming.within(block + ANSWER).await? {
            Value::Error(why) => Err(self.link.incoming.refused(why)),
            value => Ok(value),
        }
    }

    /// Gives many commands at once; each has an answer of its own, or the server's refusal.
    ///
    /// # Errors
    /// The connection's: any of the commands may have been carried out.
    pub async fn ask_all(
        &mut self,
        commands: &[Vec<Vec<u8>>],
    ) -> Result<Vec<Result<Value, String>>, BrokerError> {
        let mut answers = Vec::with_capacity(commands.len());
        for some in commands.chunks(AT_A_TIME) {
            let bytes = encoded(some);
            let Link { incoming, outgoing } = &mut self.link;
            let hear = async {
                for _ in some {
                    answers.push(match incoming.within(ANSWER).await? {
                        Value::Error(why) => Err(why),
                        value => Ok(value),
                    });
                }
                Ok(())
            };
            tokio::try_join!(outgoing.send(&bytes), hear)?;
        }
        Ok(answers)
    }

    /// Listens to channels; what is published comes by [`Redis::published`], and the connection is good for nothing else.
    ///
    /// # Errors
    /// The connection's, or the server's.
    pub async fn subscribe(&mut self, channel: &str, is_pattern: bool) -> Result<(), BrokerError> {
        let command = if is_pattern { "PSUBSCRIBE" } else { "SUBSCRIBE" };
        self.ask(&words([command, channel])).await.map(drop)
    }

    /// The next message of the channels that are listened to: the channel and what was published.
    ///
    /// # Errors
    /// The connection's.
    pub async fn published(&mut self) -> Result<(String, crate::Content), BrokerError> {
        loop {
            let answer = match tokio::time::timeout(crate::SILENCE, self.link.incoming.next()).await {
                Ok(answer) => answer?,
                // Whether anybody is still there is seen by an answer.
                Err(_) => {
                    self.link.outgoing.send(&encoded(&[words(["PING"])])).await?;
                    self.link.incoming.within(ANSWER).await?
                }
            };
            let parts = answer.array().unwrap_or_default();
            let (channel, content) = match (parts.first().and_then(Value::text), parts) {
                (Some("message"), [_, channel, content]) => (channel, content),
                (Some("pmessage"), [_, _, channel, content]) => (channel, content),
                (Some("pong" | "subscribe" | "psubscribe"), _) => continue,
                _ => return Err(self.link.incoming.garbled("it is no message")),
            };
            let channel = channel.text().unwrap_or_default().to_owned();
            let content = match content {
                Value::Text(bytes) if bytes.len() <= crate::LIMIT => crate::Content::Whole(bytes.clone()),
                Value::Text(bytes) => crate::Content::Cut(bytes.len() as u64),
                Value::Cut(length) => crate::Content::Cut(*length),
                _ => return Err(self.link.incoming.garbled("it is no message")),
            };
            return Ok((channel, content));
        }
    }
}

/// Commands as they are sent.
fn encoded<C: AsRef<[Vec<u8>]>>(commands: &[C]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for command in commands {
        let command = command.as_ref();
        bytes.extend(format!("*{}\r\n", command.len()).into_bytes());
        for word in command {
            bytes.extend(format!("${}\r\n", word.len()).into_bytes());
            bytes.extend_from_slice(word);
            bytes.extend_from_slice(b"\r\n");
        }
    }
    bytes
}

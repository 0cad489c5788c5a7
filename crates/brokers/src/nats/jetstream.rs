//! JetStream: messages that are kept, each with its number in the stream
//! (<https://docs.nats.io/reference/reference-protocols/nats_api_reference>).

use std::collections::HashMap;

use serde_json::{Value, json};

use super::{Frame, Message, Nats, PULL, Post, put};
use crate::{ANSWER, BrokerError, Content, link::Link};

/// Messages that are sent before their acknowledgements are waited for; more go in several turns.
const AT_A_TIME: usize = 500;

/// Messages that are asked for at a time.
const PULLED: u64 = 500;

/// After so long without a pull the server forgets a consumer.
const FORGOTTEN_S: u64 = 300;

/// A stream that has a message now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Which.
    pub stream: String,
    /// Its number there.
    pub sequence: u64,
    /// It had it already.
    pub duplicate: bool,
}

/// What a stream holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamState {
    /// The number of its first message, or of the next one when it is empty.
    pub first: u64,
    /// The number of its last message; what was deleted counts.
    pub last: u64,
}

/// Reads a stream in its order from some place on.
#[derive(Debug)]
pub struct Consumer {
    stream: String,
    name: String,
    /// Messages that it has given.
    given: u64,
    /// Where the messages of the pull at work come, and how many are still to come.
    pull: Option<(String, u64)>,
}

impl Nats {
    /// Publishes to streams, and says of each message which has it, or why none.
    ///
    /// # Errors
    /// The connection's, or the server's: any of the messages may be kept.
    pub async fn publish_kept(
        &mut self,
        posts: &[Post<'_>],
    ) -> Result<Vec<Result<Kept, String>>, BrokerError> {
        let mut told = Vec::with_capacity(posts.len());
        for some in posts.chunks(AT_A_TIME) {
            told.extend(self.publish_some(some).await?);
        }
        Ok(told)
    }

    async fn publish_some(&mut self, posts: &[Post<'_>]) -> Result<Vec<Result<Kept, String>>, BrokerError> {
        let (mut bytes, mut told, mut waiting) = (Vec::new(), Vec::new(), HashMap::new());
        for (at, post) in posts.iter().enumerate() {
            told.push(self.fits(post).map(|()| None));
            if told[at].is_ok() {
                let reply = self.question();
                put(&mut bytes, post, Some(&reply));
                waiting.insert(reply, at);
            }
        }
        let Link { incoming, outgoing } = &mut self.link;
        let mut pings = 0;
        let hear = async {
            while !waiting.is_empty() {
                match incoming.within(ANSWER).await? {
                    Frame::Message(message) => {
                        if let Some(at) = waiting.remove(&message.subject) {
                            let told_of = kept(&message).map_err(|why| incoming.garbled(why))?;
                            told[at] = told_of.map(Some);
                        }
                    }
                    Frame::Ping => pings += 1,
                    Frame::Error(why) => return Err(incoming.refused(why)),
                    Frame::Pong | Frame::Info(_) | Frame::Fine => {}
                }
            }
            Ok(())
        };
        tokio::try_join!(outgoing.send(&bytes), hear)?;
        for _ in 0..pings {
            outgoing.send(b"PONG\r\n").await?;
        }
        let lost = || "it was not answered".to_owned();
        Ok(told.into_iter().map(|told| told.and_then(|kept| kept.ok_or_else(lost))).collect())
    }

    /// Asks JetStream something, as in `STREAM.INFO.ORDERS`.
    ///
    /// # Errors
    /// The connection's, or the server's.
    pub async fn api(&mut self, call: &str, body: &Value) -> Result<Value, BrokerError> {
        let answer = self.ask(&format!("$JS.API.{call}"), body.to_string().as_bytes()).await?;
        if answer.status.is_some() {
            return Err(self.link.incoming.refused("it has no JetStream, or not for this user"));
        }
        let answer = json_of(&answer).map_err(|why| self.link.incoming.garbled(why))?;
        match answer["error"]["description"].as_str() {
            Some(why) => Err(self.link.incoming.refused(why)),
            None => Ok(answer),
        }
    }

    /// What a stream holds.
    ///
    /// # Errors
    /// The connection's, or the server's: there is no such stream, there is no JetStream.
    pub async fn stream(&mut self, name: &str) -> Result<StreamState, BrokerError> {
        let answer = self.api(&format!("STREAM.INFO.{name}"), &json!({})).await?;
        let number = |key: &str| answer["state"][key].as_u64();
        let state = number("first_seq").zip(number("last_seq"));
        let (first, last) =
            state.ok_or_else(|| self.link.incoming.garbled("it does not say what the stream holds"))?;
        Ok(StreamState { first, last })
    }

    /// Begins to read a stream behind a number, only what was published to subjects that fit a filter, when there is
    /// one. The server keeps no place for it: whoever reads on elsewhere begins behind what they have.
    ///
    /// # Errors
    /// The connection's, or the server's.
    pub async fn consume(
        &mut self,
        stream: &str,
        filter: Option<&str>,
        behind: u64,
    ) -> Result<Consumer, BrokerError> {
        let mut config = json!({
            "deliver_policy": "by_start_sequence", "opt_start_seq": behind + 1,
            "ack_policy": "none", "replay_policy": "instant", "mem_storage": true, "num_replicas": 1,
            "inactive_threshold": FORGOTTEN_S * 1_000_000_000,
        });
        if let Some(filter) = filter {
            config["filter_subject"] = json!(filter);
        }
        let body = json!({ "stream_name": stream, "config": config });
        let answer = self.api(&format!("CONSUMER.CREATE.{stream}"), &body).await?;
        let name = answer["name"].as_str().map(str::to_owned);
        let name = name.ok_or_else(|| self.link.incoming.garbled("a consumer without a name"))?;
        Ok(Consumer { stream: stream.to_owned(), name, given: 0, pull: None })
    }

    /// The next message of a stream, whenever it comes, with its number. Dropped before its end, it loses nothing.
    ///
    /// # Errors
    /// The connection's, or the server's; and when a message was lost on the way.
    pub async fn pulled(&mut self, consumer: &mut Consumer) -> Result<(u64, Message), BrokerError> {
        loop {
            let subject = match &consumer.pull {
                Some((subject, 1..)) => subject.clone(),
                _ => {
                    let reply = self.question();
                    consumer.pull = Some((reply.clone(), PULLED));
                    let call = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", consumer.stream, consumer.name);
                    let wish = json!({ "batch": PULLED, "expires": PULL.as_nanos() as u64 }).to_string();
                    let mut bytes = Vec::new();
                    let post = Post { subject: &call, body: wish.as_bytes(), ..Post::default() };
                    put(&mut bytes, &post, Some(&reply));
                    self.link.outgoing.send(&bytes).await?;
                    reply
                }
            };
            // Messages keep the subject that they were published to, so what belongs to a pull is known by its number.
            let late = self.link.incoming.late(PULL + ANSWER);
            let message = tokio::time::timeout(PULL + ANSWER, self.next()).await.unwrap_or(Err(late))?;
            match &message.status {
                None => {}
                Some(_) if message.subject != subject => continue,
                // Nothing has come for so long, or something has and the rest has not.
                Some((404 | 408, _)) => {
                    consumer.pull = None;
                    continue;
                }
                Some((100, _)) => continue,
                Some((number, words)) => {
                    let why = format!("the reader of stream {} has ended: {number} {words}", consumer.stream);
                    return Err(self.link.incoming.away(why));
                }
            }
            let Some((sequence, given)) = message.reply.as_deref().and_then(numbers) else { continue };
            if given != consumer.given + 1 {
                return Err(self
                    .link
                    .incoming
                    .away(format!("messages of stream {} were lost on the way", consumer.stream)));
            }
            consumer.given = given;
            if let Some((_, missing)) = &mut consumer.pull {
                *missing -= 1;
            }
            return Ok((sequence, message));
        }
    }
}

/// What a stream says of a message that was published.
fn kept(answer: &Message) -> Result<Result<Kept, String>, &'static str> {
    if answer.status.as_ref().is_some_and(|(number, _)| *number == 503) {
        return Ok(Err("no stream of JetStream takes this subject".into()));
    }
    let answer = json_of(answer)?;
    if let Some(why) = answer["error"]["description"].as_str() {
        return Ok(Err(why.to_owned()));
    }
    match (answer["stream"].as_str(), answer["seq"].as_u64()) {
        (Some(stream), Some(sequence)) => {
            Ok(Ok(Kept { stream: stream.to_owned(), sequence, duplicate: answer["duplicate"] == true }))
        }
        _ => Err("it says not which stream has the message"),
    }
}

fn json_of(message: &Message) -> Result<Value, &'static str> {
    match &message.content {
        Content::Whole(bytes) => serde_json::from_slice(bytes).map_err(|_| "it is no JSON"),
        Content::Cut(_) => Err("it is too long"),
    }
}

/// The number of a message in its stream, and how many its reader has been given with it:
/// `$JS.ACK.STREAM.CONSUMER.DELIVERED.STREAM-SEQUENCE.CONSUMER-SEQUENCE.TIME.PENDING`, and with two words more (domain
/// and account) behind `ACK`.
fn numbers(reply: &str) -> Option<(u64, u64)> {
    let words: Vec<&str> = reply.strip_prefix("$JS.ACK.")?.split('.').collect();
    let at = match words.len() {
        7 => 3,
        9.. => 5,
        _ => return None,
    };
    Some((words.get(at)?.parse().ok()?, words.get(at + 1)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_where_servers_old_and_new_write_them() {
        assert_eq!(numbers("$JS.ACK.ORDERS.c1.1.17.4.1790000000000000000.9"), Some((17, 4)));
        assert_eq!(numbers("$JS.ACK.hub.ABC.ORDERS.c1.1.17.4.1790000000000000000.9.rand"), Some((17, 4)));
        assert_eq!(numbers("_INBOX.x.1"), None);
        assert_eq!(numbers("$JS.ACK.ORDERS.c1.x.y.z.1.9"), None);
    }
}

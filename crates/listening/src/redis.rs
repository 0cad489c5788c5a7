//! Redis: streams, channels, lists.

use std::time::Duration;

use bytes::Bytes;
use ostler_brokers::{
    BrokerError, Content,
    redis::{Redis, Server, Value, words},
};
use ostler_engine::fields::Incoming;
use ostler_model::definition::ListEnd;
use serde_json::{Map, json};

use crate::{
    message,
    source::{Batch, MOST, Opened, Published, Source, gather},
};

/// How long a command waits for something to come, at the server.
const BLOCK: Duration = Duration::from_secs(15);

/// The place before all entries of a stream.
const START: &str = "0-0";

/// What is published while somebody listens.
struct Channel {
    redis: Redis,
}

pub(crate) async fn channel(url: &str, channel: &str) -> Result<Opened, BrokerError> {
    let mut redis = Server::parse(url)?.connect().await?;
    redis.subscribe(channel, channel.contains(['*', '?', '['])).await?;
    Ok((Box::new(Channel { redis }), None))
}

impl Published for Channel {
    type Message = (String, Content);

    async fn next(&mut self) -> Result<(String, Content), BrokerError> {
        self.redis.published().await
    }

    fn size((_, content): &(String, Content)) -> usize {
        content.kept()
    }
}

#[async_trait::async_trait]
impl Source for Channel {
    async fn batch(&mut self) -> Result<Batch, BrokerError> {
        let found = gather(self).await?;
        let event = |(channel, content)| message::event("redis", json!({ "channel": channel }), &content);
        Ok(Batch { events: found.into_iter().map(event).collect(), at: None })
    }
}

/// Entries of a stream, from some id on.
struct Stream {
    redis: Redis,
    server: Server,
    stream: String,
    /// The id of the last entry that was read.
    at: String,
}

pub(crate) async fn stream(
    url: &str,
    stream: &str,
    existing: bool,
    at: Option<&str>,
) -> Result<Opened, BrokerError> {
    let server = Server::parse(url)?;
    let mut redis = server.connect().await?;
    let begun = match at {
        Some(_) => None,
        None if existing => Some(START.to_owned()),
        None => {
            let last = redis.ask(&words(["XREVRANGE", stream, "+", "-", "COUNT", "1"])).await?;
            let id = last.array().and_then(<[Value]>::first).and_then(Entry::read).map(|entry| entry.id);
            Some(id.unwrap_or_else(|| START.to_owned()))
        }
    };
    let at = at.map(str::to_owned).or_else(|| begun.clone()).unwrap_or_default();
    Ok((Box::new(Stream { redis, server, stream: stream.to_owned(), at }), begun))
}

/// An entry of a stream.
struct Entry {
    id: String,
    /// Names and values in turn; `None` where there was no room for all of them.
    fields: Option<Vec<Bytes>>,
}

impl Entry {
    fn read(value: &Value) -> Option<Self> {
        let [id, fields] = value.array()? else { return None };
        // A deleted entry has no fields; one that was too large has lost some.
        let fields = fields.array().and_then(|all| all.iter().map(|f| f.bytes().cloned()).collect());
        Some(Self { id: id.text()?.to_owned(), fields })
    }

    fn event(&self, stream: &str) -> Incoming {
        let mut about = json!({ "stream": stream, "id": self.id });
        let Some(fields) = &self.fields else {
            let fault = "the entry is too large to be taken".to_owned();
            return Incoming { name: "redis".into(), delivery: None, body: about, fault: Some(fault) };
        };
        let mut named = Map::new();
        for pair in fields.chunks_exact(2) {
            let name = String::from_utf8_lossy(&pair[0]).into_owned();
            if name == "body" {
                let (key, value) = message::carried(&pair[1]);
                about[key] = value;
            } else {
                named.insert(name, String::from_utf8_lossy(&pair[1]).into());
            }
        }
        about["fields"] = named.into();
        Incoming { name: "redis".into(), delivery: None, body: about, fault: None }
    }
}

#[async_trait::async_trait]
impl Source for Stream {
    async fn batch(&mut self) -> Result<Batch, BrokerError> {
        loop {
            let (count, block) = (MOST.to_string(), BLOCK.as_millis().to_string());
            let command = ["XREAD", "COUNT", &count, "BLOCK", &block, "STREAMS", &self.stream, &self.at];
            let answer = self.redis.ask_patiently(&words(command), BLOCK).await?;
            if answer == Value::Nil {
                continue;
            }
            // One stream was asked for: its name, and its entries.
            let entries = answer.array().and_then(<[Value]>::first).and_then(Value::array);
            let entries = entries.and_then(|named| named.get(1)?.array());
            let entries: Vec<Entry> = entries.into_iter().flatten().map_while(Entry::read).collect();
            // What one answer had no room for is the first of the next, unless it is too large by itself.
            let whole = entries.iter().position(|entry| entry.fields.is_none()).unwrap_or(entries.len());
            let taken = &entries[..whole.max(1).min(entries.len())];
            let Some(last) = taken.last() else {
                return Err(BrokerError::Garbled {
                    place: self.server.name(),
                    why: "XREAD gives no entries".into(),
                });
            };
            self.at = last.id.clone();
            let events = taken.iter().map(|entry| entry.event(&self.stream)).collect();
            return Ok(Batch { events, at: Some(self.at.clone()) });
        }
    }
}

/// Elements of a list. They are moved into a list of the trigger's own, and out of that when they have been told. How many
/// batches have been told stands in the place and, beside the list, in Redis; where the two differ, the last batch was
/// told and not taken out. So each is told once, whoever dies when, and somebody who comes late takes out nothing.
struct List {
    redis: Redis,
    list: String,
    end: ListEnd,
    /// Elements in hand, in the order in which they were taken.
    own: String,
    /// How many batches have been taken out.
    count: String,
    /// How many batches have been told.
    told: u64,
    /// Elements of the batch that is told.
    size: usize,
}

/// Moves up to so many elements into the list of our own; gives how many.
const TAKE: &str = "for i = 1, tonumber(ARGV[1]) do
  if not redis.call('LMOVE', KEYS[1], KEYS[2], ARGV[2], 'RIGHT') then return i - 1 end
end
return tonumber(ARGV[1])";

/// Takes out what was told last, unless that has been done, and counts from there: what stands in Redis may be of another
/// time, when either side was restored.
const BEGIN: &str = "local told = tonumber(redis.call('GET', KEYS[2]) or '0')
if told == tonumber(ARGV[1]) - 1 then redis.call('LTRIM', KEYS[1], ARGV[2], -1) end
redis.call('SET', KEYS[2], ARGV[1])
return 1";

/// Takes a batch out, unless that has been done.
const TOLD: &str = "local told = tonumber(redis.call('GET', KEYS[2]) or '0')
if told == tonumber(ARGV[1]) - 1 then redis.call('LTRIM', KEYS[1], ARGV[2], -1) end
if told < tonumber(ARGV[1]) then redis.call('SET', KEYS[2], ARGV[1]) end
return 1";

/// Puts everything back to where it was.
const GIVE_BACK: &str = "while redis.call('LMOVE', KEYS[2], KEYS[1], 'RIGHT', ARGV[1]) do end
return 1";

pub(crate) async fn list(
    url: &str,
    list: &str,
    end: ListEnd,
    uid: &str,
    at: Option<&str>,
) -> Result<Opened, BrokerError> {
    let redis = Server::parse(url)?.connect().await?;
    let (own, count) = (format!("{list}:ostler:{uid}"), format!("{list}:ostler:{uid}:told"));
    let known = at.and_then(|at| at.split_once(':'));
    let number = |text: &str| text.parse().unwrap_or_default();
    let (told, size) = known.map_or((0, 0), |(told, size)| (number(told), number(size) as usize));
    let mut source = List { redis, list: list.to_owned(), end, own, count, told, size };
    source.count(BEGIN).await?;
    Ok((Box::new(source), at.is_none().then(|| "0:0".to_owned())))
}

impl List {
    async fn script(
        &mut self,
        script: &str,
        keys: [&str; 2],
        arguments: &[&str],
    ) -> Result<Value, BrokerError> {
        let command = ["EVAL", script, "2"].into_iter().chain(keys).chain(arguments.iter().copied());
        self.redis.ask(&words(command)).await
    }

    /// What was told, by one of the scripts that count it.
    async fn count(&mut self, script: &str) -> Result<(), BrokerError> {
        let (own, count) = (self.own.clone(), self.count.clone());
        let (told, size) = (self.told.to_string(), self.size.to_string());
        self.script(script, [&own, &count], &[&told, &size]).await.map(drop)
    }
}

#[async_trait::async_trait]
impl Source for List {
    async fn batch(&mut self) -> Result<Batch, BrokerError> {
        let (list, own, end) = (self.list.clone(), self.own.clone(), self.end.word().to_uppercase());
        loop {
            let found = self.redis.ask(&words(["LRANGE", &own, "0", &(MOST - 1).to_string()])).await?;
            let found = found.array().unwrap_or_default();
            if !found.is_empty() {
                let whole = found.iter().position(|e| e.bytes().is_none()).unwrap_or(found.len());
                let taken = &found[..whole.max(1)];
                self.size = taken.len();
                let events = taken.iter().map(|element| {
                    let content = match element {
                        Value::Text(bytes) => Content::Whole(bytes.clone()),
                        Value::Cut(size) => Content::Cut(*size),
                        _ => Content::Whole(Bytes::new()),
                    };
                    message::event("redis", json!({ "list": list }), &content)
                });
                let events = events.collect();
                self.told += 1;
                return Ok(Batch { events, at: Some(format!("{}:{}", self.told, self.size)) });
            }
            let most = MOST.to_string();
            if self.script(TAKE, [&list, &own], &[&most, &end]).await? == Value::Integer(0) {
                let seconds = BLOCK.as_secs().to_string();
                let command = ["BLMOVE", &list, &own, &end, "RIGHT", &seconds];
                self.redis.ask_patiently(&words(command), BLOCK).await?;
            }
        }
    }

    async fn done(&mut self) -> Result<(), BrokerError> {
        self.count(TOLD).await
    }

    fn keeps(&self) -> bool {
        true
    }

    async fn give_back(&mut self) -> Result<(), BrokerError> {
        self.told -= 1;
        let (list, own, end) = (self.list.clone(), self.own.clone(), self.end.word().to_uppercase());
        self.script(GIVE_BACK, [&list, &own], &[&end]).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &'static str) -> Value {
        Value::Text(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn an_entry_is_its_fields_and_what_its_body_carries() {
        let fields = ["kind", "order", "body", "{\"n\":7}"].map(text).to_vec();
        let entry = Entry::read(&Value::Array(vec![text("17-0"), Value::Array(fields)])).unwrap();
        let expected = json!({"stream": "s", "id": "17-0", "json": {"n": 7}, "fields": {"kind": "order"}});
        assert_eq!((entry.event("s").body, entry.event("s").fault), (expected, None));
        for lost in [Value::Cut(9), Value::Array(vec![text("a"), Value::Cut(9)]), Value::Nil] {
            let entry = Entry::read(&Value::Array(vec![text("17-0"), lost])).unwrap();
            assert_eq!(entry.event("s").body, json!({"stream": "s", "id": "17-0"}));
            assert!(entry.event("s").fault.is_some());
        }
    }
}

//! `on.redis`, `on.nats`, `on.mqtt`, `on.postgres`: messages of brokers.

use ostler_model::{
    definition::{ListEnd, MessageSource},
    places,
};

use super::{
    Context,
    expressions::{Names, Place},
    fields::Fields,
};
use crate::{diagnostic::Problem, node::Node};

/// What addresses of a broker begin with, and one that is right.
fn schemes(word: &str) -> (&'static [&'static str], &'static str) {
    match word {
        "redis" => (&["redis", "rediss"], "redis://user:${{ secrets.NAME }}@host:6379/0"),
        "nats" => (&["nats", "tls"], "nats://user:${{ secrets.NAME }}@host:4222"),
        "mqtt" => (&["mqtt", "mqtts"], "mqtt://user:${{ secrets.NAME }}@host:1883"),
        _ => (&["postgres", "postgresql"], "postgres://user:${{ secrets.NAME }}@host:5432/database"),
    }
}

/// Where the messages of a trigger come from.
pub(super) fn source(cx: &Context<'_>, word: &str, fields: &mut Fields<'_>) -> Option<MessageSource> {
    let at = Asked { cx, word, span: fields.span.clone() };
    let url = match fields.take(cx, &["url"]) {
        Some(node) => at.url(node),
        None => {
            at.missing("url", &format!("write `url: {}`", schemes(word).1));
            None
        }
    };
    match word {
        "redis" => at.redis(fields, url),
        "nats" => at.nats(fields, url),
        "mqtt" => at.mqtt(fields, url),
        _ => {
            let channel =
                at.name(fields, "channel", "orders", (places::is_postgres_channel, "has 1 to 63 bytes"));
            Some(MessageSource::Postgres { url: url?, channel: channel? })
        }
    }
}

/// The trigger that is read.
struct Asked<'c, 'x> {
    cx: &'c Context<'x>,
    word: &'c str,
    span: std::ops::Range<usize>,
}

impl Asked<'_, '_> {
    fn missing(&self, key: &str, help: &str) {
        let message = format!("the trigger `on.{}` needs `{key}`", self.word);
        self.cx.error(Problem::new("missing-key", &self.span, message).help(help));
    }

    fn wrong(&self, node: &Node, message: String, help: &str) {
        self.cx.error(Problem::new("wrong-value", &node.span, message).help(help));
    }

    /// An address may look up secrets and nothing else, and a password is not written in the file.
    fn url(&self, node: &Node) -> Option<String> {
        let text = self.cx.text(node, "url")?;
        let (schemes, example) = schemes(self.word);
        Names::default().check(self.cx, node, Place::Address);
        // An address that is a secret as a whole is read by whoever listens.
        if text.trim_start().starts_with("${{") {
            return Some(text);
        }
        let rest =
            text.split_once("://").filter(|(scheme, _)| schemes.contains(scheme)).map(|(_, rest)| rest);
        let Some(rest) = rest.filter(|rest| !rest.is_empty()) else {
            let begins = schemes.iter().map(|s| format!("`{s}://`")).collect::<Vec<_>>().join(" or ");
            self.wrong(node, format!("`url` begins with {begins}"), &format!("write `{example}`"));
            return None;
        };
        let login = rest.rsplit_once('@').map(|(login, _)| login);
        let password = login.and_then(|login| login.split_once(':')).map(|(_, password)| password);
        if password.is_some_and(|password| !password.is_empty() && !password.contains("${{")) {
            let problem = Problem::new("secret", &node.span, "a password is not written in the file");
            self.cx.error(problem.help(format!("write `{example}`")));
            return None;
        }
        Some(text)
    }

    /// A key that must be there, with what its text may be.
    fn name(
        &self,
        fields: &mut Fields<'_>,
        key: &'static str,
        example: &str,
        rule: (fn(&str) -> bool, &str),
    ) -> Option<String> {
        match fields.take(self.cx, &[key]) {
            Some(node) => self.named(node, key, rule),
            None => {
                self.missing(key, &format!("write `{key}: {example}`"));
                None
            }
        }
    }

    fn named(&self, node: &Node, key: &str, (is_one, what): (fn(&str) -> bool, &str)) -> Option<String> {
        let text = self.cx.text(node, key)?;
        if !is_one(&text) {
            self.wrong(node, format!("`{key}` {what}"), "write its name as the broker has it");
            return None;
        }
        Some(text)
    }

    fn existing(&self, fields: &mut Fields<'_>, counts: bool) -> Option<bool> {
        let Some(node) = fields.take(self.cx, &["existing"]) else { return Some(false) };
        let existing = self.cx.flag(node, "existing")?;
        if existing && !counts {
            self.wrong(
                node,
                "`existing` goes with `stream`: nothing else keeps messages".into(),
                "take it out",
            );
            return None;
        }
        Some(existing)
    }

    fn redis(&self, fields: &mut Fields<'_>, url: Option<String>) -> Option<MessageSource> {
        let cx = self.cx;
        let key = (|text: &str| !text.is_empty()) as fn(&str) -> bool;
        let mut place = |name: &'static str| {
            let node = fields.take(cx, &[name])?;
            Some((node, name, self.named(node, name, (key, "is not empty"))))
        };
        let places: Vec<_> = ["stream", "channel", "list"].into_iter().filter_map(&mut place).collect();
        let end = fields.take(cx, &["end"]);
        let (name, text) = match places.as_slice() {
            [] => {
                self.missing("stream", "write `stream: orders`, `channel: orders` or `list: orders`");
                return None;
            }
            [(_, name, text)] => (*name, text.clone()),
            [(_, first, _), (node, other, _), ..] => {
                let message = format!("`on.redis` listens to one place, not to `{first}` and `{other}`");
                self.wrong(node, message, "write a list of two: `redis: [{ … }, { … }]`");
                return None;
            }
        };
        let existing = self.existing(fields, name == "stream")?;
        if let Some(node) = end.filter(|_| name != "list") {
            self.wrong(node, "`end` goes with `list`".into(), "take it out");
            return None;
        }
        let ends = [("left", ListEnd::Left), ("right", ListEnd::Right)];
        let end = end.map(|node| cx.word(node, "end", &ends));
        Some(match name {
            "stream" => MessageSource::RedisStream { url: url?, stream: text?, existing },
            "channel" => MessageSource::RedisChannel { url: url?, channel: text? },
            _ => MessageSource::RedisList {
                url: url?,
                list: text?,
                end: end.unwrap_or(Some(ListEnd::default()))?,
            },
        })
    }

    fn nats(&self, fields: &mut Fields<'_>, url: Option<String>) -> Option<MessageSource> {
        let cx = self.cx;
        let subjects = (
            places::is_nats_filter as fn(&str) -> bool,
            "is words joined by dots; `*` stands for one, `>` at the end for any number",
        );
        let streams = (
            places::is_nats_stream as fn(&str) -> bool,
            "is a name without spaces, dots, `*`, `>` and slashes",
        );
        let subject = fields.take(cx, &["subject"]).map(|node| self.named(node, "subject", subjects));
        let stream = fields.take(cx, &["stream"]).map(|node| self.named(node, "stream", streams));
        let existing = self.existing(fields, stream.is_some())?;
        match (stream, subject) {
            (None, None) => {
                self.missing(
                    "subject",
                    "write `subject: orders.>`, or `stream: ORDERS` for a stream of JetStream",
                );
                None
            }
            (None, Some(subject)) => Some(MessageSource::Nats { url: url?, subject: subject? }),
            (Some(stream), None) => {
                Some(MessageSource::NatsStream { url: url?, stream: stream?, subject: None, existing })
            }
            (Some(stream), Some(subject)) => Some(MessageSource::NatsStream {
                url: url?,
                stream: stream?,
                subject: Some(subject?),
                existing,
            }),
        }
    }

    fn mqtt(&self, fields: &mut Fields<'_>, url: Option<String>) -> Option<MessageSource> {
        let cx = self.cx;
        let topics = (
            places::is_mqtt_filter as fn(&str) -> bool,
            "is levels joined by slashes; `+` stands for one, `#` at the end for any number",
        );
        let topic = self.name(fields, "topic", "plant/+/temp", topics);
        let qos = fields.take(cx, &["qos"]).map_or(Some(1), |node| cx.count(node, "qos", 0, 1));
        let client = fields.take(cx, &["client_id"]);
        let clients = ((|text: &str| (1..=65_535).contains(&text.len())) as fn(&str) -> bool, "is not empty");
        let client_id = client.map(|node| self.named(node, "client_id", clients));
        let existing = self.existing(fields, true)?;
        Some(MessageSource::Mqtt {
            url: url?,
            topic: topic?,
            qos: u8::try_from(qos?).unwrap_or(1),
            client_id: match client_id {
                None => None,
                Some(given) => Some(given?),
            },
            existing,
        })
    }
}

//! `sinks`: what carries events out, to a broker, a database or an address.

use std::{collections::BTreeMap, ops::Range};

use ostler_model::{
    Name,
    definition::{EVENT_TYPES, Outlet, SinkDef, is_like},
};

use super::{
    Context,
    expressions::{Names, Place},
    fields::Fields,
    file, task,
};
use crate::{
    diagnostic::{Problem, nearest},
    node::{Kind, Node},
};

/// The keys that say where events go, with the schemes of their addresses.
const OUTLETS: [(&str, &[&str]); 5] = [
    ("redis", &["redis", "rediss"]),
    ("nats", &["nats", "tls"]),
    ("mqtt", &["mqtt", "mqtts"]),
    ("postgres", &["postgres", "postgresql"]),
    ("webhook", &["https", "http"]),
];

/// So many events in one request at most.
const BATCH: u64 = 1000;

pub(crate) fn sinks(cx: &Context<'_>, fields: &mut Fields<'_>) -> Vec<SinkDef> {
    file::named(cx, fields, "sinks", |key, node| sink(cx, key, node))
}

fn sink(
    cx: &Context<'_>,
    key: Option<task::IdKey<'_>>,
    node: &Node,
) -> Option<(Name, Range<usize>, SinkDef)> {
    let mut fields = Fields::of(cx, node, "a sink", "a sink")?;
    let (id, span) = file::id(cx, &mut fields, key, "the sink");
    let description = fields.take(cx, &["description"]).and_then(|n| cx.text(n, "description"));
    let enabled = fields.take(cx, &["enabled"]).and_then(|n| cx.flag(n, "enabled")).unwrap_or(true);
    let events = fields.take(cx, &["events", "event"]).map(|n| events(cx, n)).unwrap_or_default();
    let tasks = fields.take(cx, &["tasks", "task"]).map(|n| patterns(cx, n, "tasks")).unwrap_or_default();
    let namespaces = fields
        .take(cx, &["namespaces", "namespace"])
        .map(|n| patterns(cx, n, "namespaces"))
        .unwrap_or_default();
    let condition = fields.take(cx, &["if"]).and_then(|n| Names::default().condition_at(cx, n, Place::Sent));
    let mut outlets = Vec::new();
    for (word, schemes) in OUTLETS {
        if let Some(node) = fields.take(cx, &[word]) {
            outlets.push((word, node.span.clone(), outlet(cx, word, schemes, node)));
        }
    }
    let to = match outlets.as_mut_slice() {
        [(.., to)] => to.take(),
        [] => {
            let words: Vec<String> = OUTLETS.iter().map(|(word, _)| format!("`{word}: …`")).collect();
            cx.error(
                Problem::new("missing-key", &span, "the sink does not say where its events go")
                    .help(format!("write one of {}", words.join(", "))),
            );
            None
        }
        [(first, ..), (second, span, _), ..] => {
            let message = format!("a sink goes to one place, and this one has `{first}` and `{second}`");
            cx.error(Problem::new("wrong-value", span, message).help("write a sink for each"));
            None
        }
    };
    fields.finish(cx);
    let id = id?;
    let sink = SinkDef {
        id: id.clone(),
        description: description.unwrap_or_default(),
        enabled,
        events,
        tasks,
        namespaces,
        condition,
        to: to?,
    };
    Some((id, span, sink))
}

/// Types of events, each of which some event has.
fn events(cx: &Context<'_>, node: &Node) -> Vec<String> {
    let known: Vec<String> = EVENT_TYPES
        .iter()
        .flat_map(|(of, words)| words.iter().map(move |word| format!("{of}.{word}")))
        .collect();
    let mut all = Vec::new();
    for item in cx.items(node) {
        let Some(text) = cx.text(item, "events") else { continue };
        if !known.iter().any(|one| is_like(one, &text)) {
            let problem = Problem::new("wrong-value", &item.span, format!("no event is of type `{text}`"));
            let near = nearest(&text, known.iter().map(String::as_str));
            let help = near.map(|near| format!("did you mean `{near}`?"));
            cx.error(problem.help(help.unwrap_or_else(|| {
                "types are as in `run.failed`, `step.*`, `schedule.fired`, `trigger.ignored`".to_owned()
            })));
            continue;
        }
        all.push(text);
    }
    all
}

/// Names in which `*` is wild.
fn patterns(cx: &Context<'_>, node: &Node, what: &str) -> Vec<String> {
    let mut all = Vec::new();
    for item in cx.items(node) {
        let Some(text) = cx.text(item, what) else { continue };
        let plain = text.replace('*', "x");
        if cx.name_of(&plain, &item.span, what).is_some() {
            all.push(text);
        }
    }
    all
}

fn outlet(cx: &Context<'_>, word: &'static str, schemes: &[&str], node: &Node) -> Option<Outlet> {
    let place = format!("`{word}`");
    // The address alone will do for a webhook.
    if let (Kind::Text(_), "webhook") = (&node.kind, word) {
        let url = url(cx, node, word, schemes)?;
        return Some(Outlet::Webhook { url, secret: None, headers: BTreeMap::new(), batch: 1 });
    }
    let mut fields = Fields::of(cx, node, word, "where a sink goes")?;
    let span = fields.span.clone();
    let missing = |key: &str| {
        let message = format!("{place} of a sink needs `{key}`");
        cx.error(Problem::new("missing-key", &span, message).help(format!("write `{key}: …`")));
    };
    let address = match fields.take(cx, &["url"]) {
        Some(node) => url(cx, node, word, schemes),
        None => {
            missing("url");
            None
        }
    };
    let to = match word {
        "redis" => {
            let stream = fields.take(cx, &["stream"]).and_then(|n| target(cx, n, "stream"));
            let channel = fields.take(cx, &["channel"]);
            let max_length = fields.take(cx, &["max_length", "maxlen"]);
            let max_length = max_length.and_then(|n| cx.count(n, "max_length", 1, u64::MAX));
            match (stream, channel) {
                (Some(stream), None) => address.map(|url| Outlet::RedisStream { url, stream, max_length }),
                (None, Some(node)) => {
                    let channel = target(cx, node, "channel");
                    address.zip(channel).map(|(url, channel)| Outlet::RedisChannel { url, channel })
                }
                (Some(_), Some(node)) => {
                    let message = "`redis` of a sink has a `stream` or a `channel`, not both";
                    cx.error(Problem::new("wrong-value", &node.span, message).help("write a sink for each"));
                    None
                }
                (None, None) => {
                    missing("stream");
                    None
                }
            }
        }
        "nats" => {
            let subject = named_target(cx, &mut fields, "subject", &missing);
            let jetstream =
                fields.take(cx, &["jetstream"]).and_then(|n| cx.flag(n, "jetstream")).unwrap_or(true);
            address.zip(subject).map(|(url, subject)| Outlet::Nats { url, subject, jetstream })
        }
        "mqtt" => {
            let topic = named_target(cx, &mut fields, "topic", &missing);
            let retain = fields.take(cx, &["retain"]).and_then(|n| cx.flag(n, "retain")).unwrap_or_default();
            let client_id = fields.take(cx, &["client_id"]).and_then(|n| cx.text(n, "client_id"));
            address.zip(topic).map(|(url, topic)| Outlet::Mqtt { url, topic, retain, client_id })
        }
        "postgres" => {
            let channel = fields.take(cx, &["channel"]);
            if channel.is_none() {
                missing("channel");
            }
            let channel = channel.and_then(|n| channel_name(cx, n));
            address.zip(channel).map(|(url, channel)| Outlet::Postgres { url, channel })
        }
        _ => {
            let secret = fields.take(cx, &["secret"]).and_then(|n| address_text(cx, n, "secret"));
            let headers = fields.take(cx, &["headers"]).map(|n| headers(cx, n)).unwrap_or_default();
            let batch = fields.take(cx, &["batch"]).and_then(|n| cx.count(n, "batch", 1, BATCH));
            let batch = batch.and_then(|n| u32::try_from(n).ok()).unwrap_or(1);
            address.map(|url| Outlet::Webhook { url, secret, headers, batch })
        }
    };
    fields.finish(cx);
    to
}

fn named_target(
    cx: &Context<'_>,
    fields: &mut Fields<'_>,
    key: &'static str,
    missing: &impl Fn(&str),
) -> Option<String> {
    let node = fields.take(cx, &[key]);
    if node.is_none() {
        missing(key);
    }
    node.and_then(|n| target(cx, n, key))
}

/// The name of a stream, a subject, a topic: may be worked out for each event.
fn target(cx: &Context<'_>, node: &Node, what: &str) -> Option<String> {
    Names::default().check(cx, node, Place::Sent);
    not_empty(cx, node, what)
}

/// What may hold secrets, and nothing else that is worked out.
fn address_text(cx: &Context<'_>, node: &Node, what: &str) -> Option<String> {
    Names::default().check(cx, node, Place::Address);
    not_empty(cx, node, what)
}

fn not_empty(cx: &Context<'_>, node: &Node, what: &str) -> Option<String> {
    let text = cx.text(node, what)?;
    if text.trim().is_empty() {
        cx.error(Problem::new("wrong-value", &node.span, format!("`{what}` is empty")));
        return None;
    }
    Some(text)
}

fn url(cx: &Context<'_>, node: &Node, word: &str, schemes: &[&str]) -> Option<String> {
    let text = address_text(cx, node, "url")?;
    // A secret may be all of it.
    if !text.trim_start().starts_with("${{") && !schemes.iter().any(|s| text.starts_with(&format!("{s}://")))
    {
        let known: Vec<String> = schemes.iter().map(|s| format!("{s}://")).collect();
        let message = format!("`{word}.url` is no address that begins with {}", known.join(" or "));
        cx.error(Problem::new("wrong-value", &node.span, message));
        return None;
    }
    Some(text)
}

/// A channel of PostgreSQL is an identifier of at most 63 bytes.
fn channel_name(cx: &Context<'_>, node: &Node) -> Option<String> {
    let text = cx.text(node, "channel")?;
    if text.is_empty() || text.len() > 63 || text.contains("${{") {
        let message = format!("`channel` is a name of 1 to 63 bytes, not `{text}`");
        cx.error(Problem::new("wrong-value", &node.span, message));
        return None;
    }
    Some(text)
}

fn headers(cx: &Context<'_>, node: &Node) -> BTreeMap<String, String> {
    let Kind::Map(entries) = &node.kind else {
        cx.wrong_type(node, "headers", "a map of names and values");
        return BTreeMap::new();
    };
    Names::default().check(cx, node, Place::Address);
    let mut all = BTreeMap::new();
    for (key, value) in entries {
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if key.text.is_empty() || !key.text.chars().all(is_token) {
            let message = format!("`{}` is not the name of a header", key.text);
            cx.error(Problem::new("name", &key.span, message));
        } else if let Some(text) = cx.text(value, &format!("headers.{}", key.text)) {
            all.insert(key.text.clone(), text);
        }
    }
    all
}

//! `notify`: tells somebody, by webhook, e-mail, a command, or a message to MQTT, NATS or Redis.
//!
//! ```yaml
//! on_failure:
//!   uses: notify
//!   with:
//!     title: "${{ run.task }} failed"
//!     message: "step ${{ run.failed_step }} of run ${{ run.id }}"
//!     webhook: { url: https://hooks.example.org/x, secret: "${{ secrets.HOOK }}" }
//!     email:
//!       server: "smtps://ostler:${{ secrets.SMTP }}@mail.example.org"
//!       from: ostler@example.org
//!       to: [ops@example.org]
//!     command: [notify-send, Ostler]
//!     mqtt: { url: "mqtt://broker.example.org", topic: ops/alarms }
//!     nats: { url: "nats://nats.example.org", subject: ops.alarms, jetstream: true }
//!     redis: { url: "redis://redis.example.org", stream: alarms }
//! ```
//!
//! All settings are read before anything is sent; then every channel is tried, and one that fails keeps no other from
//! being tried. The step fails with class `notify` when one of them did, and says which. The output is
//! `{ webhook: {status}, email: {accepted, refused?}, command: {exit_code}, mqtt: {topic}, nats: {subject} or
//! {stream, sequence, duplicate?}, redis: {receivers} or {id} }`, of a failed step as well.
//!
//! A step that is repeated tells everybody once more (at least once, not exactly once). Who is told can recognise it:
//! webhooks get the call's `Idempotency-Key`, e-mails a `Message-ID` made from it, commands `OSTLER_IDEMPOTENCY_KEY`,
//! NATS a `Nats-Msg-Id`, entries of Redis a `key`.

mod broker;
mod command;
mod email;
mod mqtt;
mod nats;
mod redis;
mod server;
mod webhook;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use ostler_clock::Clock;
use ostler_execution::{Cancel, ExecContext, ExecEnd, ExecRequest, Executor};
use ostler_model::TypedError;
use reqwest::Client;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{call::Call, process::Workshop};

/// How long each channel may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Sends notifications.
pub struct Notify {
    workshop: Workshop,
    clock: Arc<dyn Clock>,
    client: OnceLock<Client>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    title: Value,
    #[serde(default)]
    message: Value,
    webhook: Option<Value>,
    email: Option<Value>,
    command: Option<Vec<Value>>,
    mqtt: Option<Value>,
    nats: Option<Value>,
    redis: Option<Value>,
}

/// What is told.
struct Notice {
    title: String,
    message: String,
}

/// What became of one channel.
#[derive(Default)]
struct Delivery {
    /// What it says of itself in the output; null when there is nothing to say.
    output: Value,
    /// Why it failed, if it did.
    fault: Option<TypedError>,
}

impl Delivery {
    fn made(output: Value) -> Self {
        Self { output, fault: None }
    }

    fn failed(message: impl Into<String>) -> Self {
        Self { output: Value::Null, fault: Some(TypedError::new("notify", message)) }
    }

    fn late() -> Self {
        Self::failed(format!("it took longer than {} s", PATIENCE.as_secs()))
    }
}

impl Notify {
    pub(crate) fn new(workshop: Workshop, clock: Arc<dyn Clock>) -> Self {
        Self { workshop, clock, client: OnceLock::new() }
    }

    /// `None` when `cancel` fired before all was done.
    async fn tell(&self, call: &mut Call, cancel: &Cancel) -> Result<Option<ExecEnd>, TypedError> {
        let settings: Settings = call.settings()?;
        let notice = Notice { title: text(&settings.title), message: text(&settings.message) };
        if notice.title.trim().is_empty() {
            return Err(wrong("`title` is empty"));
        }
        let now = self.clock.now();
        let post = settings.webhook.map(|s| webhook::Post::new(s, &notice, call, now)).transpose()?;
        let letter = settings.email.map(|s| email::Letter::new(s, &notice, call, now)).transpose()?;
        let argv = settings.command.map(|words| command::argv(&words)).transpose()?;
        let mqtt = settings.mqtt.map(|s| mqtt::Post::new(s, &notice, call, now)).transpose()?;
        let nats = settings.nats.map(|s| nats::Post::new(s, &notice, call, now)).transpose()?;
        let redis = settings.redis.map(|s| redis::Post::new(s, &notice, call, now)).transpose()?;
        let has_broker = mqtt.is_some() || nats.is_some() || redis.is_some();
        if post.is_none() && letter.is_none() && argv.is_none() && !has_broker {
            return Err(wrong(
                "`notify` names no channel; write `webhook: …`, `email: …`, `command: …`, `mqtt: …`, `nats: …` or `redis: …`",
            ));
        }
        let client = post.as_ref().map(|_| self.client()).transpose()?;
        // A command of a step without a message finds an empty standard input, not the node's.
        call.request.stdin = Some(notice.message);
        let call = &*call;

        let webhook = maybe(post.zip(client), |(post, client)| {
            bounded(cancel, async move { post.send(&client, &*self.clock, call).await })
        });
        let email = maybe(letter, |letter| bounded(cancel, async move { letter.send(call).await }));
        let command = maybe(argv, |argv| command::run(&self.workshop, call, cancel, argv));
        let mqtt = maybe(mqtt, |post| bounded(cancel, async move { post.send(call).await }));
        let nats = maybe(nats, |post| bounded(cancel, async move { post.send(call).await }));
        let redis = maybe(redis, |post| bounded(cancel, async move { post.send(call).await }));
        let (webhook, email, command, mqtt, nats, redis) =
            tokio::join!(webhook, email, command, mqtt, nats, redis);
        let channels = [
            ("webhook", webhook),
            ("email", email),
            ("command", command),
            ("mqtt", mqtt),
            ("nats", nats),
            ("redis", redis),
        ];
        let mut told = Vec::new();
        for (name, delivery) in channels.into_iter().filter_map(|(name, tried)| Some((name, tried?))) {
            match delivery {
                Some(delivery) => told.push((name, delivery)),
                None => return Ok(None),
            }
        }
        Ok(Some(end(told)))
    }

    fn client(&self) -> Result<Client, TypedError> {
        if let Some(client) = self.client.get() {
            return Ok(client.clone());
        }
        let made = crate::webhook::client(PATIENCE)?;
        Ok(self.client.get_or_init(|| made).clone())
    }
}

/// Does something with what is there.
async fn maybe<T, R, F: Future<Output = R>>(given: Option<T>, act: impl FnOnce(T) -> F) -> Option<R> {
    match given {
        Some(given) => Some(act(given).await),
        None => None,
    }
}

/// Work that can be dropped at any await; `None` when `cancel` fired first.
async fn bounded(cancel: &Cancel, work: impl Future<Output = Delivery>) -> Option<Delivery> {
    tokio::select! {
        biased;
        _ = cancel.fired() => None,
        done = tokio::time::timeout(PATIENCE, work) => Some(done.unwrap_or_else(|_| Delivery::late())),
    }
}

/// The end of a step whose channels came to this.
fn end(told: Vec<(&'static str, Delivery)>) -> ExecEnd {
    let mut output = Map::new();
    let (mut faults, mut details, mut retry_after) = (Vec::new(), Vec::new(), None);
    let tried = told.len();
    for (name, delivery) in told {
        if !delivery.output.is_null() {
            output.insert(name.to_owned(), delivery.output);
        }
        let Some(fault) = delivery.fault else { continue };
        faults.push(format!("{name}: {}", fault.message));
        details.extend(fault.detail.map(|detail| format!("{name}: {detail}")));
        retry_after = retry_after.max(fault.retry_after);
    }
    if faults.is_empty() {
        return ExecEnd::succeeded(Value::Object(output));
    }
    let channels = if tried == 1 { "channel" } else { "channels" };
    let message = format!("{} of {tried} {channels} failed: {}", faults.len(), faults.join("; "));
    let mut error = TypedError::new("notify", message);
    error.detail = (!details.is_empty()).then(|| details.join("\n"));
    error.retry_after = retry_after;
    ExecEnd { output: Value::Object(output), ..ExecEnd::failed(error) }
}

/// The notice as JSON, with what it is about.
fn envelope(notice: &Notice, request: &ExecRequest, now: jiff::Timestamp) -> Value {
    json!({
        "title": notice.title,
        "message": notice.message,
        "namespace": request.namespace,
        "task": request.task,
        "run": request.run,
        "step": request.step,
        "attempt": request.attempt,
        "at": now,
    })
}

fn wrong(message: impl Into<String>) -> TypedError {
    TypedError::new("settings", message)
}

/// Texts as they are, nothing as no text, other values as JSON.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[async_trait::async_trait]
impl Executor for Notify {
    fn name(&self) -> &'static str {
        "notify"
    }

    fn reruns_lost(&self) -> bool {
        true
    }

    fn settings(&self) -> Value {
        json!({
            "type": "object",
            "description": "Settings of a step that tells somebody.",
            "required": ["title"],
            "additionalProperties": false,
            "properties": {
                "title": { "type": ["string", "number"], "description": "What it is about, in one line" },
                "message": { "description": "What is told; what is not a text is told as JSON" },
                "webhook": webhook::schema(),
                "email": email::schema(),
                "mqtt": mqtt::schema(),
                "nats": nats::schema(),
                "redis": redis::schema(),
                "command": {
                    "type": "array", "minItems": 1, "items": { "type": ["string", "number", "boolean"] },
                    "description": "A program and its arguments; the message is its standard input",
                },
            },
        })
    }

    async fn execute(&self, request: ExecRequest, mut context: ExecContext) -> ExecEnd {
        // The command has a time limit, so what the call is ended by is a token of its own.
        let cancel = std::mem::take(&mut context.cancel);
        let mut call = match Call::open(request, context) {
            Ok(call) => call,
            Err(error) => return ExecEnd::failed(error),
        };
        let end = match self.tell(&mut call, &cancel).await {
            Ok(Some(end)) => end,
            Ok(None) => ExecEnd::interrupted(),
            Err(error) => ExecEnd::failed(error),
        };
        call.close(end)
    }
}

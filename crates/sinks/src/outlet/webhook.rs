//! Webhooks: one POST an event, or a list of them.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use ostler_clock::Clock;
use ostler_executors::webhook;
use ostler_store::event_cursor;
use reqwest::{Client, Url, header::HeaderMap};
use serde_json::Value;

use super::{Door, Halt, Line, PATIENCE, Sent};
use crate::{SinkError, event::Outgoing};

pub(super) struct Place(Hook);

#[derive(Clone)]
struct Hook {
    client: Client,
    clock: Arc<dyn Clock>,
    url: Url,
    secret: Option<String>,
    headers: BTreeMap<String, String>,
    batch: usize,
}

impl Place {
    pub(super) fn new(
        url: &str,
        secret: Option<String>,
        headers: &BTreeMap<String, String>,
        batch: usize,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SinkError> {
        let url = webhook::address(url).map_err(|words| SinkError::Setting { field: "url", words })?;
        for (name, value) in headers {
            webhook::put(&mut HeaderMap::new(), name, value)
                .map_err(|words| SinkError::Setting { field: "headers", words })?;
        }
        let client = webhook::client(PATIENCE).map_err(|e| SinkError::Process(e.message))?;
        Ok(Self(Hook { client, clock, url, secret, headers: headers.clone(), batch: batch.max(1) }))
    }
}

#[async_trait]
impl Door for Place {
    async fn open(&self) -> Result<Box<dyn Line>, String> {
        // The client keeps its connections itself.
        Ok(Box::new(self.0.clone()))
    }
}

#[async_trait]
impl Line for Hook {
    fn most(&self) -> usize {
        self.batch
    }

    async fn send(&mut self, events: &[Outgoing]) -> Sent {
        let [first, ..] = events else { return Sent::all(0) };
        let last = events.last().unwrap_or(first);
        let (kind, body) = match self.batch {
            1 => ("application/cloudevents+json", first.document()),
            _ => {
                let list: Vec<Value> = events.iter().map(Outgoing::document).collect();
                ("application/cloudevents-batch+json", Value::Array(list))
            }
        };
        let body = body.to_string();
        let mut own = vec![
            ("content-type", kind.to_owned()),
            ("idempotency-key", first.id.clone()),
            ("x-ostler-event", event_cursor(last.seq)),
        ];
        own.extend(self.secret.as_ref().map(|s| ("x-ostler-signature", webhook::signature(s, &body))));
        let mut headers = HeaderMap::new();
        let given = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in own.iter().map(|(name, value)| (*name, value.as_str())).chain(given) {
            if let Err(words) = webhook::put(&mut headers, name, value) {
                return Sent { taken: 0, halt: Some(Halt::Unfit(words)) };
            }
        }
        match webhook::post(&self.client, &*self.clock, self.url.clone(), headers, body).await {
            Ok(_) => Sent::all(events.len()),
            Err(refused) => {
                let pause = refused.retry_after.map(|span| span.as_duration());
                let said = refused.detail.as_deref().and_then(|text| text.lines().next());
                let words = match said {
                    Some(line) => {
                        format!("{}: {}", refused.message, line.chars().take(200).collect::<String>())
                    }
                    None => refused.message,
                };
                Sent { taken: 0, halt: Some(Halt::Wait(words, pause)) }
            }
        }
    }
}

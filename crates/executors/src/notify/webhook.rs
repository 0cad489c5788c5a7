//! A notification by an HTTP request.

use std::collections::BTreeMap;

use jiff::Timestamp;
use ostler_clock::Clock;
use ostler_model::TypedError;
use reqwest::{Client, Url, header::HeaderMap};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Delivery, Notice, wrong};
use crate::{call::Call, webhook};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    url: String,
    secret: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, Value>,
    #[serde(default)]
    form: Form,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Form {
    #[default]
    Json,
    Slack,
}

pub(super) fn schema() -> Value {
    json!({
        "description": "An address that gets a POST request, or {url, secret, headers, form}",
        "type": ["string", "object"],
        "required": ["url"],
        "additionalProperties": false,
        "properties": {
            "url": { "type": "string", "description": "http:// or https:// address" },
            "secret": { "type": "string", "description": "Sign the body by HMAC-SHA256, in X-Ostler-Signature" },
            "headers": { "type": "object", "description": "Headers by name, besides Ostler's own and instead of them" },
            "form": { "enum": ["json", "slack"], "description": "What the body is: JSON with title, message and run (the default), or what Slack takes" },
        },
    })
}

/// A request that is ready to be sent.
pub(super) struct Post {
    url: Url,
    headers: HeaderMap,
    body: String,
}

impl Post {
    pub(super) fn new(
        settings: Value,
        notice: &Notice,
        call: &Call,
        now: Timestamp,
    ) -> Result<Self, TypedError> {
        let settings = match settings {
            Value::String(url) => {
                Settings { url, secret: None, headers: BTreeMap::new(), form: Form::default() }
            }
            other => serde_json::from_value(other).map_err(|e| wrong(format!("`webhook`: {e}")))?,
        };
        let url = webhook::address(&settings.url).map_err(|e| wrong(format!("`webhook.url` {e}")))?;
        let request = &call.request;
        let body = match settings.form {
            Form::Json => super::envelope(notice, request, now),
            Form::Slack => json!({ "text": slack(notice) }),
        };
        let body = body.to_string();
        let mut own = vec![
            ("content-type", "application/json".to_owned()),
            ("idempotency-key", request.idempotency_key.clone()),
        ];
        own.extend(request.traceparent.clone().map(|trace| ("traceparent", trace)));
        own.extend(settings.secret.map(|secret| ("x-ostler-signature", webhook::signature(&secret, &body))));
        let mut headers = HeaderMap::new();
        for (name, value) in own {
            put(&mut headers, name, &value)?;
        }
        for (name, value) in &settings.headers {
            put(&mut headers, name, &super::text(value))?;
        }
        Ok(Self { url, headers, body })
    }

    pub(super) async fn send(self, client: &Client, clock: &dyn Clock, call: &Call) -> Delivery {
        let place = self.url.origin().ascii_serialization();
        let sent = webhook::post(client, clock, self.url, self.headers, self.body).await;
        let status = match &sent {
            Ok(status) => Some(*status),
            Err(refused) => refused.status,
        };
        let output = status.map_or(Value::Null, |status| {
            call.remark(&format!("webhook: {place} -> {status}"));
            json!({ "status": status.as_u16() })
        });
        let Err(refused) = sent else { return Delivery::made(output) };
        let mut fault = TypedError::new("notify", refused.message);
        fault.retry_after = refused.retry_after;
        fault.detail = refused.detail;
        Delivery { output, fault: Some(fault) }
    }
}

fn put(headers: &mut HeaderMap, name: &str, value: &str) -> Result<(), TypedError> {
    webhook::put(headers, name, value).map_err(|e| wrong(format!("`webhook.headers`: {e}")))
}

/// Slack reads `<…>` as links and mentions and `&` as the beginning of an entity
/// (<https://api.slack.com/reference/surfaces/formatting#escaping>).
fn slack(notice: &Notice) -> String {
    let escaped = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let title = format!("*{}*", escaped(&notice.title));
    if notice.message.is_empty() { title } else { format!("{title}\n{}", escaped(&notice.message)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_slack_would_read_as_its_own_is_escaped() {
        let notice = Notice { title: "a & b".into(), message: "<!channel>".into() };
        assert_eq!(slack(&notice), "*a &amp; b*\n&lt;!channel&gt;");
        assert_eq!(slack(&Notice { message: String::new(), ..notice }), "*a &amp; b*");
    }
}

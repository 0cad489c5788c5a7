//! A notification by an HTTP request.

use std::collections::BTreeMap;

use jiff::Timestamp;
use ostler_clock::Clock;
use ostler_model::TypedError;
use reqwest::{
    Client, Url,
    header::{HeaderMap, HeaderName, HeaderValue},
    redirect,
};
use ring::hmac;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Delivery, Notice, PATIENCE, wrong};
use crate::{call::Call, http};

/// How much of a refusal is kept.
const DETAIL: usize = 4096;

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

/// Redirects are not followed: what is signed for one receiver is for no other, and a POST would become a GET.
pub(super) fn client() -> Result<Client, TypedError> {
    let client = http::client_builder().timeout(PATIENCE).redirect(redirect::Policy::none());
    client.build().map_err(|e| wrong(format!("no HTTP client: {e}")))
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
        // The address is not told: that of a webhook is often all that is needed to use it.
        let url: Url =
            settings.url.parse().map_err(|e| wrong(format!("`webhook.url` is not an address: {e}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong(format!("`webhook.url`: `{}` is neither http nor https", url.scheme())));
        }
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
        own.extend(settings.secret.map(|secret| ("x-ostler-signature", signature(&secret, &body))));
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
        let sent = client.post(self.url).headers(self.headers).body(self.body).send().await;
        let answer = match sent {
            Ok(answer) => answer,
            Err(error) => return Delivery::failed(format!("{place}: {}", http::cause(&error).1)),
        };
        let status = answer.status();
        call.remark(&format!("webhook: {place} -> {status}"));
        let output = json!({ "status": status.as_u16() });
        if status.is_success() {
            return Delivery::made(output);
        }
        let mut fault = TypedError::new("notify", format!("{place} answered {status}"));
        fault.retry_after = http::retry_after(answer.headers(), clock);
        let body = http::read(answer, DETAIL).await.unwrap_or_default();
        fault.detail = Some(String::from_utf8_lossy(&body).into_owned()).filter(|d| !d.is_empty());
        Delivery { output, fault: Some(fault) }
    }
}

fn put(headers: &mut HeaderMap, name: &str, value: &str) -> Result<(), TypedError> {
    let key = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| wrong(format!("`webhook.headers`: `{name}` is not the name of a header")))?;
    let value = HeaderValue::from_str(value).map_err(|_| {
        wrong(format!(
            "`webhook.headers`: the value of `{name}` holds a line break or another control character"
        ))
    })?;
    headers.insert(key, value);
    Ok(())
}

fn signature(secret: &str, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, body.as_bytes());
    let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={hex}")
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

    /// The example of GitHub's documentation ("Validating webhook deliveries"); `/hooks` of Ostler checks it alike.
    #[test]
    fn the_signature_is_the_common_one() {
        let good = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        assert_eq!(signature("It's a Secret to Everybody", "Hello, World!"), good);
    }

    #[test]
    fn what_slack_would_read_as_its_own_is_escaped() {
        let notice = Notice { title: "a & b".into(), message: "<!channel>".into() };
        assert_eq!(slack(&notice), "*a &amp; b*\n&lt;!channel&gt;");
        assert_eq!(slack(&Notice { message: String::new(), ..notice }), "*a &amp; b*");
    }
}

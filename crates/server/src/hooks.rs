//! `/hooks/NAMESPACE/TASK/TRIGGER`: requests of other systems that start tasks.
//!
//! A request is signed with HMAC-SHA256 over its body, in one of the ways that are common: `X-Hub-Signature-256:
//! sha256=HEX` (GitHub and many others; `X-Signature-256` and `X-Ostler-Signature` are read alike), or the headers of
//! Standard Webhooks (<https://www.standardwebhooks.com>), whose signature covers id and time as well. A delivery that
//! names its id is acted on once.

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, Request, State, rejection::PathRejection},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use ostler_api::{Accepted, ApiError, ErrorKind, FireRequest};
use ostler_model::definition::EventSource;
use ring::hmac;
use serde_json::{Map, Value, json};

use crate::{App, json, operation::blocking, problem::Told};

/// Headers that name a delivery, in the order in which they are looked at.
const DELIVERY: [&str; 5] =
    ["webhook-id", "x-github-delivery", "x-gitlab-event-uuid", "x-delivery-id", "idempotency-key"];

/// Headers with `sha256=HEX`.
const SIGNATURES: [&str; 3] = ["x-hub-signature-256", "x-signature-256", "x-ostler-signature"];

/// How far the time of a Standard Webhook may lie from now.
const SKEW_S: i64 = 300;

/// The longest id of a delivery.
const MAX_ID: usize = 200;

pub(crate) fn routes() -> Router<App> {
    Router::new().route("/hooks/{namespace}/{task}/{trigger}", post(take))
}

async fn take(
    State(app): State<App>,
    path: Result<Path<(String, String, String)>, PathRejection>,
    request: Request<Body>,
) -> Response {
    let path = path.map_err(|e| ApiError::bad_input(format!("the path does not read: {e}")));
    let taken = async { taken(app, path?.0, request).await };
    match taken.await {
        Ok(accepted) => answer(&accepted),
        Err(error) => Told(error).into_response(),
    }
}

fn answer(accepted: &Accepted) -> Response {
    let body = serde_json::to_string(accepted).unwrap_or_default();
    (StatusCode::ACCEPTED, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

async fn taken(
    app: App,
    (namespace, task, trigger): (String, String, String),
    request: Request<Body>,
) -> Result<Accepted, ApiError> {
    let (head, body) = request.into_parts();
    let read = app.budget.read(body).await?;
    let shared = app.clone();
    let check = move || {
        let service = shared.local.service();
        let name = (&*namespace, &*task, &*trigger);
        let definition = service.webhook(name)?;
        if let EventSource::Webhook { secret: Some(secret) } = &definition.source {
            let key = shared.secrets.get(secret).ok_or_else(|| {
                let message = format!("this server has no secret `{secret}`, by which requests are checked");
                ApiError::new(ErrorKind::Store, message)
            })?;
            verify(key.as_bytes(), &head.headers, &read.bytes, service.now())?;
        }
        let request = FireRequest {
            delivery: delivery(&head.headers),
            body: event(&head.headers, head.uri.query(), &read.bytes),
        };
        Ok(service.take_request(name, request)?)
    };
    blocking(check).await
}

/// What the trigger's expressions see as `event.body`: `json` (or `text`), `headers`, `query`.
fn event(headers: &HeaderMap, query: Option<&str>, body: &Bytes) -> Value {
    let mut shown = Map::new();
    for (name, value) in headers {
        // What proves who sent it is nobody's business after it was checked.
        let is_proof = *name == header::AUTHORIZATION
            || *name == header::COOKIE
            || SIGNATURES.contains(&name.as_str())
            || name.as_str() == "webhook-signature";
        if let (false, Ok(text)) = (is_proof, value.to_str()) {
            shown.insert(name.as_str().to_owned(), text.into());
        }
    }
    let pairs: Vec<(String, String)> =
        serde_urlencoded::from_str(query.unwrap_or_default()).unwrap_or_default();
    let query: Map<String, Value> = pairs.into_iter().map(|(name, value)| (name, value.into())).collect();
    let mut event = json!({ "headers": shown, "query": query });
    match json::any(body) {
        Some(value) => event["json"] = value,
        None => event["text"] = String::from_utf8_lossy(body).into(),
    }
    event
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|v| v.to_str().ok())
}

fn delivery(headers: &HeaderMap) -> Option<String> {
    let found = DELIVERY.iter().find_map(|name| text(headers, name))?;
    Some(found.chars().take(MAX_ID).collect())
}

fn verify(key: &[u8], headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<(), ApiError> {
    let refused = |message: &str| {
        ApiError::new(ErrorKind::Unauthenticated, message).hint(
            "sign the body with HMAC-SHA256: `X-Hub-Signature-256: sha256=HEX`, or as a Standard Webhook",
        )
    };
    if let Some(given) = SIGNATURES.iter().find_map(|name| text(headers, name)) {
        let given = given.strip_prefix("sha256=").and_then(from_hex);
        let given =
            given.ok_or_else(|| refused("the signature is not `sha256=` and 64 hexadecimal digits"))?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        return hmac::verify(&key, body, &given).map_err(|_| refused("the signature does not fit the body"));
    }
    let Some(given) = text(headers, "webhook-signature") else {
        return Err(refused("the request is not signed"));
    };
    let id = text(headers, "webhook-id").ok_or_else(|| refused("`webhook-id` is missing"))?;
    let time = text(headers, "webhook-timestamp").ok_or_else(|| refused("`webhook-timestamp` is missing"))?;
    let seconds: i64 = time.parse().map_err(|_| refused("`webhook-timestamp` is not a number of seconds"))?;
    if now.as_second().saturating_sub(seconds).saturating_abs() > SKEW_S {
        return Err(refused("`webhook-timestamp` is more than five minutes from now"));
    }
    // Keys of that standard are written in Base64 behind `whsec_`; others count as they are.
    let text_key = std::str::from_utf8(key).unwrap_or_default();
    let decoded = text_key.strip_prefix("whsec_").and_then(|text| STANDARD.decode(text).ok());
    let key = hmac::Key::new(hmac::HMAC_SHA256, decoded.as_deref().unwrap_or(key));
    let mut signed = format!("{id}.{time}.").into_bytes();
    signed.extend_from_slice(body);
    let fits = given
        .split(' ')
        .filter_map(|part| STANDARD.decode(part.strip_prefix("v1,")?).ok())
        .any(|signature| hmac::verify(&key, &signed, &signature).is_ok());
    if fits { Ok(()) } else { Err(refused("the signature does not fit the request")) }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(given: &[(&'static str, &str)]) -> HeaderMap {
        given
            .iter()
            .map(|(name, value)| (header::HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    /// The example of GitHub's documentation ("Validating webhook deliveries").
    #[test]
    fn the_vector_of_github() {
        let good = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let given = headers(&[("x-hub-signature-256", good)]);
        let key = b"It's a Secret to Everybody";
        assert_eq!(verify(key, &given, b"Hello, World!", Timestamp::UNIX_EPOCH), Ok(()));
        for (key, body) in [(&key[..], &b"Hello, World"[..]), (b"other", b"Hello, World!")] {
            let error = verify(key, &given, body, Timestamp::UNIX_EPOCH).unwrap_err();
            assert_eq!(error.message, "the signature does not fit the body");
        }
    }

    /// The example of the specification of Standard Webhooks.
    #[test]
    fn the_vector_of_standard_webhooks() {
        let key = b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let given = headers(&[
            ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
            ("webhook-timestamp", "1614265330"),
            ("webhook-signature", "v1,bm9ldHU= v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
        ]);
        let body = br#"{"test": 2432232314}"#;
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(verify(key, &given, body, at(1_614_265_330)), Ok(()));
        assert_eq!(verify(key, &given, body, at(1_614_265_630)), Ok(()));
        assert!(verify(key, &given, body, at(1_614_265_631)).unwrap_err().message.contains("five minutes"));
        assert!(verify(key, &given, b"{}", at(1_614_265_330)).unwrap_err().message.contains("does not fit"));
    }

    #[test]
    fn what_is_not_signed_is_refused() {
        let table: [(&[(&str, &str)], &str); 4] = [
            (&[], "not signed"),
            (&[("x-hub-signature-256", "sha256=zz")], "hexadecimal"),
            (&[("x-hub-signature-256", "")], "hexadecimal"),
            (&[("webhook-signature", "v1,AA==")], "webhook-id"),
        ];
        for (given, words) in table {
            let given: Vec<(&'static str, &str)> = given
                .iter()
                .map(|(n, v)| {
                    (*SIGNATURES.iter().chain(&["webhook-signature"]).find(|s| s == &n).unwrap(), *v)
                })
                .collect();
            let error = verify(b"k", &headers(&given), b"", Timestamp::UNIX_EPOCH).unwrap_err();
            assert!(error.message.contains(words), "{}", error.message);
            assert_eq!(error.kind, ErrorKind::Unauthenticated);
        }
    }
}

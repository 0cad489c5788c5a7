//! Webhooks: a POST that may be signed, and what came of it.

use std::time::Duration;

use ostler_clock::Clock;
use ostler_model::{Span, TypedError};
use reqwest::{
    Client, StatusCode, Url,
    header::{HeaderMap, HeaderName, HeaderValue},
    redirect,
};
use ring::hmac;

use crate::http;

/// How much of a refusal is kept.
const DETAIL: usize = 4096;

/// Why a request did not do what it was for.
#[derive(Debug)]
pub struct Refused {
    /// What was answered, if anything was.
    pub status: Option<StatusCode>,
    /// In words, with the place.
    pub message: String,
    /// What the answer said.
    pub detail: Option<String>,
    /// After how long it may be worth another try, as the answer says.
    pub retry_after: Option<Span>,
}

/// Makes requests. Redirects are not followed: what is signed for one receiver is for no other, and a POST would become a
/// GET.
///
/// # Errors
/// The process has no TLS.
pub fn client(patience: Duration) -> Result<Client, TypedError> {
    let client = http::client_builder().timeout(patience).redirect(redirect::Policy::none());
    client.build().map_err(|e| TypedError::new("settings", format!("no HTTP client: {e}")))
}

/// Reads the address of a webhook; the words of an error come behind its name. No message shows it: it is often all that is needed to use it.
///
/// # Errors
/// It is none.
pub fn address(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|e| format!("is not an address: {e}"))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        other => Err(format!("is not an address: `{other}` is neither http nor https")),
    }
}

/// The signature of a body, as `/hooks` of Ostler and many others take it.
#[must_use]
pub fn signature(secret: &str, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, body.as_bytes());
    let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={hex}")
}

/// Sets a header.
///
/// # Errors
/// It is none, in words that do not show its value.
pub fn put(headers: &mut HeaderMap, name: &str, value: &str) -> Result<(), String> {
    let key = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| format!("`{name}` is not the name of a header"))?;
    let value = HeaderValue::from_str(value)
        .map_err(|_| format!("the value of `{name}` holds a line break or another control character"))?;
    headers.insert(key, value);
    Ok(())
}

/// Sends a body; what is no success is a refusal.
///
/// # Errors
/// The refusal.
pub async fn post(
    client: &Client,
    clock: &dyn Clock,
    url: Url,
    headers: HeaderMap,
    body: String,
) -> Result<StatusCode, Refused> {
    let place = url.origin().ascii_serialization();
    let refused = |message| Refused { status: None, message, detail: None, retry_after: None };
    let answer = match client.post(url).headers(headers).body(body).send().await {
        Ok(answer) => answer,
        Err(error) => return Err(refused(format!("{place}: {}", http::cause(&error).1))),
    };
    let status = answer.status();
    if status.is_success() {
        return Ok(status);
    }
    let retry_after = http::retry_after(answer.headers(), clock);
    let body = http::read(answer, DETAIL).await.unwrap_or_default();
    let detail = Some(String::from_utf8_lossy(&body).into_owned()).filter(|d| !d.is_empty());
    Err(Refused { status: Some(status), message: format!("{place} answered {status}"), detail, retry_after })
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
}

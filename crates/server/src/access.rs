//! Who may ask: tokens, and on a loopback address what a browser's pages may not do.
//!
//! A page of any site can make a browser send requests to a loopback address. It cannot set the `Host` of a request to
//! a loopback name unless its own name is one (DNS rebinding), and browsers say where a request comes from (`Origin`,
//! and `Sec-Fetch-Site` of the Fetch Metadata specification); both are checked.

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, Method, Response, Version, header, request::Parts},
    middleware::Next,
    response::IntoResponse,
};
use ostler_api::{ApiError, ErrorKind};
use ostler_service::Actor;

use crate::{App, Peer, operation::blocking, problem::Told};

/// Who may ask without a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Whoever is on this machine: the server listens on a loopback address.
    Loopback,
    /// Nobody.
    Tokens,
}

/// What needs no token whoever asks: whether the server lives, and what it understands.
const OPEN: [&str; 3] = ["/healthz", "/readyz", "/api/v1/openapi.json"];

/// Where workers ask.
const WORKERS: &str = "/api/v1/workers";

/// As whom the server knows the caller.
const INFO: &str = "/api/v1";

/// Finds out who asks, and turns away who may not.
pub(crate) async fn check(State(app): State<App>, request: Request, next: Next) -> Response<Body> {
    let (mut head, body) = request.into_parts();
    match caller(&app, &head).await.and_then(|actor| in_its_place(actor, head.uri.path())) {
        Ok(actor) => {
            head.extensions.insert(app.local.as_actor(actor));
            next.run(Request::from_parts(head, body)).await
        }
        Err(error) => Told(error).into_response(),
    }
}

/// A token of workers is on many machines: it opens nothing but what workers ask for, not even lists without anything in
/// them.
fn in_its_place(actor: Actor, path: &str) -> Result<Actor, ApiError> {
    let is_for_workers =
        path == WORKERS || path.strip_prefix(WORKERS).is_some_and(|rest| rest.starts_with('/'));
    if !actor.only_works() || is_for_workers || path == INFO || OPEN.contains(&path) {
        return Ok(actor);
    }
    Err(ApiError::new(ErrorKind::Denied, format!("{actor} may take jobs and nothing else"))
        .hint("a token with another scope may do this: view, run, change or admin"))
}

async fn caller(app: &App, head: &Parts) -> Result<Actor, ApiError> {
    let headers = &head.headers;
    one_host(head)?;
    if app.access == Access::Loopback {
        named_as_loopback(headers)?;
    }
    if !matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS) {
        same_origin(headers)?;
    }
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        return holder(app, value.to_str().unwrap_or_default()).await;
    }
    let path = head.uri.path();
    if OPEN.contains(&path) || path.starts_with("/hooks/") {
        // What they may do is decided where they are answered.
        return Ok(Actor::token("nobody", &[]));
    }
    match app.access {
        Access::Loopback => {
            let is_local = head.extensions.get::<Peer>().is_none_or(|p| p.0.ip().is_loopback());
            if is_local {
                Ok(Actor::loopback())
            } else {
                Err(unauthenticated("no token came with the request"))
            }
        }
        Access::Tokens => Err(unauthenticated("no token came with the request")),
    }
}

async fn holder(app: &App, value: &str) -> Result<Actor, ApiError> {
    let secret = match value.split_once(' ') {
        Some((scheme, secret)) if scheme.eq_ignore_ascii_case("bearer") => secret.trim().to_owned(),
        _ => return Err(unauthenticated("`Authorization` is to be `Bearer` and a token")),
    };
    let service = app.local.service().clone();
    let known = blocking(move || Ok(service.who_holds(&secret)?)).await?;
    known.map_err(unauthenticated)
}

fn unauthenticated(message: &str) -> ApiError {
    ApiError::new(ErrorKind::Unauthenticated, message)
        .hint("`ostler tokens create` makes one; send it as `Authorization: Bearer ...`")
}

/// RFC 9112, section 3.2: with several hosts or none, whoever is between may have taken the request for another's.
fn one_host(head: &Parts) -> Result<(), ApiError> {
    let count = head.headers.get_all(header::HOST).iter().count();
    if count == 1 || (count == 0 && head.version < Version::HTTP_11) {
        return Ok(());
    }
    Err(ApiError::bad_input(format!("the request has {count} `Host` headers, not one")))
}

fn named_as_loopback(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(host) = headers.get(header::HOST) else { return Ok(()) };
    let host = host.to_str().unwrap_or_default();
    if is_loopback(host) {
        return Ok(());
    }
    let shown: String = host.chars().take(100).collect();
    Err(ApiError::new(
        ErrorKind::Denied,
        format!("this server is asked for as `{shown}`, but it listens on a loopback address and answers to its names only"),
    )
    .hint("ask for 127.0.0.1 or localhost, or listen on another address with tokens"))
}

/// Whether a `Host` names a loopback address.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|h| h.split_once(']')) {
        Some((address, _)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.to_ascii_lowercase().ends_with(".localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn same_origin(headers: &HeaderMap) -> Result<(), ApiError> {
    let text = |name: header::HeaderName| headers.get(name).and_then(|v| v.to_str().ok());
    let denied = || {
        ApiError::new(
            ErrorKind::Denied,
            "this request comes from a page of another origin, which may not change anything",
        )
    };
    match headers.get("sec-fetch-site").and_then(|v| v.to_str().ok()) {
        None | Some("same-origin" | "none") => {}
        Some(_) => return Err(denied()),
    }
    match (text(header::ORIGIN), text(header::HOST)) {
        (None, _) => Ok(()),
        (Some(origin), Some(host)) if origin.split_once("://").is_some_and(|(_, h)| h == host) => Ok(()),
        _ => Err(denied()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_several_names() {
        for host in
            ["localhost", "localhost:80", "127.0.0.1:7467", "127.9.9.9", "[::1]:80", "app.localhost:1"]
        {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["example.org", "127.0.0.1.example.org", "localhost.example.org:80", "10.0.0.1", ""] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn pages_of_other_origins_are_told_apart() {
        let table: [(&[(&str, &str)], bool); 7] = [
            (&[], true),
            (&[("host", "localhost:1"), ("origin", "http://localhost:1")], true),
            (&[("host", "localhost:1"), ("origin", "http://evil.example")], false),
            (&[("host", "localhost:1"), ("origin", "null")], false),
            (&[("sec-fetch-site", "same-origin")], true),
            (&[("sec-fetch-site", "cross-site")], false),
            (&[("sec-fetch-site", "same-site")], false),
        ];
        for (given, expected) in table {
            let mut headers = HeaderMap::new();
            for (name, value) in given {
                headers.insert(
                    header::HeaderName::from_bytes(name.as_bytes()).unwrap(),
                    header::HeaderValue::from_str(value).unwrap(),
                );
            }
            assert_eq!(same_origin(&headers).is_ok(), expected, "{given:?}");
        }
    }
}

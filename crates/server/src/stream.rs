//! Streams: server-sent events of the outbox and of a run's lines, resumed with `Last-Event-ID`.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, Response, header},
};
use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt};
use ostler_api::{ApiError, LogRequest};
use ostler_embedded::Local;
use ostler_model::Uid;
use schemars::SchemaGenerator;
use serde_json::{Value, json};
use tokio::sync::broadcast::{Receiver, error::RecvError};

use crate::{
    App,
    feed::{Fed, PAGE, number, text_of},
    operation::{Answered, blocking},
};

/// A comment goes out so often when there is nothing else, so that nobody on the way gives the connection up.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How often the log of a run that is quiet is looked at, at first and at last.
const LOOK: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(1000));

/// A body of server-sent events.
pub(crate) struct EventStream(Body);

impl Answered for EventStream {
    fn describe(_: &mut SchemaGenerator) -> (&'static str, Value) {
        let words = "Server-sent events: `id` is a cursor for `Last-Event-ID`, `data` is JSON.";
        ("text/event-stream", json!({ "type": "string", "description": words }))
    }

    fn respond(self) -> Response<Body> {
        let mut response = Response::new(self.0);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // Proxies of the nginx family hold answers back unless they are told not to.
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        response
    }
}

/// Where a client that comes back left off.
///
/// # Errors
/// It is no text: to go on from now instead would lose events without a word.
pub(crate) fn last_event_id(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let text = value.to_str().map_err(|_| ApiError::bad_input("`Last-Event-ID` is not a cursor"))?;
    Ok(Some(text.to_owned()))
}

/// Where a follower is.
struct Follower {
    local: Local,
    fed: Receiver<Fed>,
    at: i64,
    /// It reads the store until it has caught up with the ring.
    behind: bool,
    ended: bool,
}

/// Events after a cursor, or from now on.
pub(crate) async fn events(app: &App, local: Local, after: Option<String>) -> Result<EventStream, ApiError> {
    // Followed first: what comes between the first look and the ring is in both, and the number tells.
    let fed = app.feed.follow();
    let (asked, from) = (local.clone(), after.clone());
    let at = blocking(move || {
        let (service, actor) = (asked.service(), asked.actor());
        match from {
            Some(cursor) => service.events(actor, Some(&cursor), 1).map(|_| number(&cursor)),
            None => service.stats(actor).map(|s| s.last_event),
        }
        .map_err(ApiError::from)
    })
    .await?;
    let follower = Follower { local, fed, at, behind: after.is_some(), ended: false };
    let texts = stream::unfold(follower, |mut follower| async move {
        let text = follower.next().await?;
        Some((Ok::<_, std::io::Error>(text), follower))
    });
    Ok(EventStream(opened(texts)))
}

/// A comment comes at once, so that whoever follows knows that the answer has begun.
fn opened(texts: impl Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static) -> Body {
    Body::from_stream(stream::once(async { Ok(Bytes::from_static(b": ostler\n\n")) }).chain(texts))
}

impl Follower {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.ended {
                return None;
            }
            if self.behind {
                if let Some(text) = self.catch_up().await {
                    return Some(text);
                }
                continue;
            }
            match tokio::time::timeout(KEEP_ALIVE, self.fed.recv()).await {
                Err(_) => return Some(Bytes::from_static(b":\n\n")),
                Ok(Ok(fed)) if fed.after > self.at => self.behind = true,
                Ok(Ok(fed)) if fed.seq <= self.at => {}
                Ok(Ok(fed)) => {
                    self.at = fed.seq;
                    return Some(fed.text);
                }
                Ok(Err(RecvError::Lagged(_))) => self.behind = true,
                Ok(Err(RecvError::Closed)) => return None,
            }
        }
    }

    /// One page from the store; nothing when the ring has what comes next.
    async fn catch_up(&mut self) -> Option<Bytes> {
        let (local, cursor) = (self.local.clone(), format!("e{}", self.at));
        let page = blocking(move || Ok(local.service().events(local.actor(), Some(&cursor), PAGE)?)).await;
        match page {
            Ok(page) => {
                self.at = number(&page.next).max(self.at);
                self.behind = !page.complete;
                let texts: Vec<Bytes> = page.items.iter().map(text_of).collect();
                (!texts.is_empty()).then(|| texts.concat().into())
            }
            Err(error) => {
                self.ended = true;
                Some(problem_of(&error))
            }
        }
    }
}

/// The last event of a stream that cannot go on.
fn problem_of(error: &ApiError) -> Bytes {
    let data = serde_json::to_string(&error.problem(None)).unwrap_or_default();
    Bytes::from(format!("event: problem\ndata: {data}\n\n"))
}

/// Where a follower of lines is.
struct Lines {
    local: Local,
    run: Uid,
    request: LogRequest,
    pause: Duration,
    quiet: Duration,
    ended: bool,
}

/// Lines of a run after a cursor (or from the first), until it has ended.
pub(crate) async fn lines(local: Local, run: Uid, request: LogRequest) -> Result<EventStream, ApiError> {
    let asked = local.clone();
    blocking(move || Ok(asked.service().run(asked.actor(), run)?)).await?;
    let lines = Lines { local, run, request, pause: LOOK.0, quiet: Duration::ZERO, ended: false };
    let texts = stream::unfold(lines, |mut lines| async move {
        let text = lines.next().await?;
        Some((Ok::<_, std::io::Error>(text), lines))
    });
    Ok(EventStream(opened(texts)))
}

impl Lines {
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.ended {
                return None;
            }
            let (local, run, request) = (self.local.clone(), self.run, self.request.clone());
            let page =
                match blocking(move || ostler_api::Api::logs(&local, run, &request, Duration::ZERO)).await {
                    Ok(page) => page,
                    Err(error) => {
                        self.ended = true;
                        return Some(problem_of(&error));
                    }
                };
            self.request.after = Some(page.next.clone());
            // A cursor stands behind a page, not behind a line of it.
            let count = page.items.len();
            let mut text = String::new();
            for (index, line) in page.items.iter().enumerate() {
                if index + 1 == count {
                    text.push_str(&format!("id: {}\n", page.next));
                }
                let data = serde_json::to_string(line).unwrap_or_default();
                text.push_str(&format!("event: line\ndata: {data}\n\n"));
            }
            if page.complete {
                self.ended = true;
                text.push_str(&format!("id: {}\nevent: end\ndata: {{}}\n\n", page.next));
            }
            if !text.is_empty() {
                (self.pause, self.quiet) = (LOOK.0, Duration::ZERO);
                return Some(text.into());
            }
            tokio::time::sleep(self.pause).await;
            self.quiet += self.pause;
            self.pause = (self.pause * 2).min(LOOK.1);
            if self.quiet >= KEEP_ALIVE {
                self.quiet = Duration::ZERO;
                return Some(Bytes::from_static(b":\n\n"));
            }
        }
    }
}

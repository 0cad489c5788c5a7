//! Operations: a route with the types of its path, query, body and answer, from which its description is made.

use std::time::Duration;

use axum::{
    Extension, Router,
    body::Body,
    extract::{RawPathParams, RawQuery, State, rejection::RawPathParamsRejection},
    http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header},
    response::IntoResponse,
    routing::{MethodFilter, MethodRouter, on},
};
use ostler_api::{ApiError, ErrorKind, VERSION};
use ostler_embedded::Local;
use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use tokio::sync::Semaphore;

use crate::{App, Feed, document::Described, json::FromBody, patience::Line, problem::Told};

/// Header by which a start that is sent again is known.
pub(crate) const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// What describes an operation beyond its types.
#[derive(Clone)]
pub(crate) struct Operation {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) id: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) tag: &'static str,
    pub(crate) status: StatusCode,
    pub(crate) has_etag: bool,
    pub(crate) takes_if_match: bool,
    pub(crate) takes_key: bool,
}

impl Operation {
    fn new(method: Method, path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self {
            method,
            path,
            id,
            summary,
            tag: path.split('/').nth(1).filter(|t| !t.is_empty()).unwrap_or("system"),
            status: StatusCode::OK,
            has_etag: false,
            takes_if_match: false,
            takes_key: false,
        }
    }

    pub(crate) fn get(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self::new(Method::GET, path, id, summary)
    }

    pub(crate) fn post(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self::new(Method::POST, path, id, summary)
    }

    pub(crate) fn put(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self::new(Method::PUT, path, id, summary)
    }

    pub(crate) fn delete(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self::new(Method::DELETE, path, id, summary)
    }

    /// It makes something.
    pub(crate) fn creates(mut self) -> Self {
        self.status = StatusCode::CREATED;
        self
    }

    /// Its answer has an `ETag`.
    pub(crate) fn etag(mut self) -> Self {
        self.has_etag = true;
        self
    }

    /// It takes `If-Match`.
    pub(crate) fn if_match(mut self) -> Self {
        self.takes_if_match = true;
        self
    }

    /// It takes `Idempotency-Key`.
    pub(crate) fn keyed(mut self) -> Self {
        self.takes_key = true;
        self
    }
}

/// A request, read and checked.
pub(crate) struct Call<P, Q, B> {
    /// Answers as whoever asks.
    pub(crate) api: Local,
    pub(crate) path: P,
    pub(crate) query: Q,
    pub(crate) body: B,
    pub(crate) headers: HeaderMap,
    pub(crate) app: App,
    /// The line to the caller, where the answer may be held back.
    pub(crate) line: Option<Line>,
}

impl<P, Q, B> Call<P, Q, B> {
    /// The entity tag that the caller expects, without its quotes. `*` fits whatever is there.
    pub(crate) fn if_match(&self) -> Result<Option<String>, ApiError> {
        let Some(value) = self.headers.get(header::IF_MATCH) else { return Ok(None) };
        let text = value.to_str().unwrap_or_default().trim();
        if text == "*" {
            return Ok(None);
        }
        text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).map(|t| Some(t.to_owned())).ok_or_else(
            || ApiError::bad_input("`If-Match` is `\"...\"` as an answer's `ETag` gave it, or `*`"),
        )
    }

    /// The key by which a start that is sent again is known.
    pub(crate) fn idempotency_key(&self) -> Result<Option<String>, ApiError> {
        let Some(value) = self.headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
        match value.to_str() {
            Ok(text) if (1..=255).contains(&text.trim().len()) => Ok(Some(text.trim().to_owned())),
            _ => Err(ApiError::bad_input("`Idempotency-Key` has 1 to 255 ASCII characters")),
        }
    }
}

/// What an answer may be.
pub(crate) trait IntoAnswer: Send + 'static {
    type View: Serialize + JsonSchema;

    /// The view with its entity tag.
    fn parts(self) -> (Self::View, Option<String>);
}

/// A view with its entity tag.
pub(crate) struct Tagged<T>(pub(crate) T, pub(crate) String);

impl<T: Serialize + JsonSchema + Send + 'static> IntoAnswer for Tagged<T> {
    type View = T;

    fn parts(self) -> (T, Option<String>) {
        (self.0, Some(self.1))
    }
}

/// A view without one.
pub(crate) struct Plain<T>(pub(crate) T);

impl<T: Serialize + JsonSchema + Send + 'static> IntoAnswer for Plain<T> {
    type View = T;

    fn parts(self) -> (T, Option<String>) {
        (self.0, None)
    }
}

/// Routes with their descriptions.
pub(crate) struct Routes {
    pub(crate) router: Router<App>,
    pub(crate) described: Described,
}

impl Routes {
    pub(crate) fn new() -> Self {
        Self { router: Router::new(), described: Described::new() }
    }

    /// Adds an operation that is carried out where blocking is allowed.
    pub(crate) fn add<P, Q, B, A>(
        mut self,
        operation: Operation,
        carry_out: impl Fn(Call<P, Q, B>) -> Result<A, ApiError> + Clone + Send + Sync + 'static,
    ) -> Self
    where
        P: DeserializeOwned + JsonSchema + Send + 'static,
        Q: DeserializeOwned + JsonSchema + Send + 'static,
        B: FromBody,
        A: IntoAnswer,
    {
        self.described.operation::<P, Q, B, A::View>(&operation);
        let described = operation.clone();
        let handler = move |state: State<App>,
                            caller: Extension<Local>,
                            path: Result<RawPathParams, RawPathParamsRejection>,
                            query: RawQuery,
                            headers: HeaderMap,
                            body: Body| {
            let (operation, carry_out) = (described.clone(), carry_out.clone());
            async move {
                let answered = async {
                    let (app, api) = (state.0, caller.0);
                    let is_large = asks_for_large_page(query.0.as_deref());
                    let (path, query) = (path_of(&path)?, query_of(query.0.as_deref())?);
                    let read = app.budget.read(body).await?;
                    let turn = if is_large { LARGE_PAGES.acquire().await.ok() } else { None };
                    if is_large {
                        app.unread.has_room()?;
                    }
                    // Large bodies and answers take long to understand and to write, which is no work for the threads
                    // that all connections share.
                    let changes = operation.method != Method::GET;
                    let feed = app.feed.clone();
                    let answer = blocking(move || {
                        let _turn = turn;
                        let body = B::read(&read.bytes, &headers)?;
                        let wanted = headers.get(header::IF_NONE_MATCH).cloned();
                        let answer = carry_out(Call { api, path, query, body, headers, app, line: None })?;
                        Ok(answer_of(&operation, wanted.as_ref(), answer))
                    })
                    .await;
                    // The node tells of its own commits only; those who listen need not wait for the next look.
                    if changes {
                        feed.touch();
                    }
                    answer
                };
                answered.await.unwrap_or_else(|error| Told(error).into_response())
            }
        };
        self.mount(&operation, on(filter(&operation.method), handler))
    }

    /// Adds an operation that is carried out without blocking.
    pub(crate) fn add_async<P, Q, B, V, F>(
        mut self,
        operation: Operation,
        carry_out: impl Fn(Call<P, Q, B>) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        P: DeserializeOwned + JsonSchema + Send + 'static,
        Q: DeserializeOwned + JsonSchema + Send + 'static,
        B: FromBody,
        V: Answered,
        F: Future<Output = Result<V, ApiError>> + Send + 'static,
    {
        self.described.answered::<P, Q, B, V>(&operation);
        let handler = move |state: State<App>,
                            caller: Extension<Local>,
                            path: Result<RawPathParams, RawPathParamsRejection>,
                            query: RawQuery,
                            headers: HeaderMap,
                            line: Option<Extension<Line>>,
                            body: Body| {
            let carry_out = carry_out.clone();
            let line = line.map(|line| line.0);
            async move {
                let answered = async {
                    let (app, api) = (state.0, caller.0);
                    let (path, query) = (path_of(&path)?, query_of(query.0.as_deref())?);
                    let read = app.budget.read(body).await?;
                    let body = if read.bytes.len() < SMALL {
                        B::read(&read.bytes, &headers)?
                    } else {
                        let headers = headers.clone();
                        blocking(move || B::read(&read.bytes, &headers)).await?
                    };
                    carry_out(Call { api, path, query, body, headers, app, line })
                        .await
                        .map(Answered::respond)
                };
                answered.await.unwrap_or_else(|error| Told(error).into_response())
            }
        };
        self.mount(&operation, on(filter(&operation.method), handler))
    }

    fn mount(mut self, operation: &Operation, handler: MethodRouter<App>) -> Self {
        self.router = self.router.route(&format!("/api/{VERSION}{}", operation.path), handler);
        self
    }

    /// The document of all that was added.
    pub(crate) fn document(self) -> Value {
        self.described.finish()
    }
}

/// An answer of an operation that is carried out without blocking.
pub(crate) trait Answered: Send + 'static {
    /// The media type and schema of its body.
    fn describe(generator: &mut schemars::SchemaGenerator) -> (&'static str, Value);

    fn respond(self) -> Response<Body>;
}

impl<T: Serialize + JsonSchema + Send + 'static> Answered for Plain<T> {
    fn describe(generator: &mut schemars::SchemaGenerator) -> (&'static str, Value) {
        ("application/json", generator.subschema_for::<T>().to_value())
    }

    fn respond(self) -> Response<Body> {
        json(StatusCode::OK, &self.0)
    }
}

/// Bodies below this are understood at once.
const SMALL: usize = 16 << 10;

/// Requests that are carried out at a time; others wait. There are far fewer readers of the store: more at a time would
/// hold more and not be answered sooner.
static PLACES: Semaphore = Semaphore::const_new(64);

/// Pages beyond this are large: one of ten thousand takes tens of megabytes and of milliseconds.
const LARGE_PAGE: u32 = 1000;

/// Large pages that are made at a time. They wait among themselves: a crowd of them is not to fill the places of those
/// who ask for little.
static LARGE_PAGES: Semaphore = Semaphore::const_new(4);

fn asks_for_large_page(query: Option<&str>) -> bool {
    let pairs: Vec<(String, String)> =
        query.and_then(|q| serde_urlencoded::from_str(q).ok()).unwrap_or_default();
    pairs.iter().any(|(name, value)| name == "limit" && value.parse().is_ok_and(|n: u32| n > LARGE_PAGE))
}

/// Runs a function where blocking is allowed. A panic of it is an error of this request and of no other.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let place = PLACES.acquire().await;
    let work = move || {
        // Kept to the end of the work, also when nobody waits for it any more.
        let _place = place;
        work()
    };
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        tracing::error!(%error, "a request was not carried out");
        Err(ApiError::new(
            ErrorKind::Store,
            "the request was not carried out: a defect, which the log describes",
        ))
    })
}

/// Asks again and again, from where the look before came to, until the answer is worth giving or the time is up.
/// Looks happen when something was committed, and now and then.
pub(crate) async fn held_back<T, F>(
    wait: Duration,
    feed: &Feed,
    mut from: Option<String>,
    ask: impl Fn(Option<String>) -> F,
) -> Result<T, ApiError>
where
    F: Future<Output = Result<Look<T>, ApiError>>,
{
    let until = tokio::time::Instant::now() + wait;
    loop {
        // Begins before the look: what changes during it counts as a change after it.
        let changed = feed.changed();
        let look = ask(from).await?;
        let left = until.saturating_duration_since(tokio::time::Instant::now());
        if look.is_worth || left.is_zero() {
            return Ok(look.found);
        }
        from = Some(look.next);
        let _ = tokio::time::timeout(left, changed).await;
    }
}

/// What one look found, whether that is worth an answer, and where the next begins.
pub(crate) struct Look<T> {
    pub(crate) found: T,
    pub(crate) is_worth: bool,
    pub(crate) next: String,
}

fn filter(method: &Method) -> MethodFilter {
    match *method {
        Method::POST => MethodFilter::POST,
        Method::PUT => MethodFilter::PUT,
        Method::DELETE => MethodFilter::DELETE,
        _ => MethodFilter::GET,
    }
}

/// The parameters of a query.
fn query_of<Q: DeserializeOwned>(query: Option<&str>) -> Result<Q, ApiError> {
    let query = query.unwrap_or_default();
    let wrong = |e: &dyn std::fmt::Display| ApiError::bad_input(format!("the query does not read: {e}"));
    // What is not UTF-8 would be taken for other characters than were sent.
    std::str::from_utf8(&decoded(query)).map_err(|e| wrong(&e))?;
    serde_urlencoded::from_str(query).map_err(|e| wrong(&e))
}

/// The bytes behind percent signs.
fn decoded(text: &str) -> Vec<u8> {
    let mut rest = text.as_bytes();
    let mut bytes = Vec::with_capacity(rest.len());
    while let Some((first, after)) = rest.split_first() {
        let code = after.first_chunk::<2>().filter(|_| *first == b'%');
        let code = code.and_then(|c| u8::from_str_radix(std::str::from_utf8(c).ok()?, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    bytes
}

/// The parameters of a path, as texts by name.
fn path_of<P: DeserializeOwned>(
    params: &Result<RawPathParams, RawPathParamsRejection>,
) -> Result<P, ApiError> {
    let params = params.as_ref().map_err(|e| ApiError::bad_input(format!("the path does not read: {e}")))?;
    let mut texts: Map<String, Value> = Map::new();
    for (name, text) in params {
        texts.insert(name.to_owned(), Value::String(text.to_owned()));
    }
    serde_json::from_value(Value::Object(texts)).map_err(|e| ApiError::bad_input(e.to_string()))
}

fn answer_of<A: IntoAnswer>(
    operation: &Operation,
    wanted: Option<&HeaderValue>,
    answer: A,
) -> Response<Body> {
    let (view, tag) = answer.parts();
    let Some(tag) = tag else { return json(operation.status, &view) };
    let tag = format!("\"{tag}\"");
    let is_known =
        wanted.and_then(|w| w.to_str().ok()).is_some_and(|w| w.split(',').any(|t| t.trim() == tag));
    let mut response = if is_known {
        let mut same = Response::new(Body::empty());
        *same.status_mut() = StatusCode::NOT_MODIFIED;
        same
    } else {
        json(operation.status, &view)
    };
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// An answer of JSON.
pub(crate) fn json(status: StatusCode, view: &impl Serialize) -> Response<Body> {
    match serde_json::to_vec(view) {
        Ok(body) => {
            let mut response = Response::new(Body::from(body));
            *response.status_mut() = status;
            let kind = HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        Err(error) => {
            let message = format!("the answer cannot be written: {error}");
            Told(ApiError::new(ErrorKind::Store, message)).into_response()
        }
    }
}

//! Whether the server lives, whether it takes work, and its metrics.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    Extension, Router,
    body::Body,
    extract::State,
    http::{HeaderValue, Response, StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use ostler_api::{Api, ApiError, ErrorKind};
use ostler_embedded::Local;

use crate::{
    App,
    operation::{blocking, json},
    problem::{Told, problem},
};

/// How long the store may take to answer before it counts as stopped.
const STORE_TIME: std::time::Duration = std::time::Duration::from_secs(2);

/// Whether work is taken, as the process that runs the node knows it.
#[derive(Clone, Default)]
pub struct Readiness {
    started: Arc<AtomicBool>,
    stopping: Arc<Mutex<Option<String>>>,
}

impl Readiness {
    /// The node is at work.
    pub fn started(&self) {
        self.started.store(true, Ordering::Release);
    }

    /// The node takes nothing more, and why.
    pub fn stopping(&self, why: &str) {
        *self.stopping.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.to_owned());
    }

    /// Why no work is taken, if none is.
    pub fn reason(&self) -> Option<String> {
        if let Some(why) = &*self.stopping.lock().unwrap_or_else(PoisonError::into_inner) {
            return Some(why.clone());
        }
        (!self.started.load(Ordering::Acquire)).then(|| "the node has not started yet".to_owned())
    }
}

pub(crate) fn routes() -> Router<App> {
    Router::new().route("/healthz", get(lives)).route("/readyz", get(ready)).route("/metrics", get(metrics))
}

async fn lives() -> Response<Body> {
    json(StatusCode::OK, &serde_json::json!({ "ok": true }))
}

async fn ready(State(app): State<App>) -> Response<Body> {
    match why_not(&app).await {
        None => json(StatusCode::OK, &serde_json::json!({ "ok": true })),
        Some(reason) => {
            let error = ApiError::new(ErrorKind::Store, reason);
            problem(StatusCode::SERVICE_UNAVAILABLE, &error)
        }
    }
}

/// Why no work is taken, if none is.
async fn why_not(app: &App) -> Option<String> {
    if let Some(reason) = app.readiness.reason() {
        return Some(reason);
    }
    let service = app.local.service().clone();
    let asked = blocking(move || Ok(service.check_store()?));
    match tokio::time::timeout(STORE_TIME, asked).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(format!("the store cannot be used: {error}")),
        Err(_) => Some(format!("the store has not answered for {} s", STORE_TIME.as_secs())),
    }
}

async fn metrics(State(app): State<App>, Extension(local): Extension<Local>) -> Response<Body> {
    let ready = why_not(&app).await.is_none();
    let text = blocking(move || {
        // Whoever may not look at the store may not look at its numbers.
        local.stats()?;
        Ok(app.metrics.text(local.service(), app.feed.followers(), ready))
    });
    match text.await {
        Ok(text) => {
            let mut response = Response::new(Body::from(text));
            let kind = HeaderValue::from_static("text/plain; version=0.0.4");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        Err(error) => Told(error).into_response(),
    }
}

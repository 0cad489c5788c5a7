//! `/mcp`: the same as `/api/v1` for agents (Model Context Protocol, streamable HTTP without sessions).

use std::sync::Arc;

use axum::{
    Extension, Router,
    body::Body,
    extract::{Request, State},
    http::Response,
    response::IntoResponse,
    routing::post,
};
use ostler_api::{ApiError, ErrorKind};
use ostler_embedded::Local;
use ostler_mcp::{Changes, Mcp};
use tokio::sync::Semaphore;

use crate::{App, problem::Told};

/// Calls that are answered at a time. Many of them wait for a run, and each keeps its answer until it is sent.
const CALLS: usize = 512;

/// What agents may do, and how many of their calls are answered.
pub(crate) struct Agents {
    changes: Changes,
    calls: Semaphore,
}

impl Agents {
    pub(crate) fn new(may_change: bool) -> Self {
        let changes = match may_change {
            true => Changes::Allowed,
            false => Changes::refused("whoever runs the server allows it with `ostler serve --mcp-changes`"),
        };
        Self { changes, calls: Semaphore::new(CALLS) }
    }
}

pub(crate) fn routes() -> Router<App> {
    Router::new().route("/mcp", post(call))
}

async fn call(
    State(app): State<App>,
    Extension(caller): Extension<Local>,
    request: Request,
) -> Response<Body> {
    let Ok(_call) = app.agents.calls.try_acquire() else {
        let mut error = ApiError::new(ErrorKind::Busy, format!("{CALLS} calls are being answered"));
        error.retry_after = Some(1);
        return Told(error).into_response();
    };
    let (head, body) = request.into_parts();
    let read = match app.budget.read(body).await {
        Ok(read) => read,
        Err(error) => return Told(error).into_response(),
    };
    // A caller who only looks is nobody who may do more, whatever a tool should ask for.
    let caller = match app.agents.changes {
        Changes::Allowed => caller,
        Changes::Refused { .. } => caller.as_actor(caller.actor().read_only()),
    };
    let mcp = Mcp::new(Arc::new(caller), app.agents.changes.clone());
    ostler_mcp::answer(mcp, head, read.bytes.clone()).await
}

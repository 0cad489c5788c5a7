//! Streamable HTTP without sessions: each request brings its own permissions, and nothing is kept between two.

use std::sync::Arc;

use axum::{
    body::{Body, Bytes},
    http::{Request, Response, request::Parts},
};
use http_body_util::Full;
use rmcp::transport::streamable_http_server::{
    StreamableHttpServerConfig, StreamableHttpService, session::never::NeverSessionManager,
};

use crate::Mcp;

/// Answers one request of a client: a `POST` with one message. Who may ask, and as what this server may be asked for
/// (`Host`, `Origin`), is decided before.
pub async fn answer(mcp: Mcp, head: Parts, body: Bytes) -> Response<Body> {
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .disable_allowed_hosts();
    let sessions = Arc::new(NeverSessionManager::default());
    // Made for this request, since it answers as whoever asks: it costs a few allocations.
    let service = StreamableHttpService::new(move || Ok(mcp.clone()), sessions, config);
    service.handle(Request::from_parts(head, Full::new(body))).await.map(Body::new)
}

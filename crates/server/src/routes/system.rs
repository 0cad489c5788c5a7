//! The system itself.

use std::sync::LazyLock;

use axum::{
    body::Body,
    http::{HeaderValue, Response, header},
};
use bytes::Bytes;
use ostler_api::{
    Api, ApiError, ListPage, NamespaceView, PruneReport, RetentionPolicy, ServerInfo, StatsView, Weight,
    wire::{NamespacesParams, ResolveParams, Resolved},
};
use schemars::SchemaGenerator;
use serde_json::Value;

use super::{Nothing, OneNamespace};
use crate::{
    json::Json,
    operation::{Answered, Call, Operation, Plain, Routes},
};

/// The document's text. It does not change while the server lives, and anybody may ask for it: it is made once.
static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| crate::openapi().to_string().into());

struct Document;

impl Answered for Document {
    fn describe(generator: &mut SchemaGenerator) -> (&'static str, Value) {
        ("application/json", generator.subschema_for::<Value>().to_value())
    }

    fn respond(self) -> Response<Body> {
        let mut response = Response::new(Body::from(DOCUMENT.clone()));
        let kind = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }
}

pub(crate) fn add(routes: Routes) -> Routes {
    routes
        .add(
            Operation::get("", "info", "What answers, and as whom it knows the caller"),
            |call: Call<Nothing, Nothing, ()>| Ok(Plain::<ServerInfo>(call.api.info()?)),
        )
        .add_async(
            Operation::get("/openapi.json", "openapi", "This document"),
            |_: Call<Nothing, Nothing, ()>| async { Ok(Document) },
        )
        .add(
            Operation::get("/stats", "stats", "Numbers about the store"),
            |call: Call<Nothing, Nothing, ()>| Ok(Plain::<StatsView>(call.api.stats()?)),
        )
        .add(
            Operation::get("/nodes", "nodes", "Processes that use the store or did lately"),
            |call: Call<Nothing, Nothing, ()>| Ok(Plain(call.api.nodes()?)),
        )
        .add(
            Operation::post("/prune", "prune", "Take one bounded batch of what is beyond a policy"),
            |call: Call<Nothing, Nothing, Json<RetentionPolicy>>| {
                Ok(Plain::<PruneReport>(call.api.prune(&call.body.0)?))
            },
        )
        .add(
            Operation::get("/resolve", "resolve", "What a name as people spell it stands for"),
            |call: Call<Nothing, ResolveParams, ()>| match (call.query.namespace, call.query.task) {
                (Some(text), None) => {
                    Ok(Plain(Resolved { namespace: call.api.resolve_namespace(&text)?, task: None }))
                }
                (None, Some(text)) => {
                    let task = call.api.resolve_task(&text)?;
                    Ok(Plain(Resolved { namespace: task.namespace, task: Some(task.task) }))
                }
                _ => Err(ApiError::bad_input("say `namespace` or `task`, one of them")),
            },
        )
        .add(
            Operation::get("/namespaces", "namespaces", "Namespaces"),
            |call: Call<Nothing, NamespacesParams, ()>| {
                Ok(Plain::<ListPage<NamespaceView>>(call.api.namespaces(&call.query.page())?))
            },
        )
        .add(
            Operation::post(
                "/namespaces/{namespace}/pause",
                "pause_namespace",
                "Hold back all of a namespace",
            ),
            |call: Call<OneNamespace, Nothing, ()>| {
                Ok(Plain(call.api.hold_namespace(&call.path.namespace, true)?))
            },
        )
        .add(
            Operation::post("/namespaces/{namespace}/resume", "resume_namespace", "Let a namespace go"),
            |call: Call<OneNamespace, Nothing, ()>| {
                Ok(Plain(call.api.hold_namespace(&call.path.namespace, false)?))
            },
        )
        .add(
            Operation::post(
                "/namespaces/{namespace}/weight",
                "weigh_namespace",
                "Give a namespace its part of the work beside others that wait",
            ),
            |call: Call<OneNamespace, Nothing, Json<Weight>>| {
                Ok(Plain(call.api.weigh_namespace(&call.path.namespace, call.body.0)?))
            },
        )
}

//! Sinks.

use ostler_api::{Api, ListPage, SinkReset, SinkView, wire::DefinitionsParams};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Nothing;
use crate::{
    json::Json,
    operation::{Call, Operation, Plain, Routes},
};

/// The parameters of a path that names a sink.
#[derive(Deserialize, JsonSchema)]
struct OneSink {
    /// The namespace.
    namespace: String,
    /// The sink.
    sink: String,
}

pub(crate) fn add(routes: Routes) -> Routes {
    routes
        .add(
            Operation::get("/sinks", "sinks", "Sinks: what carries events out, and how far it is"),
            |call: Call<Nothing, DefinitionsParams, ()>| {
                let page = call.query.page();
                Ok(Plain::<ListPage<SinkView>>(call.api.sinks(call.query.namespace.as_deref(), &page)?))
            },
        )
        .add(
            Operation::post("/sinks/{namespace}/{sink}/pause", "pause_sink", "Hold back a sink"),
            |call: Call<OneSink, Nothing, ()>| {
                Ok(Plain::<SinkView>(call.api.hold_sink(&call.path.namespace, &call.path.sink, true)?))
            },
        )
        .add(
            Operation::post("/sinks/{namespace}/{sink}/resume", "resume_sink", "Let a sink go"),
            |call: Call<OneSink, Nothing, ()>| {
                Ok(Plain::<SinkView>(call.api.hold_sink(&call.path.namespace, &call.path.sink, false)?))
            },
        )
        .add(
            Operation::post("/sinks/{namespace}/{sink}/reset", "reset_sink", "Say where a sink is to go on"),
            |call: Call<OneSink, Nothing, Json<SinkReset>>| {
                let OneSink { namespace, sink } = &call.path;
                Ok(Plain::<SinkView>(call.api.reset_sink(namespace, sink, &call.body.0)?))
            },
        )
}

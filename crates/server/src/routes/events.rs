//! Events: pages, and the stream.

use std::time::Duration;

use ostler_api::{
    Api, EventsPage,
    wire::{Count, EventsParams, Seconds},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Nothing;
use crate::{
    operation::{Call, Look, Operation, Plain, Routes, blocking, held_back},
    stream,
};

/// Where a stream begins.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct StreamParams {
    /// Go on after this cursor; `Last-Event-ID` goes before it. From now on when nothing is said.
    #[serde(default)]
    after: Option<String>,
}

pub(crate) fn add(routes: Routes) -> Routes {
    routes
        .add_async(
            Operation::get("/events", "events", "Events after a cursor, in order"),
            |call: Call<Nothing, EventsParams, ()>| async move {
                let wait = Duration::from_secs(u64::from(call.query.wait.map_or(0, Seconds::get)));
                let limit = call.query.limit.map_or(50, Count::get);
                let page = held_back(wait, &call.app.feed, call.query.after, |after| {
                    let api = call.api.clone();
                    blocking(move || {
                        let found = api.events(after.as_deref(), limit, Duration::ZERO)?;
                        Ok(Look { is_worth: !found.items.is_empty(), next: found.next.clone(), found })
                    })
                });
                Ok(Plain::<EventsPage>(page.await?))
            },
        )
        .add_async(
            Operation::get(
                "/events/stream",
                "follow_events",
                "Events as they come; resumed with `Last-Event-ID`",
            ),
            |call: Call<Nothing, StreamParams, ()>| async move {
                let after = stream::last_event_id(&call.headers)?.or(call.query.after);
                stream::events(&call.app, call.api, after).await
            },
        )
}

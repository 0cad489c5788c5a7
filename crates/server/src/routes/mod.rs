//! The routes of `/api/v1`, by subject.

mod definitions;
mod events;
mod runs;
mod schedules;
mod sinks;
mod system;
mod tasks;
mod tokens;
mod triggers;
mod workers;

use ostler_model::Uid;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::operation::Routes;

/// All of them.
pub(crate) fn all() -> Routes {
    let routes = Routes::new();
    let routes = system::add(routes);
    let routes = definitions::add(routes);
    let routes = tasks::add(routes);
    let routes = schedules::add(routes);
    let routes = triggers::add(routes);
    let routes = sinks::add(routes);
    let routes = runs::add(routes);
    let routes = events::add(routes);
    let routes = tokens::add(routes);
    workers::add(routes)
}

/// A path without parameters, or a query without any.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct Nothing {}

/// The parameters of a path that names a run.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct OneRun {
    /// The run.
    pub(crate) id: Uid,
}

/// The parameters of a path that names a namespace.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct OneNamespace {
    /// The namespace.
    pub(crate) namespace: String,
}

/// The parameters of a path that names a task.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct OneTask {
    /// The namespace.
    pub(crate) namespace: String,
    /// The task.
    pub(crate) task: String,
}

impl OneTask {
    pub(crate) fn task(&self) -> ostler_api::TaskRef {
        ostler_api::TaskRef::new(&*self.namespace, &*self.task)
    }
}

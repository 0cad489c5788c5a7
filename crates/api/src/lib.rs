//! What faces of Ostler ask for and show: requests, views, errors, and [`Api`], the one interface to all of it.
//!
//! Plain data with public ids and RFC 3339 moments, the same on the command line, over HTTP and for agents. The service
//! implements [`Api`] on a store, the client implements it over HTTP, and faces that take an `Api` cannot tell which
//! they have.
//!
//! ```
//! use ostler_api::{ApiError, ErrorKind};
//! let error = ApiError::new(ErrorKind::NotFound, "there is no task `pull`").hint("ostler tasks list");
//! assert_eq!(error.kind.status(), 404);
//! assert_eq!(serde_json::to_value(error.problem(None)).unwrap()["kind"], "not_found");
//! ```

// `paged!` names a function in a text, where `$crate` means nothing.
extern crate self as ostler_api;

pub mod bodies;
mod definitions;
mod error;
mod events;
mod interface;
mod logs;
mod page;
mod runs;
mod schedules;
mod sinks;
mod sort;
mod system;
mod tokens;
mod triggers;
pub mod wire;
pub mod workers;

pub use definitions::{
    Change, DefinitionsAt, Diff, FieldChange, Held, NamespaceView, PresetView, PushReport, ScheduleCounts,
    TaskRef, TaskView, Weight,
};
pub use error::{ApiError, ErrorDetail, ErrorKind, Problem};
pub use events::{EventView, EventsPage};
pub use interface::Api;
pub use logs::{LogLine, LogPage, LogRequest, LogStream};
pub use page::{ListPage, PageRequest};
pub use runs::{
    BulkFilter, CancelReport, Explanation, RerunRequest, RetryReport, RunQuery, RunView, StartRequest,
    Started, StepView, TransitionView,
};
pub use schedules::{FiringView, FiringsPage, ScheduleView};
pub use sinks::{SinkRemark, SinkReset, SinkState, SinkView};
pub use sort::{
    DefinitionsBy, NamespacesBy, RunsBy, SchedulesBy, Sort, SortError, SortKey, TokensBy, TriggersBy,
};
pub use system::{NodeView, PruneReport, RetentionPolicy, ServerInfo, StatsView};
pub use tokens::{CreatedToken, NewToken, Permission, Scope, ScopeError, TokenView};
pub use triggers::{Accepted, Answered, FireRequest, ListeningView, SignalRequest, TriggerView, Verdict};

/// The version of the HTTP interface, as it stands in its paths.
pub const VERSION: &str = "v1";

/// The most starts in one request.
pub const MAX_STARTS: usize = 100_000;

//! The face of Ostler for agents: an MCP server (Model Context Protocol) over anything that answers as an
//! [`Api`](ostler_api::Api), on standard input and output or one HTTP request at a time.
//!
//! Tools look at tasks, runs, their lines, schedules and triggers, and, only where [`Changes::Allowed`] says so, start,
//! end, repeat and answer runs. Whoever made the `Api` has said as whom it asks: nothing here decides about permissions,
//! and what is denied comes back as the tool's error. Nothing is kept between two calls, every answer has a bound, and a
//! wait takes no thread.
//!
//! `tool.rs` lists the tools; `look.rs` and `change.rs` carry them out; rmcp is known to `tool.rs`, `told.rs`, `server.rs`
//! and the two transports only.
//!
//! ```
//! use ostler_mcp::{Changes, tools};
//! let names = |changes: Changes| tools(changes).iter().map(|t| t.name.to_string()).collect::<Vec<_>>();
//! assert!(!names(Changes::refused("start it again with changes")).contains(&"run_task".to_owned()));
//! assert!(names(Changes::Allowed).contains(&"run_task".to_owned()));
//! ```

mod arguments;
mod change;
mod http;
mod look;
mod server;
mod stdio;
mod told;
mod tool;

use std::sync::Arc;

use ostler_api::Api;

pub use self::{
    http::answer,
    stdio::{McpError, serve},
    tool::tools,
};

/// Whether tools may change anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changes {
    /// They may, as far as the caller may.
    Allowed,
    /// They only look.
    Refused {
        /// How to allow it, for whoever calls one that changes.
        hint: Arc<str>,
    },
}

impl Changes {
    /// Tools only look; `hint` says how to allow more.
    #[must_use]
    pub fn refused(hint: &str) -> Self {
        Self::Refused { hint: hint.into() }
    }
}

/// An MCP server for one caller.
#[derive(Clone)]
pub struct Mcp {
    api: Arc<dyn Api>,
    changes: Changes,
}

impl Mcp {
    /// A server that answers as the actor of `api`.
    #[must_use]
    pub fn new(api: Arc<dyn Api>, changes: Changes) -> Self {
        Self { api, changes }
    }
}

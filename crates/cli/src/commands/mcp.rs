//! `ostler mcp`.

use std::{sync::Arc, time::Duration};

use clap::Args;
use ostler_api::Api;
use ostler_mcp::Changes;
use tokio::signal::unix::{SignalKind, signal};

use super::Global;
use crate::{
    context,
    error::{CliError, STORE, USAGE},
};

/// How long what is being asked may take to end when the client has gone.
const PATIENCE: Duration = Duration::from_millis(500);

const EXAMPLES: &str = "\
It looks only, unless --allow-changes stands there; on a server, the token's scopes decide as well. Runs are queued
and belong to whoever serves the store (`ostler serve`); they go on when the client ends.

Examples:
  ostler mcp                                          looks at the store of this machine
  ostler mcp --allow-changes                          may also start, cancel, retry and answer runs
  ostler mcp --server https://ostler.example --allow-changes

In the configuration of a client:
  {
    \"mcpServers\": {
      \"ostler\": { \"command\": \"ostler\", \"args\": [\"mcp\", \"--store\", \"/path/to/ostler.db\"] }
    }
  }

A server with `ostler serve --listen` answers clients that speak HTTP at /mcp.";

/// Answer an agent on standard input and output (Model Context Protocol)
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Mcp {
    /// Let the agent start, cancel, retry and answer runs
    #[arg(long)]
    allow_changes: bool,
}

impl Mcp {
    pub fn run(self, global: &Global) -> Result<u8, CliError> {
        let actor = context::actor();
        let (actor, changes) = match self.allow_changes {
            true => (actor, Changes::Allowed),
            false => {
                let hint = "whoever configured this server allows it with `ostler mcp --allow-changes`";
                (actor.read_only(), Changes::refused(hint))
            }
        };
        // Made before the runtime and therefore dropped after it: a client of a server has a runtime of its own, which
        // must not end inside another.
        let api: Arc<dyn Api> = context::api_as(global, actor)?.into();
        let runtime = context::runtime()?;
        let ended = runtime.block_on(async {
            let trouble =
                |e: std::io::Error| CliError::new(STORE, "process", format!("signals cannot be heard: {e}"));
            let mut terminated = signal(SignalKind::terminate()).map_err(trouble)?;
            tokio::select! {
                served = ostler_mcp::serve(ostler_mcp::Mcp::new(api.clone(), changes)) => {
                    served.map_err(|e| CliError::new(USAGE, "bad_input", e.to_string()))
                }
                _ = tokio::signal::ctrl_c() => Ok(()),
                _ = terminated.recv() => Ok(()),
            }
        });
        // A thread that reads standard input cannot be called off.
        runtime.shutdown_timeout(PATIENCE);
        ended.map(|()| 0)
    }
}

//! Standard input and output.

use rmcp::{
    ServiceExt,
    service::{QuitReason, ServerInitializeError},
    transport::stdio,
};

use crate::Mcp;

/// Why a client was not served to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum McpError {
    /// It did not begin as the protocol says.
    #[error("the client did not begin as MCP says: {0}")]
    Handshake(String),
    /// A defect.
    #[error("the server ended badly: {0}")]
    Defect(String),
}

/// Serves the client on standard input and output until it closes them.
///
/// # Errors
/// See [`McpError`].
pub async fn serve(mcp: Mcp) -> Result<(), McpError> {
    let running = match mcp.serve(stdio()).await {
        Ok(running) => running,
        // A client that leaves before it has said anything is no error.
        Err(ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
        Err(error) => {
            let text: String = error.to_string().chars().take(500).collect();
            return Err(McpError::Handshake(text));
        }
    };
    match running.waiting().await {
        Ok(QuitReason::Closed | QuitReason::Cancelled) => Ok(()),
        Ok(other) => Err(McpError::Defect(format!("{other:?}"))),
        Err(error) => Err(McpError::Defect(error.to_string())),
    }
}

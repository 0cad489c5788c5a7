//! The protocol: what the server says of itself, and calls of tools.

use ostler_api::{ApiError, ErrorKind};
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, Implementation, ListToolsResult,
        PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool,
    },
    service::RequestContext,
};

use crate::{
    Changes, Mcp,
    told::refusal,
    tool::{Caller, ENTRIES, tools},
};

const INSTRUCTIONS: &str = "Ostler runs tasks, on schedules, on events and by hand, and keeps the record. A task is \
named `namespace:task`. Each run has an id; a run of several steps is a flow, and its steps are runs with ids of their \
own. Begin with list_runs or list_tasks; explain says why a run is as it is, tail what it wrote.";

const READ_ONLY: &str = " Here tools only look: nothing can be started, ended or answered.";

impl ServerHandler for Mcp {
    fn get_info(&self) -> ServerConfig {
        let mut instructions = INSTRUCTIONS.to_owned();
        if self.changes != Changes::Allowed {
            instructions.push_str(READ_ONLY);
        }
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("ostler", env!("CARGO_PKG_VERSION")))
            .with_instructions(instructions)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(tools(self.changes.clone())))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        ENTRIES.iter().find(|e| e.tool.name == name).map(|e| e.tool.clone())
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let Some(entry) = ENTRIES.iter().find(|e| e.tool.name == request.name) else {
            let shown: String = request.name.chars().take(100).collect();
            return Err(ErrorData::invalid_params(format!("there is no tool `{shown}`"), None));
        };
        if let Changes::Refused { hint } = &self.changes
            && entry.changes
        {
            let message = format!("`{}` changes something, and this server is read-only", request.name);
            return Ok(refusal(&ApiError::new(ErrorKind::Denied, message).hint(&**hint)).into());
        }
        let called = entry.call(Caller(self.api.clone()), request.arguments.unwrap_or_default());
        // Whoever has gone away, or has called off the call, is not waited for. What was asked for is done all the same.
        let told = tokio::select! {
            told = called => told,
            () = context.ct.cancelled() => Err(ApiError::new(ErrorKind::Gone, "the call was called off")),
        };
        Ok(told.map_or_else(|error| refusal(&error), CallToolResult::from).into())
    }
}

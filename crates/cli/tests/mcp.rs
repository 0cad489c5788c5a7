//! Agents: a real MCP client with the real binary, on standard input and output and over HTTP.
#![allow(clippy::unwrap_used, reason = "a test fails where a value is missing")]

mod support;

use std::{
    io::{BufRead, BufReader, Write},
    process::Stdio,
    time::Duration,
};

use rmcp::{
    RoleClient, ServiceExt,
    model::CallToolRequestParams,
    service::{ClientInitializeError, RunningService},
    transport::{
        StreamableHttpClientTransport, TokioChildProcess,
        streamable_http_client::StreamableHttpClientTransportConfig,
    },
};
use serde_json::{Value, json};
use support::{Server, Shop};
use tokio::runtime::Runtime;

const FILE: &str = "
meta: { type: ostler-timetable, version: 1, namespace: demo }
tasks:
  - meta: { id: greet, name: Greets }
    inputs: { name: { type: string, default: world } }
    run: 'echo \"hello, $INPUT_NAME\"'
    on: { schedule: { every: 1h } }
  - meta: { id: fails }
    run: 'echo no >&2; exit 3'
  - meta: { id: sleeps }
    run: 'echo asleep; sleep 60'
  - meta: { id: told }
    on: { run: { task: fails, states: [failed] } }
    run: date
  - meta: { id: release }
    steps:
      - { id: ok, uses: wait, with: { approval: Release it? } }
      - { id: ship, run: 'echo shipped' }
  - meta: { id: writes }
    run: 'echo first; while [ ! -e GATE ]; do sleep 0.05; done; seq -f \"line %.0f of many that are long enough to fill an answer, and then some more of it\" 2000'
";

const LOOKING: [&str; 8] = [
    "list_tasks",
    "show_task",
    "list_runs",
    "show_run",
    "explain",
    "tail",
    "list_schedules",
    "list_triggers",
];
const CHANGING: [&str; 4] = ["run_task", "cancel_runs", "retry_run", "answer"];

/// A client with a server of its own.
struct Agent {
    client: RunningService<RoleClient, ()>,
    runtime: Runtime,
}

/// What a tool answered.
#[derive(Debug)]
struct Said {
    text: String,
    views: Value,
    is_error: bool,
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

impl Agent {
    /// As a client starts a server on its machine.
    fn stdio(shop: &Shop, args: &[&str]) -> Self {
        let runtime = runtime();
        let client = runtime.block_on(async {
            let command = tokio::process::Command::from(shop.command(&[&["mcp"], args].concat()));
            ().serve(TokioChildProcess::new(command).unwrap()).await.unwrap()
        });
        Self { client, runtime }
    }

    fn try_http(server: &Server, token: Option<&str>) -> Result<Self, Box<ClientInitializeError>> {
        let runtime = runtime();
        let client = runtime.block_on(async {
            let mut config = StreamableHttpClientTransportConfig::with_uri(format!("{}/mcp", server.url));
            config.auth_header = token.map(str::to_owned);
            let http = ostler_client::plain(Duration::from_secs(60)).unwrap();
            ().serve(StreamableHttpClientTransport::with_client(http, config)).await
        });
        Ok(Self { client: client.map_err(Box::new)?, runtime })
    }

    fn http(server: &Server, token: Option<&str>) -> Self {
        Self::try_http(server, token).unwrap_or_else(|e| panic!("{e}"))
    }

    fn tools(&self) -> Vec<String> {
        let tools = self.runtime.block_on(self.client.list_all_tools()).unwrap();
        tools.iter().map(|t| t.name.to_string()).collect()
    }

    fn call(&self, tool: &'static str, arguments: Value) -> Said {
        let params = CallToolRequestParams::new(tool).with_arguments(arguments.as_object().unwrap().clone());
        let result = self.runtime.block_on(self.client.call_tool(params)).unwrap();
        Said {
            text: result.content.iter().filter_map(|c| c.as_text()).map(|t| t.text.as_str()).collect(),
            views: result.structured_content.unwrap(),
            is_error: result.is_error == Some(true),
        }
    }

    /// Calls a tool that must do what it is asked.
    fn done(&self, tool: &'static str, arguments: Value) -> Said {
        let said = self.call(tool, arguments);
        assert!(!said.is_error, "{tool}: {said:?}");
        said
    }

    /// Calls a tool that must refuse.
    fn refused(&self, tool: &'static str, arguments: Value) -> Said {
        let said = self.call(tool, arguments);
        assert!(said.is_error, "{tool}: {said:?}");
        said
    }

    /// Starts a task and waits for its end.
    fn ran(&self, task: &str) -> Said {
        self.done("run_task", json!({ "task": task, "wait_seconds": 50 }))
    }

    /// Starts a task and gives the id of its run.
    fn started(&self, task: &str) -> String {
        let said = self.done("run_task", json!({ "task": task }));
        said.views["run"]["id"].as_str().unwrap().to_owned()
    }
}

fn served(args: &[&str]) -> (Shop, Server) {
    let shop = Shop::new();
    shop.write("demo.yaml", &FILE.replace("GATE", &shop.path().join("gate").to_string_lossy()));
    let server = shop.serve(&[&["demo.yaml"], args].concat());
    (shop, server)
}

fn all_tools() -> Vec<&'static str> {
    [&LOOKING[..], &CHANGING[..]].concat()
}

#[test]
fn an_agent_looks_at_everything_and_changes_nothing_unless_it_is_allowed_to() {
    let (shop, server) = served(&[]);
    let done = Agent::stdio(&shop, &["--allow-changes"]).ran("fails");
    let id = done.views["run"]["id"].as_str().unwrap();

    let agent = Agent::stdio(&shop, &[]);
    assert_eq!(agent.tools(), LOOKING);
    let info = agent.client.peer_info().unwrap();
    assert!(info.instructions.as_ref().unwrap().contains("only look"), "{info:?}");

    let said = agent.done("list_tasks", json!({ "namespace": "demo" }));
    assert!(said.text.contains("demo:greet enabled"), "{}", said.text);
    assert_eq!(said.views["items"][1]["name"], "Greets");
    let said = agent.done("show_task", json!({ "task": "greet" }));
    assert!(said.text.contains("inputs: name"), "{}", said.text);
    assert_eq!(said.views["definition"]["inputs"]["properties"]["name"]["default"], "world");

    let said = agent.done("list_runs", json!({ "task": "fails", "states": ["failed"], "since": "1h" }));
    assert_eq!((&said.views["items"][0]["id"], &said.views["complete"]), (&json!(id), &json!(true)));
    assert!(said.text.contains(&format!("{id} demo:fails is failed")), "{}", said.text);
    let said = agent.done("show_run", json!({ "id": id }));
    assert_eq!(said.views["exit_code"], 3);
    let ordered = |sort| agent.done("list_runs", json!({ "sort": sort, "limit": 2 })).views["items"].clone();
    assert!(ordered("created")[0]["id"].as_str() <= ordered("-created")[0]["id"].as_str());
    let names = agent.done("list_tasks", json!({ "sort": "-name", "limit": 2 })).views;
    assert!(names["items"][0]["id"].as_str() > names["items"][1]["id"].as_str(), "{names}");
    let said = agent.refused("list_tasks", json!({ "sort": "name", "after": names["next"] }));
    assert!(said.text.contains("sorted by `-name`"), "{}", said.text);
    let said = agent.refused("list_schedules", json!({ "sort": "due" }));
    assert!(said.text.contains("`due` is not an order of this list"), "{}", said.text);
    let said = agent.done("explain", json!({ "id": id }));
    assert!(said.text.starts_with("run of demo:fails is failed"), "{}", said.text);
    let said = agent.done("tail", json!({ "id": id, "lines": 5 }));
    assert!(said.text.starts_with("no\n"), "{}", said.text);
    assert_eq!(
        (&said.views["items"][0]["stream"], &said.views["complete"]),
        (&json!("stderr"), &json!(true))
    );

    let said = agent.done("list_schedules", json!({ "task": "demo:greet" }));
    let schedule = &said.views["items"][0]["id"];
    assert!(agent.done("explain", json!({ "id": schedule })).text.contains("schedule"));
    let said = agent.done("list_triggers", json!({}));
    assert_eq!(said.views["items"][0]["task"], "told");

    let said = agent.refused("run_task", json!({ "task": "greet" }));
    assert!(said.text.contains("`ostler mcp --allow-changes`"), "{}", said.text);
    assert_eq!(said.views["kind"], "denied");
    let said = agent.refused("show_task", json!({ "task": "gret" }));
    assert!(said.text.contains("gret"), "{}", said.text);
    assert_eq!(said.views["kind"], "not_found");
    let said = agent.refused("tail", json!({ "id": id, "lines": 501 }));
    assert!(said.text.contains("between 1 and 500"), "{}", said.text);
    let said = agent.refused("list_runs", json!({ "status": "failed" }));
    assert!(said.text.contains("status"), "{}", said.text);
    let unknown = CallToolRequestParams::new("drop_store");
    assert!(agent.runtime.block_on(agent.client.call_tool(unknown)).is_err());
    assert_eq!(server.end(), 0);
}

#[test]
fn an_agent_that_is_allowed_to_runs_cancels_approves_and_retries() {
    let (shop, server) = served(&[]);
    let agent = Agent::stdio(&shop, &["--allow-changes"]);
    assert_eq!(agent.tools(), all_tools());

    let once =
        json!({ "task": "greet", "inputs": { "name": "Wien" }, "idempotency_key": "k", "wait_seconds": 50 });
    let said = agent.done("run_task", once.clone());
    assert_eq!(said.views["run"]["state"], "succeeded");
    assert!(said.text.ends_with("last lines:\nhello, Wien"), "{}", said.text);
    let again = agent.done("run_task", once);
    assert_eq!(
        (&again.views["start"]["outcome"], &again.views["run"]["id"]),
        (&json!("repeated"), &said.views["run"]["id"])
    );
    let said = agent.refused("run_task", json!({ "task": "greet", "inputs": { "nmae": "x" } }));
    assert!(said.text.contains("nmae"), "{}", said.text);

    let id = agent.started("sleeps");
    let said = agent.done("tail", json!({ "id": id, "wait_seconds": 30 }));
    assert!(said.text.starts_with("asleep") && said.views["complete"] == false, "{said:?}");
    let asked = agent.done("cancel_runs", json!({ "ids": [id], "reason": "a test" }));
    assert_eq!(asked.views["asked"], 1);
    let said = agent.done("tail", json!({ "id": id, "after": said.views["next"], "wait_seconds": 30 }));
    assert_eq!(said.views["complete"], true, "{said:?}");
    let run = agent.done("show_run", json!({ "id": id }));
    assert_eq!(run.views["state"], "cancelled");
    assert!(run.text.contains("a test"), "{}", run.text);

    let id = agent.started("release");
    let run = || agent.done("show_run", json!({ "id": id })).views;
    shop.wait_for("it to wait", || run()["steps"][0]["state"] == "waiting");
    // The flow may be looking at the part just then.
    let explained = || agent.done("explain", json!({ "id": id })).text;
    shop.wait_for("the question", || explained().contains("Release it?"));
    let said = agent.refused("answer", json!({ "id": id, "reply": "signal" }));
    assert!(said.text.contains("needs its name"), "{}", said.text);
    let said = agent.done("answer", json!({ "id": id, "reply": "approve", "comment": "go" }));
    assert_eq!(said.text, "approved: step ok");
    shop.wait_for("its end", || run()["state"] == "succeeded");
    let said = agent.done("tail", json!({ "id": id }));
    assert!(said.text.starts_with("ship | shipped"), "{}", said.text);

    let failed = agent.ran("fails").views["run"]["id"].clone();
    let said = agent.done("retry_run", json!({ "id": failed, "wait_seconds": 50 }));
    assert_eq!((&said.views["run"]["state"], &said.views["run"]["cause"]["of"]), (&json!("failed"), &failed));

    let remote = Agent::stdio(&shop, &["--server", &server.url, "--allow-changes"]);
    let said = remote.ran("greet");
    assert!(said.text.ends_with("hello, world"), "{}", said.text);
    let looks = Agent::stdio(&shop, &["--server", &server.url]);
    looks.refused("cancel_runs", json!({ "ids": [id] }));
    assert_eq!(server.end(), 0);
}

#[test]
fn lines_come_in_answers_that_are_bounded_and_none_is_left_out() {
    let (shop, server) = served(&[]);
    let agent = Agent::stdio(&shop, &["--allow-changes"]);
    let id = agent.started("writes");
    let mut said = agent.done("tail", json!({ "id": id, "wait_seconds": 30 }));
    assert!(said.text.starts_with("first\n"), "{}", said.text);
    shop.write("gate", "");
    let mut lines = Vec::new();
    while said.views["complete"] == false {
        let after = said.views["next"].clone();
        said = agent.done("tail", json!({ "id": id, "lines": 500, "after": after, "wait_seconds": 30 }));
        assert!(said.text.len() <= 64 << 10 && said.views.to_string().len() <= 64 << 10);
        let items = said.views["items"].as_array().unwrap();
        lines.extend(items.iter().map(|l| l["line"].as_str().unwrap().to_owned()));
    }
    assert_eq!(lines.len(), 2000);
    assert!(lines.iter().enumerate().all(|(i, l)| l.starts_with(&format!("line {} of", i + 1))));
    let said = agent.done("tail", json!({ "id": id, "lines": 500 }));
    let items = said.views["items"].as_array().unwrap();
    assert!((100..500).contains(&items.len()), "{} lines", items.len());
    assert!(items.last().unwrap()["line"].as_str().unwrap().starts_with("line 2000 of"));
    drop(server);
}

#[test]
fn a_run_that_nobody_serves_waits_and_the_agent_is_told() {
    let shop = Shop::new();
    shop.write("demo.yaml", FILE);
    assert_eq!(shop.run(&["push", "demo.yaml"]).code, 0);
    let agent = Agent::stdio(&shop, &["--allow-changes"]);
    let said = agent.done("run_task", json!({ "task": "greet", "wait_seconds": 1 }));
    assert!(said.text.contains("no `ostler serve` works on this store"), "{}", said.text);
    let id = said.views["run"]["id"].as_str().unwrap().to_owned();
    // The same agent goes on with an owner that comes later, and with the next one.
    for _ in 0..2 {
        let server = shop.serve(&[]);
        assert_eq!(agent.ran("greet").views["run"]["state"], "succeeded");
        assert_eq!(server.end(), 0);
    }
    let run = agent.done("show_run", json!({ "id": id }));
    assert_eq!(run.views["state"], "succeeded", "{}", run.text);
}

#[test]
fn over_http_an_agent_may_what_its_token_may() {
    let shop = Shop::new();
    shop.write("demo.yaml", FILE);
    let make = |name: &str, scope: &str| {
        let made = shop.json(&["tokens", "create", name, "--scope", scope]);
        made["secret"].as_str().unwrap().to_owned()
    };
    let (view, run, other) = (make("look", "view"), make("ci", "run:demo"), make("else", "run:other"));
    let server = shop.serve(&["demo.yaml", "--require-token", "--mcp-changes"]);
    assert!(Agent::try_http(&server, None).is_err());
    assert!(Agent::try_http(&server, Some("nonsense")).is_err());

    let looks = Agent::http(&server, Some(&view));
    assert_eq!(looks.tools(), all_tools());
    let said = looks.refused("run_task", json!({ "task": "demo:greet" }));
    assert!(said.text.contains("needs the scope `run`"), "{}", said.text);
    assert_eq!(looks.done("list_runs", json!({})).views["items"], json!([]));

    let runs = Agent::http(&server, Some(&run));
    let said = runs.ran("demo:greet");
    assert!(said.text.ends_with("hello, world"), "{}", said.text);
    assert_eq!(said.views["run"]["cause"]["actor"], "token:ci");
    let id = said.views["run"]["id"].clone();
    assert!(looks.done("tail", json!({ "id": id })).text.starts_with("hello, world"));
    let stranger = Agent::http(&server, Some(&other));
    for (tool, arguments) in [
        ("show_run", json!({ "id": id })),
        ("tail", json!({ "id": id })),
        ("run_task", json!({ "task": "demo:greet" })),
        ("cancel_runs", json!({ "ids": [id] })),
        ("list_runs", json!({})),
    ] {
        stranger.refused(tool, arguments);
    }
    assert_eq!(shop.run(&["tokens", "revoke", "ci"]).code, 0);
    let call = CallToolRequestParams::new("list_tasks");
    assert!(runs.runtime.block_on(runs.client.call_tool(call)).is_err(), "each request is checked");
}

#[test]
fn over_http_agents_only_look_unless_the_server_allows_more() {
    let (_shop, server) = served(&[]);
    let agent = Agent::http(&server, None);
    assert_eq!(agent.tools(), LOOKING);
    let said = agent.refused("run_task", json!({ "task": "greet" }));
    assert!(said.text.contains("`ostler serve --mcp-changes`"), "{}", said.text);

    let message = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" }).to_string();
    let ask = |more: &[(&str, &str)]| {
        let usual = [("content-type", "application/json"), ("accept", "application/json, text/event-stream")];
        server.ask("POST", "/mcp", &[&usual, more].concat(), &message)
    };
    let answer = ask(&[]);
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    assert_eq!(answer.json()["result"]["tools"].as_array().unwrap().len(), LOOKING.len());
    assert_eq!(answer.header("mcp-session-id"), "", "nothing is kept");
    assert_eq!(ask(&[("origin", "http://evil.example")]).status, 403);
    assert_eq!(ask(&[("host", "evil.example")]).status, 403);
    assert_eq!(server.get("/mcp").status, 405);
    assert_eq!(server.ask("POST", "/mcp", &[("content-type", "text/plain")], &message).status, 406);
}

#[test]
fn a_server_on_standard_output_says_nothing_else_and_ends_when_told() {
    let shop = Shop::new();
    let told = shop.run(&["mcp", "--log-level", "debug"]);
    assert_eq!((told.code, told.out.as_str()), (0, ""), "{}", told.err);

    let mut command = shop.command(&["mcp", "--log-level", "trace"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let hello = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "t", "version": "1" } } });
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "{hello}").unwrap();
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    let answer: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(answer["result"]["serverInfo"]["name"], "ostler");
    let sent = std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(sent.unwrap().success());
    assert!(child.wait().unwrap().success());
    drop(stdin);
}

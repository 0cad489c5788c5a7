//! A server as people and programs use it: the real binary, over loopback.
#![allow(clippy::unwrap_used, reason = "a test fails where a value is missing")]

mod support;

use serde_json::{Value, json};
use support::{Answer, Server, Shop};

const FILE: &str = "
meta: { type: ostler-timetable, version: 1, namespace: demo }
tasks:
  - meta: { id: greet }
    inputs: { name: { type: string, default: world } }
    run: 'echo \"hello, $INPUT_NAME\"'
  - meta: { id: fails }
    run: 'echo no >&2; exit 3'
  - meta: { id: sleeps }
    run: 'sleep 60'
  - meta: { id: beat }
    run: date
    on: { schedule: { every: 1h } }
";

/// More of everything that lists show. Nothing of it starts anything by itself.
const MORE: &str = "
meta: { type: ostler-timetable, version: 1, namespace: more }
tasks:
  - meta: { id: daily }
    inputs: { n: { type: integer, default: 1 } }
    run: date
    on:
      schedule:
        - { id: z, every: 300d }
        - { id: a, every: 200d }
        - { id: boot, cron: '@reboot' }
      silence: { task: 'demo:greet', after: 25h }
      run: 'demo:sleeps'
presets:
  - { id: y, task: daily, inputs: { n: 2 } }
  - { id: x, task: daily, inputs: { n: 3 } }
";

/// A server with the definitions above.
fn served() -> (Shop, Server) {
    support::served(FILE, &[])
}

fn started(answer: &Answer) -> String {
    assert_eq!(answer.status, 201, "{}", answer.text);
    answer.json()["id"].as_str().unwrap().to_owned()
}

fn start(server: &Server, task: &str) -> String {
    started(&server.post(&format!("/api/v1/tasks/demo/{task}/runs"), &json!({})))
}

fn ended(shop: &Shop, server: &Server, id: &str) -> Value {
    let mut run = Value::Null;
    shop.wait_for("its end", || {
        run = server.get(&format!("/api/v1/runs/{id}")).json();
        !run["finished_at"].is_null()
    });
    run
}

#[test]
fn commands_say_the_same_of_a_store_and_of_its_server() {
    let (shop, server) = served();
    let ids = ["greet", "fails"].map(|task| start(&server, task));
    ids.iter().for_each(|id| drop(ended(&shop, &server, id)));
    let id = ids[1].as_str();
    shop.write("changed.yaml", &FILE.replace("exit 3", "exit 4"));
    let commands: [&[&str]; 19] = [
        &["runs", "list"],
        &["runs", "list", "--state", "failed", "--output", "json"],
        &["runs", "list", "--task", "nothing"],
        &["runs", "show", id],
        &["runs", "show", "0193a2b4-5c6d-7e8f-9a0b-1c2d3e4f5a6b"],
        &["runs", "cancel", id],
        &["logs", id],
        &["logs", id, "--stream", "stderr", "--output", "json"],
        &["why", id],
        &["tasks", "list"],
        &["tasks", "show", "demo:greet"],
        &["tasks", "show", "gret"],
        &["namespaces", "weight", "demo", "3"],
        &["namespaces", "weight", "nowhere", "3"],
        &["namespaces", "list"],
        &["schedules", "list"],
        &["schedules", "next", "beat", "--from", "2027-01-01T00:00:00Z"],
        &["diff", "changed.yaml"],
        &["export", "demo"],
    ];
    for command in commands {
        let here = shop.run(command);
        let there = shop.run(&[command, &["--server", &server.url]].concat());
        // `--store` stands in a variable: an option goes before it.
        assert_eq!((here.code, &here.out, &here.err), (there.code, &there.out, &there.err), "{command:?}");
    }
    assert_eq!(server.end(), 0);
}

#[test]
fn a_run_on_a_server_looks_like_one_here() {
    let (shop, server) = served();
    let there = |args: &[&str]| shop.run(&[&["--server", &server.url], args].concat());
    let told = there(&["run", "demo:greet", "-i", "name=Wien"]);
    assert_eq!((told.code, told.out.as_str()), (0, "hello, Wien\n"), "{}", told.err);
    let told = there(&["run", "demo:fails"]);
    assert_eq!((told.code, told.out.as_str()), (1, ""));
    assert!(told.err.starts_with("no\n"), "{}", told.err);
    let told = there(&["run", "--", "cmd:pwd"]);
    assert_eq!((told.code, told.out.trim_end()), (0, shop.path().to_str().unwrap()), "{}", told.err);
    assert_eq!(there(&["run", "demo:greet", "-i", "nmae=x"]).code, 2);
    let told = there(&["run", "--when", "every 1s", "--", "date"]);
    assert_eq!(told.code, 2);
    assert!(told.err.contains("belongs to this machine"), "{}", told.err);
}

#[test]
fn an_edit_of_a_served_file_is_live_and_a_broken_one_changes_nothing() {
    let (shop, server) = served();
    let tasks = || {
        let page = server.get("/api/v1/tasks?namespace=demo").json();
        let items = page["items"].as_array().unwrap().clone();
        let live = items.iter().filter(|t| t["missing"] == false && t["enabled"] == true);
        live.map(|t| t["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let next = || server.get("/api/v1/schedules").json()["items"][0]["next"].clone();
    assert_eq!(tasks(), ["beat", "fails", "greet", "sleeps"]);
    shop.wait_for("the schedule", || next().is_string());
    let due = next();
    shop.write("demo.yaml", &FILE.replace("id: sleeps }", "id: naps, enabled: false }"));
    shop.wait_for("the edit", || tasks() == ["beat", "fails", "greet"]);
    assert_eq!(server.get("/api/v1/tasks/demo/sleeps").json()["missing"], true);
    assert_eq!(server.get("/api/v1/tasks/demo/naps").json()["enabled"], false);
    assert_eq!(next(), due, "a schedule that was not touched is not moved");
    shop.write("demo.yaml", "meta: { namespace: demo }\ntasks:\n  - meta: { id: greet }\n    rum: date\n");
    shop.wait_for("the complaint", || server.told().contains("demo.yaml:4:5"));
    assert!(server.told().contains("did you mean `run`"), "{}", server.told());
    assert_eq!(tasks(), ["beat", "fails", "greet"]);
    shop.write("demo.yaml", FILE);
    shop.wait_for("the repair", || tasks() == ["beat", "fails", "greet", "sleeps"]);
    std::fs::remove_file(shop.path().join("demo.yaml")).unwrap();
    shop.wait_for("the complaint", || server.told().contains("cannot be looked at"));
    assert_eq!(tasks(), ["beat", "fails", "greet", "sleeps"], "a file that vanishes takes nothing with it");
}

#[test]
fn a_file_taken_out_of_a_served_folder_takes_its_tasks_with_it() {
    let shop = Shop::new();
    let file =
        |id: &str| format!("meta: {{ namespace: demo }}\ntasks: [{{ meta: {{ id: {id} }}, run: date }}]\n");
    shop.write("defs/a.yaml", &file("a"));
    shop.write("defs/b.yaml", &file("b"));
    let server = shop.serve(&["defs"]);
    let missing = |id: &str| server.get(&format!("/api/v1/tasks/demo/{id}")).json()["missing"] == true;
    assert!(!missing("a") && !missing("b"));
    std::fs::remove_file(shop.path().join("defs/b.yaml")).unwrap();
    shop.wait_for("its task to be missing", || missing("b"));
    assert!(!missing("a"));
    shop.write("defs/c.yaml", &file("c"));
    shop.wait_for("the new one", || server.get("/api/v1/tasks/demo/c").status == 200);
}

#[test]
fn an_address_in_use_and_one_without_tokens_are_refused_before_anything_runs() {
    let (shop, server) = served();
    let other = Shop::new();
    other.write("demo.yaml", FILE);
    let address = server.url.trim_start_matches("http://");
    let told = other.run(&["serve", "demo.yaml", "--listen", address]);
    assert_eq!(told.code, 4);
    assert!(told.err.contains(&format!("the address {address} is in use")), "{}", told.err);
    assert!(!other.store().exists(), "nothing was begun");
    let told = other.run(&["serve", "demo.yaml", "--listen", "0.0.0.0:0"]);
    assert_eq!(told.code, 2);
    assert!(told.err.contains("tokens create"), "{}", told.err);
    let told = shop.run(&["serve", "demo.yaml", "--listen", "127.0.0.1:0"]);
    assert_eq!(told.code, 4);
    assert!(told.err.contains("is locked"), "{}", told.err);
    let told = other.run(&["serve", "--listen", "nonsense"]);
    assert_eq!(told.code, 2, "{}", told.err);
}

#[test]
fn tokens_say_who_asks_and_what_for() {
    let shop = Shop::new();
    shop.write("demo.yaml", FILE);
    let make = |name: &str, scope: &str, more: &[&str]| {
        let made = shop.json(&[&["tokens", "create", name, "--scope", scope], more].concat());
        made["secret"].as_str().unwrap().to_owned()
    };
    let admin = make("ops", "admin", &[]);
    let (view, run, other) =
        (make("look", "view", &[]), make("ci", "run:demo", &[]), make("else", "run:other", &[]));
    let brief = make("brief", "view", &["--expires-in", "1ms"]);
    let server = shop.serve(&["demo.yaml", "--require-token"]);
    let ask = |token: &str, method: &str, path: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        server.ask(method, path, &headers, "{}").status
    };
    let table = [
        ("GET", "/api/v1/runs", [200, 200, 403, 403]),
        ("GET", "/api/v1/runs?namespace=demo", [200, 200, 200, 403]),
        ("POST", "/api/v1/tasks/demo/greet/runs", [201, 403, 201, 403]),
        ("POST", "/api/v1/tasks/demo/greet/pause", [200, 403, 403, 403]),
        ("GET", "/api/v1/tokens", [200, 403, 403, 403]),
        ("GET", "/metrics", [200, 200, 403, 403]),
        ("GET", "/api/v1/events", [200, 200, 403, 403]),
    ];
    for (method, path, expected) in table {
        let found = [&admin, &view, &run, &other].map(|token| ask(token, method, path));
        assert_eq!(found, expected, "{method} {path}");
    }
    for (headers, words) in [
        (vec![], "no token came"),
        (vec![("authorization", "Basic eDp5".to_owned())], "`Bearer` and a token"),
        (vec![("authorization", "Bearer nonsense".to_owned())], "begin with `ost_`"),
        (vec![("authorization", format!("Bearer {}x", &admin[..20]))], "does not know the token"),
        (vec![("authorization", format!("Bearer {brief}"))], "has expired"),
    ] {
        let headers: Vec<_> = headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let answer = server.ask("GET", "/api/v1/runs", &headers, "");
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, "Bearer"));
        assert!(answer.text.contains(words), "{words}: {}", answer.text);
    }
    assert_eq!((server.get("/healthz").status, server.get("/readyz").status), (200, 200));
    assert_eq!(ask(&admin, "DELETE", "/api/v1/tokens/look"), 200);
    assert_eq!(ask(&view, "GET", "/api/v1/runs"), 401, "a revoked token ends with the next request");
    let raw = std::fs::read(shop.store()).unwrap();
    assert!(!raw.windows(20).any(|w| w == &admin.as_bytes()[..20]), "the secret is nowhere in the store");
    // The command line as the holder of a token.
    let told = shop
        .command(&["tasks", "list", "--server", &server.url, "-n", "demo"])
        .env("OSTLER_TOKEN", &run)
        .output()
        .unwrap();
    assert!(told.status.success(), "{told:?}");
    let told = shop.run(&["tasks", "list", "--server", &server.url]);
    assert_eq!(told.code, 2);
    assert!(told.err.contains("OSTLER_TOKEN"), "{}", told.err);
}

#[test]
fn profiles_name_servers_and_config_says_where_each_value_comes_from() {
    let (shop, server) = served();
    let told = shop.run(&["runs", "list", "--profile", "prod"]);
    assert_eq!(told.code, 2);
    assert!(told.err.contains("there is no profile `prod`"), "{}", told.err);
    let config = format!("profile = \"here\"\n[profiles.here]\nserver = \"{}\"\n", server.url);
    let path = shop.write("config.toml", &config);
    let with = |args: &[&str]| {
        let mut command = shop.command(args);
        support::told(command.env("OSTLER_CONFIG", &path).env_remove("OSTLER_STORE").output().unwrap())
    };
    assert_eq!(with(&["tasks", "show", "demo:greet"]).code, 0);
    let shown = with(&["config", "show", "--output", "json"]);
    let settings: Value = serde_json::from_str(&shown.out).unwrap();
    let of = |name: &str| settings.as_array().unwrap().iter().find(|s| s["name"] == name).unwrap().clone();
    assert_eq!(of("server")["value"], server.url);
    assert!(of("server")["source"].as_str().unwrap().starts_with("profile here"), "{settings}");
    let told = with(&["tasks", "list", "--profile", "nowhere"]);
    assert!(told.code == 2 && told.err.contains("it has here"), "{}", told.err);
    let told = shop.run(&["runs", "list", "--server", "http://127.0.0.1:1"]);
    assert_eq!(told.code, 5);
    assert!(told.err.contains("cannot be reached"), "{}", told.err);
    let told = shop.run(&["runs", "list", "--server", &server.url, "--store", "x.db"]);
    assert!(told.code == 2 && told.err.contains("exclude each other"), "{}", told.err);
}

#[test]
fn errors_are_problems_with_the_texts_of_the_command_line() {
    let (shop, server) = served();
    let json_type = [("content-type", "application/json")];
    let table = [
        ("GET", "/api/v1/nothing", "", 404, "there is nothing at"),
        ("PATCH", "/api/v1/runs", "", 405, "does not take PATCH"),
        ("GET", "/api/v1/runs/abc", "", 400, "is not a run id"),
        ("GET", "/api/v1/runs/0193a2b4-5c6d-7e8f-9a0b-1c2d3e4f5a6b", "", 404, "there is no run"),
        ("GET", "/api/v1/runs?limit=many", "", 400, "the query does not read"),
        ("GET", "/api/v1/runs?limit=0", "", 400, "between 1 and 10000"),
        ("GET", "/api/v1/runs?nope=1", "", 400, "unknown field `nope`"),
        ("GET", "/api/v1/runs?after=!", "", 400, "cursor"),
        ("GET", "/api/v1/tasks?after=abc", "", 400, "`abc` is not the cursor of a page"),
        ("GET", "/api/v1/events?after=zzz", "", 400, "is not an event cursor"),
        ("POST", "/api/v1/runs", "{", 400, "the body does not read"),
        (
            "POST",
            "/api/v1/runs",
            "{\"namespace\":\"demo\",\"task\":\"nope\"}",
            404,
            "there is no task `nope`",
        ),
        (
            "POST",
            "/api/v1/runs",
            "{\"namespace\":\"demo\",\"task\":\"greet\",\"inputs\":{\"name\":7}}",
            400,
            "the inputs of task `greet` are wrong",
        ),
        ("POST", "/api/v1/runs/cancel", "{}", 400, "say which runs are meant"),
        ("GET", "/api/v1/tasks/%ff/x", "", 400, "the path does not read"),
    ];
    for (method, path, body, status, words) in table {
        let answer = server.ask(method, path, &json_type, body);
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text);
        assert_eq!(answer.header("content-type"), "application/problem+json", "{method} {path}");
        let problem = answer.json();
        assert!(problem["detail"].as_str().unwrap().contains(words), "{method} {path}: {problem}");
        assert_eq!(problem["status"], status, "{path}");
        assert_eq!(problem["instance"], answer.header("x-request-id"), "{path}");
    }
    let answer = server.ask("POST", "/api/v1/runs", &[("content-type", "text/plain")], "{}");
    assert_eq!(answer.status, 415, "{}", answer.text);
    let broken = "meta: { namespace: demo }\ntasks:\n  - meta: { id: a }\n    rum: date\n";
    let answer = server.ask("PUT", "/api/v1/definitions", &[("content-type", "application/yaml")], broken);
    assert_eq!(answer.status, 400);
    let errors = answer.json()["errors"].as_array().unwrap().clone();
    assert!(errors.iter().any(|e| (&e["line"], &e["column"]) == (&json!(4), &json!(5))), "{errors:?}");

    assert_eq!(server.ask("GET", "/healthz", &[("x-request-id", "mine")], "").header("x-request-id"), "mine");
    // What a page of another site can make a browser send.
    let foreign = [("content-type", "application/json"), ("origin", "http://evil.example")];
    assert_eq!(server.ask("POST", "/api/v1/prune", &foreign, "{}").status, 403);
    assert_eq!(server.ask("GET", "/api/v1/runs", &[("host", "evil.example")], "").status, 403);
    drop(shop);
}

#[test]
fn keys_and_tags_keep_what_is_sent_twice_and_what_is_stale_apart() {
    let (shop, server) = served();
    let json_type = ("content-type", "application/json");
    let key = [json_type, ("idempotency-key", "k1")];
    let first = server.ask("POST", "/api/v1/tasks/demo/greet/runs", &key, "{}");
    let again = server.ask("POST", "/api/v1/tasks/demo/greet/runs", &key, "{}");
    assert_eq!(
        (first.json()["id"].clone(), &again.json()["outcome"]),
        (again.json()["id"].clone(), &json!("repeated"))
    );
    let batch = json!({ "runs": [{ "namespace": "demo", "task": "greet" }, { "namespace": "demo", "task": "greet" }] });
    let ids = |answer: Answer| {
        let items = answer.json().as_array().unwrap().clone();
        items.iter().map(|s| s["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let key = [json_type, ("idempotency-key", "k2")];
    let first = ids(server.ask("POST", "/api/v1/runs/batch", &key, &batch.to_string()));
    assert_eq!(first, ids(server.ask("POST", "/api/v1/runs/batch", &key, &batch.to_string())));
    assert_ne!(first[0], first[1]);
    let path = format!("/api/v1/runs/{}", first[0]);
    ended(&shop, &server, &first[0]);
    let shown = server.get(&path);
    let tag = shown.header("etag").to_owned();
    assert_eq!(server.ask("GET", &path, &[("if-none-match", &tag)], "").status, 304);
    let retry =
        |tag: &str| server.ask("POST", &format!("{path}/retry"), &[json_type, ("if-match", tag)], "{}");
    assert_eq!(retry("\"1-ready\"").status, 412);
    assert_eq!(retry("nonsense").status, 400);
    assert_eq!(retry(&tag).status, 201);
    let task = server.get("/api/v1/tasks/demo/greet");
    let put = |tag: &str, run: &str| {
        let headers = [json_type, ("if-match", tag)];
        server.ask("PUT", "/api/v1/tasks/demo/greet", &headers, &json!({ "run": run }).to_string())
    };
    let tag = task.header("etag").to_owned();
    let answer = put(&tag, "echo changed");
    assert_eq!((answer.status, answer.json()["changed"].clone()), (200, json!(["greet"])), "{}", answer.text);
    assert_eq!(put(&tag, "echo again").status, 412);
    let gone = server.ask("DELETE", "/api/v1/tasks/demo/greet", &[], "");
    assert_eq!((gone.status, gone.json()["missing"].clone()), (200, json!(true)));
}

#[test]
fn pages_follow_one_another_to_the_end() {
    let (shop, server) = served();
    let runs: Vec<_> = (0..25).map(|_| json!({ "namespace": "demo", "task": "greet" })).collect();
    assert_eq!(server.post("/api/v1/runs/batch", &json!({ "runs": runs })).status, 201);
    let mut ids = collected(&server, "/api/v1/runs?limit=10", "id");
    assert_eq!(ids.len(), 25);
    assert!(ids.windows(2).all(|pair| pair[0] > pair[1]), "newest first, each once: {ids:?}");
    ids.reverse();
    assert_eq!(collected(&server, "/api/v1/runs?limit=10&sort=created", "id"), ids);
    drop(shop);
}

/// A field of everything that is on the pages of a list.
fn collected(server: &Server, list: &str, field: &str) -> Vec<String> {
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = server.get(&format!("{list}{after}")).json();
        let items = page["items"].as_array().unwrap_or_else(|| panic!("{list}{after}: {page}"));
        seen.extend(items.iter().map(|item| item[field].as_str().unwrap_or_default().to_owned()));
        match page["next"].as_str() {
            Some(next) => after = format!("&after={}", next.replace('\u{1f}', "%1f")),
            None => return seen,
        }
    }
}

#[test]
fn lists_stand_in_the_order_that_is_asked_for_and_cursors_in_theirs() {
    let (shop, server) = served();
    shop.write("more.yaml", MORE);
    assert_eq!(shop.run(&["push", "more.yaml"]).code, 0);
    let runs: Vec<_> = (0..3).map(|_| start(&server, "greet")).collect();
    runs.iter().for_each(|id| drop(ended(&shop, &server, id)));
    // Whatever the order: each is there once, whether it comes in pages of one or all at once.
    for (list, field, orders) in [
        ("runs", "id", &["created", "-created"][..]),
        ("tasks", "id", &["name", "-name", "updated", "-updated"]),
        ("presets", "id", &["name", "-name", "updated", "-updated"]),
        ("namespaces", "name", &["name", "-name", "seen", "-seen"]),
        ("schedules", "id", &["created", "-created", "name", "-name", "next", "-next"]),
        ("triggers", "id", &["created", "-created", "name", "-name", "last", "-last"]),
    ] {
        let all = |order: &str| collected(&server, &format!("/api/v1/{list}?limit=100&sort={order}"), field);
        for order in orders {
            let ordered = all(order);
            let paged = collected(&server, &format!("/api/v1/{list}?limit=1&sort={order}"), field);
            assert_eq!(paged, ordered, "{list} by {order}");
            let (mut here, mut there) = (ordered, all(orders[0]));
            here.sort();
            there.sort();
            assert_eq!(here, there, "{list} by {order}");
        }
        for turned in orders.iter().filter_map(|order| order.strip_prefix('-')) {
            if ["name", "created"].contains(&turned) {
                let mut back = all(&format!("-{turned}"));
                back.reverse();
                assert_eq!(back, all(turned), "{list} by {turned}");
            }
        }
        let refused = server.get(&format!("/api/v1/{list}?sort=size"));
        let text = refused.json()["detail"].as_str().unwrap().to_owned();
        assert_eq!(refused.status, 400, "{text}");
        assert!(text.contains("`size` is not an order of this list"), "{text}");
        assert!(orders.iter().all(|order| text.contains(&format!("`{order}`"))), "{text}");
    }
    let next = |order: &str| {
        let page = server.get(&format!("/api/v1/runs?limit=1&sort={order}")).json();
        page["next"].as_str().unwrap().to_owned()
    };
    for (made, asked) in [("created", "-created"), ("-created", "created")] {
        let answer = server.get(&format!("/api/v1/runs?sort={asked}&after={}", next(made)));
        let problem = answer.json();
        assert_eq!((answer.status, &problem["kind"]), (400, &json!("bad_input")));
        let text = problem["detail"].as_str().unwrap();
        assert!(text.contains(&format!("sorted by `{made}`, and this one is sorted by `{asked}`")), "{text}");
    }

    let listed = |args: &[&str]| {
        let here = shop.run(&[args, &["--output", "json"]].concat());
        let there = shop.run(&[args, &["--output", "json", "--server", &server.url]].concat());
        assert_eq!((here.code, &here.out), (0, &there.out), "{args:?}: {}", here.err);
        let told: Value = serde_json::from_str(&here.out).unwrap();
        told.get("items").unwrap_or(&told).clone()
    };
    let ids = |sort| -> Vec<String> {
        let runs = listed(&["runs", "list", "--sort", sort, "--limit", "1", "--all"]);
        runs.as_array().unwrap().iter().map(|r| r["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids("created"), collected(&server, "/api/v1/runs?sort=created", "id"));
    assert_eq!(ids("-created"), collected(&server, "/api/v1/runs", "id"));
    for name in ["b", "a"] {
        assert_eq!(shop.run(&["tokens", "create", name, "--scope", "view"]).code, 0);
    }
    let names = |sort| -> Vec<Value> {
        let tokens = listed(&["tokens", "list", "--sort", sort]);
        tokens.as_array().unwrap().iter().map(|t| t["name"].clone()).collect()
    };
    assert_eq!((names("name"), names("-name")), (vec![json!("a"), json!("b")], vec![json!("b"), json!("a")]));
    assert_eq!((names("created"), names("-created")), (names("-name"), names("name")));
    let refused = shop.run(&["runs", "list", "--sort", "size"]);
    assert_eq!(refused.code, 2);
    assert!(refused.err.contains("possible values: created, -created"), "{}", refused.err);
    drop(shop);
}

#[test]
fn a_stream_of_events_goes_on_where_it_broke_off() {
    let (shop, server) = served();
    let ids: Vec<_> = (0..5).map(|_| start(&server, "greet")).collect();
    ids.iter().for_each(|id| drop(ended(&shop, &server, id)));
    let page = server.get("/api/v1/events?limit=10000").json();
    let all: Vec<String> =
        page["items"].as_array().unwrap().iter().map(|e| e["cursor"].as_str().unwrap().to_owned()).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let streamed = |after: &str, count: usize| {
        runtime.block_on(async {
            let client = ostler_client::plain(std::time::Duration::from_secs(60)).unwrap();
            let request =
                client.get(format!("{}/api/v1/events/stream", server.url)).header("last-event-id", after);
            let mut answer = request.send().await.unwrap();
            let mut text = String::new();
            let ids = |text: &str| {
                text.lines().filter_map(|l| l.strip_prefix("id: ")).map(str::to_owned).collect::<Vec<_>>()
            };
            while ids(&text).len() < count {
                text.push_str(std::str::from_utf8(&answer.chunk().await.unwrap().unwrap()).unwrap());
            }
            ids(&text)
        })
    };
    assert_eq!(streamed("e0", all.len())[..all.len()], all);
    assert_eq!(streamed(&all[6], all.len() - 7), all[7..]);
    // A long poll is answered by what comes while it waits.
    let last = all.last().unwrap().clone();
    let waited = std::thread::scope(|scope| {
        let asked = scope.spawn(|| server.get(&format!("/api/v1/events?wait=30&after={last}")).json());
        start(&server, "greet");
        asked.join().unwrap()
    });
    assert!(!waited["items"].as_array().unwrap().is_empty());
}

#[test]
fn many_starts_in_one_request_and_many_ends_in_one_more() {
    let (shop, server) = served();
    assert_eq!(server.post("/api/v1/tasks/demo/sleeps/pause", &json!(null)).status, 200);
    let runs: Vec<_> = (0..10_000).map(|_| json!({ "namespace": "demo", "task": "sleeps" })).collect();
    let answer = server.post("/api/v1/runs/batch", &json!({ "runs": runs }));
    assert_eq!((answer.status, answer.json().as_array().map(Vec::len)), (201, Some(10_000)));
    let query = json!({ "query": { "namespace": "demo", "task": "sleeps" }, "dry_run": true });
    assert_eq!(server.post("/api/v1/runs/cancel", &query).json()["asked"], 10_000);
    let query = json!({ "query": { "namespace": "demo", "task": "sleeps" }, "reason": "a test" });
    assert_eq!(server.post("/api/v1/runs/cancel", &query).json()["asked"], 10_000);
    shop.wait_for("their ends", || {
        let stats = server.get("/api/v1/stats").json();
        // The schedule of the file is left.
        stats["ready"].as_u64().unwrap()
            + stats["held"].as_u64().unwrap()
            + stats["claimed"].as_u64().unwrap()
            == 0
    });
    let page = server.get("/api/v1/runs?state=cancelled&limit=1").json();
    assert!(page["items"][0]["reason"].as_str().unwrap().contains("a test"), "{page}");
}

#[test]
fn a_full_queue_refuses_and_says_when_to_come_again() {
    let shop = Shop::new();
    shop.write("demo.yaml", FILE);
    let server = shop.serve(&["demo.yaml", "--max-queue", "5"]);
    assert_eq!(server.post("/api/v1/tasks/demo/sleeps/pause", &json!(null)).status, 200);
    let runs: Vec<_> = (0..10).map(|_| json!({ "namespace": "demo", "task": "sleeps" })).collect();
    let answer = server.post("/api/v1/runs/batch", &json!({ "runs": runs }));
    assert_eq!((answer.status, answer.header("retry-after")), (429, "1"), "{}", answer.text);
    assert!(answer.text.contains("the queue is full"), "{}", answer.text);
    assert_eq!(server.get("/api/v1/runs").json()["items"], json!([]), "nothing was started");
    start(&server, "sleeps");
}

#[test]
fn a_server_that_ends_says_so_and_lets_what_runs_end() {
    let shop = Shop::new();
    let gate = shop.path().join("gate");
    shop.write(
        "demo.yaml",
        &format!(
            "meta: {{ namespace: demo }}\ntasks: [{{ meta: {{ id: waits }}, run: 'while [ ! -e {} ]; do sleep 0.05; done' }}]\n",
            gate.display()
        ),
    );
    let mut server = shop.serve(&["demo.yaml"]);
    assert_eq!(server.get("/readyz").status, 200);
    let id = start(&server, "waits");
    shop.wait_for("its start", || server.get(&format!("/api/v1/runs/{id}")).json()["state"] == "running");
    let sent = std::process::Command::new("kill").args(["-TERM", &server.child.id().to_string()]).status();
    assert!(sent.unwrap().success());
    shop.wait_for("readiness to end", || server.get("/readyz").status == 503);
    let problem = server.get("/readyz").json();
    assert!(problem["detail"].as_str().unwrap().contains("it is ending"), "{problem}");
    assert_eq!(server.get("/healthz").status, 200);
    std::fs::write(&gate, "").unwrap();
    assert!(server.child.wait().unwrap().success());
    let shown = shop.json(&["runs", "show", &id]);
    assert_eq!(shown["run"]["state"], "succeeded", "{shown}");
}

//! Workers as people run them: the real binary on both sides, over loopback.
#![allow(clippy::unwrap_used, reason = "a test fails where a value is missing")]

mod support;

use std::process::{Command, Stdio};

use serde_json::{Value, json};
use support::{Answer, Server, Shop, Spawned};

const FILE: &str = "
meta: { type: ostler-timetable, version: 1, namespace: demo }
tasks:
  - meta: { id: greet }
    env: { KEY: '${{ secrets.KEY }}' }
    run: 'echo \"hello $KEY\"; echo \"said=$OSTLER_ATTEMPT\" >> $OSTLER_OUTPUT'
  - meta: { id: naps }
    run: 'echo begun; sleep 1; echo done'
  - meta: { id: again }
    policy: { lost: rerun }
    run: 'echo \"$OSTLER_IDEMPOTENCY_KEY\" >> tries; [ $(wc -l < tries) -gt 1 ] || exec sleep 600'
  - meta: { id: talks }
    policy: { lost: rerun }
    run: |
      echo $$ > pid
      i=0; while [ $OSTLER_ATTEMPT -eq 1 ]; do echo \"1 $i\"; i=$((i+1)); sleep 0.05; done
      echo 2 0
  - meta: { id: on-gpu }
    runs_on: [gpu, big]
    run: echo computed
  - meta: { id: mixed }
    steps:
      - { id: a, run: echo anywhere }
      - { id: b, runs_on: gpu, run: echo there }
  - meta: { id: once }
    policy: { lost: fail }
    run: 'touch once; exec sleep 600'
";

/// A server that leaves all work to workers, with tokens for an operator and for workers.
struct Yard {
    shop: Shop,
    server: Server,
    admin: String,
    work: String,
}

impl Yard {
    fn new() -> Self {
        let mut shop = Shop::new();
        shop.set("OSTLER_SECRET_KEY", "opensesame");
        shop.write("demo.yaml", FILE);
        let secret = |name: &str, scope: &str| {
            let made = shop.json(&["tokens", "create", name, "--scope", scope]);
            made["secret"].as_str().unwrap().to_owned()
        };
        let (admin, work) = (secret("ops", "admin"), secret("workers", "work"));
        let server = shop.serve(&["demo.yaml", "--slots", "0", "--require-token", "--worker-lease", "3s"]);
        Self { shop, server, admin, work }
    }

    /// Another server on the same store, at the same address.
    fn restart(&mut self) {
        let address = self.server.url.trim_start_matches("http://").to_owned();
        let args =
            ["serve", "demo.yaml", "--slots", "0", "--require-token", "--worker-lease", "3s", "--listen"];
        let command = self.shop.command(&[&args[..], &[&address]].concat());
        self.server = self.shop.serve_by(command);
    }

    fn worker(&self, args: &[&str]) -> Spawned {
        let mut command = self.shop.command(&[&["worker", "--server", &self.server.url], args].concat());
        command.env("OSTLER_TOKEN", &self.work).stdout(Stdio::null()).stderr(Stdio::null());
        Spawned::new(command.spawn().unwrap())
    }

    fn ask(&self, token: &str, method: &str, path: &str, body: &Value) -> Answer {
        let bearer = format!("Bearer {token}");
        let headers = [("content-type", "application/json"), ("authorization", bearer.as_str())];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.server.ask(method, &format!("/api/v1{path}"), &headers, &body)
    }

    fn get(&self, path: &str) -> Value {
        self.ask(&self.admin, "GET", path, &Value::Null).json()
    }

    fn start(&self, task: &str) -> String {
        let answer = self.ask(&self.admin, "POST", &format!("/tasks/demo/{task}/runs"), &json!({}));
        assert_eq!(answer.status, 201, "{}", answer.text);
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    fn ended(&self, id: &str) -> Value {
        let mut run = Value::Null;
        self.shop.wait_for("its end", || {
            run = self.get(&format!("/runs/{id}"));
            !run["finished_at"].is_null()
        });
        run
    }

    fn lines(&self, id: &str) -> Vec<String> {
        let page = self.get(&format!("/runs/{id}/logs"));
        let items = page["items"].as_array().unwrap();
        items.iter().map(|l| l["line"].as_str().unwrap().to_owned()).collect()
    }

    /// What workers ask for, as one of them.
    fn work(&self, path: &str, body: &Value) -> Answer {
        self.ask(&self.work, "POST", path, body)
    }

    fn register(&self) -> i64 {
        let answer = self.work("/workers", &json!({ "name": "by hand", "slots": 1 }));
        assert_eq!(answer.status, 201, "{}", answer.text);
        answer.json()["node"].as_i64().unwrap()
    }

    fn claim(&self, node: i64) -> Value {
        let answer = self.work(&format!("/workers/{node}/claim"), &json!({ "want": 1, "wait": 1 }));
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()["jobs"][0].clone()
    }
}

fn signal(process: &Spawned, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &process.id().to_string()]).status();
    assert!(sent.unwrap().success());
}

#[test]
fn a_worker_carries_out_what_the_server_leaves_to_it_and_leaves_in_order() {
    let yard = Yard::new();
    let mut worker = yard.worker(&["--name", "mine"]);
    let run = yard.ended(&yard.start("greet"));
    assert_eq!((&run["state"], &run["output"]), (&json!("succeeded"), &json!({ "said": "1" })));
    assert_eq!(yard.lines(run["id"].as_str().unwrap()), ["hello ***"]);
    let id = yard.start("naps");
    yard.shop.wait_for("its first line", || !yard.lines(&id).is_empty());
    signal(&worker, "TERM");
    assert!(worker.wait().unwrap().success());
    assert_eq!(yard.ended(&id)["state"], "succeeded", "a drain lets what runs end");
    let nodes = yard.get("/nodes");
    let node = nodes.as_array().unwrap().iter().find(|n| n["name"] == "mine").unwrap();
    assert_eq!(
        (&node["closed"], &node["slots"], &node["worker"]),
        (&json!(true), &json!(8), &json!("token:workers"))
    );
}

#[test]
fn what_a_killed_worker_had_is_lost_as_its_policy_says() {
    let yard = Yard::new();
    let worker = yard.worker(&[]);
    let (again, once) = (yard.start("again"), yard.start("once"));
    yard.shop.wait_for("both to run", || {
        ["tries", "once"].iter().all(|file| yard.shop.path().join(file).exists())
    });
    signal(&worker, "KILL");
    let _other = yard.worker(&[]);
    let run = yard.ended(&again);
    assert_eq!((&run["state"], &run["attempts"]), (&json!("succeeded"), &json!(2)), "{run}");
    let tries = std::fs::read_to_string(yard.shop.path().join("tries")).unwrap();
    let keys: Vec<_> = tries.lines().collect();
    assert_eq!(keys, [keys[0], keys[0]], "both attempts have one idempotency key");
    let run = yard.ended(&once);
    assert_eq!((&run["state"], &run["error"]["class"]), (&json!("failed"), &json!("lost")), "{run}");
}

#[test]
fn a_result_survives_a_server_that_is_killed() {
    let mut yard = Yard::new();
    let _worker = yard.worker(&[]);
    let id = yard.start("naps");
    yard.shop.wait_for("its first line", || !yard.lines(&id).is_empty());
    yard.server.kill_now();
    // The job ends while nobody serves; how long that takes is the job's own time.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    yard.restart();
    let run = yard.ended(&id);
    assert_eq!((&run["state"], &run["attempts"]), (&json!("succeeded"), &json!(1)), "{run}");
    let history = yard.get(&format!("/runs/{id}/history"));
    let kinds: Vec<_> =
        history.as_array().unwrap().iter().map(|e| e["kind"].as_str().unwrap().to_owned()).collect();
    assert_eq!(kinds, ["created", "succeeded"]);
    assert_eq!(yard.lines(&id), ["begun", "done"]);
}

#[test]
fn an_operator_has_a_worker_leave() {
    let yard = Yard::new();
    let mut worker = yard.worker(&["--name", "old"]);
    let id = yard.start("naps");
    yard.shop.wait_for("its first line", || !yard.lines(&id).is_empty());
    let nodes = yard.get("/nodes");
    let node = nodes.as_array().unwrap().iter().find(|n| n["name"] == "old").unwrap()["id"].clone();
    let drain = format!("/workers/{node}/drain");
    assert_eq!(yard.work(&drain, &Value::Null).status, 403, "a worker does not say this of others");
    assert_eq!(yard.ask(&yard.admin, "POST", &drain, &Value::Null).status, 200);
    assert!(worker.wait().unwrap().success());
    assert_eq!(yard.ended(&id)["state"], "succeeded");
    assert_eq!(yard.ask(&yard.admin, "POST", &drain, &Value::Null).status, 410);
    assert_eq!(yard.ask(&yard.admin, "POST", "/workers/4711/drain", &Value::Null).status, 404);
}

#[test]
fn two_workers_share() {
    let yard = Yard::new();
    let workers = [yard.worker(&["--slots", "1"]), yard.worker(&["--slots", "1"])];
    yard.shop.wait_for("both", || {
        let nodes = yard.get("/nodes");
        nodes.as_array().unwrap().iter().filter(|n| n["worker"] == "token:workers").count() == 2
    });
    let ids: Vec<_> = (0..4).map(|_| yard.start("naps")).collect();
    let mut nodes = std::collections::BTreeSet::new();
    for id in &ids {
        assert_eq!(yard.ended(id)["state"], "succeeded");
        let history = yard.get(&format!("/runs/{id}/history"));
        nodes.insert(history.as_array().unwrap().last().unwrap()["body"]["node"].as_i64().unwrap());
    }
    assert_eq!(nodes.len(), 2, "jobs that take a second each keep both busy");
    drop(workers);
}

#[test]
fn an_outcome_counts_once_and_only_from_its_claim() {
    let yard = Yard::new();
    let node = yard.register();
    let id = yard.start("greet");
    let job = yard.claim(node);
    assert_eq!((&job["run"], &job["env"]["KEY"]), (&json!(id), &json!("opensesame")));
    assert_eq!(job["mask"], json!(["opensesame"]));
    // An answer that was lost on the way is given again, to whoever says that it does not have it.
    assert_eq!(yard.claim(node), job);
    let send = |node: i64, fence: u64| {
        let outcome = json!({ "run": id, "fence": fence, "state": "succeeded", "output": { "a": 1 } });
        yard.work(&format!("/workers/{node}/outcomes"), &json!({ "outcomes": [outcome] }))
    };
    let result = |answer: Answer| answer.json()["outcomes"][0]["result"].as_str().unwrap().to_owned();
    let fence = job["fence"].as_u64().unwrap();
    assert_eq!(result(send(node, fence + 1)), "stale");
    let other = yard.register();
    assert_eq!(result(send(other, fence)), "stale", "another's claim");
    assert_eq!(yard.get(&format!("/runs/{id}"))["finished_at"], Value::Null);
    for _ in 0..2 {
        assert_eq!(result(send(node, fence)), "committed");
    }
    assert_eq!(result(send(node, fence + 1)), "stale");
    assert_eq!(yard.get(&format!("/runs/{id}/history")).as_array().unwrap().len(), 2);
    let unknown = json!({ "run": "0193a2b4-5c6d-7e8f-9a0b-1c2d3e4f5a6b", "fence": 1, "state": "failed" });
    let answer = yard.work(&format!("/workers/{node}/outcomes"), &json!({ "outcomes": [unknown] }));
    assert_eq!(result(answer), "unknown");
    // Given back, it is another's with the next fence, and not lost.
    let id = yard.start("greet");
    let job = yard.claim(node);
    let jobs = json!({ "jobs": [{ "run": id, "fence": job["fence"] }] });
    let released = yard.work(&format!("/workers/{node}/release"), &jobs);
    assert_eq!(released.json()["released"], jobs["jobs"]);
    let again = yard.claim(other);
    assert_eq!((&again["run"], &again["fence"], &again["attempt"]), (&json!(id), &json!(2), &json!(1)));
}

#[test]
fn a_token_of_workers_lets_work_and_nothing_else() {
    let yard = Yard::new();
    let made = yard.shop.json(&["tokens", "create", "other", "--scope", "work"]);
    let (other, node) = (made["secret"].as_str().unwrap(), yard.register());
    let answer = yard.ask(other, "POST", &format!("/workers/{node}/claim"), &json!({}));
    assert_eq!(answer.status, 403, "another's worker: {}", answer.text);
    let start = yard.work("/tasks/demo/greet/runs", &json!({}));
    assert_eq!(start.status, 403, "{}", start.text);
    let document = yard.get("/openapi.json");
    let mut tried = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        if path.starts_with("/api/v1/workers") && !path.ends_with("/drain") {
            continue;
        }
        let asked =
            path.trim_start_matches("/api/v1").replace("{id}", "0193a2b4-5c6d-7e8f-9a0b-1c2d3e4f5a6b");
        let asked = asked
            .replace("{namespace}", "demo")
            .replace("{task}", "greet")
            .replace("{node}", &node.to_string());
        let asked = asked.split('{').next().unwrap().to_owned();
        for method in methods.as_object().unwrap().keys() {
            let body = if method == "get" { Value::Null } else { json!({}) };
            let answer = yard.ask(&yard.work, &method.to_uppercase(), &asked, &body);
            // Who it is, and what is open to everybody.
            let is_open = ["/api/v1", "/api/v1/openapi.json"].contains(&path.trim_end_matches('/'));
            assert_eq!(answer.status < 300, is_open, "{method} {path}: {} {}", answer.status, answer.text);
            assert!(is_open || answer.status == 403, "{method} {path}: {} {}", answer.status, answer.text);
            tried += 1;
        }
    }
    assert!(tried > 40, "{tried}");
    // One that lets do other things does not let work.
    let made = yard.shop.json(&["tokens", "create", "changer", "--scope", "change"]);
    let answer = yard.ask(made["secret"].as_str().unwrap(), "POST", "/workers", &json!({ "name": "x" }));
    assert_eq!(answer.status, 403, "{}", answer.text);
}

#[test]
fn a_worker_says_what_is_wrong_with_how_it_was_started() {
    let yard = Yard::new();
    let told = |args: &[&str], token: &str| {
        let output =
            yard.shop.command(&[&["worker"], args].concat()).env("OSTLER_TOKEN", token).output().unwrap();
        support::told(output)
    };
    let none = told(&[], "");
    assert_eq!(none.code, 2, "{}", none.err);
    assert!(none.err.contains("--server URL"), "{}", none.err);
    let wrong = told(&["--server", &yard.server.url], "ost_nobody");
    assert!(wrong.code != 0 && wrong.err.contains("does not know the token"), "{} {}", wrong.code, wrong.err);
    let viewer = yard.shop.json(&["tokens", "create", "viewer", "--scope", "view"]);
    let denied = told(&["--server", &yard.server.url], viewer["secret"].as_str().unwrap());
    assert!(denied.code != 0 && denied.err.contains("the scope `work`"), "{} {}", denied.code, denied.err);
}

#[test]
fn a_step_runs_where_its_labels_are() {
    let yard = Yard::new();
    let plain = yard.worker(&["--name", "plain"]);
    let id = yard.start("on-gpu");
    assert_eq!(yard.ended(&yard.start("greet"))["state"], "succeeded", "the worker works");
    assert_eq!(yard.get(&format!("/runs/{id}"))["state"], "ready");
    let why = yard.get(&format!("/why/{id}")).to_string();
    assert!(why.contains("label `big`, `gpu`, and no living node has that"), "{why}");
    let gpu = yard.worker(&["--label", "gpu", "--label", "big,red", "--name", "gpu"]);
    assert_eq!(yard.ended(&id)["state"], "succeeded");
    let flow = yard.ended(&yard.start("mixed"));
    assert_eq!(flow["state"], "succeeded", "{flow}");
    let nodes = yard.get("/nodes");
    let gpu_node = nodes.as_array().unwrap().iter().find(|n| n["name"] == "gpu").unwrap().clone();
    assert_eq!(gpu_node["labels"], json!(["big", "gpu", "red"]));
    let at = |id: &str| yard.get(&format!("/runs/{id}/history"))[1]["body"]["node"].clone();
    assert_eq!(at(&id), gpu_node["id"]);
    drop((plain, gpu));
    // One that is cancelled while nobody has its label ends.
    let id = yard.start("on-gpu");
    let cancel = yard.ask(&yard.admin, "POST", &format!("/runs/{id}/cancel"), &json!({ "reason": "enough" }));
    assert_eq!(cancel.status, 200, "{}", cancel.text);
    assert_eq!(yard.ended(&id)["state"], "cancelled");
}

#[test]
fn a_worker_may_leave_what_asks_for_no_label_to_others() {
    let yard = Yard::new();
    let args = ["--name", "gpu", "--label", "gpu,big", "--only-labelled"];
    let _gpu = yard.worker(&args);
    let plain = yard.start("greet");
    assert_eq!(yard.ended(&yard.start("on-gpu"))["state"], "succeeded", "the worker works");
    assert_eq!(yard.get(&format!("/runs/{plain}"))["state"], "ready");
    let why = yard.get(&format!("/why/{plain}")).to_string();
    assert!(why.contains("each living node takes only what asks for its labels"), "{why}");
    let nodes = yard.get("/nodes");
    let gpu = nodes.as_array().unwrap().iter().find(|n| n["name"] == "gpu").unwrap();
    assert_eq!(gpu["only_labelled"], true);
    let _other = yard.worker(&["--name", "other"]);
    assert_eq!(yard.ended(&plain)["state"], "succeeded");
    let refused = yard.work("/workers", &json!({ "name": "none", "only_labelled": true }));
    assert_eq!(refused.status, 400, "{}", refused.text);
    let told = support::told(yard.shop.command(&["worker", "--only-labelled"]).output().unwrap());
    assert!(told.code == 2 && told.err.contains("--label"), "{}", told.err);
}

#[test]
fn a_node_may_leave_what_asks_for_no_label_to_others() {
    let shop = Shop::new();
    shop.write("demo.yaml", FILE);
    let served = shop.serve(&["demo.yaml", "--label", "gpu", "--only-labelled"]);
    let start = |task: &str| {
        let started = served.post(&format!("/api/v1/tasks/demo/{task}/runs"), &json!({}));
        started.json()["id"].as_str().unwrap().to_owned()
    };
    let run = |id: &str| served.get(&format!("/api/v1/runs/{id}")).json();
    let (plain, mixed) = (start("naps"), start("mixed"));
    shop.wait_for("the flow to begin", || run(&mixed)["state"] == "waiting");
    let mut command = shop.command(&["worker", "--server", &served.url]);
    let _worker = Spawned::new(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    shop.wait_for("their ends", || [&plain, &mixed].iter().all(|id| run(id)["state"] == "succeeded"));
    let by = |id: &str| served.get(&format!("/api/v1/runs/{id}/history")).json()[1]["body"]["node"].clone();
    assert!(by(&plain).is_number(), "a worker's end names it");
}

/// What a worker ran was ended while it was stopped, and it is back before anybody has missed it.
#[test]
fn what_a_stopped_worker_ran_is_lost_and_has_not_failed() {
    let yard = Yard::new();
    let worker = yard.worker(&[]);
    let id = yard.start("talks");
    yard.shop.wait_for("its first lines", || yard.lines(&id).len() > 2);
    let pid = std::fs::read_to_string(yard.shop.path().join("pid")).unwrap();
    let lives =
        || Command::new("kill").args(["-0", pid.trim()]).stderr(Stdio::null()).status().unwrap().success();
    signal(&worker, "STOP");
    yard.shop.wait_for("its end", || !lives());
    signal(&worker, "CONT");
    let run = yard.ended(&id);
    assert_eq!((&run["state"], &run["attempts"]), (&json!("succeeded"), &json!(2)), "{run}");
    let history = yard.get(&format!("/runs/{id}/history"));
    let kinds: Vec<_> = history.as_array().unwrap().iter().map(|e| e["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["created", "attempt_lost", "succeeded"], "{history}");
    println!("{}", history[1]["body"]);
    let lines = yard.lines(&id);
    let expected = (0..lines.len() - 1).map(|n| format!("1 {n}")).chain(["2 0".to_owned()]);
    assert_eq!(lines, expected.collect::<Vec<_>>(), "each line once, in its place");
}

#[test]
fn a_command_runs_here_what_asks_for_labels() {
    let shop = Shop::new();
    shop.write("demo.yaml", FILE);
    let told = shop.run(&["run", "demo.yaml", "--task", "on-gpu"]);
    assert_eq!((told.code, told.out.trim()), (0, "computed"), "{}", told.err);
    let served = shop.serve(&["demo.yaml", "--label", "gpu,big"]);
    let started = served.post("/api/v1/tasks/demo/on-gpu/runs", &json!({}));
    let id = started.json()["id"].as_str().unwrap().to_owned();
    shop.wait_for("its end", || served.get(&format!("/api/v1/runs/{id}")).json()["state"] == "succeeded");
}

/// A server would otherwise go on to look for jobs for one that has gone, and give it the next that comes.
#[test]
fn a_worker_that_was_killed_while_it_waited_gets_nothing_more() {
    let yard = Yard::new();
    let mut idle = yard.worker(&["--name", "idle"]);
    let has_come = |name: &str| {
        let nodes = yard.get("/nodes");
        nodes.as_array().unwrap().iter().any(|n| n["name"] == name)
    };
    yard.shop.wait_for("the worker", || has_come("idle"));
    // It has asked, or is about to.
    std::thread::sleep(std::time::Duration::from_millis(300));
    signal(&idle, "KILL");
    idle.wait().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    let ids: Vec<_> = (0..5).map(|_| yard.start("greet")).collect();
    let _other = yard.worker(&[]);
    for id in ids {
        let run = yard.ended(&id);
        assert_eq!((&run["state"], &run["attempts"]), (&json!("succeeded"), &json!(1)), "{run}");
    }
}

fn conformance(shop: &Shop, args: &[&str]) -> (i32, Value) {
    let output = shop.command(&[&["worker-test", "--output", "json"], args].concat()).output().unwrap();
    let told = support::told(output);
    let verdicts =
        serde_json::from_str(&told.out).unwrap_or_else(|e| panic!("{e}: {} {}", told.out, told.err));
    (told.code, verdicts)
}

#[test]
fn this_worker_passes_the_conformance_program() {
    let (code, verdicts) = conformance(&Shop::new(), &["--", env!("CARGO_BIN_EXE_ostler"), "worker"]);
    assert_eq!(code, 0, "{verdicts}");
    assert!(verdicts.as_array().unwrap().len() >= 16);
}

fn python_worker() -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/worker/worker.py");
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn a_worker_in_python_that_was_written_from_the_page_passes_it_too() {
    let shop = Shop::new();
    let file = shop.write("worker.py", &python_worker());
    let (code, verdicts) = conformance(&shop, &["--", "python3", file.to_str().unwrap()]);
    assert_eq!(code, 0, "{verdicts}");
}

/// The program finds what it is there to find.
#[test]
fn a_worker_that_does_wrong_is_found_out() {
    let wrongs = [
        ("secrets", "text = text.replace(secret, \"***\")", "pass"),
        ("timeout", "outcome = {\"state\": self.cut}", "outcome = {\"state\": \"lost\"}"),
        ("order-of-lines", "batch = job.entries[:500]", "batch = job.entries[:500][::-1]"),
        ("retry", "{\"state\": \"failed\", \"output\": values", "{\"state\": \"lost\", \"output\": values"),
    ];
    for (scenario, right, wrong) in wrongs {
        let shop = Shop::new();
        let text = python_worker();
        assert!(text.contains(right), "{right}");
        let file = shop.write("worker.py", &text.replace(right, wrong));
        let (code, verdicts) =
            conformance(&shop, &["--only", scenario, "--", "python3", file.to_str().unwrap()]);
        assert_eq!(code, 1, "{scenario}: {verdicts}");
    }
}

//! Three nodes and four workers as real processes on one PostgreSQL store, under load: killed, stopped past their leases,
//! cut off, slowed down, with wrong clocks, on a server that is stopped and crashes. Nothing is lost, nothing happens
//! oftener than its policy says, nothing is stuck, and `why` knows what waits for what. `OSTLER_CHAOS_SECONDS` says for how
//! long (30 unless told otherwise, 600 in `./test long`), `OSTLER_CHAOS_SEED` in which order.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails where a value is missing, and the real time passes for real processes"
)]

mod judge;
mod load;
mod members;
mod skew;
mod storm;
#[path = "../support/mod.rs"]
mod support;

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use ostler_api::{Api, BulkFilter, SignalRequest, TaskRef, Verdict};
use ostler_client::Blocking;
use ostler_model::{RunState, Uid};
use ostler_store_postgres::scratch::Schema;
use ostler_test_servers::private::{PgBouncer, Postgres};

use self::{
    load::{Accepted, Effects, Waiting, insist},
    members::Fleet,
    skew::Skew,
    storm::{FAULTS, Fault, Ground, Storm},
    support::{Shop, draw::Draw},
};

/// Everything has ended so long after the last fault, at the latest.
const SETTLED: Duration = Duration::from_secs(90);

/// States of runs that have not ended.
const LIVING: [RunState; 4] = [RunState::Scheduled, RunState::Ready, RunState::Running, RunState::Waiting];

fn seconds(otherwise: u64) -> u64 {
    std::env::var("OSTLER_CHAOS_SECONDS").ok().and_then(|v| v.parse().ok()).unwrap_or(otherwise)
}

fn task(name: &str) -> TaskRef {
    TaskRef { namespace: "fleet".into(), task: name.into() }
}

/// A shop with the tasks of the fleet in a store.
fn shop(store: &str, effects: &Effects) -> Shop {
    let shop = Shop::new();
    shop.write("fleet.yaml", &load::file(effects));
    shop.write("effects", "");
    let pushed = shop.run(&["push", "fleet.yaml", "--store", store]);
    assert_eq!(pushed.code, 0, "{}", pushed.err);
    shop
}

/// Waits until all nodes answer.
fn all_answer(shop: &Shop, fleet: &mut Fleet, clients: &[Blocking]) {
    shop.wait_for("all nodes", || {
        fleet.members().for_each(members::Member::look);
        clients.iter().all(|client| client.info().is_ok())
    });
}

/// Runs that wait for one reason each, for as long as nobody takes it away.
fn waiting(shop: &Shop, clients: &[Blocking]) -> Vec<Waiting> {
    insist(clients, 0, "a pause", |client| client.hold_task(&task("held"), true));
    let run = |task: &'static str, words: &'static str| {
        let id = load::start(clients, task, &format!("{task}: {words}"), 0);
        Waiting { task, id, words }
    };
    let door = run("door", "it waits for signal `open`");
    let is_told = |waiting: &Waiting| {
        let told = clients[0].why(waiting.id);
        told.is_ok_and(|why| why.because.iter().any(|because| because.contains(waiting.words)))
    };
    shop.wait_for("the first at the door", || is_told(&door));
    let all = vec![
        door,
        run("door", "concurrency limit `door` is full"),
        run("nowhere", "label `moon`, and no living node has that"),
        run("held", "task `fleet:held` is paused"),
        run("asks", "step ask is waiting: it waits for somebody to approve"),
    ];
    shop.wait_for("all reasons", || all.iter().all(is_told));
    all
}

/// Takes the reasons away, and waits until everything has ended.
fn settle(fleet: &mut Fleet, clients: &[Blocking], waiting: &[Waiting]) {
    let schedule = |client: &Blocking| client.hold_schedule(&task("ticking"), None, true);
    insist(clients, 0, "a pause", schedule);
    insist(clients, 0, "the end of a pause", |client| client.hold_task(&task("held"), false));
    let of = |task: &str| waiting.iter().filter(move |w| w.task == task).map(|w| w.id).collect::<Vec<Uid>>();
    for id in of("nowhere") {
        let moon = BulkFilter { ids: vec![id], reason: "nobody gets there".into(), ..BulkFilter::default() };
        insist(clients, 0, "a cancellation", |client| client.cancel(&moon));
    }
    for flow in of("asks") {
        let verdict = Verdict { approve: true, ..Verdict::default() };
        insist(clients, 0, "a verdict", |client| client.decide(flow, &verdict));
    }
    let begun = Instant::now();
    loop {
        fleet.members().for_each(members::Member::look);
        let left = judge::all_runs(clients, &LIVING);
        for run in left.iter().filter(|run| run.task == "door") {
            let open = SignalRequest { name: "open".into(), ..SignalRequest::default() };
            let _ = clients[0].signal(run.id, &open);
        }
        if left.is_empty() {
            println!("settled {} s after the last fault", begun.elapsed().as_secs());
            return;
        }
        if begun.elapsed() > SETTLED {
            let why = clients[0].why(left[0].id);
            panic!("{} runs have not ended: {:?} {why:?}", left.len(), left[0]);
        }
        thread::sleep(Duration::from_millis(200));
    }
}

/// A storm over a fleet under load, and the judgement.
fn weather(seconds: u64, faults: Vec<Fault>, store: &str, place: String, ground: Ground<'_>) {
    let (draw, seed) = Draw::seeded("OSTLER_CHAOS_SEED");
    println!("{seconds} s of {faults:?}, OSTLER_CHAOS_SEED={seed}");
    let effects = Effects::listen();
    let shop = shop(store, &effects);
    let skew = Skew::new(shop.path());
    skew.set(90);
    let file = shop.path().join("effects");
    let mut fleet = Fleet::start(&shop, &file, store, place, &skew);
    let clients = fleet.clients();
    all_answer(&shop, &mut fleet, &clients);
    let waiting = waiting(&shop, &clients);
    let (accepted, over) = (Accepted::default(), AtomicBool::new(false));
    let (count, answered) = thread::scope(|scope| {
        let (clients, accepted, over, waiting) = (&clients, &accepted, &over, &waiting);
        for first in 0..clients.len() {
            scope.spawn(move || load::give(clients, first, accepted, over));
        }
        let asking = scope.spawn(move || load::ask_why(clients, waiting, accepted, over));
        // However it ends, the others are to know.
        let ended = OnDrop(over);
        let mut storm = Storm::new(&mut fleet, ground, &skew, draw);
        storm.rage(faults.clone(), seconds);
        drop(ended);
        (storm.count, asking.join().unwrap())
    });
    fleet.to_store.delay(0);
    fleet.to_server.delay(0);
    println!("faults: {count:?}");
    println!("why was asked and right: {answered:?}");
    assert_eq!(answered.len(), 5, "of all sorts");
    settle(&mut fleet, &clients, &waiting);
    let runs = judge::all_runs(&clients, &[]);
    let accepted = accepted.into_inner().unwrap();
    judge::ends(&accepted, &runs, &waiting);
    judge::effects(&file, &effects.calls.lock().unwrap(), &runs);
    let due = judge::causes(&runs);
    assert!(due as u64 >= seconds, "{due} firings");
    let refused = fleet.count("a commit came too late and was refused");
    let lost = fleet.count("the lease is lost");
    let given_up = fleet.count("the server has given this worker up");
    println!("{lost} leases lost, {refused} late commits refused, {given_up} workers given up");
    if faults.contains(&Fault::StopNode) {
        let stopped = count.get(&Fault::StopNode).copied().unwrap_or_default();
        assert!(lost >= stopped as usize, "{lost} of {stopped}");
    }
    assert!(fleet.count("the clock of this host differs") > 0, "one clock is wrong");
}

struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn whatever_happens_each_run_goes_as_its_policy_says() {
    // By its name the connections of this store are known from those of other tests.
    let name = format!("ostler-fleet-{}", std::process::id());
    let more = format!("&sslmode=disable&application_name={name}");
    let mut postgres = Postgres::start();
    let schema = match &postgres {
        Some(postgres) => Schema::on(&postgres.url(), &more),
        None => match Schema::new(&more) {
            Some(schema) => schema,
            None => return,
        },
    };
    let mut faults = FAULTS.to_vec();
    if postgres.is_some() {
        faults.extend([Fault::RestartStore, Fault::CrashStore]);
    }
    let place = place(schema.url());
    let ground = Ground { schema: &schema, name: &name, postgres: postgres.as_mut(), pooler: None };
    weather(seconds(30), faults, schema.url(), place, ground);
}

#[test]
fn the_same_behind_pgbouncer_where_nobody_is_told_anything() {
    let name = format!("ostler-pooled-{}", std::process::id());
    let Some(schema) = Schema::new(&format!("&application_name={name}")) else { return };
    let Some(mut pooler) = PgBouncer::before(schema.url()) else { return };
    let (store, place) = (pooler.through(schema.url()), pooler.place());
    let faults =
        vec![Fault::KillNode, Fault::KillPooler, Fault::StopNode, Fault::EndConnections, Fault::CutStore];
    let ground = Ground { schema: &schema, name: &name, postgres: None, pooler: Some(&mut pooler) };
    weather(seconds(15).min(60), faults, &store, place, ground);
}

/// Nodes and workers are replaced one after the other while work goes on: no run fails, and none notices.
#[test]
fn a_fleet_is_replaced_member_by_member_and_no_run_fails() {
    let Some(schema) = Schema::new("&sslmode=disable") else { return };
    let effects = Effects::listen();
    let shop = shop(schema.url(), &effects);
    let (file, skew) = (shop.path().join("effects"), Skew::new(shop.path()));
    let mut fleet = Fleet::start(&shop, &file, schema.url(), place(schema.url()), &skew);
    let clients = fleet.clients();
    all_answer(&shop, &mut fleet, &clients);
    let (accepted, over) = (Mutex::default(), AtomicBool::new(false));
    thread::scope(|scope| {
        let (clients, accepted, over) = (&clients, &accepted, &over);
        for first in 0..clients.len() {
            scope.spawn(move || load::give(clients, first, accepted, over));
        }
        let _ended = OnDrop(over);
        for _ in 0..if support::is_long() { 5 } else { 1 } {
            for (node, client) in fleet.nodes.iter_mut().zip(clients) {
                node.replace();
                shop.wait_for("the node", || client.info().is_ok());
            }
            fleet.workers.iter_mut().for_each(members::Member::replace);
        }
    });
    settle(&mut fleet, &clients, &[]);
    let runs = judge::all_runs(&clients, &[]);
    let accepted: std::collections::BTreeMap<Uid, &str> = accepted.into_inner().unwrap();
    judge::ends(&accepted, &runs, &[]);
    assert_eq!(judge::effects(&file, &effects.calls.lock().unwrap(), &runs), 0, "done once, all of it");
    judge::causes(&runs);
    for run in &runs {
        let expected = match run.task.as_str() {
            "slow" => (RunState::TimedOut, 1),
            "again" => (RunState::Succeeded, 2),
            "flow" => (RunState::Succeeded, run.attempts),
            _ => (RunState::Succeeded, 1),
        };
        assert_eq!((run.state, run.attempts), expected, "{run:?}");
    }
    println!("{} runs, none failed and none was lost", runs.len());
}

/// What a node ran was ended while it was stopped, and it is back before anybody has missed it.
#[test]
fn what_a_stopped_node_ran_is_lost_and_has_not_failed() {
    let Some(schema) = Schema::new("&sslmode=disable") else { return };
    let shop = Shop::new();
    shop.write(
        "demo.yaml",
        "meta: { type: ostler-timetable, version: 1, namespace: demo }
tasks:
  - meta: { id: stays }
    policy: { lost: rerun }
    run: 'echo $$ > pid; [ $OSTLER_ATTEMPT -gt 1 ] || exec sleep 600'
",
    );
    let args = ["demo.yaml", "--store", schema.url()];
    let mut served = shop.serve(&args);
    let started = served.post("/api/v1/tasks/demo/stays/runs", &serde_json::json!({})).json();
    let pid = || std::fs::read_to_string(shop.path().join("pid")).unwrap_or_default();
    shop.wait_for("its beginning", || pid().ends_with('\n'));
    let kill = |signal: &str, pid: &str| {
        let mut command = std::process::Command::new("kill");
        command.args([signal, pid.trim()]).stderr(std::process::Stdio::null()).status().unwrap().success()
    };
    let node = served.child.id().to_string();
    assert!(kill("-STOP", &node));
    shop.wait_for("its end", || !kill("-0", &pid()));
    assert!(kill("-CONT", &node));
    let code = served.child.wait().unwrap().code();
    assert_eq!(code, Some(5), "{}", served.told());
    let _other = shop.serve(&args);
    let id = started["id"].as_str().unwrap();
    let run = || shop.json(&["runs", "show", id, "--store", schema.url()])["run"].clone();
    shop.wait_for("its end", || run()["state"] == "succeeded");
    assert_eq!(run()["attempts"], 2, "{}", run());
}

/// Host and port of a store.
fn place(store: &str) -> String {
    let url: url::Url = store.parse().unwrap();
    format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(5432))
}

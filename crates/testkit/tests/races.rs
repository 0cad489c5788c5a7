//! Several schedulers on one PostgreSQL store race for the same due moments: each is fired once. Three with 5 000
//! schedules and 100 moments where `OSTLER_TEST_LONG=1`, else with 200 and 10.
#![allow(clippy::unwrap_used, reason = "a test fails where a value is missing")]

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use ostler_clock::{Clock, FakeClock, SeededEntropy};
use ostler_engine::{Config, Core, Effect, Ticker, machines, time::micros};
use ostler_model::{Kind, definition::Timetable};
use ostler_service::{Actor, Readers, Service, TaskCache};
use ostler_store::{Command, NEVER, NewNode, Queries, Reply, RunFilter, Store, Writer};
use ostler_store_postgres::{PgStore, scratch::Schema};
use serde_json::json;

const SCHEDULERS: usize = 3;
/// Schedules of one task.
const TOGETHER: usize = 100;

/// A scheduler: the engine's loop without slots, so that runs are put on record and nobody carries them out.
fn schedule(store: &mut PgStore, clock: &FakeClock, done: &AtomicBool, fired: &AtomicU64) {
    let register = Command::Register(NewNode { name: "races".into(), owner: true, ..NewNode::default() });
    let Ok(Reply::Node(node)) = store.apply(micros(clock.now()), &[register]).remove(0) else { panic!() };
    let tasks = Arc::new(TaskCache::new(store.queries().unwrap()));
    let presets = tasks.clone();
    let ticker = Ticker::new(
        &machines::all(Arc::new(move |ns, name| presets.preset(ns, name))),
        store.queries().unwrap().salt(),
        tasks,
        Arc::new(SeededEntropy::from_os()),
        Arc::new(|_| false),
    );
    let labels = Vec::new();
    let mut core = Core::new(Config {
        node,
        shared: true,
        slots: 0,
        labels,
        only_labelled: false,
        ticker: Arc::new(ticker),
    });
    while !done.load(Ordering::Acquire) {
        core.wake();
        loop {
            let effects = core.turn(clock.now());
            let idle = effects.is_empty() && !core.has_more();
            for effect in effects {
                if let Effect::Apply(command) = effect {
                    let now = clock.now();
                    let reply = store.apply(micros(now), std::slice::from_ref(&command)).remove(0);
                    if let Ok(Reply::Committed(outcomes)) = &reply {
                        fired.fetch_add(outcomes.len() as u64, Ordering::Relaxed);
                    }
                    core.replied(now, command, reply);
                }
            }
            if idle {
                break;
            }
        }
    }
}

#[test]
fn each_due_moment_fires_once_whoever_races_for_it() {
    let Some(schema) = Schema::new("") else { return };
    let is_long = std::env::var("OSTLER_TEST_LONG").as_deref() == Ok("1");
    let (schedules, moments): (usize, i64) = if is_long { (5_000, 100) } else { (200, 10) };
    let clock = Arc::new(FakeClock::at("2027-01-01T00:00:00Z".parse().unwrap()));
    let store = PgStore::open(&schema.address().unwrap()).unwrap();
    let queries = store.queries().unwrap();
    let tasks: Vec<_> = (0..schedules / TOGETHER)
        .map(|t| {
            let schedules: Vec<_> = (0..TOGETHER)
                .map(|s| {
                    json!({ "id": format!("s{s}"), "overlap": "allow", "missed": { "policy": "all" },
                            "trigger": { "rhythm": { "cron": { "expression": "* * * * * *" } } } })
                })
                .collect();
            json!({ "id": format!("t{t}"), "name": "t", "timezone": "UTC", "schedules": schedules,
                    "steps": [{ "id": "main", "uses": "none" }] })
        })
        .collect();
    let timetable: Timetable = serde_json::from_value(json!({
        "namespace": "races", "ephemeral": false, "origin": "races", "tasks": tasks,
    }))
    .unwrap();
    let cache = Arc::new(TaskCache::new(store.queries().unwrap()));
    let for_writer = clock.clone();
    let (writer, _thread) =
        Writer::start(Box::new(store), Arc::new(move || micros(for_writer.now()))).unwrap();
    let readers = Readers::one(PgStore::open(&schema.address().unwrap()).unwrap().queries().unwrap());
    let service = Service::new(writer, readers, clock.clone(), cache, None);
    service.push(&Actor::local("test"), &timetable).unwrap();
    // Every schedule waits for a moment that has not come.
    let is_waiting = |queries: &dyn Queries| {
        let now = micros(clock.now());
        let mut after = None;
        loop {
            let page = queries.machines(Kind::SCHEDULE, None, after.as_ref(), 1000).unwrap();
            let waits = |at: i64| at > now && at != NEVER;
            if !page
                .items
                .iter()
                .all(|m| m.tick.as_ref().is_some_and(|t| t.node.is_none() && waits(t.due_at)))
            {
                return false;
            }
            match page.next {
                None => return true,
                next => after = next,
            }
        }
    };
    let (done, fired) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let racers: Vec<_> = (0..SCHEDULERS)
            .map(|_| {
                let (clock, done, fired) = (&*clock, &done, &fired);
                let mut store = PgStore::open(&schema.address().unwrap()).unwrap();
                scope.spawn(move || {
                    let own = AtomicU64::new(0);
                    schedule(&mut store, clock, done, &own);
                    fired.fetch_add(own.load(Ordering::Relaxed), Ordering::Relaxed);
                    own.into_inner()
                })
            })
            .collect();
        let settle = || {
            while !is_waiting(&*queries) {
                thread::sleep(Duration::from_millis(5));
            }
        };
        settle();
        for _ in 0..moments {
            clock.advance(Duration::from_secs(1));
            settle();
        }
        done.store(true, Ordering::Release);
        let shares: Vec<u64> = racers.into_iter().map(|r| r.join().unwrap()).collect();
        println!("ticks of each scheduler: {shares:?}");
        // Few are taken in one go by whoever comes first.
        let shared = !is_long || shares.iter().all(|share| *share > 0);
        assert!(shared, "one of them never got anything: {shares:?}");
    });
    let mut found: BTreeMap<(i64, String), Vec<String>> = BTreeMap::new();
    let mut after = None;
    loop {
        let page = queries.runs(&RunFilter::default(), after.as_ref(), 1000).unwrap();
        for run in page.items {
            let fields: serde_json::Value = serde_json::from_str(&run.fields).unwrap();
            let cause = &fields["cause"];
            let schedule = cause["schedule"].as_str().unwrap_or_else(|| panic!("{fields}")).to_owned();
            found.entry((run.task_row, schedule)).or_default().push(cause["due"].to_string());
        }
        match page.next {
            None => break,
            next => after = next,
        }
    }
    assert_eq!(found.len(), schedules);
    for (schedule, mut due) in found {
        due.sort();
        let all = due.len();
        due.dedup();
        assert_eq!((due.len(), all as i64), (all, moments), "{schedule:?}: {due:?}");
    }
}

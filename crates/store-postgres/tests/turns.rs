//! Turns and limits over several nodes: what they spend on namespaces counts for all, and no permit that one gives back
//! is missed by another.
#![allow(clippy::unwrap_used, reason = "a test fails where a value is missing")]

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use ostler_clock::{Clock, SystemClock};
use ostler_store::{
    Claim, Claimed, Command, Commit, CommitOutcome, Concurrency, EventBody, Micros, NewMachine, NewNode,
    Next, NodeId, OnFull, RateLimit, Reply, Store,
};
use ostler_store_postgres::{PgStore, scratch::Schema};

const NOW: Micros = 1_795_000_000_000_000;
const SECOND: Micros = 1_000_000;

/// A run that takes so many microseconds.
fn run(namespace: &str, takes: Micros) -> NewMachine {
    NewMachine {
        kind: 1,
        namespace: namespace.into(),
        fields: takes.to_string(),
        priority: 1,
        due_at: NOW,
        event: EventBody { kind: "created".into(), body: String::new() },
        ..NewMachine::default()
    }
}

fn ending(node: NodeId, row: &Claimed, took: Micros) -> Commit {
    Commit {
        id: row.id,
        node,
        step: row.step,
        fence: row.fence,
        receipt: row.receipt,
        fields: None,
        next: Next::End { state: 10 },
        started_at: Some(NOW),
        took,
        event: EventBody { kind: "ended".into(), body: String::new() },
        start: Vec::new(),
        send: Vec::new(),
        read_mail: row.mail.last().map(|(seq, _)| *seq),
    }
}

/// A node with slots that simulated work fills.
struct Node {
    store: PgStore,
    id: NodeId,
    labels: Vec<String>,
    slots: usize,
    busy: BTreeMap<(Micros, u64), (Claimed, Micros)>,
    claimed: u64,
}

impl Node {
    fn open(schema: &Schema, labels: &[&str], slots: usize) -> Self {
        let mut store = PgStore::open(&schema.address().unwrap()).unwrap();
        let labels: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
        let new = NewNode { name: "test".into(), owner: true, labels: labels.clone(), ..NewNode::default() };
        let Ok(Reply::Node(id)) = store.apply(NOW, &[Command::Register(new)]).remove(0) else { panic!() };
        Self { store, id, labels, slots, busy: BTreeMap::new(), claimed: 0 }
    }

    /// Ends what is over and fills what is free. Gives the time that was spent, by namespace.
    fn turn(&mut self, now: Micros) -> Vec<(String, Micros)> {
        let (mut commits, mut spent) = (Vec::new(), Vec::new());
        while let Some(entry) = self.busy.first_entry().filter(|entry| entry.key().0 <= now) {
            let (row, took) = entry.remove();
            commits.push(ending(self.id, &row, took));
            spent.push((row.namespace.to_string(), took));
        }
        let want = (self.slots - self.busy.len()) as u32;
        let labels = self.labels.clone();
        let claim = Claim { node: self.id, want, light: 0, shared: true, labels, only_labelled: false };
        let mut replies = self.store.apply(now, &[Command::Commit(commits), Command::Claim(claim)]);
        let Some(Ok(Reply::Claimed(rows))) = replies.pop() else { panic!("{replies:?}") };
        for row in rows {
            let took: Micros = row.fields.parse().unwrap();
            self.claimed += 1;
            self.busy.insert((now + took, self.claimed), (row, took));
        }
        spent
    }

    fn next(&self) -> Option<Micros> {
        self.busy.first_key_value().map(|((at, _), _)| *at)
    }
}

/// One namespace's runs need a label that only the first node has; the other's may run anywhere. Each gets half of the
/// time of both nodes, within 5 %, though each node divides its own time by what it sees.
#[test]
fn time_is_shared_over_nodes() {
    let Some(schema) = Schema::new("") else { return };
    let mut nodes = [Node::open(&schema, &["gpu"], 2), Node::open(&schema, &[], 2)];
    let bound = NewMachine { labels: vec!["gpu".into()], ..run("bound", 20_000) };
    for batch in [vec![bound; 2_500], vec![run("free", 50_000); 2_500]] {
        nodes[0].store.apply(NOW, &[Command::Start(batch)]).remove(0).unwrap();
    }
    let mut spent: BTreeMap<String, Micros> = BTreeMap::new();
    let (mut now, end) = (NOW, NOW + 20 * SECOND);
    while now < end {
        for node in &mut nodes {
            for (namespace, took) in node.turn(now) {
                // What they hear of one another counts from the second second on.
                if now > NOW + 4 * SECOND {
                    *spent.entry(namespace).or_default() += took;
                }
            }
        }
        now = nodes.iter().filter_map(Node::next).min().unwrap();
    }
    let share = spent["bound"] as f64 / spent.values().sum::<Micros>() as f64;
    assert!((0.45..0.55).contains(&share), "{spent:?}");
}

/// Nodes that claim, end and give back beside one another lose no wake-up: a lane that one finds full is open for all as
/// soon as another has committed.
#[test]
fn no_permit_that_comes_back_is_missed() {
    const KEYS: usize = 60;
    const RUNS: usize = 12;
    let Some(schema) = Schema::new("") else { return };
    let limited = |n: usize| {
        let concurrency =
            Some(Concurrency { key: format!("key {}", n % KEYS), limit: 1, on_full: OnFull::Wait });
        // Some under a rate as well, some alone under one.
        let rate = RateLimit { key: format!("rate {}", n % KEYS), interval: 2_000, burst: 1 };
        NewMachine {
            concurrency: concurrency.filter(|_| !n.is_multiple_of(5)),
            rate: Some(rate).filter(|_| n % 5 < 2),
            priority: (n % 3) as i64,
            ..run("n", 0)
        }
    };
    let begun = SystemClock.elapsed();
    let ended = AtomicU32::new(0);
    let all = (KEYS * RUNS) as u32;
    let now = || NOW + (SystemClock.elapsed() - begun).as_micros() as Micros;
    thread::scope(|scope| {
        for thread in 0..3usize {
            let (schema, ended, limited) = (&schema, &ended, &limited);
            scope.spawn(move || {
                let mut node = Node::open(schema, &[], 0);
                let mut last = SystemClock.elapsed();
                // The numbers of each thread are its own.
                let mut n = thread;
                while ended.load(Ordering::Relaxed) < all {
                    // Starts come beside claims and ends.
                    if n < KEYS * RUNS {
                        let some =
                            Command::Start((n..(n + 12).min(KEYS * RUNS)).step_by(3).map(limited).collect());
                        node.store.apply(now(), &[some]).remove(0).unwrap();
                        n += 12;
                    }
                    let claim = Claim {
                        node: node.id,
                        want: 3,
                        light: 0,
                        shared: true,
                        labels: Vec::new(),
                        only_labelled: false,
                    };
                    let Ok(Reply::Claimed(mut rows)) =
                        node.store.apply(now(), &[Command::Claim(claim)]).remove(0)
                    else {
                        panic!()
                    };
                    if rows.is_empty() {
                        assert!(
                            SystemClock.elapsed() - last < Duration::from_secs(20),
                            "{ended:?} of {all}, and nothing is found"
                        );
                        thread::sleep(Duration::from_millis(1));
                        continue;
                    }
                    last = SystemClock.elapsed();
                    // One is given back now and then.
                    if rows.len() == 3 {
                        let row = rows.remove(0);
                        let release = Command::Release { node: node.id, machines: vec![(row.id, row.fence)] };
                        node.store.apply(now(), &[release]).remove(0).unwrap();
                    }
                    let commits = rows.iter().map(|row| ending(node.id, row, 0)).collect();
                    let Ok(Reply::Committed(outcomes)) =
                        node.store.apply(now(), &[Command::Commit(commits)]).remove(0)
                    else {
                        panic!()
                    };
                    assert!(outcomes.iter().all(|o| matches!(o, CommitOutcome::Committed { .. })));
                    ended.fetch_add(outcomes.len() as u32, Ordering::Relaxed);
                }
            });
        }
    });
}

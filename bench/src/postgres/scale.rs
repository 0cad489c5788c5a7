//! Facts of size: a hundred thousand starts in one call, claims beside a long backlog, the memory of a node that drains
//! a million runs, pages of long lists.

use ostler_clock::{Clock as _, SystemClock};
use ostler_store::{Claim, Claimed, Command, Commit, EventBody, NewNode, Next, NodeId, Reply, Store as _};
use ostler_store_postgres::{PgStore, scratch::Schema};

use super::{
    fleet::{Fleet, Kind},
    place, schema,
};
use crate::{Figure, ROUNDS, http, seconds, whole::Shop};

/// Rows of one claim, and how many claims are measured.
const ROWS: u32 = 100;
const CLAIMS: usize = 100;

/// How many runs [`claims`] ends.
pub(super) const ENDED: usize = ROWS as usize * CLAIMS;

/// One fact.
pub(super) struct Fact {
    pub(super) name: String,
    pub(super) value: f64,
    pub(super) unit: &'static str,
    pub(super) note: String,
}

/// Milliseconds for claims of a hundred ready runs, and for the commits of their ends, straight at the store.
pub(super) fn claims(schema: &Schema) -> [Figure; 2] {
    let mut store = PgStore::open(&schema.address().unwrap()).unwrap();
    let now = || SystemClock.now().as_microsecond();
    let mut ask = |command: Command| store.apply(now(), &[command]).remove(0).unwrap();
    let new = NewNode { name: "bench".into(), slots: ROWS, ..NewNode::default() };
    let Reply::Node(node) = ask(Command::Register(new)) else { panic!("no node") };
    let (mut claim, mut commit) = (Figure::new(), Figure::new());
    for _ in 0..CLAIMS {
        let labels = Vec::new();
        let wanted = Claim { node, want: ROWS, light: 0, shared: true, labels, only_labelled: false };
        let mut taken = Vec::new();
        claim.push(
            1000.0
                * seconds(|| {
                    let Reply::Claimed(rows) = ask(Command::Claim(wanted)) else { panic!("no rows") };
                    taken = rows;
                }),
        );
        assert_eq!(taken.len(), ROWS as usize);
        let ends = taken.into_iter().map(|row| end(row, node, now())).collect();
        commit.push(1000.0 * seconds(|| drop(ask(Command::Commit(ends)))));
    }
    ask(Command::Close { node });
    [claim, commit]
}

fn end(row: Claimed, node: NodeId, now: i64) -> Commit {
    Commit {
        id: row.id,
        node,
        step: row.step,
        fence: row.fence,
        receipt: row.receipt,
        fields: Some(row.fields),
        next: Next::End { state: 10 },
        started_at: Some(now),
        took: 0,
        event: EventBody { kind: "succeeded".into(), body: String::new() },
        start: Vec::new(),
        send: Vec::new(),
        read_mail: None,
    }
}

/// Tells all facts, at the full size or a part of it.
pub(super) fn measure(part: usize, mut tell: impl FnMut(Fact)) {
    let (starts, backlog) = (100_000 / part, 1_000_000 / part);
    let schema = schema();
    let shop = Shop::at(place(&schema));
    let mut fact = |name: &str, value: f64, unit: &'static str, note: String| {
        tell(Fact { name: name.to_owned(), value, unit, note });
    };
    // The first claims beside a short backlog, so that both sizes are measured on a store that has seen some.
    for ready in [1000, backlog] {
        let there = shop.ready();
        shop.enqueue_in(ready.saturating_sub(there) + ENDED, starts);
        let [claim, commit] = claims(&schema);
        for (what, figure) in [("claim", claim), ("commit", commit)] {
            for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
                let note = format!("{what} of {ROWS} rows, {CLAIMS} times, beside {ready} ready runs");
                fact(&format!("s_{what}_{name}_{ready}"), figure.at(share), "ms", note);
            }
        }
    }
    let left = shop.ready();
    let mut fleet = Fleet::start(Kind::Node, schema.url(), 1);
    let took = fleet.drain(left);
    fact(
        "s_drain",
        left as f64 / took,
        "jobs/s",
        format!("{left} ready runs drained by one node, 2000 slots"),
    );
    fact("s_rss", fleet.peak(), "MB", format!("the most memory of that node, {left} runs"));
    fact("s_cpu", fleet.cpu() / left as f64 * 1e6, "us", "processor time of that node for a run".into());
    drop(fleet);
    fact(
        "s_start",
        seconds(|| shop.enqueue_in(starts, starts)),
        "s",
        format!("{starts} starts in one call of the library"),
    );
    if let Some(took) = http::start_many(schema.url(), starts) {
        fact("s_start_http", took, "s", format!("{starts} starts in one request to `ostler serve`"));
    }
    let mut finished = backlog;
    for times in [1, 10] {
        if times > 1 {
            schema.script(&copies(times)).unwrap();
            finished *= times;
        }
        let mut page = Figure::new();
        (0..ROUNDS).for_each(|_| page.push(seconds(|| shop.page()) * 1000.0));
        let note = format!(
            "the newest 50 of about {finished} runs{}",
            if times > 1 { ", copied by SQL" } else { "" }
        );
        fact(&format!("s_page_{finished}"), page.median(), "ms", note);
    }
}

/// Makes the runs of a store so many times as many, with keys before all others.
fn copies(times: usize) -> String {
    format!(
        "INSERT INTO machine (id, parent, watcher, last_event, step, started_at, finished_at, ns, task, definition, kind,
           state, fields)
         SELECT m.id - n*(1 + last.id - first.id), parent, watcher, last_event, step, started_at, finished_at, ns, task,
           definition, kind, state, fields
         FROM machine m, generate_series(1, {times} - 1) n, (SELECT min(id) id FROM machine) first,
           (SELECT max(id) id FROM machine) last
         WHERE m.state=10; ANALYZE machine"
    )
}

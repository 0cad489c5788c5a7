//! What a claim costs beside how many lanes: of many tenants, and of many keys whose limits are full.

use std::path::Path;

use ostler_store::{
    Claim, Claimed, Command, Commit, Concurrency, EventBody, Micros, NewMachine, NewNode, Next, NodeId,
    OnFull, Reply, Store,
};
use ostler_store_postgres::{PgStore, scratch::Schema};
use ostler_store_sqlite::{OpenOptions, SqliteStore};

use crate::{Figure, seconds};

const NOW: Micros = 1_795_000_000_000_000;

/// Rows in one claim.
const WANT: u32 = 100;

/// How many claims of each kind are measured.
const CLAIMS: usize = 40;

fn run(namespace: String) -> NewMachine {
    NewMachine {
        kind: 1,
        namespace,
        fields: "{}".into(),
        priority: 2,
        due_at: NOW,
        event: EventBody { kind: "created".into(), body: String::new() },
        ..NewMachine::default()
    }
}

struct Bench {
    store: Box<dyn Store>,
    node: NodeId,
}

impl Bench {
    fn new(mut store: Box<dyn Store>) -> Self {
        let new = NewNode { name: "bench".into(), owner: true, ..NewNode::default() };
        let Ok(Reply::Node(node)) = store.apply(NOW, &[Command::Register(new)]).remove(0) else { panic!() };
        Self { store, node }
    }

    fn start(&mut self, machines: Vec<NewMachine>) {
        for batch in machines.chunks(1000) {
            self.store.apply(NOW, &[Command::Start(batch.to_vec())]).remove(0).unwrap();
        }
    }

    fn claim(&mut self, want: u32) -> Vec<Claimed> {
        let claim = Claim {
            node: self.node,
            want,
            light: 256,
            shared: true,
            labels: Vec::new(),
            only_labelled: false,
        };
        match self.store.apply(NOW, &[Command::Claim(claim)]).remove(0) {
            Ok(Reply::Claimed(rows)) => rows,
            other => panic!("{other:?}"),
        }
    }

    fn end(&mut self, rows: &[Claimed]) {
        let node = self.node;
        let commits = rows.iter().map(|row| Commit {
            id: row.id,
            node,
            step: row.step,
            fence: row.fence,
            receipt: row.receipt,
            fields: None,
            next: Next::End { state: 10 },
            started_at: Some(NOW),
            took: 1000,
            event: EventBody { kind: "ended".into(), body: String::new() },
            start: Vec::new(),
            send: Vec::new(),
            read_mail: None,
        });
        self.store.apply(NOW, &[Command::Commit(commits.collect())]).remove(0).unwrap();
    }

    /// Milliseconds of claims that find enough.
    fn claims(&mut self) -> Figure {
        let mut figure = Figure::new();
        for _ in 0..CLAIMS {
            let mut rows = Vec::new();
            figure.push(seconds(|| rows = self.claim(WANT)) * 1000.0);
            assert_eq!(rows.len(), WANT as usize);
            self.end(&rows);
        }
        figure
    }
}

/// A claim of a hundred rows where so many namespaces have something ready.
fn tenants(bench: &mut Bench, lanes: usize) -> Figure {
    let rows = (CLAIMS + 1) * WANT as usize;
    let each = rows.div_ceil(lanes);
    bench.start((0..lanes * each).map(|n| run(format!("t{}", n % lanes))).collect());
    let rows = bench.claim(WANT);
    bench.end(&rows);
    bench.claims()
}

/// Claims beside so many keys whose limit is full: of a hundred rows of another lane, and where nothing is free.
fn full(bench: &mut Bench, lanes: usize) -> [Figure; 2] {
    let keyed = |n: usize| NewMachine {
        concurrency: Some(Concurrency { key: format!("k{}", n % lanes), limit: 1, on_full: OnFull::Wait }),
        ..run("keys".into())
    };
    bench.start((0..2 * lanes).map(keyed).collect());
    while !bench.claim(1000).is_empty() {}
    let mut idle = Figure::new();
    for _ in 0..CLAIMS {
        idle.push(seconds(|| drop(bench.claim(WANT))) * 1000.0);
    }
    bench.start((0..CLAIMS * WANT as usize).map(|_| run("free".into())).collect());
    [bench.claims(), idle]
}

pub(crate) fn claims(most: usize) {
    println!("Claims of {WANT} rows, medians of {CLAIMS}, by how many lanes there are");
    let folder = tempfile::tempdir().unwrap();
    let mut base: Vec<f64> = Vec::new();
    for lanes in [10usize, 1_000, 10_000].into_iter().filter(|lanes| *lanes <= most) {
        let schemas = [Schema::new("").unwrap(), Schema::new("").unwrap()];
        let sqlite = |name: &str| {
            let path = folder.path().join(format!("{name}{lanes}.db"));
            Bench::new(Box::new(SqliteStore::open(Path::new(&path), &OpenOptions::default()).unwrap()))
        };
        let postgres =
            |schema: &Schema| Bench::new(Box::new(PgStore::open(&schema.address().unwrap()).unwrap()));
        let mut figures = Vec::new();
        for (store, mut for_tenants, mut for_keys) in [
            ("SQLite", sqlite("tenants"), sqlite("keys")),
            ("PostgreSQL", postgres(&schemas[0]), postgres(&schemas[1])),
        ] {
            figures.push((format!("{store}, so many namespaces"), tenants(&mut for_tenants, lanes)));
            let [beside, idle] = full(&mut for_keys, lanes);
            figures.push((format!("{store}, beside so many full keys"), beside));
            figures.push((format!("{store}, so many full keys and nothing else"), idle));
        }
        for (place, (what, figure)) in figures.into_iter().enumerate() {
            if base.len() <= place {
                base.push(figure.median());
            }
            println!(
                "    {lanes:>6}  {what:<44} {}  {:.2}x",
                figure.shown("ms"),
                figure.median() / base[place]
            );
        }
    }
    println!();
}

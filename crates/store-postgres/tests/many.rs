//! Several processes on one store: what only shows when others write at the same time.
#![allow(clippy::unwrap_used, reason = "a test fails where a value is missing")]

mod kit;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
};

use ostler_store::{
    Command, Commit, Concurrency, EventPage, EventRow, Letter, NewMachine, Next, OnFull, Queries, Reply,
    StartOutcome, StoreError,
};
use ostler_store_postgres::{Address, PgStore, scratch::Schema};

use crate::kit::{ask, claim, end_all, ending, register, run};

fn events_after(queries: &dyn Queries, cursor: i64) -> (Vec<EventRow>, i64) {
    match queries.events(cursor, 50).unwrap() {
        EventPage::Events { items, next } => (items, next),
        gone @ EventPage::Gone { .. } => panic!("{gone:?}"),
    }
}

/// Whoever follows with one number sees all events of all writers, each once, those of one machine in their order.
#[test]
fn readers_miss_nothing_while_many_write() {
    let Some(schema) = Schema::new("") else { return };
    let store = PgStore::open(&schema.address().unwrap()).unwrap();
    let queries = store.reader().queries();
    let (done, slow) = (AtomicBool::new(false), AtomicU32::new(0));
    let mut seen: Vec<EventRow> = Vec::new();
    thread::scope(|scope| {
        let writers: Vec<_> = (0..4u32)
            .map(|writer| {
                let (schema, slow) = (&schema, &slow);
                scope.spawn(move || {
                    let mut store = PgStore::open(&schema.address().unwrap()).unwrap();
                    let node = register(&mut store);
                    for round in 0..25u32 {
                        // Batches of very different lengths, so that transactions overtake one another.
                        let many = if (round + writer) % 5 == 0 { 400 } else { 2 };
                        slow.fetch_max(many, Ordering::Relaxed);
                        ask(&mut store, Command::Start(vec![run(); many as usize]));
                        let rows = claim(&mut store, node, many);
                        end_all(&mut store, node, &rows);
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            writers.into_iter().for_each(|w| w.join().unwrap());
            done.store(true, Ordering::Release);
        });
        let mut cursor = 0;
        loop {
            let ended = done.load(Ordering::Acquire);
            let (items, next) = events_after(&*queries, cursor);
            if ended && items.is_empty() {
                break;
            }
            seen.extend(items);
            cursor = next;
        }
    });
    let mut all = Vec::new();
    let mut cursor = 0;
    loop {
        let (items, next) = events_after(&*queries, cursor);
        if items.is_empty() {
            break;
        }
        all.extend(items);
        cursor = next;
    }
    assert_eq!(all.len() as u64 - queries.stats().unwrap().queue.iter().sum::<u64>(), 2 * ended(&all));
    assert!(seen.windows(2).all(|pair| pair[0].seq < pair[1].seq));
    assert_eq!(seen.len(), all.len(), "one who followed has seen what one who came later sees");
    assert_eq!(seen, all);
    let mut steps: BTreeMap<_, u64> = BTreeMap::new();
    for event in &seen {
        let step = steps.entry(event.machine).or_default();
        assert_eq!(event.step, *step + 1, "{event:?}");
        *step = event.step;
    }
}

fn ended(events: &[EventRow]) -> u64 {
    events.iter().filter(|e| e.kind == "ended").count() as u64
}

/// A transaction that has its number and writes later keeps back what came after it, and nothing else does.
#[test]
fn an_old_transaction_holds_the_horizon_only_while_it_may_write_events() {
    let Some(schema) = Schema::new("") else { return };
    let mut store = PgStore::open(&schema.address().unwrap()).unwrap();
    let queries = store.reader().queries();
    let driver = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let connect = || {
        driver.block_on(async {
            let server = ostler_test_servers::POSTGRES.url().unwrap();
            let (client, connection) = tokio_postgres::connect(&server, tokio_postgres::NoTls).await.unwrap();
            tokio::spawn(connection);
            client.batch_execute(&format!("SET search_path TO {}", schema.name())).await.unwrap();
            client
        })
    };
    let (writer, stranger) = (connect(), connect());
    let script =
        |client: &tokio_postgres::Client, sql: &str| driver.block_on(client.batch_execute(sql)).unwrap();
    script(&stranger, "BEGIN; CREATE TABLE elsewhere (n INT); SELECT pg_current_xact_id()");
    script(&writer, "BEGIN; LOCK TABLE event IN ROW EXCLUSIVE MODE; SELECT pg_current_xact_id()");
    ask(&mut store, Command::Start(vec![run()]));
    assert_eq!(events_after(&*queries, 0).0.len(), 0, "the older one may still write before it");
    script(&writer, "ROLLBACK");
    assert_eq!(events_after(&*queries, 0).0.len(), 1, "a stranger's transaction keeps nothing back");
    script(&stranger, "ROLLBACK");
}

/// A concurrency limit and a unique key hold over all nodes.
#[test]
fn limits_and_keys_hold_over_all_nodes() {
    const LIMIT: u32 = 5;
    const NODES: usize = 3;
    let Some(schema) = Schema::new("") else { return };
    let mut store = PgStore::open(&schema.address().unwrap()).unwrap();
    let concurrency = Some(Concurrency { key: "k".into(), limit: LIMIT, on_full: OnFull::Wait });
    ask(&mut store, Command::Start(vec![NewMachine { concurrency, ..run() }; 150]));
    let (working, most, ended) = (AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0));
    let together = Barrier::new(NODES);
    let outcomes: Vec<StartOutcome> = thread::scope(|scope| {
        let nodes: Vec<_> = (0..NODES)
            .map(|_| {
                scope.spawn(|| {
                    let mut store = PgStore::open(&schema.address().unwrap()).unwrap();
                    let node = register(&mut store);
                    let unique = NewMachine { unique_key: Some("only".into()), due_at: i64::MAX, ..run() };
                    together.wait();
                    let mut outcomes = Vec::new();
                    for _ in 0..20 {
                        match ask(&mut store, Command::Start(vec![unique.clone()])) {
                            Reply::Started(mut outcome) => outcomes.append(&mut outcome),
                            other => panic!("{other:?}"),
                        }
                    }
                    while ended.load(Ordering::Relaxed) < 150 {
                        let rows = claim(&mut store, node, 4);
                        let now = working.fetch_add(rows.len() as u32, Ordering::SeqCst) + rows.len() as u32;
                        most.fetch_max(now, Ordering::SeqCst);
                        working.fetch_sub(rows.len() as u32, Ordering::SeqCst);
                        end_all(&mut store, node, &rows);
                        ended.fetch_add(rows.len() as u32, Ordering::Relaxed);
                    }
                    outcomes
                })
            })
            .collect();
        nodes.into_iter().flat_map(|n| n.join().unwrap()).collect()
    });
    assert!(most.load(Ordering::SeqCst) <= LIMIT, "{most:?}");
    let made = outcomes.iter().filter(|o| matches!(o, StartOutcome::Started(_))).count();
    let ids: BTreeSet<_> = outcomes.iter().map(|o| o.id()).collect();
    assert_eq!((made, ids.len(), outcomes.len()), (1, 1, 20 * NODES));
}

/// Letters from many sides to one machine: each is read once, and none is left behind.
#[test]
fn letters_from_many_sides_are_read_once() {
    const SENDERS: usize = 3;
    const EACH: usize = 60;
    let Some(schema) = Schema::new("") else { return };
    let mut store = PgStore::open(&schema.address().unwrap()).unwrap();
    let node = register(&mut store);
    let Reply::Started(made) =
        ask(&mut store, Command::Start(vec![NewMachine { due_at: i64::MAX, ..run() }]))
    else {
        panic!()
    };
    let id = made[0].id();
    let sending = AtomicU32::new(SENDERS as u32);
    let mut read = Vec::new();
    thread::scope(|scope| {
        for sender in 0..SENDERS {
            let (schema, sending) = (&schema, &sending);
            scope.spawn(move || {
                let mut store = PgStore::open(&schema.address().unwrap()).unwrap();
                for n in 0..EACH {
                    let letter = Letter::Signal { name: format!("{sender}:{n:03}"), body: String::new() };
                    ask(&mut store, Command::Send(vec![(id, letter)]));
                }
                sending.fetch_sub(1, Ordering::Release);
            });
        }
        loop {
            let over = sending.load(Ordering::Acquire) == 0;
            let rows = claim(&mut store, node, 1);
            if over && rows.is_empty() {
                break;
            }
            for row in rows {
                read.extend(row.mail.iter().map(|(_, letter)| match letter {
                    Letter::Signal { name, .. } => name.clone(),
                    other => panic!("{other:?}"),
                }));
                let stay = Next::Stay { until: i64::MAX, keep_permit: false };
                let commit = Commit { next: stay, ..ending(node, &row) };
                ask(&mut store, Command::Commit(vec![commit]));
            }
        }
    });
    let mut of: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in read {
        let (sender, _) = name.split_once(':').unwrap();
        of.entry(sender.to_owned()).or_default().push(name);
    }
    assert_eq!(of.len(), SENDERS);
    for (sender, names) in of {
        let expected: Vec<_> = (0..EACH).map(|n| format!("{sender}:{n:03}")).collect();
        assert_eq!(names, expected);
    }
}

/// A way to the server that breaks, once, when the answer to a commit is on its way back.
struct Breaking {
    port: u16,
    armed: Arc<AtomicBool>,
    broken: Arc<AtomicU32>,
}

impl Breaking {
    fn start(server: (String, u16)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (armed, broken) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (arm, count) = (armed.clone(), broken.clone());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let upstream = TcpStream::connect((server.0.as_str(), server.1)).unwrap();
                let (mut from_client, mut to_server) =
                    (client.try_clone().unwrap(), upstream.try_clone().unwrap());
                let (mut from_server, mut to_client) = (upstream, client);
                let doomed = Arc::new(AtomicBool::new(false));
                let (arm, count, doom) = (arm.clone(), count.clone(), doomed.clone());
                thread::spawn(move || {
                    let mut buffer = [0; 65536];
                    while let Ok(n @ 1..) = from_client.read(&mut buffer) {
                        let commits = buffer[..n].windows(7).any(|w| w == b"COMMIT\0");
                        if commits && arm.swap(false, Ordering::SeqCst) {
                            count.fetch_add(1, Ordering::SeqCst);
                            doom.store(true, Ordering::SeqCst);
                        }
                        if to_server.write_all(&buffer[..n]).is_err() {
                            break;
                        }
                    }
                    let _ = to_server.shutdown(Shutdown::Both);
                });
                thread::spawn(move || {
                    let mut buffer = [0; 65536];
                    while let Ok(n @ 1..) = from_server.read(&mut buffer) {
                        // The server has answered; nobody hears it.
                        if doomed.load(Ordering::SeqCst) || to_client.write_all(&buffer[..n]).is_err() {
                            break;
                        }
                    }
                    let _ = to_client.shutdown(Shutdown::Both);
                    let _ = from_server.shutdown(Shutdown::Both);
                });
            }
        });
        Self { port, armed, broken }
    }
}

#[test]
fn a_commit_whose_answer_is_lost_is_looked_up_and_never_done_twice() {
    let Some(schema) = Schema::new("") else { return };
    let server: url::Url = schema.url().parse().unwrap();
    let way = Breaking::start((server.host_str().unwrap().to_owned(), server.port().unwrap_or(5432)));
    let mut through = server;
    through.set_host(Some("127.0.0.1")).unwrap();
    through.set_port(Some(way.port)).unwrap();
    let address = Address::parse(&format!("{through}&sslmode=disable")).unwrap();
    let mut store = PgStore::open(&address).unwrap();
    let node = register(&mut store);
    for round in 0..6u64 {
        way.armed.store(true, Ordering::SeqCst);
        ask(&mut store, Command::Start(vec![run(), run()]));
        way.armed.store(true, Ordering::SeqCst);
        let rows = claim(&mut store, node, 9);
        assert_eq!(rows.len(), 2, "what was claimed is known to be claimed");
        way.armed.store(true, Ordering::SeqCst);
        end_all(&mut store, node, &rows);
        assert_eq!(way.broken.load(Ordering::SeqCst), 3 * (round as u32 + 1));
        let queries = store.reader().queries();
        let stats = queries.stats().unwrap();
        assert_eq!(stats.queue, [0; 4]);
        let runs = queries.runs(&ostler_store::RunFilter::default(), None, 100).unwrap().items;
        assert_eq!(runs.len() as u64, 2 * (round + 1));
    }
}

/// A newer Ostler has changed the schema: whoever starts refuses, and who was at work goes on.
#[test]
fn what_a_newer_ostler_has_changed_is_refused_by_those_who_start() {
    let Some(schema) = Schema::new("") else { return };
    let mut store = PgStore::open(&schema.address().unwrap()).unwrap();
    let node = register(&mut store);
    schema
        .script(
            "UPDATE meta SET value=9 WHERE key='schema'; ALTER TABLE tick ADD COLUMN newer BIGINT NOT NULL DEFAULT 0;
             ALTER TABLE machine ADD COLUMN newer TEXT NOT NULL DEFAULT ''; ALTER TABLE event ADD COLUMN newer BIGINT;
             ALTER TABLE node ADD COLUMN newer BOOLEAN NOT NULL DEFAULT FALSE",
        )
        .unwrap();
    let refused = PgStore::open(&schema.address().unwrap()).err();
    assert!(matches!(refused, Some(StoreError::Newer { found: 9, .. })), "{refused:?}");
    ask(&mut store, Command::Start(vec![run()]));
    let rows = claim(&mut store, node, 9);
    assert_eq!(rows.len(), 1);
    end_all(&mut store, node, &rows);
}

//! Files: opening, refusing, several processes, a full disk, looking after them, and locks beside them.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::{path::Path, time::Duration};

use ostler_model::MachineId;
use ostler_store::{
    Claim, Claimed, Command, Commit, CommitOutcome, EventBody, Micros, NewMachine, NewNode, Next, NodeId,
    Prune, Reply, RunFilter, StartOutcome, Store, StoreError,
};
use ostler_store_sqlite::{NodeLock, OpenOptions, OwnerLock, SqliteStore, admin, is_node_alive};
use rusqlite::Connection;

const NOW: Micros = 1_795_000_000_000_000;

fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path, &OpenOptions::default()).unwrap()
}

fn refused(path: &Path) -> String {
    SqliteStore::open(path, &OpenOptions::default()).err().unwrap().to_string()
}

fn one(store: &mut SqliteStore, command: Command) -> Result<Reply, StoreError> {
    store.apply(NOW, &[command]).pop().unwrap()
}

fn register(store: &mut SqliteStore) -> NodeId {
    match one(store, Command::Register(NewNode { name: "host:1".into(), owner: true, ..NewNode::default() }))
    {
        Ok(Reply::Node(node)) => node,
        other => panic!("{other:?}"),
    }
}

fn run() -> NewMachine {
    NewMachine {
        kind: 1,
        namespace: "default".into(),
        fields: "{}".into(),
        priority: 1,
        due_at: NOW,
        event: EventBody { kind: "created".into(), body: String::new() },
        ..NewMachine::default()
    }
}

fn start(store: &mut SqliteStore) -> Result<MachineId, StoreError> {
    match one(store, Command::Start(vec![run()]))? {
        Reply::Started(outcomes) => Ok(outcomes[0].id()),
        other => panic!("{other:?}"),
    }
}

fn claim(store: &mut SqliteStore, node: NodeId, want: u32) -> Vec<Claimed> {
    match one(
        store,
        Command::Claim(Claim {
            node,
            want,
            light: 0,
            shared: true,
            labels: Vec::new(),
            only_labelled: false,
        }),
    ) {
        Ok(Reply::Claimed(rows)) => rows,
        other => panic!("{other:?}"),
    }
}

fn ending(node: NodeId, row: &Claimed) -> Commit {
    Commit {
        id: row.id,
        node,
        step: row.step,
        fence: row.fence,
        receipt: row.receipt,
        fields: None,
        next: Next::End { state: 10 },
        started_at: Some(NOW),
        took: 0,
        event: EventBody { kind: "succeeded".into(), body: String::new() },
        start: Vec::new(),
        send: Vec::new(),
        read_mail: None,
    }
}

#[test]
fn what_was_answered_is_there_after_opening_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/er/store.db");
    let options = OpenOptions { salt: Some(u64::MAX - 5), ..OpenOptions::default() };
    let mut store = SqliteStore::open(&path, &options).unwrap();
    let id = start(&mut store).unwrap();
    drop(store);
    let mut store = open(&path);
    let queries = store.queries().unwrap();
    assert_eq!(queries.salt(), u64::MAX - 5);
    assert_eq!(queries.machine(id).unwrap().unwrap().namespace, "default");
    assert!(start(&mut store).unwrap() > id);
    let stats = queries.stats().unwrap();
    assert_eq!((stats.schema, stats.queue, stats.last_event), (6, [0, 2, 0, 0], 2));
}

#[test]
fn stores_differ_by_their_salt() {
    let salt = || SqliteStore::open_memory(&OpenOptions::default()).unwrap().queries().unwrap().salt();
    assert_ne!(salt(), salt());
}

#[test]
fn what_is_no_store_of_ours_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("notes.txt");
    std::fs::write(&text, "just a few words, more than a header would be long: ".repeat(20)).unwrap();
    assert_eq!(
        refused(&text),
        format!("the store cannot be used: `{}`: it is not an SQLite file; name another one", text.display())
    );
    let other = folder.path().join("other.db");
    Connection::open(&other).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    let before = std::fs::read(&other).unwrap();
    assert_eq!(
        refused(&other),
        format!(
            "the store cannot be used: `{}`: it is an SQLite file of another program; name another one",
            other.display()
        )
    );
    assert_eq!(std::fs::read(&other).unwrap(), before);
    assert_eq!(
        refused(folder.path()),
        format!("the store cannot be used: `{}`: it is a folder; name a file in it", folder.path().display())
    );
    let below = text.join("store.db");
    assert!(refused(&below).contains("its folder cannot be made"), "{}", refused(&below));
    let gone = folder.path().join("none.db");
    let error = SqliteStore::open_read_only(&gone).err().unwrap();
    assert_eq!(
        error.to_string(),
        format!("the store cannot be used: `{}`: there is no such file", gone.display())
    );
    assert!(!gone.exists());
}

#[test]
fn a_newer_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    drop(open(&path));
    Connection::open(&path).unwrap().execute_batch("PRAGMA user_version=9").unwrap();
    let newer = StoreError::Newer { found: 9, known: 6 };
    assert_eq!(SqliteStore::open(&path, &OpenOptions::default()).err(), Some(newer.clone()));
    assert_eq!(SqliteStore::open_read_only(&path).err(), Some(newer));
}

#[test]
fn two_processes_take_turns_and_see_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let mut owner = open(&path);
    let mut guest = open(&path);
    let node = register(&mut owner);
    let version = owner.data_version().unwrap();
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(start(&mut guest).unwrap());
        ids.push(start(&mut owner).unwrap());
    }
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "keys are handed out once, whoever asks");
    assert_ne!(owner.data_version().unwrap(), version);
    assert_eq!(claim(&mut owner, node, 99).len(), 40);
    assert_eq!(claim(&mut guest, node, 99).len(), 0);
    // Limits and lanes that one of them made anew are known to the other.
    let limited = |limit| {
        let concurrency =
            ostler_store::Concurrency { key: "k".into(), limit, on_full: ostler_store::OnFull::Wait };
        Command::Start(vec![NewMachine { concurrency: Some(concurrency), ..run() }])
    };
    for limit in [1, 3, 1, 2] {
        one(&mut guest, limited(limit)).unwrap();
        one(&mut owner, limited(limit)).unwrap();
    }
    assert_eq!(claim(&mut owner, node, 99).len(), 2);
}

#[test]
fn a_writer_that_waits_too_long_is_told_that_the_store_is_busy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let patience = Duration::from_millis(60);
    let mut store = SqliteStore::open(&path, &OpenOptions { patience, ..OpenOptions::default() }).unwrap();
    let id = start(&mut store).unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = start(&mut store).unwrap_err();
    assert!(matches!(error, StoreError::Busy(_)) && error.is_transient(), "{error}");
    assert!(store.queries().unwrap().machine(id).unwrap().is_some(), "readers do not wait");
    other.execute_batch("COMMIT").unwrap();
    start(&mut store).unwrap();
}

#[test]
fn many_writers_all_get_their_turn() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    drop(open(&path));
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let mut store = open(&path);
                for _ in 0..30 {
                    start(&mut store).unwrap();
                }
            });
        }
    });
    let stats = open(&path).queries().unwrap().stats().unwrap();
    assert_eq!((stats.queue[1], stats.last_event), (180, 180));
}

#[test]
fn a_store_is_made_once_by_many() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let salts: Vec<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| open(&path).queries().unwrap().salt())).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(salts.windows(2).all(|pair| pair[0] == pair[1]), "{salts:?}");
}

#[test]
fn a_full_disk_changes_nothing_and_passes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let small = OpenOptions { max_pages: Some(64), ..OpenOptions::default() };
    let mut store = SqliteStore::open(&path, &small).unwrap();
    let node = register(&mut store);
    let large = NewMachine { fields: format!("\"{}\"", "x".repeat(4000)), ..run() };
    let mut made = 0;
    let error = loop {
        match one(&mut store, Command::Start(vec![large.clone(); 4])) {
            Ok(_) => made += 4,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Full(_)) && error.is_transient(), "{error}");
    let queue = |store: &SqliteStore| store.queries().unwrap().stats().unwrap().queue;
    assert_eq!(queue(&store), [0, made, 0, 0]);
    // All of a batch get the same answer, those that would have fitted included.
    let batch = [Command::Renew { node, waited: 0 }, Command::Start(vec![large.clone(); 40])];
    let replies = store.apply(NOW, &batch);
    assert!(replies.iter().all(|r| matches!(r, Err(StoreError::Full(_)))), "{replies:?}");
    assert_eq!(queue(&store), [0, made, 0, 0]);
    drop(store);
    let mut store = open(&path);
    one(&mut store, Command::Start(vec![large; 4])).unwrap();
    assert_eq!(claim(&mut store, node, 1000).len() as u64, made + 4);
    drop(store);
    assert_eq!(admin::check(&path).unwrap(), Vec::<String>::new());
}

#[test]
fn a_command_that_sqlite_refuses_half_way_goes_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let mut store = open(&path);
    Connection::open(&path)
        .unwrap()
        .execute_batch(
            "CREATE TRIGGER poison BEFORE INSERT ON tick WHEN new.priority=666 BEGIN SELECT RAISE(ABORT, 'poison'); END",
        )
        .unwrap();
    let poison = NewMachine { priority: 666, ..run() };
    let batch: Vec<_> = (0..100)
        .map(|n| Command::Start(vec![run(), if n % 10 == 3 { poison.clone() } else { run() }]))
        .collect();
    let replies = store.apply(NOW, &batch);
    for (n, reply) in replies.iter().enumerate() {
        match reply {
            Ok(Reply::Started(outcomes)) if n % 10 != 3 => assert_eq!(outcomes.len(), 2),
            Err(StoreError::Refused(text)) if n % 10 == 3 => assert!(text.contains("poison")),
            other => panic!("{n}: {other:?}"),
        }
    }
    let stats = store.queries().unwrap().stats().unwrap();
    assert_eq!((stats.queue[1], stats.last_event), (180, 180));
}

#[test]
fn steps_and_fences_count_beyond_32_bits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let mut store = open(&path);
    let node = register(&mut store);
    start(&mut store).unwrap();
    Connection::open(&path)
        .unwrap()
        .execute_batch(&format!("UPDATE machine SET step={0}; UPDATE tick SET fence={0}", 1_i64 << 33))
        .unwrap();
    let row = claim(&mut store, node, 1).remove(0);
    assert_eq!((row.step, row.fence), (1 << 33, (1 << 33) + 1));
    let stay = Commit { next: Next::Stay { until: NOW, keep_permit: true }, ..ending(node, &row) };
    let committed = Ok(Reply::Committed(vec![CommitOutcome::Committed { started: vec![] }]));
    assert_eq!(one(&mut store, Command::Commit(vec![stay])), committed);
    assert_eq!(claim(&mut store, node, 1)[0].step, (1 << 33) + 1);
}

/// A year of runs, at a tenth: the file stays as large as what it keeps.
#[test]
fn a_year_with_retention_keeps_the_file_flat() {
    const DAYS: i64 = 365;
    const RUNS_A_DAY: usize = 100;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let mut store = SqliteStore::open(
        &path,
        &OpenOptions { durability: ostler_store_sqlite::Durability::Relaxed, ..OpenOptions::default() },
    )
    .unwrap();
    let node = register(&mut store);
    let living = start(&mut store).unwrap();
    let held = claim(&mut store, node, 1).remove(0);
    let stay = Commit { next: Next::Stay { until: i64::MAX, keep_permit: true }, ..ending(node, &held) };
    one(&mut store, Command::Commit(vec![stay])).unwrap();
    let mut sizes = Vec::new();
    for day in 0..DAYS {
        let now = NOW + day * 86_400_000_000;
        let machine =
            NewMachine { fields: format!("{{\"day\":{day},\"text\":\"{}\"}}", "x".repeat(200)), ..run() };
        store.apply(now, &[Command::Start(vec![machine; RUNS_A_DAY])]).remove(0).unwrap();
        let claim = Command::Claim(Claim {
            node,
            want: 1000,
            light: 0,
            shared: true,
            labels: Vec::new(),
            only_labelled: false,
        });
        let Ok(Reply::Claimed(rows)) = store.apply(now, &[claim]).remove(0) else { panic!() };
        let commits = rows.iter().map(|row| ending(node, row)).collect();
        store.apply(now, &[Command::Commit(commits)]).remove(0).unwrap();
        let before = Some(now - 30 * 86_400_000_000);
        let prune =
            Prune { before, keep: None, max_bytes: None, events_before: before, unsent: None, batch: 64 };
        for _ in 0.. {
            match store.apply(now, &[Command::Prune(prune.clone())]).remove(0) {
                Ok(Reply::Pruned(pruned)) if !pruned.more => break,
                Ok(Reply::Pruned(pruned)) => assert!(pruned.machines.len() <= 64),
                other => panic!("{other:?}"),
            }
        }
        sizes.push(std::fs::metadata(&path).unwrap().len());
    }
    let (month, year) = (sizes[40], *sizes.last().unwrap());
    assert!(year <= month + month / 10, "after 40 days {month} bytes, after a year {year}");
    let wal = std::fs::metadata(folder.path().join("store.db-wal")).map_or(0, |m| m.len());
    assert!(wal < 1 << 20, "the log is cut too: {wal}");
    let queries = store.queries().unwrap();
    assert_eq!(queries.machine(living).unwrap().unwrap().state, 0);
    // Everything goes, and the file shrinks.
    let all = Prune {
        before: Some(i64::MAX),
        keep: None,
        max_bytes: None,
        events_before: None,
        unsent: None,
        batch: 1000,
    };
    while let Ok(Reply::Pruned(pruned)) = one(&mut store, Command::Prune(all.clone())) {
        if !pruned.more {
            break;
        }
    }
    let empty = std::fs::metadata(&path).unwrap().len();
    assert!(empty < year / 4, "{empty} of {year}");
    assert_eq!(queries.runs(&RunFilter::default(), None, 9).unwrap().items.len(), 1);
    drop((queries, store));
    assert_eq!(admin::check(&path).unwrap(), Vec::<String>::new());
}

#[test]
fn a_prune_by_size_stops_when_it_is_small_enough() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let mut store = open(&path);
    let ended = NewMachine { state: 10, fields: format!("\"{}\"", "x".repeat(1000)), ..run() };
    one(&mut store, Command::Start(vec![ended; 4000])).unwrap();
    let max: u64 = 2 << 20;
    let prune = Prune {
        before: None,
        keep: None,
        max_bytes: Some(max),
        events_before: None,
        unsent: None,
        batch: 200,
    };
    let mut gone = 0;
    while let Ok(Reply::Pruned(pruned)) = one(&mut store, Command::Prune(prune.clone())) {
        gone += pruned.machines.len();
        if !pruned.more {
            break;
        }
    }
    let size = std::fs::metadata(&path).unwrap().len();
    assert!(size <= max && size > max / 2, "{size}");
    assert!(gone < 3900, "{gone}");
}

#[test]
fn a_backup_of_a_store_in_use_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (path, copy) = (folder.path().join("store.db"), folder.path().join("copy.db"));
    let mut store = open(&path);
    for _ in 0..20 {
        one(&mut store, Command::Start(vec![run(); 100])).unwrap();
    }
    let mut told = Vec::new();
    let backup = admin::backup(&path, &copy, |done, total| {
        told.push((done, total));
        true
    });
    assert_eq!(backup, Ok(true));
    let (stopped, beside) = (folder.path().join("stopped.db"), folder.path().join("stopped.db.part"));
    assert_eq!(admin::backup(&path, &stopped, |_, _| false), Ok(false));
    assert!(!stopped.exists() && !beside.exists());
    let (done, total) = *told.last().unwrap();
    assert!(done == total && total > 0);
    start(&mut store).unwrap();
    let queue = |store: &SqliteStore| store.queries().unwrap().stats().unwrap().queue[1];
    let copied = open(&copy);
    assert_eq!((queue(&copied), queue(&store)), (2000, 2001));
    assert_eq!(copied.queries().unwrap().salt(), store.queries().unwrap().salt());
    drop((copied, store));
    assert_eq!(admin::check(&copy).unwrap(), Vec::<String>::new());
    admin::vacuum(&path).unwrap();
}

#[test]
fn a_check_tells_what_contradicts_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let mut store = open(&path);
    let ids: Vec<_> = (0..4).map(|_| start(&mut store).unwrap().0).collect();
    drop(store);
    assert_eq!(admin::check(&path).unwrap(), Vec::<String>::new());
    Connection::open(&path)
        .unwrap()
        .execute_batch(&format!(
            "DELETE FROM tick WHERE machine={}; UPDATE machine SET state=10 WHERE id={};
             INSERT INTO permit (\"limit\", machine) VALUES (1, 5);
             UPDATE event SET machine=7 WHERE machine={}",
            ids[0], ids[1], ids[2]
        ))
        .unwrap();
    let found = admin::check(&path).unwrap();
    for words in
        ["have no place in the queue", "gone or have ended", "permits of machines", "event is not theirs"]
    {
        assert!(found.iter().any(|line| line.contains(words)), "{words} in {found:#?}");
    }
}

#[test]
fn one_process_owns_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    assert_eq!(OwnerLock::owner_of(Some(&path)), None);
    let lock = OwnerLock::try_acquire(&path).unwrap().unwrap();
    assert!(OwnerLock::try_acquire(&path).unwrap().is_none());
    let owner = OwnerLock::owner_of(Some(&path)).unwrap();
    assert!(owner.contains(&std::process::id().to_string()), "{owner}");
    drop(lock);
    assert_eq!(OwnerLock::owner_of(Some(&path)), None);
    assert!(OwnerLock::try_acquire(&path).unwrap().is_some());
}

#[test]
fn a_node_lives_as_long_as_it_holds_its_lock() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let node = NodeId(7);
    assert!(!is_node_alive(&path, node));
    let lock = NodeLock::acquire(&path, node).unwrap();
    assert!(is_node_alive(&path, node));
    assert!(!is_node_alive(&path, NodeId(8)));
    drop(lock);
    assert!(!is_node_alive(&path, node));
    assert_eq!(std::fs::read_dir(folder.path().join("store.db.nodes")).unwrap().count(), 0);
}

#[test]
fn a_batch_is_one_flush_and_a_sign_of_life_none() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(&folder.path().join("store.db"));
    let node = register(&mut store);
    let before = store.flushes();
    let mut batch: Vec<_> = (0..500).map(|_| Command::Start(vec![run()])).collect();
    batch.push(Command::Renew { node, waited: 0 });
    assert!(store.apply(NOW, &batch).iter().all(Result::is_ok));
    assert_eq!(store.flushes() - before, 1);
    for _ in 0..50 {
        one(&mut store, Command::Renew { node, waited: 0 }).unwrap();
    }
    assert_eq!(claim(&mut store, NodeId(99), 0).len(), 0);
    assert_eq!(store.flushes() - before, 1, "neither signs of life nor what changes nothing");
    let rows = claim(&mut store, node, 500);
    let commits: Vec<_> = rows.iter().map(|row| Command::Commit(vec![ending(node, row)])).collect();
    assert!(store.apply(NOW, &commits).iter().all(Result::is_ok));
    assert_eq!(store.flushes() - before, 3);
    let other = register(&mut store);
    one(&mut store, Command::Close { node: other }).unwrap();
    assert_eq!(store.flushes() - before, 3, "neither a beginning nor an end");
    assert!(matches!(
        one(&mut store, Command::Start(vec![run()])),
        Ok(Reply::Started(o)) if matches!(o[0], StartOutcome::Started(_))
    ));
}

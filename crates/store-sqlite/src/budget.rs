//! What a run that does nothing costs, counted: 7 row writes and 3 entries of secondary indexes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use ostler_store::{
    Claim, Claimed, Command, Commit, CommitOutcome, EventBody, NewMachine, NewNode, Next, NodeId, Reply,
    Store,
};
use rusqlite::{Connection, hooks::Action};

use crate::{OpenOptions, SqliteStore};

fn run() -> NewMachine {
    NewMachine {
        kind: 1,
        namespace: "default".into(),
        task: 1,
        definition: 1,
        fields: "{}".into(),
        due_at: 5,
        event: EventBody { kind: "created".into(), body: String::new() },
        ..NewMachine::default()
    }
}

fn ending(node: NodeId, row: &Claimed) -> Commit {
    Commit {
        id: row.id,
        node,
        step: row.step,
        fence: row.fence,
        receipt: row.receipt,
        fields: Some("{\"output\":1}".into()),
        next: Next::End { state: 10 },
        started_at: Some(10),
        took: 0,
        event: EventBody { kind: "succeeded".into(), body: String::new() },
        start: Vec::new(),
        send: Vec::new(),
        read_mail: None,
    }
}

type Writes = Arc<Mutex<Vec<String>>>;

/// A store whose row writes are listed, warmed up so that names and lanes are known.
fn watched() -> (SqliteStore, NodeId, Writes) {
    let mut store = SqliteStore::open_memory(&OpenOptions::default()).unwrap();
    let register = Command::Register(NewNode { name: "me".into(), owner: true, ..NewNode::default() });
    let Ok(Reply::Node(node)) = store.apply(10, &[register]).remove(0) else { panic!() };
    a_run(&mut store, node);
    let writes = Writes::default();
    let list = writes.clone();
    let hook = move |action: Action, _: &str, table: &str, _: i64| {
        list.lock().unwrap().push(format!("{action:?} {table}").replace("SQLITE_", ""));
    };
    store.connection.lock().unwrap().update_hook(Some(hook)).unwrap();
    (store, node, writes)
}

fn a_run(store: &mut SqliteStore, node: NodeId) {
    assert!(store.apply(10, &[Command::Start(vec![run()])])[0].is_ok());
    let row = claim(store, node).remove(0);
    commit(store, ending(node, &row));
}

fn claim(store: &mut SqliteStore, node: NodeId) -> Vec<Claimed> {
    match store
        .apply(
            10,
            &[Command::Claim(Claim {
                node,
                want: 10,
                light: 0,
                shared: true,
                labels: Vec::new(),
                only_labelled: false,
            })],
        )
        .remove(0)
    {
        Ok(Reply::Claimed(rows)) => rows,
        other => panic!("{other:?}"),
    }
}

fn commit(store: &mut SqliteStore, commit: Commit) {
    match store.apply(10, &[Command::Commit(vec![commit])]).remove(0) {
        Ok(Reply::Committed(o)) if matches!(o[0], CommitOutcome::Committed { .. }) => {}
        other => panic!("{other:?}"),
    }
}

/// The entries of every secondary index: those of partial ones are the rows that fulfil their condition.
fn entries(connection: &Connection) -> BTreeMap<String, BTreeSet<String>> {
    let mut indexes = connection
        .prepare("SELECT name, tbl_name, coalesce(sql, '') FROM sqlite_master WHERE type='index'")
        .unwrap();
    let indexes: Vec<(String, String, String)> = indexes
        .query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let without_rowid = ["meta", "schedule", "permit", "duty"];
    indexes
        .into_iter()
        .filter(|(_, table, _)| !without_rowid.contains(&table.as_str()))
        .map(|(name, table, sql)| {
            let mut columns = connection.prepare("SELECT name FROM pragma_index_info(?1)").unwrap();
            let columns: Vec<String> =
                columns.query_map([&name], |r| r.get(0)).unwrap().map(Result::unwrap).collect();
            let condition = sql.split_once(" WHERE ").map_or("1", |(_, condition)| condition);
            let entry =
                columns.iter().map(|c| format!("coalesce(\"{c}\", '')")).collect::<Vec<_>>().join("||','||");
            let sql = format!("SELECT {entry}||':'||rowid FROM \"{table}\" WHERE {condition}");
            let mut select = connection.prepare(&sql).unwrap();
            let found = select.query_map([], |r| r.get(0)).unwrap().map(Result::unwrap).collect();
            (name, found)
        })
        .collect()
}

/// Which indexes got how many entries by something that is done.
fn added(store: &mut SqliteStore, work: impl FnOnce(&mut SqliteStore)) -> Vec<String> {
    let before = entries(&store.connection.lock().unwrap());
    work(store);
    let after = entries(&store.connection.lock().unwrap());
    let new = after.into_iter().flat_map(|(name, entries)| {
        let count = entries.difference(&before[&name]).count();
        std::iter::repeat_n(name, count)
    });
    new.collect()
}

#[test]
fn a_run_that_does_nothing_is_seven_row_writes() {
    let (mut store, node, writes) = watched();
    let before = store.connection.lock().unwrap().total_changes();
    a_run(&mut store, node);
    let expected = [
        "INSERT event",
        "INSERT machine",
        "INSERT tick",
        "UPDATE tick",
        "DELETE tick",
        "INSERT event",
        "UPDATE machine",
    ];
    assert_eq!(*writes.lock().unwrap(), expected);
    let all = store.connection.lock().unwrap().total_changes() - before;
    assert_eq!(all, 7, "tables without row ids included, which the hook does not see");
    let sequences: i64 = store
        .connection
        .lock()
        .unwrap()
        .query_row(
            "SELECT count(*) FROM sqlite_sequence WHERE name IN ('event', 'machine', 'tick')",
            [],
            |r| r.get(0),
        )
        .unwrap();
    assert_eq!(sequences, 0, "nor does AUTOINCREMENT write a row behind it");
}

#[test]
fn a_run_that_does_nothing_is_three_index_entries() {
    let (mut store, node, _) = watched();
    let mut all = added(&mut store, |store| {
        assert!(store.apply(10, &[Command::Start(vec![run()])])[0].is_ok());
    });
    let mut row = None;
    all.extend(added(&mut store, |store| row = Some(claim(store, node).remove(0))));
    all.extend(added(&mut store, |store| commit(store, ending(node, &row.unwrap()))));
    assert_eq!(all, ["machine_task", "tick_ready", "tick_claimed"]);
}

#[test]
fn a_run_on_an_idle_queue_is_six_row_writes() {
    let (mut store, node, writes) = watched();
    let entries = added(&mut store, |store| {
        let start = Command::StartClaimed { machine: Box::new(run()), node };
        let Ok(Reply::StartedClaimed(_, Some(row))) = store.apply(10, &[start]).remove(0) else { panic!() };
        commit(store, ending(node, &row));
    });
    assert_eq!(writes.lock().unwrap().len(), 6);
    assert_eq!(entries, ["machine_task"], "what is left of them");
}

#[test]
fn names_lanes_and_limits_are_written_once() {
    let (mut store, node, writes) = watched();
    let limited = NewMachine {
        concurrency: Some(ostler_store::Concurrency {
            key: "k".into(),
            limit: 9,
            on_full: ostler_store::OnFull::Wait,
        }),
        ..run()
    };
    let count = |store: &mut SqliteStore| {
        let before = writes.lock().unwrap().len();
        assert!(store.apply(10, &[Command::Start(vec![limited.clone()])])[0].is_ok());
        let row = claim(store, node).remove(0);
        commit(store, ending(node, &row));
        writes.lock().unwrap().len() - before
    };
    // A lane and a limit the first time; each time a permit (which the hook does not see), and a visit that comes and goes.
    assert_eq!([count(&mut store), count(&mut store)], [11, 9]);
}

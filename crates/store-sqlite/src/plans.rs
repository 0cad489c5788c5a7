//! Every statement of a hot path or a list rides on the index that it was made for, on a store with history.

use std::sync::PoisonError;

use ostler_store::{Command, NewMachine, NewNode, Store};

use crate::{OpenOptions, SqliteStore, claim, commit, lanes, prune, read};

fn plan(store: &SqliteStore, sql: &str) -> Vec<String> {
    let connection = store.connection.lock().unwrap_or_else(PoisonError::into_inner);
    let mut explain = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    let count = explain.parameter_count();
    let values = vec![rusqlite::types::Value::Integer(1); count];
    let lines = explain.query_map(rusqlite::params_from_iter(values), |r| r.get(3)).unwrap();
    lines.map(|l: rusqlite::Result<String>| l.unwrap().replace("COVERING ", "")).collect()
}

/// A hundred thousand machines, of which a thousand live, over several tasks, states and lanes.
fn with_history() -> SqliteStore {
    let mut store = SqliteStore::open_memory(&OpenOptions::default()).unwrap();
    let machine = |n: i64| NewMachine {
        kind: 1,
        namespace: format!("ns{}", n % 3),
        task: n % 20,
        fields: "{}".into(),
        state: if n % 100 == 0 { 0 } else { [10, 10, 10, 11, 12][(n % 5) as usize] },
        priority: n % 2,
        due_at: n,
        parent: (n % 7 == 0).then_some(ostler_model::MachineId(1)),
        ..NewMachine::default()
    };
    for batch in 0..100 {
        let machines = (batch * 1000..(batch + 1) * 1000).map(machine).collect();
        assert!(store.apply(batch, &[Command::Start(machines)])[0].is_ok());
    }
    store
}

#[test]
fn statements_ride_on_their_indexes() {
    let store = with_history();
    let mut wrong = Vec::new();
    // Plans must not depend on whether anyone ever ran ANALYZE.
    for analyzed in [false, true] {
        if analyzed {
            store.connection.lock().unwrap().execute_batch("ANALYZE").unwrap();
        }
        let mut expected: Vec<(String, &str)> = [
            (claim::PROMOTE, "SEARCH tick USING INDEX tick_later (due_at<?)"),
            (lanes::NEXT_LANE, "SEARCH tick USING INDEX tick_ready (lane>? AND lane<?)"),
            (lanes::NEXT_VISITS, "SEARCH visit USING INDEX visit_at (light=?"),
            (claim::NEXT_RATE, "SEARCH v USING INDEX visit_at (light=? AND at>?)"),
            (claim::READY, "SEARCH t USING INDEX tick_ready (lane=?)"),
            (claim::READY_HOLDERS, "SEARCH p USING PRIMARY KEY (limit=?)"),
            (claim::MARK_READY, "SEARCH tick USING INDEX tick_ready (lane=?)"),
            (commit::FIND, "SEARCH t USING INTEGER PRIMARY KEY (rowid=?)"),
            (prune::WALK, "SEARCH e USING INTEGER PRIMARY KEY (rowid>?)"),
            (prune::TRIM, "SEARCH e USING INTEGER PRIMARY KEY (rowid>?)"),
        ]
        .map(|(sql, plan)| (sql.to_owned(), plan))
        .into();
        expected.extend(read::statements());
        for (sql, line) in expected {
            let plan = plan(&store, &sql);
            if !plan.iter().any(|l| l.starts_with(line)) {
                wrong.push(format!("expected `{line}`\nin {plan:#?}\nof {sql}"));
            }
            let sorts = plan.iter().any(|l| l.contains("TEMP B-TREE FOR ORDER BY"));
            if sorts && !sql.contains("INDEXED BY tick_claimed") {
                wrong.push(format!("it sorts: {plan:#?}\nof {sql}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn the_oldest_that_is_ready_is_found_in_each_namespace() {
    let mut store = with_history();
    let register = Command::Register(NewNode { name: "a".into(), owner: true, ..NewNode::default() });
    let node = match store.apply(0, &[register]).remove(0) {
        Ok(ostler_store::Reply::Node(node)) => node,
        other => panic!("{other:?}"),
    };
    let claim = ostler_store::Claim {
        node,
        want: 100,
        light: 0,
        shared: true,
        labels: Vec::new(),
        only_labelled: false,
    };
    assert!(store.apply(100_000, &[Command::Claim(claim)])[0].is_ok());
    let mut found = store.queries().unwrap().stats().unwrap().waiting;
    let connection = store.connection.lock().unwrap_or_else(PoisonError::into_inner);
    let mut select = connection
        .prepare(
            "SELECT ns.name, min(t.due_at) FROM tick t JOIN lane l ON l.id=t.lane JOIN namespace ns ON ns.id=l.ns
             WHERE t.phase=1 GROUP BY ns.name",
        )
        .unwrap();
    let row = |r: &rusqlite::Row<'_>| {
        Ok(ostler_store::WaitingRow { namespace: r.get(0)?, since: r.get(1)?, weight: 1 })
    };
    let expected: Vec<_> = select.query_map([], row).unwrap().map(Result::unwrap).collect();
    found.sort_by(|a, b| a.namespace.cmp(&b.namespace));
    assert_eq!((found.len(), found), (3, expected));
}

//! What a batch does in one go it does as it would be done one by one: rows that are copied, ends that are taken for ones
//! that concern nobody else.
#![allow(clippy::unwrap_used, reason = "a test fails where a value is missing")]

mod kit;

use ostler_model::MachineId;
use ostler_store::{
    Claimed, Command, Commit, CommitOutcome, EventBody, Letter, NewMachine, Next, NodeId, Reply, Store,
    StoreError,
};
use ostler_store_postgres::{PgStore, scratch::Schema};

use crate::kit::{NOW, ask, claim, end_all, ending, register, run};

/// More than are needed for rows to be copied.
const MANY: usize = 300;

fn outcomes(store: &mut PgStore, commits: Vec<Commit>) -> Vec<CommitOutcome> {
    match ask(store, Command::Commit(commits)) {
        Reply::Committed(outcomes) => outcomes,
        other => panic!("{other:?}"),
    }
}

/// Fails, with what the store says, where a condition does not hold in it.
fn holds(schema: &Schema, condition: &str) {
    schema
        .script(&format!("DO $$ BEGIN ASSERT {condition}; END $$"))
        .unwrap_or_else(|e| panic!("{condition}: {e}"));
}

/// What a claim tells of machines, without what no two of them have in common.
fn told(rows: Vec<Claimed>) -> Vec<Claimed> {
    let blank = |row: Claimed| Claimed {
        id: MachineId(0),
        receipt: ostler_store::Receipt { last_event: 0, ..row.receipt },
        ..row
    };
    rows.into_iter().map(blank).collect()
}

#[test]
fn rows_that_are_copied_are_those_that_would_be_inserted() {
    let Some(schema) = Schema::new("") else { return };
    let mut store = PgStore::open(&schema.address().unwrap()).unwrap();
    let node = register(&mut store);
    let machines: Vec<NewMachine> = (0..MANY)
        .map(|n| NewMachine {
            fields: format!("{{\"n\":\"{n} \\u00e9 \u{e9}\"}}"),
            task: 7,
            definition: 9,
            parent: n.is_multiple_of(3).then_some(MachineId(1)),
            child_key: n.is_multiple_of(3).then(|| format!("part {n}")),
            watcher: n.is_multiple_of(5).then_some(MachineId(2)),
            priority: n as i64 % 2,
            event: EventBody { kind: "created".into(), body: "{}".into() },
            ..run()
        })
        .collect();
    ask(&mut store, Command::Start(machines.clone()));
    let copied = claim(&mut store, node, MANY as u32);
    for few in machines.chunks(50) {
        ask(&mut store, Command::Start(few.to_vec()));
    }
    let inserted = claim(&mut store, node, MANY as u32);
    assert_eq!(copied.len(), MANY);
    assert_eq!(told(copied), told(inserted));
    holds(
        &schema,
        &format!(
            "(SELECT count(*) FROM event WHERE kind='created' AND body='{{}}' AND step=1) = {}",
            2 * MANY
        ),
    );
    holds(&schema, &format!("(SELECT count(*) FROM watched) = {}", 2 * MANY / 5));
}

#[test]
fn one_value_that_the_server_refuses_spoils_no_other_command() {
    let Some(schema) = Schema::new("") else { return };
    let mut store = PgStore::open(&schema.address().unwrap()).unwrap();
    let mut bad = vec![run(); MANY];
    bad[MANY / 2].fields = "\"\0\"".into();
    let replies = store.apply(NOW, &[Command::Start(bad), Command::Start(vec![run(); MANY])]);
    assert!(matches!(&replies[0], Err(StoreError::Refused(_))), "{:?}", replies[0]);
    assert!(matches!(&replies[1], Ok(Reply::Started(started)) if started.len() == MANY), "{:?}", replies[1]);
    holds(&schema, &format!("(SELECT count(*) FROM machine) = {MANY}"));
}

/// Fills a page and ends all of it in one transaction.
#[test]
fn a_batch_of_ends_leaves_every_row_in_its_page() {
    let Some(schema) = Schema::new("") else { return };
    let mut store = PgStore::open(&schema.address().unwrap()).unwrap();
    let node = register(&mut store);
    let fields = r#"{"cause":{"by":"actor","actor":"local:somebody"},"inputs":{"station":"EDDB"}}"#;
    ask(&mut store, Command::Start(vec![NewMachine { fields: fields.into(), ..run() }; 1000]));
    schema.script("CREATE TABLE began AS SELECT id, (ctid::text::point)[0] AS page FROM machine").unwrap();
    let rows = claim(&mut store, node, 1000);
    let after =
        r#"{"cause":{"by":"actor","actor":"local:somebody"},"inputs":{"station":"EDDB"},"attempts":1}"#;
    let ends = rows.iter().map(|row| Commit { fields: Some(after.into()), ..ending(node, row) }).collect();
    outcomes(&mut store, ends);
    let left = "SELECT 1 FROM machine m JOIN began b ON b.id=m.id WHERE b.page<>(m.ctid::text::point)[0]";
    holds(&schema, &format!("NOT EXISTS ({left})"));
    holds(&schema, "(SELECT count(*) FROM machine WHERE state=10 AND step=2) = 1000");
}

/// A batch in which some ends are of other claims, of other steps, or have got letters: each is judged as it would be alone.
#[test]
fn ends_that_are_not_what_they_seem_are_judged_one_by_one() {
    let Some(schema) = Schema::new("") else { return };
    let mut store = PgStore::open(&schema.address().unwrap()).unwrap();
    let (node, other) = (register(&mut store), register(&mut store));
    let watched = NewMachine { watcher: Some(MachineId(2)), ..run() };
    ask(&mut store, Command::Start([vec![run(); 9], vec![watched]].concat()));
    let rows = claim(&mut store, node, 10);
    assert_eq!(rows.len(), 10);
    ask(&mut store, Command::Send(vec![(rows[4].id, Letter::Redefined)]));
    let mut commits: Vec<Commit> = rows.iter().map(|row| ending(node, row)).collect();
    commits[0].fence += 1;
    commits[1].step += 1;
    commits[2].node = NodeId(other.0);
    commits[3].next = Next::End { state: 11 };
    let found = outcomes(&mut store, commits.clone());
    for (n, outcome) in found.iter().enumerate() {
        let conflict = matches!(outcome, CommitOutcome::Conflict { .. });
        assert_eq!(conflict, n < 3, "{n}: {outcome:?}");
    }
    // Those that do not count have written nothing, and those that do have written all of it.
    holds(&schema, "(SELECT count(*) FROM tick WHERE phase=2 AND node IS NOT NULL) = 3");
    holds(
        &schema,
        "(SELECT count(*) FROM machine WHERE state<>0 AND step=2 AND finished_at IS NOT NULL) = 7",
    );
    holds(&schema, "(SELECT count(*) FROM event WHERE kind='ended' AND step=2 AND prev<>0) = 7");
    holds(&schema, "(SELECT array_agg(machine) FROM bad_end) = ARRAY(SELECT id FROM machine WHERE state=11)");
    holds(&schema, "NOT EXISTS (SELECT 1 FROM mail) AND NOT EXISTS (SELECT 1 FROM watched)");
    // The same once more is a conflict for all that have ended.
    let again = outcomes(&mut store, commits);
    assert!(again.iter().all(|o| matches!(o, CommitOutcome::Conflict { .. })), "{again:?}");
    end_all(&mut store, node, &rows[..3]);
    holds(&schema, "NOT EXISTS (SELECT 1 FROM tick)");
}

/// Two ends of one machine in one batch: the first counts.
#[test]
fn one_machine_ends_once_in_a_batch() {
    let Some(schema) = Schema::new("") else { return };
    let mut store = PgStore::open(&schema.address().unwrap()).unwrap();
    let node = register(&mut store);
    ask(&mut store, Command::Start(vec![run(); 2]));
    let rows = claim(&mut store, node, 2);
    let commits = [&rows[0], &rows[1], &rows[0]].map(|row| ending(node, row)).to_vec();
    let found = outcomes(&mut store, commits);
    let counts: Vec<bool> = found.iter().map(|o| matches!(o, CommitOutcome::Committed { .. })).collect();
    assert_eq!(counts, [true, true, false]);
    holds(&schema, "(SELECT count(*) FROM event WHERE kind='ended') = 2");
}

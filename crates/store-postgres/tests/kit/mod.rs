//! A store's small change: what the tests here ask of it most.

use ostler_store::{
    Claim, Claimed, Command, Commit, CommitOutcome, EventBody, NewMachine, NewNode, Next, NodeId, Reply,
    Store,
};
use ostler_store_postgres::PgStore;

pub(crate) const NOW: i64 = 1_795_000_000_000_000;

pub(crate) fn run() -> NewMachine {
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

pub(crate) fn ask(store: &mut PgStore, command: Command) -> Reply {
    store.apply(NOW, &[command]).remove(0).unwrap()
}

pub(crate) fn register(store: &mut PgStore) -> NodeId {
    match ask(store, Command::Register(NewNode { name: "test".into(), owner: true, ..NewNode::default() })) {
        Reply::Node(node) => node,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn claim(store: &mut PgStore, node: NodeId, want: u32) -> Vec<Claimed> {
    let labels = Vec::new();
    let claim = Claim { node, want, light: 0, shared: true, labels, only_labelled: false };
    match ask(store, Command::Claim(claim)) {
        Reply::Claimed(rows) => rows,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn ending(node: NodeId, row: &Claimed) -> Commit {
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
        event: EventBody { kind: "ended".into(), body: String::new() },
        start: Vec::new(),
        send: Vec::new(),
        read_mail: row.mail.last().map(|(seq, _)| *seq),
    }
}

pub(crate) fn end_all(store: &mut PgStore, node: NodeId, rows: &[Claimed]) {
    if rows.is_empty() {
        return;
    }
    let Reply::Committed(outcomes) =
        ask(store, Command::Commit(rows.iter().map(|r| ending(node, r)).collect()))
    else {
        panic!()
    };
    assert!(outcomes.iter().all(|o| matches!(o, CommitOutcome::Committed { .. })), "{outcomes:?}");
}

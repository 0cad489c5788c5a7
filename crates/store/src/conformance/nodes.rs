//! Nodes that die, close, and give back.

use super::*;
use crate::{Concurrency, OnFull, Rescued};

impl Kit {
    fn rescue(&mut self, node: NodeId) -> u64 {
        match self.ask(Command::Rescue { node }) {
            Ok(Reply::Rescued(Rescued { lost })) => lost,
            other => panic!("{other:?}"),
        }
    }
}

pub fn the_claims_of_a_dead_node_are_lost_and_found(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let dead = kit.register(true);
    let concurrency = Some(Concurrency { key: "k".into(), limit: 1, on_full: OnFull::Wait });
    let id = kit.start(NewMachine { concurrency: concurrency.clone(), ..run() });
    let waiting = kit.start(NewMachine { concurrency, priority: 0, due_at: START + 1, ..run() });
    assert_eq!(kit.claim_as(dead, 1, true)[0].id, id);
    kit.now += SECOND;
    assert_eq!(kit.rescue(dead), 1);
    assert_eq!(kit.rescue(dead), 0);
    let row = kit.claim_one();
    assert_eq!(
        (row.id, row.lost, row.fence),
        (id, true, 2),
        "it keeps its permit until its loss is dealt with"
    );
    kit.stay(&row, kit.now);
    assert_eq!(kit.claim_ids(1), [waiting]);
    let nodes = kit.queries().nodes().unwrap();
    let known: Vec<_> = nodes.iter().map(|n| (n.node, n.closed, n.claims)).collect();
    assert_eq!(known, [(kit.node, false, 1), (dead, true, 0)]);
}

pub fn a_dead_holder_cannot_commit(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let dead = kit.register(true);
    kit.start(run());
    let held = kit.claim_as(dead, 1, true).remove(0);
    kit.rescue(dead);
    let late = |row: &Claimed| tick(dead, row, Next::End { state: 10 });
    let conflict =
        CommitOutcome::Conflict { expected: (held.step, held.fence), actual: Some((held.step, held.fence)) };
    assert_eq!(kit.commit(late(&held)), conflict, "nobody has it yet, and it has not either");
    let row = kit.claim_one();
    let conflict =
        CommitOutcome::Conflict { expected: (held.step, held.fence), actual: Some((row.step, row.fence)) };
    assert_eq!(kit.commit(late(&held)), conflict);
    kit.end(&row);
    let conflict = CommitOutcome::Conflict { expected: (held.step, held.fence), actual: None };
    assert_eq!(kit.commit(late(&held)), conflict);
}

pub fn what_belonged_to_a_dead_guest_goes_to_all(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let guest = kit.register(false);
    let own = |due_at| NewMachine { home: Some(guest), due_at, ..run() };
    let begun = kit.start(own(START));
    assert_eq!(kit.claim_as(guest, 1, false).len(), 1);
    let queued = kit.start(own(START));
    let later = kit.start(own(START + SECOND));
    assert_eq!(kit.claim_ids(9), []);
    assert_eq!(kit.ask(Command::Close { node: guest }), Ok(Reply::Rescued(Rescued { lost: 1 })));
    kit.now += SECOND;
    let rows = kit.claim(9);
    let found: Vec<_> = rows.iter().map(|r| (r.id, r.lost, r.home)).collect();
    assert_eq!(found, [(begun, true, None), (queued, false, None), (later, false, None)]);
}

pub fn a_released_claim_is_not_lost(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let id = kit.start(run());
    let other = kit.start(run());
    let rows = kit.claim(2);
    let wrong = rows[1].fence + 1;
    let machines = vec![(id, rows[0].fence), (other, wrong), (MachineId(5), 1)];
    assert_eq!(kit.ask(Command::Release { node: kit.node, machines }), Ok(Reply::Done));
    let row = kit.claim_one();
    assert_eq!((row.id, row.lost, row.fence), (id, false, rows[0].fence + 1));
    assert!(matches!(
        kit.commit(tick(kit.node, &rows[0], Next::End { state: 10 })),
        CommitOutcome::Conflict { .. }
    ));
    kit.end(&row);
    kit.end(&rows[1]);
    // A permit that was taken for nothing goes back with the claim.
    let concurrency = Some(Concurrency { key: "k".into(), limit: 1, on_full: OnFull::Wait });
    kit.start(NewMachine { concurrency: concurrency.clone(), ..run() });
    let row = kit.claim_one();
    kit.ask(Command::Release { node: kit.node, machines: vec![(row.id, row.fence)] }).unwrap();
    let urgent = kit.start(NewMachine { concurrency, priority: 0, ..run() });
    assert_eq!(kit.claim_ids(9), [urgent]);
}

pub fn a_closed_node_cannot_renew(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let node = kit.register(true);
    assert_eq!(kit.ask(Command::Renew { node, waited: 0 }), Ok(Reply::Done));
    assert_eq!(kit.ask(Command::Renew { node, waited: 7 }), Ok(Reply::Done));
    let row = kit.queries().node(node).unwrap().unwrap();
    assert_eq!((row.renewals, row.waited), (2, 7));
    kit.rescue(node);
    assert!(matches!(kit.ask(Command::Renew { node, waited: 0 }), Err(StoreError::NodeClosed(_))));
}

/// A node that was paused for too long may come back with a claim on its lips.
pub fn a_closed_node_takes_nothing(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let dead = kit.register(true);
    kit.rescue(dead);
    let id = kit.start(run());
    let claim = Command::Claim(Claim {
        node: dead,
        want: 5,
        light: 5,
        shared: true,
        labels: Vec::new(),
        only_labelled: false,
    });
    assert!(matches!(kit.ask(claim.clone()), Err(StoreError::NodeClosed(_))));
    let other = NewMachine { namespace: "third".into(), ..run() };
    let among = kit.store.apply(kit.now, &[Command::Start(vec![other]), claim]);
    assert!(matches!(among[..], [Ok(Reply::Started(_)), Err(StoreError::NodeClosed(_))]), "{among:?}");
    let at_once = NewMachine { namespace: "other".into(), ..run() };
    let start = Command::StartClaimed { machine: Box::new(at_once), node: dead };
    if let Ok(Reply::StartedClaimed(_, claimed)) = kit.ask(start) {
        assert_eq!(claimed, None);
    }
    let rows = kit.claim(5);
    assert!(rows.iter().any(|row| row.id == id) && rows.iter().all(|row| !row.lost));
}

pub fn a_node_takes_what_its_labels_fit(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let asks =
        |labels: &[&str]| NewMachine { labels: labels.iter().map(|l| (*l).to_owned()).collect(), ..run() };
    let plain = kit.start(asks(&[]));
    let gpu = kit.start(asks(&["gpu"]));
    let both = kit.start(asks(&["gpu", "big"]));
    let twin = kit.start(asks(&["big", "gpu", "gpu"]));
    assert_eq!(
        kit.row(both).tick.unwrap().lane,
        kit.row(twin).tick.unwrap().lane,
        "the order does not count"
    );
    let lane = kit.queries().lane(kit.row(both).tick.unwrap().lane).unwrap().unwrap();
    assert_eq!(lane.labels, ["big", "gpu"]);
    let mut claim = |labels: &[&str]| {
        let labels = labels.iter().map(|l| (*l).to_owned()).collect();
        let claim = Claim { node: kit.node, want: 9, light: 9, shared: true, labels, only_labelled: false };
        match kit.ask(Command::Claim(claim)) {
            Ok(Reply::Claimed(rows)) => rows.iter().map(|row| row.id).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(claim(&["big"]), [plain]);
    assert_eq!(claim(&["red", "gpu"]), [gpu]);
    assert_eq!(claim(&["gpu", "big"]), [both, twin]);
    let at_once = Command::StartClaimed { machine: Box::new(asks(&["gpu"])), node: kit.node };
    let Ok(Reply::StartedClaimed(_, claimed)) = kit.ask(at_once) else { panic!() };
    assert_eq!(claimed, None, "nobody has asked whether the node has the label");
}

pub fn a_node_may_take_only_what_asks_for_its_labels(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let plain = kit.start(run());
    let light = kit.start(NewMachine { light: true, ..run() });
    let gpu = kit.start(NewMachine { labels: vec!["gpu".into()], ..run() });
    let labels = vec!["gpu".to_owned(), "big".to_owned()];
    let claim = Claim { node: kit.node, want: 9, light: 9, shared: true, labels, only_labelled: true };
    let Ok(Reply::Claimed(rows)) = kit.ask(Command::Claim(claim)) else { panic!() };
    assert_eq!(
        rows.iter().map(|row| row.id).collect::<Vec<_>>(),
        [light, gpu],
        "what takes no slot is no work"
    );
    assert_eq!(kit.claim_ids(9), [plain]);
}

pub fn what_is_to_end_asks_for_no_label(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let id = kit.start(NewMachine { labels: vec!["gpu".into()], ..run() });
    assert_eq!(kit.claim_ids(9), []);
    assert!(kit.send(id, cancel()));
    assert_eq!(kit.claim_ids(9), [id]);
}

pub fn what_a_node_holds_is_told_as_it_was_claimed(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let other = kit.register(true);
    let concurrency = Some(Concurrency { key: "k".into(), limit: 2, on_full: OnFull::Wait });
    kit.start(NewMachine { fields: r#"{"a":1}"#.into(), unique_key: Some("u".into()), task: 7, ..run() });
    let parent = kit.start(NewMachine { concurrency, ..run() });
    kit.start(NewMachine {
        parent: Some(parent),
        watcher: Some(parent),
        child_key: Some("c".into()),
        ..run()
    });
    let rows = kit.claim(9);
    assert_eq!(rows.len(), 3);
    let told = |kit: &Kit, row: &Claimed| kit.queries().claimed(kit.node, row.id).unwrap();
    for row in &rows {
        assert_eq!(told(&kit, row).as_ref(), Some(row));
        assert_eq!(kit.queries().claimed(other, row.id).unwrap(), None);
    }
    let mut held = kit.queries().claims(kit.node).unwrap();
    held.sort();
    let mut expected: Vec<_> = rows.iter().map(|row| (row.id, row.fence)).collect();
    expected.sort();
    assert_eq!(held, expected);
    kit.send(parent, cancel());
    let row = rows.iter().find(|row| row.id == parent).unwrap();
    let with_letter = told(&kit, row).unwrap();
    assert_eq!(with_letter.mail.iter().map(|(_, letter)| letter.clone()).collect::<Vec<_>>(), [cancel()]);
    // It counts as the claim itself does.
    kit.must(tick(kit.node, &with_letter, Next::End { state: 13 }));
    assert_eq!((told(&kit, row), kit.queries().claims(other).unwrap()), (None, Vec::new()));
    assert_eq!(kit.queries().claims(kit.node).unwrap().len(), 2);
}

pub fn one_that_was_claimed_to_be_refused_stays_so(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let concurrency = Some(Concurrency { key: "k".into(), limit: 1, on_full: OnFull::Refuse });
    for _ in 0..2 {
        kit.start(NewMachine { concurrency: concurrency.clone(), ..run() });
    }
    let rows = kit.claim(9);
    assert_eq!(rows.iter().map(|row| row.refused).collect::<Vec<_>>(), [false, true]);
    for row in rows {
        assert_eq!(kit.queries().claimed(kit.node, row.id).unwrap(), Some(row));
    }
}

pub fn a_worker_is_told_as_it_registered(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let new = NewNode {
        name: "far away".into(),
        owner: false,
        labels: vec!["gpu".into(), "big".into()],
        only_labelled: true,
        slots: 8,
        worker: Some("token:w".into()),
    };
    let Ok(Reply::Node(node)) = kit.ask(Command::Register(new)) else { panic!() };
    let row = |kit: &Kit| kit.queries().node(node).unwrap().unwrap();
    let found = row(&kit);
    assert_eq!(kit.queries().nodes().unwrap()[0], found);
    assert_eq!((found.labels, found.only_labelled, found.slots), (vec!["big".into(), "gpu".into()], true, 8));
    assert_eq!((found.worker.as_deref(), found.draining, found.closed), (Some("token:w"), false, false));
    assert_eq!(kit.ask(Command::Drain { node }), Ok(Reply::Done));
    assert!(row(&kit).draining);
    kit.rescue(node);
    assert!(row(&kit).closed);
    assert!(matches!(kit.ask(Command::Drain { node }), Err(StoreError::NodeClosed(_))));
    assert_eq!(kit.queries().node(NodeId(node.0 + 5)).unwrap(), None);
}

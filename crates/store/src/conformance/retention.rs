//! Prune.

use super::*;
use crate::{EventPage, Prune, Pruned};

const NOTHING: Prune =
    Prune { before: None, keep: None, max_bytes: None, events_before: None, unsent: None, batch: 100 };

impl Kit {
    fn prune(&mut self, prune: Prune) -> Pruned {
        match self.ask(Command::Prune(prune)) {
            Ok(Reply::Pruned(pruned)) => pruned,
            other => panic!("{other:?}"),
        }
    }

    /// Until there is no more.
    pub(super) fn prune_all(&mut self, prune: &Prune) -> Vec<MachineId> {
        let mut machines = Vec::new();
        for _ in 0..1000 {
            let pruned = self.prune(prune.clone());
            assert!(pruned.machines.len() <= prune.batch as usize);
            machines.extend(pruned.machines);
            if !pruned.more {
                return machines;
            }
        }
        panic!("prune finds no end");
    }

    /// Runs that end a second after another.
    pub(super) fn ended(&mut self, count: usize) -> Vec<MachineId> {
        let mut ids = Vec::new();
        for _ in 0..count {
            self.start(run());
            let row = self.claim_one();
            self.end(&row);
            ids.push(row.id);
            self.now += SECOND;
        }
        ids
    }
}

pub fn prune_takes_bounded_batches_by_age(make: Make<'_>) {
    let mut kit = Kit::new(make);
    // Made first and ended last: age counts from the end.
    let long = kit.start(run());
    let row = kit.claim_one();
    kit.stay(&row, crate::NEVER);
    let ids = kit.ended(100);
    kit.send(long, signal("end"));
    let row = kit.claim_one();
    assert_eq!(row.id, long);
    kit.end(&row);
    let living = kit.start(NewMachine { due_at: crate::NEVER, ..run() });
    let before = START + 70 * SECOND;
    let pruned = kit.prune(Prune { before: Some(before), batch: 30, ..NOTHING });
    assert_eq!((pruned.machines.as_slice(), pruned.events, pruned.more), (&ids[..30], 60, true));
    let rest = kit.prune_all(&Prune { before: Some(before), batch: 30, ..NOTHING });
    assert_eq!(rest, ids[30..70]);
    let queries = kit.queries();
    assert!(queries.machine(ids[69]).unwrap().is_none());
    assert!([ids[70], long, living].iter().all(|id| queries.machine(*id).unwrap().is_some()));
    let Ok(EventPage::Gone { oldest }) = queries.events(0, 10) else {
        panic!("what was pruned is told to readers")
    };
    let Ok(EventPage::Events { items, .. }) = queries.events(oldest - 1, 1000) else { panic!() };
    assert!(items.iter().all(|e| e.seq >= oldest));
    assert_eq!(items.iter().filter(|e| e.kind == "ticked").count(), 31);
    drop(queries);
    assert_eq!(kit.prune(Prune { before: Some(before), ..NOTHING }), Pruned::default());
    let last = kit.start(run());
    assert!(last > living);
}

pub fn prune_keeps_so_many(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let ids = kit.ended(50);
    let living = kit.start(NewMachine { due_at: crate::NEVER, ..run() });
    let keep = |keep| Prune { keep: Some(keep), batch: 8, ..NOTHING };
    assert_eq!(kit.prune_all(&keep(20)), ids[..30]);
    let more = kit.ended(5);
    // By age in between: what is counted stays right.
    let age = Prune { before: Some(kit.row(ids[32]).finished_at.unwrap()), ..NOTHING };
    assert_eq!(kit.prune_all(&age), ids[30..32]);
    assert_eq!(kit.prune_all(&keep(10)), ids[32..45]);
    assert_eq!(kit.prune_all(&keep(10)), []);
    assert_eq!(kit.prune_all(&keep(0)), [&ids[45..], &more[..]].concat());
    assert_eq!(kit.row(living).state, 0);
    // Everything that ended is gone; ids go on from where they were.
    kit.now = START;
    assert!(kit.start(run()) > *more.last().unwrap());
}

pub fn prune_waits_for_the_parts(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let flow = kit.start(NewMachine { kind: 2, ..run() });
    let row = kit.claim_one();
    let part = NewMachine { parent: Some(flow), ..run() };
    let commit = Commit {
        start: vec![part.clone(), NewMachine { due_at: START + SECOND, ..part }],
        ..tick(kit.node, &row, Next::End { state: 12 })
    };
    let parts: Vec<_> = kit.must(commit).into_iter().map(StartOutcome::id).collect();
    let row = kit.claim_one();
    kit.end(&row);
    kit.now += SECOND;
    let all = Prune { before: Some(crate::NEVER), batch: 2, ..NOTHING };
    assert_eq!(kit.prune_all(&all), [], "a part lives");
    let row = kit.claim_one();
    assert_eq!(row.id, parts[1]);
    kit.end(&row);
    let mut gone = kit.prune_all(&all);
    gone.sort();
    assert_eq!(gone, [flow, parts[0], parts[1]]);
}

pub fn prune_trims_what_lives(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let id = kit.start(run());
    for _ in 0..50 {
        let row = kit.claim_one();
        kit.keep(&row, kit.now + SECOND);
        kit.now += SECOND;
    }
    assert_eq!(kit.queries().history(id, 100).unwrap().len(), 51);
    let trim = Prune { events_before: Some(START + 40 * SECOND), batch: 1, ..NOTHING };
    assert_eq!(kit.prune_all(&trim), []);
    let left = kit.queries().history(id, 100).unwrap();
    assert_eq!((left.len(), left[0].at), (10, START + 40 * SECOND));
    let trim = Prune { events_before: Some(crate::NEVER), ..trim };
    kit.prune_all(&trim);
    assert_eq!(kit.queries().history(id, 100).unwrap().len(), 1, "the last one stays");
    let row = kit.claim_one();
    kit.end(&row);
    assert_eq!(kit.prune_all(&Prune { before: Some(crate::NEVER), ..trim }), [id]);
    assert_eq!(kit.queries().stats().unwrap().first_event, kit.queries().stats().unwrap().last_event + 1);
}

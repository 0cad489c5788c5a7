//! Turns between namespaces and classes by the time that their rows take.

use std::collections::BTreeMap;

use super::*;

/// Slots that are filled by claims, with a clock that goes on from one end to the next.
struct Slots {
    kit: Kit,
    count: usize,
    /// What is carried out, by its end and an order.
    busy: BTreeMap<(Micros, u64), (Claimed, Micros)>,
    claimed: u64,
    /// Time spent, by namespace and what is in `fields`.
    spent: BTreeMap<(String, String), Micros>,
}

impl Slots {
    fn new(kit: Kit, count: usize) -> Self {
        Self { kit, count, busy: BTreeMap::new(), claimed: 0, spent: BTreeMap::new() }
    }

    /// Works for so long; `fields` of a row say how long it takes.
    fn work(&mut self, time: Micros) {
        let until = self.kit.now + time;
        while self.kit.now < until {
            let mut ended = Vec::new();
            while let Some(entry) = self.busy.first_entry().filter(|entry| entry.key().0 <= self.kit.now) {
                let (row, took) = entry.remove();
                let commit = tick(self.kit.node, &row, Next::End { state: 10 });
                ended.push(Commit { took, ..commit });
                *self.spent.entry((row.namespace.to_string(), row.fields)).or_default() += took;
            }
            let claim = Claim {
                node: self.kit.node,
                want: (self.count - self.busy.len()) as u32,
                light: 0,
                shared: true,
                labels: Vec::new(),
                only_labelled: false,
            };
            let batch = [Command::Commit(ended), Command::Claim(claim)];
            let mut replies = self.kit.store.apply(self.kit.now, &batch);
            let Some(Ok(Reply::Claimed(rows))) = replies.pop() else { panic!("{replies:?}") };
            for row in rows {
                let took = row.fields.parse::<Micros>().unwrap();
                self.claimed += 1;
                self.busy.insert((self.kit.now + took, self.claimed), (row, took));
            }
            assert_eq!(self.busy.len(), self.count, "a slot is free while something waits");
            self.kit.now = self.busy.first_key_value().unwrap().0.0;
        }
    }

    fn of(&self, namespace: &str) -> f64 {
        let own = self.spent.iter().filter(|((name, _), _)| name == namespace);
        own.map(|(_, time)| time).sum::<Micros>() as f64
    }

    fn share(&self, namespace: &str) -> f64 {
        self.of(namespace) / self.spent.values().sum::<Micros>() as f64
    }
}

/// So many runs of a namespace that take so many microseconds.
fn start(kit: &mut Kit, namespace: &str, priority: i64, takes: Micros, count: usize) {
    let machine = NewMachine { namespace: namespace.into(), fields: takes.to_string(), priority, ..run() };
    for _ in 0..count / 1000 {
        kit.ask(Command::Start(vec![machine.clone(); 1000])).unwrap();
    }
    kit.ask(Command::Start(vec![machine; count % 1000])).unwrap();
}

fn weigh(kit: &mut Kit, namespace: &str, weight: u32) {
    assert_eq!(kit.ask(Command::Weigh { namespace: namespace.into(), weight }), Ok(Reply::Done));
}

pub fn namespaces_get_equal_time_whatever_their_runs_take(make: Make<'_>) {
    let mut kit = Kit::new(make);
    start(&mut kit, "quick", 1, 1_000, 4_500);
    start(&mut kit, "slow", 1, 100_000, 60);
    let mut slots = Slots::new(kit, 4);
    slots.work(2 * SECOND);
    assert!((0.45..0.55).contains(&slots.share("quick")), "{:?}", slots.spent);
}

pub fn weights_hold(make: Make<'_>) {
    let mut kit = Kit::new(make);
    start(&mut kit, "three", 1, 10_000, 1_900);
    start(&mut kit, "one", 1, 30_000, 300);
    weigh(&mut kit, "three", 3);
    let names = kit.queries().namespaces(None, 9).unwrap().items;
    let weights: Vec<_> = names.iter().map(|row| (row.name.as_str(), row.weight)).collect();
    assert_eq!(weights, [("one", 1), ("three", 3)]);
    let mut slots = Slots::new(kit, 4);
    slots.work(5 * SECOND);
    assert!((0.72..0.78).contains(&slots.share("three")), "{:?}", slots.spent);
    // A new weight counts at once.
    weigh(&mut slots.kit, "three", 1);
    start(&mut slots.kit, "one", 1, 30_000, 500);
    start(&mut slots.kit, "three", 1, 10_000, 1_500);
    slots.spent.clear();
    slots.work(5 * SECOND);
    assert!((0.45..0.55).contains(&slots.share("three")), "{:?}", slots.spent);
    for refused in [
        slots.kit.ask(Command::Weigh { namespace: "nobody".into(), weight: 1 }),
        slots.kit.ask(Command::Weigh { namespace: "one".into(), weight: 0 }),
    ] {
        assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
    }
}

pub fn who_was_idle_does_not_take_everything(make: Make<'_>) {
    let mut kit = Kit::new(make);
    start(&mut kit, "idle", 1, 10_000, 10);
    start(&mut kit, "busy", 1, 60 * SECOND, 120);
    let mut slots = Slots::new(kit, 2);
    // For an hour the other one works alone.
    slots.work(3500 * SECOND);
    start(&mut slots.kit, "idle", 1, 10_000, 3_000);
    start(&mut slots.kit, "busy", 1, 10_000, 3_000);
    slots.spent.clear();
    while slots.spent.values().sum::<Micros>() < 20 * SECOND {
        slots.spent.retain(|(_, takes), _| takes == "10000");
        slots.work(20_000);
    }
    let ahead = (slots.of("idle") - slots.of("busy")) / SECOND as f64;
    assert!(ahead < 3.0, "{:?}", slots.spent);
}

pub fn a_low_class_keeps_its_part(make: Make<'_>) {
    let mut kit = Kit::new(make);
    start(&mut kit, "n", 0, 10_000, 2_500);
    start(&mut kit, "n", 3, 5_000, 500);
    let mut slots = Slots::new(kit, 4);
    slots.work(6 * SECOND);
    let low = slots.spent[&("n".to_owned(), "5000".to_owned())] as f64 / slots.of("n");
    assert!((0.05..0.08).contains(&low), "{:?}", slots.spent);
}

pub fn a_namespace_is_charged_what_its_claims_took(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let other = |priority| NewMachine { namespace: "other".into(), priority, ..run() };
    // One of each is claimed, and one ends after a second, the other after ten.
    kit.start(run());
    kit.start(other(1));
    let rows = kit.claim(2);
    for (row, took) in rows.iter().zip([SECOND, 10 * SECOND]) {
        let commit = Commit { took, ..tick(kit.node, row, Next::End { state: 10 }) };
        kit.must(commit);
    }
    let first = rows[0].namespace.clone();
    for _ in 0..20 {
        kit.start(run());
        kit.start(other(1));
    }
    let rows = kit.claim(9);
    assert!(rows.iter().all(|row| row.namespace == first), "it is nine seconds behind");
    // What is given back is charged to nobody.
    let machines = rows.iter().map(|row| (row.id, row.fence)).collect();
    let node = kit.node;
    kit.ask(Command::Release { node, machines }).unwrap();
    assert!(kit.claim(9).iter().all(|row| row.namespace == first));
}

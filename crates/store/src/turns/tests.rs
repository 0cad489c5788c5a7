//! Accounts against what a fair division would give, with rows that take what they like.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const MS: Micros = 1000;
const SECOND: Micros = 1_000_000;

/// A lane that a namespace has rows in, without end.
#[derive(Clone, Copy, Debug)]
struct Source {
    namespace: i64,
    weight: u32,
    class: i64,
    /// What each of its rows takes.
    takes: Micros,
}

impl Source {
    fn new(namespace: i64, weight: u32, takes: Micros) -> Self {
        Self { namespace, weight, class: 1, takes }
    }

    fn of_class(self, class: i64) -> Self {
        Self { class, ..self }
    }

    fn waiting(self, key: i64) -> Waiting<Source> {
        Waiting { namespace: self.namespace, weight: self.weight, class: self.class, key, lane: self }
    }
}

/// Slots that are filled by turns, with a clock.
struct Slots {
    turns: Turns,
    count: usize,
    now: Micros,
    /// What is carried out: its end, an order, whose it is, what it was charged.
    busy: BTreeMap<(Micros, u64), (Source, Micros)>,
    claimed: u64,
    /// Time spent, by namespace and class.
    spent: BTreeMap<(i64, i64), Micros>,
}

impl Slots {
    fn new(count: usize) -> Self {
        let (turns, busy, spent) = Default::default();
        Self { turns, count, now: 0, busy, claimed: 0, spent }
    }

    /// Carries rows of these sources out for so long.
    fn work(&mut self, sources: &[Source], time: Micros) {
        let until = self.now + time;
        while self.now < until {
            self.claim(sources);
            let Some((at, _)) = self.busy.first_key_value().map(|(key, _)| *key) else { return };
            self.now = at;
            while let Some(entry) = self.busy.first_entry().filter(|entry| entry.key().0 <= at) {
                let (of, charged) = entry.remove();
                self.turns.settle(of.namespace, of.class, charged, of.takes);
                *self.spent.entry((of.namespace, of.class)).or_default() += of.takes;
            }
        }
    }

    fn claim(&mut self, sources: &[Source]) {
        let lanes = sources.iter().zip(1..).map(|(source, key)| source.waiting(key));
        let mut queues = self.turns.queues(lanes, &[]);
        for turn in queues.deal(&self.turns, self.count - self.busy.len()) {
            let of = turn.of.lane;
            let charged = self.turns.estimate(of.namespace, of.class);
            self.turns.charge(&turn, turn.count);
            for _ in 0..turn.count {
                self.claimed += 1;
                self.busy.insert((self.now + of.takes, self.claimed), (of, charged));
            }
        }
        self.turns.walked(&[]);
    }

    fn share(&self, namespace: i64) -> f64 {
        let of = |all: bool| -> Micros {
            self.spent.iter().filter(|((ns, _), _)| all || *ns == namespace).map(|(_, time)| time).sum()
        };
        of(false) as f64 / of(true) as f64
    }
}

#[test]
fn equal_weights_get_equal_time_whatever_their_rows_take() {
    let mut slots = Slots::new(4);
    slots.work(&[Source::new(1, 1, MS), Source::new(2, 1, 100 * MS)], 20 * SECOND);
    assert!((0.48..0.52).contains(&slots.share(1)), "{}", slots.share(1));
}

#[test]
fn weights_hold() {
    let mut slots = Slots::new(4);
    slots.work(&[Source::new(1, 3, MS), Source::new(2, 1, 100 * MS)], 20 * SECOND);
    assert!((0.73..0.77).contains(&slots.share(1)), "{}", slots.share(1));
}

#[test]
fn who_was_away_takes_no_more_than_its_credit() {
    let [a, b] = [Source::new(1, 1, MS), Source::new(2, 1, MS)];
    let mut slots = Slots::new(1);
    slots.work(&[a, b], SECOND);
    slots.work(&[Source { takes: SECOND, ..a }], 3600 * SECOND);
    slots.spent.clear();
    slots.work(&[a, b], 10 * SECOND);
    let ahead = slots.spent[&(2, 1)] - slots.spent[&(1, 1)];
    assert!((CREDIT / 2..=CREDIT + SECOND).contains(&ahead), "{ahead}");
}

#[test]
fn who_waits_is_not_away() {
    // One that others take nothing from keeps what it is behind: it waits for a node with a label.
    let [a, b] = [Source::new(1, 1, MS), Source::new(2, 1, MS)];
    let mut turns = Turns::default();
    let labels = ["gpu".to_owned()];
    turns.queues([a.waiting(1), b.waiting(2)], &labels);
    turns.walked(&labels);
    for _ in 0..1000 {
        let mut queues = turns.queues([b.waiting(2)], &[]);
        let turn = queues.deal(&turns, 1).remove(0);
        turns.charge(&turn, 1);
        turns.settle(2, 1, FIRST_GUESS, SECOND);
        turns.walked(&[]);
    }
    let mut queues = turns.queues([a.waiting(1), b.waiting(2)], &labels);
    let dealt = queues.deal(&turns, 900);
    assert_eq!(dealt.iter().map(|turn| (turn.of.namespace, turn.count)).collect::<Vec<_>>(), [(1, 900)]);
}

#[test]
fn what_others_spend_counts_here_up_to_a_twentieth() {
    let [a, b] = [Source::new(1, 1, 10 * MS), Source::new(2, 1, 10 * MS)];
    let mut slots = Slots::new(2);
    for second in 0..40 {
        slots.work(&[a, b], SECOND);
        if second == 10 {
            slots.spent.clear();
        }
        // Another node works for the second one alone.
        slots.turns.hear([(2, 2 * SECOND)]);
    }
    assert!((0.93..0.96).contains(&slots.share(1)), "{}", slots.share(1));
    // Half as much is made good in full.
    let mut slots = Slots::new(2);
    for second in 0..40 {
        slots.work(&[a, b], SECOND);
        if second == 10 {
            slots.spent.clear();
        }
        slots.turns.hear([(2, SECOND)]);
    }
    let all = slots.share(1) * 2.0 / 3.0;
    assert!((0.49..0.51).contains(&all), "{all}");
}

#[test]
fn a_refund_is_as_if_nothing_was_claimed() {
    let a = Source::new(1, 1, MS);
    let mut turns = Turns::default();
    let turn = turns.queues([a.waiting(1)], &[]).deal(&turns, 5).remove(0);
    turns.charge(&turn, 5);
    assert_eq!(turns.untold(), [(1, 5 * FIRST_GUESS)]);
    turns.refund(1, 2 * FIRST_GUESS);
    turns.told(1, FIRST_GUESS);
    assert_eq!(turns.untold(), [(1, 2 * FIRST_GUESS)]);
}

#[test]
fn lanes_of_a_class_take_turns() {
    let a = Source::new(1, 1, MS);
    let mut turns = Turns::default();
    let mut served = Vec::new();
    for _ in 0..7 {
        let turn = turns.queues([5, 9, 12].map(|key| a.waiting(key)), &[]).deal(&turns, 2).remove(0);
        turns.charge(&turn, 2);
        served.push(turn.of.key);
    }
    assert_eq!(served, [5, 9, 12, 5, 9, 12, 5]);
}

proptest! {
    #![proptest_config(crate::conformance::cases(40))]

    /// Time is divided by weights, as closely as rows can be: no further apart than what is in the slots at a time.
    #[test]
    fn time_is_divided_by_weight(
        sources in prop::collection::vec((1u32..6, 1i64..200), 1..6),
        count in 1usize..9,
    ) {
        let sources: Vec<Source> =
            sources.into_iter().zip(1..).map(|((weight, takes), ns)| Source::new(ns, weight, takes * MS)).collect();
        let mut slots = Slots::new(count);
        slots.work(&sources, 20 * SECOND);
        let all: Micros = slots.spent.values().sum();
        let weights: u32 = sources.iter().map(|s| s.weight).sum();
        let most = sources.iter().map(|s| s.takes).max().unwrap_or(0);
        for source in &sources {
            let fair = all as f64 * f64::from(source.weight) / f64::from(weights);
            let got = slots.spent.get(&(source.namespace, 1)).copied().unwrap_or(0) as f64;
            let bound = (2 * most * count as i64 + CREDIT) as f64;
            prop_assert!((got - fair).abs() <= bound, "{got} where {fair} is fair, of {all}: {source:?}");
        }
    }

    /// Each class that waits gets a twentieth of its namespace's time at least, and the first the rest.
    #[test]
    fn no_class_starves(
        takes in prop::collection::vec(1i64..50, 2..5),
        count in 1usize..9,
        beside in prop::option::of(1i64..100),
    ) {
        let mut sources: Vec<Source> =
            takes.iter().zip(0..).map(|(takes, class)| Source::new(1, 1, takes * MS).of_class(class)).collect();
        sources.extend(beside.map(|takes| Source::new(2, 1, takes * MS)));
        let mut slots = Slots::new(count);
        slots.work(&sources, 30 * SECOND);
        let own: Micros = slots.spent.iter().filter(|((ns, _), _)| *ns == 1).map(|(_, time)| time).sum();
        for class in 1..takes.len() as i64 {
            let share = slots.spent.get(&(1, class)).copied().unwrap_or(0) as f64 / own as f64;
            prop_assert!((0.05..0.09).contains(&share), "class {class} has {share}: {:?}", slots.spent);
        }
    }

    /// Many rows at once are divided as they are one by one.
    #[test]
    fn a_deal_is_what_single_claims_would_give(
        sources in prop::collection::vec((1i64..4, 1u32..4, 0i64..3, 1i64..300), 1..8),
        before in 0i64..20,
        want in 1usize..400,
    ) {
        let mut classes = BTreeMap::new();
        for (namespace, weight, class, takes) in sources {
            // One lane of each class of a namespace, and one weight.
            let weight = if namespace == 1 { 1 } else { weight };
            classes.insert((namespace, class), Source { namespace, weight, class, takes: takes * MS });
        }
        let weights: BTreeMap<i64, u32> = classes.values().map(|s| (s.namespace, s.weight)).collect();
        let sources: Vec<Source> =
            classes.into_values().map(|s| Source { weight: weights[&s.namespace], ..s }).collect();
        let mut slots = Slots::new(3);
        slots.work(&sources, before * 100 * MS);
        let lanes = || sources.iter().zip(1..).map(|(source, key)| source.waiting(key));
        let count = |dealt: &mut BTreeMap<(i64, i64), i64>, turn: &Turn<Source>| {
            *dealt.entry((turn.of.namespace, turn.of.class)).or_default() += turn.count as i64;
        };
        let mut at_once = BTreeMap::new();
        let mut queues = slots.turns.queues(lanes(), &[]);
        for turn in queues.deal(&slots.turns, want) {
            count(&mut at_once, &turn);
        }
        let mut one_by_one = BTreeMap::new();
        for _ in 0..want {
            for turn in slots.turns.queues(lanes(), &[]).deal(&slots.turns, 1) {
                slots.turns.charge(&turn, turn.count);
                count(&mut one_by_one, &turn);
            }
        }
        prop_assert_eq!(at_once.values().sum::<i64>(), want as i64);
        for of in at_once.keys().chain(one_by_one.keys()) {
            let [a, b] = [&at_once, &one_by_one].map(|dealt| dealt.get(of).copied().unwrap_or(0));
            prop_assert!((a - b).abs() <= 1, "{of:?}: {a} at once, {b} one by one\n{at_once:?}\n{one_by_one:?}");
        }
    }

    /// Whatever comes and goes, a source that waits is served before the others have had more than what its weight and
    /// class leave them.
    #[test]
    fn who_waits_is_served_in_bounded_time(
        steps in prop::collection::vec((prop::collection::btree_set(0usize..6, 1..6), 1i64..40), 1..60),
        sources in prop::collection::vec((1i64..4, 1u32..4, 0i64..3, 1i64..100), 6),
        count in 1usize..5,
    ) {
        let weights: BTreeMap<i64, u32> = sources.iter().map(|(ns, weight, ..)| (*ns, *weight)).collect();
        let sources: Vec<Source> = sources
            .into_iter()
            .map(|(ns, _, class, takes)| Source { namespace: ns, weight: weights[&ns], class, takes: takes * MS })
            .collect();
        let most = sources.iter().map(|s| s.takes).max().unwrap_or(0).max(FIRST_GUESS);
        let mut slots = Slots::new(count);
        let mut waited: BTreeMap<(i64, i64), Micros> = BTreeMap::new();
        for (present, time) in steps {
            let present: Vec<Source> = present.into_iter().map(|i| sources[i]).collect();
            let before = slots.spent.clone();
            slots.work(&present, time * 10 * MS);
            let served: Micros = slots.spent.values().sum::<Micros>() - before.values().sum::<Micros>();
            let keys: Vec<_> = present.iter().map(|s| (s.namespace, s.class)).collect();
            // Who went away or was served begins anew.
            waited.retain(|key, _| keys.contains(key) && slots.spent.get(key) == before.get(key));
            for source in &present {
                let key = (source.namespace, source.class);
                let in_slots = slots.busy.values().any(|(of, _)| (of.namespace, of.class) == key);
                if in_slots || slots.spent.get(&key) != before.get(&key) {
                    continue;
                }
                let waits = waited.entry(key).or_default();
                *waits += served;
                // Its namespace's turn comes when others have had so much for each of its rows, and its class's after
                // sixteen rows' time of it.
                let weights: i64 = weights.values().map(|w| i64::from(*w)).sum();
                let bound = (FLOOR + 4) * (weights / i64::from(source.weight) + 1) * most + 8 * CREDIT;
                prop_assert!(*waits <= bound, "{source:?} waited for {waits}, at most {bound} was right");
            }
        }
    }
}

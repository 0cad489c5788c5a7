//! Concurrency and rates.

use super::*;
use crate::{Concurrency, OnFull, RateLimit};

fn limited(limit: u32, on_full: OnFull) -> NewMachine {
    NewMachine { concurrency: Some(Concurrency { key: "db".into(), limit, on_full }), ..run() }
}

fn rated(interval: Micros, burst: u32) -> NewMachine {
    NewMachine { rate: Some(RateLimit { key: "api".into(), interval, burst }), ..run() }
}

pub fn no_more_than_the_limit_at_a_time(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let ids: Vec<_> =
        (0..6).map(|n| kit.start(NewMachine { priority: n % 2, ..limited(2, OnFull::Wait) })).collect();
    let mut rows = kit.claim(9);
    assert_eq!(rows.len(), 2, "lanes of two classes share one limit");
    let lane = kit.row(rows[0].id).tick.unwrap().lane;
    let limits = kit.queries().limits(lane).unwrap();
    let holders: Vec<_> = rows.iter().map(|r| r.id).collect();
    assert_eq!((limits[0].key.as_str(), limits[0].max, &limits[0].holders), ("db", 2, &holders));
    assert_eq!(kit.claim_ids(9), []);
    assert_eq!(kit.store.next_due(), Ok(None), "time alone frees nothing");
    let mut done = Vec::new();
    while let Some(row) = rows.pop() {
        kit.end(&row);
        done.push(row.id);
        let more = kit.claim(9);
        assert!(rows.len() + more.len() <= 2);
        rows.extend(more);
    }
    done.sort();
    assert_eq!(done, ids);
    // The newest word counts for all.
    for _ in 0..4 {
        kit.start(limited(2, OnFull::Wait));
    }
    kit.start(limited(3, OnFull::Wait));
    assert_eq!(kit.claim(9).len(), 3);
}

pub fn a_permit_goes_with_the_commit_or_stays(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let first = kit.start(limited(1, OnFull::Wait));
    let second = kit.start(limited(1, OnFull::Wait));
    let row = kit.claim_one();
    assert_eq!(row.id, first);
    kit.stay(&row, START + SECOND);
    let row = kit.claim_one();
    assert_eq!(row.id, second, "a run that waits to try again gives its place away");
    kit.keep(&row, START + 5 * SECOND);
    kit.now += SECOND;
    assert_eq!(kit.claim_ids(9), [], "one that goes on keeps it");
    kit.now += 5 * SECOND;
    let row = kit.claim_one();
    assert_eq!(row.id, second);
    kit.end(&row);
    let row = kit.claim_one();
    assert_eq!(row.id, first);
    kit.end(&row);
}

pub fn a_kept_permit_lets_its_holder_go_on(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let flow = kit.start(limited(1, OnFull::Wait));
    let row = kit.claim_one();
    kit.keep(&row, crate::NEVER);
    let waiting: Vec<_> = (0..300).map(|_| kit.start(limited(1, OnFull::Wait))).collect();
    assert_eq!(kit.claim_ids(9), []);
    kit.send(flow, signal("part ended"));
    let row = kit.claim_one();
    assert_eq!(row.id, flow, "though the limit is full and others were first");
    kit.end(&row);
    assert_eq!(kit.claim_ids(9), waiting[..1]);
}

pub fn one_too_many_is_refused(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let ids: Vec<_> = (0..3).map(|_| kit.start(limited(1, OnFull::Refuse))).collect();
    let rows = kit.claim(9);
    assert_eq!(
        rows.iter().map(|r| (r.id, r.refused)).collect::<Vec<_>>(),
        [(ids[0], false), (ids[1], true), (ids[2], true)]
    );
    kit.end(&rows[1]);
    let lane = kit.row(ids[0]).tick.unwrap().lane;
    assert_eq!(
        kit.queries().limits(lane).unwrap()[0].holders,
        [ids[0]],
        "one that is refused held no permit"
    );
}

pub fn holders_are_asked_once_to_end(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let first = kit.start(limited(1, OnFull::CancelHolders));
    let row = kit.claim_one();
    let second = kit.start(limited(1, OnFull::CancelHolders));
    for _ in 0..3 {
        assert_eq!(kit.claim_ids(9), []);
    }
    let mail = kit.queries().claimed_with_mail(kit.node).unwrap();
    assert!(
        matches!(&mail[..], [(id, letters)] if *id == first && matches!(letters[..], [Letter::Cancel { .. }]))
    );
    kit.end(&row);
    assert_eq!(kit.claim_ids(9), [second]);
}

pub fn a_full_limit_blocks_no_other(make: Make<'_>) {
    let mut kit = Kit::new(make);
    for n in 0..600 {
        let key = format!("key {}", n % 300);
        let concurrency = Some(Concurrency { key, limit: 1, on_full: OnFull::Wait });
        kit.start(NewMachine { concurrency, priority: 0, ..run() });
    }
    assert_eq!(kit.claim(1000).len(), 300);
    let free = kit.start(NewMachine { priority: 4, ..run() });
    assert_eq!(kit.claim_ids(5), [free], "behind three hundred lanes that are full");
}

pub fn what_waits_for_a_limit_can_be_cancelled(make: Make<'_>) {
    let mut kit = Kit::new(make);
    kit.start(limited(1, OnFull::Wait));
    let holder = kit.claim_one();
    let queued = kit.start(NewMachine { due_at: START + SECOND, ..limited(1, OnFull::Wait) });
    let other = kit.start(limited(1, OnFull::Wait));
    kit.send(queued, cancel());
    let row = kit.claim_one();
    assert_eq!((row.id, row.mail.len()), (queued, 1));
    kit.end(&row);
    assert_eq!(kit.claim_ids(9), [], "the holder still holds");
    kit.end(&holder);
    assert_eq!(kit.claim_ids(9), [other]);
}

pub fn a_rate_lets_a_burst_through_and_then_its_interval(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let (interval, burst) = (SECOND, 3);
    for _ in 0..40 {
        kit.start(rated(interval, burst));
    }
    let mut starts: Vec<Micros> = Vec::new();
    // As the engine does: sleeps until the moment it is told.
    while starts.len() < 20 {
        let rows = kit.claim(100);
        starts.extend(rows.iter().map(|_| kit.now));
        for row in rows {
            kit.end(&row);
        }
        let next = kit.store.next_due().unwrap().unwrap();
        assert!(next > kit.now, "what a rate holds back is no reason to look again now");
        kit.now = next;
    }
    assert_eq!(starts[..3], [START; 3]);
    for (n, at) in starts.iter().enumerate().skip(3) {
        assert_eq!(*at, START + (n as i64 - 2) * interval);
    }
    // After a pause there is room for a burst, not for all that the pause would have let through.
    kit.now += 3600 * SECOND;
    assert_eq!(kit.claim(100).len(), 3);
}

pub fn a_rate_counts_starts_and_not_what_goes_on(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let flow = kit.start(rated(SECOND, 1));
    let other = kit.start(rated(SECOND, 1));
    let row = kit.claim_one();
    kit.keep(&row, START);
    let row = kit.claim_one();
    assert_eq!(row.id, flow, "it has been counted");
    kit.end(&row);
    assert_eq!(kit.claim_ids(9), []);
    kit.now += SECOND;
    assert_eq!(kit.claim_ids(9), [other]);
}

fn keyed(key: usize) -> NewMachine {
    let concurrency = Some(Concurrency { key: format!("key {key}"), limit: 1, on_full: OnFull::Wait });
    NewMachine { concurrency, ..run() }
}

pub fn a_full_lane_is_left_until_a_permit_comes_back(make: Make<'_>) {
    let mut kit = Kit::new(make);
    for key in 0..300 {
        kit.start(keyed(key));
        kit.start(keyed(key));
    }
    let mut rows = kit.claim(1000);
    assert_eq!(rows.len(), 300);
    assert_eq!(kit.claim_ids(1000), []);
    // Permits come back by an end, by a claim that is given back, by a run that waits to try again.
    for (n, row) in rows.drain(..45).enumerate() {
        let node = kit.node;
        match n % 3 {
            0 => kit.end(&row),
            1 => drop(kit.ask(Command::Release { node, machines: vec![(row.id, row.fence)] })),
            _ => kit.stay(&row, crate::NEVER),
        }
        let next = kit.claim(1000);
        assert_eq!(next.len(), 1, "after {n}");
        assert_eq!(kit.claim_ids(1000), []);
    }
}

pub fn a_higher_limit_opens_its_lanes(make: Make<'_>) {
    let mut kit = Kit::new(make);
    for n in 0..6 {
        kit.start(NewMachine { priority: n % 2, ..limited(1, OnFull::Wait) });
    }
    assert_eq!(kit.claim(9).len(), 1);
    assert_eq!(kit.claim(9).len(), 0);
    // It waits for its moment, and its limit counts for all at once.
    kit.start(NewMachine { due_at: START + SECOND, priority: 2, ..limited(4, OnFull::Wait) });
    assert_eq!(kit.claim(9).len(), 3);
}

pub fn what_goes_on_in_a_full_lane_is_found(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let flow = kit.start(NewMachine { light: true, ..limited(1, OnFull::CancelHolders) });
    let row = kit.claim_one();
    kit.keep(&row, crate::NEVER);
    // It is asked to end by the claim that finds the lane full, and stands in that lane itself.
    let next = kit.start(NewMachine { light: true, ..limited(1, OnFull::CancelHolders) });
    kit.claim(9).iter().for_each(|row| assert_eq!(row.id, flow));
    let row = match kit.row(flow).tick.unwrap().node {
        Some(_) => kit.queries().claimed(kit.node, flow).unwrap().unwrap(),
        None => kit.claim_one(),
    };
    assert_eq!((row.id, row.mail.len()), (flow, 1));
    kit.end(&row);
    assert_eq!(kit.claim_ids(9), [next]);
}

pub fn a_lane_whose_rate_is_used_up_is_left_until_then(make: Make<'_>) {
    let mut kit = Kit::new(make);
    for n in 0..600i64 {
        let rate = Some(RateLimit { key: format!("key {n}"), interval: (1 + n) * SECOND, burst: 1 });
        kit.start(NewMachine { rate: rate.clone(), ..run() });
        kit.start(NewMachine { rate, ..run() });
    }
    assert_eq!(kit.claim(1000).len(), 600);
    for n in 0..5 {
        assert_eq!(kit.claim(1000).len(), 0);
        kit.now = START + (1 + n) * SECOND;
        assert_eq!(kit.store.next_due(), Ok(Some(kit.now)));
        assert_eq!(kit.claim(1000).len(), 1);
    }
}

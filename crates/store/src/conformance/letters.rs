//! Letters and wake-ups.

use proptest::{collection::vec, prelude::*, test_runner::TestRunner};

use super::*;
use crate::MailTo;

pub fn letters_come_in_order_until_they_are_read(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let id = kit.start(run());
    for n in 0..5 {
        assert!(kit.send(id, signal(&n.to_string())));
    }
    let names = |row: &Claimed| -> Vec<String> {
        row.mail
            .iter()
            .map(|(_, letter)| match letter {
                Letter::Signal { name, .. } => name.clone(),
                other => panic!("{other:?}"),
            })
            .collect()
    };
    let row = kit.claim_one();
    assert_eq!(names(&row), ["0", "1", "2", "3", "4"]);
    let mut half = tick(kit.node, &row, Next::Stay { until: crate::NEVER, keep_permit: true });
    half.read_mail = Some(row.mail[2].0);
    kit.must(half);
    assert_eq!(kit.row(id).tick.unwrap().letters, 2);
    let row = kit.claim_one();
    assert_eq!(names(&row), ["3", "4"], "what was not read comes again, at once");
    kit.stay(&row, crate::NEVER);
    assert_eq!(kit.claim_ids(5), []);
    kit.send(id, signal("5"));
    let row = kit.claim_one();
    assert_eq!(names(&row), ["5"]);
    kit.end(&row);
}

pub fn a_letter_brings_forward_and_never_pushes_back(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let later = kit.start(NewMachine { due_at: START + 100 * SECOND, ..run() });
    let ready = kit.start(NewMachine { due_at: START, ..run() });
    kit.now += SECOND;
    kit.send(later, signal("x"));
    kit.send(ready, signal("x"));
    let due = |kit: &Kit, id| kit.row(id).tick.unwrap().due_at;
    assert_eq!((due(&kit, later), due(&kit, ready)), (START + SECOND, START));
    assert_eq!(kit.claim_ids(5), [ready, later]);
}

pub fn a_letter_that_comes_during_a_tick_wakes_at_once(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let id = kit.start(run());
    let row = kit.claim_one();
    kit.send(id, signal("x"));
    let found = kit.queries().claimed_with_mail(kit.node).unwrap();
    assert_eq!(found, [(id, vec![signal("x")])]);
    kit.stay(&row, START + 100 * SECOND);
    let row = kit.claim_one();
    assert_eq!(row.mail.len(), 1);
    kit.stay(&row, START + 100 * SECOND);
    assert_eq!(kit.row(id).tick.unwrap().due_at, START + 100 * SECOND);
    assert_eq!(kit.store.next_due(), Ok(Some(START + 100 * SECOND)));
}

#[derive(Clone, Debug)]
enum Step {
    Send,
    Claim,
    Stay(i64),
    Pass(i64),
}

/// Random interleavings of wake-ups and ticks against a model of one machine.
pub fn wake_ups_are_never_lost(make: Make<'_>) {
    let step = prop_oneof![
        3 => Just(Step::Send),
        3 => Just(Step::Claim),
        3 => (0i64..20).prop_map(Step::Stay),
        2 => (1i64..10).prop_map(Step::Pass),
    ];
    let played = TestRunner::new(cases(60)).run(&vec(step, 1..60), |steps| {
        let mut kit = Kit::new(make);
        let id = kit.start(run());
        let (mut due, mut unread, mut claimed) = (START, 0usize, None::<(Claimed, usize)>);
        for step in steps {
            match step {
                Step::Pass(seconds) => kit.now += seconds * SECOND,
                Step::Send => {
                    prop_assert!(kit.send(id, signal("x")));
                    unread += 1;
                    due = due.min(kit.now);
                }
                Step::Claim => {
                    let mut rows = kit.claim(5);
                    let expected = claimed.is_none() && due <= kit.now;
                    prop_assert_eq!(rows.len(), usize::from(expected), "due {} now {}", due, kit.now);
                    if let Some(row) = rows.pop() {
                        prop_assert_eq!((row.mail.len(), row.due_at), (unread, due));
                        claimed = Some((row, unread));
                    }
                }
                Step::Stay(seconds) => {
                    if let Some((row, read)) = claimed.take() {
                        let until = kit.now + seconds * SECOND;
                        kit.stay(&row, until);
                        unread -= read;
                        due = if unread > 0 { until.min(kit.now) } else { until };
                    }
                }
            }
            if claimed.is_none() {
                let tick = kit.row(id).tick.unwrap();
                prop_assert_eq!((tick.due_at, tick.letters), (due, unread as u64));
            }
        }
        Ok(())
    });
    played.unwrap_or_else(|e| panic!("{e}"));
}

pub fn letters_find_parts_watchers_and_watched(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let schedule = kit.start(NewMachine { kind: 3, due_at: crate::NEVER, ..run() });
    let flow = kit.start(NewMachine { kind: 2, watcher: Some(schedule), ..run() });
    let row = kit.claim_one();
    let part = |key: &str| NewMachine {
        parent: Some(flow),
        watcher: Some(flow),
        child_key: Some(key.into()),
        due_at: crate::NEVER,
        ..run()
    };
    let commit = Commit {
        start: vec![part("a"), part("b"), NewMachine { state: 13, ..part("c") }],
        ..tick(kit.node, &row, Next::Stay { until: START, keep_permit: true })
    };
    let parts: Vec<_> = kit.must(commit).into_iter().map(StartOutcome::id).collect();
    let row = kit.claim_one();
    let commit = Commit {
        send: vec![
            (MailTo::Children, signal("all")),
            (MailTo::Child("b".into()), signal("b")),
            (MailTo::Watched, signal("watched")),
            (MailTo::Watcher, signal("up")),
        ],
        ..tick(kit.node, &row, Next::End { state: 12 })
    };
    kit.must(commit);
    let letters = |kit: &Kit, id| kit.row(id).tick.map(|t| t.letters);
    assert_eq!(parts.iter().map(|id| letters(&kit, *id)).collect::<Vec<_>>(), [Some(2), Some(3), None]);
    assert_eq!(letters(&kit, schedule), Some(1));
    let woken: Vec<_> = kit.claim_ids(9);
    assert_eq!(woken.len(), 3, "{woken:?}");
}

pub fn letters_to_the_dead_are_told_so(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let id = kit.start(run());
    let row = kit.claim_one();
    kit.send(id, signal("unread"));
    kit.end(&row);
    assert!(!kit.send(id, signal("x")));
    assert!(!kit.send(MachineId(77), signal("x")));
}

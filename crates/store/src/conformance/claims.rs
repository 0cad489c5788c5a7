//! Starts, claims and commits.

use std::thread;

use super::*;
use crate::{Concurrency, Hold, OnFull};

pub fn one_of_64_writers_wins_a_step(make: Make<'_>) {
    for next in [Next::End { state: 10 }, Next::Stay { until: START, keep_permit: true }] {
        let mut kit = Kit::new(make);
        kit.start(run());
        let row = kit.claim_one();
        let commit = tick(kit.node, &row, next);
        let writer = on_a_thread(kit);
        let outcomes: Vec<CommitOutcome> = thread::scope(|scope| {
            let threads: Vec<_> = (0..64)
                .map(|_| {
                    let (writer, commit) = (writer.clone(), commit.clone());
                    scope.spawn(move || match writer.call(Command::Commit(vec![commit])) {
                        Ok(Reply::Committed(mut outcomes)) => outcomes.remove(0),
                        other => panic!("{other:?}"),
                    })
                })
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        let expected = (row.step, row.fence);
        let actual = match next {
            Next::End { .. } => None,
            Next::Stay { .. } => Some((row.step + 1, row.fence)),
        };
        let lost = CommitOutcome::Conflict { expected, actual };
        assert_eq!(outcomes.iter().filter(|o| **o == lost).count(), 63, "{outcomes:?}");
        assert_eq!(outcomes.iter().filter(|o| matches!(o, CommitOutcome::Committed { .. })).count(), 1);
    }
}

pub fn a_step_that_came_back_conflicts(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let id = kit.start(run());
    let first = kit.claim_one();
    kit.stay(&first, START);
    let second = kit.claim_one();
    kit.stay(&second, START);
    let third = kit.claim_one();
    assert_eq!((third.step, third.fence), (first.step + 2, first.fence + 2));
    // The machine looks as it did when it was claimed first; what was decided then does not count any more.
    let actual = Some((third.step, third.fence));
    for (step, fence) in [(first.step, first.fence), (first.step, third.fence), (third.step, first.fence)] {
        let mut late = tick(kit.node, &third, Next::End { state: 10 });
        (late.step, late.fence) = (step, fence);
        assert_eq!(kit.commit(late), CommitOutcome::Conflict { expected: (step, fence), actual });
    }
    let mut others = tick(kit.node, &third, Next::End { state: 10 });
    others.node = NodeId(kit.node.0 + 1);
    assert!(matches!(kit.commit(others), CommitOutcome::Conflict { .. }));
    assert_eq!(kit.row(id).step, third.step);
    kit.end(&third);
    assert_eq!(kit.state(id), RunState::Succeeded);
}

pub fn large_steps_and_fences_are_told_as_they_are(make: Make<'_>) {
    let mut kit = Kit::new(make);
    kit.start(run());
    let row = kit.claim_one();
    for large in [1 << 33, u64::from(u32::MAX) + row.step, u64::MAX] {
        let mut late = tick(kit.node, &row, Next::End { state: 10 });
        (late.step, late.fence) = (large, large);
        let actual = Some((row.step, row.fence));
        assert_eq!(kit.commit(late), CommitOutcome::Conflict { expected: (large, large), actual });
    }
    kit.end(&row);
}

pub fn rows_are_taken_by_class_moment_and_age(make: Make<'_>) {
    let mut kit = Kit::new(make);
    kit.now += 10 * SECOND;
    let of = |priority, due_at| NewMachine { priority, due_at, ..run() };
    let late = kit.start(of(1, START + 2));
    let low = kit.start(of(2, START));
    let twins = [kit.start(of(1, START + 1)), kit.start(of(1, START + 1))];
    let high = kit.start(of(0, START + 9));
    assert_eq!(kit.claim_ids(2), [high, twins[0]]);
    assert_eq!(kit.claim_ids(9), [twins[1], late, low]);
}

pub fn namespaces_take_turns(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let of = |namespace: &str, priority| NewMachine { namespace: namespace.into(), priority, ..run() };
    let many = (0..1000).map(|_| of("many", 0)).collect();
    kit.ask(Command::Start(many)).unwrap();
    let few: Vec<_> = (0..10).map(|_| kit.start(of("few", 4))).collect();
    let mut served = Vec::new();
    for _ in 0..4 {
        served.extend(kit.claim(8).into_iter().map(|row| row.id));
    }
    assert!(few.iter().all(|id| served.contains(id)), "a busy namespace does not keep another from its turn");
    assert_eq!(served.len(), 32, "and gets what the other leaves");
}

pub fn a_machine_is_claimed_by_one_node(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let other = kit.register(false);
    let id = kit.start(run());
    assert_eq!(kit.claim_as(other, 5, false).len(), 0, "a guest does not take what is shared");
    let row = kit.claim_one();
    assert_eq!((row.id, row.fence), (id, 1));
    assert_eq!(kit.claim_as(other, 5, true).len(), 0);
    assert_eq!(kit.state(id), RunState::Running);
    let home = kit.start(NewMachine { home: Some(other), ..run() });
    assert_eq!(kit.claim(5).len(), 0, "a guest's own run is not for the owner");
    let rows = kit.claim_as(other, 5, false);
    assert_eq!((rows[0].id, rows[0].home), (home, Some(other)));
}

pub fn nothing_is_claimed_before_its_moment(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let due_at = START + SECOND;
    let id = kit.start(NewMachine { due_at, ..run() });
    let never = kit.start(NewMachine { due_at: crate::NEVER, ..run() });
    assert_eq!(kit.store.next_due(), Ok(Some(due_at)));
    kit.now = due_at - 1;
    assert_eq!(kit.claim_ids(5), []);
    assert_eq!(kit.state(id), RunState::Scheduled);
    kit.now = due_at;
    assert_eq!(kit.claim_ids(5), [id]);
    assert_eq!(kit.store.next_due(), Ok(None), "what waits for letters alone waits for no moment");
    assert_eq!(kit.state(never), RunState::Scheduled);
}

pub fn many_due_at_once_are_all_claimed(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let due_at = START + SECOND;
    let machines = (0..5000).map(|_| NewMachine { due_at, ..run() }).collect();
    kit.ask(Command::Start(machines)).unwrap();
    kit.now = due_at;
    let mut claimed = 0;
    // As the engine does: again when all that was wanted came, or when a moment has passed.
    loop {
        let rows = kit.claim(700);
        claimed += rows.len();
        let due = kit.store.next_due().unwrap().is_some_and(|at| at <= kit.now);
        if rows.len() < 700 && !due {
            break;
        }
    }
    assert_eq!(claimed, 5000);
}

pub fn a_start_is_claimed_at_once_where_nothing_stands_before_it(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let node = kit.node;
    let at_once = |kit: &mut Kit, machine: NewMachine| match kit
        .ask(Command::StartClaimed { machine: Box::new(machine), node })
    {
        Ok(Reply::StartedClaimed(StartOutcome::Started(id), claimed)) => (id, claimed),
        other => panic!("{other:?}"),
    };
    let (id, claimed) = at_once(&mut kit, run());
    let row = *claimed.unwrap();
    assert_eq!((row.id, row.namespace.as_ref(), row.due_at), (id, "default", START));
    assert_eq!(kit.state(id), RunState::Running);
    kit.end(&row);
    let limit = Concurrency { key: "k".into(), limit: 1, on_full: OnFull::Wait };
    for queued in [
        NewMachine { due_at: START + SECOND, ..run() },
        NewMachine { concurrency: Some(limit), ..run() },
        NewMachine { home: Some(NodeId(node.0 + 7)), ..run() },
        NewMachine { namespace: "paused".into(), ..run() },
    ] {
        if queued.namespace == "paused" {
            kit.start(NewMachine { state: 13, ..queued.clone() });
            kit.ask(Command::Hold { what: Hold::Namespace("paused".into()), on: true }).unwrap();
        }
        assert_eq!(at_once(&mut kit, queued).1, None);
    }
    let first = kit.start(run());
    assert_eq!(at_once(&mut kit, run()).1, None, "another was ready before");
    assert!(kit.claim_ids(9).contains(&first));
}

pub fn one_of_64_starts_with_a_unique_key_is_made(make: Make<'_>) {
    let kit = Kit::new(make);
    let node = kit.node;
    let machine = NewMachine { unique_key: Some("only".into()), ..run() };
    let writer = on_a_thread(kit);
    let outcomes: Vec<StartOutcome> = thread::scope(|scope| {
        let threads: Vec<_> = (0..64)
            .map(|_| {
                let (writer, machine) = (writer.clone(), machine.clone());
                scope.spawn(move || match writer.call(Command::Start(vec![machine])) {
                    Ok(Reply::Started(outcomes)) => outcomes[0],
                    other => panic!("{other:?}"),
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let made: Vec<_> = outcomes.iter().filter(|o| matches!(o, StartOutcome::Started(_))).collect();
    let [StartOutcome::Started(id)] = made[..] else { panic!("{outcomes:?}") };
    assert_eq!(outcomes.iter().filter(|o| **o == StartOutcome::AlreadyRunning(*id)).count(), 63);

    let ask = |command| writer.call(command).unwrap();
    let elsewhere = NewMachine { namespace: "other".into(), ..machine.clone() };
    assert!(
        matches!(ask(Command::Start(vec![elsewhere])), Reply::Started(o) if matches!(o[0], StartOutcome::Started(_)))
    );
    let Reply::Claimed(rows) = ask(Command::Claim(Claim {
        node,
        want: 9,
        light: 0,
        shared: true,
        labels: Vec::new(),
        only_labelled: false,
    })) else {
        panic!()
    };
    let row = rows.iter().find(|r| r.id == *id).unwrap();
    ask(Command::Commit(vec![tick(node, row, Next::End { state: 11 })]));
    let again = ask(Command::Start(vec![machine]));
    assert!(
        matches!(again, Reply::Started(o) if matches!(o[0], StartOutcome::Started(_))),
        "the key is free again"
    );
}

pub fn an_idempotency_key_is_kept_after_the_end(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let machine = NewMachine { idempotency_key: Some("k".into()), unique_key: Some("u".into()), ..run() };
    let id = kit.start(machine.clone());
    assert_eq!(kit.outcome(machine.clone()), StartOutcome::Repeated(id));
    let row = kit.claim_one();
    kit.end(&row);
    assert_eq!(kit.outcome(machine.clone()), StartOutcome::Repeated(id));
    kit.start(NewMachine { namespace: "other".into(), ..machine });
}

pub fn light_machines_are_claimed_apart_from_those_that_take_a_slot(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let heavy: Vec<_> = (0..3).map(|_| kit.start(run())).collect();
    let light: Vec<_> = (0..3).map(|_| kit.start(NewMachine { light: true, ..run() })).collect();
    let node = kit.node;
    let mut claim = |want, light| match kit.ask(Command::Claim(Claim {
        node,
        want,
        light,
        shared: true,
        labels: Vec::new(),
        only_labelled: false,
    })) {
        Ok(Reply::Claimed(rows)) => rows.into_iter().map(|row| (row.id, row.light)).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(claim(0, 0), []);
    assert_eq!(claim(0, 2), [(light[0], true), (light[1], true)]);
    assert_eq!(claim(2, 0), [(heavy[0], false), (heavy[1], false)]);
    assert_eq!(claim(9, 9), [(light[2], true), (heavy[2], false)]);
}

pub fn what_is_recorded_as_ended_never_ticks(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let skipped = RunState::Skipped.code();
    let id = kit.start(NewMachine { state: skipped, unique_key: Some("u".into()), ..run() });
    let row = kit.row(id);
    assert_eq!((row.state, row.finished_at, row.tick), (skipped, Some(START), None));
    assert_eq!(kit.claim_ids(5), []);
    assert!(!kit.send(id, signal("x")));
    kit.start(NewMachine { unique_key: Some("u".into()), ..run() });
}

pub fn ids_grow_whatever_the_clock_does(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let mut last = kit.start(run());
    for jump in [0, SECOND, -3600 * SECOND, 0, SECOND, 86_400 * SECOND] {
        kit.now += jump;
        let id = kit.start(run());
        assert!(id > last);
        last = id;
    }
    assert_eq!(last.unix_ms(), kit.now / 1000);
}

pub fn a_refused_command_does_not_harm_its_neighbours(make: Make<'_>) {
    let mut kit = Kit::new(make);
    kit.start(run());
    let row = kit.claim_one();
    let named = |key: &str| NewMachine { idempotency_key: Some(key.into()), ..run() };
    let poisoned = NewMachine { state: -1, ..run() };
    let batch = [
        Command::Start(vec![named("a")]),
        // The first half of it is fine and must go with the second.
        Command::Start(vec![named("half"), poisoned.clone()]),
        Command::Hold { what: Hold::Task("default".into(), "none".into()), on: true },
        Command::Commit(vec![tick(kit.node, &row, Next::End { state: 0 })]),
        Command::Commit(vec![Commit {
            start: vec![named("child"), poisoned],
            send: vec![(crate::MailTo::Machine(row.id), signal("x"))],
            ..tick(kit.node, &row, Next::End { state: 10 })
        }]),
        Command::Start(vec![named("b")]),
        Command::Commit(vec![tick(kit.node, &row, Next::End { state: 10 })]),
    ];
    let replies = kit.store.apply(kit.now, &batch);
    let refused: Vec<bool> = replies.iter().map(|r| matches!(r, Err(StoreError::Refused(_)))).collect();
    assert_eq!(refused, [false, true, true, true, true, false, false], "{replies:?}");
    assert!(
        matches!(&replies[6], Ok(Reply::Committed(o)) if matches!(o[0], CommitOutcome::Committed { .. }))
    );
    for (key, made) in [("a", true), ("half", false), ("child", false), ("b", true)] {
        let repeated = matches!(kit.outcome(named(key)), StartOutcome::Repeated(_));
        assert_eq!(repeated, made, "{key}");
    }
    let history = kit.queries().history(row.id, 9).unwrap();
    assert_eq!(history.iter().map(|e| e.kind.as_str()).collect::<Vec<_>>(), ["created", "ticked"]);
}

pub fn a_commit_writes_all_of_it_or_nothing(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let id = kit.start(run());
    let other = kit.start(NewMachine { due_at: crate::NEVER, ..run() });
    let row = kit.claim_one();
    let commit = Commit {
        fields: Some(r#"{"n":1}"#.into()),
        start: vec![NewMachine { parent: Some(id), child_key: Some("part".into()), ..run() }],
        send: vec![(crate::MailTo::Machine(other), signal("go"))],
        ..tick(kit.node, &row, Next::End { state: 11 })
    };
    let stale = Commit { fence: row.fence + 1, ..commit.clone() };
    let events = |kit: &Kit| match kit.queries().events(0, 100) {
        Ok(crate::EventPage::Events { items, .. }) => items.len(),
        page => panic!("{page:?}"),
    };
    let before = events(&kit);
    assert!(matches!(kit.commit(stale), CommitOutcome::Conflict { .. }));
    assert_eq!(
        (events(&kit), kit.row(id).fields.as_str(), kit.state(other)),
        (before, "{}", RunState::Scheduled)
    );
    let started = kit.must(commit);
    let part = started[0].id();
    let ended = kit.row(id);
    assert_eq!((ended.state, ended.fields.as_str(), ended.finished_at), (11, r#"{"n":1}"#, Some(kit.now)));
    assert_eq!((ended.started_at, ended.step, ended.tick), (Some(row.due_at), row.step + 1, None));
    assert_eq!(kit.row(part).parent, Some(id));
    assert_eq!((events(&kit), kit.state(other)), (before + 2, RunState::Ready));
}

//! Events, histories, lists.

use std::collections::BTreeSet;

use super::*;
use crate::{EventPage, EventRow, Order, RunFilter, WaitingRow};

fn after(queries: &dyn Queries, cursor: i64, limit: u32) -> (Vec<EventRow>, i64) {
    match queries.events(cursor, limit) {
        Ok(EventPage::Events { items, next }) => (items, next),
        other => panic!("{other:?}"),
    }
}

pub fn events_come_in_order_and_never_before_the_cursor(make: Make<'_>) {
    let kit = Kit::new(make);
    let queries = kit.queries();
    let node = kit.node;
    let writer = on_a_thread(kit);
    let mut seen: Vec<EventRow> = Vec::new();
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|_| {
                let writer = writer.clone();
                scope.spawn(move || {
                    for _ in 0..50 {
                        writer.call(Command::Start(vec![run(), run()])).unwrap();
                        let claim = Command::Claim(Claim {
                            node,
                            want: 2,
                            light: 0,
                            shared: true,
                            labels: Vec::new(),
                            only_labelled: false,
                        });
                        let Ok(Reply::Claimed(rows)) = writer.call(claim) else { panic!() };
                        let commits =
                            rows.iter().map(|row| tick(node, row, Next::End { state: 10 })).collect();
                        writer.call(Command::Commit(commits)).unwrap();
                    }
                })
            })
            .collect();
        let mut cursor = 0;
        while !writers.iter().all(|w| w.is_finished()) {
            let (items, next) = after(&*queries, cursor, 37);
            seen.extend(items);
            cursor = next;
        }
        loop {
            let (items, next) = after(&*queries, cursor, 100);
            if items.is_empty() {
                break;
            }
            seen.extend(items);
            cursor = next;
        }
    });
    assert!(seen.windows(2).all(|pair| pair[0].seq < pair[1].seq));
    let mut all = Vec::new();
    let mut cursor = 0;
    loop {
        let (items, next) = after(&*queries, cursor, 1000);
        if items.is_empty() {
            break;
        }
        all.extend(items);
        cursor = next;
    }
    assert_eq!(seen.len(), 800);
    assert_eq!(seen, all, "a reader who followed has seen what one who came later sees");
}

pub fn a_history_is_told_from_the_oldest(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let id = kit.start(run());
    kit.start(NewMachine { due_at: crate::NEVER, ..run() });
    for n in 0..5 {
        let row = kit.claim_one();
        let mut commit = tick(kit.node, &row, Next::Stay { until: kit.now, keep_permit: true });
        commit.event = EventBody::new("ticked", &serde_json::json!(n));
        kit.must(commit);
    }
    let bodies = |limit| -> Vec<String> {
        kit.queries().history(id, limit).unwrap().into_iter().map(|e| e.body).collect()
    };
    assert_eq!(bodies(9), ["", "0", "1", "2", "3", "4"]);
    assert_eq!(bodies(2), ["3", "4"]);
    let steps: Vec<_> = kit.queries().history(id, 9).unwrap().iter().map(|e| e.step).collect();
    assert_eq!(steps, (1..=6).collect::<Vec<_>>());
    assert_eq!(kit.row(id).step, 6);
}

pub fn pages_are_complete_while_others_insert(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let spaces = ["default", "other"];
    let mut tasks = Vec::new();
    for space in spaces {
        let both = vec![super::holds::task("a", "1", &[]), super::holds::task("b", "1", &[])];
        kit.push(crate::Push { namespace: space.into(), ..super::holds::push(both) });
        let row = |name| kit.queries().task(space, name).unwrap().unwrap().row;
        tasks.push([0, row("a"), row("b")]);
    }
    let of = |n: i64| NewMachine {
        task: tasks[(n % 2) as usize][(n % 3) as usize],
        namespace: spaces[(n % 2) as usize].into(),
        state: [0, 10, 11, 12][(n % 4) as usize],
        ..run()
    };
    let made: Vec<_> = (0..120).map(|n| kit.start(of(n))).collect();
    let expected = |filter: &dyn Fn(usize) -> bool| -> BTreeSet<_> {
        made.iter().enumerate().filter(|(n, _)| filter(*n)).map(|(_, id)| *id).collect()
    };
    let filters: Vec<(RunFilter, BTreeSet<MachineId>)> = vec![
        (RunFilter::default(), expected(&|_| true)),
        (
            RunFilter { task_row: Some(tasks[1][1]), ..RunFilter::default() },
            expected(&|n| n % 3 == 1 && n % 2 == 1),
        ),
        (RunFilter { namespace: Some("other".into()), ..RunFilter::default() }, expected(&|n| n % 2 == 1)),
        (
            RunFilter { states: vec![RunState::Failed, RunState::Ready], ..RunFilter::default() },
            expected(&|n| n % 4 == 2 || n % 4 == 0),
        ),
        (
            RunFilter {
                states: vec![RunState::Succeeded],
                since: Some(made[20]),
                until: Some(made[90]),
                ..RunFilter::default()
            },
            expected(&|n| n % 4 == 1 && (20..90).contains(&n)),
        ),
    ];
    let both = [Order::NewestFirst, Order::OldestFirst];
    for (filter, expected) in filters.into_iter().flat_map(|(filter, expected)| {
        both.map(|order| (RunFilter { order, ..filter.clone() }, expected.clone()))
    }) {
        let mut cursor = None;
        let mut seen = Vec::new();
        loop {
            let page = kit.queries().runs(&filter, cursor.as_ref(), 7).unwrap();
            seen.extend(page.items.iter().map(|m| m.id));
            kit.start(of(0));
            kit.start(of(1));
            kit.start(of(2));
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        let is_ordered = |pair: &[MachineId]| match filter.order {
            Order::NewestFirst => pair[0] > pair[1],
            Order::OldestFirst => pair[0] < pair[1],
        };
        assert!(seen.windows(2).all(is_ordered), "{filter:?}");
        let seen: BTreeSet<_> = seen.into_iter().filter(|id| made.contains(id)).collect();
        assert_eq!(seen, expected, "{filter:?}");
    }
    assert!(kit.queries().runs(&RunFilter::default(), Some(&crate::Cursor("?".into())), 1).is_err());
}

pub fn lists_show_the_states_asked_for(make: Make<'_>) {
    let mut kit = Kit::new(make);
    kit.push(super::holds::push(vec![super::holds::task("a", "1", &[])]));
    let row = kit.task_row("a");
    let of = |due_at| NewMachine { task: row, due_at, ..run() };
    let waiting = kit.start(of(START));
    let tick = kit.claim_one();
    kit.stay(&tick, START + 50 * SECOND);
    let running = kit.start(of(START));
    kit.claim_one();
    let ready = kit.start(of(START));
    let scheduled = kit.start(of(START + SECOND));
    let mut expected = vec![
        (RunState::Waiting, waiting),
        (RunState::Running, running),
        (RunState::Ready, ready),
        (RunState::Scheduled, scheduled),
    ];
    for state in RunState::ALL.into_iter().filter(|s| s.is_final()) {
        expected.push((state, kit.start(NewMachine { state: state.code(), ..of(START) })));
    }
    let part = kit.start(NewMachine { parent: Some(running), child_key: Some("p".into()), ..of(START) });
    kit.start(NewMachine { kind: 3, due_at: crate::NEVER, ..run() });
    let scopes = [
        RunFilter::default(),
        RunFilter { namespace: Some("default".into()), ..RunFilter::default() },
        RunFilter { task_row: Some(row), ..RunFilter::default() },
    ];
    for scope in scopes {
        let list = |states: Vec<RunState>, order| -> Vec<MachineId> {
            let filter = RunFilter { states, order, ..scope.clone() };
            kit.queries().runs(&filter, None, 50).unwrap().items.iter().map(|m| m.id).collect()
        };
        for (state, id) in &expected {
            assert_eq!(kit.state(*id), *state);
            assert_eq!(list(vec![*state], Order::NewestFirst), [*id], "{state} of {scope:?}");
            assert_eq!(list(vec![*state], Order::OldestFirst), [*id], "{state} of {scope:?}");
        }
        let mut all: Vec<_> = expected.iter().map(|(_, id)| *id).collect();
        for order in [Order::OldestFirst, Order::NewestFirst] {
            assert_eq!(list(vec![], order), all, "{scope:?}");
            assert_eq!(list(RunState::ALL.to_vec(), order), all, "{scope:?}");
            all.reverse();
        }
    }
    let parts = RunFilter { parent: Some(running), ..RunFilter::default() };
    assert_eq!(kit.queries().runs(&parts, None, 9).unwrap().items[0].id, part);
    let nowhere = RunFilter { namespace: Some("none".into()), ..RunFilter::default() };
    assert_eq!(kit.queries().runs(&nowhere, None, 9).unwrap().items, []);
    assert_eq!(kit.queries().stats().unwrap().queue, [3, 2, 1, 0]);
}

pub fn the_oldest_that_is_ready_is_told_by_namespace(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let of = |namespace: &str, priority: i64, due_at| {
        let namespace = namespace.to_owned();
        NewMachine { namespace, priority, due_at, ..run() }
    };
    for (namespace, priority, due) in
        [("a", 1, 5), ("a", 1, 3), ("a", 2, 4), ("b", 0, 9), ("b", 2, 7), ("b", 2, 8), ("later", 1, 60)]
    {
        kit.start(of(namespace, priority, START - 10 * SECOND + due * SECOND));
    }
    kit.ask(Command::Weigh { namespace: "b".into(), weight: 3 }).unwrap();
    let mut waiting = kit.queries().stats().unwrap().waiting;
    waiting.sort_by(|a, b| a.namespace.cmp(&b.namespace));
    let of = |namespace: &str, since, weight| WaitingRow { namespace: namespace.into(), since, weight };
    assert_eq!(waiting, [of("a", START - 7 * SECOND, 1), of("b", START - 3 * SECOND, 3)]);
    kit.claim(9);
    assert_eq!(kit.queries().stats().unwrap().waiting, []);
}

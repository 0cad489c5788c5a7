//! Turns between namespaces, on the whole engine with a clock that is moved.

use std::collections::BTreeMap;

use ostler_api::StartRequest;
use ostler_model::RunState;
use ostler_service::Actor;
use ostler_testkit::{World, takes};

const BEGIN: &str = "2027-01-04T00:00:00Z";

/// A world with namespaces whose runs take so long, and so many of them at once.
fn world(namespaces: &[(&str, &'static str, usize)]) -> World {
    let mut world = World::new(BEGIN);
    let long: BTreeMap<String, &'static str> =
        namespaces.iter().map(|(name, long, _)| ((*name).to_owned(), *long)).collect();
    world.on_execute(move |request| takes(long[&request.namespace]));
    for (namespace, _, count) in namespaces {
        world.push(&format!(
            "meta: {{ type: ostler-timetable, version: 1, namespace: {namespace} }}\n\
             tasks:\n  - meta: {{ id: main }}\n    run: work\n  - meta: {{ id: low }}\n    policy: {{ priority: low }}\n    run: work\n"
        ));
        start(&world, namespace, "main", *count);
    }
    world
}

fn start(world: &World, namespace: &str, task: &str, count: usize) {
    let request = StartRequest { namespace: namespace.into(), task: task.into(), ..StartRequest::default() };
    for _ in 0..count / 500 {
        world.service().start_many(&Actor::local("test"), vec![request.clone(); 500]).expect("started");
    }
}

/// Milliseconds of slots by namespace and task.
fn spent(world: &World, millis: &[(&str, u64)]) -> BTreeMap<(String, String), u64> {
    let mut spent = BTreeMap::new();
    for (_, request) in world.executions() {
        let each = millis.iter().find(|(name, _)| *name == request.namespace).map_or(0, |(_, each)| *each);
        *spent.entry((request.namespace.clone(), request.task.clone())).or_default() += each;
    }
    spent
}

#[test]
fn namespaces_get_equal_time_whatever_their_runs_take() {
    let mut world = world(&[("quick", "1ms", 4500), ("slow", "100ms", 500)]);
    world.run_for("1s");
    let spent = spent(&world, &[("quick", 1), ("slow", 100)]);
    let quick = spent[&("quick".to_owned(), "main".to_owned())] as f64;
    let share = quick / spent.values().sum::<u64>() as f64;
    assert!((0.45..0.55).contains(&share), "{spent:?}");
    assert!(world.runs().iter().filter(|run| run.state == RunState::Running).count() <= 8);
}

#[test]
fn a_low_class_keeps_its_part_beside_another_namespace() {
    let mut world = world(&[("one", "50ms", 2000), ("two", "50ms", 2000)]);
    start(&world, "one", "low", 500);
    world.run_for("20s");
    let spent = spent(&world, &[("one", 50), ("two", 50)]);
    let of = |namespace: &str, task: &str| spent[&(namespace.to_owned(), task.to_owned())] as f64;
    let one = of("one", "main") + of("one", "low");
    let low = of("one", "low") / one;
    assert!((0.05..0.08).contains(&low), "{spent:?}");
    let share = one / (one + of("two", "main"));
    assert!((0.45..0.55).contains(&share), "{spent:?}");
}

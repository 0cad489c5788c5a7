//! Months of service with retention on: the file stops growing.
//!
//! `OSTLER_TEST_LONG=1` lets 24 months pass; otherwise it is five.
#![allow(clippy::unwrap_used, reason = "a test fails where a value is missing")]

use ostler_api::RetentionPolicy;
use ostler_service::Actor;
use ostler_testkit::{World, ends_with, fails};
use serde_json::json;

fn definitions(week: u32) -> String {
    format!(
        "meta: {{ type: ostler-timetable, version: 1, namespace: demo, timezone: UTC }}
tasks:
  - {{ meta: {{ id: often, description: version {week} }}, on: {{ schedule: {{ every: 30m }} }}, run: x, retry: 2 }}
  - meta: {{ id: flow }}
    on: {{ schedule: '7 */2 * * *' }}
    steps: [{{ id: a, run: x }}, {{ id: b, run: x }}]
  - {{ meta: {{ id: after }}, on: {{ run: {{ task: flow, state: any }} }}, run: x }}
  - {{ meta: {{ id: quiet }}, on: {{ silence: {{ task: often, after: 2h }} }}, run: x }}
"
    )
}

#[test]
fn the_file_stops_growing() {
    let months = if std::env::var_os("OSTLER_TEST_LONG").is_some() { 24 } else { 5 };
    let mut world = World::new("2027-01-01T00:00:00Z");
    let mut n = 0_u32;
    world.on_execute(move |_| {
        n += 1;
        if n.is_multiple_of(50) {
            fails("exit:1")
        } else {
            ends_with(json!({ "n": n, "text": "x".repeat(200) }))
        }
    });
    let policy = RetentionPolicy { age: Some("30d".parse().unwrap()), ..RetentionPolicy::default() };
    let actor = Actor::local("keeper");
    // Bytes at the end of each month of 30 days.
    let mut sizes = Vec::new();
    for day in 0..months * 30 {
        if day % 7 == 0 {
            world.push(&definitions(day / 7));
        }
        world.run_for("1d");
        while world.service().prune(&actor, &policy, 2000).unwrap().more {}
        if day % 30 == 29 {
            sizes.push(world.service().stats(&actor).unwrap().bytes);
        }
    }
    println!("bytes at the end of each month: {sizes:?}");
    // In the third month as much goes as comes.
    let settled = sizes[2];
    let most = *sizes[2..].iter().max().unwrap();
    assert!(most * 100 <= settled * 105, "it grows: {sizes:?}");
    assert!(sizes[0] * 3 > settled, "a month of history is kept: {sizes:?}");
}

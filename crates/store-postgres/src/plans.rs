//! Every statement of a hot path or a list rides on the index that it was made for and reads no more rows than it
//! answers for, on a store with history: a hundredth of the full size, or all of it with `OSTLER_TEST_LONG=1` (a million
//! living, ten million finished).

use ostler_model::RunState;
use ostler_store::Order;

use crate::{
    alone, claim, commit, lanes, letters,
    link::Link,
    nodes, prune,
    read::{self, runs::Part},
    scratch::Schema,
    start,
    value::{Columns, Value},
};

struct History {
    link: Link,
    living: i64,
    finished: i64,
    _schema: Schema,
}

/// Finished runs with keys from 1 on, living ones behind them: a tenth of those ready in five lanes, a thousand claimed.
fn with_history(schema: Schema) -> History {
    let part = if std::env::var("OSTLER_TEST_LONG").as_deref() == Ok("1") { 1 } else { 100 };
    let (living, finished) = (1_000_000 / part, 10_000_000 / part);
    drop(crate::PgStore::open(&schema.address().unwrap()).unwrap());
    schema
        .script(&format!(
            "INSERT INTO namespace (id, name, created_at, seen_at) SELECT n, 'ns'||n, 0, 0 FROM generate_series(1, 3) n;
             INSERT INTO task (id, ns, name, definition, enabled, origin, created_at, updated_at)
               SELECT n, 1+n%3, 't'||n, 1, TRUE, '', 0, 0 FROM generate_series(1, 20) n;
             INSERT INTO machine (id, last_event, started_at, finished_at, ns, task, definition, kind, state, fields, parent)
               SELECT n, 2*n, n, n, 1+n%3, 1+n%20, 1, 1, CASE WHEN n%50=0 THEN 11 ELSE 10 END, '{{}}',
                 CASE WHEN n%7=0 THEN 1 END
               FROM generate_series(1, {finished}) n;
             INSERT INTO bad_end SELECT state, id FROM machine WHERE state>10 AND parent IS NULL;
             INSERT INTO event (seq, at, machine, step, prev, kind, body)
               SELECT e, e, e/2, 1+e%2, CASE WHEN e%2=0 THEN e+1 ELSE 0 END, 'x', '' FROM generate_series(2, 2*{finished}+1) e;
             INSERT INTO lane (id, ns, class, concurrency, rate, home, light)
               SELECT n, 1+n%3, n, 0, 0, 0, FALSE FROM generate_series(1, 5) n;
             INSERT INTO machine (id, last_event, ns, task, definition, kind, state, fields)
               SELECT {finished}+n, 1, 1+n%3, 1+n%20, 1, 1, 0, '{{}}' FROM generate_series(1, {living}) n;
             INSERT INTO tick (machine, due_at, lane, node, priority, phase)
               SELECT {finished}+n, n, 1+n%5, CASE WHEN n<=1000 THEN n%3 END, n%2,
                 CASE WHEN n<=1000 THEN 2 WHEN n%10=0 THEN 1 ELSE 0 END
               FROM generate_series(1, {living}) n;
             ANALYZE"
        ))
        .unwrap();
    let link = Link::open(&schema.address().unwrap()).unwrap();
    History { link, living, finished, _schema: schema }
}

fn literal(value: &Value<'_>) -> (String, &'static str) {
    fn list<T: std::fmt::Display>(values: impl Iterator<Item = Option<T>>) -> String {
        let values: Vec<String> = values.map(|v| v.map_or("NULL".into(), |v| v.to_string())).collect();
        format!("'{{{}}}'", values.join(","))
    }
    match value {
        Value::Int(v) => (v.map_or("NULL".into(), |v| v.to_string()), "bigint"),
        Value::Flag(v) => (v.to_string(), "boolean"),
        Value::Text(v) => (v.map_or("NULL".into(), |v| format!("'{v}'")), "text"),
        Value::Ints(v) => (list(v.iter().copied()), "bigint[]"),
        Value::Flags(v) => (list(v.iter().map(Some)), "boolean[]"),
        Value::Texts(v) => (list(v.iter().copied()), "text[]"),
        Value::Blobs(_) => unreachable!("no statement here has any"),
    }
}

/// What a statement did, without its doing it in the end.
fn explained(history: &mut History, sql: &str, values: &[Value<'_>], generic: bool) -> Vec<String> {
    let (literals, types): (Vec<String>, Vec<&str>) = values.iter().map(literal).unzip();
    let mode = if generic { "force_generic_plan" } else { "force_custom_plan" };
    let link = &mut history.link;
    link.script(&format!(
        "BEGIN; SET LOCAL plan_cache_mode={mode}; SET LOCAL jit=off; DEALLOCATE ALL; PREPARE q{} AS {sql}",
        if types.is_empty() { String::new() } else { format!(" ({})", types.join(", ")) }
    ))
    .unwrap_or_else(|e| panic!("{e:?}\nof {sql}"));
    let given = if literals.is_empty() { String::new() } else { format!("({})", literals.join(", ")) };
    let explain = format!("EXPLAIN (ANALYZE, TIMING OFF, SUMMARY OFF) EXECUTE q{given}");
    let lines = link.unprepared(&explain).unwrap_or_else(|e| panic!("{e:?}\nof {sql}"));
    let lines = lines.iter().map(|r| r.text(0).unwrap()).collect();
    link.script("ROLLBACK").unwrap();
    lines
}

/// Rows that scans have brought up, those that their conditions threw away included.
fn rows_read(plan: &[String]) -> i64 {
    let number = |line: &str, word: &str| -> i64 {
        line.split(word).nth(1).map_or(0, |rest| {
            rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0)
        })
    };
    let mut loops = 1;
    let mut read = 0;
    for line in plan {
        if line.contains(" loops=") {
            loops = number(line, " loops=").max(1);
        }
        if line.contains("Scan") && !line.contains("CTE Scan") && !line.contains("Function Scan") {
            read += number(line, "(actual rows=") * loops;
        }
        read += number(line, "Rows Removed by Filter: ") * loops;
    }
    read
}

#[test]
fn statements_ride_on_their_indexes() {
    let Some(schema) = Schema::new("") else { return };
    let mut history = with_history(schema);
    let (finished, living) = (history.finished, history.living);
    let first = finished + 1;
    let some: Vec<i64> = (first..first + 50).collect();
    let nothing = None::<i64>;
    let mut cases: Vec<(String, Vec<Value<'static>>, &str, i64)> = Vec::new();
    let mut case = |sql: &str, values: Vec<Value<'static>>, index: &'static str, most: i64| {
        cases.push((sql.to_owned(), values, index, most));
    };
    let int = |n: i64| Value::Int(Some(n));
    case(claim::PROMOTE, vec![int(living), int(100)], "tick_later", 500);
    case(lanes::NEXT_LANES, vec![int(0), int(1 << 30), int(256)], "tick_ready", 50);
    case(
        lanes::NEXT_VISITS,
        vec![Value::Flag(false), int(-1), int(0), int(5), int(256)],
        "visit_at",
        // A visit, its lane, its namespace.
        3 * 256,
    );
    case(lanes::RESOLVE, vec![], "lane_concurrency", 20);
    let fifty_of_two =
        vec![vec![1i64, 2].into(), vec![50i64, 50].into(), int(1), int(5), vec![7i64, 8].into()];
    case(claim::TAKE, fifty_of_two, "tick_ready", 800);
    case(letters::IN_HAND, vec![some.clone().into()], "tick_pkey", 110);
    case(commit::IN_HAND, vec![some.clone().into()], "tick_pkey", 110);
    let fifty = || Value::from(vec![1i64; 50]);
    case(
        commit::STAY,
        vec![some.clone().into(), fifty(), fifty(), fifty(), fifty(), fifty()],
        "tick_pkey",
        200,
    );
    case(letters::WAKE, vec![some.clone().into(), fifty(), vec![false; 50].into(), int(5)], "tick_pkey", 200);
    case(
        commit::GO_ON,
        vec![
            some.clone().into(),
            (0..50i64).map(|n| 1_000_000_000_000 + n).collect::<Vec<_>>().into(),
            vec![None::<&str>; 50].into(),
            vec![Some(5i64); 50].into(),
            vec![10i64; 50].into(),
            int(7),
        ],
        "machine_pkey",
        200,
    );
    // A node's claims are as many as its slots, whichever of the two indexes finds them.
    case(alone::GONE, vec![some.clone().into()], "tick_", 2000);
    case(
        alone::END,
        vec![
            some.clone().into(),
            fifty(),
            (0..50i64).map(|n| 1_000_000_000_000 + n).collect::<Vec<_>>().into(),
            vec![None::<&str>; 50].into(),
            vec![Some(5i64); 50].into(),
            vec![10i64; 50].into(),
            int(7),
        ],
        "machine_pkey",
        200,
    );
    case(nodes::RESCUE, vec![int(1), int(5)], "tick_claimed", 2000);
    case(prune::WALK, vec![int(0), int(i64::MAX), int(160)], "event_pkey", 500);
    let never = || int(i64::MAX);
    case(prune::TRIM, vec![int(0), never(), never(), int(160), never(), never()], "event_pkey", 500);
    case(crate::NEXT_DUE, vec![int(1), int(1)], "tick_later", 20);
    case(read::history::SUBJECTS, vec![some.clone().into()], "machine_pkey", 250);
    case(read::history::AFTER, vec![int(finished), int(i64::MAX), int(50)], "event_pkey", 50);
    case(read::queue::WAITING, vec![], "tick_ready", 50);
    case(read::queue::WITH_MAIL, vec![int(1)], "mail_pkey", 2000);
    case(
        start::INSERT_TICK,
        vec![
            vec![-1i64].into(),
            vec![1i64].into(),
            vec![1i64].into(),
            vec![1i64].into(),
            vec![0i64].into(),
            vec![1i64].into(),
            vec![Some(1i64)].into(),
            int(5),
            vec![0i64].into(),
        ],
        "tick_ready",
        5,
    );
    // Lists: newest page of 50 among all, of a task, of a namespace, of parts; in every state.
    let states = RunState::ALL.map(Some).into_iter().chain([None]);
    let orders = [Order::NewestFirst, Order::OldestFirst];
    for (state, order) in states.flat_map(|state| orders.map(|order| (state, order))) {
        for Part { of, sql, whose, ns, task } in read::runs::parts(state, order) {
            let values = vec![
                int(i64::MAX),
                int(-i64::MAX),
                int(51),
                int(whose),
                Value::Int(ns.or(nothing)),
                Value::Int(task.or(nothing)),
            ];
            let (index, most) = match (state, of) {
                (_, "parts") => ("machine_parent", finished),
                (Some(RunState::Running), _) => ("tick", living + 2000),
                // What lives is looked through: its size is the queue's, never the history's.
                (Some(s), _) if !s.is_final() => ("tick", 4 * living),
                (Some(s), _) if s != RunState::Succeeded => ("bad_end", finished / 10),
                (_, "all") => ("machine_pkey", 2 * living),
                (_, _) => ("machine_task", 2 * living),
            };
            cases.push((sql, values, index, most));
        }
    }
    let mut wrong = Vec::new();
    for (sql, values, index, most) in &cases {
        for generic in [false, true] {
            let plan = explained(&mut history, sql, values, generic);
            let read = rows_read(&plan);
            let rides = plan
                .iter()
                .any(|line| line.contains(&format!(" {index}")) || line.contains(&format!("on {index}")));
            if !rides || read > *most {
                wrong.push(format!(
                    "expected {index}, at most {most} rows, read {read} (generic: {generic})\n{}\nof {sql}",
                    plan.join("\n")
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}\n\n{}", wrong.len(), cases.len() * 2, wrong.join("\n\n"));
}

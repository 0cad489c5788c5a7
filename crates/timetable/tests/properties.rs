//! Nothing that stands in a file panics; what is written back reads as the same.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;

use ostler_model::{
    Name, RunState, Span, TaskDef, TriggerSpec,
    definition::*,
    trigger::{CalendarDef, Dialect, Dst, Fold, Gap, Interval, Pace, Rhythm},
};
use ostler_timetable::{Format, LoadOptions, export_yaml, load_text};
use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::{Map, Value, json};
use support::{files, options, placeless};

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// One change to a text.
#[derive(Clone, Debug)]
enum Edit {
    Cut(prop::sample::Index, usize),
    Double(prop::sample::Index, usize),
    Put(prop::sample::Index, String),
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<prop::sample::Index>;
    let tokens = vec![
        ":",
        "\n",
        "  ",
        "- ",
        "{",
        "}",
        "[",
        "]",
        "\"",
        "'",
        "|",
        "&a ",
        "*a",
        "<<: ",
        "!!int ",
        "? ",
        "#",
        "\t",
        "---\n",
        "null",
        "${{ ",
        " }}",
        "9999999999999999999999",
        "-1",
        "0",
        ".inf",
        "@daily",
        "every",
        "\u{0}",
        "\u{85}",
        "é",
        "tasks",
        "needs: [a]",
        "\\",
        ",",
        "~",
        "true",
        "# ///\n",
        "[[tasks]]\n",
        "=",
    ];
    prop_oneof![
        (at(), 1usize..40).prop_map(|(i, n)| Edit::Cut(i, n)),
        (at(), 1usize..80).prop_map(|(i, n)| Edit::Double(i, n)),
        (at(), select(tokens)).prop_map(|(i, t)| Edit::Put(i, t.to_owned())),
        (at(), any::<String>()).prop_map(|(i, t)| Edit::Put(i, t)),
    ]
}

fn apply(text: &mut Vec<u8>, edit: &Edit) {
    let at = |i: &prop::sample::Index| i.index(text.len() + 1);
    match edit {
        Edit::Cut(i, n) => {
            let start = at(i);
            let end = (start + n).min(text.len());
            text.drain(start..end);
        }
        Edit::Double(i, n) => {
            let start = at(i);
            let end = (start + n).min(text.len());
            let part = text[start..end].to_vec();
            text.splice(end..end, part);
        }
        Edit::Put(i, more) => {
            let start = at(i);
            text.splice(start..start, more.bytes());
        }
    }
}

fn assert_sound(text: &[u8], name: &str, format: Format) -> Result<(), TestCaseError> {
    match load_text(text, name, format, &options()) {
        Ok(loaded) => {
            // What is taken can be written back and read again.
            let timetable = &loaded.timetables[0];
            let written = export_yaml(timetable);
            match load_text(written.as_bytes(), "-", Format::Yaml, &options()) {
                Ok(again) => prop_assert_eq!(
                    placeless(again.timetables[0].clone()),
                    placeless(timetable.clone()),
                    "{}",
                    written
                ),
                Err(found) => prop_assert!(false, "{}\n{}", written, found),
            }
        }
        Err(found) => {
            prop_assert!(!found.items.is_empty());
            for item in &found.items {
                prop_assert!(!item.message.is_empty());
                prop_assert!(item.span.start <= item.span.end && item.span.end <= text.len(), "{item:?}");
            }
            prop_assert!(!found.render(false).is_empty());
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn changed_files_never_panic(file in select(files("good", &["yaml", "json", "toml", "py"])), edits in vec(edit(), 1..4)) {
        let mut text = std::fs::read(&file).unwrap();
        for edit in &edits {
            apply(&mut text, edit);
        }
        assert_sound(&text, file.file_name().unwrap().to_str().unwrap(), Format::of_path(&file).unwrap())?;
    }

    #[test]
    fn arbitrary_text_never_panics(text in any::<String>(), format in select(vec![Format::Yaml, Format::Json, Format::Toml, Format::Python])) {
        assert_sound(text.as_bytes(), "a", format)?;
        assert_sound(format!("# /// task\n# {}\n# ///\n", text.replace('\n', "\n# ")).as_bytes(), "a.py", Format::Python)?;
    }
}

/// Texts as people would never write them, without what is Ostler's own.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        select(vec![
            "",
            " ",
            "no",
            "on",
            "null",
            "~",
            "017",
            "1e3",
            "a: b",
            "a #b",
            "- a",
            "[a]",
            "{a",
            "*a",
            "&a",
            "!a",
            "%a",
            "@a",
            "`",
            "'",
            "\"",
            "\\",
            "a\nb",
            "a\nb\n",
            "a\n\n b\n",
            "\na",
            " a\nb",
            "a \nb",
            "\ta\nb",
            "a\r\nb",
            "a\n\n\n",
            "---",
            "...",
            "<<",
            "5m",
            "1s2",
            "é",
            "\u{85}",
            "\u{2028}",
            "\u{feff}x",
            "\u{7f}",
            "💡\nx",
            "x\ty\nz",
            "#",
            "key: |\n  x\n",
        ])
        .prop_map(str::to_owned),
        "[a-z]{1,8}",
        any::<String>(),
    ]
    .prop_map(|t| t.replace(['\0', '$'], ""))
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((text(), inner), 0..4).prop_map(|entries| entries.into_iter().collect::<Map<_, _>>().into()),
        ]
    })
}

fn map() -> impl Strategy<Value = Map<String, Value>> {
    vec((text(), json_value()), 0..3).prop_map(|entries| entries.into_iter().collect())
}

fn name() -> impl Strategy<Value = Name> {
    "[a-zA-Z0-9_é][a-z0-9_.é-]{0,6}".prop_map(|n| n.parse().unwrap())
}

fn span() -> impl Strategy<Value = Span> {
    (1u64..100_000_000).prop_map(Span::from_millis)
}

fn retry() -> impl Strategy<Value = Retry> {
    let backoff = select(vec![Backoff::Fixed, Backoff::Linear, Backoff::Exponential]);
    (
        1u32..9,
        backoff,
        span(),
        span(),
        any::<bool>(),
        vec(select(vec!["5xx", "timeout", "exit:75", "python.E", "*"]), 0..3),
    )
        .prop_map(|(attempts, backoff, a, b, jitter, on)| Retry {
            attempts,
            backoff,
            initial: a.min(b),
            max: a.max(b),
            jitter,
            on: on.into_iter().map(str::to_owned).collect(),
        })
}

fn policy() -> impl Strategy<Value = Policy> {
    let timeout = (option::of(span()), option::of(span()), option::of(span()))
        .prop_map(|(queue, attempt, total)| Timeouts { queue, attempt, total });
    let key = || option::of("[a-z ]{1,5}");
    let concurrency =
        (key(), 1u32..9, select(vec![OnConflict::Queue, OnConflict::Skip, OnConflict::CancelRunning]))
            .prop_map(|(key, limit, on_conflict)| Concurrency { key, limit, on_conflict });
    let rate = (key(), 1u32..9, span(), option::of(1u32..9)).prop_map(|(key, limit, per, burst)| RateLimit {
        key,
        limit,
        per,
        burst,
    });
    (
        option::of(retry()),
        timeout,
        option::of(span()),
        option::of(span()),
        option::of(select(vec![Priority::Critical, Priority::High, Priority::Normal, Priority::Low])),
        option::of(concurrency),
        option::of(rate),
        key(),
        option::of(any::<bool>()),
        option::of(select(vec![Lost::Rerun, Lost::Fail])),
    )
        .prop_map(
            |(
                retry,
                timeout,
                deadline,
                grace,
                priority,
                concurrency,
                rate_limit,
                unique,
                idempotent,
                lost,
            )| Policy {
                retry,
                timeout,
                deadline,
                grace,
                priority,
                concurrency,
                rate_limit,
                unique,
                idempotent,
                lost,
            },
        )
}

fn activation() -> impl Strategy<Value = Activation> {
    let at = || option::of((0i64..4_000_000_000).prop_map(|s| jiff::Timestamp::from_second(s).unwrap()));
    (at(), at(), select(vec![ActivationMode::ByDates, ActivationMode::On, ActivationMode::Off]))
        .prop_map(|(activate_on, deactivate_on, mode)| Activation { activate_on, deactivate_on, mode })
}

fn expect() -> impl Strategy<Value = Expect> {
    prop_oneof![
        Just(Expect::default()),
        select(vec![RunState::Failed, RunState::TimedOut, RunState::Cancelled])
            .prop_map(|s| Expect { state: Some(s), error: None }),
        Just(Expect { state: Some(RunState::Failed), error: Some("exit:75".into()) }),
    ]
}

fn trigger() -> impl Strategy<Value = TriggerSpec> {
    let rhythm = prop_oneof![
        (
            select(vec!["*/5 * * * *", "0 0 7 * * *", "0 7 * * MON"]),
            select(vec![Dialect::Vixie, Dialect::Supertask])
        )
            .prop_map(|(e, dialect)| Rhythm::Cron { expression: e.into(), dialect }),
        (span(), select(vec![Pace::Precise, Pace::Spaced]))
            .prop_map(|(s, pace)| Rhythm::Every { interval: Interval::Elapsed(s), pace }),
        (1u32..40).prop_map(|n| Rhythm::Every { interval: Interval::Months(n), pace: Pace::Precise }),
        Just(Rhythm::At(vec!["2027-03-01T09:00".into(), "2027-03-02T09:00:00Z".into()])),
        Just(Rhythm::Rrule("FREQ=DAILY;BYHOUR=9".into())),
        Just(Rhythm::Calendar("Mon..Fri 09:00".into())),
        Just(Rhythm::Once),
        Just(Rhythm::Reboot),
    ];
    let dst = (select(vec![Gap::Shift, Gap::Skip]), select(vec![Fold::First, Fold::Last, Fold::Both]))
        .prop_map(|(gap, fold)| Dst { gap, fold });
    (
        rhythm,
        option::of(select(vec!["UTC".to_owned(), "Europe/Berlin".to_owned()])),
        dst,
        option::of(1u64..9),
        any::<bool>(),
    )
        .prop_map(|(rhythm, timezone, dst, count, only)| TriggerSpec {
            rhythm,
            timezone,
            dst,
            jitter: None,
            offset: None,
            only: if only { vec!["workdays".parse().unwrap()] } else { vec![] },
            except: vec![],
            start: None,
            end: None,
            count,
        })
}

fn schedule() -> impl Strategy<Value = ScheduleDef> {
    let missed =
        (select(vec![MissedPolicy::Skip, MissedPolicy::Latest, MissedPolicy::All]), option::of(span()))
            .prop_map(|(policy, within)| Missed { policy, within });
    let overlap = select(vec![Overlap::Allow, Overlap::Queue, Overlap::Skip, Overlap::CancelRunning]);
    (name(), trigger(), missed, overlap, policy(), any::<bool>(), activation()).prop_map(
        |(id, trigger, missed, overlap, policy, enabled, activation)| ScheduleDef {
            id,
            trigger,
            preset: None,
            inputs: Map::new(),
            missed,
            overlap,
            policy,
            enabled,
            activation,
        },
    )
}

fn step() -> impl Strategy<Value = StepDef> {
    let body = (
        text().prop_filter("says something", |t| !t.trim().is_empty()),
        vec(json_value(), 0..3),
        map(),
        map(),
    );
    let env = vec(("[A-Z_]{1,4}", text()), 0..3).prop_map(|e| e.into_iter().collect::<BTreeMap<_, _>>());
    let around = (
        option::of(text()),
        option::of(select(vec!["failure()".to_owned(), "false".to_owned(), "inputs.s == 'a: b'".to_owned()])),
        env,
        option::of(text()),
        option::of(text()),
    );
    let matrix = option::of((
        vec("[a-z]{1,3}".prop_map(|v| Map::from_iter([("k".to_owned(), Value::from(v))])), 1..4),
        option::of(1u32..4),
        any::<bool>(),
    ))
    .prop_map(|m| {
        m.map(|(combinations, max_parallel, fail_fast)| Matrix { combinations, max_parallel, fail_fast })
    });
    let rest = (
        matrix,
        any::<bool>(),
        option::of(retry()),
        option::of(span()),
        option::of(Just(json!({ "type": "object", "properties": { "a": {} } }))),
        expect(),
        option::of(any::<bool>()),
    );
    (body, around, rest, vec("[a-z]{1,5}", 0..2)).prop_map(
        |(
            (run, args, kwargs, with),
            (name, condition, env, working_directory, stdin),
            (matrix, continue_on_error, retry, timeout, outputs, expect, idempotent),
            env_file,
        )| StepDef {
            id: "x".parse().unwrap(),
            name,
            uses: "shell".into(),
            run: Some(run),
            args,
            kwargs,
            with,
            needs: vec![],
            condition,
            env,
            env_file: env_file.clone(),
            inherit_env: if env_file.is_empty() { vec![] } else { vec!["A".into()] },
            runs_on: if env_file.len() == 1 { vec!["gpu".parse().unwrap()] } else { vec![] },
            working_directory,
            stdin,
            matrix,
            continue_on_error,
            retry,
            timeout,
            outputs,
            expect,
            idempotent,
        },
    )
}

/// Ids by place or made up, needs in sequence or a graph without circles.
fn chained(mut steps: Vec<StepDef>, prefix: &str, default_ids: bool, edges: &[bool]) -> Vec<StepDef> {
    let ids: Vec<Name> = (0..steps.len())
        .map(|i| {
            if default_ids { format!("{prefix}{}", i + 1) } else { format!("{prefix}-{i}") }.parse().unwrap()
        })
        .collect();
    for (i, step) in steps.iter_mut().enumerate() {
        step.id = ids[i].clone();
        step.needs = match edges.get(i) {
            None => i.checked_sub(1).map(|b| ids[b].clone()).into_iter().collect(),
            Some(true) => ids[..i].to_vec(),
            Some(false) => vec![],
        };
    }
    steps
}

fn message() -> impl Strategy<Value = MessageSource> {
    let url = |scheme: &'static str| {
        select(vec![
            format!("{scheme}://broker.example"),
            format!("{scheme}://u:${{{{ secrets.KEY }}}}@broker.example"),
        ])
    };
    let text = || "orders".to_owned();
    prop_oneof![
        (url("redis"), any::<bool>()).prop_map(move |(url, existing)| MessageSource::RedisStream {
            url,
            stream: text(),
            existing
        }),
        url("rediss").prop_map(move |url| MessageSource::RedisChannel { url, channel: text() }),
        (url("redis"), select(vec![ListEnd::Left, ListEnd::Right]))
            .prop_map(move |(url, end)| MessageSource::RedisList { url, list: text(), end }),
        url("nats").prop_map(|url| MessageSource::Nats { url, subject: "orders.>".into() }),
        (url("tls"), option::of(Just("orders.*".to_owned())), any::<bool>()).prop_map(
            move |(url, subject, existing)| {
                MessageSource::NatsStream { url, stream: text(), subject, existing }
            }
        ),
        (url("mqtt"), 0_u8..2, option::of(Just("me".to_owned())), any::<bool>()).prop_map(
            |(url, qos, client_id, existing)| {
                MessageSource::Mqtt { url, topic: "plant/+/temp".into(), qos, client_id, existing }
            }
        ),
        url("postgres").prop_map(move |url| MessageSource::Postgres { url, channel: text() }),
    ]
}

fn listener() -> impl Strategy<Value = TriggerDef> {
    let states = || select(vec![vec![RunState::Succeeded], vec![RunState::Failed, RunState::TimedOut]]);
    let name = || select(vec!["other".to_owned(), "far:other".to_owned()]);
    let source = prop_oneof![
        (name(), states()).prop_map(|(task, states)| EventSource::Run { task, states }),
        (name(), states()).prop_map(|(task, states)| EventSource::Silence {
            task,
            states,
            after: Span::from_secs(90)
        }),
        option::of(Just("KEY".to_owned())).prop_map(|secret| EventSource::Webhook { secret }),
        any::<bool>().prop_map(|existing| EventSource::File {
            path: "in/*.csv".into(),
            settle: Span::from_millis(1500),
            existing
        }),
        message().prop_map(EventSource::Message),
    ];
    (
        source,
        option::of(Just("event.body.x == 1".to_owned())),
        option::of(Just(Span::from_secs(5))),
        any::<bool>(),
    )
        .prop_map(|(source, condition, debounce, enabled)| TriggerDef {
            id: "t".parse().unwrap(),
            source,
            condition,
            preset: None,
            inputs: Map::new(),
            debounce,
            enabled,
        })
}

fn task() -> impl Strategy<Value = TaskDef> {
    let meta = (
        text().prop_filter("a name", |t| !t.is_empty()),
        text(),
        any::<bool>(),
        option::of(text()),
        vec(text(), 0..2),
        select(vec!["UTC", "Europe/Berlin"]),
    );
    let steps =
        (vec(step(), 1..4), vec(step(), 0..2), vec(step(), 0..2), any::<bool>(), vec(any::<bool>(), 0..4));
    let inputs = select(vec![
        json!({ "type": "object", "properties": { "s": { "type": "string" }, "n": { "type": "integer", "default": 1 } }, "required": ["s"], "additionalProperties": false }),
        json!({ "type": "object", "properties": { "s": { "type": "string", "default": "on" } }, "additionalProperties": false }),
        json!({ "type": "object", "properties": { "s": {} , "type": { "type": "string" } }, "required": ["type"], "additionalProperties": true }),
        json!({ "type": "object", "properties": { "s": { "x-hint": 1 } }, "required": [], "additionalProperties": false }),
    ]);
    let starters = (vec(schedule(), 0..3), vec(listener(), 0..4));
    (meta, steps, inputs, policy(), activation(), starters, expect()).prop_map(
        |(
            (name, description, enabled, owner, tags, zone),
            (steps, good, bad, default_ids, edges),
            inputs,
            policy,
            activation,
            (mut schedules, mut triggers),
            expect,
        )| {
            for (i, schedule) in schedules.iter_mut().enumerate() {
                schedule.id =
                    if default_ids { format!("s{}", i + 1) } else { format!("{}-{i}", schedule.id) }
                        .parse()
                        .unwrap();
                schedule.inputs =
                    Map::from_iter([("s".to_owned(), json!("x")), ("type".to_owned(), json!("y"))]);
                if inputs["properties"].get("type").is_none() {
                    schedule.inputs.remove("type");
                }
            }
            let mut places = BTreeMap::new();
            for (i, trigger) in triggers.iter_mut().enumerate() {
                let word = trigger.source.word();
                let place = places.entry(word).or_insert(0);
                *place += 1;
                // Those of schedules end with their number.
                let id = if default_ids { format!("{word}{place}") } else { format!("t-{i}-x") };
                trigger.id = id.parse().unwrap();
                trigger.inputs = Map::from_iter([("s".to_owned(), json!("${{ event.body.x ?? '' }}"))]);
                if inputs["properties"].get("type").is_some() {
                    trigger.inputs.insert("type".to_owned(), json!("y"));
                }
            }
            // The order of a file is by source.
            triggers.sort_by_key(|t| {
                ["run", "silence", "webhook", "file", "redis", "nats", "mqtt", "postgres"]
                    .iter()
                    .position(|w| *w == t.source.word())
            });
            let edges = if edges.len() < steps.len() { vec![] } else { edges };
            TaskDef {
                id: "x".parse().unwrap(),
                name,
                description,
                enabled,
                owner,
                tags: tags.clone(),
                authors: tags,
                source: Source::default(),
                timezone: zone.to_owned(),
                inputs: Some(inputs),
                outputs: None,
                policy,
                activation,
                calendars: if schedules.iter().any(|s| !s.trigger.only.is_empty()) {
                    calendars()
                } else {
                    BTreeMap::new()
                },
                schedules,
                triggers,
                steps: chained(steps, "step", default_ids, &edges),
                on_success: chained(good, "success", default_ids, &[]),
                on_failure: chained(bad, "failure", !default_ids, &[]),
                expect,
            }
        },
    )
}

fn calendars() -> BTreeMap<Name, CalendarDef> {
    BTreeMap::from([(
        "workdays".parse().unwrap(),
        CalendarDef { weekdays: vec!["mon-fri".into()], ..CalendarDef::default() },
    )])
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn a_timetable_written_and_read_is_the_same(tasks in vec(task(), 0..3), ephemeral in any::<bool>()) {
        let tasks: Vec<TaskDef> = tasks.into_iter().enumerate().map(|(i, mut t)| { t.id = format!("task{i}").parse().unwrap(); t }).collect();
        let presets = tasks.iter().take(1).map(|t| PresetDef {
            id: "p".parse().unwrap(), task: t.id.clone(), description: "of it".into(), inputs: Map::new(), policy: t.policy.clone(), activation: t.activation.clone(),
        }).collect();
        let timetable = Timetable { namespace: "demo".parse().unwrap(), ephemeral, origin: String::new(), calendars: calendars(), tasks, presets, sinks: Vec::new() };
        let written = export_yaml(&timetable);
        // Settings are the executors' own: none are known here.
        let read = load_text(written.as_bytes(), "-", Format::Yaml, &LoadOptions::default());
        match read {
            Err(found) => prop_assert!(false, "{}\n{}", written, found.render(false)),
            Ok(read) => prop_assert_eq!(placeless(read.timetables[0].clone()), placeless(timetable), "{}", written),
        }
    }
}

//! Writing a timetable back as a file: what is default is left out, short forms are used where they say the same.

use std::collections::BTreeMap;

use ostler_model::{
    RunState, TaskDef,
    definition::{
        EventSource, Expect, ListEnd, MessageSource, Missed, Outlet, Policy, PresetDef, Retry, ScheduleDef,
        SinkDef, StepDef, Timetable, TriggerDef,
    },
    trigger::{Dialect, Interval, Pace, Rhythm},
};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{
    emit,
    lower::{PROPERTY_KEYWORDS, TRIGGER_WORDS},
};

/// A timetable as YAML. Reading it gives an equal timetable, apart from where it comes from (`origin`, `source`) and
/// from the namespace of one that named none.
#[must_use]
pub fn export_yaml(timetable: &Timetable) -> String {
    emit::yaml(&Value::Object(file(timetable)))
}

type Entries = Map<String, Value>;

/// Adds an entry unless it says nothing.
fn put(entries: &mut Entries, key: &str, value: Value) {
    let says_nothing = match &value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    };
    if !says_nothing {
        entries.insert(key.to_owned(), value);
    }
}

fn plain(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

fn file(timetable: &Timetable) -> Entries {
    let zone = commonest_zone(timetable);
    let mut meta = json!({ "type": "ostler-timetable", "version": 1 });
    if !timetable.ephemeral {
        meta["namespace"] = plain(&timetable.namespace);
    }
    if let Some(zone) = zone {
        meta["timezone"] = zone.into();
    }
    let mut file = Entries::new();
    put(&mut file, "meta", meta);
    put(&mut file, "calendars", plain(&timetable.calendars));
    file.insert("tasks".into(), timetable.tasks.iter().map(|t| task(t, zone)).collect());
    put(&mut file, "presets", timetable.presets.iter().map(preset).collect());
    put(&mut file, "sinks", timetable.sinks.iter().map(sink).collect());
    file
}

fn commonest_zone(timetable: &Timetable) -> Option<&str> {
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    for task in &timetable.tasks {
        *count.entry(&task.timezone).or_default() += 1;
    }
    count.into_iter().max_by_key(|(_, n)| *n).map(|(zone, _)| zone)
}

fn task(task: &TaskDef, zone: Option<&str>) -> Value {
    let mut meta = Entries::new();
    put(&mut meta, "id", plain(&task.id));
    if task.name != task.id.as_str() {
        put(&mut meta, "name", plain(&task.name));
    }
    if !task.description.is_empty() {
        put(&mut meta, "description", plain(&task.description));
    }
    if !task.enabled {
        put(&mut meta, "enabled", false.into());
    }
    put(&mut meta, "owner", plain(&task.owner));
    put(&mut meta, "tags", plain(&task.tags));
    put(&mut meta, "authors", plain(&task.authors));
    if zone != Some(task.timezone.as_str()) {
        put(&mut meta, "timezone", plain(&task.timezone));
    }
    let mut entries = Entries::new();
    put(&mut entries, "meta", meta.into());
    if let Some(schema) = &task.inputs {
        entries.insert("inputs".into(), short_inputs(schema).unwrap_or_else(|| schema.clone()));
    }
    if let Some(schema) = &task.outputs {
        entries.insert("outputs".into(), schema.clone());
    }
    put(&mut entries, "policy", policy(&task.policy));
    put(&mut entries, "activation", activation(&task.activation));
    let schedules: Vec<Value> = task.schedules.iter().enumerate().map(|(i, s)| schedule(s, i)).collect();
    let mut on = Entries::new();
    put(&mut on, "schedule", schedules.into());
    for word in TRIGGER_WORDS {
        let of_word = task.triggers.iter().filter(|t| t.source.word() == word).enumerate();
        put(&mut on, word, of_word.map(|(i, t)| trigger(t, i)).collect::<Vec<_>>().into());
    }
    put(&mut entries, "on", on.into());
    put(&mut entries, "expect", expect(&task.expect));
    match task.steps.as_slice() {
        [only] if is_short(only) => entries.extend(step(only, None, false)),
        several => {
            entries.insert("steps".into(), steps(several, "step"));
        }
    }
    put(&mut entries, "on_success", steps(&task.on_success, "success"));
    put(&mut entries, "on_failure", steps(&task.on_failure, "failure"));
    Value::Object(entries)
}

/// `{ station: { type: string, default: EDDB } }`, when that means the schema.
fn short_inputs(schema: &Value) -> Option<Value> {
    let map = schema.as_object()?;
    let closed = map.get("additionalProperties") == Some(&Value::Bool(false));
    let known =
        map.keys().all(|k| matches!(k.as_str(), "type" | "properties" | "required" | "additionalProperties"));
    let is_object = map.get("type")? == "object";
    let properties = map.get("properties")?.as_object().filter(|p| !p.is_empty())?;
    let required: Vec<&str> =
        map.get("required").map_or(Some(vec![]), |r| r.as_array()?.iter().map(Value::as_str).collect())?;
    // The order of `required` is that of the properties, or the schema would not come back as it was.
    let in_order: Vec<&str> =
        properties.keys().map(String::as_str).filter(|k| required.contains(k)).collect();
    let is_written = map.get("required").is_none_or(|r| r != &json!([]));
    if !closed || !known || !is_object || in_order != required || !is_written {
        return None;
    }
    let mut short = Map::new();
    for (name, property) in properties {
        let mut property = property.as_object()?.clone();
        let reads_otherwise = property.contains_key("required")
            || property.contains_key("options")
            || property.contains_key("protocol")
            || name.contains(['.', ' ', '['])
            || property.keys().any(|k| !PROPERTY_KEYWORDS.contains(&k.as_str()));
        // A map that looks like a schema would be read as one.
        if reads_otherwise || name.starts_with('$') || PROPERTY_KEYWORDS.contains(&name.as_str()) {
            return None;
        }
        let is_required = required.contains(&name.as_str());
        if is_required == property.contains_key("default") {
            property.insert("required".into(), is_required.into());
        }
        let only_type = property.len() == 1 && property.get("type").is_some_and(Value::is_string);
        let value = if only_type { property["type"].clone() } else { Value::Object(property) };
        short.insert(name.clone(), value);
    }
    Some(short.into())
}

/// Whether a step can stand at its task: its own policies would be the task's there.
fn is_short(step: &StepDef) -> bool {
    step.id == *"main"
        && step.name.is_none()
        && step.needs.is_empty()
        && step.retry.is_none()
        && step.timeout.is_none()
        && step.outputs.is_none()
        && step.expect.is_default()
        && step.idempotent.is_none()
}

fn steps(steps: &[StepDef], prefix: &str) -> Value {
    let is_sequence = steps.iter().enumerate().all(|(i, step)| match i.checked_sub(1) {
        None => step.needs.is_empty(),
        Some(before) => step.needs == [steps[before].id.clone()],
    });
    let written: Vec<Value> = steps
        .iter()
        .enumerate()
        .map(|(i, s)| {
            let id = (s.id.as_str() != format!("{prefix}{}", i + 1)).then_some(s.id.as_str());
            let mut entries = step(s, id, !is_sequence);
            // Without any `needs` the list would be a sequence.
            if !is_sequence && i == 0 && s.needs.is_empty() {
                entries.insert("needs".into(), json!([]));
            }
            Value::Object(entries)
        })
        .collect();
    written.into()
}

fn step(step: &StepDef, id: Option<&str>, with_needs: bool) -> Entries {
    let mut entries = Entries::new();
    put(&mut entries, "id", plain(&id));
    put(&mut entries, "name", plain(&step.name));
    if with_needs {
        put(&mut entries, "needs", plain(&step.needs));
    }
    put(
        &mut entries,
        "if",
        step.condition
            .as_ref()
            .map_or(Value::Null, |c| if c == "false" { false.into() } else { c.as_str().into() }),
    );
    if let Some(matrix) = &step.matrix {
        let mut strategy = json!({ "matrix": { "include": matrix.combinations } });
        if let Some(most) = matrix.max_parallel {
            strategy["max-parallel"] = most.into();
        }
        if !matrix.fail_fast {
            strategy["fail-fast"] = false.into();
        }
        put(&mut entries, "strategy", strategy);
    }
    if step.uses != "shell" || step.run.is_none() {
        put(&mut entries, "uses", plain(&step.uses));
    }
    put(&mut entries, "with", step.with.clone().into());
    put(&mut entries, "args", step.args.clone().into());
    put(&mut entries, "kwargs", step.kwargs.clone().into());
    put(&mut entries, "env", plain(&step.env));
    put(&mut entries, "env_file", plain(&step.env_file));
    put(&mut entries, "inherit_env", plain(&step.inherit_env));
    put(&mut entries, "runs_on", plain(&step.runs_on));
    put(&mut entries, "working_directory", plain(&step.working_directory));
    put(&mut entries, "stdin", plain(&step.stdin));
    if step.continue_on_error {
        put(&mut entries, "continue-on-error", true.into());
    }
    put(&mut entries, "retry", step.retry.as_ref().map_or(Value::Null, retry));
    put(&mut entries, "timeout", plain(&step.timeout));
    if let Some(schema) = &step.outputs {
        entries.insert("outputs".into(), schema.clone());
    }
    put(&mut entries, "expect", expect(&step.expect));
    put(&mut entries, "idempotent", plain(&step.idempotent));
    put(&mut entries, "run", plain(&step.run));
    entries
}

fn retry(retry: &Retry) -> Value {
    let mut value = plain(retry);
    let default = json!({ "backoff": "exponential", "initial": "1s", "max": "5m", "jitter": false });
    if let (Some(map), Some(default)) = (value.as_object_mut(), default.as_object()) {
        // A longer first waiting time raises the longest one where that is not given.
        let same_max = map.get("max") == map.get("initial") && retry.initial.as_secs() >= 300;
        map.retain(|key, value| default.get(key) != Some(value));
        if same_max {
            map.remove("max");
        } else if retry.initial.as_secs() >= 300 {
            map.insert("max".into(), plain(&retry.max));
        }
        if map.len() == 1 {
            return retry.attempts.into();
        }
    }
    value
}

fn policy(policy: &Policy) -> Value {
    let mut value = plain(policy);
    if let Some(r) = &policy.retry {
        value["retry"] = retry(r);
    }
    if let (Some(attempt), None, None) = (policy.timeout.attempt, policy.timeout.queue, policy.timeout.total)
    {
        value["timeout"] = plain(&attempt);
    }
    value
}

fn activation(activation: &ostler_model::definition::Activation) -> Value {
    let mut value = plain(activation);
    if let Some(map) = value.as_object_mut() {
        map.retain(|_, v| v != "by-dates");
    }
    value
}

fn expect(expect: &Expect) -> Value {
    match (expect.state, &expect.error) {
        (Some(state), None) => plain(&state),
        _ => plain(expect),
    }
}

fn schedule(schedule: &ScheduleDef, index: usize) -> Value {
    let mut entries = Entries::new();
    if schedule.id.as_str() != format!("s{}", index + 1) {
        put(&mut entries, "id", plain(&schedule.id));
    }
    let trigger = &schedule.trigger;
    match &trigger.rhythm {
        Rhythm::Cron { expression, dialect } => {
            put(&mut entries, "cron", expression.as_str().into());
            if *dialect == Dialect::Supertask {
                put(&mut entries, "dialect", "supertask".into());
            }
        }
        Rhythm::Every { interval, pace } => {
            let every = match interval {
                Interval::Elapsed(span) => span.to_string(),
                Interval::Months(n) if n % 12 == 0 => format!("{} years", n / 12),
                Interval::Months(n) => format!("{n} months"),
            };
            put(&mut entries, "every", every.into());
            if *pace == Pace::Spaced {
                put(&mut entries, "pace", "spaced".into());
            }
        }
        Rhythm::At(moments) => put(&mut entries, "at", plain(moments)),
        Rhythm::Rrule(rule) => put(&mut entries, "rrule", rule.as_str().into()),
        Rhythm::Calendar(expression) => put(&mut entries, "calendar", expression.as_str().into()),
        Rhythm::Once => put(&mut entries, "once", true.into()),
        Rhythm::Reboot => put(&mut entries, "reboot", true.into()),
    }
    put(&mut entries, "timezone", plain(&trigger.timezone));
    let mut dst = plain(&trigger.dst);
    if let Some(map) = dst.as_object_mut() {
        map.retain(|_, v| v != "shift" && v != "first");
    }
    put(&mut entries, "dst", dst);
    put(&mut entries, "jitter", plain(&trigger.jitter));
    put(&mut entries, "offset", plain(&trigger.offset));
    put(&mut entries, "only", plain(&trigger.only));
    put(&mut entries, "except", plain(&trigger.except));
    put(&mut entries, "start", plain(&trigger.start));
    put(&mut entries, "end", plain(&trigger.end));
    put(&mut entries, "count", plain(&trigger.count));
    if schedule.missed != Missed::default() {
        let missed = &schedule.missed;
        let value = if missed.within.is_some() { plain(missed) } else { plain(&missed.policy) };
        put(&mut entries, "missed", value);
    }
    if plain(&schedule.overlap) != "allow" {
        put(&mut entries, "overlap", plain(&schedule.overlap));
    }
    put(&mut entries, "preset", plain(&schedule.preset));
    put(&mut entries, "inputs", schedule.inputs.clone().into());
    put(&mut entries, "policy", policy(&schedule.policy));
    if !schedule.enabled {
        put(&mut entries, "enabled", false.into());
    }
    put(&mut entries, "activation", activation(&schedule.activation));
    Value::Object(entries)
}

fn trigger(trigger: &TriggerDef, index: usize) -> Value {
    let mut entries = Entries::new();
    if trigger.id.as_str() != format!("{}{}", trigger.source.word(), index + 1) {
        put(&mut entries, "id", plain(&trigger.id));
    }
    let ends = |entries: &mut Entries, states: &Vec<RunState>| {
        if *states != [RunState::Succeeded] {
            put(entries, "state", plain(states));
        }
    };
    match &trigger.source {
        EventSource::Run { task, states } => {
            put(&mut entries, "task", task.as_str().into());
            ends(&mut entries, states);
        }
        EventSource::Silence { task, states, after } => {
            put(&mut entries, "task", task.as_str().into());
            ends(&mut entries, states);
            put(&mut entries, "after", plain(after));
        }
        EventSource::Webhook { secret: Some(secret) } => {
            put(&mut entries, "secret", format!("${{{{ secrets.{secret} }}}}").into());
        }
        EventSource::Webhook { secret: None } => put(&mut entries, "unsigned", true.into()),
        EventSource::File { path, settle, existing } => {
            put(&mut entries, "path", path.as_str().into());
            put(&mut entries, "settle", plain(settle));
            if *existing {
                put(&mut entries, "existing", true.into());
            }
        }
        EventSource::Message(source) => entries.extend(message(source)),
    }
    put(&mut entries, "if", plain(&trigger.condition));
    put(&mut entries, "preset", plain(&trigger.preset));
    put(&mut entries, "inputs", trigger.inputs.clone().into());
    put(&mut entries, "debounce", plain(&trigger.debounce));
    if !trigger.enabled {
        put(&mut entries, "enabled", false.into());
    }
    Value::Object(entries)
}

/// The keys of files are those of the record; what is as usual is left out.
fn message(source: &MessageSource) -> Entries {
    let mut entries = match plain(source) {
        Value::Object(entries) => entries,
        _ => Entries::new(),
    };
    entries.shift_remove("from");
    entries.retain(|key, value| !matches!((key.as_str(), &*value), ("end", Value::String(end)) if end == ListEnd::default().word()));
    entries.retain(|key, value| !(key == "qos" && *value == 1));
    entries
}

fn preset(preset: &PresetDef) -> Value {
    let mut entries = Entries::new();
    put(&mut entries, "id", plain(&preset.id));
    put(&mut entries, "task", plain(&preset.task));
    if !preset.description.is_empty() {
        put(&mut entries, "description", plain(&preset.description));
    }
    put(&mut entries, "inputs", preset.inputs.clone().into());
    put(&mut entries, "policy", policy(&preset.policy));
    put(&mut entries, "activation", activation(&preset.activation));
    Value::Object(entries)
}

fn sink(sink: &SinkDef) -> Value {
    let mut entries = Entries::new();
    put(&mut entries, "id", plain(&sink.id));
    if !sink.description.is_empty() {
        put(&mut entries, "description", plain(&sink.description));
    }
    put(&mut entries, "events", plain(&sink.events));
    put(&mut entries, "tasks", plain(&sink.tasks));
    put(&mut entries, "namespaces", plain(&sink.namespaces));
    put(&mut entries, "if", plain(&sink.condition));
    put(&mut entries, sink.to.word(), outlet(&sink.to));
    if !sink.enabled {
        put(&mut entries, "enabled", false.into());
    }
    Value::Object(entries)
}

fn outlet(outlet: &Outlet) -> Value {
    // Its fields are those of the file, under a name of the store's.
    let Value::Object(stored) = plain(outlet) else { return Value::Null };
    let mut value = stored.into_iter().next().map(|(_, fields)| fields).unwrap_or_default();
    match (outlet, value.as_object_mut()) {
        (Outlet::Nats { jetstream: true, .. }, Some(map)) => drop(map.remove("jetstream")),
        (Outlet::Webhook { secret: None, url, batch: 1, headers }, _) if headers.is_empty() => {
            return url.as_str().into();
        }
        _ => {}
    }
    value
}

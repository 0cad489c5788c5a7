//! GitHub workflows: one task for each, with the steps of all its jobs.

use ostler_calendar::check_cron;
use ostler_model::trigger::Dialect;
use ostler_timetable::{Tree, TreeKind};
use serde_json::{Value, json};

use crate::{
    File, ImportError, Imported, Options,
    document::{Document, Entries, Notes, Task, literal, put, zone_error},
    expressions::Scope,
    fields::{Fields, entries, items, json, text, texts},
    github_job::Jobs,
    inputs::Inputs,
    yaml::{Front, Words, one_each},
};

const WORDS: Words = Words {
    several: "GitHub workflows",
    shape: "a workflow is a map with `on` and `jobs`",
    left_out: "the workflow is left out",
};

/// Turns GitHub workflows into a definition file, one task for each.
///
/// # Errors
/// What is not YAML, not a cron expression, or a job that needs one that there is not.
pub fn github(files: &[File], options: &Options) -> Result<Imported, ImportError> {
    one_each(files, options, &WORDS, one)
}

fn one(
    file: &File,
    tree: &Tree,
    notes: &mut Notes,
    document: &mut Document,
) -> Result<Option<Task>, ImportError> {
    let mut fields = Fields::of(tree);
    fields.ignore(&["permissions", "run-name"]);
    let name = fields.text("name", notes);
    let mut schedules = Vec::new();
    let mut inputs = Inputs::default();
    if let Some(value) = fields.value("on") {
        triggers(file, value, &mut schedules, &mut inputs, notes)?;
    }
    let mut policy = Entries::new();
    if let Some(value) = fields.value("concurrency") {
        put(&mut policy, "concurrency", concurrency(value, notes));
    }
    let scope = Scope {
        workflow: name.unwrap_or_else(|| file.stem()),
        inputs: &inputs,
        matrix: Default::default(),
        steps: Default::default(),
        env: Entries::new(),
    };
    let env = fields.value("env").map(|v| variables(v, &scope, notes)).unwrap_or_default();
    let defaults = fields.value("defaults");
    let Some(jobs) = fields.value("jobs") else {
        return Err(ImportError::at(&file.name, tree.line, "the workflow has no `jobs`"));
    };
    fields.rest("", notes);
    let scope = Scope { env: env.clone(), ..scope };
    let steps = Jobs { file, scope, notes }.steps(jobs, defaults)?;
    if steps.is_empty() {
        return Ok(None);
    }
    let mut task = Task::default();
    put(&mut task.meta, "id", document.ids.take(file.stem(), "workflow"));
    put(&mut task.meta, "name", name.unwrap_or_default());
    // What GitHub's runners start steps with when nothing is said.
    let defaults = Entries::from_iter([("shell".to_owned(), "bash".into())]);
    Front { inputs, policy, schedules, env, defaults }.put(&mut task.body);
    put(&mut task.body, "steps", steps);
    Ok(Some(task))
}

fn triggers(
    file: &File,
    value: &Tree,
    schedules: &mut Vec<Value>,
    inputs: &mut Inputs,
    notes: &mut Notes,
) -> Result<(), ImportError> {
    let nothing = |name: &str| format!("`on: {name}` starts nothing in Ostler");
    if !matches!(value.kind, TreeKind::Map(_)) {
        for name in texts(value).into_iter().filter(|n| *n != "workflow_dispatch") {
            notes.add(value.line, nothing(name));
        }
        return Ok(());
    }
    for entry in entries(value) {
        match entry.key.as_str() {
            "schedule" => {
                for item in items(&entry.value) {
                    schedules.push(schedule(file, item, notes)?);
                }
            }
            "workflow_dispatch" | "workflow_call" => {
                let mut fields = Fields::of(&entry.value);
                for input in fields.value("inputs").map(entries).unwrap_or_default() {
                    let property = property(&input.value, notes);
                    if inputs.has(&input.key) {
                        continue;
                    }
                    if !inputs.add(&input.key, property) {
                        notes.add(
                            input.line,
                            format!("`{}` cannot be the name of an input and is left out", input.key),
                        );
                    }
                }
                fields.rest(&format!(" of `{}`", entry.key), notes);
            }
            name => notes.add(entry.line, nothing(name)),
        }
    }
    Ok(())
}

fn schedule(file: &File, item: &Tree, notes: &mut Notes) -> Result<Value, ImportError> {
    let error = |words: String| ImportError::at(&file.name, item.line, words);
    let mut fields = Fields::of(item);
    let Some(cron) = fields.text("cron", notes) else {
        return Err(error("the schedule has no `cron`".into()));
    };
    check_cron(cron, Dialect::Vixie).map_err(|e| error(format!("cron `{cron}`: {e}")))?;
    let zone = fields.text("timezone", notes).unwrap_or("UTC");
    if let Some(wrong) = zone_error(zone) {
        return Err(error(wrong));
    }
    fields.rest(" of the schedule", notes);
    Ok(json!({ "cron": cron, "timezone": zone, "missed": "skip" }))
}

/// An input of `workflow_dispatch`. Runs that a schedule starts are given none, as at GitHub: so each has a default.
fn property(value: &Tree, notes: &mut Notes) -> Entries {
    let mut fields = Fields::of(value);
    fields.ignore(&["required", "deprecationMessage"]);
    let kind = fields.text("type", notes).unwrap_or("string");
    let options: Vec<&str> = fields.value("options").map(texts).unwrap_or_default();
    let mut property = Entries::new();
    let given = fields.value("default");
    let written = given.and_then(text).unwrap_or_default();
    let (name, default): (_, Value) = match kind {
        "boolean" => ("boolean", (written == "true").into()),
        "number" => (
            "number",
            given
                .map(json)
                .filter(Value::is_number)
                .unwrap_or_else(|| written.parse::<i64>().unwrap_or(0).into()),
        ),
        _ => ("string", written.into()),
    };
    if !matches!(kind, "string" | "boolean" | "number" | "choice") {
        notes.add(value.line, format!("an input of the type `{kind}` is a text here"));
    }
    put(&mut property, "type", name);
    put(&mut property, "description", fields.text("description", notes).unwrap_or_default());
    let default = if kind == "choice" && !options.is_empty() {
        put(&mut property, "enum", json!(options));
        let first = options.first().copied().unwrap_or_default();
        if options.contains(&written) { default } else { first.into() }
    } else {
        default
    };
    property.insert("default".into(), default);
    fields.rest(" of the input", notes);
    property
}

fn concurrency(value: &Tree, notes: &mut Notes) -> Entries {
    let mut fields = Fields::of(value);
    let group = text(value).or_else(|| fields.text("group", notes)).unwrap_or_default();
    let mut concurrency = Entries::new();
    if group.contains("${{") {
        notes.add(value.line, format!("the concurrency group `{group}` is that of the task here"));
    } else {
        put(&mut concurrency, "key", group);
    }
    put(&mut concurrency, "limit", 1);
    let cancels = fields.value("cancel-in-progress");
    if cancels.is_some_and(|c| matches!(c.kind, TreeKind::Bool(true, _))) {
        put(&mut concurrency, "on_conflict", "cancel_running");
    }
    concurrency
}

/// `env` of any level.
pub(crate) fn variables(value: &Tree, scope: &Scope<'_>, notes: &mut Notes) -> Entries {
    let mut env = Entries::new();
    for entry in entries(value) {
        let written = text(&entry.value).or((entry.value.kind == TreeKind::Null).then_some(""));
        match written.filter(|_| crate::command::is_variable(&entry.key)) {
            Some(written) => {
                let value = scope.value(written, entry.line, notes);
                env.insert(entry.key.clone(), value.into());
            }
            None => notes.add(
                entry.line,
                format!("the variable `{}` is not a name with a text and is left out", entry.key),
            ),
        }
    }
    if entries(value).is_empty() && value.kind != TreeKind::Null {
        notes.add(value.line, format!("`env: {}` is left out", literal(text(value).unwrap_or("…"))));
    }
    env
}

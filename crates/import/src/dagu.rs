//! Dagu's DAG files. Keys are taken in both of its spellings, `maxActiveRuns` and `max_active_runs`.

use ostler_calendar::check_cron;
use ostler_model::{Span, trigger::Dialect};
use ostler_timetable::{Tree, TreeKind};
use serde_json::{Value, json};

use crate::{
    File, ImportError, Imported, Options,
    dagu_step::{Reader, Variables, seconds},
    document::{Document, Entries, Notes, Task, put, zone_error},
    fields::{Fields, entries, items, number, text, texts},
    inputs::Inputs,
    yaml::{Front, Words, one_each},
};

const WORDS: Words = Words {
    several: "Dagu files",
    shape: "a Dagu file is a map with `steps`",
    left_out: "the file is left out",
};

/// Turns Dagu files into a definition file, one task for each.
///
/// # Errors
/// What is not YAML, not a cron expression, or a dependency that there is not.
pub fn dagu(files: &[File], options: &Options) -> Result<Imported, ImportError> {
    one_each(files, options, &WORDS, one)
}

fn one(
    file: &File,
    tree: &Tree,
    notes: &mut Notes,
    document: &mut Document,
) -> Result<Option<Task>, ImportError> {
    let mut fields = Fields::of(tree);
    let mut task = Task::default();
    let name = fields.text("name", notes).unwrap_or_else(|| file.stem());
    put(&mut task.meta, "description", fields.text("description", notes).unwrap_or_default());
    put(&mut task.meta, "tags", fields.value("tags").map(tags).unwrap_or_default());
    let schedules = match fields.value("schedule") {
        Some(value) => schedules(file, value, notes)?,
        None => Vec::new(),
    };
    let mut variables = Variables::default();
    let (inputs, positional) = match fields.value("params") {
        Some(value) => params(value, &mut variables, notes),
        None => Default::default(),
    };
    let mut env = Entries::new();
    for (name, value) in variables.known() {
        env.insert(name.to_owned(), value.into());
    }
    if let Some(value) = fields.value("env") {
        env.extend(variables.read(value, notes));
    }
    let mut policy = Entries::new();
    if let Some(value) = fields.value("maxActiveRuns") {
        match number(value) {
            Some(limit @ 1..=1_000_000) => put(&mut policy, "concurrency", json!({ "limit": limit })),
            // 0 and less are no limit.
            Some(i64::MIN..=0) => {}
            _ => notes.add(value.line, "`maxActiveRuns` is not a number here and is left out"),
        }
    }
    if let Some(span) = fields.value("timeoutSec").and_then(|v| seconds(v, "timeoutSec", notes)) {
        put(&mut policy, "timeout", json!({ "total": span.to_string() }));
    }
    let mut defaults = Entries::new();
    put(&mut defaults, "shell", fields.text("shell", notes).map(crate::document::literal));
    if let Some(value) = fields.value("workingDir") {
        put(&mut defaults, "working_directory", text(value).map(|t| variables.expand(t, value.line, notes)));
    }
    let mut reader = Reader { file, variables, positional, notes };
    let chain = fields.text("type", reader.notes).is_none_or(|t| t != "graph");
    let steps = match fields.value("steps") {
        Some(value) => reader.steps(value, chain)?,
        None => return Err(ImportError::at(&file.name, tree.line, "the file has no `steps`")),
    };
    let (on_success, on_failure) = match fields.value("handlerOn") {
        Some(value) => handlers(value, &mut reader)?,
        None => Default::default(),
    };
    if let Some(value) = fields.value("dotenv") {
        for path in texts(value) {
            let words = format!(
                "`dotenv: {path}`: write `env_file`, with a path inside of the folder of the definition file"
            );
            reader.notes.add(value.line, words);
        }
    }
    if let Some(entry) = fields.take("preconditions").or_else(|| fields.take("precondition")) {
        let words = "`preconditions` are not carried over: the task is switched off (`enabled: false`) until they stand in it";
        reader.notes.add(entry.line, words);
        put(&mut task.meta, "enabled", false);
    }
    fields.rest("", reader.notes);
    if steps.is_empty() {
        return Ok(None);
    }
    let mut meta = Entries::new();
    let id = document.ids.take(name, "dag");
    put(&mut meta, "id", id.as_str());
    if id != name {
        put(&mut meta, "name", name);
    }
    meta.append(&mut task.meta);
    task.meta = meta;
    Front { inputs, policy, schedules, env, defaults }.put(&mut task.body);
    put(&mut task.body, "steps", steps);
    put(&mut task.body, "on_success", on_success);
    put(&mut task.body, "on_failure", on_failure);
    Ok(Some(task))
}

/// `a, b`, a list, or a map.
fn tags(value: &Tree) -> Vec<String> {
    let of_map = entries(value).iter().filter_map(|e| Some(format!("{}={}", e.key, text(&e.value)?)));
    let listed = texts(value).into_iter().flat_map(|t| t.split(',')).map(|t| t.trim().to_owned());
    of_map.chain(listed).filter(|t| !t.is_empty()).collect()
}

fn schedules(file: &File, value: &Tree, notes: &mut Notes) -> Result<Vec<Value>, ImportError> {
    let mut all = Vec::new();
    let mut starts = vec![value];
    if let TreeKind::Map(_) = value.kind {
        let mut fields = Fields::of(value);
        starts = fields.value("start").into_iter().collect();
        fields.rest(" of the schedule", notes);
    }
    for item in starts.into_iter().flat_map(items) {
        let Some(written) = text(item) else {
            notes.add(item.line, "this schedule is not a cron expression and is left out");
            continue;
        };
        let error = |words: String| ImportError::at(&file.name, item.line, words);
        let mut entries = Entries::new();
        let mut cron = written.trim();
        let mut zone = None;
        if let Some(rest) = cron.strip_prefix("CRON_TZ=").or_else(|| cron.strip_prefix("TZ=")) {
            let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            if let Some(wrong) = zone_error(name) {
                return Err(error(wrong));
            }
            (zone, cron) = (Some(name), rest.trim());
        }
        check_cron(cron, Dialect::Vixie).map_err(|e| error(format!("cron `{cron}`: {e}")))?;
        put(&mut entries, "cron", cron);
        put(&mut entries, "timezone", zone);
        // Dagu makes up for nothing by itself.
        put(&mut entries, "missed", "skip");
        all.push(Value::Object(entries));
    }
    Ok(all)
}

/// Parameters become inputs, and variables with their names as Dagu's scripts know them. Those without a name are
/// `$1` and so on: the second value holds their inputs.
fn params(value: &Tree, variables: &mut Variables, notes: &mut Notes) -> (Inputs, Vec<String>) {
    let mut found: Vec<(Option<String>, Entries, u32)> = Vec::new();
    let default = |text: &str| {
        Entries::from_iter([("type".to_owned(), json!("string")), ("default".to_owned(), json!(text))])
    };
    let word = |word: &str, line: u32| match word
        .split_once('=')
        .filter(|(name, _)| crate::command::is_variable(name))
    {
        Some((name, value)) => (Some(name.to_owned()), default(value), line),
        None => (None, default(word), line),
    };
    for item in items(value) {
        match &item.kind {
            TreeKind::Map(map) if map.iter().any(|e| e.key == "name") => {
                let mut fields = Fields::of(item);
                let name = fields.text("name", notes).map(str::to_owned);
                let mut property = default(fields.text("default", notes).unwrap_or_default());
                put(&mut property, "description", fields.text("description", notes).unwrap_or_default());
                fields.rest(" of the parameter", notes);
                found.push((name, property, item.line));
            }
            TreeKind::Map(map) => {
                for entry in map {
                    match text(&entry.value).or((entry.value.kind == TreeKind::Null).then_some("")) {
                        Some(text) => found.push((Some(entry.key.clone()), default(text), entry.line)),
                        None => notes.add(
                            entry.line,
                            format!("the parameter `{}` is not a text and is left out", entry.key),
                        ),
                    }
                }
            }
            TreeKind::List(_) | TreeKind::Null => {}
            _ if matches!(value.kind, TreeKind::List(_)) => {
                found.push(word(text(item).unwrap_or_default(), item.line))
            }
            _ => found.extend(
                crate::command::words(text(item).unwrap_or_default()).iter().map(|w| word(w, item.line)),
            ),
        }
    }
    let mut inputs = Inputs::default();
    let mut positional = Vec::new();
    for (name, property, line) in found {
        let is_substituted =
            property.get("default").and_then(Value::as_str).is_some_and(|d| d.contains(['`', '$']));
        if is_substituted {
            notes.add(line, "the default of this parameter is worked out by Dagu; here it is a text");
        }
        let own = name.clone().unwrap_or_else(|| format!("arg{}", positional.len() + 1));
        if inputs.has(&own) || !inputs.add(&own, property) {
            notes.add(line, format!("`{own}` cannot be the name of an input; the parameter is left out"));
            continue;
        }
        match name {
            Some(name) => variables.set(&name, format!("${{{{ inputs.{name} }}}}")),
            None => positional.push(own),
        }
    }
    (inputs, positional)
}

/// `handlerOn`: what follows a success and what follows a failure.
fn handlers(value: &Tree, reader: &mut Reader<'_>) -> Result<(Vec<Value>, Vec<Value>), ImportError> {
    let mut fields = Fields::of(value);
    let mut after = [Vec::new(), Vec::new()];
    for (key, places) in [("success", &[0usize][..]), ("failure", &[1]), ("exit", &[0, 1])] {
        let Some(value) = fields.value(key) else { continue };
        for place in places {
            let id = match (key, place) {
                ("exit", 0) => "on-exit-after-success",
                ("exit", _) => "on-exit-after-failure",
                ("success", _) => "on-success",
                _ => "on-failure",
            };
            let Some(body) = reader.handler(value)? else { continue };
            let mut entries = Entries::from_iter([("id".to_owned(), id.into())]);
            entries.extend(body);
            after[*place].push(Value::Object(entries));
        }
    }
    fields.rest(" of `handlerOn`", reader.notes);
    let [success, failure] = after;
    Ok((success, failure))
}

/// A number of seconds as a span that is longer than nothing.
pub(crate) fn span(seconds: f64) -> Option<Span> {
    let is_span = (0.001..1e9).contains(&seconds);
    is_span.then(|| std::time::Duration::from_millis((seconds * 1000.0).round() as u64).into())
}

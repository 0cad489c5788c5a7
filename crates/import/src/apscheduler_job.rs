//! One job of APScheduler as a task.

use std::collections::BTreeMap;

use ostler_model::Span;
use serde_json::{Value, json};

use crate::{
    File, ImportError,
    apscheduler_trigger::{self as trigger, Times},
    document::{Entries, Ids, Notes, Task, literal, put, zone_error},
    python::{Kind, Node},
};

/// What the scheduler says of all jobs.
#[derive(Default)]
pub(crate) struct Setup {
    /// The zone of triggers that name none.
    pub(crate) zone: Option<String>,
    defaults: BTreeMap<String, Node>,
}

impl Setup {
    /// Reads `timezone` and `job_defaults`.
    pub(crate) fn read(
        file: &File,
        settings: &BTreeMap<String, Node>,
        head: &mut Notes,
    ) -> Result<Self, ImportError> {
        let mut setup = Self::default();
        if let Some(node) = settings.get("timezone") {
            match trigger::zone(node) {
                Some(zone) => match zone_error(&zone) {
                    Some(error) => {
                        return Err(ImportError::at(&file.name, node.line, format!("timezone: {error}")));
                    }
                    None => setup.zone = Some(zone),
                },
                None => {
                    head.add(node.line, "the scheduler's `timezone` is worked out: give it with `--timezone`")
                }
            }
        }
        match settings.get("job_defaults").map(|node| (&node.kind, node.line)) {
            Some((Kind::Map(entries), _)) => setup.defaults = entries.iter().cloned().collect(),
            Some((_, line)) => head.add(line, "`job_defaults` are worked out and are left out"),
            None => {}
        }
        Ok(setup)
    }
}

/// A job on its way into a task.
pub(crate) struct Job<'a> {
    pub(crate) file: &'a File,
    /// Where it begins.
    pub(crate) line: u32,
    pub(crate) setup: &'a Setup,
    /// What names of the source stand for.
    pub(crate) modules: &'a BTreeMap<String, String>,
}

/// What a job says of late and overlapping runs.
struct Limits {
    /// How late is not too late; `None`: any time will do.
    grace: Option<Span>,
    coalesce: bool,
    instances: u32,
}

impl Job<'_> {
    fn error(&self, line: u32, words: impl Into<String>) -> ImportError {
        ImportError::at(&self.file.name, line, words)
    }

    /// The task.
    pub(crate) fn task(&self, fields: Vec<(String, Node)>, ids: &mut Ids) -> Result<Task, ImportError> {
        let mut fields: BTreeMap<String, Node> = fields.into_iter().collect();
        let mut task = Task { notes: Notes::of(&self.file.name), ..Task::default() };
        let notes = &mut task.notes;
        let mut is_whole = true;
        if fields.contains_key("**") {
            notes.add(self.line, "this call takes arguments from `**`, which are not carried over: the task is switched off (`enabled: false`) until they stand in it");
            is_whole = false;
            fields.remove("**");
        }
        if let Some(node) = fields.remove("job") {
            return Err(self.error(node.line, "this job is no map with `func` and `trigger`"));
        }
        let func = fields.remove("func").ok_or_else(|| {
            self.error(self.line, "the job has no `func`: write `func: \"package.module:function\"`")
        })?;
        let entrypoint = self.entrypoint(&func, notes)?;
        let times = trigger::times(self.file, self.line, &mut fields, self.setup.zone.as_deref(), notes)?;
        let limits = self.limits(&mut fields, notes);
        let mut call = Entries::new();
        for key in ["args", "kwargs"] {
            let Some(node) = fields.remove(key).filter(|node| node.kind != Kind::Null) else { continue };
            match node.json().filter(|value| if key == "args" { value.is_array() } else { value.is_object() })
            {
                Some(value) => put(&mut call, key, literals(value)),
                None => {
                    let words = format!(
                        "`{key}` is worked out when the program runs: the task is switched off (`enabled: false`) until it stands in it"
                    );
                    notes.add(node.line, words);
                    is_whole = false;
                }
            }
        }
        let name = fields.remove("name").and_then(|node| node.text().map(str::to_owned));
        let given = fields.remove("id").and_then(|node| match node.kind {
            Kind::Text(text) => Some(text),
            Kind::Number(number) => Some(number.to_string()),
            _ => None,
        });
        let function = entrypoint.rsplit([':', '.']).next().unwrap_or_default();
        let id = ids.take(given.as_deref().unwrap_or(function), "job");
        if fields.remove("next_run_time").is_some_and(|node| node.kind == Kind::Null) {
            notes.add(self.line, "the job is added paused: the task is switched off (`enabled: false`)");
            is_whole = false;
        }
        // Where and in what a job is kept is APScheduler's business.
        for key in ["replace_existing", "jobstore", "executor"] {
            fields.remove(key);
        }
        for (key, node) in &fields {
            notes.add(node.line, format!("`{key}` of job `{id}` is not carried over"));
        }
        put(&mut task.meta, "id", id.as_str());
        put(&mut task.meta, "name", name.or(given).filter(|name| *name != id));
        if !is_whole {
            put(&mut task.meta, "enabled", false);
        }
        // One schedule looks at its own runs; a limit looks at all of the task.
        let is_alone = limits.instances == 1 && times.len() == 1;
        put(&mut task.body, "on", json!({ "schedule": schedules(times, &limits, is_alone) }));
        if !is_alone {
            let limit = json!({ "limit": limits.instances, "on_conflict": "skip" });
            put(&mut task.body, "policy", json!({ "concurrency": limit }));
        }
        put(&mut task.body, "uses", "python");
        put(&mut task.body, "with", json!({ "entrypoint": entrypoint }));
        task.body.append(&mut call);
        Ok(task)
    }

    /// `module:function`.
    fn entrypoint(&self, func: &Node, notes: &mut Notes) -> Result<String, ImportError> {
        let is_path = |path: &str| {
            path.split('.').all(|part| {
                part.starts_with(|c: char| c.is_alphabetic() || c == '_')
                    && part.chars().all(|c| c.is_alphanumeric() || c == '_')
            })
        };
        let whole =
            |text: &str| text.split_once(':').is_some_and(|(module, name)| is_path(module) && is_path(name));
        match &func.kind {
            Kind::Text(text) if whole(text) => Ok(text.clone()),
            Kind::Code(name) if is_path(name) => {
                let (first, rest) = name.split_once('.').map_or((name.as_str(), None), |(a, b)| (a, Some(b)));
                // The longest name that was imported as a whole: `import a.b` and `a.b.f`.
                let module =
                    name.rsplit_once('.').and_then(|(module, last)| Some((self.modules.get(module)?, last)));
                if let Some((module, last)) = module.filter(|(module, _)| !module.contains(':')) {
                    return Ok(format!("{module}:{last}"));
                }
                let found = match self.modules.get(first) {
                    Some(own) if own.starts_with(':') => Some(format!("{}{own}", self.file.stem())),
                    Some(known) => Some(known.clone()),
                    None => None,
                };
                let found = found.map(|base| match rest {
                    Some(rest) if base.contains(':') => format!("{base}.{rest}"),
                    Some(rest) => format!("{base}:{rest}"),
                    None => base,
                });
                if let Some(found) = found.filter(|found| whole(found)) {
                    return Ok(found);
                }
                let stem = self.file.stem();
                let guess = format!("{}:{name}", if is_path(stem) { stem } else { "module" });
                notes.add(func.line, format!("where `{name}` comes from is not known: `{guess}` is a guess"));
                Ok(guess)
            }
            Kind::Text(text) | Kind::Code(text) => Err(self.error(
                func.line,
                format!("`func`: `{text}` cannot be called by name: write `\"package.module:function\"`"),
            )),
            _ => Err(self.error(func.line, "`func` is no function: write `\"package.module:function\"`")),
        }
    }

    fn limits(&self, fields: &mut BTreeMap<String, Node>, notes: &mut Notes) -> Limits {
        let mut own = |key: &str| fields.remove(key).or_else(|| self.setup.defaults.get(key).cloned());
        let mut limits = Limits { grace: Some(Span::from_secs(1)), coalesce: true, instances: 1 };
        if let Some(node) = own("misfire_grace_time") {
            match (&node.kind, whole(&node)) {
                (Kind::Null, _) => limits.grace = None,
                (_, Some(seconds @ 1..=1_000_000_000)) => {
                    limits.grace = Some(Span::from_secs(u64::from(seconds)))
                }
                _ => {
                    notes.add(node.line, "`misfire_grace_time` is no number of seconds here and is left out")
                }
            }
        }
        if let Some(node) = own("coalesce") {
            match node.kind {
                Kind::Bool(value) => limits.coalesce = value,
                _ => notes.add(node.line, "`coalesce` is neither true nor false here and is left out"),
            }
        }
        if let Some(node) = own("max_instances") {
            match whole(&node) {
                Some(count @ 1..=1_000_000) => limits.instances = count,
                _ => notes.add(node.line, "`max_instances` is no number here and is left out"),
            }
        }
        limits
    }
}

/// A whole number of a node.
fn whole(node: &Node) -> Option<u32> {
    match &node.kind {
        Kind::Number(number) => number.as_u64().and_then(|n| u32::try_from(n).ok()),
        _ => None,
    }
}

/// A value in which nothing is read as an expression.
fn literals(value: Value) -> Value {
    match value {
        Value::String(text) => literal(&text).into(),
        Value::Array(items) => items.into_iter().map(literals).collect(),
        Value::Object(entries) => entries.into_iter().map(|(k, v)| (k, literals(v))).collect(),
        other => other,
    }
}

fn schedules(times: Vec<Times>, limits: &Limits, is_alone: bool) -> Vec<Value> {
    let policy = if limits.coalesce { "latest" } else { "all" };
    let missed = match limits.grace {
        // What APScheduler has when nothing is said: a second late is too late.
        Some(grace) if grace <= Span::from_secs(1) => json!("skip"),
        Some(grace) => json!({ "policy": policy, "within": grace.to_string() }),
        None => json!(policy),
    };
    let with_limits = |times: Times| {
        let mut entries = times.entries;
        if !times.at_start {
            put(&mut entries, "missed", missed.clone());
            if is_alone {
                put(&mut entries, "overlap", "skip");
            }
        }
        if !times.whole {
            put(&mut entries, "enabled", false);
        }
        Value::Object(entries)
    };
    times.into_iter().map(with_limits).collect()
}

//! A whole file: its levels, tasks and presets.

use std::collections::BTreeMap;

use ostler_model::{
    Name, TaskDef,
    definition::{Policy, PresetDef, Timetable},
    trigger::Dialect,
};
use serde_json::{Map, Value, json};

use super::{
    Context,
    expressions::Names,
    fields::Fields,
    parts, policy, schemas,
    schemas::Protocols,
    sink,
    step::Level,
    task::{self, House, Lowered},
};
use crate::{
    diagnostic::{Problem, suggest},
    node::{Kind, Node},
};

/// Where a file comes from, and the namespace it has when it names none.
pub(crate) struct Origin {
    /// Absolute path, URL, or `-`.
    pub(crate) origin: String,
    /// The file as tasks record it.
    pub(crate) file: Option<String>,
    pub(crate) ephemeral: Name,
}

/// Keys of a file, for telling definitions from other YAML, JSON and TOML files in a folder.
pub(crate) fn looks_like_definitions(node: &Node) -> bool {
    let kind = node.get("meta").and_then(|m| m.get("type")).and_then(Node::as_text);
    kind.is_some_and(|k| k.ends_with("-timetable"))
        || node.get("tasks").is_some()
        || node.get("presets").is_some()
        || node.get("sinks").is_some()
}

/// What `meta` of a file says.
struct FileMeta {
    namespace: Option<Name>,
    zone: String,
    is_supertask: bool,
}

/// Lowers a file.
pub(crate) fn lower(cx: &Context<'_>, root: &Node, origin: &Origin) -> Option<Timetable> {
    if let Kind::List(_) = root.kind {
        let message = "a definition file is a map, not a list";
        cx.error(Problem::new("wrong-type", &root.span, message).help("put the list under `tasks:`"));
        return None;
    }
    if !matches!(root.kind, Kind::Map(_)) {
        let message = format!("a definition file is a map, not {}", root.described());
        cx.error(Problem::new("wrong-type", &root.span, message).help("a smallest file is `tasks: []`"));
        return None;
    }
    let mut fields = Fields::of(cx, root, "the file", "a file")?;
    let meta = meta(cx, &mut fields);
    let protocols = fields.take(cx, &["protocols"]).map(|n| Protocols::read(cx, n)).unwrap_or_default();
    let calendars = fields.take(cx, &["calendars"]).map(|n| parts::calendars(cx, n)).unwrap_or_default();
    let mut defaults =
        fields.take(cx, &["defaults"]).and_then(|n| Fields::of(cx, n, "defaults", "`defaults`"));
    let level = Level::default().and(cx, &mut fields, defaults.as_mut());
    let policy = defaults.map_or_else(Policy::default, |mut defaults| {
        // Which inputs there are is known at each task only.
        let open = json!({});
        let policy = policy::take(cx, &mut defaults, &Names { inputs: Some(&open), ..Names::default() });
        defaults.finish(cx);
        policy
    });
    let house = House {
        dialect: if meta.is_supertask { Dialect::Supertask } else { Dialect::Vixie },
        zone: meta.zone,
        protocols,
        calendars,
        policy,
        level,
        origin: origin.file.clone(),
        is_supertask: meta.is_supertask,
    };
    let lowered = tasks(cx, &mut fields, &house);
    let presets = presets(cx, &mut fields, &lowered, &house.zone);
    let sinks = sink::sinks(cx, &mut fields);
    fields.finish(cx);
    check_starters(cx, &lowered, &presets);
    let ephemeral = meta.namespace.is_none();
    Some(Timetable {
        namespace: meta.namespace.unwrap_or_else(|| origin.ephemeral.clone()),
        ephemeral,
        origin: origin.origin.clone(),
        calendars: house.calendars,
        tasks: lowered.into_iter().map(|l| l.task).collect(),
        presets,
        sinks,
    })
}

fn meta(cx: &Context<'_>, fields: &mut Fields<'_>) -> FileMeta {
    let mut meta = FileMeta { namespace: None, zone: cx.options.machine_zone.clone(), is_supertask: false };
    let Some(node) = fields.take(cx, &["meta"]) else { return meta };
    let Some(mut inner) = Fields::of(cx, node, "meta", "the file's `meta`") else { return meta };
    if let Some(n) = inner.take(cx, &["type"]) {
        let words = [("ostler-timetable", false), ("supertask-timetable", true)];
        meta.is_supertask = cx.word(n, "meta.type", &words).unwrap_or_default();
    }
    if meta.is_supertask {
        meta.zone = super::script::SUPERTASK_ZONE.to_owned();
    }
    if let Some(n) = inner.take(cx, &["version"])
        && n.scalar().is_none_or(|v| v != "1")
    {
        let message = format!("`meta.version` is 1, not {}", n.described());
        cx.error(Problem::new("version", &n.span, message).help("this Ostler reads version 1"));
    }
    meta.namespace = inner.take(cx, &["namespace"]).and_then(|n| cx.name(n, "meta.namespace"));
    if let Some(zone) = inner.take(cx, &["timezone"]).and_then(|n| cx.zone(n, "meta.timezone")) {
        meta.zone = zone;
    }
    for key in ["name", "description", "owner", "generator"] {
        if let Some(n) = inner.take(cx, &[key]) {
            cx.text(n, key);
        }
    }
    if let Some(n) = inner.take(cx, &["authors"]) {
        cx.texts(n, "authors");
    }
    if meta.is_supertask {
        inner.rest();
    }
    inner.finish(cx);
    meta
}

fn tasks<'n>(cx: &Context<'_>, fields: &mut Fields<'n>, house: &House<'n>) -> Vec<Lowered<'n>> {
    let Some((key, node)) = fields.take_entry(cx, &["tasks"]) else {
        if !["presets", "calendars", "sinks"].iter().any(|key| fields.has(key)) {
            let problem = Problem::new(
                "missing-key",
                &(fields.span.start..fields.span.start + 1),
                "the file has no `tasks`",
            );
            cx.error(problem.help("write `tasks: [{ meta: { id: hello }, run: echo hello }]`"));
        }
        return Vec::new();
    };
    let lowered: Vec<Lowered<'n>> = match &node.kind {
        Kind::List(items) => items.iter().filter_map(|n| task::lower(cx, n, None, house)).collect(),
        Kind::Map(entries) => {
            entries.iter().filter_map(|(k, n)| task::lower(cx, n, Some((&k.text, &k.span)), house)).collect()
        }
        Kind::Null => {
            cx.error(
                Problem::new("wrong-type", &key.span, "`tasks` has no value")
                    .help("write `tasks: []` for none"),
            );
            Vec::new()
        }
        _ => {
            cx.wrong_type(node, "tasks", "a list of tasks");
            Vec::new()
        }
    };
    let mut seen: BTreeMap<&Name, u32> = BTreeMap::new();
    for l in &lowered {
        let line = cx.source.place(l.span.start).0;
        match seen.get(&l.task.id) {
            // A task whose id could not be read has been told.
            Some(_) if l.task.id.as_str() == "task" && cx.has_errors() => {}
            Some(first) => {
                let problem =
                    Problem::new("duplicate-id", &l.span, format!("two tasks have the id `{}`", l.task.id));
                cx.error(problem.help(format!("the first one is in line {first}; give them different ids")));
            }
            None => drop(seen.insert(&l.task.id, line)),
        }
    }
    lowered
}

fn presets(cx: &Context<'_>, fields: &mut Fields<'_>, tasks: &[Lowered<'_>], zone: &str) -> Vec<PresetDef> {
    named(cx, fields, "presets", |key, node| {
        let (preset, span) = preset(cx, key, node, tasks, zone)?;
        Some((preset.id.clone(), span, preset))
    })
}

/// What stands under a key as a list, or as a map of ids; each id once.
pub(crate) fn named<'n, T>(
    cx: &Context<'_>,
    fields: &mut Fields<'n>,
    what: &'static str,
    read: impl Fn(Option<task::IdKey<'n>>, &'n Node) -> Option<(Name, std::ops::Range<usize>, T)>,
) -> Vec<T> {
    let Some(node) = fields.take(cx, &[what]) else { return Vec::new() };
    let entries: Vec<(Option<task::IdKey<'_>>, &Node)> = match &node.kind {
        Kind::List(items) => items.iter().map(|n| (None, n)).collect(),
        Kind::Map(entries) => entries.iter().map(|(k, n)| (Some((k.text.as_str(), &k.span)), n)).collect(),
        _ => {
            cx.wrong_type(node, what, &format!("a list of {what}"));
            return Vec::new();
        }
    };
    let mut seen: Vec<Name> = Vec::new();
    let mut all = Vec::new();
    for (key, node) in entries {
        let Some((id, span, one)) = read(key, node) else { continue };
        if seen.contains(&id) {
            let problem = Problem::new("duplicate-id", &span, format!("two {what} have the id `{id}`"));
            cx.error(problem.help("give them different ids"));
        }
        seen.push(id);
        all.push(one);
    }
    all
}

/// The id of one of them, with its place: as given, or the key it stands under. `what` as in `the preset`.
pub(crate) fn id(
    cx: &Context<'_>,
    fields: &mut Fields<'_>,
    key: Option<task::IdKey<'_>>,
    what: &str,
) -> (Option<Name>, std::ops::Range<usize>) {
    match (fields.take(cx, &["id"]), key) {
        (Some(n), _) => (cx.name(n, "id"), n.span.clone()),
        (None, Some((key, span))) => (cx.name_of(key, span, &format!("{what}'s key")), span.clone()),
        (None, None) => {
            let span = fields.span.clone();
            cx.error(
                Problem::new("missing-key", &span, format!("{what} has no id")).help("write `id: a-name`"),
            );
            (None, span)
        }
    }
}

fn preset(
    cx: &Context<'_>,
    key: Option<task::IdKey<'_>>,
    node: &Node,
    tasks: &[Lowered<'_>],
    zone: &str,
) -> Option<(PresetDef, std::ops::Range<usize>)> {
    let mut fields = Fields::of(cx, node, "presets", "a preset")?;
    let (id, span) = id(cx, &mut fields, key, "the preset");
    let task = match fields.take(cx, &["task"]) {
        Some(n) => cx.name(n, "task").map(|name| (name, n)),
        None => {
            cx.error(Problem::new("missing-key", &span, "the preset names no task").help("write `task: ID`"));
            None
        }
    };
    let found: Option<&TaskDef> = task.as_ref().and_then(|(name, n)| {
        let found = tasks.iter().map(|l| &l.task).find(|t| t.id == *name);
        if found.is_none() {
            let problem = Problem::new("preset", &n.span, format!("there is no task `{name}` in the file"));
            cx.error(problem.help(suggest(
                name.as_str(),
                tasks.iter().map(|l| l.task.id.as_str()),
                "it has no tasks",
            )));
        }
        found
    });
    let description = fields.take(cx, &["description"]).and_then(|n| cx.text(n, "description"));
    let inputs = match fields.take(cx, &["inputs"]) {
        None => Map::new(),
        Some(n) => {
            if let Some(task) = found {
                schemas::check_inputs(cx, n, task.inputs.as_ref(), &format!("task `{}`", task.id));
            }
            match n.to_json() {
                Value::Object(map) => map,
                _ => {
                    cx.wrong_type(n, "inputs", "a map of names and values");
                    Map::new()
                }
            }
        }
    };
    let names = Names { inputs: found.and_then(|t| t.inputs.as_ref()), ..Names::default() };
    let policy = policy::take(cx, &mut fields, &names);
    let zone = found.map_or(zone, |t| t.timezone.as_str());
    let activation = parts::activation(cx, &mut fields, zone);
    fields.finish(cx);
    let preset = PresetDef {
        id: id?,
        task: task?.0,
        description: description.unwrap_or_default(),
        inputs,
        policy,
        activation,
    };
    Some((preset, span))
}

/// Holds schedules and triggers against the presets they name, and checks that required inputs are given.
fn check_starters(cx: &Context<'_>, tasks: &[Lowered<'_>], presets: &[PresetDef]) {
    for lowered in tasks {
        for pending in &lowered.pending {
            let (schedules, triggers) = (&lowered.task.schedules, &lowered.task.triggers);
            let of_schedule = schedules.iter().find(|s| s.id == pending.starter).map(|s| &s.inputs);
            let of_trigger = || triggers.iter().find(|t| t.id == pending.starter).map(|t| &t.inputs);
            let Some(inputs) = of_schedule.or_else(of_trigger) else { continue };
            let mut given = vec![inputs];
            if let Some((name, node)) = &pending.preset {
                match presets.iter().find(|p| p.id == *name) {
                    Some(preset) if preset.task == lowered.task.id => given.push(&preset.inputs),
                    Some(preset) => {
                        let message =
                            format!("the preset `{name}` is of task `{}`, not of this one", preset.task);
                        cx.error(Problem::new("preset", &node.span, message));
                        continue;
                    }
                    None => {
                        let known = presets.iter().map(|p| p.id.as_str());
                        let problem =
                            Problem::new("preset", &node.span, format!("there is no preset `{name}`"));
                        cx.error(problem.help(suggest(name.as_str(), known, "the file has no `presets`")));
                        continue;
                    }
                }
            }
            let missing = schemas::missing_inputs(lowered.task.inputs.as_ref(), &given);
            if !missing.is_empty() {
                let message = format!(
                    "`{}` does not give what the task requires: {}",
                    pending.starter,
                    missing.join(", ")
                );
                let help = format!("write `inputs: {{ {}: … }}`, or give the input a default", missing[0]);
                cx.error(Problem::new("input", &pending.span, message).help(help));
            }
        }
    }
}

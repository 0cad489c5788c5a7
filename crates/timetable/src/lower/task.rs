//! One task.

use std::collections::BTreeMap;

use ostler_model::{
    Name, TaskDef,
    definition::{Policy, Source, StepDef},
    trigger::{CalendarDef, Dialect},
};

use super::{
    Context,
    expressions::Names,
    fields::Fields,
    parts, policy, schedule,
    schedule::{Pending, Starters, Terms},
    schemas::Protocols,
    step::{self, Level},
};
use crate::{diagnostic::Problem, node::Node};

/// What the file gives to its tasks.
pub(crate) struct House<'n> {
    pub(crate) dialect: Dialect,
    pub(crate) zone: String,
    pub(crate) protocols: Protocols,
    pub(crate) calendars: BTreeMap<Name, CalendarDef>,
    pub(crate) policy: Policy,
    pub(crate) level: Level<'n>,
    pub(crate) origin: Option<String>,
    /// Metadata is free-form, ids are any text.
    pub(crate) is_supertask: bool,
}

/// A key that is an id, where tasks or presets stand in a map, and its place.
pub(crate) type IdKey<'a> = (&'a str, &'a std::ops::Range<usize>);

/// A lowered task, and what is still to be held against the rest of the file.
pub(crate) struct Lowered<'n> {
    pub(crate) task: TaskDef,
    pub(crate) span: std::ops::Range<usize>,
    pub(crate) pending: Vec<Pending<'n>>,
}

/// Metadata, under `meta` or directly.
#[derive(Default)]
struct Meta {
    id: Option<Name>,
    id_span: Option<std::ops::Range<usize>>,
    name: Option<String>,
    description: Option<String>,
    enabled: Option<bool>,
    owner: Option<String>,
    tags: Option<Vec<String>>,
    authors: Option<Vec<String>>,
    timezone: Option<String>,
}

impl Meta {
    fn take(&mut self, cx: &Context<'_>, fields: &mut Fields<'_>, house: &House<'_>) {
        if let Some(n) = fields.take(cx, &["id"]) {
            self.id_span = Some(n.span.clone());
            self.id = if house.is_supertask {
                cx.text(n, "id").map(|text| Name::from_any(&text))
            } else {
                cx.name(n, "id")
            };
        }
        let text = |n: &Node, what: &str| cx.text(n, what);
        self.name = fields.take(cx, &["name"]).and_then(|n| text(n, "name")).or(self.name.take());
        self.description = fields
            .take(cx, &["description"])
            .and_then(|n| text(n, "description"))
            .or(self.description.take());
        self.enabled = fields.take(cx, &["enabled"]).and_then(|n| cx.flag(n, "enabled")).or(self.enabled);
        self.owner = fields.take(cx, &["owner"]).and_then(|n| text(n, "owner")).or(self.owner.take());
        self.tags = fields.take(cx, &["tags"]).map(|n| cx.texts(n, "tags")).or(self.tags.take());
        self.authors =
            fields.take(cx, &["authors", "author"]).map(|n| cx.texts(n, "authors")).or(self.authors.take());
        self.timezone =
            fields.take(cx, &["timezone"]).and_then(|n| cx.zone(n, "timezone")).or(self.timezone.take());
    }
}

/// Lowers a task; `key` is its id when tasks stand in a map.
pub(crate) fn lower<'n>(
    cx: &Context<'_>,
    node: &'n Node,
    key: Option<IdKey<'_>>,
    house: &House<'n>,
) -> Option<Lowered<'n>> {
    let mut fields = Fields::of(cx, node, "a task", "a task")?;
    let meta = meta(cx, &mut fields, key, house);
    let id = meta.id.clone()?;
    let zone = meta.timezone.unwrap_or_else(|| house.zone.clone());
    let inputs = fields.take(cx, &["inputs"]).and_then(|n| house.protocols.inputs(cx, n));
    let outputs = fields.take(cx, &["outputs"]).and_then(|n| house.protocols.outputs(cx, n));
    let names = Names { inputs: inputs.as_ref(), ..Names::default() };

    let mut defaults =
        fields.take(cx, &["defaults"]).and_then(|n| Fields::of(cx, n, "defaults", "`defaults`"));
    let level = house.level.and(cx, &mut fields, defaults.as_mut());
    let of_defaults = defaults.map_or_else(Policy::default, |mut defaults| {
        let policy = policy::take(cx, &mut defaults, &names);
        defaults.finish(cx);
        policy
    });
    let policy = policy::take(cx, &mut fields, &names).over(&of_defaults.over(&house.policy));

    let activation = parts::activation(cx, &mut fields, &zone);
    let expect = fields.take(cx, &["expect"]).map(|n| parts::expect(cx, n)).unwrap_or_default();
    let terms = Terms {
        dialect: house.dialect,
        zone: &zone,
        calendars: &house.calendars,
        inputs: inputs.as_ref(),
        task: &id,
    };
    let Starters { schedules, triggers, pending } =
        fields.take(cx, &["on"]).map(|n| schedule::on(cx, n, &terms)).unwrap_or_default();
    let Steps { steps, on_success, on_failure } = steps(cx, &mut fields, &level, house, inputs.as_ref());
    let span = fields.span.clone();
    fields.finish(cx);

    let used = |name: &Name| {
        schedules.iter().any(|s| s.trigger.only.contains(name) || s.trigger.except.contains(name))
    };
    let calendars =
        house.calendars.iter().filter(|(n, _)| used(n)).map(|(n, d)| (n.clone(), d.clone())).collect();
    let line = cx.source.place(node.span.start).0;
    let task = TaskDef {
        name: meta.name.unwrap_or_else(|| id.to_string()),
        id,
        description: meta.description.unwrap_or_default(),
        enabled: meta.enabled.unwrap_or(true),
        owner: meta.owner,
        tags: meta.tags.unwrap_or_default(),
        authors: meta.authors.unwrap_or_default(),
        source: Source {
            file: house.origin.clone(),
            line: Some(line),
            folder: cx.folder.map(|f| f.to_string_lossy().into_owned()),
        },
        timezone: zone,
        inputs,
        outputs,
        policy,
        activation,
        schedules,
        triggers,
        steps,
        on_success,
        on_failure,
        expect,
        calendars,
    };
    Some(Lowered { task, span: meta.id_span.unwrap_or(span), pending })
}

fn meta(cx: &Context<'_>, fields: &mut Fields<'_>, key: Option<IdKey<'_>>, house: &House<'_>) -> Meta {
    let mut meta = Meta::default();
    if let Some((key, span)) = key {
        meta.id = cx.name_of(key, span, "the task's key");
        meta.id_span = Some(span.clone());
    }
    if let Some(node) = fields.take(cx, &["meta"])
        && let Some(mut inner) = Fields::of(cx, node, "meta", "a task's `meta`")
    {
        meta.take(cx, &mut inner, house);
        if house.is_supertask {
            inner.rest();
        }
        inner.finish(cx);
    }
    meta.take(cx, fields, house);
    if meta.id.is_none() && meta.id_span.is_none() {
        let problem = Problem::new("missing-key", &fields.span, "the task has no id");
        cx.error(
            problem.help("write `meta: { id: a-name }`; history, schedules and presets belong to the id"),
        );
    }
    if meta.id.is_none() {
        // So that the rest of the task is checked all the same.
        meta.id = Some(Name::from_any("task"));
    }
    meta
}

struct Steps {
    steps: Vec<StepDef>,
    on_success: Vec<StepDef>,
    on_failure: Vec<StepDef>,
}

fn steps<'n>(
    cx: &Context<'_>,
    fields: &mut Fields<'n>,
    level: &Level<'n>,
    house: &House<'n>,
    inputs: Option<&serde_json::Value>,
) -> Steps {
    let drafts = match fields.take_entry(cx, &["steps"]) {
        Some((key, node)) => {
            if fields.has("run") || fields.has("uses") {
                let message = "a task has `steps`, or `run` or `uses` of its own, not both";
                cx.error(
                    Problem::new("duplicate-key", &key.span, message)
                        .help("make what the task runs itself a step"),
                );
                for key in ["run", "uses", "with", "args", "kwargs"] {
                    fields.take(cx, &[key]);
                }
            }
            let drafts = step::drafts(cx, node, "steps", level, &house.protocols);
            if drafts.is_empty() && matches!(&node.kind, crate::node::Kind::List(items) if items.is_empty()) {
                let problem = Problem::new("missing-key", &key.span, "the task has no steps");
                cx.error(problem.help("write at least one: `steps: [{ run: echo hello }]`"));
            }
            drafts
        }
        None => vec![step::only(cx, fields, level, &house.protocols)],
    };
    let mut handlers = |key: &'static str| {
        fields.take(cx, &[key]).map(|n| step::drafts(cx, n, key, level, &house.protocols)).unwrap_or_default()
    };
    let (success, failure) = (handlers("on_success"), handlers("on_failure"));
    let mut seen: BTreeMap<&Name, u32> = BTreeMap::new();
    for draft in drafts.iter().chain(&success).chain(&failure) {
        let line = cx.source.place(draft.start()).0;
        if let Some(first) = seen.insert(&draft.id, line) {
            let problem = Problem::new(
                "duplicate-id",
                &draft.place(),
                format!("two steps of the task have the id `{}`", draft.id),
            );
            cx.error(problem.help(format!("the first one is in line {first}; give them different ids")));
        }
    }
    let steps = step::lower(cx, drafts, inputs, None);
    let on_success = step::lower(cx, success, inputs, Some(&steps));
    let on_failure = step::lower(cx, failure, inputs, Some(&steps));
    Steps { steps, on_success, on_failure }
}

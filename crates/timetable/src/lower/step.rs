//! Steps: first each by itself, then what they need of one another, then their expressions.

use std::collections::{BTreeMap, BTreeSet};

use ostler_model::{
    Name, Span,
    definition::{Expect, Matrix, Retry, StepDef},
};
use serde_json::{Map, Value};

use super::{
    Context, EXECUTOR_ALIASES,
    expressions::{Facts, Names, Place, Steps},
    fields::Fields,
    graph::{self, Needs},
    matrix,
    parts::{self, Environment},
    retry,
    schemas::Protocols,
    work::{check_code, check_executor, check_file, check_wait, lift_run, set, supertask},
};
use crate::{
    diagnostic::{Problem, suggest},
    node::{Kind, Node},
};

/// Labels that a step may ask for.
const LABELS: usize = 16;

/// What the levels above give to every step.
#[derive(Clone, Default)]
pub(crate) struct Level<'n> {
    pub(crate) environment: Environment<'n>,
    pub(crate) working_directory: Option<&'n Node>,
    pub(crate) shell: Option<&'n Node>,
    runs_on: Option<&'n Node>,
}

impl<'n> Level<'n> {
    /// With `env`, `env_file`, `inherit_env`, `runs_on` of this level and its `defaults`.
    pub(crate) fn and(
        &self,
        cx: &Context<'_>,
        fields: &mut Fields<'n>,
        defaults: Option<&mut Fields<'n>>,
    ) -> Self {
        let mut level = self.clone();
        if let Some(defaults) = defaults {
            level.environment = level.environment.and(cx, defaults);
            level.working_directory = working_directory(cx, defaults).or(level.working_directory);
            level.shell = defaults.take(cx, &["shell"]).or(level.shell);
            level.runs_on = defaults.take(cx, &["runs_on"]).or(level.runs_on);
        }
        level.runs_on = fields.take(cx, &["runs_on"]).or(level.runs_on);
        level.environment = level.environment.and(cx, fields);
        level
    }
}

fn working_directory<'n>(cx: &Context<'_>, fields: &mut Fields<'n>) -> Option<&'n Node> {
    fields.take(cx, &["working_directory", "working_dir", "cwd"])
}

/// A step as it was written, with the parts read that do not depend on other steps.
pub(crate) struct Draft<'n> {
    pub(crate) id: Name,
    span: std::ops::Range<usize>,
    name: Option<String>,
    pub(crate) uses: String,
    pub(crate) uses_span: std::ops::Range<usize>,
    pub(crate) run: Option<&'n Node>,
    pub(crate) args: Option<&'n Node>,
    kwargs: Option<&'n Node>,
    pub(crate) with: Option<Node>,
    needs: Option<Vec<(Name, &'n Node)>>,
    condition: Option<&'n Node>,
    environment: Environment<'n>,
    working_directory: Option<&'n Node>,
    runs_on: Vec<Name>,
    stdin: Option<&'n Node>,
    matrix: Option<Matrix>,
    continue_on_error: bool,
    retry: Option<Retry>,
    timeout: Option<Span>,
    outputs: Option<Value>,
    expect: Expect,
    idempotent: Option<bool>,
}

impl Draft<'_> {
    /// Where it begins.
    pub(crate) fn start(&self) -> usize {
        self.span.start
    }

    /// Its place, for errors.
    pub(crate) fn place(&self) -> std::ops::Range<usize> {
        self.span.clone()
    }
}

/// Drafts of a list of steps.
pub(crate) fn drafts<'n>(
    cx: &Context<'_>,
    node: &'n Node,
    what: &'static str,
    level: &Level<'n>,
    protocols: &Protocols,
) -> Vec<Draft<'n>> {
    let prefix = match what {
        "steps" => "step",
        "on_success" => "success",
        _ => "failure",
    };
    let nodes = match (&node.kind, what) {
        (Kind::List(items), _) => items.iter().collect(),
        // One handler need not stand in a list.
        (Kind::Map(_), "on_success" | "on_failure") => vec![node],
        _ => {
            cx.wrong_type(node, what, "a list of steps");
            return Vec::new();
        }
    };
    let read = |(i, node): (usize, &'n Node)| {
        let mut fields = Fields::of(cx, node, &format!("{what}[{i}]"), "a step")?;
        let id = match fields.take(cx, &["id"]) {
            Some(node) => {
                cx.name(node, "id").unwrap_or_else(|| Name::from_any(&format!("{prefix}{}", i + 1)))
            }
            None => Name::from_any(&format!("{prefix}{}", i + 1)),
        };
        let draft = draft(cx, &mut fields, id, level, protocols, false);
        fields.finish(cx);
        Some(draft)
    };
    nodes.into_iter().enumerate().filter_map(read).collect()
}

/// The step of a task that gives `run` or `uses` itself. What is a policy of the task there is not one of the step.
pub(crate) fn only<'n>(
    cx: &Context<'_>,
    fields: &mut Fields<'n>,
    level: &Level<'n>,
    protocols: &Protocols,
) -> Draft<'n> {
    draft(cx, fields, Name::from_any("main"), level, protocols, true)
}

fn draft<'n>(
    cx: &Context<'_>,
    fields: &mut Fields<'n>,
    id: Name,
    level: &Level<'n>,
    protocols: &Protocols,
    is_task: bool,
) -> Draft<'n> {
    let span = fields.span.clone();
    let run = fields.take(cx, &["run"]);
    let uses_node = fields.take(cx, &["uses"]);
    let mut with = fields.take(cx, &["with"]).cloned();
    if let Some(node) = with.as_ref().filter(|w| !matches!(w.kind, Kind::Map(_))) {
        cx.wrong_type(node, "with", "a map of settings");
        with = None;
    }
    let (mut uses, uses_span) = match (uses_node, run) {
        (Some(node), _) => (cx.text(node, "uses").unwrap_or_default(), node.span.clone()),
        (None, Some(_)) => ("shell".to_owned(), span.clone()),
        (None, None) => {
            let message =
                format!("the {} says neither `run` nor `uses`", if is_task { "task" } else { "step" });
            let help =
                "write `run: echo hello` for a shell script, or `uses: http` (sql, python, exec) with `with`";
            cx.error(Problem::new("missing-key", &span, message).help(help));
            (String::new(), span.clone())
        }
    };
    let mut run = run;
    if let Some((_, executor)) = EXECUTOR_ALIASES.iter().find(|(alias, _)| *alias == uses) {
        with = supertask(cx, &uses, run.take(), with, &uses_span);
        uses = (*executor).to_owned();
    }
    let shell = fields.take(cx, &["shell"]);
    if uses == "shell" {
        if let Some(node) = shell.or(level.shell) {
            set(&mut with, "shell", node, &span);
        }
    } else if let Some(node) = shell {
        let message = format!("`shell` is for `run` lines, not for `uses: {uses}`");
        cx.error(Problem::new("unknown-key", &node.span, message).help("leave it out"));
    }
    let strategy = fields.take(cx, &["strategy"]).and_then(|n| matrix::strategy(cx, n));
    let mut draft = Draft {
        id,
        name: None,
        run,
        args: fields.take(cx, &["args"]),
        kwargs: fields.take(cx, &["kwargs"]),
        with,
        needs: None,
        condition: fields.take(cx, &["if"]),
        environment: level.environment.clone(),
        working_directory: working_directory(cx, fields).or(level.working_directory),
        runs_on: fields.take(cx, &["runs_on"]).or(level.runs_on).map(|n| labels(cx, n)).unwrap_or_default(),
        stdin: fields.take(cx, &["stdin"]),
        matrix: strategy,
        continue_on_error: fields
            .take(cx, &["continue_on_error"])
            .and_then(|n| cx.flag(n, "continue-on-error"))
            .unwrap_or_default(),
        retry: None,
        timeout: None,
        outputs: None,
        expect: Expect::default(),
        idempotent: None,
        uses,
        uses_span,
        span,
    };
    if !is_task {
        draft.name = fields.take(cx, &["name"]).and_then(|n| cx.text(n, "name"));
        draft.needs = fields
            .take_entry(cx, &["needs", "depends_on", "depends"])
            .map(|(_, node)| cx.names(node, "needs"));
        draft.environment = level.environment.and(cx, fields);
        draft.retry = fields.take(cx, &["retry"]).and_then(|n| retry::retry(cx, n));
        draft.timeout = fields.take(cx, &["timeout"]).and_then(|n| step_timeout(cx, n));
        draft.outputs = fields.take(cx, &["outputs"]).and_then(|n| protocols.outputs(cx, n));
        draft.expect = fields.take(cx, &["expect"]).map(|n| parts::expect(cx, n)).unwrap_or_default();
        draft.idempotent = fields.take(cx, &["idempotent"]).and_then(|n| cx.flag(n, "idempotent"));
    }
    draft
}

/// What a node must have: a label or a list of them, each once.
fn labels(cx: &Context<'_>, node: &Node) -> Vec<Name> {
    let named = cx.names(node, "runs_on");
    if named.len() > LABELS {
        let message = format!("`runs_on` has {} labels; at most {LABELS} are taken", named.len());
        cx.error(Problem::new("wrong-value", &node.span, message).help("name what the step needs"));
    }
    let sorted: BTreeSet<Name> = named.into_iter().map(|(name, _)| name).collect();
    sorted.into_iter().collect()
}

/// One attempt of the step; what bounds the whole belongs to the task.
fn step_timeout(cx: &Context<'_>, node: &Node) -> Option<Span> {
    let timeouts = retry::timeouts(cx, node)?;
    for (name, value) in [("queue", timeouts.queue), ("total", timeouts.total)] {
        if value.is_some() {
            let place = node.get(name).unwrap_or(node);
            let message = format!("`timeout.{name}` is for tasks; a step bounds its attempts");
            cx.error(Problem::new("unknown-key", &place.span, message).help("write `timeout: 30s`"));
        }
    }
    timeouts.attempt
}

/// Lowers the drafts of one list. `others` are steps that these may look at beside their own list (for handlers).
pub(crate) fn lower(
    cx: &Context<'_>,
    drafts: Vec<Draft<'_>>,
    inputs: Option<&Value>,
    handlers_of: Option<&[StepDef]>,
) -> Vec<StepDef> {
    let needs = link(cx, &drafts);
    let mut facts: BTreeMap<Name, Facts> = drafts
        .iter()
        .map(|d| (d.id.clone(), Facts { outputs: d.outputs.clone(), has_matrix: d.matrix.is_some() }))
        .collect();
    let mut always_before: BTreeSet<Name> = BTreeSet::new();
    if let Some(steps) = handlers_of {
        // A handler sees the steps of its task, not other handlers.
        facts = steps
            .iter()
            .map(|s| (s.id.clone(), Facts { outputs: s.outputs.clone(), has_matrix: s.matrix.is_some() }))
            .collect();
        always_before.extend(facts.keys().cloned());
    }
    let mut steps = Vec::new();
    for draft in drafts {
        let before = match handlers_of {
            Some(_) => always_before.clone(),
            None => graph::before(&needs, &draft.id),
        };
        let own = draft.id.clone();
        let matrix = draft.matrix.clone();
        let names = Names {
            inputs,
            steps: Some(Steps { own: &own, before, outputs: &facts }),
            matrix: matrix.as_ref(),
            env: draft.environment.env.keys().cloned().collect(),
            is_handler: handlers_of.is_some(),
        };
        let needs = needs.get(&draft.id).cloned().unwrap_or_default();
        steps.push(finish(cx, draft, needs, &names));
    }
    steps
}

/// What each step needs: as written when any step says so, else the step before it.
fn link(cx: &Context<'_>, drafts: &[Draft<'_>]) -> Needs {
    let is_graph = drafts.iter().any(|d| d.needs.is_some());
    let mut needs = Needs::new();
    for (i, draft) in drafts.iter().enumerate() {
        let mut of_step: Vec<Name> = Vec::new();
        if !is_graph {
            of_step.extend(i.checked_sub(1).map(|before| drafts[before].id.clone()));
        }
        for (name, node) in draft.needs.iter().flatten() {
            if *name == draft.id {
                cx.error(
                    Problem::new("needs", &node.span, format!("the step `{name}` needs itself"))
                        .help("take it out"),
                );
            } else if !drafts.iter().any(|d| d.id == *name) {
                let others = drafts.iter().filter(|d| d.id != draft.id).map(|d| d.id.as_str());
                let problem = Problem::new("needs", &node.span, format!("there is no step `{name}` to need"));
                cx.error(problem.help(suggest(name.as_str(), others, "the list has no other step")));
            } else if !of_step.contains(name) {
                of_step.push(name.clone());
            }
        }
        needs.entry(draft.id.clone()).or_insert(of_step);
    }
    let order: Vec<Name> = drafts.iter().map(|d| d.id.clone()).collect();
    for circle in graph::circles(&needs, &order) {
        let way: Vec<&str> = circle.iter().map(Name::as_str).collect();
        let first = drafts.iter().find(|d| Some(&d.id) == circle.first());
        let span = first
            .and_then(|d| {
                d.needs.iter().flatten().find(|(n, _)| circle.contains(n)).map(|(_, n)| n.span.clone())
            })
            .or_else(|| first.map(|d| d.span.clone()))
            .unwrap_or(0..0);
        let message = format!("steps need one another in a circle: {}", way.join(" -> "));
        cx.error(Problem::new("needs", &span, message).help("take one of these needs out"));
        for (step, of_step) in &mut needs {
            // Broken open, so that what is checked next ends.
            if Some(step) == circle.first() {
                of_step.retain(|n| !circle.contains(n));
            }
        }
    }
    needs
}

fn finish(cx: &Context<'_>, mut draft: Draft<'_>, needs: Vec<Name>, names: &Names<'_>) -> StepDef {
    check_executor(cx, &draft);
    check_wait(cx, &draft);
    let run_node = lift_run(cx, &mut draft);
    let run = run_node.as_ref().and_then(|node| {
        names.check(cx, node, Place::Code(&draft.uses));
        cx.text(node, "run")
    });
    check_code(cx, &draft, run.as_deref());
    let with = draft.with.as_ref();
    if let Some(Kind::Map(entries)) = with.map(|w| &w.kind) {
        for (key, value) in entries {
            let is_code = cx.settings.is_code(&draft.uses, &key.text);
            names.check(cx, value, if is_code { Place::Code(&draft.uses) } else { Place::With });
        }
    }
    cx.settings.check(cx, &draft.uses, with, &draft.uses_span);
    if draft.uses == "python" {
        check_file(cx, with, draft.working_directory);
    }
    let kwargs = match draft.kwargs {
        None => Map::new(),
        Some(node) => {
            names.check(cx, node, Place::With);
            match node.to_json() {
                Value::Object(map) => map,
                _ => {
                    cx.wrong_type(node, "kwargs", "a map");
                    Map::new()
                }
            }
        }
    };
    let args = match draft.args {
        None => Vec::new(),
        Some(node) => {
            names.check(cx, node, Place::Argument);
            match node.to_json() {
                Value::Array(items) => items,
                _ => {
                    cx.wrong_type(node, "args", "a list");
                    Vec::new()
                }
            }
        }
    };
    let text = |node: Option<&Node>, what: &str, place: Place<'_>| {
        let node = node?;
        names.check(cx, node, place);
        cx.text(node, what)
    };
    let env = draft.environment.env.iter().filter_map(|(name, node)| {
        names.check(cx, node, Place::Env);
        Some((name.clone(), node.scalar()?.to_owned()))
    });
    StepDef {
        name: draft.name,
        run,
        args,
        kwargs,
        with: with
            .map(Node::to_json)
            .and_then(|v| if let Value::Object(map) = v { Some(map) } else { None })
            .unwrap_or_default(),
        needs,
        condition: draft.condition.and_then(|node| names.condition(cx, node)),
        env: env.collect(),
        env_file: draft.environment.files.clone(),
        inherit_env: draft.environment.inherit.clone(),
        working_directory: text(draft.working_directory, "working_directory", Place::Argument),
        runs_on: draft.runs_on,
        stdin: text(draft.stdin, "stdin", Place::With),
        matrix: draft.matrix,
        continue_on_error: draft.continue_on_error,
        retry: draft.retry,
        timeout: draft.timeout,
        outputs: draft.outputs,
        expect: draft.expect,
        idempotent: draft.idempotent,
        id: draft.id,
        uses: draft.uses,
    }
}

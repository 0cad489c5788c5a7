//! Expressions: each is parsed when the file is read, and every name in it is one that will be there.

use std::collections::{BTreeMap, BTreeSet};

use ostler_expr::{Expr, ExprError, Reference, Template};
use ostler_model::{Name, definition::Matrix};
use serde_json::Value;

use super::Context;
use crate::{
    diagnostic::{Problem, suggest},
    node::{Kind, Node},
};

/// Where an expression stands: what it may look up differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place<'a> {
    /// A key of concurrency, rate or uniqueness: worked out before there is a run.
    Key,
    /// `if`.
    Condition,
    /// `if` and `inputs` of a trigger: worked out before there is a run, from the event.
    Event,
    /// `if` and names of a sink: worked out for each event that is carried out.
    Sent,
    /// Addresses, secrets and headers of brokers that are sent to or listened to: worked out once.
    Address,
    /// A value of `env`.
    Env,
    /// Settings, keyword arguments, standard input: may hold secrets.
    With,
    /// What others can see: arguments of a program, a path.
    Argument,
    /// Code, with the executor that runs it: constants and `matrix` only.
    Code(&'a str),
}

/// What the expressions of a step (or of a task) may look up.
#[derive(Clone, Default)]
pub(crate) struct Names<'a> {
    /// The schema of the inputs; `None` when the task takes none.
    pub(crate) inputs: Option<&'a Value>,
    /// The step itself, the steps that have ended before it, and all of the task.
    pub(crate) steps: Option<Steps<'a>>,
    /// The step's combinations.
    pub(crate) matrix: Option<&'a Matrix>,
    /// The step's environment.
    pub(crate) env: BTreeSet<String>,
    /// The step is one of `on_success` or `on_failure`.
    pub(crate) is_handler: bool,
}

#[derive(Clone)]
pub(crate) struct Steps<'a> {
    pub(crate) own: &'a Name,
    pub(crate) before: BTreeSet<Name>,
    pub(crate) outputs: &'a BTreeMap<Name, Facts>,
}

/// What is known of a step that others refer to.
#[derive(Clone, Default)]
pub(crate) struct Facts {
    pub(crate) outputs: Option<Value>,
    pub(crate) has_matrix: bool,
}

const RUN: [&str; 7] = ["id", "task", "namespace", "schedule", "due", "actor", "trigger"];
const RUN_OF_HANDLER: [&str; 9] =
    ["id", "task", "namespace", "schedule", "due", "actor", "trigger", "state", "failed_step"];
const STEP: [&str; 4] = ["outputs", "outcome", "conclusion", "error"];

impl Names<'_> {
    /// Checks every text in a value.
    pub(crate) fn check(&self, cx: &Context<'_>, node: &Node, place: Place<'_>) {
        match &node.kind {
            Kind::Text(text) => self.check_text(cx, node, text, place),
            Kind::List(items) => items.iter().for_each(|n| self.check(cx, n, place)),
            Kind::Map(entries) => {
                for (key, value) in entries {
                    if key.text == "$secret" {
                        let problem =
                            Problem::new("expression", &key.span, "`$secret` is a key of Ostler's own");
                        cx.error(problem.help("write `${{ secrets.NAME }}`"));
                    }
                    self.check(cx, value, place);
                }
            }
            _ => {}
        }
    }

    fn check_text(&self, cx: &Context<'_>, node: &Node, text: &str, place: Place<'_>) {
        if !text.contains("${{") {
            return;
        }
        match Template::parse(text) {
            Err(error) => wrong(cx, node, &error),
            Ok(template) => {
                for reference in template.references() {
                    self.check_reference(cx, node, text, &reference, place);
                }
            }
        }
    }

    /// Checks a condition; gives its source without `${{ }}`, or `None` for one that is always true.
    pub(crate) fn condition(&self, cx: &Context<'_>, node: &Node) -> Option<String> {
        self.condition_at(cx, node, Place::Condition)
    }

    /// The same for a condition that stands elsewhere.
    pub(crate) fn condition_at(&self, cx: &Context<'_>, node: &Node, place: Place<'_>) -> Option<String> {
        let text = match &node.kind {
            Kind::Bool(true, _) => return None,
            Kind::Bool(false, _) => return Some("false".into()),
            Kind::Text(text) => text,
            _ => {
                cx.wrong_type(node, "if", "an expression");
                return None;
            }
        };
        let expr = match Expr::parse(text) {
            Ok(expr) => expr,
            Err(mut error) => {
                if text.contains("${{")
                    && !(text.trim().starts_with("${{") && text.matches("${{").count() == 1)
                {
                    error.message.push_str("; write one `${{ … }}` around the whole, or none");
                }
                wrong(cx, node, &error);
                return None;
            }
        };
        for reference in expr.references() {
            self.check_reference(cx, node, text, &reference, place);
        }
        let trimmed = text.trim();
        let inner = trimmed.strip_prefix("${{").and_then(|s| s.strip_suffix("}}")).unwrap_or(trimmed);
        Some(inner.trim().to_owned())
    }

    fn check_reference(
        &self,
        cx: &Context<'_>,
        node: &Node,
        text: &str,
        reference: &Reference,
        place: Place<'_>,
    ) {
        let Some(problem) = self.problem(reference, place, text) else { return };
        let span = cx.part(node, &reference.range);
        let found = Problem::new(problem.code, &span, problem.message).help_if(problem.help);
        if problem.is_warning { cx.warn(found) } else { cx.error(found) }
    }

    fn problem(&self, reference: &Reference, place: Place<'_>, text: &str) -> Option<Wrong> {
        let root = reference.path.first()?.as_str();
        let source = text.get(reference.range.clone()).unwrap_or(root);
        if let Place::Code(executor) = place
            && root != "matrix"
        {
            return Some(in_code(executor, reference, source));
        }
        let known: &[&str] = match place {
            Place::Key => &["inputs", "task"],
            Place::Event | Place::Sent => &["event"],
            Place::Address => &["secrets"],
            Place::Condition => &["inputs", "steps", "run", "event"],
            Place::Env => &["inputs", "steps", "matrix", "run", "event", "secrets"],
            Place::With => &["inputs", "steps", "matrix", "run", "event", "env", "secrets"],
            Place::Argument => &["inputs", "steps", "matrix", "run", "event", "env"],
            Place::Code(_) => &["matrix"],
        };
        if !known.contains(&root) {
            return Some(self.out_of_place(root, known, place));
        }
        match root {
            "inputs" => self.input(reference),
            "steps" => self.step(reference),
            "matrix" => self.matrix(reference),
            "run" => self.run(reference),
            "event" if place == Place::Sent => sent(reference),
            "secrets" if reference.path.len() != 2 || reference.dynamic => {
                Some(Wrong::new("`secrets` is looked up by one name").help("write `secrets.NAME`"))
            }
            "env" => match reference.path.get(1) {
                Some(name) if !self.env.contains(name) && !reference.optional => {
                    Some(Wrong::new(format!("the step has no variable `{name}` in its `env`")).help(suggest(
                        name,
                        self.env.iter().map(String::as_str),
                        "it has no `env`",
                    )))
                }
                _ => None,
            },
            _ => None,
        }
    }

    fn out_of_place(&self, root: &str, known: &[&str], place: Place<'_>) -> Wrong {
        let why = match (root, place) {
            ("matrix", Place::Condition) => "`if` is worked out once for the step, before its combinations",
            ("secrets", Place::Condition) => "a secret can be handed on, not looked at",
            ("secrets", _) => "a secret goes into `env`, `with`, `kwargs` or `stdin` only",
            ("env", Place::Env) => "values of `env` cannot look up other values of `env`",
            ("env", Place::Condition) => "`env` belongs to the step, which has not begun",
            (_, Place::Sent) => "a sink knows the event that it carries out",
            (_, Place::Address) => "an address is the same for all events",
            (_, Place::Event) => "a trigger knows its event only: `event.name` and `event.body`",
            (_, Place::Key) => "a key is worked out before the run begins, from its inputs",
            _ => {
                return Wrong::new(format!("`{root}` is not known here")).help(suggest(
                    root,
                    known.iter().copied(),
                    "",
                ));
            }
        };
        Wrong::new(format!("`{root}` cannot be looked up here: {why}"))
            .help(format!("there is {}", known.join(", ")))
    }

    fn input(&self, reference: &Reference) -> Option<Wrong> {
        let Some(schema) = self.inputs else {
            return Some(
                Wrong::new("the task declares no inputs").help("declare them: `inputs: { name: string }`"),
            );
        };
        let name = reference.path.get(1)?;
        let properties = schema.get("properties").and_then(Value::as_object);
        if let Some(property) = properties.and_then(|p| p.get(name)) {
            if let Some(wrong) = within(property, &reference.path[1..], 1) {
                return Some(wrong);
            }
            let is_required =
                schema.get("required").and_then(Value::as_array).is_some_and(|r| r.iter().any(|v| v == name));
            if !is_required && property.get("default").is_none() && !reference.optional {
                return Some(
                    Wrong::new(format!(
                        "the input `{name}` may be missing: it has no default and is not required"
                    ))
                    .help(format!("write `inputs.{name} ?? ''`, or give it a default"))
                    .warning(),
                );
            }
            return None;
        }
        if schema.get("additionalProperties") != Some(&Value::Bool(false)) || reference.optional {
            return None;
        }
        let names: Vec<&str> = properties.into_iter().flat_map(|p| p.keys()).map(String::as_str).collect();
        Some(Wrong::new(format!("the task has no input `{name}`")).help(suggest(
            name,
            names.iter().copied(),
            "it has none",
        )))
    }

    fn step(&self, reference: &Reference) -> Option<Wrong> {
        let steps = self.steps.as_ref()?;
        let name = reference.path.get(1)?;
        let visible = || steps.before.iter().map(Name::as_str);
        let Some(facts) = steps.outputs.iter().find(|(n, _)| n.as_str() == name).map(|(_, f)| f) else {
            let help = suggest(name, steps.outputs.keys().map(Name::as_str), "the task has no other step");
            return Some(Wrong::new(format!("there is no step `{name}`")).help(help));
        };
        if steps.own.as_str() == name {
            return Some(
                Wrong::new(format!("the step `{name}` looks at itself"))
                    .help("its outputs are there when it has ended"),
            );
        }
        if !visible().any(|n| n == name) {
            return Some(
                Wrong::new(format!("the step `{}` does not wait for `{name}`", steps.own))
                    .help(format!("add it: `needs: [{name}]`")),
            );
        }
        let field = reference.path.get(2)?;
        if !STEP.contains(&field.as_str()) {
            return Some(Wrong::new(format!("a step has no `{field}`")).help(suggest(field, STEP, "")));
        }
        if field == "error" && !reference.optional {
            return Some(
                Wrong::new(format!("`steps.{name}.error` is there only when the step failed"))
                    .help(format!("write `steps.{name}?.error?.message ?? ''`"))
                    .warning(),
            );
        }
        let output = reference.path.get(3)?;
        if field == "outputs" && facts.has_matrix {
            return Some(
                Wrong::new(format!("the outputs of `{name}` are a list: it has a matrix"))
                    .help(format!("write `steps.{name}.outputs[0].{output}`")),
            );
        }
        match &facts.outputs {
            Some(schema) if field == "outputs" && !reference.optional => {
                within(schema, &reference.path[2..], 1)
            }
            _ => None,
        }
    }

    fn matrix(&self, reference: &Reference) -> Option<Wrong> {
        let Some(matrix) = self.matrix else {
            return Some(
                Wrong::new("the step has no matrix").help("write `strategy: { matrix: { name: [a, b] } }`"),
            );
        };
        let name = reference.path.get(1)?;
        let with = matrix.combinations.iter().filter(|c| c.contains_key(name)).count();
        if with == 0 {
            let names: BTreeSet<&str> =
                matrix.combinations.iter().flat_map(|c| c.keys()).map(String::as_str).collect();
            return Some(Wrong::new(format!("the matrix has no `{name}`")).help(suggest(
                name,
                names.iter().copied(),
                "it is empty",
            )));
        }
        if with < matrix.combinations.len() && !reference.optional {
            return Some(
                Wrong::new(format!("only some combinations of the matrix have `{name}`"))
                    .help(format!("write `matrix.{name} ?? ''`"))
                    .warning(),
            );
        }
        None
    }

    fn run(&self, reference: &Reference) -> Option<Wrong> {
        let name = reference.path.get(1)?.as_str();
        let known: &[&str] = if self.is_handler { &RUN_OF_HANDLER } else { &RUN };
        if !known.contains(&name) {
            return Some(Wrong::new(format!("a run has no `{name}`")).help(suggest(
                name,
                known.iter().copied(),
                "",
            )));
        }
        let when = match name {
            "schedule" | "due" => "only in runs that a schedule started",
            "actor" => "only in runs that someone started by hand",
            "trigger" => "only in runs that a trigger started",
            _ => return None,
        };
        (!reference.optional).then(|| {
            Wrong::new(format!("`run.{name}` is there {when}"))
                .help(format!("write `run.{name} ?? ''`"))
                .warning()
        })
    }
}

struct Wrong {
    code: &'static str,
    message: String,
    help: Option<String>,
    is_warning: bool,
}

impl Wrong {
    fn new(message: impl Into<String>) -> Self {
        Self { code: "reference", message: message.into(), help: None, is_warning: false }
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        let help = help.into();
        self.help = (!help.is_empty()).then_some(help);
        self
    }

    fn warning(mut self) -> Self {
        self.is_warning = true;
        self
    }
}

/// What is known of an event that a sink carries out.
const SENT: [&str; 11] =
    ["type", "cursor", "at", "namespace", "task", "machine", "parent", "part", "step", "kind", "body"];

fn sent(reference: &Reference) -> Option<Wrong> {
    let name = reference.path.get(1)?;
    if SENT.contains(&name.as_str()) {
        return None;
    }
    Some(Wrong::new(format!("an event has no `{name}`")).help(suggest(name, SENT, "")))
}

/// A way into a declared value: the fields of objects that declare theirs are known. `path[0]` is its name.
fn within(schema: &Value, path: &[String], at: usize) -> Option<Wrong> {
    let name = path.get(at)?;
    let properties = schema.get("properties")?.as_object()?;
    if let Some(inner) = properties.get(name) {
        return within(inner, path, at + 1);
    }
    if schema.get("additionalProperties").is_some_and(|a| a != &Value::Bool(false))
        || schema.get("patternProperties").is_some()
    {
        return None;
    }
    let names: Vec<&str> = properties.keys().map(String::as_str).collect();
    Some(Wrong::new(format!("`{}` declares no `{name}`", path[..at].join("."))).help(suggest(
        name,
        names.iter().copied(),
        "it has no fields",
    )))
}

/// Decision 12, with the rewrite shown.
fn in_code(executor: &str, reference: &Reference, source: &str) -> Wrong {
    let root = reference.path.first().map(String::as_str).unwrap_or_default();
    let last = reference.path.last().map(String::as_str).unwrap_or(root);
    let word: String = last.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let variable = word.to_uppercase();
    let help = match (executor, root) {
        (_, "env") => format!("write `${last}`: the code has it in its environment"),
        ("sql", _) => format!(
            "write `with: {{ params: {{ {word}: \"${{{{ {source} }}}}\" }} }}` and `:{word}` in the SQL"
        ),
        ("python", _) => {
            format!("write `kwargs: {{ {word}: \"${{{{ {source} }}}}\" }}` and take it as an argument")
        }
        _ => format!(
            "write `env: {{ {variable}: \"${{{{ {source} }}}}\" }}` and `\"${variable}\"` in the code"
        ),
    };
    Wrong {
        code: "code",
        ..Wrong::new(format!("`{source}` cannot stand in code: code is never built from values"))
    }
    .help(help)
}

fn wrong(cx: &Context<'_>, node: &Node, error: &ExprError) {
    let (message, help) = match error.message.split_once("; ") {
        Some((message, help)) => (message, Some(help.to_owned())),
        None => (error.message.as_str(), None),
    };
    let span = cx.part(node, &error.range);
    cx.error(Problem::new("expression", &span, format!("the expression is wrong: {message}")).help_if(help));
}

//! Executors' settings: the schemas of `with`, compiled once for all files.

use std::collections::BTreeMap;

use ostler_schema::{FaultKind, Schema};
use serde_json::Value;

use super::Context;
use crate::{
    diagnostic::{Problem, suggest},
    node::{Key, Kind, Node},
};

/// Keys of `with` whose text is code whatever the executor's schema says.
const CODE_KEYS: [&str; 7] = ["run", "code", "script", "query", "sql", "statement", "statements"];

/// The executors that a file may use.
pub(crate) struct Settings {
    executors: BTreeMap<String, (Value, Option<Schema>)>,
}

impl Settings {
    pub(crate) fn new(executors: &BTreeMap<String, Value>) -> Self {
        let compiled = |schema: &Value| match schema {
            Value::Object(_) => Schema::compile(schema).ok(),
            _ => None,
        };
        let mut executors: BTreeMap<_, _> =
            executors.iter().map(|(n, s)| (n.clone(), (s.clone(), compiled(s)))).collect();
        if !executors.is_empty() {
            let wait = wait();
            executors.insert("wait".to_owned(), (wait.clone(), compiled(&wait)));
        }
        Self { executors }
    }

    /// Whether executors are known at all: without any, every name is taken.
    pub(crate) fn are_known(&self) -> bool {
        !self.executors.is_empty()
    }

    pub(crate) fn has(&self, executor: &str) -> bool {
        self.executors.contains_key(executor)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.executors.keys().map(String::as_str)
    }

    /// Whether an executor's settings name a key (or are open).
    pub(crate) fn takes(&self, executor: &str, key: &str) -> bool {
        self.executors.get(executor).is_some_and(|(schema, _)| schema["properties"].get(key).is_some())
    }

    /// Whether a key of `with` is code: an expression in it may use constants and `matrix` only.
    pub(crate) fn is_code(&self, executor: &str, key: &str) -> bool {
        if CODE_KEYS.contains(&key) && matches!(executor, "sql" | "shell" | "python" | "container") {
            return true;
        }
        self.executors
            .get(executor)
            .is_some_and(|(schema, _)| schema["properties"][key].get("x-code") == Some(&Value::Bool(true)))
    }

    /// Checks `with` against the executor's schema; what an expression will give is checked when it runs.
    pub(crate) fn check(
        &self,
        cx: &Context<'_>,
        executor: &str,
        with: Option<&Node>,
        step: &std::ops::Range<usize>,
    ) {
        let Some((schema, Some(validator))) = self.executors.get(executor) else { return };
        let empty = Node::new(Kind::Map(Vec::new()), step.clone());
        let node = with.unwrap_or(&empty);
        let value = node.to_json();
        for fault in validator.faults(&value) {
            let place = node.at_pointer(&fault.pointer);
            match &fault.kind {
                FaultKind::Unexpected(name) => {
                    let properties = part(schema, &fault.pointer)["properties"].as_object();
                    let known = properties.into_iter().flat_map(|p| p.keys()).map(String::as_str);
                    let span = key_span(place, name).unwrap_or_else(|| place.span.clone());
                    let message = format!("`{executor}` has no setting `{}`", full(&fault.pointer, name));
                    let help =
                        suggest(name, known.collect::<Vec<_>>().iter().copied(), "it has no settings here");
                    cx.error(Problem::new("settings", &span, message).help(help));
                }
                FaultKind::Missing(name) => {
                    let message = format!("`{executor}` needs the setting `{}`", full(&fault.pointer, name));
                    let help = match fault.pointer.as_str() {
                        "" => format!("write `with: {{ {name}: … }}`"),
                        _ => format!("write `{name}: …` there"),
                    };
                    cx.error(Problem::new("settings", &place.span, message).help(help));
                }
                FaultKind::Unfit if has_template(place) => {}
                FaultKind::Unfit => {
                    let name = dotted(&fault.pointer);
                    let what = if name.is_empty() { "with".to_owned() } else { format!("with.{name}") };
                    let message = format!("`{what}` does not fit `{executor}`: {fault}");
                    cx.error(Problem::new("settings", &place.span, message));
                }
            }
        }
    }
}

/// The schema of what stands at a place.
fn part<'s>(schema: &'s Value, pointer: &str) -> &'s Value {
    pointer.split('/').skip(1).fold(schema, |schema, name| &schema["properties"][name])
}

/// `/email/to` as people say it.
fn dotted(pointer: &str) -> String {
    pointer.trim_start_matches('/').replace('/', ".")
}

/// A name with the place where it stands.
fn full(pointer: &str, name: &str) -> String {
    if pointer.is_empty() { name.to_owned() } else { format!("{}.{name}", dotted(pointer)) }
}

/// The settings of a step that waits: no executor carries it out.
fn wait() -> Value {
    serde_json::json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "signal": {
                "type": "string", "pattern": "^[A-Za-z0-9_.-]{1,100}$",
                "description": "The name of the signal that it waits for; what the signal carries becomes its outputs."
            },
            "approval": {
                "type": "string", "minLength": 1,
                "description": "What somebody is to approve; a rejection fails the step with class `rejected`."
            },
            "permission": {
                "enum": ["run", "change", "admin"],
                "description": "What whoever answers must be allowed to do in the namespace; `run`."
            },
        },
    })
}

fn key_span(node: &Node, name: &str) -> Option<std::ops::Range<usize>> {
    let Kind::Map(entries) = &node.kind else { return None };
    entries.iter().find(|(Key { text, .. }, _)| text == name).map(|(key, _)| key.span.clone())
}

/// Whether there is an expression in it: its value is not known yet.
fn has_template(node: &Node) -> bool {
    match &node.kind {
        Kind::Text(text) => text.contains("${{"),
        Kind::List(items) => items.iter().any(has_template),
        Kind::Map(entries) => entries.iter().any(|(_, n)| has_template(n)),
        _ => false,
    }
}

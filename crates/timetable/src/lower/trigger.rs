//! What starts a task besides the clock: `on.run`, `on.silence`, `on.webhook`, `on.file`, and messages of brokers.

use ostler_model::{
    Name, RunState, Span,
    definition::{EventSource, TriggerDef},
};
use serde_json::{Map, Value};

use super::{
    Context,
    expressions::{Names, Place},
    fields::Fields,
    schedule::{Pending, Terms},
    schemas,
};
use crate::{
    diagnostic::Problem,
    node::{Kind, Node},
};

/// The keys of `on` that are triggers.
pub(crate) const WORDS: [&str; 8] =
    ["run", "silence", "webhook", "file", "redis", "nats", "mqtt", "postgres"];

/// How long a file must have been as it is, when nothing is said.
const SETTLE: Span = Span::from_secs(1);

/// The ends that a trigger may listen to.
const ENDS: [RunState; 5] =
    [RunState::Succeeded, RunState::Failed, RunState::TimedOut, RunState::Cancelled, RunState::Skipped];

/// The triggers under one key of `on`.
pub(crate) fn triggers<'n>(
    cx: &Context<'_>,
    word: &'static str,
    node: &'n Node,
    terms: &Terms<'_>,
) -> Vec<(TriggerDef, Pending<'n>)> {
    let items = cx.items(node);
    let items = items.into_iter().enumerate();
    items.filter_map(|(i, item)| trigger(cx, word, item, i, terms)).collect()
}

fn trigger<'n>(
    cx: &Context<'_>,
    word: &'static str,
    node: &'n Node,
    index: usize,
    terms: &Terms<'_>,
) -> Option<(TriggerDef, Pending<'n>)> {
    let mut id = Name::from_any(&format!("{word}{}", index + 1));
    // A bare text is the task or the path.
    if let Kind::Text(text) = &node.kind {
        let source = match word {
            "run" => EventSource::Run { task: task_name(cx, node, text)?, states: vec![RunState::Succeeded] },
            "file" => EventSource::File { path: path(cx, node, text)?, settle: SETTLE, existing: false },
            _ => {
                cx.wrong_type(node, &format!("on.{word}"), "a map");
                return None;
            }
        };
        let later = Pending { starter: id.clone(), span: node.span.clone(), preset: None };
        return Some((plain(id, source), later));
    }
    let mut fields = Fields::of(cx, node, &format!("on.{word}"), "a trigger")?;
    if let Some(given) = fields.take(cx, &["id"]).and_then(|n| cx.name(n, "id")) {
        id = given;
    }
    let source = source(cx, word, &mut fields);
    let names = Names::default();
    let condition = fields.take(cx, &["if"]).and_then(|n| names.condition_at(cx, n, Place::Event));
    let preset = fields.take(cx, &["preset"]).and_then(|n| Some((cx.name(n, "preset")?, n)));
    let inputs = match fields.take(cx, &["inputs"]) {
        None => Map::new(),
        Some(n) => {
            names.check(cx, n, Place::Event);
            schemas::check_templates(cx, n, terms.inputs, &format!("task `{}`", terms.task));
            match n.to_json() {
                Value::Object(map) => map,
                _ => {
                    cx.wrong_type(n, "inputs", "a map of names and values");
                    Map::new()
                }
            }
        }
    };
    let debounce = fields.take(cx, &["debounce"]).and_then(|n| cx.positive_span(n, "debounce"));
    let enabled = fields.take(cx, &["enabled"]).and_then(|n| cx.flag(n, "enabled")).unwrap_or(true);
    let span = fields.span.clone();
    fields.finish(cx);
    let later = Pending { starter: id.clone(), span, preset: preset.clone() };
    let preset = preset.map(|(name, _)| name);
    Some((TriggerDef { id, source: source?, condition, preset, inputs, debounce, enabled }, later))
}

fn plain(id: Name, source: EventSource) -> TriggerDef {
    TriggerDef {
        id,
        source,
        condition: None,
        preset: None,
        inputs: Map::new(),
        debounce: None,
        enabled: true,
    }
}

fn source(cx: &Context<'_>, word: &str, fields: &mut Fields<'_>) -> Option<EventSource> {
    let span = fields.span.clone();
    let missing = |key: &str, help: &str| {
        let message = format!("the trigger `on.{word}` needs `{key}`");
        cx.error(Problem::new("missing-key", &span, message).help(help));
    };
    match word {
        "run" | "silence" => {
            let task = fields.take(cx, &["task"]);
            let states = fields.take(cx, &["state", "states", "outcome"]);
            let states = states.map_or_else(|| vec![RunState::Succeeded], |n| ends(cx, n));
            let after = fields.take(cx, &["after"]);
            let Some(task) = task else {
                missing("task", "write `task: other` or `task: namespace:other`");
                return None;
            };
            let task = cx.text(task, "task").and_then(|text| task_name(cx, task, &text))?;
            match (word, after) {
                ("run", None) => Some(EventSource::Run { task, states }),
                ("run", Some(node)) => {
                    let message = "`on.run` starts at once; `after` belongs to `on.silence`";
                    cx.error(Problem::new("unknown-key", &node.span, message).help("take it out"));
                    None
                }
                (_, None) => {
                    missing("after", "write how long is too long: `after: 25h`");
                    None
                }
                (_, Some(node)) => {
                    Some(EventSource::Silence { task, states, after: cx.positive_span(node, "after")? })
                }
            }
        }
        "webhook" => {
            let unsigned = fields.take(cx, &["unsigned"]).and_then(|n| cx.flag(n, "unsigned"));
            let secret = fields.take(cx, &["secret"]);
            match (secret, unsigned) {
                (Some(node), None | Some(false)) => {
                    Some(EventSource::Webhook { secret: Some(secret_name(cx, node)?) })
                }
                (Some(node), Some(true)) => {
                    let message = "a webhook has a `secret` or is `unsigned`, not both";
                    cx.error(Problem::new("wrong-value", &node.span, message).help("keep one of them"));
                    None
                }
                (None, Some(true)) => Some(EventSource::Webhook { secret: None }),
                (None, _) => {
                    let help = "write `secret: ${{ secrets.NAME }}`; or `unsigned: true`, when whoever reaches the \
                                address may start the task";
                    missing("secret", help);
                    None
                }
            }
        }
        "redis" | "nats" | "mqtt" | "postgres" => {
            super::message::source(cx, word, fields).map(EventSource::Message)
        }
        _ => {
            let given = fields.take(cx, &["path"]);
            let settle = fields.take(cx, &["settle"]).and_then(|n| cx.span(n, "settle")).unwrap_or(SETTLE);
            let existing =
                fields.take(cx, &["existing"]).and_then(|n| cx.flag(n, "existing")).unwrap_or_default();
            let Some(node) = given else {
                missing("path", "write `path: in/*.csv`");
                return None;
            };
            let path = cx.text(node, "path").and_then(|text| path(cx, node, &text))?;
            Some(EventSource::File { path, settle, existing })
        }
    }
}

fn ends(cx: &Context<'_>, node: &Node) -> Vec<RunState> {
    let words: Vec<(&str, RunState)> = ENDS.into_iter().map(|s| (s.word(), s)).collect();
    if node.scalar() == Some("any") {
        return ENDS.to_vec();
    }
    let items = cx.items(node);
    if items.is_empty() {
        let problem = Problem::new("wrong-value", &node.span, "`state` names no end");
        cx.error(problem.help("write `state: failed`, a list, or `any`"));
    }
    items.into_iter().filter_map(|n| cx.word(n, "state", &words)).collect()
}

/// `task` or `namespace:task`.
fn task_name(cx: &Context<'_>, node: &Node, text: &str) -> Option<String> {
    for part in text.splitn(2, ':') {
        cx.name_of(part, &node.span, "task")?;
    }
    Some(text.to_owned())
}

/// `${{ secrets.NAME }}`: the name alone is kept.
fn secret_name(cx: &Context<'_>, node: &Node) -> Option<String> {
    let text = cx.text(node, "secret")?;
    let inner = text.trim().strip_prefix("${{").and_then(|t| t.strip_suffix("}}")).map(str::trim);
    let name = inner.and_then(|t| t.strip_prefix("secrets."));
    let is_name = |n: &&str| !n.is_empty() && n.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    match name.filter(is_name) {
        Some(name) => Some(name.to_owned()),
        None => {
            let problem =
                Problem::new("secret", &node.span, "the secret of a webhook is not written in the file");
            cx.error(problem.help("write `secret: ${{ secrets.NAME }}`"));
            None
        }
    }
}

fn path(cx: &Context<'_>, node: &Node, text: &str) -> Option<String> {
    if let Err(error) = glob::Pattern::new(text) {
        let problem = Problem::new("path", &node.span, format!("`path`: `{text}` does not read: {error}"));
        cx.error(problem.help("`*` and `?` are wild within a name, `**` across folders"));
        return None;
    }
    super::parts::stays_inside(cx, node, "path", text, true).then(|| text.to_owned())
}

//! Policies: the map, and its parts where people write them directly.

use ostler_model::definition::{Lost, Policy, Priority};

use super::{
    Context,
    expressions::{Names, Place},
    fields::Fields,
    retry,
};
use crate::{diagnostic::Problem, node::Node};

/// Takes `policy` and the parts of a policy out of a map.
pub(crate) fn take(cx: &Context<'_>, fields: &mut Fields<'_>, names: &Names<'_>) -> Policy {
    let given = fields.take(cx, &["policy"]).map(|node| whole(cx, node, names)).unwrap_or_default();
    parts(cx, fields, names).over(&given)
}

/// A policy as a map of its own.
pub(crate) fn whole(cx: &Context<'_>, node: &Node, names: &Names<'_>) -> Policy {
    let Some(mut fields) = Fields::of(cx, node, "policy", "`policy`") else { return Policy::default() };
    let policy = parts(cx, &mut fields, names);
    fields.finish(cx);
    policy
}

fn parts(cx: &Context<'_>, fields: &mut Fields<'_>, names: &Names<'_>) -> Policy {
    let priorities = [
        ("critical", Priority::Critical),
        ("high", Priority::High),
        ("normal", Priority::Normal),
        ("low", Priority::Low),
    ];
    let lost = [("rerun", Lost::Rerun), ("fail", Lost::Fail)];
    Policy {
        retry: fields.take(cx, &["retry"]).and_then(|n| retry::retry(cx, n)),
        timeout: fields.take(cx, &["timeout"]).and_then(|n| retry::timeouts(cx, n)).unwrap_or_default(),
        deadline: fields.take(cx, &["deadline"]).and_then(|n| cx.positive_span(n, "deadline")),
        grace: fields.take(cx, &["grace"]).and_then(|n| cx.span(n, "grace")),
        priority: fields.take(cx, &["priority"]).and_then(|n| cx.word(n, "priority", &priorities)),
        concurrency: fields.take(cx, &["concurrency"]).and_then(|n| {
            let concurrency = retry::concurrency(cx, n)?;
            key(cx, n, concurrency.key.as_deref(), names);
            Some(concurrency)
        }),
        rate_limit: fields.take(cx, &["rate_limit"]).and_then(|n| {
            let limit = retry::rate_limit(cx, n)?;
            key(cx, n, limit.key.as_deref(), names);
            Some(limit)
        }),
        unique: fields.take(cx, &["unique"]).and_then(|n| {
            let unique = cx.text(n, "unique")?;
            key(cx, n, Some(&unique), names);
            Some(unique)
        }),
        idempotent: fields.take(cx, &["idempotent"]).and_then(|n| cx.flag(n, "idempotent")),
        lost: fields.take(cx, &["lost"]).and_then(|n| cx.word(n, "lost", &lost)),
    }
}

/// A key is a template over the inputs.
fn key(cx: &Context<'_>, node: &Node, key: Option<&str>, names: &Names<'_>) {
    let node = node.get("key").or_else(|| node.get("group")).unwrap_or(node);
    if key.is_some_and(str::is_empty) {
        let message = "a key is a text with something in it";
        cx.error(
            Problem::new("wrong-value", &node.span, message).help("leave it out for the id of the task"),
        );
    }
    if key.is_some() {
        names.check(cx, node, Place::Key);
    }
}

//! `retry`, `timeout` and the other parts of a policy that have short forms.

use ostler_model::{
    Span,
    definition::{Backoff, Concurrency, OnConflict, RateLimit, Retry, Timeouts},
};

use super::{Context, fields::Fields};
use crate::{
    diagnostic::{Problem, nearest},
    node::{Kind, Node},
};

/// Classes of errors that executors and the engine give; others (`busy`, by an exit code) are a task's own.
const CLASSES: [&str; 18] = [
    "timeout",
    "exit",
    "signal",
    "spawn",
    "lost",
    "http",
    "connect",
    "tls",
    "io",
    "sql",
    "notify",
    "python",
    "container",
    "input",
    "output",
    "settings",
    "expression",
    "internal",
];

/// `3`, or a map.
pub(crate) fn retry(cx: &Context<'_>, node: &Node) -> Option<Retry> {
    let mut retry = Retry {
        attempts: 1,
        backoff: Backoff::default(),
        initial: Span::from_secs(1),
        max: Span::from_secs(300),
        jitter: false,
        on: Vec::new(),
    };
    if matches!(node.kind, Kind::Number(..)) {
        retry.attempts = cx.count32(node, "retry", 1)?;
        return Some(retry);
    }
    if let Kind::Bool(false, _) = node.kind {
        return Some(retry);
    }
    if !matches!(node.kind, Kind::Map(_)) {
        cx.wrong_type(node, "retry", "a number of attempts or a map");
        return None;
    }
    let mut fields = Fields::of(cx, node, "retry", "`retry`")?;
    match fields.take(cx, &["attempts", "max_attempts"]) {
        Some(n) => retry.attempts = cx.count32(n, "retry.attempts", 1).unwrap_or(1),
        None => cx.error(
            Problem::new("missing-key", &fields.span, "`retry` does not say how many attempts there are")
                .help("write `attempts: 3`; the first one counts"),
        ),
    }
    if let Some(n) = fields.take(cx, &["backoff"]) {
        let words =
            [("exponential", Backoff::Exponential), ("linear", Backoff::Linear), ("fixed", Backoff::Fixed)];
        retry.backoff = cx.word(n, "retry.backoff", &words).unwrap_or_default();
    }
    if let Some(n) = fields.take(cx, &["initial", "delay", "interval"]) {
        retry.initial = cx.span(n, "retry.initial").unwrap_or_default();
    }
    let longest = fields.take(cx, &["max", "max_delay", "max_interval"]);
    match longest {
        Some(n) => retry.max = cx.span(n, "retry.max").unwrap_or(retry.initial),
        // `initial: 10m` alone means ten minutes, not the default's five.
        None => retry.max = retry.max.max(retry.initial),
    }
    if let Some(n) = fields.take(cx, &["jitter"]) {
        retry.jitter = cx.flag(n, "retry.jitter").unwrap_or_default();
    }
    if let Some(n) = fields.take(cx, &["on"]) {
        for item in cx.items(n) {
            if let Some(class) = cx.text(item, "retry.on") {
                check_class(cx, item, "retry.on", &class);
                retry.on.push(class);
            }
        }
    }
    if let (Some(n), true) = (longest, retry.max < retry.initial) {
        let message =
            format!("`retry.max` of {} is shorter than `retry.initial` of {}", retry.max, retry.initial);
        cx.error(Problem::new("wrong-value", &n.span, message).help("make it longer, or leave it out"));
    }
    fields.finish(cx);
    Some(retry)
}

/// A pattern of error classes: what looks like a misspelt well-known one is told, and may still be a task's own.
pub(crate) fn check_class(cx: &Context<'_>, node: &Node, what: &str, class: &str) {
    let head = class.split([':', '.']).next().unwrap_or_default();
    let is_range = class.len() == 3 && class.ends_with("xx") && class.as_bytes()[0].is_ascii_digit();
    if class == "*" || is_range || CLASSES.contains(&head) || class != head {
        return;
    }
    if let Some(near) = nearest(head, CLASSES) {
        let message = format!("`{what}`: `{class}` is no class of errors that Ostler gives itself");
        cx.warn(Problem::new("wrong-value", &node.span, message).help(format!("did you mean `{near}`?")));
    }
}

/// `30s` for one attempt, or a map.
pub(crate) fn timeouts(cx: &Context<'_>, node: &Node) -> Option<Timeouts> {
    if !matches!(node.kind, Kind::Map(_)) {
        return Some(Timeouts { attempt: Some(cx.positive_span(node, "timeout")?), ..Timeouts::default() });
    }
    let mut fields = Fields::of(cx, node, "timeout", "`timeout`")?;
    let timeouts = Timeouts {
        queue: fields.take(cx, &["queue"]).and_then(|n| cx.positive_span(n, "timeout.queue")),
        attempt: fields.take(cx, &["attempt"]).and_then(|n| cx.positive_span(n, "timeout.attempt")),
        total: fields.take(cx, &["total"]).and_then(|n| cx.positive_span(n, "timeout.total")),
    };
    fields.finish(cx);
    Some(timeouts)
}

/// A key, a limit, or a map.
pub(crate) fn concurrency(cx: &Context<'_>, node: &Node) -> Option<Concurrency> {
    let mut concurrency = Concurrency { key: None, limit: 1, on_conflict: OnConflict::Queue };
    match &node.kind {
        Kind::Text(key) => concurrency.key = Some(key.clone()),
        Kind::Number(..) => concurrency.limit = cx.count32(node, "concurrency", 1)?,
        Kind::Map(_) => {
            let mut fields = Fields::of(cx, node, "concurrency", "`concurrency`")?;
            if let Some(n) = fields.take(cx, &["key", "group"]) {
                concurrency.key = cx.text(n, "concurrency.key");
            }
            if let Some(n) = fields.take(cx, &["limit"]) {
                concurrency.limit = cx.count32(n, "concurrency.limit", 1).unwrap_or(1);
            }
            if let Some(n) = fields.take(cx, &["cancel_in_progress"])
                && cx.flag(n, "concurrency.cancel_in_progress") == Some(true)
            {
                concurrency.on_conflict = OnConflict::CancelRunning;
            }
            if let Some(n) = fields.take(cx, &["on_conflict"]) {
                let words = [
                    ("queue", OnConflict::Queue),
                    ("skip", OnConflict::Skip),
                    ("cancel_running", OnConflict::CancelRunning),
                ];
                concurrency.on_conflict = cx.word(n, "concurrency.on_conflict", &words).unwrap_or_default();
            }
            fields.finish(cx);
        }
        _ => {
            cx.wrong_type(node, "concurrency", "a key, a limit or a map");
            return None;
        }
    }
    Some(concurrency)
}

/// `10/1m`, or a map.
pub(crate) fn rate_limit(cx: &Context<'_>, node: &Node) -> Option<RateLimit> {
    if let Some(text) = node.as_text() {
        let parts = text.split_once('/').and_then(|(n, per)| {
            let n: u32 = n.trim().parse().ok().filter(|n| *n > 0)?;
            let per = per.trim();
            let per: Span = per.parse().or_else(|_| format!("1{per}").parse()).ok()?;
            (!per.is_zero()).then_some((n, per))
        });
        let Some((limit, per)) = parts else {
            let message = format!("`rate_limit`: `{text}` is not a rate");
            cx.error(
                Problem::new("wrong-value", &node.span, message)
                    .help("write `10/1m`, or a map with `limit` and `per`"),
            );
            return None;
        };
        return Some(RateLimit { key: None, limit, per, burst: None });
    }
    let mut fields = Fields::of(cx, node, "rate_limit", "`rate_limit`")?;
    let key = fields.take(cx, &["key"]).and_then(|n| cx.text(n, "rate_limit.key"));
    let limit = fields.take(cx, &["limit"]);
    let per = fields.take(cx, &["per"]);
    let burst = fields.take(cx, &["burst"]).and_then(|n| cx.count32(n, "rate_limit.burst", 1));
    for (name, value) in [("limit", limit), ("per", per)] {
        if value.is_none() {
            let message = format!("`rate_limit` has no `{name}`");
            cx.error(
                Problem::new("missing-key", &fields.span, message)
                    .help("write `rate_limit: { limit: 10, per: 1m }`"),
            );
        }
    }
    let limit = limit.and_then(|n| cx.count32(n, "rate_limit.limit", 1));
    let per = per.and_then(|n| cx.positive_span(n, "rate_limit.per"));
    fields.finish(cx);
    Some(RateLimit { key, limit: limit?, per: per?, burst })
}

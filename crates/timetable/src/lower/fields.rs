//! A map being read: who asks for a key names it, and what nobody asked for is an error with a suggestion.

use std::ops::Range;

use super::Context;
use crate::{
    diagnostic::{Problem, nearest},
    node::{Key, Kind, Node},
};

/// A map and what was asked of it so far.
pub(crate) struct Fields<'n> {
    pub(crate) span: Range<usize>,
    entries: Vec<(&'n Key, &'n Node, bool)>,
    known: Vec<&'static str>,
    place: &'static str,
}

/// Keys that people bring from elsewhere, and what they are here: (where, or `*`; key; what to write).
const ELSEWHERE: &[(&str, &str, &str)] = &[
    ("*", "timeout_minutes", "write `timeout: 10m`"),
    ("*", "timeout_sec", "write `timeout: 60s`"),
    ("*", "retries", "write `retry: 3` (attempts in all), or a map with `attempts`"),
    ("*", "retry_policy", "write `retry: { attempts: 3, initial: 5s }`"),
    ("*", "command", "write `run: …` for a shell line"),
    ("*", "cmd", "write `run: …` for a shell line"),
    ("*", "script", "write `run: …` for a shell line"),
    ("*", "image", "write `uses: container` and `with: { image: … }`"),
    ("*", "labels", "write `runs_on: gpu` for what a node must have"),
    ("a file", "jobs", "tasks stand in a list under `tasks`"),
    ("a file", "steps", "steps belong to a task: `tasks: [{ meta: { id: … }, steps: […] }]`"),
    ("a file", "on", "schedules belong to a task: `tasks: [{ meta: { id: … }, on: …, run: … }]`"),
    ("a file", "namespace", "it belongs under `meta`"),
    ("a file", "timezone", "it belongs under `meta`"),
    ("a file", "version", "it belongs under `meta`"),
    ("a file", "type", "it belongs under `meta`"),
    ("a file", "policy", "it belongs under `defaults`"),
    ("a task", "cron", "write `on: { schedule: [{ cron: \"…\" }] }`"),
    ("a task", "every", "write `on: { schedule: [{ every: … }] }`"),
    ("a task", "schedule", "it belongs under `on`: `on: { schedule: […] }`"),
    ("a task", "schedules", "write `on: { schedule: […] }`"),
    ("a task", "needs", "`needs` is for steps; one task after another is one task with several steps"),
    ("`on`", "cron", "write `schedule: [{ cron: \"…\" }]`"),
    ("`on`", "every", "write `schedule: [{ every: … }]`"),
    ("`on`", "workflow_dispatch", "every task can be started by hand; its inputs stand under `inputs`"),
    ("a schedule", "catchup", "write `missed: all`, `latest` or `skip`"),
    ("a schedule", "interval", "write `every: …`"),
    ("a schedule", "at_reboot", "write `reboot: true`"),
    ("a step", "policy", "a step has `retry`, `timeout` and `idempotent` directly"),
    ("a step", "on_success", "it belongs to the task"),
    ("a step", "on_failure", "it belongs to the task; or a step with `if: failure()`"),
    ("a step", "url", "settings of the executor belong under `with`"),
    ("a step", "params", "settings of the executor belong under `with`"),
    ("a step", "file", "settings of the executor belong under `with`"),
    ("a step", "entrypoint", "settings of the executor belong under `with`"),
];

fn plain(key: &str) -> String {
    key.replace('-', "_")
}

impl<'n> Fields<'n> {
    /// The entries of a map; anything else is put on record: `what` is a map, not this.
    pub(crate) fn of(cx: &Context<'_>, node: &'n Node, what: &str, place: &'static str) -> Option<Self> {
        match &node.kind {
            Kind::Map(entries) => Some(Self {
                span: node.span.clone(),
                entries: entries.iter().map(|(k, v)| (k, v, false)).collect(),
                known: Vec::new(),
                place,
            }),
            _ => {
                cx.wrong_type(node, what, "a map");
                None
            }
        }
    }

    /// The value of a key, under any of its names; `-` and `_` are the same. Null counts as not given.
    pub(crate) fn take(&mut self, cx: &Context<'_>, names: &[&'static str]) -> Option<&'n Node> {
        self.take_entry(cx, names).map(|(_, node)| node).filter(|node| node.kind != Kind::Null)
    }

    /// The key and the value, null included.
    pub(crate) fn take_entry(
        &mut self,
        cx: &Context<'_>,
        names: &[&'static str],
    ) -> Option<(&'n Key, &'n Node)> {
        self.known.extend(names.first());
        let mut found: Option<(&Key, &Node)> = None;
        for (key, node, used) in &mut self.entries {
            if *used || !names.contains(&plain(&key.text).as_str()) {
                continue;
            }
            *used = true;
            match found {
                None => found = Some((*key, *node)),
                Some((first, _)) => {
                    let message = format!("`{}` and `{}` are the same key", first.text, key.text);
                    cx.error(Problem::new("duplicate-key", &key.span, message).help("keep one of them"));
                }
            }
        }
        found
    }

    /// Whether a key is there, without taking it.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|(key, ..)| plain(&key.text) == name)
    }

    /// The entries that are left, taken.
    pub(crate) fn rest(&mut self) -> Vec<(&'n Key, &'n Node)> {
        self.entries
            .iter_mut()
            .filter(|(_, _, used)| !*used)
            .map(|(key, node, used)| {
                *used = true;
                (*key, *node)
            })
            .collect()
    }

    /// Puts every key that nobody asked for on record.
    pub(crate) fn finish(self, cx: &Context<'_>) {
        for (key, node, used) in &self.entries {
            if *used || key.text.starts_with("x-") {
                continue;
            }
            let problem = Problem::new(
                "unknown-key",
                &key.span,
                format!("`{}` is not a key of {}", key.text, self.place),
            );
            // `{ name: one, two }`: the comma ended the text.
            let is_torn = node.kind == Kind::Null && key.text.contains(' ');
            cx.error(problem.help(if is_torn {
                "a text with a comma in it stands in quotes inside of `{ }`".to_owned()
            } else {
                self.hint(&key.text)
            }));
        }
    }

    fn hint(&self, key: &str) -> String {
        let word = plain(&key.to_lowercase());
        let elsewhere = ELSEWHERE
            .iter()
            .find(|(place, known, _)| *known == word && (*place == self.place || *place == "*"));
        if let Some((_, _, hint)) = elsewhere {
            return (*hint).to_owned();
        }
        match nearest(key, self.known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => {
                let mut known = self.known.clone();
                known.sort_unstable();
                known.dedup();
                format!("its keys are {}", known.join(", "))
            }
        }
    }
}

//! What a step does: its executor, its code, its settings, and the older spellings of them.

use std::path::Path;

use super::{Context, EXECUTOR_ALIASES, parts::stays_inside, step::Draft};
use crate::{
    diagnostic::{Problem, suggest},
    node::{Key, Kind, Node},
};

/// Gives a setting unless it is given.
pub(crate) fn set(with: &mut Option<Node>, key: &str, value: &Node, span: &std::ops::Range<usize>) {
    let node = with.get_or_insert_with(|| Node::new(Kind::Map(Vec::new()), span.clone()));
    if let Kind::Map(entries) = &mut node.kind
        && !entries.iter().any(|(k, _)| k.text == key)
    {
        entries.push((Key { text: key.to_owned(), span: value.span.clone() }, value.clone()));
    }
}

/// `python-entrypoint` with `run: pkg.mod:func`, `python-file` with `run: file.py` or `file.py:func`.
pub(crate) fn supertask(
    cx: &Context<'_>,
    uses: &str,
    run: Option<&Node>,
    mut with: Option<Node>,
    span: &std::ops::Range<usize>,
) -> Option<Node> {
    let Some(node) = run else {
        let example = if uses == "python-file" { "file.py:run" } else { "package.module:function" };
        cx.error(
            Problem::new("missing-key", span, format!("`{uses}` has no `run`"))
                .help(format!("write `run: \"{example}\"`")),
        );
        return with;
    };
    let text = cx.text(node, "run")?;
    let value = |text: &str| Node::new(Kind::Text(text.to_owned()), node.span.clone());
    if uses == "python-entrypoint" {
        if !text.contains(':') {
            let message = format!("`run`: `{text}` names no function");
            cx.error(
                Problem::new("wrong-value", &node.span, message).help("write `package.module:function`"),
            );
        }
        set(&mut with, "entrypoint", &value(&text), span);
        return with;
    }
    let (file, function) = match text.rsplit_once(':') {
        Some((file, function)) => (file, Some(function)),
        None => (text.as_str(), None),
    };
    set(&mut with, "file", &value(file), span);
    if let Some(function) = function.filter(|f| *f != "run") {
        set(&mut with, "function", &value(function), span);
    }
    with
}

/// The executor is one that there is.
pub(crate) fn check_executor(cx: &Context<'_>, draft: &Draft<'_>) {
    if draft.uses.is_empty() || !cx.settings.are_known() || cx.settings.has(&draft.uses) {
        return;
    }
    let alias = match draft.uses.as_str() {
        "bash" | "sh" | "command" | "cmd" | "script" => Some("write `run: …`, or `uses: shell`"),
        "python3" | "py" => Some("write `uses: python`"),
        "sqlite" | "postgres" | "postgresql" => Some("write `uses: sql`"),
        "https" | "rest" | "curl" => Some("write `uses: http`"),
        "docker" | "podman" => Some("write `uses: container`"),
        other if other.contains("actions/") || other.contains('@') => {
            Some("actions are not run here; write what it does as `run: …`")
        }
        _ => None,
    };
    let known = cx.settings.names().chain(EXECUTOR_ALIASES.iter().map(|(alias, _)| *alias));
    let problem =
        Problem::new("executor", &draft.uses_span, format!("there is no executor `{}`", draft.uses));
    cx.error(problem.help(alias.map_or_else(|| suggest(&draft.uses, known, ""), str::to_owned)));
}

/// `with: { run: … }` is the step's `run` for executors that have no such setting.
pub(crate) fn lift_run(cx: &Context<'_>, draft: &mut Draft<'_>) -> Option<Node> {
    let lifts = matches!(draft.uses.as_str(), "sql" | "shell" | "python" | "container")
        && !cx.settings.takes(&draft.uses, "run");
    if let (true, Some(Kind::Map(entries))) = (lifts, draft.with.as_mut().map(|w| &mut w.kind))
        && let Some(at) = entries.iter().position(|(key, _)| key.text == "run")
    {
        let (key, node) = entries.remove(at);
        if draft.run.is_none() {
            return Some(node);
        }
        let message = "`run` stands at the step and in its `with`";
        cx.error(Problem::new("duplicate-key", &key.span, message).help("keep one of them"));
    }
    draft.run.cloned()
}

/// A step that waits says for what, and not by an expression: who answers must find it in the definition.
pub(crate) fn check_wait(cx: &Context<'_>, draft: &Draft<'_>) {
    if draft.uses != "wait" {
        return;
    }
    let get = |key: &str| draft.with.as_ref().and_then(|w| w.get(key));
    let problem = match (get("signal"), get("approval")) {
        (Some(node), None) if node.as_text().is_some_and(|t| t.contains("${{")) => {
            Problem::new("settings", &node.span, "the name of a signal is a constant")
                .help("write `signal: paid`")
        }
        (Some(_), None) | (None, Some(_)) => return,
        (Some(node), Some(_)) => {
            Problem::new("settings", &node.span, "a step waits for a `signal` or an `approval`, not both")
                .help("make it two steps")
        }
        (None, None) => Problem::new("settings", &draft.uses_span, "`wait` does not say for what")
            .help("write `with: { signal: paid }` or `with: { approval: \"Deploy?\" }`"),
    };
    cx.error(problem);
}

/// What the executor needs to have something to do is there.
pub(crate) fn check_code(cx: &Context<'_>, draft: &Draft<'_>, run: Option<&str>) {
    let has = |key: &str| draft.with.as_ref().is_some_and(|w| w.get(key).is_some());
    let missing = |message: &str, help: &str| {
        cx.error(Problem::new("missing-key", &draft.uses_span, message).help(help));
    };
    let is_blank = run.is_some_and(|r| r.trim().is_empty());
    match draft.uses.as_str() {
        _ if is_blank => {
            let span = draft.run.map_or_else(|| draft.uses_span.clone(), |n| n.span.clone());
            cx.error(Problem::new("wrong-value", &span, "`run` is empty").help("write what is to be done"));
        }
        "shell" if run.is_none() && draft.run.is_none() => {
            missing("`shell` has nothing to run", "write `run: echo hello`")
        }
        "sql" if run.is_none() && draft.run.is_none() && !has("statements") => {
            missing("`sql` has no statements", "write `run: select 1`");
        }
        "exec" if draft.run.is_some() => {
            let span = draft.run.map_or_else(|| draft.uses_span.clone(), |n| n.span.clone());
            let problem = Problem::new("settings", &span, "`exec` runs a program, not a line");
            cx.error(problem.help("write `args: [program, argument]`, or leave out `uses: exec`"));
        }
        "exec" if draft.args.is_none() && !has("argv") => {
            missing("`exec` has no program", "write `args: [program, argument]`");
        }
        "python" if run.is_none() && draft.run.is_none() && !has("entrypoint") && !has("file") => {
            missing(
                "`python` has nothing to run",
                "write `run: …` with code, or `with: { file: name.py }`, or `with: { entrypoint: \"module:function\" }`",
            );
        }
        "container" if draft.run.is_some() && (has("entrypoint") || has("command")) => {
            let span = draft.run.map_or_else(|| draft.uses_span.clone(), |n| n.span.clone());
            let problem = Problem::new("settings", &span, "`run` does not go with `entrypoint` or `command`");
            cx.error(problem.help("keep `run`, or write the program and its arguments under `with`"));
        }
        "http" if run.is_some() => {
            missing("`http` runs no code", "its settings stand under `with`: `with: { url: … }`");
        }
        "notify" if run.is_some() => {
            missing("`notify` runs no code", "a command stands under `with`: `with: { command: [program] }`");
        }
        "notify"
            if draft.with.is_some()
                && !["webhook", "email", "command", "mqtt", "nats", "redis"]
                    .iter()
                    .any(|channel| has(channel)) =>
        {
            missing(
                "`notify` names no channel",
                "write `webhook: https://…`, `email: { server: …, from: …, to: … }`, `command: [program]`, `mqtt: …`, `nats: …` or `redis: …` under `with`",
            );
        }
        _ => {}
    }
}

/// The Python file of a step: inside of its working directory, and there.
pub(crate) fn check_file(cx: &Context<'_>, with: Option<&Node>, working_directory: Option<&Node>) {
    let Some(node) = with.and_then(|w| w.get("file")) else { return };
    let Some(path) = node.as_text().filter(|p| !p.contains("${{")) else { return };
    if !stays_inside(cx, node, "file", path, false) {
        return;
    }
    let within = working_directory.and_then(Node::scalar).unwrap_or(".");
    let Some(folder) = cx.folder.filter(|_| !within.contains("${{")).map(|f| f.join(within)) else { return };
    if folder.join(path).is_file() {
        return;
    }
    let file = Path::new(path);
    let mut beside: Vec<String> = folder
        .join(file.parent().unwrap_or(file))
        .read_dir()
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".py"))
        .collect();
    beside.sort();
    let name = file.file_name().and_then(|n| n.to_str()).unwrap_or(path);
    let message = match within {
        "." => format!("there is no file `{path}` beside this one"),
        within => format!("there is no file `{path}` in the working directory `{within}`"),
    };
    let help = suggest(name, beside.iter().map(String::as_str), "there is no Python file at all");
    cx.error(Problem::new("file", &node.span, message).help(help));
}

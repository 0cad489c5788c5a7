//! The steps of Dagu files.

use std::collections::BTreeMap;

use ostler_model::Span;
use ostler_timetable::{Tree, TreeKind};
use serde_json::{Value, json};

use crate::{
    File, ImportError,
    command::{is_variable, words},
    dagu::span,
    document::{Entries, Ids, Notes, literal, put, script},
    fields::{Fields, entries, items, number, text, texts},
    job::{self, Step},
};

/// Variables whose values are known when the file is read.
#[derive(Clone, Default)]
pub(crate) struct Variables(Vec<(String, String)>);

impl Variables {
    /// Gives one a value, as it stands in the definition file.
    pub(crate) fn set(&mut self, name: &str, value: String) {
        self.0.retain(|(known, _)| known != name);
        self.0.push((name.to_owned(), value));
    }

    /// Names and values.
    pub(crate) fn known(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// A map of names and values, a list of such maps, or a list of `NAME=value`.
    pub(crate) fn read(&mut self, value: &Tree, notes: &mut Notes) -> Entries {
        let mut env = Entries::new();
        let mut add = |name: &str, value: &str, line: u32, notes: &mut Notes| {
            if !is_variable(name) {
                return notes.add(line, format!("`{name}` is not the name of a variable and is left out"));
            }
            let value = self.expand(value, line, notes);
            self.set(name, value.clone());
            env.insert(name.to_owned(), value.into());
        };
        for item in items(value) {
            if let Some((name, value)) = text(item).and_then(|t| t.split_once('=')) {
                add(name.trim(), value, item.line, notes);
                continue;
            }
            for entry in entries(item) {
                match text(&entry.value).or((entry.value.kind == TreeKind::Null).then_some("")) {
                    Some(text) => add(&entry.key, text, entry.line, notes),
                    None => notes.add(entry.line, format!("`{}` is not a text and is left out", entry.key)),
                }
            }
        }
        env
    }

    /// A value in which the variables known so far are written out, since Ostler's `env` looks up no other variables.
    pub(crate) fn expand(&self, text: &str, line: u32, notes: &mut Notes) -> String {
        let escaped = literal(text);
        let mut out = String::new();
        let mut rest = escaped.as_str();
        let mut is_open = escaped.contains('`');
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            let braced = after.strip_prefix('{').and_then(|a| a.split_once('}'));
            let end = after.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(after.len());
            let (name, tail) = braced.unwrap_or((&after[..end], &after[end..]));
            match self.0.iter().find(|(known, _)| known == name) {
                Some((_, value)) => {
                    out.push_str(value);
                    rest = tail;
                }
                None => {
                    is_open |= is_variable(name);
                    out.push('$');
                    rest = after;
                }
            }
        }
        out.push_str(rest);
        if is_open {
            notes.add(line, format!("`{text}` is worked out by Dagu; here it is a text"));
        }
        out
    }
}

/// A number of seconds, noted when it is none.
pub(crate) fn seconds(value: &Tree, key: &str, notes: &mut Notes) -> Option<Span> {
    let found = text(value).and_then(|t| t.trim().parse().ok()).and_then(span);
    if found.is_none() && number(value) != Some(0) {
        notes.add(value.line, format!("`{key}` is not a number of seconds here and is left out"));
    }
    found
}

/// Reads steps.
pub(crate) struct Reader<'a> {
    pub(crate) file: &'a File,
    pub(crate) variables: Variables,
    /// The inputs that are `$1` and so on.
    pub(crate) positional: Vec<String>,
    pub(crate) notes: &'a mut Notes,
}

impl Reader<'_> {
    /// The steps of a file: a list, in which lists are steps side by side, or a map by names.
    pub(crate) fn steps(&mut self, value: &Tree, chain: bool) -> Result<Vec<Value>, ImportError> {
        let mut groups: Vec<Vec<(Option<&str>, &Tree)>> = Vec::new();
        match &value.kind {
            TreeKind::Map(map) => groups.extend(map.iter().map(|e| vec![(Some(e.key.as_str()), &e.value)])),
            _ => {
                for item in items(value) {
                    groups.push(match &item.kind {
                        TreeKind::List(side) => side.iter().map(|s| (None, s)).collect(),
                        _ => vec![(None, item)],
                    });
                }
            }
        }
        let mut ids = Ids::default();
        let mut by_name: BTreeMap<String, String> = BTreeMap::new();
        let mut drafts = Vec::new();
        for (group, members) in groups.into_iter().enumerate() {
            for (key, tree) in members {
                let mut fields = Fields::of(tree);
                let name = fields.text("name", self.notes).or(key);
                let id = fields.text("id", self.notes);
                let own = ids.take(id.or(name).unwrap_or(&format!("step{}", drafts.len() + 1)), "step");
                for known in [name, id].into_iter().flatten() {
                    by_name.entry(known.to_owned()).or_insert_with(|| own.clone());
                }
                drafts.push((group, own, name, tree, fields));
            }
        }
        let has_needs = drafts.iter().any(|(.., tree, _)| Fields::of(tree).value("depends").is_some());
        let mut members: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for (group, id, ..) in &drafts {
            members.entry(*group).or_default().push(id.clone());
        }
        let mut steps = Vec::new();
        for (group, id, name, tree, mut fields) in drafts {
            let mut needs = Vec::new();
            if let Some(value) = fields.value("depends") {
                for need in texts(value).into_iter().filter(|n| !n.is_empty()) {
                    let words = || format!("there is no step `{need}` to depend on");
                    let own = by_name
                        .get(need)
                        .ok_or_else(|| ImportError::at(&self.file.name, value.line, words()))?;
                    needs.push(own.clone());
                }
            } else if chain && !has_needs && group > 0 {
                needs = members.get(&(group - 1)).cloned().unwrap_or_default();
            }
            let of = format!(" of step `{id}`");
            let mut body = self.work(tree, fields, &of)?;
            if let Some(body) = body.as_mut()
                && let Some(name) = name.filter(|n| *n != id && !body.contains_key("name"))
            {
                put(body, "name", name);
            }
            steps.push(Step { id, needs, body });
        }
        job::list(steps).map_err(|id| {
            ImportError::at(
                &self.file.name,
                value.line,
                format!("the step `{id}` depends on itself by way of others"),
            )
        })
    }

    /// A handler: what it does, without a place among steps.
    pub(crate) fn handler(&mut self, tree: &Tree) -> Result<Option<Entries>, ImportError> {
        let mut fields = Fields::of(tree);
        fields.ignore(&["name", "id", "depends"]);
        self.work(tree, fields, " of a handler")
    }

    /// What a step does; `None` when it cannot be carried over.
    fn work(
        &mut self,
        tree: &Tree,
        mut fields: Fields<'_>,
        of: &str,
    ) -> Result<Option<Entries>, ImportError> {
        let mut body = Entries::new();
        if let Some(command) = text(tree) {
            // A step may be its command alone.
            let done = !command.trim().is_empty();
            self.run(&mut body, command);
            return Ok(done.then_some(body));
        }
        let executor = fields.take("executor").or_else(|| fields.take("type")).map(|e| &e.value);
        let kind = executor.and_then(|e| text(e).or_else(|| Fields::of(e).value("type").and_then(text)));
        if let Some(kind) = kind.filter(|k| !matches!(*k, "" | "command" | "shell")) {
            let words =
                format!("the executor `{kind}`{of} is not one of Ostler's shells: the step is left out");
            self.notes.add(executor.map_or(tree.line, |e| e.line), words);
            return Ok(None);
        }
        for key in ["call", "run", "parallel"] {
            if let Some(entry) = fields.take(key) {
                self.notes.add(entry.line, format!("`{key}`{of} runs another DAG: the step is left out"));
                return Ok(None);
            }
        }
        if let Some(entry) = fields.take("preconditions").or_else(|| fields.take("precondition")) {
            let words = format!(
                "`preconditions`{of} are not carried over: the step is switched off (`if: false`) until they stand in it"
            );
            self.notes.add(entry.line, words);
            put(&mut body, "if", false);
        }
        if let Some(value) = fields.value("env") {
            let mut variables = self.variables.clone();
            put(&mut body, "env", variables.read(value, self.notes));
        }
        let dir = fields.value("dir").or_else(|| fields.value("workingDir"));
        if let Some(value) = dir {
            let path = text(value).map(|t| self.variables.expand(t, value.line, self.notes));
            put(&mut body, "working_directory", path);
        }
        if let Some(value) = fields.value("continueOn") {
            self.continue_on(&mut body, value, of);
        }
        if let Some(value) = fields.value("retryPolicy") {
            put(&mut body, "retry", self.retry(value, of));
        }
        if let Some(span) = fields.value("timeoutSec").and_then(|v| seconds(v, "timeoutSec", self.notes)) {
            put(&mut body, "timeout", span.to_string());
        }
        if let Some(entry) = fields.take("output") {
            let words = format!(
                "`output`{of} is not carried over: write `echo \"name=value\" >> \"$OSTLER_OUTPUT\"` and hand it on as `${{{{ steps.ID.outputs.name }}}}`"
            );
            self.notes.add(entry.line, words);
        }
        let shell = fields.text("shell", self.notes);
        let code = fields.value("script").and_then(text).filter(|t| !t.trim().is_empty());
        let command = fields.value("command").or_else(|| fields.value("exec"));
        let args: Vec<&str> = fields.value("args").map(texts).unwrap_or_default();
        let line = command.map_or(tree.line, |c| c.line);
        put(&mut body, "name", fields.text("description", self.notes).unwrap_or_default());
        fields.rest(of, self.notes);
        let listed: Vec<&str> = command.map(texts).unwrap_or_default();
        match (code, listed.as_slice()) {
            (Some(code), []) => {
                put(&mut body, "shell", shell.map(literal));
                self.run(&mut body, code);
            }
            (Some(code), interpreter) => {
                let words: Vec<String> = interpreter.iter().flat_map(|w| words(w)).collect();
                let Some(shell) = interpreted(&words) else {
                    let what = interpreter.join(" ");
                    self.notes.add(
                        line,
                        format!("`{what}` does not take code as an argument: the script{of} is left out"),
                    );
                    return Ok(None);
                };
                put(&mut body, "with", json!({ "shell": shell }));
                self.run(&mut body, code);
            }
            (None, []) => {
                self.notes.add(line, format!("there is no command{of}: the step is left out"));
                return Ok(None);
            }
            // Several lines are several commands, several words are one.
            (None, lines) if lines.len() > 1 && lines[0].trim().contains(char::is_whitespace) => {
                put(&mut body, "shell", shell.map(literal));
                self.run(&mut body, &lines.join("\n"));
            }
            (None, parts) => {
                let parts: Vec<&str> = parts.iter().copied().chain(args).collect();
                let is_program = parts.len() > 1 && !parts.iter().any(|p| p.contains(['$', '`']));
                if is_program
                    && shell.is_none()
                    && !parts[0].trim().contains(char::is_whitespace)
                    && !parts[0].is_empty()
                {
                    put(&mut body, "uses", "exec");
                    body.insert("args".into(), parts.iter().map(|p| Value::String(literal(p))).collect());
                } else {
                    put(&mut body, "shell", shell.map(literal));
                    let command: Vec<String> = parts
                        .iter()
                        .enumerate()
                        // Variables are filled in within double quotes too.
                        .map(|(i, p)| {
                            if i == 0 || !p.contains([' ', '\'', '"']) {
                                (*p).to_owned()
                            } else {
                                format!("\"{}\"", p.replace('"', "\\\""))
                            }
                        })
                        .collect();
                    self.run(&mut body, &command.join(" "));
                }
            }
        }
        Ok(body.contains_key("run").then_some(()).or(body.contains_key("args").then_some(())).map(|()| body))
    }

    /// A script of a shell, with the parameters that have no names.
    fn run(&mut self, body: &mut Entries, code: &str) {
        if code.trim().is_empty() {
            return;
        }
        let args: Vec<String> = self.positional.iter().map(|p| format!("${{{{ inputs.{p} }}}}")).collect();
        put(body, "args", args);
        put(body, "run", script(&literal(code)));
    }

    fn continue_on(&mut self, body: &mut Entries, value: &Tree, of: &str) {
        let mut fields = Fields::of(value);
        let by_word = texts(value).iter().any(|w| matches!(*w, "failed" | "failure"));
        let failure = fields.value("failure").or_else(|| fields.value("failed"));
        if by_word
            || failure.is_some_and(|v| v.kind == TreeKind::Bool(true, text(v).unwrap_or_default().to_owned()))
        {
            put(body, "continue-on-error", true);
        }
        // A step that was skipped stops nothing in Ostler.
        fields.ignore(&["skipped"]);
        fields.rest(&format!(" of `continueOn`{of}"), self.notes);
    }

    fn retry(&mut self, value: &Tree, of: &str) -> Entries {
        let mut fields = Fields::of(value);
        let mut retry = Entries::new();
        let limit = fields.value("limit");
        match limit.and_then(number) {
            Some(limit @ 1..=1_000_000) => put(&mut retry, "attempts", limit + 1),
            Some(i64::MIN..=0) => {}
            _ => self
                .notes
                .add(value.line, format!("the limit of `retryPolicy`{of} is not a number; it is left out")),
        }
        let is_growing =
            fields.value("backoff").is_some_and(|v| !matches!(text(v), Some("false" | "0" | "1")));
        put(&mut retry, "backoff", if is_growing { "exponential" } else { "fixed" });
        if let Some(value) = fields.value("intervalSec") {
            let span = seconds(value, "intervalSec", self.notes);
            put(&mut retry, "initial", span.map_or_else(|| "0s".to_owned(), |s| s.to_string()));
        }
        if let Some(longest) = fields.value("maxIntervalSec") {
            let first = retry
                .get("initial")
                .and_then(Value::as_str)
                .and_then(|t| t.parse().ok())
                .unwrap_or(Span::from_secs(1));
            if let Some(span) = seconds(longest, "maxIntervalSec", self.notes).filter(|s| *s >= first) {
                put(&mut retry, "max", span.to_string());
            }
        }
        if let Some(codes) = fields.value("exitCode") {
            let codes: Vec<String> =
                items(codes).into_iter().filter_map(number).map(|n| format!("exit:{n}")).collect();
            put(&mut retry, "on", codes);
        }
        fields.rest(&format!(" of `retryPolicy`{of}"), self.notes);
        if retry.contains_key("attempts") { retry } else { Entries::new() }
    }
}

/// How an interpreter is given code as its last argument.
fn interpreted(words: &[String]) -> Option<Vec<String>> {
    let base = words.first()?.rsplit('/').next().unwrap_or_default();
    let flag = match base {
        "sh" | "bash" | "dash" | "ash" | "zsh" | "ksh" | "fish" => "-c",
        "perl" | "ruby" | "node" => "-e",
        "php" => "-r",
        _ if base.starts_with("python") => "-c",
        _ => return None,
    };
    Some(words.iter().map(|w| literal(w)).chain([flag.to_owned()]).collect())
}

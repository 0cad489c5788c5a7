//! The jobs of GitHub workflows and their steps.

use std::collections::{BTreeMap, BTreeSet};

use ostler_timetable::{Tree, TreeEntry, TreeKind};
use serde_json::{Value, json};

use crate::{
    File, ImportError,
    dagu::span,
    document::{Entries, Ids, Notes, is_field, literal, put, script},
    expressions::Scope,
    fields::{Fields, entries, items, json, text, texts},
    github::variables,
    job::{self, Step},
};

/// Conditions that mean the same in Ostler.
const CONDITIONS: &[&str] = &[
    "always()",
    "failure()",
    "cancelled()",
    "!cancelled()",
    "!failure()",
    "success() || failure()",
    "failure() || cancelled()",
    "always() && !cancelled()",
];

/// The most combinations that a matrix of Ostler's has.
const COMBINATIONS: usize = 1_000;

/// Reads the jobs of a workflow.
pub(crate) struct Jobs<'a> {
    pub(crate) file: &'a File,
    /// What expressions at the level of the workflow can be about.
    pub(crate) scope: Scope<'a>,
    pub(crate) notes: &'a mut Notes,
}

/// What a job gives to each of its steps.
struct Level<'t> {
    /// Other jobs come before it.
    follows: bool,
    condition: Option<Value>,
    matrix: Option<Value>,
    shell: Option<&'t str>,
    directory: Option<(&'t str, u32)>,
    env: Entries,
    timeout: Option<f64>,
    goes_on: bool,
}

impl Jobs<'_> {
    /// The steps of all jobs.
    pub(crate) fn steps(mut self, jobs: &Tree, defaults: Option<&Tree>) -> Result<Vec<Value>, ImportError> {
        let all = entries(jobs);
        let mut ids = Ids::default();
        let mut steps: Vec<Step> = Vec::new();
        let mut last: BTreeMap<&str, String> = BTreeMap::new();
        let mut pending: Vec<(&TreeEntry, usize, Vec<&str>)> = Vec::new();
        for entry in all {
            let fields = Fields::of(&entry.value);
            let needs = Fields::of(&entry.value).value("needs").map(texts).unwrap_or_default();
            let begin = steps.len();
            self.job(entry, fields, defaults, &mut ids, &mut steps, all.len() == 1);
            if steps.len() == begin {
                // A job of which nothing is left still stands between those before and after it.
                steps.push(Step {
                    id: ids.take(&format!("{}-job", entry.key), "job"),
                    needs: Vec::new(),
                    body: None,
                });
            }
            last.insert(&entry.key, steps.last().map(|s| s.id.clone()).unwrap_or_default());
            pending.push((entry, begin, needs));
        }
        for (entry, begin, needs) in pending {
            for need in needs {
                let words = || format!("there is no job `{need}` that `{}` could need", entry.key);
                let id =
                    last.get(need).ok_or_else(|| ImportError::at(&self.file.name, entry.line, words()))?;
                steps[begin].needs.push(id.clone());
            }
        }
        job::list(steps).map_err(|id| {
            ImportError::at(
                &self.file.name,
                jobs.line,
                format!("the job of step `{id}` needs itself by way of others"),
            )
        })
    }

    fn job<'t>(
        &mut self,
        entry: &'t TreeEntry,
        mut fields: Fields<'t>,
        defaults: Option<&'t Tree>,
        ids: &mut Ids,
        steps: &mut Vec<Step>,
        is_only: bool,
    ) {
        let of = format!(" of job `{}`", entry.key);
        fields.ignore(&["name", "permissions", "outputs"]);
        self.runner(&mut fields, &of);
        if let Some(uses) = fields.take("uses") {
            self.notes.add(uses.line, format!("`uses`{of} runs another workflow: the job is left out"));
            return;
        }
        for key in ["container", "services", "environment", "concurrency"] {
            if let Some(entry) = fields.take(key) {
                self.notes.add(entry.line, format!("`{key}`{of} is not carried over"));
            }
        }
        let mut scope = self.scope.clone();
        let matrix = fields.value("strategy").and_then(|s| self.matrix(s, &mut scope, &of));
        let env = fields.value("env").map(|v| variables(v, &scope, self.notes)).unwrap_or_default();
        scope.env.extend(env.clone());
        let own = fields.value("defaults");
        let default = |key: &str| {
            [own, defaults].into_iter().flatten().find_map(|d| {
                let run = Fields::of(d).value("run")?;
                let value = Fields::of(run).value(key)?;
                Some((text(value)?, value.line))
            })
        };
        let list = fields.value("steps").map(items).unwrap_or_default();
        let working = list.iter().filter(|step| Fields::of(step).value("run").is_some()).count();
        let condition = fields.take("if").and_then(|e| self.condition(&e.value, &of));
        if working > 1 && condition.as_ref().is_some_and(|c| c != &json!(false)) {
            self.notes.add(entry.line, format!("the condition{of} is that of each of its steps here"));
        }
        let timeout = fields.value("timeout-minutes").and_then(|v| self.minutes(v, &of));
        if timeout.is_some() && working > 1 {
            self.notes.add(
                entry.line,
                format!("the timeout{of} bounds each of its steps here, not all of them together"),
            );
        }
        if matrix.is_some() && working > 1 {
            self.notes.add(
                entry.line,
                format!("each step{of} is done for all combinations before the next one begins"),
            );
        }
        let level = Level {
            follows: fields.value("needs").is_some(),
            condition,
            matrix,
            shell: default("shell").map(|(shell, _)| shell),
            directory: default("working-directory"),
            env,
            timeout,
            goes_on: self.flag(fields.take("continue-on-error"), &of),
        };
        fields.ignore(&["needs", "steps"]);
        fields.rest(&of, self.notes);
        let mut before: Option<String> = None;
        for (i, tree) in list.iter().enumerate() {
            let mut fields = Fields::of(tree);
            let own = fields.text("id", self.notes);
            let name = fields.text("name", self.notes).map(|n| scope.value(n, tree.line, self.notes));
            let short = own
                .map(str::to_owned)
                .or_else(|| name.as_deref().map(slug))
                .unwrap_or_else(|| format!("step{}", i + 1));
            let id = ids.take(&if is_only { short } else { format!("{}-{short}", entry.key) }, "step");
            let body = self.step(tree, fields, &level, &scope, name.as_deref().unwrap_or(&id));
            if let Some(own) = own.filter(|_| body.is_some() && level.matrix.is_none() && is_field(&id)) {
                scope.steps.insert(own.to_owned(), id.clone());
            }
            let body = body.map(|mut body| {
                put(&mut body, "name", name.filter(|n| *n != id).map(|n| n.replace("$${{", "${{")));
                body
            });
            steps.push(Step { id: id.clone(), needs: before.into_iter().collect(), body });
            before = Some(id);
        }
    }

    fn runner(&mut self, fields: &mut Fields<'_>, of: &str) {
        let Some(value) = fields.value("runs-on") else { return };
        let is_plain = |t: &&str| {
            t.starts_with("ubuntu") || matches!(*t, "self-hosted" | "linux" | "Linux" | "X64" | "x64")
        };
        if texts(value).iter().any(|t| !is_plain(t)) || !entries(value).is_empty() {
            let what = texts(value).join(", ");
            self.notes
                .add(value.line, format!("`runs-on: {what}`{of}: Ostler runs it on the node that takes it"));
        }
    }

    /// A condition; `None` when it is what holds anyway.
    fn condition(&mut self, value: &Tree, of: &str) -> Option<Value> {
        let written = text(value)?.trim();
        let inner = written.strip_prefix("${{").and_then(|w| w.strip_suffix("}}")).unwrap_or(written).trim();
        match inner {
            "success()" | "true" | "" => None,
            "false" => Some(false.into()),
            known if CONDITIONS.contains(&known) => Some(known.into()),
            _ => {
                let words = format!(
                    "`if: {written}`{of} is not carried over: it is switched off (`if: false`) until its condition stands in it"
                );
                self.notes.add(value.line, words);
                Some(false.into())
            }
        }
    }

    fn minutes(&mut self, value: &Tree, of: &str) -> Option<f64> {
        let minutes = text(value).and_then(|t| t.trim().parse::<f64>().ok()).filter(|m| *m > 0.0);
        if minutes.is_none() {
            self.notes.add(value.line, format!("`timeout-minutes`{of} is not a number here and is left out"));
        }
        minutes
    }

    fn flag(&mut self, entry: Option<&TreeEntry>, of: &str) -> bool {
        let Some(entry) = entry else { return false };
        match &entry.value.kind {
            TreeKind::Bool(value, _) => *value,
            _ => {
                self.notes.add(
                    entry.line,
                    format!("`{}`{of} is not `true` or `false` here and is left out", entry.key),
                );
                false
            }
        }
    }

    /// A matrix of constants.
    fn matrix(&mut self, strategy: &Tree, scope: &mut Scope<'_>, of: &str) -> Option<Value> {
        let mut fields = Fields::of(strategy);
        let matrix = fields.value("matrix")?;
        let mut names: BTreeSet<String> = BTreeSet::new();
        let mut combinations = 1usize;
        let mut is_simple = !entries(matrix).is_empty();
        for entry in entries(matrix) {
            let values = if let TreeKind::List(values) = &entry.value.kind { values.as_slice() } else { &[] };
            let is_list = matches!(entry.key.as_str(), "include" | "exclude");
            is_simple &= !values.is_empty() && !json(&entry.value).to_string().contains("${{");
            if is_list {
                is_simple = false;
            } else {
                names.insert(entry.key.clone());
                combinations = combinations.saturating_mul(values.len());
            }
        }
        if !is_simple || combinations > COMBINATIONS {
            let words = format!(
                "the matrix{of} is not made of lists of constants alone: its steps are done once, without it"
            );
            self.notes.add(matrix.line, words);
            return None;
        }
        let mut value = json!({ "matrix": json(matrix) });
        if let Some(most @ 1..=1_000_000) = fields.value("max-parallel").and_then(crate::fields::number) {
            value["max-parallel"] = most.into();
        }
        if let Some(fail_fast) =
            fields.value("fail-fast").filter(|f| matches!(f.kind, TreeKind::Bool(false, _)))
        {
            value["fail-fast"] = json(fail_fast);
        }
        scope.matrix = names;
        Some(value)
    }

    /// What a step does; `None` when it cannot be carried over.
    fn step(
        &mut self,
        tree: &Tree,
        mut fields: Fields<'_>,
        level: &Level<'_>,
        scope: &Scope<'_>,
        name: &str,
    ) -> Option<Entries> {
        let of = format!(" of step `{name}`");
        if let Some(uses) = fields.take("uses") {
            let action = text(&uses.value).unwrap_or_default();
            let words = match action.split('@').next() {
                Some("actions/checkout") => "`actions/checkout` is left out: Ostler works in the folder of the file, or where `working_directory` says".to_owned(),
                _ => format!("the action `{action}` is left out: write what it does as `run`"),
            };
            self.notes.add(uses.line, words);
            return None;
        }
        let Some(code) = fields.value("run").and_then(text).filter(|t| !t.trim().is_empty()) else {
            self.notes.add(tree.line, format!("there is no `run`{of}: it is left out"));
            return None;
        };
        let mut scope = scope.clone();
        let mut env = level.env.clone();
        let own = fields.value("env").map(|v| variables(v, &scope, self.notes)).unwrap_or_default();
        scope.env.extend(own.clone());
        env.extend(own);
        let (code, variables) = scope.code(code, tree.line, self.notes);
        env.extend(variables);
        let mut body = Entries::new();
        put(
            &mut body,
            "if",
            fields.take("if").map_or_else(|| level.condition.clone(), |e| self.own_condition(e, level, &of)),
        );
        put(&mut body, "strategy", level.matrix.clone());
        put(&mut body, "env", env);
        let line = tree.line;
        let directory =
            fields.value("working-directory").and_then(|v| Some((text(v)?, v.line))).or(level.directory);
        let directory = directory.map(|(path, line)| scope.value(path, line, self.notes));
        // A secret may not be part of what others can see.
        if directory.as_ref().is_some_and(|d| d.contains("secrets.")) {
            self.notes.add(line, format!("the working directory{of} holds a secret and is left out"));
        } else {
            put(&mut body, "working_directory", directory);
        }
        if self.flag(fields.take("continue-on-error"), &of) || level.goes_on {
            put(&mut body, "continue-on-error", true);
        }
        let own = fields.value("timeout-minutes").and_then(|v| self.minutes(v, &of));
        let minutes = [own, level.timeout].into_iter().flatten().reduce(f64::min);
        put(&mut body, "timeout", minutes.and_then(|m| span(m * 60.0)).map(|s| s.to_string()));
        match fields.text("shell", self.notes).or(level.shell) {
            None => {}
            Some("bash") => put(
                &mut body,
                "with",
                json!({ "shell": ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c"] }),
            ),
            Some("sh") => put(&mut body, "shell", "sh"),
            Some("python") => put(&mut body, "with", json!({ "shell": ["python3", "-c"] })),
            Some("pwsh") => put(&mut body, "with", json!({ "shell": ["pwsh", "-Command"] })),
            Some(other) => {
                self.notes.add(
                    line,
                    format!("`shell: {}`{of} is not carried over: the step is left out", literal(other)),
                );
                return None;
            }
        }
        fields.rest(&of, self.notes);
        put(&mut body, "run", script(&self.code(code, line, &of)));
        Some(body)
    }

    /// A step's own condition, in a job that may have one.
    fn own_condition(&mut self, entry: &TreeEntry, level: &Level<'_>, of: &str) -> Option<Value> {
        let own = self.condition(&entry.value, of);
        if level.follows && own.as_ref().and_then(Value::as_str).is_some() {
            let words = format!(
                "the condition{of} looks at the jobs before it too: it may hold where GitHub would not have begun the job"
            );
            self.notes.add(entry.line, words);
        }
        match &level.condition {
            Some(Value::Bool(false)) => level.condition.clone(),
            _ => own,
        }
    }

    /// GitHub's files for what a step tells are Ostler's by other names; other variables of GitHub are not there.
    fn code(&mut self, code: String, line: u32, of: &str) -> String {
        let code = code.replace("GITHUB_OUTPUT", "OSTLER_OUTPUT");
        for word in code.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')) {
            if word.starts_with("GITHUB_") || word.starts_with("RUNNER_") {
                self.notes.add(line, format!("`{word}` is not set by Ostler; the code{of} names it"));
            }
        }
        code
    }
}

/// A name of several words as an id.
fn slug(name: &str) -> String {
    let words = name.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|w| !w.is_empty());
    words.map(str::to_lowercase).collect::<Vec<_>>().join("-")
}

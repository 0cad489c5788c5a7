//! `${{ }}` of GitHub workflows in Ostler's terms, as far as both know the same things.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    document::{Entries, Notes, is_field, literal},
    inputs::Inputs,
};

/// What an expression at some place of a workflow can be about.
#[derive(Clone)]
pub(crate) struct Scope<'a> {
    pub(crate) workflow: &'a str,
    pub(crate) inputs: &'a Inputs,
    /// The values of the job's matrix.
    pub(crate) matrix: BTreeSet<String>,
    /// Steps before this one, by their ids in the workflow, with their ids in the task.
    pub(crate) steps: BTreeMap<String, String>,
    /// Variables of the levels above, as they stand in the task.
    pub(crate) env: Entries,
}

/// An expression in Ostler's terms.
enum Meaning {
    /// An expression of Ostler's, and a variable that can hand it to code.
    Expression(String, String),
    /// A combination's value: it may stand in code as it is.
    Matrix(String),
    /// A variable of the step.
    Variable(String),
    Text(String),
}

impl Scope<'_> {
    /// A text that may hold expressions: what Ostler does not know stays as text, with a note.
    pub(crate) fn value(&self, text: &str, line: u32, notes: &mut Notes) -> String {
        let mut out = String::new();
        for piece in pieces(text) {
            match piece {
                Piece::Plain(plain) => out.push_str(plain),
                Piece::Open(text) => out.push_str(&literal(text)),
                Piece::Expression(source) => match self.meaning(source, line, notes) {
                    Some(Meaning::Expression(e, _) | Meaning::Matrix(e)) => push(&mut out, &e),
                    Some(Meaning::Text(text)) => out.push_str(&text),
                    Some(Meaning::Variable(name)) => {
                        out.push_str(self.env.get(&name).and_then(|v| v.as_str()).unwrap_or_default());
                    }
                    None => out.push_str(&unknown(source, line, notes)),
                },
            }
        }
        out
    }

    /// Code that may hold expressions: their values come to it as variables, which are given beside it.
    pub(crate) fn code(&self, text: &str, line: u32, notes: &mut Notes) -> (String, Entries) {
        let mut out = String::new();
        let mut variables = Entries::new();
        for piece in pieces(text) {
            match piece {
                Piece::Plain(plain) => out.push_str(plain),
                Piece::Open(text) => out.push_str(&literal(text)),
                Piece::Expression(source) => match self.meaning(source, line, notes) {
                    Some(Meaning::Expression(e, name)) => {
                        out.push_str(&format!("${{{name}}}"));
                        let words = format!(
                            "`{source}` comes to the code as `${name}`, which a shell leaves alone between single quotes"
                        );
                        notes.add(line, words);
                        variables.insert(name, format!("${{{{ {e} }}}}").into());
                    }
                    Some(Meaning::Matrix(e)) => push(&mut out, &e),
                    Some(Meaning::Variable(name)) => out.push_str(&format!("${{{name}}}")),
                    Some(Meaning::Text(text)) => out.push_str(&text),
                    None => out.push_str(&unknown(source, line, notes)),
                },
            }
        }
        (out, variables)
    }

    fn meaning(&self, source: &str, line: u32, notes: &mut Notes) -> Option<Meaning> {
        let path: Vec<&str> = source.split('.').collect();
        if !path.iter().all(|name| is_field(name)) {
            return None;
        }
        match path.as_slice() {
            ["inputs", name] | ["github", "event", "inputs", name] if self.inputs.has(name) => {
                Some(Meaning::Expression(format!("inputs.{name}"), variable("INPUT", &[name])))
            }
            ["secrets", name] if !name.contains('-') => {
                notes.add(line, format!("the secret `{name}` is one of Ostler's own: set it there"));
                Some(Meaning::Expression(source.to_owned(), variable("SECRET", &[name])))
            }
            ["matrix", name] if self.matrix.contains(*name) => Some(Meaning::Matrix(source.to_owned())),
            ["env", name] if self.env.contains_key(*name) => Some(Meaning::Variable((*name).to_owned())),
            ["steps", id, "outputs", name] => {
                let step = self.steps.get(*id)?;
                let expression = format!("steps.{step}.outputs.{name}");
                Some(Meaning::Expression(expression, variable("STEP", &[id, name])))
            }
            ["github", "workflow"] => Some(Meaning::Text(literal(self.workflow))),
            ["github", "run_id"] => Some(Meaning::Expression("run.id".into(), "RUN_ID".into())),
            _ => None,
        }
    }
}

fn variable(kind: &str, names: &[&str]) -> String {
    let words = names.iter().map(|n| n.replace('-', "_").to_ascii_uppercase()).collect::<Vec<_>>().join("_");
    format!("{kind}_{words}")
}

/// An expression that means nothing here, as text.
fn unknown(source: &str, line: u32, notes: &mut Notes) -> String {
    notes.add(line, format!("`{source}` means nothing to Ostler and stands here as text"));
    format!("$${{{{ {} }}}}", literal(source))
}

/// Adds an expression of Ostler's. A `$` in front of it would make it text.
fn push(out: &mut String, expression: &str) {
    if out.ends_with('$') {
        out.pop();
        out.push_str("${{ '$' }}");
    }
    out.push_str(&format!("${{{{ {expression} }}}}"));
}

/// A text between and in `${{ }}`.
enum Piece<'t> {
    Plain(&'t str),
    Expression(&'t str),
    /// From a `${{` that has no end.
    Open(&'t str),
}

fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut all = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${{") {
        all.push(Piece::Plain(before));
        let Some((source, tail)) = after.split_once("}}") else {
            all.push(Piece::Open(&rest[before.len()..]));
            return all;
        };
        all.push(Piece::Expression(source.trim()));
        rest = tail;
    }
    all.push(Piece::Plain(rest));
    all
}

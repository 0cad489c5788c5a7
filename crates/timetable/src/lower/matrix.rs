//! `strategy`: the combinations of a matrix.

use ostler_model::definition::Matrix;
use serde_json::{Map, Value};

use super::{Context, fields::Fields};
use crate::{
    diagnostic::{Problem, suggest},
    node::{Kind, Node},
};

/// The most combinations of one step.
const MOST: usize = 1_000;

/// `strategy: { matrix, max-parallel, fail-fast }`.
pub(crate) fn strategy(cx: &Context<'_>, node: &Node) -> Option<Matrix> {
    let mut fields = Fields::of(cx, node, "strategy", "`strategy`")?;
    let matrix = fields.take(cx, &["matrix"]);
    let max_parallel = fields.take(cx, &["max_parallel"]).and_then(|n| cx.count32(n, "max-parallel", 1));
    let fail_fast = fields.take(cx, &["fail_fast"]).and_then(|n| cx.flag(n, "fail-fast")).unwrap_or(true);
    if matrix.is_none() {
        let message = "`strategy` has no `matrix`";
        cx.error(Problem::new("missing-key", &fields.span, message).help("write `matrix: { name: [a, b] }`"));
    }
    fields.finish(cx);
    let combinations = combinations(cx, matrix?)?;
    Some(Matrix { combinations, max_parallel, fail_fast })
}

type Combination = Map<String, Value>;

fn combinations(cx: &Context<'_>, node: &Node) -> Option<Vec<Combination>> {
    let Kind::Map(entries) = &node.kind else {
        cx.wrong_type(node, "matrix", "a map of names and lists");
        return None;
    };
    constants(cx, node)?;
    let mut all: Vec<Combination> = vec![Map::new()];
    let mut axes = Vec::new();
    for (key, values) in entries.iter().filter(|(k, _)| k.text != "include" && k.text != "exclude") {
        let Kind::List(items) = &values.kind else {
            cx.wrong_type(values, &format!("matrix.{}", key.text), "a list");
            return None;
        };
        if items.is_empty() {
            let message = format!("`matrix.{}` has no values: the step would never run", key.text);
            cx.error(
                Problem::new("matrix", &values.span, message).help("give it values or take the key out"),
            );
            return None;
        }
        if all.len().saturating_mul(items.len()) > MOST {
            let message = format!("the matrix has more than {MOST} combinations");
            cx.error(Problem::new("matrix", &node.span, message));
            return None;
        }
        axes.push(key.text.as_str());
        all = all
            .iter()
            .flat_map(|c| {
                items.iter().map(|item| {
                    let mut c = c.clone();
                    c.insert(key.text.clone(), item.to_json());
                    c
                })
            })
            .collect();
    }
    if axes.is_empty() {
        all.clear();
    }
    for excluded in maps(cx, node, "exclude")? {
        for (key, _) in &excluded.1 {
            if !axes.contains(&key.as_str()) {
                let problem =
                    Problem::new("matrix", &excluded.0.span, format!("the matrix has no `{key}` to exclude"));
                cx.error(problem.help(suggest(key, axes.iter().copied(), "it has no lists")));
            }
        }
        let before = all.len();
        all.retain(|c| !excluded.1.iter().all(|(k, v)| c.get(k) == Some(v)));
        if all.len() == before {
            cx.warn(Problem::new("matrix", &excluded.0.span, "this excludes no combination"));
        }
    }
    include(&mut all, &axes, maps(cx, node, "include")?.into_iter().map(|(_, map)| map).collect());
    if all.is_empty() {
        let message = "the matrix has no combinations: the step would never run";
        cx.error(Problem::new("matrix", &node.span, message));
        return None;
    }
    if all.len() > MOST {
        cx.error(Problem::new("matrix", &node.span, format!("the matrix has more than {MOST} combinations")));
        return None;
    }
    Some(all)
}

/// As GitHub has it: an entry is added to each original combination of which it changes no value; one that fits none
/// is a combination of its own.
fn include(all: &mut Vec<Combination>, axes: &[&str], included: Vec<Combination>) {
    let original = all.len();
    let base: Vec<Combination> = all.clone();
    for more in included {
        let mut fits = false;
        for (i, combination) in all.iter_mut().take(original).enumerate() {
            if more.iter().all(|(k, v)| !axes.contains(&k.as_str()) || base[i].get(k) == Some(v)) {
                combination.extend(more.clone());
                fits = true;
            }
        }
        if !fits {
            all.push(more);
        }
    }
}

fn maps<'n>(cx: &Context<'_>, node: &'n Node, key: &str) -> Option<Vec<(&'n Node, Combination)>> {
    let Some(list) = node.get(key) else { return Some(Vec::new()) };
    let Kind::List(items) = &list.kind else {
        cx.wrong_type(list, &format!("matrix.{key}"), "a list of maps");
        return None;
    };
    let mut maps = Vec::new();
    for item in items {
        match item.to_json() {
            Value::Object(map) if !map.is_empty() => maps.push((item, map)),
            _ => cx.wrong_type(item, &format!("matrix.{key}"), "a map with something in it"),
        }
    }
    Some(maps)
}

/// The combinations are worked out when the file is read, so there is nothing yet that an expression could look up.
fn constants(cx: &Context<'_>, node: &Node) -> Option<()> {
    match &node.kind {
        Kind::Text(text) if text.contains("${{") => {
            let message =
                "a matrix is made of constants: its combinations are worked out when the file is read";
            cx.error(Problem::new("matrix", &node.span, message).help("write the values out"));
            None
        }
        Kind::List(items) => items.iter().try_for_each(|n| constants(cx, n)),
        Kind::Map(entries) => entries.iter().try_for_each(|(_, n)| constants(cx, n)),
        _ => Some(()),
    }
}

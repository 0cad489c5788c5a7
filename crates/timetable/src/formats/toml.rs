//! TOML, by the `toml` crate's own spanned tree.

use std::ops::Range;

use ::toml::{
    Spanned,
    de::{DeTable, DeValue},
};
use serde_json::Number;

use super::DEPTH;
use crate::{
    diagnostic::Problem,
    node::{Key, Kind, Node},
};

/// Reads a text; `at` turns its places into those of the file.
pub(crate) fn read(text: &str, at: &dyn Fn(usize) -> usize, problems: &mut Vec<Problem>) -> Option<Node> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let place = |span: Range<usize>| at(span.start)..at(span.end);
    if !errors.is_empty() {
        // What follows the first errors is often their echo.
        for error in errors.iter().take(5) {
            let span = place(error.span().unwrap_or(0..0));
            let code = if error.message().contains("duplicate") { "duplicate-key" } else { "toml" };
            problems.push(Problem::new(code, &span, error.message().replace('\n', "; ")));
        }
        return None;
    }
    let span = place(table.span());
    let table = table.into_inner();
    if table.is_empty() {
        problems
            .push(Problem::new("empty", &(0..0), "the file is empty").help("a task begins with `[[tasks]]`"));
        return None;
    }
    let before = problems.len();
    let kind = map(table, &place, 0, problems);
    (problems.len() == before).then(|| Node::new(kind, span))
}

type Place<'a> = &'a dyn Fn(Range<usize>) -> Range<usize>;

fn map(table: DeTable<'_>, place: Place<'_>, depth: usize, problems: &mut Vec<Problem>) -> Kind {
    let mut entries: Vec<(Key, Node)> = table
        .into_iter()
        .map(|(key, value)| {
            let span = place(key.span());
            (Key { text: key.into_inner().into_owned(), span }, node(value, place, depth + 1, problems))
        })
        .collect();
    // The table is sorted by key; the file's order is what people see.
    entries.sort_by_key(|(key, _)| key.span.start);
    Kind::Map(entries)
}

fn node(value: Spanned<DeValue<'_>>, place: Place<'_>, depth: usize, problems: &mut Vec<Problem>) -> Node {
    let span = place(value.span());
    if depth > DEPTH {
        problems.push(Problem::new("too-deep", &span, format!("it nests more than {DEPTH} deep here")));
        return Node::new(Kind::Null, span);
    }
    let kind = match value.into_inner() {
        DeValue::String(text) => {
            if text.contains('\0') {
                problems.push(Problem::new("toml", &span, "a text cannot hold the character U+0000"));
            }
            Kind::Text(text.into_owned())
        }
        DeValue::Integer(n) => {
            let digits = n.as_str();
            let number = i64::from_str_radix(digits, n.radix()).map(Number::from).ok();
            let raw = if n.radix() == 10 {
                digits.to_owned()
            } else {
                number.as_ref().map(Number::to_string).unwrap_or_default()
            };
            match number {
                Some(number) => Kind::Number(number, raw.into()),
                None => {
                    let message = format!("`{digits}` does not fit into 64 bits");
                    problems.push(Problem::new("toml", &span, message).help("write it in quotes"));
                    Kind::Null
                }
            }
        }
        DeValue::Float(n) => {
            let raw = n.as_str().to_owned();
            match raw.parse().ok().and_then(Number::from_f64) {
                Some(number) => Kind::Number(number, raw.into()),
                None => {
                    problems.push(Problem::new(
                        "toml",
                        &span,
                        format!("`{raw}` is not a number that JSON has"),
                    ));
                    Kind::Null
                }
            }
        }
        DeValue::Boolean(b) => Kind::Bool(b, b.to_string().into()),
        DeValue::Datetime(moment) => Kind::Text(moment.to_string()),
        DeValue::Array(items) => {
            Kind::List(items.into_iter().map(|item| node(item, place, depth + 1, problems)).collect())
        }
        DeValue::Table(table) => map(table, place, depth, problems),
    };
    Node::new(kind, span)
}

//! Maps of other formats: keys are taken out one by one, and what is left over is noted.

use ostler_timetable::{Tree, TreeEntry, TreeKind};
use serde_json::Value;

use crate::document::Notes;

/// The entries of a map that have not been looked at. Case, `-` and `_` in keys make no difference.
pub(crate) struct Fields<'t> {
    entries: Vec<(String, &'t TreeEntry)>,
}

impl<'t> Fields<'t> {
    /// The entries of a map; none of anything else.
    pub(crate) fn of(tree: &'t Tree) -> Self {
        let entries = match &tree.kind {
            TreeKind::Map(entries) => entries.iter().map(|e| (plain(&e.key), e)).collect(),
            _ => Vec::new(),
        };
        Self { entries }
    }

    /// Takes an entry.
    pub(crate) fn take(&mut self, key: &str) -> Option<&'t TreeEntry> {
        let at = self.entries.iter().position(|(name, _)| *name == plain(key))?;
        Some(self.entries.remove(at).1)
    }

    /// Takes the value of an entry, unless it is null.
    pub(crate) fn value(&mut self, key: &str) -> Option<&'t Tree> {
        self.take(key).map(|e| &e.value).filter(|v| v.kind != TreeKind::Null)
    }

    /// Takes a scalar as it was written; notes what is none.
    pub(crate) fn text(&mut self, key: &str, notes: &mut Notes) -> Option<&'t str> {
        let value = self.value(key)?;
        let text = text(value);
        if text.is_none() {
            notes.add(value.line, format!("`{key}` is not a text here and is left out"));
        }
        text
    }

    /// Takes entries that lose nothing by being left out.
    pub(crate) fn ignore(&mut self, keys: &[&str]) {
        for key in keys {
            self.take(key);
        }
    }

    /// Notes everything that nobody took. `of` says of what, as in ` of step a`.
    pub(crate) fn rest(self, of: &str, notes: &mut Notes) {
        for (_, entry) in self.entries {
            notes.add(entry.line, format!("`{}`{of} is not carried over", entry.key));
        }
    }
}

fn plain(key: &str) -> String {
    key.chars().filter(|c| !matches!(c, '-' | '_')).flat_map(char::to_lowercase).collect()
}

/// A scalar as it was written.
pub(crate) fn text(tree: &Tree) -> Option<&str> {
    match &tree.kind {
        TreeKind::Text(text) | TreeKind::Bool(_, text) | TreeKind::Number(_, text) => Some(text),
        _ => None,
    }
}

/// One scalar or those of a list.
pub(crate) fn texts(tree: &Tree) -> Vec<&str> {
    items(tree).into_iter().filter_map(text).collect()
}

/// The items of a list; anything else but null is its own only item.
pub(crate) fn items(tree: &Tree) -> Vec<&Tree> {
    match &tree.kind {
        TreeKind::List(items) => items.iter().collect(),
        TreeKind::Null => Vec::new(),
        _ => vec![tree],
    }
}

/// The entries of a map.
pub(crate) fn entries(tree: &Tree) -> &[TreeEntry] {
    if let TreeKind::Map(entries) = &tree.kind { entries } else { &[] }
}

/// A whole number.
pub(crate) fn number(tree: &Tree) -> Option<i64> {
    match &tree.kind {
        TreeKind::Number(number, _) => number.as_i64(),
        TreeKind::Text(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// The value without lines.
pub(crate) fn json(tree: &Tree) -> Value {
    match &tree.kind {
        TreeKind::Null => Value::Null,
        TreeKind::Bool(value, _) => Value::Bool(*value),
        TreeKind::Number(value, _) => Value::Number(value.clone()),
        TreeKind::Text(text) => Value::String(text.clone()),
        TreeKind::List(items) => items.iter().map(json).collect(),
        TreeKind::Map(entries) => {
            Value::Object(entries.iter().map(|e| (e.key.clone(), json(&e.value))).collect())
        }
    }
}

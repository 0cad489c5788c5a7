//! YAML of any shape as a tree with lines, for programs that read other formats than Ostler's.

use serde_json::Number;

use crate::{
    Diagnostic, Diagnostics, Format, formats,
    node::{Kind, Node},
    source::Source,
};

/// A value of a YAML file and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Tree {
    /// The value.
    pub kind: TreeKind,
    /// Its line, from 1.
    pub line: u32,
}

/// What a value is. Booleans and numbers keep the text that they were written as.
#[derive(Clone, Debug, PartialEq)]
pub enum TreeKind {
    /// Nothing, or `null`.
    Null,
    /// `true` or `false`.
    Bool(bool, String),
    /// A number.
    Number(Number, String),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Tree>),
    /// A map, in the order written.
    Map(Vec<TreeEntry>),
}

/// An entry of a map.
#[derive(Clone, Debug, PartialEq)]
pub struct TreeEntry {
    /// The key.
    pub key: String,
    /// The line of the key, from 1.
    pub line: u32,
    /// The value.
    pub value: Tree,
}

/// Reads one YAML document of any shape, within the limits of definition files. `name` stands in errors.
///
/// # Errors
/// Everything that is wrong with its form.
pub fn read_yaml(text: &[u8], name: &str) -> Result<Tree, Diagnostics> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let text = std::str::from_utf8(text).map_err(|error| {
        let lines = text[..error.valid_up_to()].iter().filter(|b| **b == b'\n').count();
        let mut found = Diagnostic::of_file(name, "utf-8", "the file is not UTF-8 from here on");
        found.line = u32::try_from(lines + 1).unwrap_or(u32::MAX);
        found.column = 1;
        found.with_help("save it as UTF-8")
    })?;
    let source = Source::new(name, text);
    match formats::read(&source, Format::Yaml) {
        Ok(node) => Ok(tree(&source, node)),
        Err(problems) => {
            Err(Diagnostics { items: problems.into_iter().map(|p| Diagnostic::new(&source, p)).collect() })
        }
    }
}

fn tree(source: &Source, node: Node) -> Tree {
    let line = source.place(node.span.start).0;
    let kind = match node.kind {
        Kind::Null => TreeKind::Null,
        Kind::Bool(value, raw) => TreeKind::Bool(value, raw.into()),
        Kind::Number(value, raw) => TreeKind::Number(value, raw.into()),
        Kind::Text(text) => TreeKind::Text(text),
        Kind::List(items) => TreeKind::List(items.into_iter().map(|item| tree(source, item)).collect()),
        Kind::Map(entries) => TreeKind::Map(
            entries
                .into_iter()
                .map(|(key, value)| TreeEntry {
                    key: key.text,
                    line: source.place(key.span.start).0,
                    value: tree(source, value),
                })
                .collect(),
        ),
    };
    Tree { kind, line }
}

//! From the bytes of each format to one tree of nodes.

mod json;
mod python;
mod toml;
mod yaml;

use std::path::Path;

use crate::{diagnostic::Problem, node::Node, source::Source};

pub(crate) use python::Script;

/// How deep a file may nest; what is written by people nests a dozen.
const DEPTH: usize = 64;

/// The form of a definition file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// YAML 1.2.
    Yaml,
    /// JSON.
    Json,
    /// TOML 1.
    Toml,
    /// A Python script with a `# /// task` block.
    Python,
}

impl Format {
    /// The format of a file by its suffix.
    #[must_use]
    pub fn of_path(path: &Path) -> Option<Self> {
        Some(match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "yaml" | "yml" => Self::Yaml,
            "json" => Self::Json,
            "toml" => Self::Toml,
            "py" => Self::Python,
            _ => return None,
        })
    }

    /// The format of a text without a name: JSON when it begins like it, else YAML.
    #[must_use]
    pub fn sniff(text: &[u8]) -> Self {
        match text.iter().find(|b| !b.is_ascii_whitespace()) {
            Some(b'{' | b'[') => Self::Json,
            _ => Self::Yaml,
        }
    }
}

/// The tree of a file, or everything that is wrong with its form.
pub(crate) fn read(source: &Source, format: Format) -> Result<Node, Vec<Problem>> {
    let mut problems = Vec::new();
    let node = match format {
        Format::Yaml => yaml::read(source, &mut problems),
        Format::Json => json::read(&source.text, &mut problems),
        Format::Toml => toml::read(&source.text, &|at| at, &mut problems),
        // Scripts have a form of their own: see `Script`.
        Format::Python => None,
    };
    match node {
        Some(node) if problems.is_empty() => Ok(node),
        _ => Err(problems),
    }
}

/// A key that stands twice in one map.
pub(crate) fn duplicate(key: &str, span: &std::ops::Range<usize>, first: u32) -> Problem {
    Problem::new("duplicate-key", span, format!("the key `{key}` stands here a second time"))
        .help(format!("the first one is in line {first}; keep one of them"))
}

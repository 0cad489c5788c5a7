//! PEP 723: what a Python file says of itself in its `# /// script` block.

use std::path::{Path, PathBuf};

use ostler_model::TypedError;
use serde::Deserialize;

/// What a file or a step asks for beside the standard library.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    pub(crate) dependencies: Vec<String>,
    /// As in `>=3.10,<4`.
    pub(crate) requires_python: Option<String>,
    /// Folders with wheels.
    pub(crate) find_links: Vec<PathBuf>,
    pub(crate) index_url: Option<String>,
    pub(crate) extra_index_url: Vec<String>,
    pub(crate) no_index: bool,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Block {
    #[serde(default)]
    dependencies: Vec<String>,
    requires_python: Option<String>,
    #[serde(default)]
    tool: Tool,
}

#[derive(Default, Deserialize)]
struct Tool {
    #[serde(default)]
    uv: Uv,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Uv {
    #[serde(default)]
    find_links: Vec<String>,
    index_url: Option<String>,
    #[serde(default)]
    extra_index_url: Vec<String>,
    #[serde(default)]
    no_index: bool,
    #[serde(default)]
    sources: toml::Table,
}

/// Reads the block of a file that lies in `folder`; a file without one needs nothing.
pub(crate) fn needs(code: &str, folder: &Path) -> Result<Needs, TypedError> {
    let Some(text) = block(code) else { return Ok(Needs::default()) };
    let block: Block = toml::from_str(&text).map_err(|error| {
        TypedError::new("settings", format!("the `# /// script` block of the Python code: {error}"))
    })?;
    let uv = block.tool.uv;
    let mut dependencies: Vec<String> =
        block.dependencies.iter().map(|dependency| local(dependency, folder)).collect();
    // `[tool.uv.sources] name = { path = "…" }`, the local form that pip knows as `name @ file://…`.
    for (name, source) in &uv.sources {
        if let Some(path) = source.get("path").and_then(toml::Value::as_str) {
            dependencies.retain(|d| !d.starts_with(name.as_str()));
            dependencies.push(format!("{name} @ file://{}", folder.join(path).display()));
        }
    }
    Ok(Needs {
        dependencies,
        requires_python: block.requires_python,
        find_links: uv.find_links.iter().map(|path| folder.join(path)).collect(),
        index_url: uv.index_url,
        extra_index_url: uv.extra_index_url,
        no_index: uv.no_index,
    })
}

/// The text between `# /// script` and `# ///`, as the specification's expression finds it.
fn block(code: &str) -> Option<String> {
    let mut lines = code.lines().map(str::trim_end).skip_while(|line| *line != "# /// script").skip(1);
    let mut text = String::new();
    let mut ended = None;
    for line in &mut lines {
        if line == "# ///" {
            // The last such line of the comment block ends it.
            ended = Some(text.len());
        }
        match (line.strip_prefix("# "), line) {
            (Some(inner), _) => text.push_str(inner),
            (None, "#") => {}
            _ => break,
        }
        text.push('\n');
    }
    ended.map(|end| text[..end].to_owned())
}

/// `name @ file:wheels/x.whl` and `./x.whl` start at the folder of the file.
fn local(dependency: &str, folder: &Path) -> String {
    if let Some((name, path)) = dependency.split_once("file:")
        && !path.starts_with('/')
    {
        return format!("{name}file://{}", folder.join(path).display());
    }
    if dependency.starts_with("./") || dependency.starts_with("../") {
        return folder.join(dependency).to_string_lossy().into_owned();
    }
    dependency.to_owned()
}

/// Whether a version such as `3.11.7` meets `>=3.10,<4`. Clauses that are not understood are taken as met: the
/// installer will have the last word.
pub(crate) fn meets(version: &str, requires: &str) -> bool {
    let parts = |text: &str| -> Vec<u32> { text.split('.').map_while(|part| part.parse().ok()).collect() };
    let have = parts(version);
    requires.split(',').map(str::trim).filter(|clause| !clause.is_empty()).all(|clause| {
        let digits = clause.find(|c: char| c.is_ascii_digit()).unwrap_or(clause.len());
        let (operator, wanted) = (clause[..digits].trim(), clause[digits..].trim());
        let any_tail = wanted.ends_with(".*");
        let wanted = parts(wanted.trim_end_matches(".*"));
        let padded = |parts: &[u32]| {
            let mut padded = parts.to_vec();
            padded.resize(4, 0);
            padded
        };
        let order = padded(&have).cmp(&padded(&wanted));
        match operator {
            ">=" => order.is_ge(),
            ">" => order.is_gt(),
            "<=" => order.is_le(),
            "<" => order.is_lt(),
            "==" if any_tail => have.starts_with(&wanted),
            "!=" if any_tail => !have.starts_with(&wanted),
            "==" => order.is_eq(),
            "!=" => order.is_ne(),
            "~=" => order.is_ge() && have.starts_with(&wanted[..wanted.len().saturating_sub(1)]),
            _ => true,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_block_is_read_with_paths_from_the_folder_of_the_file() {
        let code = "#!/usr/bin/env python\n# /// script\n# requires-python = \">=3.10\"\n# dependencies = [\n#   \"rich\", \"w @ file:wheels/w.whl\",\n# ]\n#\n# [tool.uv]\n# find-links = [\"wheels\"]\n# no-index = true\n# ///\nimport rich\n";
        let needs = needs(code, Path::new("/srv")).unwrap();
        assert_eq!(needs.dependencies, ["rich", "w @ file:///srv/wheels/w.whl"]);
        assert_eq!(needs.requires_python.unwrap(), ">=3.10");
        assert_eq!(needs.find_links, [Path::new("/srv/wheels")]);
        assert!(needs.no_index);
        assert_eq!(super::needs("print(1)", Path::new("/")).unwrap(), Needs::default());
        assert!(super::needs("# /// script\n# dependencies = 3\n# ///\n", Path::new("/")).is_err());
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        for (version, requires, expected) in [
            ("3.11.7", ">=3.9", true),
            ("3.9.1", ">=3.10", false),
            ("3.11.7", ">=3.10,<3.11", false),
            ("3.11.7", "==3.11.*", true),
            ("3.11.7", "~=3.10", true),
            ("4.0.0", "~=3.10", false),
            ("3.11.7", "!=3.11.7", false),
        ] {
            assert_eq!(meets(version, requires), expected, "{version} {requires}");
        }
    }
}

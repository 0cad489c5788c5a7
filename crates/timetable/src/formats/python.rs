//! Python scripts: the PEP 723 comment blocks in them.

use super::toml;
use crate::{diagnostic::Problem, node::Node, source::Source};

/// The blocks of a script.
pub(crate) struct Script {
    /// The `# /// task` block; `None` when the script has none.
    pub(crate) task: Option<Node>,
    /// Whether there is a function `run` at the module's level.
    pub(crate) has_run: bool,
}

/// One comment block: its TOML, and for the beginning of each line its place in the file.
struct Block {
    name: String,
    text: String,
    lines: Vec<(usize, usize)>,
    start: usize,
}

impl Script {
    /// Reads the blocks of a script.
    pub(crate) fn read(source: &Source) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let blocks = blocks(source, &mut problems);
        let mut task = None;
        for block in &blocks {
            match block.name.as_str() {
                "task" | "script" => {}
                _ => continue,
            }
            if blocks.iter().filter(|b| b.name == block.name).count() > 1 {
                if blocks.iter().rfind(|b| b.name == block.name).is_some_and(|b| b.start == block.start) {
                    let message = format!("there is more than one `# /// {}` block", block.name);
                    problems.push(Problem::new("python", &(block.start..block.start + 5), message));
                }
                continue;
            }
            let at = |offset: usize| {
                let line = block.lines.partition_point(|(start, _)| *start <= offset).max(1) - 1;
                block.lines.get(line).map_or(block.start, |(start, file)| file + (offset - start))
            };
            let node = if block.text.trim().is_empty() {
                Some(Node::new(crate::node::Kind::Map(vec![]), block.start..block.start + 5))
            } else {
                toml::read(&block.text, &at, &mut problems)
            };
            if block.name == "task" {
                task = node;
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let has_run = source.text.lines().any(|line| {
            let rest = line.strip_prefix("async ").unwrap_or(line);
            let assigned = rest.starts_with("run =") || rest.starts_with("run=");
            let imported = (rest.starts_with("from ") || rest.starts_with("import "))
                && rest.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "run");
            assigned
                || imported
                || rest.strip_prefix("def ").is_some_and(|r| {
                    r.trim_start().starts_with("run(") || r.trim_start().starts_with("run (")
                })
        });
        Ok(Self { task, has_run })
    }
}

/// The blocks, as PEP 723 describes them: `# /// name`, lines that are `#` or begin with `# `, and the last `# ///`
/// among them.
fn blocks(source: &Source, problems: &mut Vec<Problem>) -> Vec<Block> {
    let mut lines = Vec::new();
    let mut at = 0;
    for line in source.text.split_inclusive('\n') {
        lines.push((at, line.trim_end_matches(['\n', '\r'])));
        at += line.len();
    }
    let mut found = Vec::new();
    let mut i = 0;
    while i < lines.len() {
        let (start, line) = lines[i];
        let name = line
            .strip_prefix("# /// ")
            .map(str::trim_end)
            .filter(|n| !n.is_empty() && n.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'));
        let Some(name) = name else {
            i += 1;
            continue;
        };
        let mut end = i + 1;
        while end < lines.len() && (lines[end].1 == "#" || lines[end].1.starts_with("# ")) {
            end += 1;
        }
        // Two blocks without a line between them are one for PEP 723; what was meant is two.
        let next = (i + 1..end).find(|n| lines[*n].1.trim_end() == "# ///");
        let last = (i + 1..end).rfind(|n| lines[*n].1.trim_end() == "# ///");
        let Some(close) = last else {
            problems.push(
                Problem::new(
                    "python",
                    &(start..start + line.len()),
                    format!("the block `{name}` has no end"),
                )
                .help("it ends with a line `# ///`"),
            );
            i = end;
            continue;
        };
        if let Some(next) = next
            && next != close
            && (next + 1..close).any(|n| lines[n].1.starts_with("# /// "))
        {
            let (at, line) = lines[next];
            problems.push(
                Problem::new(
                    "python",
                    &(at..at + line.len()),
                    "two blocks follow one another and become one",
                )
                .help("put a line `##` or an empty line between them"),
            );
            i = end;
            continue;
        }
        let mut block = Block { name: name.to_owned(), text: String::new(), lines: Vec::new(), start };
        for (at, line) in &lines[i + 1..close] {
            let content = line.strip_prefix("# ").unwrap_or("");
            block.lines.push((block.text.len(), at + (line.len() - content.len())));
            block.text.push_str(content);
            block.text.push('\n');
        }
        found.push(block);
        i = close + 1;
    }
    found
}

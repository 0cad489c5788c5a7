//! Python scripts with a `# /// task` block: one task, whose step is the script's `run(**options)`.

use std::path::Path;

use ostler_model::definition::Timetable;

use super::{Context, file};
use crate::{
    diagnostic::{Problem, nearest},
    formats::Script,
    node::{Key, Kind, Node},
};

/// The zone in which supertask reads its cron expressions.
pub(crate) const SUPERTASK_ZONE: &str = "Europe/Vienna";

/// Keys of the block that say when.
const WHEN: [&str; 7] = ["cron", "every", "at", "rrule", "calendar", "once", "reboot"];

/// Keys of tasks that look like one of those.
const TASK_KEYS_NEAR_WHEN: [&str; 3] = ["on", "env", "retry"];

/// Lowers a script: writes the file that its block stands for, and lowers that.
pub(crate) fn lower_script(
    cx: &Context<'_>,
    script: &Script,
    name: &str,
    origin: &file::Origin,
) -> Option<Timetable> {
    let Some(block) = &script.task else {
        let problem = Problem::new("python", &(0..0), "the script has no `# /// task` block");
        cx.error(problem.help("write `# /// task`, `# cron = \"0 7 * * *\"`, `# ///` at its top"));
        return None;
    };
    let Kind::Map(entries) = &block.kind else { return None };
    let span = block.span.clone();
    let new_key = |text: &str| Key { text: text.to_owned(), span: span.clone() };
    let text = |text: &str| Node::new(Kind::Text(text.to_owned()), span.clone());
    let map = |entries: Vec<(Key, Node)>| Node::new(Kind::Map(entries), span.clone());

    let mut is_ostler = false;
    let (mut task, mut meta, mut when) = (Vec::new(), Vec::new(), Vec::new());
    let mut kwargs = None;
    for (key, node) in entries {
        let entry = (key.clone(), node.clone());
        match key.text.as_str() {
            "type" => {
                let words = [("ostler", true), ("supertask", false)];
                is_ostler = cx.word(node, "type", &words).unwrap_or_default();
            }
            "options" => kwargs = Some(entry.1),
            // These are the file's, and there is one task in it.
            "namespace" => meta.push(entry),
            word if WHEN.contains(&word) => when.push(entry),
            word => match nearest(word, WHEN) {
                Some(near) if !TASK_KEYS_NEAR_WHEN.contains(&word) => {
                    let problem = Problem::new(
                        "unknown-key",
                        &key.span,
                        format!("`{word}` is not a key of a task block"),
                    );
                    cx.error(problem.help(format!("did you mean `{near}`?")));
                }
                _ => task.push(entry),
            },
        }
    }
    let has = |task: &[(Key, Node)], name: &str| {
        task.iter().any(|(k, n)| k.text == name || (k.text == "meta" && n.get(name).is_some()))
    };
    if !has(&task, "id") {
        let stem = Path::new(name).file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        task.push((new_key("id"), text(ostler_model::Name::from_any(&stem).as_str())));
    }
    if !when.is_empty() {
        if has(&task, "on") {
            cx.error(Problem::new(
                "duplicate-key",
                &when[0].0.span,
                format!("`{}` and `on` both say when", when[0].0.text),
            ));
        } else {
            let schedule = Node::new(Kind::List(vec![map(when)]), span.clone());
            task.push((new_key("on"), map(vec![(new_key("schedule"), schedule)])));
        }
    }
    if !has(&task, "steps") && !has(&task, "run") && !has(&task, "uses") {
        if !script.has_run {
            let problem = Problem::new("python", &span, "the script has no function `run` at its top level");
            cx.error(problem.help("write `def run(**options): …`"));
        }
        let file = Path::new(name).file_name().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        task.push((new_key("uses"), text("python")));
        task.push((new_key("with"), map(vec![(new_key("file"), text(&file))])));
    }
    if let Some(options) = kwargs {
        task.push((new_key("kwargs"), options));
    }
    let kind = if is_ostler { "ostler-timetable" } else { "supertask-timetable" };
    meta.push((new_key("type"), text(kind)));
    let tasks = Node::new(Kind::List(vec![map(task)]), span.clone());
    file::lower(cx, &map(vec![(new_key("meta"), map(meta)), (new_key("tasks"), tasks)]), origin)
}

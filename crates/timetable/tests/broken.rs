//! Broken files: everything that is wrong is told, each with its place and what would be right.

#![allow(clippy::unwrap_used)]

mod support;

use ostler_timetable::{Diagnostics, load_path};
use support::{assert_golden, files, folder, options};

fn broken(file: &std::path::Path) -> Diagnostics {
    let mut found = match load_path(file, &options()) {
        Ok(loaded) => panic!("{} is taken: {:?}", file.display(), loaded.timetables),
        Err(found) => found,
    };
    for item in &mut found.items {
        item.file = file.file_name().unwrap().to_str().unwrap().to_owned();
    }
    found
}

#[test]
fn each_broken_file_tells_what_is_on_record() {
    let all = files("broken", &["yaml", "json", "toml", "py"]);
    assert!(all.len() >= 60, "{}", all.len());
    for file in all {
        let found = broken(&file);
        let lines: Vec<String> = found
            .items
            .iter()
            .map(|d| {
                let help = d.help.as_ref().map(|h| format!("\n    help: {h}")).unwrap_or_default();
                format!("{}:{} [{}] {}{help}\n", d.line, d.column, d.code, d.message)
            })
            .collect();
        let name = file.file_name().unwrap().to_str().unwrap();
        assert_golden(&folder("broken").join(format!("{name}.txt")), &lines.concat());
    }
}

#[test]
fn for_people_the_line_is_shown_with_a_caret() {
    let text: String = ["31-cron.yaml", "40-code.yaml", "04-not-utf8.yaml"]
        .iter()
        .map(|name| broken(&folder("broken").join(name)).render(false))
        .collect();
    assert_golden(&folder("broken").join("rendered.txt"), &text);
}

#[test]
fn for_programs_a_diagnostic_is_json() {
    let found = broken(&folder("broken").join("03-tab.yaml"));
    assert_eq!(
        serde_json::to_value(&found).unwrap(),
        serde_json::json!([{
            "file": "03-tab.yaml", "line": 2, "column": 1, "span": { "start": 7, "end": 8 },
            "message": "the line is indented by a tab", "help": "YAML indents by spaces", "code": "tab",
        }])
    );
}

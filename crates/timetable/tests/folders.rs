//! Files, folders, limits and names.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;

use ostler_timetable::{Format, LoadOptions, load_path, load_text};
use support::options;

const TASK: &str = "tasks: [{ meta: { id: a }, run: echo }]\n";

#[test]
fn a_folder_gives_one_timetable_a_file_and_notes_what_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("b.yaml", "meta: { namespace: demo }\ntasks: [{ meta: { id: b }, run: echo }]\n");
    write("a.json", r#"{"meta": {"namespace": "demo"}, "tasks": [{"meta": {"id": "a"}, "run": "echo"}]}"#);
    write("c.py", "# /// task\n# cron = '0 7 * * *'\n# ///\ndef run(): pass\n");
    write("helper.py", "def run(): pass\n");
    write("pyproject.toml", "[project]\nname = 'x'\n");
    write(".hidden.yaml", "not: read");
    write("readme.md", "not read");
    fs::create_dir(folder.path().join("inner")).unwrap();
    fs::write(folder.path().join("inner/d.yaml"), "not: read").unwrap();
    let loaded = load_path(folder.path(), &options()).unwrap();
    let ids: Vec<_> = loaded.timetables.iter().map(|t| t.tasks[0].id.as_str()).collect();
    assert_eq!(ids, ["a", "b", "c"]);
    let notes: Vec<_> =
        loaded.notes.iter().map(|n| n.line().rsplit_once('/').unwrap().1.to_owned()).collect();
    assert_eq!(notes, ["pyproject.toml: this file of the folder has no tasks and was left out"]);
    let task = &loaded.timetables[1].tasks[0];
    assert_eq!(task.source.line, Some(2));
    assert_eq!(task.source.folder.as_deref(), folder.path().to_str());
    assert_eq!(task.source.file.as_deref(), folder.path().join("b.yaml").to_str());
}

#[test]
fn each_file_of_a_folder_tells_its_own_errors_and_ids_are_unique_over_all() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.yaml"), TASK).unwrap();
    fs::write(folder.path().join("b.yaml"), TASK).unwrap();
    fs::write(folder.path().join("c.yaml"), "tasks: [{ meta: { id: c }, rum: x }]\n").unwrap();
    fs::write(folder.path().join("d.toml"), "tasks = 5\n").unwrap();
    let found = load_path(folder.path(), &options()).unwrap_err();
    let lines: Vec<_> = found
        .items
        .iter()
        .map(|d| format!("{}:{} {}", &d.file[d.file.len() - 6..], d.line, d.code))
        .collect();
    assert_eq!(
        lines,
        ["c.yaml:1 missing-key", "c.yaml:1 unknown-key", "d.toml:1 wrong-type", "b.yaml:1 duplicate-id"]
    );
}

#[test]
fn an_empty_folder_a_missing_file_and_a_strange_suffix_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let message = |path: &std::path::Path| load_path(path, &options()).unwrap_err().items[0].message.clone();
    assert_eq!(message(folder.path()), "the folder has no definition files");
    assert!(message(&folder.path().join("x.yaml")).starts_with("the file cannot be read: "));
    assert_eq!(message(&folder.path().join("x.txt")), "the name does not say what form the file has");
}

#[test]
fn a_large_file_is_refused_before_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.yaml");
    // A hole of a gigabyte: reading it would be noticed.
    fs::File::create(&path).unwrap().set_len(1 << 30).unwrap();
    let found = load_path(&path, &options()).unwrap_err();
    assert_eq!(found.items[0].message, "the file is larger than 16 MiB");
    let small = LoadOptions { max_bytes: 10, ..options() };
    assert_eq!(load_text(TASK.as_bytes(), "a", Format::Yaml, &small).unwrap_err().items[0].code, "too-large");
}

#[test]
fn files_of_every_format_have_a_namespace_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let script = "# /// task\n# cron = '0 7 * * *'\n# ///\ndef run(): pass\n";
    fs::write(folder.path().join("a.py"), script).unwrap();
    fs::write(folder.path().join("b.py"), script).unwrap();
    let namespace = |name: &str| {
        load_path(&folder.path().join(name), &options()).unwrap().timetables[0].namespace.clone()
    };
    assert_ne!(namespace("a.py"), namespace("b.py"));
    let path = folder.path().join("a.py");
    let expected = ostler_timetable::ephemeral_namespace("myhost", "alice", path.to_str().unwrap());
    assert_eq!(namespace("a.py"), expected);
}

#[test]
fn a_byte_order_mark_and_windows_lines_are_taken() {
    let text = "\u{feff}tasks:\r\n  - meta: { id: a }\r\n    run: |\r\n      one\r\n      two\r\n";
    let loaded = load_text(text.as_bytes(), "a.yaml", Format::Yaml, &options()).unwrap();
    assert_eq!(loaded.timetables[0].tasks[0].steps[0].run.as_deref(), Some("one\ntwo\n"));
}

#[test]
fn standard_input_is_json_or_yaml() {
    assert_eq!(Format::sniff(b" \n{\"tasks\": []}"), Format::Json);
    assert_eq!(Format::sniff(b"tasks: []"), Format::Yaml);
}

#[test]
fn warnings_do_not_refuse_a_file() {
    let text = "tasks:\n  - meta: { id: a }\n    inputs: { x: { type: string, required: false } }\n    env: { X: \"${{ inputs.x }}\", DUE: \"${{ run.due }}\", OK: \"${{ run.due ?? '' }}\" }\n    run: echo\n";
    let loaded = load_text(text.as_bytes(), "a.yaml", Format::Yaml, &options()).unwrap();
    let lines: Vec<_> = loaded.warnings.iter().map(|d| d.line()).collect();
    assert_eq!(
        lines,
        [
            "a.yaml:4:20: the input `x` may be missing: it has no default and is not required (write `inputs.x ?? ''`, or give it a default)",
            "a.yaml:4:44: `run.due` is there only in runs that a schedule started (write `run.due ?? ''`)",
        ]
    );
}

#[test]
fn three_thousand_tasks_are_read_in_a_second_or_two() {
    let mut text = String::from("meta: { namespace: many, timezone: Europe/Berlin }\ntasks:\n");
    for i in 0..3_000 {
        text.push_str(&format!(
            "  - meta: {{ id: task-{i} }}\n    inputs: {{ n: {{ type: integer, default: {i} }} }}\n    on: {{ schedule: [{{ cron: \"*/5 * * * *\" }}] }}\n    env: {{ N: \"${{{{ inputs.n }}}}\" }}\n    run: echo \"$N\"\n"
        ));
    }
    // What this costs is measured elsewhere; here it must only not be quadratic.
    let loaded = load_text(text.as_bytes(), "many.yaml", Format::Yaml, &options()).unwrap();
    assert_eq!(loaded.timetables[0].tasks.len(), 3_000);
}

//! What the tests of this crate share: executors, golden files.
#![allow(dead_code, clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use ostler_timetable::{LoadOptions, Timetable};
use serde_json::json;

/// A few executors, with settings like those of the real ones.
pub(crate) fn options() -> LoadOptions {
    let open = |properties: serde_json::Value| json!({ "type": "object", "additionalProperties": false, "properties": properties });
    let mut http = open(json!({
        "url": { "type": "string" }, "method": { "enum": ["GET", "POST"] }, "headers": { "type": "object" },
        "body": {}, "retries": { "type": "integer", "maximum": 3 },
    }));
    http["required"] = json!(["url"]);
    let mut sql = open(
        json!({ "url": { "type": ["string", "object"] }, "params": { "type": "object" }, "statements": { "type": "array" } }),
    );
    sql["required"] = json!(["url"]);
    LoadOptions {
        executors: BTreeMap::from([
            ("shell".into(), open(json!({ "shell": { "type": "string" } }))),
            ("exec".into(), open(json!({ "argv": { "type": "array" } }))),
            (
                "python".into(),
                open(
                    json!({ "file": { "type": "string" }, "entrypoint": { "type": "string" }, "function": { "type": "string" } }),
                ),
            ),
            ("http".into(), http),
            ("sql".into(), sql),
        ]),
        machine_zone: "UTC".into(),
        host: "myhost".into(),
        user: "alice".into(),
        ..LoadOptions::default()
    }
}

pub(crate) fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// The files of a folder with one of these suffixes, sorted.
pub(crate) fn files(name: &str, suffixes: &[&str]) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = folder(name)
        .read_dir()
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| suffixes.contains(&e.to_str().unwrap())))
        .filter(|p| !p.to_string_lossy().ends_with(".lowered.json"))
        .collect();
    found.sort();
    found
}

/// Compares with a golden file; `UPDATE_GOLDEN=1` writes it.
pub(crate) fn assert_golden(path: &Path, text: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, text).unwrap();
        return;
    }
    let golden = std::fs::read_to_string(path).unwrap_or_default();
    assert!(golden == text, "{} differs (UPDATE_GOLDEN=1 writes it):\n{text}", path.display());
}

/// Without what depends on where the file lies.
pub(crate) fn placeless(mut timetable: Timetable) -> Timetable {
    timetable.origin = String::new();
    if timetable.ephemeral {
        timetable.namespace = "ephemeral".parse().unwrap();
    }
    timetable.ephemeral = false;
    for task in &mut timetable.tasks {
        task.source = ostler_model::definition::Source::default();
    }
    timetable
}

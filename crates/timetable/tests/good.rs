//! Good files: what they come to, that they can be written back, that the editors' schema takes them.

#![allow(clippy::unwrap_used)]

mod support;

use ostler_schema::Schema;
use std::path::Path;

use ostler_timetable::{Format, editor_schema, export_yaml, load_path, load_text};
use serde_json::{Value, json};
use support::{assert_golden, files, folder, options, placeless};

const FORMATS: &[&str] = &["yaml", "yml", "json", "toml", "py"];

fn good_files() -> Vec<std::path::PathBuf> {
    files("good", FORMATS).into_iter().filter(|p| !p.ends_with("job.py")).collect()
}

fn load(file: &Path) -> ostler_timetable::Timetable {
    load_path(file, &options()).unwrap_or_else(|e| panic!("{}", e.render(false))).timetables.remove(0)
}

#[test]
fn good_files_come_to_what_is_on_record() {
    for file in good_files() {
        let loaded = load_path(&file, &options()).unwrap_or_else(|e| panic!("{}", e.render(false)));
        let name = file.file_name().unwrap().to_str().unwrap();
        let lines: Vec<String> = loaded
            .warnings
            .iter()
            .map(|d| format!("warning {}", d.message))
            .chain(loaded.notes.iter().map(|d| format!("note {}:{} {}", d.line, d.column, d.message)))
            .collect();
        let timetables: Vec<_> = loaded.timetables.into_iter().map(placeless).collect();
        let text =
            serde_json::to_string_pretty(&json!({ "timetables": timetables, "remarks": lines })).unwrap();
        assert_golden(&folder("good").join(format!("{name}.lowered.json")), &(text + "\n"));
    }
}

#[test]
fn what_is_written_back_reads_as_the_same() {
    for file in good_files() {
        let first = load(&file);
        let text = export_yaml(&first);
        // As standard input, so that nothing is looked for beside it.
        let again = load_text(text.as_bytes(), "-", Format::Yaml, &options())
            .unwrap_or_else(|e| panic!("{text}\n{}", e.render(false)));
        assert_eq!(placeless(again.timetables[0].clone()), placeless(first), "{text}");
        assert_eq!(export_yaml(&again.timetables[0]), text);
    }
}

#[test]
fn the_written_form_is_compact() {
    let first = load(&folder("good").join("everything.yaml"));
    assert_golden(&folder("good").join("everything.exported.txt"), &export_yaml(&first));
}

#[test]
fn the_schema_for_editors_is_current_and_takes_every_good_file() {
    let schema = editor_schema();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/ostler-timetable.schema.json");
    assert_golden(&path, &(serde_json::to_string_pretty(&schema).unwrap() + "\n"));
    let compiled = Schema::compile(&schema).unwrap();
    let wrong = |value: &Value| -> Vec<String> {
        compiled.faults(value).iter().map(|fault| format!("{}: {fault}", fault.pointer)).collect()
    };
    for file in files("good", &["json"]) {
        let value: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let wrong = wrong(&value);
        assert!(wrong.is_empty(), "{}: {wrong:#?}", file.display());
    }
    for file in files("good", &["yaml", "toml"]) {
        let text = std::fs::read_to_string(&file).unwrap();
        let value: Value = if file.extension().unwrap() == "toml" {
            let value: toml::Value = toml::from_str(&text).unwrap();
            dates_as_texts(serde_json::to_value(value).unwrap())
        } else {
            serde_saphyr::from_str(&text).unwrap()
        };
        let wrong = wrong(&value);
        assert!(wrong.is_empty(), "{}: {wrong:#?}", file.display());
    }
}

/// TOML's dates are texts for an editor's schema.
fn dates_as_texts(value: Value) -> Value {
    match value {
        Value::Object(map) => match map.get("$__toml_private_datetime") {
            Some(date) => date.clone(),
            None => {
                map.into_iter().map(|(k, v)| (k, dates_as_texts(v))).collect::<serde_json::Map<_, _>>().into()
            }
        },
        Value::Array(items) => items.into_iter().map(dates_as_texts).collect(),
        other => other,
    }
}

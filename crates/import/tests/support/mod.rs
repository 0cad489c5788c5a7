//! What the tests of this crate share: loading what was imported, as `ostler check` does.
#![allow(dead_code, clippy::unwrap_used)]

use std::collections::BTreeMap;

use ostler_import::{ImportError, Imported};
use ostler_timetable::{Format, LoadOptions, Timetable, load_text};
use serde_json::{Value, json};

/// Executors with the settings that imports use.
fn options() -> LoadOptions {
    let open = |own: Value| {
        let mut properties = json!({
            "exit_codes": { "type": "object" }, "user": { "type": ["string", "integer"] },
            "umask": { "type": ["string", "integer"] },
        });
        properties.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
        json!({ "type": "object", "additionalProperties": false, "properties": properties })
    };
    let shell = json!({ "shell": { "oneOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" }, "minItems": 1 }] } });
    LoadOptions {
        executors: BTreeMap::from([
            ("shell".into(), open(shell)),
            ("exec".into(), open(json!({}))),
            ("python".into(), open(json!({ "entrypoint": { "type": "string" } }))),
        ]),
        machine_zone: "UTC".into(),
        ..LoadOptions::default()
    }
}

/// The timetable of an import; that it does not load is a mistake of the import.
pub(crate) fn load(imported: &Imported) -> Timetable {
    match load_text(imported.yaml.as_bytes(), "imported.yaml", Format::Yaml, &options()) {
        Ok(mut loaded) => loaded.timetables.remove(0),
        Err(found) => panic!("{found}\n\n{}", imported.yaml),
    }
}

/// Compares a text with a golden file; with `OSTLER_UPDATE_GOLDEN` set, writes the file instead.
pub(crate) fn golden(name: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("OSTLER_UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(golden == text, "{name} is now:\n{text}");
}

/// As [`load`], when there is something to load.
pub(crate) fn check(imported: Result<Imported, ImportError>) {
    if let Ok(imported) = imported {
        load(&imported);
    }
}

//! What files of YAML have in common: each is a map, and comes to one task.

use ostler_timetable::{Tree, TreeKind, read_yaml};
use serde_json::{Value, json};

use crate::{
    File, ImportError, Imported, Options,
    document::{Document, Entries, Notes, Task, put},
    inputs::Inputs,
};

/// How files of one kind are spoken of.
pub(crate) struct Words {
    /// Several of them: `Dagu files`.
    pub(crate) several: &'static str,
    /// What one must be.
    pub(crate) shape: &'static str,
    /// What becomes of one without steps.
    pub(crate) left_out: &'static str,
}

/// Turns files into a definition file, one task for each that comes to one.
///
/// # Errors
/// One is not YAML or not a map, or what `read` says.
pub(crate) fn one_each(
    files: &[File],
    options: &Options,
    words: &Words,
    read: impl Fn(&File, &Tree, &mut Notes, &mut Document) -> Result<Option<Task>, ImportError>,
) -> Result<Imported, ImportError> {
    let names: Vec<&str> = files.iter().map(|f| f.name.as_str()).collect();
    let mut document = Document::new(format!("the {} {}", words.several, names.join(", ")), options)?;
    for file in files {
        let tree = read_yaml(&file.text, &file.name)?;
        if !matches!(tree.kind, TreeKind::Map(_)) {
            return Err(ImportError::at(&file.name, tree.line, words.shape));
        }
        let mut notes = Notes::of(&file.name);
        match read(file, &tree, &mut notes, &mut document)? {
            Some(task) => document.tasks.push(Task { notes, ..task }),
            None => {
                notes.add(0, format!("no step can be carried over: {}", words.left_out));
                document.notes.extend(notes.items);
            }
        }
    }
    Ok(document.finish(options))
}

/// What stands before the steps of a task.
pub(crate) struct Front {
    pub(crate) inputs: Inputs,
    pub(crate) policy: Entries,
    pub(crate) schedules: Vec<Value>,
    pub(crate) env: Entries,
    pub(crate) defaults: Entries,
}

impl Front {
    /// Writes it, in the order in which people read a task.
    pub(crate) fn put(self, body: &mut Entries) {
        put(body, "inputs", self.inputs.value());
        put(body, "policy", self.policy);
        if !self.schedules.is_empty() {
            put(body, "on", json!({ "schedule": self.schedules }));
        }
        put(body, "env", self.env);
        put(body, "defaults", self.defaults);
    }
}

//! The definition file that an import comes to: tasks, ids that are unique, notes as comments.

use std::{collections::BTreeSet, fmt::Write};

use ostler_calendar::{Calendars, Trigger};
use ostler_model::{
    Name, TriggerSpec,
    trigger::{Dst, Rhythm},
};
use serde_json::{Map, Value, json};

use crate::{ImportError, Imported, Note, Options};

/// The entries of a map in the file.
pub(crate) type Entries = Map<String, Value>;

/// The longest id that is made of a command.
const LONGEST_ID: usize = 60;

/// Adds an entry unless it says nothing.
pub(crate) fn put(entries: &mut Entries, key: &str, value: impl Into<Value>) {
    let value = value.into();
    let says_nothing = match &value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    };
    if !says_nothing {
        entries.insert(key.to_owned(), value);
    }
}

/// A text in which nothing is read as an expression.
pub(crate) fn literal(text: &str) -> String {
    text.replace("${{", "$${{")
}

/// Code as a block of lines.
pub(crate) fn script(text: &str) -> String {
    format!("{}\n", text.trim_end_matches('\n'))
}

/// Whether an expression can look a name up as a field.
pub(crate) fn is_field(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
        && !name.ends_with('-')
        && !name.contains("--")
}

/// A trigger with this rhythm and nothing else, to be checked.
pub(crate) fn trigger(rhythm: Rhythm, timezone: Option<&str>) -> TriggerSpec {
    TriggerSpec {
        rhythm,
        timezone: timezone.map(str::to_owned),
        dst: Dst::default(),
        jitter: None,
        offset: None,
        only: Vec::new(),
        except: Vec::new(),
        start: None,
        end: None,
        count: None,
    }
}

/// What is wrong with the name of a time zone, if anything.
pub(crate) fn zone_error(zone: &str) -> Option<String> {
    let spec = trigger(Rhythm::Once, Some(zone));
    Trigger::compile(&spec, "UTC", &Calendars::default(), 0).err().map(|e| e.to_string())
}

/// Names that are each given once: `backup`, `backup-2`.
#[derive(Debug, Default)]
pub(crate) struct Ids(BTreeSet<String>);

impl Ids {
    /// The nearest free id to a text.
    pub(crate) fn take(&mut self, wanted: &str, otherwise: &str) -> String {
        let cut: String = wanted.chars().take(LONGEST_ID).collect();
        let name = Name::from_any(cut.trim_matches(|c: char| !c.is_alphanumeric() && c != '_'));
        let base = if name.as_str() == "_" { otherwise } else { name.as_str() };
        let numbered = (2..).map(|n: u32| format!("{base}-{n}"));
        let id = std::iter::once(base.to_owned()).chain(numbered).find(|id| !self.0.contains(id));
        let id = id.unwrap_or_default();
        self.0.insert(id.clone());
        id
    }
}

/// A task with what could not be carried over to it.
#[derive(Debug, Default)]
pub(crate) struct Task {
    pub(crate) meta: Entries,
    /// What follows `meta`, in the order written.
    pub(crate) body: Entries,
    pub(crate) notes: Notes,
}

impl Task {
    fn value(mut self, without_env: bool) -> Value {
        let mut entries = Entries::new();
        put(&mut entries, "meta", self.meta);
        if without_env {
            self.body.shift_remove("env");
        }
        entries.append(&mut self.body);
        Value::Object(entries)
    }
}

/// The notes of one file or task.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub(crate) file: String,
    pub(crate) items: Vec<Note>,
}

impl Notes {
    pub(crate) fn of(file: &str) -> Self {
        Self { file: file.to_owned(), items: Vec::new() }
    }

    pub(crate) fn add(&mut self, line: u32, words: impl Into<String>) {
        let note = Note { file: self.file.clone(), line, words: words.into() };
        if !self.items.contains(&note) {
            self.items.push(note);
        }
    }
}

/// The whole file.
#[derive(Debug, Default)]
pub(crate) struct Document {
    /// What it was made from, in words.
    pub(crate) origin: String,
    pub(crate) tasks: Vec<Task>,
    /// What is about no task in particular.
    pub(crate) notes: Vec<Note>,
    pub(crate) ids: Ids,
}

impl Document {
    /// An empty one.
    pub(crate) fn new(origin: String, options: &Options) -> Result<Self, ImportError> {
        if let Some(error) = options.timezone.as_deref().and_then(zone_error) {
            return Err(ImportError::at("--timezone", 0, error));
        }
        Ok(Self { origin, ..Self::default() })
    }

    /// The file as YAML.
    pub(crate) fn finish(self, options: &Options) -> Imported {
        let mut meta = json!({ "type": "ostler-timetable", "version": 1 });
        if let Some(namespace) = &options.namespace {
            meta["namespace"] = namespace.as_str().into();
        }
        if let Some(zone) = &options.timezone {
            meta["timezone"] = zone.as_str().into();
        }
        let mut notes = self.notes;
        let mut out = String::new();
        comment(&mut out, "", &format!("Imported from {}.", self.origin));
        if !notes.is_empty() || self.tasks.iter().any(|t| !t.notes.items.is_empty()) {
            comment(
                &mut out,
                "",
                "A note says what could not be carried over; remove it when that is settled.",
            );
        }
        for note in &notes {
            comment(&mut out, "", &format!("note: {note}"));
        }
        out.push_str(&ostler_timetable::yaml(&json!({ "meta": meta })));
        // Variables that all tasks share are said once.
        let first = self.tasks.first().and_then(|t| t.body.get("env")).cloned();
        let shared = first
            .filter(|env| self.tasks.len() > 1 && self.tasks.iter().all(|t| t.body.get("env") == Some(env)));
        if let Some(env) = &shared {
            out.push_str(&ostler_timetable::yaml(&json!({ "env": env })));
        }
        let count = self.tasks.len();
        out.push_str(if count == 0 { "tasks: []\n" } else { "tasks:\n" });
        for (i, mut task) in self.tasks.into_iter().enumerate() {
            if i > 0 {
                out.push('\n');
            }
            let own = in_order(std::mem::take(&mut task.notes.items));
            for note in &own {
                comment(&mut out, "  ", &format!("note: {note}"));
            }
            notes.extend(own);
            // Indenting every line keeps blocks of text what they are.
            for line in ostler_timetable::yaml(&json!([task.value(shared.is_some())])).lines() {
                if !line.is_empty() {
                    out.push_str("  ");
                }
                out.push_str(line);
                out.push('\n');
            }
        }
        Imported { yaml: out, tasks: count, notes }
    }
}

/// Notes by line, those of the file that was noted first in front.
fn in_order(mut notes: Vec<Note>) -> Vec<Note> {
    let files: Vec<String> = notes.iter().map(|n| n.file.clone()).collect();
    notes.sort_by_key(|n| (files.iter().position(|f| *f == n.file), n.line));
    notes
}

/// One line of comment, whatever the text holds.
fn comment(out: &mut String, indent: &str, text: &str) {
    let odd = |c: char| {
        c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
    };
    let text: String = text.chars().map(|c| if odd(c) { ' ' } else { c }).collect();
    let _ = writeln!(out, "{indent}# {text}");
}

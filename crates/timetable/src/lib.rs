//! Definition files: YAML, JSON, TOML and Python headers, with errors that point at the line.
//!
//! [`load_path`] reads a file, a folder of files or standard input and gives [`Timetable`]s in which every shorthand
//! is written out, every default filled in and everything checked: expressions and what they look up, cron, zones,
//! schemas, what needs what. A file that is wrong gives everything that is wrong with it at once, each with its
//! place and what would be right. [`export_yaml`] writes a timetable back; [`editor_schema`] is for editors.
//!
//! ```
//! use ostler_timetable::{Format, LoadOptions, load_text};
//!
//! let text = "
//! meta: { namespace: demo }
//! tasks:
//!   - meta: { id: hello }
//!     on: { schedule: [{ cron: '0 7 * * MON-FRI', timezone: Europe/Berlin }] }
//!     run: echo hello
//! ";
//! let loaded = load_text(text.as_bytes(), "hello.yaml", Format::Yaml, &LoadOptions::default()).unwrap();
//! assert_eq!(loaded.timetables[0].tasks[0].steps[0].uses, "shell");
//!
//! let wrong = load_text(b"tasks: [{ meta: { id: a }, rum: echo }]", "a.yaml", Format::Yaml, &LoadOptions::default());
//! let lines = wrong.unwrap_err().to_string();
//! assert!(lines.contains("a.yaml:1:28: `rum` is not a key of a task (did you mean `run`?)"), "{lines}");
//! ```

mod diagnostic;
mod emit;
mod export;
mod formats;
mod load;
mod lower;
mod namespace;
mod node;
mod schema;
mod source;
mod tree;

pub use diagnostic::{Diagnostic, Diagnostics};
pub use emit::yaml;
pub use export::export_yaml;
pub use formats::Format;
pub use load::{LoadOptions, Loaded, load_path, load_text, load_text_at};
pub use namespace::ephemeral_namespace;
pub use ostler_model::definition::Timetable;
pub use schema::editor_schema;
pub use tree::{Tree, TreeEntry, TreeKind, read_yaml};

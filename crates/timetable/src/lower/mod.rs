//! From the tree of a file to the model: shorthands written out, defaults merged, everything checked.
//!
//! Nothing here stops at the first error: each part that cannot be read is put on record and left out, and the file
//! is refused at the end with everything that was found.

mod context;
mod expressions;
mod fields;
mod file;
mod graph;
mod matrix;
mod message;
mod parts;
mod policy;
mod retry;
mod schedule;
mod schemas;
mod script;
mod settings;
mod sink;
mod step;
mod task;
mod trigger;
mod work;

pub(crate) use context::Context;
pub(crate) use file::{Origin, looks_like_definitions, lower};
pub(crate) use schemas::KEYWORDS as PROPERTY_KEYWORDS;
pub(crate) use script::lower_script;
pub(crate) use settings::Settings;
pub(crate) use trigger::WORDS as TRIGGER_WORDS;

/// The keys of an executor's settings that a step may name at its own level.
pub(crate) const EXECUTOR_ALIASES: [(&str, &str); 2] =
    [("python-entrypoint", "python"), ("python-file", "python")];

//! Running one command for a step: its environment, its output line by line, its outputs, its end.

mod commands;
mod environment;
mod lines;
mod outputs;
mod run;
mod scratch;
mod settings;

pub(crate) use environment::Environment;
pub(crate) use run::{Command, Prepared, Watch, Workshop, end_of, exit_failure, grace};
pub(crate) use scratch::{Scratch, Shelf};
pub(crate) use settings::{Capture, ExitCodes, ProcessSettings, bytes, common_schema};

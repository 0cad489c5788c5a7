//! `ostler export`.

use std::path::PathBuf;

use clap::Args;
use ostler_api::SinkState;
use ostler_model::definition::{PresetDef, Timetable};

use super::Global;
use crate::{context, error::CliError, output};

/// Write stored definitions as a file
#[derive(Args)]
#[command(
    after_help = "What is exported reads back as it is stored.\n\nExamples:\n  ostler export demo > demo.yaml\n  ostler export demo --file demo.yaml"
)]
pub struct Export {
    /// The namespace (a prefix will do)
    namespace: String,
    /// Write to this file instead of standard output
    #[arg(long, short = 'f')]
    file: Option<PathBuf>,
    /// Missing tasks too
    #[arg(long)]
    missing: bool,
}

impl Export {
    pub fn run(self, global: &Global) -> Result<u8, CliError> {
        let api = context::api(global)?;
        let namespace = api.resolve_namespace(&self.namespace)?;
        let everything = super::Paging::everything();
        let tasks = everything.collect(|page| api.tasks(Some(&namespace), page))?;
        let presets = everything.collect(|page| api.presets(Some(&namespace), page))?;
        let tasks: Vec<_> = tasks.items.into_iter().filter(|t| self.missing || !t.missing).collect();
        let presets: Vec<PresetDef> = presets
            .items
            .into_iter()
            .filter(|p| self.missing || !p.missing)
            .filter_map(|p| serde_json::from_value(p.definition).ok())
            .collect();
        let sinks = everything.collect(|page| api.sinks(Some(&namespace), page))?;
        let sinks = sinks.items.into_iter().filter(|s| self.missing || s.state != SinkState::Missing);
        let timetable = Timetable {
            namespace: namespace
                .parse()
                .map_err(|e: ostler_model::NameError| CliError::usage(e.to_string()))?,
            ephemeral: false,
            origin: tasks.first().map(|t| t.origin.clone()).unwrap_or_default(),
            calendars: tasks.iter().flat_map(|t| t.definition.calendars.clone()).collect(),
            tasks: tasks.into_iter().map(|t| t.definition).collect(),
            presets,
            sinks: sinks.map(|s| s.definition).collect(),
        };
        let text = if global.output.is_machine() {
            global.output.text(&timetable)
        } else {
            ostler_timetable::export_yaml(&timetable)
        };
        match self.file {
            None => output::print(&text),
            Some(path) => std::fs::write(&path, text + "\n")
                .map_err(|e| CliError::usage(format!("`{}` cannot be written: {e}", path.display())))?,
        }
        Ok(0)
    }
}

//! `ostler push`.

use std::path::PathBuf;

use clap::Args;
use ostler_api::DefinitionsAt;

use super::Global;
use crate::{context, error::CliError};

/// Store the definitions of a file
#[derive(Args)]
#[command(
    after_help = "Pushing twice changes nothing. Tasks that are gone from the file are marked missing; they keep\ntheir presets, schedules and history, and are linked again when they come back.\n\nExamples:\n  ostler push timetable.yaml\n  ostler push definitions/ --dry-run"
)]
pub struct Push {
    /// A file or folder; `-` for standard input [default: ostler.yaml or supertask.yaml]
    path: Option<PathBuf>,
    /// Say what would change and change nothing
    #[arg(long)]
    dry_run: bool,
}

impl Push {
    pub fn run(self, global: &Global) -> Result<u8, CliError> {
        if self.dry_run {
            return super::diff::Diff { path: self.path, exit_code: false }.run(global);
        }
        let path = self.path.map_or_else(context::default_file, Ok)?;
        let loaded = context::load(&path)?;
        let api = context::api(global)?;
        let mut reports = Vec::new();
        for timetable in &loaded.timetables {
            reports.push(api.push(timetable, &DefinitionsAt::of(timetable))?);
        }
        global.output.show(&reports, |reports| {
            let lines = reports.iter().map(|p| {
                format!(
                    "{}: {} added, {} changed, {} unchanged, {} missing, {} back; schedules: {} made, {} changed, {} ended",
                    p.namespace,
                    p.added.len(),
                    p.changed.len(),
                    p.unchanged.len(),
                    p.missing.len(),
                    p.relinked.len(),
                    p.schedules.made,
                    p.schedules.changed,
                    p.schedules.ended
                )
            });
            lines.collect::<Vec<_>>().join("\n")
        });
        Ok(0)
    }
}

//! `ostler check`.

use std::path::PathBuf;

use clap::Args;
use ostler_timetable::Diagnostic;
use serde::Serialize;

use super::Global;
use crate::{context, error::CliError, output};

/// Check definition files and say everything that is wrong
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ostler check timetable.yaml\n  ostler check definitions/ --output json\n  ostler check --schema > ostler.schema.json    the JSON Schema for editors"
)]
pub struct Check {
    /// Files or folders; `-` for standard input [default: ostler.yaml or supertask.yaml]
    paths: Vec<PathBuf>,
    /// Print the JSON Schema of definition files, for editors
    #[arg(long, conflicts_with = "paths")]
    schema: bool,
}

#[derive(Serialize)]
struct Report {
    ok: bool,
    files: usize,
    tasks: usize,
    schedules: usize,
    triggers: usize,
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
    notes: Vec<Diagnostic>,
}

impl Check {
    pub fn run(self, global: &Global) -> Result<u8, CliError> {
        if self.schema {
            output::print(&output::Output::Json.text(&ostler_timetable::editor_schema()));
            return Ok(0);
        }
        let paths = if self.paths.is_empty() { vec![context::default_file()?] } else { self.paths };
        let mut report = Report {
            ok: true,
            files: 0,
            tasks: 0,
            schedules: 0,
            triggers: 0,
            errors: vec![],
            warnings: vec![],
            notes: vec![],
        };
        for path in &paths {
            match context::load(path) {
                Ok(loaded) => {
                    report.files += loaded.timetables.len();
                    for task in loaded.timetables.iter().flat_map(|t| &t.tasks) {
                        report.tasks += 1;
                        report.schedules += task.schedules.len();
                        report.triggers += task.triggers.len();
                    }
                    report.warnings.extend(loaded.warnings);
                    report.notes.extend(loaded.notes);
                }
                Err(error) => match error.diagnostics {
                    Some(found) => report.errors.extend(found.items),
                    None => return Err(error),
                },
            }
        }
        report.ok = report.errors.is_empty();
        if global.output.is_machine() {
            output::print(&global.output.text(&report));
        } else {
            let color = output::use_color();
            for (word, found) in [("warning", report.warnings), ("note", report.notes)] {
                for diagnostic in found {
                    eprintln!("{word}: {}", diagnostic.line());
                }
            }
            if !report.ok {
                let count = report.errors.len();
                eprint!("{}", ostler_timetable::Diagnostics { items: report.errors }.render(color));
                return Err(CliError::usage(format!("{} found", output::counted(count, "error"))));
            }
            let tasks = output::counted(report.tasks, "task");
            let schedules = output::counted(report.schedules, "schedule");
            let starters = match report.triggers {
                0 => format!("{tasks} and {schedules}"),
                n => format!("{tasks}, {schedules} and {}", output::counted(n, "trigger")),
            };
            output::print(&format!("ok: {} with {starters}", output::counted(report.files, "file")));
        }
        Ok(if report.ok { 0 } else { crate::error::USAGE })
    }
}

//! `ostler diff`.

use std::path::PathBuf;

use clap::Args;
use ostler_api::{Change, DefinitionsAt};
use serde_json::{Value, json};

use super::Global;
use crate::{
    context,
    error::{CliError, FAILED},
    output,
};

/// Show what a push would change
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ostler diff timetable.yaml\n  ostler diff timetable.yaml --exit-code && echo 'in step'"
)]
pub struct Diff {
    /// A file or folder [default: ostler.yaml or supertask.yaml]
    pub path: Option<PathBuf>,
    /// Exit with 1 when something would change
    #[arg(long)]
    pub exit_code: bool,
}

impl Diff {
    pub fn run(self, global: &Global) -> Result<u8, CliError> {
        let path = self.path.map_or_else(context::default_file, Ok)?;
        let loaded = context::load(&path)?;
        let api = context::api(global)?;
        let mut reports = Vec::new();
        let mut differs = false;
        let mut lines = Vec::new();
        for timetable in &loaded.timetables {
            let at = DefinitionsAt::of(timetable);
            let diff = api.diff(timetable, &at)?;
            differs |= !diff.changes.is_empty();
            for change in &diff.changes {
                match change {
                    Change::Added { task } => lines.push(format!("+ {}:{task}", timetable.namespace)),
                    Change::Missing { task } => {
                        lines.push(format!("- {}:{task}  (would be marked missing)", timetable.namespace))
                    }
                    Change::Relinked { task } => {
                        lines.push(format!("+ {}:{task}  (is back)", timetable.namespace))
                    }
                    Change::Changed { task, fields } => {
                        lines.push(format!("~ {}:{task}", timetable.namespace));
                        for (path, (before, after)) in fields {
                            lines.push(format!("    {path}: {} -> {}", short(before), short(after)));
                        }
                    }
                }
            }
            reports
                .push(json!({ "namespace": timetable.namespace, "origin": timetable.origin, "diff": diff }));
        }
        if lines.is_empty() {
            lines.push("no difference".to_owned());
        }
        global.output.show(&reports, |_| lines.join("\n"));
        Ok(if self.exit_code && differs { FAILED } else { 0 })
    }
}

fn short(value: &Value) -> String {
    if value.is_null() { "(absent)".into() } else { output::first_line(&value.to_string(), 80) }
}

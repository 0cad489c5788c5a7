//! `ostler init`.

use std::{io::Write, path::PathBuf};

use clap::Args;
use serde_json::json;

use super::Global;
use crate::error::{CONFLICT, CliError};

/// The first timetable.
const FIRST: &str = include_str!("first.yaml");

/// Write a first timetable
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ostler init\n  ostler init jobs/ostler.yaml && ostler run jobs/ostler.yaml"
)]
pub struct Init {
    /// The file
    #[arg(default_value = "ostler.yaml")]
    path: PathBuf,
}

impl Init {
    pub fn run(self, global: &Global) -> Result<u8, CliError> {
        let path = if self.path.is_dir() { self.path.join("ostler.yaml") } else { self.path };
        let written = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .and_then(|mut file| file.write_all(FIRST.as_bytes()));
        match written {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(CliError::new(
                    CONFLICT,
                    "conflict",
                    format!("`{}` is there already; it was left as it is", path.display()),
                ));
            }
            Err(e) => return Err(CliError::usage(format!("`{}` cannot be written: {e}", path.display()))),
        }
        global.output.show(&json!({ "file": path }), |_| {
            // Without a file, `run` takes the `ostler.yaml` of the folder.
            let file = if path.as_os_str() == "ostler.yaml" {
                String::new()
            } else {
                format!(" {}", path.display())
            };
            format!("wrote {}\nnext:  ostler run{file}", path.display())
        });
        Ok(0)
    }
}

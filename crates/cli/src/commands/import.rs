//! `ostler import`.

use std::{
    io::{Read, Write},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use ostler_import::{File, ImportError, Imported, Options};
use ostler_model::Name;
use ostler_timetable::{Format, load_text};
use serde_json::json;

use super::Global;
use crate::{context, error::CliError, output};

/// Larger files are refused: schedules are written by people.
const MOST_BYTES: u64 = 16 << 20;

/// Turn crontabs, systemd timers and files of other schedulers into a definition file
#[derive(Subcommand)]
#[command(
    after_help = "What cannot be carried over is a note on standard error and a comment in the file. Exit code 0 with notes, 2 when a file does not parse.\n\nExamples:\n  ostler import crontab /etc/crontab --system > crontab.yaml\n  crontab -l | ostler import crontab - --timezone Europe/Berlin\n  ostler import systemd /etc/systemd/system/backup.timer --out backup.yaml\n  ostler import github .github/workflows/nightly.yml --namespace ci"
)]
pub enum Import {
    /// A crontab
    #[command(
        after_help = "Examples:\n  crontab -l | ostler import crontab -\n  ostler import crontab /etc/cron.d/certbot --system --out certbot.yaml"
    )]
    Crontab {
        /// The crontab; `-` for standard input
        file: PathBuf,
        /// The sixth column is the user, as in /etc/crontab and /etc/cron.d
        #[arg(long)]
        system: bool,
        #[command(flatten)]
        target: Target,
    },
    /// systemd timers, with the services beside them
    #[command(
        after_help = "Examples:\n  ostler import systemd /usr/lib/systemd/system/logrotate.timer\n  ostler import systemd *.timer --out timers.yaml"
    )]
    Systemd {
        /// The timers
        #[arg(required = true)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        target: Target,
    },
    /// Dagu's DAG files
    #[command(after_help = "Examples:\n  ostler import dagu dags/etl.yaml --namespace etl --out etl.yaml")]
    Dagu {
        /// The files; `-` for standard input
        #[arg(required = true)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        target: Target,
    },
    /// APScheduler's jobs: `JOBS` lists of Flask-APScheduler, `add_job` and `scheduled_job` in Python
    #[command(
        name = "apscheduler",
        after_help = "A Python file is read, not run. Cron fields keep what they mean there: 0 is Monday, a day and a weekday\nmust both match. `coalesce` and `misfire_grace_time` become `missed`, `max_instances` becomes `overlap` or a limit.\n\nExamples:\n  ostler import apscheduler config.py --namespace shop --out shop.yaml\n  ostler import apscheduler jobs.json --timezone Europe/Vienna"
    )]
    Apscheduler {
        /// The files, Python or JSON; `-` for standard input
        #[arg(required = true)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        target: Target,
    },
    /// GitHub workflows
    #[command(
        after_help = "Examples:\n  ostler import github .github/workflows/*.yml --namespace ci --out ci.yaml"
    )]
    Github {
        /// The files; `-` for standard input
        #[arg(required = true)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        target: Target,
    },
}

/// What the definition file says about itself, and where it goes.
#[derive(Args)]
pub struct Target {
    /// The namespace of the tasks [default: one of the file's own]
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// The zone of schedules that name none [default: the machine's that reads the file]
    #[arg(long, value_name = "ZONE")]
    timezone: Option<String>,
    /// Write to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write over the file that is there
    #[arg(long, requires = "out")]
    force: bool,
}

impl Import {
    pub fn run(self, global: &Global) -> Result<u8, CliError> {
        match self {
            Self::Crontab { file, system, target } => {
                let options = Options { system, ..target.options()? };
                target.write(ostler_import::crontab(&read(&file)?, &options), global)
            }
            Self::Systemd { files, target } => {
                let find = |timer: &File, unit: &str| {
                    let path = Path::new(&timer.name).with_file_name(unit);
                    path.is_file().then(|| read(&path).ok()).flatten()
                };
                target.write(ostler_import::systemd(&read_all(&files)?, &find, &target.options()?), global)
            }
            Self::Dagu { files, target } => {
                target.write(ostler_import::dagu(&read_all(&files)?, &target.options()?), global)
            }
            Self::Apscheduler { files, target } => {
                target.write(ostler_import::apscheduler(&read_all(&files)?, &target.options()?), global)
            }
            Self::Github { files, target } => {
                target.write(ostler_import::github(&read_all(&files)?, &target.options()?), global)
            }
        }
    }
}

impl Target {
    fn options(&self) -> Result<Options, CliError> {
        let namespace = self.namespace.as_deref().map(str::parse::<Name>).transpose();
        Ok(Options {
            namespace: namespace.map_err(|e| CliError::usage(format!("`--namespace`: {e}")))?,
            timezone: self.timezone.clone(),
            system: false,
        })
    }

    fn write(&self, imported: Result<Imported, ImportError>, global: &Global) -> Result<u8, CliError> {
        let imported = imported.map_err(|error| {
            let count = error.items.len();
            let what = format!("{} found; nothing was imported", output::counted(count, "error"));
            CliError::usage(format!("{error}\n{what}"))
        })?;
        // What is written must be what `check` takes.
        let name = self.out.as_ref().map_or_else(|| "imported.yaml".into(), |p| p.display().to_string());
        load_text(imported.yaml.as_bytes(), &name, Format::Yaml, &context::load_options()).map_err(
            |found| CliError {
                message:
                    "what was imported does not pass `ostler check`, which is a mistake of `ostler import`"
                        .into(),
                ..CliError::from(found)
            },
        )?;
        if let Some(path) = &self.out {
            self.create(path, &imported.yaml)?;
        }
        if global.output.is_machine() {
            let notes: Vec<_> = imported
                .notes
                .iter()
                .map(|n| json!({ "file": n.file, "line": n.line, "words": n.words }))
                .collect();
            let mut report = json!({ "tasks": imported.tasks, "notes": notes });
            match &self.out {
                Some(path) => report["file"] = path.display().to_string().into(),
                None => report["text"] = imported.yaml.into(),
            }
            output::print(&global.output.text(&report));
            return Ok(0);
        }
        for note in &imported.notes {
            eprintln!("note: {note}");
        }
        match &self.out {
            Some(path) => {
                let (tasks, notes) =
                    (output::counted(imported.tasks, "task"), output::counted(imported.notes.len(), "note"));
                output::print(&format!("{}: {tasks}, {notes}", path.display()));
            }
            None => output::print(&imported.yaml),
        }
        Ok(0)
    }

    fn create(&self, path: &Path, text: &str) -> Result<(), CliError> {
        let mut open = std::fs::OpenOptions::new();
        open.write(true);
        let file =
            if self.force { open.create(true).truncate(true) } else { open.create_new(true) }.open(path);
        file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|e| {
            if e.kind() == std::io::ErrorKind::AlreadyExists {
                return CliError::usage(format!("`{}` is there already", path.display()))
                    .hint("write over it with --force");
            }
            CliError::usage(format!("`{}` cannot be written: {e}", path.display()))
        })
    }
}

fn read_all(paths: &[PathBuf]) -> Result<Vec<File>, CliError> {
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> Result<File, CliError> {
    let name = path.display().to_string();
    let cannot = |e: std::io::Error| CliError::usage(format!("`{name}` cannot be read: {e}"));
    let mut text = Vec::new();
    if name == "-" {
        std::io::stdin().lock().take(MOST_BYTES + 1).read_to_end(&mut text).map_err(cannot)?;
    } else {
        let file = std::fs::File::open(path).map_err(cannot)?;
        file.take(MOST_BYTES + 1).read_to_end(&mut text).map_err(cannot)?;
    }
    if text.len() as u64 > MOST_BYTES {
        return Err(CliError::usage(format!("`{name}` is larger than {} MiB", MOST_BYTES >> 20)));
    }
    Ok(File::new(name, text))
}

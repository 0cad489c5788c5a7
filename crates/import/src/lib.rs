//! Schedules of others as definition files: crontabs, systemd timers, Dagu files, GitHub workflows,
//! APScheduler jobs.
//!
//! Each importer reads files of one kind and gives [`Imported`]: a definition file in YAML that passes `ostler check`,
//! and a [`Note`] for everything that it could not carry over, with file and line. What guards a step (a condition
//! that Ostler cannot read) is never dropped in silence: the step is switched off, and a note says so. Nothing here
//! touches the disk; the caller reads the files.
//!
//! ```
//! use ostler_import::{File, Options, crontab};
//!
//! let file = File::new("backup", "# Nightly backup\n30 2 * * * /usr/local/bin/backup.sh --all\n");
//! let imported = crontab(&file, &Options::default()).unwrap();
//! assert!(imported.yaml.contains("meta: { id: backup, description: Nightly backup }"), "{}", imported.yaml);
//!
//! let wrong = crontab(&File::new("backup", "61 * * * * true\n"), &Options::default()).unwrap_err();
//! assert_eq!(wrong.to_string(), "backup:1: cron `61 * * * *`: `61` is not a minute: 0 to 59");
//! ```

mod apscheduler;
mod apscheduler_job;
mod apscheduler_trigger;
mod command;
mod crontab;
mod dagu;
mod dagu_step;
mod document;
mod expressions;
mod fields;
mod github;
mod github_job;
mod inputs;
mod job;
mod python;
mod systemd;
mod unit;
mod yaml;

use std::fmt;

use ostler_model::Name;

pub use crate::{apscheduler::apscheduler, crontab::crontab, dagu::dagu, github::github, systemd::systemd};

/// A file to import: how it is named in notes and errors, and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its path, or `-` for standard input.
    pub name: String,
    /// Its bytes.
    pub text: Vec<u8>,
}

impl File {
    /// A file of this name with this text.
    pub fn new(name: impl Into<String>, text: impl Into<Vec<u8>>) -> Self {
        Self { name: name.into(), text: text.into() }
    }

    /// The name without folders and without its suffix.
    pub(crate) fn stem(&self) -> &str {
        let base = self.name.rsplit(['/', '\\']).next().unwrap_or_default();
        base.rsplit_once('.').map_or(base, |(stem, _)| if stem.is_empty() { base } else { stem })
    }

    /// The text, when it is UTF-8 without NUL, which YAML cannot hold.
    pub(crate) fn utf8(&self) -> Result<&str, ImportError> {
        let line_of = |at: usize| line(self.text[..at].iter().filter(|b| **b == b'\n').count());
        let text = std::str::from_utf8(&self.text).map_err(|error| {
            ImportError::at(&self.name, line_of(error.valid_up_to()), "the file is not UTF-8 from here on")
        })?;
        match text.find('\0') {
            Some(at) => Err(ImportError::at(&self.name, line_of(at), "the line holds a NUL character")),
            None => Ok(text.strip_prefix('\u{feff}').unwrap_or(text)),
        }
    }
}

/// The number of a line, from its index.
pub(crate) fn line(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX).saturating_add(1)
}

/// What the definition file says about itself, and how crontabs are read.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The namespace of the tasks. Without one, the file has a namespace of its own.
    pub namespace: Option<Name>,
    /// IANA name of the zone of schedules that name none. Without one, it is the machine's that reads the file.
    pub timezone: Option<String>,
    /// The sixth column of a crontab is the user, as in `/etc/crontab` and `/etc/cron.d`.
    pub system: bool,
}

/// A definition file, and what could not be carried over to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The definition file. The notes stand in it as comments.
    pub yaml: String,
    /// How many tasks it has.
    pub tasks: usize,
    /// What could not be carried over, in the order of the file.
    pub notes: Vec<Note>,
}

/// Something about a place of an imported file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The file, as it was named.
    pub file: String,
    /// The line, from 1; 0 when it is about the file as a whole.
    pub line: u32,
    /// What is to be known about it.
    pub words: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.words),
            line => write!(f, "{}:{line}: {}", self.file, self.words),
        }
    }
}

/// Why files cannot be imported: everything in them that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportError {
    /// What is wrong, in the order of the file.
    pub items: Vec<Note>,
}

impl ImportError {
    /// One thing that is wrong at a place.
    pub(crate) fn at(file: &str, line: u32, words: impl Into<String>) -> Self {
        Self { items: vec![Note { file: file.to_owned(), line, words: words.into() }] }
    }
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, item) in self.items.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{item}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ImportError {}

impl From<ostler_timetable::Diagnostics> for ImportError {
    fn from(found: ostler_timetable::Diagnostics) -> Self {
        let items = found.items.into_iter().map(|d| {
            let words = match d.help {
                Some(help) => format!("{} ({help})", d.message),
                None => d.message,
            };
            Note { file: d.file, line: d.line, words }
        });
        Self { items: items.collect() }
    }
}

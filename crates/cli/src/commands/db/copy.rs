//! `ostler db copy`, and what else reads whole stores.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use clap::Args;
use comfy_table::Cell;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use ostler_clock::{Clock, SystemClock};
use ostler_embedded::{
    Place,
    copy::{self, Copied, CopyError, Step, Tell},
};
use serde_json::{Value, json};

use super::Global;
use crate::{
    error::{CANCELLED, CONFLICT, CliError, FAILED, NOT_FOUND, STORE},
    output,
};

#[derive(Args)]
#[command(
    after_help = "A store is a file (`sqlite:` may stand before it) or a `postgres://` address. The new one must be empty; the same
command goes on with a copy that was interrupted. When all tables are equal by checksum, read back from the new store, it
takes the place of the old one, which stays as it is and may not be changed any more (`ostler db unmark` takes that back).

Nobody may work on the old store meanwhile, unless it is kept: with --keep-source what it holds at this moment is copied
while its nodes go on. Then there are two stores that fire the same schedules.

Run logs, tokens, pauses and everything that waits come along, with their ids. Secrets are not in a store: whoever serves
the new one has them in its environment or its own file.

Examples:
  ostler db copy sqlite:ostler.db postgres://ostler@db.example/work
  ostler db copy postgres://ostler@db.example/work sqlite:ostler.db
  ostler db copy --dry-run ostler.db postgres://ostler@db.example/work
  ostler db copy --keep-source backup.db postgres://ostler@db.example/restored
  ostler db copy --verify ostler.db postgres://ostler@db.example/work"
)]
pub struct Copy {
    /// The store to copy
    from: PathBuf,
    /// Where to: an empty store, or none yet
    to: PathBuf,
    /// Copy what there is at this moment and let the old store go on
    #[arg(long, conflicts_with_all = ["verify", "dry_run"])]
    keep_source: bool,
    /// Say what would be copied, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Only compare the two stores, and change nothing
    #[arg(long, conflicts_with = "dry_run")]
    verify: bool,
}

impl Copy {
    pub fn run(self, global: &Global) -> Result<u8, CliError> {
        let place = |path: &Path| Place::of(path).map_err(CliError::from);
        let (from, to) = (place(&self.from)?, place(&self.to)?);
        if self.dry_run {
            return dry_run(global, &from, &to);
        }
        let progress = Progress::begin(global)?;
        let copied = progress.watch(|tell| match self.verify {
            true => copy::compare(&from, &to, tell),
            false => {
                let job = copy::Copy { from: &from, to: &to, keep: self.keep_source };
                copy::copy(&job, &SystemClock, tell)
            }
        })?;
        let done = match (self.verify, self.keep_source) {
            (true, _) => format!("{from} and {to} are equal"),
            (false, true) => format!(
                "{to} is {from} as it was; both fire the same schedules: pause one of them (`ostler namespaces pause`) if both are served"
            ),
            (false, false) => format!("{to} has taken the place of {from}"),
        };
        let (rows, bytes) = total(&copied);
        let document = json!({
            "from": from.to_string(), "to": to.to_string(), "rows": rows, "bytes": bytes, "tables": tables(&copied)
        });
        global.output.show(&document, |_| told(&copied, &done));
        Ok(0)
    }
}

/// Writes a store into a file.
pub(super) fn back_up(global: &Global, place: &Place, to: &Path) -> Result<u8, CliError> {
    let beside = Place::File(to.to_owned()).logs();
    for path in [to, &beside] {
        if path.exists() {
            return Err(CliError::usage(format!("`{}` is there already", path.display())));
        }
    }
    let progress = Progress::begin(global)?;
    let copied = progress.watch(|tell| copy::back_up(place, to, &SystemClock, tell))?;
    let bytes = std::fs::metadata(to).map(|m| m.len()).unwrap_or_default();
    let mut document = json!({ "file": to, "bytes": bytes });
    if !copied.is_empty() {
        document["tables"] = tables(&copied);
    }
    let done = format!("wrote {} ({})", to.display(), output::bytes(bytes));
    global.output.show(&document, |_| if copied.is_empty() { done } else { told(&copied, &done) });
    Ok(0)
}

pub(super) fn unmark(global: &Global, place: &Place) -> Result<u8, CliError> {
    let mark = copy::unmark(place)?;
    let document = json!({ "store": place.to_string(), "mark": mark });
    global.output.show(&document, |_| match &mark {
        Some(_) => {
            format!("{place} may be used again; whatever has taken its place must not be served any more")
        }
        None => format!("{place} was not moved; nothing has changed"),
    });
    Ok(0)
}

fn dry_run(global: &Global, from: &Place, to: &Place) -> Result<u8, CliError> {
    let contents = copy::contents(from)?;
    let rows: u64 = contents.iter().map(|(_, rows)| rows).sum();
    let tables: Vec<_> =
        contents.iter().map(|(table, rows)| json!({ "table": table, "rows": rows })).collect();
    let document = json!({ "from": from.to_string(), "to": to.to_string(), "rows": rows, "tables": tables });
    global.output.show(&document, |_| {
        let lines = contents.iter().map(|(table, rows)| vec![Cell::new(table), Cell::new(rows)]).collect();
        let table = output::table(&["table", "rows"], lines);
        format!("{table}\n{rows} rows would be copied from {from} to {to}")
    });
    Ok(0)
}

fn tables(copied: &[Copied]) -> Value {
    copied
        .iter()
        .map(|c| json!({ "table": c.table, "rows": c.sum.rows, "bytes": c.sum.bytes, "checksum": c.sum.digest() }))
        .collect()
}

fn total(copied: &[Copied]) -> (u64, u64) {
    copied.iter().fold((0, 0), |(rows, bytes), c| (rows + c.sum.rows, bytes + c.sum.bytes))
}

/// One line a table that holds something, and what was done.
fn told(copied: &[Copied], done: &str) -> String {
    let filled = copied.iter().filter(|c| c.sum.rows > 0);
    let lines = filled.map(|c| vec![Cell::new(c.table), Cell::new(c.sum.rows), Cell::new(c.sum.digest())]);
    let table = output::table(&["table", "rows", "checksum"], lines.collect());
    let (rows, bytes) = total(copied);
    let bytes = output::bytes(bytes);
    format!("{table}\n{done}: {rows} rows ({bytes}), the same checksums in both")
}

/// A bar on a terminal, and the wish to stop.
struct Progress {
    bar: ProgressBar,
    stop: Arc<AtomicBool>,
    began: std::time::Duration,
    _runtime: tokio::runtime::Runtime,
}

impl Progress {
    fn begin(global: &Global) -> Result<Self, CliError> {
        let bar = if global.output.is_machine() { ProgressBar::hidden() } else { ProgressBar::new(0) };
        if let Ok(style) = ProgressStyle::with_template("{msg} {bar:30} {percent}% {eta}") {
            bar.set_style(style);
        }
        let runtime = crate::context::runtime()?;
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        runtime.spawn(async move {
            // A second one does not wait for a server that does not answer: what was written can be gone on with.
            while tokio::signal::ctrl_c().await.is_ok() {
                if told.swap(true, Ordering::Relaxed) {
                    std::process::exit(CANCELLED.into());
                }
            }
        });
        Ok(Self { bar, stop, began: SystemClock.elapsed(), _runtime: runtime })
    }

    fn watch<T>(&self, work: impl FnOnce(Tell<'_>) -> Result<T, CopyError>) -> Result<T, CliError> {
        let done = work(&mut |step: Step| {
            let seconds = SystemClock.elapsed().saturating_sub(self.began).as_secs_f64().max(0.001);
            let doing = if step.comparing { "comparing" } else { "copying" };
            self.bar.set_length(step.of);
            self.bar.set_position(step.rows);
            self.bar.set_message(format!(
                "{doing} {:10} {} ({:.0}/s), {}",
                step.table,
                step.rows,
                step.rows as f64 / seconds,
                HumanBytes(step.bytes)
            ));
            !self.stop.load(Ordering::Relaxed)
        });
        self.bar.finish_and_clear();
        Ok(done?)
    }
}

impl From<CopyError> for CliError {
    fn from(error: CopyError) -> Self {
        let words = error.to_string();
        match error {
            CopyError::Open(error) => error.into(),
            CopyError::Memory | CopyError::Same(_) => Self::usage(words),
            CopyError::Missing(_) => Self::new(NOT_FOUND, "not_found", words),
            CopyError::AtWork { .. }
            | CopyError::NotEmpty { .. }
            | CopyError::AlreadyMoved { .. }
            | CopyError::TakenBack(_)
            | CopyError::OtherSource { .. }
            | CopyError::OtherTarget { .. } => Self::new(CONFLICT, "conflict", words),
            CopyError::Stopped => Self::new(CANCELLED, "cancelled", words),
            CopyError::Differs { .. } => Self::new(FAILED, "different", words).hint(
                "a store that was being filled stays unusable: delete it and copy again; `ostler db check` looks for damage",
            ),
            _ => Self::new(STORE, "store", words),
        }
    }
}

//! `ostler db`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use ostler_api::RetentionPolicy;
use ostler_embedded::Place;
use ostler_model::Span;
use ostler_store_sqlite::admin;
use serde_json::json;

use super::Global;
use crate::{
    context,
    error::{CliError, FAILED, STORE},
    output,
};

/// Check, back up and shrink the store
#[derive(Subcommand)]
pub enum Db {
    /// Show how large the store is and what stands in its queue
    Stats,
    /// Look for damage: the file's, and records that contradict one another
    Check,
    /// Write a copy of the store while it is in use
    Backup(Backup),
    /// Give free pages back, so that the file shrinks
    Vacuum,
    /// Delete old history now
    Prune(Prune),
}

#[derive(Args)]
pub struct Backup {
    /// The new file; what is there is not overwritten
    to: PathBuf,
}

#[derive(Args)]
#[command(after_help = "Examples:\n  ostler db prune --keep-age 30d\n  ostler db prune --keep-count 10000")]
pub struct Prune {
    /// Ended runs are kept so long
    #[arg(long)]
    keep_age: Option<Span>,
    /// So many ended runs are kept
    #[arg(long)]
    keep_count: Option<u64>,
    /// The store stays below so many bytes
    #[arg(long)]
    keep_bytes: Option<u64>,
}

impl Db {
    pub fn run(self, global: &Global) -> Result<u8, CliError> {
        if crate::remote::server(global)?.is_some() {
            return Err(CliError::usage("`db` works on a store of this machine, not on a server"));
        }
        let place = context::place(global);
        let file = match &place {
            Place::File(path) if path.exists() => path.clone(),
            Place::File(path) => {
                return Err(CliError::new(
                    STORE,
                    "store",
                    format!("there is no store at `{}`", path.display()),
                ));
            }
            Place::Memory => {
                return Err(CliError::usage(
                    "a store in memory ends with its process; name a file with `--store`",
                ));
            }
        };
        let trouble = |e: ostler_store::StoreError| CliError::from(e);
        match self {
            Self::Stats => {
                let stats = context::api(global)?.stats()?;
                let document = json!({ "store": file, "stats": stats });
                global.output.show(&document, |_| {
                    format!(
                        "store    {}\nschema   {}\nsize     {} ({} free)\nlogs     {}\nqueue    {} later, {} ready, {} claimed, {} held\nevents   {} to {}",
                        file.display(),
                        stats.schema,
                        output::bytes(stats.bytes),
                        output::bytes(stats.free_bytes),
                        output::bytes(stats.log_bytes),
                        stats.later,
                        stats.ready,
                        stats.claimed,
                        stats.held,
                        stats.first_event,
                        stats.last_event
                    )
                });
                Ok(0)
            }
            Self::Check => {
                let findings = admin::check(&file).map_err(trouble)?;
                let document = json!({ "ok": findings.is_empty(), "findings": findings });
                global.output.show(&document, |_| {
                    if findings.is_empty() { "ok".to_owned() } else { findings.join("\n") }
                });
                Ok(if findings.is_empty() { 0 } else { FAILED })
            }
            Self::Backup(backup) => {
                if backup.to.exists() {
                    return Err(CliError::usage(format!("`{}` is there already", backup.to.display())));
                }
                let bar =
                    if global.output.is_machine() { ProgressBar::hidden() } else { ProgressBar::new(0) };
                if let Ok(style) = ProgressStyle::with_template("{bar:40} {percent}% {eta}") {
                    bar.set_style(style);
                }
                admin::backup(&file, &backup.to, |done, total| {
                    bar.set_length(total);
                    bar.set_position(done);
                })
                .map_err(trouble)?;
                bar.finish_and_clear();
                let bytes = std::fs::metadata(&backup.to).map(|m| m.len()).unwrap_or_default();
                global.output.show(&json!({ "file": backup.to, "bytes": bytes }), |_| {
                    format!("wrote {} ({})", backup.to.display(), output::bytes(bytes))
                });
                Ok(0)
            }
            Self::Vacuum => {
                let size = || std::fs::metadata(&file).map(|m| m.len()).unwrap_or_default();
                let before = size();
                admin::vacuum(&file).map_err(trouble)?;
                let after = size();
                global.output.show(&json!({ "before": before, "after": after }), |_| {
                    format!("{} before, {} now", output::bytes(before), output::bytes(after))
                });
                Ok(0)
            }
            Self::Prune(prune) => {
                if prune.keep_age.is_none() && prune.keep_count.is_none() && prune.keep_bytes.is_none() {
                    return Err(CliError::usage(
                        "say what to keep: --keep-age, --keep-count or --keep-bytes",
                    ));
                }
                let policy =
                    RetentionPolicy { age: prune.keep_age, count: prune.keep_count, bytes: prune.keep_bytes };
                let api = context::api(global)?;
                let (mut runs, mut events) = (0, 0);
                loop {
                    let report = api.prune(&policy)?;
                    runs += report.runs.len();
                    events += report.events;
                    if !report.more {
                        break;
                    }
                }
                global.output.show(&json!({ "runs": runs, "events": events }), |_| {
                    format!("{runs} runs and {events} events deleted")
                });
                Ok(0)
            }
        }
    }
}

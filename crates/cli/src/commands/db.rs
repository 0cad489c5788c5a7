//! `ostler db`.

mod copy;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
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

/// Check, back up, move and shrink the store
#[derive(Subcommand)]
pub enum Db {
    /// Show how large the store is and what stands in its queue
    Stats,
    /// Look for damage: the file's, and records that contradict one another
    ///
    /// On PostgreSQL only the records are looked at, as they are at one moment; the files are the server's business.
    Check,
    /// Write a copy of the store into a file while it is in use
    Backup(Backup),
    /// Move the store to another place: from a file to PostgreSQL, back, or to another of its sort
    Copy(copy::Copy),
    /// Let a store be used again that was moved
    Unmark,
    /// Give free pages back, so that the file shrinks
    Vacuum,
    /// Delete old history now
    Prune(Prune),
}

#[derive(Args)]
#[command(
    after_help = "What is written is an embedded store, whichever store it is made from, with the run logs beside it
(FILE.logs). On PostgreSQL all of it is of one moment and was compared with what is there.

Examples:
  ostler db backup today.db
  ostler db backup today.db --store postgres://ostler@db.example/work
  ostler db copy --keep-source today.db postgres://ostler@db.example/restored"
)]
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
        if !matches!(self, Self::Copy(_)) && crate::remote::server(global)?.is_some() {
            return Err(CliError::usage("`db` works on a store of this machine, not on a server"));
        }
        let place = context::place(global)?;
        match self {
            Self::Stats => stats(global, &place),
            Self::Prune(prune) => prune.run(global),
            Self::Check => check(global, &place),
            Self::Backup(backup) => copy::back_up(global, &place, &backup.to),
            Self::Copy(copy) => copy.run(global),
            Self::Unmark => copy::unmark(global, &place),
            Self::Vacuum => vacuum(global, &file(&place)?),
        }
    }
}

/// The file of a store; of what the server looks after, how it is done there.
fn file(place: &Place) -> Result<PathBuf, CliError> {
    match place {
        Place::File(path) if path.exists() => Ok(path.clone()),
        Place::File(path) => {
            Err(CliError::new(STORE, "store", format!("there is no store at `{}`", path.display())))
        }
        Place::Memory => {
            Err(CliError::usage("a store in memory ends with its process; name a file with `--store`"))
        }
        Place::Postgres(_) => Err(CliError::usage("a store on PostgreSQL gives room back by autovacuum")
            .hint("`VACUUM FULL` of its tables does it at once, while nobody works on them")),
    }
}

fn stats(global: &Global, place: &Place) -> Result<u8, CliError> {
    let stats = context::api(global)?.stats()?;
    let document = json!({ "store": place.to_string(), "stats": stats });
    global.output.show(&document, |_| {
        format!(
            "store    {}\nschema   {}\nsize     {} ({} free)\nlogs     {}\nqueue    {} later, {} ready, {} claimed, {} held\nevents   {} to {}",
            place,
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

fn check(global: &Global, place: &Place) -> Result<u8, CliError> {
    let findings = match place {
        Place::Postgres(address) => ostler_store_postgres::check(address)?,
        place => admin::check(&file(place)?)?,
    };
    let document = json!({ "ok": findings.is_empty(), "findings": findings });
    global.output.show(
        &document,
        |_| {
            if findings.is_empty() { "ok".to_owned() } else { findings.join("\n") }
        },
    );
    Ok(if findings.is_empty() { 0 } else { FAILED })
}

fn vacuum(global: &Global, file: &Path) -> Result<u8, CliError> {
    let size = || std::fs::metadata(file).map(|m| m.len()).unwrap_or_default();
    let before = size();
    admin::vacuum(file)?;
    let after = size();
    global.output.show(&json!({ "before": before, "after": after }), |_| {
        format!("{} before, {} now", output::bytes(before), output::bytes(after))
    });
    Ok(0)
}

impl Prune {
    fn run(self, global: &Global) -> Result<u8, CliError> {
        if self.keep_age.is_none() && self.keep_count.is_none() && self.keep_bytes.is_none() {
            return Err(CliError::usage("say what to keep: --keep-age, --keep-count or --keep-bytes"));
        }
        let policy = RetentionPolicy { age: self.keep_age, count: self.keep_count, bytes: self.keep_bytes };
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

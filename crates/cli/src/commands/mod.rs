//! The commands, one file each.

mod answers;
mod calendar;
mod check;
mod completions;
mod config;
mod db;
mod diff;
mod events;
mod export;
mod import;
mod init;
mod logs;
mod mcp;
mod namespaces;
mod nodes;
mod presets;
mod push;
mod run;
mod runs;
mod schedules;
mod serve;
mod sinks;
mod tasks;
mod tokens;
mod triggers;
mod why;
mod worker;
mod worker_test;

use std::path::PathBuf;

use clap::{
    Args, Parser, Subcommand,
    builder::{PossibleValuesParser, TypedValueParser},
};
use ostler_api::{ApiError, ListPage, PageRequest, Sort, SortKey};

use crate::{error::CliError, output::Output};

/// Runs the things that must happen, when they must happen, exactly as often as they should, and keeps the record.
#[derive(Parser)]
#[command(name = "ostler", version, max_term_width = 110, propagate_version = true, after_help = EXAMPLES)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  ostler run timetable.yaml                    every task of the file once, now
  ostler run --when 'every 5s' -- cmd:date     a command as a small daemon
  ostler serve timetable.yaml                  schedules fire until Ctrl-C
  ostler runs list --state failed,timed_out    what went wrong
  ostler why 0193a2b4-5c6d-7e8f-9a0b-1c2d3e4f5a6b
  ostler runs list --server http://127.0.0.1:7467 the same, of a server
  ostler calendar explain '*/5 9-17 * * MON-FRI' --timezone Europe/Berlin

Exit codes: 0 ok, 1 a run failed, 2 usage or bad input, 3 not found, 4 conflict, busy or skipped,
5 store unavailable, 124 timed out, 130 cancelled.";

/// Options of every command.
#[derive(Args, Clone)]
pub struct Global {
    /// The store: a file, `:memory:`, or a `postgres://` URL [default: ostler.db in the platform's data directory]
    #[arg(long, global = true, env = "OSTLER_STORE", value_name = "PATH")]
    pub store: Option<PathBuf>,
    /// The server that answers, instead of a store on this machine
    #[arg(long, global = true, env = "OSTLER_SERVER", value_name = "URL")]
    pub server: Option<String>,
    /// A profile of the configuration file: a server with its token
    #[arg(long, global = true, env = "OSTLER_PROFILE", value_name = "NAME")]
    pub profile: Option<String>,
    /// The form of the output
    #[arg(
        long,
        short = 'o',
        global = true,
        env = "OSTLER_OUTPUT_FORMAT",
        value_enum,
        default_value_t,
        hide_possible_values = false
    )]
    pub output: Output,
    /// How much to say on standard error: error, warn, info, debug, trace
    #[arg(long, global = true, env = "OSTLER_LOG_LEVEL", value_name = "LEVEL", default_value = "warn")]
    pub log_level: String,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Write a first timetable
    Init(init::Init),
    /// Check definition files and say everything that is wrong
    Check(check::Check),
    /// Run a file, a task or a command, and show how it goes
    Run(run::Run),
    /// Fire schedules and run what is queued, until told to stop
    Serve(serve::Serve),
    /// Take jobs from a server and carry them out here, until told to stop
    Worker(worker::Worker),
    /// Check that a program is a worker as the protocol has it
    WorkerTest(worker_test::WorkerTest),
    /// Store the definitions of a file
    Push(push::Push),
    /// Show what a push would change
    Diff(diff::Diff),
    /// Write stored definitions as a file
    Export(export::Export),
    /// Turn crontabs, systemd timers and files of other schedulers into a definition file
    #[command(subcommand)]
    Import(import::Import),
    /// List, show, cancel and retry runs
    #[command(subcommand)]
    Runs(runs::Runs),
    /// List, show, pause and resume tasks
    #[command(subcommand)]
    Tasks(tasks::Tasks),
    /// List presets
    #[command(subcommand)]
    Presets(presets::Presets),
    /// List, preview, replay, pause and resume schedules
    #[command(subcommand)]
    Schedules(schedules::Schedules),
    /// List, fire, pause and resume triggers
    #[command(subcommand)]
    Triggers(triggers::Triggers),
    /// List, pause, resume and reset sinks, which carry events out
    #[command(subcommand)]
    Sinks(sinks::Sinks),
    /// Send a run a signal
    Signal(answers::Signal),
    /// Approve what a run waits for
    Approve(answers::Decision),
    /// Reject what a run waits for
    Reject(answers::Decision),
    /// List, pause and resume namespaces
    #[command(subcommand)]
    Namespaces(namespaces::Namespaces),
    /// Show the processes that work on the store, or did lately
    Nodes(nodes::Nodes),
    /// Show what happened, event by event
    Events(events::Events),
    /// Show what a run wrote
    Logs(logs::Logs),
    /// Explain why a run or schedule is as it is
    Why(why::Why),
    /// Explain when things are due
    #[command(subcommand)]
    Calendar(calendar::Calendar),
    /// Check, back up and shrink the store
    #[command(subcommand)]
    Db(db::Db),
    /// Make, list and revoke tokens for callers over the network
    #[command(subcommand)]
    Tokens(tokens::Tokens),
    /// Answer an agent on standard input and output (Model Context Protocol)
    Mcp(mcp::Mcp),
    /// Show every setting with its source
    #[command(subcommand)]
    Config(config::Config),
    /// Print completions for a shell
    Completions(completions::Completions),
}

/// Carries a command out and gives the exit code.
pub fn dispatch(cli: Cli) -> Result<u8, CliError> {
    crate::context::start_logging(&cli.global)?;
    let global = &cli.global;
    match cli.command {
        Command::Init(command) => command.run(global),
        Command::Check(command) => command.run(global),
        Command::Run(command) => command.run(global),
        Command::Serve(command) => command.run(global),
        Command::Worker(command) => command.run(global),
        Command::WorkerTest(command) => command.run(global),
        Command::Push(command) => command.run(global),
        Command::Diff(command) => command.run(global),
        Command::Export(command) => command.run(global),
        Command::Import(command) => command.run(global),
        Command::Runs(command) => command.run(global),
        Command::Tasks(command) => command.run(global),
        Command::Presets(command) => command.run(global),
        Command::Schedules(command) => command.run(global),
        Command::Triggers(command) => command.run(global),
        Command::Sinks(command) => command.run(global),
        Command::Signal(command) => command.run(global),
        Command::Approve(command) => command.run(global, true),
        Command::Reject(command) => command.run(global, false),
        Command::Namespaces(command) => command.run(global),
        Command::Nodes(command) => command.run(global),
        Command::Events(command) => command.run(global),
        Command::Logs(command) => command.run(global),
        Command::Why(command) => command.run(global),
        Command::Calendar(command) => command.run(global),
        Command::Db(command) => command.run(global),
        Command::Tokens(command) => command.run(global),
        Command::Mcp(command) => command.run(global),
        Command::Config(command) => command.run(global),
        Command::Completions(command) => command.run(),
    }
}

/// Order and paging options of lists.
#[derive(Args, Clone)]
pub struct Paging<K: SortKey> {
    /// In this order; `-` before it turns it round
    #[arg(long, value_name = "ORDER", default_value = Sort::<K>::default().word(), value_parser = order::<K>(), allow_hyphen_values = true)]
    pub sort: Sort<K>,
    /// At most so many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
    /// Go on after this cursor (`next` of the page before)
    #[arg(long, value_name = "CURSOR")]
    pub after: Option<String>,
    /// All pages
    #[arg(long, conflicts_with = "after")]
    pub all: bool,
}

/// The orders of a list as values of `--sort`.
pub fn order<K: SortKey>() -> impl TypedValueParser<Value = Sort<K>> {
    PossibleValuesParser::new(Sort::<K>::words()).try_map(|word| word.parse::<Sort<K>>())
}

impl<K: SortKey> Paging<K> {
    /// All of a list.
    pub fn everything() -> Self {
        Self { sort: Sort::default(), limit: 1000, after: None, all: true }
    }

    /// Collects pages as the options say.
    pub fn collect<T>(
        &self,
        mut page: impl FnMut(&PageRequest<K>) -> Result<ListPage<T>, ApiError>,
    ) -> Result<ListPage<T>, CliError> {
        let asked = PageRequest::after(self.after.as_deref(), self.limit).sorted(self.sort);
        let mut found = page(&asked)?;
        while self.all
            && let Some(next) = found.next.take()
        {
            let more = page(&PageRequest::after(Some(&next), 1000).sorted(self.sort))?;
            found.items.extend(more.items);
            found.next = more.next;
            found.complete = more.complete;
        }
        Ok(found)
    }
}

/// What a list says below its table.
pub fn list_footer(shown: usize, what: &str, next: Option<&str>) -> String {
    match next {
        Some(next) => format!("\n{shown} {what} shown; more with --after {next}"),
        None if shown == 0 => format!("no {what}"),
        None => String::new(),
    }
}

//! The binary `ostler`: the command line, on the embedded store or on a server.
#![allow(unreachable_pub, reason = "a binary has no outside")]

mod commands;
mod context;
mod error;
mod live;
mod output;
mod remote;
mod sources;
mod when;

use std::process::ExitCode;

use clap::Parser;

/// Machines are made on one thread and dropped on another all the time, which this allocator is much better at than
/// the C library's (the bench's Q1 shows it).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The spawner is this program once more (ARCHITECTURE.md, "Processes"); it must not pay for anything below.
    if std::env::args_os().nth(1).is_some_and(|arg| arg == "__spawner") {
        return ostler_executors::spawner_main();
    }
    let cli = match commands::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { error::USAGE } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let output = cli.global.output;
    match commands::dispatch(cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            error.print(output);
            ExitCode::from(error.code)
        }
    }
}

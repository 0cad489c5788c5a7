//! `ostler run`.

mod adhoc;
mod foreground;
mod inputs;
mod outcome;
mod prepare;
mod remote;

use std::path::{Path, PathBuf};

use clap::Args;
pub use inputs::read_inputs;
use ostler_model::definition::Timetable;

use super::Global;
use crate::{
    context,
    error::CliError,
    when::{self, When},
};

/// Run a file, a task or a command, and show how it goes
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Run {
    /// A FILE when it ends in .yaml, .yml, .json, .toml or .py, is `.` or `-`, begins with ./, ../ or /, or is a URL;
    /// else a TASK, `task` or `namespace:task`
    #[arg(value_name = "FILE|TASK")]
    target: Option<String>,
    /// Take this file
    #[arg(long, short = 'f', value_name = "FILE", conflicts_with_all = ["target", "command"])]
    file: Option<PathBuf>,
    /// With a file: only this task. Without one: this stored task
    #[arg(long, short = 't', value_name = "TASK")]
    task: Option<String>,
    /// A shell line
    #[arg(long, short = 'c', value_name = "LINE", conflicts_with_all = ["target", "file", "task"])]
    command: Option<String>,
    /// once, a cron expression, an alias (@daily), `every 5s`, or `file`; with any but `once` it stays until Ctrl-C
    #[arg(long, short = 'w', value_name = "WHEN")]
    when: Option<String>,
    /// With `--when 'every …'`: count the interval from the end of the run before
    #[arg(long)]
    spaced: bool,
    /// An input: `k=v` by the task's schema, `k:=JSON` as it is, `k=@file` from a file
    #[arg(long = "input", short = 'i', value_name = "K=V")]
    inputs: Vec<String>,
    /// Inputs of this preset
    #[arg(long, short = 'p')]
    preset: Option<String>,
    /// Queue it and do not wait
    #[arg(long, short = 'd', conflicts_with = "when")]
    detach: bool,
    /// Say what would run, with resolved values and the next due moments, and run nothing
    #[arg(long, conflicts_with_all = ["detach", "when"])]
    dry_run: bool,
    /// The same key is answered with the same run
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// `payload`: exit with the code of the one run's process
    #[arg(long, value_name = "WHOSE", value_parser = ["ostler", "payload"], default_value = "ostler")]
    exit_code: String,
    /// How many steps at a time
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    slots: u32,
    /// What to execute: `cmd:LINE`, `python:CODE`, or a program with its arguments
    #[arg(last = true, value_name = "ARGV", conflicts_with_all = ["target", "file", "task", "command"])]
    argv: Vec<String>,
}

const EXAMPLES: &str = "\
Examples:
  ostler run                                     ostler.yaml or supertask.yaml of this folder, every task once
  ostler run timetable.yaml --task pull -i station=EDDB
  ostler run demo:pull --input station=EDDB --detach
  ostler run --command 'echo $((1+1))'
  ostler run -- cmd:'date; uptime'
  ostler run -- python:'print(1 + 1)'
  ostler run -- rsync -a src/ backup/
  ostler run --when @daily -- cmd:'backup.sh'
  ostler run --when 'every 2s' --spaced -- cmd:date";

/// What is to be run.
enum Target {
    File(PathBuf),
    Task(String),
    Adhoc(Box<Timetable>),
}

impl Run {
    pub fn run(self, global: &Global) -> Result<u8, CliError> {
        let when = self.when.as_deref().map(|w| when::parse(w, self.spaced)).transpose()?;
        if self.spaced && !matches!(when, Some(When::Trigger(_))) {
            return Err(CliError::usage("`--spaced` goes with `--when 'every …'`"));
        }
        let target = self.target()?;
        match (target, when) {
            (Target::File(path), Some(When::File)) => super::serve::follow(global, path, self.slots),
            (_, Some(When::File)) => Err(CliError::usage("`--when file` goes with a file")),
            (target, _) if self.dry_run => prepare::dry_run(global, &self, target),
            (target, when) => match crate::remote::server(global)? {
                Some(server) => remote::run(global, &self, target, when, &server),
                None => foreground::run(global, &self, target, when),
            },
        }
    }

    fn target(&self) -> Result<Target, CliError> {
        if let Some(line) = &self.command {
            return Ok(Target::Adhoc(Box::new(adhoc::shell(line)?)));
        }
        if !self.argv.is_empty() {
            return Ok(Target::Adhoc(Box::new(adhoc::argv(&self.argv)?)));
        }
        if let Some(file) = &self.file {
            return Ok(Target::File(file.clone()));
        }
        match (&self.target, &self.task) {
            (Some(target), _) if is_file(target) => Ok(Target::File(target.into())),
            (Some(_), Some(_)) => Err(CliError::usage("both a task and `--task` were named")),
            (Some(task), None) | (None, Some(task)) => Ok(Target::Task(task.clone())),
            (None, None) => Ok(Target::File(context::default_file()?)),
        }
    }
}

/// Decision 16: told by the spelling alone; the disk is never consulted.
fn is_file(target: &str) -> bool {
    let suffix = Path::new(target).extension().and_then(|e| e.to_str()).unwrap_or_default();
    matches!(suffix, "yaml" | "yml" | "json" | "toml" | "py")
        || matches!(target, "." | ".." | "-")
        || ["./", "../", "/"].iter().any(|head| target.starts_with(head))
        || target.contains("://")
}

#[cfg(test)]
mod tests {
    use super::is_file;

    #[test]
    fn files_and_tasks_are_told_by_their_spelling() {
        for file in
            ["a.yaml", "a.yml", "x/a.json", "a.toml", "job.py", ".", "-", "./a", "../a", "/a", "https://x/y"]
        {
            assert!(is_file(file), "{file}");
        }
        for task in ["a", "demo:a", "a.b", "yaml", "demo:a.b"] {
            assert!(!is_file(task), "{task}");
        }
    }
}

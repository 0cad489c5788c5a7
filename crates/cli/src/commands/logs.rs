//! `ostler logs`.

use std::{io::Write, time::Duration};

use clap::Args;
use ostler_api::{LogLine, LogRequest, LogStream};
use ostler_model::Uid;
use serde_json::json;

use super::Global;
use crate::{
    context,
    error::CliError,
    output::{self, Output},
};

/// Lines asked for at a time.
const PAGE: u32 = 5000;

/// How long one answer is waited for; then the next is asked for.
const PATIENCE: Duration = Duration::from_secs(20);

/// Show what a run wrote
#[derive(Args)]
#[command(
    after_help = "The log of a flow is that of its steps, one after the other.\n\nExamples:\n  ostler logs 0193…\n  ostler logs 0193… --follow\n  ostler logs 0193… --tail 100 --stream stderr --timestamps\n  ostler logs 0193… --grep 'connection refused'"
)]
pub struct Logs {
    /// The run
    id: Uid,
    /// Go on as lines come, until the run has ended
    #[arg(long, short = 'f')]
    follow: bool,
    /// Only the last lines
    #[arg(long, short = 'n', conflicts_with = "follow")]
    tail: Option<u32>,
    /// Only of this stream: stdout, stderr, system
    #[arg(long, value_parser = ["stdout", "stderr", "system"])]
    stream: Option<String>,
    /// Only of this attempt
    #[arg(long)]
    attempt: Option<u32>,
    /// Only lines that hold this text
    #[arg(long, value_name = "TEXT")]
    grep: Option<String>,
    /// With the moment of each line
    #[arg(long, short = 't')]
    timestamps: bool,
}

impl Logs {
    pub fn run(self, global: &Global) -> Result<u8, CliError> {
        let api = context::api(global)?;
        let mut request = LogRequest {
            stream: self.stream.as_deref().map(|s| match s {
                "stdout" => LogStream::Stdout,
                "stderr" => LogStream::Stderr,
                _ => LogStream::System,
            }),
            attempt: self.attempt,
            grep: self.grep.clone(),
            tail: self.tail,
            after: None,
            limit: Some(PAGE),
        };
        // Lines of many pages are one document; without that wish they are printed as they come.
        let as_document = global.output.is_machine() && !self.follow;
        let mut all = Vec::new();
        let patience = if self.follow { PATIENCE } else { Duration::ZERO };
        loop {
            let page = api.logs(self.id, &request, patience)?;
            let is_last =
                page.complete || request.tail.is_some() || (!self.follow && page.items.len() < PAGE as usize);
            if as_document {
                all.extend(page.items);
            } else {
                self.print(&page.items, global.output);
            }
            if is_last {
                break;
            }
            request.after = Some(page.next);
        }
        if as_document {
            output::print(&global.output.text(&json!({ "items": all, "next": null, "complete": true })));
        }
        Ok(0)
    }

    fn print(&self, lines: &[LogLine], form: Output) {
        let mut out = std::io::stdout().lock();
        for line in lines {
            if form.is_machine() {
                let _ = writeln!(out, "{}", serde_json::to_string(line).unwrap_or_default());
                continue;
            }
            let time = if self.timestamps { format!("{} ", line.at) } else { String::new() };
            let label = line.step.as_ref().map_or_else(String::new, |s| format!("{s} | "));
            let _ = writeln!(out, "{time}{label}{}", line.line);
        }
        let _ = out.flush();
    }
}

//! `ostler logs`.

use std::{io::Write, time::Duration};

use clap::Args;
use ostler_execution::Stream;
use ostler_executors::{LogCursor, LogQuery, LogRecord};
use ostler_model::Uid;
use ostler_service::{RunQuery, Service};
use serde_json::json;

use super::Global;
use crate::{
    context,
    error::{CliError, STORE},
    output,
};

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
    tail: Option<usize>,
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
        let (embedded, service) = context::service(global)?;
        let actor = context::actor();
        let run = service.run(&actor, self.id)?;
        let query = LogQuery {
            stream: self.stream.as_deref().map(|s| match s {
                "stdout" => Stream::Stdout,
                "stderr" => Stream::Stderr,
                _ => Stream::System,
            }),
            attempt: self.attempt,
            text: self.grep.clone(),
        };
        let read = |id: Uid, after: Option<LogCursor>| {
            embedded
                .logs()
                .read(id, &query, after)
                .map_err(|e| CliError::new(STORE, "store", format!("the log of {id} cannot be read: {e}")))
        };
        let parts = self.parts(&service, &run)?;
        if !self.follow {
            return self.show(&embedded, &query, &parts, global);
        }
        let mut cursors: std::collections::HashMap<Uid, LogCursor> = std::collections::HashMap::new();
        loop {
            // Asked before the logs are read: what an ended run wrote is all there then.
            let run = service.run(&actor, self.id)?;
            for (id, step) in self.parts(&service, &run)? {
                let (records, cursor) = read(id, cursors.get(&id).copied())?;
                cursors.insert(id, cursor);
                for record in records {
                    if global.output.is_machine() {
                        output::print(&document(step.as_deref(), &record).to_string());
                    } else {
                        self.print(step.as_deref(), &record);
                    }
                }
            }
            if run.state.is_final() {
                return Ok(0);
            }
            std::thread::sleep(Duration::from_millis(150));
        }
    }

    /// What is there now: a document, or line by line, however much it is.
    fn show(
        &self,
        embedded: &ostler_embedded::Embedded,
        query: &LogQuery,
        parts: &[(Uid, Option<String>)],
        global: &Global,
    ) -> Result<u8, CliError> {
        let trouble =
            |e: std::io::Error| CliError::new(STORE, "store", format!("the log cannot be read: {e}"));
        let mut records = Vec::new();
        for (id, step) in parts {
            if let Some(tail) = self.tail {
                let found = embedded.logs().tail(*id, query, tail).map_err(trouble)?;
                records.extend(found.into_iter().map(|r| (step.clone(), r)));
                continue;
            }
            let mut reader = embedded.logs().reader(*id, query.clone(), None);
            while let Some(record) = reader.next_record().map_err(trouble)? {
                if global.output.is_machine() {
                    records.push((step.clone(), record));
                } else {
                    self.print(step.as_deref(), &record);
                }
            }
        }
        if let Some(tail) = self.tail {
            records.drain(..records.len().saturating_sub(tail));
        }
        if global.output.is_machine() {
            let items: Vec<_> = records.iter().map(|(step, r)| document(step.as_deref(), r)).collect();
            output::print(&global.output.text(&json!({ "items": items, "next": null, "complete": true })));
        } else {
            for (step, record) in &records {
                self.print(step.as_deref(), record);
            }
        }
        Ok(0)
    }

    /// The runs whose logs are shown, with the step each belongs to.
    fn parts(
        &self,
        service: &Service,
        run: &ostler_service::RunView,
    ) -> Result<Vec<(Uid, Option<String>)>, CliError> {
        if run.kind != "flow" {
            return Ok(vec![(run.id, None)]);
        }
        let query = RunQuery { parent: Some(run.id), ..RunQuery::default() };
        let mut children = service.runs(&context::actor(), &query, None, 10_000)?.items;
        children.sort_by_key(|c| c.id);
        Ok(children.into_iter().map(|c| (c.id, c.step)).collect())
    }

    fn print(&self, step: Option<&str>, record: &LogRecord) {
        let mut out = std::io::stdout().lock();
        let time = if self.timestamps { format!("{} ", record.at) } else { String::new() };
        let label = step.map_or_else(String::new, |s| format!("{s} | "));
        let _ = write!(out, "{time}{label}");
        let _ = out.write_all(&record.line);
        let _ = out.write_all(b"\n");
    }
}

fn document(step: Option<&str>, record: &LogRecord) -> serde_json::Value {
    json!({
        "at": record.at,
        "step": step,
        "attempt": record.attempt,
        "stream": record.stream,
        "line": String::from_utf8_lossy(&record.line),
    })
}

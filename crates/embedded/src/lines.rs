//! Pages of what runs wrote: of one run, or of a flow's steps one after the other.

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ostler_api::{ApiError, ErrorKind, LogLine, LogPage, LogRequest, LogStream, PageRequest, RunQuery};
use ostler_execution::Stream;
use ostler_executors::{LogCursor, LogQuery, LogRecord};
use ostler_model::Uid;

use crate::Local;

/// Lines on a page when nothing is said.
const LINES: u32 = 1000;

/// Steps of a flow whose logs are shown.
const STEPS: u32 = 10_000;

/// Where each part's log is read from.
type Places = BTreeMap<Uid, LogCursor>;

impl Local {
    /// One page of lines, and where to go on.
    pub(crate) fn log_page(&self, id: Uid, request: &LogRequest) -> Result<LogPage, ApiError> {
        // Asked before the logs are read: what an ended run wrote is all there then.
        let run = self.service.run(&self.actor, id)?;
        let mut parts = vec![(run.id, None)];
        if run.kind == "flow" {
            let query = RunQuery { parent: Some(run.id), ..RunQuery::default() };
            let mut steps = self.service.runs(&self.actor, &query, &PageRequest::first(STEPS))?.items;
            steps.sort_by_key(|step| step.id);
            parts = steps.into_iter().map(|step| (step.id, step.step)).collect();
        }
        let query = LogQuery {
            stream: request.stream.map(|stream| match stream {
                LogStream::Stdout => Stream::Stdout,
                LogStream::Stderr => Stream::Stderr,
                LogStream::System => Stream::System,
            }),
            attempt: request.attempt,
            text: request.grep.clone(),
        };
        let mut places = request.after.as_deref().map(read_cursor).transpose()?.unwrap_or_default();
        let limit = request.limit.unwrap_or(LINES) as usize;
        let mut items = Vec::new();
        let mut is_end = true;
        for (part, step) in parts {
            let trouble = |e: std::io::Error| {
                ApiError::new(ErrorKind::Store, format!("the log of {part} cannot be read: {e}"))
            };
            if let Some(tail) = request.tail {
                let (found, end) = self.logs.tail(part, &query, tail as usize).map_err(trouble)?;
                places.insert(part, end);
                items.extend(found.into_iter().map(|record| line(step.clone(), record)));
                continue;
            }
            let mut reader = self.logs.reader(part, query.clone(), places.get(&part).copied());
            while items.len() < limit {
                let Some(record) = reader.next_record().map_err(trouble)? else { break };
                items.push(line(step.clone(), record));
            }
            places.insert(part, reader.cursor());
            is_end &= items.len() < limit;
        }
        if let Some(tail) = request.tail {
            items.drain(..items.len().saturating_sub(tail as usize));
        }
        Ok(LogPage { run: id, items, next: write_cursor(&places), complete: is_end && run.state.is_final() })
    }
}

fn line(step: Option<String>, record: LogRecord) -> LogLine {
    LogLine {
        at: record.at,
        step,
        attempt: record.attempt,
        stream: match record.stream {
            Stream::Stdout => LogStream::Stdout,
            Stream::Stderr => LogStream::Stderr,
            Stream::System => LogStream::System,
        },
        line: String::from_utf8_lossy(&record.line).into_owned(),
    }
}

fn write_cursor(places: &Places) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(places).unwrap_or_default())
}

fn read_cursor(text: &str) -> Result<Places, ApiError> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok();
    bytes.and_then(|b| serde_json::from_slice(&b).ok()).ok_or_else(|| {
        let shown: String = text.chars().take(60).collect();
        ApiError::bad_input(format!("`{shown}` is not a cursor of a log; take `next` of the page before"))
    })
}

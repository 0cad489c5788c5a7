//! What jobs of workers write, each entry once however often it is sent.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, PoisonError},
};

use ostler_api::{
    LogStream,
    workers::{JobEntries, JobRef, LogEntry},
};
use ostler_execution::{LogSink, Progress, Stream};
use ostler_executors::{LogQuery, LogWriter, RunLogs, logs::progress_text};

/// Jobs whose next number is remembered; of others it is counted again in the log.
const REMEMBERED: usize = 10_000;

/// Longer lines are cut: one entry is one record, by which they are counted.
const LONGEST_LINE: usize = 64 * 1024;

/// Writes entries of jobs to the logs of their runs.
pub struct WorkerLogs {
    logs: Arc<RunLogs>,
    /// The number of the next entry of each job.
    next: Mutex<HashMap<JobRef, Arc<Mutex<Option<u64>>>>>,
}

impl WorkerLogs {
    /// Writes to these logs.
    #[must_use]
    pub fn new(logs: Arc<RunLogs>) -> Self {
        Self { logs, next: Mutex::default() }
    }

    /// Writes what is new of a job's entries; gives the number of the next one.
    ///
    /// # Errors
    /// The log is there and cannot be read.
    pub fn write(&self, of: &JobEntries) -> io::Result<u64> {
        let place = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            if next.len() >= REMEMBERED {
                next.clear();
            }
            next.entry(JobRef { run: of.run, fence: of.fence }).or_default().clone()
        };
        // One batch of a job after the other.
        let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
        let next = match *place {
            Some(next) => next,
            None => self.count(of)?,
        };
        let known = usize::try_from(next.saturating_sub(of.first)).unwrap_or(usize::MAX);
        let new = of.entries.get(known..).unwrap_or_default();
        if !new.is_empty() {
            let writer = self.logs.writer(Some(of.run), of.attempt);
            new.iter().for_each(|entry| write(&writer, entry));
            writer.close();
        }
        let end = of.first.saturating_add(of.entries.len() as u64);
        let next = next.max(end);
        *place = Some(next);
        Ok(next)
    }

    /// Records of an attempt that are in the log: another server, or this one before it was started again, wrote them.
    fn count(&self, of: &JobEntries) -> io::Result<u64> {
        let query = LogQuery { attempt: Some(of.attempt), ..LogQuery::default() };
        let mut reader = self.logs.reader(of.run, query, None);
        let mut count = 0;
        while reader.next_record()?.is_some() {
            count += 1;
        }
        Ok(count)
    }
}

fn write(writer: &LogWriter, entry: &LogEntry) {
    match entry {
        LogEntry::Line { stream, line } => {
            let stream = match stream {
                LogStream::Stdout => Stream::Stdout,
                LogStream::Stderr => Stream::Stderr,
                LogStream::System => Stream::System,
            };
            let bytes = line.as_bytes();
            writer.line(stream, &bytes[..bytes.len().min(LONGEST_LINE)]);
        }
        LogEntry::Progress { progress } => {
            let progress = progress.clone();
            let report = Progress { done: progress.done, total: progress.total, message: progress.message };
            let text = progress_text(&report);
            writer.line(Stream::System, &text.as_bytes()[..text.len().min(LONGEST_LINE)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use ostler_clock::SystemClock;
    use ostler_model::{MachineId, Uid};

    use super::*;

    #[test]
    fn a_batch_that_comes_again_is_written_once_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let open = || WorkerLogs::new(Arc::new(RunLogs::new(folder.path(), Arc::new(SystemClock))));
        let run = Uid::of(MachineId::first_at(1_800_000_000_000), 7);
        let line = |text: &str| LogEntry::Line { stream: LogStream::Stdout, line: text.into() };
        let batch = |first, entries| JobEntries { run, fence: 3, attempt: 1, first, entries };
        let (logs, first) = (open(), batch(0, vec![line("a"), line("b")]));
        assert_eq!(logs.write(&first).unwrap(), 2);
        assert_eq!(logs.write(&first).unwrap(), 2);
        let logs = open();
        assert_eq!(logs.write(&first).unwrap(), 2);
        let report = LogEntry::Progress { progress: Default::default() };
        assert_eq!(logs.write(&batch(1, vec![line("b"), report, line("c")])).unwrap(), 4);
        let (records, _) = logs.logs.read(run, &LogQuery::default(), None).unwrap();
        let lines: Vec<_> = records.iter().map(|r| String::from_utf8_lossy(&r.line).into_owned()).collect();
        assert_eq!(lines, ["a", "b", "progress", "c"]);
    }
}

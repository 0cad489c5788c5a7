//! Run logs: what attempts wrote, line by line, outside the records of runs.
//!
//! A log is a row of compressed blocks with length and checksum, only ever added to, so others read it while it grows.
//! Where the blocks are kept is a [`BlockStore`]'s business: in files of this host ([`RunLogs::new`]: `files.rs`), or
//! where other nodes find them ([`RunLogs::on`]). Nothing is flushed to disk by force: a power cut may take the last
//! seconds of output, never of state.
//!
//! ```
//! # use std::sync::Arc;
//! # use ostler_executors::logs::{LogQuery, RunLogs};
//! # use ostler_execution::{LogSink, Stream};
//! # use ostler_model::{MachineId, Uid};
//! # let dir = tempfile::tempdir().unwrap();
//! let logs = RunLogs::new(dir.path(), Arc::new(ostler_clock::SystemClock));
//! let run = Uid::of(MachineId::first_at(1_800_000_000_000), 7);
//! let writer = logs.writer(Some(run), 1);
//! writer.mask("hunter2");
//! writer.line(Stream::Stdout, b"the password is hunter2");
//! writer.close();
//! let (records, _) = logs.read(run, &LogQuery::default(), None).unwrap();
//! assert_eq!(records[0].line, b"the password is ***");
//! ```

mod block;
mod files;
mod folder;
mod mask;
mod reader;
mod writer;

use std::{io, path::PathBuf, sync::Arc};

pub use folder::LogFolder;
use jiff::Timestamp;
pub use mask::Masker;
use ostler_clock::Clock;
use ostler_model::Uid;
use ostler_store::BlockStore;
pub use reader::{LogCursor, LogQuery, LogReader, LogRecord};
use writer::Desk;
pub use writer::{LogWriter, progress_text};

use files::FileBlocks;

/// Bytes of one run's output that are kept unless told otherwise.
pub const RUN_LIMIT: u64 = 1 << 30;

/// The logs of a place.
pub struct RunLogs {
    blocks: Arc<dyn BlockStore>,
    clock: Arc<dyn Clock>,
    limit: u64,
    desk: Arc<Desk>,
}

/// One run's log, for lists and retention.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    /// Whose it is.
    pub run: Uid,
    /// The day the run was made, `yyyy-mm-dd`.
    pub day: String,
    /// Bytes that it takes where it is kept.
    pub bytes: u64,
}

impl RunLogs {
    /// The logs under a folder of this host, which is made with the first line.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>, clock: Arc<dyn Clock>) -> Self {
        Self::on(Arc::new(FileBlocks::new(dir.into())), clock)
    }

    /// The logs whose blocks are kept elsewhere.
    #[must_use]
    pub fn on(blocks: Arc<dyn BlockStore>, clock: Arc<dyn Clock>) -> Self {
        Self { desk: Arc::new(Desk::new(blocks.clone())), blocks, clock, limit: RUN_LIMIT }
    }

    /// With another limit for the bytes of one run.
    #[must_use]
    pub fn with_limit(mut self, bytes: u64) -> Self {
        self.limit = bytes;
        self
    }

    /// The pen of one attempt. Without a run it writes nowhere.
    #[must_use]
    pub fn writer(&self, run: Option<Uid>, attempt: u32) -> LogWriter {
        LogWriter::new(run, attempt, self.limit, self.clock.clone(), self.desk.clone())
    }

    /// Reads the log of a run piece by piece.
    #[must_use]
    pub fn reader(&self, run: Uid, query: LogQuery, after: Option<LogCursor>) -> LogReader {
        LogReader::new(self.blocks.reader(run), query, after)
    }

    /// Everything that matches behind a cursor, and the cursor behind that. For logs that fit in memory; others are
    /// read with [`RunLogs::reader`].
    ///
    /// # Errors
    /// When the log is there and cannot be read.
    pub fn read(
        &self,
        run: Uid,
        query: &LogQuery,
        after: Option<LogCursor>,
    ) -> io::Result<(Vec<LogRecord>, LogCursor)> {
        let mut reader = self.reader(run, query.clone(), after);
        let mut records = Vec::new();
        while let Some(record) = reader.next_record()? {
            records.push(record);
        }
        Ok((records, reader.cursor()))
    }

    /// The last `count` lines that match, oldest first, and where to go on; reads the log from its end.
    ///
    /// # Errors
    /// When the log is there and cannot be read.
    pub fn tail(&self, run: Uid, query: &LogQuery, count: usize) -> io::Result<(Vec<LogRecord>, LogCursor)> {
        self.reader(run, query.clone(), None).tail(count)
    }

    /// Takes the log of a run away; `false` when it had none.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn delete(&self, run: Uid) -> io::Result<bool> {
        self.blocks.delete(run)
    }

    /// Bytes that one run's log takes; 0, with a warning, when that cannot be found out.
    #[must_use]
    pub fn bytes(&self, run: Uid) -> u64 {
        known(self.blocks.bytes(run))
    }

    /// Bytes that all logs take, with what their store needs beside them; 0, with a warning, when that cannot be found
    /// out.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        known(self.blocks.total_bytes())
    }

    /// Every log, oldest day first; none, with a warning, when they cannot be listed.
    #[must_use]
    pub fn list(&self) -> Vec<LogFile> {
        let mut logs: Vec<LogFile> = known(self.blocks.list())
            .into_iter()
            .map(|(run, bytes)| LogFile { run, day: day_of(run), bytes })
            .collect();
        logs.sort_by(|a, b| (&a.day, a.run).cmp(&(&b.day, b.run)));
        logs
    }
}

/// What was found out about logs.
fn known<T: Default>(found: io::Result<T>) -> T {
    found.unwrap_or_else(|error| {
        tracing::warn!(%error, "the run logs cannot be looked at");
        T::default()
    })
}

/// The day a run was made, UTC.
fn day_of(run: Uid) -> String {
    let made = Timestamp::from_millisecond(run.machine().unix_ms()).unwrap_or(Timestamp::UNIX_EPOCH);
    made.strftime("%Y-%m-%d").to_string()
}

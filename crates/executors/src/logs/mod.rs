//! Run logs: what attempts wrote, line by line, outside the store.
//!
//! Each run that writes anything has a file `<dir>/<yyyy-mm-dd>/<run>.olog` (the day the run was made, UTC; beyond
//! 64 MiB it goes on in `<run>.1.olog` and so on). A file is a row of compressed blocks with length and checksum, only
//! ever appended to, so another process can read it while it grows, and what a crash tore off is stepped over. Nothing
//! is flushed to disk by force: a power cut may take the last seconds of output, never of state.
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
mod mask;
mod reader;
mod writer;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;
pub use mask::Masker;
use ostler_clock::Clock;
use ostler_model::Uid;
pub use reader::{LogCursor, LogQuery, LogReader, LogRecord};
use writer::Desk;
pub use writer::{LogWriter, progress_text};

/// Bytes of one run's output that are kept unless told otherwise.
pub const RUN_LIMIT: u64 = 1 << 30;

/// The logs of a place.
pub struct RunLogs {
    dir: Arc<Path>,
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
    /// Bytes on disk, over all its files.
    pub bytes: u64,
}

impl RunLogs {
    /// The logs under a folder, which is made with the first line.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>, clock: Arc<dyn Clock>) -> Self {
        Self { dir: dir.into().into(), clock, limit: RUN_LIMIT, desk: Arc::new(Desk::default()) }
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
        LogWriter::new(self.dir.clone(), run, attempt, self.limit, self.clock.clone(), self.desk.clone())
    }

    /// Reads the log of a run piece by piece.
    #[must_use]
    pub fn reader(&self, run: Uid, query: LogQuery, after: Option<LogCursor>) -> LogReader {
        LogReader::new(&self.dir, run, query, after)
    }

    /// Everything that matches behind a cursor, and the cursor behind that. For logs that fit in memory; others are
    /// read with [`RunLogs::reader`].
    ///
    /// # Errors
    /// When a file is there and cannot be read.
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

    /// The last `count` lines that match, oldest first, and where to go on; reads the file from its end.
    ///
    /// # Errors
    /// When a file is there and cannot be read.
    pub fn tail(&self, run: Uid, query: &LogQuery, count: usize) -> io::Result<(Vec<LogRecord>, LogCursor)> {
        self.reader(run, query.clone(), None).tail(count)
    }

    /// Takes the log of a run away; `false` when it had none.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn delete(&self, run: Uid) -> io::Result<bool> {
        let mut any = false;
        for chunk in 0.. {
            let path = chunk_path(&self.dir, run, chunk);
            match fs::remove_file(&path) {
                Ok(()) => any = true,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    // The day's folder goes with its last file.
                    if let Some(day) = path.parent().filter(|_| any) {
                        let _ = fs::remove_dir(day);
                    }
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(any)
    }

    /// Bytes on disk of one run's log.
    #[must_use]
    pub fn bytes(&self, run: Uid) -> u64 {
        (0..).map_while(|chunk| fs::metadata(chunk_path(&self.dir, run, chunk)).ok()).map(|m| m.len()).sum()
    }

    /// Bytes on disk of all logs.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.list().iter().map(|log| log.bytes).sum()
    }

    /// Every log, oldest day first.
    #[must_use]
    pub fn list(&self) -> Vec<LogFile> {
        let mut logs: std::collections::BTreeMap<(String, Uid), u64> = std::collections::BTreeMap::new();
        for day in entries(&self.dir) {
            for file in entries(&day.path()) {
                let name = file.file_name();
                let stem = name.to_str().and_then(|name| name.strip_suffix(".olog"));
                let Some(run) = stem.and_then(|stem| stem.split('.').next()?.parse().ok()) else { continue };
                let day = day.file_name().to_string_lossy().into_owned();
                *logs.entry((day, run)).or_default() += file.metadata().map_or(0, |m| m.len());
            }
        }
        logs.into_iter().map(|((day, run), bytes)| LogFile { run, day, bytes }).collect()
    }
}

fn entries(dir: &Path) -> impl Iterator<Item = fs::DirEntry> {
    fs::read_dir(dir).into_iter().flatten().flatten()
}

/// The path of one file of a run's log; the id tells the day, so nothing has to be looked up.
fn chunk_path(dir: &Path, run: Uid, chunk: u32) -> PathBuf {
    let made = Timestamp::from_millisecond(run.machine().unix_ms()).unwrap_or(Timestamp::UNIX_EPOCH);
    let day = dir.join(made.strftime("%Y-%m-%d").to_string());
    day.join(if chunk == 0 { format!("{run}.olog") } else { format!("{run}.{chunk}.olog") })
}

/// The path of another file of the same log.
fn sibling(first: &Path, chunk: u32) -> PathBuf {
    if chunk == 0 { first.to_path_buf() } else { first.with_extension(format!("{chunk}.olog")) }
}

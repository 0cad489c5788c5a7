//! The reading side: whole blocks in order, from a cursor, while the file grows.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use ostler_execution::Stream;
use ostler_model::Uid;
use serde::{Deserialize, Serialize};

use super::{
    block::{self, HEAD, Head, MARK},
    chunk_path, sibling,
};

/// How often a reader that follows looks for more.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// One line, or one piece of an over-long one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// When it was read from the child.
    pub at: Timestamp,
    /// Which attempt wrote it.
    pub attempt: u32,
    /// Where it wrote it.
    pub stream: Stream,
    /// The line, without its end.
    pub line: Vec<u8>,
}

/// Which records are wanted; the default is all.
#[derive(Clone, Debug, Default)]
pub struct LogQuery {
    /// Only of this stream.
    pub stream: Option<Stream>,
    /// Only of this attempt.
    pub attempt: Option<u32>,
    /// Only lines that hold this text.
    pub text: Option<String>,
}

impl LogQuery {
    fn matches(&self, record: &LogRecord) -> bool {
        self.stream.is_none_or(|stream| stream == record.stream)
            && self.attempt.is_none_or(|attempt| attempt == record.attempt)
            && self
                .text
                .as_ref()
                .is_none_or(|text| memchr::memmem::find(&record.line, text.as_bytes()).is_some())
    }
}

/// A place in a log, to go on from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LogCursor {
    chunk: u32,
    offset: u64,
    record: u32,
}

/// Reads a log from a cursor on. At its end it may be asked again: the log may have grown.
pub struct LogReader {
    first: PathBuf,
    query: LogQuery,
    /// The block that is read next; `record` of it are to be stepped over.
    at: LogCursor,
    open: Option<(u32, File)>,
    /// Records of the block before, with where each stands.
    ready: VecDeque<(LogCursor, LogRecord)>,
}

impl LogReader {
    pub(super) fn new(dir: &Path, run: Uid, query: LogQuery, after: Option<LogCursor>) -> Self {
        let first = chunk_path(dir, run, 0);
        Self { first, query, at: after.unwrap_or_default(), open: None, ready: VecDeque::new() }
    }

    /// The next record that matches; `None` when there is none yet.
    ///
    /// # Errors
    /// When a file is there and cannot be read.
    pub fn next_record(&mut self) -> io::Result<Option<LogRecord>> {
        loop {
            if let Some((_, record)) = self.ready.pop_front() {
                return Ok(Some(record));
            }
            if !self.load()? {
                return Ok(None);
            }
        }
    }

    /// Where the next record is read from.
    #[must_use]
    pub fn cursor(&self) -> LogCursor {
        self.ready.front().map_or(self.at, |(cursor, _)| *cursor)
    }

    /// Waits for the next record that matches, for as long as it takes.
    ///
    /// # Errors
    /// When a file is there and cannot be read.
    pub async fn follow(&mut self) -> io::Result<LogRecord> {
        loop {
            if let Some(record) = self.next_record()? {
                return Ok(record);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The last `count` records that match, oldest first, and where to go on.
    pub(super) fn tail(mut self, count: usize) -> io::Result<(Vec<LogRecord>, LogCursor)> {
        let mut heads = Vec::new();
        while let Some(head) = self.step()? {
            heads.push(self.at);
            self.at.offset += (HEAD + head.body()) as u64;
        }
        let mut end = self.at;
        let mut found: VecDeque<LogRecord> = VecDeque::new();
        for (n, at) in heads.into_iter().rev().enumerate() {
            self.at = at;
            self.load()?;
            if n == 0 {
                // Of a block that is still being written only the head is there: it is read again from here.
                end = self.at;
            }
            for (_, record) in std::mem::take(&mut self.ready).into_iter().rev() {
                if found.len() == count {
                    return Ok((found.into(), end));
                }
                found.push_front(record);
            }
        }
        Ok((found.into(), end))
    }

    /// Reads the next whole block into `ready`; `false` at the end.
    fn load(&mut self) -> io::Result<bool> {
        loop {
            let Some(head) = self.step()? else { return Ok(false) };
            let start = self.at;
            let mut whole = vec![0; HEAD + head.body()];
            if !self.read_at(start.offset, &mut whole)? {
                // The block is still being written, or was torn and nothing came behind it yet.
                return if self.resync()? { continue } else { Ok(false) };
            }
            let (head_bytes, body) = whole.split_at(HEAD);
            let records = head_bytes.first_chunk().and_then(|head| block::open(head, body));
            let Some(records) = records else {
                if self.resync()? {
                    continue;
                }
                return Ok(false);
            };
            self.at = LogCursor { offset: start.offset + whole.len() as u64, record: 0, ..start };
            self.ready = records
                .into_iter()
                .enumerate()
                .skip(start.record as usize)
                .map(|(n, record)| (LogCursor { record: n as u32, ..start }, record))
                .filter(|(_, record)| self.query.matches(record))
                .collect();
            return Ok(true);
        }
    }

    /// Goes to the next block head, over damage and into the next file; `None` at the end.
    fn step(&mut self) -> io::Result<Option<Head>> {
        loop {
            let mut bytes = [0; HEAD];
            if self.read_at(self.at.offset, &mut bytes)? {
                if let Some(head) = Head::parse(&bytes) {
                    return Ok(Some(head));
                }
                if self.resync()? {
                    continue;
                }
            }
            // The next file is begun only when this one is complete, so one more look here settles it.
            if !sibling(&self.first, self.at.chunk + 1).exists()
                || self.read_at(self.at.offset, &mut bytes)?
            {
                return Ok(None);
            }
            self.at = LogCursor { chunk: self.at.chunk + 1, ..LogCursor::default() };
        }
    }

    /// Looks for the next mark behind damage.
    fn resync(&mut self) -> io::Result<bool> {
        let from = self.at.offset + 1;
        let Some(file) = self.file()? else { return Ok(false) };
        file.seek(SeekFrom::Start(from))?;
        let mut rest = Vec::new();
        // Damage is at most one torn block long; blocks are far below a mebibyte.
        file.take(2 << 20).read_to_end(&mut rest)?;
        let Some(found) = memchr::memmem::find(&rest, &MARK) else { return Ok(false) };
        self.at = LogCursor { offset: from + found as u64, record: 0, ..self.at };
        Ok(true)
    }

    /// Fills `bytes` from the current file; `false` when it is too short.
    fn read_at(&mut self, offset: u64, bytes: &mut [u8]) -> io::Result<bool> {
        let Some(file) = self.file()? else { return Ok(false) };
        file.seek(SeekFrom::Start(offset))?;
        match file.read_exact(bytes) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn file(&mut self) -> io::Result<Option<&mut File>> {
        if self.open.as_ref().is_none_or(|(chunk, _)| *chunk != self.at.chunk) {
            match File::open(sibling(&self.first, self.at.chunk)) {
                Ok(file) => self.open = Some((self.at.chunk, file)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(self.open.as_mut().map(|(_, file)| file))
    }
}

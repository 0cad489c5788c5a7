//! The reading side: whole blocks in order, from a cursor, while the log grows.

use std::{collections::VecDeque, io, time::Duration};

use jiff::Timestamp;
use ostler_execution::Stream;
use ostler_store::{BlockPlace, BlockReader, FoundBlock};
use serde::{Deserialize, Serialize};

use super::block;

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

impl LogCursor {
    fn at(place: BlockPlace) -> Self {
        Self { chunk: place.chunk, offset: place.offset, record: 0 }
    }

    fn place(self) -> BlockPlace {
        BlockPlace { chunk: self.chunk, offset: self.offset }
    }
}

/// Reads a log from a cursor on. At its end it may be asked again: the log may have grown.
pub struct LogReader {
    blocks: Box<dyn BlockReader>,
    query: LogQuery,
    /// The block that is read next; `record` of it are to be stepped over.
    at: LogCursor,
    /// Records of the block before, with where each stands.
    ready: VecDeque<(LogCursor, LogRecord)>,
}

impl LogReader {
    pub(super) fn new(blocks: Box<dyn BlockReader>, query: LogQuery, after: Option<LogCursor>) -> Self {
        Self { blocks, query, at: after.unwrap_or_default(), ready: VecDeque::new() }
    }

    /// The next record that matches; `None` when there is none yet.
    ///
    /// # Errors
    /// When the log is there and cannot be read.
    pub fn next_record(&mut self) -> io::Result<Option<LogRecord>> {
        loop {
            if let Some((_, record)) = self.ready.pop_front() {
                return Ok(Some(record));
            }
            if self.load()?.is_none() {
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
    /// When the log is there and cannot be read.
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
        let places = self.blocks.places()?;
        let mut end = None;
        let mut behind = BlockPlace { chunk: u32::MAX, offset: u64::MAX };
        let mut found: VecDeque<LogRecord> = VecDeque::new();
        for place in places.into_iter().rev() {
            self.at = LogCursor::at(place);
            let mut some = VecDeque::new();
            while let Some(block) = self.load()? {
                if block.at >= behind {
                    break;
                }
                some.append(&mut self.ready);
                // A damaged head may have hidden whole blocks behind it.
                if block.at == place || block.next >= behind {
                    break;
                }
            }
            // Of a block that is still being written only the head is there: it is read again from here.
            end.get_or_insert(self.at);
            behind = place;
            for (_, record) in some.into_iter().rev() {
                if found.len() == count {
                    return Ok((found.into(), end.unwrap_or_default()));
                }
                found.push_front(record);
            }
        }
        Ok((found.into(), end.unwrap_or_default()))
    }

    /// Reads the next whole block into `ready`; `None` at the end.
    fn load(&mut self) -> io::Result<Option<FoundBlock>> {
        let mut records = Vec::new();
        let found = self.blocks.next(self.at.place(), &mut |block| match block::open(block) {
            Some(opened) => {
                records = opened;
                true
            }
            None => false,
        })?;
        let Some(block) = found else { return Ok(None) };
        let skip = if block.at == self.at.place() { self.at.record } else { 0 };
        let start = LogCursor::at(block.at);
        self.at = LogCursor::at(block.next);
        self.ready = records
            .into_iter()
            .enumerate()
            .skip(skip as usize)
            .map(|(n, record)| (LogCursor { record: n as u32, ..start }, record))
            .filter(|(_, record)| self.query.matches(record))
            .collect();
        Ok(Some(block))
    }
}

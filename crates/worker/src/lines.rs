//! What a job writes, until the server has it: masked, numbered, within bounds of memory.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ostler_api::{
    LogStream,
    workers::{LogEntry, ProgressReport},
};
use ostler_clock::Clock;
use ostler_execution::{LogSink, Progress, ProgressSink, Stream};
use ostler_executors::logs::Masker;
use tokio::sync::Notify;

/// Bytes that one job may have waiting.
const WAITING: usize = 4 << 20;

/// Bytes by which an entry counts for more than its text.
const ENTRY: usize = 64;

/// Longer lines are cut into pieces.
const PIECE: usize = 64 * 1024;

/// Progress is told at most so often.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// The lines of one job.
pub(crate) struct Lines {
    state: Mutex<State>,
    clock: Arc<dyn Clock>,
    /// There is something to send.
    wake: Arc<Notify>,
}

#[derive(Default)]
struct State {
    masker: Masker,
    /// Ends of pieces that may be the head of a secret: stdout, stderr, system.
    held: [Vec<u8>; 3],
    waiting: VecDeque<LogEntry>,
    /// The number of the first that waits.
    first: u64,
    bytes: usize,
    /// Lines that found no room.
    dropped: u64,
    progressed: Option<Duration>,
}

impl Lines {
    pub(crate) fn new(secrets: &[String], clock: Arc<dyn Clock>, wake: Arc<Notify>) -> Self {
        let mut state = State::default();
        secrets.iter().for_each(|secret| state.masker.add(secret));
        Self { state: Mutex::new(state), clock, wake }
    }

    /// The secrets that are known by now.
    pub(crate) fn masker(&self) -> Masker {
        self.lock().masker.clone()
    }

    /// What waits, up to a number of bytes or the one entry beyond them: the number of the first, all, and their size.
    pub(crate) fn batch(&self, bytes: usize) -> (u64, Vec<LogEntry>, usize) {
        let state = self.lock();
        let mut taken = 0;
        let batch = state.waiting.iter().take_while(|entry| {
            let fits = taken < bytes;
            taken += if fits { size(entry) } else { 0 };
            fits
        });
        let batch = batch.cloned().collect();
        (state.first, batch, taken)
    }

    /// The server has everything before this number.
    pub(crate) fn taken(&self, next: u64) {
        let mut state = self.lock();
        while state.first < next {
            let Some(entry) = state.waiting.pop_front() else { break };
            state.bytes -= size(&entry);
            state.first += 1;
        }
        // Another of this worker's lives has written more: numbers go on from there.
        state.first = state.first.max(next);
    }

    /// Nobody wants them.
    pub(crate) fn forget(&self) {
        let mut state = self.lock();
        state.waiting.clear();
        state.bytes = 0;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().waiting.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size(entry: &LogEntry) -> usize {
    ENTRY
        + match entry {
            LogEntry::Line { line, .. } => line.len(),
            LogEntry::Progress { progress } => progress.message.as_ref().map_or(0, String::len),
        }
}

impl State {
    fn push(&mut self, entry: LogEntry) {
        if self.bytes + size(&entry) > WAITING {
            self.dropped += 1;
            return;
        }
        if self.dropped > 0 {
            let line =
                format!("[{} lines were dropped: the server was behind]", std::mem::take(&mut self.dropped));
            self.add(LogEntry::Line { stream: LogStream::System, line });
        }
        self.add(entry);
    }

    fn add(&mut self, entry: LogEntry) {
        self.bytes += size(&entry);
        self.waiting.push_back(entry);
    }

    fn text(&mut self, stream: Stream, text: &[u8]) {
        let name = match stream {
            Stream::Stdout => LogStream::Stdout,
            Stream::Stderr => LogStream::Stderr,
            Stream::System => LogStream::System,
        };
        let pieces: Vec<&[u8]> = if text.is_empty() { vec![text] } else { text.chunks(PIECE).collect() };
        for piece in pieces {
            let line = String::from_utf8_lossy(piece).into_owned();
            self.push(LogEntry::Line { stream: name, line });
        }
    }
}

fn index(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
        Stream::System => 2,
    }
}

impl LogSink for Lines {
    fn line(&self, stream: Stream, line: &[u8]) {
        let mut state = self.lock();
        let mut whole = std::mem::take(&mut state.held[index(stream)]);
        whole.extend_from_slice(line);
        let shown = state.masker.mask(&whole).into_owned();
        state.text(stream, &shown);
        drop(state);
        self.wake.notify_one();
    }

    fn piece(&self, stream: Stream, piece: &[u8]) {
        let mut state = self.lock();
        let mut held = std::mem::take(&mut state.held[index(stream)]);
        held.extend_from_slice(piece);
        let shown = state.masker.mask_head(&mut held);
        state.held[index(stream)] = held;
        if !shown.is_empty() {
            state.text(stream, &shown);
        }
        drop(state);
        self.wake.notify_one();
    }

    fn mask(&self, secret: &str) {
        self.lock().masker.add(secret);
    }
}

impl ProgressSink for Lines {
    fn report(&self, progress: Progress) {
        let now = self.clock.elapsed();
        let has_ended = progress.done.is_some() && progress.done == progress.total;
        let mut state = self.lock();
        if !has_ended && state.progressed.is_some_and(|at| now.saturating_sub(at) < PROGRESS_EVERY) {
            return;
        }
        state.progressed = Some(now);
        let message = progress.message.map(|message| state.masker.mask_text(&message));
        let report = ProgressReport { done: progress.done, total: progress.total, message };
        state.push(LogEntry::Progress { progress: report });
        drop(state);
        self.wake.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use ostler_clock::SystemClock;

    use super::*;

    fn lines(secrets: &[&str]) -> Lines {
        let secrets: Vec<String> = secrets.iter().map(|s| (*s).to_owned()).collect();
        Lines::new(&secrets, Arc::new(SystemClock), Arc::default())
    }

    fn texts(lines: &Lines) -> Vec<String> {
        let of = |entry| match entry {
            LogEntry::Line { line, .. } => line,
            LogEntry::Progress { progress } => format!("{progress:?}"),
        };
        lines.batch(usize::MAX).1.into_iter().map(of).collect()
    }

    #[test]
    fn secrets_are_masked_also_across_pieces() {
        let lines = lines(&["0123456789"]);
        lines.line(Stream::Stdout, b"a 0123456789 b");
        lines.piece(Stream::Stdout, b"xxxxxxxxxxxx01234");
        lines.line(Stream::Stdout, b"56789y");
        assert_eq!(texts(&lines).concat(), "a *** bxxxxxxxxxxxx***y");
    }

    #[test]
    fn what_was_taken_goes_and_what_finds_no_room_is_counted() {
        let lines = lines(&[]);
        for _ in 0..1000 {
            lines.line(Stream::Stderr, &[b'x'; 8000]);
        }
        let (first, batch, _) = lines.batch(usize::MAX);
        assert!(first == 0 && (400..600).contains(&batch.len()), "{}", batch.len());
        lines.taken(batch.len() as u64 - 1);
        lines.line(Stream::Stderr, b"after");
        let left = texts(&lines);
        let dropped = 1000 - batch.len();
        let words = format!("[{dropped} lines were dropped: the server was behind]");
        assert_eq!(left[1..], [words, "after".to_owned()]);
        assert_eq!(lines.batch(1).1.len(), 1, "one entry goes however small the batch is");
    }
}

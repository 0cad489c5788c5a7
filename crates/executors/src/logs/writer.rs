//! The writing side: lines are gathered in memory, a thread shared by all runs packs them and hands them to the store.
//!
//! A block is handed over when it is full, 200 ms after its first line, or when the attempt closes its log; the last is
//! done by whoever closes, so a short run never waits for the thread. Memory is bounded over all runs: when the store
//! is behind, a writer waits a second once and then drops, counts, and says so in the log.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    time::Duration,
};

use jiff::Timestamp;
use ostler_clock::{Clock, SystemClock};
use ostler_execution::{LogSink, Progress, ProgressSink, Stream};
use ostler_model::Uid;
use ostler_store::{BlockStore, BlockWriter, Stored};
use tokio::runtime::{Handle, RuntimeFlavor};

use super::{block, mask::Masker};

const BLOCK: usize = 64 * 1024;
const FLUSH_AFTER: Duration = Duration::from_millis(200);
/// Unwritten blocks of all runs together.
const IN_FLIGHT: usize = 16 << 20;
/// How long one writer waits for room, once for each time the store falls behind.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long closing waits until the store has everything. While it has not, it would not take the run's end either.
const CLOSING: Duration = Duration::from_secs(5);
/// Longer lines are cut into pieces.
const PIECE: usize = 64 * 1024;
/// Progress goes to the log at most so often.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// What the writers of a place share: the store, the thread, and the bound on memory.
pub(super) struct Desk {
    blocks: Arc<dyn BlockStore>,
    thread: Mutex<Option<Sender<Arc<Pad>>>>,
    room: Arc<Room>,
}

/// Bytes of blocks that wait to be stored.
#[derive(Default)]
struct Room {
    taken: Mutex<(usize, Stalled)>,
    freed: Condvar,
}

/// Someone waited for the store in vain; until there is room nobody waits again.
type Stalled = bool;

impl Room {
    /// Takes room for a full block; `false` when the store is known to be behind.
    fn take(&self, bytes: usize) -> bool {
        let mut taken = lock(&self.taken);
        taken.1 &= taken.0 + bytes > IN_FLIGHT;
        if !taken.1 {
            taken.0 += bytes;
        }
        !taken.1
    }

    /// Takes room for a block that need not be handed over yet; `false` when there is none.
    fn spare(&self, bytes: usize) -> bool {
        let mut taken = lock(&self.taken);
        let fits = taken.0 + bytes <= IN_FLIGHT;
        if fits {
            taken.0 += bytes;
        }
        fits
    }

    /// Counts a block for which there must be room: the last one of an attempt.
    fn force(&self, bytes: usize) {
        lock(&self.taken).0 += bytes;
    }

    /// Lets the store catch up. Must be called without any pad's lock: writing needs it.
    fn wait(&self) {
        let full = |taken: &mut (usize, Stalled)| taken.0 > IN_FLIGHT && !taken.1;
        if !full(&mut lock(&self.taken)) {
            return;
        }
        blocking(|| {
            let (mut taken, waited) = self
                .freed
                .wait_timeout_while(lock(&self.taken), PATIENCE, full)
                .unwrap_or_else(PoisonError::into_inner);
            taken.1 |= waited.timed_out();
        });
    }

    fn give(&self, bytes: usize) {
        let mut taken = lock(&self.taken);
        taken.0 = taken.0.saturating_sub(bytes);
        self.freed.notify_all();
    }
}

impl Desk {
    pub(super) fn new(blocks: Arc<dyn BlockStore>) -> Self {
        Self { blocks, thread: Mutex::default(), room: Arc::default() }
    }

    /// Has a pad written: at once if it holds full blocks, else when its time has come.
    fn send(self: &Arc<Self>, pad: &Arc<Pad>) {
        let mut thread = lock(&self.thread);
        let sender = thread.get_or_insert_with(|| {
            let (sender, pads) = channel();
            let desk = Arc::downgrade(self);
            let started = std::thread::Builder::new().name("run-logs".into()).spawn(move || {
                write_pads(&pads, || desk.upgrade());
            });
            if let Err(error) = started {
                tracing::error!(%error, "the thread of the run logs did not start; logs are written when runs end");
            }
            sender
        });
        let _ = sender.send(pad.clone());
    }
}

/// The thread: one pad after the other.
fn write_pads(pads: &Receiver<Arc<Pad>>, desk: impl Fn() -> Option<Arc<Desk>>) {
    let clock = SystemClock;
    let mut due: VecDeque<(Duration, Arc<Pad>)> = VecDeque::new();
    loop {
        let wait =
            due.front().map_or(Duration::from_secs(3600), |(at, _)| at.saturating_sub(clock.elapsed()));
        let received = pads.recv_timeout(wait);
        let Some(desk) = desk() else { return };
        match received {
            Ok(pad) => {
                if lock(&pad.state).full.is_empty() {
                    due.push_back((clock.elapsed() + FLUSH_AFTER, pad));
                } else {
                    pad.hand_over(&desk, Blocks::Full);
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        while due.front().is_some_and(|(at, _)| *at <= clock.elapsed()) {
            if let Some((_, pad)) = due.pop_front()
                && !pad.hand_over(&desk, Blocks::Due)
            {
                due.push_back((clock.elapsed() + FLUSH_AFTER, pad));
            }
        }
    }
}

/// The log of one attempt on its way to the store.
struct Pad {
    run: Uid,
    attempt: u32,
    limit: u64,
    state: Mutex<State>,
    /// A block was stored or lost.
    settled: Condvar,
    /// Held while handing over, so that blocks reach the store in order whoever does it. Most runs write nothing, so
    /// it is made when it is needed.
    writer: Mutex<Option<Box<dyn BlockWriter>>>,
}

/// Which blocks are handed over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Blocks {
    /// Those that are full.
    Full,
    /// The open one as well, if there is room for it: there may be more room later.
    Due,
    /// All.
    Last,
}

#[derive(Default)]
struct State {
    open: Block,
    full: VecDeque<Block>,
    /// Bytes of this run that were taken, over all attempts; `None` until the first line.
    taken: Option<u64>,
    /// Lines and bytes beyond the limit.
    beyond: (u64, u64),
    /// Lines dropped since the last block because the store was behind.
    dropped: u64,
    /// Blocks that the store has been given and has not settled.
    pending: usize,
    /// Someone waited for them in vain; until one is stored nobody waits again.
    in_vain: bool,
}

#[derive(Default)]
struct Block {
    bytes: Vec<u8>,
    records: u32,
}

impl Pad {
    /// Hands blocks to the store; `false` when there is no room for the open one.
    fn hand_over(self: &Arc<Self>, desk: &Desk, which: Blocks) -> bool {
        let mut writer = lock(&self.writer);
        loop {
            let mut state = lock(&self.state);
            let block = match state.full.pop_front() {
                // It has its room.
                Some(block) => block,
                None if which == Blocks::Full || state.open.records == 0 => return true,
                None => {
                    let bytes = state.open.bytes.len();
                    match which {
                        Blocks::Last => desk.room.force(bytes),
                        _ if desk.room.spare(bytes) => {}
                        _ => return false,
                    }
                    std::mem::take(&mut state.open)
                }
            };
            state.pending += 1;
            drop(state);
            let sealed = block::seal(&block.bytes, block.records);
            let stored = self.stored(&block, desk.room.clone());
            writer.get_or_insert_with(|| desk.blocks.writer(self.run)).append(
                sealed,
                block.bytes.len() as u32,
                stored,
            );
        }
    }

    /// What is done when the store has settled a block.
    fn stored(self: &Arc<Self>, block: &Block, room: Arc<Room>) -> Stored {
        let pad = self.clone();
        let (bytes, records) = (block.bytes.len(), block.records);
        Box::new(move |stored| {
            room.give(bytes);
            let mut state = lock(&pad.state);
            state.pending -= 1;
            match stored {
                Ok(()) => state.in_vain = false,
                Err(error) => {
                    tracing::warn!(run = %pad.run, %error, "lines of a run log could not be written");
                    state.dropped += u64::from(records);
                }
            }
            drop(state);
            pad.settled.notify_all();
        })
    }

    /// Waits until the store has settled what it was given.
    fn settle(&self) {
        let state = lock(&self.state);
        if state.pending == 0 || state.in_vain {
            return;
        }
        drop(state);
        blocking(|| {
            let (mut state, waited) = self
                .settled
                .wait_timeout_while(lock(&self.state), CLOSING, |state| state.pending > 0)
                .unwrap_or_else(PoisonError::into_inner);
            if waited.timed_out() {
                state.in_vain = true;
                tracing::warn!(run = %self.run, "the last lines of a run log are not written yet");
            }
        });
    }
}

/// Does something that waits, without keeping other tasks of a runtime from its thread.
fn blocking<T>(wait: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(wait),
        _ => wait(),
    }
}

/// Writes the log of one attempt. Closing it, or dropping it, brings the last lines to the store.
pub struct LogWriter {
    pad: Option<Arc<Pad>>,
    clock: Arc<dyn Clock>,
    desk: Arc<Desk>,
    masking: Mutex<Masking>,
    progressed: Mutex<Option<Duration>>,
}

#[derive(Default)]
struct Masking {
    masker: Arc<Masker>,
    /// Ends of pieces that may be the head of a secret: stdout, stderr, system.
    held: [Vec<u8>; 3],
}

impl LogWriter {
    pub(super) fn new(
        run: Option<Uid>,
        attempt: u32,
        limit: u64,
        clock: Arc<dyn Clock>,
        desk: Arc<Desk>,
    ) -> Self {
        let pad = run.map(|run| {
            let (state, settled, writer) = Default::default();
            Arc::new(Pad { run, attempt, limit, state, settled, writer })
        });
        Self { pad, clock, desk, masking: Mutex::default(), progressed: Mutex::default() }
    }

    /// A text without the secrets of this attempt.
    #[must_use]
    pub fn masked<'t>(&self, text: &'t [u8]) -> std::borrow::Cow<'t, [u8]> {
        let masker = lock(&self.masking).masker.clone();
        masker.mask(text)
    }

    /// Brings everything to the store; when it returns, a reader finds it there, unless the store is away for longer
    /// than a caller can be kept: then it comes when the store is back. The writer can be used again.
    pub fn close(&self) {
        let Some(pad) = &self.pad else { return };
        for stream in [Stream::Stdout, Stream::Stderr, Stream::System] {
            let mut masking = lock(&self.masking);
            let rest = std::mem::take(&mut masking.held[index(stream)]);
            if !rest.is_empty() {
                let rest = masking.masker.mask(&rest).into_owned();
                drop(masking);
                self.record(stream, &rest);
            }
        }
        let mut state = lock(&pad.state);
        let (lines, bytes) = std::mem::take(&mut state.beyond);
        if lines > 0 {
            state.remark(
                &self.clock,
                pad.attempt,
                &format!("[{lines} lines, {bytes} bytes more were not kept]"),
            );
        }
        if state.dropped > 0 {
            state.say_dropped(&self.clock, pad.attempt);
        }
        drop(state);
        pad.hand_over(&self.desk, Blocks::Last);
        pad.settle();
    }

    fn record(&self, stream: Stream, line: &[u8]) {
        let Some(pad) = &self.pad else { return };
        let mut state = lock(&pad.state);
        let before = match state.taken {
            Some(taken) => taken,
            // No attempt has been there before the first.
            None if pad.attempt <= 1 => 0,
            None => blocking(|| self.desk.blocks.unpacked(pad.run)).unwrap_or_else(|error| {
                tracing::warn!(run = %pad.run, %error, "what earlier attempts wrote does not count for the limit");
                0
            }),
        };
        let now = self.clock.now();
        if before >= pad.limit {
            state.beyond.0 += 1;
            state.beyond.1 += line.len() as u64;
            if state.beyond.0 == 1 {
                let text = format!(
                    "[the log has reached its limit of {} bytes; what follows is not kept]",
                    pad.limit
                );
                state.remark(&self.clock, pad.attempt, &text);
            }
            return;
        }
        let was_empty = state.open.records == 0;
        let took = state.open.push(now, pad.attempt, stream, line);
        state.taken = Some(before + took as u64);
        if state.open.bytes.len() < BLOCK {
            drop(state);
            if was_empty {
                self.desk.send(pad);
            }
            return;
        }
        let block = std::mem::take(&mut state.open);
        if self.desk.room.take(block.bytes.len()) {
            if state.dropped > 0 {
                state.say_dropped(&self.clock, pad.attempt);
            }
            state.full.push_back(block);
            drop(state);
            self.desk.send(pad);
            self.desk.room.wait();
        } else {
            state.dropped += u64::from(block.records);
        }
    }
}

impl State {
    fn remark(&mut self, clock: &Arc<dyn Clock>, attempt: u32, text: &str) {
        self.open.push(clock.now(), attempt, Stream::System, text.as_bytes());
    }

    fn say_dropped(&mut self, clock: &Arc<dyn Clock>, attempt: u32) {
        let lines = std::mem::take(&mut self.dropped);
        self.remark(
            clock,
            attempt,
            &format!("[{lines} lines were dropped: they came faster than they could be stored]"),
        );
    }
}

impl Block {
    fn push(&mut self, at: Timestamp, attempt: u32, stream: Stream, line: &[u8]) -> usize {
        self.records += 1;
        block::push(&mut self.bytes, at, attempt, stream, line)
    }
}

impl LogSink for LogWriter {
    fn line(&self, stream: Stream, line: &[u8]) {
        let mut masking = lock(&self.masking);
        let masker = masking.masker.clone();
        let held = std::mem::take(&mut masking.held[index(stream)]);
        drop(masking);
        let whole;
        let line = if held.is_empty() {
            line
        } else {
            whole = [&held, line].concat();
            &whole
        };
        let shown = masker.mask(line);
        let mut rest: &[u8] = &shown;
        while rest.len() > PIECE {
            self.record(stream, &rest[..PIECE]);
            rest = &rest[PIECE..];
        }
        self.record(stream, rest);
    }

    fn piece(&self, stream: Stream, piece: &[u8]) {
        let mut masking = lock(&self.masking);
        let masker = masking.masker.clone();
        let held = &mut masking.held[index(stream)];
        held.extend_from_slice(piece);
        let shown = masker.mask_head(held);
        drop(masking);
        for part in shown.chunks(PIECE) {
            self.record(stream, part);
        }
    }

    fn mask(&self, secret: &str) {
        Arc::make_mut(&mut lock(&self.masking).masker).add(secret);
    }
}

/// A report as it stands in a log.
#[must_use]
pub fn progress_text(progress: &Progress) -> String {
    let mut text = "progress".to_owned();
    match (progress.done, progress.total) {
        (Some(done), Some(total)) => text.push_str(&format!(" {done}/{total}")),
        (Some(done), None) => text.push_str(&format!(" {done}")),
        _ => {}
    }
    if let Some(message) = &progress.message {
        text.push(' ');
        text.push_str(message);
    }
    text
}

impl ProgressSink for LogWriter {
    fn report(&self, progress: Progress) {
        let now = self.clock.elapsed();
        let ended = progress.done.is_some() && progress.done == progress.total;
        let mut progressed = lock(&self.progressed);
        if !ended && progressed.is_some_and(|at| now.saturating_sub(at) < PROGRESS_EVERY) {
            return;
        }
        *progressed = Some(now);
        drop(progressed);
        self.line(Stream::System, progress_text(&progress).as_bytes());
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.close();
    }
}

fn index(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
        Stream::System => 2,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

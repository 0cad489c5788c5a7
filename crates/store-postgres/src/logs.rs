//! Run logs, where every node reads them while they grow.
//!
//! A thread with a connection of its own writes what all runs of this process hand over, many blocks in a transaction,
//! none of which waits for a disk. The places of a log are given without gaps: whoever wants one that another node is
//! writing waits for it by the primary key, finds it taken and tries again behind it. So no block ever appears before
//! one that was read. A transaction whose commit was not answered is looked up, never repeated on a guess.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, SendError, Sender, channel},
    },
    thread,
    time::Duration,
};

use ostler_clock::{Entropy, SeededEntropy};
use ostler_model::{MachineId, Uid};
use ostler_store::{BlockPlace, BlockReader, BlockStore, BlockWriter, FoundBlock, StoreError, Stored};

use crate::{
    link::{Link, Mode},
    migrate::Opened,
    read::{Reader, View},
    trouble::{Done, Trouble},
    url::Address,
    value::{Columns, values},
};

/// Bytes of blocks from which on a transaction takes no more.
const BATCH: usize = 1 << 20;

/// Blocks that are read at once by someone who reads on and on.
const READ: i64 = 16;

/// Connections for reading: those who follow logs do not wait for one who reads a long one.
const READERS: usize = 4;

/// `?1` machine, `?2` which of this statement's blocks of that log, `?3` bytes unpacked, `?4` block.
const APPEND: &str = "INSERT INTO log (machine, place, unpacked, block)
  SELECT b.machine, b.nth + coalesce((SELECT max(l.place)+1 FROM log l WHERE l.machine=b.machine), 0), b.unpacked, b.block
  FROM unnest($1, $2, $3, $4) AS b(machine, nth, unpacked, block)";

/// Asked before anything is written, so that it is known which transaction to look up.
const TRANSACTION: &str = "SELECT pg_current_xact_id()::text::bigint";

/// Run logs in the store's schema: this process's side of them.
pub struct PgBlocks {
    address: Address,
    salt: u64,
    readers: Arc<Readers>,
    pen: Mutex<Option<Sender<Job>>>,
    /// While it is there, what could not be written is tried again.
    open: Arc<()>,
}

/// A block on its way.
struct Job {
    log: MachineId,
    block: Vec<u8>,
    unpacked: u32,
    stored: Stored,
}

impl PgBlocks {
    pub(crate) fn new(address: &Address, opened: Opened) -> Self {
        let readers = std::array::from_fn(|_| Reader::new(address.clone(), opened));
        Self {
            address: address.clone(),
            salt: opened.salt,
            readers: Arc::new(Readers { readers, turn: AtomicUsize::new(0) }),
            pen: Mutex::default(),
            open: Arc::default(),
        }
    }

    /// Where the thread takes blocks; it begins with the first one.
    fn pen(&self) -> Sender<Job> {
        let mut pen = self.pen.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = pen.get_or_insert_with(|| {
            let (sender, jobs) = channel();
            let pen = Pen {
                address: self.address.clone(),
                link: None,
                entropy: SeededEntropy::from_os(),
                open: Arc::downgrade(&self.open),
                away: false,
            };
            let started = thread::Builder::new().name("ostler-logs".into()).spawn(move || pen.write(&jobs));
            if let Err(error) = started {
                tracing::error!(%error, "no thread to write run logs with");
            }
            sender
        });
        sender.clone()
    }
}

impl BlockStore for PgBlocks {
    fn writer(&self, run: Uid) -> Box<dyn BlockWriter> {
        Box::new(PgWriter { log: run.machine(), pen: self.pen() })
    }

    fn reader(&self, run: Uid) -> Box<dyn BlockReader> {
        Box::new(PgReader {
            log: run.machine(),
            readers: self.readers.clone(),
            blocks: Vec::new(),
            known: (0, 0),
            want: 1,
        })
    }

    fn unpacked(&self, run: Uid) -> io::Result<u64> {
        self.readers.ask(|view| view.log_unpacked(run.machine())).map(i64::unsigned_abs)
    }

    fn delete(&self, run: Uid) -> io::Result<bool> {
        let log = run.machine();
        let gone = self.readers.next().asked(|link| {
            let mut delete = || {
                link.begin(Mode::Relaxed, None)?;
                link.finish("DELETE FROM log WHERE machine=$1", values![log.0])
            };
            let gone = delete();
            if gone.is_err() {
                let _ = link.script("ROLLBACK");
            }
            gone
        });
        gone.map(|blocks| blocks > 0).map_err(io::Error::other)
    }

    fn bytes(&self, run: Uid) -> io::Result<u64> {
        self.readers.ask(|view| view.log_bytes(run.machine())).map(i64::unsigned_abs)
    }

    /// What the table takes on disk, indexes and what is not vacuumed yet included.
    fn total_bytes(&self) -> io::Result<u64> {
        self.readers.ask(|view| view.logs_bytes()).map(i64::unsigned_abs)
    }

    fn list(&self) -> io::Result<Vec<(Uid, u64)>> {
        let logs = self.readers.ask(|view| view.logs())?;
        Ok(logs.into_iter().map(|(log, bytes)| (Uid::of(log, self.salt), bytes.unsigned_abs())).collect())
    }
}

/// Reading sides that take turns.
struct Readers {
    readers: [Reader; READERS],
    turn: AtomicUsize,
}

impl Readers {
    fn next(&self) -> &Reader {
        &self.readers[self.turn.fetch_add(1, Ordering::Relaxed) % READERS]
    }

    fn ask<T>(&self, work: impl Fn(&mut View<'_>) -> Done<T>) -> io::Result<T> {
        self.next().at_once(work).map_err(io::Error::other)
    }
}

struct PgWriter {
    log: MachineId,
    pen: Sender<Job>,
}

impl BlockWriter for PgWriter {
    fn append(&mut self, block: Vec<u8>, unpacked: u32, stored: Stored) {
        if let Err(SendError(job)) = self.pen.send(Job { log: self.log, block, unpacked, stored }) {
            (job.stored)(Err(io::Error::other("the thread that writes run logs did not start")));
        }
    }
}

/// The thread's side.
struct Pen {
    address: Address,
    link: Option<Link>,
    entropy: SeededEntropy,
    open: Weak<()>,
    /// It was said that the server takes nothing.
    away: bool,
}

impl Pen {
    /// Writes what comes until nobody can send any more: what waits together goes together.
    fn write(mut self, jobs: &Receiver<Job>) {
        while let Ok(first) = jobs.recv() {
            let mut bytes = first.block.len();
            let mut batch = vec![first];
            while bytes < BATCH
                && let Ok(job) = jobs.try_recv()
            {
                bytes += job.block.len();
                batch.push(job);
            }
            // Each log's blocks stay in their order, and all nodes take logs in the same one.
            batch.sort_by_key(|job| job.log);
            let done = self.keep(&batch);
            for job in batch {
                (job.stored)(done.clone().map_err(io::Error::other));
            }
        }
    }

    /// Writes a batch, however often it takes: what it holds is bounded by those who send.
    fn keep(&mut self, batch: &[Job]) -> Result<(), StoreError> {
        for tried in 0.. {
            let trouble = match self.append(batch) {
                Ok(()) => break,
                Err(trouble) => trouble,
            };
            match &trouble {
                Trouble::Again(why) => tracing::debug!(%why, "another node wrote to the same log"),
                Trouble::Gone(why) | Trouble::Store(StoreError::Full(why))
                    if self.open.strong_count() > 0 =>
                {
                    if !std::mem::replace(&mut self.away, true) {
                        tracing::warn!(%why, "run logs are kept back until PostgreSQL takes them");
                    }
                }
                _ => return Err(trouble.told()),
            }
            self.pause(tried);
        }
        if std::mem::take(&mut self.away) {
            tracing::info!("run logs are written again");
        }
        Ok(())
    }

    fn append(&mut self, batch: &[Job]) -> Done<()> {
        let mut link = self.link()?;
        let begun = link.begin(Mode::Relaxed, Some((TRANSACTION, &[])));
        let written = begun.and_then(|rows| {
            let transaction = rows.first().map_or(Ok(0), |row| row.int(0))?;
            let mut nths: Vec<i64> = Vec::with_capacity(batch.len());
            for (n, job) in batch.iter().enumerate() {
                let follows = n > 0 && batch[n - 1].log == job.log;
                nths.push(if follows { nths[n - 1] + 1 } else { 0 });
            }
            let values = values![
                batch.iter().map(|job| job.log.0).collect::<Vec<_>>(),
                nths,
                batch.iter().map(|job| i64::from(job.unpacked)).collect::<Vec<_>>(),
                batch.iter().map(|job| job.block.as_slice()).collect::<Vec<_>>(),
            ];
            match link.finish(APPEND, values) {
                // Nobody knows whether it was written, but the server does.
                Err(Trouble::Gone(why)) if self.was_written(transaction)? => {
                    tracing::debug!(%why, "a commit was not answered and had been done");
                    Ok(())
                }
                other => other.map(drop),
            }
        });
        if link.is_open() && (written.is_ok() || link.script("ROLLBACK").is_ok()) {
            self.link = Some(link);
        }
        written
    }

    /// The connection, opened again when it was lost. Whatever keeps it from being opened may pass.
    fn link(&mut self) -> Done<Link> {
        match self.link.take() {
            Some(link) if link.is_open() => Ok(link),
            _ => Link::open(&self.address).map_err(|trouble| Trouble::Gone(trouble.told().to_string())),
        }
    }

    /// Whether a transaction whose commit was not answered was written. Asks until the server has made up its mind.
    fn was_written(&mut self, transaction: i64) -> Done<bool> {
        for tried in 0.. {
            let fate = self.link().and_then(|mut link| {
                let fate = link.fate(transaction)?;
                self.link = Some(link);
                Ok(fate)
            });
            match fate {
                Ok(Some(written)) => return Ok(written),
                Err(Trouble::Gone(why)) if self.open.strong_count() == 0 => return Err(Trouble::Gone(why)),
                Ok(None) | Err(Trouble::Gone(_)) => self.pause(tried),
                Err(other) => return Err(other),
            }
        }
        Ok(false)
    }

    fn pause(&self, tried: u32) {
        // Up to 2, 4, 8 ... 1024 ms.
        thread::sleep(Duration::from_micros(self.entropy.below(1000 << (tried + 1).min(10))));
    }
}

/// Reads ahead while it is read on and on, in either direction.
struct PgReader {
    log: MachineId,
    readers: Arc<Readers>,
    /// All blocks of the known places.
    blocks: Vec<(i64, Vec<u8>)>,
    /// The first known place, and the one behind the last.
    known: (i64, i64),
    want: i64,
}

impl PgReader {
    fn fetch(&mut self, from: i64) -> io::Result<()> {
        let (first, behind) = self.known;
        let backwards = from.saturating_add(1) == first;
        let reads_on = !self.blocks.is_empty() && (backwards || from == behind);
        self.want = if reads_on { (self.want * 2).min(READ) } else { 1 };
        let (first, last) = match backwards {
            true => ((from + 1 - self.want).max(0), from),
            false => (from, i64::from(i32::MAX)),
        };
        let (log, want) = (self.log, self.want);
        self.blocks = self.readers.ask(|view| view.log_blocks(log, (first, last), want))?;
        let behind =
            if backwards { from } else { self.blocks.last().map_or(from - 1, |(place, _)| *place) } + 1;
        self.known = (first, behind);
        Ok(())
    }
}

impl BlockReader for PgReader {
    fn next(
        &mut self,
        from: BlockPlace,
        take: &mut dyn FnMut(&[u8]) -> bool,
    ) -> io::Result<Option<FoundBlock>> {
        let mut from = i64::try_from(from.offset).unwrap_or(i64::MAX);
        loop {
            if !(self.known.0..self.known.1).contains(&from) {
                self.fetch(from)?;
                if self.blocks.is_empty() {
                    return Ok(None);
                }
            }
            match self.blocks.iter().find(|(place, _)| *place >= from) {
                Some((place, block)) if take(block) => {
                    return Ok(Some(FoundBlock { at: block_place(*place), next: block_place(place + 1) }));
                }
                Some((place, _)) => from = place + 1,
                None => from = self.known.1,
            }
        }
    }

    fn places(&mut self) -> io::Result<Vec<BlockPlace>> {
        let log = self.log;
        let places = self.readers.ask(|view| view.log_places(log))?;
        Ok(places.into_iter().map(block_place).collect())
    }
}

fn block_place(place: i64) -> BlockPlace {
    BlockPlace { chunk: 0, offset: place.unsigned_abs() }
}

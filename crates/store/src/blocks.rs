//! Where the blocks of run logs are kept: in files of one host, or where every node reads them.
//!
//! How lines become blocks, and blocks lines again, is the business of whoever keeps logs here; a store of blocks only
//! keeps their order. What a log holds before a place never changes: nothing is put in between, and blocks of several
//! writers of one log stand whole behind one another.

use std::io;

use ostler_model::Uid;

/// Where a block of a log stands. Grows along the log; what the numbers mean is the store's business.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlockPlace {
    /// The part of the log, as a file.
    pub chunk: u32,
    /// Where it stands in that part.
    pub offset: u64,
}

/// A block that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundBlock {
    /// Where it stands.
    pub at: BlockPlace,
    /// Where the one behind it is looked for.
    pub next: BlockPlace,
}

/// Is told, once, from whichever thread, that readers find a block now, or why they never will.
pub type Stored = Box<dyn FnOnce(io::Result<()>) + Send>;

/// Keeps the blocks of run logs.
pub trait BlockStore: Send + Sync {
    /// Writes to the log of a run, which begins with its first block.
    fn writer(&self, run: Uid) -> Box<dyn BlockWriter>;

    /// Reads the log of a run.
    fn reader(&self, run: Uid) -> Box<dyn BlockReader>;

    /// Bytes that the blocks of a log had before they were packed.
    ///
    /// # Errors
    /// The log is there and cannot be read.
    fn unpacked(&self, run: Uid) -> io::Result<u64>;

    /// Takes the log of a run away; `false` when it had none.
    ///
    /// # Errors
    /// It cannot be removed.
    fn delete(&self, run: Uid) -> io::Result<bool>;

    /// Bytes that one log takes.
    ///
    /// # Errors
    /// It is there and cannot be looked at.
    fn bytes(&self, run: Uid) -> io::Result<u64>;

    /// Bytes that all logs take.
    ///
    /// # Errors
    /// They are there and cannot be looked at.
    fn total_bytes(&self) -> io::Result<u64>;

    /// Every log with its bytes, in any order.
    ///
    /// # Errors
    /// They are there and cannot be looked at.
    fn list(&self) -> io::Result<Vec<(Uid, u64)>>;
}

/// Writes one log.
pub trait BlockWriter: Send {
    /// Puts a block at the end of the log, behind those that were given before. Whoever waits for room in the store
    /// does it elsewhere: this returns soon, and `stored` is told when it is done. `unpacked` is the number of bytes
    /// that the block holds.
    fn append(&mut self, block: Vec<u8>, unpacked: u32, stored: Stored);
}

/// Reads one log.
pub trait BlockReader: Send {
    /// Gives `take` the first block at or behind a place. One that it does not take is damaged and stepped over.
    /// `None`: there is none yet.
    ///
    /// # Errors
    /// The log is there and cannot be read.
    fn next(
        &mut self,
        from: BlockPlace,
        take: &mut dyn FnMut(&[u8]) -> bool,
    ) -> io::Result<Option<FoundBlock>>;

    /// Where the blocks stand, from the first one to the last.
    ///
    /// # Errors
    /// As for [`BlockReader::next`].
    fn places(&mut self) -> io::Result<Vec<BlockPlace>>;
}

//! The logs under a folder block by block, for copies of the store beside which they lie.

use std::{io, path::PathBuf};

use ostler_model::Uid;
use ostler_store::{BlockPlace, BlockStore};

use super::{block, files::FileBlocks};

/// The logs under a folder of this host.
pub struct LogFolder {
    blocks: FileBlocks,
}

impl LogFolder {
    /// Those under a folder, which is made with the first block.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { blocks: FileBlocks::new(dir.into()) }
    }

    /// Whose logs there are, in the order of the machines' keys.
    ///
    /// # Errors
    /// They cannot be looked at.
    pub fn runs(&self) -> io::Result<Vec<Uid>> {
        let mut runs: Vec<Uid> = self.blocks.list()?.into_iter().map(|(run, _)| run).collect();
        runs.sort_by_key(|run| run.machine());
        Ok(runs)
    }

    /// Gives the blocks of a log in their order, each with the bytes that it unpacks to. Damaged ones are passed over, as
    /// they are by every reader.
    ///
    /// # Errors
    /// The log cannot be read, or `each` has failed.
    pub fn blocks<E: From<io::Error>>(
        &self,
        run: Uid,
        mut each: impl FnMut(Vec<u8>, u32) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut reader = self.blocks.reader(run);
        let mut from = BlockPlace::default();
        let mut whole = None;
        loop {
            let found = reader.next(from, &mut |bytes| {
                whole = block::unpacked(bytes).map(|unpacked| (bytes.to_vec(), unpacked));
                whole.is_some()
            })?;
            let (Some(found), Some((bytes, unpacked))) = (found, whole.take()) else { return Ok(()) };
            each(bytes, unpacked)?;
            from = found.next;
        }
    }

    /// Puts a block at the end of a log.
    ///
    /// # Errors
    /// The log cannot be written.
    pub fn append(&self, run: Uid, block: Vec<u8>) -> io::Result<()> {
        let (told, done) = std::sync::mpsc::channel();
        self.blocks.writer(run).append(
            block,
            0,
            Box::new(move |stored| {
                let _ = told.send(stored);
            }),
        );
        done.recv().unwrap_or_else(|_| Err(io::Error::other("the block was not written")))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ostler_execution::{LogSink, Stream};
    use ostler_model::MachineId;

    use super::*;
    use crate::logs::{LogQuery, RunLogs};

    #[test]
    fn a_log_that_was_copied_block_by_block_reads_the_same() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let logs = |dir: &tempfile::TempDir| RunLogs::new(dir.path(), Arc::new(ostler_clock::SystemClock));
        let runs = [1_800_000_000_000, 1_700_000_000_000].map(|ms| Uid::of(MachineId::first_at(ms), 7));
        for run in runs {
            let pen = logs(&one).writer(Some(run), 1);
            for n in 0..20_000 {
                pen.line(Stream::Stdout, format!("line {n} of {run}").as_bytes());
            }
            pen.close();
        }
        let (from, to) = (LogFolder::new(one.path()), LogFolder::new(other.path()));
        let found = from.runs().unwrap();
        assert_eq!(found, [runs[1], runs[0]], "by the machines' keys");
        let mut blocks = 0;
        for run in found {
            from.blocks(run, |block, unpacked| {
                assert!(unpacked > 0);
                blocks += 1;
                to.append(run, block)
            })
            .unwrap();
        }
        assert!(blocks > 4, "{blocks} blocks");
        for run in runs {
            let read = |dir| logs(dir).read(run, &LogQuery::default(), None).unwrap().0;
            assert_eq!(read(&one).len(), 20_000);
            assert_eq!(read(&one), read(&other));
        }
    }
}

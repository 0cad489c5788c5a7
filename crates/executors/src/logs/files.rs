//! Blocks in files of this host: `<dir>/<yyyy-mm-dd>/<run>.olog` (the day the run was made, UTC; beyond 64 MiB it goes
//! on in `<run>.1.olog` and so on), only ever appended to. What a crash tore off is stepped over.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use ostler_model::Uid;
use ostler_store::{BlockPlace, BlockReader, BlockStore, BlockWriter, FoundBlock, Stored};

use super::{
    block::{HEAD, Head, MARK},
    day_of,
};

/// A file of a log ends there and the next begins.
const CHUNK: u64 = 64 << 20;

/// Damage is at most one torn block long; blocks are far below a mebibyte.
const DAMAGE: u64 = 2 << 20;

/// The logs under a folder, which is made with the first block.
pub(super) struct FileBlocks {
    dir: Arc<Path>,
}

impl FileBlocks {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir: dir.into() }
    }

    /// What there is of a log's files.
    fn chunks(&self, run: Uid) -> impl Iterator<Item = fs::Metadata> {
        (0..).map_while(move |chunk| fs::metadata(chunk_path(&self.dir, run, chunk)).ok())
    }
}

impl BlockStore for FileBlocks {
    fn writer(&self, run: Uid) -> Box<dyn BlockWriter> {
        Box::new(FileWriter { dir: self.dir.clone(), run, chunk: 0 })
    }

    fn reader(&self, run: Uid) -> Box<dyn BlockReader> {
        Box::new(FileReader { first: chunk_path(&self.dir, run, 0), open: None })
    }

    /// From the heads of the blocks, as far as they are whole.
    fn unpacked(&self, run: Uid) -> io::Result<u64> {
        let mut total = 0;
        for chunk in 0.. {
            let Ok(mut file) = File::open(chunk_path(&self.dir, run, chunk)) else { break };
            let mut head = [0; HEAD];
            while file.read_exact(&mut head).is_ok() {
                let Some(parsed) = Head::parse(&head) else { break };
                total += parsed.raw_bytes();
                if file.seek(SeekFrom::Current((parsed.block_bytes() - HEAD) as i64)).is_err() {
                    break;
                }
            }
        }
        Ok(total)
    }

    fn delete(&self, run: Uid) -> io::Result<bool> {
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

    fn bytes(&self, run: Uid) -> io::Result<u64> {
        Ok(self.chunks(run).map(|file| file.len()).sum())
    }

    fn total_bytes(&self) -> io::Result<u64> {
        Ok(self.list()?.into_iter().map(|(_, bytes)| bytes).sum())
    }

    fn list(&self) -> io::Result<Vec<(Uid, u64)>> {
        let mut logs: BTreeMap<Uid, u64> = BTreeMap::new();
        for file in entries(&self.dir).flat_map(|day| entries(&day.path())) {
            let name = file.file_name();
            let stem = name.to_str().and_then(|name| name.strip_suffix(".olog"));
            let Some(run) = stem.and_then(|stem| stem.split('.').next()?.parse().ok()) else { continue };
            *logs.entry(run).or_default() += file.metadata().map_or(0, |m| m.len());
        }
        Ok(logs.into_iter().collect())
    }
}

fn entries(dir: &Path) -> impl Iterator<Item = fs::DirEntry> + use<> {
    fs::read_dir(dir).into_iter().flatten().flatten()
}

/// The path of one file of a run's log; the id tells the day, so nothing has to be looked up.
fn chunk_path(dir: &Path, run: Uid, chunk: u32) -> PathBuf {
    let day = dir.join(day_of(run));
    day.join(if chunk == 0 { format!("{run}.olog") } else { format!("{run}.{chunk}.olog") })
}

/// The path of another file of the same log.
fn sibling(first: &Path, chunk: u32) -> PathBuf {
    if chunk == 0 { first.to_path_buf() } else { first.with_extension(format!("{chunk}.olog")) }
}

/// Where the next block goes.
struct FileWriter {
    dir: Arc<Path>,
    run: Uid,
    chunk: u32,
}

impl BlockWriter for FileWriter {
    fn append(&mut self, block: Vec<u8>, _: u32, stored: Stored) {
        let written = self.write(&block).map_err(|error| {
            let path = chunk_path(&self.dir, self.run, self.chunk);
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        });
        stored(written);
    }
}

impl FileWriter {
    fn write(&mut self, block: &[u8]) -> io::Result<()> {
        let mut file = self.open()?;
        while file.metadata()?.len() >= CHUNK {
            self.chunk += 1;
            file = self.open()?;
        }
        file.write_all(block)
    }

    fn open(&self) -> io::Result<File> {
        let path = chunk_path(&self.dir, self.run, self.chunk);
        let open = || OpenOptions::new().append(true).create(true).open(&path);
        match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if let Some(day) = path.parent() {
                    fs::create_dir_all(day)?;
                }
                open()
            }
            other => other,
        }
    }
}

/// Finds blocks by their heads, over damage and from file to file, while the last one grows.
struct FileReader {
    first: PathBuf,
    open: Option<(u32, File)>,
}

impl BlockReader for FileReader {
    fn next(
        &mut self,
        from: BlockPlace,
        take: &mut dyn FnMut(&[u8]) -> bool,
    ) -> io::Result<Option<FoundBlock>> {
        self.across(from, |reader, from| {
            let mut from = from;
            while let Some((at, head)) = reader.head(from)? {
                let mut block = vec![0; head.block_bytes()];
                if reader.read_at(at, &mut block)? && take(&block) {
                    return Ok(Some(FoundBlock { at, next: behind(at, head) }));
                }
                // Still being written, or torn, or damaged.
                match reader.resync(at)? {
                    Some(further) => from = further,
                    None => break,
                }
            }
            Ok(None)
        })
    }

    fn places(&mut self) -> io::Result<Vec<BlockPlace>> {
        let mut places = Vec::new();
        let mut from = BlockPlace::default();
        while let Some((at, head)) = self.across(from, Self::head)? {
            places.push(at);
            from = behind(at, head);
        }
        Ok(places)
    }
}

fn behind(at: BlockPlace, head: Head) -> BlockPlace {
    BlockPlace { offset: at.offset + head.block_bytes() as u64, ..at }
}

impl FileReader {
    /// Looks from a place on, in its file and in those that follow.
    fn across<T>(
        &mut self,
        from: BlockPlace,
        mut look: impl FnMut(&mut Self, BlockPlace) -> io::Result<Option<T>>,
    ) -> io::Result<Option<T>> {
        let mut from = from;
        let mut complete = false;
        loop {
            let found = look(self, from)?;
            if found.is_some() {
                return Ok(found);
            }
            if complete {
                from = BlockPlace { chunk: from.chunk + 1, offset: 0 };
                complete = false;
                continue;
            }
            // The next file is begun only when this one is complete, so one more look here settles it.
            complete = sibling(&self.first, from.chunk + 1).exists();
            if !complete {
                return Ok(None);
            }
        }
    }

    /// The first head at or behind a place, in the same file.
    fn head(&mut self, from: BlockPlace) -> io::Result<Option<(BlockPlace, Head)>> {
        let mut at = from;
        loop {
            let mut bytes = [0; HEAD];
            if !self.read_at(at, &mut bytes)? {
                return Ok(None);
            }
            if let Some(head) = Head::parse(&bytes) {
                return Ok(Some((at, head)));
            }
            match self.resync(at)? {
                Some(further) => at = further,
                None => return Ok(None),
            }
        }
    }

    /// Looks for the next mark behind damage, in the same file.
    fn resync(&mut self, at: BlockPlace) -> io::Result<Option<BlockPlace>> {
        let from = at.offset + 1;
        let Some(file) = self.file(at.chunk)? else { return Ok(None) };
        file.seek(SeekFrom::Start(from))?;
        let mut rest = Vec::new();
        file.take(DAMAGE).read_to_end(&mut rest)?;
        let found = memchr::memmem::find(&rest, &MARK);
        Ok(found.map(|found| BlockPlace { offset: from + found as u64, ..at }))
    }

    /// Fills `bytes` from a place; `false` when the file is too short.
    fn read_at(&mut self, at: BlockPlace, bytes: &mut [u8]) -> io::Result<bool> {
        let Some(file) = self.file(at.chunk)? else { return Ok(false) };
        file.seek(SeekFrom::Start(at.offset))?;
        match file.read_exact(bytes) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn file(&mut self, chunk: u32) -> io::Result<Option<&mut File>> {
        if self.open.as_ref().is_none_or(|(open, _)| *open != chunk) {
            match File::open(sibling(&self.first, chunk)) {
                Ok(file) => self.open = Some((chunk, file)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(self.open.as_mut().map(|(_, file)| file))
    }
}

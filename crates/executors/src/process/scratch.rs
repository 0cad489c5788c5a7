//! The folder of one attempt: `$OSTLER_SCRATCH`, `$OSTLER_OUTPUT`. Removed with the attempt; what a killed node left
//! is removed by the next one.
//!
//! Most commands leave nothing in it. Such a folder goes on a shelf and serves another attempt: to make and remove
//! one costs half as much as the command itself where the disk is slow with folders.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt, chown},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, Once, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::spawner::User;

static NEXT: AtomicU64 = AtomicU64::new(1);
/// How many folders wait on the shelf at most.
const KEPT: usize = 16;
/// Nobody else may look into it.
const MODE: u32 = 0o700;

/// Where folders are made.
pub(crate) struct Shelf {
    base: PathBuf,
    swept: Once,
    free: Mutex<Vec<PathBuf>>,
}

/// The folder of one attempt.
pub(crate) struct Scratch {
    root: PathBuf,
    /// Where it goes when it is as new; none when it belongs to another user.
    shelf: Option<Arc<Shelf>>,
}

impl Shelf {
    pub(crate) fn new(base: PathBuf) -> Arc<Self> {
        Arc::new(Self { base, swept: Once::new(), free: Mutex::default() })
    }

    pub(crate) fn base(&self) -> &Path {
        &self.base
    }

    fn free(&self) -> std::sync::MutexGuard<'_, Vec<PathBuf>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A folder, for `user` if it is another.
    pub(crate) fn take(self: &Arc<Self>, user: Option<User>) -> io::Result<Scratch> {
        let shelf = user.is_none().then(|| self.clone());
        if shelf.is_some()
            && let Some(root) = self.free().pop()
        {
            return Ok(Scratch { root, shelf });
        }
        // Others must not be able to prepare what is found here, but may pass through to what is theirs.
        fs::DirBuilder::new().recursive(true).mode(0o711).create(&self.base)?;
        self.swept.call_once(|| sweep(&self.base));
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let root = self.base.join(format!("{}-{number}", std::process::id()));
        fs::DirBuilder::new().mode(MODE).create(&root)?;
        let scratch = Scratch { root, shelf };
        fs::DirBuilder::new().mode(MODE).create(scratch.folder())?;
        if let Some(User { uid, gid }) = user {
            fs::write(scratch.output(), "")?;
            for path in [&scratch.root, &scratch.folder(), &scratch.output()] {
                chown(path, Some(uid), Some(gid))?;
            }
        }
        Ok(scratch)
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        for root in self.free().drain(..) {
            let _ = fs::remove_dir_all(root);
        }
    }
}

impl Scratch {
    /// The run's own folder.
    pub(crate) fn folder(&self) -> PathBuf {
        self.root.join("scratch")
    }

    /// The file for outputs.
    pub(crate) fn output(&self) -> PathBuf {
        self.root.join("output")
    }

    /// A file of Ostler's own beside them.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Whether the attempt has left nothing and changed nothing.
    fn is_as_new(&self) -> io::Result<bool> {
        let untouched = |path: &Path| {
            fs::symlink_metadata(path).map(|found| found.is_dir() && found.mode() & 0o7777 == MODE)
        };
        let folder = self.folder();
        let as_new = fs::read_dir(&self.root)?.count() == 1
            && untouched(&self.root)?
            && untouched(&folder)?
            && fs::read_dir(&folder)?.next().is_none();
        Ok(as_new)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(shelf) = self.shelf.take()
            && self.is_as_new().unwrap_or(false)
        {
            let mut free = shelf.free();
            if free.len() < KEPT {
                free.push(std::mem::take(&mut self.root));
                return;
            }
        }
        let _ = fs::remove_dir_all(&self.root);
    }
}

/// Removes folders of nodes that are gone.
fn sweep(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid =
            name.to_str().and_then(|name| name.split_once('-')).and_then(|(pid, _)| pid.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

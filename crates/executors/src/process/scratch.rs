//! The folder of one attempt: `$OSTLER_SCRATCH`, `$OSTLER_OUTPUT`. Removed with the attempt; what a killed node left
//! is removed by the next one.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, chown},
    path::{Path, PathBuf},
    sync::{
        Once,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::spawner::User;

static NEXT: AtomicU64 = AtomicU64::new(1);
static SWEPT: Once = Once::new();

pub(crate) struct Scratch {
    root: PathBuf,
}

impl Scratch {
    /// Makes the folder under `base`, for `user` if it is another.
    pub(crate) fn make(base: &Path, user: Option<User>) -> io::Result<Self> {
        // Others must not be able to prepare what is found here, but may pass through to what is theirs.
        fs::DirBuilder::new().recursive(true).mode(0o711).create(base)?;
        SWEPT.call_once(|| sweep(base));
        let root = base.join(format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        fs::DirBuilder::new().mode(0o700).create(&root)?;
        let scratch = Self { root };
        fs::DirBuilder::new().mode(0o700).create(scratch.folder())?;
        if let Some(User { uid, gid }) = user {
            fs::write(scratch.output(), "")?;
            for path in [&scratch.root, &scratch.folder(), &scratch.output()] {
                chown(path, Some(uid), Some(gid))?;
            }
        }
        Ok(scratch)
    }

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
}

impl Drop for Scratch {
    fn drop(&mut self) {
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

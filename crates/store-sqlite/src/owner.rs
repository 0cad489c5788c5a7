//! Who uses the file: the owner's lock, and a lock for each node by which others see that it lives.
//!
//! The operating system gives a lock back when its process ends, however it ends, so a dead holder is seen at once.

use std::{
    fs::{File, TryLockError},
    io::{Read, Write},
    path::{Path, PathBuf},
};

use ostler_store::{NodeId, StoreError};

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn trouble(path: &Path) -> impl Fn(std::io::Error) -> StoreError {
    let path = path.display().to_string();
    move |e| StoreError::Unavailable(format!("`{path}`: {e}"))
}

fn open(path: &Path) -> Result<File, StoreError> {
    File::options().create(true).read(true).write(true).truncate(false).open(path).map_err(trouble(path))
}

fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The lock that names the one owner of a store.
#[derive(Debug)]
pub struct OwnerLock {
    file: File,
}

impl OwnerLock {
    /// Takes the lock of the store at `path`; `None` when another process has it.
    ///
    /// # Errors
    /// The lock file cannot be made.
    pub fn try_acquire(path: &Path) -> Result<Option<Self>, StoreError> {
        let name = beside(path, ".owner");
        let mut file = open(&name)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(e)) => return Err(trouble(&name)(e)),
        }
        let told = file.set_len(0).and_then(|()| writeln!(file, "pid {} on {}", std::process::id(), host()));
        told.map_err(trouble(&name))?;
        Ok(Some(Self { file }))
    }

    /// Who owns the store at `path` now.
    #[must_use]
    pub fn owner_of(path: Option<&Path>) -> Option<String> {
        let mut file = File::open(beside(path?, ".owner")).ok()?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => {}
            _ => return None,
        }
        let mut text = String::new();
        file.read_to_string(&mut text).ok()?;
        Some(format!("ostler ({})", text.trim()))
    }
}

impl Drop for OwnerLock {
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

/// The lock that shows that a node's process lives.
#[derive(Debug)]
pub struct NodeLock {
    path: PathBuf,
    _file: File,
}

impl NodeLock {
    /// Takes the lock of a node.
    ///
    /// # Errors
    /// The lock file cannot be made.
    pub fn acquire(path: &Path, node: NodeId) -> Result<Self, StoreError> {
        let folder = beside(path, ".nodes");
        std::fs::create_dir_all(&folder).map_err(trouble(&folder))?;
        let name = folder.join(node.0.to_string());
        let file = open(&name)?;
        file.lock().map_err(trouble(&name))?;
        Ok(Self { path: name, _file: file })
    }
}

impl Drop for NodeLock {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Whether the process of a node lives. One that has just registered and holds no lock yet counts as dead for a
/// moment; it holds nothing either.
#[must_use]
pub fn is_node_alive(path: &Path, node: NodeId) -> bool {
    let name = beside(path, ".nodes").join(node.0.to_string());
    match File::open(&name) {
        Ok(file) => matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)),
        Err(_) => false,
    }
}

//! Whether anybody may have written, told by the write-ahead log without opening it.
//!
//! SQLite's own `data_version` takes and gives back a lock of the file, on the connection whose writes do not count.
//! Whoever asks many times a second would rather ask that only when there is something to learn, and every commit
//! shows in the log's size or times.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Two writes within a tick of the kernel's clock leave the same times: after a change, so many looks more say that
/// there may be another.
const AFTER_CHANGE: u32 = 3;

/// Now and then a look says yes whatever the file says, in case its times are not to be trusted.
const ANYWAY: u32 = 20;

/// Looks at the write-ahead log of a store.
#[derive(Debug)]
pub struct Changes {
    /// None for a store without a file: every look says yes.
    log: Option<PathBuf>,
    /// Inode, size, and times in nanoseconds.
    seen: Option<[i128; 3]>,
    /// Looks since the last change.
    quiet: u32,
}

impl Changes {
    /// Looks at the store in this file; without one, every look says yes.
    #[must_use]
    pub fn of(store: Option<&Path>) -> Self {
        let log = store.map(|path| {
            let mut log = path.as_os_str().to_owned();
            log.push("-wal");
            PathBuf::from(log)
        });
        Self { log, seen: None, quiet: 0 }
    }

    /// Whether somebody, this process included, may have committed since the look before. The first look says yes.
    pub fn may_be(&mut self) -> bool {
        let Some(log) = &self.log else { return true };
        let found = std::fs::metadata(log).ok().map(|data| {
            let changed = i128::from(data.mtime()) * 1_000_000_000 + i128::from(data.mtime_nsec());
            [i128::from(data.ino()), i128::from(data.len()), changed]
        });
        if found != self.seen {
            (self.seen, self.quiet) = (found, 0);
        }
        self.quiet = self.quiet.saturating_add(1);
        self.quiet <= AFTER_CHANGE || self.quiet.is_multiple_of(ANYWAY)
    }
}

#[cfg(test)]
mod tests {
    use ostler_store::{Command, NewNode, Store as _};

    use super::*;
    use crate::{OpenOptions, SqliteStore};

    /// Looks until it is quiet.
    fn settle(changes: &mut Changes) {
        while changes.may_be() {}
    }

    #[test]
    fn every_commit_shows_and_nothing_else_does() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        let mut store = SqliteStore::open(&path, &OpenOptions::default()).unwrap();
        let mut changes = Changes::of(Some(&path));
        assert!(changes.may_be());
        for round in 0..50 {
            settle(&mut changes);
            let register = Command::Register(NewNode { name: format!("node {round}"), ..NewNode::default() });
            assert!(store.apply(round, &[register])[0].is_ok());
            assert!((0..AFTER_CHANGE).any(|_| changes.may_be()), "round {round}");
        }
        settle(&mut changes);
        store.queries().unwrap().nodes().unwrap();
        assert!(!changes.may_be());
    }

    #[test]
    fn a_write_within_the_same_tick_of_the_clock_is_looked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        let _store = SqliteStore::open(&path, &OpenOptions::default()).unwrap();
        let mut changes = Changes::of(Some(&path));
        assert!((0..AFTER_CHANGE).all(|_| changes.may_be()));
        assert_eq!((0..ANYWAY).filter(|_| changes.may_be()).count(), 1);
    }

    #[test]
    fn without_a_file_every_look_says_yes() {
        let mut changes = Changes::of(None);
        assert!((0..100).all(|_| changes.may_be()));
    }
}

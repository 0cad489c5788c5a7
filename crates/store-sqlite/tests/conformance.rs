//! The embedded store passes the suite of stores, in memory and in a file.

use ostler_store::{Command, Micros, Queries, Reply, Store, StoreError};
use ostler_store_sqlite::{OpenOptions, SqliteStore};
use tempfile::TempDir;

mod memory {
    use super::*;

    ostler_store::conformance_suite!(|| -> Box<dyn Store> {
        Box::new(SqliteStore::open_memory(&OpenOptions::default()).unwrap())
    });
}

mod file {
    use super::*;

    ostler_store::conformance_suite!(|| -> Box<dyn Store> {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("store.db"), &OpenOptions::default()).unwrap();
        Box::new(InFolder { store, _folder: folder })
    });
}

/// A store with the folder that goes with it.
struct InFolder {
    store: SqliteStore,
    _folder: TempDir,
}

impl Store for InFolder {
    fn apply(&mut self, now: Micros, batch: &[Command]) -> Vec<Result<Reply, StoreError>> {
        self.store.apply(now, batch)
    }

    fn next_due(&mut self) -> Result<Option<Micros>, StoreError> {
        self.store.next_due()
    }

    fn data_version(&mut self) -> Result<i64, StoreError> {
        self.store.data_version()
    }

    fn queries(&self) -> Result<Box<dyn Queries>, StoreError> {
        self.store.queries()
    }
}

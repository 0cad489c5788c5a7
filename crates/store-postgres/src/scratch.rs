//! Stores for tests and measurements, in schemas of their own that go when they do.

use std::sync::atomic::{AtomicU32, Ordering};

use ostler_store::{Command, Micros, Queries, Reply, Store, StoreError};

use crate::{
    Address, PgBlocks, PgStore,
    link::Link,
    trouble::{Done, Trouble},
};

/// The server: what `OSTLER_TEST_POSTGRES` says, or the one on this host's standard port.
#[must_use]
pub fn server() -> String {
    std::env::var("OSTLER_TEST_POSTGRES")
        .unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".into())
}

/// A schema that is dropped when nobody uses it any more.
#[derive(Debug)]
pub struct Schema {
    name: String,
    url: String,
}

impl Schema {
    /// A name that nobody has yet; `more` is added to the URL, as in `&pooler=transaction`.
    #[must_use]
    pub fn new(more: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("ostler_test_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let server = server();
        let mark = if server.contains('?') { '&' } else { '?' };
        Self { url: format!("{server}{mark}schema={name}{more}"), name }
    }

    /// The URL of the store.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The URL, read.
    ///
    /// # Errors
    /// `OSTLER_TEST_POSTGRES` does not read.
    pub fn address(&self) -> Result<Address, StoreError> {
        Address::parse(&self.url)
    }

    /// Runs statements beside the store, in its schema.
    ///
    /// # Errors
    /// The server's.
    pub fn script(&self, sql: &str) -> Result<(), StoreError> {
        let run = || -> Done<()> {
            let link = Link::open(&self.address()?)?;
            link.script(&format!("SET search_path TO {}; {sql}", self.name))
        };
        run().map_err(Trouble::told)
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        let sql = format!("SET client_min_messages TO warning; DROP SCHEMA IF EXISTS {} CASCADE", self.name);
        if let Err(error) = self.script(&sql) {
            tracing::warn!(%error, schema = %self.name, "the schema of a test was not dropped");
        }
    }
}

/// An empty store with the schema that goes with it.
pub struct Scratch {
    store: PgStore,
    schema: Schema,
}

impl Scratch {
    /// A store in a new schema.
    ///
    /// # Errors
    /// There is no server, with words that say what to do.
    pub fn open(more: &str, salt: Option<u64>) -> Result<Self, StoreError> {
        let schema = Schema::new(more);
        let store = PgStore::open_with(&schema.address()?, salt).map_err(|error| match error {
            StoreError::Unavailable(why) => StoreError::Unavailable(format!(
                "{why}; start PostgreSQL there, or name another server with OSTLER_TEST_POSTGRES=postgres://USER@HOST/DATABASE"
            )),
            other => other,
        })?;
        Ok(Self { store, schema })
    }

    /// Its schema.
    #[must_use]
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Its run logs, each time with connections of their own.
    #[must_use]
    pub fn blocks(&self) -> PgBlocks {
        self.store.blocks()
    }
}

impl Store for Scratch {
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

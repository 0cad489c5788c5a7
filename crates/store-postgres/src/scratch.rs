//! Stores for tests and measurements, in schemas of their own that go when they do.

use ostler_clock::{Entropy, SeededEntropy};
use ostler_store::{Command, Micros, Queries, Reply, Store, StoreError};

use ostler_test_servers::POSTGRES;

use crate::{
    Address, PgBlocks, PgStore,
    link::Link,
    trouble::{Done, Trouble},
};

/// A schema that is dropped when nobody uses it any more.
#[derive(Debug)]
pub struct Schema {
    name: String,
    url: String,
}

impl Schema {
    /// A name that nobody has yet, on the server that tests use; `None` where they are to do without one. `more` is added
    /// to the URL, as in `&pooler=transaction`.
    ///
    /// # Panics
    /// When there is no server, with what to do.
    #[must_use]
    pub fn new(more: &str) -> Option<Self> {
        Some(Self::on(&POSTGRES.url()?, more))
    }

    /// The same on another server.
    #[must_use]
    pub fn on(server: &str, more: &str) -> Self {
        // Drawn, not counted: a test that was killed has left its schema behind, and numbers of processes come again.
        let name = format!("ostler_test_{:x}", SeededEntropy::from_os().next_u64());
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
            link.script(&format!("SET search_path TO {}; SET statement_timeout TO 0; {sql}", self.name))
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
    /// A store in a new schema; `None` where tests are to do without a server.
    ///
    /// # Errors
    /// The store cannot be made.
    ///
    /// # Panics
    /// When there is no server, with what to do.
    pub fn open(more: &str, salt: Option<u64>) -> Result<Option<Self>, StoreError> {
        let Some(schema) = Schema::new(more) else { return Ok(None) };
        let store = PgStore::open_with(&schema.address()?, salt)?;
        Ok(Some(Self { store, schema }))
    }

    /// The store of a schema, by another way to it.
    ///
    /// # Errors
    /// The store cannot be made.
    pub fn by(way: &str, schema: Schema) -> Result<Self, StoreError> {
        Ok(Self { store: PgStore::open(&Address::parse(way)?)?, schema })
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

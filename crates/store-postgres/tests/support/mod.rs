//! Stores in schemas of their own, which go with them.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::sync::atomic::{AtomicU32, Ordering};

use ostler_store::{Command, Micros, Queries, Reply, Store, StoreError};
use ostler_store_postgres::{Address, PgStore};

/// The server that tests use.
pub(crate) fn server() -> String {
    std::env::var("OSTLER_TEST_POSTGRES")
        .unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".into())
}

/// A schema that is dropped when nobody uses it any more.
pub(crate) struct Schema {
    name: String,
    pub(crate) url: String,
}

impl Schema {
    pub(crate) fn new(more: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("ostler_test_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let url = format!("{}?schema={name}&sslmode=disable{more}", server());
        Self { name, url }
    }

    pub(crate) fn address(&self) -> Address {
        Address::parse(&self.url).unwrap()
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        let sql = format!("SET client_min_messages TO warning; DROP SCHEMA IF EXISTS {} CASCADE", self.name);
        script(&sql);
    }
}

/// Runs statements on the server.
pub(crate) fn script(sql: &str) {
    let driver = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    driver.block_on(async {
        let (client, connection) =
            tokio_postgres::connect(&server(), tokio_postgres::NoTls).await.unwrap_or_else(|error| {
                panic!(
                    "no PostgreSQL at {}: {error}; start one there, or name another with OSTLER_TEST_POSTGRES",
                    server()
                )
            });
        let talk = tokio::spawn(connection);
        client.batch_execute(sql).await.unwrap();
        drop(client);
        let _ = talk.await;
    });
}

/// An empty store.
pub(crate) fn store(more: &str) -> Box<dyn Store> {
    let schema = Schema::new(more);
    let store = PgStore::open(&schema.address()).unwrap_or_else(|error| {
        panic!("{error}; start PostgreSQL, or name another server with OSTLER_TEST_POSTGRES")
    });
    Box::new(InSchema { store, _schema: schema })
}

/// A store with the schema that goes with it.
struct InSchema {
    store: PgStore,
    _schema: Schema,
}

impl Store for InSchema {
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

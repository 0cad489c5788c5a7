//! The store on PostgreSQL passes the suite of stores: with prepared statements, as behind a pooler without, and behind
//! PgBouncer.

use ostler_store::{Command, Micros, Queries, Reply, Store, StoreError};
use ostler_store_postgres::scratch::{Schema, Scratch};
use ostler_test_servers::{POSTGRES, private::PgBouncer};

mod prepared {
    use super::*;

    ostler_store::conformance_suite!(@when POSTGRES.url().is_some(); || -> Box<dyn Store> {
        Box::new(Scratch::open("", None).unwrap().unwrap())
    });
}

mod pooled {
    use super::*;

    ostler_store::conformance_suite!(@when POSTGRES.url().is_some(); || -> Box<dyn Store> {
        Box::new(Scratch::open("&pooler=transaction", None).unwrap().unwrap())
    });
}

mod bouncer {
    use super::*;

    ostler_store::conformance_suite!(@when PgBouncer::is_there() && POSTGRES.url().is_some(); || -> Box<dyn Store> {
        let schema = Schema::new("").unwrap();
        let bouncer = PgBouncer::before(schema.url()).unwrap();
        let store = Scratch::by(&bouncer.through(schema.url()), schema).unwrap();
        Box::new(Behind { store, _bouncer: bouncer })
    });
}

/// A store behind a PgBouncer of its own.
struct Behind {
    store: Scratch,
    _bouncer: PgBouncer,
}

impl Store for Behind {
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

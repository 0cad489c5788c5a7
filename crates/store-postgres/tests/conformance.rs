//! The store on PostgreSQL passes the suite of stores, with prepared statements and, as behind a pooler, without.

use ostler_store::Store;
use ostler_store_postgres::scratch::Scratch;
use ostler_test_servers::POSTGRES;

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

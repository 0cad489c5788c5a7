//! The store on PostgreSQL passes the suite of stores, with prepared statements and, as behind a pooler, without.

use ostler_store::Store;
use ostler_store_postgres::scratch::Scratch;

mod prepared {
    use super::*;

    ostler_store::conformance_suite!(|| -> Box<dyn Store> { Box::new(Scratch::open("", None).unwrap()) });
}

mod pooled {
    use super::*;

    ostler_store::conformance_suite!(|| -> Box<dyn Store> {
        Box::new(Scratch::open("&pooler=transaction", None).unwrap())
    });
}

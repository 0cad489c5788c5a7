//! The store on PostgreSQL passes the suite of stores.

mod support;

use ostler_store::Store;

mod prepared {
    use super::*;

    ostler_store::conformance_suite!(|| -> Box<dyn Store> { support::store("") });
}

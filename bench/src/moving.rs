//! N5: a store moved to PostgreSQL and back, both times compared row by row.

use ostler_clock::SystemClock;
use ostler_embedded::{Place, copy};
use ostler_store_postgres::scratch::Schema;

use crate::{seconds, whole::Shop};

/// Moves so many finished runs there and back.
pub(crate) fn copies(runs: usize) {
    let folder = tempfile::tempdir().unwrap();
    let (first, back) = (folder.path().join("ostler.db"), folder.path().join("back.db"));
    let shop = Shop::open(&first);
    for _ in 0..runs / 50_000 {
        shop.enqueue(50_000);
        shop.drain(50_000);
    }
    drop(shop);
    let Some(schema) = Schema::new("") else { return };
    let server = Place::Postgres(Box::new(schema.address().unwrap()));
    println!("N5 a store of {runs} finished runs is moved");
    for (words, from, to) in [
        ("to PostgreSQL", Place::File(first), server.clone()),
        ("and back", server.clone(), Place::File(back)),
    ] {
        let mut rows = 0;
        let taken = seconds(|| {
            let job = copy::Copy { from: &from, to: &to, keep: false };
            let copied = copy::copy(&job, &SystemClock, &mut |_| true).unwrap();
            rows = copied.iter().map(|table| table.sum.rows).sum();
        });
        println!("   {words:14} {rows} rows in {taken:.1} s, {:.0} rows/s", rows as f64 / taken);
    }
}

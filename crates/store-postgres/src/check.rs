//! What is wrong with a store: records that contradict one another. The files are the server's business.

use ostler_store::{INVARIANTS, StoreError};

use crate::{
    migrate,
    tables::whole_tables,
    trouble::{Done, Trouble},
    url::Address,
    value::Columns,
};

/// Contradictions between tables that only this store has.
const OWN: &[(&str, &str)] = &[
    (
        "unique keys that are not those of living machines",
        "SELECT count(*) FROM unique_key k FULL JOIN (SELECT ns, unique_key, id FROM machine
             WHERE unique_key IS NOT NULL AND state=0) m ON m.ns=k.ns AND m.unique_key=k.key AND m.id=k.machine
         WHERE m.id IS NULL OR k.machine IS NULL",
    ),
    (
        "watched machines that do not live, or living ones that nobody finds",
        "SELECT count(*) FROM watched w FULL JOIN (SELECT watcher, id FROM machine
             WHERE watcher IS NOT NULL AND state=0) m ON m.watcher=w.watcher AND m.id=w.machine
         WHERE m.id IS NULL OR w.machine IS NULL",
    ),
    (
        "bad ends that are not listed, or listed and none",
        "SELECT count(*) FROM bad_end b FULL JOIN (SELECT state, id FROM machine
             WHERE state>10 AND parent IS NULL) m ON m.state=b.state AND m.id=b.machine
         WHERE m.id IS NULL OR b.machine IS NULL",
    ),
    (
        "run logs with gaps",
        "SELECT count(*) FROM (SELECT 1 FROM log GROUP BY machine HAVING max(place)<>count(*)-1) l",
    ),
];

/// Tables are read whole here, which the work of nodes must never do.
const PLANS: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL enable_seqscan TO on;
  SET LOCAL enable_bitmapscan TO on; SET LOCAL enable_mergejoin TO on; SET LOCAL enable_sort TO on";

/// All contradictions between the tables of a store, as they are at one moment, whoever works on it.
///
/// # Errors
/// The store cannot be read, or is not complete.
pub fn check(address: &Address) -> Result<Vec<String>, StoreError> {
    let look = || -> Done<Vec<String>> {
        let mut link = whole_tables(address)?;
        migrate::open(&mut link, address, None)?;
        migrate::may_open(&mut link, address)?;
        link.script(PLANS)?;
        let mut found = Vec::new();
        for (words, sql) in INVARIANTS.iter().chain(OWN) {
            let count = link.rows(sql, &[])?.first().map_or(Ok(0), |r| r.int(0))?;
            if count > 0 {
                found.push(format!("{count} {words}"));
            }
        }
        link.script("COMMIT")?;
        Ok(found)
    };
    look().map_err(Trouble::told)
}

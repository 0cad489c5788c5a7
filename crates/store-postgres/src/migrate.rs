//! The schema: made and brought up to date when a store is opened, once, however many nodes open it together.

use ostler_clock::{Entropy, SeededEntropy};
use ostler_store::{Mark, StoreError};

use crate::{
    link::Link,
    numbers::transaction_of,
    trouble::{Done, Trouble},
    url::Address,
    value::{Columns, values},
};

/// Each step in a transaction of its own. A step that is out is never changed. None takes a lock for long that the hot
/// path needs: columns are added with constant defaults, indexes of large tables are built beside the work.
const STEPS: &[&str] =
    &[include_str!("../migrations/0001_start.sql"), include_str!("../migrations/0002_mark.sql")];

/// The newest schema known here.
pub(crate) const SCHEMA: i64 = STEPS.len() as i64;

/// The store's mark.
pub(crate) const MARK: &str = "SELECT words FROM meta WHERE key='mark'";

/// Refuses a store that is not complete.
pub(crate) fn may_open(link: &mut Link, address: &Address) -> Done<()> {
    link.script(&format!("BEGIN; SET LOCAL search_path TO {}", address.schema))?;
    let found = link.rows(MARK, &[]);
    link.script("COMMIT")?;
    let text = found?.first().map_or(Ok(None), |r| r.text_or(0))?;
    Ok(Mark::may_open(text.as_deref().map(Mark::of).transpose()?.as_ref())?)
}

/// What is read of a store when it is opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opened {
    /// By which public ids are made.
    pub(crate) salt: u64,
    /// Added to the server's transaction ids (`numbers.rs`).
    pub(crate) base: i64,
}

/// Brings the schema up to date and reads what is fixed.
pub(crate) fn open(link: &mut Link, address: &Address, salt: Option<u64>) -> Done<Opened> {
    loop {
        link.script(&format!(
            "BEGIN; SET LOCAL search_path TO {0}; SET LOCAL lock_timeout TO '60s'; SET LOCAL statement_timeout TO 0;
             SELECT pg_advisory_xact_lock(hashtextextended('ostler:{0}', 0))",
            address.schema
        ))?;
        match step(link, address, salt) {
            Ok(Some(opened)) => {
                link.script("COMMIT")?;
                return Ok(opened);
            }
            Ok(None) => link.script("COMMIT")?,
            Err(trouble) => {
                let _ = link.script("ROLLBACK");
                return Err(trouble);
            }
        }
    }
}

/// One step of the way; what was read when there is none left.
fn step(link: &mut Link, address: &Address, salt: Option<u64>) -> Done<Option<Opened>> {
    let version = link.rows("SELECT current_setting('server_version_num')::bigint", &[])?;
    let version = version.first().map_or(Ok(0), |r| r.int(0))?;
    if version < 140_000 {
        let words = format!("PostgreSQL 14 or newer is needed; {address} is {}", version / 10_000);
        return Err(StoreError::Refused(words).into());
    }
    let known = "SELECT 1 FROM pg_tables WHERE schemaname=$1 AND tablename='meta'";
    let found = match link.rows(known, values![&address.schema])?.is_empty() {
        true => 0,
        false => {
            let row = link.rows("SELECT value FROM meta WHERE key='schema'", &[])?;
            row.first().map_or(Ok(0), |r| r.int(0))?
        }
    };
    if found > SCHEMA {
        return Err(StoreError::Newer { found, known: SCHEMA }.into());
    }
    if found < SCHEMA {
        if found == 0 {
            link.script(&format!("CREATE SCHEMA IF NOT EXISTS {}", address.schema))?;
        }
        let place = usize::try_from(found).unwrap_or(0);
        link.script(STEPS.get(place).copied().unwrap_or_default())?;
        let sql = "INSERT INTO meta (key, value) VALUES ('schema', $1) ON CONFLICT (key) DO UPDATE SET value=excluded.value";
        link.run(sql, values![found + 1])?;
        if found == 0 {
            let salt = salt.unwrap_or_else(|| SeededEntropy::from_os().next_u64());
            link.run("INSERT INTO meta (key, value) VALUES ('salt', $1)", values![salt as i64])?;
        }
        return Ok(None);
    }
    let mut salt = None;
    let mut base = 0;
    for row in link.rows("SELECT key, value FROM meta WHERE key IN ('salt', 'xid_base')", &[])? {
        match row.text(0)?.as_str() {
            "salt" => salt = Some(row.int(1)? as u64),
            _ => base = row.int(1)?,
        }
    }
    let salt = salt.ok_or_else(|| Trouble::Store(StoreError::Corrupt("the store has no salt".into())))?;
    // A dump that is restored on another server may hold numbers above those that this one would give.
    // They may be pruned by then.
    let ends = "SELECT greatest((SELECT seq FROM event ORDER BY seq DESC LIMIT 1),
          (SELECT value-1 FROM meta WHERE key='first_event'), 0),
        pg_snapshot_xmax(pg_current_snapshot())::text::bigint";
    let row = link.rows(ends, &[])?;
    let (last, next) = row.first().map_or(Ok((0, 0)), |r| Ok::<_, Trouble>((r.int(0)?, r.int(1)?)))?;
    if transaction_of(last) >= next + base {
        base = transaction_of(last) - next + 1;
        let sql = "INSERT INTO meta (key, value) VALUES ('xid_base', $1) ON CONFLICT (key) DO UPDATE SET value=excluded.value";
        link.run(sql, values![base])?;
    }
    Ok(Some(Opened { salt, base }))
}

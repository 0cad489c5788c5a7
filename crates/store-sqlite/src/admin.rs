//! Looking after the file: check, backup, vacuum.

use std::{path::Path, time::Duration};

use ostler_store::{INVARIANTS, StoreError};
use rusqlite::{Connection, OpenFlags, backup};

use crate::error::told;

/// Pages copied in one step of a backup; writers go on between steps.
const STEP: i32 = 2000;

/// Everything that is wrong with a store: damage of the file, and records that contradict one another.
///
/// # Errors
/// The file cannot be opened at all.
pub fn check(path: &Path) -> Result<Vec<String>, StoreError> {
    let connection = crate::open::reading(path)?;
    crate::open::may_open(&connection)?;
    let mut found = Vec::new();
    let mut select = connection.prepare("PRAGMA integrity_check").map_err(told)?;
    let lines: Result<Vec<String>, _> = select.query_map([], |r| r.get(0)).and_then(Iterator::collect);
    match lines {
        Ok(lines) => found.extend(lines.into_iter().filter(|l| l != "ok")),
        Err(e) => found.push(e.to_string()),
    }
    for (words, sql) in INVARIANTS {
        match connection.query_row(sql, [], |r| r.get::<_, i64>(0)) {
            Ok(0) => {}
            Ok(count) => found.push(format!("{count} {words}")),
            Err(e) => found.push(format!("{words}: {e}")),
        }
    }
    Ok(found)
}

/// Copies a store while it is in use; `progress` is told pages done and pages in all, and says whether to go on. `false`
/// when it did not.
///
/// # Errors
/// The source cannot be read or the target not be written.
pub fn backup(from: &Path, to: &Path, progress: impl FnMut(u64, u64) -> bool) -> Result<bool, StoreError> {
    let source = crate::open::reading(from)?;
    crate::open::may_open(&source)?;
    copy(&source, to, progress)
}

/// Copies into a file beside the target first, so that a target that is there is whole.
pub(crate) fn copy(
    source: &Connection,
    to: &Path,
    mut progress: impl FnMut(u64, u64) -> bool,
) -> Result<bool, StoreError> {
    let cannot = |e: &dyn std::fmt::Display| {
        StoreError::Unavailable(format!("`{}` cannot be written: {e}", to.display()))
    };
    let mut part = to.as_os_str().to_owned();
    part.push(".part");
    let _ = std::fs::remove_file(&part);
    let mut target = Connection::open(&part).map_err(|e| cannot(&e))?;
    let backup = backup::Backup::new(source, &mut target).map_err(told)?;
    loop {
        let step = backup.step(STEP).map_err(told)?;
        let state = backup.progress();
        let total = u64::try_from(state.pagecount).unwrap_or(0);
        let go_on = progress(total - u64::try_from(state.remaining).unwrap_or(0).min(total), total);
        match step {
            _ if !go_on => {
                drop(backup);
                drop(target);
                let _ = std::fs::remove_file(&part);
                return Ok(false);
            }
            backup::StepResult::Done => break,
            backup::StepResult::More => {}
            _ => std::thread::sleep(Duration::from_millis(20)),
        }
    }
    drop(backup);
    drop(target);
    let done =
        std::fs::File::open(&part).and_then(|f| f.sync_all()).and_then(|()| std::fs::rename(&part, to));
    done.map(|()| true).map_err(|e| cannot(&e))
}

/// Gives all free pages back and empties the write-ahead log, so that the file is as small as its content.
///
/// # Errors
/// Another process is writing for too long.
pub fn vacuum(path: &Path) -> Result<(), StoreError> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )
    .map_err(told)?;
    connection.busy_timeout(Duration::from_secs(10)).map_err(told)?;
    let mut vacuum = connection.prepare("PRAGMA incremental_vacuum").map_err(told)?;
    let mut rows = vacuum.query([]).map_err(told)?;
    while rows.next().map_err(told)?.is_some() {}
    drop(rows);
    drop(vacuum);
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(told)
}

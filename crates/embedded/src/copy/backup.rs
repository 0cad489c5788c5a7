//! Backups: what a store holds at one moment, in an embedded store of its own.

use std::path::{Path, PathBuf};

use ostler_clock::Clock;
use ostler_executors::LogFolder;

use super::{Copied, Copy, CopyError, Step, Tell, copy, must_exist};
use crate::Place;

/// Writes what a store holds at this moment into a new embedded store, with its run logs, while its nodes go on. Of one on
/// PostgreSQL gives what was compared; a file is copied page by page.
///
/// # Errors
/// As [`copy`].
pub fn back_up(from: &Place, to: &Path, clock: &dyn Clock, tell: Tell<'_>) -> Result<Vec<Copied>, CopyError> {
    must_exist(from)?;
    let file = Place::File(to.to_owned());
    let part = to_part(to);
    let part_place = Place::File(part.clone());
    clear_away(&part_place)?;
    let copied = match from {
        Place::Memory => return Err(CopyError::Memory),
        Place::Postgres(_) => {
            let copied = copy(&Copy { from, to: &part_place, keep: true }, clock, tell);
            if copied.is_err() {
                clear_away(&part_place)?;
            }
            copied?
        }
        Place::File(path) => {
            let step = Step { table: "pages", comparing: false, rows: 0, of: 0, bytes: 0 };
            let pages = |done, all| tell(Step { rows: done, of: all, ..step });
            if !ostler_store_sqlite::admin::backup(path, &part, pages)? {
                clear_away(&part_place)?;
                return Err(CopyError::Stopped);
            }
            copy_logs(from, &part_place)?;
            Vec::new()
        }
    };
    if part_place.logs().exists() {
        std::fs::rename(part_place.logs(), file.logs()).map_err(at(&file.logs()))?;
    }
    let done =
        std::fs::File::open(&part).and_then(|f| f.sync_all()).and_then(|()| std::fs::rename(&part, to));
    done.map_err(at(to))?;
    clear_away(&part_place)?;
    Ok(copied)
}

fn to_part(to: &Path) -> PathBuf {
    let mut name = to.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

/// What a backup has left that was interrupted, and what one leaves that was not.
fn clear_away(part: &Place) -> Result<(), CopyError> {
    for left in ["", "-wal", "-shm", ".owner"].iter().filter_map(|suffix| part.beside(suffix)) {
        match std::fs::remove_file(&left) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(at(&left)(error)),
            _ => {}
        }
    }
    match std::fs::remove_dir_all(part.logs()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(at(&part.logs())(error)),
        _ => Ok(()),
    }
}

fn copy_logs(from: &Place, to: &Place) -> Result<(), CopyError> {
    let (from_logs, to_logs) = (LogFolder::new(from.logs()), LogFolder::new(to.logs()));
    let copied = from_logs.runs().and_then(|runs| {
        runs.into_iter().try_for_each(|run| from_logs.blocks(run, |block, _| to_logs.append(run, block)))
    });
    copied.map_err(at(&from.logs()))
}

/// Says of which file an error speaks.
fn at(path: &Path) -> impl Fn(std::io::Error) -> CopyError {
    let path = path.to_owned();
    move |error| CopyError::File { path: path.clone(), error }
}

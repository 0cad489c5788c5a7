//! Opening: pragmas, migrations, the backup before one, and what is refused.

use std::{
    fs::File,
    hash::{BuildHasher, Hasher, RandomState},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use ostler_store::{Mark, StoreError};
use rusqlite::{Connection, MAIN_DB, OpenFlags, OptionalExtension, config::DbConfig};

use crate::{ReadFrom, ReaderFactory, SqliteStore, claim::Turns, error::told, names::Names};

/// "ostl" as an SQLite application id: tells our files from those of other programs.
const APPLICATION_ID: i64 = 0x6f73_746c;

/// Migrations in order; the schema's version is their number.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001.sql"),
    include_str!("migrations/0002.sql"),
    include_str!("migrations/0003.sql"),
    include_str!("migrations/0004.sql"),
    include_str!("migrations/0005.sql"),
    include_str!("migrations/0006.sql"),
];

/// How many statements a connection keeps prepared.
const STATEMENTS: usize = 128;

/// File systems on which SQLite's locks and shared memory cannot be trusted, by the magic of statfs(2).
const NETWORK: &[(i64, &str)] = &[
    (0x6969, "NFS"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB2"),
    (0x517b, "SMB"),
    (0x0102_1997, "9P"),
    (0x5346_414f, "AFS"),
    (0x00c3_6400, "Ceph"),
    (0x0bd0_0bd0, "Lustre"),
];

/// The magic of everything that FUSE mounts; the list of mounts says which it is.
const FUSE: i64 = 0x6573_5546;

/// Mounts by FUSE that reach over the network.
const FUSE_NETWORK: &[&str] =
    &["sshfs", "rclone", "s3fs", "gcsfuse", "goofys", "glusterfs", "ceph", "davfs", "smbnetfs"];

/// What a commit waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// What was answered survives the loss of power, as far as the disk honours flushes.
    #[default]
    Full,
    /// What was answered survives the end of the process; the last moments before a loss of power may be lost.
    Relaxed,
}

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// What a commit waits for.
    pub durability: Durability,
    /// How long to wait for another process that writes.
    pub patience: Duration,
    /// The file may not grow beyond so many pages; for tests of a full disk.
    pub max_pages: Option<u32>,
    /// What makes the public ids of a new store its own; drawn by SQLite where it is not given.
    pub salt: Option<u64>,
    /// Opens files on network file systems too, for those who know that only one host uses them.
    pub allow_network: bool,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            durability: Durability::Full,
            patience: Duration::from_secs(10),
            max_pages: None,
            salt: None,
            allow_network: false,
        }
    }
}

impl SqliteStore {
    /// Opens a file; makes it, and the folder it lies in, where they are missing. One of an older version is migrated
    /// after a copy of it was made beside it (`<name>.backup-v<version>`).
    ///
    /// # Errors
    /// The file cannot be written, is no store of ours, is damaged, or was migrated by a newer program.
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Self, StoreError> {
        Self::open_as(path, options, MIGRATIONS)
    }

    fn open_as(path: &Path, options: &OpenOptions, migrations: &[&str]) -> Result<Self, StoreError> {
        let connection = connect_with(path, options, migrations)?;
        may_open(&connection).map_err(|e| at(path, e))?;
        let salt = salt(&connection)?;
        let reader = ReaderFactory { place: ReadFrom::File(path.to_owned()), salt };
        Ok(Self::around(connection, reader, options))
    }

    /// A store in memory.
    ///
    /// # Errors
    /// Memory is short.
    pub fn open_memory(options: &OpenOptions) -> Result<Self, StoreError> {
        let connection = Connection::open_in_memory().map_err(told)?;
        prepare(&connection, options, None, MIGRATIONS)?;
        let salt = salt(&connection)?;
        let connection = Arc::new(Mutex::new(connection));
        let reader = ReaderFactory { place: ReadFrom::Shared(connection.clone()), salt };
        Ok(Self { connection, ..Self::around(Connection::open_in_memory().map_err(told)?, reader, options) })
    }

    fn around(connection: Connection, reader: ReaderFactory, options: &OpenOptions) -> Self {
        Self {
            connection: Arc::new(Mutex::new(connection)),
            names: Names::default(),
            turns: Turns::default(),
            reader,
            options: options.clone(),
            flushes: 0,
        }
    }

    /// Reading sides of a file, without the right to write it.
    ///
    /// # Errors
    /// There is no such file, or it is no store of the version that this program knows.
    pub fn open_read_only(path: &Path) -> Result<ReaderFactory, StoreError> {
        let connection = connect_read_only(path)?;
        may_open(&connection).map_err(|e| at(path, e))?;
        Ok(ReaderFactory { place: ReadFrom::File(path.to_owned()), salt: salt(&connection)? })
    }
}

/// A connection to a file that is there or is made now, with the schema of today, whatever its mark.
pub(crate) fn connect(path: &Path, options: &OpenOptions) -> Result<Connection, StoreError> {
    connect_with(path, options, MIGRATIONS)
}

fn connect_with(path: &Path, options: &OpenOptions, migrations: &[&str]) -> Result<Connection, StoreError> {
    let cannot = |e: &dyn std::fmt::Display| StoreError::Unavailable(format!("`{}`: {e}", path.display()));
    if path.is_dir() {
        return Err(cannot(&"it is a folder; name a file in it"));
    }
    if let Some(folder) = path.parent() {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        std::fs::create_dir_all(folder)
            .map_err(|e| cannot(&format_args!("its folder cannot be made: {e}")))?;
        if !options.allow_network {
            refuse_network(folder).map_err(|e| cannot(&e))?;
        }
    }
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )
    .map_err(|e| cannot(&format_args!("it cannot be opened: {e}")))?;
    // SQLite opens what it may not write for reading, and would say so only at the first write.
    if connection.is_readonly(MAIN_DB).unwrap_or(false) {
        return Err(cannot(&"it cannot be written; ask for the right to write it, or name another one"));
    }
    // Where two make or change a file at once, SQLite refuses one of them rather than let it wait.
    patiently(options.patience, || prepare(&connection, options, Some(path), migrations))
        .map_err(|e| at(path, e))?;
    Ok(connection)
}

/// A connection to a store that is there, without the right to write it.
pub(crate) fn connect_read_only(path: &Path) -> Result<Connection, StoreError> {
    let cannot = |e: &dyn std::fmt::Display| StoreError::Unavailable(format!("`{}`: {e}", path.display()));
    if !path.exists() {
        return Err(cannot(&"there is no such file"));
    }
    let connection = reading(path)?;
    let known = MIGRATIONS.len() as i64;
    let version = version(&connection, known).map_err(|e| at(path, e))?;
    if version < known {
        return Err(cannot(&format_args!("it has schema {version}, and only writing brings it to {known}")));
    }
    Ok(connection)
}

/// Says of which file an error speaks.
pub(crate) fn at(path: &Path, error: StoreError) -> StoreError {
    match error {
        StoreError::Corrupt(text) if text.contains("not a database") => StoreError::Unavailable(format!(
            "`{}`: it is not an SQLite file; name another one",
            path.display()
        )),
        StoreError::Unavailable(text) => StoreError::Unavailable(format!("`{}`: {text}", path.display())),
        other => other,
    }
}

/// The schema's version: 0 for an empty file. Refuses what is not ours before anything is written.
fn version(connection: &Connection, known: i64) -> Result<i64, StoreError> {
    // One statement, so that it is one state of the file: another process may be making it at this moment.
    let sql = "SELECT u.user_version, a.application_id, (SELECT count(*) FROM sqlite_master)
               FROM pragma_user_version u, pragma_application_id a";
    let (version, application, tables): (i64, i64, i64) =
        connection.query_row(sql, [], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?))).map_err(told)?;
    if application != APPLICATION_ID && (version != 0 || tables != 0) {
        return Err(StoreError::Unavailable(
            "it is an SQLite file of another program; name another one".into(),
        ));
    }
    if version > known {
        return Err(StoreError::Newer { found: version, known });
    }
    Ok(version)
}

fn prepare(
    connection: &Connection,
    options: &OpenOptions,
    path: Option<&Path>,
    migrations: &[&str],
) -> Result<(), StoreError> {
    steady(connection)?;
    // Another process may be making the file at this moment.
    connection.busy_timeout(options.patience).map_err(told)?;
    let known = migrations.len() as i64;
    let version = version(connection, known)?;
    let run = |sql: &str| connection.execute_batch(sql).map_err(told);
    if version == 0 {
        // Only an empty file takes these. The change to WAL makes a rollback journal with flushes of its own; there is
        // nothing yet to lose, and one flush of file and folder does for all.
        run(
            "PRAGMA page_size=4096; PRAGMA auto_vacuum=INCREMENTAL; PRAGMA synchronous=OFF; PRAGMA journal_mode=WAL",
        )?;
        if let Some(path) = path {
            flush(path).map_err(|e| StoreError::Unavailable(format!("it cannot be flushed: {e}")))?;
        }
    }
    let synchronous = match options.durability {
        Durability::Full => "FULL",
        Durability::Relaxed => "NORMAL",
    };
    run(&format!(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous={synchronous}; PRAGMA cache_size=-32768; PRAGMA temp_store=MEMORY; \
         PRAGMA journal_size_limit=67108864;"
    ))?;
    if let Some(pages) = options.max_pages {
        run(&format!("PRAGMA max_page_count={pages}"))?;
    }
    if version < known {
        migrate(connection, options, path, migrations)?;
    }
    // From here on waiting is ours: SQLite's busy handler lets writers starve.
    connection.busy_timeout(Duration::ZERO).map_err(told)
}

fn flush(path: &Path) -> std::io::Result<()> {
    File::open(path)?.sync_all()?;
    let folder = path.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn migrate(
    connection: &Connection,
    options: &OpenOptions,
    path: Option<&Path>,
    migrations: &[&str],
) -> Result<(), StoreError> {
    connection.execute_batch("BEGIN IMMEDIATE").map_err(told)?;
    let migrated = (|| {
        // Another process may have migrated while we waited for the lock.
        let from = version(connection, migrations.len() as i64)?;
        if let (1.., Some(path)) = (from, path) {
            back_up(path, from)?;
        }
        for migration in migrations.get(usize::try_from(from).unwrap_or(0)..).unwrap_or_default() {
            connection.execute_batch(migration).map_err(told)?;
        }
        if from == 0 {
            let salt = options.salt.map(u64::cast_signed);
            let sql = "INSERT INTO meta VALUES ('salt', coalesce(?1, random())), ('first_event', 1)";
            connection.execute(sql, [salt]).map_err(told)?;
        }
        let known = migrations.len();
        let end = format!("PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={known}; COMMIT");
        connection.execute_batch(&end).map_err(told)
    })();
    if migrated.is_err() {
        let _ = connection.execute_batch("ROLLBACK");
    }
    migrated
}

/// Copies the file as it was before a migration. The write lock is ours, so nobody changes it meanwhile.
fn back_up(path: &Path, version: i64) -> Result<(), StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".backup-v{version}"));
    crate::admin::copy(&reading(path)?, &PathBuf::from(name), |_, _| true).map(drop)
}

fn salt(connection: &Connection) -> Result<u64, StoreError> {
    let sql = "SELECT value FROM meta WHERE key='salt'";
    connection.query_row(sql, [], |r| r.get::<_, i64>(0)).map(i64::cast_unsigned).map_err(told)
}

/// The store's mark.
pub(crate) fn mark(connection: &Connection) -> Result<Option<Mark>, StoreError> {
    let mut ask = connection.prepare_cached("SELECT value FROM meta WHERE key='mark'").map_err(told)?;
    let text: Option<String> = ask.query_row([], |r| r.get(0)).optional().map_err(told)?;
    text.as_deref().map(Mark::of).transpose()
}

/// Refuses a store that is not complete.
pub(crate) fn may_open(connection: &Connection) -> Result<(), StoreError> {
    Mark::may_open(mark(connection)?.as_ref())
}

/// Statements stay prepared, with the plans that the tests have seen. Without this SQLite plans a join again whenever
/// another value is bound, since that might suit a partial index better; it was 60 % of the time of a commit.
fn steady(connection: &Connection) -> Result<(), StoreError> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(drop).map_err(told)
}

/// A connection that only reads.
pub(crate) fn reading(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(told)?;
    steady(&connection)?;
    connection.busy_timeout(Duration::from_secs(5)).map_err(told)?;
    connection.execute_batch("PRAGMA cache_size=-16384;").map_err(told)?;
    Ok(connection)
}

/// A write-ahead log that is longer than this is folded into the file when a process is done.
const LONG_LOG: u64 = 512 << 10;

/// Folds a long write-ahead log into the file, as far as nobody else is reading: the next process to open the store
/// has to read all of the log that there is. A short one stays, although SQLite would fold any log when the last
/// connection is closed: that takes two flushes, which each short command would wait for.
pub(crate) fn fold_log(connection: &Connection, path: &Path) {
    let log = PathBuf::from(format!("{}-wal", path.display()));
    if std::fs::metadata(log).is_ok_and(|log| log.len() > LONG_LOG) {
        let _ = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    }
    let _ = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
}

/// Takes the write lock.
pub(crate) fn begin(connection: &Connection, patience: Duration) -> Result<(), StoreError> {
    patiently(patience, || {
        connection.prepare_cached("BEGIN IMMEDIATE").and_then(|mut s| s.execute([])).map(drop).map_err(told)
    })
}

/// Tries again while the file is busy, waiting in growing, uneven steps so that several waiters do not march in step.
fn patiently<T>(
    patience: Duration,
    mut attempt: impl FnMut() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let mut waited = Duration::ZERO;
    let mut step = Duration::from_micros(200);
    loop {
        match attempt() {
            Err(StoreError::Busy(_)) if waited < patience => {
                let uneven = 50 + RandomState::new().build_hasher().finish() % 100;
                let pause = step * u32::try_from(uneven).unwrap_or(100) / 100;
                std::thread::sleep(pause);
                waited += pause;
                step = (step * 2).min(Duration::from_millis(20));
            }
            Err(StoreError::Busy(_)) => {
                let text = format!("another process has been writing for {} ms", waited.as_millis());
                return Err(StoreError::Busy(text));
            }
            other => return other,
        }
    }
}

/// Network file systems are refused: their locks do not hold, and WAL's shared memory does not reach other hosts.
fn refuse_network(folder: &Path) -> Result<(), String> {
    let magic = rustix::fs::statfs(folder).map(|s| s.f_type & 0xffff_ffff).unwrap_or_default();
    let known = NETWORK.iter().find(|(known, _)| *known == magic).map(|(_, name)| (*name).to_owned());
    match known.or_else(|| (magic == FUSE).then(|| fuse_network(folder)).flatten()) {
        Some(name) => Err(format!(
            "it lies on a network file system ({name}), where SQLite's locks do not hold; use a local disk"
        )),
        None => Ok(()),
    }
}

/// What FUSE has mounted where a folder lies, if that reaches over the network.
fn fuse_network(folder: &Path) -> Option<String> {
    let folder = folder.canonicalize().ok()?;
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    let mounts = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        Some((Path::new(words.next()?), words.next()?))
    });
    let (_, kind) =
        mounts.filter(|(at, _)| folder.starts_with(at)).max_by_key(|(at, _)| at.as_os_str().len())?;
    let name = kind.strip_prefix("fuse.")?;
    FUSE_NETWORK.iter().any(|known| name.starts_with(known)).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use ostler_store::{Command, NewNode, Reply, Store as _};

    use super::*;

    fn a_store(folder: &Path) -> PathBuf {
        let path = folder.join("store.db");
        SqliteStore::open(&path, &OpenOptions::default()).unwrap();
        path
    }

    /// What this program knows, and one migration more.
    fn and_then(migration: &'static str) -> Vec<&'static str> {
        MIGRATIONS.iter().copied().chain([migration]).collect()
    }

    #[test]
    fn an_older_file_is_copied_and_migrated() {
        let folder = tempfile::tempdir().unwrap();
        let path = a_store(folder.path());
        let known = MIGRATIONS.len() as i64;
        let next = and_then("CREATE TABLE more (id INTEGER PRIMARY KEY) STRICT;");
        let mut store = SqliteStore::open_as(&path, &OpenOptions::default(), &next).unwrap();
        assert_eq!(store.queries().unwrap().stats().unwrap().schema, known + 1);
        let register = Command::Register(NewNode { name: "me".into(), owner: true, ..NewNode::default() });
        assert!(matches!(store.apply(0, &[register])[0], Ok(Reply::Node(_))));
        let copy = folder.path().join(format!("store.db.backup-v{known}"));
        let copy = SqliteStore::open_read_only(&copy).unwrap().queries();
        assert_eq!((copy.stats().unwrap().schema, copy.salt()), (known, store.queries().unwrap().salt()));
        drop(store);
        assert_eq!(
            SqliteStore::open(&path, &OpenOptions::default()).err().unwrap(),
            StoreError::Newer { found: known + 1, known }
        );
    }

    #[test]
    fn a_migration_that_fails_leaves_the_file_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = a_store(folder.path());
        let next = and_then("CREATE TABLE more (id INTEGER PRIMARY KEY) STRICT; NONSENSE;");
        assert!(SqliteStore::open_as(&path, &OpenOptions::default(), &next).is_err());
        assert!(SqliteStore::open(&path, &OpenOptions::default()).is_ok());
    }

    #[test]
    fn schedules_and_flows_of_the_first_schema_move_to_lanes_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        SqliteStore::open_as(&path, &OpenOptions::default(), &MIGRATIONS[..1]).unwrap();
        let first = Connection::open(&path).unwrap();
        first
            .execute_batch(
                "INSERT INTO namespace (id, name, created_at, seen_at) VALUES (1, 'n', 0, 0);
                 INSERT INTO lane (id, ns, class) VALUES (7, 1, 1), (8, 1, 2);
                 INSERT INTO machine (id, kind, ns, last_event, fields)
                   VALUES (11, 1, 1, 1, '{}'), (12, 2, 1, 2, '{}'), (13, 3, 1, 3, '{}'), (14, 1, 1, 4, '{}');
                 INSERT INTO tick (machine, lane, priority, due_at, phase)
                   VALUES (11, 7, 1, 5, 1), (12, 7, 1, 5, 1), (13, 7, 1, 5, 1), (14, 8, 2, 5, 1);",
            )
            .unwrap();
        drop(first);
        let mut store = SqliteStore::open(&path, &OpenOptions::default()).unwrap();
        let register = Command::Register(NewNode { name: "me".into(), owner: true, ..NewNode::default() });
        let Ok(Reply::Node(node)) = store.apply(0, &[register]).remove(0) else { panic!() };
        let mut claim = |want, light| {
            let claim = Command::Claim(ostler_store::Claim {
                node,
                want,
                light,
                shared: true,
                labels: Vec::new(),
                only_labelled: false,
            });
            let Ok(Reply::Claimed(rows)) = store.apply(10, &[claim]).remove(0) else { panic!() };
            rows.iter().map(|row| row.id.0).collect::<Vec<_>>()
        };
        assert_eq!((claim(0, 9), claim(9, 0)), (vec![12, 13], vec![11, 14]));
    }

    #[test]
    fn lanes_of_earlier_schemas_get_numbers_that_say_what_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        SqliteStore::open_as(&path, &OpenOptions::default(), &MIGRATIONS[..4]).unwrap();
        let old = Connection::open(&path).unwrap();
        // Key 1 is held by machine 11 and 12 waits for it; 13 is light and waits for no limit; 14 is light and under one.
        old.execute_batch(
            "INSERT INTO namespace (id, name, created_at, seen_at) VALUES (1, 'n', 0, 0);
             INSERT INTO \"limit\" (id, ns, kind, key, max) VALUES (1, 1, 1, 'a', 1), (2, 1, 1, 'b', 1);
             INSERT INTO lane (id, ns, class, concurrency, light) VALUES (7, 1, 1, 1, 0), (8, 1, 1, 0, 1), (9, 1, 1, 2, 1);
             INSERT INTO machine (id, kind, ns, last_event, fields)
               VALUES (11, 1, 1, 1, '{}'), (12, 1, 1, 2, '{}'), (13, 2, 1, 3, '{}'), (14, 2, 1, 4, '{}');
             INSERT INTO permit (\"limit\", machine) VALUES (1, 11);
             INSERT INTO tick (machine, lane, priority, due_at, phase, node, fence)
               VALUES (11, 7, 1, 5, 2, 1, 1), (12, 7, 1, 5, 1, NULL, 0), (13, 8, 1, 5, 1, NULL, 0), (14, 9, 1, 5, 1, NULL, 0);",
        )
        .unwrap();
        drop(old);
        let mut store = SqliteStore::open(&path, &OpenOptions::default()).unwrap();
        let register = Command::Register(NewNode { name: "me".into(), owner: true, ..NewNode::default() });
        let Ok(Reply::Node(node)) = store.apply(0, &[register]).remove(0) else { panic!() };
        let claim = |store: &mut SqliteStore| {
            let claim = ostler_store::Claim {
                node,
                want: 9,
                light: 9,
                shared: true,
                labels: Vec::new(),
                only_labelled: false,
            };
            let Ok(Reply::Claimed(rows)) = store.apply(10, &[Command::Claim(claim)]).remove(0) else {
                panic!()
            };
            rows.iter().map(|row| row.id.0).collect::<Vec<_>>()
        };
        assert_eq!((claim(&mut store), claim(&mut store)), (vec![13, 14], vec![]));
        let permits = store.connection.lock().unwrap().execute("DELETE FROM permit WHERE machine=11", []);
        assert_eq!(permits, Ok(1));
        assert_eq!((claim(&mut store), claim(&mut store)), (vec![12], vec![]));
    }

    #[test]
    fn network_mounts_are_told_by_their_kind() {
        assert_eq!(refuse_network(Path::new("/")), Ok(()));
        assert_eq!(fuse_network(Path::new("/")), None);
    }
}

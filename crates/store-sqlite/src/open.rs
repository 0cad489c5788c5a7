//! Opening: pragmas, migrations, the backup before one, and what is refused.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use ostler_store::StoreError;
use rusqlite::{Connection, OpenFlags};

use crate::{ReadFrom, ReaderFactory, SqliteStore, error::told, names::Names};

/// "ostl" as an SQLite application id: tells our files from those of other programs.
const APPLICATION_ID: i64 = 0x6f73_746c;

/// Migrations in order; the schema's version is their number.
const MIGRATIONS: &[&str] = &[include_str!("migrations/0001.sql")];

/// How many statements a connection keeps prepared.
const STATEMENTS: usize = 128;

/// File systems on which SQLite's locks and shared memory cannot be trusted, by the magic of statfs(2).
const NETWORK: &[(i64, &str)] =
    &[(0x6969, "NFS"), (0xff53_4d42, "CIFS"), (0xfe53_4d42, "SMB2"), (0x517b, "SMB"), (0x0102_1997, "9P"), (0x5346_414f, "AFS")];

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
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self { durability: Durability::Full, patience: Duration::from_secs(10), max_pages: None }
    }
}

impl SqliteStore {
    /// Opens a file; makes it, and the folder it lies in, where they are missing.
    ///
    /// # Errors
    /// The file cannot be written, is no store of ours, is damaged, or was migrated by a newer program.
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Self, StoreError> {
        let cannot = |e: &dyn std::fmt::Display| StoreError::Unavailable(format!("`{}`: {e}", path.display()));
        if path.is_dir() {
            return Err(cannot(&"it is a folder; name a file in it"));
        }
        if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)
                .map_err(|e| cannot(&format_args!("its folder cannot be made: {e}")))?;
            refuse_network(folder).map_err(|e| cannot(&e))?;
        }
        let connection = Connection::open_with_flags(
            path,
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )
        .map_err(|e| cannot(&e))?;
        prepare(&connection, options, Some(path)).map_err(|error| match error {
            StoreError::Corrupt(text) if text.contains("not a database") => {
                cannot(&"it is not an SQLite file; name another one")
            }
            StoreError::Unavailable(text) if text.contains("readonly") => cannot(&"it cannot be written"),
            StoreError::Unavailable(text) => StoreError::Unavailable(format!("`{}`: {text}", path.display())),
            other => other,
        })?;
        let salt = salt(&connection)?;
        Ok(Self {
            connection: Arc::new(Mutex::new(connection)),
            names: Names::default(),
            reader: ReaderFactory { place: ReadFrom::File(path.to_owned()), salt },
            options: options.clone(),
        })
    }

    /// A store in memory.
    ///
    /// # Errors
    /// Memory is short.
    pub fn open_memory(options: &OpenOptions) -> Result<Self, StoreError> {
        let connection = Connection::open_in_memory().map_err(told)?;
        prepare(&connection, options, None)?;
        let salt = salt(&connection)?;
        let connection = Arc::new(Mutex::new(connection));
        Ok(Self {
            connection: connection.clone(),
            names: Names::default(),
            reader: ReaderFactory { place: ReadFrom::Shared(connection), salt },
            options: options.clone(),
        })
    }
}

fn prepare(connection: &Connection, options: &OpenOptions, path: Option<&Path>) -> Result<(), StoreError> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    // Another process may be making the file at this moment.
    connection.busy_timeout(options.patience).map_err(told)?;
    let synchronous = match options.durability {
        Durability::Full => "FULL",
        Durability::Relaxed => "NORMAL",
    };
    let version: i64 = connection.pragma_query_value(None, "user_version", |r| r.get(0)).map_err(told)?;
    if version == 0 {
        // Only an empty file takes these; they do nothing to one that has tables.
        connection.execute_batch("PRAGMA page_size=8192; PRAGMA auto_vacuum=INCREMENTAL;").map_err(told)?;
    }
    connection
        .execute_batch(&format!(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous={synchronous}; PRAGMA cache_size=-32768; \
             PRAGMA mmap_size=134217728; PRAGMA temp_store=MEMORY; PRAGMA journal_size_limit=67108864;"
        ))
        .map_err(told)?;
    if let Some(pages) = options.max_pages {
        connection.execute_batch(&format!("PRAGMA max_page_count={pages}")).map_err(told)?;
    }
    migrate(connection, version, path)?;
    // From here on waiting is ours: SQLite's busy handler starves writers (research: 430 ms to 6 s at the worst).
    connection.busy_timeout(Duration::ZERO).map_err(told)?;
    Ok(())
}

fn migrate(connection: &Connection, version: i64, path: Option<&Path>) -> Result<(), StoreError> {
    let known = MIGRATIONS.len() as i64;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_master", [], |r| r.get(0)).map_err(told)?;
    let application: i64 = connection.pragma_query_value(None, "application_id", |r| r.get(0)).map_err(told)?;
    if tables > 0 && application != APPLICATION_ID {
        return Err(StoreError::Unavailable("it is an SQLite file of another program; name another one".into()));
    }
    if version > known {
        return Err(StoreError::Newer { found: version, known });
    }
    if version == known {
        return Ok(());
    }
    if let (1.., Some(path)) = (version, path) {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".backup-v{version}"));
        crate::admin::copy(connection, Path::new(&name), |_, _| {})?;
    }
    connection.execute_batch("BEGIN IMMEDIATE").map_err(told)?;
    // Another process may have migrated while we waited.
    let version: i64 = connection.pragma_query_value(None, "user_version", |r| r.get(0)).map_err(told)?;
    let migrated = (|| {
        for migration in &MIGRATIONS[usize::try_from(version).unwrap_or(0)..] {
            connection.execute_batch(migration)?;
        }
        if version == 0 {
            connection.execute("INSERT INTO meta VALUES ('salt', abs(random()))", [])?;
            connection.execute("INSERT INTO meta VALUES ('first_event', 1)", [])?;
        }
        connection.execute_batch(&format!(
            "PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={known}; COMMIT"
        ))
    })();
    if migrated.is_err() {
        let _ = connection.execute_batch("ROLLBACK");
    }
    migrated.map_err(told)
}

fn salt(connection: &Connection) -> Result<u64, StoreError> {
    let salt: i64 = connection.query_row("SELECT value FROM meta WHERE key='salt'", [], |r| r.get(0)).map_err(told)?;
    Ok(salt.unsigned_abs())
}

/// A connection that only reads.
pub(crate) fn reading(path: &Path) -> Result<Connection, StoreError> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )
    .map_err(told)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.busy_timeout(Duration::from_secs(5)).map_err(told)?;
    connection.execute_batch("PRAGMA mmap_size=134217728; PRAGMA cache_size=-16384;").map_err(told)?;
    Ok(connection)
}

/// Takes the write lock, waiting in growing, uneven steps so that several waiters do not march in step.
pub(crate) fn begin(connection: &Connection, patience: Duration) -> Result<(), StoreError> {
    let mut waited = Duration::ZERO;
    let mut step = Duration::from_micros(200);
    loop {
        match connection.execute_batch("BEGIN IMMEDIATE").map_err(told) {
            Err(StoreError::Busy(text)) => {
                if waited >= patience {
                    return Err(StoreError::Busy(text));
                }
                let uneven = u32::from(std::process::id() as u8 % 7) + 4;
                let pause = step * uneven / 7;
                std::thread::sleep(pause);
                waited += pause;
                step = (step * 2).min(Duration::from_millis(20));
            }
            other => return other,
        }
    }
}

/// Network file systems are refused: their locks do not hold, and WAL's shared memory does not reach other hosts.
fn refuse_network(folder: &Path) -> Result<(), String> {
    let magic = rustix::fs::statfs(folder).map(|s| s.f_type as i64 & 0xffff_ffff).unwrap_or_default();
    match NETWORK.iter().find(|(known, _)| *known == magic) {
        Some((_, name)) => {
            Err(format!("it lies on a network file system ({name}), where SQLite's locks do not hold; use a local disk"))
        }
        None => Ok(()),
    }
}

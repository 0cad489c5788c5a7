//! SQLite.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use fallible_iterator::FallibleIterator;
use rusqlite::{Batch, Connection, ErrorCode, types::ValueRef};
use serde_json::{Value, json};

use super::{
    Answer, Failure, INTERRUPT_EVERY, Script,
    text::{self, Dialect},
};
use crate::call::Call;

/// How long a statement waits for another writer.
const BUSY: Duration = Duration::from_secs(30);

struct Sqlite {
    connection: Connection,
    /// Set once, with the interrupt: SQLite does not look for one while it waits for a lock.
    stop: Arc<AtomicBool>,
}

fn plain(e: &rusqlite::Error) -> Failure {
    Failure::new("sql", e.to_string())
}

/// Carries a script out on `FILE`, relative to the folder of the definition file, or `:memory:`.
pub(super) async fn run(
    place: &str,
    folder: &Path,
    script: Script,
    call: &Call,
) -> Result<Option<Answer>, Failure> {
    let place = place.strip_prefix("//").unwrap_or(place);
    let connection =
        if place == ":memory:" { Connection::open_in_memory() } else { Connection::open(folder.join(place)) };
    let connection = connection.map_err(|e| Failure::new("sql.open", e.to_string()))?;
    let sqlite = Sqlite { connection, stop: Arc::default() };
    let (handle, stop) = (sqlite.connection.get_interrupt_handle(), sqlite.stop.clone());
    let mut work = tokio::task::spawn_blocking(move || sqlite.execute(&script));
    tokio::select! {
        done = &mut work => {
            let done = done.map_err(|_| Failure::new("internal", "the thread of the statements panicked"))?;
            return done.map(Some);
        }
        _ = call.cancel.fired() => {}
    }
    stop.store(true, Ordering::Relaxed);
    loop {
        handle.interrupt();
        tokio::select! {
            _ = &mut work => return Ok(None),
            () = tokio::time::sleep(INTERRUPT_EVERY) => {}
        }
    }
}

impl Sqlite {
    /// Carries it out; all or nothing if a transaction is asked for. Blocks.
    fn execute(&self, script: &Script) -> Result<Answer, Failure> {
        if script.transaction {
            self.begin(script).map_err(|e| plain(&e))?;
        }
        self.connection.busy_timeout(BUSY).map_err(|e| plain(&e))?;
        let done = self.all(script);
        if script.transaction && !self.connection.is_autocommit() {
            let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
            let ended = self.connection.execute_batch(end).map_err(|e| plain(&e));
            if done.is_ok() {
                ended?;
            }
        }
        done
    }

    /// A script that writes takes the lock first: one that reads before it writes could never get it otherwise, once
    /// another has written in between (SQLITE_BUSY_SNAPSHOT is not waited out).
    fn begin(&self, script: &Script) -> rusqlite::Result<()> {
        const STEP: Duration = Duration::from_millis(50);
        let begin = if script.texts.iter().any(|text| may_write(text)) { "BEGIN IMMEDIATE" } else { "BEGIN" };
        self.connection.busy_timeout(STEP)?;
        let mut waited = Duration::ZERO;
        loop {
            match self.connection.execute_batch(begin) {
                Err(rusqlite::Error::SqliteFailure(error, _))
                    if error.code == ErrorCode::DatabaseBusy
                        && waited < BUSY
                        && !self.stop.load(Ordering::Relaxed) =>
                {
                    waited += STEP;
                }
                other => return other,
            }
        }
    }

    fn all(&self, script: &Script) -> Result<Answer, Failure> {
        let mut answer = Answer::default();
        for text in &script.texts {
            let mut batch = Batch::new(&self.connection, text);
            let first = answer.statements;
            loop {
                let number = answer.statements + 1;
                let at = |message: String| {
                    let statements = text::split(text, Dialect::Sqlite);
                    let failed = statements.get(number - first - 1).map_or(text.as_str(), |s| s.text);
                    Failure::new("sql", message).at(number, failed)
                };
                if self.stop.load(Ordering::Relaxed) {
                    return Err(at("interrupted".into()));
                }
                let mut statement = match batch.next() {
                    Ok(Some(statement)) => statement,
                    Ok(None) => break,
                    Err(e) => return Err(at(message(&e))),
                };
                answer.statements += 1;
                bind(&mut statement, script).map_err(at)?;
                if statement.column_count() > 0 {
                    answer.begin(statement.column_names().map(str::to_owned).collect(), script);
                    read(&mut statement, &mut answer, script).map_err(at)?;
                } else {
                    answer.changed += statement.raw_execute().map_err(|e| at(message(&e)))? as u64;
                }
            }
        }
        Ok(answer)
    }
}

/// Whether a script may write; wrongly true costs a lock, wrongly false a failure under contention.
fn may_write(text: &str) -> bool {
    const WRITING: [&str; 11] = [
        "insert", "update", "delete", "replace", "create", "drop", "alter", "reindex", "analyze", "vacuum",
        "pragma",
    ];
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .any(|word| WRITING.iter().any(|w| word.eq_ignore_ascii_case(w)))
}

fn message(e: &rusqlite::Error) -> String {
    match e {
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        other => other.to_string(),
    }
}

/// Binds each parameter that the statement names.
fn bind(statement: &mut rusqlite::Statement<'_>, script: &Script) -> Result<(), String> {
    for index in 1..=statement.parameter_count() {
        let name = statement.parameter_name(index).map(str::to_owned).ok_or_else(|| {
            format!("parameter {index} has no name; write `:name` and give it under `params`")
        })?;
        let bound = match script.param(name.trim_start_matches([':', '@', '$']))? {
            Value::Null => statement.raw_bind_parameter(index, rusqlite::types::Null),
            Value::Bool(b) => statement.raw_bind_parameter(index, b),
            Value::Number(n) => match n.as_i64() {
                Some(i) => statement.raw_bind_parameter(index, i),
                None => statement.raw_bind_parameter(index, n.as_f64()),
            },
            Value::String(s) => statement.raw_bind_parameter(index, s),
            other => statement.raw_bind_parameter(index, other.to_string()),
        };
        bound.map_err(|e| e.to_string())?;
    }
    Ok(())
}

fn read(statement: &mut rusqlite::Statement<'_>, answer: &mut Answer, script: &Script) -> Result<(), String> {
    let width = statement.column_count();
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next().map_err(|e| message(&e))? {
        let cells = (0..width).map(|column| row.get_ref(column).map(cell).map_err(|e| message(&e)));
        answer.take(cells.collect::<Result<_, _>>()?, script)?;
    }
    Ok(())
}

fn cell(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(i) => i.into(),
        ValueRef::Real(f) => json!(f),
        ValueRef::Text(t) => String::from_utf8_lossy(t).into_owned().into(),
        ValueRef::Blob(b) => super::base64(b),
    }
}

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
use serde_json::{Map, Value, json};

use super::{Answer, Database, Failure, Script, Table};

/// How long a statement waits for another writer.
const BUSY: Duration = Duration::from_secs(30);

struct Sqlite {
    connection: Connection,
    /// Set once, with the interrupt: SQLite does not look for one while it waits for a lock.
    stop: Arc<AtomicBool>,
}

fn plain(e: &rusqlite::Error) -> Failure {
    Failure { message: e.to_string(), statement: None }
}

/// Opens `FILE`, relative to the folder of the definition file, or `:memory:`.
pub(super) fn open(place: &str, folder: &Path) -> Result<Box<dyn Database>, Failure> {
    let place = place.strip_prefix("//").unwrap_or(place);
    let connection =
        if place == ":memory:" { Connection::open_in_memory() } else { Connection::open(folder.join(place)) };
    let connection = connection.map_err(|e| plain(&e))?;
    Ok(Box::new(Sqlite { connection, stop: Arc::default() }))
}

impl Database for Sqlite {
    fn execute(&mut self, script: &Script) -> Result<Answer, Failure> {
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

    fn interrupter(&self) -> Box<dyn Fn() + Send> {
        let handle = self.connection.get_interrupt_handle();
        let stop = self.stop.clone();
        Box::new(move || {
            stop.store(true, Ordering::Relaxed);
            handle.interrupt();
        })
    }
}

impl Sqlite {
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
        let mut bytes = 0;
        for text in &script.texts {
            let mut batch = Batch::new(&self.connection, text);
            let first = answer.statements;
            loop {
                let number = answer.statements + 1;
                let at = |message: String| Failure {
                    message,
                    statement: Some((number, statement_text(text, number - first - 1))),
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
                bind(&mut statement, &script.params).map_err(at)?;
                if statement.column_count() > 0 {
                    let columns = statement.column_names().map(str::to_owned).collect();
                    if !script.every {
                        answer.tables.clear();
                        bytes = 0;
                    }
                    let rows = read(&mut statement, &mut bytes, script.row_bytes).map_err(at)?;
                    answer.tables.push(Table { columns, rows });
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

/// The text of the statement with this number, from 0: cut at semicolons outside of quotes and comments. The bodies of
/// triggers have such semicolons; then it is the whole script.
fn statement_text(script: &str, number: usize) -> String {
    let bytes = script.as_bytes();
    let mut starts = vec![0];
    let mut at = 0;
    while at < bytes.len() {
        let skip_to =
            |end: &str, from: usize| script[from..].find(end).map_or(bytes.len(), |n| from + n + end.len());
        at = match bytes[at] {
            quote @ (b'\'' | b'"' | b'`') => {
                memchr::memchr(quote, &bytes[at + 1..]).map_or(bytes.len(), |n| at + n + 2)
            }
            b'[' => skip_to("]", at + 1),
            b'-' if bytes[at..].starts_with(b"--") => skip_to("\n", at),
            b'/' if bytes[at..].starts_with(b"/*") => skip_to("*/", at + 2),
            b';' => {
                starts.push(at + 1);
                at + 1
            }
            _ => at + 1,
        };
    }
    starts.push(bytes.len());
    let statements: Vec<&str> = starts
        .windows(2)
        .map(|ends| script[ends[0]..ends[1]].trim().trim_end_matches(';').trim_end())
        .filter(|text| !text.is_empty())
        .collect();
    let has_trigger = script.to_ascii_lowercase().contains("trigger");
    let found = if has_trigger { None } else { statements.get(number) };
    let text = found.copied().unwrap_or_else(|| script.trim());
    text.chars().take(2000).collect()
}

fn message(e: &rusqlite::Error) -> String {
    match e {
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        other => other.to_string(),
    }
}

/// Binds each parameter that the statement names; one that nobody gives is an error, not a null.
fn bind(statement: &mut rusqlite::Statement<'_>, params: &Map<String, Value>) -> Result<(), String> {
    for index in 1..=statement.parameter_count() {
        let name = statement.parameter_name(index).map(str::to_owned).ok_or_else(|| {
            format!("parameter {index} has no name; write `:name` and give it under `params`")
        })?;
        let key = name.trim_start_matches([':', '@', '$']);
        let value = params.get(key).ok_or_else(|| {
            let known: Vec<_> = params.keys().map(String::as_str).collect();
            format!("`{name}` is not given under `params` (given: {})", known.join(", "))
        })?;
        let bound = match value {
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

fn read(
    statement: &mut rusqlite::Statement<'_>,
    bytes: &mut usize,
    limit: usize,
) -> Result<Vec<Vec<Value>>, String> {
    let width = statement.column_count();
    let mut rows = statement.raw_query();
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(|e| message(&e))? {
        let mut cells = Vec::with_capacity(width);
        for column in 0..width {
            let cell = cell(row.get_ref(column).map_err(|e| message(&e))?);
            *bytes += 16 + cell.as_str().map_or(0, str::len);
            cells.push(cell);
        }
        if *bytes > limit {
            return Err(format!(
                "the rows have more than {limit} bytes; ask for fewer, or for less of each, or write them to a `file`"
            ));
        }
        found.push(cells);
    }
    Ok(found)
}

fn cell(value: ValueRef<'_>) -> Value {
    use base64::Engine;
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(i) => i.into(),
        ValueRef::Real(f) => json!(f),
        ValueRef::Text(t) => String::from_utf8_lossy(t).into_owned().into(),
        ValueRef::Blob(b) => base64::engine::general_purpose::STANDARD.encode(b).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_cut_where_sqlite_cuts_them() {
        let script = "select 'a;b'; -- one; two\nselect \"x;\" /* ; */ from t;;\n insert into t values (1)";
        assert_eq!(statement_text(script, 0), "select 'a;b'");
        assert_eq!(statement_text(script, 2), "insert into t values (1)");
    }
}

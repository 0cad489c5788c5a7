//! SQLite.

use std::path::Path;

use fallible_iterator::FallibleIterator;
use rusqlite::{Batch, Connection, types::ValueRef};
use serde_json::{Map, Value, json};

use super::{Answer, Database, Failure};

/// How many rows a query may give: more than fits into an output, so that the message is about that.
const ROWS: usize = 1_000_000;

struct Sqlite {
    connection: Connection,
}

fn plain(e: &rusqlite::Error) -> Failure {
    Failure { message: e.to_string(), statement: None }
}

/// Opens `FILE`, relative to the folder of the definition file, or `:memory:`.
pub(super) fn open(place: &str, folder: &Path) -> Result<Box<dyn Database>, Failure> {
    let place = place.strip_prefix("//").unwrap_or(place);
    let connection = if place == ":memory:" {
        Connection::open_in_memory()
    } else {
        Connection::open(folder.join(place))
    };
    let connection = connection.map_err(|e| plain(&e))?;
    connection.busy_timeout(std::time::Duration::from_secs(30)).map_err(|e| plain(&e))?;
    Ok(Box::new(Sqlite { connection }))
}

impl Database for Sqlite {
    fn execute(&mut self, script: &[String], params: &Map<String, Value>, transaction: bool) -> Result<Answer, Failure> {
        if transaction {
            self.connection.execute_batch("BEGIN").map_err(|e| plain(&e))?;
        }
        let done = self.all(script, params);
        if transaction && !self.connection.is_autocommit() {
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
        Box::new(move || handle.interrupt())
    }
}

impl Sqlite {
    fn all(&self, script: &[String], params: &Map<String, Value>) -> Result<Answer, Failure> {
        let mut answer = Answer::default();
        for text in script {
            let mut batch = Batch::new(&self.connection, text);
            loop {
                let number = answer.statements + 1;
                let at = |e: rusqlite::Error, sql: &str| Failure {
                    message: message(&e),
                    statement: Some((number, sql.trim().to_owned())),
                };
                let mut statement = match batch.next() {
                    Ok(Some(statement)) => statement,
                    Ok(None) => break,
                    Err(e) => return Err(at(e, text)),
                };
                answer.statements += 1;
                let sql = statement.expanded_sql().unwrap_or_default();
                bind(&mut statement, params).map_err(|message| Failure { message, statement: Some((number, sql.clone())) })?;
                if statement.column_count() > 0 {
                    answer.columns = statement.column_names().into_iter().map(str::to_owned).collect();
                    answer.rows = read(&mut statement).map_err(|e| at(e, &sql))?;
                } else {
                    answer.changed += statement.raw_execute().map_err(|e| at(e, &sql))? as u64;
                }
            }
        }
        Ok(answer)
    }
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
        let name = statement
            .parameter_name(index)
            .map(str::to_owned)
            .ok_or_else(|| format!("parameter {index} has no name; write `:name` and give it under `params`"))?;
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

fn read(statement: &mut rusqlite::Statement<'_>) -> rusqlite::Result<Vec<Vec<Value>>> {
    let width = statement.column_count();
    let mut rows = statement.raw_query();
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        if found.len() >= ROWS {
            break;
        }
        let cells = (0..width).map(|i| Ok(cell(row.get_ref(i)?)));
        found.push(cells.collect::<rusqlite::Result<_>>()?);
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

//! `sql`: statements on a database, in one transaction, with rows as output.
//!
//! ```yaml
//! - uses: sql
//!   run: |
//!     insert into obs values (:station, :celsius);
//!     select count(*) as n from obs;
//!   with: { url: "sqlite:obs.db", params: { station: EDDB, celsius: 7.5 } }
//! ```
//!
//! The output holds `rows` of the last query, `row_count` and `changed`; with `every: true`, `results` holds a list of
//! rows for each query instead. A statement that fails is named by number and text.
//!
//! SQLite so far; a database of another make is one more implementation of [`Database`] and one line in [`open`].

mod sqlite;

use std::{path::Path, time::Duration};

use ostler_execution::{ExecContext, ExecEnd, ExecRequest, Executor, OUTPUT_LIMIT};
use ostler_model::TypedError;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::call::Call;

/// Rows for a file; they are all in memory once.
const FILE_ROWS: usize = 256 << 20;
const INTERRUPT_EVERY: Duration = Duration::from_millis(20);

/// Runs SQL statements.
pub struct Sql;

/// A step's `with`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    url: String,
    #[serde(default)]
    params: Map<String, Value>,
    #[serde(default)]
    statements: Vec<String>,
    #[serde(default = "yes")]
    transaction: bool,
    #[serde(default)]
    format: Format,
    #[serde(default)]
    every: bool,
    #[serde(default)]
    file: Option<String>,
}

fn yes() -> bool {
    true
}

/// The form of the rows.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Rows,
    Csv,
    Jsonl,
}

/// What a script came to.
#[derive(Debug, Default, PartialEq)]
struct Answer {
    /// Each query's rows; only the last one's unless all are wanted.
    tables: Vec<Table>,
    /// Rows changed by all statements.
    changed: u64,
    /// Statements carried out.
    statements: usize,
}

/// The rows of a query.
#[derive(Debug, Default, PartialEq)]
struct Table {
    columns: Vec<String>,
    rows: Vec<Vec<Value>>,
}

/// What is to be done.
struct Script {
    texts: Vec<String>,
    params: Map<String, Value>,
    transaction: bool,
    /// Keep the rows of every query.
    every: bool,
    /// Rows beyond so many bytes are an error: they are all in memory once.
    row_bytes: usize,
}

/// What went wrong in a script.
#[derive(Debug)]
struct Failure {
    message: String,
    /// Number and text of the statement, from 1.
    statement: Option<(usize, String)>,
}

/// A database that carries out a script; blocks.
trait Database: Send {
    /// Carries it out; all or nothing if a transaction is asked for.
    fn execute(&mut self, script: &Script) -> Result<Answer, Failure>;

    /// Something that stops the statement at work from another thread. It is called again and again until the script
    /// has ended, since it may come between two statements.
    fn interrupter(&self) -> Box<dyn Fn() + Send>;
}

fn open(url: &str, folder: &Path) -> Result<Box<dyn Database>, Failure> {
    let (scheme, rest) = url.split_once(':').unwrap_or(("", url));
    match scheme {
        "sqlite" => sqlite::open(rest, folder),
        _ => Err(Failure {
            message: format!(
                "`{url}` names no database that this ostler knows; write `sqlite:FILE` or `sqlite::memory:`"
            ),
            statement: None,
        }),
    }
}

#[async_trait::async_trait]
impl Executor for Sql {
    fn name(&self) -> &'static str {
        "sql"
    }

    fn reruns_lost(&self) -> bool {
        true
    }

    fn settings(&self) -> Value {
        json!({
            "type": "object",
            "description": "Settings of an SQL step.",
            "required": ["url"],
            "additionalProperties": false,
            "properties": {
                "url": { "type": ["string", "object"], "description": "`sqlite:FILE` (relative to the folder of the file) or `sqlite::memory:`" },
                "params": { "type": "object", "description": "Values by name: `:city` in the script is `params.city`" },
                "statements": { "type": "array", "items": { "type": "string" }, "description": "Statements, instead of a script under `run`" },
                "transaction": { "type": "boolean", "default": true, "description": "All statements or none" },
                "format": { "enum": ["rows", "csv", "jsonl"], "default": "rows", "description": "The form of the last query's rows" },
                "file": { "type": "string", "description": "Write the rows to this file inside the working directory instead of the output" },
                "every": { "type": "boolean", "description": "Hand on the rows of every query, as `results`; default false" },
            },
        })
    }

    async fn execute(&self, request: ExecRequest, context: ExecContext) -> ExecEnd {
        let call = match Call::open(request, context) {
            Ok(call) => call,
            Err(error) => return ExecEnd::failed(error),
        };
        let end = run(&call).await.unwrap_or_else(ExecEnd::failed);
        call.close(end)
    }
}

async fn run(call: &Call) -> Result<ExecEnd, TypedError> {
    let wrong = |message: String| TypedError::new("settings", message);
    let folder = call.folder();
    let settings: Settings = call.settings()?;
    let texts = match (&call.request.run_text, settings.statements.is_empty()) {
        (Some(run), true) => vec![run.clone()],
        (None, false) => settings.statements,
        (Some(_), false) => {
            return Err(wrong("a sql step has either `run` or `statements`, not both".into()));
        }
        (None, true) => return Err(wrong("a sql step needs `run` or `statements`".into())),
    };
    let file =
        settings.file.as_deref().map(|f| crate::files::confine(&folder, f)).transpose().map_err(wrong)?;
    if file.is_some() && settings.every {
        return Err(wrong("`file` holds the rows of one query, so it does not go with `every`".into()));
    }
    let row_bytes = if file.is_some() { FILE_ROWS } else { 4 * OUTPUT_LIMIT };
    let transaction = settings.transaction;
    let script = Script { texts, params: settings.params, transaction, every: settings.every, row_bytes };
    let mut database =
        open(&settings.url, &folder).map_err(|failure| TypedError::new("sql.open", failure.message))?;
    let interrupt = database.interrupter();
    let mut work = tokio::task::spawn_blocking(move || database.execute(&script));
    let done = tokio::select! {
        done = &mut work => done,
        _ = call.cancel.fired() => {
            loop {
                interrupt();
                tokio::select! {
                    _ = &mut work => return Ok(ExecEnd::interrupted()),
                    () = tokio::time::sleep(INTERRUPT_EVERY) => {}
                }
            }
        }
    };
    let answer = done
        .map_err(|_| TypedError::new("internal", "the thread of the statements panicked"))?
        .map_err(|failure| told(failure, transaction))?;
    finish(answer, &settings.format, settings.every, file.as_deref(), call)
}

fn told(failure: Failure, transaction: bool) -> TypedError {
    let rolled = if transaction { "; everything was rolled back" } else { "" };
    match failure.statement {
        Some((number, text)) => {
            let mut error =
                TypedError::new("sql", format!("statement {number}: {}{rolled}", failure.message));
            error.detail = Some(text);
            error
        }
        None => TypedError::new("sql", failure.message),
    }
}

fn finish(
    mut answer: Answer,
    format: &Format,
    every: bool,
    file: Option<&Path>,
    call: &Call,
) -> Result<ExecEnd, TypedError> {
    let count = answer.tables.last().map_or(0, |table| table.rows.len());
    call.remark(&format!("{} statements, {} rows changed, {count} rows", answer.statements, answer.changed));
    let mut output = json!({ "row_count": count, "changed": answer.changed });
    if every {
        output["results"] = answer.tables.iter().map(|table| formatted(table, format)).collect();
        return Ok(ExecEnd::succeeded(output));
    }
    let table = answer.tables.pop().unwrap_or_default();
    let rows = formatted(&table, format);
    match file {
        None => output["rows"] = rows,
        Some(file) => {
            let text = rows.as_str().map_or_else(|| rows.to_string(), str::to_owned);
            crate::files::write_atomically(file, text.as_bytes()).map_err(|error| {
                TypedError::new("output", format!("`{}` cannot be written: {error}", file.display()))
            })?;
            output["file"] = json!(file);
        }
    }
    Ok(ExecEnd::succeeded(output))
}

fn formatted(table: &Table, format: &Format) -> Value {
    let objects = || {
        table
            .rows
            .iter()
            .map(|row| Value::Object(table.columns.iter().cloned().zip(row.iter().cloned()).collect()))
    };
    match format {
        Format::Rows => objects().collect(),
        Format::Csv => csv(table).into(),
        Format::Jsonl => objects().map(|row| format!("{row}\n")).collect::<String>().into(),
    }
}

/// RFC 4180, with a heading.
fn csv(table: &Table) -> String {
    let field = |text: &str| {
        if text.contains([',', '"', '\n', '\r']) {
            format!("\"{}\"", text.replace('"', "\"\""))
        } else {
            text.to_owned()
        }
    };
    let mut out = table.columns.iter().map(|c| field(c)).collect::<Vec<_>>().join(",") + "\r\n";
    for row in &table.rows {
        let cells: Vec<_> = row
            .iter()
            .map(|v| match v {
                Value::Null => String::new(),
                Value::String(s) => field(s),
                other => other.to_string(),
            })
            .collect();
        out += &(cells.join(",") + "\r\n");
    }
    out
}

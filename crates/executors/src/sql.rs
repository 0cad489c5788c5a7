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
//! Each make of database is a module with one function, [`run`]'s arm for it: it carries out a script and returns soon
//! after the call is cancelled, with nothing of it left running.
//!
//! | address | database |
//! |---|---|
//! | `sqlite:FILE`, `sqlite::memory:` | SQLite |
//! | `postgres://user:password@host:5432/database?sslmode=verify-full` | PostgreSQL |
//! | `mysql://user:password@host:3306/database` | MySQL and MariaDB (feature `mysql`) |

#[cfg(feature = "mysql")]
mod mysql;
mod postgres;
mod sqlite;
mod text;

use std::{path::Path, time::Duration};

use ostler_execution::{ExecContext, ExecEnd, ExecRequest, Executor, OUTPUT_LIMIT};
use ostler_model::TypedError;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::call::Call;

/// Rows for a file; they are all in memory once.
const FILE_ROWS: usize = 256 << 20;
/// How often a statement that is to end is interrupted, since an interrupt may come between two.
const INTERRUPT_EVERY: Duration = Duration::from_millis(20);
/// How long a server may take to let somebody in.
const CONNECT: Duration = Duration::from_secs(30);
/// How long a server may take to end a statement; then it is left alone with it.
const STOP: Duration = Duration::from_secs(5);

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

impl Script {
    /// The value of a parameter; one that nobody gives is an error, not a null.
    fn param(&self, name: &str) -> Result<&Value, String> {
        self.params.get(name).ok_or_else(|| {
            let known: Vec<_> = self.params.keys().map(String::as_str).collect();
            format!("`:{name}` is not given under `params` (given: {})", known.join(", "))
        })
    }
}

/// What a script came to.
#[derive(Debug, Default, PartialEq)]
struct Answer {
    /// Each query's rows; only the last one's unless all are wanted.
    tables: Vec<Table>,
    /// Rows changed by all statements that give none.
    changed: u64,
    /// Statements carried out.
    statements: usize,
    /// What is kept of rows, about.
    bytes: usize,
}

/// The rows of a query.
#[derive(Debug, Default, PartialEq)]
struct Table {
    columns: Vec<String>,
    rows: Vec<Vec<Value>>,
}

impl Answer {
    /// Begins the rows of a query.
    fn begin(&mut self, columns: Vec<String>, script: &Script) {
        if !script.every {
            self.tables.clear();
            self.bytes = 0;
        }
        self.tables.push(Table { columns, rows: Vec::new() });
    }

    /// Takes a row of the query that has begun.
    fn take(&mut self, row: Vec<Value>, script: &Script) -> Result<(), String> {
        self.bytes += row.iter().map(size).sum::<usize>();
        let limit = script.row_bytes;
        if self.bytes > limit {
            return Err(format!(
                "the rows have more than {limit} bytes; ask for fewer, or for less of each, or write them to a `file`"
            ));
        }
        if let Some(table) = self.tables.last_mut() {
            table.rows.push(row);
        }
        Ok(())
    }
}

/// About as many bytes as a value takes.
fn size(value: &Value) -> usize {
    16 + match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(fields) => fields.iter().map(|(name, value)| name.len() + size(value)).sum(),
        _ => 0,
    }
}

/// A decimal number: a number where no digit of it is lost, else a text.
fn decimal(text: &str) -> Value {
    if let Ok(whole) = text.parse::<i64>() {
        return whole.into();
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = whole.trim_start_matches(['-', '+', '0']).len() + fraction.trim_end_matches('0').len();
    // Fifteen digits survive the way through a double.
    match text.parse::<f64>() {
        Ok(number) if digits <= 15 && number.is_finite() => json!(number),
        _ => text.into(),
    }
}

fn base64(bytes: &[u8]) -> Value {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes).into()
}

/// What went wrong in a script.
#[derive(Debug)]
struct Failure {
    class: String,
    message: String,
    /// Number and text of the statement, from 1.
    statement: Option<(usize, String)>,
    /// What else the server says.
    detail: Option<String>,
    /// So many statements were committed by the server itself before it.
    kept: usize,
}

impl Failure {
    fn new(class: impl Into<String>, message: impl Into<String>) -> Self {
        Self { class: class.into(), message: message.into(), statement: None, detail: None, kept: 0 }
    }

    /// The failure of a statement; `number` counts from 1.
    fn at(mut self, number: usize, text: &str) -> Self {
        self.statement = Some((number, text.chars().take(2000).collect()));
        self
    }
}

/// Carries out a script; `None` when the call was cancelled before its end.
async fn run(url: &str, folder: &Path, script: Script, call: &Call) -> Result<Option<Answer>, Failure> {
    let settings = |message: String| Failure::new("settings", message);
    let (scheme, rest) = url.split_once(':').unwrap_or(("", url));
    match scheme {
        "sqlite" => sqlite::run(rest, folder, script, call).await,
        "postgres" | "postgresql" => postgres::run(url, folder, &script, call).await,
        #[cfg(feature = "mysql")]
        "mysql" | "mariadb" => {
            let address = ostler_brokers::Address::parse(url, "mysql://user:password@host:3306/database");
            let address = address.map_err(|e| settings(format!("`url` {e}")))?;
            mysql::run(address, folder, &script, call).await
        }
        #[cfg(not(feature = "mysql"))]
        "mysql" | "mariadb" => {
            let text = "`url`: this ostler was built without MySQL; build it with `--features mysql`";
            Err(settings(text.to_owned()))
        }
        // The text is not shown: there may be a password in it.
        _ => Err(settings(format!(
            "`url` begins with `{}:`, which names no database that this ostler knows; write `sqlite:FILE`, `sqlite::memory:`, `postgres://…` or `mysql://…`",
            if scheme.bytes().all(|b| b.is_ascii_alphanumeric()) { scheme } else { "…" },
        ))),
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
                "url": { "type": ["string", "object"], "description": "`sqlite:FILE` (relative to the folder of the file), `sqlite::memory:`, `postgres://user:password@host/database?sslmode=…` or `mysql://user:password@host/database`" },
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
        let end = perform(&call).await.unwrap_or_else(ExecEnd::failed);
        call.close(end)
    }
}

async fn perform(call: &Call) -> Result<ExecEnd, TypedError> {
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
    let answer = run(&settings.url, &folder, script, call).await.map_err(|f| told(f, transaction))?;
    match answer {
        None => Ok(ExecEnd::interrupted()),
        Some(answer) => finish(answer, &settings.format, settings.every, file.as_deref(), call),
    }
}

fn told(failure: Failure, transaction: bool) -> TypedError {
    let rolled = match (transaction, failure.kept) {
        (false, _) => String::new(),
        (true, 0) => "; everything was rolled back".to_owned(),
        (true, kept) => format!(
            "; all after statement {kept} was rolled back: up to there the server had committed by itself"
        ),
    };
    let (message, text) = match failure.statement {
        Some((number, text)) => (format!("statement {number}: {}{rolled}", failure.message), Some(text)),
        None => (failure.message, None),
    };
    let mut error = TypedError::new(&failure.class, message);
    let detail: Vec<String> = text.into_iter().chain(failure.detail).collect();
    error.detail = (!detail.is_empty()).then(|| detail.join("\n\n"));
    error
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_lose_no_digit() {
        for (text, expected) in [
            ("12", json!(12)),
            ("1.50", json!(1.5)),
            ("-0.001", json!(-0.001)),
            ("9223372036854775807", json!(i64::MAX)),
            ("9223372036854775808", json!("9223372036854775808")),
            ("123456789012.345", json!(123456789012.345)),
            ("1234567890123.4567", json!("1234567890123.4567")),
            ("NaN", json!("NaN")),
        ] {
            assert_eq!(decimal(text), expected, "{text}");
        }
    }
}

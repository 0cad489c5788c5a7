//! `sql`: statements on a database, in one transaction, with rows as output.
//!
//! SQLite so far; a database of another make is one more implementation of [`Database`] and one line in [`open`].

mod sqlite;

use std::path::{Path, PathBuf};

use ostler_execution::{Cancel, ExecContext, ExecEnd, ExecOutcome, ExecRequest, Executor, OUTPUT_LIMIT, Stream};
use ostler_model::TypedError;
use serde::Deserialize;
use serde_json::{Map, Value, json};

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
    /// Columns of the last query.
    columns: Vec<String>,
    /// Its rows.
    rows: Vec<Vec<Value>>,
    /// Rows changed by all statements.
    changed: u64,
    /// Statements carried out.
    statements: usize,
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
    fn execute(&mut self, script: &[String], params: &Map<String, Value>, transaction: bool) -> Result<Answer, Failure>;

    /// Something that stops the script from another thread.
    fn interrupter(&self) -> Box<dyn Fn() + Send>;
}

fn open(url: &str, folder: &Path) -> Result<Box<dyn Database>, Failure> {
    let (scheme, rest) = url.split_once(':').unwrap_or(("", url));
    match scheme {
        "sqlite" => sqlite::open(rest, folder),
        _ => Err(Failure {
            message: format!("`{url}` names no database that this ostler knows; write `sqlite:FILE` or `sqlite::memory:`"),
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
            "required": ["url"],
            "additionalProperties": false,
            "properties": {
                "url": { "type": ["string", "object"], "description": "`sqlite:FILE` (relative to the folder of the file) or `sqlite::memory:`" },
                "params": { "type": "object", "description": "Values by name: `:city` in the script is `params.city`" },
                "statements": { "type": "array", "items": { "type": "string" }, "description": "Statements, instead of a script under `run`" },
                "transaction": { "type": "boolean", "default": true, "description": "All statements or none" },
                "format": { "enum": ["rows", "csv", "jsonl"], "default": "rows", "description": "The form of the last query's rows" },
                "file": { "type": "string", "description": "Write the rows to this file instead of the output" },
            },
        })
    }

    async fn execute(&self, request: ExecRequest, context: ExecContext) -> ExecEnd {
        let folder = PathBuf::from(request.working_directory.clone().unwrap_or_else(|| ".".into()));
        let with = match crate::secrets::open_json(&Value::Object(request.with.clone()), &context) {
            Ok(with) => with,
            Err(error) => return ExecEnd::failed(error),
        };
        let settings: Settings = match serde_json::from_value(with) {
            Ok(settings) => settings,
            Err(e) => return ExecEnd::error("settings", format!("`with` of a sql step: {e}")),
        };
        let script = match (&request.run_text, settings.statements.is_empty()) {
            (Some(run), true) => vec![run.clone()],
            (None, false) => settings.statements.clone(),
            (Some(_), false) => return ExecEnd::error("settings", "a sql step has either `run` or `statements`, not both"),
            (None, true) => return ExecEnd::error("settings", "a sql step needs `run` or `statements`"),
        };
        let file = match settings.file.as_deref().map(|f| crate::files::confine(&folder, f)).transpose() {
            Ok(file) => file,
            Err(problem) => return ExecEnd::error("settings", problem),
        };
        let mut database = match open(&settings.url, &folder) {
            Ok(database) => database,
            Err(failure) => return ExecEnd::error("sql.open", failure.message),
        };
        let interrupt = database.interrupter();
        let (params, transaction) = (settings.params, settings.transaction);
        let mut work =
            tokio::task::spawn_blocking(move || database.execute(&script, &params, transaction));
        let answer = tokio::select! {
            done = &mut work => done,
            _ = context.cancel.fired() => {
                interrupt();
                let _ = work.await;
                return ExecEnd::interrupted();
            }
        };
        match answer {
            Ok(Ok(answer)) => finish(answer, settings.format, file, &context, &context.cancel),
            Ok(Err(failure)) => ExecEnd::failed(told(failure, transaction)),
            Err(_) => ExecEnd::error("internal", "the statement's thread panicked"),
        }
    }
}

fn told(failure: Failure, transaction: bool) -> TypedError {
    let rolled = if transaction { "; everything was rolled back" } else { "" };
    match failure.statement {
        Some((number, text)) => {
            let mut error = TypedError::new("sql", format!("statement {number}: {}{rolled}", failure.message));
            error.detail = Some(text);
            error
        }
        None => TypedError::new("sql", failure.message),
    }
}

fn finish(answer: Answer, format: Format, file: Option<PathBuf>, context: &ExecContext, _: &Cancel) -> ExecEnd {
    let count = answer.rows.len();
    let line = format!("{} statements, {} rows changed, {count} rows", answer.statements, answer.changed);
    context.log.line(Stream::System, line.as_bytes());
    let mut output = json!({ "row_count": count, "changed": answer.changed });
    let rows = || -> Vec<Value> {
        answer
            .rows
            .iter()
            .map(|row| Value::Object(answer.columns.iter().cloned().zip(row.iter().cloned()).collect()))
            .collect()
    };
    let text = match format {
        Format::Rows => None,
        Format::Csv => Some(csv(&answer)),
        Format::Jsonl => Some(rows().iter().map(|r| format!("{r}\n")).collect()),
    };
    if let Some(file) = file {
        let text = text.unwrap_or_else(|| Value::Array(rows()).to_string());
        if let Err(e) = crate::files::write_atomically(&file, text.as_bytes()) {
            return ExecEnd::error("output", format!("`{}` cannot be written: {e}", file.display()));
        }
        output["file"] = json!(file);
    } else {
        output["rows"] = text.map_or_else(|| Value::Array(rows()), Value::String);
    }
    if output.to_string().len() > OUTPUT_LIMIT {
        return ExecEnd::error("output", "the rows are larger than 1 MiB; write them to a `file`, or ask for fewer");
    }
    ExecEnd { outcome: ExecOutcome::Succeeded, output, exit_code: None }
}

/// RFC 4180, with a heading.
fn csv(answer: &Answer) -> String {
    let field = |text: &str| {
        if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
    };
    let mut out = answer.columns.iter().map(|c| field(c)).collect::<Vec<_>>().join(",") + "\r\n";
    for row in &answer.rows {
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

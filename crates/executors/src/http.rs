//! `http`: one request, its answer as output.
//!
//! ```yaml
//! - uses: http
//!   with:
//!     url: https://example.org/obs/${{ inputs.station }}
//!     auth: { bearer: "${{ secrets.TOKEN }}" }
//!     extract: { celsius: /main/temp }
//! ```
//!
//! The output holds `status`, `headers`, `json` or `body` (or `file` and `bytes` when the answer is saved), and each
//! name of `extract`. A status that was not expected fails with class `http:503`; no answer with `connect`, `timeout`,
//! `tls`, `http.redirect` or `http.body` (the answer broke off). `Idempotency-Key` goes with every method but GET,
//! HEAD, OPTIONS and TRACE, unless a header of that name is given or `idempotency_key: false`.

mod request;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use ostler_clock::Clock;
use ostler_execution::{ExecContext, ExecEnd, ExecOutcome, ExecRequest, Executor, OUTPUT_LIMIT};
use ostler_model::{Span, TypedError};
use reqwest::{Client, Response, StatusCode, header::HeaderMap};
use serde_json::{Map, Value, json};

use request::Settings;
pub(crate) use request::client_builder;

use crate::call::Call;

/// How much of an answer is read at most, when it goes into the output.
const BODY_LIMIT: usize = OUTPUT_LIMIT;

/// How much of an answer is read at most, when it goes into a file.
const FILE_LIMIT: u64 = 8 << 30;

/// Sends HTTP requests.
pub struct Http {
    clock: Arc<dyn Clock>,
    shared: OnceLock<Client>,
}

impl Http {
    /// Connections are kept between requests that need nothing special.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, shared: OnceLock::new() }
    }
}

#[async_trait::async_trait]
impl Executor for Http {
    fn name(&self) -> &'static str {
        "http"
    }

    fn reruns_lost(&self) -> bool {
        true
    }

    fn settings(&self) -> Value {
        request::schema()
    }

    async fn execute(&self, request: ExecRequest, context: ExecContext) -> ExecEnd {
        let call = match Call::open(request, context) {
            Ok(call) => call,
            Err(error) => return ExecEnd::failed(error),
        };
        let end = match call.unless_cancelled(self.send(&call)).await {
            Ok(end) => end.unwrap_or_else(ExecEnd::failed),
            Err(_) => ExecEnd::interrupted(),
        };
        call.close(end)
    }
}

impl Http {
    async fn send(&self, call: &Call) -> Result<ExecEnd, TypedError> {
        let request = &call.request;
        let folder = call.folder();
        let settings: Settings = call.settings()?;
        let file = settings
            .file
            .as_deref()
            .map(|f| crate::files::confine(&folder, f))
            .transpose()
            .map_err(|problem| TypedError::new("settings", problem))?;
        let client = if settings.needs_own_client() {
            settings.client(&folder)?
        } else {
            match self.shared.get() {
                Some(client) => client.clone(),
                None => {
                    let made = Settings::plain_client()?;
                    self.shared.get_or_init(|| made).clone()
                }
            }
        };
        let built = settings.build(&client, request, &folder)?;
        let (method, url) = (built.method().clone(), built.url().clone());
        let answer = client.execute(built).await.map_err(|e| network(&e))?;
        let status = answer.status();
        call.remark(&format!("{method} {} -> {status}", without_secrets(&url)));
        let headers: Map<String, Value> = answer
            .headers()
            .iter()
            .map(|(k, v)| (k.as_str().to_owned(), String::from_utf8_lossy(v.as_bytes()).into_owned().into()))
            .collect();
        if !settings.expects(status) {
            return Err(self.refused(status, answer).await);
        }
        let mut output = json!({ "status": status.as_u16(), "headers": headers });
        match file {
            Some(path) => {
                let bytes = save(answer, &path).await?;
                output["file"] = json!(path);
                output["bytes"] = json!(bytes);
            }
            None => {
                let is_json =
                    headers.get("content-type").and_then(Value::as_str).is_some_and(|t| t.contains("json"));
                let body = read(answer, BODY_LIMIT).await?;
                let parsed = if is_json || !settings.extract.is_empty() {
                    serde_json::from_slice::<Value>(&body).ok()
                } else {
                    None
                };
                extract(&settings.extract, parsed.as_ref(), &mut output)?;
                match parsed {
                    Some(value) => output["json"] = value,
                    None => output["body"] = String::from_utf8_lossy(&body).into_owned().into(),
                }
            }
        }
        Ok(ExecEnd { outcome: ExecOutcome::Succeeded, output, exit_code: None })
    }

    async fn refused(&self, status: StatusCode, answer: Response) -> TypedError {
        let retry_after = retry_after(answer.headers(), &*self.clock);
        let body = read(answer, 4096).await.unwrap_or_default();
        let mut error =
            TypedError::new(&format!("http:{}", status.as_u16()), format!("the server answered {status}"));
        error.retry_after = retry_after;
        error.detail = Some(String::from_utf8_lossy(&body).into_owned()).filter(|d| !d.is_empty());
        error
    }
}

/// When to come again (RFC 9110 section 10.2.3): after so many seconds, or at a date.
pub(crate) fn retry_after(headers: &HeaderMap, clock: &dyn Clock) -> Option<Span> {
    let text = headers.get("retry-after")?.to_str().ok()?;
    if let Ok(seconds) = text.trim().parse::<u64>() {
        return Some(Span::from_secs(seconds.min(86_400)));
    }
    let at = httpdate::parse_http_date(text.trim()).ok()?;
    let at = at.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs();
    let now = u64::try_from(clock.now().as_second()).ok()?;
    Some(Span::from_secs(at.saturating_sub(now).min(86_400)))
}

/// A request that got no answer.
fn network(e: &reqwest::Error) -> TypedError {
    let (class, text) = cause(e);
    let place = e.url().map(|u| format!(" ({})", without_secrets(u))).unwrap_or_default();
    TypedError::new(class, format!("{text}{place}"))
}

/// Why a request got no answer: the class of the error and the words for it, without the address.
pub(crate) fn cause(e: &reqwest::Error) -> (&'static str, String) {
    let mut causes = Vec::new();
    let mut source = std::error::Error::source(e);
    while let Some(cause) = source {
        causes.push(cause.to_string());
        source = cause.source();
    }
    let text = causes.last().cloned().unwrap_or_else(|| e.to_string());
    let tls = causes.iter().any(|c| c.contains("certificate") || c.contains("TLS") || c.contains("tls"));
    let class = match () {
        () if e.is_timeout() => "timeout",
        () if tls => "tls",
        () if e.is_redirect() => "http.redirect",
        () if e.is_connect() => "connect",
        () if e.is_builder() => "settings",
        () => "http.body",
    };
    (class, text)
}

/// An address as it may be shown: no user, no password, no query.
fn without_secrets(url: &reqwest::Url) -> String {
    let port = url.port().map(|p| format!(":{p}")).unwrap_or_default();
    format!("{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}

/// Reads an answer up to a limit; one that goes into an output must not be longer.
pub(crate) async fn read(mut answer: Response, limit: usize) -> Result<Vec<u8>, TypedError> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|e| network(&e))? {
        body.extend_from_slice(&chunk);
        if body.len() > limit {
            if limit < BODY_LIMIT {
                body.truncate(limit);
                break;
            }
            let message = "the answer is larger than 1 MiB; save it to a `file`";
            return Err(TypedError::new("output", message));
        }
    }
    Ok(body)
}

/// A file that is being written; gone again unless it is kept.
struct Part(PathBuf);

impl Drop for Part {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Streams an answer into a file that appears when it is whole.
async fn save(mut answer: Response, path: &Path) -> Result<u64, TypedError> {
    use tokio::io::AsyncWriteExt;
    let trouble =
        |e: std::io::Error| TypedError::new("output", format!("`{}` cannot be written: {e}", path.display()));
    if let Some(folder) = path.parent() {
        tokio::fs::create_dir_all(folder).await.map_err(trouble)?;
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    // Also when this future is dropped, because the run was cancelled.
    let part = Part(path.with_file_name(name));
    let mut file = tokio::fs::File::create(&part.0).await.map_err(trouble)?;
    let mut bytes = 0u64;
    while let Some(chunk) = answer.chunk().await.map_err(|e| network(&e))? {
        bytes += chunk.len() as u64;
        if bytes > FILE_LIMIT {
            return Err(TypedError::new("output", "the answer is larger than 8 GiB"));
        }
        file.write_all(&chunk).await.map_err(trouble)?;
    }
    file.sync_all().await.map_err(trouble)?;
    tokio::fs::rename(&part.0, path).await.map_err(trouble)?;
    Ok(bytes)
}

fn extract(wanted: &Map<String, Value>, body: Option<&Value>, output: &mut Value) -> Result<(), TypedError> {
    if wanted.is_empty() {
        return Ok(());
    }
    let body =
        body.ok_or_else(|| TypedError::new("output", "`extract` needs a JSON answer, and this is none"))?;
    for (name, pointer) in wanted {
        let pointer = pointer.as_str().unwrap_or_default();
        let value = body.pointer(pointer).ok_or_else(|| {
            TypedError::new("output", format!("`extract.{name}`: the answer has nothing at `{pointer}`"))
        })?;
        output[name.as_str()] = value.clone();
    }
    Ok(())
}

/// The longest a request takes when nobody says.
pub(crate) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(300);

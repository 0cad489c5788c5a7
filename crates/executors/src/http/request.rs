//! A step's `with` and the request that it describes.

use std::{collections::BTreeMap, path::Path, time::Duration};

use ostler_execution::ExecRequest;
use ostler_model::{Span, TypedError};
use reqwest::{Client, ClientBuilder, Method, Request, StatusCode, multipart, redirect};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// A step's `with`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    url: String,
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, Value>,
    #[serde(default)]
    query: Map<String, Value>,
    #[serde(default)]
    json: Option<Value>,
    #[serde(default)]
    form: Option<Map<String, Value>>,
    #[serde(default)]
    multipart: Option<BTreeMap<String, Value>>,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    body_file: Option<String>,
    #[serde(default)]
    auth: Option<Auth>,
    #[serde(default)]
    tls: Tls,
    #[serde(default)]
    proxy: Option<String>,
    #[serde(default)]
    redirects: Option<usize>,
    #[serde(default)]
    timeout: Option<Span>,
    #[serde(default)]
    connect_timeout: Option<Span>,
    #[serde(default)]
    read_timeout: Option<Span>,
    #[serde(default)]
    expect: Vec<Value>,
    #[serde(default = "yes")]
    idempotency_key: bool,
    #[serde(default)]
    pub(super) extract: Map<String, Value>,
    #[serde(default)]
    pub(super) file: Option<String>,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
enum Auth {
    Bearer(String),
    Basic { user: String, password: Option<String> },
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tls {
    #[serde(default)]
    ca: Option<String>,
    #[serde(default)]
    insecure: bool,
}

pub(super) fn schema() -> Value {
    let map = |what: &str| json!({ "type": "object", "description": what });
    let text = |what: &str| json!({ "type": "string", "description": what });
    json!({
        "type": "object",
        "description": "Settings of an HTTP step.",
        "required": ["url"],
        "additionalProperties": false,
        "properties": {
            "url": { "type": ["string", "object"], "description": "http:// or https:// address" },
            "method": text("The method; default: GET without a body, POST with one"),
            "headers": map("Headers by name"),
            "query": map("Parameters of the query by name; a list repeats its name"),
            "form": map("Body as a form"),
            "multipart": map("Body in parts by name: texts, or {file: PATH} for a file inside the working directory"),
            "json": { "description": "Body as JSON" },
            "body": { "type": ["string", "object"], "description": "Body as text" },
            "body_file": text("Body from a file inside the working directory"),
            "auth": {
                "type": "object", "additionalProperties": false, "minProperties": 1, "maxProperties": 1,
                "description": "{bearer: TOKEN} or {basic: {user, password}}",
                "properties": {
                    "bearer": { "type": ["string", "object"] },
                    "basic": {
                        "type": "object", "additionalProperties": false, "required": ["user"],
                        "properties": { "user": { "type": ["string", "object"] }, "password": { "type": ["string", "object"] } },
                    },
                },
            },
            "tls": {
                "type": "object", "additionalProperties": false, "description": "How the server is trusted",
                "properties": {
                    "ca": text("A file of certificates (PEM) that are trusted beside those of the machine"),
                    "insecure": { "type": "boolean", "description": "Trust any certificate" },
                },
            },
            "proxy": { "type": ["string", "object"], "description": "Address of a proxy; default: as the environment of the node says" },
            "redirects": { "type": "integer", "minimum": 0, "description": "How many redirects are followed; default 10" },
            "timeout": text("The whole exchange, as in 30s; default 5m"),
            "connect_timeout": text("Until the connection stands; default 30s"),
            "read_timeout": text("Silence between two pieces of the answer"),
            "expect": { "type": "array", "items": { "type": ["integer", "string"] }, "description": "Statuses that count as good: 200, \"2xx\"; default 2xx" },
            "idempotency_key": { "type": "boolean", "description": "Send Idempotency-Key with requests that change something; default true" },
            "extract": { "type": "object", "additionalProperties": { "type": "string" }, "description": "Outputs by JSON pointer: {celsius: /main/temp}" },
            "file": text("Save the answer to this file inside the working directory"),
        },
    })
}

fn wrong(message: impl Into<String>) -> TypedError {
    TypedError::new("settings", message)
}

/// A value in a header or query: texts as they are.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// What every client is made from.
pub(crate) fn client_builder() -> ClientBuilder {
    ostler_brokers::tls::install_provider();
    Client::builder()
        .user_agent(concat!("ostler/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(30))
        .timeout(super::DEFAULT_TIMEOUT)
}

impl Settings {
    /// A client for requests that ask for nothing special.
    pub(super) fn plain_client() -> Result<Client, TypedError> {
        client_builder().build().map_err(|e| wrong(format!("no HTTP client: {e}")))
    }

    pub(super) fn needs_own_client(&self) -> bool {
        self.tls.ca.is_some()
            || self.tls.insecure
            || self.proxy.is_some()
            || self.redirects.is_some()
            || self.connect_timeout.is_some()
            || self.read_timeout.is_some()
    }

    pub(super) fn client(&self, folder: &Path) -> Result<Client, TypedError> {
        let mut client = client_builder();
        if let Some(path) = &self.tls.ca {
            let pem = std::fs::read(folder.join(path))
                .map_err(|e| wrong(format!("`tls.ca`: `{path}` cannot be read: {e}")))?;
            let authority =
                reqwest::Certificate::from_pem(&pem).map_err(|e| wrong(format!("`tls.ca`: {e}")))?;
            client = client.tls_certs_merge([authority]);
        }
        if self.tls.insecure {
            client = client.tls_danger_accept_invalid_certs(true);
        }
        if let Some(proxy) = &self.proxy {
            client = client.proxy(reqwest::Proxy::all(proxy).map_err(|e| wrong(format!("`proxy`: {e}")))?);
        }
        if let Some(most) = self.redirects {
            client = client.redirect(if most == 0 {
                redirect::Policy::none()
            } else {
                redirect::Policy::limited(most)
            });
        }
        if let Some(span) = self.connect_timeout {
            client = client.connect_timeout(span.as_duration());
        }
        if let Some(span) = self.read_timeout {
            client = client.read_timeout(span.as_duration());
        }
        client.build().map_err(|e| wrong(format!("no HTTP client: {e}")))
    }

    pub(super) fn expects(&self, status: StatusCode) -> bool {
        if self.expect.is_empty() {
            return status.is_success();
        }
        self.expect.iter().any(|wanted| match wanted {
            Value::Number(n) => n.as_u64() == Some(u64::from(status.as_u16())),
            Value::String(range) => {
                *range == status.as_u16().to_string()
                    || matches!(range.as_bytes(), [d, b'x', b'x'] if u16::from(d - b'0') == status.as_u16() / 100)
            }
            _ => false,
        })
    }

    pub(super) fn build(
        &self,
        client: &Client,
        request: &ExecRequest,
        folder: &Path,
    ) -> Result<Request, TypedError> {
        let bodies = [
            self.json.is_some(),
            self.form.is_some(),
            self.multipart.is_some(),
            self.body.is_some(),
            self.body_file.is_some(),
        ];
        if bodies.iter().filter(|b| **b).count() > 1 {
            return Err(wrong("an http step has one body: json, form, multipart, body or body_file"));
        }
        let has_body = bodies.contains(&true);
        let method = match self.method.as_deref() {
            Some(word) => Method::from_bytes(word.to_uppercase().as_bytes())
                .map_err(|_| wrong(format!("`method`: `{word}` is not a method")))?,
            None if has_body => Method::POST,
            None => Method::GET,
        };
        let url: reqwest::Url =
            self.url.parse().map_err(|e| wrong(format!("`url`: `{}` is not an address: {e}", self.url)))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong(format!("`url`: `{}` is neither http nor https", url.scheme())));
        }
        let safe = method.is_safe();
        let mut built = client.request(method, url);
        for (name, value) in &self.headers {
            built = built.header(name, text(value));
        }
        if !self.query.is_empty() {
            let pairs: Vec<(String, String)> = self
                .query
                .iter()
                .flat_map(|(k, v)| match v {
                    Value::Array(items) => items.iter().map(|i| (k.clone(), text(i))).collect::<Vec<_>>(),
                    Value::Null => Vec::new(),
                    other => vec![(k.clone(), text(other))],
                })
                .collect();
            built = built.query(&pairs);
        }
        let has_key = self.headers.keys().any(|k| k.eq_ignore_ascii_case("idempotency-key"));
        if self.idempotency_key && !safe && !has_key {
            built = built.header("Idempotency-Key", &request.idempotency_key);
        }
        if let Some(traceparent) = &request.traceparent {
            built = built.header("traceparent", traceparent);
        }
        built = match &self.auth {
            None => built,
            Some(Auth::Bearer(token)) => built.bearer_auth(token),
            Some(Auth::Basic { user, password }) => built.basic_auth(user, password.as_ref()),
        };
        if let Some(span) = self.timeout {
            built = built.timeout(span.as_duration());
        }
        if let Some(json) = &self.json {
            built = built.json(json);
        } else if let Some(form) = &self.form {
            let pairs: Vec<_> = form.iter().map(|(k, v)| (k, text(v))).collect();
            built = built.form(&pairs);
        } else if let Some(parts) = &self.multipart {
            built = built.multipart(form_parts(parts, folder)?);
        } else if let Some(body) = &self.body {
            built = built.body(body.clone());
        } else if let Some(path) = &self.body_file {
            built = built.body(read(folder, path)?);
        }
        built.build().map_err(|e| wrong(format!("the request cannot be built: {e}")))
    }
}

fn read(folder: &Path, path: &str) -> Result<Vec<u8>, TypedError> {
    let path = crate::files::confine(folder, path).map_err(wrong)?;
    std::fs::read(&path).map_err(|e| wrong(format!("`{}` cannot be read: {e}", path.display())))
}

/// Texts, or `{file: PATH}`.
fn form_parts(parts: &BTreeMap<String, Value>, folder: &Path) -> Result<multipart::Form, TypedError> {
    let mut form = multipart::Form::new();
    for (name, value) in parts {
        form = match value.get("file").and_then(Value::as_str) {
            Some(path) => {
                let file = Path::new(path).file_name().unwrap_or_default().to_string_lossy().into_owned();
                form.part(name.clone(), multipart::Part::bytes(read(folder, path)?).file_name(file))
            }
            None => form.text(name.clone(), text(value)),
        };
    }
    Ok(form)
}

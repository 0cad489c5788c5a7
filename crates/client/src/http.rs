//! Requests and answers.

use std::{fmt, time::Duration};

use ostler_api::{ApiError, ErrorKind, Problem, VERSION};
use reqwest::{Method, RequestBuilder, Response, StatusCode, header};
use serde::{Serialize, de::DeserializeOwned};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);

/// How long an answer may take, when it is not held back on purpose.
const ANSWER: Duration = Duration::from_secs(60);

/// Errors say no more of what a server answered.
const SHOWN: usize = 200;

/// A token, which cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A token.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A server, and as whom it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// `http://host:port` or `https://host`, with the path before `/api` if there is one.
    pub url: String,
    /// The token that is sent.
    pub token: Option<Secret>,
    /// The token may cross a network unencrypted.
    pub allow_http: bool,
}

/// A client for other documents: follows redirects, and has the same TLS as everything else here.
///
/// # Errors
/// It cannot be made.
pub fn plain(time: Duration) -> Result<reqwest::Client, reqwest::Error> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .connect_timeout(CONNECT)
        .timeout(time)
        .redirect(reqwest::redirect::Policy::limited(5))
        .user_agent(concat!("ostler/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// The typed client. Clones share connections.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    server: Server,
}

impl Client {
    /// A client of a server. Nothing is sent yet.
    ///
    /// # Errors
    /// The URL is none, or a token would cross a network unencrypted.
    pub fn new(server: &Server) -> Result<Self, ApiError> {
        let url = reqwest::Url::parse(&server.url)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| {
                ApiError::bad_input(format!("`{}` is not the URL of a server", server.url))
                    .hint("write it as http://127.0.0.1:7467 or https://ostler.example.org")
            })?;
        let is_here = url.host_str().is_some_and(|host| {
            host == "localhost"
                || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
        });
        if server.token.is_some() && url.scheme() == "http" && !is_here && !server.allow_http {
            return Err(ApiError::bad_input(format!(
                "the token would be sent to {} unencrypted",
                server.url
            ))
            .hint("use https, or say `allow_http = true` in the profile (OSTLER_ALLOW_HTTP=1)"));
        }
        // A second one in this process keeps the first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("ostler/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| ApiError::new(ErrorKind::Unreachable, format!("no HTTP client: {e}")))?;
        let base = format!("{}/api/{VERSION}", url.as_str().trim_end_matches('/'));
        Ok(Self { http, base, server: server.clone() })
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base)).timeout(ANSWER);
        match &self.server.token {
            Some(Secret(token)) => request.bearer_auth(token),
            None => request,
        }
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        self.ask(self.request(Method::GET, path)).await
    }

    pub(crate) async fn find<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &impl Serialize,
    ) -> Result<T, ApiError> {
        self.ask(self.request(Method::GET, path).query(query)).await
    }

    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ApiError> {
        self.ask(self.request(Method::POST, path).json(body)).await
    }

    /// Sends a request and reads its answer.
    pub(crate) async fn ask<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ApiError> {
        let response = request.send().await.map_err(|e| self.unreachable(&e))?;
        let status = response.status();
        if !status.is_success() {
            return Err(self.told(status, response).await);
        }
        let body = response.bytes().await.map_err(|e| self.unreachable(&e))?;
        serde_json::from_slice(&body).map_err(|e| {
            let shown: String = String::from_utf8_lossy(&body).chars().take(SHOWN).collect();
            ApiError::new(
                ErrorKind::Unreachable,
                format!(
                    "{} does not answer as this version of Ostler expects: {e}: {shown}",
                    self.server.url
                ),
            )
        })
    }

    /// What a server says instead.
    async fn told(&self, status: StatusCode, response: Response) -> ApiError {
        let retry_after =
            response.headers().get(header::RETRY_AFTER).and_then(|v| v.to_str().ok()?.parse().ok());
        let body = response.bytes().await.unwrap_or_default();
        let mut error: ApiError = match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => problem.into(),
            Err(_) => {
                let shown: String = String::from_utf8_lossy(&body).trim().chars().take(SHOWN).collect();
                let message = format!("{} answered {status}: {shown}", self.server.url);
                return ApiError::new(ErrorKind::Unreachable, message.trim_end_matches(": "))
                    .hint("is it the address of an `ostler serve --listen`?");
            }
        };
        error.retry_after = retry_after;
        if error.kind == ErrorKind::Unauthenticated {
            error.hint = Some("set OSTLER_TOKEN, or the token of a profile".to_owned());
        }
        error
    }

    fn unreachable(&self, error: &reqwest::Error) -> ApiError {
        let mut reason: &dyn std::error::Error = error;
        while let Some(source) = reason.source() {
            reason = source;
        }
        let what = if error.is_timeout() {
            "did not answer in time".to_owned()
        } else {
            format!("cannot be reached: {reason}")
        };
        ApiError::new(ErrorKind::Unreachable, format!("{} {what}", self.server.url))
            .hint("is `ostler serve --listen` running there?")
    }
}

/// A part of a path, with what has a meaning in paths escaped.
pub(crate) fn part(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

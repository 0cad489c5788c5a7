//! Where a PostgreSQL is, and how the way to it is protected.
//!
//! `sslmode` is libpq's, with its meaning: `prefer` (when nothing is said) and `require` encrypt without asking who
//! answers, `verify-full` asks; `sslrootcert` names a file of certificates to believe instead of the machine's.
//! <https://www.postgresql.org/docs/current/libpq-ssl.html>

use std::{future::Future, path::Path, pin::Pin, sync::Arc, time::Duration};

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::{
    Config, Error, Socket,
    config::SslMode,
    tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream},
};
use tokio_rustls::TlsConnector;

use super::Failure;
use crate::{
    address::Address,
    call::Call,
    tls::{self, Trust},
};

/// How long one address of a host may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

const KEYS: &str = "`sslmode`, `sslrootcert`, `host`, `application_name`, `connect_timeout` and `options`";

/// How to connect, and the place in words.
pub(super) fn configuration(
    address: &Address,
    folder: &Path,
    call: &Call,
) -> Result<(Config, Tls, String), Failure> {
    let wrong = |message: String| Failure::new("settings", format!("`url`: {message}"));
    let mut config = Config::new();
    let (mut sslmode, mut roots, mut socket) = ("prefer", None, None);
    config.connect_timeout(ANSWER);
    config.application_name(format!("ostler {}:{}", call.request.namespace, call.request.task));
    for (key, value) in &address.query {
        match key.as_str() {
            "sslmode" => sslmode = value.as_str(),
            "sslrootcert" => roots = Some(folder.join(value)),
            "host" if value.starts_with('/') => socket = Some(value.as_str()),
            "host" => return Err(wrong("`host` names the folder of a socket, as in /run/postgresql".into())),
            "application_name" => _ = config.application_name(value),
            "options" => _ = config.options(value),
            "connect_timeout" => {
                let seconds =
                    value.parse().map_err(|_| wrong("`connect_timeout` is a number of seconds".into()));
                config.connect_timeout(Duration::from_secs(seconds?));
            }
            other => return Err(wrong(format!("it knows no `{other}`; there are {KEYS}"))),
        }
    }
    let Some(user) = &address.user else {
        return Err(wrong("names no user; write postgres://user:password@host/database".into()));
    };
    config.user(user).dbname(if address.path.is_empty() { user } else { &address.path });
    if let Some(password) = &address.password {
        config.password(password);
    }
    let port = address.port.unwrap_or(5432);
    config.port(port);
    let place = match socket {
        Some(folder) => {
            config.host_path(folder);
            format!("{folder}, port {port}")
        }
        None if address.host.is_empty() => {
            return Err(wrong("names no host; write postgres://user:password@host/database".into()));
        }
        None => {
            config.host(&address.host);
            format!("{}:{port}", address.host)
        }
    };
    let trust = match (sslmode, &roots) {
        ("disable" | "prefer", _) => Trust::Anybody,
        ("verify-full", Some(file)) => Trust::File(file),
        ("verify-full", None) => Trust::System,
        // libpq, too, verifies what it has a file for.
        ("require", Some(file)) => Trust::File(file),
        ("require", None) => Trust::Anybody,
        (other, _) => {
            let text = format!(
                "there is no sslmode `{other}`; there are `disable`, `prefer`, `require` and `verify-full`"
            );
            return Err(wrong(text));
        }
    };
    config.ssl_mode(match sslmode {
        _ if socket.is_some() => SslMode::Disable,
        "disable" => SslMode::Disable,
        "prefer" => SslMode::Prefer,
        _ => SslMode::Require,
    });
    let tls = tls::client(&trust).map_err(wrong)?;
    Ok((config, Tls(Arc::new(tls)), place))
}

/// Why nobody was let in: `connect` and `tls` may get better by waiting, what the server refuses does not by itself.
pub(super) fn refused(e: &Error, place: &str) -> Failure {
    if e.as_db_error().is_some() {
        let failure = super::failure(e, None);
        return Failure { message: format!("{place}: {}", failure.message), ..failure };
    }
    let mut cause: &dyn std::error::Error = e;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let (kind, cause) = (e.to_string(), cause.to_string());
    if cause == "password missing" {
        let text = format!("{place}: it asks for a password; write postgres://user:password@host/database");
        return Failure::new("sql:28P01", text);
    }
    match kind.as_str() {
        "error performing TLS handshake" => Failure::new("tls", format!("{place}: {cause}")),
        "authentication error" | "invalid configuration" => {
            Failure::new("sql:28000", format!("{place}: {kind}: {cause}"))
        }
        _ => Failure::new("connect", format!("{place}: {cause}")),
    }
}

/// Connects by rustls.
#[derive(Clone)]
pub(super) struct Tls(Arc<ClientConfig>);

impl MakeTlsConnect<Socket> for Tls {
    type Stream = Secured;
    type TlsConnect = Handshake;
    type Error = rustls::pki_types::InvalidDnsNameError;

    fn make_tls_connect(&mut self, domain: &str) -> Result<Handshake, Self::Error> {
        // The folder of a socket is no name, and is not asked for TLS.
        let name = ServerName::try_from(domain.to_owned());
        let name = if domain.starts_with('/') { None } else { Some(name?) };
        Ok(Handshake { connector: TlsConnector::from(self.0.clone()), name })
    }
}

/// One handshake to come.
pub(super) struct Handshake {
    connector: TlsConnector,
    name: Option<ServerName<'static>>,
}

impl TlsConnect<Socket> for Handshake {
    type Stream = Secured;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<Secured>> + Send>>;

    fn connect(self, stream: Socket) -> Self::Future {
        Box::pin(async move {
            let name =
                self.name.ok_or_else(|| std::io::Error::other("a socket file has no name to verify"))?;
            Ok(Secured(self.connector.connect(name, stream).await?))
        })
    }
}

/// A connection under TLS.
pub(super) struct Secured(tokio_rustls::client::TlsStream<Socket>);

impl TlsStream for Secured {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Secured {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Secured {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

//! Where a MySQL or MariaDB is, and how the way to it is protected.
//!
//! `sslmode` has the words of PostgreSQL: `prefer` (when nothing is said) and `require` encrypt without asking who
//! answers, `verify-full` asks; `sslrootcert` names a file of certificates to believe instead of the machine's.

use std::path::Path;

use mysql_async::{Conn, DriverError, Error, IoError, Opts, OptsBuilder, SslOpts};
use ostler_brokers::{Address, tls};

use super::Failure;

const KEYS: &str = "`sslmode`, `sslrootcert` and `socket`";

/// How to connect, and the place in words.
pub(super) fn options(address: &Address, folder: &Path) -> Result<(Opts, String), Failure> {
    let wrong = |message: String| Failure::new("settings", format!("`url`: {message}"));
    let (mut sslmode, mut roots, mut socket) = ("prefer", None, None);
    for (key, value) in &address.query {
        match key.as_str() {
            "sslmode" | "ssl-mode" => sslmode = value.as_str(),
            "sslrootcert" => roots = Some(folder.join(value)),
            "socket" => socket = Some(value.as_str()),
            other => return Err(wrong(format!("it knows no `{other}`; there are {KEYS}"))),
        }
    }
    if address.host.is_empty() && socket.is_none() {
        return Err(wrong("names no host; write mysql://user:password@host/database".into()));
    }
    let port = address.port.unwrap_or(3306);
    let place = socket.map_or_else(|| format!("{}:{port}", address.host), str::to_owned);
    let anybody = || SslOpts::default().with_danger_accept_invalid_certs(true);
    let ssl = match sslmode {
        _ if socket.is_some() => None,
        "disable" => None,
        "prefer" => Some(anybody()),
        "require" if roots.is_none() => Some(anybody()),
        "require" | "verify-full" => {
            let certificates = match roots {
                Some(file) => vec![file.into()],
                None => tls::system_roots()
                    .map_err(wrong)?
                    .into_iter()
                    .map(|certificate| certificate.to_vec().into())
                    .collect(),
            };
            Some(SslOpts::default().with_disable_built_in_roots(true).with_root_certs(certificates))
        }
        other => {
            let text = format!(
                "there is no sslmode `{other}`; there are `disable`, `prefer`, `require` and `verify-full`"
            );
            return Err(wrong(text));
        }
    };
    tls::install_provider();
    let opts = OptsBuilder::default()
        .ip_or_hostname(address.host.as_str())
        .tcp_port(port)
        .user(address.user.clone())
        .pass(address.password.clone())
        .db_name(Some(address.path.clone()).filter(|name| !name.is_empty()))
        .socket(socket)
        .prefer_socket(socket.is_some())
        .stmt_cache_size(0)
        .ssl_opts(ssl);
    Ok((opts.into(), place))
}

/// Connects. A server without TLS is spoken to without, where the address does not ask for it.
pub(super) async fn connect(opts: &Opts) -> Result<(Conn, Opts), Error> {
    match Conn::new(opts.clone()).await {
        Err(Error::Driver(DriverError::NoClientSslFlagFromServer))
            if opts.ssl_opts().is_some_and(SslOpts::accept_invalid_certs) =>
        {
            let plain = Opts::from(OptsBuilder::from_opts(opts.clone()).ssl_opts(None));
            Ok((Conn::new(plain.clone()).await?, plain))
        }
        done => Ok((done?, opts.clone())),
    }
}

/// Why nobody was let in: `connect` and `tls` may get better by waiting, what the server refuses does not by itself.
pub(super) fn refused(e: &Error, place: &str) -> Failure {
    let failure = match e {
        Error::Server(_) => super::failure(e, None),
        Error::Io(IoError::Tls(_)) | Error::Driver(DriverError::NoClientSslFlagFromServer) => {
            Failure::new("tls", cause(e))
        }
        Error::Driver(driver) => Failure::new("sql:28000", driver.to_string()),
        other => Failure::new("connect", cause(other)),
    };
    Failure { message: format!("{place}: {}", failure.message), ..failure }
}

/// What is at the bottom of an error.
pub(super) fn cause(e: &Error) -> String {
    let mut cause: &dyn std::error::Error = e;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

//! Why a PostgreSQL lets nobody in.

use tokio_postgres::Error;

use super::Failure;

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

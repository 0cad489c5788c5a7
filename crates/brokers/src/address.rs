//! Addresses of servers with a login in them: `scheme://user:password@host:port/path?key=value`.
//!
//! Secrets are put into them as they are, so they are read with more patience than RFC 3986 asks for: the last `@` ends
//! the login, whatever the password holds, and `%40` is `@` while a lone `%` stays what it is. No message shows the
//! text: there may be a password in it.

use std::{fmt, net::IpAddr};

/// Where a server is, and who asks. Printed without the login.
#[derive(Clone, PartialEq)]
pub struct Address {
    /// What stands before `://`.
    pub scheme: String,
    /// Who asks; `None` when it is empty.
    pub user: Option<String>,
    /// Their password, an empty one too.
    pub password: Option<String>,
    /// Without the brackets of IPv6; empty when none is named.
    pub host: String,
    /// As given.
    pub port: Option<u16>,
    /// Without its first slash.
    pub path: String,
    /// What follows the question mark, in its order.
    pub query: Vec<(String, String)>,
}

impl Address {
    /// Reads an address; `example` is one that is right.
    ///
    /// # Errors
    /// What is wrong with it, as a verb and its object: "is not an address as in …".
    pub fn parse(text: &str, example: &str) -> Result<Self, String> {
        let shape = || format!("is not an address as in {example}");
        let (scheme, rest) = text.split_once("://").ok_or_else(shape)?;
        let (login, place) = match rest.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, rest),
        };
        let (user, password) = match login.map(|login| login.split_once(':').unwrap_or((login, ""))) {
            None => (None, None),
            Some((user, password)) => {
                let given = login.is_some_and(|login| login.contains(':'));
                let user = Some(decoded(user)).filter(|user| !user.is_empty());
                (user, given.then(|| decoded(password)))
            }
        };
        let (place, query) = place.split_once('?').unwrap_or((place, ""));
        let (place, path) = place.split_once('/').unwrap_or((place, ""));
        let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or_else(shape)?)),
            None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
        };
        let is_host = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        if !host.chars().all(is_host) || path.chars().chain(query.chars()).any(char::is_control) {
            return Err(shape());
        }
        let port = port.map(str::parse).transpose().map_err(|_| "has a port that is no number")?;
        let query = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(key, value)| (decoded(key), decoded(value)))
            .collect();
        Ok(Self {
            scheme: scheme.to_owned(),
            user,
            password,
            host: host.to_owned(),
            port,
            path: decoded(path),
            query,
        })
    }

    /// Whether what is sent there leaves this machine.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.host != "localhost" && !self.host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{:?}/{}", self.scheme, self.host, self.port, self.path)
    }
}

/// `%40` is `@`; what is not of that shape stays as it is.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = text.get(at + 1..at + 3).filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        match hex.filter(|_| bytes[at] == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_and_places_are_told_apart() {
        let address = Address::parse("postgres://me%40x:a/b@c:d?@[::1]:5433/my%20db?sslmode=require&x", "");
        let address = address.unwrap();
        assert_eq!((address.user.as_deref(), address.password.as_deref()), (Some("me@x"), Some("a/b@c:d?")));
        assert_eq!(
            (address.host.as_str(), address.port, address.path.as_str()),
            ("::1", Some(5433), "my db")
        );
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(address.query, [pair("sslmode", "require"), pair("x", "")]);
        let bare = Address::parse("mysql://root@localhost", "").unwrap();
        assert_eq!((bare.user.as_deref(), bare.password, bare.path.as_str()), (Some("root"), None, ""));
        assert_eq!(Address::parse("postgres:///db", "").unwrap().host, "");
    }
}

//! The address of a mail server.
//!
//! | address | what it means | port |
//! |---|---|---|
//! | `smtps://` | TLS from the first byte (RFC 8314) | 465 |
//! | `smtp+starttls://` | TLS after a greeting; without it nothing is sent | 587 |
//! | `smtp://` | no TLS: for a mail server on this machine | 25 |

use std::net::IpAddr;

/// Where mail is handed in.
#[derive(Debug, PartialEq)]
pub(super) struct Server {
    pub(super) security: Security,
    pub(super) host: String,
    pub(super) port: u16,
    /// User and password.
    pub(super) login: Option<(String, String)>,
}

/// How the connection is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Security {
    Plain,
    StartTls,
    Tls,
}

const SCHEMES: [(&str, Security, u16); 3] = [
    ("smtps", Security::Tls, 465),
    ("smtp+starttls", Security::StartTls, 587),
    ("smtp", Security::Plain, 25),
];

impl Server {
    /// Reads `smtps://user:password@host:port`. No message shows the text: there may be a password in it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let shape = || "is not an address as in smtps://user:password@mail.example.org".to_owned();
        let (scheme, rest) = text.split_once("://").ok_or_else(shape)?;
        let known = SCHEMES.into_iter().find(|(name, ..)| *name == scheme);
        let (_, security, default_port) =
            known.ok_or("begins with neither smtps://, smtp+starttls:// nor smtp://")?;
        // The last `@` counts, and a password may hold `/` and `:`, so that a secret can be put in as it is.
        let (login, place) = match rest.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, rest),
        };
        let login = match login.map(|login| login.split_once(':')) {
            None => None,
            Some(Some((user, password))) => Some((decoded(user), decoded(password))),
            Some(None) => return Err("names a user without a password; write user:password@".to_owned()),
        };
        let place = place.strip_suffix('/').unwrap_or(place);
        let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or_else(shape)?)),
            None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
        };
        let is_host = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        if host.is_empty() || !host.chars().all(is_host) {
            return Err(shape());
        }
        let port = port.map_or(Ok(default_port), str::parse).map_err(|_| "has a port that is no number")?;
        Ok(Self { security, host: host.to_owned(), port, login })
    }

    /// Whether what is sent there leaves this machine.
    pub(super) fn is_remote(&self) -> bool {
        self.host != "localhost" && !self.host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
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
    fn addresses_are_read_as_people_and_secrets_write_them() {
        let login = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        for (text, security, host, port, expected) in [
            ("smtps://mail.example.org", Security::Tls, "mail.example.org", 465, None),
            ("smtp+starttls://u:p@m.example/", Security::StartTls, "m.example", 587, login("u", "p")),
            ("smtp://localhost:2525", Security::Plain, "localhost", 2525, None),
            ("smtp://[::1]:26", Security::Plain, "::1", 26, None),
            ("smtps://me%40x.org:a/b@c:d@h", Security::Tls, "h", 465, login("me@x.org", "a/b@c:d")),
            ("smtps://u:50%äß%4@h", Security::Tls, "h", 465, login("u", "50%äß%4")),
        ] {
            let server = Server::parse(text).unwrap();
            let found = (server.security, server.host.as_str(), server.port, server.login);
            assert_eq!(found, (security, host, port, expected), "{text}");
        }
    }

    #[test]
    fn others_are_refused_without_being_shown() {
        for (text, words) in [
            ("mail.example.org", "smtps://user:password@"),
            ("https://u:hidden@h", "neither"),
            ("smtps://u:hidden@", "is not an address"),
            ("smtps://hidden@h", "without a password"),
            ("smtps://u:hidden@h:many", "no number"),
            ("smtps://u:hidden@h/x", "is not an address"),
            ("smtps://u:hidden@h\r\nRSET", "is not an address"),
        ] {
            let told = Server::parse(text).unwrap_err();
            assert!(told.contains(words) && !told.contains("hidden"), "{text}: {told}");
        }
    }

    #[test]
    fn loopback_is_this_machine() {
        let is_remote = |text: &str| Server::parse(text).unwrap().is_remote();
        assert!(!["smtp://localhost", "smtp://127.0.0.9", "smtp://[::1]"].into_iter().any(is_remote));
        assert!(is_remote("smtp://10.0.0.1") && is_remote("smtp://localhost.example.org"));
    }
}

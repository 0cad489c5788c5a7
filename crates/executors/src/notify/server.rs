//! The address of a mail server.
//!
//! | address | what it means | port |
//! |---|---|---|
//! | `smtps://` | TLS from the first byte (RFC 8314) | 465 |
//! | `smtp+starttls://` | TLS after a greeting; without it nothing is sent | 587 |
//! | `smtp://` | no TLS: for a mail server on this machine | 25 |

use ostler_brokers::Address;

/// Where mail is handed in.
#[derive(Debug, PartialEq)]
pub(super) struct Server {
    pub(super) security: Security,
    pub(super) host: String,
    pub(super) port: u16,
    /// User and password.
    pub(super) login: Option<(String, String)>,
    /// Whether what is sent there leaves this machine.
    pub(super) is_remote: bool,
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
        const EXAMPLE: &str = "smtps://user:password@mail.example.org";
        let address = Address::parse(text, EXAMPLE)?;
        let known = SCHEMES.into_iter().find(|(name, ..)| *name == address.scheme);
        let (_, security, port) =
            known.ok_or("begins with neither smtps://, smtp+starttls:// nor smtp://")?;
        let is_remote = address.is_remote();
        if address.host.is_empty() || !address.path.is_empty() || !address.query.is_empty() {
            return Err(format!("is not an address as in {EXAMPLE}"));
        }
        let login = match (address.user, address.password) {
            (None, None) => None,
            (user, Some(password)) => Some((user.unwrap_or_default(), password)),
            (Some(_), None) => {
                return Err("names a user without a password; write user:password@".to_owned());
            }
        };
        Ok(Self { security, host: address.host, port: address.port.unwrap_or(port), login, is_remote })
    }
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
        let is_remote = |text: &str| Server::parse(text).unwrap().is_remote;
        assert!(!["smtp://localhost", "smtp://127.0.0.9", "smtp://[::1]"].into_iter().any(is_remote));
        assert!(is_remote("smtp://10.0.0.1") && is_remote("smtp://localhost.example.org"));
    }
}

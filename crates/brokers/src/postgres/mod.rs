//! PostgreSQL: where it is, how the way to it is protected, and what NOTIFY says.
//!
//! `sslmode` is libpq's, with its meaning: `prefer` (when nothing is said) and `require` encrypt without asking who
//! answers, `verify-full` asks; `sslrootcert` names a file of certificates to believe instead of the machine's.
//! <https://www.postgresql.org/docs/current/libpq-ssl.html>

mod secured;

use std::{fmt, future::poll_fn, path::Path, sync::Arc, time::Duration};

use tokio_postgres::{
    AsyncMessage, Client, Config, Connection, Error, Socket, config::SslMode, error::DbError,
};

pub use self::secured::{Handshake, Secured, Tls};
use crate::{
    ANSWER, Address, BrokerError, GREETING, SILENCE,
    tls::{self, Trust},
};

/// How long one address of a host may take to answer.
const ADDRESS: Duration = Duration::from_secs(10);

const KEYS: &str = "`sslmode`, `sslrootcert`, `host`, `application_name`, `connect_timeout` and `options`";

/// Where a PostgreSQL is, and who asks. Printed without the login.
#[derive(Clone)]
pub struct Server {
    config: Config,
    tls: Tls,
    place: String,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place)
    }
}

impl Server {
    /// Reads `postgres://user:password@host:5432/database`. Files of certificates are looked for from `folder` on; `name`
    /// is what the server shows of us where the address gives no `application_name`.
    ///
    /// # Errors
    /// [`BrokerError::Wrong`].
    pub fn parse(url: &str, folder: &Path, name: &str) -> Result<Self, BrokerError> {
        const EXAMPLE: &str = "postgres://user:password@host:5432/database";
        let wrong = |why: &str| Err(BrokerError::Wrong(why.to_owned()));
        let address = Address::parse(url, EXAMPLE).map_err(BrokerError::Wrong)?;
        if !matches!(address.scheme.as_str(), "postgres" | "postgresql") {
            return Err(BrokerError::Wrong(format!("is not an address as in {EXAMPLE}")));
        }
        let mut config = Config::new();
        let (mut sslmode, mut roots, mut socket) = ("prefer", None, None);
        config.connect_timeout(ADDRESS).application_name(name);
        for (key, value) in &address.query {
            match key.as_str() {
                "sslmode" => sslmode = value.as_str(),
                "sslrootcert" => roots = Some(folder.join(value)),
                "host" if value.starts_with('/') => socket = Some(value.as_str()),
                "host" => {
                    return wrong("has a `host` that is not the folder of a socket, as in /run/postgresql");
                }
                "application_name" => _ = config.application_name(value),
                "options" => _ = config.options(value),
                "connect_timeout" => match value.parse() {
                    Ok(seconds) => _ = config.connect_timeout(Duration::from_secs(seconds)),
                    Err(_) => return wrong("has a `connect_timeout` that is no number of seconds"),
                },
                other => {
                    return Err(BrokerError::Wrong(format!("knows no `{other}`; there are {KEYS}")));
                }
            }
        }
        let Some(user) = &address.user else {
            return wrong("names no user; write postgres://user:password@host/database");
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
                return wrong("names no host; write postgres://user:password@host/database");
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
                return Err(BrokerError::Wrong(format!(
                    "has the sslmode `{other}`; there are `disable`, `prefer`, `require` and `verify-full`"
                )));
            }
        };
        config.ssl_mode(match sslmode {
            _ if socket.is_some() => SslMode::Disable,
            "disable" => SslMode::Disable,
            "prefer" => SslMode::Prefer,
            _ => SslMode::Require,
        });
        let tls = tls::client(&trust);
        let tls = tls.map_err(|why| BrokerError::Wrong(format!("cannot be reached under TLS: {why}")))?;
        Ok(Self { config, tls: Tls::new(Arc::new(tls)), place })
    }

    /// Host and port.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.place
    }

    /// How the way to it is protected, for a request to cancel.
    #[must_use]
    pub fn tls(&self) -> Tls {
        self.tls.clone()
    }

    /// Connects, for as long as the system lets it; the connection has to be driven.
    ///
    /// # Errors
    /// The driver's.
    pub async fn open(&self) -> Result<(Client, Connection<Socket, Secured>), Error> {
        self.config.connect(self.tls.clone()).await
    }

    /// Listens to a channel.
    ///
    /// # Errors
    /// It is away, or does not let us in.
    pub async fn listen(&self, channel: &str) -> Result<Listener, BrokerError> {
        let late = || self.away(format!("it does not let us in for {} s", GREETING.as_secs()));
        let opened = tokio::time::timeout(GREETING, self.open()).await.map_err(|_| late())?;
        let (client, connection) = opened.map_err(|e| self.told(&e))?;
        let mut listener = Listener { client, connection, server: self.clone(), early: Vec::new() };
        listener.ask(&format!("LISTEN {}", quoted(channel))).await?;
        Ok(listener)
    }

    fn away(&self, why: impl ToString) -> BrokerError {
        BrokerError::Away { place: self.place.clone(), why: why.to_string() }
    }

    /// An error of the driver in the server's words.
    fn told(&self, error: &Error) -> BrokerError {
        if let Some(refused) = error.as_db_error().map(DbError::message) {
            return BrokerError::Refused { place: self.place.clone(), why: refused.to_owned() };
        }
        let mut cause: &dyn std::error::Error = error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        self.away(cause)
    }
}

/// What NOTIFY said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// On which channel.
    pub channel: String,
    /// With which words; they are shorter than 8000 bytes.
    pub payload: String,
    /// By which process of the server.
    pub pid: i32,
}

/// Listens to a channel of PostgreSQL.
pub struct Listener {
    client: Client,
    connection: Connection<Socket, Secured>,
    server: Server,
    /// What was heard beside the answer to a statement.
    early: Vec<Notification>,
}

impl Listener {
    /// The next notification, whenever it comes; finds out when nobody is there any more. Dropped before its end, it
    /// loses nothing.
    ///
    /// # Errors
    /// The connection's.
    pub async fn next(&mut self) -> Result<Notification, BrokerError> {
        loop {
            if !self.early.is_empty() {
                return Ok(self.early.remove(0));
            }
            match tokio::time::timeout(SILENCE, heard(&mut self.connection)).await {
                Ok(Some(heard)) => return heard.map_err(|e| self.server.told(&e)),
                Ok(None) => return Err(self.server.away("it closed the connection")),
                Err(_) => self.ask("").await?,
            }
        }
    }

    /// Has a statement carried out.
    async fn ask(&mut self, statement: &str) -> Result<(), BrokerError> {
        let Self { client, connection, server, early } = self;
        let asking = async {
            let answer = client.batch_execute(statement);
            tokio::pin!(answer);
            loop {
                tokio::select! {
                    biased;
                    answer = &mut answer => return answer.map_err(|e| server.told(&e)),
                    note = heard(connection) => match note {
                        Some(Ok(note)) => early.push(note),
                        Some(Err(error)) => return Err(server.told(&error)),
                        None => return Err(server.away("it closed the connection")),
                    },
                }
            }
        };
        let late = || server.away(format!("it does not answer for {} s", ANSWER.as_secs()));
        tokio::time::timeout(ANSWER, asking).await.unwrap_or_else(|_| Err(late()))
    }
}

/// The next notification of a connection; `None` when it has ended.
async fn heard(connection: &mut Connection<Socket, Secured>) -> Option<Result<Notification, Error>> {
    loop {
        match poll_fn(|context| connection.poll_message(context)).await? {
            Ok(AsyncMessage::Notification(note)) => {
                return Some(Ok(Notification {
                    channel: note.channel().to_owned(),
                    payload: note.payload().to_owned(),
                    pid: note.process_id(),
                }));
            }
            Ok(_) => {}
            Err(error) => return Some(Err(error)),
        }
    }
}

/// A name as SQL takes it, whatever it holds.
#[must_use]
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

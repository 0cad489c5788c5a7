//! A PgBouncer of a test's own.

use std::{fs::File, net::TcpStream, process::Stdio};

use tempfile::TempDir;
use url::Url;

use super::{Process, User, folder_with, free_port, path, wait_for};

/// PgBouncer in transaction mode before a PostgreSQL server.
#[derive(Debug)]
pub struct PgBouncer {
    // Ends before its folder goes.
    server: Option<Process>,
    user: User,
    program: std::path::PathBuf,
    port: u16,
    folder: TempDir,
}

impl PgBouncer {
    /// Whether it is installed; says so when it is not.
    #[must_use]
    pub fn is_there() -> bool {
        let found = folder_with("pgbouncer", path());
        if found.is_none() {
            eprintln!("left out: PgBouncer is not installed (apt-get install pgbouncer)");
        }
        found.is_some()
    }

    /// One before the server of a URL; `None` where it is not installed.
    ///
    /// # Panics
    /// It does not start, or the URL is none.
    #[must_use]
    pub fn before(server: &str) -> Option<Self> {
        if !Self::is_there() {
            return None;
        }
        let program = folder_with("pgbouncer", path())?.join("pgbouncer");
        let server: Url = server.parse().unwrap_or_else(|error| panic!("{error}"));
        let folder = TempDir::with_prefix("ostler-pgbouncer-").unwrap_or_else(|e| panic!("no folder: {e}"));
        let user = User::owning(folder.path());
        let port = free_port();
        let login = match server.password() {
            None => format!("user={}", server.username()),
            Some(password) => format!("user={} password={password}", server.username()),
        };
        // Few connections for many clients, so that each transaction gets another one.
        let settings = format!(
            "[databases]\n* = host={} port={} {login}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = any\npool_mode = transaction\ndefault_pool_size = 8\nmax_client_conn = 1000\n",
            server.host_str().unwrap_or("127.0.0.1"),
            server.port().unwrap_or(5432),
        );
        let file = folder.path().join("pgbouncer.ini");
        std::fs::write(&file, settings).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let mut new = Self { server: None, user, program, port, folder };
        new.go_on();
        Some(new)
    }

    /// Its host and port.
    #[must_use]
    pub fn place(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The URL of a store on the server, through it.
    ///
    /// # Panics
    /// It is no URL.
    #[must_use]
    pub fn through(&self, store: &str) -> String {
        let mut url: Url = store.parse().unwrap_or_else(|error| panic!("{error}"));
        assert!(url.set_host(Some("127.0.0.1")).is_ok() && url.set_port(Some(self.port)).is_ok(), "{store}");
        url.query_pairs_mut().append_pair("pooler", "transaction").append_pair("sslmode", "disable");
        url.to_string()
    }

    /// Kills it: all connections through it are gone.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.signal("KILL");
            wait_for("the end of PgBouncer", || server.has_ended());
        }
    }

    /// Starts it where it was killed, and waits until it listens.
    ///
    /// # Panics
    /// It does not.
    pub fn go_on(&mut self) {
        if self.server.is_some() {
            return;
        }
        let log = self.folder.path().join("log");
        let told = File::options().create(true).append(true).open(&log);
        let told = told.unwrap_or_else(|error| panic!("{}: {error}", log.display()));
        let mut command = self.user.command(&self.program);
        command.current_dir(self.folder.path()).arg(self.folder.path().join("pgbouncer.ini"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(told);
        let child = command.spawn().unwrap_or_else(|error| panic!("PgBouncer cannot be run: {error}"));
        let mut server = Process(child);
        let place = self.place();
        wait_for("PgBouncer", || {
            let told = std::fs::read_to_string(&log).unwrap_or_default();
            assert!(!server.has_ended(), "PgBouncer did not start: {told}");
            TcpStream::connect(&place).is_ok()
        });
        self.server = Some(server);
    }
}

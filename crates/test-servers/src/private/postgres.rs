//! A PostgreSQL server of a test's own.

use std::{
    fs::File,
    path::PathBuf,
    process::{Command, Stdio},
};

use tempfile::TempDir;

use super::{Process, User, folder_with, free_port, path, wait_for};
use crate::POSTGRES;

/// How a server is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Transactions are rolled back and connections ended, in order (`pg_ctl stop -m fast`).
    Fast,
    /// As in a crash: what it was at is recovered when it starts again (`pg_ctl stop -m immediate`).
    Immediate,
}

/// A PostgreSQL server of a test's own, which it may stop.
#[derive(Debug)]
pub struct Postgres {
    // Ends before its folder goes.
    server: Option<Process>,
    programs: PathBuf,
    user: User,
    port: u16,
    folder: TempDir,
}

impl Postgres {
    /// A new server; `None` where the programs are not installed, or tests are to do without PostgreSQL.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn start() -> Option<Self> {
        if POSTGRES.is_left_out() {
            return None;
        }
        let Some(programs) = programs() else {
            eprintln!("left out: a PostgreSQL of its own (no initdb; apt-get install postgresql)");
            return None;
        };
        let folder = TempDir::with_prefix("ostler-postgres-").unwrap_or_else(|e| panic!("no folder: {e}"));
        let user = User::owning(folder.path());
        let mut made = user.command(&programs.join("initdb"));
        made.current_dir(folder.path()).args(["--username=postgres", "--auth=trust", "--no-sync"]);
        made.args(["--encoding=UTF8", "--locale=C", "--pgdata"]).arg(folder.path().join("data"));
        let made = made.output().unwrap_or_else(|error| panic!("initdb cannot be run: {error}"));
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let mut new = Self { server: None, programs, user, port: free_port(), folder };
        new.go_on();
        Some(new)
    }

    /// Its address, as its superuser.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://postgres@{}/postgres", self.place())
    }

    /// Its host and port.
    #[must_use]
    pub fn place(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Stops it; true when it was at work.
    pub fn stop(&mut self, how: Stop) -> bool {
        let Some(mut server) = self.server.take() else { return false };
        server.signal(match how {
            Stop::Fast => "INT",
            Stop::Immediate => "QUIT",
        });
        wait_for("the end of PostgreSQL", || server.has_ended());
        true
    }

    /// Starts it where it was stopped, and waits until it answers.
    ///
    /// # Panics
    /// It does not.
    pub fn go_on(&mut self) {
        if self.server.is_some() {
            return;
        }
        let log = self.folder.path().join("log");
        let file = File::options().create(true).append(true).open(&log);
        let file = file.unwrap_or_else(|error| panic!("{}: {error}", log.display()));
        let mut command = self.user.command(&self.programs.join("postgres"));
        command.current_dir(self.folder.path()).arg("-D").arg(self.folder.path().join("data"));
        for setting in [
            format!("port={}", self.port),
            "listen_addresses=127.0.0.1".into(),
            "unix_socket_directories=".into(),
            "max_connections=200".into(),
        ] {
            command.args(["-c", &setting]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let child = command.spawn().unwrap_or_else(|error| panic!("postgres cannot be run: {error}"));
        let mut server = Process(child);
        let port = self.port.to_string();
        wait_for("an answer of PostgreSQL", || {
            let told = std::fs::read_to_string(&log).unwrap_or_default();
            assert!(!server.has_ended(), "PostgreSQL did not start: {told}");
            let asked = Command::new(self.programs.join("pg_isready"))
                .args(["-q", "-h", "127.0.0.1", "-p", &port])
                .status();
            asked.is_ok_and(|status| status.success())
        });
        self.server = Some(server);
    }
}

/// Where its programs are: Debian keeps them out of PATH.
fn programs() -> Option<PathBuf> {
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|found| found.flatten().map(|version| version.path().join("bin")).collect())
        .unwrap_or_default();
    versions.sort();
    let asked = Command::new("pg_config").arg("--bindir").output().ok();
    let told = asked.and_then(|told| String::from_utf8(told.stdout).ok());
    let told = told.map(|folder| PathBuf::from(folder.trim()));
    let all = versions.into_iter().rev().chain(told).chain(path());
    let has_all = |folder: &PathBuf| {
        ["initdb", "postgres", "pg_isready"].iter().all(|program| folder.join(program).is_file())
    };
    folder_with("initdb", all.filter(has_all))
}

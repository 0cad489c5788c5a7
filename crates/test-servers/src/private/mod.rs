//! Servers of a test's own, on a free port: for what nobody may do to a server that others use too, such as starting it
//! again. They end with the test, and are left out, aloud, where their programs are not installed.

mod pgbouncer;
mod postgres;

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    net::TcpListener,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command},
    thread,
    time::Duration,
};

pub use pgbouncer::PgBouncer;
pub use postgres::{Postgres, Stop};

/// How long a server may take to come or to go.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long until it is looked at again.
const LOOK: Duration = Duration::from_millis(20);

/// Waits until something holds.
///
/// # Panics
/// It does not come about.
fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..PATIENCE.as_millis() / LOOK.as_millis() {
        if holds() {
            return;
        }
        thread::sleep(LOOK);
    }
    panic!("{what} did not come about in {} s", PATIENCE.as_secs());
}

/// A port that is free now, below those from which the system draws: a client that tries again and again to reach a
/// server that is away would meet itself there one day.
///
/// # Panics
/// There is none.
#[must_use]
pub fn free_port() -> u16 {
    let mut draw = RandomState::new().build_hasher().finish();
    for _ in 0..1000 {
        let port = 15_000 + (draw % 15_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
        draw = draw.rotate_left(7).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    panic!("no port below 30000 is free");
}

/// Who such a server runs as. Some refuse to be root's.
#[derive(Clone, Copy, Debug)]
struct User(Option<(u32, u32)>);

impl User {
    /// This process's user; for root another one, who owns the folder then.
    fn owning(folder: &Path) -> Self {
        let owner = std::fs::metadata(folder).map(|about| std::os::unix::fs::MetadataExt::uid(&about));
        if owner.is_ok_and(|uid| uid != 0) {
            return Self(None);
        }
        let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let found = ["postgres", "nobody"].iter().find_map(|name| {
            let fields: Vec<_> = users.lines().map(|line| line.split(':').collect::<Vec<_>>()).collect();
            let line = fields.iter().find(|fields| fields[0] == *name)?;
            Some((line.get(2)?.parse().ok()?, line.get(3)?.parse().ok()?))
        });
        let (uid, gid) =
            found.unwrap_or_else(|| panic!("root cannot start it, and there is no user `nobody`"));
        std::os::unix::fs::chown(folder, Some(uid), Some(gid))
            .unwrap_or_else(|error| panic!("{} cannot be given to user {uid}: {error}", folder.display()));
        Self(Some((uid, gid)))
    }

    fn command(self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if let Some((uid, gid)) = self.0 {
            command.uid(uid).gid(gid);
        }
        command
    }
}

/// The first folder of several that has a program.
fn folder_with(program: &str, folders: impl IntoIterator<Item = PathBuf>) -> Option<PathBuf> {
    folders.into_iter().find(|folder| folder.join(program).is_file())
}

/// Folders with programs.
fn path() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian has servers where only root looks.
    std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]).collect()
}

/// A process that does not outlive its test.
#[derive(Debug)]
struct Process(Child);

impl Process {
    fn signal(&self, name: &str) {
        let told = Command::new("kill").args([&format!("-{name}"), &self.0.id().to_string()]).status();
        assert!(told.is_ok_and(|status| status.success()), "process {} was not sent {name}", self.0.id());
    }

    fn has_ended(&mut self) -> bool {
        self.0.try_wait().is_ok_and(|ended| ended.is_some())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.has_ended() {
            // Politely: PostgreSQL leaves shared memory behind otherwise.
            self.signal("INT");
            for _ in 0..250 {
                if self.has_ended() {
                    return;
                }
                thread::sleep(LOOK);
            }
            let _ = self.0.kill();
        }
        let _ = self.0.wait();
    }
}

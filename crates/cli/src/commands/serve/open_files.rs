//! How many files this process may have open: connections are files, and so is what steps read and write.

use ostler_server::Limits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Limits of open files. `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFiles {
    /// As this process was started with it, and as what it starts gets it again: programs that use `select`, or close
    /// whatever they might have open, expect a small one.
    pub before: Option<u64>,
    /// As it is now.
    pub now: Option<u64>,
}

/// Raises the soft limit to the hard one.
pub fn raise() -> OpenFiles {
    let found = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: found.maximum, ..found };
    let now = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => found.maximum,
        Err(error) => {
            tracing::warn!(%error, "the limit of open files was not raised");
            found.current
        }
    };
    OpenFiles { before: found.current, now }
}

impl OpenFiles {
    /// Connections at a time. A quarter of the files is left to the store, its readers, and what runs: who connects
    /// must not be able to keep work from being done.
    pub fn connections(self) -> usize {
        let most = Limits::default().connections;
        let share = self.now.map_or(most, |files| usize::try_from(files - files / 4).unwrap_or(most));
        share.clamp(1, most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_to_the_work() {
        for (now, expected) in [(None, 20_000), (Some(1024), 768), (Some(1 << 20), 20_000), (Some(0), 1)] {
            assert_eq!(OpenFiles { before: None, now }.connections(), expected, "{now:?}");
        }
    }
}

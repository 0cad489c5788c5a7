//! Starts every process of a node from one small process, so that none outlives the node.
//!
//! A node that is killed with `kill -9` cannot clean up after itself. So it does not start commands: it re-executes
//! its own binary once as the *spawner*, which makes itself child sub-reaper, starts each command as leader of a
//! process group, and watches the socket to the node. At the end of that socket, however it came about, it kills
//! every group and everything that was adopted, and ends.
//!
//! | who | is ended by |
//! |---|---|
//! | the leader and its group | signals to the group; SIGKILL when the leader has ended |
//! | children that left the group (`setsid`, daemons) | adoption: orphans become the spawner's children and are known by `OSTLER_SPAWN` in their environment; ended with their leader |
//! | daemons that wiped their environment as well | the end of the node: everything below the spawner is killed |
//!
//! What can still escape: a process that changed to a user the node may not signal (`sudo`), work handed to another
//! daemon (`systemd-run`, `at`, `docker run`), and, when the spawner itself is killed, children that had left their
//! groups by then (the node kills the groups it knows and starts another spawner).
//!
//! ```no_run
//! # async fn example() -> Result<(), ostler_executors::spawner::SpawnError> {
//! use ostler_executors::spawner::{Exit, SpawnSpec, Spawner, SpawnerProgram};
//!
//! let spawner = Spawner::new(SpawnerProgram::this_binary(["__spawner"]));
//! let mut child = spawner.spawn(SpawnSpec::new("/bin/true")).await?;
//! assert_eq!(child.wait().await?, Exit::Code(0));
//! # Ok(())
//! # }
//! ```

mod keeper;
mod launch;
mod link;
mod node;
mod proc;
mod wire;

pub use keeper::spawner_main;
pub use node::{Child, SpawnError, SpawnSpec, Spawner, SpawnerProgram, find_program};
pub use wire::{Exit, Limits, User};

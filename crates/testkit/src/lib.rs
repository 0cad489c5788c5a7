//! A test kit: a whole engine in one thread, on the real embedded store in memory, with a clock that you move.
//!
//! Time stands still until the [`World`] is told to go on, so a test of a nightly schedule with retries takes
//! milliseconds; executions are scripted; a crash can be put at any commit. The engine's own tests and its
//! simulation use nothing else.
//!
//! ```
//! use ostler_model::RunState;
//! use ostler_testkit::{World, ends_well, fails};
//!
//! let mut world = World::new("2027-03-27T12:00:00Z");
//! world.push("
//! meta: { type: ostler-timetable, version: 1, namespace: demo, timezone: Europe/Berlin }
//! tasks:
//!   - meta: { id: nightly }
//!     on: { schedule: [{ cron: '30 2 * * *' }] }
//!     policy: { retry: { attempts: 2, initial: 10s } }
//!     run: backup
//! ");
//! // The first attempt of each run fails. The night of 28 March has no 02:30 in Berlin: the run comes at 03:00.
//! world.on_execute(|request| if request.attempt == 1 { fails("exit:1") } else { ends_well() });
//! world.run_for("24h");
//! let runs = world.runs();
//! assert_eq!(runs.len(), 1);
//! assert_eq!(runs[0].state, RunState::Succeeded);
//! assert_eq!(runs[0].attempts, 2);
//! assert_eq!(runs[0].started_at.unwrap().to_string(), "2027-03-28T01:00:00Z");
//! ```
//!
//! Functions of this crate panic where a test should fail: it is for tests only.

mod node;
mod script;
mod world;

pub use script::{Behaviour, ends_well, ends_with, fails, takes};
pub use world::{Crash, World};

//! Shell, exec, Python, HTTP and SQL executors, the spawner and run logs.

mod files;
mod http;
pub mod logs;
mod secrets;
mod sql;
pub mod spawner;

pub use http::Http;
pub use logs::{LogCursor, LogQuery, LogRecord, LogWriter, RunLogs};
pub use sql::Sql;
pub use spawner::{SpawnerProgram, spawner_main};

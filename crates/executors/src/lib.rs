//! Where the work of a step is done: the executors `shell`, `exec`, `python`, `container`, `http`, `sql` and
//! `notify`, the [`spawner`] under which all their processes live and die, and the [`logs`] of what they wrote.
//!
//! Each executor takes an `ExecRequest` in which every expression is resolved, puts the values of secrets in, does the
//! work, and answers with an output or a typed error from which the secrets have been taken out again. Its `settings`
//! are a closed JSON Schema of the step's `with`. A new executor is one module and one line in [`standard`]; the
//! conformance suite in `tests/conformance.rs` says what it owes.
//!
//! ```no_run
//! use std::sync::Arc;
//! use ostler_execution::{Cancel, Discard, ExecContext, ExecRequest};
//! use ostler_executors::{ExecutorConfig, standard};
//!
//! # async fn example() {
//! // The binary must hand over to `spawner_main` when it is started with `__spawner`.
//! let executors = standard(ExecutorConfig::default());
//! let request = ExecRequest {
//!     uses: "shell".into(),
//!     run_text: Some("echo greeting=hello >> $OSTLER_OUTPUT".into()),
//!     ..ExecRequest::default()
//! };
//! let sink = Arc::new(Discard);
//! let context = ExecContext { cancel: Cancel::new(), log: sink.clone(), progress: sink.clone(), secrets: sink };
//! let end = executors.get("shell").unwrap().execute(request, context).await;
//! assert_eq!(end.output["greeting"], "hello");
//! # }
//! ```

mod call;
mod container;
mod files;
mod http;
pub mod logs;
mod notify;
mod process;
mod python;
mod shell;
pub mod spawner;
mod sql;
pub mod webhook;

use std::{path::PathBuf, sync::Arc};

pub use container::Container;
pub use http::Http;
pub use logs::{LogCursor, LogFolder, LogQuery, LogRecord, LogWriter, RunLogs};
pub use notify::Notify;
use ostler_clock::{Clock, SystemClock};
use ostler_execution::Executors;
pub use python::Python;
pub use shell::{Exec, Shell};
pub use spawner::{SpawnerProgram, spawner_main};
pub use sql::Sql;

/// What the executors of a node are made of.
pub struct ExecutorConfig {
    /// The program that becomes the spawner.
    pub spawner: SpawnerProgram,
    /// Where Python environments are kept from run to run.
    pub cache: PathBuf,
    /// Where the folders of attempts are made and removed.
    pub scratch: PathBuf,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Starts the spawner at once, beside whatever else the process has to do before its first command.
    pub ahead: bool,
}

impl Default for ExecutorConfig {
    /// This binary as `__spawner`, folders below the system's folder for temporary files.
    fn default() -> Self {
        let own = std::env::temp_dir().join(format!("ostler-{}", rustix::process::getuid().as_raw()));
        Self {
            spawner: SpawnerProgram::this_binary(["__spawner"]),
            cache: own.join("cache"),
            scratch: own.join("scratch"),
            clock: Arc::new(SystemClock),
            ahead: false,
        }
    }
}

/// All executors of this crate. Nothing is started before the first call, unless it is to be ahead.
#[must_use]
pub fn standard(config: ExecutorConfig) -> Executors {
    let workshop = process::Workshop {
        spawner: spawner::Spawner::new(config.spawner),
        scratch: process::Shelf::new(config.scratch),
    };
    if config.ahead {
        workshop.spawner.start_ahead();
    }
    Executors::new()
        .with(Arc::new(Shell { workshop: workshop.clone() }))
        .with(Arc::new(Exec { workshop: workshop.clone() }))
        .with(Arc::new(Python::new(workshop.clone(), config.cache)))
        .with(Arc::new(Container::new(workshop.clone())))
        .with(Arc::new(Notify::new(workshop, config.clock.clone())))
        .with(Arc::new(Http::new(config.clock)))
        .with(Arc::new(Sql))
}

/// The settings schemas of all executors by name, for `check` and editors.
#[must_use]
pub fn settings() -> std::collections::BTreeMap<String, serde_json::Value> {
    let executors = standard(ExecutorConfig::default());
    executors.names().filter_map(|n| Some((n.to_owned(), executors.get(n)?.settings()))).collect()
}

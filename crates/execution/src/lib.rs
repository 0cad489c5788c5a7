//! The contract between the engine and executors.
//!
//! The engine hands an [`ExecRequest`] to the [`Executor`] that is registered under the step's `uses` and gets an
//! [`ExecEnd`] back; in between the executor writes to the [`LogSink`], reports [`Progress`] and watches the
//! [`Cancel`] token. Executors know nothing of stores, machines or policies.
//!
//! ```
//! use std::{collections::BTreeMap, sync::Arc};
//! use ostler_execution::{Cancel, ExecContext, ExecEnd, ExecRequest, Executor, Executors};
//!
//! struct Nothing;
//!
//! #[async_trait::async_trait]
//! impl Executor for Nothing {
//!     fn name(&self) -> &'static str {
//!         "nothing"
//!     }
//!     async fn execute(&self, request: ExecRequest, context: ExecContext) -> ExecEnd {
//!         ExecEnd::succeeded(serde_json::json!({ "attempt": request.attempt }))
//!     }
//! }
//!
//! let executors = Executors::new().with(Arc::new(Nothing));
//! assert!(executors.get("nothing").is_some());
//! ```

mod cancel;
mod output;
mod request;
mod secrets;

use std::{collections::BTreeMap, sync::Arc};

pub use cancel::{Cancel, CancelReason};
pub use output::{OUTPUT_LIMIT, check_output};
pub use request::{ExecEnd, ExecOutcome, ExecRequest, Progress, Stream};
pub use secrets::reveal_in;
use serde_json::Value;

/// Does the work of one kind of step.
#[async_trait::async_trait]
pub trait Executor: Send + Sync {
    /// The word that steps name in `uses`.
    fn name(&self) -> &'static str;

    /// Whether an attempt lost with its node may be repeated when the task does not say (decision 3): true for
    /// executors whose calls are idempotent by custom, such as `http` and `sql`.
    fn reruns_lost(&self) -> bool {
        false
    }

    /// JSON Schema of a step's `with`, for `check` and for editors.
    fn settings(&self) -> Value {
        Value::Bool(true)
    }

    /// Clears away what a node that was killed has left with others, such as containers. Called once when a node starts,
    /// beside its work.
    async fn clear_away(&self) {}

    /// What is being executed may go on until this moment of the boot clock (`Clock::elapsed`), and no longer unless a
    /// later one is named before, even when this process is stopped or hangs: after that others may do the same work.
    /// Called again and again, and must not block. Executors whose work ends with this process have nothing to do.
    fn keep_until(&self, boot: std::time::Duration) {
        let _ = boot;
    }

    /// Does the work. Must return soon after `context.cancel` fires, with nothing of it left running.
    async fn execute(&self, request: ExecRequest, context: ExecContext) -> ExecEnd;
}

/// What an executor may use while it works.
#[derive(Clone)]
pub struct ExecContext {
    /// Fires when the work must end: timeout, deadline, cancel, shutdown.
    pub cancel: Cancel,
    /// Where lines of output go.
    pub log: Arc<dyn LogSink>,
    /// Where progress reports go.
    pub progress: Arc<dyn ProgressSink>,
    /// Where the values of secrets come from; asked when the request is carried out, after the record is written.
    pub secrets: Arc<dyn Secrets>,
}

/// Takes output as it appears.
pub trait LogSink: Send + Sync {
    /// Takes one line (without its end) or one piece of an over-long line, with the moment it was read. Must not
    /// block for long: a slow sink drops and counts, it does not hold the child.
    fn line(&self, stream: Stream, line: &[u8]);

    /// Takes one piece of an over-long line, more of which follows. A sink that masks must find a secret that two
    /// pieces share.
    fn piece(&self, stream: Stream, piece: &[u8]) {
        self.line(stream, piece);
    }

    /// Values that must not appear: the sink masks them in whatever comes after.
    fn mask(&self, secret: &str);
}

/// Takes progress reports.
pub trait ProgressSink: Send + Sync {
    /// The newest report; older ones may be dropped.
    fn report(&self, progress: Progress);
}

/// Gives the values of secrets.
pub trait Secrets: Send + Sync {
    /// The value of a secret.
    fn get(&self, name: &str) -> Option<String>;
}

/// The executors of a node by name.
#[derive(Clone, Default)]
pub struct Executors {
    by_name: BTreeMap<&'static str, Arc<dyn Executor>>,
}

impl Executors {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more; a later one of the same name replaces the earlier.
    #[must_use]
    pub fn with(mut self, executor: Arc<dyn Executor>) -> Self {
        self.by_name.insert(executor.name(), executor);
        self
    }

    /// The executor of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<dyn Executor>> {
        self.by_name.get(name)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Arc<dyn Executor>> {
        self.by_name.values()
    }

    /// The end of a call to one that is not there.
    #[must_use]
    pub fn missing(&self, name: &str) -> ExecEnd {
        let known: Vec<_> = self.names().collect();
        ExecEnd::error("spawn", format!("this node has no executor `{name}`; it has {}", known.join(", ")))
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.by_name.keys().copied()
    }
}

/// Sinks that take everything and keep nothing, for tests and for executors used as a library.
#[derive(Clone, Copy, Default)]
pub struct Discard;

impl LogSink for Discard {
    fn line(&self, _: Stream, _: &[u8]) {}

    fn mask(&self, _: &str) {}
}

impl ProgressSink for Discard {
    fn report(&self, _: Progress) {}
}

impl Secrets for Discard {
    fn get(&self, _: &str) -> Option<String> {
        None
    }
}

//! Where the output of attempts goes: into the run's log, and to whoever looks on.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use ostler_engine::Sinks;
use ostler_execution::{ExecRequest, LogSink, Progress, ProgressSink, Stream};
use ostler_executors::{LogWriter, RunLogs};
use ostler_model::MachineId;

/// Looks on while runs write.
pub trait LineObserver: Send + Sync {
    /// A line of a run, secrets masked.
    fn line(&self, run: MachineId, task: &str, step: &str, stream: Stream, line: &[u8]);

    /// A progress report of a run.
    fn progress(&self, run: MachineId, progress: &Progress);
}

/// Opens the log of each attempt.
pub struct RunSinks {
    logs: Arc<RunLogs>,
    observer: Option<Arc<dyn LineObserver>>,
    open: Mutex<HashMap<MachineId, Arc<Tee>>>,
}

impl RunSinks {
    /// Sinks into these logs, with someone who looks on.
    #[must_use]
    pub fn new(logs: Arc<RunLogs>, observer: Option<Arc<dyn LineObserver>>) -> Self {
        Self { logs, observer, open: Mutex::default() }
    }
}

struct Tee {
    run: MachineId,
    log: LogWriter,
    onlooker: Option<Onlooker>,
}

/// Someone who looks on, and what they want to know of each line.
struct Onlooker {
    observer: Arc<dyn LineObserver>,
    task: String,
    step: String,
}

impl Tee {
    fn show(&self, stream: Stream, line: &[u8]) {
        if let Some(Onlooker { observer, task, step }) = &self.onlooker {
            observer.line(self.run, task, step, stream, &self.log.masked(line));
        }
    }
}

impl Sinks for RunSinks {
    fn open(&self, request: &ExecRequest) -> (Arc<dyn LogSink>, Arc<dyn ProgressSink>) {
        let onlooker = self.observer.clone().map(|observer| Onlooker {
            observer,
            task: request.task.clone(),
            step: request.step.clone(),
        });
        let log = self.logs.writer(request.run, request.attempt);
        let tee = Arc::new(Tee { run: request.machine, log, onlooker });
        self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(request.machine, tee.clone());
        (tee.clone(), tee)
    }

    fn close(&self, machine: MachineId) {
        let tee = self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&machine);
        if let Some(tee) = tee {
            tee.log.close();
        }
    }
}

impl LogSink for Tee {
    fn line(&self, stream: Stream, line: &[u8]) {
        self.log.line(stream, line);
        self.show(stream, line);
    }

    fn piece(&self, stream: Stream, piece: &[u8]) {
        self.log.piece(stream, piece);
        self.show(stream, piece);
    }

    fn mask(&self, secret: &str) {
        self.log.mask(secret);
    }
}

impl ProgressSink for Tee {
    fn report(&self, progress: Progress) {
        if let Some(onlooker) = &self.onlooker {
            onlooker.observer.progress(self.run, &progress);
        }
        self.log.report(progress);
    }
}

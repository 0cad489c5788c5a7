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
    task: String,
    step: String,
    log: LogWriter,
    observer: Option<Arc<dyn LineObserver>>,
}

impl Sinks for RunSinks {
    fn open(&self, request: &ExecRequest) -> (Arc<dyn LogSink>, Arc<dyn ProgressSink>) {
        let tee = Arc::new(Tee {
            run: request.machine,
            task: request.task.clone(),
            step: request.step.clone(),
            log: self.logs.writer(request.run, request.attempt),
            observer: self.observer.clone(),
        });
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
        if let Some(observer) = &self.observer {
            observer.line(self.run, &self.task, &self.step, stream, &self.log.masked(line));
        }
    }

    fn piece(&self, stream: Stream, piece: &[u8]) {
        self.log.piece(stream, piece);
        if let Some(observer) = &self.observer {
            observer.line(self.run, &self.task, &self.step, stream, &self.log.masked(piece));
        }
    }

    fn mask(&self, secret: &str) {
        self.log.mask(secret);
    }
}

impl ProgressSink for Tee {
    fn report(&self, progress: Progress) {
        if let Some(observer) = &self.observer {
            observer.progress(self.run, &progress);
        }
        self.log.report(progress);
    }
}

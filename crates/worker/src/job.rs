//! One job on this machine: from what the server says to what became of it.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::FutureExt;
use ostler_api::workers::{Job, JobOutcome, JobRef, JobState};
use ostler_clock::Clock;
use ostler_execution::{Cancel, CancelReason, Discard, ExecContext, ExecEnd, ExecOutcome, ExecRequest};

use crate::{WorkerConfig, lines::Lines};

/// A job that the worker has.
pub(crate) struct Held {
    pub(crate) job: JobRef,
    pub(crate) attempt: u32,
    pub(crate) lines: Arc<Lines>,
    cancel: Cancel,
    clock: Arc<dyn Clock>,
    began: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Why it was cut short first, if it was.
    cut: Option<JobState>,
    outcome: Option<JobOutcome>,
}

impl Held {
    pub(crate) fn new(job: &Job, lines: Arc<Lines>, clock: Arc<dyn Clock>) -> Self {
        Self {
            job: JobRef { run: job.run, fence: job.fence },
            attempt: job.attempt,
            lines,
            cancel: Cancel::new(),
            began: clock.elapsed(),
            clock,
            state: Mutex::default(),
        }
    }

    /// Cuts it short; the first reason stays. `at_once`: without its grace.
    pub(crate) fn cut(&self, why: JobState, at_once: bool) {
        self.lock().cut.get_or_insert(why);
        self.cancel.fire(match why {
            _ if at_once => CancelReason::Kill,
            JobState::TimedOut => CancelReason::TimedOut,
            JobState::Cancelled => CancelReason::Cancelled,
            _ => CancelReason::Shutdown,
        });
    }

    /// It was told that somebody wants its end.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.lock().cut == Some(JobState::Cancelled)
    }

    /// What became of it, counted from now, once it has ended.
    pub(crate) fn outcome(&self) -> Option<JobOutcome> {
        let outcome = self.lock().outcome.clone()?;
        let ago = self.clock.elapsed().saturating_sub(self.began);
        Some(JobOutcome { began_ms_ago: u64::try_from(ago.as_millis()).unwrap_or(u64::MAX), ..outcome })
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.lock().outcome.is_some()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries it out. `is_silent`: the worker was not heard of for so long that its work may have been ended in its stead.
    pub(crate) async fn carry_out(&self, job: Job, config: &WorkerConfig, is_silent: impl Fn() -> bool) {
        let stop = job.stop_in_ms.map(Duration::from_millis);
        let mut request = request(job);
        let end = match place(&mut request, config) {
            Some(end) => end,
            None => {
                let work = self.execute(request, config);
                tokio::pin!(work);
                match stop {
                    None => work.await,
                    Some(stop) => tokio::select! {
                        end = &mut work => end,
                        () = tokio::time::sleep(stop) => {
                            self.cut(JobState::TimedOut, false);
                            work.await
                        }
                    },
                }
            }
        };
        if is_silent() {
            self.cut(JobState::Lost, true);
        }
        let mut state = self.lock();
        state.outcome = Some(outcome(self.job, end, state.cut, &self.lines));
    }

    async fn execute(&self, request: ExecRequest, config: &WorkerConfig) -> ExecEnd {
        let Some(executor) = config.executors.get(&request.uses) else {
            return config.executors.missing(&request.uses);
        };
        let context = ExecContext {
            cancel: self.cancel.clone(),
            log: self.lines.clone(),
            progress: self.lines.clone(),
            // The server has put them in.
            secrets: Arc::new(Discard),
        };
        let end = AssertUnwindSafe(executor.execute(request, context)).catch_unwind().await;
        end.unwrap_or_else(|_| ExecEnd::error("internal", "the executor panicked"))
    }
}

/// Puts a request into a folder of this machine; gives its end where there is none for it.
fn place(request: &mut ExecRequest, config: &WorkerConfig) -> Option<ExecEnd> {
    let folder = request.working_directory.as_ref().filter(|f| !std::path::Path::new(f).is_dir())?;
    if let Some(own) = &config.folder {
        request.working_directory = Some(own.clone());
        return None;
    }
    let message = format!(
        "the folder `{folder}` is not on this worker; put it there, or say where such jobs run with `ostler worker --folder DIR`"
    );
    Some(ExecEnd::error("spawn", message))
}

/// A job as executors take it.
fn request(job: Job) -> ExecRequest {
    ExecRequest {
        machine: job.run.machine(),
        run: Some(job.run),
        idempotency_key: job.idempotency_key,
        fence: job.fence,
        attempt: job.attempt,
        namespace: job.namespace,
        task: job.task,
        step: job.step,
        uses: job.uses,
        run_text: job.code,
        args: job.args,
        kwargs: job.kwargs,
        with: job.with,
        inputs: job.inputs,
        env: job.env,
        env_file: job.env_file,
        inherit_env: job.inherit_env,
        working_directory: job.working_directory,
        stdin: job.stdin,
        grace: Duration::from_millis(job.grace_ms),
        output_schema: job.output_schema,
        traceparent: job.traceparent,
    }
}

fn outcome(job: JobRef, end: ExecEnd, cut: Option<JobState>, lines: &Lines) -> JobOutcome {
    let masker = lines.masker();
    let ExecEnd { outcome, mut output, exit_code } = end;
    masker.mask_value(&mut output);
    let (state, error) = match outcome {
        ExecOutcome::Succeeded => (JobState::Succeeded, None),
        // Its process was killed, or its connections ended while the worker was stopped: no failure of its own.
        ExecOutcome::Failed(_) if cut == Some(JobState::Lost) => (JobState::Lost, None),
        ExecOutcome::Failed(mut error) => {
            error.message = masker.mask_text(&error.message);
            error.detail = error.detail.map(|detail| masker.mask_text(&detail));
            (JobState::Failed, Some(error))
        }
        ExecOutcome::Interrupted => (cut.unwrap_or(JobState::Lost), None),
    };
    JobOutcome { run: job.run, fence: job.fence, state, output, exit_code, error, began_ms_ago: 0 }
}

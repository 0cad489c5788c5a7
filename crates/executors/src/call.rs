//! What every executor does around its own work: puts secrets in, reads its settings, and lets nothing out that is
//! secret, too large or of the wrong shape.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ostler_execution::{
    Cancel, CancelReason, ExecContext, ExecEnd, ExecOutcome, ExecRequest, LogSink, Progress, ProgressSink,
    Stream, check_output,
};
use ostler_model::TypedError;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::logs::Masker;

/// One attempt under way.
pub(crate) struct Call {
    /// What is to be done, with the values of secrets in it: never to be shown.
    pub(crate) request: ExecRequest,
    pub(crate) cancel: Cancel,
    log: Arc<dyn LogSink>,
    progress: Arc<dyn ProgressSink>,
    masker: Mutex<Masker>,
}

impl Call {
    /// Puts the values of secrets where their handles are, and has them masked from here on.
    pub(crate) fn open(mut request: ExecRequest, context: ExecContext) -> Result<Self, TypedError> {
        let ExecContext { cancel, log, progress, secrets } = context;
        let mut masker = Masker::default();
        let mut reveal = |name: &str| -> Result<String, TypedError> {
            let value = secrets.get(name).ok_or_else(|| {
                let text = format!("there is no secret `{name}`; set OSTLER_SECRET_{name} for the node or put it into its file of secrets");
                TypedError::new("settings", text)
            })?;
            log.mask(&value);
            masker.add(&value);
            Ok(value)
        };
        request.reveal(&mut reveal)?;
        Ok(Self { request, cancel, log, progress, masker: Mutex::new(masker) })
    }

    /// The step's `with` as the executor's settings.
    pub(crate) fn settings<T: DeserializeOwned>(&self) -> Result<T, TypedError> {
        serde_json::from_value(Value::Object(self.request.with.clone())).map_err(|error| {
            TypedError::new(
                "settings",
                format!("`with` of `{}`: {}", self.request.uses, self.masked(&error.to_string())),
            )
        })
    }

    /// The folder in which the files of the step lie.
    pub(crate) fn folder(&self) -> std::path::PathBuf {
        let named = self.request.working_directory.as_ref();
        named.map_or_else(|| std::env::current_dir().unwrap_or_default(), Into::into)
    }

    /// A line of the run's log.
    pub(crate) fn line(&self, stream: Stream, line: &[u8]) {
        self.log.line(stream, line);
    }

    /// A piece of an over-long line.
    pub(crate) fn piece(&self, stream: Stream, piece: &[u8]) {
        self.log.piece(stream, piece);
    }

    /// A remark of Ostler's own.
    pub(crate) fn remark(&self, text: &str) {
        text.lines().for_each(|line| self.log.line(Stream::System, line.as_bytes()));
    }

    pub(crate) fn report(&self, mut progress: Progress) {
        progress.message = progress.message.map(|message| self.masked(&message));
        self.progress.report(progress);
    }

    /// Hides a value from here on.
    pub(crate) fn mask(&self, secret: &str) {
        self.log.mask(secret);
        self.masker().add(secret);
    }

    pub(crate) fn masked(&self, text: &str) -> String {
        self.masker().mask_text(text)
    }

    fn masker(&self) -> MutexGuard<'_, Masker> {
        self.masker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works until done or told to end; for work that can be dropped at any await.
    pub(crate) async fn unless_cancelled<T>(&self, work: impl Future<Output = T>) -> Result<T, CancelReason> {
        tokio::select! {
            biased;
            reason = self.cancel.fired() => Err(reason),
            done = work => Ok(done),
        }
    }

    /// The end as the engine gets it: outputs within their limit and as declared, secrets taken out of everything.
    pub(crate) fn close(&self, mut end: ExecEnd) -> ExecEnd {
        if end.outcome == ExecOutcome::Succeeded
            && let Err(error) = check_output(&end.output, self.request.output_schema.as_ref())
        {
            end = ExecEnd { exit_code: end.exit_code, ..ExecEnd::failed(error) };
        }
        let masker = self.masker();
        masker.mask_value(&mut end.output);
        if let ExecOutcome::Failed(error) = &mut end.outcome {
            error.message = masker.mask_text(&error.message);
            error.detail = error.detail.take().map(|detail| masker.mask_text(&detail));
        }
        end
    }
}

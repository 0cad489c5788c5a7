//! What jobs write and come to, on its way to the server: lines before the outcome, each until it was taken.

use std::{sync::Arc, time::Duration};

use ostler_api::{
    ApiError,
    workers::{JobEntries, LogsRequest, OutcomesRequest},
};

use crate::{is_given_up, job::Held, may_pass, session::Session};

/// Lines are gathered so long.
const GATHER: Duration = Duration::from_millis(100);

/// Bytes of lines in one request.
const LOG_BATCH: usize = 512 * 1024;

/// Outcomes in one request, and bytes of what they hand on.
const OUTCOMES: usize = 500;
const OUTPUT_BATCH: usize = 8 << 20;

impl Session {
    /// Sends for as long as it is asked to.
    ///
    /// # Errors
    /// The server has given the worker up, or refuses for good.
    pub(crate) async fn send(&self) -> Result<(), ApiError> {
        let mut pause = self.pause();
        loop {
            match self.send_once().await {
                Ok(true) => pause = self.pause(),
                Ok(false) => {
                    self.wake.notified().await;
                    if !self.held().iter().any(|held| held.has_ended()) {
                        tokio::time::sleep(GATHER).await;
                    }
                }
                Err(error) if may_pass(&error) => {
                    tracing::debug!(%error, "the server does not take what jobs came to");
                    pause.next().await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// One round; true when there was something to send.
    pub(crate) async fn send_once(&self) -> Result<bool, ApiError> {
        let held = self.held();
        let wrote = self.send_lines(&held).await?;
        Ok(self.send_outcomes(&held).await? || wrote)
    }

    async fn send_lines(&self, held: &[Arc<Held>]) -> Result<bool, ApiError> {
        let mut left = LOG_BATCH;
        let mut logs = Vec::new();
        let mut of = Vec::new();
        for held in held.iter().filter(|held| !held.lines.is_empty()) {
            if left == 0 {
                break;
            }
            let (first, entries, size) = held.lines.batch(left);
            left = left.saturating_sub(size);
            let (job, attempt) = (held.job, held.attempt);
            logs.push(JobEntries { run: job.run, fence: job.fence, attempt, first, entries });
            of.push(held);
        }
        if logs.is_empty() {
            return Ok(false);
        }
        match self.client.send_logs(self.node, &LogsRequest { logs }).await {
            Ok(answer) => {
                for (held, at) in of.iter().zip(answer.logs) {
                    match at.next {
                        Some(next) => held.lines.taken(next),
                        None => held.lines.forget(),
                    }
                }
            }
            Err(error) if may_pass(&error) || is_given_up(&error) => return Err(error),
            // Lines are not worth a job: the server will not take these, however often they come.
            Err(error) => {
                tracing::warn!(%error, "lines of jobs were refused and are lost");
                of.iter().for_each(|held| held.lines.forget());
            }
        }
        Ok(true)
    }

    async fn send_outcomes(&self, held: &[Arc<Held>]) -> Result<bool, ApiError> {
        let mut left = OUTPUT_BATCH;
        let mut outcomes = Vec::new();
        for held in held.iter().filter(|held| held.lines.is_empty()) {
            let Some(outcome) = held.outcome() else { continue };
            let size = outcome.output.to_string().len();
            if outcomes.len() >= OUTCOMES || (size > left && !outcomes.is_empty()) {
                break;
            }
            left = left.saturating_sub(size);
            outcomes.push(outcome);
        }
        if outcomes.is_empty() {
            return Ok(false);
        }
        let answer = self.client.send_outcomes(self.node, &OutcomesRequest { outcomes }).await?;
        for told in answer.outcomes {
            tracing::debug!(run = %told.run, fence = told.fence, result = ?told.result, "an outcome was taken");
            self.done(ostler_api::workers::JobRef { run: told.run, fence: told.fence });
        }
        Ok(true)
    }
}

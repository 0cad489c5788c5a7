//! What workers ask for (`docs/worker.md`).

use std::time::Duration;

use ostler_api::{
    ApiError,
    wire::Bounded,
    workers::{
        ClaimAnswer, ClaimRequest, HeartbeatAnswer, HeartbeatRequest, JobRef, LogsAnswer, LogsRequest,
        NewWorker, OutcomesAnswer, OutcomesRequest, ReleaseAnswer, ReleaseRequest, WorkerLeft, WorkerView,
    },
};
use reqwest::Method;

use crate::http::Client;

type Answer<T> = Result<T, ApiError>;

/// Time for an answer beyond the time it is held back on purpose.
const SLACK: Duration = Duration::from_secs(10);

/// Each is a request of the protocol; what it can answer is said on its page.
#[allow(clippy::missing_errors_doc, reason = "said in docs/worker.md")]
impl Client {
    /// Begins to work.
    pub async fn register_worker(&self, worker: &NewWorker) -> Answer<WorkerView> {
        self.post("/workers", worker).await
    }

    /// Takes jobs.
    pub async fn claim_jobs(&self, node: i64, request: &ClaimRequest) -> Answer<ClaimAnswer> {
        let wait = Duration::from_secs(request.wait.map_or(0, Bounded::get).into());
        let asked = self.request(Method::POST, &format!("/workers/{node}/claim")).timeout(wait + SLACK);
        self.ask(asked.json(request)).await
    }

    /// Says that the worker lives.
    pub async fn heartbeat(&self, node: i64, request: &HeartbeatRequest) -> Answer<HeartbeatAnswer> {
        let wait = Duration::from_secs(request.wait.map_or(0, Bounded::get).into());
        let asked = self.request(Method::POST, &format!("/workers/{node}/heartbeat")).timeout(wait + SLACK);
        self.ask(asked.json(request)).await
    }

    /// Brings back what became of jobs.
    pub async fn send_outcomes(&self, node: i64, request: &OutcomesRequest) -> Answer<OutcomesAnswer> {
        self.post(&format!("/workers/{node}/outcomes"), request).await
    }

    /// Adds to the logs of jobs.
    pub async fn send_logs(&self, node: i64, request: &LogsRequest) -> Answer<LogsAnswer> {
        self.post(&format!("/workers/{node}/logs"), request).await
    }

    /// Gives back jobs that were not begun.
    pub async fn release_jobs(&self, node: i64, jobs: Vec<JobRef>) -> Answer<ReleaseAnswer> {
        self.post(&format!("/workers/{node}/release"), &ReleaseRequest { jobs }).await
    }

    /// Leaves.
    pub async fn leave_worker(&self, node: i64) -> Answer<WorkerLeft> {
        self.ask(self.request(Method::DELETE, &format!("/workers/{node}"))).await
    }
}

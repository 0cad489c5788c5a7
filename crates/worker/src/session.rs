//! One registration of a worker: from the number it was given to its leaving, or to its being given up.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ostler_api::{
    ApiError,
    wire::Bounded,
    workers::{ClaimRequest, HeartbeatRequest, Job, JobRef, JobState, MAX_JOBS, WorkerView},
};
use ostler_client::Client;
use tokio::sync::{Notify, watch};

use crate::{Order, Pause, WorkerConfig, is_given_up, job::Held, lines::Lines, may_pass, ordered};

/// Jobs that have ended and are not acknowledged yet: with more of them nothing new is begun.
const UNSENT: usize = 500;

/// How long the last words may take after an order to end at once.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How a session ended.
pub(crate) enum Ended {
    /// The worker was told to leave and has.
    Left,
    /// The server has given it up; nothing of it runs any more.
    GivenUp,
}

/// One registration.
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) node: i64,
    /// Something may be sent.
    pub(crate) wake: Arc<Notify>,
    config: Arc<WorkerConfig>,
    view: WorkerView,
    jobs: Mutex<BTreeMap<JobRef, Arc<Held>>>,
    /// A job has ended or was taken off.
    room: Notify,
    draining: watch::Sender<bool>,
    drained: Notify,
    /// When the last heartbeat that was answered was sent, in milliseconds of this machine's clock.
    heard: AtomicU64,
}

impl Session {
    pub(crate) fn new(client: Client, config: Arc<WorkerConfig>, view: WorkerView) -> Arc<Self> {
        let heard = AtomicU64::new(as_millis(config.clock.elapsed()));
        Arc::new(Self {
            client,
            node: view.node,
            wake: Arc::default(),
            config,
            view,
            jobs: Mutex::default(),
            room: Notify::new(),
            draining: watch::channel(false).0,
            drained: Notify::new(),
            heard,
        })
    }

    /// Works until told to leave.
    ///
    /// # Errors
    /// The server refuses for good.
    pub(crate) async fn run(self: Arc<Self>, mut orders: watch::Receiver<Order>) -> Result<Ended, ApiError> {
        let talk = async {
            tokio::select! {
                ended = self.claim() => ended,
                ended = self.heartbeats() => ended,
                ended = self.send() => ended,
                () = self.watch_lease() => Ok(()),
                () = self.follow(orders.clone()) => Ok(()),
                // All it had is done, and it is not to get more.
                () = self.until_drained() => Ok(()),
            }
        };
        let ended = talk.await;
        match ended {
            Ok(()) => {
                self.leave().await;
                Ok(Ended::Left)
            }
            Err(error) => {
                self.cut_all(JobState::Lost, true);
                let all_ended = async {
                    while self.held().iter().any(|held| !held.has_ended()) {
                        self.room.notified().await;
                    }
                };
                tokio::select! {
                    () = all_ended => {}
                    () = ordered(&mut orders, Order::Kill) => {}
                }
                if is_given_up(&error) { Ok(Ended::GivenUp) } else { Err(error) }
            }
        }
    }

    /// Every job that it has.
    pub(crate) fn held(&self) -> Vec<Arc<Held>> {
        self.lock().values().cloned().collect()
    }

    /// The server has the outcome of a job, or does not want it.
    pub(crate) fn done(&self, job: JobRef) {
        self.lock().remove(&job);
        self.room.notify_one();
        self.drained.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<JobRef, Arc<Held>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pauses by which a server that is back is found well within the lease.
    pub(crate) fn pause(&self) -> Pause {
        Pause::up_to(Duration::from_millis(self.view.heartbeat_ms) / 2)
    }

    fn refs(&self) -> Vec<JobRef> {
        self.lock().keys().copied().collect()
    }

    /// How many jobs may be begun.
    fn room(&self) -> u32 {
        let jobs = self.lock();
        let ended = jobs.values().filter(|held| held.has_ended()).count();
        let running = jobs.len() - ended;
        if ended >= UNSENT || jobs.len() >= MAX_JOBS {
            return 0;
        }
        let free = (self.config.slots as usize).saturating_sub(running);
        u32::try_from(free.min(MAX_JOBS - jobs.len())).unwrap_or(0)
    }

    /// Asks for jobs, one request after the other.
    async fn claim(self: &Arc<Self>) -> Result<(), ApiError> {
        let mut pause = self.pause();
        loop {
            if self.is_draining() {
                std::future::pending::<()>().await;
            }
            let want = self.room();
            if want == 0 {
                self.room.notified().await;
                continue;
            }
            let request = ClaimRequest {
                want: Some(Bounded(want)),
                wait: Some(Bounded(self.view.max_wait)),
                holds: self.refs(),
            };
            let asked = tokio::select! {
                asked = self.client.claim_jobs(self.node, &request) => asked,
                () = self.until_draining() => continue,
            };
            match asked {
                // Given before this process was stopped: they may be others' by now. If not, they are given again.
                Ok(_) if self.is_silent() => pause.next().await,
                Ok(answer) => {
                    pause = self.pause();
                    if answer.drain {
                        self.drain();
                    }
                    answer.jobs.into_iter().for_each(|job| self.begin(job));
                }
                Err(error) if may_pass(&error) => {
                    tracing::debug!(%error, "no jobs from the server for now");
                    pause.next().await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Begins a job, unless it is one that it has: an answer that was lost is given again.
    fn begin(self: &Arc<Self>, job: Job) {
        let named = JobRef { run: job.run, fence: job.fence };
        let lines = Arc::new(Lines::new(&job.mask, self.config.clock.clone(), self.wake.clone()));
        let held = Arc::new(Held::new(&job, lines, self.config.clock.clone()));
        {
            let mut jobs = self.lock();
            if jobs.contains_key(&named) {
                return;
            }
            jobs.insert(named, held.clone());
        }
        tracing::debug!(?job, "a job begins");
        let session = self.clone();
        tokio::spawn(async move {
            held.carry_out(job, &session.config, || session.is_silent()).await;
            session.wake.notify_one();
            session.room.notify_one();
        });
    }

    /// Says that it lives and hears which jobs are to end. An answer is held back until there is news, so that a
    /// cancellation comes at once; half an interval at most, so that two that are late do not cost the lease.
    async fn heartbeats(&self) -> Result<(), ApiError> {
        let half = Duration::from_millis(self.view.heartbeat_ms) / 2;
        let wait = u32::try_from(half.as_secs()).unwrap_or(0).min(self.view.max_wait);
        let mut pause = self.pause();
        loop {
            let cancelled = self.held().iter().filter(|h| h.is_cancelled()).map(|h| h.job).collect();
            let request = HeartbeatRequest {
                wait: Some(Bounded(wait)),
                holds: self.refs(),
                cancelled,
                draining: self.is_draining(),
            };
            let sent = as_millis(self.config.clock.elapsed());
            match self.client.heartbeat(self.node, &request).await {
                Ok(news) => {
                    pause = self.pause();
                    if self.is_silent() {
                        // While this process was stopped its work was ended in its stead.
                        self.cut_all(JobState::Lost, true);
                    }
                    self.keep_until(sent);
                    self.heard.fetch_max(sent, Ordering::Release);
                    let held: BTreeMap<JobRef, Arc<Held>> = self.lock().clone();
                    for cancel in &news.cancel {
                        if let Some(held) = held.get(&JobRef { run: cancel.run, fence: cancel.fence }) {
                            tracing::info!(run = %cancel.run, reason = %cancel.reason, "a job is to end");
                            held.cut(JobState::Cancelled, false);
                        }
                    }
                    // One whose outcome was taken just now is not lost; it is gone from the list by now.
                    for held in news.lost.iter().filter_map(|job| held.get(job)).filter(|h| !h.has_ended()) {
                        tracing::warn!(run = %held.job.run, "a job is not this worker's any more");
                        held.cut(JobState::Lost, true);
                    }
                    if news.drain {
                        self.drain();
                    }
                    if wait == 0 {
                        tokio::time::sleep(half).await;
                    }
                }
                Err(error) if may_pass(&error) => {
                    tracing::debug!(%error, "a heartbeat was not answered");
                    pause.next().await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// How long after a heartbeat what runs may go on, in milliseconds.
    fn limit(&self) -> u64 {
        self.view.lease_ms / 4 * 3
    }

    /// Whether no heartbeat was answered for so long that what runs is to end, or was ended while this process was stopped.
    fn is_silent(&self) -> bool {
        self.since_heard() > self.limit()
    }

    /// How long ago the last heartbeat that was answered was sent, in milliseconds.
    fn since_heard(&self) -> u64 {
        as_millis(self.config.clock.elapsed()).saturating_sub(self.heard.load(Ordering::Acquire))
    }

    /// What runs may go on for so long after a heartbeat that was sent then, should this process be stopped: it ends them
    /// before that itself, and then knows why.
    fn keep_until(&self, sent: u64) {
        let until = Duration::from_millis(sent + self.view.lease_ms / 10 * 9);
        self.config.executors.all().for_each(|executor| executor.keep_until(until));
    }

    /// Ends what runs when no heartbeat was answered for three quarters of the lease: others may begin it again.
    async fn watch_lease(&self) {
        let limit = self.limit();
        self.keep_until(self.heard.load(Ordering::Acquire));
        loop {
            let since = self.since_heard();
            if since > limit {
                let running = self.held().iter().filter(|held| !held.has_ended()).count();
                if running > 0 {
                    tracing::warn!(
                        jobs = running,
                        "the server was not heard of for too long: ending what runs"
                    );
                    self.cut_all(JobState::Lost, true);
                }
                tokio::time::sleep(Duration::from_millis(limit / 4)).await;
            } else {
                tokio::time::sleep(Duration::from_millis((limit - since).min(limit / 4) + 1)).await;
            }
        }
    }

    /// Does what it is told; returns when there is no time left for the rest.
    async fn follow(&self, mut orders: watch::Receiver<Order>) {
        ordered(&mut orders, Order::Drain).await;
        self.drain();
        ordered(&mut orders, Order::Interrupt).await;
        self.cut_all(JobState::Lost, false);
        ordered(&mut orders, Order::Kill).await;
        self.cut_all(JobState::Lost, true);
        tokio::time::sleep(LAST_WORDS).await;
    }

    fn cut_all(&self, why: JobState, at_once: bool) {
        self.held().iter().filter(|held| !held.has_ended()).for_each(|held| held.cut(why, at_once));
    }

    fn drain(&self) {
        self.draining.send_replace(true);
        self.drained.notify_one();
    }

    fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    async fn until_draining(&self) {
        let _ = self.draining.subscribe().wait_for(|draining| *draining).await;
    }

    async fn until_drained(&self) {
        while !(self.is_draining() && self.lock().is_empty()) {
            self.drained.notified().await;
        }
    }

    /// Gives back what came on the way out, and goes.
    async fn leave(&self) {
        let request = ClaimRequest { want: Some(Bounded(0)), wait: None, holds: self.refs() };
        let left = async {
            // An answer that was on its way when the worker stopped to ask.
            let jobs = self.client.claim_jobs(self.node, &request).await?.jobs;
            if !jobs.is_empty() {
                let jobs = jobs.iter().map(|job| JobRef { run: job.run, fence: job.fence }).collect();
                self.client.release_jobs(self.node, jobs).await?;
            }
            self.client.leave_worker(self.node).await.map(drop)
        };
        if let Err(error) = left.await {
            tracing::warn!(%error, "the server was not told that this worker leaves");
        }
    }
}

fn as_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

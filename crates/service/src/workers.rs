//! Workers: jobs for programs elsewhere, and what became of them.
//!
//! A worker is a node of the store. Nothing is remembered of it here between two requests, so any server on the store may
//! answer each of them: what it holds are its claims, and what has been committed for it is in the history of the run.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use ostler_api::workers::{
    CancelJob, ClaimAnswer, ClaimRequest, HeartbeatAnswer, HeartbeatRequest, Job, JobOutcome, JobRef,
    JobState, MAX_JOBS, NewWorker, OutcomeAnswer, OutcomeResult, WorkerLeft, WorkerView,
};
use ostler_engine::{Decision, Execution, Input, Notice, Ticker, Work, commit, time::micros};
use ostler_execution::{CancelReason, ExecEnd, ExecOutcome, ExecRequest, Secrets, check_output};
use ostler_model::{MachineId, Span, TypedError};
use ostler_store::{
    Claim, Claimed, Command, Commit, CommitOutcome, Letter, NewNode, Next, NodeId, NodeRow, Reply, StoreError,
};

use crate::{Actor, Service, ServiceError, Verb, retention::unexpected};

/// Transitions of a run among which the end of an attempt is looked for.
const HISTORY: u32 = 200;

/// What workers ask for.
#[derive(Clone)]
pub struct Workers {
    service: Service,
    ticker: Arc<Ticker>,
    secrets: Arc<dyn Secrets>,
    observer: Arc<dyn Fn(&Notice) + Send + Sync>,
    lease: Span,
}

impl Workers {
    /// The workers of a store. `lease`: a worker that is not heard of for so long is given up. `observer` is told what
    /// happens to their jobs.
    #[must_use]
    pub fn new(
        service: Service,
        ticker: Arc<Ticker>,
        secrets: Arc<dyn Secrets>,
        observer: Arc<dyn Fn(&Notice) + Send + Sync>,
        lease: Span,
    ) -> Self {
        Self { service, ticker, secrets, observer, lease }
    }

    /// Registers a worker for whoever asks.
    ///
    /// # Errors
    /// The actor may not, or the name is none.
    pub fn register(&self, actor: &Actor, worker: NewWorker) -> Result<WorkerView, ServiceError> {
        self.service.authorise(actor, Verb::Work, None)?;
        let length = worker.name.chars().count();
        if !(1..=200).contains(&length) {
            return Err(ServiceError::BadInput(format!("`name` has {length} characters, not 1 to 200")));
        }
        if worker.only_labelled && worker.labels.is_empty() {
            let words = "`only_labelled` needs `labels`: this worker would never get a job";
            return Err(ServiceError::BadInput(words.into()));
        }
        let node = NewNode {
            name: worker.name,
            owner: false,
            labels: worker.labels.iter().map(ToString::to_string).collect(),
            only_labelled: worker.only_labelled,
            slots: worker.slots,
            worker: Some(actor.to_string()),
        };
        let node = match self.service.write(Command::Register(node))? {
            Reply::Node(node) => node,
            other => return Err(unexpected(&other)),
        };
        let lease = self.lease.as_duration();
        let heartbeat = lease / 3;
        Ok(WorkerView {
            node: node.0,
            lease_ms: as_millis(lease),
            heartbeat_ms: as_millis(heartbeat),
            max_wait: u32::try_from(heartbeat.as_secs()).unwrap_or(1).clamp(1, ostler_api::wire::MAX_WAIT_S),
        })
    }

    /// Jobs that are there now: first those that the worker was given and does not have.
    ///
    /// # Errors
    /// The actor does not speak for the worker, or it has been given up.
    pub fn claim(
        &self,
        actor: &Actor,
        node: i64,
        request: &ClaimRequest,
    ) -> Result<ClaimAnswer, ServiceError> {
        let row = self.speaks(actor, node)?;
        let node = row.node;
        bounded("holds", request.holds.len())?;
        let want = request.want.map_or(1, ostler_api::wire::Bounded::get) as usize;
        let known: BTreeSet<_> = request.holds.iter().filter_map(|job| self.claim_of(job)).collect();
        let mut rows = Vec::new();
        let mut again = 0;
        for (id, fence) in self.service.read(|q| q.claims(node))? {
            // However many are wanted: they were wanted when they were given.
            if rows.len() < MAX_JOBS && !known.contains(&(id, fence)) {
                rows.extend(self.service.read(|q| q.claimed(node, id))?);
                again = rows.len();
            }
        }
        if !row.draining && rows.len() < want {
            let want = u32::try_from(want - rows.len()).unwrap_or(u32::MAX);
            let (labels, only_labelled) = (row.labels, row.only_labelled);
            let claim = Claim { node, want, light: 0, shared: true, labels, only_labelled };
            match self.write(node, Command::Claim(claim))? {
                Reply::Claimed(claimed) => rows.extend(claimed),
                other => return Err(unexpected(&other)),
            }
        }
        let mut jobs = Vec::new();
        let mut commits = Vec::new();
        for (at, row) in rows.into_iter().enumerate() {
            match self.ticker.tick(self.service.now(), &row, Input::Due) {
                Decision::Execute(work) => match self.job(*work) {
                    Ok(job) => {
                        if at >= again {
                            self.tell_begun(&row, &job);
                        }
                        jobs.push(job);
                    }
                    Err(error) => commits.push((whose(&row), self.ended(node, &row, ExecEnd::failed(error)))),
                },
                Decision::Commit(change) => commits.push((whose(&row), commit(node, &row, *change))),
            }
        }
        self.commit(commits)?;
        Ok(ClaimAnswer { jobs, drain: row.draining })
    }

    /// Takes in what became of jobs. What is sent again is answered again.
    ///
    /// # Errors
    /// The actor does not speak for the worker.
    pub fn outcomes(
        &self,
        actor: &Actor,
        node: i64,
        outcomes: Vec<JobOutcome>,
    ) -> Result<Vec<OutcomeAnswer>, ServiceError> {
        let node = self.known(actor, node)?.node;
        bounded("outcomes", outcomes.len())?;
        let jobs: Vec<JobRef> = outcomes.iter().map(|o| JobRef { run: o.run, fence: o.fence }).collect();
        let mut commits: Vec<(Whose, Commit)> = Vec::new();
        for outcome in outcomes {
            let Some((id, fence)) = self.claim_of(&JobRef { run: outcome.run, fence: outcome.fence }) else {
                continue;
            };
            let row = self.service.read(|q| q.claimed(node, id))?.filter(|row| row.fence == fence);
            let is_new = !commits.iter().any(|(_, commit)| commit.id == id);
            if let Some(row) = row.filter(|_| is_new) {
                let whose = whose(&row);
                commits.push((whose, self.outcome(node, row, outcome)));
            }
        }
        let mut committed = HashMap::new();
        for (id, fence, is_written) in self.commit(commits)? {
            committed.insert((id, fence), is_written);
        }
        let told = jobs.into_iter().map(|job| {
            let result = match self.claim_of(&job) {
                None => OutcomeResult::Unknown,
                Some(claim) if committed.get(&claim) == Some(&true) => OutcomeResult::Committed,
                Some(claim) => self.earlier(node, claim)?,
            };
            Ok(OutcomeAnswer { run: job.run, fence: job.fence, result })
        });
        told.collect()
    }

    /// The worker lives.
    ///
    /// # Errors
    /// The actor does not speak for the worker, or it has been given up.
    pub fn renew(&self, actor: &Actor, node: i64) -> Result<(), ServiceError> {
        let node = self.speaks(actor, node)?.node;
        self.write(node, Command::Renew { node, waited: 0 }).map(drop)
    }

    /// Writes for a worker, which may have been given up since it was looked at.
    fn write(&self, node: NodeId, command: Command) -> Result<Reply, ServiceError> {
        self.service.write(command).map_err(|error| match error {
            ServiceError::Store(StoreError::NodeClosed(_)) => gone(node.0),
            other => other,
        })
    }

    /// What the worker should know.
    ///
    /// # Errors
    /// The actor does not speak for the worker, or it has been given up.
    pub fn news(
        &self,
        actor: &Actor,
        node: i64,
        request: &HeartbeatRequest,
    ) -> Result<HeartbeatAnswer, ServiceError> {
        let row = self.speaks(actor, node)?;
        bounded("holds", request.holds.len())?;
        let held: HashMap<_, _> = self.service.read(|q| q.claims(row.node))?.into_iter().collect();
        let is_held = |job: &&JobRef| {
            self.claim_of(job).is_some_and(|(id, fence)| held.get(&id).is_some_and(|known| *known == fence))
        };
        let lost = request.holds.iter().filter(|job| !is_held(job)).copied().collect();
        let mut cancel = Vec::new();
        for (id, letters) in self.service.read(|q| q.claimed_with_mail(row.node))? {
            let reason = letters.into_iter().find_map(|letter| match letter {
                Letter::Cancel { reason } => Some(reason),
                _ => None,
            });
            if let (Some(reason), Some(fence)) = (reason, held.get(&id)) {
                let job = JobRef { run: self.service.uid(id), fence: *fence };
                if request.holds.contains(&job) && !request.cancelled.contains(&job) {
                    cancel.push(CancelJob { run: job.run, fence: job.fence, reason });
                }
            }
        }
        Ok(HeartbeatAnswer { cancel, lost, drain: row.draining })
    }

    /// Which of these jobs the worker has.
    ///
    /// # Errors
    /// The actor does not speak for the worker, or it has been given up.
    pub fn held(&self, actor: &Actor, node: i64, jobs: &[JobRef]) -> Result<Vec<bool>, ServiceError> {
        let node = self.speaks(actor, node)?.node;
        let held: BTreeSet<_> = self.service.read(|q| q.claims(node))?.into_iter().collect();
        Ok(jobs.iter().map(|job| self.claim_of(job).is_some_and(|claim| held.contains(&claim))).collect())
    }

    /// Gives back jobs that were not begun; gives those that the worker had.
    ///
    /// # Errors
    /// The actor does not speak for the worker, or it has been given up.
    pub fn release(&self, actor: &Actor, node: i64, jobs: &[JobRef]) -> Result<Vec<JobRef>, ServiceError> {
        bounded("jobs", jobs.len())?;
        let held = self.held(actor, node, jobs)?;
        let jobs: Vec<JobRef> =
            jobs.iter().zip(held).filter(|(_, held)| *held).map(|(job, _)| *job).collect();
        let machines: Vec<_> = jobs.iter().filter_map(|job| self.claim_of(job)).collect();
        if !machines.is_empty() {
            self.service.write(Command::Release { node: NodeId(node), machines })?;
            self.service.wake();
        }
        Ok(jobs)
    }

    /// The worker leaves. What it still has counts as lost.
    ///
    /// # Errors
    /// The actor does not speak for the worker.
    pub fn leave(&self, actor: &Actor, node: i64) -> Result<WorkerLeft, ServiceError> {
        let node = self.known(actor, node)?.node;
        match self.service.write(Command::Close { node })? {
            Reply::Rescued(rescued) => {
                self.service.wake();
                Ok(WorkerLeft { lost: rescued.lost })
            }
            other => Err(unexpected(&other)),
        }
    }

    /// The worker gets nothing more and leaves when it has done what it has.
    ///
    /// # Errors
    /// There is no such worker, or it has gone.
    pub fn drain(&self, actor: &Actor, node: i64) -> Result<(), ServiceError> {
        self.service.authorise(actor, Verb::Activate, None)?;
        let row = self.service.read(|q| q.node(NodeId(node)))?.filter(|row| row.worker.is_some());
        let Some(row) = row else { return Err(no_worker(node)) };
        if row.closed {
            return Err(gone(node));
        }
        self.write(row.node, Command::Drain { node: row.node }).map(drop)
    }

    /// The row of a worker for which the actor speaks.
    fn known(&self, actor: &Actor, node: i64) -> Result<NodeRow, ServiceError> {
        self.service.authorise(actor, Verb::Work, None)?;
        let row = self.service.read(|q| q.node(NodeId(node)))?;
        match row.as_ref().and_then(|row| row.worker.as_deref()) {
            None => Err(no_worker(node)),
            Some(own) if own == actor.to_string() => row.ok_or_else(|| no_worker(node)),
            Some(_) => Err(ServiceError::Denied(format!(
                "worker {node} was registered by another; {actor} does not speak for it"
            ))),
        }
    }

    fn speaks(&self, actor: &Actor, node: i64) -> Result<NodeRow, ServiceError> {
        let row = self.known(actor, node)?;
        if row.closed { Err(gone(node)) } else { Ok(row) }
    }

    fn claim_of(&self, job: &JobRef) -> Option<(MachineId, u64)> {
        Some((self.service.machine_of(job.run).ok()?, job.fence))
    }

    /// A job of what a run asks to be carried out.
    fn job(&self, work: Work) -> Result<Job, TypedError> {
        let Work { mut request, stop_at } = work;
        let mut mask = BTreeSet::new();
        request.reveal(|name| {
            let value = self.secrets.get(name).ok_or_else(|| {
                let text = format!("there is no secret `{name}`; set OSTLER_SECRET_{name} for the server or put it into its file of secrets");
                TypedError::new("settings", text)
            })?;
            mask.insert(value.clone());
            Ok::<_, TypedError>(value)
        })?;
        let stop_in = stop_at
            .map(|at| Duration::try_from(at.duration_since(self.service.now())).unwrap_or(Duration::ZERO));
        let ExecRequest {
            machine,
            run: _,
            idempotency_key,
            fence,
            attempt,
            namespace,
            task,
            step,
            uses,
            run_text,
            args,
            kwargs,
            with,
            inputs,
            env,
            env_file,
            inherit_env,
            working_directory,
            stdin,
            grace,
            output_schema,
            traceparent,
        } = request;
        Ok(Job {
            run: self.service.uid(machine),
            fence,
            attempt,
            idempotency_key,
            namespace,
            task,
            step,
            uses,
            code: run_text,
            args,
            kwargs,
            with,
            inputs,
            env,
            env_file,
            inherit_env,
            working_directory,
            stdin,
            grace_ms: as_millis(grace),
            stop_in_ms: stop_in.map(as_millis),
            output_schema,
            traceparent,
            mask: mask.into_iter().filter(|value| !value.is_empty()).collect(),
        })
    }

    fn ended(&self, node: NodeId, row: &Claimed, end: ExecEnd) -> Commit {
        let now = self.service.now();
        let execution = Execution { end, interrupted: None, reason: None, started: now };
        self.ticker.executed(now, node, row, &execution)
    }

    /// The commit that an outcome is.
    fn outcome(&self, node: NodeId, mut row: Claimed, outcome: JobOutcome) -> Commit {
        let now = self.service.now();
        let began = Duration::from_millis(outcome.began_ms_ago).min(Duration::from_secs(366 * 86_400));
        let cancel = row.mail.iter().position(|(_, letter)| matches!(letter, Letter::Cancel { .. }));
        let mut execution = Execution {
            started: now.checked_sub(began).unwrap_or(now),
            end: ExecEnd { output: outcome.output, exit_code: outcome.exit_code, ..ExecEnd::interrupted() },
            interrupted: None,
            reason: None,
        };
        match (outcome.state, cancel) {
            (JobState::Succeeded, _) => {
                execution.end.outcome = match self.check(&row, &execution.end) {
                    Ok(()) => ExecOutcome::Succeeded,
                    Err(error) => ExecOutcome::Failed(error),
                };
            }
            (JobState::Failed, _) => {
                let error =
                    outcome.error.unwrap_or_else(|| TypedError::new("failed", "its worker says no more"));
                execution.end.outcome = ExecOutcome::Failed(error);
            }
            (JobState::TimedOut, _) => execution.interrupted = Some(CancelReason::TimedOut),
            (JobState::Cancelled, Some(at)) => {
                execution.interrupted = Some(CancelReason::Cancelled);
                if let Some((_, Letter::Cancel { reason })) = row.mail.get(at) {
                    execution.reason = Some(reason.clone());
                }
            }
            // Nobody has asked for it, or the letter has gone: nothing but the worker's word says that it was.
            (JobState::Cancelled, None) | (JobState::Lost, _) => {
                execution.interrupted = Some(CancelReason::Shutdown);
            }
        }
        if let (Some(at), true) = (cancel, execution.interrupted != Some(CancelReason::Cancelled)) {
            // It is not answered by this end and stays unread.
            row.mail.truncate(at);
        }
        let mut commit = self.ticker.executed(now, node, &row, &execution);
        mark(&mut commit);
        commit
    }

    /// What a step hands on must be as it declares, whoever has carried it out.
    fn check(&self, row: &Claimed, end: &ExecEnd) -> Result<(), TypedError> {
        let task = self.ticker.tasks.task(row.definition);
        let declared = task.as_ref().and_then(|task| {
            let step = row.child_key.as_deref().and_then(|key| task.step(key)).or(task.def.steps.first())?;
            step.outputs.as_ref()
        });
        check_output(&end.output, declared)
    }

    /// What became of an outcome whose claim is not there any more.
    fn earlier(&self, node: NodeId, (id, fence): (MachineId, u64)) -> Result<OutcomeResult, ServiceError> {
        if self.service.read(|q| q.machine(id))?.is_none() {
            return Ok(OutcomeResult::Unknown);
        }
        let history = self.service.read(|q| q.history(id, HISTORY))?;
        let is_his = |body: &str| {
            let body: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
            body["node"] == node.0 && body["fence"] == fence
        };
        let found = history.iter().any(|event| is_his(&event.body));
        Ok(if found { OutcomeResult::Committed } else { OutcomeResult::Stale })
    }

    /// Commits; says of each claim whether it counted.
    fn commit(&self, commits: Vec<(Whose, Commit)>) -> Result<Vec<(MachineId, u64, bool)>, ServiceError> {
        if commits.is_empty() {
            return Ok(Vec::new());
        }
        let (whose, commits): (Vec<_>, Vec<_>) = commits.into_iter().unzip();
        let cancels =
            commits.iter().any(|c| c.send.iter().any(|(_, letter)| matches!(letter, Letter::Cancel { .. })));
        let outcomes = match self.service.write(Command::Commit(commits.clone()))? {
            Reply::Committed(outcomes) => outcomes,
            other => return Err(unexpected(&other)),
        };
        let mut told = Vec::with_capacity(commits.len());
        for ((commit, (namespace, parent)), outcome) in commits.into_iter().zip(whose).zip(outcomes) {
            let is_written = matches!(outcome, CommitOutcome::Committed { .. });
            told.push((commit.id, commit.fence, is_written));
            (self.observer)(&match is_written {
                true => Notice::Committed {
                    id: commit.id,
                    namespace,
                    parent,
                    ended: match commit.next {
                        Next::End { state } => Some(state),
                        Next::Stay { .. } => None,
                    },
                    event: commit.event.kind,
                    body: commit.event.body,
                },
                false => Notice::Stale { id: commit.id },
            });
        }
        self.service.wake();
        if cancels && let Some(node) = &self.service.node {
            node.check_mail();
        }
        Ok(told)
    }

    fn tell_begun(&self, row: &Claimed, job: &Job) {
        let late = micros(self.service.now()).saturating_sub(row.due_at).max(0);
        (self.observer)(&Notice::Executing {
            id: row.id,
            parent: row.parent,
            attempt: job.attempt,
            task: job.task.clone(),
            step: job.step.clone(),
            lag: Duration::from_micros(late.unsigned_abs()),
            namespace: row.namespace.clone(),
        });
    }
}

/// What onlookers are told of a machine beside its commit: its namespace, and what it is a part of.
type Whose = (Arc<str>, Option<MachineId>);

fn whose(row: &Claimed) -> Whose {
    (row.namespace.clone(), row.parent)
}

/// Says in the event of a commit whose claim it ends, so that the same outcome is known when it comes again.
fn mark(commit: &mut Commit) {
    let mut body: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&commit.event.body).unwrap_or_default();
    body.insert("node".into(), commit.node.0.into());
    body.insert("fence".into(), commit.fence.into());
    commit.event.body = serde_json::Value::Object(body).to_string();
}

fn bounded(field: &str, count: usize) -> Result<(), ServiceError> {
    if count <= MAX_JOBS {
        return Ok(());
    }
    Err(ServiceError::BadInput(format!(
        "`{field}` has {count} jobs; at most {MAX_JOBS} are taken in one request"
    )))
}

fn no_worker(node: i64) -> ServiceError {
    ServiceError::NotFound(format!("there is no worker {node}; register (`POST /api/v1/workers`)"))
}

fn gone(node: i64) -> ServiceError {
    ServiceError::Gone(format!(
        "worker {node} has left or was not heard of for too long, and others have what it held; end what it runs and register again"
    ))
}

fn as_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

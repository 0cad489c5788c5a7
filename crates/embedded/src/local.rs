//! Everything a face can ask for, answered by the use cases on the store of this process.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ostler_api::{
    Accepted, Answered, Api, ApiError, BulkFilter, CancelReport, CreatedToken, DefinitionsAt, DefinitionsBy,
    Diff, EventsPage, Explanation, FireRequest, Held, ListPage, LogPage, LogRequest, NamespaceView,
    NamespacesBy, NewToken, NodeView, PageRequest, PresetView, PruneReport, PushReport, RerunRequest,
    RetentionPolicy, RetryReport, RunQuery, RunView, RunsBy, ScheduleView, SchedulesBy, ServerInfo,
    SignalRequest, SinkReset, SinkView, Sort, StartRequest, Started, StatsView, TaskRef, TaskView, TokenView,
    TokensBy, TransitionView, TriggerView, TriggersBy, Verdict, Weight,
};
use ostler_clock::SeededEntropy;
use ostler_executors::RunLogs;
use ostler_model::{Uid, definition::Timetable};
use ostler_service::{Actor, Service};

use crate::{Place, WorkerLogs};

type Answer<T> = Result<T, ApiError>;

/// Runs whose history one prune takes.
const PRUNE_BATCH: u32 = 2000;

/// How often an answer that is held back looks whether there is something to say.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The use cases as one actor.
#[derive(Clone)]
pub struct Local {
    pub(crate) service: Service,
    pub(crate) logs: Arc<RunLogs>,
    pub(crate) actor: Actor,
    place: Place,
}

impl Local {
    /// The use cases as one actor, with the logs of the runs.
    #[must_use]
    pub fn new(service: Service, logs: Arc<RunLogs>, actor: Actor, place: Place) -> Self {
        Self { service, logs, actor, place }
    }

    /// The same as somebody else.
    #[must_use]
    pub fn as_actor(&self, actor: Actor) -> Self {
        Self { actor, ..self.clone() }
    }

    /// Who asks.
    #[must_use]
    pub fn actor(&self) -> &Actor {
        &self.actor
    }

    /// What writes the logs of jobs that workers carry out.
    #[must_use]
    pub fn worker_logs(&self) -> WorkerLogs {
        WorkerLogs::new(self.logs.clone())
    }

    /// The use cases.
    #[must_use]
    pub fn service(&self) -> &Service {
        &self.service
    }
}

/// Asks again and again until the answer is worth giving or the time is up.
pub(crate) fn held_back<T>(
    wait: Duration,
    mut ask: impl FnMut() -> Answer<T>,
    worth: impl Fn(&T) -> bool,
) -> Answer<T> {
    let start = elapsed();
    loop {
        let answer = ask()?;
        if worth(&answer) || start.elapsed() >= wait {
            return Ok(answer);
        }
        std::thread::sleep(LOOK_EVERY.min(wait));
    }
}

#[expect(clippy::disallowed_methods, reason = "how long a caller is kept waiting is no engine's time")]
fn elapsed() -> Instant {
    Instant::now()
}

impl Api for Local {
    fn info(&self) -> Answer<ServerInfo> {
        Ok(ServerInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            now: self.service.now(),
            actor: self.actor.to_string(),
            owner: match self.place {
                Place::Postgres(_) => {
                    let nodes = self.service.nodes(&self.actor)?;
                    nodes.into_iter().find(|node| node.owner && !node.closed).map(|node| node.name)
                }
                _ => ostler_store_sqlite::OwnerLock::owner_of(self.place.beside("").as_deref()),
            },
        })
    }

    fn stats(&self) -> Answer<StatsView> {
        let mut stats = self.service.stats(&self.actor)?;
        stats.log_bytes = self.logs.total_bytes();
        Ok(stats)
    }

    fn nodes(&self) -> Answer<Vec<NodeView>> {
        Ok(self.service.nodes(&self.actor)?)
    }

    fn namespaces(&self, page: &PageRequest<NamespacesBy>) -> Answer<ListPage<NamespaceView>> {
        Ok(self.service.namespaces(&self.actor, page)?)
    }

    fn resolve_namespace(&self, text: &str) -> Answer<String> {
        Ok(self.service.resolve_namespace(&self.actor, text)?)
    }

    fn resolve_task(&self, text: &str) -> Answer<TaskRef> {
        let (namespace, task) = self.service.resolve_task(&self.actor, text)?;
        Ok(TaskRef { namespace, task })
    }

    fn tasks(
        &self,
        namespace: Option<&str>,
        page: &PageRequest<DefinitionsBy>,
    ) -> Answer<ListPage<TaskView>> {
        Ok(self.service.tasks(&self.actor, namespace, page)?)
    }

    fn task(&self, task: &TaskRef) -> Answer<TaskView> {
        Ok(self.service.task(&self.actor, &task.namespace, &task.task)?)
    }

    fn delete_task(&self, task: &TaskRef, expected: Option<&str>) -> Answer<TaskView> {
        Ok(self.service.delete_task(&self.actor, &task.namespace, &task.task, expected)?)
    }

    fn presets(
        &self,
        namespace: Option<&str>,
        page: &PageRequest<DefinitionsBy>,
    ) -> Answer<ListPage<PresetView>> {
        Ok(self.service.presets(&self.actor, namespace, page)?)
    }

    fn schedules(
        &self,
        task: Option<&TaskRef>,
        page: &PageRequest<SchedulesBy>,
    ) -> Answer<ListPage<ScheduleView>> {
        let task = task.map(|t| (t.namespace.clone(), t.task.clone()));
        Ok(self.service.schedules(&self.actor, task.as_ref(), page)?)
    }

    fn triggers(
        &self,
        task: Option<&TaskRef>,
        page: &PageRequest<TriggersBy>,
    ) -> Answer<ListPage<TriggerView>> {
        let task = task.map(|t| (t.namespace.clone(), t.task.clone()));
        Ok(self.service.triggers(&self.actor, task.as_ref(), page)?)
    }

    fn fire(&self, task: &TaskRef, trigger: &str, request: &FireRequest) -> Answer<Accepted> {
        Ok(self.service.fire(&self.actor, (&task.namespace, &task.task, trigger), request.clone())?)
    }

    fn sinks(
        &self,
        namespace: Option<&str>,
        page: &PageRequest<DefinitionsBy>,
    ) -> Answer<ListPage<SinkView>> {
        Ok(self.service.sinks(&self.actor, namespace, page)?)
    }

    fn hold_sink(&self, namespace: &str, sink: &str, on: bool) -> Answer<SinkView> {
        Ok(self.service.hold_sink(&self.actor, namespace, sink, on)?)
    }

    fn reset_sink(&self, namespace: &str, sink: &str, request: &SinkReset) -> Answer<SinkView> {
        Ok(self.service.reset_sink(&self.actor, namespace, sink, request)?)
    }

    fn hold_namespace(&self, namespace: &str, on: bool) -> Answer<Held> {
        let touched = self.service.hold(&self.actor, namespace, None, on)?;
        Ok(Held { paused: on, touched })
    }

    fn weigh_namespace(&self, namespace: &str, weight: Weight) -> Answer<Weight> {
        Ok(self.service.weigh(&self.actor, namespace, weight)?)
    }

    fn hold_task(&self, task: &TaskRef, on: bool) -> Answer<Held> {
        let touched = self.service.hold(&self.actor, &task.namespace, Some(&task.task), on)?;
        Ok(Held { paused: on, touched })
    }

    fn hold_schedule(&self, task: &TaskRef, schedule: Option<&str>, on: bool) -> Answer<Held> {
        let task = (task.namespace.clone(), task.task.clone());
        let touched = self.service.hold_schedule(&self.actor, &task, schedule, on)?;
        Ok(Held { paused: on, touched })
    }

    fn push(&self, timetable: &Timetable, at: &DefinitionsAt) -> Answer<PushReport> {
        Ok(match at.complete {
            true => self.service.push(&self.actor, timetable)?,
            false => self.service.push_some(&self.actor, timetable)?,
        })
    }

    fn diff(&self, timetable: &Timetable, _: &DefinitionsAt) -> Answer<Diff> {
        Ok(self.service.diff(&self.actor, timetable)?)
    }

    fn start(&self, request: StartRequest) -> Answer<Started> {
        Ok(self.service.start(&self.actor, request)?)
    }

    fn start_many(&self, requests: Vec<StartRequest>) -> Answer<Vec<Started>> {
        Ok(self.service.start_many(&self.actor, requests)?)
    }

    fn runs(&self, query: &RunQuery, page: &PageRequest<RunsBy>) -> Answer<ListPage<RunView>> {
        Ok(self.service.runs(&self.actor, query, page)?)
    }

    fn run(&self, id: Uid) -> Answer<RunView> {
        Ok(self.service.run(&self.actor, id)?)
    }

    fn history(&self, id: Uid, limit: u32) -> Answer<Vec<TransitionView>> {
        Ok(self.service.history(&self.actor, id, limit)?)
    }

    fn why(&self, id: Uid) -> Answer<Explanation> {
        Ok(self.service.why(&self.actor, id)?)
    }

    fn logs(&self, id: Uid, request: &LogRequest, wait: Duration) -> Answer<LogPage> {
        let mut from = request.clone();
        held_back(
            wait,
            || {
                let page = self.log_page(id, &from)?;
                // What was looked through and did not match is not looked through again.
                if from.tail.is_none() {
                    from.after = Some(page.next.clone());
                }
                Ok(page)
            },
            |page| page.complete || !page.items.is_empty() || request.tail.is_some(),
        )
    }

    fn cancel(&self, which: &BulkFilter) -> Answer<CancelReport> {
        Ok(self.service.cancel_many(&self.actor, which)?)
    }

    fn signal(&self, id: Uid, request: &SignalRequest) -> Answer<Answered> {
        Ok(self.service.signal(&self.actor, id, request)?)
    }

    fn decide(&self, id: Uid, verdict: &Verdict) -> Answer<Answered> {
        Ok(self.service.decide(&self.actor, id, verdict)?)
    }

    fn rerun(&self, id: Uid, how: &RerunRequest) -> Answer<Started> {
        Ok(self.service.rerun(&self.actor, id, how)?)
    }

    fn rerun_many(&self, which: &BulkFilter, how: &RerunRequest) -> Answer<RetryReport> {
        Ok(self.service.rerun_many(&self.actor, which, how)?)
    }

    fn events(&self, after: Option<&str>, limit: u32, wait: Duration) -> Answer<EventsPage> {
        let ask = || Ok(self.service.events(&self.actor, after, limit)?);
        held_back(wait, ask, |page| !page.items.is_empty())
    }

    fn prune(&self, policy: &RetentionPolicy) -> Answer<PruneReport> {
        let report = self.service.prune(&self.actor, policy, PRUNE_BATCH)?;
        for run in &report.runs {
            // What is left of a log whose run is gone is found again by nobody and takes room only.
            if let Err(error) = self.logs.delete(*run) {
                tracing::warn!(%run, %error, "the log of a run that is gone was not deleted");
            }
        }
        Ok(report)
    }

    fn create_token(&self, token: &NewToken) -> Answer<CreatedToken> {
        Ok(self.service.create_token(&self.actor, token, &SeededEntropy::from_os())?)
    }

    fn tokens(&self, sort: Sort<TokensBy>) -> Answer<Vec<TokenView>> {
        Ok(self.service.tokens(&self.actor, sort)?)
    }

    fn revoke_token(&self, name: &str) -> Answer<TokenView> {
        Ok(self.service.revoke_token(&self.actor, name)?)
    }
}

//! The client for callers that wait.

use std::{future::Future, time::Duration};

use ostler_api::{
    Accepted, Answered, Api, ApiError, BulkFilter, CancelReport, CreatedToken, DefinitionsAt, DefinitionsBy,
    Diff, ErrorKind, EventsPage, Explanation, FireRequest, Held, ListPage, LogPage, LogRequest,
    NamespaceView, NamespacesBy, NewToken, NodeView, PageRequest, PresetView, PruneReport, PushReport,
    RerunRequest, RetentionPolicy, RetryReport, RunQuery, RunView, RunsBy, ScheduleView, SchedulesBy,
    ServerInfo, SignalRequest, SinkReset, SinkView, Sort, StartRequest, Started, StatsView, TaskRef,
    TaskView, TokenView, TokensBy, TransitionView, TriggerView, TriggersBy, Verdict, Weight,
};
use ostler_model::{Uid, definition::Timetable};
use tokio::runtime::Runtime;

use crate::{Client, Server};

type Answer<T> = Result<T, ApiError>;

/// A server as an [`Api`]. Not to be called from within an asynchronous runtime's own threads.
pub struct Blocking {
    client: Client,
    runtime: Runtime,
}

impl Blocking {
    /// A client of a server. Nothing is sent yet.
    ///
    /// # Errors
    /// The URL is none, or there are no threads to be had.
    pub fn new(server: &Server) -> Result<Self, ApiError> {
        let client = Client::new(server)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|e| ApiError::new(ErrorKind::Unreachable, format!("no threads: {e}")))?;
        Ok(Self { client, runtime })
    }

    fn wait<T>(&self, asked: impl Future<Output = Answer<T>>) -> Answer<T> {
        self.runtime.block_on(asked)
    }
}

impl Api for Blocking {
    fn info(&self) -> Answer<ServerInfo> {
        self.wait(self.client.info())
    }

    fn stats(&self) -> Answer<StatsView> {
        self.wait(self.client.stats())
    }

    fn nodes(&self) -> Answer<Vec<NodeView>> {
        self.wait(self.client.nodes())
    }

    fn namespaces(&self, page: &PageRequest<NamespacesBy>) -> Answer<ListPage<NamespaceView>> {
        self.wait(self.client.namespaces(page))
    }

    fn resolve_namespace(&self, text: &str) -> Answer<String> {
        self.wait(self.client.resolve_namespace(text))
    }

    fn resolve_task(&self, text: &str) -> Answer<TaskRef> {
        self.wait(self.client.resolve_task(text))
    }

    fn tasks(
        &self,
        namespace: Option<&str>,
        page: &PageRequest<DefinitionsBy>,
    ) -> Answer<ListPage<TaskView>> {
        self.wait(self.client.tasks(namespace, page))
    }

    fn task(&self, task: &TaskRef) -> Answer<TaskView> {
        self.wait(self.client.task(task))
    }

    fn delete_task(&self, task: &TaskRef, expected: Option<&str>) -> Answer<TaskView> {
        self.wait(self.client.delete_task(task, expected))
    }

    fn presets(
        &self,
        namespace: Option<&str>,
        page: &PageRequest<DefinitionsBy>,
    ) -> Answer<ListPage<PresetView>> {
        self.wait(self.client.presets(namespace, page))
    }

    fn schedules(
        &self,
        task: Option<&TaskRef>,
        page: &PageRequest<SchedulesBy>,
    ) -> Answer<ListPage<ScheduleView>> {
        self.wait(self.client.schedules(task, page))
    }

    fn triggers(
        &self,
        task: Option<&TaskRef>,
        page: &PageRequest<TriggersBy>,
    ) -> Answer<ListPage<TriggerView>> {
        self.wait(self.client.triggers(task, page))
    }

    fn fire(&self, task: &TaskRef, trigger: &str, request: &FireRequest) -> Answer<Accepted> {
        self.wait(self.client.fire(task, trigger, request))
    }

    fn sinks(
        &self,
        namespace: Option<&str>,
        page: &PageRequest<DefinitionsBy>,
    ) -> Answer<ListPage<SinkView>> {
        self.wait(self.client.sinks(namespace, page))
    }

    fn hold_sink(&self, namespace: &str, sink: &str, on: bool) -> Answer<SinkView> {
        self.wait(self.client.hold_sink(namespace, sink, on))
    }

    fn reset_sink(&self, namespace: &str, sink: &str, request: &SinkReset) -> Answer<SinkView> {
        self.wait(self.client.reset_sink(namespace, sink, request))
    }

    fn hold_namespace(&self, namespace: &str, on: bool) -> Answer<Held> {
        self.wait(self.client.hold_namespace(namespace, on))
    }

    fn weigh_namespace(&self, namespace: &str, weight: Weight) -> Answer<Weight> {
        self.wait(self.client.weigh_namespace(namespace, weight))
    }

    fn hold_task(&self, task: &TaskRef, on: bool) -> Answer<Held> {
        self.wait(self.client.hold_task(task, on))
    }

    fn hold_schedule(&self, task: &TaskRef, schedule: Option<&str>, on: bool) -> Answer<Held> {
        self.wait(self.client.hold_schedule(task, schedule, on))
    }

    fn push(&self, timetable: &Timetable, at: &DefinitionsAt) -> Answer<PushReport> {
        self.wait(self.client.push(timetable, at))
    }

    fn diff(&self, timetable: &Timetable, at: &DefinitionsAt) -> Answer<Diff> {
        self.wait(self.client.diff(timetable, at))
    }

    fn start(&self, request: StartRequest) -> Answer<Started> {
        self.wait(self.client.start(&request))
    }

    fn start_many(&self, requests: Vec<StartRequest>) -> Answer<Vec<Started>> {
        self.wait(self.client.start_many(requests))
    }

    fn runs(&self, query: &RunQuery, page: &PageRequest<RunsBy>) -> Answer<ListPage<RunView>> {
        self.wait(self.client.runs(query, page))
    }

    fn run(&self, id: Uid) -> Answer<RunView> {
        self.wait(self.client.run(id))
    }

    fn history(&self, id: Uid, limit: u32) -> Answer<Vec<TransitionView>> {
        self.wait(self.client.history(id, limit))
    }

    fn why(&self, id: Uid) -> Answer<Explanation> {
        self.wait(self.client.why(id))
    }

    fn logs(&self, id: Uid, request: &LogRequest, wait: Duration) -> Answer<LogPage> {
        self.wait(self.client.logs(id, request, wait))
    }

    fn cancel(&self, which: &BulkFilter) -> Answer<CancelReport> {
        self.wait(self.client.cancel(which))
    }

    fn signal(&self, id: Uid, request: &SignalRequest) -> Answer<Answered> {
        self.wait(self.client.signal(id, request))
    }

    fn decide(&self, id: Uid, verdict: &Verdict) -> Answer<Answered> {
        self.wait(self.client.decide(id, verdict))
    }

    fn rerun(&self, id: Uid, how: &RerunRequest) -> Answer<Started> {
        self.wait(self.client.rerun(id, how))
    }

    fn rerun_many(&self, which: &BulkFilter, how: &RerunRequest) -> Answer<RetryReport> {
        self.wait(self.client.rerun_many(which, how))
    }

    fn events(&self, after: Option<&str>, limit: u32, wait: Duration) -> Answer<EventsPage> {
        self.wait(self.client.events(after, limit, wait))
    }

    fn prune(&self, policy: &RetentionPolicy) -> Answer<PruneReport> {
        self.wait(self.client.prune(policy))
    }

    fn create_token(&self, token: &NewToken) -> Answer<CreatedToken> {
        self.wait(self.client.create_token(token))
    }

    fn tokens(&self, sort: Sort<TokensBy>) -> Answer<Vec<TokenView>> {
        self.wait(self.client.tokens(sort))
    }

    fn revoke_token(&self, name: &str) -> Answer<TokenView> {
        self.wait(self.client.revoke_token(name))
    }
}

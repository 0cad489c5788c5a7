//! Everything that can be asked for, one method a route.

use std::time::Duration;

use ostler_api::{
    Accepted, Answered, ApiError, BulkFilter, CancelReport, CreatedToken, DefinitionsAt, DefinitionsBy, Diff,
    EventsPage, Explanation, FireRequest, Held, ListPage, LogPage, LogRequest, NamespaceView, NamespacesBy,
    NewToken, NodeView, PageRequest, PresetView, PruneReport, PushReport, RerunRequest, RetentionPolicy,
    RetryReport, RunQuery, RunView, RunsBy, ScheduleView, SchedulesBy, ServerInfo, SignalRequest, SinkReset,
    SinkView, Sort, StartRequest, Started, StatsView, TaskRef, TaskView, TokenView, TokensBy, TransitionView,
    TriggerView, TriggersBy, Verdict, Weight,
    bodies::{RetryMany, StartMany},
    wire::{
        Bounded, DefinitionsParams, EventsParams, HistoryParams, LogsParams, MAX_WAIT_S, NamespacesParams,
        PushParams, ResolveParams, Resolved, RunsParams, ScheduleParams, SchedulesParams, TokensParams,
        TriggersParams,
    },
};
use ostler_model::{Uid, definition::Timetable};
use reqwest::{Method, header};

use crate::http::{Client, part};

type Answer<T> = Result<T, ApiError>;

/// Time for an answer beyond the time it is held back on purpose.
const SLACK: Duration = Duration::from_secs(30);

/// What each can answer is said with the methods of [`Api`](ostler_api::Api), whose names they have.
#[allow(clippy::missing_errors_doc, reason = "said with the methods of `Api`")]
impl Client {
    /// What answers, and as whom it knows the caller.
    pub async fn info(&self) -> Answer<ServerInfo> {
        self.get("").await
    }

    /// Numbers about the store.
    pub async fn stats(&self) -> Answer<StatsView> {
        self.get("/stats").await
    }

    /// Processes that use the store or did lately.
    pub async fn nodes(&self) -> Answer<Vec<NodeView>> {
        self.get("/nodes").await
    }

    /// A page of namespaces.
    pub async fn namespaces(&self, page: &PageRequest<NamespacesBy>) -> Answer<ListPage<NamespaceView>> {
        self.find("/namespaces", &NamespacesParams::from(page)).await
    }

    /// The namespace of a name, or of a prefix that fits only one.
    pub async fn resolve_namespace(&self, text: &str) -> Answer<String> {
        let asked = ResolveParams { namespace: Some(text.to_owned()), task: None };
        let resolved: Resolved = self.find("/resolve", &asked).await?;
        Ok(resolved.namespace)
    }

    /// The task spelled `task` or `namespace:task`.
    pub async fn resolve_task(&self, text: &str) -> Answer<TaskRef> {
        let asked = ResolveParams { namespace: None, task: Some(text.to_owned()) };
        let resolved: Resolved = self.find("/resolve", &asked).await?;
        Ok(TaskRef { namespace: resolved.namespace, task: resolved.task.unwrap_or_default() })
    }

    /// A page of tasks.
    pub async fn tasks(
        &self,
        namespace: Option<&str>,
        page: &PageRequest<DefinitionsBy>,
    ) -> Answer<ListPage<TaskView>> {
        let namespace = namespace.map(str::to_owned);
        self.find("/tasks", &DefinitionsParams { namespace, ..DefinitionsParams::from(page) }).await
    }

    /// One task.
    pub async fn task(&self, task: &TaskRef) -> Answer<TaskView> {
        self.get(&path_of(task)).await
    }

    /// Takes a task out of its origin's hands.
    pub async fn delete_task(&self, task: &TaskRef, expected: Option<&str>) -> Answer<TaskView> {
        let mut request = self.request(Method::DELETE, &path_of(task));
        if let Some(digest) = expected {
            request = request.header(header::IF_MATCH, format!("\"{digest}\""));
        }
        self.ask(request).await
    }

    /// A page of presets.
    pub async fn presets(
        &self,
        namespace: Option<&str>,
        page: &PageRequest<DefinitionsBy>,
    ) -> Answer<ListPage<PresetView>> {
        let namespace = namespace.map(str::to_owned);
        self.find("/presets", &DefinitionsParams { namespace, ..DefinitionsParams::from(page) }).await
    }

    /// A page of schedules.
    pub async fn schedules(
        &self,
        task: Option<&TaskRef>,
        page: &PageRequest<SchedulesBy>,
    ) -> Answer<ListPage<ScheduleView>> {
        let task = task.map(ToString::to_string);
        self.find("/schedules", &SchedulesParams { task, ..SchedulesParams::from(page) }).await
    }

    /// A page of triggers.
    pub async fn triggers(
        &self,
        task: Option<&TaskRef>,
        page: &PageRequest<TriggersBy>,
    ) -> Answer<ListPage<TriggerView>> {
        let task = task.map(ToString::to_string);
        self.find("/triggers", &TriggersParams { task, ..TriggersParams::from(page) }).await
    }

    /// Hands a trigger of a task an event by hand.
    pub async fn fire(&self, task: &TaskRef, trigger: &str, request: &FireRequest) -> Answer<Accepted> {
        let path = format!("/triggers/{}/{}/{}/fire", part(&task.namespace), part(&task.task), part(trigger));
        self.post(&path, request).await
    }

    /// A page of sinks.
    pub async fn sinks(
        &self,
        namespace: Option<&str>,
        page: &PageRequest<DefinitionsBy>,
    ) -> Answer<ListPage<SinkView>> {
        let namespace = namespace.map(str::to_owned);
        self.find("/sinks", &DefinitionsParams { namespace, ..DefinitionsParams::from(page) }).await
    }

    /// Holds back a sink, or lets it go.
    pub async fn hold_sink(&self, namespace: &str, sink: &str, on: bool) -> Answer<SinkView> {
        self.post(&format!("/sinks/{}/{}/{}", part(namespace), part(sink), hold_word(on)), &()).await
    }

    /// Says where a sink is to go on.
    pub async fn reset_sink(&self, namespace: &str, sink: &str, request: &SinkReset) -> Answer<SinkView> {
        self.post(&format!("/sinks/{}/{}/reset", part(namespace), part(sink)), request).await
    }

    /// Sends a run a signal; one that no step waits for yet, but one will, is kept.
    pub async fn signal(&self, id: Uid, request: &SignalRequest) -> Answer<Answered> {
        self.post(&format!("/runs/{id}/signals"), request).await
    }

    /// Approves or rejects what a run waits for.
    pub async fn decide(&self, id: Uid, verdict: &Verdict) -> Answer<Answered> {
        self.post(&format!("/runs/{id}/approval"), verdict).await
    }

    /// Holds back a namespace, or lets it go.
    pub async fn hold_namespace(&self, namespace: &str, on: bool) -> Answer<Held> {
        self.post(&format!("/namespaces/{}/{}", part(namespace), hold_word(on)), &()).await
    }

    /// Gives a namespace a weight: the part of the work that it gets beside others that wait.
    pub async fn weigh_namespace(&self, namespace: &str, weight: Weight) -> Answer<Weight> {
        self.post(&format!("/namespaces/{}/weight", part(namespace)), &weight).await
    }

    /// Holds back a task, or lets it go.
    pub async fn hold_task(&self, task: &TaskRef, on: bool) -> Answer<Held> {
        self.post(&format!("{}/{}", path_of(task), hold_word(on)), &()).await
    }

    /// Holds back a schedule of a task (all of them when none is named), or lets it go.
    pub async fn hold_schedule(&self, task: &TaskRef, schedule: Option<&str>, on: bool) -> Answer<Held> {
        let path = format!("/schedules/{}/{}/{}", part(&task.namespace), part(&task.task), hold_word(on));
        let params = ScheduleParams { schedule: schedule.map(str::to_owned) };
        self.ask(self.request(Method::POST, &path).query(&params)).await
    }

    /// Makes the definitions of an origin what they are now. They are sent as the file that they stand for, and the
    /// server reads it as it reads any other.
    pub async fn push(&self, timetable: &Timetable, at: &DefinitionsAt) -> Answer<PushReport> {
        self.send_definitions(Method::PUT, "/definitions", timetable, at).await
    }

    /// What a push would change.
    pub async fn diff(&self, timetable: &Timetable, at: &DefinitionsAt) -> Answer<Diff> {
        self.send_definitions(Method::POST, "/definitions/diff", timetable, at).await
    }

    async fn send_definitions<T: serde::de::DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        timetable: &Timetable,
        at: &DefinitionsAt,
    ) -> Answer<T> {
        let params = PushParams {
            origin: Some(at.origin.clone()),
            ephemeral: Some(at.ephemeral),
            complete: Some(at.complete),
        };
        let request = self
            .request(method, path)
            .query(&params)
            .header(header::CONTENT_TYPE, "application/yaml")
            // A file without a namespace of its own would get another one there.
            .body(ostler_timetable::export_yaml(&Timetable { ephemeral: false, ..timetable.clone() }));
        self.ask(request).await
    }

    /// Starts a task.
    pub async fn start(&self, request: &StartRequest) -> Answer<Started> {
        self.post("/runs", request).await
    }

    /// Starts many in one transaction; a wrong one refuses all.
    pub async fn start_many(&self, requests: Vec<StartRequest>) -> Answer<Vec<Started>> {
        self.post("/runs/batch", &StartMany { runs: requests }).await
    }

    /// A page of runs.
    pub async fn runs(&self, query: &RunQuery, page: &PageRequest<RunsBy>) -> Answer<ListPage<RunView>> {
        self.find("/runs", &RunsParams::new(query, page)).await
    }

    /// One run.
    pub async fn run(&self, id: Uid) -> Answer<RunView> {
        self.get(&format!("/runs/{id}")).await
    }

    /// What happened to a run, oldest first, at most `limit` of the newest.
    pub async fn history(&self, id: Uid, limit: u32) -> Answer<Vec<TransitionView>> {
        self.find(&format!("/runs/{id}/history"), &HistoryParams { limit: Some(Bounded(limit)) }).await
    }

    /// Explains a run or schedule.
    pub async fn why(&self, id: Uid) -> Answer<Explanation> {
        self.get(&format!("/why/{id}")).await
    }

    /// What a run wrote. With `wait`, an answer without lines is held back so long unless the run has ended.
    pub async fn logs(&self, id: Uid, request: &LogRequest, wait: Duration) -> Answer<LogPage> {
        let params = LogsParams::new(request, wait_s(wait));
        let asked = self.request(Method::GET, &format!("/runs/{id}/logs")).query(&params);
        self.ask(asked.timeout(wait + SLACK)).await
    }

    /// Asks runs to end.
    pub async fn cancel(&self, which: &BulkFilter) -> Answer<CancelReport> {
        self.post("/runs/cancel", which).await
    }

    /// Runs again what an ended run did.
    pub async fn rerun(&self, id: Uid, how: &RerunRequest) -> Answer<Started> {
        self.post(&format!("/runs/{id}/retry"), how).await
    }

    /// Runs again what many ended runs did.
    pub async fn rerun_many(&self, which: &BulkFilter, how: &RerunRequest) -> Answer<RetryReport> {
        self.post("/runs/retry", &RetryMany { which: which.clone(), how: how.clone() }).await
    }

    /// Events after a cursor (or from the oldest), in order. With `wait`, an answer without events is held back so
    /// long.
    pub async fn events(&self, after: Option<&str>, limit: u32, wait: Duration) -> Answer<EventsPage> {
        let params = EventsParams {
            after: after.map(str::to_owned),
            limit: Some(Bounded(limit)),
            wait: Some(Bounded(wait_s(wait))),
        };
        let asked = self.request(Method::GET, "/events").query(&params);
        self.ask(asked.timeout(wait + SLACK)).await
    }

    /// Takes one bounded batch of what is beyond the policy.
    pub async fn prune(&self, policy: &RetentionPolicy) -> Answer<PruneReport> {
        self.post("/prune", policy).await
    }

    /// Makes a token.
    pub async fn create_token(&self, token: &NewToken) -> Answer<CreatedToken> {
        self.post("/tokens", token).await
    }

    /// All tokens, those that do not count any more too.
    pub async fn tokens(&self, sort: Sort<TokensBy>) -> Answer<Vec<TokenView>> {
        self.find("/tokens", &TokensParams { sort }).await
    }

    /// Revokes a token; the next request with it is refused.
    pub async fn revoke_token(&self, name: &str) -> Answer<TokenView> {
        self.ask(self.request(Method::DELETE, &format!("/tokens/{}", part(name)))).await
    }
}

fn path_of(task: &TaskRef) -> String {
    format!("/tasks/{}/{}", part(&task.namespace), part(&task.task))
}

fn hold_word(on: bool) -> &'static str {
    if on { "pause" } else { "resume" }
}

fn wait_s(wait: Duration) -> u32 {
    u32::try_from(wait.as_secs()).unwrap_or(MAX_WAIT_S).min(MAX_WAIT_S)
}

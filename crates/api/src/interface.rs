//! The one interface: everything a face can ask for.

use std::time::Duration;

use ostler_model::{Uid, definition::Timetable};

use crate::{
    Accepted, Answered, ApiError, BulkFilter, CancelReport, CreatedToken, DefinitionsAt, DefinitionsBy, Diff,
    EventsPage, Explanation, FireRequest, Held, ListPage, LogPage, LogRequest, NamespaceView, NamespacesBy,
    NewToken, NodeView, PageRequest, PresetView, PruneReport, PushReport, RerunRequest, RetentionPolicy,
    RetryReport, RunQuery, RunView, RunsBy, ScheduleView, SchedulesBy, ServerInfo, SignalRequest, SinkReset,
    SinkView, Sort, StartRequest, Started, StatsView, TaskRef, TaskView, TokenView, TokensBy, TransitionView,
    TriggerView, TriggersBy, Verdict, Weight,
};

type Answer<T> = Result<T, ApiError>;

/// Everything a face can ask for, as one actor, of a store or of a server. Calls block until the answer is there.
///
/// Each can answer with [`ErrorKind::Denied`](crate::ErrorKind), [`ErrorKind::Store`](crate::ErrorKind) and, over a
/// network, [`ErrorKind::Unreachable`](crate::ErrorKind); what else it can answer is said with it.
pub trait Api: Send + Sync {
    /// What answers, and as whom it knows the caller.
    ///
    /// # Errors
    /// See [`Api`].
    fn info(&self) -> Answer<ServerInfo>;

    /// Numbers about the store.
    ///
    /// # Errors
    /// See [`Api`].
    fn stats(&self) -> Answer<StatsView>;

    /// Processes that use the store or did lately.
    ///
    /// # Errors
    /// See [`Api`].
    fn nodes(&self) -> Answer<Vec<NodeView>>;

    /// A page of namespaces, by name when nothing else is asked for.
    ///
    /// # Errors
    /// The cursor was made in another order.
    fn namespaces(&self, page: &PageRequest<NamespacesBy>) -> Answer<ListPage<NamespaceView>>;

    /// The namespace of a name, or of a prefix that fits only one.
    ///
    /// # Errors
    /// None fits, or several do.
    fn resolve_namespace(&self, text: &str) -> Answer<String>;

    /// The task spelled `task` or `namespace:task`.
    ///
    /// # Errors
    /// It is not there, or its id alone fits several.
    fn resolve_task(&self, text: &str) -> Answer<TaskRef>;

    /// A page of tasks, by namespace and id when nothing else is asked for.
    ///
    /// # Errors
    /// The cursor is not one, or was made in another order.
    fn tasks(&self, namespace: Option<&str>, page: &PageRequest<DefinitionsBy>)
    -> Answer<ListPage<TaskView>>;

    /// One task.
    ///
    /// # Errors
    /// It is not there.
    fn task(&self, task: &TaskRef) -> Answer<TaskView>;

    /// Takes a task out of its origin's hands: it becomes missing, its schedules end, its history stays.
    ///
    /// # Errors
    /// It is not there, or has another digest than `expected`.
    fn delete_task(&self, task: &TaskRef, expected: Option<&str>) -> Answer<TaskView>;

    /// A page of presets, by namespace and id when nothing else is asked for.
    ///
    /// # Errors
    /// The cursor is not one, or was made in another order.
    fn presets(
        &self,
        namespace: Option<&str>,
        page: &PageRequest<DefinitionsBy>,
    ) -> Answer<ListPage<PresetView>>;

    /// A page of schedules, oldest first when nothing else is asked for.
    ///
    /// # Errors
    /// The task is not there, the cursor is not one, or was made in another order.
    fn schedules(
        &self,
        task: Option<&TaskRef>,
        page: &PageRequest<SchedulesBy>,
    ) -> Answer<ListPage<ScheduleView>>;

    /// A page of triggers, oldest first when nothing else is asked for.
    ///
    /// # Errors
    /// The task is not there, the cursor is not one, or was made in another order.
    fn triggers(
        &self,
        task: Option<&TaskRef>,
        page: &PageRequest<TriggersBy>,
    ) -> Answer<ListPage<TriggerView>>;

    /// Hands a trigger of a task an event by hand.
    ///
    /// # Errors
    /// It is not there, or is held back.
    fn fire(&self, task: &TaskRef, trigger: &str, request: &FireRequest) -> Answer<Accepted>;

    /// A page of sinks, by namespace and id when nothing else is asked for.
    ///
    /// # Errors
    /// The cursor is not one, or was made in another order.
    fn sinks(&self, namespace: Option<&str>, page: &PageRequest<DefinitionsBy>)
    -> Answer<ListPage<SinkView>>;

    /// Holds back a sink, or lets it go; it goes on where it was.
    ///
    /// # Errors
    /// It is not there.
    fn hold_sink(&self, namespace: &str, sink: &str, on: bool) -> Answer<SinkView>;

    /// Says where a sink is to go on.
    ///
    /// # Errors
    /// It is not there, or retention has taken events after that place.
    fn reset_sink(&self, namespace: &str, sink: &str, request: &SinkReset) -> Answer<SinkView>;

    /// Holds back a namespace, or lets it go.
    ///
    /// # Errors
    /// It is not there.
    fn hold_namespace(&self, namespace: &str, on: bool) -> Answer<Held>;

    /// Gives a namespace a weight: the part of the work that it gets beside others that wait.
    ///
    /// # Errors
    /// It is not there, or the weight is none.
    fn weigh_namespace(&self, namespace: &str, weight: Weight) -> Answer<Weight>;

    /// Holds back a task, or lets it go.
    ///
    /// # Errors
    /// It is not there.
    fn hold_task(&self, task: &TaskRef, on: bool) -> Answer<Held>;

    /// Holds back a schedule or trigger of a task (all of them when none is named), or lets it go.
    ///
    /// # Errors
    /// It is not there, or has ended.
    fn hold_schedule(&self, task: &TaskRef, schedule: Option<&str>, on: bool) -> Answer<Held>;

    /// Makes the definitions of an origin what they are now.
    ///
    /// # Errors
    /// They are wrong.
    fn push(&self, timetable: &Timetable, at: &DefinitionsAt) -> Answer<PushReport>;

    /// What a push would change.
    ///
    /// # Errors
    /// They are wrong.
    fn diff(&self, timetable: &Timetable, at: &DefinitionsAt) -> Answer<Diff>;

    /// Starts a task.
    ///
    /// # Errors
    /// The task is not there, or its inputs are wrong; nothing is recorded then.
    fn start(&self, request: StartRequest) -> Answer<Started>;

    /// Starts many in one transaction; a wrong one refuses all.
    ///
    /// # Errors
    /// As [`Api::start`].
    fn start_many(&self, requests: Vec<StartRequest>) -> Answer<Vec<Started>>;

    /// A page of runs, newest first when nothing else is asked for.
    ///
    /// # Errors
    /// The task is not there, the cursor is not one, or was made in another order.
    fn runs(&self, query: &RunQuery, page: &PageRequest<RunsBy>) -> Answer<ListPage<RunView>>;

    /// One run.
    ///
    /// # Errors
    /// It is not there.
    fn run(&self, id: Uid) -> Answer<RunView>;

    /// What happened to a run, oldest first, at most `limit` of the newest.
    ///
    /// # Errors
    /// It is not there.
    fn history(&self, id: Uid, limit: u32) -> Answer<Vec<TransitionView>>;

    /// Explains a run or schedule.
    ///
    /// # Errors
    /// It is not there.
    fn why(&self, id: Uid) -> Answer<Explanation>;

    /// What a run wrote. With `wait`, an answer without lines is held back so long unless the run has ended.
    ///
    /// # Errors
    /// The run is not there, or the cursor is none of its log.
    fn logs(&self, id: Uid, request: &LogRequest, wait: Duration) -> Answer<LogPage>;

    /// Asks runs to end.
    ///
    /// # Errors
    /// One of those named is not there; nothing is asked then.
    fn cancel(&self, which: &BulkFilter) -> Answer<CancelReport>;

    /// Sends a run a signal; one that no step waits for yet, but one will, is kept.
    ///
    /// # Errors
    /// The run is not there or has ended, or no step of it waits for that signal.
    fn signal(&self, id: Uid, request: &SignalRequest) -> Answer<Answered>;

    /// Approves or rejects what a run waits for.
    ///
    /// # Errors
    /// The run is not there or has ended, nothing of it waits for an approval, or several do and none is named.
    fn decide(&self, id: Uid, verdict: &Verdict) -> Answer<Answered>;

    /// Runs again what an ended run did.
    ///
    /// # Errors
    /// It is not there, it still lives, or the inputs are wrong.
    fn rerun(&self, id: Uid, how: &RerunRequest) -> Answer<Started>;

    /// Runs again what many ended runs did; those that live or are parts of flows are passed over.
    ///
    /// # Errors
    /// One of those named is not there.
    fn rerun_many(&self, which: &BulkFilter, how: &RerunRequest) -> Answer<RetryReport>;

    /// Events after a cursor (or from the oldest), in order. With `wait`, an answer without events is held back so
    /// long.
    ///
    /// # Errors
    /// The cursor is not one, or retention has taken events after it.
    fn events(&self, after: Option<&str>, limit: u32, wait: Duration) -> Answer<EventsPage>;

    /// Takes one bounded batch of what is beyond the policy.
    ///
    /// # Errors
    /// See [`Api`].
    fn prune(&self, policy: &RetentionPolicy) -> Answer<PruneReport>;

    /// Makes a token.
    ///
    /// # Errors
    /// One with its name counts already.
    fn create_token(&self, token: &NewToken) -> Answer<CreatedToken>;

    /// All tokens, those that do not count any more too.
    ///
    /// # Errors
    /// See [`Api`].
    fn tokens(&self, sort: Sort<TokensBy>) -> Answer<Vec<TokenView>>;

    /// Revokes a token; the next request with it is refused.
    ///
    /// # Errors
    /// It is not there.
    fn revoke_token(&self, name: &str) -> Answer<TokenView>;
}

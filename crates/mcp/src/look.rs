//! Tools that look.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use ostler_api::{Api, ApiError, ErrorKind, ListPage, LogPage, LogRequest, RunQuery, RunView, StepView};
use ostler_model::{Span, Uid};
use serde_json::{Value, json};

use crate::{
    arguments::{Explain, Lines, ListRuns, ListSchedules, ListTasks, ListTriggers, ShowRun, ShowTask, Tail},
    told::{Told, bytes_of, cut, fewer, fitting},
    tool::Caller,
};

type Answer<T> = Result<T, ApiError>;

/// Lines when nothing is said.
const LINES: u32 = 50;

/// What one line may have, in bytes.
const LINE_BYTES: usize = 8 << 10;

/// What of a run is left out of lists.
const NOT_LISTED: [&str; 3] = ["output", "policy", "steps"];

pub(crate) fn list_tasks(api: &dyn Api, asked: ListTasks) -> Answer<Told> {
    let namespace = asked.namespace.as_deref().map(|n| api.resolve_namespace(n)).transpose()?;
    let page = fitting(
        &asked.page(),
        |page| {
            let page = api.tasks(namespace.as_deref(), page)?;
            // The definition is what makes a task large, and is shown with the task.
            let items = page.items.iter().map(|t| {
                let state = match (t.missing, t.paused, t.enabled) {
                    (true, ..) => "missing",
                    (_, true, _) => "paused",
                    (.., false) => "disabled",
                    _ => "enabled",
                };
                json!({
                    "namespace": t.namespace,
                    "id": t.id,
                    "name": t.definition.name,
                    "description": cut(t.definition.description.clone(), 500),
                    "state": state,
                    "version": t.version,
                    "updated_at": t.updated_at,
                })
            });
            Ok(ListPage { items: items.collect(), next: page.next, complete: page.complete })
        },
        &[],
    )?;
    listed(&page, "task", |t| format!("{}:{} {}", text(t, "namespace"), text(t, "id"), text(t, "state")))
}

pub(crate) fn show_task(api: &dyn Api, asked: ShowTask) -> Answer<Told> {
    let view = api.task(&api.resolve_task(&asked.task)?)?;
    let definition = &view.definition;
    let mut lines = vec![format!("{}:{} is version {}", view.namespace, view.id, view.version)];
    if !definition.description.is_empty() {
        lines.push(definition.description.clone());
    }
    for (is, words) in [
        (view.missing, "it is missing: its file does not hold it any more"),
        (view.paused, "it is held back"),
        (!view.enabled, "it is disabled"),
    ] {
        lines.extend(is.then(|| words.to_owned()));
    }
    if let Some(inputs) = definition.inputs.as_ref().and_then(|i| i["properties"].as_object()) {
        lines.push(format!("inputs: {}", joined(inputs.keys().map(String::as_str))));
    }
    lines.push(format!("steps: {}", joined(definition.steps.iter().map(|s| s.id.as_str()))));
    Told::new(lines.join("\n"), &view)
}

pub(crate) fn list_runs(api: &dyn Api, asked: ListRuns) -> Answer<Told> {
    let page = asked.page();
    let mut query = RunQuery { states: asked.states, ..RunQuery::default() };
    query.namespace = asked.namespace.as_deref().map(|n| api.resolve_namespace(n)).transpose()?;
    if let Some(task) = &asked.task {
        let text = match &query.namespace {
            Some(namespace) if !task.contains(':') => format!("{namespace}:{task}"),
            _ => task.clone(),
        };
        let task = api.resolve_task(&text)?;
        query.namespace = Some(task.namespace);
        query.task = Some(task.task);
    }
    query.since = asked.since.as_deref().map(|t| moment_or_ago(api, t)).transpose()?;
    let mut lines = Vec::new();
    let page = fitting(
        &page,
        |page| {
            let page = api.runs(&query, page)?;
            lines = page.items.iter().map(|r| format!("{} {}", r.id, said(r))).collect();
            Ok(page)
        },
        &NOT_LISTED,
    )?;
    let mut lines = lines.into_iter();
    listed(&page, "run", |_| lines.next().unwrap_or_default())
}

pub(crate) fn show_run(api: &dyn Api, asked: ShowRun) -> Answer<Told> {
    let run = api.run(asked.id)?;
    let mut text = format!("{} {}", run.id, said(&run));
    for StepView { step, id, state, .. } in &run.steps {
        let id = id.map_or_else(String::new, |id| format!(" ({id})"));
        text.push_str(&format!("\n- step {step} is {state}{id}"));
    }
    Told::new(text, &run)
}

pub(crate) fn explain(api: &dyn Api, asked: Explain) -> Answer<Told> {
    let told = api.why(asked.id)?;
    let mut lines = vec![format!("{} is {}", told.what, told.state)];
    lines.extend(told.because.iter().map(|b| format!("- {b}")));
    lines.extend(told.hints.iter().map(|h| format!("try: {h}")));
    Told::new(lines.join("\n"), &told)
}

pub(crate) async fn tail(caller: Caller, asked: Tail) -> Answer<Told> {
    let wait = asked.wait_seconds.map_or(0, |w| w.get());
    let lines = asked.lines.map_or(LINES, Lines::get);
    let id = asked.id;
    let request =
        LogRequest { stream: asked.stream, grep: asked.grep, after: asked.after, ..LogRequest::default() };
    let page = caller
        .wait(
            Duration::from_secs(wait.into()),
            move |api| lines_of(api, id, &request, lines),
            |page| page.complete || !page.items.is_empty(),
        )
        .await?;
    let mut text = written(&page);
    if text.is_empty() {
        text.push_str("(no lines)");
    }
    text.push_str(match page.complete {
        true => "\n(the run has ended)",
        false => "\n(more may come: `after` with `next` gives the lines that follow)",
    });
    Told::new(text, &page)
}

pub(crate) fn list_schedules(api: &dyn Api, asked: ListSchedules) -> Answer<Told> {
    let task = asked.task.as_deref().map(|t| api.resolve_task(t)).transpose()?;
    let page = fitting(&asked.page(), |page| api.schedules(task.as_ref(), page), &[])?;
    listed(&page, "schedule", |s| heard(s, "schedule"))
}

pub(crate) fn list_triggers(api: &dyn Api, asked: ListTriggers) -> Answer<Told> {
    let task = asked.task.as_deref().map(|t| api.resolve_task(t)).transpose()?;
    let page = fitting(&asked.page(), |page| api.triggers(task.as_ref(), page), &[])?;
    listed(&page, "trigger", |t| heard(t, "trigger"))
}

/// At most so many lines of a run: the last ones, or those after the cursor of the request. Within the bounds of an
/// answer: fewer are asked for when they do not fit, so that the cursor is right.
pub(crate) fn lines_of(api: &dyn Api, id: Uid, request: &LogRequest, lines: u32) -> Answer<LogPage> {
    let mut lines = lines;
    loop {
        let mut request = request.clone();
        match request.after {
            Some(_) => request.limit = Some(lines),
            None => request.tail = Some(lines),
        }
        let mut page = api.logs(id, &request, Duration::ZERO)?;
        for line in &mut page.items {
            line.line = cut(std::mem::take(&mut line.line), LINE_BYTES);
        }
        let count = lines.min(u32::try_from(page.items.len()).unwrap_or(lines));
        match fewer(count, bytes_of(&page.items)) {
            Some(fewer) => lines = fewer,
            None => return Ok(page),
        }
    }
}

/// Lines as people read them.
pub(crate) fn written(page: &LogPage) -> String {
    let lines = page.items.iter().map(|line| match &line.step {
        Some(step) => format!("{step} | {}", line.line),
        None => line.line.clone(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// How a run stands, in a sentence.
pub(crate) fn said(run: &RunView) -> String {
    let mut text = format!("{}:{} is {}", run.namespace, run.task, run.state);
    if let Some(ms) = run.duration_ms {
        text.push_str(&format!(", took {ms:.0} ms"));
    }
    if let Some(code) = run.exit_code.filter(|c| *c != 0) {
        text.push_str(&format!(", exit code {code}"));
    }
    if let Some(why) = run.error.as_ref().map(|e| &e.message).or(run.reason.as_ref()) {
        text.push_str(&format!(": {}", cut(why.lines().next().unwrap_or_default().to_owned(), 500)));
    }
    text
}

fn listed(page: &ListPage<Value>, what: &str, mut line: impl FnMut(&Value) -> String) -> Answer<Told> {
    let count = page.items.len();
    let mut lines = vec![format!("{count} {what}{}", if count == 1 { "" } else { "s" })];
    lines.extend(page.items.iter().map(|item| format!("- {}", line(item))));
    lines.extend(page.next.as_ref().map(|next| format!("(there are more: `after` with `{next}`)")));
    Told::new(lines.join("\n"), page)
}

/// A schedule or trigger in a sentence.
fn heard(view: &Value, what: &str) -> String {
    let name = format!("{}:{}/{}", text(view, "namespace"), text(view, "task"), text(view, what));
    let mut line = format!("{} {name}: {}", text(view, "id"), text(view, "words"));
    for (field, words) in [("next", "next"), ("ended", "ended")] {
        if let Some(value) = view[field].as_str() {
            line.push_str(&format!("; {words}: {value}"));
        }
    }
    if view["paused"] == true {
        line.push_str("; held back");
    }
    line
}

fn text<'a>(view: &'a Value, field: &str) -> &'a str {
    view[field].as_str().unwrap_or_default()
}

fn joined<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

/// A moment in RFC 3339, or so long before the moment that the other side has.
fn moment_or_ago(api: &dyn Api, text: &str) -> Answer<Timestamp> {
    if let Ok(at) = text.parse() {
        return Ok(at);
    }
    let span: Span = text.trim_end_matches(" ago").parse().map_err(|_| {
        ApiError::new(
            ErrorKind::BadInput,
            format!("`{text}` is neither a moment (2026-11-20T07:00:00Z) nor so long ago (`90m`)"),
        )
    })?;
    let now = api.info()?.now;
    let ago = SignedDuration::try_from(span.as_duration()).ok().and_then(|d| now.checked_sub(d).ok());
    ago.ok_or_else(|| ApiError::bad_input(format!("`{text}` is too long ago")))
}

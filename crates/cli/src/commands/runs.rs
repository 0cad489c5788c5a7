//! `ostler runs`.

use clap::{Args, Subcommand};
use comfy_table::Cell;
use jiff::Timestamp;
use ostler_api::{Api, BulkFilter, PageRequest, RerunRequest, RunQuery, RunView, RunsBy, TaskRef};
use ostler_model::{RunState, Span, Uid};
use serde_json::json;

use super::{Global, Paging, list_footer};
use crate::{
    context,
    error::{CONFLICT, CliError},
    output::{self, Output},
};

/// List, show, cancel and retry runs
#[derive(Subcommand)]
pub enum Runs {
    /// List runs, newest first
    List(List),
    /// Show one run with its steps and what happened to it
    Show(Show),
    /// Ask runs to end
    Cancel(Cancel),
    /// Run again what an ended run did
    Retry(Retry),
}

#[derive(Args)]
#[command(
    after_help = "Examples:\n  ostler runs list --state failed,timed_out --since 1d\n  ostler runs list --task demo:pull --output json\n  ostler runs list --state ready --sort created    what waits longest"
)]
pub struct List {
    /// Only in these states: scheduled, ready, running, waiting, succeeded, failed, cancelled, skipped, timed_out
    #[arg(long, value_delimiter = ',')]
    state: Vec<RunState>,
    /// Only of this namespace (a prefix will do)
    #[arg(long, short = 'n', visible_alias = "ns")]
    namespace: Option<String>,
    /// Only of this task: `task` or `namespace:task`
    #[arg(long)]
    task: Option<String>,
    /// Only made since: a moment (RFC 3339) or so long ago (`1h`)
    #[arg(long)]
    since: Option<String>,
    /// Only made before: a moment or so long ago
    #[arg(long)]
    until: Option<String>,
    #[command(flatten)]
    paging: Paging<RunsBy>,
}

#[derive(Args)]
pub struct Show {
    /// The run
    id: Uid,
}

#[derive(Args)]
#[command(
    after_help = "Examples:\n  ostler runs cancel 0193a2b4-5c6d-7e8f-9a0b-1c2d3e4f5a6b\n  ostler runs cancel --state ready --task demo:pull"
)]
pub struct Cancel {
    /// The runs
    #[arg(required_unless_present_any = ["state", "task"])]
    ids: Vec<Uid>,
    /// All living runs in these states
    #[arg(long, value_delimiter = ',', conflicts_with = "ids")]
    state: Vec<RunState>,
    /// All living runs of this task
    #[arg(long, conflicts_with = "ids")]
    task: Option<String>,
    /// Why, for the record
    #[arg(long, default_value = "")]
    reason: String,
}

#[derive(Args)]
#[command(
    after_help = "Examples:\n  ostler runs retry 0193… --from-failed\n  ostler runs retry 0193… --input city=Wien --current\n  ostler runs retry --state failed,timed_out --since 1h"
)]
pub struct Retry {
    /// The run
    #[arg(required_unless_present_any = ["state", "task"])]
    id: Option<Uid>,
    /// All ended runs in these states
    #[arg(long, value_delimiter = ',', conflicts_with = "id")]
    state: Vec<RunState>,
    /// All ended runs of this task
    #[arg(long, conflicts_with = "id")]
    task: Option<String>,
    /// Only made since: a moment or so long ago
    #[arg(long, conflicts_with = "id")]
    since: Option<String>,
    /// Say what would be done and do nothing
    #[arg(long, conflicts_with = "id")]
    dry_run: bool,
    /// Keep what succeeded; begin at the steps that did not
    #[arg(long)]
    from_failed: bool,
    /// Other inputs: `k=v` by the schema, `k:=JSON`, `k=@file`
    #[arg(long = "input", short = 'i', value_name = "K=V")]
    inputs: Vec<String>,
    /// With the task's current definition instead of the one the run was made with
    #[arg(long)]
    current: bool,
}

impl Runs {
    pub fn run(self, global: &Global) -> Result<u8, CliError> {
        let api = context::api(global)?;
        match self {
            Self::List(list) => list.run(&*api, global.output),
            Self::Show(show) => show.run(&*api, global.output),
            Self::Cancel(cancel) => cancel.run(&*api, global.output),
            Self::Retry(retry) => retry.run(&*api, global.output),
        }
    }
}

impl List {
    fn run(self, api: &dyn Api, output: Output) -> Result<u8, CliError> {
        let now = context::now();
        let mut query = RunQuery {
            states: self.state,
            since: self.since.as_deref().map(|t| moment_or_ago(t, now)).transpose()?,
            until: self.until.as_deref().map(|t| moment_or_ago(t, now)).transpose()?,
            ..RunQuery::default()
        };
        if let Some(namespace) = &self.namespace {
            query.namespace = Some(api.resolve_namespace(namespace)?);
        }
        if let Some(task) = &self.task {
            let task = api.resolve_task(task)?;
            query.namespace = Some(task.namespace);
            query.task = Some(task.task);
        }
        let page = self.paging.collect(|page| api.runs(&query, page))?;
        output.show(&page, |page| {
            let rows = page.items.iter().map(|run| row(run, now)).collect();
            let headings = ["id", "state", "task", "started", "took", "attempts", "what"];
            let table = if page.items.is_empty() { String::new() } else { output::table(&headings, rows) };
            table + &list_footer(page.items.len(), "runs", page.next.as_deref())
        });
        Ok(0)
    }
}

/// A row of a table of runs.
pub fn row(run: &RunView, now: Timestamp) -> Vec<Cell> {
    let task = match &run.step {
        Some(step) => format!("{}:{}/{step}", run.namespace, run.task),
        None => format!("{}:{}", run.namespace, run.task),
    };
    vec![
        Cell::new(run.id),
        output::state(run.state, run.is_good()),
        Cell::new(task),
        Cell::new(output::moment(run.started_at, now)),
        Cell::new(output::duration(run.duration_ms)),
        Cell::new(run.attempts),
        Cell::new(remark(run)),
    ]
}

/// What is worth saying about a run in one line.
pub fn remark(run: &RunView) -> String {
    let text = match (&run.error, &run.reason) {
        (Some(error), _) if run.state != RunState::Succeeded => format!("{}: {}", error.class, error.message),
        (_, Some(reason)) => reason.clone(),
        _ => String::new(),
    };
    let text = output::first_line(&text, 60);
    match run.as_expected {
        Some(true) if run.state != RunState::Succeeded => format!("as expected; {text}"),
        Some(false) => format!("not as expected; {text}"),
        _ => text,
    }
}

impl Show {
    fn run(self, api: &dyn Api, output: Output) -> Result<u8, CliError> {
        let run = api.run(self.id)?;
        let history = api.history(self.id, 200)?;
        let task = api.task(&TaskRef::new(&*run.namespace, &*run.task)).ok();
        let children = RunQuery { parent: Some(run.id), ..RunQuery::default() };
        let steps = api.runs(&children, &PageRequest::first(1000))?.items;
        let document = json!({
            "run": run,
            "source": task.as_ref().map(|t| &t.definition.source),
            "definition_digest": task.as_ref().map(|t| &t.digest),
            "steps": steps,
            "history": history,
        });
        let now = context::now();
        output.show(&document, |_| {
            let mut lines = vec![
                format!("{} {} of {}:{}", run.kind, run.id, run.namespace, run.task),
                format!("state     {}{}", run.state, if run.is_good() { "" } else { "  (not good)" }),
                format!("created   {}", output::moment(Some(run.created_at), now)),
                format!("started   {}", output::moment(run.started_at, now)),
                format!("finished  {}", output::moment(run.finished_at, now)),
                format!("took      {}", output::duration(run.duration_ms)),
                format!("attempts  {}", run.attempts),
            ];
            if let Some(cause) = &run.cause {
                lines.push(format!("cause     {}", serde_json::to_string(cause).unwrap_or_default()));
            }
            if !run.inputs.is_empty() {
                lines.push(format!("inputs    {}", serde_json::Value::Object(run.inputs.clone())));
            }
            if !run.output.is_null() {
                lines.push(format!("output    {}", output::first_line(&run.output.to_string(), 200)));
            }
            if let Some(error) = &run.error {
                lines.push(format!("error     {error}"));
                if let Some(detail) = &error.detail {
                    lines.extend(detail.lines().map(|l| format!("          {l}")));
                }
            }
            if let Some(reason) = &run.reason {
                lines.push(format!("reason    {reason}"));
            }
            if !steps.is_empty() {
                lines.push(String::new());
                let rows = steps.iter().rev().map(|s| row(s, now)).collect();
                lines.push(output::table(
                    &["id", "state", "step", "started", "took", "attempts", "what"],
                    rows,
                ));
            }
            lines.push(String::new());
            lines.extend(history.iter().map(|t| {
                let body = if t.body.is_null() {
                    String::new()
                } else {
                    output::first_line(&t.body.to_string(), 140)
                };
                format!("{}  {:>3}  {:<14} {body}", output::moment(Some(t.at), now), t.step, t.kind)
            }));
            lines.join("\n")
        });
        Ok(0)
    }
}

impl Cancel {
    fn run(self, api: &dyn Api, output: Output) -> Result<u8, CliError> {
        let mut which = BulkFilter { ids: self.ids, reason: self.reason, ..BulkFilter::default() };
        if which.ids.is_empty() {
            let mut query = RunQuery { states: self.state, ..RunQuery::default() };
            if let Some(task) = &self.task {
                let task = api.resolve_task(task)?;
                query.namespace = Some(task.namespace);
                query.task = Some(task.task);
            }
            which.query = Some(query);
        }
        let report = api.cancel(&which)?;
        output.show(&report, |r| match r.ended_already {
            0 => format!("{} asked to end", r.asked),
            ended => format!("{} asked to end, {ended} had ended already", r.asked),
        });
        Ok(if report.asked == 0 && report.ended_already > 0 { CONFLICT } else { 0 })
    }
}

impl Retry {
    fn run(self, api: &dyn Api, output: Output) -> Result<u8, CliError> {
        let Some(id) = self.id else { return self.many(api, output) };
        let old = api.run(id)?;
        let task = api.task(&TaskRef::new(&*old.namespace, &*old.task))?;
        let inputs = super::run::read_inputs(&self.inputs, task.definition.inputs.as_ref())?;
        let how = RerunRequest { from_failed: self.from_failed, inputs, current: self.current };
        let started = api.rerun(id, &how)?;
        output.show(&started, |s| format!("{} is queued; `ostler why {0}` says how it stands", s.id()));
        Ok(0)
    }

    /// All ended runs that fit.
    fn many(self, api: &dyn Api, output: Output) -> Result<u8, CliError> {
        if !self.inputs.is_empty() {
            return Err(CliError::usage("inputs go with one run; name it by its id"));
        }
        let now = context::now();
        let mut query = RunQuery {
            states: self.state,
            since: self.since.as_deref().map(|t| moment_or_ago(t, now)).transpose()?,
            ..RunQuery::default()
        };
        if let Some(task) = &self.task {
            let task = api.resolve_task(task)?;
            query.namespace = Some(task.namespace);
            query.task = Some(task.task);
        }
        let which = BulkFilter { query: Some(query), dry_run: self.dry_run, ..BulkFilter::default() };
        let how =
            RerunRequest { from_failed: self.from_failed, current: self.current, ..RerunRequest::default() };
        let report = api.rerun_many(&which, &how)?;
        output.show(&report, |r| {
            format!("{} queued, {} passed over since they live or are steps", r.started.len(), r.passed_over)
        });
        Ok(0)
    }
}

/// A moment in RFC 3339, or so long before now.
pub fn moment_or_ago(text: &str, now: Timestamp) -> Result<Timestamp, CliError> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    if let Ok(at) = text.parse::<jiff::civil::DateTime>()
        && let Ok(zoned) = at.to_zoned(jiff::tz::TimeZone::system())
    {
        return Ok(zoned.timestamp());
    }
    let span: Span = text.trim_end_matches(" ago").parse().map_err(|_| {
        CliError::usage(format!(
            "`{text}` is neither a moment (2026-11-20T07:00:00Z) nor so long ago (`90m`)"
        ))
    })?;
    jiff::SignedDuration::try_from(span.as_duration())
        .ok()
        .and_then(|d| now.checked_sub(d).ok())
        .ok_or_else(|| CliError::usage(format!("`{text}` is too long ago")))
}

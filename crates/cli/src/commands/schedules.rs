//! `ostler schedules`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use comfy_table::Cell;
use jiff::{Timestamp, civil, tz::TimeZone};
use ostler_api::{Api, FiringView, SchedulesBy};
use ostler_model::TaskDef;
use serde_json::json;

use super::{Global, Paging, list_footer};
use crate::{context, error::CliError, output};

/// List, preview, replay, pause and resume schedules
#[derive(Subcommand)]
pub enum Schedules {
    /// List schedules with their next due moment
    List(List),
    /// Show the next firings, of stored schedules or of a file
    Next(Next),
    /// List what would fire in a year or a span of days
    Replay(Replay),
    /// Hold back the schedules of a task, or one of them
    Pause(Named),
    /// Let them go
    Resume(Named),
}

#[derive(Args)]
#[command(
    after_help = "Examples:\n  ostler schedules list --sort next\n  ostler schedules list --task demo:pull"
)]
pub struct List {
    /// Only of this task: `task` or `namespace:task`
    #[arg(long)]
    task: Option<String>,
    #[command(flatten)]
    paging: Paging<SchedulesBy>,
}

#[derive(Args)]
#[command(
    after_help = "Examples:\n  ostler schedules next demo:pull -n 10\n  ostler schedules next --file timetable.yaml"
)]
pub struct Next {
    /// The task: `task` or `namespace:task`; without it all tasks
    task: Option<String>,
    /// Of this file instead of the store
    #[arg(long, short = 'f')]
    file: Option<PathBuf>,
    /// How many
    #[arg(long, short = 'n', default_value_t = 5)]
    count: usize,
    /// From this moment [default: now]
    #[arg(long)]
    from: Option<Timestamp>,
}

#[derive(Args)]
#[command(
    after_help = "Examples:\n  ostler schedules replay --year 2027\n  ostler schedules replay --file timetable.yaml --from 2027-03-27 --until 2027-03-30"
)]
pub struct Replay {
    /// The task: `task` or `namespace:task`; without it all tasks
    task: Option<String>,
    /// Of this file instead of the store
    #[arg(long, short = 'f')]
    file: Option<PathBuf>,
    /// The whole year (UTC)
    #[arg(long, required_unless_present = "from", conflicts_with_all = ["from", "until"], value_parser = clap::value_parser!(i16).range(1970..=9000))]
    year: Option<i16>,
    /// From this day
    #[arg(long, requires = "until")]
    from: Option<civil::Date>,
    /// To this day, itself left out
    #[arg(long, requires = "from")]
    until: Option<civil::Date>,
    /// At most so many firings
    #[arg(long, default_value_t = 1000)]
    limit: usize,
}

#[derive(Args)]
pub struct Named {
    /// The task, `task` or `namespace:task`, or one schedule of it, `task/s1`
    task: String,
}

impl Schedules {
    pub fn run(self, global: &Global) -> Result<u8, CliError> {
        match self {
            Self::List(list) => {
                let api = context::api(global)?;
                let task = list.task.as_deref().map(|t| api.resolve_task(t)).transpose()?;
                let page = list.paging.collect(|page| api.schedules(task.as_ref(), page))?;
                let now = context::now();
                global.output.show(&page, |page| {
                    let rows = page
                        .items
                        .iter()
                        .map(|s| {
                            let state = match (&s.ended, s.paused) {
                                (Some(_), _) => "ended",
                                (None, true) => "held",
                                (None, false) => "active",
                            };
                            vec![
                                Cell::new(format!("{}:{}/{}", s.namespace, s.task, s.schedule)),
                                Cell::new(state),
                                Cell::new(output::moment(s.next, now)),
                                Cell::new(output::moment(s.last, now)),
                                Cell::new(s.fired),
                                Cell::new(s.ended.as_ref().map_or_else(|| s.words.clone(), Clone::clone)),
                            ]
                        })
                        .collect();
                    let headings = ["schedule", "state", "next", "last", "fired", "when"];
                    let table =
                        if page.items.is_empty() { String::new() } else { output::table(&headings, rows) };
                    table + &list_footer(page.items.len(), "schedules", page.next.as_deref())
                });
                Ok(0)
            }
            Self::Next(next) => {
                let (tasks, now) = definitions(global, next.file, next.task.as_deref())?;
                let from = next.from.unwrap_or(now);
                // Far enough for anything that fires at all; the limit ends it long before.
                let until = from
                    .saturating_add(jiff::SignedDuration::from_hours(24 * 366 * 30))
                    .unwrap_or(Timestamp::MAX);
                show(global, &tasks, from, until, next.count)
            }
            Self::Replay(replay) => {
                let (tasks, _) = definitions(global, replay.file, replay.task.as_deref())?;
                let day = |date: civil::Date| {
                    date.to_zoned(TimeZone::UTC)
                        .map(|z| z.timestamp())
                        .map_err(|e| CliError::usage(e.to_string()))
                };
                let (from, until) = match (replay.year, replay.from, replay.until) {
                    (Some(year), ..) => (day(civil::date(year, 1, 1))?, day(civil::date(year + 1, 1, 1))?),
                    (None, Some(from), Some(until)) if from < until => (day(from)?, day(until)?),
                    _ => return Err(CliError::usage("`--until` must lie after `--from`")),
                };
                show(global, &tasks, from, until, replay.limit)
            }
            Self::Pause(named) => hold(global, &named.task, true),
            Self::Resume(named) => hold(global, &named.task, false),
        }
    }
}

fn hold(global: &Global, text: &str, on: bool) -> Result<u8, CliError> {
    let api = context::api(global)?;
    let (task, schedule) = text.rsplit_once('/').map_or((text, None), |(t, s)| (t, Some(s)));
    let task = api.resolve_task(task)?;
    let touched = api.hold_schedule(&task, schedule, on)?.touched;
    let word = if on { "paused" } else { "resumed" };
    global.output.show(&json!({ "task": task.to_string(), "paused": on, "touched": touched }), |_| {
        format!("{touched} {} of {task} {word}", if touched == 1 { "schedule" } else { "schedules" })
    });
    Ok(0)
}

/// Tasks with their namespace, from a file or the store, and what time it is.
fn definitions(
    global: &Global,
    file: Option<PathBuf>,
    task: Option<&str>,
) -> Result<(Vec<(String, TaskDef)>, Timestamp), CliError> {
    let now = context::now();
    if let Some(file) = file {
        let loaded = context::load(&file)?;
        let all = loaded.timetables.into_iter().flat_map(|t| {
            let namespace = t.namespace.to_string();
            t.tasks.into_iter().map(move |task| (namespace.clone(), task))
        });
        let tasks: Vec<_> = all.filter(|(_, t)| task.is_none_or(|name| t.id == *name)).collect();
        if let (true, Some(name)) = (tasks.is_empty(), task) {
            return Err(CliError::new(
                crate::error::NOT_FOUND,
                "not_found",
                format!("the file has no task `{name}`"),
            ));
        }
        return Ok((tasks, now));
    }
    let api = context::api(global)?;
    let tasks = match task {
        Some(text) => {
            let task = api.task(&api.resolve_task(text)?)?;
            vec![(task.namespace, task.definition)]
        }
        None => stored(&*api)?,
    };
    Ok((tasks, now))
}

fn stored(api: &dyn Api) -> Result<Vec<(String, TaskDef)>, CliError> {
    let everything = Paging::everything();
    let page = everything.collect(|page| api.tasks(None, page))?;
    Ok(page.items.into_iter().filter(|t| !t.missing).map(|t| (t.namespace, t.definition)).collect())
}

fn show(
    global: &Global,
    tasks: &[(String, TaskDef)],
    from: Timestamp,
    until: Timestamp,
    limit: usize,
) -> Result<u8, CliError> {
    let mut firings: Vec<FiringView> = Vec::new();
    let mut complete = true;
    for (namespace, task) in tasks {
        let (found, all) =
            ostler_service::preview(std::slice::from_ref(task), namespace, from, until, limit)?;
        complete &= all;
        firings.extend(found);
    }
    firings.sort_by_key(|f| f.at);
    complete &= firings.len() <= limit;
    firings.truncate(limit);
    let document = json!({ "items": firings, "next": null, "complete": complete });
    global.output.show(&document, |_| {
        if firings.is_empty() {
            return "nothing fires".to_owned();
        }
        let rows = firings
            .iter()
            .map(|f| {
                vec![
                    Cell::new(f.at),
                    Cell::new(&f.local),
                    Cell::new(format!("{}/{}", f.task, f.schedule)),
                    Cell::new(f.dst.clone().unwrap_or_default()),
                ]
            })
            .collect();
        let table = output::table(&["utc", "local", "schedule", ""], rows);
        if complete { table } else { format!("{table}\n(the first {limit}; more with a larger limit)") }
    });
    Ok(0)
}

//! `ostler tasks`.

use clap::{Args, Subcommand};
use comfy_table::Cell;
use ostler_api::{Api, DefinitionsBy};
use serde_json::json;

use super::{Global, Paging, list_footer};
use crate::{context, error::CliError, output};

/// List, show, pause and resume tasks
#[derive(Subcommand)]
pub enum Tasks {
    /// List tasks, by namespace and id
    List(List),
    /// Show one task with its definition
    Show(Named),
    /// Hold back a task: its runs wait, its schedules do not fire
    Pause(Named),
    /// Let a task go
    Resume(Named),
}

#[derive(Args)]
#[command(after_help = "Example:\n  ostler tasks list --sort -updated    what changed last")]
pub struct List {
    /// Only of this namespace (a prefix will do)
    #[arg(long, short = 'n', visible_alias = "ns")]
    namespace: Option<String>,
    #[command(flatten)]
    paging: Paging<DefinitionsBy>,
}

#[derive(Args)]
pub struct Named {
    /// The task: `task` or `namespace:task`
    task: String,
}

impl Tasks {
    pub fn run(self, global: &Global) -> Result<u8, CliError> {
        let api = context::api(global)?;
        match self {
            Self::List(list) => {
                let namespace = list.namespace.as_deref().map(|n| api.resolve_namespace(n)).transpose()?;
                let page = list.paging.collect(|page| api.tasks(namespace.as_deref(), page))?;
                global.output.show(&page, |page| {
                    let rows = page
                        .items
                        .iter()
                        .map(|t| {
                            let state = match (t.missing, t.paused, t.enabled) {
                                (true, ..) => "missing",
                                (_, true, _) => "paused",
                                (.., false) => "disabled",
                                _ => "enabled",
                            };
                            vec![
                                Cell::new(format!("{}:{}", t.namespace, t.id)),
                                Cell::new(state),
                                Cell::new(format!("v{}", t.version)),
                                Cell::new(t.definition.schedules.len()),
                                Cell::new(t.definition.steps.len()),
                                Cell::new(output::first_line(&t.definition.name, 40)),
                            ]
                        })
                        .collect();
                    let headings = ["task", "state", "version", "schedules", "steps", "name"];
                    let table =
                        if page.items.is_empty() { String::new() } else { output::table(&headings, rows) };
                    table + &list_footer(page.items.len(), "tasks", page.next.as_deref())
                });
            }
            Self::Show(named) => {
                let view = api.task(&api.resolve_task(&named.task)?)?;
                global.output.show(&view, |view| output::Output::Yaml.text(view));
            }
            Self::Pause(named) => hold(global, &*api, &named.task, true)?,
            Self::Resume(named) => hold(global, &*api, &named.task, false)?,
        }
        Ok(0)
    }
}

fn hold(global: &Global, api: &dyn Api, task: &str, on: bool) -> Result<(), CliError> {
    let task = api.resolve_task(task)?;
    let touched = api.hold_task(&task, on)?.touched;
    let word = if on { "paused" } else { "resumed" };
    global.output.show(&json!({ "task": task.to_string(), "paused": on, "touched": touched }), |_| {
        format!("{task} is {word}; {touched} runs and schedules concerned")
    });
    Ok(())
}

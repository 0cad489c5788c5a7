//! `ostler triggers`.

use clap::{Args, Subcommand};
use comfy_table::Cell;
use ostler_api::{Api, FireRequest, TriggersBy};
use serde_json::{Value, json};

use super::{Global, Paging, list_footer};
use crate::{context, error::CliError, output};

/// List, fire, pause and resume triggers
#[derive(Subcommand)]
pub enum Triggers {
    /// List triggers: what they listen to, how often they fired, ignored, or had heard it before, and what is wrong
    List(List),
    /// Hand a trigger an event
    Fire(Fire),
    /// Hold a trigger back: events that come meanwhile do not count
    Pause(Named),
    /// Let a trigger go
    Resume(Named),
}

#[derive(Args)]
pub struct List {
    /// Only of this task: `task` or `namespace:task`
    task: Option<String>,
    #[command(flatten)]
    paging: Paging<TriggersBy>,
}

#[derive(Args)]
#[command(
    after_help = "Examples:\n  ostler triggers fire deploy webhook1 --body '{\"json\": {\"ref\": \"main\"}}'\n  ostler triggers fire load file1 --body '{\"path\": \"/data/in/a.csv\"}' --delivery again-1"
)]
pub struct Fire {
    /// The task: `task` or `namespace:task`
    task: String,
    /// The trigger
    trigger: String,
    /// What the event carries, as JSON: `event.body` in the file's expressions
    #[arg(long, value_name = "JSON", default_value = "null")]
    body: String,
    /// A second event with the same id is counted and does nothing
    #[arg(long, value_name = "ID")]
    delivery: Option<String>,
}

#[derive(Args)]
pub struct Named {
    /// The task: `task` or `namespace:task`
    task: String,
    /// The trigger
    trigger: String,
}

impl Triggers {
    pub fn run(self, global: &Global) -> Result<u8, CliError> {
        let api = context::api(global)?;
        match self {
            Self::List(list) => list.run(global, &*api),
            Self::Fire(fire) => {
                let task = api.resolve_task(&fire.task)?;
                let request = FireRequest { body: json_of(&fire.body)?, delivery: fire.delivery };
                let accepted = api.fire(&task, &fire.trigger, &request)?;
                global.output.show(&accepted, |a| format!("taken; see `ostler why {}`", a.trigger));
                Ok(0)
            }
            Self::Pause(named) => hold(global, &*api, &named, true),
            Self::Resume(named) => hold(global, &*api, &named, false),
        }
    }
}

fn hold(global: &Global, api: &dyn Api, named: &Named, on: bool) -> Result<u8, CliError> {
    let task = api.resolve_task(&named.task)?;
    let touched = api.hold_schedule(&task, Some(&named.trigger), on)?.touched;
    let word = if on { "paused" } else { "resumed" };
    let told =
        json!({ "task": task.to_string(), "trigger": named.trigger, "paused": on, "touched": touched });
    global.output.show(&told, |_| format!("{task}/{} is {word}", named.trigger));
    Ok(0)
}

/// A value given as JSON at the command line.
pub fn json_of(text: &str) -> Result<Value, CliError> {
    serde_json::from_str(text).map_err(|e| {
        CliError::usage(format!("`{text}` is not JSON: {e}"))
            .hint("texts need quotes of their own: '\"text\"'")
    })
}

impl List {
    fn run(self, global: &Global, api: &dyn Api) -> Result<u8, CliError> {
        let task = self.task.as_deref().map(|text| api.resolve_task(text)).transpose()?;
        let page = self.paging.collect(|page| api.triggers(task.as_ref(), page))?;
        let now = context::now();
        global.output.show(&page, |page| {
            let rows = page
                .items
                .iter()
                .map(|t| {
                    let trouble = t.listening.as_ref().and_then(|l| l.trouble.as_ref());
                    let state = match (&t.ended, t.paused, trouble) {
                        (Some(reason), ..) => format!("ended: {reason}"),
                        (None, true, _) => "paused".to_owned(),
                        (None, false, Some(trouble)) => format!("does not hear: {trouble}"),
                        (None, false, None) => "active".to_owned(),
                    };
                    vec![
                        Cell::new(format!("{}:{}/{}", t.namespace, t.task, t.trigger)),
                        Cell::new(state),
                        Cell::new(&t.words),
                        Cell::new(t.fired),
                        Cell::new(t.ignored),
                        Cell::new(t.replays),
                        Cell::new(output::moment(t.last, now)),
                        Cell::new(output::moment(t.next, now)),
                    ]
                })
                .collect();
            let headings =
                ["trigger", "state", "fires", "fired", "ignored", "replayed", "last", "fires then"];
            let table = if page.items.is_empty() { String::new() } else { output::table(&headings, rows) };
            table + &list_footer(page.items.len(), "triggers", page.next.as_deref())
        });
        Ok(0)
    }
}

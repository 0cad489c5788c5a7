//! `ostler namespaces`.

use clap::{Args, Subcommand};
use comfy_table::Cell;
use ostler_api::{NamespacesBy, Weight};
use serde_json::json;

use super::{Global, Paging, list_footer};
use crate::{context, error::CliError, output};

/// List, pause and resume namespaces
#[derive(Subcommand)]
pub enum Namespaces {
    /// List namespaces
    List(List),
    /// Hold back all tasks of a namespace
    Pause(Named),
    /// Let a namespace go
    Resume(Named),
    /// Give a namespace its part of the work beside others that wait
    Weight(Weighed),
}

#[derive(Args)]
pub struct List {
    #[command(flatten)]
    paging: Paging<NamespacesBy>,
}

#[derive(Args)]
pub struct Named {
    /// The namespace (a prefix will do)
    namespace: String,
}

#[derive(Args)]
#[command(after_help = "\
Namespaces that have something ready share the time of all slots by their weights, however long their runs take. A
namespace has weight 1 until it is given another one.

Examples:
  ostler namespaces weight production 3     three times what another one gets
  ostler namespaces list                    shows weights")]
pub struct Weighed {
    /// The namespace (a prefix will do)
    namespace: String,
    /// From 1 to 1000
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    weight: u32,
}

impl Namespaces {
    pub fn run(self, global: &Global) -> Result<u8, CliError> {
        let api = context::api(global)?;
        let (named, on) = match self {
            Self::List(list) => {
                let page = list.paging.collect(|page| api.namespaces(page))?;
                let now = context::now();
                global.output.show(&page, |page| {
                    let rows = page
                        .items
                        .iter()
                        .map(|n| {
                            vec![
                                Cell::new(&n.name),
                                Cell::new(if n.paused { "paused" } else { "active" }),
                                Cell::new(n.weight),
                                Cell::new(n.tasks),
                                Cell::new(output::moment(Some(n.seen_at), now)),
                                Cell::new(&n.actor),
                                Cell::new(&n.origin),
                            ]
                        })
                        .collect();
                    let headings = ["namespace", "state", "weight", "tasks", "last pushed", "by", "origin"];
                    let table =
                        if page.items.is_empty() { String::new() } else { output::table(&headings, rows) };
                    table + &list_footer(page.items.len(), "namespaces", page.next.as_deref())
                });
                return Ok(0);
            }
            Self::Pause(named) => (named, true),
            Self::Resume(named) => (named, false),
            Self::Weight(weighed) => {
                let namespace = api.resolve_namespace(&weighed.namespace)?;
                let Weight { weight } = api.weigh_namespace(&namespace, Weight { weight: weighed.weight })?;
                global.output.show(&json!({ "namespace": namespace, "weight": weight }), |_| {
                    format!("{namespace} has weight {weight}")
                });
                return Ok(0);
            }
        };
        let namespace = api.resolve_namespace(&named.namespace)?;
        let touched = api.hold_namespace(&namespace, on)?.touched;
        let word = if on { "paused" } else { "resumed" };
        global.output.show(&json!({ "namespace": namespace, "paused": on, "touched": touched }), |_| {
            format!("{namespace} is {word}; {touched} runs and schedules concerned")
        });
        Ok(0)
    }
}

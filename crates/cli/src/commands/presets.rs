//! `ostler presets`.

use clap::{Args, Subcommand};
use comfy_table::Cell;
use ostler_api::DefinitionsBy;

use super::{Global, Paging, list_footer};
use crate::{context, error::CliError, output};

/// List presets
#[derive(Subcommand)]
pub enum Presets {
    /// List presets, by namespace and id
    List(List),
}

#[derive(Args)]
pub struct List {
    /// Only of this namespace (a prefix will do)
    #[arg(long, short = 'n', visible_alias = "ns")]
    namespace: Option<String>,
    #[command(flatten)]
    paging: Paging<DefinitionsBy>,
}

impl Presets {
    pub fn run(self, global: &Global) -> Result<u8, CliError> {
        let Self::List(list) = self;
        let api = context::api(global)?;
        let namespace = list.namespace.as_deref().map(|n| api.resolve_namespace(n)).transpose()?;
        let page = list.paging.collect(|page| api.presets(namespace.as_deref(), page))?;
        global.output.show(&page, |page| {
            let rows = page
                .items
                .iter()
                .map(|p| {
                    let inputs = p.definition.get("inputs").map(ToString::to_string).unwrap_or_default();
                    vec![
                        Cell::new(format!("{}:{}", p.namespace, p.id)),
                        Cell::new(&p.task),
                        Cell::new(if p.missing { "missing" } else { "there" }),
                        Cell::new(output::first_line(&inputs, 60)),
                    ]
                })
                .collect();
            let table = if page.items.is_empty() {
                String::new()
            } else {
                output::table(&["preset", "task", "state", "inputs"], rows)
            };
            table + &list_footer(page.items.len(), "presets", page.next.as_deref())
        });
        Ok(0)
    }
}

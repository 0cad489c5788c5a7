//! `ostler nodes`.

use clap::Args;
use comfy_table::Cell;
use ostler_api::NodeView;

use super::Global;
use crate::{context, error::CliError, output};

/// Show the processes that work on the store, or did lately
#[derive(Args)]
#[command(
    after_help = "A node that serves claims whatever is due; a worker takes jobs over HTTP; others have their own runs only (`ostler run`).\n\nExamples:\n  ostler nodes\n  ostler nodes --all --output json"
)]
pub struct Nodes {
    /// Those that have gone, too
    #[arg(long)]
    all: bool,
}

impl Nodes {
    pub fn run(self, global: &Global) -> Result<u8, CliError> {
        let mut nodes = context::api(global)?.nodes()?;
        nodes.retain(|node| self.all || !node.closed);
        let now = context::now();
        global.output.show(&nodes, |nodes| {
            if nodes.is_empty() {
                return "no node works on this store; `ostler serve` starts one".to_owned();
            }
            let state = |node: &NodeView| match node {
                NodeView { closed: true, .. } => "gone",
                NodeView { draining: true, .. } => "ends",
                NodeView { owner: true, .. } => "serves",
                NodeView { worker: Some(_), .. } => "works",
                _ => "runs its own",
            };
            let labels = |node: &NodeView| match node.only_labelled {
                true => format!("{} only", node.labels.join(", ")),
                false => node.labels.join(", "),
            };
            let rows = nodes
                .iter()
                .map(|node| {
                    vec![
                        Cell::new(node.id),
                        Cell::new(&node.name),
                        Cell::new(state(node)),
                        Cell::new(node.claims),
                        Cell::new(node.slots),
                        Cell::new(labels(node)),
                        Cell::new(output::moment(Some(node.started_at), now)),
                    ]
                })
                .collect();
            output::table(&["id", "name", "state", "at work", "slots", "labels", "since"], rows)
        });
        Ok(0)
    }
}

//! `ostler events`.

use std::time::Duration;

use clap::Args;
use ostler_api::EventView;

use super::Global;
use crate::{context, error::CliError, output};

/// How long one answer is waited for; then the next is asked for.
const PATIENCE: Duration = Duration::from_secs(20);

/// Show what happened, event by event
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ostler events --limit 20\n  ostler events --follow\n  ostler events --after e1234 --output json"
)]
pub struct Events {
    /// Go on after this cursor; without it from the oldest
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Go on as events come, one a line, until Ctrl-C
    #[arg(long, short = 'f')]
    follow: bool,
}

impl Events {
    pub fn run(self, global: &Global) -> Result<u8, CliError> {
        let api = context::api(global)?;
        if !self.follow {
            let page = api.events(self.after.as_deref(), self.limit, Duration::ZERO)?;
            global.output.show(&page, |page| page.items.iter().map(line).collect::<Vec<_>>().join("\n"));
            return Ok(0);
        }
        let mut after = self.after;
        loop {
            let page = api.events(after.as_deref(), 1000, PATIENCE)?;
            for event in &page.items {
                if global.output.is_machine() {
                    output::print(&serde_json::to_string(event).unwrap_or_default());
                } else {
                    output::print(&line(event));
                }
            }
            after = Some(page.next);
        }
    }
}

fn line(event: &EventView) -> String {
    let body =
        if event.body.is_null() { String::new() } else { output::first_line(&event.body.to_string(), 160) };
    format!("{}  {}  {}  {:<14} {body}", event.cursor, event.at, event.machine, event.kind)
}

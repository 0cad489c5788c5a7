//! `ostler worker-test`: whether a program is a worker as `docs/worker.md` has it.

mod proxy;
mod scenarios;
mod yard;

use clap::Args;
use comfy_table::Cell;
use serde::Serialize;

use self::{scenarios::SCENARIOS, yard::Yard};
use super::Global;
use crate::{context, error::CliError, output};

/// Check that a program is a worker as the protocol has it
#[derive(Args)]
#[command(
    after_help = "It starts a server of its own on a fresh store and the command with OSTLER_SERVER, OSTLER_TOKEN and\nOSTLER_WORKER_SLOTS (4) in its environment, gives it jobs for `shell`, and says how each scenario ended. Between\nthe two stands a proxy that loses answers. Takes about a minute. Exit code 0: all went as they should; 1: not.\n\nExamples:\n  ostler worker-test -- ostler worker\n  ostler worker-test -- python3 examples/worker/worker.py\n  ostler worker-test --only cancellation -- ./my-worker --fast"
)]
pub struct WorkerTest {
    /// Only these scenarios; may be given several times
    #[arg(long, value_name = "SCENARIO")]
    only: Vec<String>,
    /// The worker's program with its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// How a scenario ended.
#[derive(Serialize)]
struct Verdict {
    scenario: &'static str,
    passed: bool,
    /// What was wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

impl WorkerTest {
    pub fn run(self, global: &Global) -> Result<u8, CliError> {
        let known = || SCENARIOS.iter().map(|s| s.name).collect::<Vec<_>>().join(", ");
        if let Some(unknown) = self.only.iter().find(|name| SCENARIOS.iter().all(|s| s.name != **name)) {
            return Err(CliError::usage(format!("there is no scenario `{unknown}`; there are {}", known())));
        }
        let wanted =
            SCENARIOS.iter().filter(|s| self.only.is_empty() || self.only.iter().any(|o| o == s.name));
        let is_quiet = global.output.is_machine();
        let verdicts = context::runtime()?.block_on(async {
            let mut yard = Yard::open(self.command).await?;
            let mut verdicts = Vec::new();
            for scenario in wanted {
                if !is_quiet {
                    eprint!("{:<20}", scenario.name);
                }
                let why = (scenario.play)(&mut yard).await.err();
                if !is_quiet {
                    eprintln!("{}", why.as_deref().map_or("ok", |_| "FAILED"));
                }
                // One that went wrong leaves nothing behind for the next.
                if why.is_some() {
                    yard.renew().await;
                }
                verdicts.push(Verdict { scenario: scenario.name, passed: why.is_none(), why });
            }
            Ok::<_, CliError>(verdicts)
        })?;
        let failed = verdicts.iter().filter(|v| !v.passed).count();
        global.output.show(&verdicts, |verdicts| {
            let rows = verdicts
                .iter()
                .filter(|v| !v.passed)
                .map(|v| vec![Cell::new(v.scenario), Cell::new(v.why.as_deref().unwrap_or_default())])
                .collect::<Vec<_>>();
            match rows.len() {
                0 => format!("a worker: {} scenarios passed", verdicts.len()),
                failed => {
                    let words = format!("{failed} of {} scenarios failed", verdicts.len());
                    format!("{}\n{words}", output::table(&["scenario", "what was wrong"], rows))
                }
            }
        });
        Ok(u8::from(failed > 0))
    }
}

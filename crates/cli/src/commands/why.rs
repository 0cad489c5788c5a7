//! `ostler why`.

use clap::Args;
use ostler_model::Uid;

use super::Global;
use crate::{context, error::CliError};

/// Explain why a run or schedule is as it is
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ostler why 0193a2b4-5c6d-7e8f-9a0b-1c2d3e4f5a6b\n  ostler why 0193… --output json"
)]
pub struct Why {
    /// The run or schedule
    id: Uid,
}

impl Why {
    pub fn run(self, global: &Global) -> Result<u8, CliError> {
        let told = context::api(global)?.why(self.id)?;
        global.output.show(&told, |told| {
            let mut lines = vec![format!("{} is {}", told.what, told.state)];
            lines.extend(told.because.iter().map(|b| format!("  - {b}")));
            lines.extend(told.hints.iter().map(|h| format!("  try: {h}")));
            lines.join("\n")
        });
        Ok(0)
    }
}

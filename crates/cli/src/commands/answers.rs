//! `ostler signal`, `ostler approve`, `ostler reject`: answers to runs that wait for one.

use clap::Args;
use ostler_api::{Answered, SignalRequest, Verdict};
use ostler_model::Uid;

use super::{Global, triggers::json_of};
use crate::{context, error::CliError};

/// Send a run a signal that it waits for, or will
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ostler signal 0197f3c1-7d7a-7000-8000-000000000001 paid --data '{\"amount\": 12}'"
)]
pub struct Signal {
    /// The run
    id: Uid,
    /// The signal, as the step that waits for it says
    name: String,
    /// What it carries, as JSON: the outputs of the step
    #[arg(long, value_name = "JSON", default_value = "null")]
    data: String,
    /// For the record
    #[arg(long, default_value = "")]
    comment: String,
}

/// Answer what a run waits to be approved
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ostler approve 0197f3c1-7d7a-7000-8000-000000000001 --comment 'looks good'\n  ostler reject 0197f3c1-7d7a-7000-8000-000000000001 --step release"
)]
pub struct Decision {
    /// The run
    id: Uid,
    /// Which step, where several wait
    #[arg(long)]
    step: Option<String>,
    /// What goes with it, as JSON: `outputs.data` of the step
    #[arg(long, value_name = "JSON", default_value = "null")]
    data: String,
    /// For the record
    #[arg(long, default_value = "")]
    comment: String,
}

impl Signal {
    pub fn run(self, global: &Global) -> Result<u8, CliError> {
        let request = SignalRequest { name: self.name, data: json_of(&self.data)?, comment: self.comment };
        let answered = context::api(global)?.signal(self.id, &request)?;
        global.output.show(&answered, |a| told(a, "sent"));
        Ok(0)
    }
}

impl Decision {
    pub fn run(self, global: &Global, approve: bool) -> Result<u8, CliError> {
        let verdict = Verdict { approve, step: self.step, data: json_of(&self.data)?, comment: self.comment };
        let answered = context::api(global)?.decide(self.id, &verdict)?;
        global.output.show(&answered, |a| told(a, if approve { "approved" } else { "rejected" }));
        Ok(0)
    }
}

fn told(answered: &Answered, word: &str) -> String {
    match answered.delivered {
        true => format!("{word}: step {}", answered.step),
        false => format!("{word}: kept until step {} waits for it", answered.step),
    }
}

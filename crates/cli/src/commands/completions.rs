//! `ostler completions`.

use clap::{Args, CommandFactory};

use super::Cli;
use crate::error::CliError;

/// Print completions for a shell
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ostler completions bash > ~/.local/share/bash-completion/completions/ostler\n  ostler completions zsh > ~/.zfunc/_ostler"
)]
pub struct Completions {
    /// The shell
    shell: clap_complete::Shell,
}

impl Completions {
    pub fn run(self) -> Result<u8, CliError> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "ostler", &mut text);
        crate::output::print(&String::from_utf8_lossy(&text));
        Ok(0)
    }
}

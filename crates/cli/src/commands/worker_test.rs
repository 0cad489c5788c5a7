//! `ostler worker-test`.

use clap::Args;

use super::Global;
use crate::error::CliError;

/// Check that a program is a worker as the protocol has it
#[derive(Args)]
pub struct WorkerTest {}

impl WorkerTest {
    pub fn run(self, _: &Global) -> Result<u8, CliError> {
        Ok(0)
    }
}

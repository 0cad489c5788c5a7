//! The kinds of machines.

mod flow;
mod run;
mod schedule;

pub use flow::Flow;
pub use run::Run;
pub use schedule::{Presets, Schedule};

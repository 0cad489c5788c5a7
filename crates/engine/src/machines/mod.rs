//! The kinds of machines.

use std::sync::Arc;

use crate::Machine;

mod flow;
mod run;
mod schedule;
mod trigger;
mod wait;

pub use flow::Flow;
pub use run::Run;
pub use schedule::{Presets, Schedule};
pub use trigger::Trigger;
pub use wait::{Answer, WAIT, signal_of};

/// One of each kind; `presets` finds presets by namespace and id.
#[must_use]
pub fn all(presets: Arc<Presets>) -> Vec<Arc<dyn Machine>> {
    vec![
        Arc::new(Run),
        Arc::new(Flow),
        Arc::new(Schedule { presets: presets.clone() }),
        Arc::new(Trigger { presets }),
    ]
}

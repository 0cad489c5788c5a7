//! Events: facts from the outbox.

use jiff::Timestamp;
use ostler_model::Uid;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventView {
    /// Where to go on after it.
    pub cursor: String,
    /// When.
    pub at: Timestamp,
    /// Which machine.
    pub machine: Uid,
    /// Its step after it.
    pub step: u64,
    /// What happened, in a word.
    pub kind: String,
    /// The details.
    pub body: Value,
}

/// A page of events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventsPage {
    /// Events in order.
    pub items: Vec<EventView>,
    /// Where to go on; nothing will ever appear before it.
    pub next: String,
    /// True when these were all there are now.
    pub complete: bool,
}

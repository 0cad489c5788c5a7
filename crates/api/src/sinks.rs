//! Sinks: what carries events out.

use jiff::Timestamp;
use ostler_model::definition::SinkDef;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A sink.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SinkView {
    /// Namespace.
    pub namespace: String,
    /// Its id.
    pub id: String,
    /// Where it goes, in words.
    pub words: String,
    /// Whether events are carried out for it.
    pub state: SinkState,
    /// The node that does it.
    pub node: Option<String>,
    /// What comes after this event has still to be carried out, or passed over.
    pub cursor: Option<String>,
    /// How many that is; more than ten thousand are not counted.
    pub behind: u64,
    /// How many were carried out.
    pub delivered: u64,
    /// When the last of them was.
    pub last: Option<Timestamp>,
    /// Why it does not go on, and since when.
    pub trouble: Option<SinkRemark>,
    /// What it last passed over for good, and when.
    pub missed: Option<SinkRemark>,
    /// Where it comes from.
    pub origin: String,
    /// First pushed.
    pub created_at: Timestamp,
    /// Last changed.
    pub updated_at: Timestamp,
    /// The definition.
    pub definition: SinkDef,
}

/// Whether events are carried out for a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SinkState {
    /// A node does it.
    Active,
    /// No node does it yet.
    Waiting,
    /// It is held back by hand.
    Paused,
    /// Its definition does not let it go.
    Disabled,
    /// Its origin does not hold it any more.
    Missing,
}

impl SinkState {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Waiting => "waiting",
            Self::Paused => "paused",
            Self::Disabled => "disabled",
            Self::Missing => "missing",
        }
    }
}

/// Words of a moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SinkRemark {
    /// Since when, or when.
    pub at: Timestamp,
    /// What there is to say.
    pub words: String,
}

/// Where a sink is to go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SinkReset {
    /// `oldest`: with the oldest event that is left; `now`: with what comes from now on; or behind this cursor.
    pub from: String,
}

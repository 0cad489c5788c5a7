//! Bodies of requests that have no other use.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{BulkFilter, RerunRequest, StartRequest};

/// Many starts: all are made in one transaction, or none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StartMany {
    /// What is to be started, answered in the same order.
    #[schemars(length(max = 100_000))]
    pub runs: Vec<StartRequest>,
}

/// Many runs to be run again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryMany {
    /// Which.
    pub which: BulkFilter,
    /// How.
    #[serde(default)]
    pub how: RerunRequest,
}

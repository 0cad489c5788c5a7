//! Retention: how much history stays.

use ostler_model::{Span, Uid};
use ostler_store::{Command, Prune, Reply};
use serde::{Deserialize, Serialize};

use crate::{Actor, Service, ServiceError, Verb};

/// How much history stays. Whatever comes first takes the oldest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionPolicy {
    /// Ended runs are kept so long.
    pub age: Option<Span>,
    /// So many ended runs are kept.
    pub count: Option<u64>,
    /// The store's pages in use stay below so many bytes.
    pub bytes: Option<u64>,
}

impl Default for RetentionPolicy {
    /// 90 days, a million runs, 10 GiB.
    fn default() -> Self {
        Self { age: Some(Span::from_secs(90 * 86_400)), count: Some(1_000_000), bytes: Some(10 << 30) }
    }
}

/// What retention took.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RetentionReport {
    /// Runs whose logs go too.
    pub runs: Vec<Uid>,
    /// Events.
    pub events: u64,
    /// There is more to take.
    pub more: bool,
}

impl Service {
    /// Takes one bounded batch of what is beyond the policy.
    ///
    /// # Errors
    /// The store's.
    pub fn prune(
        &self,
        actor: &Actor,
        policy: &RetentionPolicy,
        batch: u32,
    ) -> Result<RetentionReport, ServiceError> {
        self.authorise(actor, Verb::Delete, None)?;
        let before = policy.age.map(|age| self.now_micros().saturating_sub(age.as_micros()));
        let prune =
            Prune { before, keep: policy.count, max_bytes: policy.bytes, events_before: before, batch };
        match self.write(Command::Prune(prune))? {
            Reply::Pruned(pruned) => Ok(RetentionReport {
                runs: pruned.machines.into_iter().map(|m| self.uid(m)).collect(),
                events: pruned.events,
                more: pruned.more,
            }),
            other => Err(unexpected(&other)),
        }
    }
}

/// An answer that does not fit its command: a defect, told as one.
pub(crate) fn unexpected(reply: &Reply) -> ServiceError {
    ServiceError::Store(ostler_store::StoreError::Refused(format!(
        "the store gave an answer that does not fit: {reply:?}"
    )))
}

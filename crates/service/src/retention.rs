//! Retention: how much history stays.

use ostler_api::{PruneReport, RetentionPolicy};
use ostler_model::Span;
use ostler_store::{Command, Prune, Reply};

use crate::{Actor, Service, ServiceError, Verb};

/// How long events that a sink could not carry out are kept beyond what the policy says.
const KEEP_UNSENT: Span = Span::from_secs(7 * 24 * 3600);

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
    ) -> Result<PruneReport, ServiceError> {
        self.authorise(actor, Verb::Delete, None)?;
        let before = policy.age.map(|age| self.now_micros().saturating_sub(age.as_micros()));
        let prune = Prune {
            before,
            keep: policy.count,
            max_bytes: policy.bytes,
            events_before: before,
            unsent: self.unsent(self.now_micros().saturating_sub(KEEP_UNSENT.as_micros()))?,
            batch,
        };
        match self.write(Command::Prune(prune))? {
            Reply::Pruned(pruned) => Ok(PruneReport {
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

//! What goes wrong around a machine: attempts that are lost again and again, time that is up, a slow store, nodes that
//! all leave it to others.

use ostler_engine::{
    fields::FlowFields,
    time::{after, timestamp},
};
use ostler_model::Span;
use ostler_store::MachineRow;
use serde_json::json;

use super::Story;
use crate::ServiceError;

/// A store that takes longer for a sign of life is called slow.
const SLOW: Span = Span::from_secs(1);

impl Story<'_> {
    /// Attempts that went down with their nodes: one that takes its node down with it is seen by their number.
    pub(super) fn losses(&mut self, all: &FlowFields) {
        match all.run.lost {
            0 => {}
            1 => {
                self.say("an attempt of it was lost: the node that had it died or lost its lease".to_owned())
            }
            lost => self.say(format!(
                "{lost} attempts of it were lost: the nodes that had them died or lost their leases"
            )),
        }
        if all.run.lost > 0 {
            self.facts["lost"] = json!(all.run.lost);
        }
    }

    /// Time that is up already is told when a node gets to it.
    pub(super) fn deadline(&mut self, row: &MachineRow, all: &FlowFields) -> Result<(), ServiceError> {
        let (None, Some(due)) = (row.parent, all.run.due) else { return Ok(()) };
        let task = self.service.pinned_task(row.definition)?;
        let policy = all.run.policy.clone().unwrap_or_default().over(&task.def.policy);
        let mut limits = vec![(policy.deadline, "deadline", timestamp(due))];
        match row.started_at {
            None => limits.push((policy.timeout.queue, "time to wait for a place", timestamp(due))),
            Some(at) => limits.push((policy.timeout.total, "time in all", timestamp(at))),
        }
        for (limit, what, from) in limits {
            let Some(limit) = limit else { continue };
            let at = after(from, limit);
            if at <= self.now {
                self.say(format!(
                    "its {what}, {limit}, is over {}: it ends when a node gets to it",
                    self.moment(at)
                ));
            }
        }
        Ok(())
    }

    /// Nodes whose last sign of life waited long for the store, as everything else does that they write.
    pub(super) fn slow_store(&mut self) -> Result<(), ServiceError> {
        let nodes = self.service.read(|q| q.nodes())?;
        for node in nodes.iter().filter(|n| !n.closed && n.waited >= SLOW.as_micros()) {
            let waited = Span::from_millis((node.waited / 1000).unsigned_abs());
            self.say(format!(
                "the store is slow: node {} ({}) waited {waited} for it to take a sign of life",
                node.node.0, node.name
            ));
        }
        Ok(())
    }

    /// Whether everybody leaves what asks for no label to others.
    pub(super) fn only_labelled(&mut self) -> Result<(), ServiceError> {
        let nodes = self.service.read(|q| q.nodes())?;
        let here = || nodes.iter().filter(|n| !n.closed && (n.owner || n.worker.is_some()));
        if here().next().is_some() && here().all(|n| n.only_labelled || n.slots == 0) {
            self.say(
                "it asks for no label, and each living node takes only what asks for its labels, or has no slots"
                    .to_owned(),
            );
            self.hints.push("ostler worker --server URL".to_owned());
        }
        Ok(())
    }
}

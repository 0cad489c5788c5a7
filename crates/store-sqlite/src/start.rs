//! Start: making machines.

use ostler_model::{Kind, MachineId};
use ostler_store::{Claimed, EventBody, NewMachine, NodeId, StartOutcome, StoreError};
use rusqlite::{OptionalExtension, params};

use crate::{Tx, error::told};

impl Tx<'_> {
    /// Makes a machine; for a node, claims it at once where nothing stands before it.
    pub(crate) fn start(
        &mut self,
        machine: &NewMachine,
        claim_for: Option<NodeId>,
    ) -> Result<(StartOutcome, Option<Claimed>), StoreError> {
        let ns = self.namespace(&machine.namespace)?;
        if let Some(key) = &machine.unique_key
            && let Some(id) = self.find("SELECT id FROM machine WHERE ns=?1 AND unique_key=?2", ns, key)?
        {
            return Ok((StartOutcome::AlreadyRunning(id), None));
        }
        if let Some(key) = &machine.idempotency_key
            && let Some(id) = self.find("SELECT id FROM machine WHERE ns=?1 AND idem_key=?2", ns, key)?
        {
            return Ok((StartOutcome::Repeated(id), None));
        }
        let id = self.next_id()?;
        let event = self.event(id, 1, 0, &machine.event)?;
        let ended = machine.state != 0;
        self.sql
            .prepare_cached(
                "INSERT INTO machine (id, kind, ns, task, definition, state, parent, child_key, watcher, finished_at,
                   unique_key, idem_key, last_event, fields)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
            )
            .and_then(|mut s| {
                s.execute(params![
                    id.0,
                    machine.kind,
                    ns,
                    machine.task,
                    machine.definition,
                    machine.state,
                    machine.parent.map(|p| p.0),
                    machine.child_key,
                    machine.watcher.map(|w| w.0),
                    ended.then_some(self.now),
                    machine.unique_key.as_ref().filter(|_| !ended),
                    machine.idempotency_key,
                    event,
                    machine.fields,
                ])
            })
            .map_err(told)?;
        if ended {
            return Ok((StartOutcome::Started(id), None));
        }
        let lane = self.lane(ns, machine)?;
        let held = self.is_held(ns, machine.task)?;
        let free = machine.concurrency.is_none() && machine.rate.is_none();
        let claimed_by = match claim_for {
            Some(node) if free && !held && machine.due_at <= self.now && !self.has_ready(lane)? => Some(node),
            _ => None,
        };
        let phase = match (held, claimed_by) {
            (true, _) => 3,
            (_, Some(_)) => 2,
            _ => i64::from(machine.due_at <= self.now),
        };
        self.sql
            .prepare_cached(
                "INSERT INTO tick (machine, lane, priority, due_at, phase, node, fence, since, held)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )
            .and_then(|mut s| {
                let fence = i64::from(claimed_by.is_some());
                let (node, since) = (claimed_by.map(|n| n.0), claimed_by.map(|_| self.now));
                s.execute(params![id.0, lane, machine.priority, machine.due_at, phase, node, fence, since, held])
            })
            .map_err(told)?;
        let claimed = match claimed_by {
            None => None,
            Some(_) => Some(Claimed {
                id,
                kind: Kind(machine.kind),
                namespace: self.namespace_name(ns)?,
                task: machine.task,
                definition: machine.definition,
                step: 1,
                fence: 1,
                fields: machine.fields.clone(),
                due_at: machine.due_at,
                started_at: None,
                lost: false,
                refused: false,
                parent: machine.parent,
                child_key: machine.child_key.clone(),
                watcher: machine.watcher,
                home: machine.home,
                mail: Vec::new(),
            }),
        };
        Ok((StartOutcome::Started(id), claimed))
    }

    fn find(&self, sql: &str, ns: i64, key: &str) -> Result<Option<MachineId>, StoreError> {
        self.sql
            .prepare_cached(sql)
            .and_then(|mut s| s.query_row(params![ns, key], |r| r.get(0)).optional())
            .map(|id| id.map(MachineId))
            .map_err(told)
    }

    fn has_ready(&self, lane: i64) -> Result<bool, StoreError> {
        self.sql
            .prepare_cached("SELECT 1 FROM tick WHERE phase=1 AND lane=?1 LIMIT 1")
            .and_then(|mut s| s.exists([lane]))
            .map_err(told)
    }

    /// The next key: later than all others, whatever the clock or other processes did.
    fn next_id(&mut self) -> Result<MachineId, StoreError> {
        if self.names.last_id == 0 {
            self.names.last_id = self
                .sql
                .prepare_cached("SELECT coalesce(max(id), 0) FROM machine")
                .and_then(|mut s| s.query_row([], |r| r.get(0)))
                .map_err(told)?;
        }
        self.names.last_id = (self.names.last_id + 1).max(MachineId::first_at(self.now / 1000).0);
        Ok(MachineId(self.names.last_id))
    }

    /// Appends an event and gives its number.
    pub(crate) fn event(&self, machine: MachineId, step: i64, prev: i64, event: &EventBody) -> Result<i64, StoreError> {
        self.sql
            .prepare_cached("INSERT INTO event (at, machine, step, prev, kind, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")
            .and_then(|mut s| s.insert(params![self.now, machine.0, step, prev, event.kind, event.body]))
            .map_err(told)
    }
}

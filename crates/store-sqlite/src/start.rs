//! Start: making machines.

use ostler_model::{Kind, MachineId};
use ostler_store::{Claimed, EventBody, NewMachine, NodeId, Receipt, StartOutcome, StoreError};
use rusqlite::params;

use crate::{Tx, claim::heard, lanes::VISIT};

/// A new machine's first step.
const FIRST_STEP: i64 = 1;

impl Tx<'_> {
    /// Makes a machine; for a node, claims it at once where nothing stands before it.
    pub(crate) fn start(
        &mut self,
        machine: &NewMachine,
        claim_for: Option<NodeId>,
    ) -> Result<(StartOutcome, Option<Claimed>), StoreError> {
        if machine.state < 0 {
            return Err(StoreError::Refused(format!("{} is not a state to begin with", machine.state)));
        }
        let ns = self.namespace(&machine.namespace)?;
        if let Some(key) = &machine.idempotency_key {
            let sql = "SELECT id FROM machine WHERE ns=?1 AND idem_key=?2";
            if let Some(id) = self.row(sql, params![ns, key], |r| r.get(0))? {
                return Ok((StartOutcome::Repeated(MachineId(id)), None));
            }
        }
        if let Some(key) = &machine.unique_key {
            let sql = "SELECT id FROM machine WHERE ns=?1 AND unique_key=?2";
            if let Some(id) = self.row(sql, params![ns, key], |r| r.get(0))? {
                return Ok((StartOutcome::AlreadyRunning(MachineId(id)), None));
            }
        }
        let id = self.next_id()?;
        let event = self.event(id, FIRST_STEP, 0, &machine.event)?;
        let ended = machine.state != 0;
        self.run(
            "INSERT INTO machine (id, kind, ns, task, definition, state, parent, child_key, watcher, finished_at,
               unique_key, idem_key, last_event, fields)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
            params![
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
            ],
        )?;
        let heard = heard(Kind(machine.kind), machine.parent, machine.task);
        if ended {
            self.tell_end(id, heard)?;
            return Ok((StartOutcome::Started(id), None));
        }
        let lane = self.lane_for(ns, machine)?;
        // A pause holds back what begins. A part belongs to something that has begun.
        let held = if machine.parent.is_some() { 0 } else { self.held_by_pause(ns, machine.task)? };
        let due = machine.due_at <= self.now;
        let free = machine.concurrency.is_none() && machine.rate.is_none() && machine.labels.is_empty();
        let claim_for = match claim_for {
            Some(node) if due && free && held == 0 && machine.home.is_none_or(|home| home == node) => {
                Some(node).filter(|_| !self.has_ready(lane).unwrap_or(true) && self.may_take(node).is_ok())
            }
            _ => None,
        };
        let phase = match claim_for {
            _ if held != 0 => 3,
            Some(_) => 2,
            None => i64::from(due),
        };
        let since = claim_for.map(|_| self.now);
        let charged = match claim_for {
            Some(_) if !machine.light => self.turns.of(false).shares.charge_start(ns, machine.priority),
            _ => 0,
        };
        self.run(
            "INSERT INTO tick (machine, lane, priority, due_at, phase, node, fence, since, held, charged)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            params![
                id.0,
                lane,
                machine.priority,
                machine.due_at,
                phase,
                claim_for.map(|n| n.0),
                i64::from(claim_for.is_some()),
                since,
                held,
                charged
            ],
        )?;
        if phase == 1 && lane < 0 {
            self.run(VISIT, params![lane, machine.light])?;
        }
        let claimed = match claim_for {
            None => None,
            Some(_) => Some(Claimed {
                id,
                kind: Kind(machine.kind),
                light: machine.light,
                namespace: self.namespace_name(ns)?,
                task: machine.task,
                definition: machine.definition,
                step: FIRST_STEP as u64,
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
                receipt: Receipt {
                    lane,
                    last_event: event,
                    unique: machine.unique_key.is_some(),
                    task: heard,
                    charged,
                },
            }),
        };
        Ok((StartOutcome::Started(id), claimed))
    }

    /// Appends an event and gives its number.
    pub(crate) fn event(
        &mut self,
        machine: MachineId,
        step: i64,
        prev: i64,
        event: &EventBody,
    ) -> Result<i64, StoreError> {
        let seq = self.next_seq()?;
        self.run(
            "INSERT INTO event (seq, at, machine, step, prev, kind, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![seq, self.now, machine.0, step, prev, event.kind, event.body],
        )?;
        Ok(seq)
    }
}

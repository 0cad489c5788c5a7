//! Push: making the definitions of one origin what they are now.

use std::collections::{BTreeMap, BTreeSet};

use ostler_model::{Kind, MachineId};
use ostler_store::{
    EventBody, Letter, NewMachine, Push, PushStarter, PushTask, Pushed, StoreError, trigger_duty,
};
use rusqlite::{Row, params};

use crate::{Tx, hold::BY_TASK};

impl Tx<'_> {
    pub(crate) fn push(&mut self, push: &Push) -> Result<Pushed, StoreError> {
        let ns = self.namespace(&push.namespace)?;
        self.names.forget_holds();
        self.names.listeners = None;
        self.run(
            "UPDATE namespace SET origin=?2, actor=?3, ephemeral=?4, seen_at=?5 WHERE id=?1
               AND (origin<>?2 OR actor<>?3 OR ephemeral<>?4 OR seen_at<?5-60000000)",
            params![ns, push.origin, push.actor, push.ephemeral, self.now],
        )?;
        let mut pushed = Pushed::default();
        for task in &push.tasks {
            self.push_task(ns, push, task, &mut pushed)?;
        }
        for (name, (task, body)) in &push.presets {
            self.run(
                "INSERT INTO preset (ns, name, task, body, origin, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)
                 ON CONFLICT (ns, name) DO UPDATE SET task=?3, body=?4, origin=?5, missing=0, updated_at=?6
                 WHERE task<>?3 OR body<>?4 OR origin<>?5 OR missing=1",
                params![ns, name, task, body, push.origin, self.now],
            )?;
        }
        self.push_sinks(ns, push, &mut pushed)?;
        if push.complete {
            self.mark_missing(ns, push, &mut pushed)?;
            self.mark_sinks_missing(ns, push, &mut pushed)?;
        }
        Ok(pushed)
    }

    fn push_task(
        &mut self,
        ns: i64,
        push: &Push,
        task: &PushTask,
        pushed: &mut Pushed,
    ) -> Result<(), StoreError> {
        let sql = "SELECT id, definition, missing, enabled, paused, origin FROM task WHERE ns=?1 AND name=?2";
        let known = self.row(sql, params![ns, task.name], known)?;
        let row = match &known {
            Some(known) => known.row,
            None => self.number(
                "INSERT INTO task (ns, name, definition, enabled, origin, created_at, updated_at)
                 VALUES (?1, ?2, 0, ?3, ?4, ?5, ?5) RETURNING id",
                params![ns, task.name, task.enabled, push.origin, self.now],
            )?,
        };
        let definition = self.definition(row, task)?;
        pushed.definitions.insert(task.name.clone(), definition);
        let list = match &known {
            None => &mut pushed.added,
            Some(known) if known.missing => &mut pushed.relinked,
            Some(known) if known.definition != definition => &mut pushed.changed,
            Some(_) => &mut pushed.unchanged,
        };
        list.push(task.name.clone());
        let as_it_was = known.as_ref().is_some_and(|k| {
            k.definition == definition && !k.missing && k.enabled == task.enabled && k.origin == push.origin
        });
        if !as_it_was {
            self.run(
                "UPDATE task SET definition=?2, enabled=?3, origin=?4, missing=0,
                   updated_at=CASE WHEN definition<>?2 OR missing=1 OR enabled<>?3 THEN ?5 ELSE updated_at END
                 WHERE id=?1",
                params![row, definition, task.enabled, push.origin, self.now],
            )?;
            if let Some(known) = known.as_ref().filter(|k| k.definition != definition) {
                self.run(
                    "UPDATE definition SET replaced_at=?2 WHERE id=?1",
                    params![known.definition, self.now],
                )?;
                self.run("UPDATE definition SET replaced_at=NULL WHERE id=?1", [definition])?;
            }
        }
        if let Some(starters) = &task.starters {
            let held = !task.enabled || known.as_ref().is_some_and(|k| k.paused);
            let owner = Owner { row, definition, namespace: &push.namespace, held };
            self.push_starters(&owner, starters, pushed)?;
        }
        Ok(())
    }

    /// The row of a definition by its digest, made when it is new.
    fn definition(&self, task: i64, new: &PushTask) -> Result<i64, StoreError> {
        let sql = "SELECT id FROM definition WHERE task=?1 AND digest=?2";
        match self.row(sql, params![task, new.digest], |r| r.get(0))? {
            Some(id) => Ok(id),
            None => self.number(
                "INSERT INTO definition (task, digest, body, created_at) VALUES (?1, ?2, ?3, ?4) RETURNING id",
                params![task, new.digest, new.body, self.now],
            ),
        }
    }

    fn push_starters(
        &mut self,
        task: &Owner<'_>,
        starters: &[PushStarter],
        pushed: &mut Pushed,
    ) -> Result<(), StoreError> {
        let sql = "SELECT name, digest, machine FROM schedule WHERE task=?1";
        let known = self.rows(sql, [task.row], |r| Ok((r.get(0)?, (r.get(1)?, r.get(2)?))))?;
        let mut known: BTreeMap<String, (String, i64)> = known.into_iter().collect();
        for starter in starters {
            let PushStarter { name, digest, .. } = starter;
            match known.remove(name) {
                Some((same, machine)) if self.lives(machine)? => {
                    let sql = "UPDATE machine SET definition=?2 WHERE id=?1 AND definition<>?2";
                    self.run(sql, [machine, task.definition])?;
                    if same != *digest {
                        let sql = "UPDATE schedule SET digest=?3 WHERE task=?1 AND name=?2";
                        self.run(sql, params![task.row, name, digest])?;
                        self.listen(machine, starter)?;
                        self.send(MachineId(machine), &Letter::Redefined)?;
                        pushed.starters.1 += 1;
                    }
                    if task.held {
                        self.hold_back(machine, BY_TASK)?;
                    } else {
                        self.let_go(machine, BY_TASK)?;
                    }
                }
                // It has ended by itself; the same words do not bring it back, others do.
                Some((same, _)) if same == *digest => {}
                _ => {
                    let machine = self.new_starter(task, starter)?;
                    self.listen(machine, starter)?;
                    self.run(
                        "INSERT INTO schedule (task, name, digest, machine) VALUES (?1, ?2, ?3, ?4)
                         ON CONFLICT (task, name) DO UPDATE SET digest=?3, machine=?4",
                        params![task.row, name, digest, machine],
                    )?;
                    if task.held {
                        self.hold_back(machine, BY_TASK)?;
                    }
                    pushed.starters.0 += 1;
                }
            }
        }
        for (name, (_, machine)) in known {
            let reason = "its task does not have it any more".to_owned();
            self.run("DELETE FROM listener WHERE machine=?1", [machine])?;
            self.end_duty(&trigger_duty(MachineId(machine)))?;
            self.run("DELETE FROM schedule WHERE task=?1 AND name=?2", params![task.row, name])?;
            self.send(MachineId(machine), &Letter::Cancel { reason })?;
            pushed.starters.2 += 1;
        }
        Ok(())
    }

    fn lives(&self, machine: i64) -> Result<bool, StoreError> {
        Ok(self.row("SELECT 1 FROM tick WHERE machine=?1", [machine], |_| Ok(()))?.is_some())
    }

    /// Who is told of the ends of another task's runs, and for whom a node listens.
    fn listen(&self, machine: i64, starter: &PushStarter) -> Result<(), StoreError> {
        match &starter.listens {
            Some((ns, task)) => {
                let sql = "INSERT OR REPLACE INTO listener (machine, ns, task) VALUES (?1, ?2, ?3)";
                self.run(sql, params![machine, ns, task])?
            }
            None => self.run("DELETE FROM listener WHERE machine=?1", [machine])?,
        };
        // What was reached stays: whoever listens sees whether it is of the same place.
        let duty = trigger_duty(MachineId(machine));
        if starter.has_duty { self.renew_duty(&duty, "") } else { self.end_duty(&duty) }
    }

    fn new_starter(&mut self, task: &Owner<'_>, starter: &PushStarter) -> Result<i64, StoreError> {
        let name = &starter.name;
        // The key by which its fields say which one of the task's it is.
        let word = Kind(starter.kind).word();
        let machine = NewMachine {
            kind: starter.kind,
            namespace: task.namespace.to_owned(),
            task: task.row,
            definition: task.definition,
            fields: serde_json::json!({ word: name }).to_string(),
            light: true,
            priority: 1,
            due_at: self.now,
            child_key: Some(name.clone()),
            event: EventBody { kind: "created".into(), body: String::new() },
            ..NewMachine::default()
        };
        Ok(self.start(&machine, None)?.0.id().0)
    }

    /// What the origin does not hold any more. It stays on record, and its schedules are held.
    fn mark_missing(&mut self, ns: i64, push: &Push, pushed: &mut Pushed) -> Result<(), StoreError> {
        let here: BTreeSet<&str> = push.tasks.iter().map(|t| t.name.as_str()).collect();
        let sql = "SELECT id, name FROM task WHERE ns=?1 AND origin=?2 AND missing=0 ORDER BY name";
        let known: Vec<(i64, String)> =
            self.rows(sql, params![ns, push.origin], |r| Ok((r.get(0)?, r.get(1)?)))?;
        for (row, name) in known.into_iter().filter(|(_, name)| !here.contains(name.as_str())) {
            self.mark_task_missing(row)?;
            pushed.missing.push(name);
        }
        let sql = "SELECT id, name FROM preset WHERE ns=?1 AND origin=?2 AND missing=0";
        let presets: Vec<(i64, String)> =
            self.rows(sql, params![ns, push.origin], |r| Ok((r.get(0)?, r.get(1)?)))?;
        for (row, _) in presets.into_iter().filter(|(_, name)| !push.presets.contains_key(name)) {
            self.run("UPDATE preset SET missing=1, updated_at=?2 WHERE id=?1", params![row, self.now])?;
        }
        Ok(())
    }
}

impl Tx<'_> {
    /// Takes one task out of its origin's hands.
    pub(crate) fn forget(&mut self, namespace: &str, task: &str) -> Result<(), StoreError> {
        let ns = self.namespace(namespace)?;
        self.names.forget_holds();
        let sql = "SELECT id FROM task WHERE ns=?1 AND name=?2 AND missing=0";
        match self.row(sql, params![ns, task], |r| r.get(0))? {
            Some(row) => self.mark_task_missing(row),
            None => Ok(()),
        }
    }

    fn mark_task_missing(&mut self, row: i64) -> Result<(), StoreError> {
        self.run("UPDATE task SET missing=1, updated_at=?2 WHERE id=?1", params![row, self.now])?;
        for machine in self.keys("SELECT machine FROM schedule WHERE task=?1", [row])? {
            self.hold_back(machine, BY_TASK)?;
        }
        Ok(())
    }
}

/// The task that schedules belong to.
struct Owner<'a> {
    row: i64,
    definition: i64,
    namespace: &'a str,
    held: bool,
}

/// What is known of a task that is pushed.
struct Known {
    row: i64,
    definition: i64,
    missing: bool,
    enabled: bool,
    paused: bool,
    origin: String,
}

fn known(r: &Row<'_>) -> rusqlite::Result<Known> {
    Ok(Known {
        row: r.get(0)?,
        definition: r.get(1)?,
        missing: r.get(2)?,
        enabled: r.get(3)?,
        paused: r.get(4)?,
        origin: r.get(5)?,
    })
}

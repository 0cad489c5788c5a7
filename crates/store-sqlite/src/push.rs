//! Push: making the definitions of one origin what they are now.

use std::collections::{BTreeMap, BTreeSet};

use ostler_model::{Kind, MachineId};
use ostler_store::{EventBody, Letter, NewMachine, Push, PushTask, Pushed, StoreError};
use rusqlite::{OptionalExtension, params};

use crate::{Tx, error::told};

impl Tx<'_> {
    pub(crate) fn push(&mut self, push: &Push) -> Result<Pushed, StoreError> {
        let ns = self.namespace(&push.namespace)?;
        self.names.forget_holds();
        self.write(
            "UPDATE namespace SET origin=?2, actor=?3, ephemeral=?4, seen_at=?5 WHERE id=?1
               AND (origin<>?2 OR actor<>?3 OR ephemeral<>?4 OR seen_at<?5-60000000)",
            params![ns, push.origin, push.actor, push.ephemeral, self.now],
        )?;
        let mut pushed = Pushed::default();
        for task in &push.tasks {
            self.push_task(ns, push, task, &mut pushed)?;
        }
        for (name, (task, body)) in &push.presets {
            self.write(
                "INSERT INTO preset (ns, name, task, body, origin, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)
                 ON CONFLICT (ns, name) DO UPDATE SET task=?3, body=?4, origin=?5, missing=0, updated_at=?6
                 WHERE body<>?4 OR missing=1",
                params![ns, name, task, body, push.origin, self.now],
            )?;
        }
        if push.complete {
            self.mark_missing(ns, push, &mut pushed)?;
        }
        Ok(pushed)
    }

    fn push_task(&mut self, ns: i64, push: &Push, task: &PushTask, pushed: &mut Pushed) -> Result<(), StoreError> {
        let known: Option<(i64, i64, bool, bool, String)> = self
            .sql
            .prepare_cached("SELECT id, definition, missing, enabled, origin FROM task WHERE ns=?1 AND name=?2")
            .and_then(|mut s| {
                s.query_row(params![ns, task.name], |r| {
                    Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?))
                })
                .optional()
            })
            .map_err(told)?;
        let row = match &known {
            Some((row, ..)) => *row,
            None => self
                .sql
                .prepare_cached(
                    "INSERT INTO task (ns, name, definition, enabled, origin, created_at, updated_at)
                     VALUES (?1, ?2, 0, ?3, ?4, ?5, ?5)",
                )
                .and_then(|mut s| s.insert(params![ns, task.name, task.enabled, push.origin, self.now]))
                .map_err(told)?,
        };
        let definition = self.definition(row, task)?;
        pushed.definitions.insert(task.name.clone(), definition);
        let as_it_was = matches!(&known, Some((_, d, missing, enabled, origin))
            if *d == definition && !missing && *enabled == task.enabled && *origin == push.origin);
        match &known {
            None => pushed.added.push(task.name.clone()),
            Some((_, _, true, ..)) => pushed.relinked.push(task.name.clone()),
            Some((_, known, ..)) if *known != definition => pushed.changed.push(task.name.clone()),
            Some(_) => pushed.unchanged.push(task.name.clone()),
        }
        if !as_it_was {
            self.write(
                "UPDATE task SET definition=?2, enabled=?3, origin=?4, missing=0,
                   updated_at=CASE WHEN definition<>?2 OR missing=1 THEN ?5 ELSE updated_at END WHERE id=?1",
                params![row, definition, task.enabled, push.origin, self.now],
            )?;
        }
        if let Some(schedules) = &task.schedules {
            let was_off = known.as_ref().is_some_and(|(_, _, missing, enabled, _)| *missing || !enabled);
            self.push_schedules(row, definition, &push.namespace, task, schedules, was_off, pushed)?;
        }
        Ok(())
    }

    fn definition(&self, task: i64, new: &PushTask) -> Result<i64, StoreError> {
        let known: Option<i64> = self
            .sql
            .prepare_cached("SELECT id FROM definition WHERE task=?1 AND digest=?2")
            .and_then(|mut s| s.query_row(params![task, new.digest], |r| r.get(0)).optional())
            .map_err(told)?;
        match known {
            Some(id) => Ok(id),
            None => self
                .sql
                .prepare_cached("INSERT INTO definition (task, digest, body, created_at) VALUES (?1, ?2, ?3, ?4)")
                .and_then(|mut s| s.insert(params![task, new.digest, new.body, self.now]))
                .map_err(told),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one call, and each is another thing")]
    fn push_schedules(
        &mut self,
        row: i64,
        definition: i64,
        namespace: &str,
        task: &PushTask,
        schedules: &[(String, String)],
        was_off: bool,
        pushed: &mut Pushed,
    ) -> Result<(), StoreError> {
        let mut select =
            self.sql.prepare_cached("SELECT name, digest, machine FROM schedule WHERE task=?1").map_err(told)?;
        let mut known: BTreeMap<String, (String, i64)> = select
            .query_map([row], |r| Ok((r.get(0)?, (r.get(1)?, r.get(2)?))))
            .and_then(Iterator::collect)
            .map_err(told)?;
        drop(select);
        for (name, digest) in schedules {
            match known.remove(name) {
                Some((same, machine)) if self.lives(machine)? => {
                    self.write("UPDATE machine SET definition=?2 WHERE id=?1 AND definition<>?2", [machine, definition])?;
                    if same != *digest {
                        self.write(
                            "UPDATE schedule SET digest=?3 WHERE task=?1 AND name=?2",
                            params![row, name, digest],
                        )?;
                        self.send(MachineId(machine), &Letter::Redefined)?;
                        pushed.schedules.1 += 1;
                    }
                    if !task.enabled {
                        self.hold_one(machine)?;
                    } else if was_off {
                        self.let_go(machine)?;
                    }
                }
                // It has ended by itself; the same words do not bring it back, others do.
                Some((same, _)) if same == *digest => {}
                _ => {
                    let machine = self.new_schedule(row, definition, namespace, name)?;
                    self.write(
                        "INSERT INTO schedule (task, name, digest, machine) VALUES (?1, ?2, ?3, ?4)
                         ON CONFLICT (task, name) DO UPDATE SET digest=?3, machine=?4",
                        params![row, name, digest, machine],
                    )?;
                    if !task.enabled {
                        self.hold_one(machine)?;
                    }
                    pushed.schedules.0 += 1;
                }
            }
        }
        for (name, (_, machine)) in known {
            let reason = "its task does not have this schedule any more".to_owned();
            self.write("DELETE FROM schedule WHERE task=?1 AND name=?2", params![row, name])?;
            self.write("UPDATE tick SET held=0, phase=CASE WHEN phase=3 THEN 1 ELSE phase END WHERE machine=?1", [machine])?;
            self.send(MachineId(machine), &Letter::Cancel { reason })?;
            pushed.schedules.2 += 1;
        }
        Ok(())
    }

    fn lives(&self, machine: i64) -> Result<bool, StoreError> {
        self.sql.prepare_cached("SELECT 1 FROM tick WHERE machine=?1").and_then(|mut s| s.exists([machine])).map_err(told)
    }

    fn new_schedule(&mut self, task: i64, definition: i64, namespace: &str, name: &str) -> Result<i64, StoreError> {
        let machine = NewMachine {
            kind: Kind::SCHEDULE.0,
            namespace: namespace.to_owned(),
            task,
            definition,
            fields: serde_json::json!({ "schedule": name }).to_string(),
            priority: 1,
            due_at: self.now,
            child_key: Some(name.to_owned()),
            event: EventBody { kind: "created".into(), body: String::new() },
            ..NewMachine::default()
        };
        Ok(self.start(&machine, None)?.0.id().0)
    }

    fn mark_missing(&mut self, ns: i64, push: &Push, pushed: &mut Pushed) -> Result<(), StoreError> {
        let here: BTreeSet<&str> = push.tasks.iter().map(|t| t.name.as_str()).collect();
        let mut select = self
            .sql
            .prepare_cached("SELECT id, name FROM task WHERE ns=?1 AND origin=?2 AND missing=0 ORDER BY name")
            .map_err(told)?;
        let known: Vec<(i64, String)> = select
            .query_map(params![ns, push.origin], |r| Ok((r.get(0)?, r.get(1)?)))
            .and_then(Iterator::collect)
            .map_err(told)?;
        drop(select);
        for (row, name) in known.into_iter().filter(|(_, name)| !here.contains(name.as_str())) {
            self.write("UPDATE task SET missing=1, updated_at=?2 WHERE id=?1", params![row, self.now])?;
            let mut select = self.sql.prepare_cached("SELECT machine FROM schedule WHERE task=?1").map_err(told)?;
            let machines: Vec<i64> = select.query_map([row], |r| r.get(0)).and_then(Iterator::collect).map_err(told)?;
            drop(select);
            for machine in machines {
                self.hold_one(machine)?;
            }
            pushed.missing.push(name);
        }
        let mut select = self
            .sql
            .prepare_cached("SELECT id, name FROM preset WHERE ns=?1 AND origin=?2 AND missing=0")
            .map_err(told)?;
        let presets: Vec<(i64, String)> = select
            .query_map(params![ns, push.origin], |r| Ok((r.get(0)?, r.get(1)?)))
            .and_then(Iterator::collect)
            .map_err(told)?;
        drop(select);
        for (row, _) in presets.into_iter().filter(|(_, name)| !push.presets.contains_key(name)) {
            self.write("UPDATE preset SET missing=1, updated_at=?2 WHERE id=?1", params![row, self.now])?;
        }
        Ok(())
    }
}

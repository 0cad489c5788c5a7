//! Push: making the definitions of one origin what they are now.

use std::collections::{BTreeMap, BTreeSet};

use ostler_model::{Kind, MachineId};
use ostler_store::{EventBody, Letter, NewMachine, Push, PushStarter, PushTask, Pushed, trigger_duty};

use crate::{
    hold::BY_TASK,
    start::Wish,
    trouble::Done,
    tx::Tx,
    value::{Columns, values},
};

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

impl Tx<'_> {
    pub(crate) fn push(&mut self, push: &Push) -> Done<Pushed> {
        let ns = self.namespace(&push.namespace)?;
        // Every node that serves the same files pushes them: one after the other, and the second finds nothing to do.
        self.rows("SELECT id FROM namespace WHERE id=$1 FOR NO KEY UPDATE", values![ns])?;
        self.run(
            "UPDATE namespace SET origin=$2, actor=$3, ephemeral=$4, seen_at=$5 WHERE id=$1
               AND (origin<>$2 OR actor<>$3 OR ephemeral<>$4 OR seen_at<$5-60000000)",
            values![ns, &push.origin, &push.actor, push.ephemeral, self.now],
        )?;
        let mut pushed = Pushed::default();
        for task in &push.tasks {
            self.push_task(ns, push, task, &mut pushed)?;
        }
        for (name, (task, body)) in &push.presets {
            self.run(
                "INSERT INTO preset AS p (ns, name, task, body, origin, created_at, updated_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $6)
                 ON CONFLICT (ns, name) DO UPDATE SET task=excluded.task, body=excluded.body, origin=excluded.origin,
                   missing=FALSE, updated_at=excluded.updated_at
                 WHERE p.task<>excluded.task OR p.body<>excluded.body OR p.origin<>excluded.origin OR p.missing",
                values![ns, name, task, body, &push.origin, self.now],
            )?;
        }
        self.push_sinks(ns, push, &mut pushed)?;
        if push.complete {
            self.mark_missing(ns, push, &mut pushed)?;
            self.mark_sinks_missing(ns, push, &mut pushed)?;
        }
        let (made, changed, ended) = pushed.starters;
        let different = made + changed + ended > 0
            || [&pushed.added, &pushed.changed, &pushed.missing, &pushed.relinked]
                .iter()
                .any(|list| !list.is_empty());
        if different {
            self.forget_everywhere()?;
        }
        Ok(pushed)
    }

    fn push_task(&mut self, ns: i64, push: &Push, task: &PushTask, pushed: &mut Pushed) -> Done<()> {
        let sql = "SELECT id, definition, missing, enabled, paused, origin FROM task WHERE ns=$1 AND name=$2";
        let known = self.row(sql, values![ns, &task.name])?.map(|r| {
            Ok::<_, crate::trouble::Trouble>(Known {
                row: r.int(0)?,
                definition: r.int(1)?,
                missing: r.flag(2)?,
                enabled: r.flag(3)?,
                paused: r.flag(4)?,
                origin: r.text(5)?,
            })
        });
        let known = known.transpose()?;
        let row = match &known {
            Some(known) => known.row,
            None => {
                self.wrote = true;
                self.number(
                    "INSERT INTO task (ns, name, definition, enabled, origin, created_at, updated_at)
                     VALUES ($1, $2, 0, $3, $4, $5, $5) RETURNING id",
                    values![ns, &task.name, task.enabled, &push.origin, self.now],
                )?
            }
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
                "UPDATE task SET definition=$2, enabled=$3, origin=$4, missing=FALSE,
                   updated_at=CASE WHEN definition<>$2 OR missing OR enabled<>$3 THEN $5 ELSE updated_at END
                 WHERE id=$1",
                values![row, definition, task.enabled, &push.origin, self.now],
            )?;
            if let Some(known) = known.as_ref().filter(|k| k.definition != definition) {
                let sql = "UPDATE definition SET replaced_at=$2 WHERE id=$1";
                self.run(sql, values![known.definition, self.now])?;
                self.run("UPDATE definition SET replaced_at=NULL WHERE id=$1", values![definition])?;
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
    fn definition(&mut self, task: i64, new: &PushTask) -> Done<i64> {
        let sql = "SELECT id FROM definition WHERE task=$1 AND digest=$2";
        if let Some(row) = self.row(sql, values![task, &new.digest])? {
            return row.int(0);
        }
        self.wrote = true;
        self.number(
            "INSERT INTO definition (task, digest, body, created_at) VALUES ($1, $2, $3, $4) RETURNING id",
            values![task, &new.digest, &new.body, self.now],
        )
    }

    fn push_starters(&mut self, task: &Owner<'_>, starters: &[PushStarter], pushed: &mut Pushed) -> Done<()> {
        let sql = "SELECT name, digest, machine FROM schedule WHERE task=$1";
        let mut known: BTreeMap<String, (String, i64)> = BTreeMap::new();
        for row in self.rows(sql, values![task.row])? {
            known.insert(row.text(0)?, (row.text(1)?, row.int(2)?));
        }
        for starter in starters {
            let PushStarter { name, digest, .. } = starter;
            match known.remove(name) {
                Some((same, machine)) if self.lives(machine)? => {
                    let sql = "UPDATE machine SET definition=$2 WHERE id=$1 AND definition<>$2";
                    self.run(sql, values![machine, task.definition])?;
                    if same != *digest {
                        let sql = "UPDATE schedule SET digest=$3 WHERE task=$1 AND name=$2";
                        self.run(sql, values![task.row, name, digest])?;
                        // Its duty before its row of the queue, as whoever has the duty takes them.
                        self.listen(machine, starter)?;
                        self.send(&[(MachineId(machine), &Letter::Redefined)])?;
                        pushed.starters.1 += 1;
                    }
                    if task.held {
                        self.hold_back(&[machine], BY_TASK)?;
                    } else {
                        self.let_go(&[machine], BY_TASK)?;
                    }
                }
                // It has ended by itself; the same words do not bring it back, others do.
                Some((same, _)) if same == *digest => {}
                _ => {
                    let machine = self.new_starter(task, starter)?;
                    self.listen(machine, starter)?;
                    self.run(
                        "INSERT INTO schedule (task, name, digest, machine) VALUES ($1, $2, $3, $4)
                         ON CONFLICT (task, name) DO UPDATE SET digest=excluded.digest, machine=excluded.machine",
                        values![task.row, name, digest, machine],
                    )?;
                    if task.held {
                        self.hold_back(&[machine], BY_TASK)?;
                    }
                    pushed.starters.0 += 1;
                }
            }
        }
        for (name, (_, machine)) in known {
            let reason = "its task does not have it any more".to_owned();
            self.run("DELETE FROM listener WHERE machine=$1", values![machine])?;
            self.end_duty(&trigger_duty(MachineId(machine)))?;
            self.run("DELETE FROM schedule WHERE task=$1 AND name=$2", values![task.row, &name])?;
            self.send(&[(MachineId(machine), &Letter::Cancel { reason })])?;
            pushed.starters.2 += 1;
        }
        Ok(())
    }

    fn lives(&mut self, machine: i64) -> Done<bool> {
        Ok(self.row("SELECT 1 FROM tick WHERE machine=$1", values![machine])?.is_some())
    }

    /// Who is told of the ends of another task's runs, and for whom a node listens.
    fn listen(&mut self, machine: i64, starter: &PushStarter) -> Done<()> {
        self.names.listeners = None;
        match &starter.listens {
            Some((ns, task)) => self.run(
                "INSERT INTO listener (machine, ns, task) VALUES ($1, $2, $3)
                 ON CONFLICT (machine) DO UPDATE SET ns=excluded.ns, task=excluded.task",
                values![machine, ns, task],
            ),
            None => self.run("DELETE FROM listener WHERE machine=$1", values![machine]),
        }?;
        // What was reached stays: whoever listens sees whether it is of the same place.
        let duty = trigger_duty(MachineId(machine));
        if starter.has_duty { self.renew_duty(&duty, "") } else { self.end_duty(&duty) }
    }

    fn new_starter(&mut self, task: &Owner<'_>, starter: &PushStarter) -> Done<i64> {
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
        let granted = self.start(&[Wish { machine: &machine, claim_for: None }])?;
        Ok(granted.first().map_or(0, |(outcome, _)| outcome.id().0))
    }

    /// What the origin does not hold any more. It stays on record, and its schedules are held.
    fn mark_missing(&mut self, ns: i64, push: &Push, pushed: &mut Pushed) -> Done<()> {
        let here: BTreeSet<&str> = push.tasks.iter().map(|t| t.name.as_str()).collect();
        let sql = "SELECT id, name FROM task WHERE ns=$1 AND origin=$2 AND NOT missing ORDER BY name";
        for row in self.rows(sql, values![ns, &push.origin])? {
            let name = row.text(1)?;
            if !here.contains(name.as_str()) {
                self.mark_task_missing(row.int(0)?)?;
                pushed.missing.push(name);
            }
        }
        let sql = "SELECT id, name FROM preset WHERE ns=$1 AND origin=$2 AND NOT missing";
        for row in self.rows(sql, values![ns, &push.origin])? {
            if !push.presets.contains_key(&row.text(1)?) {
                let sql = "UPDATE preset SET missing=TRUE, updated_at=$2 WHERE id=$1";
                self.run(sql, values![row.int(0)?, self.now])?;
            }
        }
        Ok(())
    }

    /// Takes one task out of its origin's hands.
    pub(crate) fn forget(&mut self, namespace: &str, task: &str) -> Done<()> {
        let ns = self.namespace(namespace)?;
        let sql = "SELECT id FROM task WHERE ns=$1 AND name=$2 AND NOT missing FOR UPDATE";
        if let Some(row) = self.row(sql, values![ns, task])? {
            self.mark_task_missing(row.int(0)?)?;
            self.forget_everywhere()?;
        }
        Ok(())
    }

    fn mark_task_missing(&mut self, row: i64) -> Done<()> {
        self.run("UPDATE task SET missing=TRUE, updated_at=$2 WHERE id=$1", values![row, self.now])?;
        let machines =
            self.keys("SELECT machine FROM schedule WHERE task=$1 ORDER BY machine", values![row])?;
        self.hold_back(&machines, BY_TASK).map(drop)
    }
}

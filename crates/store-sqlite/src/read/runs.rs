//! Machines: one, lists of runs by what is asked of them, lists of a kind.
//!
//! A list of runs is put together from the keys that each state asked for gives, newest or oldest first and no more than
//! a page of each, over the index that holds that state: living states from the queue, bad ends from their own index, the
//! rest along the keys of the task, of the tasks of the namespace, or of all. So a page costs what is on it, however
//! long the history is. Two combinations cost more: bad ends of one task or namespace walk over those of others, and
//! good ends over runs that ended otherwise.

use ostler_model::{Kind, MachineId, RunState};
use ostler_store::{Cursor, MachineRow, NodeId, Order, Page, Phase, RunFilter, StoreError, TickRow};
use rusqlite::{Row, params};

use super::View;

/// A machine with its task's name and its place in the queue. Joined by primary keys.
const MACHINE: &str = "SELECT m.id, m.kind, n.name, coalesce(k.name, ''), m.task, m.definition, m.state, m.step, m.parent,
    m.child_key, m.started_at, m.finished_at, m.fields, m.last_event,
    t.lane, t.phase, t.due_at, t.node, t.fence, t.woken, t.lost, t.priority, t.since
  FROM machine m JOIN namespace n ON n.id=m.ns LEFT JOIN task k ON k.id=m.task LEFT JOIN tick t ON t.machine=m.id";

fn machine_row(r: &Row<'_>) -> rusqlite::Result<MachineRow> {
    let phase: Option<i64> = r.get(15)?;
    let tick = match phase {
        None => None,
        Some(phase) => Some(TickRow {
            lane: r.get(14)?,
            phase: Phase::from_code(phase),
            due_at: r.get(16)?,
            node: r.get::<_, Option<i64>>(17)?.map(NodeId),
            fence: r.get::<_, i64>(18)? as u64,
            letters: r.get::<_, i64>(19)? as u64,
            lost: r.get(20)?,
            priority: r.get(21)?,
            since: r.get(22)?,
        }),
    };
    Ok(MachineRow {
        id: MachineId(r.get(0)?),
        kind: Kind(r.get(1)?),
        namespace: r.get(2)?,
        task: r.get(3)?,
        task_row: r.get(4)?,
        definition: r.get(5)?,
        state: r.get(6)?,
        step: r.get::<_, i64>(7)? as u64,
        parent: r.get::<_, Option<i64>>(8)?.map(MachineId),
        child_key: r.get(9)?,
        started_at: r.get(10)?,
        finished_at: r.get(11)?,
        fields: r.get(12)?,
        last_event: r.get(13)?,
        tick,
    })
}

/// Which keys a part of a list runs along.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Along {
    Parts,
    Task,
    Namespace,
    All,
}

/// One part of a list: the first keys in a state. ?1 before, ?2 from, ?3 at most, ?4 whose parts, task or
/// namespace; ?5 and ?6 the namespace and the task once more, for those that run along something else.
fn keys(along: Along, state: Option<RunState>, order: Order) -> String {
    let direction = match order {
        Order::NewestFirst => "DESC",
        Order::OldestFirst => "ASC",
    };
    let asked = "m.kind IN (1, 2) AND (?5 IS NULL OR m.ns=?5) AND (?6 IS NULL OR m.task=?6)";
    let range = format!("m.id<?1 AND m.id>=?2 AND {asked}");
    let only = match along {
        Along::Parts => "m.parent=?4",
        Along::Task => "m.parent IS NULL AND m.task=?4",
        Along::Namespace => "m.parent IS NULL AND m.ns=?4",
        Along::All => "m.parent IS NULL AND ?4=0",
    };
    let condition = state.map_or("1", condition);
    let (from, range) = match state {
        Some(RunState::Running) if along != Along::Parts => {
            ("tick t INDEXED BY tick_claimed CROSS JOIN machine m ON m.id=t.machine", range)
        }
        Some(state) if !state.is_final() && along != Along::Parts => (
            "tick t NOT INDEXED CROSS JOIN machine m ON m.id=t.machine",
            format!("t.machine<?1 AND t.machine>=?2 AND {asked}"),
        ),
        Some(state) if !state.is_final() => (
            "machine m INDEXED BY machine_parent CROSS JOIN tick t ON t.machine=m.id",
            format!("{range} AND m.parent IS NOT NULL"),
        ),
        Some(state) if state != RunState::Succeeded && along != Along::Parts => {
            ("machine m INDEXED BY machine_bad", format!("{range} AND m.state>10"))
        }
        _ => match along {
            Along::Parts => {
                ("machine m INDEXED BY machine_parent", format!("{range} AND m.parent IS NOT NULL"))
            }
            Along::Task => ("machine m INDEXED BY machine_task", range),
            // The first of each task of the namespace, and of what has no task.
            Along::Namespace => {
                return format!(
                    "SELECT m.id FROM (SELECT id AS task FROM task WHERE ns=?4 UNION ALL SELECT 0) k CROSS JOIN machine m
                       ON m.id IN (SELECT m.id FROM machine m INDEXED BY machine_task
                         WHERE m.task=k.task AND {range} AND {only} AND {condition} ORDER BY m.id {direction} LIMIT ?3)"
                );
            }
            Along::All => ("machine m NOT INDEXED", range),
        },
    };
    let key = if from.starts_with("tick") { "t.machine" } else { "m.id" };
    format!(
        "SELECT m.id FROM {from} WHERE {range} AND {only} AND {condition} ORDER BY {key} {direction} LIMIT ?3"
    )
}

/// A state as a condition on the row and its place in the queue; `MachineRow::run_state` says the same of a row.
fn condition(state: RunState) -> &'static str {
    match state {
        RunState::Running => "t.phase=2",
        RunState::Ready => "t.phase=1 AND m.started_at IS NULL",
        RunState::Scheduled => "t.phase=0 AND m.started_at IS NULL",
        RunState::Waiting => "t.phase<>2 AND (t.phase=3 OR m.started_at IS NOT NULL)",
        RunState::Succeeded => "m.state=10",
        RunState::Failed => "m.state=11",
        RunState::Cancelled => "m.state=12",
        RunState::Skipped => "m.state=13",
        RunState::TimedOut => "m.state=14",
    }
}

const SCHEDULES: &str = " INDEXED BY machine_schedule";
const TRIGGERS: &str = " INDEXED BY machine_trigger";

impl View<'_> {
    pub(super) fn machine(&self, id: MachineId) -> Result<Option<MachineRow>, StoreError> {
        self.one(&of("", "m.id=?1"), [id.0], machine_row)
    }

    pub(super) fn runs(
        &self,
        filter: &RunFilter,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Page<MachineRow>, StoreError> {
        let mut before = filter.until.map_or(i64::MAX, |id| id.0);
        let mut from = filter.since.map_or(i64::MIN, |id| id.0);
        match filter.order {
            Order::NewestFirst => before = before.min(Cursor::key(after, i64::MAX)?),
            Order::OldestFirst => from = from.max(Cursor::key(after, -1)?.saturating_add(1)),
        }
        let ns = match &filter.namespace {
            None => None,
            Some(name) => {
                match self.one("SELECT id FROM namespace WHERE name=?1", [name], |r| r.get::<_, i64>(0))? {
                    None => return Ok(Page { items: Vec::new(), next: None }),
                    ns => ns,
                }
            }
        };
        let (along, whose) = match (filter.parent, filter.task_row, ns) {
            (Some(parent), ..) => (Along::Parts, parent.0),
            (None, Some(task), _) => (Along::Task, task),
            (None, None, Some(ns)) => (Along::Namespace, ns),
            (None, None, None) => (Along::All, 0),
        };
        let states = match filter.states.as_slice() {
            [] => vec![None],
            states => states.iter().copied().map(Some).collect(),
        };
        let mut found = Vec::new();
        for state in states {
            let values = params![before, from, limit.saturating_add(1), whose, ns, filter.task_row];
            found.extend(self.many(&keys(along, state, filter.order), values, |r| r.get::<_, i64>(0))?);
        }
        match filter.order {
            Order::NewestFirst => found.sort_unstable_by(|a, b| b.cmp(a)),
            Order::OldestFirst => found.sort_unstable(),
        }
        found.dedup();
        found.truncate(limit as usize + 1);
        let rows = found.into_iter().filter_map(|id| self.machine(MachineId(id)).transpose());
        Ok(Page::cut(rows.collect::<Result<_, _>>()?, limit, |row| Cursor::of_key(row.id.0)))
    }

    pub(super) fn machines(
        &self,
        kind: Kind,
        task_row: Option<i64>,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Page<MachineRow>, StoreError> {
        let after = Cursor::key(after, -1)?;
        let values = params![after, limit.saturating_add(1), kind.0, task_row];
        let rows = self.many(&of_kind(kind, task_row.is_some()), values, machine_row)?;
        Ok(Page::cut(rows, limit, |row| Cursor::of_key(row.id.0)))
    }
}

/// Schedules and triggers are few and have indexes of their own; of other kinds a task has many.
fn of_kind(kind: Kind, of_task: bool) -> String {
    let (along, only) = match (kind, of_task) {
        (Kind::SCHEDULE, _) => (SCHEDULES, "m.kind=3 AND ?3=3 AND (?4 IS NULL OR m.task=?4)"),
        (Kind::TRIGGER, _) => (TRIGGERS, "m.kind=4 AND ?3=4 AND (?4 IS NULL OR m.task=?4)"),
        (_, true) => (" INDEXED BY machine_task", "m.kind=?3 AND m.task=?4 AND m.parent IS NULL"),
        (_, false) => (" NOT INDEXED", "m.kind=?3 AND ?4 IS NULL"),
    };
    of(along, &format!("m.id>?1 AND {only} ORDER BY m.id LIMIT ?2"))
}

/// Machines with their places in the queue, by a condition.
fn of(along: &str, condition: &str) -> String {
    format!("{} WHERE {condition}", MACHINE.replace("FROM machine m", &format!("FROM machine m{along}")))
}

#[cfg(test)]
pub(super) fn statements() -> Vec<(String, &'static str)> {
    let by_key = "SEARCH m USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)";
    let queue = "SEARCH t USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)";
    let bad = "SEARCH m USING INDEX machine_bad (state=? AND rowid>? AND rowid<?)";
    let parts = "SEARCH m USING INDEX machine_parent (parent=? AND rowid>? AND rowid<?)";
    let task = "SEARCH m USING INDEX machine_task (task=? AND rowid>? AND rowid<?)";
    let claimed = "SCAN t USING INDEX tick_claimed";
    let mut all = vec![
        (of("", "m.id=?1"), "SEARCH m USING INTEGER PRIMARY KEY (rowid=?)"),
        (of_kind(Kind::SCHEDULE, false), "SEARCH m USING INDEX machine_schedule (kind=? AND rowid>?)"),
        (of_kind(Kind::SCHEDULE, true), "SEARCH m USING INDEX machine_schedule (kind=? AND rowid>?)"),
        (of_kind(Kind::TRIGGER, false), "SEARCH m USING INDEX machine_trigger (kind=? AND rowid>?)"),
        (of_kind(Kind::RUN, true), "SEARCH m USING INDEX machine_task (task=? AND rowid>?)"),
        (of_kind(Kind::RUN, false), "SEARCH m USING INTEGER PRIMARY KEY (rowid>?)"),
    ];
    for along in [Along::Parts, Along::Task, Along::Namespace, Along::All] {
        for state in RunState::ALL.map(Some).into_iter().chain([None]) {
            let plan = match (along, state) {
                (Along::Parts, _) => parts,
                (_, Some(RunState::Running)) => claimed,
                (_, Some(s)) if !s.is_final() => queue,
                (_, Some(s)) if s != RunState::Succeeded => bad,
                (Along::Task | Along::Namespace, _) => task,
                (Along::All, _) => by_key,
            };
            all.extend(
                [Order::NewestFirst, Order::OldestFirst].map(|order| (keys(along, state, order), plan)),
            );
        }
    }
    all
}

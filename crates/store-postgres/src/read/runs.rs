//! Machines: one, lists of runs by what is asked of them, lists of a kind.
//!
//! A list of runs is put together from the keys that each state asked for gives, newest or oldest first and no more than
//! a page of each, over the index that holds that state: living states from the queue, bad ends from their own table, the
//! rest along the keys of the task, of the tasks of the namespace, or of all. So a page costs what is on it, however
//! long the history is. Two combinations cost more: bad ends of one task or namespace walk over those of others, and
//! good ends over runs that ended otherwise.

use ostler_model::{Kind, MachineId, RunState};
use ostler_store::{Cursor, MachineRow, NodeId, Order, Page, Phase, RunFilter, TickRow};
use tokio_postgres::Row;

use super::View;
use crate::{
    trouble::Done,
    value::{Columns, values},
};

/// A machine with its task's name and its place in the queue. Joined by primary keys.
const MACHINE: &str = "SELECT m.id, m.kind, n.name, coalesce(k.name, ''), m.task, m.definition, m.state, m.step, m.parent,
    m.child_key, m.started_at, m.finished_at, m.fields, m.last_event,
    t.lane, t.phase, t.due_at, t.node, t.fence, t.woken, t.lost, t.priority, t.since
  FROM machine m JOIN namespace n ON n.id=m.ns LEFT JOIN task k ON k.id=m.task LEFT JOIN tick t ON t.machine=m.id";

fn machine_row(r: &Row) -> Done<MachineRow> {
    let tick = match r.int_or(15)? {
        None => None,
        Some(phase) => Some(TickRow {
            lane: r.int(14)?,
            phase: Phase::from_code(phase),
            due_at: r.int(16)?,
            node: r.int_or(17)?.map(NodeId),
            fence: r.int(18)? as u64,
            letters: r.int(19)? as u64,
            lost: r.flag(20)?,
            priority: r.int(21)?,
            since: r.int_or(22)?,
        }),
    };
    Ok(MachineRow {
        id: MachineId(r.int(0)?),
        kind: Kind(u8::try_from(r.int(1)?).unwrap_or(0)),
        namespace: r.text(2)?,
        task: r.text(3)?,
        task_row: r.int(4)?,
        definition: r.int(5)?,
        state: r.int(6)?,
        step: r.int(7)? as u64,
        parent: r.int_or(8)?.map(MachineId),
        child_key: r.text_or(9)?,
        started_at: r.int_or(10)?,
        finished_at: r.int_or(11)?,
        fields: r.text(12)?,
        last_event: r.int(13)?,
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

/// One part of a list: the first keys in a state. $1 before, $2 from, $3 at most, $4 whose parts, task or namespace;
/// $5 and $6 the namespace and the task once more, for those that run along something else.
fn keys(along: Along, state: Option<RunState>, order: Order) -> String {
    // Along `id` and along `-id`.
    let (by_id, by_minus) = match order {
        Order::NewestFirst => ("DESC", "ASC"),
        Order::OldestFirst => ("ASC", "DESC"),
    };
    let asked = "m.kind IN (1, 2) AND ($5 IS NULL OR m.ns=$5) AND ($6 IS NULL OR m.task=$6)";
    // From rows that are few to their machines, never the other way round.
    let each = "CROSS JOIN LATERAL (SELECT * FROM machine m WHERE m.id=t.machine OFFSET 0) m";
    // As their indexes have it.
    let down = "-m.id>-$1 AND -m.id<=-$2";
    let only = match along {
        Along::Parts => "m.parent=$4 AND m.parent IS NOT NULL",
        Along::Task => "m.parent IS NULL AND m.task=$4",
        Along::Namespace => "m.parent IS NULL AND m.ns=$4",
        Along::All => "m.parent IS NULL AND $4=0",
    };
    let condition = state.map_or("TRUE", condition);
    match (state, along) {
        (Some(s), Along::Parts) if !s.is_final() => format!(
            "SELECT m.id FROM machine m JOIN tick t ON t.machine=m.id
             WHERE {down} AND {asked} AND {only} AND {condition} ORDER BY -m.id {by_minus} LIMIT $3"
        ),
        (Some(RunState::Running), _) => format!(
            "WITH t AS MATERIALIZED (SELECT machine FROM tick WHERE phase=2)
             SELECT t.machine FROM t {each} WHERE t.machine<$1 AND t.machine>=$2 AND {asked} AND {only}
             ORDER BY t.machine {by_id} LIMIT $3"
        ),
        (Some(s), _) if !s.is_final() => format!(
            "SELECT t.machine FROM tick t {each}
             WHERE t.machine<$1 AND t.machine>=$2 AND {asked} AND {only} AND {condition}
             ORDER BY t.machine {by_id} LIMIT $3"
        ),
        (Some(s), _) if s != RunState::Succeeded && along != Along::Parts => format!(
            "SELECT t.machine FROM bad_end t {each}
             WHERE t.state={} AND t.machine<$1 AND t.machine>=$2 AND {asked} AND {only} ORDER BY t.machine {by_id} LIMIT $3",
            s.code()
        ),
        // The first of each task of the namespace, and of what has no task.
        (_, Along::Namespace) => format!(
            "SELECT p.id FROM (SELECT id AS task FROM task WHERE ns=$4 UNION ALL SELECT 0) k CROSS JOIN LATERAL (
               SELECT m.id FROM machine m WHERE m.task=k.task AND {down} AND {asked} AND {only} AND {condition}
               ORDER BY -m.id {by_minus} LIMIT $3) p ORDER BY p.id {by_id} LIMIT $3"
        ),
        (_, Along::All) => format!(
            "SELECT m.id FROM machine m WHERE m.id<$1 AND m.id>=$2 AND {asked} AND {only} AND {condition}
             ORDER BY m.id {by_id} LIMIT $3"
        ),
        (_, Along::Parts | Along::Task) => format!(
            "SELECT m.id FROM machine m WHERE {down} AND {asked} AND {only} AND {condition} ORDER BY -m.id {by_minus} LIMIT $3"
        ),
    }
}

/// What a state is, on the row and its place in the queue; `MachineRow::run_state` says the same of a row.
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

impl View<'_> {
    pub(super) fn machine(&mut self, id: MachineId) -> Done<Option<MachineRow>> {
        self.one(&format!("{MACHINE} WHERE m.id=$1"), values![id.0], machine_row)
    }

    pub(super) fn runs(
        &mut self,
        filter: &RunFilter,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Done<Page<MachineRow>> {
        let mut before = filter.until.map_or(i64::MAX, |id| id.0);
        let mut from = filter.since.map_or(-i64::MAX, |id| id.0);
        match filter.order {
            Order::NewestFirst => before = before.min(Cursor::key(after, i64::MAX)?),
            Order::OldestFirst => from = from.max(Cursor::key(after, -1)?.saturating_add(1)),
        }
        let ns = match &filter.namespace {
            None => None,
            Some(name) => {
                match self.one("SELECT id FROM namespace WHERE name=$1", values![name], |r| r.int(0))? {
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
            let values = values![before, from, i64::from(limit) + 1, whose, ns, filter.task_row];
            found.extend(self.many(&keys(along, state, filter.order), values, |r| r.int(0))?);
        }
        match filter.order {
            Order::NewestFirst => found.sort_unstable_by(|a, b| b.cmp(a)),
            Order::OldestFirst => found.sort_unstable(),
        }
        found.dedup();
        found.truncate(limit as usize + 1);
        let sql = format!("{MACHINE} WHERE m.id=ANY($1)");
        let mut rows = self.many(&sql, values![found], machine_row)?;
        rows.sort_unstable_by_key(|row| row.id);
        if filter.order == Order::NewestFirst {
            rows.reverse();
        }
        Ok(Page::cut(rows, limit, |row| Cursor::of_key(row.id.0)))
    }

    pub(super) fn machines(
        &mut self,
        kind: Kind,
        task_row: Option<i64>,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Done<Page<MachineRow>> {
        let after = Cursor::key(after, -1)?;
        let values = values![after, i64::from(limit) + 1, i64::from(kind.0), task_row];
        let rows = self.many(&of_kind(kind, task_row.is_some()), values, machine_row)?;
        Ok(Page::cut(rows, limit, |row| Cursor::of_key(row.id.0)))
    }
}

/// Schedules and triggers are few and have an index of their own; of other kinds a task has many.
fn of_kind(kind: Kind, of_task: bool) -> String {
    let only = match (kind.is_starter(), of_task) {
        (true, _) => "m.kind IN (3, 4) AND m.kind=$3 AND ($4 IS NULL OR m.task=$4)",
        (false, true) => "m.kind=$3 AND m.task=$4 AND m.parent IS NULL",
        (false, false) => "m.kind=$3 AND $4 IS NULL",
    };
    format!("{MACHINE} WHERE m.id>$1 AND {only} ORDER BY m.id LIMIT $2")
}

/// A part of a list, for the test of plans.
#[cfg(test)]
pub(crate) struct Part {
    pub(crate) of: &'static str,
    pub(crate) sql: String,
    pub(crate) whose: i64,
    pub(crate) ns: Option<i64>,
    pub(crate) task: Option<i64>,
}

/// The parts of lists in a state.
#[cfg(test)]
pub(crate) fn parts(state: Option<RunState>, order: Order) -> Vec<Part> {
    let part = |of, along, whose, ns, task| Part { of, sql: keys(along, state, order), whose, ns, task };
    vec![
        part("parts", Along::Parts, 1, None, None),
        part("task", Along::Task, 3, None, Some(3)),
        part("namespace", Along::Namespace, 1, Some(1), None),
        part("all", Along::All, 0, None, None),
    ]
}

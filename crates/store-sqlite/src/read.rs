//! The reading side: lists by cursor, single rows, events.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ostler_model::{Kind, MachineId, RunState};
use ostler_store::{
    Cursor, EventPage, EventRow, LaneRow, Letter, LimitRow, MachineRow, NamespaceRow, NodeId, NodeRow, Page,
    Phase, PresetRow, Queries, RunFilter, StoreError, StoreStats, TaskRow, TickRow,
};
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter, types::Value};

use crate::{error::told, letters};

/// A reading side.
pub(crate) struct Reader {
    pub(crate) connection: Arc<Mutex<Connection>>,
    pub(crate) salt: u64,
}

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

impl Reader {
    fn sql(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn one<T>(
        &self,
        sql: &str,
        values: impl rusqlite::Params,
        row: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, StoreError> {
        let connection = self.sql();
        connection.prepare_cached(sql).and_then(|mut s| s.query_row(values, row).optional()).map_err(told)
    }

    fn many<T>(
        &self,
        sql: &str,
        values: impl rusqlite::Params,
        row: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        let connection = self.sql();
        let mut select = connection.prepare_cached(sql).map_err(told)?;
        select.query_map(values, row).and_then(Iterator::collect).map_err(told)
    }
}

/// Cuts one row more than asked for into a page and the cursor of the next.
fn page<T>(mut items: Vec<T>, limit: u32, key: impl Fn(&T) -> String) -> Page<T> {
    let full = items.len() > limit as usize;
    items.truncate(limit as usize);
    let next = if full { items.last().map(|last| Cursor(key(last))) } else { None };
    Page { items, next }
}

fn number(cursor: Option<&Cursor>, otherwise: i64) -> Result<i64, StoreError> {
    match cursor {
        None => Ok(otherwise),
        Some(Cursor(text)) => i64::from_str_radix(text, 36)
            .map_err(|_| StoreError::Refused(format!("`{text}` is not the cursor of a page"))),
    }
}

fn base36(mut n: i64) -> String {
    let mut digits = Vec::new();
    while n > 0 {
        digits.push(char::from_digit((n % 36) as u32, 36).unwrap_or('0'));
        n /= 36;
    }
    if digits.is_empty() { "0".into() } else { digits.iter().rev().collect() }
}

/// Namespace and name as a cursor.
fn name_cursor(namespace: &str, name: &str) -> String {
    format!("{namespace}\u{1f}{name}")
}

fn after_name(cursor: Option<&Cursor>) -> (String, String) {
    cursor
        .and_then(|c| c.0.split_once('\u{1f}'))
        .map_or_else(Default::default, |(namespace, name)| (namespace.to_owned(), name.to_owned()))
}

impl Queries for Reader {
    fn salt(&self) -> u64 {
        self.salt
    }

    fn machine(&self, id: MachineId) -> Result<Option<MachineRow>, StoreError> {
        self.one(&format!("{MACHINE} WHERE m.id=?1"), [id.0], machine_row)
    }

    fn runs(
        &self,
        filter: &RunFilter,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Page<MachineRow>, StoreError> {
        let before = number(after, i64::MAX)?;
        let mut sql = String::new();
        let mut values: Vec<Value> = vec![before.into()];
        let mut push = |sql: &mut String, text: &str, value: Value| {
            values.push(value);
            sql.push_str(&text.replace("?#", &format!("?{}", values.len())));
        };
        // Living states are looked up in the queue, which holds nothing else; final ones along the keys.
        let living = !filter.states.is_empty() && filter.states.iter().all(|s| !s.is_final());
        if living {
            sql.push_str(
                &MACHINE.replace(
                    "FROM machine m JOIN",
                    "FROM tick q CROSS JOIN machine m ON m.id=q.machine JOIN",
                ),
            );
        } else {
            sql.push_str(MACHINE);
        }
        sql.push_str(" WHERE m.id<?1 AND m.kind IN (1, 2)");
        match filter.parent {
            Some(parent) => push(&mut sql, " AND m.parent=?# AND m.parent IS NOT NULL", parent.0.into()),
            None => sql.push_str(" AND m.parent IS NULL"),
        }
        if let Some(task) = filter.task_row {
            push(&mut sql, " AND m.task=?#", task.into());
        }
        if let Some(namespace) = &filter.namespace {
            push(&mut sql, " AND m.ns=(SELECT id FROM namespace WHERE name=?#)", namespace.clone().into());
        }
        if let Some(since) = filter.since {
            push(&mut sql, " AND m.id>=?#", since.0.into());
        }
        if let Some(until) = filter.until {
            push(&mut sql, " AND m.id<?#", until.0.into());
        }
        if !filter.states.is_empty() {
            let states: Vec<&str> = filter.states.iter().map(|s| condition(*s)).collect();
            sql.push_str(&format!(" AND ({})", states.join(" OR ")));
            if filter.states.iter().all(|s| s.code() > RunState::Succeeded.code()) {
                // Lets the index of bad ends be used.
                sql.push_str(" AND m.state>10");
            }
        }
        values.push(i64::from(limit + 1).into());
        sql.push_str(&format!(" ORDER BY m.id DESC LIMIT ?{}", values.len()));
        let rows = self.many(&sql, params_from_iter(values), machine_row)?;
        Ok(page(rows, limit, |row| base36(row.id.0)))
    }

    fn machines(
        &self,
        kind: Kind,
        task_row: Option<i64>,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Page<MachineRow>, StoreError> {
        let after = number(after, -1)?;
        let count = limit + 1;
        let rows = match (task_row, kind) {
            (Some(task), _) => self.many(
                &format!("{MACHINE} WHERE m.id>?1 AND m.task=?2 AND m.kind=?3 AND m.parent IS NULL ORDER BY m.id LIMIT ?4"),
                params![after, task, kind.0, count],
                machine_row,
            )?,
            (None, Kind::SCHEDULE) => self.many(
                &format!("{MACHINE} WHERE m.id>?1 AND m.kind=3 ORDER BY m.id LIMIT ?2"),
                params![after, count],
                machine_row,
            )?,
            (None, _) => self.many(
                &format!("{MACHINE} WHERE m.id>?1 AND m.kind=?2 ORDER BY m.id LIMIT ?3"),
                params![after, kind.0, count],
                machine_row,
            )?,
        };
        Ok(page(rows, limit, |row| base36(row.id.0)))
    }

    fn claimed_with_mail(&self, node: NodeId) -> Result<Vec<(MachineId, Vec<Letter>)>, StoreError> {
        let sql = "SELECT machine FROM tick WHERE phase=2 AND node=?1 AND woken>0";
        let machines: Vec<i64> = self.many(sql, [node.0], |r| r.get(0))?;
        let connection = self.sql();
        machines
            .into_iter()
            .map(|id| {
                Ok((
                    MachineId(id),
                    letters::of(&connection, id)?.into_iter().map(|(_, letter)| letter).collect(),
                ))
            })
            .collect()
    }

    fn events(&self, after: i64, limit: u32) -> Result<EventPage, StoreError> {
        let first: i64 =
            self.one("SELECT value FROM meta WHERE key='first_event'", [], |r| r.get(0))?.unwrap_or(1);
        if after + 1 < first {
            return Ok(EventPage::Gone { oldest: first });
        }
        let sql = "SELECT seq, at, machine, step, kind, body FROM event WHERE seq>?1 ORDER BY seq LIMIT ?2";
        let items = self.many(sql, params![after, limit], event_row)?;
        let next = items.last().map_or(after, |e| e.seq);
        Ok(EventPage::Events { items, next })
    }

    fn history(&self, machine: MachineId, limit: u32) -> Result<Vec<EventRow>, StoreError> {
        let mut seq: i64 =
            self.one("SELECT last_event FROM machine WHERE id=?1", [machine.0], |r| r.get(0))?.unwrap_or(0);
        let mut events = Vec::new();
        while seq != 0 && events.len() < limit as usize {
            let sql = "SELECT seq, at, machine, step, kind, body, prev FROM event WHERE seq=?1";
            match self.one(sql, [seq], |r| Ok((event_row(r)?, r.get::<_, i64>(6)?)))? {
                Some((event, prev)) => {
                    events.push(event);
                    seq = prev;
                }
                None => break,
            }
        }
        events.reverse();
        Ok(events)
    }

    fn task(&self, namespace: &str, name: &str) -> Result<Option<TaskRow>, StoreError> {
        self.one(&format!("{TASK} WHERE n.name=?1 AND t.name=?2"), [namespace, name], task_row)
    }

    fn tasks(
        &self,
        namespace: Option<&str>,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Page<TaskRow>, StoreError> {
        let (after_ns, after_name) = after_name(after);
        let rows = self.many(
            &format!(
                "{TASK} WHERE (?1 IS NULL OR n.name=?1) AND (n.name, t.name)>(?2, ?3) ORDER BY n.name, t.name LIMIT ?4"
            ),
            params![namespace, after_ns, after_name, limit + 1],
            task_row,
        )?;
        Ok(page(rows, limit, |row| name_cursor(&row.namespace, &row.name)))
    }

    fn definition(&self, row: i64) -> Result<Option<(i64, String, String, String)>, StoreError> {
        self.one(
            "SELECT d.task, n.name, t.name, d.body FROM definition d JOIN task t ON t.id=d.task JOIN namespace n ON n.id=t.ns
             WHERE d.id=?1",
            [row],
            |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?)),
        )
    }

    fn preset(&self, namespace: &str, name: &str) -> Result<Option<PresetRow>, StoreError> {
        self.one(&format!("{PRESET} WHERE n.name=?1 AND p.name=?2"), [namespace, name], preset_row)
    }

    fn presets(
        &self,
        namespace: Option<&str>,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Page<PresetRow>, StoreError> {
        let (after_ns, after_name) = after_name(after);
        let rows = self.many(
            &format!(
                "{PRESET} WHERE (?1 IS NULL OR n.name=?1) AND (n.name, p.name)>(?2, ?3) ORDER BY n.name, p.name LIMIT ?4"
            ),
            params![namespace, after_ns, after_name, limit + 1],
            preset_row,
        )?;
        Ok(page(rows, limit, |row| name_cursor(&row.namespace, &row.name)))
    }

    fn namespaces(&self, after: Option<&Cursor>, limit: u32) -> Result<Page<NamespaceRow>, StoreError> {
        let rows = self.many(
            "SELECT name, origin, actor, ephemeral, paused, created_at, seen_at, (SELECT count(*) FROM task WHERE ns=namespace.id)
             FROM namespace WHERE name>?1 ORDER BY name LIMIT ?2",
            params![after.map_or("", |c| c.0.as_str()), limit + 1],
            |r| {
                Ok(NamespaceRow {
                    name: r.get(0)?,
                    origin: r.get(1)?,
                    actor: r.get(2)?,
                    ephemeral: r.get(3)?,
                    paused: r.get(4)?,
                    created_at: r.get(5)?,
                    seen_at: r.get(6)?,
                    tasks: r.get::<_, i64>(7)? as u64,
                })
            },
        )?;
        Ok(page(rows, limit, |row| row.name.clone()))
    }

    fn lane(&self, lane: i64) -> Result<Option<LaneRow>, StoreError> {
        self.one(
            "SELECT l.id, n.name, n.paused, c.key, r.key, l.home, (SELECT count(*) FROM tick WHERE phase=1 AND lane=l.id)
             FROM lane l JOIN namespace n ON n.id=l.ns LEFT JOIN \"limit\" c ON c.id=l.concurrency
               LEFT JOIN \"limit\" r ON r.id=l.rate WHERE l.id=?1",
            [lane],
            |r| {
                let home: i64 = r.get(5)?;
                Ok(LaneRow {
                    lane: r.get(0)?,
                    namespace: r.get(1)?,
                    paused: r.get(2)?,
                    concurrency: r.get(3)?,
                    rate: r.get(4)?,
                    home: (home != 0).then_some(NodeId(home)),
                    ready: r.get::<_, i64>(6)? as u64,
                })
            },
        )
    }

    fn limits(&self, lane: i64) -> Result<Vec<LimitRow>, StoreError> {
        let rows = self.many(
            "SELECT i.id, n.name, i.key, i.kind, i.max, i.interval, i.tat FROM lane l
             JOIN \"limit\" i ON i.id IN (l.concurrency, l.rate) JOIN namespace n ON n.id=i.ns WHERE l.id=?1 ORDER BY i.kind",
            [lane],
            |r| {
                let (max, interval, tat): (u32, i64, i64) = (r.get(4)?, r.get(5)?, r.get(6)?);
                let limit = LimitRow {
                    namespace: r.get(1)?,
                    key: r.get(2)?,
                    is_rate: r.get::<_, i64>(3)? == 2,
                    max,
                    interval,
                    free_at: tat - (i64::from(max) - 1) * interval,
                    holders: Vec::new(),
                };
                Ok((r.get::<_, i64>(0)?, limit))
            },
        )?;
        rows.into_iter()
            .map(|(id, mut limit)| {
                let sql = "SELECT machine FROM permit WHERE \"limit\"=?1 ORDER BY machine LIMIT 100";
                limit.holders = self.many(sql, [id], |r| r.get(0).map(MachineId))?;
                Ok(limit)
            })
            .collect()
    }

    fn nodes(&self) -> Result<Vec<NodeRow>, StoreError> {
        self.many(
            "SELECT id, name, owner, started_at, renewals, closed,
               (SELECT count(*) FROM tick WHERE phase=2 AND node=n.id) FROM node n ORDER BY closed, id DESC LIMIT 200",
            [],
            |r| {
                Ok(NodeRow {
                    node: NodeId(r.get(0)?),
                    name: r.get(1)?,
                    owner: r.get(2)?,
                    started_at: r.get(3)?,
                    renewals: r.get(4)?,
                    closed: r.get(5)?,
                    claims: r.get::<_, i64>(6)? as u64,
                })
            },
        )
    }

    fn stats(&self) -> Result<StoreStats, StoreError> {
        let connection = self.sql();
        let pragma =
            |name: &str| connection.pragma_query_value(None, name, |r| r.get::<_, i64>(0)).map_err(told);
        let page = pragma("page_size")?;
        let mut stats = StoreStats {
            schema: pragma("user_version")?,
            bytes: (pragma("page_count")? * page) as u64,
            free_bytes: (pragma("freelist_count")? * page) as u64,
            ..StoreStats::default()
        };
        let mut select =
            connection.prepare_cached("SELECT phase, count(*) FROM tick GROUP BY phase").map_err(told)?;
        let mut rows = select.query([]).map_err(told)?;
        while let Some(row) = rows.next().map_err(told)? {
            let phase: i64 = row.get(0).map_err(told)?;
            if let Some(count) = usize::try_from(phase).ok().and_then(|p| stats.queue.get_mut(p)) {
                *count = row.get::<_, i64>(1).map_err(told)? as u64;
            }
        }
        let sql = "SELECT coalesce((SELECT max(seq) FROM event), 0), (SELECT value FROM meta WHERE key='first_event')";
        (stats.last_event, stats.first_event) =
            connection.query_row(sql, [], |r| Ok((r.get(0)?, r.get(1)?))).map_err(told)?;
        Ok(stats)
    }
}

/// A derived state as a condition on the queue and the row; `MachineRow::run_state` says the same of a row.
fn condition(state: RunState) -> &'static str {
    match state {
        RunState::Running => "(m.state=0 AND t.phase=2)",
        RunState::Ready => "(m.state=0 AND t.phase=1 AND m.started_at IS NULL)",
        RunState::Scheduled => "(m.state=0 AND t.phase=0 AND m.started_at IS NULL)",
        RunState::Waiting => "(m.state=0 AND t.phase<>2 AND (t.phase=3 OR m.started_at IS NOT NULL))",
        RunState::Succeeded => "m.state=10",
        RunState::Failed => "m.state=11",
        RunState::Cancelled => "m.state=12",
        RunState::Skipped => "m.state=13",
        RunState::TimedOut => "m.state=14",
    }
}

fn event_row(r: &Row<'_>) -> rusqlite::Result<EventRow> {
    Ok(EventRow {
        seq: r.get(0)?,
        at: r.get(1)?,
        machine: MachineId(r.get(2)?),
        step: r.get::<_, i64>(3)? as u64,
        kind: r.get(4)?,
        body: r.get(5)?,
    })
}

const TASK: &str =
    "SELECT t.id, n.name, t.name, t.definition, (SELECT count(*) FROM definition WHERE task=t.id), d.digest,
    d.body, t.enabled, t.paused, t.missing, t.origin, t.created_at, t.updated_at
  FROM namespace n JOIN task t ON t.ns=n.id JOIN definition d ON d.id=t.definition";

fn task_row(r: &Row<'_>) -> rusqlite::Result<TaskRow> {
    Ok(TaskRow {
        row: r.get(0)?,
        namespace: r.get(1)?,
        name: r.get(2)?,
        definition: r.get(3)?,
        version: r.get(4)?,
        digest: r.get(5)?,
        body: r.get(6)?,
        enabled: r.get(7)?,
        paused: r.get(8)?,
        missing: r.get(9)?,
        origin: r.get(10)?,
        created_at: r.get(11)?,
        updated_at: r.get(12)?,
    })
}

const PRESET: &str = "SELECT n.name, p.name, p.task, p.body, p.missing, p.created_at, p.updated_at
  FROM namespace n JOIN preset p ON p.ns=n.id";

fn preset_row(r: &Row<'_>) -> rusqlite::Result<PresetRow> {
    Ok(PresetRow {
        namespace: r.get(0)?,
        name: r.get(1)?,
        task: r.get(2)?,
        body: r.get(3)?,
        missing: r.get(4)?,
        created_at: r.get(5)?,
        updated_at: r.get(6)?,
    })
}

//! Tasks, their definitions, presets, namespaces: lists by name.

use ostler_store::{Cursor, NamespaceRow, Page, PresetRow, TaskRow};
use tokio_postgres::Row;

use super::View;
use crate::{
    trouble::Done,
    value::{Columns, values},
};

const TASK: &str =
    "SELECT t.id, n.name, t.name, t.definition, (SELECT count(*) FROM definition v WHERE v.task=t.id),
    d.digest, d.body, t.enabled, t.paused, t.missing, t.origin, t.created_at, t.updated_at
  FROM namespace n JOIN task t ON t.ns=n.id JOIN definition d ON d.id=t.definition";

const PRESET: &str = "SELECT n.name, p.name, p.task, p.body, p.missing, p.created_at, p.updated_at
  FROM namespace n JOIN preset p ON p.ns=n.id";

const DEFINITION: &str = "SELECT d.task, n.name, t.name, d.body
  FROM definition d JOIN task t ON t.id=d.task JOIN namespace n ON n.id=t.ns WHERE d.id=$1";

const NAMESPACES: &str = "SELECT n.name, n.origin, n.actor, n.ephemeral, n.paused, n.created_at, n.seen_at,
    (SELECT count(*) FROM task t WHERE t.ns=n.id), n.weight
  FROM namespace n WHERE n.name>$1 ORDER BY n.name LIMIT $2";

impl View<'_> {
    pub(super) fn task(&mut self, namespace: &str, name: &str) -> Done<Option<TaskRow>> {
        self.one(&format!("{TASK} WHERE n.name=$1 AND t.name=$2"), values![namespace, name], task_row)
    }

    pub(super) fn tasks(
        &mut self,
        namespace: Option<&str>,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Done<Page<TaskRow>> {
        let (after_ns, after_name) = Cursor::name(after)?;
        let rows = self.many(
            &format!(
                "{TASK} WHERE ($1 IS NULL OR n.name=$1) AND n.name>=$2 AND (n.name>$2 OR t.name>$3)
                 ORDER BY n.name, t.name LIMIT $4"
            ),
            values![namespace, after_ns, after_name, i64::from(limit) + 1],
            task_row,
        )?;
        Ok(Page::cut(rows, limit, |row| Cursor::of_name(&row.namespace, &row.name)))
    }

    pub(super) fn definition(&mut self, row: i64) -> Done<Option<(i64, String, String, String)>> {
        self.one(DEFINITION, values![row], |r| Ok((r.int(0)?, r.text(1)?, r.text(2)?, r.text(3)?)))
    }

    pub(super) fn preset(&mut self, namespace: &str, name: &str) -> Done<Option<PresetRow>> {
        self.one(&format!("{PRESET} WHERE n.name=$1 AND p.name=$2"), values![namespace, name], preset_row)
    }

    pub(super) fn presets(
        &mut self,
        namespace: Option<&str>,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Done<Page<PresetRow>> {
        let (after_ns, after_name) = Cursor::name(after)?;
        let rows = self.many(
            &format!(
                "{PRESET} WHERE ($1 IS NULL OR n.name=$1) AND n.name>=$2 AND (n.name>$2 OR p.name>$3)
                 ORDER BY n.name, p.name LIMIT $4"
            ),
            values![namespace, after_ns, after_name, i64::from(limit) + 1],
            preset_row,
        )?;
        Ok(Page::cut(rows, limit, |row| Cursor::of_name(&row.namespace, &row.name)))
    }

    pub(super) fn namespaces(&mut self, after: Option<&Cursor>, limit: u32) -> Done<Page<NamespaceRow>> {
        let after = after.map_or("", |c| c.0.as_str());
        let rows = self.many(NAMESPACES, values![after, i64::from(limit) + 1], |r| {
            Ok(NamespaceRow {
                name: r.text(0)?,
                origin: r.text(1)?,
                actor: r.text(2)?,
                ephemeral: r.flag(3)?,
                paused: r.flag(4)?,
                created_at: r.int(5)?,
                seen_at: r.int(6)?,
                tasks: r.int(7)? as u64,
                weight: u32::try_from(r.int(8)?).unwrap_or(1),
            })
        })?;
        Ok(Page::cut(rows, limit, |row| Cursor(row.name.clone())))
    }
}

fn task_row(r: &Row) -> Done<TaskRow> {
    Ok(TaskRow {
        row: r.int(0)?,
        namespace: r.text(1)?,
        name: r.text(2)?,
        definition: r.int(3)?,
        version: u32::try_from(r.int(4)?).unwrap_or(u32::MAX),
        digest: r.text(5)?,
        body: r.text(6)?,
        enabled: r.flag(7)?,
        paused: r.flag(8)?,
        missing: r.flag(9)?,
        origin: r.text(10)?,
        created_at: r.int(11)?,
        updated_at: r.int(12)?,
    })
}

fn preset_row(r: &Row) -> Done<PresetRow> {
    Ok(PresetRow {
        namespace: r.text(0)?,
        name: r.text(1)?,
        task: r.text(2)?,
        body: r.text(3)?,
        missing: r.flag(4)?,
        created_at: r.int(5)?,
        updated_at: r.int(6)?,
    })
}

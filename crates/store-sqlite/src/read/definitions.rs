//! Tasks, their definitions, presets, namespaces: lists by name.

use ostler_store::{Cursor, NamespaceRow, Page, PresetRow, StoreError, TaskRow};
use rusqlite::{Row, params};

use super::View;

const TASK: &str =
    "SELECT t.id, n.name, t.name, t.definition, (SELECT count(*) FROM definition WHERE task=t.id), d.digest,
    d.body, t.enabled, t.paused, t.missing, t.origin, t.created_at, t.updated_at
  FROM namespace n CROSS JOIN task t ON t.ns=n.id CROSS JOIN definition d ON d.id=t.definition";

const PRESET: &str = "SELECT n.name, p.name, p.task, p.body, p.missing, p.created_at, p.updated_at
  FROM namespace n CROSS JOIN preset p ON p.ns=n.id";

const DEFINITION: &str = "SELECT d.task, n.name, t.name, d.body
  FROM definition d CROSS JOIN task t ON t.id=d.task CROSS JOIN namespace n ON n.id=t.ns WHERE d.id=?1";

const NAMESPACES: &str = "SELECT name, origin, actor, ephemeral, paused, created_at, seen_at,
    (SELECT count(*) FROM task WHERE ns=namespace.id), weight
  FROM namespace WHERE name>?1 ORDER BY name LIMIT ?2";

#[cfg(test)]
pub(super) const STATEMENTS: &[(&str, &str)] = &[
    (DEFINITION, "SEARCH d USING INTEGER PRIMARY KEY"),
    (NAMESPACES, "SEARCH namespace USING INDEX sqlite_autoindex_namespace_1 (name>?)"),
];

impl View<'_> {
    pub(super) fn task(&self, namespace: &str, name: &str) -> Result<Option<TaskRow>, StoreError> {
        self.one(&format!("{TASK} WHERE n.name=?1 AND t.name=?2"), [namespace, name], task_row)
    }

    pub(super) fn tasks(
        &self,
        namespace: Option<&str>,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Page<TaskRow>, StoreError> {
        let (after_ns, after_name) = Cursor::name(after)?;
        let rows = self.many(
            &format!(
                "{TASK} WHERE (?1 IS NULL OR n.name=?1) AND n.name>=?2 AND (n.name>?2 OR t.name>?3) ORDER BY n.name, t.name LIMIT ?4"
            ),
            params![namespace, after_ns, after_name, limit + 1],
            task_row,
        )?;
        Ok(Page::cut(rows, limit, |row| Cursor::of_name(&row.namespace, &row.name)))
    }

    pub(super) fn definition(&self, row: i64) -> Result<Option<(i64, String, String, String)>, StoreError> {
        self.one(DEFINITION, [row], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?)))
    }

    pub(super) fn preset(&self, namespace: &str, name: &str) -> Result<Option<PresetRow>, StoreError> {
        self.one(&format!("{PRESET} WHERE n.name=?1 AND p.name=?2"), [namespace, name], preset_row)
    }

    pub(super) fn presets(
        &self,
        namespace: Option<&str>,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Page<PresetRow>, StoreError> {
        let (after_ns, after_name) = Cursor::name(after)?;
        let rows = self.many(
            &format!(
                "{PRESET} WHERE (?1 IS NULL OR n.name=?1) AND n.name>=?2 AND (n.name>?2 OR p.name>?3) ORDER BY n.name, p.name LIMIT ?4"
            ),
            params![namespace, after_ns, after_name, limit + 1],
            preset_row,
        )?;
        Ok(Page::cut(rows, limit, |row| Cursor::of_name(&row.namespace, &row.name)))
    }

    pub(super) fn namespaces(
        &self,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Page<NamespaceRow>, StoreError> {
        let rows = self.many(NAMESPACES, params![after.map_or("", |c| c.0.as_str()), limit + 1], |r| {
            Ok(NamespaceRow {
                name: r.get(0)?,
                origin: r.get(1)?,
                actor: r.get(2)?,
                ephemeral: r.get(3)?,
                paused: r.get(4)?,
                created_at: r.get(5)?,
                seen_at: r.get(6)?,
                tasks: r.get::<_, i64>(7)? as u64,
                weight: r.get(8)?,
            })
        })?;
        Ok(Page::cut(rows, limit, |row| Cursor(row.name.clone())))
    }
}

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

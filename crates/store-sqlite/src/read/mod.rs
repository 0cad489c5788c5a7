//! The reading side. Each call sees one state of the store and never waits for the writer.

mod definitions;
mod history;
mod queue;
mod runs;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use ostler_model::{Kind, MachineId};
use ostler_store::{
    Claimed, Cursor, DutyRow, EventPage, EventRow, LaneRow, Letter, LimitRow, MachineRow, Mailbox,
    NamespaceRow, NodeId, NodeRow, Page, PresetRow, Queries, RunFilter, SinkRow, StoreError, StoreStats,
    Subject, TaskRow, TokenRow,
};
use rusqlite::{Connection, OptionalExtension, Params, Row};

use crate::{ReadFrom, duties, error::told, sinks, tokens};

/// A reading side. A connection is opened when it is first asked: a short-lived process makes several reading sides and
/// asks one or two, and each connection reads the whole schema.
pub(crate) struct Reader {
    source: Source,
    pub(crate) salt: u64,
}

enum Source {
    Own(PathBuf, Arc<Mutex<Option<Connection>>>),
    Shared(Arc<Mutex<Connection>>),
}

impl Reader {
    pub(crate) fn new(place: &ReadFrom, salt: u64) -> Self {
        let source = match place {
            ReadFrom::File(path) => Source::Own(path.clone(), Arc::default()),
            ReadFrom::One(path, connection) => Source::Own(path.clone(), connection.clone()),
            ReadFrom::Shared(connection) => Source::Shared(connection.clone()),
        };
        Self { source, salt }
    }

    /// Several statements on one state of the store.
    fn at_once<T>(&self, work: impl FnOnce(&View<'_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let in_view = |connection: &Connection| {
            let snapshot = connection.unchecked_transaction().map_err(told)?;
            work(&View { sql: &snapshot })
        };
        match &self.source {
            Source::Shared(connection) => in_view(&connection.lock().unwrap_or_else(PoisonError::into_inner)),
            Source::Own(path, connection) => {
                let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
                match &mut *connection {
                    Some(open) => in_view(open),
                    closed => in_view(closed.insert(crate::open::reading(path)?)),
                }
            }
        }
    }
}

/// One state of the store.
struct View<'a> {
    sql: &'a Connection,
}

impl View<'_> {
    fn one<T>(
        &self,
        sql: &str,
        values: impl Params,
        row: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, StoreError> {
        self.sql.prepare_cached(sql).and_then(|mut s| s.query_row(values, row).optional()).map_err(told)
    }

    fn many<T>(
        &self,
        sql: &str,
        values: impl Params,
        row: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        let mut select = self.sql.prepare_cached(sql).map_err(told)?;
        select.query_map(values, row).and_then(Iterator::collect).map_err(told)
    }
}

impl Queries for Reader {
    fn salt(&self) -> u64 {
        self.salt
    }

    fn machine(&self, id: MachineId) -> Result<Option<MachineRow>, StoreError> {
        self.at_once(|view| view.machine(id))
    }

    fn runs(
        &self,
        filter: &RunFilter,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Page<MachineRow>, StoreError> {
        self.at_once(|view| view.runs(filter, after, limit))
    }

    fn machines(
        &self,
        kind: Kind,
        task_row: Option<i64>,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Page<MachineRow>, StoreError> {
        self.at_once(|view| view.machines(kind, task_row, after, limit))
    }

    fn claimed_with_mail(&self, node: NodeId) -> Result<Vec<(MachineId, Vec<Letter>)>, StoreError> {
        self.at_once(|view| view.claimed_with_mail(node))
    }

    fn claims(&self, node: NodeId) -> Result<Vec<(MachineId, u64)>, StoreError> {
        self.at_once(|view| view.claims(node))
    }

    fn claimed(&self, node: NodeId, machine: MachineId) -> Result<Option<Claimed>, StoreError> {
        self.at_once(|view| view.claimed(node, machine))
    }

    fn mailbox(&self, machine: MachineId) -> Result<Option<Mailbox>, StoreError> {
        self.at_once(|view| view.mailbox(machine))
    }

    fn events(&self, after: i64, limit: u32) -> Result<EventPage, StoreError> {
        self.at_once(|view| view.events(after, limit))
    }

    fn history(&self, machine: MachineId, limit: u32) -> Result<Vec<EventRow>, StoreError> {
        self.at_once(|view| view.history(machine, limit))
    }

    fn task(&self, namespace: &str, name: &str) -> Result<Option<TaskRow>, StoreError> {
        self.at_once(|view| view.task(namespace, name))
    }

    fn tasks(
        &self,
        namespace: Option<&str>,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Page<TaskRow>, StoreError> {
        self.at_once(|view| view.tasks(namespace, after, limit))
    }

    fn definition(&self, row: i64) -> Result<Option<(i64, String, String, String)>, StoreError> {
        self.at_once(|view| view.definition(row))
    }

    fn preset(&self, namespace: &str, name: &str) -> Result<Option<PresetRow>, StoreError> {
        self.at_once(|view| view.preset(namespace, name))
    }

    fn presets(
        &self,
        namespace: Option<&str>,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Page<PresetRow>, StoreError> {
        self.at_once(|view| view.presets(namespace, after, limit))
    }

    fn namespaces(&self, after: Option<&Cursor>, limit: u32) -> Result<Page<NamespaceRow>, StoreError> {
        self.at_once(|view| view.namespaces(after, limit))
    }

    fn lane(&self, lane: i64) -> Result<Option<LaneRow>, StoreError> {
        self.at_once(|view| view.lane(lane))
    }

    fn limits(&self, lane: i64) -> Result<Vec<LimitRow>, StoreError> {
        self.at_once(|view| view.limits(lane))
    }

    fn nodes(&self) -> Result<Vec<NodeRow>, StoreError> {
        self.at_once(|view| view.nodes())
    }

    fn node(&self, node: NodeId) -> Result<Option<NodeRow>, StoreError> {
        self.at_once(|view| view.node(node))
    }

    fn sinks(&self) -> Result<Vec<SinkRow>, StoreError> {
        let sql = format!("{} ORDER BY n.name, s.name", sinks::SINK);
        self.at_once(|view| view.many(&sql, [], sinks::sink_row))
    }

    fn sink(&self, namespace: &str, name: &str) -> Result<Option<SinkRow>, StoreError> {
        let sql = format!("{} WHERE n.name=?1 AND s.name=?2", sinks::SINK);
        self.at_once(|view| view.one(&sql, [namespace, name], sinks::sink_row))
    }

    fn events_after(&self, after: i64, most: u32) -> Result<u64, StoreError> {
        self.at_once(|view| view.events_after(after, most))
    }

    fn subjects(&self, machines: &[MachineId]) -> Result<Vec<Subject>, StoreError> {
        self.at_once(|view| view.subjects(machines))
    }

    fn duties(&self) -> Result<Vec<DutyRow>, StoreError> {
        self.at_once(|view| view.many(duties::ALL, [], duties::duty_row))
    }

    fn tokens(&self) -> Result<Vec<TokenRow>, StoreError> {
        self.at_once(|view| view.many(tokens::ALL, [], tokens::token_row))
    }

    fn token(&self, hash: &str) -> Result<Option<TokenRow>, StoreError> {
        self.at_once(|view| view.one(tokens::BY_HASH, [hash], tokens::token_row))
    }

    fn stats(&self) -> Result<StoreStats, StoreError> {
        self.at_once(|view| view.stats())
    }
}

#[cfg(test)]
pub(crate) fn statements() -> Vec<(String, &'static str)> {
    let mut all = runs::statements();
    all.extend(definitions::STATEMENTS.iter().map(|(sql, plan)| ((*sql).to_owned(), *plan)));
    all.extend(history::STATEMENTS.iter().map(|(sql, plan)| ((*sql).to_owned(), *plan)));
    all.push((tokens::BY_HASH.to_owned(), "SEARCH token USING INDEX sqlite_autoindex_token_1 (hash=?)"));
    all.extend(queue::STATEMENTS.iter().map(|(sql, plan)| ((*sql).to_owned(), *plan)));
    all
}

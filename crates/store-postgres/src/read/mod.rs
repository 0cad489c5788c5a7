//! The reading side. Each call sees one state of the store, on a connection of its own.

mod definitions;
pub(crate) mod history;
mod logs;
pub(crate) mod queue;
pub(crate) mod runs;

use std::sync::{Mutex, MutexGuard, PoisonError};

use ostler_model::{Kind, MachineId};
use ostler_store::{
    Claimed, Cursor, DutyRow, EventPage, EventRow, LaneRow, Letter, LimitRow, MachineRow, Mailbox,
    NamespaceRow, NodeId, NodeRow, Page, PresetRow, Queries, RunFilter, SinkRow, StoreError, StoreStats,
    Subject, TaskRow, TokenRow,
};
use tokio_postgres::Row;

use crate::{
    duties,
    link::{Link, Mode},
    migrate::Opened,
    sinks, tokens,
    trouble::{Done, Trouble},
    url::Address,
    value::{Value, values},
};

/// A reading side. Its connection is opened when it is first asked, and again when it was lost.
pub(crate) struct Reader {
    address: Address,
    opened: Opened,
    link: Mutex<Option<Link>>,
}

impl Reader {
    pub(crate) fn new(address: Address, opened: Opened) -> Self {
        Self { address, opened, link: Mutex::default() }
    }

    /// Several statements on one state of the store. Asked once more on a new connection when the old one was gone.
    pub(crate) fn at_once<T>(&self, work: impl Fn(&mut View<'_>) -> Done<T>) -> Result<T, StoreError> {
        self.asked(|link| {
            link.begin(Mode::Snapshot, None)?;
            let seen = work(&mut View { link });
            let ended = link.script("COMMIT");
            let seen = seen?;
            ended.map(|()| seen)
        })
    }

    pub(crate) fn asked<T>(&self, work: impl Fn(&mut Link) -> Done<T>) -> Result<T, StoreError> {
        let mut place = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        let known = place.is_some();
        match self.ask(&mut place, &work) {
            Err(Trouble::Gone(_) | Trouble::Again(_)) if known => {
                self.ask(&mut place, &work).map_err(Trouble::told)
            }
            other => other.map_err(Trouble::told),
        }
    }

    fn ask<T>(
        &self,
        place: &mut MutexGuard<'_, Option<Link>>,
        work: &impl Fn(&mut Link) -> Done<T>,
    ) -> Done<T> {
        let link = match place.as_mut() {
            Some(link) if link.is_open() => link,
            _ => place.insert(Link::open(&self.address)?),
        };
        let done = work(link);
        if matches!(done, Err(Trouble::Gone(_))) {
            **place = None;
        }
        done
    }
}

/// One state of the store.
pub(crate) struct View<'a> {
    link: &'a mut Link,
}

impl View<'_> {
    fn one<T>(
        &mut self,
        sql: &str,
        values: &[Value<'_>],
        row: impl FnOnce(&Row) -> Done<T>,
    ) -> Done<Option<T>> {
        self.link.rows(sql, values)?.first().map(row).transpose()
    }

    fn many<T>(&mut self, sql: &str, values: &[Value<'_>], row: impl FnMut(&Row) -> Done<T>) -> Done<Vec<T>> {
        self.link.rows(sql, values)?.iter().map(row).collect()
    }
}

impl Queries for Reader {
    fn salt(&self) -> u64 {
        self.opened.salt
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
        self.asked(|link| history::events(link, self.opened.base, after, limit))
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
        self.at_once(|view| view.many(&sql, &[], sinks::sink_row))
    }

    fn sink(&self, namespace: &str, name: &str) -> Result<Option<SinkRow>, StoreError> {
        let sql = format!("{} WHERE n.name=$1 AND s.name=$2", sinks::SINK);
        self.at_once(|view| view.one(&sql, values![namespace, name], sinks::sink_row))
    }

    fn events_after(&self, after: i64, most: u32) -> Result<u64, StoreError> {
        self.at_once(|view| view.events_after(after, most))
    }

    fn subjects(&self, machines: &[MachineId]) -> Result<Vec<Subject>, StoreError> {
        self.at_once(|view| view.subjects(machines))
    }

    fn duties(&self) -> Result<Vec<DutyRow>, StoreError> {
        self.at_once(|view| view.many(duties::ALL, &[], duties::duty_row))
    }

    fn tokens(&self) -> Result<Vec<TokenRow>, StoreError> {
        self.at_once(|view| view.many(tokens::ALL, &[], tokens::token_row))
    }

    fn token(&self, hash: &str) -> Result<Option<TokenRow>, StoreError> {
        self.at_once(|view| view.one(tokens::BY_HASH, values![hash], tokens::token_row))
    }

    fn stats(&self) -> Result<StoreStats, StoreError> {
        self.at_once(|view| view.stats())
    }
}

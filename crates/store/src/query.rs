//! Queries: reading a store.

use ostler_model::{Kind, MachineId, RunState};
use serde::{Deserialize, Serialize};

use crate::{
    DutyRow, EventRow, LaneRow, LimitRow, MachineRow, Mailbox, NamespaceRow, NodeRow, PresetRow, SinkRow,
    StoreError, StoreStats, Subject, TaskRow, TokenRow,
};

/// Where the next page of a list begins. Opaque to callers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(pub String);

impl Cursor {
    /// Behind a machine's key.
    #[must_use]
    pub fn of_key(key: i64) -> Self {
        let mut left = key.unsigned_abs();
        let mut digits = Vec::new();
        while left > 0 || digits.is_empty() {
            digits.push(char::from_digit((left % 36) as u32, 36).unwrap_or('0'));
            left /= 36;
        }
        Self(digits.iter().rev().collect())
    }

    /// The key of a cursor, or what stands for none.
    ///
    /// # Errors
    /// The text is no such cursor.
    pub fn key(cursor: Option<&Self>, otherwise: i64) -> Result<i64, StoreError> {
        match cursor {
            None => Ok(otherwise),
            Some(Self(text)) => i64::from_str_radix(text, 36)
                .map_err(|_| StoreError::Refused(format!("`{text}` is not the cursor of a page"))),
        }
    }

    /// Behind a name in a namespace.
    #[must_use]
    pub fn of_name(namespace: &str, name: &str) -> Self {
        Self(format!("{namespace}\u{1f}{name}"))
    }

    /// Namespace and name of a cursor; empty ones for none.
    ///
    /// # Errors
    /// The text is no such cursor.
    pub fn name(cursor: Option<&Self>) -> Result<(&str, &str), StoreError> {
        let Some(Self(text)) = cursor else { return Ok(("", "")) };
        text.split_once('\u{1f}')
            .ok_or_else(|| StoreError::Refused(format!("`{text}` is not the cursor of a page")))
    }
}

/// One page of a list.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// Where the next one begins; `None` when this is the last.
    pub next: Option<Cursor>,
}

impl<T> Page<T> {
    /// Cuts one row more than asked for into a page and the cursor of the next.
    #[must_use]
    pub fn cut(mut items: Vec<T>, limit: u32, cursor: impl Fn(&T) -> Cursor) -> Self {
        let more = items.len() > limit as usize;
        items.truncate(limit as usize);
        let next = if more { items.last().map(cursor) } else { None };
        Self { items, next }
    }

    /// True when the list ends with this page.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.next.is_none()
    }
}

/// In which order a list of runs stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// By falling keys.
    #[default]
    NewestFirst,
    /// By rising keys.
    OldestFirst,
}

/// Which runs a list shows, and in which order.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct RunFilter {
    /// Only of this namespace.
    pub namespace: Option<String>,
    /// Only of the task with this row.
    pub task_row: Option<i64>,
    /// Only in one of these states; empty: any.
    pub states: Vec<RunState>,
    /// Only parts of this machine; `None`: only machines that are no part.
    pub parent: Option<MachineId>,
    /// Only made at or after this machine's moment.
    pub since: Option<MachineId>,
    /// Only made before.
    pub until: Option<MachineId>,
    /// In this order; a cursor counts in the order that it was made in.
    pub order: Order,
}

/// A page of events, or where to begin again.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventPage {
    /// Events after the cursor, in order.
    Events {
        /// What came.
        items: Vec<EventRow>,
        /// Where to go on; nothing will ever appear before it (decision 18).
        next: i64,
    },
    /// Retention has taken events after the cursor.
    Gone {
        /// The oldest one still there.
        oldest: i64,
    },
}

/// The reading side of a store. Never waits for the writer; each call sees one consistent state.
pub trait Queries: Send {
    /// The store's salt, by which public ids are made.
    fn salt(&self) -> u64;

    /// One machine.
    fn machine(&self, id: MachineId) -> Result<Option<MachineRow>, StoreError>;

    /// Runs and flows in the order of the filter. Pages are complete while others insert: what was there when the first
    /// was read is on one of them, once.
    fn runs(
        &self,
        filter: &RunFilter,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Page<MachineRow>, StoreError>;

    /// Living and ended machines of a kind (schedules), oldest first, of one task when given.
    fn machines(
        &self,
        kind: Kind,
        task_row: Option<i64>,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Page<MachineRow>, StoreError>;

    /// Machines of these among the given that a node holds and that have unread letters.
    fn claimed_with_mail(
        &self,
        node: crate::NodeId,
    ) -> Result<Vec<(MachineId, Vec<crate::Letter>)>, StoreError>;

    /// What a node holds: machines with the fences of their claims.
    fn claims(&self, node: crate::NodeId) -> Result<Vec<(MachineId, u64)>, StoreError>;

    /// A machine that a node holds, as its claim gave it; letters that came since are with it.
    fn claimed(&self, node: crate::NodeId, machine: MachineId) -> Result<Option<crate::Claimed>, StoreError>;

    /// The mailbox of a machine that lives.
    fn mailbox(&self, machine: MachineId) -> Result<Option<Mailbox>, StoreError>;

    /// Events after a number, in order.
    fn events(&self, after: i64, limit: u32) -> Result<EventPage, StoreError>;

    /// How many events there are after a number, or `most` where there are more.
    fn events_after(&self, after: i64, most: u32) -> Result<u64, StoreError>;

    /// What events are about: those of these machines that are on record, in any order.
    fn subjects(&self, machines: &[MachineId]) -> Result<Vec<Subject>, StoreError>;

    /// The events of one machine that are still there, oldest first, at most `limit` of the newest.
    fn history(&self, machine: MachineId, limit: u32) -> Result<Vec<EventRow>, StoreError>;

    /// One task by name.
    fn task(&self, namespace: &str, name: &str) -> Result<Option<TaskRow>, StoreError>;

    /// Tasks by namespace and name.
    fn tasks(
        &self,
        namespace: Option<&str>,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Page<TaskRow>, StoreError>;

    /// The lowered definition of a row, with its task's row, name and namespace: (task row, namespace, task, body).
    fn definition(&self, row: i64) -> Result<Option<(i64, String, String, String)>, StoreError>;

    /// One preset.
    fn preset(&self, namespace: &str, name: &str) -> Result<Option<PresetRow>, StoreError>;

    /// Presets by namespace and name.
    fn presets(
        &self,
        namespace: Option<&str>,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Page<PresetRow>, StoreError>;

    /// All sinks, by namespace and name.
    fn sinks(&self) -> Result<Vec<SinkRow>, StoreError>;

    /// One of them.
    fn sink(&self, namespace: &str, name: &str) -> Result<Option<SinkRow>, StoreError>;

    /// All namespaces by name.
    fn namespaces(&self, after: Option<&Cursor>, limit: u32) -> Result<Page<NamespaceRow>, StoreError>;

    /// The lane a machine stands in.
    fn lane(&self, lane: i64) -> Result<Option<LaneRow>, StoreError>;

    /// The limits of a lane.
    fn limits(&self, lane: i64) -> Result<Vec<LimitRow>, StoreError>;

    /// Processes that use the store or did lately.
    fn nodes(&self) -> Result<Vec<NodeRow>, StoreError>;

    /// One of them.
    fn node(&self, node: crate::NodeId) -> Result<Option<NodeRow>, StoreError>;

    /// All duties that there ever were and that have not ended, by name.
    fn duties(&self) -> Result<Vec<DutyRow>, StoreError>;

    /// All tokens, newest first.
    fn tokens(&self) -> Result<Vec<TokenRow>, StoreError>;

    /// The token whose secret has this digest.
    fn token(&self, hash: &str) -> Result<Option<TokenRow>, StoreError>;

    /// Numbers about the store.
    fn stats(&self) -> Result<StoreStats, StoreError>;
}

//! Sinks: what carries events out, and how far it is.

use ostler_api::{DefinitionsBy, ListPage, PageRequest, SinkRemark, SinkReset, SinkState, SinkView};
use ostler_engine::time::timestamp;
use ostler_model::definition::{SinkDef, Timetable};
use ostler_store::{
    Command, Cursor, DutyRow, EventPage, Micros, NodeRow, Page, Remark, Reply, SinkRow, StoreError, Unsent,
    event_cursor, event_number, sink_duty,
};

use crate::{
    Actor, Service, ServiceError, Verb,
    definitions::place,
    lists::{self, list_page},
    retention::unexpected,
};

/// Events that are counted behind a cursor.
const COUNTED: u32 = 10_000;

/// How a sink goes, in numbers.
pub struct SinkMark {
    /// Namespace.
    pub namespace: String,
    /// Its id.
    pub sink: String,
    /// Events that it has not come to yet, as far as they are counted.
    pub behind: u64,
    /// Events that it has carried out.
    pub delivered: u64,
    /// Since when it cannot go on.
    pub trouble_since: Option<Micros>,
}

impl Service {
    /// How the first so many sinks go, for whoever measures.
    ///
    /// # Errors
    /// The store's.
    pub fn sink_marks(&self, most: usize) -> Result<Vec<SinkMark>, ServiceError> {
        self.read(|q| {
            let sinks = q.sinks()?;
            if sinks.is_empty() {
                return Ok(Vec::new());
            }
            let duties = q.duties()?;
            let mut marks = Vec::new();
            for row in sinks.into_iter().filter(|row| row.enabled && !row.missing).take(most) {
                let key = sink_duty(&row.namespace, &row.name);
                let Some(duty) = duties.iter().find(|duty| duty.duty == key) else { continue };
                let after = duty.cursor.as_deref().and_then(event_number).unwrap_or(0);
                marks.push(SinkMark {
                    behind: q.events_after(after, COUNTED)?,
                    delivered: duty.note.done,
                    trouble_since: duty.note.trouble.as_ref().map(|trouble| trouble.at),
                    namespace: row.namespace,
                    sink: row.name,
                });
            }
            Ok(marks)
        })
    }

    /// A page of sinks.
    ///
    /// # Errors
    /// The cursor is not one, or was made in another order.
    pub fn sinks(
        &self,
        actor: &Actor,
        namespace: Option<&str>,
        page: &PageRequest<DefinitionsBy>,
    ) -> Result<ListPage<SinkView>, ServiceError> {
        self.authorise(actor, Verb::View, namespace)?;
        let mut rows = self.read(|q| q.sinks())?;
        rows.retain(|row| namespace.is_none_or(|namespace| namespace == row.namespace));
        let found = lists::sorted(
            page,
            |after, limit| {
                let after = Cursor::name(after)?;
                let behind = rows.iter().filter(|row| (&*row.namespace, &*row.name) > after);
                let rows = behind.take(limit as usize + 1).cloned().collect();
                Ok(Page::cut(rows, limit, |row: &SinkRow| Cursor::of_name(&row.namespace, &row.name)))
            },
            |row: &SinkRow| place(page.sort, &row.namespace, &row.name, row.updated_at),
        )?;
        let (duties, nodes) = self.read(|q| Ok((q.duties()?, q.nodes()?)))?;
        let page = list_page(found, |row| self.sink_view(row, &duties, &nodes));
        let items = page.items.into_iter().collect::<Result<_, _>>()?;
        Ok(ListPage { items, next: page.next, complete: page.complete })
    }

    /// Holds back a sink, or lets it go.
    ///
    /// # Errors
    /// It is not there.
    pub fn hold_sink(
        &self,
        actor: &Actor,
        namespace: &str,
        sink: &str,
        on: bool,
    ) -> Result<SinkView, ServiceError> {
        self.authorise(actor, Verb::Activate, Some(namespace))?;
        self.sink_row(namespace, sink)?;
        let (namespace, sink) = (namespace.to_owned(), sink.to_owned());
        self.change_sink(
            Command::PauseSink { namespace: namespace.clone(), sink: sink.clone(), on },
            &namespace,
            &sink,
        )
    }

    /// Says where a sink is to go on.
    ///
    /// # Errors
    /// It is not there, or retention has taken events after that place.
    pub fn reset_sink(
        &self,
        actor: &Actor,
        namespace: &str,
        sink: &str,
        request: &SinkReset,
    ) -> Result<SinkView, ServiceError> {
        self.authorise(actor, Verb::Change, Some(namespace))?;
        self.sink_row(namespace, sink)?;
        let after = match request.from.as_str() {
            "oldest" => self.read(|q| q.stats())?.first_event.max(1) - 1,
            "now" => self.read(|q| q.stats())?.last_event,
            cursor => event_number(cursor).ok_or_else(|| {
                ServiceError::BadInput(format!("`{cursor}` is not an event cursor, `oldest` or `now`"))
            })?,
        };
        if let EventPage::Gone { oldest } = self.read(|q| q.events(after, 1))? {
            return Err(gone(after, oldest));
        }
        let (duty, cursor) = (sink_duty(namespace, sink), event_cursor(after));
        self.change_sink(Command::MoveDuty { duty, cursor }, namespace, sink)
    }

    fn change_sink(&self, command: Command, namespace: &str, sink: &str) -> Result<SinkView, ServiceError> {
        match self.write(command)? {
            Reply::Done => {
                let row = self.sink_row(namespace, sink)?;
                let (duties, nodes) = self.read(|q| Ok((q.duties()?, q.nodes()?)))?;
                self.sink_view(row, &duties, &nodes)
            }
            other => Err(unexpected(&other)),
        }
    }

    fn sink_row(&self, namespace: &str, sink: &str) -> Result<SinkRow, ServiceError> {
        self.read(|q| q.sink(namespace, sink))?.ok_or_else(|| {
            ServiceError::NotFound(format!(
                "there is no sink `{sink}` in namespace `{namespace}`; `ostler sinks list` shows those that are there"
            ))
        })
    }

    fn sink_view(
        &self,
        row: SinkRow,
        duties: &[DutyRow],
        nodes: &[NodeRow],
    ) -> Result<SinkView, ServiceError> {
        let definition: SinkDef = serde_json::from_str(&row.body).map_err(|e| {
            StoreError::Corrupt(format!("the definition of sink `{}` does not read: {e}", row.name))
        })?;
        let key = sink_duty(&row.namespace, &row.name);
        let duty = duties.iter().find(|duty| duty.duty == key);
        let node = duty.and_then(|duty| duty.node);
        let cursor = duty.and_then(|duty| duty.cursor.clone());
        let behind = match cursor.as_deref().and_then(event_number) {
            Some(after) => self.read(|q| q.events_after(after, COUNTED))?,
            None => 0,
        };
        let note = duty.map(|duty| duty.note.clone()).unwrap_or_default();
        let state = match (row.missing, row.enabled, row.paused, node) {
            (true, ..) => SinkState::Missing,
            (_, false, ..) => SinkState::Disabled,
            (_, _, true, _) => SinkState::Paused,
            (.., None) => SinkState::Waiting,
            (.., Some(_)) => SinkState::Active,
        };
        let remark = |remark: Remark| SinkRemark { at: timestamp(remark.at), words: remark.words };
        Ok(SinkView {
            words: definition.to.describe(),
            state,
            node: node.and_then(|node| nodes.iter().find(|row| row.node == node)).map(|row| row.name.clone()),
            cursor,
            behind,
            delivered: note.done,
            last: Self::view_time(note.done_at),
            trouble: note.trouble.map(remark),
            missed: note.missed.map(remark),
            origin: row.origin,
            created_at: timestamp(row.created_at),
            updated_at: timestamp(row.updated_at),
            namespace: row.namespace,
            id: row.name,
            definition,
        })
    }

    /// Whoever makes a sink of other namespaces' events may look at them.
    pub(crate) fn authorise_sinks(&self, actor: &Actor, timetable: &Timetable) -> Result<(), ServiceError> {
        for namespace in timetable.sinks.iter().flat_map(|sink| &sink.namespaces) {
            let one = Some(namespace.as_str()).filter(|name| !name.contains('*'));
            self.authorise(actor, Verb::View, one)?;
        }
        Ok(())
    }

    /// What sinks have still to carry out, for retention: those that are paused too, since they are to go on.
    pub(crate) fn unsent(&self, since: i64) -> Result<Option<Unsent>, ServiceError> {
        let (sinks, duties) = self.read(|q| Ok((q.sinks()?, q.duties()?)))?;
        let keep = sinks.iter().filter(|sink| sink.enabled && !sink.missing);
        let cursors = keep.filter_map(|sink| {
            let key = sink_duty(&sink.namespace, &sink.name);
            event_number(duties.iter().find(|duty| duty.duty == key)?.cursor.as_deref()?)
        });
        Ok(cursors.min().map(|after| Unsent { after, since }))
    }
}

/// Retention has taken what was asked for.
pub(crate) fn gone(after: i64, oldest: i64) -> ServiceError {
    ServiceError::Gone(format!(
        "events after {} were removed by retention; the oldest one left comes after {}",
        event_cursor(after),
        event_cursor(oldest - 1)
    ))
}

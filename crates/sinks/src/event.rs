//! Events as they leave: which of them, and in what form.
//!
//! Each is a CloudEvent (<https://github.com/cloudevents/spec>, version 1.0). Its `id` is machine and step, which no other
//! event of any store has; its `data` is what the event list shows, with what it is about.

use std::collections::HashMap;

use ostler_engine::time::timestamp;
use ostler_expr::{Expr, Scope};
use ostler_model::{
    Kind, MachineId, Uid,
    definition::{SinkDef, is_like},
};
use ostler_store::{EventRow, Subject, event_cursor};
use serde_json::{Map, Value, json};

use crate::SinkError;

/// An event on its way out.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// Its number.
    pub(crate) seq: i64,
    /// By which a repetition is known.
    pub(crate) id: String,
    /// What it is about and what happened, as in `run.failed`.
    pub(crate) kind: String,
    /// `event` for expressions.
    pub(crate) names: Map<String, Value>,
}

impl Outgoing {
    /// Of an event and what it is about; what has no subject on record any more was pruned a moment ago.
    fn new(row: EventRow, subject: Option<&Subject>, salt: u64) -> Self {
        let uid = |id: MachineId| Uid::of(id, salt).to_string();
        let of = match subject {
            Some(Subject { parent: Some(_), .. }) => "step",
            Some(subject) if subject.kind == Kind::FLOW => Kind::RUN.word(),
            Some(subject) => subject.kind.word(),
            None => Kind(0).word(),
        };
        let kind = format!("{of}.{}", row.kind);
        let machine = uid(row.machine);
        let mut event = json!({
            "type": kind,
            "cursor": event_cursor(row.seq),
            "at": timestamp(row.at),
            "namespace": subject.map(|s| s.namespace.as_str()),
            "task": subject.map(|s| s.task.as_str()).filter(|task| !task.is_empty()),
            "machine": machine,
        });
        if let Some(map) = event.as_object_mut() {
            if let Some(parent) = subject.and_then(|s| s.parent) {
                map.insert("parent".into(), uid(parent).into());
            }
            if let Some(part) = subject.and_then(|s| s.child_key.as_deref()) {
                map.insert("part".into(), part.into());
            }
            map.insert("step".into(), row.step.into());
            map.insert("kind".into(), row.kind.into());
            map.insert("body".into(), serde_json::from_str(&row.body).unwrap_or_default());
        }
        let names = Map::from_iter([("event".to_owned(), event)]);
        Self { seq: row.seq, id: format!("{machine}.{}", row.step), kind, names }
    }

    fn event(&self) -> &Value {
        &self.names["event"]
    }

    /// The CloudEvent as JSON.
    pub(crate) fn document(&self) -> Value {
        self.with_data(self.event().clone())
    }

    /// The same without its body, and with the place to read it: for what takes short messages only.
    pub(crate) fn reference(&self) -> Value {
        let mut data = self.event().clone();
        if let Some(map) = data.as_object_mut() {
            map.remove("body");
        }
        let mut document = self.with_data(data);
        document["dataref"] = format!("/api/v1/events?after={}&limit=1", event_cursor(self.seq - 1)).into();
        document
    }

    fn with_data(&self, data: Value) -> Value {
        let text = |key: &str| data[key].as_str().unwrap_or_default().to_owned();
        let mut source = format!("/namespaces/{}", text("namespace"));
        if !data["task"].is_null() {
            source = format!("{source}/tasks/{}", text("task"));
        }
        json!({
            "specversion": "1.0",
            "id": self.id,
            "source": source,
            "type": self.kind,
            "subject": data["machine"],
            "time": data["at"],
            "datacontenttype": "application/json",
            "data": data,
        })
    }
}

/// Which events a sink carries out.
pub(crate) struct Filter {
    events: Vec<String>,
    tasks: Vec<String>,
    namespaces: Vec<String>,
    condition: Option<Expr>,
}

impl Filter {
    pub(crate) fn new(def: &SinkDef, namespace: &str) -> Result<Self, SinkError> {
        let wrong = |e: ostler_expr::ExprError| SinkError::Setting { field: "if", words: e.message };
        let own = || vec![namespace.to_owned()];
        Ok(Self {
            events: def.events.clone(),
            tasks: def.tasks.clone(),
            namespaces: if def.namespaces.is_empty() { own() } else { def.namespaces.clone() },
            condition: def.condition.as_deref().map(Expr::parse).transpose().map_err(wrong)?,
        })
    }

    /// Those of a page that are carried out, and why the last one was not of which that could not be told.
    pub(crate) fn pick(
        &self,
        rows: Vec<EventRow>,
        subjects: &[Subject],
        salt: u64,
    ) -> (Vec<Outgoing>, Option<String>) {
        let subjects: HashMap<MachineId, &Subject> = subjects.iter().map(|s| (s.id, s)).collect();
        let mut trouble = None;
        let mut picked = Vec::new();
        for row in rows {
            let subject = subjects.get(&row.machine).copied();
            let outgoing = Outgoing::new(row, subject, salt);
            match self.takes(&outgoing) {
                Ok(true) => picked.push(outgoing),
                Ok(false) => {}
                Err(words) => {
                    trouble = Some(format!("{}: `if`: {words}", event_cursor(outgoing.seq)));
                }
            }
        }
        (picked, trouble)
    }

    fn takes(&self, outgoing: &Outgoing) -> Result<bool, String> {
        let event = outgoing.event();
        let fits = |patterns: &[String], text: Option<&str>| {
            text.is_some_and(|text| patterns.iter().any(|pattern| is_like(text, pattern)))
        };
        if !fits(&self.namespaces, event["namespace"].as_str())
            || !(self.events.is_empty() || fits(&self.events, Some(&outgoing.kind)))
            || !(self.tasks.is_empty() || fits(&self.tasks, event["task"].as_str()))
        {
            return Ok(false);
        }
        match &self.condition {
            None => Ok(true),
            Some(condition) => condition.truthy(&Scope::new(&outgoing.names)).map_err(|e| e.message),
        }
    }
}

#[cfg(test)]
mod tests {
    use ostler_model::definition::Outlet;

    use super::*;

    fn row(seq: i64, machine: i64, kind: &str, body: &str) -> EventRow {
        EventRow {
            seq,
            at: 1_790_000_000_000_000,
            machine: MachineId(machine),
            step: 2,
            kind: kind.into(),
            body: body.into(),
        }
    }

    fn subject(id: i64, kind: Kind, namespace: &str, task: &str, parent: Option<i64>) -> Subject {
        Subject {
            id: MachineId(id),
            kind,
            namespace: namespace.into(),
            task: task.into(),
            parent: parent.map(MachineId),
            child_key: parent.map(|_| "a".into()),
        }
    }

    fn picked(def: &SinkDef) -> (Vec<i64>, Option<String>) {
        let subjects = [
            subject(1, Kind::RUN, "demo", "pull", None),
            subject(2, Kind::FLOW, "demo", "load", None),
            subject(3, Kind::RUN, "demo", "load", Some(2)),
            subject(4, Kind::SCHEDULE, "other", "pull", None),
        ];
        let rows = vec![
            row(1, 1, "created", ""),
            row(2, 1, "failed", r#"{"class":"exit"}"#),
            row(3, 2, "created", ""),
            row(4, 3, "failed", r#"{"class":"http"}"#),
            row(5, 4, "fired", ""),
            // Gone meanwhile.
            row(6, 9, "failed", ""),
        ];
        let (picked, unclear) = Filter::new(def, "demo").unwrap().pick(rows, &subjects, 7);
        (picked.iter().map(|event| event.seq).collect(), unclear)
    }

    fn def() -> SinkDef {
        SinkDef {
            id: "s".parse().unwrap(),
            description: String::new(),
            enabled: true,
            events: Vec::new(),
            tasks: Vec::new(),
            namespaces: Vec::new(),
            condition: None,
            to: Outlet::Postgres { url: "postgres://u@h".into(), channel: "c".into() },
        }
    }

    #[test]
    fn a_sink_takes_what_it_is_for() {
        let texts = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        assert_eq!(picked(&def()), (vec![1, 2, 3, 4], None), "of its own namespace");
        let all = SinkDef { namespaces: texts(&["*"]), ..def() };
        assert_eq!(picked(&all).0, [1, 2, 3, 4, 5]);
        let failed = |events: &[&str]| picked(&SinkDef { events: texts(events), ..def() }).0;
        assert_eq!(failed(&["run.failed"]), [2]);
        assert_eq!(failed(&["*.failed", "run.created"]), [1, 2, 3, 4]);
        assert_eq!(picked(&SinkDef { tasks: texts(&["lo*"]), ..def() }).0, [3, 4]);
        let condition = |source: &str| picked(&SinkDef { condition: Some(source.into()), ..def() });
        assert_eq!(condition("event.body?.class == 'http'"), (vec![4], None));
        let (none, unclear) = condition("event.body > 3");
        assert_eq!(none, [] as [i64; 0]);
        assert!(unclear.unwrap().starts_with("e4: `if`: "));
    }

    #[test]
    fn a_part_says_whose_it_is_and_a_reference_where_the_rest_is() {
        let part = subject(3, Kind::RUN, "demo", "load", Some(2));
        let event = Outgoing::new(row(4, 3, "failed", r#"{"class":"http"}"#), Some(&part), 7);
        let (machine, parent) = (Uid::of(MachineId(3), 7).to_string(), Uid::of(MachineId(2), 7).to_string());
        let document = event.document();
        assert_eq!((event.id.as_str(), event.kind.as_str()), (&*format!("{machine}.2"), "step.failed"));
        assert_eq!(
            json!([
                document["source"],
                document["subject"],
                document["data"]["parent"],
                document["data"]["part"]
            ]),
            json!(["/namespaces/demo/tasks/load", machine, parent, "a"])
        );
        assert_eq!(document["data"]["body"], json!({ "class": "http" }));
        let reference = event.reference();
        assert_eq!(reference["dataref"], "/api/v1/events?after=e3&limit=1");
        assert_eq!((reference["data"].get("body"), &reference["id"]), (None, &document["id"]));
    }
}

//! Sinks: what carries events out, and what waits for it.

use std::collections::BTreeMap;

use super::*;
use crate::{EventPage, Prune, Push, PushSink, SinkRow, Unsent, event_number, sink_duty};

fn sinks(sinks: &[(&str, &str, bool)]) -> Push {
    let sinks: BTreeMap<String, PushSink> = sinks
        .iter()
        .map(|(name, body, enabled)| {
            ((*name).to_owned(), PushSink { body: (*body).to_owned(), enabled: *enabled })
        })
        .collect();
    Push { sinks, ..super::holds::push(Vec::new()) }
}

impl Kit {
    fn sink(&self, name: &str) -> SinkRow {
        self.queries().sink("default", name).unwrap().unwrap()
    }

    /// Where a sink is, and the fence of its duty.
    fn sink_at(&self, name: &str) -> (i64, u64) {
        let duty = sink_duty("default", name);
        let row = self.queries().duties().unwrap().into_iter().find(|d| d.duty == duty).unwrap();
        (event_number(row.cursor.as_deref().unwrap()).unwrap(), row.fence)
    }

    fn last_event(&self) -> i64 {
        match self.queries().events(0, 1000) {
            Ok(EventPage::Events { items, .. }) => items.last().map_or(0, |e| e.seq),
            other => panic!("{other:?}"),
        }
    }
}

pub fn a_sink_begins_now_and_goes_on_where_it_was(make: Make<'_>) {
    let mut kit = Kit::new(make);
    kit.start(run());
    assert_eq!(kit.push(sinks(&[("a", "1", true), ("b", "1", false)])).sinks, (2, 0, 0));
    let (at, fence) = kit.sink_at("a");
    assert_eq!(
        kit.queries().events_after(at, 9).unwrap(),
        0,
        "what was before it was made does not concern it"
    );
    kit.start(run());
    assert_eq!(kit.queries().events_after(at, 9).unwrap(), 1);
    assert_eq!(kit.queries().events_after(0, 1).unwrap(), 1);
    let names: Vec<_> = kit.queries().sinks().unwrap().into_iter().map(|s| (s.name, s.enabled)).collect();
    assert_eq!(names, [("a".to_owned(), true), ("b".to_owned(), false)]);
    // The same again changes nothing; other words take it from whoever has it.
    assert_eq!(kit.push(sinks(&[("a", "1", true), ("b", "1", false)])).sinks, (0, 0, 0));
    assert_eq!(kit.sink_at("a"), (at, fence));
    assert_eq!(kit.push(sinks(&[("a", "2", true), ("b", "1", true)])).sinks, (0, 2, 0));
    assert_eq!((kit.sink("a").body.as_str(), kit.sink("b").enabled), ("2", true));
    let (still, fence) = (kit.sink_at("a").0, kit.sink_at("a").1 > fence);
    assert_eq!((still, fence), (at, true));
    // Missing, and back.
    assert_eq!(kit.push(sinks(&[("b", "1", true)])).sinks, (0, 0, 1));
    assert!(kit.sink("a").missing && !kit.sink("a").is_active());
    assert_eq!(kit.push(sinks(&[("b", "1", true)])).sinks, (0, 0, 0));
    assert_eq!(kit.push(sinks(&[("a", "2", true), ("b", "1", true)])).sinks, (0, 1, 0));
    assert_eq!((kit.sink("a").missing, kit.sink_at("a").0), (false, at));
}

pub fn a_paused_sink_is_nobodys(make: Make<'_>) {
    let mut kit = Kit::new(make);
    kit.push(sinks(&[("a", "1", true)]));
    let duty = sink_duty("default", "a");
    let take = Command::TakeDuties { node: kit.node, duties: vec![duty.clone()] };
    kit.ask(take).unwrap();
    let pause = |on| Command::PauseSink { namespace: "default".into(), sink: "a".into(), on };
    kit.ask(pause(true)).unwrap();
    assert_eq!((kit.sink("a").paused, kit.queries().duties().unwrap()[0].node), (true, None));
    kit.ask(pause(false)).unwrap();
    assert!(kit.sink("a").is_active());
    let nothing = Command::PauseSink { namespace: "default".into(), sink: "b".into(), on: true };
    assert!(matches!(kit.ask(nothing), Err(StoreError::Refused(_))));
}

pub fn what_events_are_about_is_told(make: Make<'_>) {
    let mut kit = Kit::new(make);
    kit.push(super::holds::push(vec![super::holds::task("a", "1", &[])]));
    let task = kit.task_row("a");
    let flow = kit.start(NewMachine { kind: 2, task, ..run() });
    let part = NewMachine { parent: Some(flow), child_key: Some("p".into()), task, ..run() };
    let part = kit.start(part);
    let other = kit.start(NewMachine { namespace: "other".into(), ..run() });
    let mut found = kit.queries().subjects(&[other, part, MachineId(5), flow]).unwrap();
    found.sort_by_key(|s| s.id);
    let found: Vec<_> = found
        .iter()
        .map(|s| (s.id, s.kind.0, s.namespace.as_str(), s.task.as_str(), s.parent, s.child_key.as_deref()))
        .collect();
    assert_eq!(
        found,
        [
            (flow, 2, "default", "a", None, None),
            (part, 1, "default", "a", Some(flow), Some("p")),
            (other, 1, "other", "", None, None)
        ]
    );
}

pub fn prune_leaves_what_has_still_to_be_sent(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let ids = kit.ended(10);
    // A flow that ends after its part, and whose part's end alone has been sent.
    let flow = kit.start(NewMachine { kind: 2, ..run() });
    let row = kit.claim_one();
    let part = NewMachine { parent: Some(flow), ..run() };
    let mut commit = tick(kit.node, &row, Next::Stay { until: crate::NEVER, keep_permit: false });
    commit.start = vec![part];
    let part = kit.must(commit)[0].id();
    let row = kit.claim_one();
    assert_eq!(row.id, part);
    kit.end(&row);
    let sent = kit.last_event();
    kit.send(flow, signal("end"));
    let row = kit.claim_one();
    kit.end(&row);
    kit.now += 100 * SECOND;
    let all = |after, since| Prune {
        before: Some(crate::NEVER),
        keep: None,
        max_bytes: None,
        events_before: Some(crate::NEVER),
        unsent: Some(Unsent { after, since }),
        batch: 4,
    };
    let end_of_third = kit.queries().history(ids[2], 9).unwrap().last().unwrap().seq;
    let end_of_fifth = kit.queries().history(ids[4], 9).unwrap().last().unwrap().seq;
    assert_eq!(kit.prune_all(&all(end_of_third, i64::MIN)), ids[..3]);
    let first = kit.queries().events(end_of_third, 100).unwrap();
    assert!(
        matches!(first, EventPage::Events { items, .. } if items.len() == 19),
        "all of what is left is read"
    );
    // What has waited for too long goes.
    let since = kit.row(ids[5]).finished_at.unwrap();
    assert_eq!(kit.prune_all(&all(end_of_third, since)), ids[3..5]);
    assert!(matches!(kit.queries().events(end_of_third, 9), Ok(EventPage::Gone { .. })));
    assert!(matches!(kit.queries().events(end_of_fifth, 9), Ok(EventPage::Events { .. })));
    assert_eq!(kit.prune_all(&all(sent, i64::MIN)), ids[5..], "the flow waits with its part");
    let mut rest = kit.prune_all(&all(kit.row(flow).last_event, i64::MIN));
    rest.sort();
    assert_eq!(rest, [flow, part]);
}

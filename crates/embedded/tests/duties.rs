//! Duties of a node at work: taken, begun anew when they are moved, given back at the end.
#![allow(clippy::unwrap_used, reason = "a test fails where a value is missing")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use ostler_clock::SystemClock;
use ostler_embedded::{Doing, Duties, Embedded, Held, LEASE, NodeOptions, Place, Role, Running, Step, Work};
use ostler_execution::{Executors, Secrets};
use ostler_service::QueueLimit;
use ostler_store::{Command, DutyNote, StoreError};
use tokio::sync::mpsc;

/// What a piece of work tells: which duty, from where it began, and how it ended.
type Told = mpsc::UnboundedSender<(String, Option<String>, &'static str)>;

struct Counting {
    told: Told,
    /// Duties for which there is nothing to do.
    idle: Mutex<Vec<String>>,
    asked: Mutex<Vec<String>>,
}

struct Count(Told);

impl Duties for Counting {
    fn work(&self, duty: &str) -> Result<Option<Box<dyn Work>>, StoreError> {
        self.asked.lock().unwrap().push(duty.to_owned());
        if self.idle.lock().unwrap().iter().any(|idle| idle == duty) {
            return Ok(None);
        }
        Ok(Some(Box::new(Count(self.told.clone()))))
    }
}

impl Work for Count {
    fn run(self: Box<Self>, mut held: Held) -> Doing {
        Box::pin(async move {
            let begun = held.cursor().map(str::to_owned);
            let duty = held.duty().to_owned();
            let next = begun.as_deref().map_or(1, |n| n.parse::<u32>().unwrap() + 1);
            let note = DutyNote { done: 1, ..DutyNote::default() };
            let step = Step { cursor: Some(next.to_string()), note: Some(note), send: Vec::new() };
            held.progress(step).await.unwrap();
            self.0.send((duty.clone(), begun.clone(), "begun")).unwrap();
            held.ending().await;
            assert!(!held.may_go_on());
            self.0.send((duty, begun, "ended")).unwrap();
        })
    }
}

struct NoSecrets;

impl Secrets for NoSecrets {
    fn get(&self, _: &str) -> Option<String> {
        None
    }
}

fn start(embedded: &Embedded, duties: Arc<Counting>) -> Running {
    let options = NodeOptions {
        role: Role::Owner,
        slots: 1,
        labels: Vec::new(),
        only_labelled: false,
        worker_lease: LEASE,
        limit: QueueLimit::none(),
        executors: Executors::default(),
        observer: Arc::new(|_| {}),
        lines: None,
        secrets: Arc::new(NoSecrets),
        duties: vec![duties],
    };
    embedded.start_node(options).unwrap()
}

async fn next(
    told: &mut mpsc::UnboundedReceiver<(String, Option<String>, &'static str)>,
) -> (String, Option<String>, &'static str) {
    tokio::time::timeout(Duration::from_secs(30), told.recv()).await.unwrap().unwrap()
}

fn begun(duty: &str, from: Option<&str>) -> (String, Option<String>, &'static str) {
    (duty.to_owned(), from.map(str::to_owned), "begun")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duty_is_taken_begun_anew_and_given_back() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::File(folder.path().join("store.db"));
    let embedded = Embedded::own(place, Arc::new(SystemClock)).unwrap();
    let writer = embedded.writer().clone();
    let move_to = |duty: &str, cursor: &str| {
        writer.call(Command::MoveDuty { duty: duty.into(), cursor: cursor.into() }).unwrap();
    };
    move_to("count", "4");
    move_to("rest", "0");
    let (tell, mut told) = mpsc::unbounded_channel();
    let counting =
        Arc::new(Counting { told: tell, idle: Mutex::new(vec!["rest".into()]), asked: Mutex::default() });
    let running = start(&embedded, counting.clone());
    assert_eq!(next(&mut told).await, begun("count", Some("4")));
    // Moved by another: it is dropped without a word, and begun from there.
    move_to("count", "10");
    assert_eq!(next(&mut told).await, begun("count", Some("10")));
    // One for which there was nothing to do is asked for again when something has changed, and not before.
    assert_eq!(counting.asked.lock().unwrap().iter().filter(|duty| *duty == "rest").count(), 1);
    counting.idle.lock().unwrap().clear();
    move_to("rest", "7");
    assert_eq!(next(&mut told).await, begun("rest", Some("7")));
    running.handle.drain();
    let mut ends = [next(&mut told).await, next(&mut told).await];
    ends.sort();
    assert_eq!(
        ends.map(|(duty, _, word)| (duty, word)),
        [("count".into(), "ended"), ("rest".into(), "ended")]
    );
    running.stopped().await;
    let rows = embedded.queries().duties().unwrap();
    let rows: Vec<_> =
        rows.iter().map(|r| (r.duty.as_str(), r.node, r.cursor.as_deref(), r.note.done)).collect();
    assert_eq!(rows, [("count", None, Some("11"), 1), ("rest", None, Some("8"), 1)]);
}

//! Pauses.

use super::*;
use crate::{Hold, Phase, Push, PushStarter, PushTask};

pub(super) fn task(name: &str, digest: &str, schedules: &[(&str, &str)]) -> PushTask {
    PushTask {
        name: name.into(),
        digest: digest.into(),
        body: format!("{{\"digest\":\"{digest}\"}}"),
        enabled: true,
        starters: Some(
            schedules
                .iter()
                .map(|(id, digest)| PushStarter {
                    name: (*id).into(),
                    kind: ostler_model::Kind::SCHEDULE.0,
                    digest: (*digest).into(),
                    listens: None,
                    has_duty: false,
                })
                .collect(),
        ),
    }
}

pub(super) fn push(tasks: Vec<PushTask>) -> Push {
    Push {
        namespace: "default".into(),
        ephemeral: false,
        origin: "tasks.yaml".into(),
        actor: "cli:me".into(),
        complete: true,
        tasks,
        presets: Default::default(),
        sinks: Default::default(),
    }
}

impl Kit {
    pub(super) fn push(&mut self, push: Push) -> crate::Pushed {
        match self.ask(Command::Push(Box::new(push))) {
            Ok(Reply::Pushed(pushed)) => *pushed,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn hold(&mut self, what: Hold, on: bool) -> u64 {
        match self.ask(Command::Hold { what, on }) {
            Ok(Reply::Held(touched)) => touched,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn phase(&self, id: MachineId) -> Phase {
        self.row(id).tick.unwrap().phase
    }

    pub(super) fn task_row(&self, name: &str) -> i64 {
        self.queries().task("default", name).unwrap().unwrap().row
    }

    pub(super) fn schedules(&self) -> Vec<MachineRow> {
        let page = self.queries().machines(ostler_model::Kind::SCHEDULE, None, None, 100).unwrap();
        page.items.into_iter().filter(|m| m.state == 0).collect()
    }
}

fn paused(make: Make<'_>, what: &Hold) {
    let mut kit = Kit::new(make);
    kit.push(push(vec![task("a", "1", &[("s", "1")])]));
    let row = kit.task_row("a");
    let of_task = || NewMachine { task: row, ..run() };
    let schedule = kit.schedules().remove(0).id;
    let tick_of_schedule = kit.claim_one();
    kit.stay(&tick_of_schedule, START + 100 * SECOND);
    let flow = kit.start(NewMachine { kind: 2, ..of_task() });
    let row_of_flow = kit.claim_one();
    kit.keep(&row_of_flow, crate::NEVER);
    let before = kit.start(of_task());

    assert_eq!(kit.hold(what.clone(), true), 2, "the run and the schedule");
    assert_eq!(kit.hold(what.clone(), true), 0, "again is nothing new");
    let after = kit.start(of_task());
    let part = kit.start(NewMachine { parent: Some(flow), ..of_task() });
    assert_eq!([before, after, schedule].map(|id| kit.phase(id)), [Phase::Held; 3]);
    assert_eq!(kit.state(before), RunState::Waiting);
    assert_eq!(kit.claim_ids(9), [part], "what has begun goes on with its parts");
    kit.send(flow, signal("part ended"));
    kit.send(after, signal("x"));
    assert_eq!(kit.claim_ids(9), [flow], "a held one stays held");
    kit.now += 1000 * SECOND;
    assert_eq!(kit.claim_ids(9), []);
    assert_eq!(kit.store.next_due(), Ok(None));

    assert_eq!(kit.hold(what.clone(), false), 3);
    let rows = kit.claim(9);
    let mut ids: Vec<_> = rows.iter().map(|r| r.id).collect();
    ids.sort();
    assert_eq!(ids, [schedule, before, after]);
    let resumed = rows.iter().find(|r| r.id == schedule).unwrap();
    assert!(matches!(resumed.mail[..], [(_, Letter::Resumed)]), "{:?}", resumed.mail);
}

pub fn a_paused_task_begins_nothing(make: Make<'_>) {
    paused(make, &Hold::Task("default".into(), "a".into()));
}

pub fn a_paused_namespace_begins_nothing(make: Make<'_>) {
    paused(make, &Hold::Namespace("default".into()));
}

pub fn several_holds_are_let_go_one_by_one(make: Make<'_>) {
    let mut kit = Kit::new(make);
    kit.push(push(vec![task("a", "1", &[("s", "1")])]));
    let id = kit.schedules().remove(0).id;
    let holds =
        [Hold::Machine(id), Hold::Task("default".into(), "a".into()), Hold::Namespace("default".into())];
    for what in &holds {
        assert_eq!(kit.hold(what.clone(), true), 1);
    }
    // A push of the same, and of a disabled task and back, changes nothing about pauses by hand.
    kit.push(push(vec![task("a", "1", &[("s", "1")])]));
    kit.push(push(vec![PushTask { enabled: false, ..task("a", "1", &[("s", "1")]) }]));
    kit.push(push(vec![task("a", "1", &[("s", "1")])]));
    for what in &holds {
        assert_eq!(kit.phase(id), Phase::Held);
        assert_eq!(kit.claim_ids(9), []);
        kit.hold(what.clone(), false);
    }
    assert_eq!(kit.claim_one().id, id);
}

pub fn a_hold_waits_for_the_commit(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let id = kit.start(run());
    let row = kit.claim_one();
    kit.hold(Hold::Machine(id), true);
    assert_eq!(kit.phase(id), Phase::Claimed);
    kit.stay(&row, START);
    assert_eq!(kit.phase(id), Phase::Held);
    assert_eq!(kit.claim_ids(9), []);
    kit.hold(Hold::Machine(id), false);
    let row = kit.claim_one();
    kit.hold(Hold::Machine(id), true);
    kit.hold(Hold::Machine(id), false);
    kit.stay(&row, START);
    let row = kit.claim_one();
    kit.end(&row);
    assert_eq!(kit.hold(Hold::Machine(id), true), 0, "it has ended");
}

pub fn a_cancellation_passes_a_hold(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let id = kit.start(run());
    kit.hold(Hold::Machine(id), true);
    kit.send(id, cancel());
    // Nor does a hold that comes after it.
    kit.hold(Hold::Namespace("default".into()), true);
    let row = kit.claim_one();
    assert_eq!((row.id, row.mail.len()), (id, 1));
    kit.end(&row);
}

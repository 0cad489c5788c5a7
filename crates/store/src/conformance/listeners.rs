//! Triggers: who is told of ends.

use super::{
    holds::{push, task},
    *,
};
use crate::{Hold, Phase, Push, PushStarter, PushTask};

fn listening(name: &str, trigger: &str, to: &str) -> PushTask {
    let starter = PushStarter {
        name: trigger.into(),
        kind: ostler_model::Kind::TRIGGER.0,
        digest: to.into(),
        listens: Some(("default".into(), to.into())),
        has_duty: false,
    };
    PushTask { starters: Some(vec![starter]), ..task(name, "1", &[]) }
}

impl Kit {
    fn trigger(&self) -> MachineRow {
        let rows = self.queries().machines(ostler_model::Kind::TRIGGER, None, None, 9).unwrap().items;
        rows.into_iter().find(|row| row.state == 0).unwrap()
    }

    /// A run of a task, from start to end.
    fn whole_run(&mut self, name: &str) -> MachineId {
        let id = self.start(NewMachine { task: self.task_row(name), ..run() });
        // Only what takes a slot: the trigger stays where it is.
        let claim = Claim {
            node: self.node,
            want: 9,
            light: 0,
            shared: true,
            labels: Vec::new(),
            only_labelled: false,
        };
        let Ok(Reply::Claimed(rows)) = self.ask(Command::Claim(claim)) else { panic!("no claim") };
        self.end(rows.iter().find(|row| row.id == id).unwrap());
        id
    }

    /// Takes the trigger, and gives the runs it was told of.
    fn told(&mut self) -> Vec<MachineId> {
        let Some(row) = self.claim(9).into_iter().find(|row| row.kind == ostler_model::Kind::TRIGGER) else {
            return Vec::new();
        };
        let runs = row.mail.iter().filter_map(|(_, letter)| match letter {
            Letter::RunEnded { run, namespace, task, .. } => {
                assert_eq!((namespace.as_str(), task.as_str()), ("default", "a"));
                Some(*run)
            }
            _ => None,
        });
        let runs = runs.collect();
        self.stay(&row, crate::NEVER);
        runs
    }
}

/// Of a held trigger, and of its duty.
pub fn a_trigger_that_is_held_back_hears_nothing_of_what_a_duty_brings(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let with_duty = |digest: &str, has_duty| {
        let mut task = listening("b", "redis1", digest);
        let starters = task.starters.iter_mut().flatten();
        starters.for_each(|s| (s.listens, s.has_duty) = (None, has_duty));
        push(vec![task])
    };
    kit.push(with_duty("1", true));
    let machine = kit.trigger().id;
    let name = crate::trigger_duty(machine);
    assert_eq!(crate::duty_trigger(&name), Some(machine));
    let duties = |kit: &Kit| kit.queries().duties().unwrap();
    assert_eq!(
        duties(&kit).iter().map(|d| (d.duty.clone(), d.node)).collect::<Vec<_>>(),
        [(name.clone(), None)]
    );
    let taken = match kit.ask(Command::TakeDuties { node: kit.node, duties: vec![name.clone()] }) {
        Ok(Reply::Taken(mut taken)) => taken.remove(0),
        other => panic!("{other:?}"),
    };
    // It reads that it was made.
    assert_eq!(kit.told(), []);
    let bring = |kit: &mut Kit, cursor: &str| {
        let letter = signal("event");
        let progress = crate::Progress {
            duty: name.clone(),
            node: kit.node,
            fence: taken.fence,
            cursor: Some(cursor.into()),
            note: None,
            send: vec![(machine, letter.clone()), (machine, letter)],
        };
        match kit.ask(Command::Progress(Box::new(progress))) {
            Ok(Reply::Progressed(progressed)) => progressed,
            other => panic!("{other:?}"),
        }
    };
    let kept = |hears| crate::Progressed::Kept { sent: vec![hears; 2] };
    assert_eq!(bring(&mut kit, "1"), kept(true));
    let mailbox = |kit: &Kit| kit.queries().mailbox(machine).unwrap();
    assert_eq!(mailbox(&kit), Some(crate::Mailbox { unread: 2, held: false }));
    assert_eq!(kit.queries().mailbox(MachineId(5)).unwrap(), None);
    let hold = |on| Command::Hold { what: Hold::Machine(machine), on };
    kit.ask(hold(true)).unwrap();
    assert_eq!(bring(&mut kit, "2"), kept(false));
    assert_eq!(mailbox(&kit), Some(crate::Mailbox { unread: 2, held: true }));
    assert_eq!(duties(&kit)[0].cursor.as_deref(), Some("2"), "its place moves on all the same");
    kit.ask(hold(false)).unwrap();
    assert_eq!(bring(&mut kit, "3"), kept(true));
    // Other words take it from whoever has it, and leave its place; without a duty it is forgotten.
    kit.push(with_duty("2", true));
    assert_eq!(bring(&mut kit, "4"), crate::Progressed::Lost);
    assert_eq!((duties(&kit)[0].cursor.as_deref(), duties(&kit)[0].node), (Some("3"), None));
    kit.push(with_duty("3", false));
    assert_eq!(duties(&kit), []);
    kit.push(with_duty("4", true));
    assert_eq!(duties(&kit)[0].cursor.as_deref(), Some(""));
    kit.push(push(Vec::new()));
    kit.push(push(vec![task("b", "1", &[])]));
    assert_eq!(duties(&kit), []);
}

pub fn who_listens_is_told_of_each_end_with_its_commit(make: Make<'_>) {
    let mut kit = Kit::new(make);
    // The trigger comes before the task that it listens to.
    kit.push(push(vec![listening("b", "run1", "a")]));
    assert_eq!(kit.told(), []);
    kit.push(Push { complete: false, ..push(vec![task("a", "1", &[]), task("c", "1", &[])]) });
    let first = kit.whole_run("a");
    kit.whole_run("c");
    assert_eq!(kit.phase(kit.trigger().id), Phase::Ready);
    assert_eq!(kit.told(), [first], "of the task it listens to, and no other");
    // What ends without ever ticking has ended too; a part's end is not its flow's.
    let a = kit.task_row("a");
    let skipped = kit.start(NewMachine { task: a, state: RunState::Skipped.code(), ..run() });
    kit.start(NewMachine { parent: Some(skipped), task: a, ..run() });
    let claimed = kit.claim(9);
    let part = claimed.iter().find(|row| row.parent.is_some()).unwrap();
    kit.end(part);
    let trigger = claimed.iter().find(|row| row.kind == ostler_model::Kind::TRIGGER).unwrap();
    assert!(matches!(&trigger.mail[..], [(_, Letter::RunEnded { run, .. })] if *run == skipped));
    assert_eq!(kit.row(trigger.id).tick.unwrap().letters, 1, "nothing came with the end of the part");
}

pub fn who_is_held_back_hears_nothing(make: Make<'_>) {
    let mut kit = Kit::new(make);
    kit.push(push(vec![task("a", "1", &[]), listening("b", "run1", "a")]));
    assert_eq!(kit.told(), []);
    kit.hold(Hold::Task("default".into(), "b".into()), true);
    kit.whole_run("a");
    assert_eq!(kit.row(kit.trigger().id).tick.unwrap().letters, 0);
    kit.hold(Hold::Task("default".into(), "b".into()), false);
    let second = kit.whole_run("a");
    assert_eq!(kit.told(), [second]);
    // It listens to something else now, and then to nothing.
    kit.push(push(vec![task("a", "1", &[]), task("c", "1", &[]), listening("b", "run1", "c")]));
    assert_eq!(kit.told(), []);
    kit.whole_run("a");
    assert_eq!(kit.told(), []);
    let trigger = kit.trigger().id;
    let pushed = kit.push(push(vec![task("a", "1", &[]), task("c", "1", &[]), task("b", "1", &[])]));
    assert_eq!(pushed.starters, (0, 0, 1));
    kit.whole_run("c");
    let row = kit.claim(9).into_iter().find(|row| row.id == trigger).unwrap();
    assert!(matches!(row.mail.as_slice(), [(_, Letter::Cancel { .. })]), "{:?}", row.mail);
}

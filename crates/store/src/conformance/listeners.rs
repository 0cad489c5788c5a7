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

//! Duties: one living node has each.

use super::*;
use crate::{DutyNote, DutyRow, Progress, Progressed, Taken};

impl Kit {
    fn take_duties(&mut self, node: NodeId, duties: &[&str]) -> Vec<Taken> {
        let duties = duties.iter().map(|d| (*d).to_owned()).collect();
        match self.ask(Command::TakeDuties { node, duties }) {
            Ok(Reply::Taken(mut taken)) => {
                taken.sort_by(|a, b| a.duty.cmp(&b.duty));
                taken
            }
            other => panic!("{other:?}"),
        }
    }

    fn take_duty(&mut self, node: NodeId) -> Taken {
        let mut taken = self.take_duties(node, &["carry"]);
        assert_eq!(taken.len(), 1, "{taken:?}");
        taken.remove(0)
    }

    fn progress(&mut self, progress: Progress) -> Progressed {
        match self.ask(Command::Progress(Box::new(progress))) {
            Ok(Reply::Progressed(progressed)) => progressed,
            other => panic!("{other:?}"),
        }
    }

    fn duty(&self) -> DutyRow {
        let mut duties = self.queries().duties().unwrap();
        assert_eq!(duties.len(), 1, "{duties:?}");
        duties.remove(0)
    }
}

fn at(node: NodeId, taken: &Taken, cursor: &str) -> Progress {
    Progress {
        duty: taken.duty.clone(),
        node,
        fence: taken.fence,
        cursor: Some(cursor.to_owned()),
        note: None,
        send: Vec::new(),
    }
}

fn kept() -> Progressed {
    Progressed::Kept { sent: Vec::new() }
}

pub fn one_of_64_takers_has_a_duty(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let nodes: Vec<NodeId> = (0..64).map(|_| kit.register(true)).collect();
    let queries = kit.queries();
    let writer = on_a_thread(kit);
    let taken = std::thread::scope(|scope| {
        let takers: Vec<_> = nodes
            .iter()
            .map(|node| {
                let writer = writer.clone();
                let take = Command::TakeDuties { node: *node, duties: vec!["carry".into(), "fetch".into()] };
                scope.spawn(move || match writer.call(take) {
                    Ok(Reply::Taken(taken)) => taken.into_iter().map(|t| (t.duty, *node)).collect::<Vec<_>>(),
                    other => panic!("{other:?}"),
                })
            })
            .collect();
        takers.into_iter().flat_map(|taker| taker.join().unwrap()).collect::<Vec<_>>()
    });
    let had: Vec<_> = queries.duties().unwrap().into_iter().map(|d| (d.duty, d.node.unwrap())).collect();
    let mut taken = taken;
    taken.sort();
    assert_eq!((taken.len(), taken), (2, had));
}

pub fn a_duty_goes_to_another_when_its_node_is_gone(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let (first, second, third) = (kit.node, kit.register(true), kit.register(true));
    let mine = kit.take_duty(first);
    assert_eq!((mine.cursor.clone(), mine.note.clone()), (None, DutyNote::default()));
    assert_eq!(kit.take_duties(first, &["carry"]), [], "who has it is not given it again");
    assert_eq!(kit.take_duties(second, &["carry"]), []);
    let note = |done| DutyNote { done, ..DutyNote::default() };
    let noted = Progress { note: Some(note(5)), ..at(first, &mine, "e5") };
    assert_eq!(kit.progress(noted), kept());
    kit.ask(Command::Rescue { node: first }).unwrap();
    assert_eq!(kit.duty().node, None);
    let theirs = kit.take_duty(second);
    assert_eq!((theirs.cursor.as_deref(), theirs.note.clone()), (Some("e5"), note(5)));
    assert!(theirs.fence > mine.fence);
    for late in [at(first, &mine, "e6"), at(second, &mine, "e6"), at(first, &theirs, "e6")] {
        assert_eq!(kit.progress(late), Progressed::Lost);
    }
    let only_noted = Progress { cursor: None, note: Some(note(6)), ..at(second, &theirs, "") };
    assert_eq!(kit.progress(only_noted), kept());
    let row = kit.duty();
    assert_eq!((row.node, row.cursor.as_deref(), row.note), (Some(second), Some("e5"), note(6)));
    kit.ask(Command::Close { node: second }).unwrap();
    assert_eq!(kit.take_duty(third).cursor.as_deref(), Some("e5"));
    let take = Command::TakeDuties { node: second, duties: vec!["more".into()] };
    assert_eq!(kit.ask(take), Err(StoreError::NodeClosed(second)), "a node that is closed takes nothing");
    assert_eq!(kit.queries().duties().unwrap().len(), 1);
}

/// What a duty brings in is on record exactly when its cursor is behind it.
pub fn a_lost_duty_sends_no_letters(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let (first, second) = (kit.node, kit.register(true));
    let machine = kit.start(NewMachine { due_at: crate::NEVER, ..run() });
    let gone = MachineId(7);
    let mine = kit.take_duty(first);
    let send = |name: &str| vec![(machine, signal(name)), (gone, signal(name))];
    let good = Progress { send: send("one"), ..at(first, &mine, "1") };
    assert_eq!(kit.progress(good), Progressed::Kept { sent: vec![true, false] });
    kit.ask(Command::Rescue { node: first }).unwrap();
    // In one batch with what others do, and with one that is good again.
    let theirs = kit.take_duty(second);
    let late = Command::Progress(Box::new(Progress { send: send("lost"), ..at(first, &mine, "2") }));
    let next = Command::Progress(Box::new(Progress { send: send("two"), ..at(second, &theirs, "3") }));
    let replies = kit.store.apply(kit.now, &[Command::Start(vec![run()]), late, next]);
    assert_eq!(replies[1], Ok(Reply::Progressed(Progressed::Lost)));
    assert_eq!(replies[2], Ok(Reply::Progressed(Progressed::Kept { sent: vec![true, false] })));
    assert_eq!(kit.duty().cursor.as_deref(), Some("3"));
    let rows = kit.claim_as(second, 9, true);
    let woken = rows.iter().find(|row| row.id == machine).unwrap();
    let letters: Vec<_> = woken.mail.iter().map(|(_, letter)| letter.clone()).collect();
    assert_eq!(letters, [signal("one"), signal("two")]);
}

pub fn a_duty_is_left_moved_and_ended(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let (first, second) = (kit.node, kit.register(true));
    let mine = kit.take_duty(first);
    kit.progress(at(first, &mine, "e5"));
    let leave = |node, fence| Command::LeaveDuties { node, duties: vec![("carry".to_owned(), fence)] };
    for wrong in [leave(second, mine.fence), leave(first, mine.fence + 1)] {
        assert_eq!(kit.ask(wrong), Ok(Reply::Done));
        assert_eq!(kit.duty().node, Some(first));
    }
    kit.ask(leave(first, mine.fence)).unwrap();
    let again = kit.take_duty(first);
    assert_eq!(again.cursor.as_deref(), Some("e5"));
    assert_eq!(kit.progress(at(first, &mine, "e6")), Progressed::Lost, "the fence is another one");
    // Moved: whoever has it is to ask again.
    kit.ask(Command::MoveDuty { duty: "carry".into(), cursor: "e1".into() }).unwrap();
    assert_eq!(kit.progress(at(first, &again, "e7")), Progressed::Lost);
    let moved = kit.take_duty(second);
    assert_eq!(moved.cursor.as_deref(), Some("e1"));
    for _ in 0..2 {
        assert_eq!(kit.ask(Command::EndDuty { duty: "carry".into() }), Ok(Reply::Done));
    }
    assert_eq!(kit.queries().duties(), Ok(Vec::new()));
    assert_eq!(kit.progress(at(second, &moved, "e2")), Progressed::Lost);
    kit.now += SECOND;
    let new = kit.take_duty(second);
    assert_eq!(new.cursor, None);
    assert!(new.fence > moved.fence, "what had it before is not believed");
    kit.ask(Command::EndDuty { duty: "carry".into() }).unwrap();
    // One that nobody has had yet.
    kit.ask(Command::MoveDuty { duty: "carry".into(), cursor: "e9".into() }).unwrap();
    assert_eq!(kit.take_duty(first).cursor.as_deref(), Some("e9"));
}

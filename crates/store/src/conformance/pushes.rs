//! Definitions and schedules.

use super::{
    holds::{push, task},
    *,
};
use crate::{Phase, Push, PushTask};

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

pub fn a_push_says_what_it_changed(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let first = kit.push(push(vec![task("a", "1", &[]), task("b", "1", &[])]));
    assert_eq!(first.added, names(&["a", "b"]));
    kit.now += SECOND;
    let second = kit.push(push(vec![task("a", "2", &[]), task("c", "1", &[])]));
    assert_eq!(
        (second.added, second.changed, second.unchanged, second.missing, second.relinked),
        (names(&["c"]), names(&["a"]), names(&[]), names(&["b"]), names(&[]))
    );
    assert_ne!(first.definitions["a"], second.definitions["a"]);
    let queries = kit.queries();
    let row = queries.task("default", "a").unwrap().unwrap();
    assert_eq!((row.version, row.digest.as_str(), row.updated_at, row.created_at), (2, "2", kit.now, START));
    let definition = queries.definition(first.definitions["a"]).unwrap().unwrap();
    assert_eq!(
        definition,
        (row.row, "default".into(), "a".into(), r#"{"digest":"1"}"#.into()),
        "versions stay"
    );
    assert!(queries.task("default", "b").unwrap().unwrap().missing);
    let third = kit.push(push(vec![task("a", "1", &[]), task("b", "1", &[]), task("c", "1", &[])]));
    assert_eq!(
        (third.changed, third.relinked, third.unchanged),
        (names(&["a"]), names(&["b"]), names(&["c"]))
    );
    assert_eq!(third.definitions["a"], first.definitions["a"], "the same words are the same version");
    let page = kit.queries().tasks(Some("default"), None, 2).unwrap();
    assert_eq!(page.items.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let page = kit.queries().tasks(None, page.next.as_ref(), 2).unwrap();
    assert_eq!(page.items.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["c"]);
    assert!(page.is_last());
    let spaces = kit.queries().namespaces(None, 9).unwrap().items;
    assert_eq!(
        (spaces[0].name.as_str(), spaces[0].tasks, spaces[0].actor.as_str()),
        ("default", 3, "cli:me")
    );
}

pub fn a_push_of_the_same_changes_nothing(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let all = || push(vec![task("a", "1", &[("s", "1")]), task("b", "1", &[])]);
    kit.push(all());
    let seen = |kit: &Kit| {
        let queries = kit.queries();
        (queries.tasks(None, None, 9).unwrap(), kit.schedules(), queries.stats().unwrap().last_event)
    };
    let before = seen(&kit);
    kit.now += SECOND;
    let again = kit.push(all());
    assert_eq!(again.unchanged, names(&["a", "b"]));
    assert_eq!((again.starters, again.added, again.changed), ((0, 0, 0), vec![], vec![]));
    assert_eq!(seen(&kit), before);
}

pub fn schedules_follow_their_task(make: Make<'_>) {
    let mut kit = Kit::new(make);
    assert_eq!(kit.push(push(vec![task("a", "1", &[("s", "1"), ("t", "1")])])).starters, (2, 0, 0));
    let [s, t] = [0, 1].map(|n| kit.schedules()[n].clone());
    assert_eq!((s.child_key.as_deref(), s.task.as_str(), s.definition), (Some("s"), "a", t.definition));
    assert!(s.fields.contains(r#""schedule":"s""#), "{}", s.fields);
    for row in kit.claim(9) {
        kit.stay(&row, START + 100 * SECOND);
    }
    // Another definition with the same schedules: they are pinned to it and not disturbed.
    assert_eq!(kit.push(push(vec![task("a", "2", &[("s", "1"), ("t", "1")])])).starters, (0, 0, 0));
    let now = kit.row(s.id);
    assert_ne!(now.definition, s.definition);
    assert_eq!(now.tick.unwrap().letters, 0);
    // One changes, one goes, one comes.
    let pushed = kit.push(push(vec![task("a", "3", &[("s", "2"), ("u", "1")])]));
    assert_eq!(pushed.starters, (1, 1, 1));
    let rows = kit.claim(9);
    let letter =
        |id| rows.iter().find(|r| r.id == id).unwrap().mail.first().map(|(_, letter)| letter.clone());
    assert_eq!(letter(s.id), Some(Letter::Redefined));
    assert!(matches!(letter(t.id), Some(Letter::Cancel { .. })));
    assert_eq!(rows.len(), 3);
    // Words about a run only leave schedules alone.
    let only = PushTask { starters: None, ..task("a", "4", &[]) };
    assert_eq!(kit.push(push(vec![only])).starters, (0, 0, 0));
}

pub fn a_missing_task_holds_its_schedules_until_it_is_back(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let here = || push(vec![task("a", "1", &[("s", "1")])]);
    kit.push(here());
    let id = kit.schedules().remove(0).id;
    let row = kit.claim_one();
    kit.stay(&row, START + 100 * SECOND);
    let off = push(vec![PushTask { enabled: false, ..task("a", "1", &[("s", "1")]) }]);
    for gone in [push(vec![]), off] {
        kit.push(gone);
        assert_eq!(kit.phase(id), Phase::Held);
        let run = kit.start(NewMachine { task: kit.task_row("a"), ..run() });
        assert_eq!(kit.claim_ids(9), [run], "runs by hand go on");
        kit.push(here());
        let row = kit.claim_one();
        assert_eq!((row.id, row.mail.len()), (id, 1));
        assert_eq!(row.mail[0].1, Letter::Resumed);
        kit.stay(&row, START + 100 * SECOND);
    }
}

pub fn a_partial_push_makes_nothing_missing(make: Make<'_>) {
    let mut kit = Kit::new(make);
    kit.push(push(vec![task("a", "1", &[("s", "1")]), task("b", "1", &[])]));
    let pushed = kit.push(Push { complete: false, ..push(vec![task("b", "2", &[])]) });
    assert_eq!((pushed.missing, pushed.changed), (vec![], names(&["b"])));
    // Nor does one from elsewhere.
    let elsewhere = Push { origin: "other.yaml".into(), ..push(vec![task("c", "1", &[])]) };
    assert_eq!(kit.push(elsewhere).missing, names(&[]));
    assert_eq!(kit.schedules().len(), 1);
    assert_eq!(kit.phase(kit.schedules()[0].id), Phase::Ready);
}

pub fn presets_come_and_go(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let with = |presets: &[(&str, &str)]| Push {
        presets: presets.iter().map(|(n, body)| ((*n).into(), ("a".into(), (*body).into()))).collect(),
        ..push(vec![task("a", "1", &[])])
    };
    kit.push(with(&[("p", "1"), ("q", "1")]));
    kit.now += SECOND;
    kit.push(with(&[("q", "2")]));
    let queries = kit.queries();
    let q = queries.preset("default", "q").unwrap().unwrap();
    assert_eq!((q.task.as_str(), q.body.as_str(), q.missing, q.updated_at), ("a", "2", false, kit.now));
    assert!(queries.preset("default", "p").unwrap().unwrap().missing);
    assert_eq!(queries.presets(None, None, 9).unwrap().items.len(), 2);
    drop(queries);
    kit.push(with(&[("p", "1"), ("q", "2")]));
    assert!(!kit.queries().preset("default", "p").unwrap().unwrap().missing);
}

pub fn a_forgotten_task_is_missing_until_it_is_pushed_again(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let here = || push(vec![task("a", "1", &[("s", "1")]), task("b", "1", &[])]);
    kit.push(here());
    let namespace = here().namespace;
    for name in ["a", "a", "nothing"] {
        let forget = Command::Forget { namespace: namespace.clone(), task: name.into() };
        assert_eq!(kit.ask(forget), Ok(Reply::Done));
    }
    assert_eq!(kit.phase(kit.schedules()[0].id), Phase::Held);
    assert!(kit.reader.task(&namespace, "a").unwrap().unwrap().missing);
    assert!(!kit.reader.task(&namespace, "b").unwrap().unwrap().missing);
    assert_eq!(kit.push(here()).relinked, names(&["a"]));
    assert_eq!(kit.phase(kit.schedules()[0].id), Phase::Ready);
}

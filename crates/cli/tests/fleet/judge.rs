//! Whether everything went as it should, from what is on record and from the effects themselves.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use ostler_api::{Api, ListPage, PageRequest, RunQuery, RunView};
use ostler_client::Blocking;
use ostler_model::{Cause, RunState, Uid};

use crate::load::{Waiting, insist};

/// Attempts that are lost and made up for (decision 3), and the one that is not.
const LOST: u32 = 4;

/// All runs on record that are no parts of flows.
pub(crate) fn all_runs(clients: &[Blocking], states: &[RunState]) -> Vec<RunView> {
    let query = RunQuery { states: states.to_vec(), ..RunQuery::default() };
    let (mut runs, mut after) = (Vec::new(), None);
    loop {
        let page = PageRequest::after(after.as_deref(), 500);
        let ListPage { items, next, .. } =
            insist(clients, 0, "a list of runs", |client| client.runs(&query, &page));
        runs.extend(items);
        match next {
            None => return runs,
            next => after = next,
        }
    }
}

/// Each run has ended as its policy says.
pub(crate) fn ends(accepted: &BTreeMap<Uid, &str>, runs: &[RunView], waiting: &[Waiting]) {
    let by_id: BTreeMap<Uid, &RunView> = runs.iter().map(|run| (run.id, run)).collect();
    let mut ends: BTreeMap<(&str, &str), u32> = BTreeMap::new();
    for (id, task) in accepted {
        let run = by_id.get(id).unwrap_or_else(|| panic!("{id} of {task} is not on record"));
        let class = run.error.as_ref().map_or("", |error| error.class.0.as_str());
        let lost = run.state == RunState::Failed && class == "lost";
        let good = match *task {
            "once" => run.state == RunState::Succeeded || lost,
            "slow" => {
                (run.state == RunState::TimedOut && class == "timeout") || (lost && run.attempts >= LOST)
            }
            "again" => {
                (run.state == RunState::Succeeded && run.attempts > 1) || (lost && run.attempts >= LOST)
            }
            // Which of its steps was lost so often is in its history.
            "flow" => {
                run.state == RunState::Succeeded || class == "lost" || run.steps.iter().any(|step| !step.good)
            }
            _ => run.state == RunState::Succeeded || (lost && run.attempts >= LOST),
        };
        assert!(good, "{run:?}");
        *ends.entry((task, run.state.word())).or_default() += 1;
    }
    println!("{} runs accepted: {ends:?}", accepted.len());
    for Waiting { task, id, .. } in waiting {
        let end = if *task == "nowhere" { RunState::Cancelled } else { RunState::Succeeded };
        assert_eq!(by_id[id].state, end, "{:?}", by_id[id]);
    }
    let known: BTreeSet<&Uid> = accepted.keys().chain(waiting.iter().map(|waiting| &waiting.id)).collect();
    let of_nobody =
        runs.iter().find(|run| matches!(run.cause, Some(Cause::Actor { .. })) && !known.contains(&run.id));
    assert!(of_nobody.is_none(), "a run that nobody was told of: {of_nobody:?}");
}

/// What was done, by the keys that it was done with; gives how many runs did something more than once.
pub(crate) fn effects(file: &Path, calls: &[(String, String)], runs: &[RunView]) -> usize {
    let by_id: BTreeMap<String, &RunView> = runs.iter().map(|run| (run.id.to_string(), run)).collect();
    let mut keys: BTreeMap<&str, &str> = BTreeMap::new();
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    let mut know = |run, key| {
        assert_eq!(*keys.entry(run).or_insert(key), key, "run {run} has two keys");
        assert_eq!(*owners.entry(key).or_insert(run), run, "two runs have one key");
    };
    let text = std::fs::read_to_string(file).unwrap();
    // For each run: its attempts with their fences in their order, and whether the last one has ended.
    let mut begun: BTreeMap<&str, Vec<(u64, u32)>> = BTreeMap::new();
    let mut ended: BTreeMap<&str, u64> = BTreeMap::new();
    for line in text.lines() {
        let [what, run, key, fence, attempt] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        know(run, key);
        let (fence, attempt) = (fence.parse().unwrap(), attempt.parse().unwrap());
        let attempts = begun.entry(run).or_default();
        match what {
            "begin" => {
                let is_next = attempts.last().is_none_or(|(f, a)| *f < fence && *a < attempt);
                assert!(is_next, "after {attempts:?}: {line}: {:?}", by_id[run]);
                attempts.push((fence, attempt));
            }
            _ => {
                assert_eq!(
                    attempts.last(),
                    Some(&(fence, attempt)),
                    "an older attempt beside a newer one: {line}"
                );
                ended.insert(run, fence);
            }
        }
    }
    for (run, attempts) in &begun {
        let view = by_id[*run];
        assert!(view.task != "once" || attempts.len() == 1, "done again: {view:?}");
        let is_done = ended.get(run) == attempts.last().map(|(fence, _)| fence);
        assert!(view.state != RunState::Succeeded || is_done, "{view:?}");
    }
    for (run, key) in calls {
        know(run, key);
    }
    let called: BTreeSet<&str> = calls.iter().map(|(run, _)| run.as_str()).collect();
    for run in runs.iter().filter(|run| run.task == "call" && run.state == RunState::Succeeded) {
        assert!(called.contains(run.id.to_string().as_str()), "nobody was called: {run:?}");
    }
    let again = begun.values().filter(|attempts| attempts.len() > 1).count() + calls.len() - called.len();
    println!(
        "{} runs had effects, {again} of them more than once with the key they had",
        begun.len() + called.len()
    );
    again
}

/// Every due moment was fired once, none before its time, and none is missing; each end of a flow was told once.
pub(crate) fn causes(runs: &[RunView]) -> usize {
    let mut due = BTreeMap::new();
    let mut told: BTreeMap<String, u32> = BTreeMap::new();
    for run in runs {
        match &run.cause {
            Some(Cause::Schedule { due: at, .. }) => {
                assert!(due.insert(at.as_second(), run).is_none(), "fired twice: {run:?}");
                assert!(run.created_at >= *at, "fired before its time: {run:?}");
            }
            Some(Cause::Event { body, .. }) => {
                *told.entry(body["run"].as_str().unwrap().to_owned()).or_default() += 1;
            }
            _ => {}
        }
    }
    let (first, last) = (due.keys().next().unwrap(), due.keys().next_back().unwrap());
    let missing: Vec<_> = (*first..=*last).filter(|at| !due.contains_key(at)).collect();
    assert!(missing.is_empty(), "due moments that were not fired: {missing:?}");
    for run in runs.iter().filter(|run| run.task == "flow") {
        assert_eq!(told.get(&run.id.to_string()), Some(&1), "its end was not told once: {run:?}");
    }
    println!("{} due moments and {} ends of flows, each fired once", due.len(), told.len());
    due.len()
}

//! What the tests of this crate share.
#![allow(dead_code, reason = "each test file uses its part")]

use std::{path::PathBuf, time::Duration};

use ostler_executors::spawner::{Spawner, SpawnerProgram};

/// The example binary that is the spawner and a bare node.
pub(crate) fn test_node() -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.join("examples/ostler-test-node")
}

pub(crate) fn spawner_program() -> SpawnerProgram {
    SpawnerProgram { path: test_node(), args: vec!["__spawner".into()] }
}

pub(crate) fn spawner() -> Spawner {
    Spawner::new(spawner_program())
}

fn stat(pid: i32) -> Option<(String, i32, i32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    Some((fields.next()?.into(), fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn everyone() -> Vec<i32> {
    std::fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect()
}

/// Runs, and is not a zombie.
pub(crate) fn alive(pid: i32) -> bool {
    stat(pid).is_some_and(|(state, ..)| state != "Z" && state != "X")
}

pub(crate) fn parent_of(pid: i32) -> i32 {
    stat(pid).unwrap().1
}

pub(crate) fn group_alive(group: i32) -> bool {
    everyone().into_iter().any(|pid| alive(pid) && stat(pid).is_some_and(|s| s.2 == group))
}

/// All descendants.
pub(crate) fn below(root: i32) -> Vec<i32> {
    let mut found = vec![root];
    let mut at = 0;
    while at < found.len() {
        let parent = found[at];
        found.extend(everyone().into_iter().filter(|pid| stat(*pid).is_some_and(|s| s.1 == parent)));
        at += 1;
    }
    found.remove(0);
    found
}

/// Looks until it is so, for at most ten seconds.
pub(crate) async fn eventually(mut so: impl FnMut() -> bool) -> bool {
    for _ in 0..1000 {
        if so() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

//! Steps that need one another, some of which are left out.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::document::{Entries, put};

/// A step on its way into a task.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) id: String,
    pub(crate) needs: Vec<String>,
    /// What it does; `None` when it cannot be carried over. What needs it then needs what it needed.
    pub(crate) body: Option<Entries>,
}

/// The steps as a list of the file. `Err` holds a step that needs itself by way of others.
pub(crate) fn list(steps: Vec<Step>) -> Result<Vec<Value>, String> {
    let needs: BTreeMap<&str, &Step> = steps.iter().map(|s| (s.id.as_str(), s)).collect();
    if let Some(id) = on_a_circle(&steps) {
        return Err(id);
    }
    let mut written: Vec<(String, Vec<String>)> = Vec::new();
    for step in steps.iter().filter(|s| s.body.is_some()) {
        let mut kept = Vec::new();
        resolve(step, &needs, &mut kept, &mut BTreeSet::new());
        written.push((step.id.clone(), kept));
    }
    let is_sequence = written.iter().enumerate().all(|(i, (_, needs))| match i.checked_sub(1) {
        None => needs.is_empty(),
        Some(before) => *needs == [written[before].0.clone()],
    });
    let is_parallel = written.iter().all(|(_, needs)| needs.is_empty());
    let bodies = steps.into_iter().filter_map(|s| s.body);
    Ok(written
        .into_iter()
        .zip(bodies)
        .enumerate()
        .map(|(i, ((id, needs), body))| {
            let mut entries = Entries::new();
            entries.insert("id".into(), id.into());
            put(&mut entries, "name", body.get("name").cloned().unwrap_or_default());
            if !is_sequence {
                put(&mut entries, "needs", json!(needs));
                // Without any `needs` the list would be a sequence.
                if is_parallel && i == 0 {
                    entries.insert("needs".into(), json!([]));
                }
            }
            entries.extend(body.into_iter().filter(|(key, _)| key != "name"));
            Value::Object(entries)
        })
        .collect())
}

/// What a step needs among the steps that are kept.
fn resolve<'s>(
    step: &'s Step,
    steps: &BTreeMap<&str, &'s Step>,
    kept: &mut Vec<String>,
    seen: &mut BTreeSet<&'s str>,
) {
    for need in &step.needs {
        let Some(other) = steps.get(need.as_str()) else { continue };
        if !seen.insert(need) {
            continue;
        }
        if other.body.is_some() {
            if !kept.contains(need) {
                kept.push(need.clone());
            }
        } else {
            resolve(other, steps, kept, seen);
        }
    }
}

/// A step that cannot begin before it has ended, if there is one.
fn on_a_circle(steps: &[Step]) -> Option<String> {
    let ids: BTreeSet<&str> = steps.iter().map(|s| s.id.as_str()).collect();
    let mut done: BTreeSet<&str> = BTreeSet::new();
    loop {
        let ready = |s: &&Step| {
            !done.contains(s.id.as_str())
                && s.needs.iter().all(|n| done.contains(n.as_str()) || !ids.contains(n.as_str()))
        };
        let next: Vec<&str> = steps.iter().filter(ready).map(|s| s.id.as_str()).collect();
        if next.is_empty() {
            return steps.iter().find(|s| !done.contains(s.id.as_str())).map(|s| s.id.clone());
        }
        done.extend(next);
    }
}

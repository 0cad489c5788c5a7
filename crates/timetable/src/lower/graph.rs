//! What needs what: the steps before a step, and circles.

use std::collections::{BTreeMap, BTreeSet};

use ostler_model::Name;

/// The needs of each step.
pub(crate) type Needs = BTreeMap<Name, Vec<Name>>;

/// All steps that have ended before a step begins: those it needs, directly or through others.
pub(crate) fn before(needs: &Needs, step: &Name) -> BTreeSet<Name> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&Name> = needs.get(step).into_iter().flatten().collect();
    while let Some(name) = open.pop() {
        if found.insert(name.clone()) {
            open.extend(needs.get(name).into_iter().flatten());
        }
    }
    found.remove(step);
    found
}

/// Each circle once, as the way around it from its first step in the file (`[a, b, a]`).
pub(crate) fn circles(needs: &Needs, order: &[Name]) -> Vec<Vec<Name>> {
    let mut circles = Vec::new();
    let mut told: BTreeSet<&Name> = BTreeSet::new();
    let mut done: BTreeSet<&Name> = BTreeSet::new();
    for start in order {
        // An explicit stack: a chain of ten thousand steps is a valid file.
        let mut way: Vec<(&Name, usize)> = vec![(start, 0)];
        let mut on_way: BTreeSet<&Name> = BTreeSet::from([start]);
        if done.contains(start) {
            continue;
        }
        while let Some((here, next)) = way.last_mut() {
            let Some(need) = needs.get(*here).and_then(|n| n.get(*next)) else {
                done.insert(here);
                on_way.remove(*here);
                way.pop();
                continue;
            };
            *next += 1;
            if on_way.contains(need) {
                let from = way.iter().position(|(n, _)| *n == need).unwrap_or(0);
                let circle: Vec<&Name> = way[from..].iter().map(|(n, _)| *n).collect();
                if circle.len() > 1 && !circle.iter().any(|n| told.contains(*n)) {
                    told.extend(&circle);
                    circles.push(circle.into_iter().chain([need]).cloned().collect());
                }
            } else if !done.contains(need) && needs.contains_key(need) {
                on_way.insert(need);
                way.push((need, 0));
            }
        }
    }
    circles
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(list: &[(&str, &[&str])]) -> (Needs, Vec<Name>) {
        let name = |n: &&str| Name::from_any(n);
        let needs = list.iter().map(|(n, of)| (Name::from_any(n), of.iter().map(name).collect())).collect();
        (needs, list.iter().map(|(n, _)| Name::from_any(n)).collect())
    }

    #[test]
    fn a_circle_is_told_as_the_way_around_it() {
        let (n, order) = needs(&[("a", &["c"]), ("b", &["a"]), ("c", &["b"]), ("d", &["a"])]);
        let circles = circles(&n, &order);
        assert_eq!(format!("{circles:?}"), r#"[["a", "c", "b", "a"]]"#);
    }

    #[test]
    fn a_long_chain_is_no_circle_and_no_deep_stack() {
        let names: Vec<String> = (0..20_000).map(|i| format!("s{i}")).collect();
        let needs: Needs = (0..names.len())
            .map(|i| {
                (Name::from_any(&names[i]), if i > 0 { vec![Name::from_any(&names[i - 1])] } else { vec![] })
            })
            .collect();
        let order: Vec<Name> = names.iter().rev().map(|n| Name::from_any(n)).collect();
        assert!(circles(&needs, &order).is_empty());
        assert_eq!(before(&needs, &Name::from_any("s19999")).len(), 19_999);
    }
}

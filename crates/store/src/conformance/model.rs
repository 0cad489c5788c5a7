//! Random histories against a model: no two live claims of one machine, stale fences change nothing, nothing is lost.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*, test_runner::TestRunner};

use super::*;
use crate::Phase;

#[derive(Clone, Debug)]
enum Op {
    Start {
        due: i64,
        key: Option<u8>,
    },
    Claim {
        node: usize,
        want: u32,
    },
    /// Ends or goes on with one of the claims there ever were, stale ones included.
    Commit {
        claim: usize,
        until: Option<i64>,
    },
    Send {
        machine: usize,
    },
    Release {
        claim: usize,
    },
    Rescue {
        node: usize,
    },
    Pass {
        seconds: i64,
    },
}

#[derive(Clone, Debug)]
struct Machine {
    due: i64,
    step: u64,
    fence: u64,
    claimed_by: Option<NodeId>,
    ready: bool,
    lost: bool,
    letters: usize,
    ended: bool,
    key: Option<u8>,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        4 => (-5i64..20, prop::option::weighted(0.3, 0u8..3)).prop_map(|(due, key)| Op::Start { due, key }),
        4 => (0usize..3, 0u32..5).prop_map(|(node, want)| Op::Claim { node, want }),
        6 => (0usize..200, prop::option::weighted(0.5, 0i64..20)).prop_map(|(claim, until)| Op::Commit { claim, until }),
        3 => (0usize..100).prop_map(|machine| Op::Send { machine }),
        1 => (0usize..200).prop_map(|claim| Op::Release { claim }),
        1 => (0usize..3).prop_map(|node| Op::Rescue { node }),
        2 => (1i64..8).prop_map(|seconds| Op::Pass { seconds }),
    ];
    vec(op, 1..150)
}

pub fn any_history_keeps_the_promises(make: Make<'_>) {
    let played = TestRunner::new(cases(60)).run(&ops(), |ops| play(make, ops));
    played.unwrap_or_else(|e| panic!("{e}"));
}

struct World {
    kit: Kit,
    nodes: Vec<NodeId>,
    machines: BTreeMap<MachineId, Machine>,
    /// Every claim there ever was, with its node and the letters it was given.
    claims: Vec<(Claimed, NodeId)>,
}

fn play(make: Make<'_>, ops: Vec<Op>) -> Result<(), TestCaseError> {
    let mut kit = Kit::new(make);
    let nodes = vec![kit.node, kit.register(true), kit.register(true)];
    let mut world = World { kit, nodes, machines: BTreeMap::new(), claims: Vec::new() };
    for op in ops {
        match op {
            Op::Start { due, key } => world.start(due, key)?,
            Op::Claim { node, want } => world.claim(node, want)?,
            Op::Commit { claim, until } => world.commit(claim, until)?,
            Op::Send { machine } => world.send(machine)?,
            Op::Release { claim } => world.release(claim),
            Op::Rescue { node } => world.rescue(node)?,
            Op::Pass { seconds } => world.kit.now += seconds * SECOND,
        }
        world.compare()?;
    }
    world.drain()
}

impl World {
    fn start(&mut self, due: i64, key: Option<u8>) -> Result<(), TestCaseError> {
        let due = self.kit.now + due * SECOND;
        let outcome =
            self.kit.outcome(NewMachine { due_at: due, unique_key: key.map(|k| k.to_string()), ..run() });
        let living = self.machines.iter().find(|(_, m)| key.is_some() && m.key == key && !m.ended);
        if let Some((id, _)) = living {
            prop_assert_eq!(outcome, StartOutcome::AlreadyRunning(*id));
            return Ok(());
        }
        let StartOutcome::Started(id) = outcome else {
            return Err(TestCaseError::fail(format!("{outcome:?}")));
        };
        let ready = due <= self.kit.now;
        let machine = Machine {
            due,
            step: 1,
            fence: 0,
            claimed_by: None,
            ready,
            lost: false,
            letters: 0,
            ended: false,
            key,
        };
        prop_assert!(self.machines.insert(id, machine).is_none());
        Ok(())
    }

    fn claim(&mut self, node: usize, want: u32) -> Result<(), TestCaseError> {
        let now = self.kit.now;
        let node = self.nodes[node];
        for machine in self.machines.values_mut() {
            machine.ready |= machine.claimed_by.is_none() && machine.due <= now;
        }
        let mut expected: Vec<_> = self
            .machines
            .iter()
            .filter(|(_, m)| m.ready && !m.ended && m.claimed_by.is_none())
            .map(|(id, m)| (m.due, *id))
            .collect();
        expected.sort();
        expected.truncate(want as usize);
        let rows = self.kit.claim_as(node, want, true);
        prop_assert_eq!(rows.iter().map(|r| (r.due_at, r.id)).collect::<Vec<_>>(), expected);
        for row in rows {
            let machine = self.machines.get_mut(&row.id).unwrap();
            machine.fence += 1;
            machine.claimed_by = Some(node);
            machine.ready = false;
            prop_assert_eq!(
                (row.step, row.fence, row.lost, row.mail.len()),
                (machine.step, machine.fence, machine.lost, machine.letters)
            );
            self.claims.push((row, node));
        }
        Ok(())
    }

    fn commit(&mut self, claim: usize, until: Option<i64>) -> Result<(), TestCaseError> {
        let Some((row, node)) = pick(&self.claims, claim).cloned() else { return Ok(()) };
        let now = self.kit.now;
        let until = until.map(|seconds| now + seconds * SECOND);
        let next = match until {
            Some(until) => Next::Stay { until, keep_permit: true },
            None => Next::End { state: 10 },
        };
        let machine = self.machines.get_mut(&row.id).unwrap();
        let counts = !machine.ended
            && machine.claimed_by == Some(node)
            && (machine.step, machine.fence) == (row.step, row.fence);
        let outcome = self.kit.commit(tick(node, &row, next));
        if !counts {
            let actual = (!machine.ended).then_some((machine.step, machine.fence));
            prop_assert_eq!(outcome, CommitOutcome::Conflict { expected: (row.step, row.fence), actual });
            return Ok(());
        }
        prop_assert_eq!(outcome, CommitOutcome::Committed { started: vec![] });
        machine.step += 1;
        machine.claimed_by = None;
        machine.lost = false;
        machine.letters -= row.mail.len();
        match until {
            None => machine.ended = true,
            Some(until) => {
                machine.due = if machine.letters > 0 { until.min(now) } else { until };
                machine.ready = machine.due <= now;
            }
        }
        Ok(())
    }

    fn send(&mut self, machine: usize) -> Result<(), TestCaseError> {
        let now = self.kit.now;
        let ids: Vec<_> = self.machines.keys().copied().collect();
        let Some(id) = pick(&ids, machine) else { return Ok(()) };
        let alive = self.kit.send(*id, signal("x"));
        let machine = self.machines.get_mut(id).unwrap();
        prop_assert_eq!(alive, !machine.ended);
        if alive {
            machine.letters += 1;
            if machine.claimed_by.is_none() {
                machine.due = machine.due.min(now);
                machine.ready = true;
            }
        }
        Ok(())
    }

    fn release(&mut self, claim: usize) {
        let Some((row, node)) = pick(&self.claims, claim).cloned() else { return };
        let machines = vec![(row.id, row.fence)];
        self.kit.ask(Command::Release { node, machines }).unwrap();
        let machine = self.machines.get_mut(&row.id).unwrap();
        if !machine.ended && machine.claimed_by == Some(node) && machine.fence == row.fence {
            machine.claimed_by = None;
            machine.ready = true;
        }
    }

    fn rescue(&mut self, node: usize) -> Result<(), TestCaseError> {
        let now = self.kit.now;
        let dead = self.nodes[node];
        let held: Vec<_> = self.machines.values_mut().filter(|m| m.claimed_by == Some(dead)).collect();
        let lost = held.len() as u64;
        for machine in held {
            machine.claimed_by = None;
            machine.ready = true;
            machine.lost = true;
            machine.due = machine.due.min(now);
        }
        let reply = self.kit.ask(Command::Rescue { node: dead });
        prop_assert_eq!(reply, Ok(Reply::Rescued(crate::Rescued { lost })));
        self.nodes[node] = self.kit.register(true);
        if self.kit.node == dead {
            self.kit.node = self.nodes[node];
        }
        Ok(())
    }

    /// Every machine is as the model has it.
    fn compare(&self) -> Result<(), TestCaseError> {
        let queries = self.kit.queries();
        for (id, machine) in &self.machines {
            let row = queries.machine(*id).unwrap().unwrap();
            prop_assert_eq!((row.state != 0, row.step), (machine.ended, machine.step));
            prop_assert_eq!(row.tick.is_none(), machine.ended);
            let Some(tick) = row.tick else { continue };
            prop_assert_eq!((tick.fence, tick.letters), (machine.fence, machine.letters as u64));
            prop_assert_eq!(tick.node, machine.claimed_by);
            prop_assert_eq!(tick.phase == Phase::Claimed, machine.claimed_by.is_some());
            if machine.claimed_by.is_none() {
                prop_assert_eq!(tick.due_at, machine.due);
            }
        }
        Ok(())
    }

    /// Whatever happened, everything can be brought to its end.
    fn drain(&mut self) -> Result<(), TestCaseError> {
        for node in 0..self.nodes.len() {
            self.rescue(node)?;
        }
        self.kit.now += 1000 * SECOND;
        let living = self.machines.values().filter(|m| !m.ended).count();
        let rows = self.kit.claim(1000);
        prop_assert_eq!(rows.len(), living);
        for row in rows {
            self.kit.end(&row);
        }
        prop_assert_eq!(self.kit.queries().stats().unwrap().queue, [0; 4]);
        Ok(())
    }
}

fn pick<T>(from: &[T], at: usize) -> Option<&T> {
    if from.is_empty() { None } else { from.get(at % from.len()) }
}

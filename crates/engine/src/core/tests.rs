use ostler_clock::SeededEntropy;
use ostler_model::Kind;

use super::*;
use crate::{
    Task, Tasks,
    machine::{Change, Machine, Outcome, World},
};

struct NoTasks;

impl Tasks for NoTasks {
    fn task(&self, _: i64) -> Option<Arc<Task>> {
        None
    }
}

fn core(slots: u32) -> Core {
    core_of(slots, &[])
}

fn core_of(slots: u32, machines: &[Arc<dyn Machine>]) -> Core {
    let entropy = Arc::new(SeededEntropy::new(1));
    let ticker = Ticker::new(machines, 0, Arc::new(NoTasks), entropy, Arc::new(|_| false));
    let labels = Vec::new();
    Core::new(Config {
        node: NodeId(1),
        shared: true,
        slots,
        labels,
        only_labelled: false,
        ticker: Arc::new(ticker),
    })
}

fn row(id: i64, light: bool) -> Claimed {
    Claimed {
        id: MachineId(id),
        kind: Kind::RUN,
        light,
        namespace: "n".into(),
        task: 1,
        definition: 1,
        step: 1,
        fence: 7,
        fields: "{}".into(),
        due_at: 0,
        started_at: None,
        lost: false,
        refused: false,
        parent: None,
        child_key: None,
        watcher: None,
        home: None,
        mail: Vec::new(),
        receipt: ostler_store::Receipt::default(),
    }
}

fn releases(effects: &[Effect]) -> Vec<(MachineId, u64)> {
    let of = |effect: &Effect| match effect {
        Effect::Apply(Command::Release { machines, .. }) => machines.clone(),
        _ => Vec::new(),
    };
    effects.iter().flat_map(of).collect()
}

#[test]
fn what_was_claimed_beyond_the_slots_is_given_back() {
    let mut core = core(1);
    let now = Timestamp::UNIX_EPOCH;
    for (id, light) in [(1, false), (2, true), (3, false)] {
        core.claimed(row(id, light));
    }
    assert!(!core.has_room());
    let effects = core.turn(now);
    assert_eq!(releases(&effects), [(MachineId(3), 7)]);
    // Not lost when the store is in trouble: it is given back later.
    let command = Command::Release { node: NodeId(1), machines: vec![(MachineId(3), 7)] };
    core.replied(now, command, Err(StoreError::Busy("now".into())));
    assert_eq!(releases(&core.turn(now)), []);
    assert_eq!(releases(&core.turn(after(now, STORE_RETRY))), [(MachineId(3), 7)]);
}

/// Stays until a letter comes.
struct Waits;

impl Machine for Waits {
    fn kind(&self) -> Kind {
        Kind::RUN
    }

    fn tick(&self, _: &Claimed, _: Option<&Arc<Task>>, _: &World<'_>, _: Input<'_>) -> Decision {
        let outcome = Outcome::Stay { until: None, keep_permit: true };
        Decision::Commit(Box::new(Change::new(outcome, ostler_store::EventBody::default())))
    }
}

/// A letter can come while the claim that took its machine is on its way back, and the claim that its sender's commit
/// asks for can come before the machine's own commit: then that commit must ask once more (hung once in forty runs of a
/// hundred parallel steps).
#[test]
fn a_commit_that_stays_asks_for_what_a_letter_made_ready() {
    let mut core = core_of(4, &[Arc::new(Waits)]);
    let now = Timestamp::UNIX_EPOCH;
    let claims =
        |effects: &[Effect]| effects.iter().filter(|e| matches!(e, Effect::Apply(Command::Claim(_)))).count();
    let claim = |effects: Vec<Effect>| {
        let of = |effect| match effect {
            Effect::Apply(command @ Command::Claim(_)) => Some(command),
            _ => None,
        };
        effects.into_iter().find_map(of).unwrap()
    };
    let first = claim(core.turn(now));
    core.replied(now, first, Ok(Reply::Claimed(vec![row(1, true)])));
    core.wake();
    let second = claim(core.turn(now));
    core.replied(now, second, Ok(Reply::Claimed(Vec::new())));
    let effects = core.turn(now);
    assert_eq!(claims(&effects), 0, "nobody has asked");
    let Some(Effect::Apply(commit)) = effects.into_iter().next() else { panic!("no commit") };
    let done = CommitOutcome::Committed { started: Vec::new() };
    core.replied(now, commit, Ok(Reply::Committed(vec![done])));
    assert_eq!(claims(&core.turn(now)), 1);
}

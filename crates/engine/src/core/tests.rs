use ostler_clock::SeededEntropy;

use super::*;

struct NoTasks;

impl Tasks for NoTasks {
    fn task(&self, _: i64) -> Option<Arc<Task>> {
        None
    }
}

fn core(slots: u32) -> Core {
    Core::new(Config {
        node: NodeId(1),
        shared: true,
        slots,
        salt: 0,
        machines: Vec::new(),
        tasks: Arc::new(NoTasks),
        entropy: Arc::new(SeededEntropy::new(1)),
        reruns_lost: Arc::new(|_| false),
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

//! What happens to the fleet: one fault after the other, several at a time, each over some time later.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use ostler_store_postgres::scratch::Schema;
use ostler_test_servers::private::{PgBouncer, Postgres, Stop};

use crate::{
    members::{Fleet, Member},
    skew::Skew,
    support::draw::Draw,
};

/// Who is stopped is stopped for so long: past every lease.
const STOPPED: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    KillNode,
    StopNode,
    KillWorker,
    StopWorker,
    EndConnections,
    CutStore,
    CutServer,
    SetClock,
    RestartStore,
    CrashStore,
    KillPooler,
}

/// What can happen everywhere.
pub(crate) const FAULTS: [Fault; 8] = [
    Fault::StopNode,
    Fault::KillWorker,
    Fault::CutServer,
    Fault::EndConnections,
    Fault::KillNode,
    Fault::StopWorker,
    Fault::SetClock,
    Fault::CutStore,
];

/// The store's side of a storm.
pub(crate) struct Ground<'a> {
    pub(crate) schema: &'a Schema,
    /// By which the connections of the test are known.
    pub(crate) name: &'a str,
    pub(crate) postgres: Option<&'a mut Postgres>,
    pub(crate) pooler: Option<&'a mut PgBouncer>,
}

/// What makes a fault good again.
enum Cure {
    GoOn { worker: bool, which: usize },
    Store,
    Server,
    Start,
    Pooler,
}

/// Nodes that were stopped past their lease: until when they should have found that out, which, and how often they had
/// ended before.
type Doomed = Vec<(Instant, usize, usize)>;

pub(crate) struct Storm<'a> {
    fleet: &'a mut Fleet,
    ground: Ground<'a>,
    skew: &'a Skew,
    draw: Draw,
    cures: Vec<(Instant, Cure)>,
    doomed: Doomed,
    pub(crate) count: BTreeMap<Fault, u32>,
}

impl<'a> Storm<'a> {
    pub(crate) fn new(fleet: &'a mut Fleet, ground: Ground<'a>, skew: &'a Skew, draw: Draw) -> Self {
        Self { fleet, ground, skew, draw, cures: Vec::new(), doomed: Vec::new(), count: BTreeMap::new() }
    }

    /// Rages for so long: each fault once, in an order that is drawn, then as it comes; and then all is made good.
    pub(crate) fn rage(&mut self, mut faults: Vec<Fault>, seconds: u64) {
        let begun = Instant::now();
        let first = self.draw.below(faults.len() as u64) as usize;
        faults.rotate_left(first);
        let mut next = 0;
        while begun.elapsed() < Duration::from_secs(seconds) {
            let which = match next < faults.len() {
                true => next,
                false => self.draw.below(faults.len() as u64) as usize,
            };
            next += 1;
            self.begin(faults[which]);
            // Short enough that all of them fit into the shortest storm.
            let gap = seconds.min(30) * 1000 / (faults.len() as u64 + 3);
            let until = Instant::now() + Duration::from_millis(gap / 2 + self.draw.below(gap));
            while Instant::now() < until {
                self.look();
            }
        }
        while !(self.cures.is_empty() && self.doomed.is_empty()) {
            self.look();
        }
    }

    fn look(&mut self) {
        std::thread::sleep(Duration::from_millis(20));
        let now = Instant::now();
        let (due, later) = std::mem::take(&mut self.cures).into_iter().partition(|(at, _)| *at <= now);
        self.cures = later;
        let due: Vec<_> = due;
        for (_, cure) in due {
            self.cure(cure);
        }
        self.fleet.members().filter(|member| !member.is_stopped).for_each(Member::look);
        let nodes = &self.fleet.nodes;
        self.doomed.retain(|(until, which, before)| {
            let node = &nodes[*which];
            let has_ended = node.ended.len() > *before;
            assert!(has_ended || now < *until, "{} lost its lease and went on: {}", node.name, node.told());
            !has_ended
        });
    }

    fn begin(&mut self, fault: Fault) {
        let now = Instant::now();
        let milliseconds = |draw: &mut Draw, most| Duration::from_millis(draw.below(most));
        match fault {
            Fault::KillNode | Fault::KillWorker => {
                let members =
                    if fault == Fault::KillNode { &mut self.fleet.nodes } else { &mut self.fleet.workers };
                let Some(which) = some(members, fault == Fault::KillNode, &self.doomed, &mut self.draw, 1)
                else {
                    return;
                };
                members[which].kill(milliseconds(&mut self.draw, 3000));
            }
            Fault::StopNode | Fault::StopWorker => {
                let worker = fault == Fault::StopWorker;
                let members = if worker { &mut self.fleet.workers } else { &mut self.fleet.nodes };
                // One goes on working.
                let Some(which) = some(members, !worker, &self.doomed, &mut self.draw, 2) else { return };
                members[which].stop();
                self.cures.push((now + STOPPED, Cure::GoOn { worker, which }));
            }
            Fault::EndConnections => {
                let name = self.ground.name;
                let sql = format!(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                     WHERE application_name='{name}' AND pid<>pg_backend_pid()"
                );
                if self.ground.schema.script(&sql).is_err() {
                    // The server is away just now, and so are all connections.
                    return;
                }
            }
            Fault::CutStore | Fault::CutServer => {
                let is_store = fault == Fault::CutStore;
                let (way, cure) = match is_store {
                    true => (&self.fleet.to_store, Cure::Store),
                    false => (&self.fleet.to_server, Cure::Server),
                };
                way.cut(true);
                self.cures.push((now + milliseconds(&mut self.draw, 8500), cure));
            }
            Fault::SetClock => self.skew.set(self.draw.below(241).cast_signed() - 120),
            Fault::RestartStore | Fault::CrashStore => {
                let how = if fault == Fault::RestartStore { Stop::Fast } else { Stop::Immediate };
                let was_at_work = self.ground.postgres.as_mut().is_some_and(|postgres| postgres.stop(how));
                if !was_at_work {
                    return;
                }
                self.cures.push((now + milliseconds(&mut self.draw, 4000), Cure::Start));
            }
            Fault::KillPooler => {
                if let Some(pooler) = &mut self.ground.pooler {
                    pooler.kill();
                }
                self.cures.push((now + milliseconds(&mut self.draw, 3000), Cure::Pooler));
            }
        }
        *self.count.entry(fault).or_default() += 1;
    }

    fn cure(&mut self, cure: Cure) {
        match cure {
            Cure::GoOn { worker: true, which } => self.fleet.workers[which].go_on(),
            Cure::GoOn { worker: false, which } => {
                let node = &mut self.fleet.nodes[which];
                node.go_on();
                self.doomed.push((Instant::now() + 2 * STOPPED, which, node.ended.len()));
            }
            Cure::Store => {
                self.fleet.to_store.cut(false);
                self.fleet.to_store.delay(self.draw.below(60));
            }
            Cure::Server => {
                self.fleet.to_server.cut(false);
                self.fleet.to_server.delay(self.draw.below(60));
            }
            Cure::Start => self.ground.postgres.iter_mut().for_each(|postgres| postgres.go_on()),
            Cure::Pooler => self.ground.pooler.iter_mut().for_each(|pooler| pooler.go_on()),
        }
    }
}

/// One of those who are at work, where there are so many of them; not one that is about to end.
fn some(
    members: &[Member],
    are_nodes: bool,
    doomed: &Doomed,
    draw: &mut Draw,
    least: usize,
) -> Option<usize> {
    let is_doomed =
        |n: usize| are_nodes && (!members[n].has_lease() || doomed.iter().any(|(_, which, _)| *which == n));
    let all: Vec<_> = (0..members.len()).filter(|n| members[*n].is_at_work() && !is_doomed(*n)).collect();
    (all.len() >= least).then(|| all[draw.below(all.len() as u64) as usize])
}

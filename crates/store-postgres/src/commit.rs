//! Commit: the ends of ticks, as compare-and-set on (machine, step, node, fence), many in one go.

use std::collections::{HashMap, HashSet};

use ostler_model::{Kind, MachineId};
use ostler_store::{Commit, CommitOutcome, Letter, Next, StartOutcome};

use crate::{
    hold,
    names::Lane,
    start::{INSERT_BAD, Wish, heard, is_bad},
    trouble::Done,
    tx::{Events, Tx},
    value::{Columns, Value, values},
};

/// The places in the queue of machines that are to be committed, in hand.
pub(crate) const IN_HAND: &str =
    "SELECT t.machine, t.fence, t.node, t.phase, t.held, t.woken, t.lane FROM tick t
  WHERE t.machine=ANY($1) ORDER BY t.machine FOR UPDATE";
const MACHINES: &str =
    "SELECT id, step, last_event, watcher, kind, started_at IS NOT NULL, unique_key, parent, task, ns
  FROM machine WHERE id=ANY($1)";

pub(crate) const GO_ON: &str =
    "UPDATE machine m SET step=m.step+1, last_event=u.seq, fields=coalesce(u.fields, m.fields),
    started_at=coalesce(m.started_at, u.started_at), state=u.state,
    finished_at=CASE WHEN u.state<>0 THEN $6 END
  FROM unnest($1, $2, $3, $4, $5) u(id, seq, fields, started_at, state) WHERE m.id=u.id AND m.id=ANY($1)";

const READ: &str =
    "DELETE FROM mail l USING unnest($1, $2) u(machine, last) WHERE l.machine=u.machine AND l.seq<=u.last";

pub(crate) const STAY: &str =
    "UPDATE tick t SET phase=u.phase, due_at=u.due_at, node=NULL, woken=u.woken, held=u.held, lane=u.lane,
    lost=FALSE
  FROM unnest($1, $2, $3, $4, $5, $6) u(machine, phase, due_at, woken, held, lane)
  WHERE t.machine=u.machine AND t.machine=ANY($1)";

pub(crate) const UNWATCH: &str = "DELETE FROM watched w USING unnest($1, $2) u(watcher, machine)
  WHERE w.watcher=u.watcher AND w.machine=u.machine";

/// What a commit finds of its machine.
struct Found {
    step: i64,
    fence: i64,
    /// The node that has it now.
    claimed_by: Option<i64>,
    held: i64,
    woken: i64,
    lane: i64,
    last_event: i64,
    watcher: Option<i64>,
    kind: Kind,
    begun: bool,
    unique: Option<String>,
    parent: Option<MachineId>,
    task: i64,
    ns: i64,
}

/// A commit that counts.
struct Counting<'a> {
    commit: &'a Commit,
    found: Found,
    seq: i64,
    started: Vec<StartOutcome>,
}

impl Counting<'_> {
    fn id(&self) -> i64 {
        self.commit.id.0
    }

    /// Its final state, or 0.
    fn state(&self) -> i64 {
        match self.commit.next {
            Next::End { state } => state,
            Next::Stay { .. } => 0,
        }
    }
}

impl Tx<'_> {
    pub(crate) fn commit(&mut self, commits: &[&Commit]) -> Done<Vec<CommitOutcome>> {
        let mut outcomes: Vec<Option<CommitOutcome>> = self
            .end_alone(commits)?
            .into_iter()
            .map(|ended| ended.then(|| CommitOutcome::Committed { started: Vec::new() }))
            .collect();
        let mut left: Vec<usize> = (0..commits.len()).filter(|i| outcomes[*i].is_none()).collect();
        while !left.is_empty() {
            // One commit of each machine at a time: the second is judged by what the first left.
            let mut seen = HashSet::new();
            let (wave, later): (Vec<usize>, Vec<usize>) =
                left.into_iter().partition(|i| seen.insert(commits[*i].id));
            left = later;
            for (index, outcome) in self.wave(commits, &wave)? {
                outcomes[index] = Some(outcome);
            }
        }
        Ok(outcomes.into_iter().flatten().collect())
    }

    /// All of one kind of change for all of them, then the next.
    fn wave(&mut self, commits: &[&Commit], which: &[usize]) -> Done<Vec<(usize, CommitOutcome)>> {
        let ids: Vec<i64> = which.iter().map(|i| commits[*i].id.0).collect();
        let mut found = self.find(&ids)?;
        let mut outcomes = Vec::with_capacity(which.len());
        let mut counting: Vec<(usize, Counting<'_>)> = Vec::new();
        for index in which {
            let commit = commits[*index];
            let expected = (commit.step, commit.fence);
            match found.remove(&commit.id.0) {
                Some(f)
                    if f.claimed_by == Some(commit.node.0) && (f.step as u64, f.fence as u64) == expected =>
                {
                    let seq = self.numbers.next_seq()?;
                    counting.push((*index, Counting { commit, found: f, seq, started: Vec::new() }));
                }
                other => {
                    let actual = other.map(|f| (f.step as u64, f.fence as u64));
                    outcomes.push((*index, CommitOutcome::Conflict { expected, actual }));
                }
            }
        }
        let (places, mut counting): (Vec<usize>, Vec<Counting<'_>>) = counting.into_iter().unzip();
        self.record(&counting)?;
        self.start_parts(&mut counting)?;
        self.send_letters(&counting)?;
        self.end(&counting)?;
        self.stay(&counting)?;
        counting.iter().for_each(|c| self.settle(&c.commit.receipt, c.commit.took));
        let committed = places.into_iter().zip(counting);
        outcomes.extend(committed.map(|(i, c)| (i, CommitOutcome::Committed { started: c.started })));
        Ok(outcomes)
    }

    fn find(&mut self, ids: &[i64]) -> Done<HashMap<i64, Found>> {
        // The places first, and what is read of machines after them, so that it is what the last commit left.
        let [places, rows] = self.link.two(IN_HAND, MACHINES, values![ids])?;
        let mut machines = HashMap::new();
        for row in rows {
            machines.insert(row.int(0)?, row);
        }
        let mut found = HashMap::new();
        for t in places {
            let id = t.int(0)?;
            let Some(m) = machines.get(&id) else { continue };
            let phase = t.int(3)?;
            let (kind, parent) = (Kind(u8::try_from(m.int(4)?).unwrap_or(0)), m.int_or(7)?.map(MachineId));
            found.insert(
                id,
                Found {
                    step: m.int(1)?,
                    fence: t.int(1)?,
                    claimed_by: t.int_or(2)?.filter(|_| phase == 2),
                    held: t.int(4)?,
                    woken: t.int(5)?,
                    lane: t.int(6)?,
                    last_event: m.int(2)?,
                    watcher: m.int_or(3)?,
                    kind,
                    begun: m.flag(5)?,
                    unique: m.text_or(6)?,
                    parent,
                    task: heard(kind, parent, m.int(8)?),
                    ns: m.int(9)?,
                },
            );
        }
        Ok(found)
    }

    /// The machines and their events.
    fn record(&mut self, counting: &[Counting<'_>]) -> Done<()> {
        if counting.is_empty() {
            return Ok(());
        }
        let mut events = Events::default();
        for c in counting {
            events.push(c.seq, c.commit.id, c.found.step + 1, c.found.last_event, &c.commit.event);
        }
        let events = events.values(self.now);
        let machines: [Value<'_>; 6] = [
            counting.iter().map(Counting::id).collect::<Vec<_>>().into(),
            counting.iter().map(|c| c.seq).collect::<Vec<_>>().into(),
            counting.iter().map(|c| c.commit.fields.as_deref()).collect::<Vec<Option<&str>>>().into(),
            counting.iter().map(|c| c.commit.started_at).collect::<Vec<Option<i64>>>().into(),
            counting.iter().map(Counting::state).collect::<Vec<_>>().into(),
            self.now.into(),
        ];
        let read = counting.iter().filter_map(|c| c.commit.read_mail.map(|last| (c.id(), last)));
        let (readers, last): (Vec<i64>, Vec<i64>) = read.unzip();
        let any_read = !readers.is_empty();
        let read: [Value<'_>; 2] = [readers.into(), last.into()];
        let mut statements: Vec<(&str, &[Value<'_>])> = vec![(GO_ON, &machines)];
        self.add(&Events::TABLE, &events, &mut statements)?;
        if any_read {
            statements.push((READ, &read));
        }
        self.run_all(&statements).map(drop)
    }

    fn start_parts(&mut self, counting: &mut [Counting<'_>]) -> Done<()> {
        let wishes: Vec<Wish<'_>> = counting
            .iter()
            .flat_map(|c| c.commit.start.iter())
            .map(|machine| Wish { machine, claim_for: None })
            .collect();
        if wishes.is_empty() {
            return Ok(());
        }
        let mut outcomes = self.start(&wishes)?.into_iter().map(|(outcome, _)| outcome);
        for c in counting {
            c.started = outcomes.by_ref().take(c.commit.start.len()).collect();
        }
        Ok(())
    }

    fn send_letters(&mut self, counting: &[Counting<'_>]) -> Done<()> {
        let mut letters: Vec<(MachineId, &Letter)> = Vec::new();
        for c in counting {
            for (to, letter) in &c.commit.send {
                let addressees = self.addressees(c.commit.id, c.found.watcher, to)?;
                letters.extend(addressees.into_iter().map(|id| (MachineId(id), letter)));
            }
        }
        self.send(&letters).map(drop)
    }

    /// Those that have ended leave the queue, with everything that is only for the living.
    fn end(&mut self, counting: &[Counting<'_>]) -> Done<()> {
        let ended: Vec<&Counting<'_>> = counting.iter().filter(|c| c.state() != 0).collect();
        if ended.is_empty() {
            return Ok(());
        }
        let mut permits = Vec::new();
        for c in &ended {
            permits.push((self.lane(c.found.lane)?, c.id()));
        }
        let ids: Vec<i64> = ended.iter().map(|c| c.id()).collect();
        // Its own letters may have come to itself while it ended.
        let with_mail =
            ended.iter().filter(|c| c.found.woken > 0 || !c.commit.send.is_empty()).map(|c| c.id());
        let with_mail: Vec<i64> = with_mail.collect();
        let watched = ended.iter().filter_map(|c| c.found.watcher.map(|w| (w, c.id())));
        let (watchers, watched): (Vec<i64>, Vec<i64>) = watched.unzip();
        let unique = ended.iter().filter_map(|c| c.found.unique.as_deref().map(|key| (c, key)));
        let (unique_ns, (unique_keys, unique_ids)): (Vec<i64>, (Vec<&str>, Vec<i64>)) =
            unique.map(|(c, key)| (c.found.ns, (key, c.id()))).unzip();
        let bad = ended.iter().filter(|c| is_bad(c.state(), c.found.parent)).map(|c| (c.state(), c.id()));
        let (bad, bad_ids): (Vec<i64>, Vec<i64>) = bad.unzip();
        let lists: [(&str, bool, Vec<Value<'_>>); 5] = [
            ("DELETE FROM tick WHERE machine=ANY($1)", true, vec![ids.into()]),
            ("DELETE FROM mail WHERE machine=ANY($1)", !with_mail.is_empty(), vec![with_mail.into()]),
            (UNWATCH, !watched.is_empty(), vec![watchers.into(), watched.into()]),
            (
                "DELETE FROM unique_key k USING unnest($1, $2, $3) u(ns, key, machine)
                 WHERE k.ns=u.ns AND k.key=u.key AND k.machine=u.machine",
                !unique_keys.is_empty(),
                vec![unique_ns.into(), unique_keys.into(), unique_ids.into()],
            ),
            (INSERT_BAD, !bad.is_empty(), vec![bad.into(), bad_ids.into()]),
        ];
        let statements: Vec<(&str, &[Value<'_>])> = lists
            .iter()
            .filter(|(_, any, _)| *any)
            .map(|(sql, _, values)| (*sql, values.as_slice()))
            .collect();
        self.run_all(&statements)?;
        self.give_back(&permits)?;
        for c in ended {
            self.tell_end(c.commit.id, c.found.task)?;
        }
        Ok(())
    }

    fn stay(&mut self, counting: &[Counting<'_>]) -> Done<()> {
        let staying: Vec<(&Counting<'_>, i64, bool)> = counting
            .iter()
            .filter_map(|c| match c.commit.next {
                Next::Stay { until, keep_permit } => Some((c, until, keep_permit)),
                Next::End { .. } => None,
            })
            .collect();
        if staying.is_empty() {
            return Ok(());
        }
        let mut permits = Vec::new();
        let mut lanes = Vec::with_capacity(staying.len());
        for (c, _, keep_permit) in &staying {
            let lane = self.lane(c.found.lane)?;
            if !keep_permit {
                permits.push((lane, c.id()));
            }
            // A rate counts starts of work; one that stays at work has been counted.
            lanes.push(match lane.rate {
                0 => c.found.lane,
                _ if *keep_permit => self.lane_of(Lane { rate: 0, ..lane })?,
                _ => c.found.lane,
            });
        }
        self.give_back(&permits)?;
        // A letter that came while it was claimed makes it ready at once; one that was read does not count any more.
        // Letters of other commits of this batch have come by now, so all are asked.
        let unread = self.unread(staying.iter().map(|(c, ..)| c.id()).collect())?;
        let mut rows: [Vec<i64>; 6] = Default::default();
        for ((c, until, _), lane) in staying.into_iter().zip(lanes) {
            let (letters, cancelled) = unread.get(&c.id()).copied().unwrap_or_default();
            let due = if letters > 0 { until.min(self.now) } else { until };
            let held =
                hold::still(c.found.held, c.found.kind, c.found.begun || c.commit.started_at.is_some());
            let phase = if held != 0 && !cancelled { 3 } else { i64::from(due <= self.now) };
            self.woke |= phase == 1;
            let row = [c.id(), phase, due, letters, held, lane];
            rows.iter_mut().zip(row).for_each(|(column, value)| column.push(value));
        }
        let [ids, phases, due, letters, held, lanes] = rows;
        self.run(STAY, values![ids, phases, due, letters, held, lanes]).map(drop)
    }
}

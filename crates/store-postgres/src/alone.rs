//! Ends that concern nobody else, which are most: a receipt says what would be looked up, so that one statement takes
//! them out of the queue and one message writes the rest.

use std::collections::{HashMap, HashSet};

use ostler_store::{Commit, Next};

use crate::{
    commit::UNWATCH,
    letters::IN_HAND,
    start::{INSERT_BAD, is_bad},
    trouble::{Done, Trouble},
    tx::{Events, Tx},
    value::{Columns, Value, values},
};

/// What is claimed and to which nothing has come since. Whose claim it was is looked at in what it gives: a join with
/// what it is to be is planned as a loop over all pairs when little is thought to be claimed.
pub(crate) const GONE: &str =
    "DELETE FROM tick WHERE machine=ANY($1) AND phase=2 AND woken=0 RETURNING machine, node, fence";

/// The machines, each where its commit left it. Gives who watches them, and whether they are no parts.
pub(crate) const END: &str =
    "UPDATE machine m SET step=m.step+1, last_event=u.seq, fields=coalesce(u.fields, m.fields),
    started_at=coalesce(m.started_at, u.started_at), state=u.state, finished_at=$7
  FROM unnest($1, $2, $3, $4, $5, $6) u(id, step, seq, fields, started_at, state)
  WHERE m.id=u.id AND m.id=ANY($1) AND m.step=u.step
  RETURNING m.id, m.watcher, m.parent IS NULL";

/// An end that was written nowhere yet.
struct End<'a> {
    commit: &'a Commit,
    state: i64,
}

impl Tx<'_> {
    /// Carries out the ends that concern nobody else; says of each commit whether it was one. Nothing is written of the
    /// others.
    pub(crate) fn end_alone(&mut self, commits: &[&Commit]) -> Done<Vec<bool>> {
        let mut times: HashMap<i64, u32> = HashMap::new();
        for commit in commits {
            *times.entry(commit.id.0).or_default() += 1;
        }
        let mut ends = Vec::with_capacity(commits.len());
        for commit in commits.iter().copied().filter(|commit| times[&commit.id.0] == 1) {
            let Next::End { state } = commit.next else { continue };
            let alone = commit.start.is_empty() && commit.send.is_empty() && commit.read_mail.is_none();
            let receipt = commit.receipt;
            if alone
                && !self.careful
                && receipt.lane != 0
                && !receipt.unique
                && !self.is_heard(receipt.task)?
            {
                ends.push(End { commit, state });
            }
        }
        // In the order of keys, so that two who lock the same rows do not wait for one another; with rows of other commits
        // all of them at once.
        ends.sort_unstable_by_key(|end| end.commit.id);
        if !ends.is_empty() && ends.len() < commits.len() {
            self.rows(IN_HAND, values![commits.iter().map(|commit| commit.id.0).collect::<Vec<_>>()])?;
        }
        let gone = self.take_out(&ends)?;
        ends.retain(|end| gone.contains(&end.commit.id.0));
        if !ends.is_empty() {
            self.record_ends(&ends)?;
        }
        Ok(commits.iter().map(|commit| gone.contains(&commit.id.0)).collect())
    }

    /// Takes them out of the queue; gives those that were there.
    fn take_out(&mut self, ends: &[End<'_>]) -> Done<HashSet<i64>> {
        if ends.is_empty() {
            return Ok(HashSet::new());
        }
        let claims: HashMap<i64, (i64, i64)> = ends
            .iter()
            .map(|End { commit, .. }| (commit.id.0, (commit.node.0, commit.fence as i64)))
            .collect();
        let ids: Vec<i64> = ends.iter().map(|end| end.commit.id.0).collect();
        let mut gone = HashSet::with_capacity(ends.len());
        for row in self.written(GONE, values![ids])? {
            let machine = row.int(0)?;
            if claims.get(&machine) != Some(&(row.int(1)?, row.int(2)?)) {
                return Err(Trouble::Doubtful);
            }
            gone.insert(machine);
        }
        Ok(gone)
    }

    fn record_ends(&mut self, ends: &[End<'_>]) -> Done<()> {
        let mut events = Events::default();
        let mut permits = Vec::with_capacity(ends.len());
        let mut seqs = Vec::with_capacity(ends.len());
        for End { commit, .. } in ends {
            let seq = self.numbers.next_seq()?;
            seqs.push(seq);
            events.push(seq, commit.id, commit.step as i64 + 1, commit.receipt.last_event, &commit.event);
            permits.push((self.lane(commit.receipt.lane)?, commit.id.0));
        }
        let machines: [Value<'_>; 7] = [
            ends.iter().map(|end| end.commit.id.0).collect::<Vec<_>>().into(),
            ends.iter().map(|end| end.commit.step as i64).collect::<Vec<_>>().into(),
            seqs.into(),
            ends.iter().map(|end| end.commit.fields.as_deref()).collect::<Vec<_>>().into(),
            ends.iter().map(|end| end.commit.started_at).collect::<Vec<_>>().into(),
            ends.iter().map(|end| end.state).collect::<Vec<_>>().into(),
            self.now.into(),
        ];
        let events = events.values(self.now);
        let mut statements = Vec::new();
        self.add(&Events::TABLE, &events, &mut statements)?;
        let (_, rows) = self.run_all_then(&statements, (END, &machines))?;
        // The fence vouches for the step.
        if rows.len() != ends.len() {
            return Err(Trouble::Doubtful);
        }
        let states: HashMap<i64, i64> = ends.iter().map(|end| (end.commit.id.0, end.state)).collect();
        let (mut watched, mut bad) = (Vec::new(), Vec::new());
        for row in rows {
            let (id, watcher, no_part) = (row.int(0)?, row.int_or(1)?, row.flag(2)?);
            watched.extend(watcher.map(|watcher| (watcher, id)));
            bad.extend(
                states.get(&id).filter(|state| no_part && is_bad(**state, None)).map(|state| (*state, id)),
            );
        }
        for (sql, pairs) in [(UNWATCH, watched), (INSERT_BAD, bad)] {
            if !pairs.is_empty() {
                let (first, second): (Vec<i64>, Vec<i64>) = pairs.into_iter().unzip();
                self.run(sql, values![first, second])?;
            }
        }
        ends.iter().for_each(|end| self.settle(&end.commit.receipt, end.commit.took));
        self.give_back(&permits)
    }
}

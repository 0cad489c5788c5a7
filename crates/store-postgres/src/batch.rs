//! A batch inside its transaction: what it needs before it begins, commands of one sort together, and one command's
//! failure kept from its neighbours.

use ostler_store::{Command, Commit, Mark, Next, Reply, StoreError};

use crate::{
    link::Mode,
    start::Wish,
    trouble::{Done, Trouble},
    tx::Tx,
    value::{Columns, values},
};

/// What a batch is going to write: whether events, and how many machines at least.
fn needs(batch: &[Command]) -> (bool, i64) {
    let mut machines = 0;
    let mut events = false;
    for command in batch {
        match command {
            Command::Start(many) => (events, machines) = (true, machines + many.len()),
            Command::StartClaimed { .. } => (events, machines) = (true, machines + 1),
            Command::Commit(commits) => {
                (events, machines) = (true, machines + commits.iter().map(|c| c.start.len()).sum::<usize>());
            }
            Command::Push(_) => events = true,
            _ => {}
        }
    }
    (events, machines as i64)
}

/// Read at the beginning of each transaction, in the same message.
const PROLOGUE: &str = "SELECT (SELECT value FROM meta WHERE key='generation'),
  CASE WHEN $1 THEN pg_current_xact_id()::text::bigint END,
  ARRAY(SELECT nextval('machine_low') FROM generate_series(1, $2)), (SELECT words FROM meta WHERE key='mark')";

/// Why a command is refused before anything is written for it.
fn refusal(command: &Command) -> Option<StoreError> {
    let start = |state: i64| (state < 0).then(|| format!("{state} is not a state to begin with"));
    let end = |commit: &Commit| match commit.next {
        Next::End { state } if state <= 0 => Some(format!("{state} is not a state to end in")),
        _ => commit.start.iter().find_map(|m| start(m.state)),
    };
    let words = match command {
        Command::Start(machines) => machines.iter().find_map(|m| start(m.state)),
        Command::StartClaimed { machine, .. } => start(machine.state),
        Command::Commit(commits) => commits.iter().find_map(end),
        _ => None,
    };
    words.map(StoreError::Refused)
}

impl Tx<'_> {
    pub(crate) fn begin(&mut self, batch: &[Command]) -> Done<()> {
        let (events, machines) = needs(batch);
        let missing = (machines - self.numbers.spare() as i64).max(0);
        let mode = if events { Mode::Events } else { Mode::Write };
        let first = self.link.begin(mode, Some((PROLOGUE, values![events, missing])))?;
        let row = first.first().ok_or_else(|| StoreError::Corrupt("the store has no `meta`".into()))?;
        if let Some(mark) = row.text_or(3)? {
            return Err(Mark::of(&mark)?.refusal().into());
        }
        let lows: Vec<i64> = row.try_get(2).map_err(Trouble::from)?;
        self.numbers.begin(row.int_or(1)?.unwrap_or(0), lows);
        self.names.begin(row.int(0)?);
        if self.numbers.last_id == 0 {
            let sql = "SELECT greatest((SELECT id FROM machine ORDER BY id DESC LIMIT 1), 0)";
            self.numbers.last_id = self.number(sql, &[])?;
        }
        Ok(())
    }

    /// Carries out the commands of a batch in their order, neighbours of one sort together.
    pub(crate) fn batch(
        &mut self,
        batch: &[Command],
        apart: bool,
        horizon: i64,
    ) -> Done<Vec<Result<Reply, StoreError>>> {
        let mut replies = Vec::with_capacity(batch.len());
        let mut at = 0;
        while at < batch.len() {
            let together = if apart { 1 } else { together(&batch[at..]) };
            let some = &batch[at..at + together];
            at += together;
            if apart {
                self.link.script("SAVEPOINT command")?;
            }
            match self.some(some, horizon) {
                Ok(more) => replies.extend(more),
                Err(trouble) if apart && trouble.is_of_one() => {
                    self.link.script("ROLLBACK TO command")?;
                    self.names.forget();
                    replies.push(Err(trouble.told()));
                }
                // One that is refused may have written half of what it is.
                Err(Trouble::Store(error)) if error.is_refusal() && (batch.len() > 1 || self.wrote) => {
                    return Err(Trouble::Poisoned(error.to_string()));
                }
                Err(Trouble::Store(error)) if error.is_refusal() => replies.push(Err(error)),
                Err(other) => return Err(other),
            }
            if apart {
                self.link.script("RELEASE command")?;
            }
        }
        Ok(replies)
    }

    /// Carries out commands of one sort.
    fn some(&mut self, some: &[Command], horizon: i64) -> Done<Vec<Result<Reply, StoreError>>> {
        match some {
            [Command::Start(_) | Command::StartClaimed { .. }, ..] => self.starts(some),
            [Command::Commit(_), ..] => self.commits(some),
            [one] => match refusal(one) {
                Some(refused) => Ok(vec![Err(refused)]),
                None => self.one(one, horizon).map(|reply| vec![Ok(reply)]),
            },
            _ => {
                Err(StoreError::Refused("commands of different sorts cannot be carried out together".into())
                    .into())
            }
        }
    }

    fn starts(&mut self, some: &[Command]) -> Done<Vec<Result<Reply, StoreError>>> {
        let mut wishes = Vec::new();
        let refused: Vec<Option<StoreError>> = some.iter().map(refusal).collect();
        for (command, refused) in some.iter().zip(&refused) {
            match command {
                _ if refused.is_some() => {}
                Command::Start(machines) => {
                    wishes.extend(machines.iter().map(|machine| Wish { machine, claim_for: None }));
                }
                Command::StartClaimed { machine, node } => {
                    wishes.push(Wish { machine, claim_for: Some(*node) });
                }
                _ => {}
            }
        }
        let mut granted = self.start(&wishes)?.into_iter();
        let replies = some.iter().zip(refused).map(|(command, refused)| match (command, refused) {
            (_, Some(refused)) => Err(refused),
            (Command::Start(machines), None) => Ok(Reply::Started(
                granted.by_ref().take(machines.len()).map(|(outcome, _)| outcome).collect(),
            )),
            _ => match granted.next() {
                Some((outcome, claimed)) => Ok(Reply::StartedClaimed(outcome, claimed.map(Box::new))),
                None => Err(StoreError::Unavailable("a start has no outcome".into())),
            },
        });
        Ok(replies.collect())
    }

    fn commits(&mut self, some: &[Command]) -> Done<Vec<Result<Reply, StoreError>>> {
        let refused: Vec<Option<StoreError>> = some.iter().map(refusal).collect();
        let lists = some.iter().zip(&refused).filter(|(_, refused)| refused.is_none());
        let commits: Vec<&Commit> = lists
            .flat_map(
                |(command, _)| if let Command::Commit(commits) = command { commits.as_slice() } else { &[] },
            )
            .collect();
        let mut outcomes = self.commit(&commits)?.into_iter();
        let replies = some.iter().zip(refused).map(|(command, refused)| match (command, refused) {
            (_, Some(refused)) => Err(refused),
            (Command::Commit(commits), None) => {
                Ok(Reply::Committed(outcomes.by_ref().take(commits.len()).collect()))
            }
            _ => Err(StoreError::Unavailable("a commit has no outcome".into())),
        });
        Ok(replies.collect())
    }

    fn one(&mut self, command: &Command, horizon: i64) -> Done<Reply> {
        match command {
            Command::Claim(claim) => {
                let taken = self.claim(claim)?;
                if !taken.is_empty() {
                    self.may_take(claim.node)?;
                }
                Ok(Reply::Claimed(taken))
            }
            Command::Send(letters) => {
                let letters: Vec<_> = letters.iter().map(|(machine, letter)| (*machine, letter)).collect();
                self.send(&letters).map(Reply::Sent)
            }
            Command::Register(node) => self.register(node).map(Reply::Node),
            Command::Renew { node, waited } => self.renew(*node, *waited).map(|()| Reply::Done),
            Command::Drain { node } => self.drain(*node).map(|()| Reply::Done),
            Command::Close { node } | Command::Rescue { node } => self.rescue(*node).map(Reply::Rescued),
            Command::Release { node, machines } => self.release(*node, machines).map(|()| Reply::Done),
            Command::Push(push) => self.push(push).map(|p| Reply::Pushed(Box::new(p))),
            Command::Hold { what, on } => self.hold(what, *on).map(Reply::Held),
            Command::PauseSink { namespace, sink, on } => {
                self.pause_sink(namespace, sink, *on).map(|()| Reply::Done)
            }
            Command::Weigh { namespace, weight } => self.weigh(namespace, *weight).map(|()| Reply::Done),
            Command::Forget { namespace, task } => self.forget(namespace, task).map(|()| Reply::Done),
            Command::TakeDuties { node, duties } => self.take_duties(*node, duties).map(Reply::Taken),
            Command::Progress(progress) => self.progress(progress).map(Reply::Progressed),
            Command::LeaveDuties { node, duties } => self.leave_duties(*node, duties).map(|()| Reply::Done),
            Command::MoveDuty { duty, cursor } => self.move_duty(duty, cursor).map(|()| Reply::Done),
            Command::EndDuty { duty } => self.end_duty(duty).map(|()| Reply::Done),
            Command::AddToken(token) => self.add_token(token).map(|()| Reply::Done),
            Command::RevokeToken { name } => self.revoke_token(name).map(|()| Reply::Done),
            Command::Prune(prune) => self.prune(prune, horizon).map(Reply::Pruned),
            Command::Start(_) | Command::StartClaimed { .. } | Command::Commit(_) => {
                Err(StoreError::Refused("starts and commits are carried out together".into()).into())
            }
        }
    }
}

/// How many commands from the first on are of its sort and can be carried out together.
fn together(batch: &[Command]) -> usize {
    let is_start = |c: &Command| matches!(c, Command::Start(_) | Command::StartClaimed { .. });
    let is_commit = |c: &Command| matches!(c, Command::Commit(_));
    match batch.first() {
        Some(first) if is_start(first) => batch.iter().take_while(|c| is_start(c)).count(),
        Some(first) if is_commit(first) => batch.iter().take_while(|c| is_commit(c)).count(),
        _ => 1,
    }
}

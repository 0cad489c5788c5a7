//! The store on PostgreSQL: any number of nodes, none of them special.
//!
//! Each file holds the SQL and the rows of one subject, as in the embedded store: `start`, `claim`, `limits`, `commit`,
//! `letters`, `hold`, `push`, `nodes`, `prune`, and under `read` the lists, definitions and history. What is particular
//! to many writers is told where it is done: numbers of machines and events (`numbers`), rows that others have in hand
//! (`claim`, `letters`), commits whose answer was lost (`PgStore::apply`).
//!
//! ```
//! use ostler_store_postgres::Address;
//! let address = Address::parse("postgres://me:secret@db.example/work?schema=mine&sslmode=disable").unwrap();
//! assert_eq!(address.to_string(), "postgres://me@db.example/work?schema=mine");
//! ```

mod claim;
mod commit;
mod hold;
mod letters;
mod limits;
mod link;
mod migrate;
mod names;
mod nodes;
mod numbers;
mod prune;
mod push;
mod read;
#[cfg(feature = "scratch")]
pub mod scratch;
mod start;
mod tokens;
mod trouble;
mod turns;
mod tx;
mod url;
mod value;
mod wake;

use std::{thread, time::Duration};

use ostler_clock::{Entropy, SeededEntropy};
use ostler_store::{Command, Commit, Micros, NEVER, Next, Queries, Reply, Store, StoreError};

use crate::{
    link::{Link, Mode},
    migrate::Opened,
    names::Names,
    numbers::Numbers,
    read::Reader,
    start::Wish,
    trouble::{Done, Trouble},
    turns::Turns,
    tx::Tx,
    value::{Columns, values},
};
pub use crate::{url::Address, wake::Listener};

/// How often a batch is tried that met others in its way.
const TRIES: u32 = 12;

/// A store in one schema of a PostgreSQL database: this process's side of it.
pub struct PgStore {
    address: Address,
    opened: Opened,
    link: Option<Link>,
    names: Names,
    turns: Turns,
    numbers: Numbers,
    entropy: SeededEntropy,
    wake: wake::Waker,
}

/// Makes reading sides.
#[derive(Clone)]
pub struct ReaderFactory {
    address: Address,
    opened: Opened,
}

impl ReaderFactory {
    /// A reading side. That the server cannot be reached is told by the first question.
    #[must_use]
    pub fn queries(&self) -> Box<dyn Queries> {
        Box::new(Reader::new(self.address.clone(), self.opened))
    }
}

impl PgStore {
    /// Opens a store; makes it, or brings its schema up to date.
    ///
    /// # Errors
    /// The server cannot be reached, is too old, or a newer Ostler has migrated the store.
    pub fn open(address: &Address) -> Result<Self, StoreError> {
        Self::open_with(address, None)
    }

    /// As [`PgStore::open`]; one that is new gets this salt (simulation, copies).
    ///
    /// # Errors
    /// As [`PgStore::open`].
    pub fn open_with(address: &Address, salt: Option<u64>) -> Result<Self, StoreError> {
        let at = |trouble: Trouble| match trouble.told() {
            StoreError::Unavailable(why) => StoreError::Unavailable(format!("{address}: {why}")),
            other => other,
        };
        let mut link = Link::open(address).map_err(at)?;
        let opened = migrate::open(&mut link, address, salt).map_err(at)?;
        Ok(Self {
            address: address.clone(),
            opened,
            link: Some(link),
            names: Names::default(),
            turns: Turns::default(),
            numbers: Numbers::new(opened.base),
            entropy: SeededEntropy::from_os(),
            wake: wake::Waker::default(),
        })
    }

    /// Something that makes reading sides without the store.
    #[must_use]
    pub fn reader(&self) -> ReaderFactory {
        ReaderFactory { address: self.address.clone(), opened: self.opened }
    }

    /// Hears from other nodes that something may be ready, until it is dropped.
    #[must_use]
    pub fn listen(&self, told: impl Fn() + Send + Sync + 'static) -> Listener {
        Listener::start(&self.address, self.wake.clone(), told)
    }

    /// The connection, opened again when it was lost.
    fn link(&mut self) -> Done<Link> {
        match self.link.take() {
            Some(link) if link.is_open() => Ok(link),
            _ => Link::open(&self.address),
        }
    }

    /// Carries a batch out as one transaction.
    fn transaction(&mut self, now: Micros, batch: &[Command], apart: bool) -> Attempt {
        let mut link = match self.link() {
            Ok(link) => link,
            Err(trouble) => return Attempt::Failed(trouble),
        };
        let horizon = match batch.iter().any(|c| matches!(c, Command::Prune(_))) {
            true => prune::horizon(&mut link, self.opened.base),
            false => Ok(0),
        };
        let horizon = match horizon {
            Ok(horizon) => horizon,
            Err(trouble) => return Attempt::Failed(trouble),
        };
        self.numbers.transaction = 0;
        let mut tx = Tx {
            link: &mut link,
            now,
            names: &mut self.names,
            turns: &mut self.turns,
            numbers: &mut self.numbers,
            wrote: false,
            woke: false,
        };
        let done = tx.begin(batch).and_then(|()| tx.batch(batch, apart, horizon));
        let (wrote, woke) = (tx.wrote, tx.woke);
        let replies = match done {
            Ok(replies) => replies,
            Err(trouble) => {
                if !matches!(trouble, Trouble::Gone(_)) && link.script("ROLLBACK").is_ok() {
                    self.link = Some(link);
                }
                return Attempt::Failed(trouble);
            }
        };
        let transaction = match (self.numbers.transaction, wrote) {
            (0, true) => match link.rows("SELECT pg_current_xact_id_if_assigned()::text::bigint", &[]) {
                Ok(rows) => rows.first().and_then(|r| r.int_or(0).ok()).flatten().unwrap_or(0),
                Err(trouble) => return Attempt::Failed(trouble),
            },
            (known, _) => known,
        };
        match link.script("COMMIT") {
            Ok(()) => {
                self.link = Some(link);
                if woke {
                    self.wake.told();
                }
                Attempt::Done(replies)
            }
            // Nobody knows whether it was written, but the server does.
            Err(Trouble::Gone(why)) => Attempt::Unknown { transaction, replies, why },
            Err(trouble) => Attempt::Failed(trouble),
        }
    }

    /// What became of a transaction whose commit was not answered.
    fn look_up(&mut self, transaction: i64) -> Done<Option<bool>> {
        if transaction == 0 {
            return Ok(Some(false));
        }
        let mut link = self.link()?;
        let rows = link.rows("SELECT pg_xact_status($1::text::xid8)", values![&transaction.to_string()])?;
        let status = rows.first().map_or(Ok(None), |r| r.text_or(0))?;
        self.link = Some(link);
        match status.as_deref() {
            Some("committed") => Ok(Some(true)),
            Some("in progress") => Ok(None),
            _ => Ok(Some(false)),
        }
    }

    fn pause(&self, tried: u32) {
        // Up to 2, 4, 8 ... 256 ms.
        thread::sleep(Duration::from_micros(self.entropy.below(1000 << (tried + 1).min(8))));
    }
}

/// What came of one transaction.
enum Attempt {
    Done(Vec<Result<Reply, StoreError>>),
    Failed(Trouble),
    /// The connection broke while it was being committed.
    Unknown {
        transaction: i64,
        replies: Vec<Result<Reply, StoreError>>,
        why: String,
    },
}

impl Store for PgStore {
    /// A batch that meets others in its way is carried out again, and one that a single command spoils is carried out
    /// with each command apart. When the connection breaks in the commit the server is asked what became of it: an
    /// answer is never guessed.
    fn apply(&mut self, now: Micros, batch: &[Command]) -> Vec<Result<Reply, StoreError>> {
        let all = |error: StoreError| vec![Err(error); batch.len()];
        let mut apart = false;
        let mut reconnected = false;
        for tried in 0..TRIES {
            match self.transaction(now, batch, apart) {
                Attempt::Done(replies) => return replies,
                Attempt::Failed(trouble) => {
                    self.names.forget();
                    match trouble {
                        Trouble::Again(why) => {
                            tracing::debug!(%why, tried, "a batch met others in its way");
                            self.pause(tried);
                        }
                        Trouble::Gone(_) if !reconnected => reconnected = true,
                        Trouble::Poisoned(_) if !apart => apart = true,
                        other => return all(other.told()),
                    }
                }
                Attempt::Unknown { transaction, replies, why } => {
                    self.names.forget();
                    match self.settled(transaction) {
                        Ok(true) => return replies,
                        Ok(false) if !reconnected => reconnected = true,
                        Ok(false) => return all(StoreError::Unavailable(why)),
                        Err(trouble) => return all(trouble.told()),
                    }
                }
            }
        }
        all(StoreError::Busy("other nodes kept coming in the way".into()))
    }

    fn next_due(&mut self) -> Result<Option<Micros>, StoreError> {
        let looked = self.turns.looked;
        let come_back = self.turns.come_back;
        let mut look = || {
            let mut link = self.link()?;
            link.begin(Mode::Write, None)?;
            let row = link.rows(NEXT_DUE, values![looked[0], looked[1]])?;
            link.script("COMMIT")?;
            self.link = Some(link);
            row.first().map_or(Ok((None, None)), |r| Ok((r.int_or(0)?, r.int_or(1)?)))
        };
        let (later, rate): (Option<i64>, Option<i64>) = look().map_err(Trouble::told)?;
        Ok([later.filter(|at| *at != NEVER), rate, come_back].into_iter().flatten().min())
    }

    fn data_version(&mut self) -> Result<i64, StoreError> {
        Ok(self.wake.version())
    }

    fn queries(&self) -> Result<Box<dyn Queries>, StoreError> {
        Ok(self.reader().queries())
    }
}

impl PgStore {
    /// Whether a transaction whose commit was not answered was written. Asks until the server has made up its mind.
    fn settled(&mut self, transaction: i64) -> Done<bool> {
        let mut last = Trouble::Gone("the server has not said what became of a commit".into());
        for tried in 0..TRIES {
            match self.look_up(transaction) {
                Ok(Some(committed)) => return Ok(committed),
                Ok(None) => {}
                Err(trouble) => last = trouble,
            }
            self.pause(tried.max(6));
        }
        Err(last)
    }
}

/// The earliest moment at which time alone makes something ready: a due moment, or a rate that has room again. A rate
/// that had room at the last claim does not count: what is left in its lane waits for something else.
pub(crate) const NEXT_DUE: &str = "SELECT (SELECT due_at FROM tick WHERE phase=0 ORDER BY due_at LIMIT 1),
  (SELECT min(r.tat-(r.max-1)*r.\"interval\") FROM lane l JOIN \"limit\" r ON r.id=l.rate
   WHERE l.rate<>0 AND r.max>0 AND r.tat-(r.max-1)*r.\"interval\">CASE WHEN l.home=0 THEN $2 ELSE $1 END
     AND EXISTS (SELECT 1 FROM tick t WHERE t.phase=1 AND t.lane=l.id))";

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
  ARRAY(SELECT nextval('machine_low') FROM generate_series(1, $2))";

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
    fn begin(&mut self, batch: &[Command]) -> Done<()> {
        let (events, machines) = needs(batch);
        let missing = (machines - self.numbers.spare() as i64).max(0);
        let mode = if events { Mode::Events } else { Mode::Write };
        let first = self.link.begin(mode, Some((PROLOGUE, values![events, missing])))?;
        let row = first.first().ok_or_else(|| StoreError::Corrupt("the store has no `meta`".into()))?;
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
    fn batch(
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
                Err(Trouble::Store(StoreError::Refused(why)) | Trouble::Poisoned(why)) if apart => {
                    self.link.script("ROLLBACK TO command")?;
                    self.names.forget();
                    replies.push(Err(StoreError::Refused(why)));
                }
                // One that is refused may have written half of what it is.
                Err(Trouble::Store(StoreError::Refused(why))) if batch.len() > 1 || self.wrote => {
                    return Err(Trouble::Poisoned(why));
                }
                Err(Trouble::Store(StoreError::Refused(why))) => replies.push(Err(StoreError::Refused(why))),
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
        self.check_claims(some, granted.as_slice().iter().any(|(_, claimed)| claimed.is_some()))?;
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

    /// A node that was given up may not take anything: nobody would look after it.
    fn check_claims(&mut self, some: &[Command], any: bool) -> Done<()> {
        if !any {
            return Ok(());
        }
        let nodes = some.iter().filter_map(|command| match command {
            Command::StartClaimed { node, .. } => Some(node.0),
            Command::Claim(claim) => Some(claim.node.0),
            _ => None,
        });
        let nodes: std::collections::BTreeSet<i64> = nodes.collect();
        for node in nodes {
            let sql = "SELECT 1 FROM node WHERE id=$1 AND NOT closed FOR SHARE";
            if self.row(sql, values![node])?.is_none() {
                return Err(StoreError::Refused(format!(
                    "node {node} has been closed: others have what it held"
                ))
                .into());
            }
        }
        Ok(())
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
                self.check_claims(std::slice::from_ref(command), !taken.is_empty())?;
                Ok(Reply::Claimed(taken))
            }
            Command::Send(letters) => {
                let letters: Vec<_> = letters.iter().map(|(machine, letter)| (*machine, letter)).collect();
                self.send(&letters).map(Reply::Sent)
            }
            Command::Register(node) => self.register(node).map(Reply::Node),
            Command::Renew { node } => self.renew(*node).map(|()| Reply::Done),
            Command::Drain { node } => self.drain(*node).map(|()| Reply::Done),
            Command::Close { node } | Command::Rescue { node } => self.rescue(*node).map(Reply::Rescued),
            Command::Release { node, machines } => self.release(*node, machines).map(|()| Reply::Done),
            Command::Push(push) => self.push(push).map(|p| Reply::Pushed(Box::new(p))),
            Command::Hold { what, on } => self.hold(what, *on).map(Reply::Held),
            Command::Forget { namespace, task } => self.forget(namespace, task).map(|()| Reply::Done),
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

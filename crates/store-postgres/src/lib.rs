//! The store on PostgreSQL: any number of nodes, none of them special.
//!
//! Each file holds the SQL and the rows of one subject, as in the embedded store: `start`, `claim`, `limits`, `commit`
//! (`alone`: ends that concern nobody else), `letters`, `hold`, `push`, `sinks`, `nodes`, `duties`, `prune`, and under
//! `read` the lists, definitions and history. What is particular to many writers is told where it is done: numbers of
//! machines and events (`numbers`), rows that others have in hand (`claim`, `letters`), commits whose answer was lost
//! (`PgStore::apply`). Many new rows go by COPY (`copy`). Beside all that stand the run logs (`logs`).
//!
//! ```
//! use ostler_store_postgres::Address;
//! let address = Address::parse("postgres://me:secret@db.example/work?schema=mine&sslmode=disable").unwrap();
//! assert_eq!(address.to_string(), "postgres://me@db.example/work?schema=mine");
//! ```

mod alone;
mod batch;
mod check;
mod claim;
mod commit;
mod copy;
mod duties;
mod hold;
mod lanes;
mod letters;
mod limits;
mod link;
mod logs;
mod migrate;
mod names;
mod nodes;
mod numbers;
mod prune;
mod push;
mod read;
#[cfg(any(feature = "scratch", test))]
pub mod scratch;
mod sinks;
mod start;
mod tables;
mod tokens;
mod trouble;
mod turns;
mod tx;
mod url;
mod value;
mod wake;

use std::{thread, time::Duration};

use ostler_clock::{Clock, Entropy, SeededEntropy};
use ostler_store::{Command, Micros, NEVER, Queries, Reply, Store, StoreError};

pub use crate::{
    check::check,
    logs::PgBlocks,
    tables::PgTables,
    url::Address,
    wake::{Listener, Wakes},
};
use crate::{
    link::{Link, Mode},
    migrate::Opened,
    names::Names,
    numbers::Numbers,
    read::Reader,
    trouble::{Done, Trouble},
    turns::Turns,
    tx::Tx,
    value::{Columns, values},
};

/// How often a batch is tried that met others in its way.
const TRIES: u32 = 12;

/// How often the server is asked what became of a commit: for some seconds, in which it may start again.
const LOOKS: u32 = 40;

/// A store in one schema of a PostgreSQL database: this process's side of it.
pub struct PgStore {
    address: Address,
    opened: Opened,
    link: Option<Link>,
    names: Names,
    turns: Turns,
    numbers: Numbers,
    entropy: SeededEntropy,
    waker: wake::Waker,
    /// How often it was asked whether others have written.
    asked: i64,
}

/// What time it was for a store.
#[derive(Clone, Copy, Debug)]
pub struct ServerTime {
    /// The server's.
    pub now: Micros,
    /// What the asking side's clock had counted then.
    pub elapsed: Duration,
    /// How long the question was on its way: no more is known than that.
    pub within: Duration,
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

    /// What time it was for the store, which is the server's, when a clock showed `elapsed`.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub fn server_time(&self, clock: &dyn Clock) -> Result<ServerTime, StoreError> {
        let ask = || -> Done<ServerTime> {
            let mut link = Link::open(&self.address)?;
            let sql = "SELECT (extract(epoch FROM clock_timestamp())*1000000)::bigint";
            // Once to have the way there and back known, and the statement.
            link.rows(sql, &[])?;
            let asked = clock.elapsed();
            let rows = link.rows(sql, &[])?;
            let within = clock.elapsed().saturating_sub(asked);
            let now = rows.first().map_or(Ok(0), |r| r.int(0))?;
            Ok(ServerTime { now, elapsed: asked + within / 2, within })
        };
        ask().map_err(Trouble::told)
    }
}

impl PgStore {
    /// Opens a store; makes it, or brings its schema up to date.
    ///
    /// # Errors
    /// The server cannot be reached, is too old, or a newer Ostler has migrated the store, or it is not complete.
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
        migrate::may_open(&mut link, address).map_err(at)?;
        Ok(Self {
            address: address.clone(),
            opened,
            link: Some(link),
            names: Names::default(),
            turns: Turns::default(),
            numbers: Numbers::new(opened.base),
            entropy: SeededEntropy::from_os(),
            waker: wake::Waker::default(),
            asked: 0,
        })
    }

    /// Something that makes reading sides without the store.
    #[must_use]
    pub fn reader(&self) -> ReaderFactory {
        ReaderFactory { address: self.address.clone(), opened: self.opened }
    }

    /// Keeps run logs, on connections of its own.
    #[must_use]
    pub fn blocks(&self) -> PgBlocks {
        PgBlocks::new(&self.address, self.opened)
    }

    /// How this store's nodes hear of one another.
    #[must_use]
    pub fn wakes(&self) -> Wakes {
        Wakes { address: self.address.clone(), waker: self.waker.clone() }
    }

    /// The connection, opened again when it was lost.
    fn link(&mut self) -> Done<Link> {
        match self.link.take() {
            Some(link) if link.is_open() => Ok(link),
            _ => Link::open(&self.address),
        }
    }

    /// Carries a batch out as one transaction.
    fn transaction(&mut self, now: Micros, batch: &[Command], how: How) -> Attempt {
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
            careful: how.careful,
            wrote: false,
            woke: false,
        };
        let begun = tx.begin(batch).map_err(|trouble| match trouble {
            Trouble::Store(StoreError::Unavailable(why)) => {
                Trouble::Store(StoreError::Unavailable(format!("{}: {why}", self.address)))
            }
            other => other,
        });
        let done = begun.and_then(|()| tx.batch(batch, how.apart, horizon));
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
                if woke && !self.waker.told() && !self.address.pooled {
                    // A process without a node of its own tells it itself, behind the commit.
                    let _ = link.script(&wake::notify(&self.address));
                }
                self.link = Some(link);
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
        let fate = link.fate(transaction)?;
        self.link = Some(link);
        Ok(fate)
    }

    fn pause(&self, tried: u32) {
        // Up to 2, 4, 8 ... 256 ms.
        thread::sleep(Duration::from_micros(self.entropy.below(1000 << (tried + 1).min(8))));
    }
}

/// How a batch is carried out.
#[derive(Clone, Copy, Default)]
struct How {
    /// Each command apart.
    apart: bool,
    /// What commits find is looked up for each of them.
    careful: bool,
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
    /// A batch that meets others in its way is carried out again, one that a single command spoils with each command
    /// apart, and one with a commit that is not what it seemed with a look at each. When the connection breaks in the commit the server is asked what became of it: an
    /// answer is never guessed.
    fn apply(&mut self, now: Micros, batch: &[Command]) -> Vec<Result<Reply, StoreError>> {
        let all = |error: StoreError| vec![Err(error); batch.len()];
        let mut how = How::default();
        let mut reconnected = false;
        for tried in 0..TRIES {
            match self.transaction(now, batch, how) {
                Attempt::Done(replies) => return replies,
                Attempt::Failed(trouble) => {
                    self.names.forget();
                    match trouble {
                        Trouble::Again(why) => {
                            tracing::debug!(%why, tried, "a batch met others in its way");
                            self.pause(tried);
                        }
                        Trouble::Gone(_) if !reconnected => reconnected = true,
                        Trouble::Poisoned(_) if !how.apart => how.apart = true,
                        Trouble::Doubtful if !how.careful => how.careful = true,
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

    /// Another number each time: others write all the time, and what concerns a node it is told or finds when it looks.
    fn data_version(&mut self) -> Result<i64, StoreError> {
        self.asked += 1;
        Ok(self.asked)
    }

    fn queries(&self) -> Result<Box<dyn Queries>, StoreError> {
        Ok(self.reader().queries())
    }
}

impl PgStore {
    /// Whether a transaction whose commit was not answered was written. Asks until the server has made up its mind.
    fn settled(&mut self, transaction: i64) -> Done<bool> {
        let mut last = Trouble::Gone("the server has not said what became of a commit".into());
        for tried in 0..LOOKS {
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
  (SELECT min(at) FROM (VALUES (FALSE), (TRUE)) s(light) CROSS JOIN LATERAL (
     SELECT v.at FROM visit v JOIN lane l ON l.id=v.lane
     WHERE v.light=s.light AND v.at>least($1, $2) AND v.at>CASE WHEN l.home=0 THEN $2 ELSE $1 END
     ORDER BY v.at LIMIT 1) v)";

#[cfg(test)]
mod plans;

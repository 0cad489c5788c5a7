//! The store of a place, whichever it is.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use ostler_clock::Clock;
use ostler_engine::time::timestamp;
use ostler_executors::RunLogs;
use ostler_model::Span;
use ostler_store::{Queries, Store, StoreError};
use ostler_store_postgres::{PgStore, Wakes};
use ostler_store_sqlite::{OpenOptions, SqliteStore};

use crate::Place;

/// Makes reading sides.
#[derive(Clone)]
pub(crate) enum Reader {
    Sqlite(ostler_store_sqlite::ReaderFactory),
    Postgres(Box<ostler_store_postgres::ReaderFactory>),
}

impl Reader {
    pub(crate) fn queries(&self) -> Box<dyn Queries> {
        match self {
            Self::Sqlite(reader) => reader.queries(),
            Self::Postgres(reader) => reader.queries(),
        }
    }
}

/// Makes the run logs of a store, by the clock that counts there.
pub(crate) type MakeLogs = Box<dyn FnOnce(Arc<dyn Clock>) -> RunLogs>;

/// What stands beside the writing side of a store.
pub(crate) struct Beside {
    pub(crate) reader: Reader,
    pub(crate) wakes: Option<Wakes>,
    pub(crate) logs: MakeLogs,
}

/// An open store.
pub(crate) enum Opened {
    Sqlite(Box<SqliteStore>),
    Postgres(Box<PgStore>),
}

impl Opened {
    pub(crate) fn open(place: &Place) -> Result<Self, StoreError> {
        Ok(match place {
            Place::Memory => Self::Sqlite(Box::new(SqliteStore::open_memory(&OpenOptions::default())?)),
            Place::File(path) => Self::Sqlite(Box::new(SqliteStore::open(path, &OpenOptions::default())?)),
            Place::Postgres(address) => Self::Postgres(Box::new(PgStore::open(address)?)),
        })
    }

    pub(crate) fn reader(&self) -> Reader {
        match self {
            Self::Sqlite(store) => Reader::Sqlite(store.reader()),
            Self::Postgres(store) => Reader::Postgres(Box::new(store.reader())),
        }
    }

    /// The same for a process that asks little and ends soon.
    pub(crate) fn guest_reader(&self) -> Reader {
        match self {
            Self::Sqlite(store) => Reader::Sqlite(store.reader().on_one_connection()),
            Self::Postgres(store) => Reader::Postgres(Box::new(store.reader())),
        }
    }

    /// Where run logs are kept beside it.
    pub(crate) fn logs(&self, place: &Place) -> MakeLogs {
        match self {
            Self::Sqlite(_) => {
                let folder = place.logs();
                Box::new(|clock| RunLogs::new(folder, clock))
            }
            Self::Postgres(store) => {
                let blocks = Arc::new(store.blocks());
                Box::new(|clock| RunLogs::on(blocks, clock))
            }
        }
    }

    /// How nodes on other hosts are heard.
    pub(crate) fn wakes(&self) -> Option<Wakes> {
        match self {
            Self::Sqlite(_) => None,
            Self::Postgres(store) => Some(store.wakes()),
        }
    }

    pub(crate) fn writing(self) -> Box<dyn Store> {
        match self {
            Self::Sqlite(store) => store,
            Self::Postgres(store) => store,
        }
    }
}

/// How nodes of one store live side by side.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    /// After how long without a sign of life others may take what a node holds.
    pub(crate) lease: Span,
    /// How often to look whether others have written something that nobody told.
    pub(crate) poll: Option<Span>,
    /// How often to look after other nodes.
    pub(crate) watch: Duration,
}

impl Pace {
    pub(crate) fn of(place: &Place, wakes: Option<&Wakes>) -> Self {
        match place {
            // A dead process is seen by its lock; the lease is for those that hang.
            Place::Memory => Self { lease: crate::LEASE, poll: None, watch: Duration::from_secs(2) },
            Place::File(_) => {
                Self { lease: crate::LEASE, poll: Some(Span::from_millis(50)), watch: Duration::from_secs(2) }
            }
            // There is no other sign of a death than silence. What is told arrives at once; what is not, is found.
            Place::Postgres(_) => Self {
                lease: crate::SHARED_LEASE,
                poll: Some(match wakes.is_some_and(Wakes::can_listen) {
                    true => Span::from_secs(2),
                    false => Span::from_millis(500),
                }),
                watch: Duration::from_millis(500),
            },
        }
    }
}

/// How far the server's time may be from what was told of it before.
const EXACT: Duration = Duration::from_millis(500);

/// A clock that goes by the store's: nodes on other hosts may not agree with this one about what time it is, and what
/// is due is one question with one answer. Between two questions it counts this host's time since boot, so that a
/// wall clock that is set here changes nothing.
pub(crate) struct StoreClock {
    own: Arc<dyn Clock>,
    /// Microseconds by which the store's is ahead of the time since boot.
    ahead: AtomicI64,
    /// And of this host's clock, when that was last told.
    differs: AtomicI64,
}

impl StoreClock {
    pub(crate) fn new(own: Arc<dyn Clock>) -> Self {
        let ahead = own.now().as_microsecond() - as_micros(own.elapsed());
        Self { own, ahead: AtomicI64::new(ahead), differs: AtomicI64::new(0) }
    }

    /// Asks the server what time it is; once more when the answer was long on its way, since this process was stopped
    /// meanwhile.
    pub(crate) fn set(&self, reader: &Reader) -> Result<(), StoreError> {
        let Reader::Postgres(reader) = reader else { return Ok(()) };
        let mut told = reader.server_time(&*self.own)?;
        for _ in 0..3 {
            if told.within <= EXACT {
                break;
            }
            told = reader.server_time(&*self.own)?;
        }
        self.ahead.store(told.now - as_micros(told.elapsed), Ordering::Relaxed);
        let differs = self.now().as_microsecond() - self.own.now().as_microsecond();
        if differs.abs() > 1_000_000 && (differs - self.differs.load(Ordering::Relaxed)).abs() > 1_000_000 {
            self.differs.store(differs, Ordering::Relaxed);
            tracing::warn!(
                seconds = differs as f64 / 1e6,
                "the clock of this host differs from the store's, which counts; is it set by a time server?"
            );
        }
        Ok(())
    }
}

impl Clock for StoreClock {
    fn now(&self) -> Timestamp {
        timestamp(self.ahead.load(Ordering::Relaxed) + as_micros(self.own.elapsed()))
    }

    fn elapsed(&self) -> Duration {
        self.own.elapsed()
    }
}

fn as_micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

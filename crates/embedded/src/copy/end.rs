//! One end of a copy: the tables of a place, run logs among them, and who keeps it from being at rest.

use std::{collections::HashMap, io, path::Path, time::Duration};

use ostler_executors::LogFolder;
use ostler_model::{MachineId, Uid};
use ostler_store::{
    Mark, NodeId, StoreError,
    tables::{EachRow, Field, Fields, LOG, NODE, Table, Tables},
};
use ostler_store_postgres::PgTables;
use ostler_store_sqlite::{OwnerLock, SqliteTables, is_node_alive};

use super::CopyError;
use crate::{OpenError, Place, SHARED_LEASE};

/// How often nodes are looked at that may be dead.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How an end is used.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// It is read while others go on.
    Look,
    /// Nobody else may use it: the lock of a file is taken.
    Own,
}

/// One end of a copy.
pub(super) struct End {
    pub(super) place: Place,
    /// By which marks name it.
    pub(super) name: String,
    pub(super) tables: Box<dyn Tables>,
    _owner: Option<OwnerLock>,
}

impl End {
    pub(super) fn open(place: &Place, how: Use) -> Result<Self, CopyError> {
        let mut owner = None;
        let (name, tables): (String, Box<dyn Tables>) = match place {
            Place::Memory => return Err(CopyError::Memory),
            Place::Postgres(address) => (address.to_string(), Box::new(PgTables::open(address)?)),
            Place::File(path) => {
                let sqlite = match how {
                    Use::Look => SqliteTables::read(path)?,
                    Use::Own => {
                        // Opened first: the lock file's folder may have to be made.
                        let sqlite = SqliteTables::open(path)?;
                        owner = OwnerLock::try_acquire(path)?;
                        if owner.is_none() {
                            return Err(owned(place, path).into());
                        }
                        sqlite
                    }
                };
                let shown = std::path::absolute(path).unwrap_or_else(|_| path.clone());
                let logs = LogFolder::new(place.logs());
                (shown.display().to_string(), Box::new(FileTables { sqlite, logs, salt: None }))
            }
        };
        Ok(Self { place: place.clone(), name, tables, _owner: owner })
    }

    /// Nodes that are not closed.
    pub(super) fn open_nodes(tables: &mut dyn Tables) -> Result<Vec<OpenNode>, StoreError> {
        let at = |column| NODE.place_of(column).unwrap_or_default();
        let (id, name, renewals) = (at("id"), at("name"), at("renewals"));
        let (closed, worker) = (at("closed"), at("worker"));
        let mut open = Vec::new();
        tables.scan(&NODE, &mut |row| {
            if row[closed] == Field::Int(0) {
                open.push(OpenNode {
                    id: row[id].int().unwrap_or_default(),
                    name: row[name].text().unwrap_or_default().to_owned(),
                    renewals: row[renewals].int().unwrap_or_default(),
                    is_worker: row[worker] != Field::Null,
                });
            }
            Ok(())
        })?;
        Ok(open)
    }

    /// Those of them that do something by themselves: a worker elsewhere can do nothing without a server.
    fn nodes_at_hand(tables: &mut dyn Tables) -> Result<Vec<OpenNode>, StoreError> {
        Ok(Self::open_nodes(tables)?.into_iter().filter(|node| !node.is_worker).collect())
    }

    /// Finds out that nobody works on it. Gives the nodes that have died on it, which nobody has given up yet.
    ///
    /// Of a file the nodes' locks tell. On a server there is no other sign of a death than silence for as long as a lease.
    pub(super) fn at_rest(&mut self) -> Result<Vec<i64>, CopyError> {
        let open = Self::nodes_at_hand(&mut *self.tables)?;
        let alive = |node: &OpenNode| CopyError::AtWork {
            place: self.name.clone(),
            node: format!("node {} ({})", node.id, node.name),
        };
        if let Place::File(path) = &self.place {
            if let Some(node) = open.iter().find(|node| is_node_alive(path, NodeId(node.id))) {
                return Err(alive(node));
            }
        } else if !open.is_empty() {
            let seen: HashMap<i64, i64> = open.iter().map(|node| (node.id, node.renewals)).collect();
            let looks = SHARED_LEASE.as_duration().as_millis() / LOOK_EVERY.as_millis() + 1;
            for _ in 0..looks {
                std::thread::sleep(LOOK_EVERY);
                let now = Self::nodes_at_hand(&mut *self.tables)?;
                if let Some(node) = now.iter().find(|node| seen.get(&node.id) != Some(&node.renewals)) {
                    return Err(alive(node));
                }
            }
        }
        Ok(open.into_iter().map(|node| node.id).collect())
    }

    /// From here on nobody changes it. `dead`: nodes that may still be open.
    pub(super) fn leave_for(&mut self, to: &str, dead: &[i64]) -> Result<(), CopyError> {
        let name = self.name.clone();
        let mut came = None;
        let done = self.tables.alone(&mut |tables| {
            let open = Self::nodes_at_hand(tables)?;
            if let Some(node) = open.into_iter().find(|node| !dead.contains(&node.id)) {
                came = Some(format!("node {} ({})", node.id, node.name));
                return Err(StoreError::Busy("a node has come".into()));
            }
            tables.set_mark(Some(&Mark::MovingTo(to.to_owned())))
        });
        match came {
            Some(node) => Err(CopyError::AtWork { place: name, node }),
            None => Ok(done?),
        }
    }

    /// All that it holds is in the other store, unless it was taken back meanwhile.
    pub(super) fn is_left_for(&mut self, to: &str) -> Result<(), CopyError> {
        let mut taken_back = false;
        self.tables.alone(&mut |tables| match tables.mark()? {
            Some(Mark::MovingTo(marked) | Mark::MovedTo(marked)) if marked == to => {
                tables.set_mark(Some(&Mark::MovedTo(marked)))
            }
            _ => {
                taken_back = true;
                Ok(())
            }
        })?;
        match taken_back {
            true => Err(CopyError::TakenBack(self.name.clone())),
            false => Ok(()),
        }
    }
}

/// A node that is not closed.
pub(super) struct OpenNode {
    pub(super) id: i64,
    name: String,
    renewals: i64,
    is_worker: bool,
}

fn owned(place: &Place, path: &Path) -> OpenError {
    let owner = OwnerLock::owner_of(Some(path)).unwrap_or_else(|| "another process".into());
    OpenError::Owned { place: place.to_string(), owner }
}

/// A store file with the run logs beside it.
struct FileTables {
    sqlite: SqliteTables,
    logs: LogFolder,
    salt: Option<u64>,
}

/// What goes wrong while logs are read: the logs, or what is done with them.
enum Trouble {
    Logs(io::Error),
    Store(StoreError),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Logs(error)
    }
}

impl FileTables {
    fn cannot(error: &io::Error) -> StoreError {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                StoreError::Full(format!("run logs: {error}"))
            }
            _ => StoreError::Unavailable(format!("run logs: {error}")),
        }
    }

    /// Which run a log is of depends on the salt.
    fn salt(&mut self) -> Result<u64, StoreError> {
        if let Some(salt) = self.salt {
            return Ok(salt);
        }
        let salt = self.sqlite.numbers()?.first().copied().unwrap_or_default().cast_unsigned();
        self.salt = Some(salt);
        Ok(salt)
    }

    fn scan_logs(&self, each: EachRow<'_>) -> Result<(), StoreError> {
        let mut read = || -> Result<(), Trouble> {
            for run in self.logs.runs()? {
                let machine = Field::Int(run.machine().0);
                let mut place = 0;
                self.logs.blocks(run, |block, unpacked| {
                    let row = [
                        machine.clone(),
                        Field::Int(place),
                        Field::Int(unpacked.into()),
                        Field::Bytes(block),
                    ];
                    place += 1;
                    each(row.into()).map_err(Trouble::Store)
                })?;
            }
            Ok(())
        };
        read().map_err(|trouble| match trouble {
            Trouble::Logs(error) => Self::cannot(&error),
            Trouble::Store(error) => error,
        })
    }
}

impl Tables for FileTables {
    fn freeze(&mut self) -> Result<(), StoreError> {
        self.sqlite.freeze()
    }

    fn thaw(&mut self) -> Result<(), StoreError> {
        self.sqlite.thaw()
    }

    fn count(&mut self, table: &Table) -> Result<u64, StoreError> {
        if *table != LOG {
            return self.sqlite.count(table);
        }
        let mut blocks = 0;
        self.scan_logs(&mut |_| {
            blocks += 1;
            Ok(())
        })?;
        Ok(blocks)
    }

    fn scan(&mut self, table: &Table, each: EachRow<'_>) -> Result<(), StoreError> {
        if *table == LOG { self.scan_logs(each) } else { self.sqlite.scan(table, each) }
    }

    fn append(&mut self, table: &Table, rows: Vec<Fields>) -> Result<(), StoreError> {
        if *table != LOG {
            return self.sqlite.append(table, rows);
        }
        let salt = self.salt()?;
        for row in rows {
            let [Field::Int(machine), _, _, Field::Bytes(block)] = <[Field; 4]>::try_from(row)
                .map_err(|_| StoreError::Corrupt("a block of a run log has other columns".into()))?
            else {
                return Err(StoreError::Corrupt("a block of a run log holds a value of another type".into()));
            };
            let run = Uid::of(MachineId(machine), salt);
            self.logs.append(run, block).map_err(|error| Self::cannot(&error))?;
        }
        Ok(())
    }

    fn numbers(&mut self) -> Result<Vec<i64>, StoreError> {
        self.sqlite.numbers()
    }

    fn set_numbers(&mut self, numbers: &[i64]) -> Result<(), StoreError> {
        self.salt = None;
        self.sqlite.set_numbers(numbers)
    }

    fn mark(&mut self) -> Result<Option<Mark>, StoreError> {
        self.sqlite.mark()
    }

    fn set_mark(&mut self, mark: Option<&Mark>) -> Result<(), StoreError> {
        self.sqlite.set_mark(mark)
    }

    fn alone(
        &mut self,
        work: &mut dyn FnMut(&mut dyn Tables) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.salt = None;
        self.sqlite.alone(work)
    }

    fn derive(&mut self) -> Result<(), StoreError> {
        self.sqlite.derive()
    }

    fn settle(&mut self) -> Result<(), StoreError> {
        self.sqlite.settle()
    }
}

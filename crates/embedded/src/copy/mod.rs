//! Moving house: a store copied into another one, of whichever sort, and compared with it.
//!
//! Tables are copied in the order of their keys and always from the beginning, so what an interrupted copy has written is
//! the beginning of each table, and the same copy goes on behind it. It is complete when both stores give the same
//! checksum for each table. Until then nobody else may use the new one; marks ([`Mark`]) see to that, and to it that
//! nobody goes on with the old one either.

mod backup;
mod end;
mod error;

use std::path::Path;

use ostler_clock::Clock;
use ostler_engine::time::micros;
use ostler_store::{
    Command, Mark, NodeId, StoreError,
    tables::{Field, Fields, LOG, Sum, Summing, TABLES, Table, Tables},
};

use self::end::{End, OpenNode, Use};
pub use self::{backup::back_up, error::CopyError};
use crate::{Place, store::Opened};

/// Rows that are written at once, unless they are large.
const ROWS: usize = 4000;

/// Bytes of rows from which on they are written.
const BYTES: u64 = 4 << 20;

/// A store that is to be copied.
pub struct Copy<'a> {
    /// Which.
    pub from: &'a Place,
    /// Into what: an empty store, or none yet.
    pub to: &'a Place,
    /// It is copied as it is at this moment and goes on. Otherwise the new store takes its place.
    pub keep: bool,
}

/// What a copy does at this moment.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// The table; `pages` of a file.
    pub table: &'static str,
    /// The rows are in the other store already and are only compared.
    pub comparing: bool,
    /// Rows that were copied or compared.
    pub rows: u64,
    /// Rows that have to be copied and compared.
    pub of: u64,
    /// Bytes that were read.
    pub bytes: u64,
}

/// Is told what is done; says whether to go on.
pub type Tell<'a> = &'a mut dyn FnMut(Step) -> bool;

/// What a table came to, the same in both stores.
#[derive(Clone, Debug)]
pub struct Copied {
    /// The table.
    pub table: &'static str,
    /// Its rows.
    pub sum: Sum,
}

/// What a store holds: the rows of each table.
///
/// # Errors
/// It cannot be read.
pub fn contents(place: &Place) -> Result<Vec<(&'static str, u64)>, CopyError> {
    must_exist(place)?;
    let mut end = End::open(place, Use::Look)?;
    refuse_incomplete(&mut end)?;
    TABLES.iter().map(|table| Ok((table.name, end.tables.count(table)?))).collect()
}

/// Copies a store and compares the two; goes on with a copy that was interrupted.
///
/// # Errors
/// A store cannot be used, is not at rest, or not empty; the copy was stopped; or the two differ in the end.
pub fn copy(copy: &Copy<'_>, clock: &dyn Clock, tell: Tell<'_>) -> Result<Vec<Copied>, CopyError> {
    must_exist(copy.from)?;
    refuse_same(copy)?;
    let mut from = End::open(copy.from, if copy.keep { Use::Look } else { Use::Own })?;
    let known = from.tables.mark()?;
    refuse_incomplete(&mut from)?;
    let mut to = End::open(copy.to, Use::Own)?;
    let dead = match known {
        Some(Mark::MovingTo(other) | Mark::MovedTo(other)) if !copy.keep => match other == to.name {
            true => None,
            false => return Err(CopyError::OtherTarget { place: from.name, to: other }),
        },
        _ if copy.keep => None,
        _ => Some(from.at_rest()?),
    };
    take(&mut to, &mut from)?;
    if let Some(dead) = dead {
        from.leave_for(&to.name, &dead)?;
    }
    from.tables.freeze()?;
    let numbers = from.tables.numbers()?;
    to.tables.alone(&mut |tables| tables.set_numbers(&numbers))?;
    let mut work = Work::plan(&mut from, tell)?;
    let sums = TABLES.iter().map(|table| work.fill(&mut from, &mut to, table));
    let sums = sums.collect::<Result<Vec<_>, _>>()?;
    let copied = work.compare((&from, &numbers), &mut to, sums)?;
    from.tables.thaw()?;
    to.tables.settle()?;
    // In this order: the same command may come again after each of the two.
    if !copy.keep {
        from.is_left_for(&to.name)?;
    }
    // Known before anybody may come.
    let nodes = End::open_nodes(&mut *to.tables)?;
    to.tables.alone(&mut |tables| {
        tables.derive()?;
        tables.set_mark(None)
    })?;
    drop(to);
    give_up(&nodes, copy.to, clock)?;
    Ok(copied)
}

/// Compares two stores table by table.
///
/// # Errors
/// One cannot be read, the comparison was stopped, or they differ.
pub fn compare(from: &Place, to: &Place, tell: Tell<'_>) -> Result<Vec<Copied>, CopyError> {
    must_exist(from)?;
    must_exist(to)?;
    let (mut from, mut to) = (End::open(from, Use::Look)?, End::open(to, Use::Look)?);
    refuse_incomplete(&mut from)?;
    refuse_incomplete(&mut to)?;
    from.tables.freeze()?;
    to.tables.freeze()?;
    let numbers = from.tables.numbers()?;
    let mut work = Work::plan(&mut from, tell)?;
    let sums = TABLES.iter().map(|table| work.sum(&mut from, table));
    let sums = sums.collect::<Result<Vec<_>, _>>()?;
    work.compare((&from, &numbers), &mut to, sums)
}

/// Takes the mark of a store that was moved, or was to be. Gives it.
///
/// # Errors
/// The store cannot be used, or is not complete.
pub fn unmark(place: &Place) -> Result<Option<Mark>, CopyError> {
    must_exist(place)?;
    let mut end = End::open(place, Use::Own)?;
    refuse_incomplete(&mut end)?;
    let mark = end.tables.mark()?;
    if mark.is_some() {
        end.tables.alone(&mut |tables| tables.set_mark(None))?;
    }
    Ok(mark)
}

fn must_exist(place: &Place) -> Result<(), CopyError> {
    match place {
        Place::File(path) if !path.exists() => Err(CopyError::Missing(path.display().to_string())),
        _ => Ok(()),
    }
}

fn refuse_same(copy: &Copy<'_>) -> Result<(), CopyError> {
    let same = match (copy.from, copy.to) {
        (Place::File(from), Place::File(to)) => {
            let real = |path: &Path| path.canonicalize().ok();
            real(from).is_some() && real(from) == real(to)
        }
        (from, to) => from.to_string() == to.to_string(),
    };
    if same { Err(CopyError::Same(copy.from.to_string())) } else { Ok(()) }
}

fn refuse_incomplete(end: &mut End) -> Result<(), CopyError> {
    match end.tables.mark()? {
        Some(mark @ Mark::CopyOf(_)) => match mark.refusal() {
            StoreError::Unavailable(why) => {
                Err(StoreError::Unavailable(format!("{}: {why}", end.name)).into())
            }
            other => Err(other.into()),
        },
        _ => Ok(()),
    }
}

/// Takes a store to be filled: an empty one, or one that was being filled from the same source.
fn take(to: &mut End, from: &mut End) -> Result<(), CopyError> {
    let mine = Mark::CopyOf(from.name.clone());
    match to.tables.mark()? {
        Some(mark) if mark == mine => {
            // Another store may stand at the same place now.
            let other = to.tables.numbers()?.first() != from.tables.numbers()?.first();
            match other && first_filled(&mut *to.tables)?.is_some() {
                true => Err(CopyError::OtherSource {
                    place: to.name.clone(),
                    from: format!("another store that was at {}", from.name),
                }),
                false => Ok(()),
            }
        }
        Some(Mark::CopyOf(other)) => Err(CopyError::OtherSource { place: to.name.clone(), from: other }),
        _ => {
            let place = to.name.clone();
            // Looked at before it is asked for alone: somebody may have named a store that is at work.
            let mut found = first_filled(&mut *to.tables)?;
            if found.is_none() {
                let rows = to.tables.count(&LOG)?;
                found = (rows > 0).then_some((LOG.name, rows));
            }
            if found.is_none() {
                to.tables.alone(&mut |tables| {
                    found = first_filled(tables)?;
                    if found.is_none() { tables.set_mark(Some(&mine)) } else { Ok(()) }
                })?;
            }
            match found {
                None => Ok(()),
                Some(_) if from.tables.mark()? == Some(Mark::MovedTo(place.clone())) => {
                    Err(CopyError::AlreadyMoved { from: from.name.clone(), to: place })
                }
                Some((table, rows)) => Err(CopyError::NotEmpty { place, table, rows }),
            }
        }
    }
}

/// A table that holds something, with how much; run logs are looked at elsewhere.
fn first_filled(tables: &mut dyn Tables) -> Result<Option<(&'static str, u64)>, StoreError> {
    for table in TABLES.iter().filter(|table| ***table != LOG) {
        let rows = tables.count(table)?;
        if rows > 0 {
            return Ok(Some((table.name, rows)));
        }
    }
    Ok(None)
}

/// Nodes of the store that was left do not come along. What they had in hand when it was left is given back.
fn give_up(nodes: &[OpenNode], place: &Place, clock: &dyn Clock) -> Result<(), CopyError> {
    if nodes.is_empty() {
        return Ok(());
    }
    let rescues: Vec<Command> = nodes.iter().map(|node| Command::Rescue { node: NodeId(node.id) }).collect();
    let mut store = Opened::open(place)?.writing();
    for reply in store.apply(micros(clock.now()), &rescues) {
        reply?;
    }
    Ok(())
}

/// Copying and comparing, with what was done of it.
struct Work<'a> {
    tell: Tell<'a>,
    step: Step,
}

impl<'a> Work<'a> {
    fn plan(from: &mut End, tell: Tell<'a>) -> Result<Self, CopyError> {
        let mut rows = 0;
        for table in TABLES {
            rows += from.tables.count(table)?;
        }
        let step = Step { table: "", comparing: false, rows: 0, of: 2 * rows, bytes: 0 };
        Ok(Self { tell, step })
    }

    /// Copies the rows of a table that are not there yet; gives the sum of all.
    fn fill(&mut self, from: &mut End, to: &mut End, table: &'static Table) -> Result<Sum, CopyError> {
        let there = to.tables.count(table)?;
        let mut batch: Vec<Fields> = Vec::new();
        let mut bytes = 0;
        let sum = self.read(from, table, false, &mut |row, at| {
            if at <= there {
                return Ok(());
            }
            bytes += row.iter().map(Field::bytes).sum::<u64>();
            batch.push(row);
            if batch.len() >= ROWS || bytes >= BYTES {
                bytes = 0;
                to.tables.append(table, std::mem::take(&mut batch))?;
            }
            Ok(())
        })?;
        if !batch.is_empty() {
            to.tables.append(table, batch)?;
        }
        Ok(sum)
    }

    fn sum(&mut self, end: &mut End, table: &'static Table) -> Result<Sum, CopyError> {
        self.read(end, table, true, &mut |_, _| Ok(()))
    }

    /// Reads a table to its end and sums it up; `each` is told which row it is.
    fn read(
        &mut self,
        end: &mut End,
        table: &'static Table,
        comparing: bool,
        each: &mut dyn FnMut(Fields, u64) -> Result<(), StoreError>,
    ) -> Result<Sum, CopyError> {
        let mut summing = Summing::default();
        let mut stopped = false;
        self.step.table = table.name;
        self.step.comparing = comparing;
        let (rows, bytes) = (self.step.rows, self.step.bytes);
        let read = end.tables.scan(table, &mut |row| {
            summing.add(&row);
            if summing.rows() % 512 == 0 {
                let done = Step { rows: rows + summing.rows(), bytes: bytes + summing.bytes(), ..self.step };
                if !(self.tell)(done) {
                    stopped = true;
                    return Err(StoreError::Busy("stopped".into()));
                }
            }
            each(row, summing.rows())
        });
        if stopped {
            return Err(CopyError::Stopped);
        }
        read?;
        let sum = summing.sum();
        self.step.rows += sum.rows;
        self.step.bytes += sum.bytes;
        match (self.tell)(self.step) {
            true => Ok(sum),
            false => Err(CopyError::Stopped),
        }
    }

    /// Reads the other store, all of it, and compares.
    fn compare(
        mut self,
        (from, numbers): (&End, &[i64]),
        to: &mut End,
        sums: Vec<Sum>,
    ) -> Result<Vec<Copied>, CopyError> {
        let mut copied = Vec::new();
        let mut differ = Vec::new();
        if to.tables.numbers()? != numbers {
            differ.push("meta");
        }
        for (table, sum) in TABLES.iter().zip(sums) {
            if self.sum(to, table)? != sum {
                differ.push(table.name);
            }
            copied.push(Copied { table: table.name, sum });
        }
        match differ.is_empty() {
            true => Ok(copied),
            false => Err(CopyError::Differs { from: from.name.clone(), to: to.name.clone(), tables: differ }),
        }
    }
}

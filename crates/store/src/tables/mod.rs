//! What a store holds, table by table, in words that every store shares: by it a store is copied into another one, of
//! whichever sort, and both are compared.
//!
//! What follows from other tables is not named here; see [`Tables::derive`].

mod list;
mod sum;

pub use self::{
    list::{LOG, NODE, NUMBERS, TABLES},
    sum::{Sum, Summing},
};
use crate::{Mark, StoreError};

/// What the values of a column are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// An integer.
    Int,
    /// Yes or no: an integer, 1 or 0, when it is read.
    Flag,
    /// Text.
    Text,
    /// Bytes.
    Bytes,
}

/// A column.
#[derive(Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub holds: ColumnType,
}

/// A table.
#[derive(Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// So many of the columns, from the first on, are the key.
    pub key: usize,
    /// Its columns.
    pub columns: &'static [Column],
}

impl Table {
    /// Where a column stands in a row.
    #[must_use]
    pub fn place_of(&self, column: &str) -> Option<usize> {
        self.columns.iter().position(|c| c.name == column)
    }

    /// The columns as a list in SQL.
    #[must_use]
    pub fn list(&self) -> String {
        self.columns.iter().map(|c| format!("\"{}\"", c.name)).collect::<Vec<_>>().join(", ")
    }
}

/// One value of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// None.
    Null,
    /// An integer, or a flag.
    Int(i64),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

impl Field {
    /// The integer that it is.
    #[must_use]
    pub fn int(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// The text that it is.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(value) => Some(value),
            _ => None,
        }
    }

    /// Bytes that it holds.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Null => 0,
            Self::Int(_) => 8,
            Self::Text(value) => value.len() as u64,
            Self::Bytes(value) => value.len() as u64,
        }
    }
}

/// The values of a row, in the order of the columns.
pub type Fields = Vec<Field>;

/// Is given rows one by one.
pub type EachRow<'a> = &'a mut dyn FnMut(Fields) -> Result<(), StoreError>;

/// One end of a copy: a store whose tables can be read whole and filled, beside and below its commands.
pub trait Tables {
    /// From here on all that is read is of one moment, whoever writes.
    ///
    /// # Errors
    /// The store cannot be read.
    fn freeze(&mut self) -> Result<(), StoreError>;

    /// Ends what [`Tables::freeze`] began.
    ///
    /// # Errors
    /// The store cannot be read.
    fn thaw(&mut self) -> Result<(), StoreError>;

    /// The number of a table's rows.
    ///
    /// # Errors
    /// The store cannot be read.
    fn count(&mut self, table: &Table) -> Result<u64, StoreError>;

    /// Gives all rows of a table in the order of its key, texts byte by byte.
    ///
    /// # Errors
    /// The store cannot be read, or `each` has failed.
    fn scan(&mut self, table: &Table, each: EachRow<'_>) -> Result<(), StoreError>;

    /// Puts rows behind those of a table, all of them or none.
    ///
    /// # Errors
    /// The store cannot be written, or cannot hold a value.
    fn append(&mut self, table: &Table, rows: Vec<Fields>) -> Result<(), StoreError>;

    /// What it remembers of [`NUMBERS`], in their order.
    ///
    /// # Errors
    /// The store cannot be read.
    fn numbers(&mut self) -> Result<Vec<i64>, StoreError>;

    /// Has it remember [`NUMBERS`].
    ///
    /// # Errors
    /// The store cannot be written.
    fn set_numbers(&mut self, numbers: &[i64]) -> Result<(), StoreError>;

    /// Its mark.
    ///
    /// # Errors
    /// The store cannot be read.
    fn mark(&mut self) -> Result<Option<Mark>, StoreError>;

    /// Sets its mark or takes it away.
    ///
    /// # Errors
    /// The store cannot be written.
    fn set_mark(&mut self, mark: Option<&Mark>) -> Result<(), StoreError>;

    /// Does something in one transaction while no command of anybody is being carried out. Commands that come later see
    /// what it has done.
    ///
    /// # Errors
    /// Others would not let it, or `work` has failed; then nothing was changed.
    fn alone(
        &mut self,
        work: &mut dyn FnMut(&mut dyn Tables) -> Result<(), StoreError>,
    ) -> Result<(), StoreError>;

    /// Makes what follows from the tables, after they were filled.
    ///
    /// # Errors
    /// The store cannot be written.
    fn derive(&mut self) -> Result<(), StoreError>;

    /// Waits until the disk has all that was written.
    ///
    /// # Errors
    /// The store cannot be written.
    fn settle(&mut self) -> Result<(), StoreError>;
}

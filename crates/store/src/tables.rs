//! What a store holds, table by table, in words that every store shares: by it a store is copied into another one, of
//! whichever sort, and both are compared.
//!
//! What follows from other tables is not named here; see [`Tables::derive`].

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

const fn int(name: &'static str) -> Column {
    Column { name, holds: ColumnType::Int }
}

const fn flag(name: &'static str) -> Column {
    Column { name, holds: ColumnType::Flag }
}

const fn text(name: &'static str) -> Column {
    Column { name, holds: ColumnType::Text }
}

/// Processes that use the store or did so.
pub static NODE: Table = Table {
    name: "node",
    key: 1,
    columns: &[
        int("id"),
        text("name"),
        flag("owner"),
        int("started_at"),
        int("renewals"),
        flag("closed"),
        text("labels"),
        int("slots"),
        text("worker"),
        flag("draining"),
    ],
};

/// Blocks of run logs. The embedded store keeps them in files beside it.
pub static LOG: Table = Table {
    name: "log",
    key: 2,
    columns: &[
        int("machine"),
        int("place"),
        int("unpacked"),
        Column { name: "block", holds: ColumnType::Bytes },
    ],
};

/// All tables whose rows are copied, what is referred to before what refers to it.
pub static TABLES: &[&Table] = &[
    &Table {
        name: "namespace",
        key: 1,
        columns: &[
            int("id"),
            text("name"),
            text("origin"),
            text("actor"),
            flag("ephemeral"),
            flag("paused"),
            int("created_at"),
            int("seen_at"),
        ],
    },
    &Table { name: "label_set", key: 1, columns: &[int("id"), text("labels")] },
    &Table {
        name: "limit",
        key: 1,
        columns: &[
            int("id"),
            int("ns"),
            int("kind"),
            text("key"),
            int("max"),
            int("interval"),
            int("on_full"),
            int("tat"),
        ],
    },
    &Table {
        name: "lane",
        key: 1,
        columns: &[
            int("id"),
            int("ns"),
            int("class"),
            int("concurrency"),
            int("rate"),
            int("home"),
            flag("light"),
            int("labels"),
        ],
    },
    &Table {
        name: "task",
        key: 1,
        columns: &[
            int("id"),
            int("ns"),
            text("name"),
            int("definition"),
            flag("enabled"),
            flag("paused"),
            flag("missing"),
            text("origin"),
            int("created_at"),
            int("updated_at"),
        ],
    },
    &Table {
        name: "definition",
        key: 1,
        columns: &[
            int("id"),
            int("task"),
            text("digest"),
            text("body"),
            int("created_at"),
            int("replaced_at"),
        ],
    },
    &Table {
        name: "preset",
        key: 1,
        columns: &[
            int("id"),
            int("ns"),
            text("name"),
            text("task"),
            text("body"),
            text("origin"),
            flag("missing"),
            int("created_at"),
            int("updated_at"),
        ],
    },
    &Table {
        name: "schedule",
        key: 2,
        columns: &[int("task"), text("name"), text("digest"), int("machine")],
    },
    &Table { name: "listener", key: 1, columns: &[int("machine"), text("ns"), text("task")] },
    &NODE,
    &Table {
        name: "token",
        key: 1,
        columns: &[
            int("id"),
            text("name"),
            text("hash"),
            text("prefix"),
            text("scopes"),
            text("created_by"),
            int("created_at"),
            int("expires_at"),
            int("revoked_at"),
        ],
    },
    &Table {
        name: "machine",
        key: 1,
        columns: &[
            int("id"),
            int("kind"),
            int("ns"),
            int("task"),
            int("definition"),
            int("state"),
            int("step"),
            int("parent"),
            text("child_key"),
            int("watcher"),
            int("started_at"),
            int("finished_at"),
            text("unique_key"),
            text("idem_key"),
            int("last_event"),
            text("fields"),
        ],
    },
    &Table {
        name: "tick",
        key: 1,
        columns: &[
            int("machine"),
            int("lane"),
            int("priority"),
            int("due_at"),
            int("phase"),
            int("node"),
            int("fence"),
            int("woken"),
            flag("lost"),
            int("held"),
            int("since"),
        ],
    },
    &Table { name: "permit", key: 2, columns: &[int("limit"), int("machine"), flag("asked")] },
    &Table { name: "mail", key: 2, columns: &[int("machine"), int("seq"), text("body")] },
    &Table {
        name: "event",
        key: 1,
        columns: &[
            int("seq"),
            int("at"),
            int("machine"),
            int("step"),
            int("prev"),
            text("kind"),
            text("body"),
        ],
    },
    &LOG,
];

/// Numbers that a store remembers in `meta`, with what counts where one is not there. `salt` makes its public ids.
pub const NUMBERS: &[(&str, i64)] = &[
    ("salt", 0),
    ("first_event", 1),
    ("last_pruned", 0),
    ("pruned_to", 0),
    ("trimmed_to", 0),
    ("roots", 0),
    ("roots_upto", 0),
];

/// Sums up the rows of a table: equal for equal rows, whichever store they are in.
#[derive(Default)]
pub struct Summing {
    hasher: blake3::Hasher,
    rows: u64,
    bytes: u64,
}

/// What the rows of a table come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sum {
    /// How many.
    pub rows: u64,
    /// Bytes of their values.
    pub bytes: u64,
    digest: blake3::Hash,
}

impl Sum {
    /// The checksum, 32 hexadecimal digits.
    #[must_use]
    pub fn digest(&self) -> String {
        self.digest.to_hex()[..32].to_owned()
    }
}

impl Summing {
    /// Adds the next row in the order of the key.
    pub fn add(&mut self, row: &[Field]) {
        self.rows += 1;
        for field in row {
            self.bytes += field.bytes();
            let (kind, bytes) = match field {
                Field::Null => (0, [].as_slice()),
                Field::Int(value) => {
                    self.hasher.update(&[1]).update(&value.to_le_bytes());
                    continue;
                }
                Field::Text(value) => (2, value.as_bytes()),
                Field::Bytes(value) => (3, value.as_slice()),
            };
            self.hasher.update(&[kind]).update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
        }
    }

    /// How many rows were added.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// How many bytes their values have.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The sum.
    #[must_use]
    pub fn sum(&self) -> Sum {
        Sum { rows: self.rows, bytes: self.bytes, digest: self.hasher.finalize() }
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(rows: &[&[Field]]) -> Sum {
        let mut summing = Summing::default();
        rows.iter().for_each(|row| summing.add(row));
        summing.sum()
    }

    #[test]
    fn sums_tell_values_apart_that_look_alike() {
        let text = |t: &str| Field::Text(t.to_owned());
        let rows: [&[Field]; 7] = [
            &[Field::Null],
            &[Field::Int(0)],
            &[text("")],
            &[text("0")],
            &[Field::Bytes(b"0".to_vec())],
            &[text("ab"), text("c")],
            &[text("a"), text("bc")],
        ];
        for (at, one) in rows.iter().enumerate() {
            for other in &rows[at + 1..] {
                assert_ne!(sum(&[one]).digest, sum(&[other]).digest, "{one:?} {other:?}");
            }
        }
        assert_ne!(sum(&[rows[0], rows[1]]), sum(&[rows[1], rows[0]]));
        assert_eq!(sum(&[rows[5]]), sum(&[rows[5]]));
    }
}

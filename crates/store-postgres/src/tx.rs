//! One transaction: what the subjects work with.

use ostler_model::MachineId;
use ostler_store::{EventBody, Micros, StoreError};
use tokio_postgres::Row;

use crate::{
    copy::{Column, Table},
    link::Link,
    names::Names,
    numbers::Numbers,
    trouble::Done,
    turns::Turns,
    value::{Columns, Value, values},
};

/// One transaction.
pub(crate) struct Tx<'a> {
    pub(crate) link: &'a mut Link,
    pub(crate) now: Micros,
    pub(crate) names: &'a mut Names,
    pub(crate) turns: &'a mut Turns,
    pub(crate) numbers: &'a mut Numbers,
    /// What commits find is looked up for each of them.
    pub(crate) careful: bool,
    /// Something was written.
    pub(crate) wrote: bool,
    /// Something may be ready now that was not before, for whichever node.
    pub(crate) woke: bool,
}

impl Tx<'_> {
    /// Runs a statement; gives the number of rows it changed.
    pub(crate) fn run(&mut self, sql: &str, values: &[Value<'_>]) -> Done<u64> {
        let changed = self.link.run(sql, values)?;
        self.wrote |= changed > 0;
        Ok(changed)
    }

    /// Runs statements that do not need one another's answers.
    pub(crate) fn run_all(&mut self, statements: &[(&str, &[Value<'_>])]) -> Done<Vec<u64>> {
        let changed = self.link.run_all(statements)?;
        self.wrote |= changed.iter().any(|n| *n > 0);
        Ok(changed)
    }

    /// The same, with a last one that writes and gives rows.
    pub(crate) fn run_all_then(
        &mut self,
        statements: &[(&str, &[Value<'_>])],
        last: (&str, &[Value<'_>]),
    ) -> Done<(Vec<u64>, Vec<Row>)> {
        let found = self.link.run_all_then(statements, last)?;
        self.wrote = true;
        Ok(found)
    }

    /// Adds rows to a table: at once where they are many, otherwise with the statements.
    pub(crate) fn add<'v>(
        &mut self,
        table: &'static Table,
        columns: &'v [Value<'v>],
        statements: &mut Vec<(&'v str, &'v [Value<'v>])>,
    ) -> Done<()> {
        if self.link.copies(columns[0].len()) {
            self.wrote = true;
            return self.link.copy(table, columns);
        }
        statements.push((table.insert, columns));
        Ok(())
    }

    /// All rows of a query.
    pub(crate) fn rows(&mut self, sql: &str, values: &[Value<'_>]) -> Done<Vec<Row>> {
        self.link.rows(sql, values)
    }

    /// All rows of a statement that writes.
    pub(crate) fn written(&mut self, sql: &str, values: &[Value<'_>]) -> Done<Vec<Row>> {
        let rows = self.link.rows(sql, values)?;
        self.wrote |= !rows.is_empty();
        Ok(rows)
    }

    /// The first row of a query, if it has one.
    pub(crate) fn row(&mut self, sql: &str, values: &[Value<'_>]) -> Done<Option<Row>> {
        Ok(self.link.rows(sql, values)?.into_iter().next())
    }

    /// A number that is always there.
    pub(crate) fn number(&mut self, sql: &str, values: &[Value<'_>]) -> Done<i64> {
        match self.row(sql, values)? {
            Some(row) => row.int(0),
            None => Err(StoreError::Corrupt(format!("no row where one must be: {sql}")).into()),
        }
    }

    /// The keys that a query finds.
    pub(crate) fn keys(&mut self, sql: &str, values: &[Value<'_>]) -> Done<Vec<i64>> {
        self.link.rows(sql, values)?.iter().map(|r| r.int(0)).collect()
    }

    /// A remembered number.
    pub(crate) fn meta(&mut self, key: &str) -> Done<i64> {
        let row = self.row("SELECT value FROM meta WHERE key=$1", values![key])?;
        row.map_or(Ok(0), |r| r.int(0))
    }

    /// Remembers a number.
    pub(crate) fn set_meta(&mut self, key: &str, value: i64) -> Done<()> {
        let sql = "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value=excluded.value";
        self.run(sql, values![key, value]).map(drop)
    }

    /// Tells other nodes, with this commit, that what they remember of names may be wrong.
    pub(crate) fn forget_everywhere(&mut self) -> Done<()> {
        self.names.forget();
        self.run("UPDATE meta SET value=value+1 WHERE key='generation'", &[]).map(drop)
    }
}

/// Events to be appended, column by column.
#[derive(Default)]
pub(crate) struct Events<'a> {
    seq: Vec<i64>,
    machine: Vec<i64>,
    step: Vec<i64>,
    prev: Vec<i64>,
    kind: Vec<&'a str>,
    body: Vec<&'a str>,
}

impl<'a> Events<'a> {
    /// seq, machine, step, prev, kind, body, when.
    pub(crate) const TABLE: Table = Table {
        insert: "INSERT INTO event (seq, machine, step, prev, kind, body, at)
          SELECT u.*, $7 FROM unnest($1, $2, $3, $4, $5, $6) u",
        copy: "COPY event (seq, machine, step, prev, kind, body, at) FROM STDIN (FORMAT BINARY)",
        columns: &[
            Column::Big,
            Column::Big,
            Column::Big,
            Column::Big,
            Column::Text,
            Column::Text,
            Column::Big,
        ],
    };

    pub(crate) fn push(&mut self, seq: i64, machine: MachineId, step: i64, prev: i64, event: &'a EventBody) {
        self.seq.push(seq);
        self.machine.push(machine.0);
        self.step.push(step);
        self.prev.push(prev);
        self.kind.push(&event.kind);
        self.body.push(&event.body);
    }

    pub(crate) fn values(self, now: Micros) -> [Value<'a>; 7] {
        let Self { seq, machine, step, prev, kind, body } = self;
        [seq.into(), machine.into(), step.into(), prev.into(), kind.into(), body.into(), now.into()]
    }
}

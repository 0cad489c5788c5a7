//! The tables as one end of a copy.

use std::{path::Path, time::Duration};

use ostler_store::{
    Mark, StoreError,
    tables::{ColumnType, EachRow, Field, Fields, NUMBERS, Table, Tables},
};
use rusqlite::{
    Connection, OptionalExtension, Row, params, params_from_iter,
    types::{ToSqlOutput, ValueRef},
};

use crate::{OpenOptions, error::told, open};

/// Pages of the write-ahead log that are folded into the file at once while a store is filled: 64 MiB.
const LOG_PAGES: u32 = 16 << 10;

/// The tables of a store file. Run logs are not among them: they are in files beside it.
pub struct SqliteTables {
    connection: Connection,
    patience: Duration,
}

impl SqliteTables {
    /// Those of a store that is there or is made now, whatever its mark.
    ///
    /// # Errors
    /// As [`crate::SqliteStore::open`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let options = OpenOptions::default();
        let connection = open::connect(path, &options)?;
        // What is lost with the power is the end of what was copied, and is copied again.
        let pragmas = format!("PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint={LOG_PAGES}");
        connection.execute_batch(&pragmas).map_err(told)?;
        Ok(Self { connection, patience: options.patience })
    }

    /// Those of a store that is there, to be looked at while others write.
    ///
    /// # Errors
    /// There is no such store, or it is of another version than this program knows.
    pub fn read(path: &Path) -> Result<Self, StoreError> {
        let options = OpenOptions::default();
        Ok(Self { connection: open::connect_read_only(path)?, patience: options.patience })
    }

    fn run(&self, sql: &str) -> Result<(), StoreError> {
        self.connection.execute_batch(sql).map_err(told)
    }

    fn transaction(
        &mut self,
        work: &mut dyn FnMut(&mut Self) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        open::begin(&self.connection, self.patience)?;
        let done = work(self).and_then(|()| self.run("COMMIT"));
        if done.is_err() {
            // Where SQLite has rolled back itself there is nothing left to roll back.
            let _ = self.run("ROLLBACK");
        }
        done
    }
}

impl Tables for SqliteTables {
    fn freeze(&mut self) -> Result<(), StoreError> {
        self.run("BEGIN")?;
        // The first look decides which moment it is.
        self.connection.query_row("SELECT count(*) FROM meta", [], |_| Ok(())).map_err(told)
    }

    fn thaw(&mut self) -> Result<(), StoreError> {
        self.run("COMMIT")
    }

    fn count(&mut self, table: &Table) -> Result<u64, StoreError> {
        let sql = format!("SELECT count(*) FROM \"{}\"", table.name);
        self.connection.query_row(&sql, [], |r| r.get::<_, i64>(0)).map(i64::unsigned_abs).map_err(told)
    }

    fn scan(&mut self, table: &Table, each: EachRow<'_>) -> Result<(), StoreError> {
        let key: Vec<String> = table.columns[..table.key].iter().map(|c| format!("\"{}\"", c.name)).collect();
        let sql = format!("SELECT {} FROM \"{}\" ORDER BY {}", table.list(), table.name, key.join(", "));
        let mut select = self.connection.prepare(&sql).map_err(told)?;
        let mut rows = select.query([]).map_err(told)?;
        while let Some(row) = rows.next().map_err(told)? {
            each(fields(table, row)?)?;
        }
        Ok(())
    }

    fn append(&mut self, table: &Table, rows: Vec<Fields>) -> Result<(), StoreError> {
        let marks = vec!["?"; table.columns.len()].join(", ");
        let sql = format!("INSERT INTO \"{}\" ({}) VALUES ({marks})", table.name, table.list());
        self.transaction(&mut |own| {
            let mut insert = own.connection.prepare_cached(&sql).map_err(told)?;
            for row in &rows {
                insert.execute(params_from_iter(row.iter().map(value))).map_err(told)?;
            }
            Ok(())
        })
    }

    fn numbers(&mut self) -> Result<Vec<i64>, StoreError> {
        let mut select =
            self.connection.prepare_cached("SELECT value FROM meta WHERE key=?1").map_err(told)?;
        let read = |(key, otherwise): &(&str, i64)| {
            let found = select.query_row([key], |r| r.get(0)).optional().map_err(told)?;
            Ok(found.unwrap_or(*otherwise))
        };
        NUMBERS.iter().map(read).collect()
    }

    fn set_numbers(&mut self, numbers: &[i64]) -> Result<(), StoreError> {
        for ((key, _), value) in NUMBERS.iter().zip(numbers) {
            self.connection.execute(SET_META, params![key, value]).map_err(told)?;
        }
        Ok(())
    }

    fn mark(&mut self) -> Result<Option<Mark>, StoreError> {
        open::mark(&self.connection)
    }

    fn set_mark(&mut self, mark: Option<&Mark>) -> Result<(), StoreError> {
        match mark {
            Some(mark) => self.connection.execute(SET_META, params!["mark", mark.text()]),
            None => self.connection.execute("DELETE FROM meta WHERE key='mark'", []),
        }
        .map(drop)
        .map_err(told)
    }

    /// Commands see a mark when they see that another connection has written.
    fn alone(
        &mut self,
        work: &mut dyn FnMut(&mut dyn Tables) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.transaction(&mut |own| work(own))
    }

    /// Visits of lanes; indexes are SQLite's business, and the greatest keys of `mail` and `node` are kept with each row.
    fn derive(&mut self) -> Result<(), StoreError> {
        self.run(
            "DELETE FROM visit; INSERT INTO visit (lane, light, at)
               SELECT DISTINCT lane, lane < -1073741824, 0 FROM tick WHERE phase=1 AND lane<0",
        )
    }

    fn settle(&mut self) -> Result<(), StoreError> {
        self.run("PRAGMA synchronous=FULL")?;
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(told)
    }
}

const SET_META: &str =
    "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value=excluded.value";

fn fields(table: &Table, row: &Row<'_>) -> Result<Fields, StoreError> {
    let mut fields = Vec::with_capacity(table.columns.len());
    for (at, column) in table.columns.iter().enumerate() {
        let value = row.get_ref(at).map_err(told)?;
        fields.push(match (value, column.holds) {
            (ValueRef::Null, _) => Field::Null,
            (ValueRef::Integer(value), ColumnType::Int | ColumnType::Flag) => Field::Int(value),
            (ValueRef::Text(_), ColumnType::Text) => Field::Text(row.get(at).map_err(told)?),
            (other, _) => {
                let (table, column, found) = (table.name, column.name, other.data_type());
                return Err(StoreError::Corrupt(format!("`{table}.{column}` holds a value of type {found}")));
            }
        });
    }
    Ok(fields)
}

fn value(field: &Field) -> ToSqlOutput<'_> {
    ToSqlOutput::Borrowed(match field {
        Field::Null => ValueRef::Null,
        Field::Int(value) => ValueRef::Integer(*value),
        Field::Text(value) => ValueRef::Text(value.as_bytes()),
        Field::Bytes(value) => ValueRef::Blob(value),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ostler_store::tables::{LOG, TABLES};

    use super::*;

    /// Whoever adds a table or a column says here or in `ostler_store::tables` what becomes of it in a copy.
    #[test]
    fn all_tables_and_columns_are_described() {
        let folder = tempfile::tempdir().unwrap();
        let tables = SqliteTables::open(&folder.path().join("store.db")).unwrap();
        let sql = "SELECT m.name, c.name, c.type FROM sqlite_master m JOIN pragma_table_info(m.name) c
             WHERE m.type='table' AND m.name NOT LIKE 'sqlite_%' AND m.name NOT IN ('meta', 'visit')";
        let mut select = tables.connection.prepare(sql).unwrap();
        let found = select.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?))).unwrap();
        let found: BTreeSet<(String, String, String)> = found.collect::<Result<_, _>>().unwrap();
        let described: BTreeSet<_> = TABLES
            .iter()
            .filter(|table| ***table != LOG)
            .flat_map(|table| {
                table.columns.iter().map(|column| {
                    let is = match column.holds {
                        ColumnType::Int | ColumnType::Flag => "INTEGER",
                        ColumnType::Text => "TEXT",
                        ColumnType::Bytes => "BLOB",
                    };
                    (table.name.to_owned(), column.name.to_owned(), is.to_owned())
                })
            })
            .collect();
        assert_eq!(found, described);
    }

    #[test]
    fn commands_of_whoever_has_opened_it_before_are_refused_from_the_mark_on() {
        use ostler_store::{Command, NewNode, Reply, Store as _};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        let mut store = crate::SqliteStore::open(&path, &OpenOptions::default()).unwrap();
        let register =
            || [Command::Register(NewNode { name: "me".into(), owner: true, ..NewNode::default() })];
        assert!(matches!(store.apply(0, &register())[0], Ok(Reply::Node(_))));
        let mut tables = SqliteTables::open(&path).unwrap();
        let mut set = |mark: Option<Mark>| tables.alone(&mut |t| t.set_mark(mark.as_ref())).unwrap();
        set(Some(Mark::MovingTo("elsewhere".into())));
        for _ in 0..2 {
            let refused = store.apply(0, &register()).remove(0).unwrap_err().to_string();
            assert!(refused.contains("store.db") && refused.contains("elsewhere"), "{refused}");
            assert!(refused.contains("ostler db unmark"), "{refused}");
        }
        assert!(store.queries().unwrap().nodes().is_ok(), "it may be looked at");
        set(None);
        assert!(matches!(store.apply(0, &register())[0], Ok(Reply::Node(_))));
        set(Some(Mark::CopyOf("elsewhere".into())));
        let refused = crate::SqliteStore::open(&path, &OpenOptions::default()).err().unwrap().to_string();
        assert!(refused.contains("not complete") && refused.contains("store.db"), "{refused}");
        assert!(crate::SqliteStore::open_read_only(&path).is_err());
        assert!(crate::admin::check(&path).is_err());
    }
}

//! The tables as one end of a copy.

use ostler_store::{
    Mark, StoreError,
    tables::{Column, ColumnType, EachRow, Field, Fields, NUMBERS, TABLES, Table, Tables},
};
use tokio_postgres::Row;

use crate::{
    link::Link,
    migrate::{self, MARK},
    trouble::{Done, Trouble},
    url::Address,
    value::{Columns, Value, values},
};

/// Whole tables are read here, and whoever waits for the other end keeps a transaction open for long.
const SETTINGS: &str = "SET statement_timeout TO 0; SET idle_in_transaction_session_timeout TO 0";

/// Tables that are made from others, with how.
const DERIVED: &[(&str, &str)] = &[
    ("bad_end", "SELECT state, id FROM machine WHERE state>10 AND parent IS NULL"),
    ("watched", "SELECT watcher, id FROM machine WHERE watcher IS NOT NULL AND state=0"),
    ("unique_key", "SELECT ns, unique_key, id FROM machine WHERE unique_key IS NOT NULL AND state=0"),
];

const SET_META: &str =
    "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value=excluded.value";
const SET_MARK: &str = "INSERT INTO meta (key, value, words) VALUES ('mark', 0, $1)
  ON CONFLICT (key) DO UPDATE SET words=excluded.words";

/// The tables of a store, run logs among them.
pub struct PgTables {
    link: Link,
}

impl PgTables {
    /// Those of a store that is there or is made now, whatever its mark.
    ///
    /// # Errors
    /// As [`crate::PgStore::open`]; or the address is that of a pooler.
    pub fn open(address: &Address) -> Result<Self, StoreError> {
        let open = || -> Done<Self> {
            let mut link = whole_tables(address)?;
            migrate::open(&mut link, address, None)?;
            Ok(Self { link })
        };
        open().map_err(|trouble| match trouble.told() {
            StoreError::Unavailable(why) => StoreError::Unavailable(format!("{address}: {why}")),
            other => other,
        })
    }

    fn done<T>(&mut self, work: impl FnOnce(&mut Link) -> Done<T>) -> Result<T, StoreError> {
        work(&mut self.link).map_err(Trouble::told)
    }
}

/// A connection for work on whole tables.
pub(crate) fn whole_tables(address: &Address) -> Done<Link> {
    if address.pooled {
        let words = format!(
            "whole tables are not read through a pooler; name the server behind {address}, without `pooler=transaction`"
        );
        return Err(StoreError::Refused(words).into());
    }
    let link = Link::open(address)?;
    link.script(SETTINGS)?;
    Ok(link)
}

impl Tables for PgTables {
    fn freeze(&mut self) -> Result<(), StoreError> {
        // The first look decides which moment it is.
        self.done(|link| link.script("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT 1 FROM meta"))
    }

    fn thaw(&mut self) -> Result<(), StoreError> {
        self.done(|link| link.script("COMMIT"))
    }

    fn count(&mut self, table: &Table) -> Result<u64, StoreError> {
        let sql = format!("SELECT count(*) FROM \"{}\"", table.name);
        self.done(|link| link.rows(&sql, &[])?.first().map_or(Ok(0), |r| r.int(0))).map(i64::unsigned_abs)
    }

    fn scan(&mut self, table: &Table, each: EachRow<'_>) -> Result<(), StoreError> {
        let columns: Vec<String> = table
            .columns
            .iter()
            .map(|column| match (table.name, column.name) {
                // Elsewhere a key that is free again is not on record.
                ("machine", "unique_key") => "CASE WHEN state=0 THEN unique_key END".to_owned(),
                (_, name) => format!("\"{name}\""),
            })
            .collect();
        let key = table.columns[..table.key].iter().map(|column| match column.holds {
            ColumnType::Text => format!("\"{}\" COLLATE \"C\"", column.name),
            _ => format!("\"{}\"", column.name),
        });
        let (columns, key) = (columns.join(", "), key.collect::<Vec<_>>().join(", "));
        let sql = format!("SELECT {columns} FROM \"{}\" ORDER BY {key}", table.name);
        self.done(|link| link.each(&sql, &mut |row| Ok(each(fields(table, row)?)?)))
    }

    fn append(&mut self, table: &Table, rows: Vec<Fields>) -> Result<(), StoreError> {
        let columns = (0..table.columns.len()).map(|at| column(table, at, &rows));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let places: Vec<String> = (1..=columns.len()).map(|n| format!("${n}")).collect();
        // Keys are given, also where the server would number the rows itself.
        let sql = format!(
            "INSERT INTO \"{}\" ({}) OVERRIDING SYSTEM VALUE SELECT u.* FROM unnest({}) u",
            table.name,
            table.list(),
            places.join(", ")
        );
        self.done(|link| {
            link.script("BEGIN; SET LOCAL synchronous_commit TO off")?;
            let done = link.finish(&sql, &columns);
            if done.is_err() {
                let _ = link.script("ROLLBACK");
            }
            done.map(drop)
        })
        .map_err(|error| match error {
            StoreError::Refused(why) => {
                StoreError::Refused(format!("PostgreSQL does not take a row of `{}`: {why}", table.name))
            }
            other => other,
        })
    }

    fn numbers(&mut self) -> Result<Vec<i64>, StoreError> {
        self.done(|link| {
            let mut read = |(key, otherwise): &(&str, i64)| {
                let rows = link.rows("SELECT value FROM meta WHERE key=$1", values![*key])?;
                rows.first().map_or(Ok(*otherwise), |r| r.int(0))
            };
            NUMBERS.iter().map(&mut read).collect()
        })
    }

    fn set_numbers(&mut self, numbers: &[i64]) -> Result<(), StoreError> {
        self.done(|link| {
            let set = |((key, _), value): (&(&str, i64), &i64)| link.run(SET_META, values![*key, *value]);
            NUMBERS.iter().zip(numbers).map(set).try_for_each(|set| set.map(drop))
        })
    }

    fn mark(&mut self) -> Result<Option<Mark>, StoreError> {
        let text = self.done(|link| link.rows(MARK, &[])?.first().map_or(Ok(None), |r| r.text_or(0)))?;
        text.as_deref().map(Mark::of).transpose()
    }

    fn set_mark(&mut self, mark: Option<&Mark>) -> Result<(), StoreError> {
        self.done(|link| match mark {
            Some(mark) => link.run(SET_MARK, values![&mark.text()]).map(drop),
            None => link.run("DELETE FROM meta WHERE key='mark'", &[]).map(drop),
        })
    }

    /// Every command begins with a look at `meta`, so whoever has this lock is alone, and the next command sees the mark.
    fn alone(
        &mut self,
        work: &mut dyn FnMut(&mut dyn Tables) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.done(|link| link.script("BEGIN; LOCK TABLE meta IN ACCESS EXCLUSIVE MODE"))?;
        let done = work(self).and_then(|()| self.done(|link| link.script("COMMIT")));
        if done.is_err() {
            let _ = self.link.script("ROLLBACK");
        }
        done
    }

    fn derive(&mut self) -> Result<(), StoreError> {
        self.done(|link| {
            for (table, rows) in DERIVED {
                link.script(&format!("DELETE FROM {table}; INSERT INTO {table} {rows}"))?;
            }
            // What others remember of names is of an empty store.
            link.script("UPDATE meta SET value=value+1 WHERE key='generation'")?;
            for table in TABLES.iter().map(|table| table.name) {
                let numbered = "SELECT column_name::text FROM information_schema.columns
                  WHERE table_schema=current_schema() AND table_name=$1 AND is_identity='YES'";
                for row in link.rows(numbered, values![table])? {
                    let column = row.text(0)?;
                    link.script(&format!(
                        "SELECT setval(pg_get_serial_sequence('\"{table}\"', '{column}'),
                           greatest((SELECT max({column}) FROM \"{table}\"), 1))"
                    ))?;
                }
            }
            Ok(())
        })
    }

    /// The next commit that waits for the disk waits for all before it.
    fn settle(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}

fn fields(table: &Table, row: &Row) -> Done<Fields> {
    let field = |(at, column): (usize, &Column)| -> Done<Field> {
        Ok(match column.holds {
            ColumnType::Int => row.int_or(at)?.map_or(Field::Null, Field::Int),
            ColumnType::Flag => Field::Int(row.flag(at)?.into()),
            ColumnType::Text => row.text_or(at)?.map_or(Field::Null, Field::Text),
            ColumnType::Bytes => Field::Bytes(row.blob(at)?),
        })
    };
    table.columns.iter().enumerate().map(field).collect()
}

/// The values of a column, as a list.
fn column<'a>(table: &Table, at: usize, rows: &'a [Fields]) -> Result<Value<'a>, StoreError> {
    let column = &table.columns[at];
    let wrong = |row: &Fields| {
        let (name, key) = (column.name, &row[..table.key]);
        StoreError::Corrupt(format!(
            "`{}.{name}` of the row {key:?} holds a value of another type",
            table.name
        ))
    };
    let values = rows.iter().map(|row| (row, &row[at]));
    match column.holds {
        ColumnType::Int => values
            .map(|(row, field)| match field {
                Field::Null => Ok(None),
                field => field.int().map(Some).ok_or_else(|| wrong(row)),
            })
            .collect::<Result<Vec<_>, _>>()
            .map(Value::Ints),
        ColumnType::Flag => values
            .map(|(row, field)| field.int().map(|value| value != 0).ok_or_else(|| wrong(row)))
            .collect::<Result<Vec<_>, _>>()
            .map(Value::Flags),
        ColumnType::Text => values
            .map(|(row, field)| match field {
                Field::Null => Ok(None),
                Field::Text(value) if value.contains('\0') => Err(StoreError::Refused(format!(
                    "`{}.{}` of the row {:?} holds a zero byte, which PostgreSQL cannot keep",
                    table.name,
                    column.name,
                    &row[..table.key]
                ))),
                field => field.text().map(Some).ok_or_else(|| wrong(row)),
            })
            .collect::<Result<Vec<_>, _>>()
            .map(Value::Texts),
        ColumnType::Bytes => values
            .map(|(row, field)| match field {
                Field::Bytes(value) => Ok(value.as_slice()),
                _ => Err(wrong(row)),
            })
            .collect::<Result<Vec<_>, _>>()
            .map(Value::Blobs),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ostler_store::{Command, NewMachine, NewNode, Reply, Store as _};

    use super::*;
    use crate::scratch::Scratch;

    /// Columns that are no part of what a store holds.
    const OWN: &[(&str, &str)] = &[("lane", "retired_at")];

    /// Whoever adds a table or a column says here or in `ostler_store::tables` what becomes of it in a copy.
    #[test]
    fn all_tables_and_columns_are_described() {
        let Some(scratch) = Scratch::open("", None).unwrap() else { return };
        let mut tables = PgTables::open(&scratch.schema().address().unwrap()).unwrap();
        let sql =
            "SELECT table_name::text, column_name::text, data_type::text FROM information_schema.columns
          WHERE table_schema=current_schema() AND table_name<>'meta'";
        let found = tables.link.rows(sql, &[]).unwrap();
        let found: BTreeSet<(String, String, String)> = found
            .iter()
            .map(|row| {
                let is = row.text(2).unwrap();
                let is = if is.ends_with("int") || is == "integer" { "integer".to_owned() } else { is };
                (row.text(0).unwrap(), row.text(1).unwrap(), is)
            })
            .filter(|(table, _, _)| DERIVED.iter().all(|(derived, _)| derived != table))
            .filter(|(table, column, _)| OWN.iter().all(|own| *own != (table.as_str(), column.as_str())))
            .collect();
        let described: BTreeSet<_> = TABLES
            .iter()
            .flat_map(|table| {
                table.columns.iter().map(|column| {
                    let is = match column.holds {
                        ColumnType::Int => "integer",
                        ColumnType::Flag => "boolean",
                        ColumnType::Text => "text",
                        ColumnType::Bytes => "bytea",
                    };
                    (table.name.to_owned(), column.name.to_owned(), is.to_owned())
                })
            })
            .collect();
        assert_eq!(found, described);
    }

    #[test]
    fn commands_of_whoever_has_opened_it_before_are_refused_from_the_mark_on() {
        let Some(mut store) = Scratch::open("", None).unwrap() else { return };
        let address = store.schema().address().unwrap();
        let register =
            || [Command::Register(NewNode { name: "me".into(), owner: true, ..NewNode::default() })];
        assert!(matches!(store.apply(0, &register())[0], Ok(Reply::Node(_))));
        let mut tables = PgTables::open(&address).unwrap();
        let mut set = |mark: Option<Mark>| tables.alone(&mut |t| t.set_mark(mark.as_ref())).unwrap();
        set(Some(Mark::MovingTo("elsewhere".into())));
        let refused = store.apply(0, &register()).remove(0).unwrap_err().to_string();
        assert!(refused.contains(store.schema().name()) && refused.contains("elsewhere"), "{refused}");
        assert!(refused.contains("ostler db unmark"), "{refused}");
        assert!(store.queries().unwrap().nodes().is_ok(), "it may be looked at");
        set(None);
        assert!(matches!(store.apply(0, &register())[0], Ok(Reply::Node(_))));
        set(Some(Mark::CopyOf("elsewhere".into())));
        let refused = crate::PgStore::open(&address).err().unwrap().to_string();
        assert!(refused.contains("not complete"), "{refused}");
        assert!(crate::check(&address).is_err());
    }

    #[test]
    fn a_value_that_postgres_cannot_keep_is_named() {
        let Some(scratch) = Scratch::open("", None).unwrap() else { return };
        let mut tables = PgTables::open(&scratch.schema().address().unwrap()).unwrap();
        let labels = TABLES.iter().find(|table| table.name == "label_set").unwrap();
        let refused = tables.append(labels, vec![vec![Field::Int(7), Field::Text("a\0b".into())]]);
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("label_set.labels") && refused.contains("Int(7)"), "{refused}");
        let refused = tables.append(labels, vec![vec![Field::Int(1 << 40), Field::Text("a".into())]]);
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("label_set") && refused.contains("out of range"), "{refused}");
        assert_eq!(tables.count(labels).unwrap(), 0);
        tables.append(labels, vec![vec![Field::Int(7), Field::Text("a b".into())]]).unwrap();
        tables.alone(&mut |t| t.derive()).unwrap();
        scratch.schema().script("INSERT INTO label_set (labels) VALUES ('c')").unwrap();
        let mut found = Vec::new();
        tables
            .scan(labels, &mut |row| {
                found.push(row[0].int());
                Ok(())
            })
            .unwrap();
        assert_eq!(found, [Some(7), Some(8)], "numbers go on behind those that were copied");
    }

    /// As it comes from a server that had counted further, with all of its events pruned since.
    #[test]
    fn events_are_numbered_behind_those_that_are_gone() {
        let Some(store) = Scratch::open("", None).unwrap() else { return };
        let first = 1 << 55;
        let address = store.schema().address().unwrap();
        let mut tables = PgTables::open(&address).unwrap();
        let place = NUMBERS.iter().position(|(key, _)| *key == "first_event").unwrap();
        let mut numbers = tables.numbers().unwrap();
        numbers[place] = first;
        tables.alone(&mut |t| t.set_numbers(&numbers)).unwrap();
        assert_eq!(tables.numbers().unwrap(), numbers);
        let start =
            Command::Start(vec![NewMachine { kind: 1, namespace: "n".into(), ..NewMachine::default() }]);
        let mut again = crate::PgStore::open(&address).unwrap();
        assert!(again.apply(0, &[start])[0].is_ok());
        let mut seqs = Vec::new();
        let events = TABLES.iter().find(|table| table.name == "event").unwrap();
        tables
            .scan(events, &mut |row| {
                seqs.push(row[0].int());
                Ok(())
            })
            .unwrap();
        assert!(matches!(seqs[..], [Some(seq)] if seq >= first), "{seqs:?}");
    }
}

//! A connection and its statements. Connections are driven by one thread of the process; whoever asks something blocks
//! until the answer is there, which needs no runtime of its own.

use std::{collections::HashMap, pin::pin, sync::OnceLock, time::Duration};

use bytes::Bytes;
use futures::{SinkExt, TryStreamExt, executor::block_on, future::try_join_all};
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{
    Client, NoTls, Row, Statement,
    types::{ToSql, Type},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{
    copy::{MANY, Table},
    trouble::{Done, Trouble},
    url::Address,
    value::{Columns, Value, values},
};

/// A statement that takes longer is given up, with its transaction: it holds rows that others wait for.
const LONGEST: Duration = Duration::from_secs(60);

/// How long a statement waits for a row that another transaction holds.
const PATIENCE: Duration = Duration::from_secs(10);

/// A transaction whose next statement does not come for so long is ended by the server.
const IDLE: Duration = Duration::from_secs(3);

/// What statements count on: set for the connection, or in each transaction where a pooler hands connections around.
///
/// Every statement is made for an index that it walks along, from rows that it is given. Statistics would tell nothing
/// better: the hot tables are empty at one moment and full at the next, and a plan that reads all of a table because it
/// was empty when it was last looked at is what queues die of. So rows of the queue are always asked for by their keys
/// (`= ANY`), and ways that read whole tables are only taken where there
/// is no other (`plans.rs` holds them to it).
fn settings(address: &Address) -> impl Iterator<Item = (&'static str, String)> + '_ {
    let off = ["enable_seqscan", "enable_bitmapscan", "enable_mergejoin", "enable_sort", "jit"];
    // Two statements of one transaction are never far apart, unless this process is stopped: then the rows that it has in
    // hand are let go, since others are to take over.
    let others = [
        ("idle_in_transaction_session_timeout", IDLE.as_millis().to_string()),
        ("search_path", address.schema.clone()),
        ("statement_timeout", LONGEST.as_millis().to_string()),
        ("lock_timeout", PATIENCE.as_millis().to_string()),
        // A walk of a hundred rows must not start processes; at ten million rows it would.
        ("max_parallel_workers_per_gather", "0".to_owned()),
    ];
    off.map(|name| (name, "off".to_owned())).into_iter().chain(others)
}

/// The thread that drives all connections of the process.
pub(crate) fn driver() -> Done<&'static Runtime> {
    static DRIVER: OnceLock<Option<Runtime>> = OnceLock::new();
    let made = DRIVER.get_or_init(|| {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1).thread_name("ostler-postgres").enable_all().build().ok()
    });
    made.as_ref().ok_or_else(|| Trouble::Gone("no thread for connections to PostgreSQL".into()))
}

/// A connection with the statements that were prepared on it.
pub(crate) struct Link {
    client: Client,
    prepared: HashMap<String, Statement>,
    /// Statements are prepared on the server.
    prepare: bool,
    begin: [String; 4],
}

/// How a transaction is to see the store.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Each statement sees what was committed before it; may write.
    Write,
    /// The same, and will write events: says so before it is given a number, for `read/history.rs`.
    Events,
    /// All statements see one state.
    Snapshot,
    /// As the first, and the commit waits for no disk: a crash of the server may take the last moment of it.
    Relaxed,
}

impl Link {
    pub(crate) fn open(address: &Address) -> Done<Self> {
        let driver = driver()?;
        let client = block_on(async {
            // Names are looked up and sockets opened by the driver's reactor.
            let _context = driver.enter();
            let mut config = address.config.clone();
            if !address.pooled {
                let own = settings(address).map(|(name, value)| format!("-c {name}={value}"));
                let given = config.get_options().map(str::to_owned);
                config.options(given.into_iter().chain(own).collect::<Vec<_>>().join(" "));
            }
            match &address.tls {
                None => {
                    let (client, connection) = config.connect(NoTls).await?;
                    driver.spawn(connection);
                    Ok::<_, tokio_postgres::Error>(client)
                }
                Some(tls) => {
                    let (client, connection) =
                        config.connect(MakeRustlsConnect::new((**tls).clone())).await?;
                    driver.spawn(connection);
                    Ok(client)
                }
            }
        })?;
        let [write, snapshot] = ["READ COMMITTED", "REPEATABLE READ READ ONLY"].map(|level| {
            let begin = format!("BEGIN ISOLATION LEVEL {level}");
            match address.pooled {
                false => begin,
                true => settings(address)
                    .fold(begin, |sql, (name, value)| format!("{sql}; SET LOCAL {name} TO {value}")),
            }
        });
        let events = format!("{write}; LOCK TABLE event IN ROW EXCLUSIVE MODE");
        let relaxed = format!("{write}; SET LOCAL synchronous_commit TO off");
        Ok(Self {
            client,
            prepared: HashMap::new(),
            prepare: !address.pooled,
            begin: [write, events, snapshot, relaxed],
        })
    }

    pub(crate) fn is_open(&self) -> bool {
        !self.client.is_closed()
    }

    /// Runs statements of our own making, without values.
    pub(crate) fn script(&self, sql: &str) -> Done<()> {
        Ok(block_on(self.client.batch_execute(sql))?)
    }

    /// Begins a transaction and asks its first question in the same message.
    pub(crate) fn begin(&mut self, mode: Mode, first: Option<(&str, &[Value<'_>])>) -> Done<Vec<Row>> {
        let begin = &self.begin[mode as usize];
        let Some((sql, values)) = first else {
            block_on(self.client.batch_execute(begin))?;
            return Ok(Vec::new());
        };
        if self.prepare && !self.prepared.contains_key(sql) {
            // It can only be prepared where the tables can be seen.
            block_on(self.client.batch_execute(begin))?;
            return self.rows(sql, values);
        }
        let (began, rows) =
            block_on(async { futures::join!(self.client.batch_execute(begin), self.ask(sql, values)) });
        began?;
        rows
    }

    /// All rows of a query.
    pub(crate) fn rows(&mut self, sql: &str, values: &[Value<'_>]) -> Done<Vec<Row>> {
        self.prepare(sql, values)?;
        block_on(self.ask(sql, values))
    }

    /// All rows of a query that is asked once.
    #[cfg(test)]
    pub(crate) fn unprepared(&mut self, sql: &str) -> Done<Vec<Row>> {
        Ok(block_on(self.client.query_typed(sql, &[]))?)
    }

    /// Gives the rows of a query one by one, as the server sends them: they may be more than memory holds.
    pub(crate) fn each(&self, sql: &str, row: &mut dyn FnMut(&Row) -> Done<()>) -> Done<()> {
        let none: [(i64, Type); 0] = [];
        let mut rows = pin!(block_on(self.client.query_typed_raw(sql, none))?);
        while let Some(next) = block_on(rows.try_next())? {
            row(&next)?;
        }
        Ok(())
    }

    /// The rows of two queries with the same values, the second asked behind the first in one message.
    pub(crate) fn two(&mut self, first: &str, second: &str, values: &[Value<'_>]) -> Done<[Vec<Row>; 2]> {
        self.prepare(first, values)?;
        self.prepare(second, values)?;
        let (first, second) =
            block_on(async { futures::join!(self.ask(first, values), self.ask(second, values)) });
        Ok([first?, second?])
    }

    /// The rows of statements one behind the other in one message.
    pub(crate) fn rows_all(&mut self, statements: &[(&str, &[Value<'_>])]) -> Done<Vec<Vec<Row>>> {
        for (sql, values) in statements {
            self.prepare(sql, values)?;
        }
        block_on(try_join_all(statements.iter().map(|(sql, values)| self.ask(sql, values))))
    }

    /// Runs a statement; gives the number of rows it changed.
    pub(crate) fn run(&mut self, sql: &str, values: &[Value<'_>]) -> Done<u64> {
        self.prepare(sql, values)?;
        block_on(self.tell(sql, values))
    }

    /// Runs statements one behind the other in one message, so that the way there and back is paid once.
    pub(crate) fn run_all(&mut self, statements: &[(&str, &[Value<'_>])]) -> Done<Vec<u64>> {
        for (sql, values) in statements {
            self.prepare(sql, values)?;
        }
        block_on(try_join_all(statements.iter().map(|(sql, values)| self.tell(sql, values))))
    }

    /// The same, with a last one whose rows are wanted.
    pub(crate) fn run_all_then(
        &mut self,
        statements: &[(&str, &[Value<'_>])],
        (sql, values): (&str, &[Value<'_>]),
    ) -> Done<(Vec<u64>, Vec<Row>)> {
        for (sql, values) in statements.iter().copied().chain([(sql, values)]) {
            self.prepare(sql, values)?;
        }
        let others = try_join_all(statements.iter().map(|(sql, values)| self.tell(sql, values)));
        let (done, rows) = block_on(async { futures::join!(others, self.ask(sql, values)) });
        Ok((done?, rows?))
    }

    /// Whether so many rows are better copied.
    pub(crate) fn copies(&self, rows: usize) -> bool {
        self.prepare && rows >= MANY
    }

    /// Adds rows by COPY.
    pub(crate) fn copy(&mut self, table: &Table, columns: &[Value<'_>]) -> Done<()> {
        let rows = table.encode(columns)?;
        self.prepare(table.copy, &[])?;
        let Some(statement) = self.prepared.get(table.copy) else {
            return Err(Trouble::Gone("nothing is prepared on this connection".into()));
        };
        block_on(async {
            let mut sink = pin!(self.client.copy_in::<_, Bytes>(statement).await?);
            sink.send(rows).await?;
            sink.finish().await?;
            Ok(())
        })
    }

    /// Runs the last statement of a transaction and commits in the same message; gives the number of rows it changed.
    pub(crate) fn finish(&mut self, sql: &str, values: &[Value<'_>]) -> Done<u64> {
        self.prepare(sql, values)?;
        let (changed, committed) =
            block_on(async { futures::join!(self.tell(sql, values), self.client.batch_execute("COMMIT")) });
        let changed = changed?;
        committed?;
        Ok(changed)
    }

    /// What became of a transaction whose commit was not answered: whether it was written, `None` while it goes on.
    pub(crate) fn fate(&mut self, transaction: i64) -> Done<Option<bool>> {
        let sql = "SELECT pg_xact_status($1::text::xid8)";
        let rows = match self.rows(sql, values![&transaction.to_string()]) {
            // The server has crashed since, and gives the number once more.
            Err(Trouble::Poisoned(_)) => return Ok(Some(false)),
            asked => asked?,
        };
        let status = rows.first().map_or(Ok(None), |r| r.text_or(0))?;
        Ok(match status.as_deref() {
            Some("committed") => Some(true),
            Some("in progress") => None,
            _ => Some(false),
        })
    }

    fn prepare(&mut self, sql: &str, values: &[Value<'_>]) -> Done<()> {
        if self.prepare && !self.prepared.contains_key(sql) {
            let types: Vec<Type> = values.iter().map(|v| v.typed().1).collect();
            let statement = block_on(self.client.prepare_typed(sql, &types))?;
            self.prepared.insert(sql.to_owned(), statement);
        }
        Ok(())
    }

    async fn ask(&self, sql: &str, values: &[Value<'_>]) -> Done<Vec<Row>> {
        let typed: Vec<_> = values.iter().map(Value::typed).collect();
        match self.prepared.get(sql) {
            Some(statement) => {
                let values: Vec<&(dyn ToSql + Sync)> = typed.iter().map(|(v, _)| *v).collect();
                Ok(self.client.query(statement, &values).await?)
            }
            None => Ok(self.client.query_typed(sql, &typed).await?),
        }
    }

    async fn tell(&self, sql: &str, values: &[Value<'_>]) -> Done<u64> {
        let typed: Vec<_> = values.iter().map(Value::typed).collect();
        match self.prepared.get(sql) {
            Some(statement) => {
                let values: Vec<&(dyn ToSql + Sync)> = typed.iter().map(|(v, _)| *v).collect();
                Ok(self.client.execute(statement, &values).await?)
            }
            None => Ok(self.client.execute_typed(sql, &typed).await?),
        }
    }
}

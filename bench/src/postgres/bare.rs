//! The limit: a bare program with SKIP LOCKED and batches of a thousand, over one connection.

use std::time::{Duration, Instant};

use ostler_store_postgres::scratch::Schema;
use ostler_test_servers::POSTGRES;
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls, Statement};

/// Jobs in one transaction.
const BATCH: i64 = 1000;

/// What it writes for a job.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rows {
    /// As many rows and index entries as Ostler: a run, a place in the queue and an event when it is queued; the place
    /// again when it is claimed; run, place and event when it ends. Eight index entries.
    Same,
    /// The least that a queue can do: one row, which goes when the job has ended, and four index entries. No history.
    Least,
}

impl Rows {
    pub(crate) const ALL: [Self; 2] = [Self::Same, Self::Least];

    /// Its peer's name in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Same => "bare",
            Self::Least => "bare-least",
        }
    }

    fn tables(self) -> &'static str {
        match self {
            Self::Same => {
                "CREATE TABLE run (id BIGINT PRIMARY KEY, started BIGINT, finished BIGINT, task INT, state SMALLINT,
                   step INT, fields TEXT) WITH (fillfactor=40);
                 CREATE INDEX run_task ON run (task, id);
                 CREATE TABLE queue (run BIGINT PRIMARY KEY, due BIGINT, fence BIGINT, lane INT, node INT, phase SMALLINT)
                   WITH (fillfactor=70, autovacuum_vacuum_scale_factor=0, autovacuum_vacuum_threshold=5000,
                     autovacuum_vacuum_cost_delay=0);
                 CREATE INDEX queue_ready ON queue (lane, due, run) WHERE phase=1;
                 CREATE INDEX queue_claimed ON queue (node) WHERE phase=2;
                 CREATE TABLE event (seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at BIGINT, run BIGINT,
                   step INT, kind TEXT, body TEXT);
                 CREATE SEQUENCE ids"
            }
            Self::Least => {
                "CREATE TABLE queue (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, due BIGINT NOT NULL,
                   state SMALLINT NOT NULL DEFAULT 0, payload TEXT NOT NULL)
                   WITH (fillfactor=70, autovacuum_vacuum_scale_factor=0, autovacuum_vacuum_threshold=5000,
                     autovacuum_vacuum_cost_delay=0);
                 CREATE INDEX queue_ready ON queue (due, id) WHERE state=0"
            }
        }
    }

    fn enqueue(self) -> &'static str {
        match self {
            Self::Same => {
                "WITH r AS (INSERT INTO run SELECT nextval('ids'), NULL, NULL, 1, 0, 1, f FROM unnest($1::text[]) f
                   RETURNING id),
                 q AS (INSERT INTO queue SELECT id, id, 0, 1, NULL, 1 FROM r)
                 INSERT INTO event (at, run, step, kind, body) SELECT id, id, 1, 'created', '' FROM r"
            }
            Self::Least => "INSERT INTO queue (due, payload) SELECT 0, f FROM unnest($1::text[]) f",
        }
    }

    fn claim(self) -> &'static str {
        match self {
            Self::Same => {
                "WITH p AS MATERIALIZED (SELECT run FROM queue WHERE phase=1 AND lane=1 ORDER BY due, run LIMIT $1
                   FOR UPDATE SKIP LOCKED),
                 m AS (UPDATE queue SET phase=2, node=1, fence=fence+1 WHERE run=ANY(ARRAY(SELECT run FROM p))
                   RETURNING run)
                 SELECT id, fields FROM run WHERE id=ANY(ARRAY(SELECT run FROM m))"
            }
            Self::Least => {
                "WITH p AS MATERIALIZED (SELECT id FROM queue WHERE state=0 ORDER BY due, id LIMIT $1
                   FOR UPDATE SKIP LOCKED)
                 UPDATE queue SET state=1 WHERE id=ANY(ARRAY(SELECT id FROM p)) RETURNING id, payload"
            }
        }
    }

    /// `$1` the jobs, `$2` what is kept of each.
    fn end(self) -> &'static str {
        match self {
            Self::Same => {
                "WITH g AS (DELETE FROM queue WHERE run=ANY($1) AND fence=1 RETURNING run),
                 e AS (INSERT INTO event (at, run, step, kind, body) SELECT run, run, 2, 'succeeded', '' FROM g)
                 UPDATE run r SET state=10, step=2, started=u.id, finished=u.id, fields=u.fields
                 FROM unnest($1, $2::text[]) u(id, fields) WHERE r.id=u.id AND r.id=ANY($1)"
            }
            Self::Least => "DELETE FROM queue WHERE id=ANY($1) AND state=1 AND $2::text[] IS NOT NULL",
        }
    }
}

/// One connection of it.
pub(crate) struct Bare {
    runtime: Runtime,
    client: Client,
    enqueue: Statement,
    claim: Statement,
    end: Statement,
}

impl Bare {
    /// Makes the tables, in a schema that is there.
    pub(crate) fn make(schema: &Schema, rows: Rows) -> Self {
        schema
            .script(&format!("CREATE SCHEMA {0}; SET search_path TO {0}; {1}", schema.name(), rows.tables()))
            .unwrap();
        Self::open(schema.name(), rows)
    }

    /// Opens what was made. Its tables are empty at one moment and full at the next, so plans go by indexes, as those of
    /// Ostler do.
    pub(crate) fn open(schema: &str, rows: Rows) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (client, [enqueue, claim, end]) = runtime.block_on(async {
            let (client, connection) =
                tokio_postgres::connect(&POSTGRES.url().unwrap(), NoTls).await.unwrap();
            tokio::spawn(connection);
            let off =
                "SET enable_seqscan=off; SET enable_bitmapscan=off; SET enable_mergejoin=off; SET jit=off;
                SET enable_nestloop=off";
            client.batch_execute(&format!("SET search_path TO {schema}; {off}")).await.unwrap();
            let mut prepared = Vec::new();
            for sql in [rows.enqueue(), rows.claim(), rows.end()] {
                prepared.push(client.prepare(sql).await.unwrap());
            }
            (client, <[Statement; 3]>::try_from(prepared).unwrap())
        });
        Self { runtime, client, enqueue, claim, end }
    }

    pub(crate) fn enqueue(&self, count: usize) {
        for _ in 0..count as i64 / BATCH {
            self.queue(BATCH);
        }
    }

    fn queue(&self, count: i64) {
        let batch = vec![r#"{"cause":{"by":"actor","actor":"cli:bench"}}"#; count as usize];
        self.runtime.block_on(self.client.execute(&self.enqueue, &[&batch])).unwrap();
    }

    /// Claims a batch and ends it, in two transactions; gives how many there were.
    pub(crate) fn work(&self) -> usize {
        let ids = self.take(BATCH);
        if !ids.is_empty() {
            let fields = vec![r#"{"cause":{"by":"actor","actor":"cli:bench"},"attempts":1}"#; ids.len()];
            self.runtime.block_on(self.client.execute(&self.end, &[&ids, &fields])).unwrap();
        }
        ids.len()
    }

    fn take(&self, count: i64) -> Vec<i64> {
        let rows = self.runtime.block_on(self.client.query(&self.claim, &[&count])).unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Seconds from the call that queues one job to the moment it could begin: a transaction that queues, one that
    /// claims, with nobody to be woken.
    pub(crate) fn start_latencies(&self, count: usize, pause: Duration) -> Vec<f64> {
        let one = || {
            std::thread::sleep(pause);
            let begin = Instant::now();
            self.queue(1);
            assert_eq!(self.take(1).len(), 1);
            begin.elapsed().as_secs_f64()
        };
        (0..count).map(|_| one()).collect()
    }
}

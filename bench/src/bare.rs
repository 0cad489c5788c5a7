//! The bare limit: the same rows by hand, flushes, processes.

use std::{
    io::{Seek, Write},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rusqlite::{Connection, params};

/// Runs in one transaction.
const BATCH: usize = 1000;

/// A bare SQLite program that writes as many rows and index entries for a run as Ostler does: seven rows, three entries
/// of secondary indexes.
pub(crate) struct Bare {
    connection: Connection,
    next: i64,
}

impl Bare {
    pub(crate) fn open(path: &Path) -> Self {
        let connection = Connection::open(path).unwrap();
        connection
            .execute_batch(
                "PRAGMA page_size=8192; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cache_size=-32768;
                 CREATE TABLE run (id INTEGER PRIMARY KEY, task INT, state INT, step INT, started INT, finished INT, fields TEXT) STRICT;
                 CREATE INDEX run_task ON run (task, id);
                 CREATE TABLE queue (run INTEGER PRIMARY KEY, lane INT, due INT, phase INT, node INT, fence INT) STRICT;
                 CREATE INDEX queue_ready ON queue (lane, due, run) WHERE phase=1;
                 CREATE INDEX queue_claimed ON queue (node) WHERE phase=2;
                 CREATE TABLE event (seq INTEGER PRIMARY KEY AUTOINCREMENT, at INT, run INT, step INT, kind TEXT, body TEXT) STRICT;",
            )
            .unwrap();
        Self { connection, next: 1 << 40 }
    }

    pub(crate) fn enqueue(&mut self, count: usize) {
        for _ in 0..count / BATCH {
            self.queue(BATCH);
        }
    }

    pub(crate) fn drain(&mut self, count: usize) {
        for _ in 0..count / BATCH {
            let rows = self.claim(BATCH);
            self.end(&rows);
        }
    }

    /// Seconds from the call that queues one run to the moment it could begin: a transaction that queues, one that
    /// claims.
    pub(crate) fn start_latencies(&mut self, count: usize, pause: Duration) -> Vec<f64> {
        (0..count)
            .map(|_| {
                std::thread::sleep(pause);
                let begin = Instant::now();
                self.queue(1);
                let rows = self.claim(1);
                let took = begin.elapsed().as_secs_f64();
                self.end(&rows);
                took
            })
            .collect()
    }

    /// So many runs, in one transaction.
    fn queue(&mut self, count: usize) {
        let fields = r#"{"cause":{"by":"actor","actor":"cli:bench"}}"#;
        let tx = self.connection.transaction().unwrap();
        {
            let mut run = tx.prepare_cached("INSERT INTO run VALUES (?1, 1, 0, 1, NULL, NULL, ?2)").unwrap();
            let mut event = tx
                .prepare_cached(
                    "INSERT INTO event (at, run, step, kind, body) VALUES (?1, ?2, 1, 'created', '')",
                )
                .unwrap();
            let mut queue = tx.prepare_cached("INSERT INTO queue VALUES (?1, 1, ?2, 1, NULL, 0)").unwrap();
            for _ in 0..count {
                self.next += 1;
                event.execute(params![self.next, self.next]).unwrap();
                run.execute(params![self.next, fields]).unwrap();
                queue.execute(params![self.next, self.next]).unwrap();
            }
        }
        tx.commit().unwrap();
    }

    /// Up to so many runs that are ready, with their fields, in one transaction.
    fn claim(&mut self, most: usize) -> Vec<(i64, String)> {
        let tx = self.connection.transaction().unwrap();
        let rows: Vec<(i64, String)> = {
            let mut ready = tx
                .prepare_cached(
                    "SELECT q.run, r.fields FROM queue q JOIN run r ON r.id=q.run WHERE q.phase=1 AND q.lane=1 ORDER BY q.due, q.run LIMIT ?1",
                )
                .unwrap();
            let rows = ready.query_map([most as i64], |r| Ok((r.get(0)?, r.get(1)?))).unwrap();
            rows.map(Result::unwrap).collect()
        };
        {
            let mut claim =
                tx.prepare_cached("UPDATE queue SET phase=2, node=1, fence=fence+1 WHERE run=?1").unwrap();
            for (run, _) in &rows {
                claim.execute([run]).unwrap();
            }
        }
        tx.commit().unwrap();
        rows
    }

    /// The ends of these runs, in one transaction.
    fn end(&mut self, rows: &[(i64, String)]) {
        let fields = r#"{"cause":{"by":"actor","actor":"cli:bench"},"attempts":1}"#;
        let tx = self.connection.transaction().unwrap();
        {
            let mut end = tx
                .prepare_cached("UPDATE run SET state=10, step=2, started=?2, finished=?2, fields=?3 WHERE id=?1 AND step=1")
                .unwrap();
            let mut gone = tx.prepare_cached("DELETE FROM queue WHERE run=?1 AND fence=1").unwrap();
            let mut event = tx
                .prepare_cached(
                    "INSERT INTO event (at, run, step, kind, body) VALUES (?1, ?1, 2, 'succeeded', '')",
                )
                .unwrap();
            for (run, _) in rows {
                event.execute([run]).unwrap();
                end.execute(params![run, run, fields]).unwrap();
                gone.execute([run]).unwrap();
            }
        }
        tx.commit().unwrap();
    }
}

/// Times of single flushes of 4 KiB, appended.
pub(crate) fn flushes(path: &Path, count: usize) -> Vec<f64> {
    let mut file = std::fs::File::create(path).unwrap();
    let page = [7u8; 4096];
    (0..count)
        .map(|i| {
            if i % 256 == 0 {
                file.rewind().unwrap();
            }
            let begin = Instant::now();
            file.write_all(&page).unwrap();
            file.sync_data().unwrap();
            begin.elapsed().as_secs_f64()
        })
        .collect()
}

/// `sh -c true`, one after the other, with pipes read to their end as a recorder must.
pub(crate) fn shells(count: usize) {
    for _ in 0..count {
        ended(shell());
    }
}

/// `sh -c true`, all of them begun before the first is waited for.
pub(crate) fn shells_at_once(count: usize) {
    let children: Vec<Child> = (0..count).map(|_| shell()).collect();
    children.into_iter().for_each(ended);
}

fn shell() -> Child {
    let mut command = Command::new("sh");
    command.args(["-c", "true"]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn ended(child: Child) {
    assert!(child.wait_with_output().unwrap().status.success());
}

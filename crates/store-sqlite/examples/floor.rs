//! What the store costs above the floor: a bare program that writes the same rows with the same indexes.
//!
//! ```text
//! cargo run --release -p ostler-store-sqlite --example floor [RUNS] [FOLDER] [HISTORY]
//! ```
//!
//! With HISTORY the store alone is measured too, beside a store that holds so many ended runs.
//!
//! Both write to a file with `synchronous=FULL`, a thousand runs in a transaction. A run that does nothing is 7 row
//! writes: machine, event and tick; the tick again (claimed); machine and event again, and the tick goes.

use std::{error::Error, path::Path, time::Duration};

use ostler_clock::{Clock, SystemClock};
use ostler_store::{
    Claim, Claimed, Command, Commit, CommitOutcome, EventBody, NewMachine, NewNode, Next, NodeId, Reply,
    Store,
};
use ostler_store_sqlite::{OpenOptions, SqliteStore};
use rusqlite::{Connection, params};

const BATCH: usize = 1000;
const ROUNDS: usize = 5;
const FIELDS: &str =
    r#"{"inputs":{"path":"/srv/in/2026-11-20.csv","limit":100},"cause":{"by":"actor","actor":"cli:me"}}"#;
const ENDED: &str = r#"{"seconds":0.000012,"attempt":1}"#;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let runs = arguments.next().map_or(Ok(50_000), |n| n.parse())?;
    let folder = arguments
        .next()
        .map_or_else(std::env::temp_dir, Into::into)
        .join(format!("floor-{}", std::process::id()));
    let history: usize = arguments.next().map_or(Ok(0), |n| n.parse())?;
    std::fs::create_dir_all(&folder)?;
    if history > 0 {
        for history in [0, history] {
            let [enqueue, drain] = store(&folder.join(format!("history-{history}.db")), runs, 1, history)?;
            println!("with {history} ended runs: enqueue {enqueue:?}, drain {drain:?} for {runs}");
        }
    }
    let mut best = [[f64::MAX; 2]; 3];
    for round in 0..ROUNDS {
        let measured = [
            bare(&folder.join(format!("bare-{round}.db")), runs)?,
            store(&folder.join(format!("store-{round}.db")), runs, BATCH, 0)?,
            store(&folder.join(format!("single-{round}.db")), runs, 1, 0)?,
        ];
        for (best, measured) in best.iter_mut().zip(measured) {
            for (best, measured) in best.iter_mut().zip(measured) {
                *best = best.min(measured.as_secs_f64());
            }
        }
    }
    let [mut made, mut opened] = [Duration::MAX; 2];
    for n in 0..20 {
        let path = folder.join(format!("open-{n}.db"));
        for least in [&mut made, &mut opened] {
            let took = timed(|| {
                SqliteStore::open(&path, &OpenOptions::default())?;
                Ok(())
            })?;
            *least = took.min(*least);
        }
    }
    std::fs::remove_dir_all(&folder)?;
    println!("a store is made in {made:?} and opened in {opened:?}");
    println!("{runs} runs, best of {ROUNDS}, runs a second (and share of the bare program):");
    for (name, [enqueue, drain]) in
        ["bare program", "store, one command", "store, single commands"].iter().zip(best)
    {
        println!(
            "{name:24} enqueue {:>8.0} ({:>3.0} %)   drain {:>8.0} ({:>3.0} %)",
            runs as f64 / enqueue,
            100.0 * best[0][0] / enqueue,
            runs as f64 / drain,
            100.0 * best[0][1] / drain,
        );
    }
    Ok(())
}

fn timed(work: impl FnOnce() -> Outcome<()>) -> Outcome<Duration> {
    let clock = SystemClock;
    let start = clock.now();
    work()?;
    Ok(Duration::try_from(clock.now().duration_since(start))?)
}

fn bare(path: &Path, runs: usize) -> Outcome<[Duration; 2]> {
    let sql = Connection::open(path)?;
    sql.execute_batch(
        "PRAGMA page_size=4096; PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;
         PRAGMA cache_size=-32768;
         CREATE TABLE machine (id INTEGER PRIMARY KEY, kind INT, ns INT, task INT, definition INT, state INT, step INT,
           started_at INT, finished_at INT, last_event INT, fields TEXT);
         CREATE INDEX machine_task ON machine (task, id);
         CREATE TABLE tick (machine INTEGER PRIMARY KEY, lane INT, priority INT, due_at INT, phase INT, node INT, fence INT);
         CREATE INDEX tick_later ON tick (due_at) WHERE phase=0;
         CREATE INDEX tick_ready ON tick (lane, priority, due_at, machine) WHERE phase=1;
         CREATE INDEX tick_claimed ON tick (node) WHERE phase=2;
         CREATE TABLE event (seq INTEGER PRIMARY KEY, at INT, machine INT, step INT, prev INT, kind TEXT, body TEXT);",
    )?;
    let mut id = 1_795_000_000_000_i64 << 20;
    let mut seq = 0;
    let enqueue = timed(|| {
        let mut machine =
            sql.prepare("INSERT INTO machine VALUES (?1, 1, 1, 1, 1, 0, 1, NULL, NULL, ?2, ?3)")?;
        let mut tick = sql.prepare("INSERT INTO tick VALUES (?1, 1, 1, ?2, 1, NULL, 0)")?;
        let mut event = sql.prepare("INSERT INTO event VALUES (?1, ?2, ?3, 1, 0, 'created', '')")?;
        for batch in 0..runs / BATCH {
            sql.execute_batch("BEGIN IMMEDIATE")?;
            for _ in 0..BATCH {
                id += 1;
                seq += 1;
                event.execute(params![seq, batch as i64, id])?;
                machine.execute(params![id, seq, FIELDS])?;
                tick.execute(params![id, batch as i64])?;
            }
            sql.execute_batch("COMMIT")?;
        }
        Ok(())
    })?;
    let drain = timed(|| {
        let mut claim = sql.prepare(
            "UPDATE tick SET phase=2, node=1, fence=fence+1 WHERE machine IN
               (SELECT machine FROM tick WHERE phase=1 AND lane=1 ORDER BY priority, due_at, machine LIMIT ?1)
             RETURNING machine, (SELECT fields FROM machine m WHERE m.id=tick.machine)",
        )?;
        let mut ended = sql.prepare(
            "UPDATE machine SET state=10, step=2, started_at=1, finished_at=2, last_event=?2 WHERE id=?1",
        )?;
        let mut event = sql.prepare("INSERT INTO event VALUES (?1, 1, ?2, 2, 1, 'succeeded', ?3)")?;
        let mut gone = sql.prepare("DELETE FROM tick WHERE machine=?1 AND node=1 AND fence=1 AND phase=2")?;
        loop {
            sql.execute_batch("BEGIN IMMEDIATE")?;
            let rows: Vec<(i64, String)> =
                claim.query_map([BATCH as i64], |r| Ok((r.get(0)?, r.get(1)?)))?.collect::<Result<_, _>>()?;
            sql.execute_batch("COMMIT")?;
            if rows.is_empty() {
                return Ok(());
            }
            sql.execute_batch("BEGIN IMMEDIATE")?;
            for (id, _) in rows {
                seq += 1;
                event.execute(params![seq, id, ENDED])?;
                ended.execute([id, seq])?;
                gone.execute([id])?;
            }
            sql.execute_batch("COMMIT")?;
        }
    })?;
    Ok([enqueue, drain])
}

/// The same through the store, so many runs a command, beside so many that have ended.
fn store(path: &Path, runs: usize, each: usize, history: usize) -> Outcome<[Duration; 2]> {
    let mut store = SqliteStore::open(path, &OpenOptions::default())?;
    let now = 1_795_000_000_000_000;
    let Some(Ok(Reply::Node(node))) = store
        .apply(now, &[Command::Register(NewNode { name: "floor".into(), owner: true, ..NewNode::default() })])
        .pop()
    else {
        return Err("no node".into());
    };
    let new = NewMachine {
        kind: 1,
        namespace: "default".into(),
        task: 1,
        definition: 1,
        fields: FIELDS.into(),
        priority: 1,
        due_at: now,
        event: EventBody { kind: "created".into(), body: String::new() },
        ..NewMachine::default()
    };
    let ended = Command::Start(vec![NewMachine { state: 10, ..new.clone() }; BATCH]);
    for _ in 0..history / BATCH {
        store.apply(now, std::slice::from_ref(&ended)).remove(0)?;
    }
    let starts: Vec<Command> = vec![Command::Start(vec![new; each]); BATCH / each];
    let enqueue = timed(|| {
        for batch in 0..runs / BATCH {
            for reply in store.apply(now + batch as i64, &starts) {
                reply?;
            }
        }
        Ok(())
    })?;
    let claim = [Command::Claim(Claim {
        node,
        want: BATCH as u32,
        light: 0,
        shared: true,
        labels: Vec::new(),
        only_labelled: false,
    })];
    let drain = timed(|| {
        let mut drained = 0;
        loop {
            let Some(Ok(Reply::Claimed(rows))) = store.apply(now + 1_000_000, &claim).pop() else {
                return Err("no claim".into());
            };
            if rows.is_empty() {
                assert_eq!(drained, runs / BATCH * BATCH);
                return Ok(());
            }
            let commits: Vec<Commit> = rows.iter().map(|row| end(row, node)).collect();
            let commands: Vec<Command> = commits.chunks(each).map(|c| Command::Commit(c.to_vec())).collect();
            for reply in store.apply(now + 2_000_000, &commands) {
                let Reply::Committed(outcomes) = reply? else { return Err("no commit".into()) };
                drained += outcomes.iter().filter(|o| matches!(o, CommitOutcome::Committed { .. })).count();
            }
        }
    })?;
    Ok([enqueue, drain])
}

fn end(row: &Claimed, node: NodeId) -> Commit {
    Commit {
        id: row.id,
        node,
        step: row.step,
        fence: row.fence,
        receipt: row.receipt,
        fields: None,
        next: Next::End { state: 10 },
        started_at: Some(1_795_000_000_000_001),
        took: 0,
        event: EventBody { kind: "succeeded".into(), body: ENDED.into() },
        start: Vec::new(),
        send: Vec::new(),
        read_mail: None,
    }
}

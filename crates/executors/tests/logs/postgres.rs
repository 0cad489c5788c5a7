//! On PostgreSQL: several nodes, lost connections, the server away.

use std::{
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use ostler_clock::{Clock, SystemClock};
use ostler_execution::{LogSink, Stream};
use ostler_executors::{LogQuery, RunLogs};
use ostler_store_postgres::scratch::{Schema, Scratch};

use crate::{SALT, World, clock, lines, run_at};

mod prepared {
    crate::suite::suite!(super::scratch("").as_ref().map(super::world));
}

mod pooled {
    crate::suite::suite!(super::scratch("&pooler=transaction").as_ref().map(super::world));
}

fn scratch(more: &str) -> Option<Rc<Scratch>> {
    Scratch::open(more, Some(SALT)).unwrap_or_else(|error| panic!("{error}")).map(Rc::new)
}

fn world(scratch: &Rc<Scratch>) -> World {
    let scratch = scratch.clone();
    World::of(move || RunLogs::on(Arc::new(scratch.blocks()), clock()))
}

/// A store whose connections can be told from all others'.
fn marked() -> Option<(Rc<Scratch>, String)> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("ostler-logs-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    Some((scratch(&format!("&application_name={name}"))?, name))
}

/// Ends all connections of a store but the one that says so.
fn cut(schema: &Schema, name: &str) {
    schema
        .script(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE application_name='{name}' AND pid<>pg_backend_pid()"
        ))
        .unwrap();
}

/// Each writer's lines in its order, none lost, none twice.
fn expect_all(found: &[String], writers: usize, lines: usize) {
    let mut next = vec![0; writers];
    for line in found {
        let (writer, n) = line.split_once(' ').unwrap();
        let (writer, n): (usize, usize) = (writer.parse().unwrap(), n.trim().parse().unwrap());
        assert_eq!(n, next[writer], "of writer {writer}");
        next[writer] += 1;
    }
    assert_eq!(next, vec![lines; writers]);
}

/// Two nodes write to one log at once, a third follows it: nothing is lost, out of order, or before a cursor.
#[test]
fn writers_of_one_log_stand_behind_one_another() {
    const WRITERS: usize = 2;
    const LINES: usize = 3000;
    let Some(scratch) = scratch("") else { return };
    let world = world(&scratch);
    let ended = AtomicBool::new(false);
    let (run, logs) = (world.run, world.elsewhere());
    let seen = thread::scope(|scope| {
        let follower = scope.spawn(|| {
            let mut seen = Vec::new();
            let mut cursor = None;
            loop {
                // Asked before it is read: what was written by then is all there.
                let is_last = ended.load(Ordering::SeqCst);
                let (records, next) = logs.read(run, &LogQuery::default(), cursor).unwrap();
                seen.extend(records.into_iter().map(|r| String::from_utf8(r.line).unwrap()));
                cursor = Some(next);
                if is_last {
                    return seen;
                }
            }
        });
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let logs = world.elsewhere();
                scope.spawn(move || {
                    let pen = logs.writer(Some(run), 1);
                    for n in 0..LINES {
                        pen.line(Stream::Stdout, format!("{writer} {n:100}").as_bytes());
                        if n % 10 == 0 {
                            pen.close();
                        }
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.join().unwrap();
        }
        ended.store(true, Ordering::SeqCst);
        follower.join().unwrap()
    });
    expect_all(&seen, WRITERS, LINES);
    assert_eq!(seen, lines(&world.logs, world.run, &LogQuery::default()));
    let (tail, _) = world.logs.tail(world.run, &LogQuery::default(), seen.len()).unwrap();
    let tail: Vec<_> = tail.into_iter().map(|r| String::from_utf8(r.line).unwrap()).collect();
    assert_eq!(seen, tail, "backwards as forwards");
}

/// Connections break again and again while two nodes write: each line is there once.
#[test]
fn lost_connections_lose_and_repeat_nothing() {
    const WRITERS: usize = 2;
    const LINES: usize = 60_000;
    let Some((scratch, name)) = marked() else { return };
    let world = world(&scratch);
    let ended = AtomicBool::new(false);
    let (run, schema) = (world.run, scratch.schema());
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut cuts = 0;
            while !ended.load(Ordering::SeqCst) {
                cut(schema, &name);
                cuts += 1;
                thread::sleep(Duration::from_millis(5));
            }
            println!("cut {cuts} times");
        });
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let logs = world.elsewhere();
                scope.spawn(move || {
                    let pen = logs.writer(Some(run), 1);
                    for n in 0..LINES {
                        pen.line(Stream::Stdout, format!("{writer} {n:100}").as_bytes());
                        if n % 500 == 0 {
                            pen.close();
                        }
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.join().unwrap();
        }
        ended.store(true, Ordering::SeqCst);
    });
    expect_all(&lines(&world.elsewhere(), world.run, &LogQuery::default()), WRITERS, LINES);
}

/// A reader on another connection goes on when its own was ended, from the same cursor.
#[test]
fn a_reader_goes_on_after_its_connection_was_lost() {
    let Some((scratch, name)) = marked() else { return };
    let world = world(&scratch);
    let pen = world.logs.writer(Some(world.run), 1);
    let mut reader = world.elsewhere().reader(world.run, LogQuery::default(), None);
    for n in 0..10 {
        pen.line(Stream::Stdout, n.to_string().as_bytes());
        pen.close();
        assert_eq!(reader.next_record().unwrap().unwrap().line, n.to_string().as_bytes());
        assert!(reader.next_record().unwrap().is_none());
        cut(scratch.schema(), &name);
    }
}

/// While the table is locked nothing can be written: memory stays bounded, the writer goes on, and what was dropped is
/// counted and said.
#[test]
fn what_cannot_be_kept_is_counted() {
    const LINES: u64 = 400_000;
    let Some(scratch) = scratch("") else { return };
    let world = world(&scratch);
    let pen = world.logs.writer(Some(world.run), 1);
    let schema = scratch.schema();
    schema.script("CREATE TABLE released (by TEXT)").unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let hold = "LOCK TABLE log IN EXCLUSIVE MODE;
                WHILE NOT EXISTS (SELECT 1 FROM released) LOOP PERFORM pg_sleep(0.01); END LOOP";
            schema.script(&format!("DO $$ BEGIN {hold}; END $$")).unwrap();
        });
        let held =
            "WHILE NOT EXISTS (SELECT 1 FROM pg_locks WHERE relation='log'::regclass AND mode='ExclusiveLock'
            AND granted) LOOP PERFORM pg_sleep(0.01); END LOOP";
        schema.script(&format!("DO $$ BEGIN {held}; END $$")).unwrap();
        let started = SystemClock.elapsed();
        for n in 0..LINES {
            pen.line(Stream::Stdout, format!("{n:100}").as_bytes());
        }
        let took = SystemClock.elapsed() - started;
        schema.script("INSERT INTO released VALUES ('the test')").unwrap();
        println!("{LINES} lines in {took:?} while nothing could be written");
    });
    pen.close();
    let (records, _) = world.elsewhere().read(world.run, &LogQuery::default(), None).unwrap();
    let mut kept = 0;
    let mut dropped = 0;
    for record in &records {
        let text = std::str::from_utf8(&record.line).unwrap();
        match record.stream {
            Stream::System => {
                let count = text.strip_prefix('[').and_then(|t| t.split_once(' ')).unwrap().0;
                dropped += count.parse::<u64>().unwrap();
            }
            _ => kept += 1,
        }
    }
    println!("{kept} kept, {dropped} dropped");
    assert_eq!(kept + dropped, LINES);
    assert!(dropped > 0);
}

/// A log whose schema is gone: told in the log of the process, nobody waits for ever.
#[test]
fn a_schema_that_is_gone_keeps_nobody() {
    let Some(scratch) = scratch("") else { return };
    let world = world(&scratch);
    scratch.schema().script("DROP TABLE log").unwrap();
    let pen = world.logs.writer(Some(world.run), 1);
    pen.line(Stream::Stdout, b"into the void");
    pen.close();
    let error = world.logs.read(world.run, &LogQuery::default(), None).unwrap_err();
    assert!(error.to_string().contains("\"log\" does not exist"), "{error}");
    assert_eq!(world.logs.total_bytes(), 0);
}

/// How many lines and logs are written to compare the stores.
fn much(long: u64, otherwise: u64) -> u64 {
    if std::env::var_os("OSTLER_TEST_LONG").is_some() { long } else { otherwise }
}

/// Three rounds of the same into files and into PostgreSQL, by turns: says the medians of the rates. Every line is found.
fn compare(what: &str, count: u64, write: impl Fn(&RunLogs, i64)) {
    let Some(scratch) = scratch("") else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut rates = [Vec::new(), Vec::new()];
    for round in 0..3 {
        let places = [RunLogs::new(folder.path(), clock()), RunLogs::on(Arc::new(scratch.blocks()), clock())];
        for (logs, rates) in places.iter().zip(&mut rates) {
            let started = SystemClock.elapsed();
            write(logs, 1_800_000_000_000 + round * 100_000);
            rates.push(count as f64 / (SystemClock.elapsed() - started).as_secs_f64());
            let mut found = 0;
            for log in logs.list() {
                let mut reader = logs.reader(log.run, LogQuery::default(), None);
                while reader.next_record().unwrap().is_some() {
                    found += 1;
                }
                assert!(logs.delete(log.run).unwrap());
            }
            assert_eq!(found, count);
        }
    }
    let [files, postgres] = rates.map(|mut rates| {
        rates.sort_by(f64::total_cmp);
        rates[1]
    });
    let ratio = postgres / files;
    println!("{what}: {count}: files {files:.0}/s, PostgreSQL {postgres:.0}/s, ratio {ratio:.2}");
}

#[test]
fn the_same_flood_through_both() {
    let lines = much(1_000_000, 50_000);
    compare("lines of one noisy run", lines, |logs, made| {
        let pen = logs.writer(Some(run_at(made)), 1);
        for n in 0..lines {
            let noise = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let line = format!("{n:010} {noise:016x}{:016x} a task that tells all it does", !noise);
            pen.line(Stream::Stdout, line.as_bytes());
        }
    });
}

/// As a node runs many short tasks: 64 at a time.
#[test]
fn the_same_short_logs_through_both() {
    const SLOTS: u64 = 64;
    let runs = much(20_000, 1000) / SLOTS * SLOTS;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    compare("runs of one line", runs, |logs, made| {
        let tasks: Vec<_> = (0..SLOTS)
            .map(|slot| {
                let pens: Vec<_> = (0..runs / SLOTS)
                    .map(|n| logs.writer(Some(run_at(made + (n * SLOTS + slot) as i64)), 1))
                    .collect();
                runtime.spawn(async move {
                    for pen in pens {
                        pen.line(Stream::Stdout, b"done");
                        pen.close();
                        tokio::task::yield_now().await;
                    }
                })
            })
            .collect();
        runtime.block_on(async {
            for task in tasks {
                task.await.unwrap();
            }
        });
    });
}

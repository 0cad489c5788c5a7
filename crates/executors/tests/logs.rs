//! Run logs: growing files, torn blocks, limits, big output.
#![allow(clippy::unwrap_used, reason = "a test that cannot build its world has failed")]

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use ostler_clock::{Clock, SystemClock};
use ostler_execution::{LogSink, Stream};
use ostler_executors::{LogQuery, RunLogs};
use ostler_model::{MachineId, Uid};
use tempfile::TempDir;

struct World {
    dir: TempDir,
    logs: RunLogs,
    run: Uid,
}

fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let logs = RunLogs::new(dir.path(), Arc::new(SystemClock));
    World { logs, dir, run: Uid::of(MachineId::first_at(1_800_000_000_000), 1) }
}

impl World {
    fn file(&self) -> PathBuf {
        self.dir.path().join(format!("2027-01-15/{}.olog", self.run))
    }

    fn lines(&self, query: &LogQuery) -> Vec<String> {
        let (records, _) = self.logs.read(self.run, query, None).unwrap();
        records.into_iter().map(|r| String::from_utf8(r.line).unwrap()).collect()
    }

    /// Like a second process would: with nothing in common but the folder.
    fn elsewhere(&self) -> RunLogs {
        RunLogs::new(self.dir.path(), Arc::new(SystemClock))
    }
}

#[test]
fn a_run_without_output_has_no_file() {
    let world = world();
    world.logs.writer(Some(world.run), 1).close();
    assert!(!world.file().exists());
    assert_eq!(world.logs.total_bytes(), 0);
    assert!(!world.logs.delete(world.run).unwrap());
    assert!(world.lines(&LogQuery::default()).is_empty());
}

#[test]
fn lines_keep_order_stream_attempt_and_bytes() {
    let world = world();
    let first = world.logs.writer(Some(world.run), 1);
    first.line(Stream::Stdout, "größer".as_bytes());
    first.line(Stream::Stderr, b"\xff\x00 raw");
    first.line(Stream::Stdout, b"");
    first.close();
    let second = world.logs.writer(Some(world.run), 2);
    second.line(Stream::System, b"again");
    drop(second);

    let (records, _) = world.elsewhere().read(world.run, &LogQuery::default(), None).unwrap();
    let seen: Vec<_> = records.iter().map(|r| (r.attempt, r.stream, r.line.as_slice())).collect();
    assert_eq!(
        seen,
        [
            (1, Stream::Stdout, "größer".as_bytes()),
            (1, Stream::Stderr, b"\xff\x00 raw"),
            (1, Stream::Stdout, b""),
            (2, Stream::System, b"again")
        ]
    );
    assert!(records.windows(2).all(|pair| pair[0].at <= pair[1].at));
    assert_eq!(world.lines(&LogQuery { attempt: Some(2), ..LogQuery::default() }), ["again"]);
    assert_eq!(world.lines(&LogQuery { text: Some("gai".into()), ..LogQuery::default() }), ["again"]);
    let listed = world.logs.list();
    assert_eq!((listed[0].run, listed[0].day.as_str()), (world.run, "2027-01-15"));
    assert_eq!(listed[0].bytes, world.logs.total_bytes());
    assert!(world.logs.delete(world.run).unwrap());
    assert!(world.logs.list().is_empty());
}

#[test]
fn another_process_sees_a_line_within_a_second() {
    let world = world();
    let writer = world.logs.writer(Some(world.run), 1);
    let mut reader = world.elsewhere().reader(world.run, LogQuery::default(), None);
    for n in 0..3 {
        writer.line(Stream::Stdout, format!("line {n}").as_bytes());
        let written = SystemClock.elapsed();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let record = runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(5), reader.follow()).await.unwrap().unwrap()
        });
        assert_eq!(record.line, format!("line {n}").as_bytes());
        assert!(SystemClock.elapsed() - written < Duration::from_secs(1));
    }
}

#[test]
fn a_cursor_goes_on_where_it_stood() {
    let world = world();
    let writer = world.logs.writer(Some(world.run), 1);
    for n in 0..10 {
        writer.line(Stream::Stdout, format!("{n}").as_bytes());
        if n % 3 == 0 {
            writer.close();
        }
    }
    writer.close();
    let mut seen = Vec::new();
    let mut cursor = None;
    loop {
        let mut reader = world.logs.reader(world.run, LogQuery::default(), cursor);
        let Some(record) = reader.next_record().unwrap() else { break };
        seen.push(String::from_utf8(record.line).unwrap());
        cursor = Some(reader.cursor());
    }
    assert_eq!(seen, (0..10).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[test]
fn a_torn_block_is_stepped_over() {
    let world = world();
    let write = |text: &str| {
        let writer = world.logs.writer(Some(world.run), 1);
        writer.line(Stream::Stdout, text.as_bytes());
        writer.close();
    };
    write("first");
    let whole = fs::metadata(world.file()).unwrap().len();
    write("second, which will be torn in the middle of its body");
    let torn = fs::read(world.file()).unwrap();
    for length in whole as usize + 1..torn.len() {
        fs::write(world.file(), &torn[..length]).unwrap();
        assert_eq!(world.lines(&LogQuery::default()), ["first"], "torn at {length}");
        let (tail, end) = world.logs.tail(world.run, &LogQuery::default(), 1).unwrap();
        assert_eq!(tail[0].line, b"first", "torn at {length}");
        write("third");
        let (behind, _) = world.logs.read(world.run, &LogQuery::default(), Some(end)).unwrap();
        assert_eq!((behind.len(), &*behind[0].line), (1, &b"third"[..]), "torn at {length}");
        assert_eq!(world.lines(&LogQuery::default()), ["first", "third"], "torn at {length}");
        let (tail, _) = world.logs.tail(world.run, &LogQuery::default(), 1).unwrap();
        assert_eq!(tail[0].line, b"third", "torn at {length}");
    }
}

#[test]
fn any_damaged_byte_costs_at_most_its_block() {
    let world = world();
    for text in ["first", "second", "third"] {
        let writer = world.logs.writer(Some(world.run), 1);
        writer.line(Stream::Stdout, text.as_bytes());
        writer.close();
    }
    let whole = fs::read(world.file()).unwrap();
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x55;
        fs::write(world.file(), &damaged).unwrap();
        let lines = world.lines(&LogQuery::default());
        assert!(lines.len() >= 2, "byte {at}: {lines:?}");
        assert!(lines.iter().all(|l| ["first", "second", "third"].contains(&l.as_str())));
    }
}

#[test]
fn secrets_are_masked_also_across_pieces() {
    let world = world();
    let writer = world.logs.writer(Some(world.run), 1);
    writer.mask("s3cr3t-t0ken");
    writer.line(Stream::Stdout, b"token=s3cr3t-t0ken");
    writer.piece(Stream::Stdout, &[vec![b'x'; 65_530], b"s3cr3t".to_vec()].concat());
    writer.line(Stream::Stdout, b"-t0ken end");
    writer.piece(Stream::Stderr, b"ends with s3cr3t-t0");
    writer.close();
    writer.line(Stream::Stdout, b"-> czNjcjN0LXQwa2Vu <-");
    writer.close();
    let all = world.lines(&LogQuery::default()).join("\n");
    assert!(!all.contains("s3cr3t-t0ken") && all.contains("token=***") && all.contains("*** end"));
    assert!(all.contains("-> *** <-"), "{}", &all[all.len() - 60..]);
    assert_eq!(writer.masked(b"a s3cr3t-t0ken").as_ref(), b"a ***");
}

#[test]
fn beyond_the_limit_lines_are_counted_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let logs = RunLogs::new(dir.path(), Arc::new(SystemClock)).with_limit(10_000);
    let run = Uid::of(MachineId::first_at(1_800_000_000_000), 1);
    for attempt in 1..=2 {
        let writer = logs.writer(Some(run), attempt);
        for _ in 0..1000 {
            writer.line(Stream::Stdout, &[b'x'; 83]);
        }
    }
    let (records, _) = logs.read(run, &LogQuery::default(), None).unwrap();
    let of = |stream| records.iter().filter(|r| r.stream == stream).count();
    assert_eq!((of(Stream::Stdout), of(Stream::System)), (100, 4));
    assert_eq!(records[101].line, b"[900 lines, 74700 bytes more were not kept]");
    assert_eq!(records[103].line, b"[1000 lines, 83000 bytes more were not kept]");
}

#[test]
fn tail_reads_from_the_end() {
    let world = world();
    let writer = world.logs.writer(Some(world.run), 1);
    for n in 0..50_000 {
        let stream = if n % 1000 == 0 { Stream::Stderr } else { Stream::Stdout };
        writer.line(stream, format!("line {n}").as_bytes());
    }
    writer.close();
    let tail = |query: LogQuery, n| {
        let (records, end) = world.logs.tail(world.run, &query, n).unwrap();
        let (behind, _) = world.logs.read(world.run, &LogQuery::default(), Some(end)).unwrap();
        assert_eq!(behind, [], "the cursor stands behind the last line");
        records.into_iter().map(|r| String::from_utf8(r.line).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(tail(LogQuery::default(), 2), ["line 49998", "line 49999"]);
    let stderr = LogQuery { stream: Some(Stream::Stderr), ..LogQuery::default() };
    assert_eq!(tail(stderr, 3), ["line 47000", "line 48000", "line 49000"]);
    assert_eq!(tail(LogQuery::default(), 100_000).len(), 50_000);
}

/// Peak resident memory of this process.
fn peak_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

/// 100 MB, or 1 GB with `OSTLER_TEST_LONG`, from one run: nothing is lost, memory stays bounded, chunks roll.
#[test]
fn a_flood_neither_blocks_nor_bloats() {
    let world = world();
    let long = std::env::var_os("OSTLER_TEST_LONG").is_some();
    let lines: u64 = if long { 10_000_000 } else { 1_000_000 };
    let before = peak_kib();
    let started = SystemClock.elapsed();
    let logs = world.elsewhere().with_limit(4 << 30);
    let writer = logs.writer(Some(world.run), 1);
    for n in 0..lines {
        // Half of it does not compress.
        let noise = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let line = format!(
            "{n:010} {noise:016x}{:016x}{:016x} some text that repeats itself, as logs do",
            noise ^ n,
            !noise
        );
        writer.line(Stream::Stdout, line.as_bytes());
    }
    writer.close();
    let took = SystemClock.elapsed() - started;
    println!("{lines} lines in {took:?}, {} bytes on disk", logs.bytes(world.run));
    assert!(peak_kib() - before < 64 * 1024, "grew by {} KiB", peak_kib() - before);

    let mut reader = logs.reader(world.run, LogQuery::default(), None);
    let mut next = 0u64;
    while let Some(record) = reader.next_record().unwrap() {
        assert_eq!(std::str::from_utf8(&record.line[..10]).unwrap().parse::<u64>().unwrap(), next);
        next += 1;
    }
    assert_eq!(next, lines);
    assert!(logs.delete(world.run).unwrap());
}

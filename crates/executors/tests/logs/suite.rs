//! What run logs owe wherever their blocks are kept: each property is a test of every store of blocks.

use std::{fs, time::Duration};

use ostler_clock::{Clock, SystemClock};
use ostler_execution::{LogSink, Stream};
use ostler_executors::LogQuery;

use crate::{World, lines};

/// Makes a test of each property, for a maker of worlds.
macro_rules! suite {
    ($make:expr) => {
        $crate::suite::suite! { @each $make;
            a_run_without_output_has_no_log
            lines_keep_order_stream_attempt_and_bytes
            another_process_sees_a_line_within_a_second
            a_cursor_goes_on_where_it_stood
            secrets_are_masked_also_across_pieces
            beyond_the_limit_lines_are_counted_and_said
            tail_reads_from_the_end
            logs_are_listed_by_day
            whoever_closes_in_a_runtime_finds_it_written
            a_flood_neither_blocks_nor_bloats
        }
    };
    (@each $make:expr; $($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                // None where the tests are to do without the server that it needs.
                if let Some(world) = Option::<$crate::World>::from($make) {
                    $crate::suite::$name(&world);
                }
            }
        )*
    };
}
pub(crate) use suite;

pub(crate) fn a_run_without_output_has_no_log(world: &World) {
    world.logs.writer(Some(world.run), 1).close();
    assert_eq!(world.logs.bytes(world.run), 0);
    assert!(world.logs.list().is_empty());
    assert!(!world.logs.delete(world.run).unwrap());
    assert!(lines(&world.logs, world.run, &LogQuery::default()).is_empty());
    let (tail, end) = world.logs.tail(world.run, &LogQuery::default(), 3).unwrap();
    assert!(tail.is_empty());
    let writer = world.logs.writer(Some(world.run), 1);
    writer.line(Stream::Stdout, b"later");
    writer.close();
    let (behind, _) = world.logs.read(world.run, &LogQuery::default(), Some(end)).unwrap();
    assert_eq!(behind.len(), 1, "the end of nothing is before the first line");
}

pub(crate) fn beyond_the_limit_lines_are_counted_and_said(world: &World) {
    let logs = world.elsewhere().with_limit(10_000);
    for attempt in 1..=2 {
        let writer = logs.writer(Some(world.run), attempt);
        for _ in 0..1000 {
            writer.line(Stream::Stdout, &[b'x'; 83]);
        }
    }
    let (records, _) = logs.read(world.run, &LogQuery::default(), None).unwrap();
    let of = |stream| records.iter().filter(|r| r.stream == stream).count();
    assert_eq!((of(Stream::Stdout), of(Stream::System)), (100, 4));
    assert_eq!(records[101].line, b"[900 lines, 74700 bytes more were not kept]");
    assert_eq!(records[103].line, b"[1000 lines, 83000 bytes more were not kept]");
}

pub(crate) fn logs_are_listed_by_day(world: &World) {
    let day = 86_400_000;
    let runs = [3, 1, 2].map(|n| crate::run_at(1_800_000_000_000 + n * day));
    for run in runs {
        let writer = world.logs.writer(Some(run), 1);
        writer.line(Stream::Stdout, b"one line");
    }
    let logs = world.elsewhere();
    let listed: Vec<_> = logs.list().into_iter().map(|log| (log.day, log.run)).collect();
    let expected = [("2027-01-16", runs[1]), ("2027-01-17", runs[2]), ("2027-01-18", runs[0])];
    assert_eq!(listed, expected.map(|(day, run)| (day.to_owned(), run)));
    assert!(logs.delete(runs[1]).unwrap());
    assert_eq!(logs.list().len(), 2);
    assert_eq!(lines(&logs, runs[2], &LogQuery::default()), ["one line"]);
}

/// As nodes close logs: in a task of a runtime, several at once, and whoever looks then finds everything.
pub(crate) fn whoever_closes_in_a_runtime_finds_it_written(world: &World) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let reader = std::sync::Arc::new(world.elsewhere());
    let tasks: Vec<_> = (0..32)
        .map(|n| {
            let run = crate::run_at(1_800_000_000_000 + n);
            let (writer, reader) = (world.logs.writer(Some(run), 1), reader.clone());
            runtime.spawn(async move {
                writer.line(Stream::Stdout, n.to_string().as_bytes());
                writer.close();
                assert_eq!(lines(&reader, run, &LogQuery::default()), [n.to_string()]);
            })
        })
        .collect();
    runtime.block_on(async {
        for task in tasks {
            task.await.unwrap();
        }
    });
}

pub(crate) fn lines_keep_order_stream_attempt_and_bytes(world: &World) {
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
    assert_eq!(
        lines(&world.logs, world.run, &LogQuery { attempt: Some(2), ..LogQuery::default() }),
        ["again"]
    );
    assert_eq!(
        lines(&world.logs, world.run, &LogQuery { text: Some("gai".into()), ..LogQuery::default() }),
        ["again"]
    );
    let listed = world.logs.list();
    assert_eq!((listed[0].run, listed[0].day.as_str()), (world.run, "2027-01-15"));
    assert_eq!(listed[0].bytes, world.logs.bytes(world.run));
    assert!(listed[0].bytes > 0 && listed[0].bytes <= world.logs.total_bytes());
    assert!(world.logs.delete(world.run).unwrap());
    assert!(world.logs.list().is_empty());
}

pub(crate) fn another_process_sees_a_line_within_a_second(world: &World) {
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

pub(crate) fn a_cursor_goes_on_where_it_stood(world: &World) {
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

pub(crate) fn secrets_are_masked_also_across_pieces(world: &World) {
    let writer = world.logs.writer(Some(world.run), 1);
    writer.mask("s3cr3t-t0ken");
    writer.line(Stream::Stdout, b"token=s3cr3t-t0ken");
    writer.piece(Stream::Stdout, &[vec![b'x'; 65_530], b"s3cr3t".to_vec()].concat());
    writer.line(Stream::Stdout, b"-t0ken end");
    writer.piece(Stream::Stderr, b"ends with s3cr3t-t0");
    writer.close();
    writer.line(Stream::Stdout, b"-> czNjcjN0LXQwa2Vu <-");
    writer.close();
    let all = lines(&world.logs, world.run, &LogQuery::default()).join("\n");
    assert!(!all.contains("s3cr3t-t0ken") && all.contains("token=***") && all.contains("*** end"));
    assert!(all.contains("-> *** <-"), "{}", &all[all.len() - 60..]);
    assert_eq!(writer.masked(b"a s3cr3t-t0ken").as_ref(), b"a ***");
}

pub(crate) fn tail_reads_from_the_end(world: &World) {
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
pub(crate) fn a_flood_neither_blocks_nor_bloats(world: &World) {
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
    println!("{lines} lines in {took:?}, {} bytes kept", logs.bytes(world.run));
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

//! In files: their names, torn and damaged blocks.

use std::{fs, path::PathBuf};

use ostler_execution::{LogSink, Stream};
use ostler_executors::{LogQuery, RunLogs};
use tempfile::TempDir;

use crate::{World, clock, lines};

crate::suite::suite!(place().world);

struct Place {
    dir: PathBuf,
    world: World,
}

fn place() -> Place {
    let folder: TempDir = tempfile::tempdir().unwrap();
    let dir = folder.path().to_owned();
    let elsewhere = move || RunLogs::new(folder.path(), clock());
    Place { dir, world: World::of(elsewhere) }
}

impl Place {
    fn file(&self) -> PathBuf {
        self.dir.join(format!("2027-01-15/{}.olog", self.world.run))
    }
}

#[test]
fn a_run_without_output_has_no_file() {
    let place = place();
    place.world.logs.writer(Some(place.world.run), 1).close();
    assert_eq!(fs::read_dir(&place.dir).unwrap().count(), 0);
    assert_eq!(place.world.logs.total_bytes(), 0);
}

#[test]
fn the_day_goes_with_its_last_log() {
    let place = place();
    let writer = place.world.logs.writer(Some(place.world.run), 1);
    writer.line(Stream::Stdout, b"one line");
    writer.close();
    assert_eq!(fs::metadata(place.file()).unwrap().len(), place.world.logs.total_bytes());
    assert!(place.world.logs.delete(place.world.run).unwrap());
    assert_eq!(fs::read_dir(&place.dir).unwrap().count(), 0);
}

#[test]
fn a_torn_block_is_stepped_over() {
    let place = place();
    let world = &place.world;
    let write = |text: &str| {
        let writer = world.logs.writer(Some(world.run), 1);
        writer.line(Stream::Stdout, text.as_bytes());
        writer.close();
    };
    write("first");
    let whole = fs::metadata(place.file()).unwrap().len();
    write("second, which will be torn in the middle of its body");
    let torn = fs::read(place.file()).unwrap();
    for length in whole as usize + 1..torn.len() {
        fs::write(place.file(), &torn[..length]).unwrap();
        assert_eq!(lines(&world.logs, world.run, &LogQuery::default()), ["first"], "torn at {length}");
        let (tail, end) = world.logs.tail(world.run, &LogQuery::default(), 1).unwrap();
        assert_eq!(tail[0].line, b"first", "torn at {length}");
        write("third");
        let (behind, _) = world.logs.read(world.run, &LogQuery::default(), Some(end)).unwrap();
        assert_eq!((behind.len(), &*behind[0].line), (1, &b"third"[..]), "torn at {length}");
        assert_eq!(
            lines(&world.logs, world.run, &LogQuery::default()),
            ["first", "third"],
            "torn at {length}"
        );
        let (tail, _) = world.logs.tail(world.run, &LogQuery::default(), 1).unwrap();
        assert_eq!(tail[0].line, b"third", "torn at {length}");
    }
}

#[test]
fn any_damaged_byte_costs_at_most_its_block() {
    let place = place();
    let world = &place.world;
    for text in ["first", "second", "third"] {
        let writer = world.logs.writer(Some(world.run), 1);
        writer.line(Stream::Stdout, text.as_bytes());
        writer.close();
    }
    let whole = fs::read(place.file()).unwrap();
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x55;
        fs::write(place.file(), &damaged).unwrap();
        let lines = crate::lines(&world.logs, world.run, &LogQuery::default());
        assert!(lines.len() >= 2, "byte {at}: {lines:?}");
        let (tail, _) = world.logs.tail(world.run, &LogQuery::default(), 9).unwrap();
        let tail: Vec<_> = tail.into_iter().map(|r| String::from_utf8(r.line).unwrap()).collect();
        assert_eq!(tail, lines, "byte {at}");
        assert!(lines.iter().all(|l| ["first", "second", "third"].contains(&l.as_str())));
    }
}

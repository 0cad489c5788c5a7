//! Workers as processes of their own: this program once more. Each says that it is ready, begins when it is told to,
//! counts aloud, and ends when its standard input does.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use ostler_embedded::Place;
use ostler_engine::Notice;
use ostler_store_postgres::Address;

use super::bare::{Bare, Rows};
use crate::whole::Shop;

/// How often a worker tells what it has done.
const TELLING: Duration = Duration::from_millis(2);

/// How long a worker of the bare program waits when it finds nothing.
const NOTHING: Duration = Duration::from_millis(1);

/// What a worker is.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// A node of Ostler; the place is the URL of its store. It tells how many runs have ended.
    Node,
    /// The same; it tells when each of its handlers is called, in nanoseconds since 1970.
    Prompt,
    /// The bare program; the place is its schema. It tells how many jobs have ended.
    Bare(Rows),
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Prompt => "prompt",
            Self::Bare(rows) => rows.name(),
        }
    }
}

/// Worker processes, at the ready.
pub(crate) struct Fleet {
    workers: Vec<(Child, Option<ChildStdin>)>,
    told: mpsc::Receiver<(usize, u128)>,
}

impl Fleet {
    /// Starts so many, and returns when all are ready.
    pub(crate) fn start(kind: Kind, place: &str, count: usize) -> Self {
        let (tell, told) = mpsc::channel();
        let workers = (0..count).map(|worker| {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["__worker", kind.name(), place])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
            let tell = tell.clone();
            std::thread::spawn(move || {
                for line in output.lines().map_while(Result::ok) {
                    if tell.send((worker, line.parse().unwrap_or_default())).is_err() {
                        return;
                    }
                }
            });
            (child, input)
        });
        let fleet = Self { workers: workers.collect(), told };
        // The first word of each: a zero.
        for _ in 0..count {
            fleet.next();
        }
        fleet
    }

    fn next(&self) -> (usize, u128) {
        self.told.recv_timeout(Duration::from_secs(300)).expect("a worker has nothing to tell any more")
    }

    /// Lets all of them begin.
    fn begin(&mut self) {
        for (_, input) in &mut self.workers {
            input.as_mut().unwrap().write_all(b"go\n").unwrap();
        }
    }

    /// Seconds from the word to begin until so many jobs have ended, all of them together.
    pub(crate) fn drain(&mut self, jobs: usize) -> f64 {
        let mut counts = vec![0; self.workers.len()];
        let begin = Instant::now();
        self.begin();
        while counts.iter().sum::<u128>() < jobs as u128 {
            let (worker, count) = self.next();
            counts[worker] = count;
        }
        begin.elapsed().as_secs_f64()
    }

    /// Seconds from a call to the moment that a [`Kind::Prompt`] worker tells, one at a time.
    pub(crate) fn latencies(&mut self, count: usize, pause: Duration, start: impl Fn()) -> Vec<f64> {
        self.begin();
        // It has nothing to tell of its beginning; a second is enough for it.
        std::thread::sleep(Duration::from_secs(1));
        let one = || {
            std::thread::sleep(pause);
            let begin = nanoseconds();
            start();
            self.next().1.saturating_sub(begin) as f64 / 1e9
        };
        (0..count).map(|_| one()).collect()
    }

    /// The most memory that a worker has had so far, in MB.
    pub(crate) fn peak(&self) -> f64 {
        let of = |child: &Child| {
            let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
            let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
        };
        self.workers.iter().map(|(child, _)| of(child)).fold(0.0, f64::max)
    }

    /// Processor time of all workers so far, in seconds.
    pub(crate) fn cpu(&self) -> f64 {
        self.workers.iter().map(|(child, _)| crate::whole::cpu_seconds(&child.id().to_string())).sum()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for (child, input) in &mut self.workers {
            drop(input.take());
            let _ = child.wait();
        }
    }
}

fn nanoseconds() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()
}

/// Is a worker, until its standard input ends.
pub(crate) fn work(kind: &str, place: &str) {
    let count = Arc::new(AtomicUsize::new(0));
    match kind {
        "node" => {
            let shop = Shop::at(Place::Postgres(Box::new(Address::parse(place).unwrap())));
            wait_for_word();
            let ended = count.clone();
            let running = shop.start_noops(Arc::new(move |notice: &Notice| {
                if matches!(notice, Notice::Committed { ended: Some(_), .. }) {
                    ended.fetch_add(1, Ordering::Relaxed);
                }
            }));
            tell(&count, &until_end());
            shop.stop(running);
        }
        "prompt" => {
            let shop = Shop::at(Place::Postgres(Box::new(Address::parse(place).unwrap())));
            wait_for_word();
            let (told, called) = mpsc::channel();
            let running = shop.start_prompt(told);
            std::thread::spawn(move || {
                for at in called {
                    println!("{}", nanoseconds() - at.elapsed().as_nanos());
                }
            });
            let over = until_end();
            while !over.load(Ordering::Relaxed) {
                std::thread::sleep(TELLING);
            }
            shop.stop(running);
        }
        _ => {
            let rows = Rows::ALL.into_iter().find(|rows| rows.name() == kind).expect("a kind of worker");
            let bare = Bare::open(place, rows);
            wait_for_word();
            let over = until_end();
            std::thread::scope(|scope| {
                scope.spawn(|| tell(&count, &over));
                while !over.load(Ordering::Relaxed) {
                    match bare.work() {
                        0 => std::thread::sleep(NOTHING),
                        ended => {
                            count.fetch_add(ended, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    }
}

/// Says that it is ready, and waits until it is to begin.
fn wait_for_word() {
    println!("0");
    std::io::stdin().lock().read_line(&mut String::new()).unwrap();
}

/// Becomes true when the standard input ends.
fn until_end() -> Arc<AtomicBool> {
    let over = Arc::new(AtomicBool::new(false));
    let ended = over.clone();
    std::thread::spawn(move || {
        let _ = std::io::stdin().lock().read_line(&mut String::new());
        ended.store(true, Ordering::Relaxed);
    });
    over
}

/// Tells a count whenever it has changed.
fn tell(count: &AtomicUsize, over: &AtomicBool) {
    let mut told = 0;
    while !over.load(Ordering::Relaxed) {
        let now = count.load(Ordering::Relaxed);
        if now != told {
            println!("{now}");
            told = now;
        }
        std::thread::sleep(TELLING);
    }
}

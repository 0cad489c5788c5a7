//! What the fleet is given to do: runs of every sort through every node, and some that wait for a reason all the while.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use ostler_api::{Api, ErrorKind, StartRequest};
use ostler_client::Blocking;
use ostler_model::Uid;

/// `WORK` is [`WORK`], `URL` the endpoint of [`Effects`].
const FILE: &str = r#"
meta: { type: ostler-timetable, version: 1, namespace: fleet }
defaults: { inherit_env: [EFFECTS] }
tasks:
  - meta: { id: rerun }
    policy: { idempotent: true }
    run: WORK
  - meta: { id: once }
    run: WORK
  - meta: { id: far }
    runs_on: far
    policy: { idempotent: true }
    run: WORK
  - meta: { id: again }
    policy: { idempotent: true, retry: { attempts: 2, initial: 100ms } }
    run: '[ "$OSTLER_ATTEMPT" -gt 1 ] || exit 3'
  - meta: { id: slow }
    policy: { idempotent: true, timeout: 1s }
    run: exec sleep 600
  - meta: { id: flow }
    policy: { idempotent: true }
    steps:
      - { id: a, run: sleep 0.05 }
      - { id: b, runs_on: far, run: sleep 0.05 }
      - { id: c, run: sleep 0.05 }
  - meta: { id: call }
    uses: http
    with: { method: POST, url: "URL/${{ run.id }}" }
  - meta: { id: after }
    policy: { idempotent: true }
    on: { run: { task: flow, state: any } }
    run: 'true'
  - meta: { id: ticking }
    policy: { idempotent: true }
    on: { schedule: [{ cron: "* * * * * *", missed: all, overlap: allow }] }
    run: 'true'
  - meta: { id: nowhere }
    runs_on: moon
    run: 'true'
  - meta: { id: held }
    policy: { idempotent: true }
    run: 'true'
  - meta: { id: door }
    policy: { concurrency: { key: door, limit: 1 } }
    uses: wait
    with: { signal: open }
  - meta: { id: asks }
    steps: [{ id: ask, uses: wait, with: { approval: "Go on?" } }, { id: go, run: 'true' }]
"#;

/// Every attempt says when it begins and when it ends, and who it is: what must never overlap, and what a fence is for.
const WORK: &str = r#"'me="$OSTLER_RUN_ID $OSTLER_IDEMPOTENCY_KEY $OSTLER_FENCE $OSTLER_ATTEMPT";
      echo "begin $me" >> "$EFFECTS"; sleep 0.3; echo "end $me" >> "$EFFECTS"'"#;

/// What is started over and over.
const TASKS: [&str; 10] = ["rerun", "once", "far", "flow", "call", "rerun", "again", "once", "slow", "far"];

/// Between two starts of one client.
const PAUSE: Duration = Duration::from_millis(250);

/// How long a start is tried: longer than any fault lasts.
const PATIENCE: Duration = Duration::from_secs(90);

/// The file of tasks.
pub(crate) fn file(effects: &Effects) -> String {
    FILE.replace("WORK", WORK).replace("URL", &effects.url)
}

/// A run that waits for a reason, and the words by which `why` names that.
pub(crate) struct Waiting {
    pub(crate) task: &'static str,
    pub(crate) id: Uid,
    pub(crate) words: &'static str,
}

/// Runs that were accepted, with their tasks.
pub(crate) type Accepted = Mutex<BTreeMap<Uid, &'static str>>;

/// Starts a run, by whichever node answers, once: the key is the same each time.
pub(crate) fn start(clients: &[Blocking], task: &str, key: &str, first: usize) -> Uid {
    let request = StartRequest {
        namespace: "fleet".into(),
        task: task.into(),
        idempotency_key: Some(key.to_owned()),
        ..StartRequest::default()
    };
    insist(clients, first, "a start", |client| client.start(request.clone())).id()
}

/// Asks one node after the other until one answers.
pub(crate) fn insist<T>(
    clients: &[Blocking],
    first: usize,
    what: &str,
    ask: impl Fn(&Blocking) -> Result<T, ostler_api::ApiError>,
) -> T {
    let begun = Instant::now();
    for n in first.. {
        match ask(&clients[n % clients.len()]) {
            Ok(answer) => return answer,
            Err(error) if error.kind == ErrorKind::BadInput || begun.elapsed() > PATIENCE => {
                panic!("{what}: {error}")
            }
            Err(_) => thread::sleep(Duration::from_millis(100)),
        }
    }
    unreachable!()
}

/// Starts runs through one client after the other until told to stop.
pub(crate) fn give(clients: &[Blocking], first: usize, accepted: &Accepted, over: &AtomicBool) {
    for n in 0.. {
        if over.load(Ordering::Relaxed) {
            return;
        }
        let task = TASKS[n % TASKS.len()];
        let id = start(clients, task, &format!("{first}-{n}"), first);
        assert_eq!(accepted.lock().unwrap().insert(id, task), None, "one run for two keys");
        thread::sleep(PAUSE);
    }
}

/// Asks of runs that wait why they do, and of others that their state is told as it is; gives how often each was answered.
pub(crate) fn ask_why(
    clients: &[Blocking],
    waiting: &[Waiting],
    accepted: &Accepted,
    over: &AtomicBool,
) -> BTreeMap<&'static str, u32> {
    let mut answered = BTreeMap::new();
    for n in 0.. {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let client = &clients[n % clients.len()];
        for Waiting { task, id, words } in waiting {
            if let Ok(why) = client.why(*id) {
                assert!(why.because.iter().any(|because| because.contains(words)), "{task}: {why:?}");
                *answered.entry(*task).or_default() += 1;
            }
        }
        let newest = accepted.lock().unwrap().keys().rev().nth(n % 40).copied();
        if let Some(id) = newest
            && let (Ok(before), Ok(why), Ok(after)) = (client.run(id), client.why(id), client.run(id))
            && before.machine_step == after.machine_step
            && before.state == after.state
        {
            assert_eq!(why.state, after.state.word(), "{why:?}");
            assert!(!why.because.is_empty(), "{why:?}");
            *answered.entry("others").or_default() += 1;
        }
        thread::sleep(Duration::from_millis(200));
    }
    answered
}

/// Where effects are recorded: lines of a file, and calls over HTTP with the keys that they carried.
pub(crate) struct Effects {
    pub(crate) url: String,
    /// The run of each call, and its key.
    pub(crate) calls: Arc<Mutex<Vec<(String, String)>>>,
}

impl Effects {
    pub(crate) fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let calls = Arc::<Mutex<Vec<_>>>::default();
        let recorded = calls.clone();
        thread::spawn(move || {
            for call in listener.incoming().flatten() {
                let recorded = recorded.clone();
                thread::spawn(move || record(call, &recorded));
            }
        });
        Self { url, calls }
    }
}

fn record(call: TcpStream, recorded: &Mutex<Vec<(String, String)>>) -> Option<()> {
    let mut reader = BufReader::new(call.try_clone().ok()?);
    let (mut line, mut key, mut length) = (String::new(), String::new(), 0);
    reader.read_line(&mut line).ok()?;
    let run = line.split(' ').nth(1)?.trim_start_matches('/').to_owned();
    loop {
        line.clear();
        if reader.read_line(&mut line).ok()? == 0 || line.trim().is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        match name.to_ascii_lowercase().as_str() {
            "idempotency-key" => key = value.trim().to_owned(),
            "content-length" => length = value.trim().parse().ok()?,
            _ => {}
        }
    }
    reader.take(length).read_to_end(&mut Vec::new()).ok()?;
    recorded.lock().unwrap().push((run, key));
    thread::sleep(Duration::from_millis(200));
    let mut call = call;
    call.write_all(
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\nok",
    )
    .ok()
}

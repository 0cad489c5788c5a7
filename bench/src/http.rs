//! The built `ostler serve`, asked over loopback by a plain client that is small beside it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, AtomicI64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{Figure, NO_PROGRAM, ROUNDS, program, seconds, whole};

/// Connections that ask as fast as they are answered.
const CONNECTIONS: usize = 16;

/// How long they ask.
const RATE_TIME: Duration = Duration::from_secs(3);

/// Runs of which listeners are told, one after the other.
const TOLD: usize = 20;

const FILE: &str = "
meta: { type: ostler-timetable, version: 1, namespace: served }
tasks: [{ meta: { id: held }, run: 'true' }]
";

/// A server that does not outlive this program.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(program: &Path, folder: &Path, store: &Path) -> Self {
        let file = folder.join("served.yaml");
        std::fs::write(&file, FILE).unwrap();
        // Nothing is taken away while it is measured.
        let mut child = Command::new(program)
            .args(["serve", "--listen", "127.0.0.1:0", "--keep-count", "100000000", "--store"])
            .arg(store)
            .arg(&file)
            .current_dir(folder)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = loop {
            let line = lines.next().expect("it did not serve").unwrap();
            if let Some((_, rest)) = line.split_once("http://") {
                break rest.split(';').next().unwrap().to_owned();
            }
        };
        // Whatever it says after that is read, so that it need not wait.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    /// A line of its `/proc/PID/status`, in MiB.
    fn memory(&self, name: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|l| l.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    }

    fn wire(&self) -> Wire {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        Wire(BufReader::new(stream))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One connection.
struct Wire(BufReader<TcpStream>);

impl Wire {
    /// The status and body of an answer.
    fn ask(&mut self, method: &str, path: &str, body: &str) -> (u16, Vec<u8>) {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.0.get_mut().write_all([head.as_bytes(), body.as_bytes()].concat().as_slice()).unwrap();
        let (mut status, mut length, mut line) = (0, 0, String::new());
        loop {
            line.clear();
            self.0.read_line(&mut line).unwrap();
            let text = line.trim_end().to_ascii_lowercase();
            if let Some(rest) = text.strip_prefix("http/1.1 ") {
                status = rest[..3].parse().unwrap();
            } else if let Some(rest) = text.strip_prefix("content-length: ") {
                length = rest.parse().unwrap();
            } else if text.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        (status, body)
    }

    fn get(&mut self, path: &str) -> Value {
        let (status, body) = self.ask("GET", path, "");
        assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap()
    }

    fn post(&mut self, path: &str, body: &Value) -> Value {
        let (status, body) = self.ask("POST", path, &body.to_string());
        assert!(matches!(status, 200 | 201), "{path}: {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap()
    }

    fn last_event(&mut self) -> i64 {
        self.get("/api/v1/stats")["last_event"].as_i64().unwrap()
    }

    /// Waits until nothing more happens, and gives the number of the last event.
    fn rest(&mut self) -> i64 {
        let mut last = self.last_event();
        loop {
            std::thread::sleep(Duration::from_millis(100));
            match self.last_event() {
                same if same == last => return last,
                next => last = next,
            }
        }
    }
}

pub(crate) fn http(finished: usize, batch: usize, listeners: usize) {
    println!("HTTP `ostler serve` beside {finished} finished runs, over loopback");
    let Some(program) = program() else {
        println!("    skipped, {NO_PROGRAM}\n");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("ostler.db");
    let shop = whole::Shop::open(&store);
    let took = seconds(|| shop.finish_with_rare_ones(finished));
    drop(shop);
    println!("    (made in {took:.0} s)");
    let server = Server::start(&program, folder.path(), &store);
    server.wire().get("/readyz");
    println!("    memory at rest                {:>10.1} MiB", server.memory("VmRSS:"));
    pages(&server);
    many(&server, batch);
    listening(&server, listeners);
    rates(&server);
    println!(
        "    memory at the end             {:>10.1} MiB, peak {:.1} MiB\n",
        server.memory("VmRSS:"),
        server.memory("VmHWM:")
    );
}

/// Pages of 50 from the first to the last, by what people look for.
fn pages(server: &Server) {
    let mut wire = server.wire();
    let mut cursors = vec![String::new()];
    let walk = seconds(|| {
        loop {
            let page = wire.get(&format!("/api/v1/runs?limit=10000{}", cursors.last().unwrap()));
            match page["next"].as_str() {
                Some(next) => cursors.push(format!("&after={next}")),
                None => break,
            }
        }
    });
    println!("    all of them in pages of 10000 {walk:>10.2} s");
    let places = [("first", ""), ("middle", &*cursors[cursors.len() / 2]), ("last", cursors.last().unwrap())];
    let filters = [
        ("all", ""),
        ("state=succeeded", "&state=succeeded"),
        ("state=failed (rare)", "&state=failed"),
        ("state=running (none)", "&state=running"),
        ("task of nearly all", "&namespace=bench&task=noop"),
        ("a rare task", "&namespace=rare&task=bad"),
        ("a rare task in no such state", "&namespace=rare&task=bad&state=succeeded"),
        ("nearly all, failed (none)", "&namespace=bench&task=noop&state=failed"),
        ("a rare namespace", "&namespace=rare"),
    ];
    let mut slowest = Figure::new();
    for (what, filter) in filters {
        let mut shown = String::new();
        for (place, cursor) in places {
            let mut figure = Figure::new();
            for _ in 0..ROUNDS * 2 {
                let path = format!("/api/v1/runs?limit=50{filter}{cursor}");
                figure.push(seconds(|| drop(wire.ask("GET", &path, ""))) * 1000.0);
            }
            slowest.push(figure.at(1.0));
            shown += &format!("  {place} {:.2}", figure.median());
        }
        println!("    page, {what:<28}{shown} ms");
    }
    println!("    the slowest of all            {:>10.2} ms", slowest.at(1.0));
}

/// Seconds for so many starts in one request to a server on a store, the median of some; none if there is no `ostler`.
pub(crate) fn start_many(store: &str, count: usize) -> Option<f64> {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&program()?, folder.path(), Path::new(store));
    let (mut wire, mut took) = (server.wire(), Figure::new());
    wire.post("/api/v1/tasks/served/held/pause", &Value::Null);
    for _ in 0..ROUNDS {
        took.push(seconds(|| start_held(&mut wire, count)));
    }
    Some(took.median())
}

fn start_held(wire: &mut Wire, count: usize) {
    let starts = vec![json!({ "namespace": "served", "task": "held" }); count];
    let begun = wire.post("/api/v1/runs/batch", &json!({ "runs": starts }));
    assert_eq!(begun.as_array().unwrap().len(), count);
}

/// Many starts in one request, and the ends of them in another.
fn many(server: &Server, count: usize) {
    let mut wire = server.wire();
    wire.post("/api/v1/tasks/served/held/pause", &Value::Null);
    let all = json!({ "query": { "namespace": "served", "task": "held" }, "reason": "the bench" });
    let (mut start, mut ask, mut end) = (Figure::new(), Figure::new(), Figure::new());
    for _ in 0..ROUNDS {
        start.push(seconds(|| start_held(&mut wire, count)));
        let begun = Instant::now();
        assert_eq!(wire.post("/api/v1/runs/cancel", &all)["asked"], count);
        ask.push(begun.elapsed().as_secs_f64());
        while ["ready", "held", "claimed"].iter().any(|phase| wire.get("/api/v1/stats")[phase] != 0) {
            std::thread::sleep(Duration::from_millis(5));
        }
        end.push(begun.elapsed().as_secs_f64());
    }
    println!("    {count:>5} runs in one request   {}", start.shown("s"));
    println!("                                  {:>10.0} runs/s", count as f64 / start.median());
    println!("    {count:>5} cancelled, counted    {}", ask.shown("s"));
    println!("          and all ended           {}", end.shown("s"));
}

/// From the request that starts a run to each of so many listeners.
fn listening(server: &Server, count: usize) {
    let mut wire = server.wire();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (told, seen) = mpsc::channel();
    let target = Arc::new(AtomicI64::new(i64::MAX));
    for _ in 0..count {
        let (told, target, address) = (told.clone(), target.clone(), server.address.clone());
        runtime.spawn(listen(address, target, told));
    }
    for _ in 0..count {
        seen.recv_timeout(Duration::from_secs(30)).expect("a listener did not begin");
    }
    let (mut each, mut last, mut request) = (Figure::new(), Figure::new(), Figure::new());
    for _ in 0..TOLD {
        target.store(wire.rest() + 1, Ordering::SeqCst);
        let begun = Instant::now();
        wire.post("/api/v1/tasks/served/held/runs", &json!({}));
        request.push(begun.elapsed().as_secs_f64() * 1000.0);
        let mut late: Vec<f64> = (0..count)
            .map(|_| {
                let at: Instant =
                    seen.recv_timeout(Duration::from_secs(30)).expect("a listener was not told");
                at.duration_since(begun).as_secs_f64() * 1000.0
            })
            .collect();
        late.sort_by(f64::total_cmp);
        last.push(late[count - 1]);
        each.values.extend(late);
    }
    each.values.sort_by(f64::total_cmp);
    println!("    a start, asked and answered   {}", request.shown("ms"));
    println!(
        "    {count:>5} listeners, from asking: p50 {:.2} ms  p99 {:.2} ms; the last of them p50 {:.2} ms  p99 {:.2} ms",
        each.at(0.5),
        each.at(0.99),
        last.at(0.5),
        last.at(0.99)
    );
}

/// Tells when the stream has begun, and when each event that is waited for has come.
async fn listen(address: String, target: Arc<AtomicI64>, told: mpsc::Sender<Instant>) {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = b"GET /api/v1/events/stream HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(head).await.unwrap();
    let (mut text, mut piece, mut begun, mut done) = (String::new(), [0; 8192], false, 0);
    loop {
        let read = stream.read(&mut piece).await.unwrap_or_default();
        if read == 0 {
            return;
        }
        let now = Instant::now();
        text.push_str(std::str::from_utf8(&piece[..read]).unwrap());
        if !begun && text.contains(": ostler") {
            begun = true;
            let _ = told.send(now);
        }
        let Some(end) = text.rfind('\n') else { continue };
        let number = text[..end].lines().filter_map(|l| l.strip_prefix("id: e")?.parse::<i64>().ok()).max();
        text.drain(..=end);
        let wanted = target.load(Ordering::SeqCst);
        if number.is_some_and(|number| number >= wanted) && done < wanted {
            done = wanted;
            let _ = told.send(now);
        }
    }
}

/// Requests per second on some connections: a run, against what reads nothing.
fn rates(server: &Server) {
    let newest = server.wire().get("/api/v1/runs?limit=1");
    let run = format!("/api/v1/runs/{}", newest["items"][0]["id"].as_str().unwrap());
    let (mut bare, mut ours, mut ratio) = (Figure::new(), Figure::new(), Figure::new());
    for _ in 0..ROUNDS {
        let a = rate(server, "/healthz");
        let b = rate(server, &run);
        bare.push(a);
        ours.push(b);
        ratio.push(b / a);
    }
    println!("    GET /healthz, {CONNECTIONS} at a time    {}", bare.shown("/s"));
    println!("    GET a run, {CONNECTIONS} at a time       {}", ours.shown("/s"));
    println!("    ratio                         {}", ratio.shown(""));
}

fn rate(server: &Server, path: &str) -> f64 {
    let (over, ready) = (AtomicBool::new(false), Barrier::new(CONNECTIONS + 1));
    let (over, ready) = (&over, &ready);
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                scope.spawn(move || {
                    let (mut wire, mut count) = (server.wire(), 0);
                    ready.wait();
                    while !over.load(Ordering::Relaxed) {
                        assert_eq!(wire.ask("GET", path, "").0, 200);
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        ready.wait();
        let begun = Instant::now();
        std::thread::sleep(RATE_TIME);
        over.store(true, Ordering::Relaxed);
        let took = begun.elapsed().as_secs_f64();
        asking.into_iter().map(|t| t.join().unwrap()).sum::<usize>() as f64 / took
    })
}

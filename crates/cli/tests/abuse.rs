//! What a stranger can send: the service keeps answering, and its memory stays within bounds that are stated here. The
//! real binary, raw sockets on the loopback address.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test fails where a value is missing")]

mod support;

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use support::{Server, Shop, is_long};

const FILE: &str = "
meta: { type: ostler-timetable, version: 1, namespace: demo }
tasks:
  - meta: { id: greet }
    run: 'true'
  - meta: { id: files }
    run: 'ulimit -Sn'
";

/// The peak of the server's resident memory in every test that floods it with bodies, answers or events, in MiB: 256 for
/// each sum that it keeps account of, twice while buffers grow, and what it needs itself.
const PEAK_FLOODED: usize = 900;

/// The peak beside so many idle connections, in MiB: 24 KiB for each, and what it needs itself.
fn peak_idle(connections: usize) -> usize {
    150 + connections * 24 / 1024
}

fn served(args: &[&str]) -> (Shop, Server) {
    support::served(FILE, args)
}

/// Everything that comes until the server closes; a reset counts as an end.
fn rest(stream: &mut TcpStream) -> String {
    let (mut bytes, mut piece) = (Vec::new(), [0; 64 << 10]);
    loop {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(n) => bytes.extend_from_slice(&piece[..n]),
            Err(e) if e.kind() == ErrorKind::ConnectionReset => break,
            Err(e) => panic!("the server did not close: {e}: {}", String::from_utf8_lossy(&bytes)),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Sends bytes, says that there are no more, and gives everything that comes back.
fn sent(server: &Server, bytes: &[u8]) -> String {
    let mut stream = server.connect();
    // The server may have answered and closed before it was all sent.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    rest(&mut stream)
}

/// The statuses of the answers in a text; bodies here have no such lines.
fn statuses(text: &str) -> Vec<u16> {
    let lines = text.split("HTTP/1.").skip(1).filter_map(|t| t.get(2..5));
    lines.filter_map(|t| t.parse().ok()).collect()
}

/// A request with the headers that every one needs.
fn request(line: &[u8], headers: &[u8], body: &[u8]) -> Vec<u8> {
    [line, b" HTTP/1.1\r\nHost: localhost\r\n", headers, b"\r\n", body].concat()
}

/// So many connections as were wanted, or as this machine lets a process have.
fn connections(wanted: usize) -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let found = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: found.maximum, ..found }).unwrap();
    let most = found.maximum.map_or(wanted, |files| usize::try_from(files).unwrap() / 2);
    if most < wanted {
        println!("{most} connections instead of {wanted}: this machine has no more files for a process");
    }
    wanted.min(most)
}

#[test]
fn heads_that_do_not_come_to_an_end_are_cut_and_others_are_answered() {
    let (_shop, server) = served(&["--client-time", "1s"]);
    let begun = Instant::now();
    let mut open: Vec<TcpStream> = (0..300).map(|_| server.connect()).collect();
    for (index, stream) in open.iter_mut().enumerate() {
        stream.set_nonblocking(true).unwrap();
        // Some send nothing at all, and some are idle behind an answer.
        match index % 3 {
            0 => {}
            1 => stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ").unwrap(),
            _ => stream.write_all(&request(b"GET /healthz", b"", b"")).unwrap(),
        }
    }
    let mut answered = 0;
    while !open.is_empty() {
        assert_eq!(server.get("/healthz").status, 200);
        answered += 1;
        open.retain_mut(|stream| {
            let mut piece = [0; 4096];
            loop {
                match stream.read(&mut piece) {
                    Ok(0) => return false,
                    Ok(_) => {}
                    Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                    Err(_) => return false,
                }
            }
            // A byte now and then is no progress.
            stream.write_all(b"a").is_ok()
        });
        assert!(begun.elapsed() < Duration::from_secs(10), "{} are still open", open.len());
    }
    assert!(begun.elapsed() >= Duration::from_secs(1), "cut before the time was up");
    println!("300 cut after {:?}, {answered} others answered", begun.elapsed());
    server.assert_well(PEAK_FLOODED);
}

#[test]
fn floods_of_headers_are_refused_and_cut() {
    let (_shop, server) = served(&[]);
    let many: String = (0..200).map(|n| format!("X-{n}: y\r\n")).collect();
    let large = format!("X: {}\r\n", "y".repeat(40 << 10));
    for headers in [many, large] {
        assert_eq!(statuses(&sent(&server, &request(b"GET /healthz", headers.as_bytes(), b""))), [431]);
    }
    for length in [33 << 10, 200 << 10] {
        let line = format!("GET /{}", "y".repeat(length));
        let found = statuses(&sent(&server, &request(line.as_bytes(), b"", b"")));
        assert!(matches!(found[..], [414 | 431]), "{found:?}");
    }
    // One that never ends; what the sockets hold is the system's.
    let mut stream = server.connect();
    let mut taken = 0;
    stream.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    while taken < 64 << 20 {
        match stream.write(&[b'y'; 16 << 10]) {
            Ok(n) => taken += n,
            Err(_) => break,
        }
    }
    assert!(taken < 64 << 20, "it read on and on");
    assert_eq!(statuses(&rest(&mut stream)), [431]);
    server.assert_well(200);
}

#[test]
fn bodies_beyond_the_limits_are_refused_without_being_kept() {
    let (_shop, server) = served(&["--client-time", "1s"]);
    let json = "Content-Type: application/json\r\n";
    let post = |headers: String| request(b"POST /api/v1/runs", (json.to_owned() + &headers).as_bytes(), b"");
    // Told at once: nothing of the body is there.
    let mut stream = server.connect();
    stream.write_all(&post(format!("Content-Length: {}\r\n", 40 << 20))).unwrap();
    assert_eq!(statuses(&rest(&mut stream)), [413]);
    // No length and no end.
    let mut stream = server.connect();
    stream.write_all(&post("Transfer-Encoding: chunked\r\n".into())).unwrap();
    let chunk = [b"100000\r\n".as_slice(), &vec![b' '; 1 << 20], b"\r\n"].concat();
    let taken = (0..200).take_while(|_| stream.write_all(&chunk).is_ok()).count();
    assert!(taken < 100, "{taken} MiB were taken");
    assert_eq!(statuses(&rest(&mut stream)), [413]);
    // Promised, and not there in time; whoever waits for that holds up nobody.
    let mut slow: Vec<TcpStream> = (0..100).map(|_| server.connect()).collect();
    for stream in &mut slow {
        stream.write_all(&post("Content-Length: 1000000\r\n".into())).unwrap();
        stream.write_all(b"{").unwrap();
    }
    assert_eq!(server.post("/api/v1/tasks/demo/greet/runs", &json!({})).status, 201);
    for stream in &mut slow {
        let text = rest(stream);
        assert_eq!(statuses(&text), [400], "{text}");
        assert!(text.contains("was not there after 2 s"), "{text}");
    }
    server.assert_well(PEAK_FLOODED);
}

#[test]
fn many_large_bodies_at_once_are_refused_in_part() {
    let (_shop, server) = served(&[]);
    // Each within the limit, all together far beyond what is kept at a time.
    let size = 30 << 20;
    let head = request(
        b"POST /api/v1/runs",
        format!("Content-Type: text/plain\r\nContent-Length: {size}\r\n").as_bytes(),
        b"",
    );
    let found: Vec<u16> = std::thread::scope(|scope| {
        let flood: Vec<_> = (0..24)
            .map(|_| {
                scope.spawn(|| {
                    let mut stream = server.connect();
                    stream.write_all(&head).unwrap();
                    let piece = vec![b' '; 1 << 20];
                    // The last byte is kept back until all have sent the rest or were refused.
                    let whole = (0..29).all(|_| stream.write_all(&piece).is_ok());
                    (stream, whole)
                })
            })
            .collect();
        let streams: Vec<_> = flood.into_iter().map(|t| t.join().unwrap()).collect();
        assert_eq!(server.get("/healthz").status, 200);
        let finish = |(mut stream, _): (TcpStream, bool)| {
            let _ = stream.write_all(&vec![b' '; 1 << 20]);
            let _ = stream.shutdown(Shutdown::Write);
            statuses(&rest(&mut stream)).first().copied().unwrap_or_default()
        };
        streams.into_iter().map(finish).collect()
    });
    let refused = found.iter().filter(|s| **s == 429).count();
    assert!(refused > 10, "{found:?}");
    assert!(found.iter().all(|s| matches!(s, 415 | 429)), "{found:?}");
    server.assert_well(PEAK_FLOODED);
}

#[test]
fn bodies_that_say_much_with_few_bytes_are_refused() {
    let (_shop, server) = served(&[]);
    let post =
        |path: &str, body: &str| server.ask("POST", path, &[("content-type", "application/json")], body);
    let starts =
        |inputs: String| format!("{{\"namespace\":\"demo\",\"task\":\"greet\",\"inputs\":{inputs}}}");
    let numbers = |count: usize| starts(format!("{{\"a\":[0{}]}}", ",0".repeat(count)));
    assert_eq!(post("/api/v1/runs", &numbers(4_000_000)).status, 413);
    let objects = starts(format!("{{\"a\":[{{\"a\":0}}{}]}}", ",{\"a\":0}".repeat(100_000)));
    assert_eq!(post("/api/v1/runs", &objects).status, 400, "below the limit, and `greet` takes no inputs");
    let deep = starts(format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000)));
    assert_eq!(post("/api/v1/runs", &deep).status, 400);
    let yaml = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned()
        + &(b'b'..b'j').map(|c| {
            let (now, before) = (c as char, (c - 1) as char);
            format!("{now}: &{now} [*{before},*{before},*{before},*{before},*{before},*{before},*{before},*{before}]\n")
        }).collect::<String>();
    let answer = server.ask("PUT", "/api/v1/definitions", &[("content-type", "application/yaml")], &yaml);
    assert_eq!(answer.status, 400, "{}", answer.text);
    server.assert_well(PEAK_FLOODED);
}

#[test]
fn what_is_not_utf_8_is_a_problem_and_no_other_text() {
    let (_shop, server) = served(&[]);
    let json = b"Content-Type: application/json\r\n";
    let with_body = |line: &[u8], kind: &[u8], body: &[u8]| {
        request(line, &[kind, format!("Content-Length: {}\r\n", body.len()).as_bytes()].concat(), body)
    };
    let key = [json.as_slice(), b"Idempotency-Key: a\xff\r\nContent-Length: 2\r\n"].concat();
    let table: [(Vec<u8>, u16); 10] = [
        (request(b"GET /api/v1/tasks/%ff/x", b"", b""), 400),
        (request(b"GET /api/v1/runs?namespace=%ff", b"", b""), 400),
        (request(b"GET /api/v1/runs?after=%c3%28", b"", b""), 400),
        (request(b"GET /api/v1/events/stream", b"Last-Event-ID: e\xff\r\n", b""), 400),
        (request(b"GET /api/v1/runs", b"Authorization: Bearer \xff\r\n", b""), 401),
        (request(b"POST /api/v1/tasks/demo/greet/runs", &key, b"{}"), 400),
        (with_body(b"POST /api/v1/runs", json, b"{\"namespace\":\"\xff\",\"task\":\"x\"}"), 400),
        (with_body(b"POST /api/v1/runs", json, b"{\"namespace\":\"\\ud800\",\"task\":\"x\"}"), 400),
        (with_body(b"PUT /api/v1/definitions", b"Content-Type: application/yaml\r\n", b"a: \xff\xfe"), 400),
        (with_body(b"POST /hooks/%ff/%fe/%fd", json, b"{}"), 400),
    ];
    for (bytes, status) in table {
        let (shown, text) = (String::from_utf8_lossy(&bytes).into_owned(), sent(&server, &bytes));
        assert_eq!(statuses(&text), [status], "{shown}: {text}");
        assert!(text.contains("content-type: application/problem+json"), "{shown}: {text}");
    }
    // Not even a request.
    assert_eq!(statuses(&sent(&server, &request(b"GET /api/v1/tasks/\xff/x", b"", b""))), [400]);
    // An id that cannot stand in a log is not handed back.
    let text = sent(&server, &request(b"GET /healthz", b"X-Request-Id: \xff\r\n", b""));
    assert!(statuses(&text) == [200] && !text.contains('\u{fffd}'), "{text}");
    server.assert_well(200);
}

#[test]
fn paths_lead_to_no_file() {
    let (_shop, server) = served(&[]);
    let long = format!("/api/v1/tasks/demo/{}", "a".repeat(20 << 10));
    let paths = [
        "/../../../../etc/passwd",
        "/api/v1/../../../../etc/passwd",
        "/api/v1/..%2f..%2f..%2fetc%2fpasswd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/..;/..;/etc/passwd",
        "//etc/passwd",
        "/etc/passwd",
        "/demo.yaml",
        "/api/v1/tasks/demo/..%2f..%2f..%2fetc%2fpasswd",
        "/api/v1/tasks/demo/..%5c..%5cetc",
        "/api/v1/tasks/%2e%2e/%2e%2e",
        "/api/v1/tasks/demo/greet%00",
        "/api/v1/tasks/%00/%00",
        "/api/v1/tasks/demo/%0d%0aX-Evil:%20yes",
        "/api/v1/runs/..%2f..%2fetc%2fpasswd/logs",
        "/api/v1/namespaces/..",
        long.as_str(),
    ];
    for path in paths {
        let text = sent(&server, &request(format!("GET {path}").as_bytes(), b"", b""));
        let found = statuses(&text);
        assert!(matches!(found[..], [400 | 404 | 405 | 414]), "{path:.100}: {text:.500}");
        assert!(!text.contains("root:") && !text.contains("\r\nX-Evil"), "{path:.100}: {text:.500}");
    }
    server.assert_well(200);
}

#[test]
fn nothing_can_be_smuggled_behind_a_request() {
    let (_shop, server) = served(&[]);
    let hidden = b"GET /api/v1/nodes HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let post = |headers: &str, body: &[u8]| {
        let headers = format!("Content-Type: application/json\r\n{headers}");
        [request(b"POST /api/v1/tasks/demo/greet/runs", headers.as_bytes(), body), hidden.to_vec()].concat()
    };
    let refused = [
        "Content-Length: 2\r\nContent-Length: 90\r\n",
        "Content-Length: 2, 90\r\n",
        "Content-Length: +2\r\n",
        "Content-Length: -2\r\n",
        "Content-Length: 0x2\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Content-Length : 2\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "X: y\r\n Content-Length: 2\r\n",
    ];
    for headers in refused {
        let found = statuses(&sent(&server, &post(headers, b"{}")));
        assert_eq!(found, [400], "{headers:?}");
    }
    // With both, the chunks count and nothing behind them is read (RFC 9112, section 6.3): the hidden one is no answer.
    let chunks = b"2\r\n{}\r\n0\r\n\r\n";
    for headers in [
        "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 400\r\n",
    ] {
        let found = statuses(&sent(&server, &post(headers, chunks)));
        assert!(matches!(found[..], [201 | 400]), "{headers:?}: {found:?}");
    }
    for chunks in ["2;\r\n{}", "fffffffffffffffff\r\n{}", "-2\r\n{}", "zz\r\n{}\r\n0\r\n\r\n"] {
        let found = statuses(&sent(&server, &post("Transfer-Encoding: chunked\r\n", chunks.as_bytes())));
        assert!(matches!(found[..], [] | [400]), "{chunks:?}: {found:?}");
    }
    // Two hosts or none: whose request it is would be a matter of opinion.
    for head in [
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        "GET /healthz HTTP/1.1\r\n\r\n",
    ] {
        assert_eq!(statuses(&sent(&server, head.as_bytes())), [400], "{head}");
    }
    server.assert_well(200);
}

#[test]
fn other_protocols_and_noise_are_answered_or_cut() {
    let (_shop, server) = served(&[]);
    let noise: Vec<u8> = (0u32..100_000).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let table: [(&[u8], &[u16]); 10] = [
        (b"GET /healthz HTTP/1.0\r\n\r\n", &[200]),
        (b"GET /healthz\r\n\r\n", &[400]),
        (b"GET /healthz HTTP/9.9\r\n\r\n", &[400]),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[400]),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", &[400]),
        (b"CONNECT evil.example:443 HTTP/1.1\r\nHost: localhost\r\n\r\n", &[404]),
        (b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", &[404]),
        (b"TRACE /api/v1/runs HTTP/1.1\r\nHost: localhost\r\n\r\n", &[405]),
        (b"", &[]),
        (&noise, &[400]),
    ];
    for (bytes, expected) in table {
        let text = sent(&server, bytes);
        let found = statuses(&text);
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        assert!(found == expected || found.is_empty() && expected == [400], "{shown}: {text:.300}");
    }
    assert!(statuses(&sent(&server, &b"\r\n".repeat(200_000))).iter().all(|s| matches!(s, 400 | 431)));
    // Methods that nobody knows leave nothing behind.
    let many: Vec<u8> =
        (0..500).flat_map(|n| request(format!("MADE-UP-{n} /").as_bytes(), b"", b"")).collect();
    assert_eq!(statuses(&sent(&server, &many)), [404; 500]);
    let metrics = server.get("/metrics").text;
    assert!(metrics.contains("method=\"other\"") && !metrics.contains("MADE-UP"), "{metrics}");
    // Answers come in the order of the requests.
    let paths = ["/healthz", "/nothing", "/api/v1/runs"];
    let many: Vec<u8> =
        (0..300).flat_map(|n| request(format!("GET {}", paths[n % 3]).as_bytes(), b"", b"")).collect();
    assert_eq!(statuses(&sent(&server, &many)), [200, 404, 200].repeat(100));
    server.assert_well(200);
}

#[test]
fn idle_connections_take_little_and_hold_nobody_up() {
    let (_shop, server) = served(&["--client-time", "120s"]);
    let wanted = connections(if is_long() { 10_000 } else { 2_000 });
    let mut open: Vec<TcpStream> = (0..wanted).map(|_| server.connect()).collect();
    for (index, stream) in open.iter_mut().enumerate() {
        if index % 2 == 0 {
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ").unwrap();
        }
    }
    let begun = Instant::now();
    for _ in 0..20 {
        assert_eq!(server.get("/api/v1/runs?limit=10").status, 200);
    }
    println!("beside {wanted} connections a request takes {:?}", begun.elapsed() / 20);
    server.assert_well(peak_idle(wanted));
    // They are still there: one that comes to its end is answered.
    for stream in open.iter_mut().step_by(100) {
        stream.write_all(b"y\r\nConnection: close\r\n\r\n").unwrap();
        assert_eq!(statuses(&rest(stream)), [200]);
    }
}

#[test]
fn the_limit_of_open_files_is_raised_for_the_server_and_not_for_steps() {
    let shop = Shop::new();
    shop.write("demo.yaml", FILE);
    let server = shop.serve_after("ulimit -Sn 300", &["demo.yaml"]);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.child.id())).unwrap();
    let line = limits.lines().find(|l| l.starts_with("Max open files")).unwrap();
    let numbers: Vec<&str> = line.split_whitespace().skip(3).take(2).collect();
    assert_eq!(numbers[0], numbers[1], "{line}");
    let id = server.post("/api/v1/tasks/demo/files/runs", &json!({})).json()["id"].clone();
    let path = format!("/api/v1/runs/{}/logs?wait=30", id.as_str().unwrap());
    let mut page = Value::Null;
    shop.wait_for("its line", || {
        page = server.get(&path).json();
        page["items"].as_array().is_some_and(|lines| !lines.is_empty())
    });
    assert_eq!(page["items"][0]["line"], "300", "{page}");
}

//! The documentation keeps what it promises: its examples run, its files are right.
//!
//! `docs/http.md` and `docs/worker.md` are sessions with a server: the first `yaml` block is the file that is served, each `sh` block is run
//! by `sh -eu` in one folder (variables go on to the next one), and what a `json` or `text` block behind it shows is
//! what it must have written. `...` in such a block stands for anything; in JSON, spaces and line breaks between values
//! do not count.
#![allow(clippy::unwrap_used, reason = "a test fails where a value is missing")]

mod support;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use support::{Shop, told};

/// A fenced block of a page.
struct Block {
    /// The word behind the fence.
    kind: String,
    /// The line of the page on which it begins.
    line: usize,
    text: String,
}

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open = false;
    for (at, line) in page.lines().enumerate() {
        match line.strip_prefix("```") {
            Some(kind) if !open => {
                blocks.push(Block { kind: kind.to_owned(), line: at + 1, text: String::new() });
                open = true;
            }
            Some(_) => open = false,
            None if open => {
                let block = blocks.last_mut().unwrap();
                block.text.push_str(line);
                block.text.push('\n');
            }
            None => {}
        }
    }
    assert!(!open, "the last block is not closed");
    blocks
}

/// Whether a text is as a pattern shows it; `...` in the pattern stands for anything.
fn fits(pattern: &str, text: &str) -> bool {
    let parts: Vec<&str> = pattern.split("...").collect();
    let [first, middle @ .., last] = parts.as_slice() else { return pattern == text };
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// JSON (or a pattern of it) without what stands between its values.
fn compact(json: &str) -> String {
    let (mut out, mut inside, mut escaped) = (String::new(), false, false);
    for c in json.chars().filter(|c| *c != '\r') {
        if inside {
            out.push(c);
            inside = escaped || c != '"';
            escaped = c == '\\' && !escaped;
        } else if !c.is_whitespace() {
            out.push(c);
            inside = c == '"';
        }
    }
    // What is left out between two values may be nothing.
    out.replace(",...,", "...,").replace(",...]", "...]").replace(",...}", "...}")
}

/// Lines without spaces at their ends.
fn lines(text: &str) -> String {
    text.trim_end().lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

fn tool(name: &str, packages: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file()).unwrap_or_else(|| {
        panic!("the examples need {name}, and it is not installed: `apt-get install {packages}`, `dnf install {packages}` or `apk add {packages}`")
    })
}

#[test]
fn the_examples_of_the_http_api_run_and_are_answered_as_shown() {
    assert!(run_examples("http.md", &["admin"], &[]) >= 20);
}

#[test]
fn the_examples_of_the_protocol_of_workers_run_and_are_answered_as_shown() {
    assert!(run_examples("worker.md", &["work", "admin"], &["--slots", "0"]) >= 7);
}

/// Runs the examples of a page; gives how many showed an answer. `TOKEN` is a token with the first scope, `ADMIN` one with
/// the last.
fn run_examples(name: &str, scopes: &[&str], options: &[&str]) -> usize {
    for name in ["curl", "jq", "openssl"] {
        tool(name, name);
    }
    let page = page(name);
    let blocks = blocks(&page);
    let mut shop = Shop::new();
    shop.set("OSTLER_SECRET_HOOK", "opensesame");
    shop.set("OSTLER_SECRET_KEY", "opensesame");
    let file = blocks.iter().find(|b| b.kind == "yaml").unwrap();
    shop.write("demo.yaml", &file.text);
    let secret = |name: &str, scope: &&str| {
        let made = shop.json(&["tokens", "create", name, "--scope", scope]);
        made["secret"].as_str().unwrap().to_owned()
    };
    let token = secret("docs", scopes.first().unwrap());
    let admin = secret("admin", scopes.last().unwrap());
    let server = shop.serve(&[&["demo.yaml", "--require-token"], options].concat());
    shop.write("variables", "");
    let mut ran = 0;
    for (at, block) in blocks.iter().enumerate().filter(|(_, b)| b.kind == "sh") {
        let script = format!("set -a; . ./variables\n{}\nexport -p > ./variables", block.text);
        let run = Command::new("timeout")
            .args(["60", "sh", "-eu", "-c", &script])
            .current_dir(shop.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", shop.path())
            .env("URL", &server.url)
            .env("TOKEN", &token)
            .env("ADMIN", &admin)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let told = told(run);
        let place = format!("docs/{name}:{}", block.line);
        assert_eq!(told.code, 0, "{place}: {}{}", told.out, told.err);
        let (shown, found) = match blocks.get(at + 1) {
            Some(next) if next.kind == "json" => {
                assert!(
                    serde_json::from_str::<serde_json::Value>(&told.out).is_ok(),
                    "{place} wrote no JSON: {}",
                    told.out
                );
                (compact(&next.text), compact(&told.out))
            }
            Some(next) if next.kind == "text" => (lines(&next.text), lines(&told.out)),
            _ => continue,
        };
        assert!(fits(&shown, &found), "{place} is not answered as shown.\nshown: {shown}\nfound: {found}");
        ran += 1;
    }
    ran
}

#[test]
fn every_definition_file_that_is_shown_is_right() {
    for name in ["http.md", "triggers.md", "sinks.md", "sql.md", "container.md", "worker.md"] {
        let text = page(name);
        let files: Vec<_> = blocks(&text).into_iter().filter(|b| b.kind == "yaml").collect();
        assert!(!files.is_empty(), "docs/{name} shows no file");
        for block in files {
            let shop = Shop::new();
            shop.write("shown.yaml", &block.text);
            let told = shop.run(&["check", "shown.yaml"]);
            assert_eq!(
                (told.code, told.err.as_str()),
                (0, ""),
                "docs/{name}:{}: {}{}",
                block.line,
                told.out,
                told.err
            );
        }
    }
}

/// The first lines of the requests that come, each answered with 200.
fn listener() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let kept = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let (mut first, mut length) = (String::new(), 0);
            stream.read_line(&mut first).unwrap();
            let mut line = String::new();
            while stream.read_line(&mut line).unwrap() > 2 {
                if let Some(number) = line.to_lowercase().strip_prefix("content-length:") {
                    length = number.trim().parse().unwrap();
                }
                line.clear();
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            let asked = format!("{} {}", first.trim_end(), String::from_utf8_lossy(&body));
            kept.lock().unwrap().push(asked.trim_end().to_owned());
            let _ = stream
                .get_mut()
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nOK");
        }
    });
    (url, asked)
}

#[test]
fn the_pings_that_are_shown_reach_whoever_watches() {
    let page = page("triggers.md");
    let (_, part) = page.split_once("### Pings").unwrap();
    let file = blocks(part).into_iter().find(|b| b.kind == "yaml").unwrap().text;
    for (file, state, ends) in [
        (file.clone(), 0, "GET /uuid?rid=RUN HTTP/1.1"),
        (file.replace("echo dump", "exit 3"), 1, "POST /uuid/fail?rid=RUN HTTP/1.1 step dump"),
    ] {
        let (url, asked) = listener();
        let mut shop = Shop::new();
        shop.set("OSTLER_SECRET_PING", Box::leak(format!("{url}/uuid").into_boxed_str()));
        shop.write("ping.yaml", &file);
        let told = shop.run(&["run", "ping.yaml"]);
        assert_eq!(told.code, state, "{}{}", told.out, told.err);
        let run = shop.json(&["runs", "list"])["items"][0]["id"].as_str().unwrap().to_owned();
        let asked: Vec<String> = asked.lock().unwrap().iter().map(|line| line.replace(&run, "RUN")).collect();
        assert_eq!(asked, ["GET /uuid/start?rid=RUN HTTP/1.1", ends]);
    }
}

#[test]
fn pages_link_to_what_is_there() {
    let heading = |line: &str| {
        let words = line.trim_start_matches('#').trim().to_lowercase();
        let kept = words.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.collect::<String>().replace(' ', "-")
    };
    for name in ["http.md", "triggers.md", "sinks.md", "sql.md", "container.md", "sources.md", "worker.md"] {
        for (_, link) in page(name).match_indices("](").map(|(at, _)| (at, page(name)[at + 2..].to_owned())) {
            let link = link.split(')').next().unwrap().to_owned();
            if link.starts_with("https://") {
                continue;
            }
            let (file, part) = link.split_once('#').unwrap_or((&link, ""));
            let target = page(if file.is_empty() { name } else { file });
            let found = part.is_empty() || target.lines().any(|l| l.starts_with('#') && heading(l) == part);
            assert!(found, "docs/{name} links to {link}, and there is no such part");
        }
    }
}

#[test]
fn a_pattern_fits_what_it_shows_and_nothing_else() {
    assert!(fits("a...c...", "abbcd") && fits("...", "") && fits("ab", "ab"));
    assert!(!fits("a...c", "abcd") && !fits("ab", "abc") && !fits("...x...x", "ax"));
    let pattern = compact("{ \"a b\": \"\\\" x\",\n  ..., \"c\": [ 1, ... ] }");
    assert_eq!(pattern, r#"{"a b":"\" x"...,"c":[1...]}"#);
    assert!(
        fits(&pattern, r#"{"a b":"\" x","c":[1]}"#) && fits(&pattern, r#"{"a b":"\" x","d":2,"c":[1,2]}"#)
    );
    assert!(!fits(&pattern, r#"{"a b":"\" x","c":[2]}"#));
}

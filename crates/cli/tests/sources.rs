//! Definitions from elsewhere: archives over HTTP, repositories, pins, changes while they are served.
#![allow(clippy::unwrap_used, reason = "a test fails where a value is missing")]

mod support;

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    path::Path,
    process::Command,
};

use support::Shop;

fn file(line: &str) -> String {
    format!(
        "meta: {{ type: ostler-timetable, version: 1, namespace: ops }}\ntasks:\n  - {{ meta: {{ id: hello }}, run: '{line}' }}\n"
    )
}

/// A command that must succeed.
fn sh(folder: &Path, script: &str) -> String {
    let output = Command::new("sh")
        .args(["-euc", script])
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_AUTHOR_NAME", "a")
        .env("GIT_AUTHOR_EMAIL", "a@example.org")
        .env("GIT_COMMITTER_NAME", "a")
        .env("GIT_COMMITTER_EMAIL", "a@example.org")
        .output()
        .unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn a_folder_of_a_repository_is_pushed_pinned_and_followed() {
    let shop = Shop::new();
    let repository = shop.path().join("repository");
    shop.write("repository/ops/a.yaml", &file("cat words.txt"));
    shop.write("repository/ops/words.txt", "first");
    let first = sh(&repository, "git init -q -b main; git add -A; git commit -qm 1; git rev-parse HEAD");
    let url = format!("git+file://{}", repository.display());
    let source = format!("{url}#ref=main&path=ops");
    // What lies beside the file is there when it runs.
    let told = shop.run(&["run", &source]);
    assert!(told.out.contains("first"), "{}{}", told.out, told.err);
    assert_eq!(shop.run(&["push", &source]).code, 0);
    let task = shop.json(&["tasks", "show", "ops:hello"]);
    assert_eq!(task["origin"], format!("{url}#ops/a.yaml"));
    // Another version of the same place is the same origin.
    let server = shop.serve(&[&source, "--poll", "200ms"]);
    shop.write("repository/ops/a.yaml", &file("cat words.txt; echo second"));
    sh(&repository, "git commit -qam 2");
    shop.wait_for("the new version", || {
        let task = shop.json(&["tasks", "show", "ops:hello"]);
        assert_eq!(task["missing"], false);
        task["version"] == 2
    });
    assert_eq!(server.end(), 0);
    let pinned = shop.run(&["check", &format!("{url}#commit={first}&path=ops/a.yaml")]);
    assert_eq!(pinned.code, 0, "{}", pinned.err);
    for (fragment, words) in [
        ("#ref=nowhere", "git ended with"),
        ("#path=none", "holds no `none`"),
        ("#ref=main&path=../etc", "says nothing of a source"),
    ] {
        let told = shop.run(&["check", &format!("{url}{fragment}")]);
        assert_ne!(told.code, 0);
        assert!(told.err.contains(words), "{fragment}: {}", told.err);
    }
}

/// Answers each request with the bytes.
fn hand_out(bytes: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if stream.read(&mut byte).unwrap_or(0) == 0 {
                    break;
                }
                head.push(byte[0]);
            }
            let answer =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", bytes.len());
            let _ = stream.write_all(answer.as_bytes()).and_then(|()| stream.write_all(&bytes));
        }
    });
    format!("http://{address}")
}

#[test]
fn an_archive_is_unpacked_and_holds_to_its_digest() {
    let shop = Shop::new();
    shop.write("work/repo-1/ops/a.yaml", &file("cat beside"));
    shop.write("work/repo-1/ops/beside", "it lies beside");
    shop.write("work/repo-1/README", "no definitions here");
    let work = shop.path().join("work");
    sh(&work, "tar czf ../ops.tar.gz repo-1");
    let digest = sh(shop.path(), "sha256sum ops.tar.gz | cut -d' ' -f1");
    let url = hand_out(std::fs::read(shop.path().join("ops.tar.gz")).unwrap());
    let source = format!("{url}/v1.tar.gz#path=ops&sha256={digest}");
    let told = shop.run(&["run", &source]);
    assert!(told.out.contains("it lies beside"), "{}{}", told.out, told.err);
    let other = shop.run(&["push", &format!("{url}/v1.tar.gz#path=ops&sha256={}", "0".repeat(64))]);
    assert_eq!(other.code, 2);
    assert!(other.err.contains("is not what it is pinned to"), "{}", other.err);
    assert_eq!(shop.run(&["tasks", "show", "ops:hello"]).code, 0);
    let gone = shop.run(&["check", "s3://bucket/a.yaml"]);
    assert!(gone.err.contains("aws"), "{}", gone.err);
}

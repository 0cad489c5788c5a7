//! A store of its own and the real binary, for tests that use Ostler as a person does.
#![allow(dead_code, reason = "each test file uses a part")]

pub(crate) mod draw;
pub(crate) mod way;

use std::{
    io::{BufRead, BufReader},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::Value;

/// A folder with a store in it.
pub(crate) struct Shop {
    folder: tempfile::TempDir,
    variables: Vec<(&'static str, &'static str)>,
}

/// A process that does not outlive its test, however that ends.
pub(crate) struct Spawned(Option<Child>);

impl Spawned {
    pub(crate) fn new(child: Child) -> Self {
        Self(Some(child))
    }

    /// Waits for its end and everything it wrote.
    pub(crate) fn told(mut self) -> Told {
        told(self.0.take().unwrap().wait_with_output().unwrap())
    }
}

impl std::ops::Deref for Spawned {
    type Target = Child;

    fn deref(&self) -> &Child {
        self.0.as_ref().unwrap()
    }
}

impl std::ops::DerefMut for Spawned {
    fn deref_mut(&mut self) -> &mut Child {
        self.0.as_mut().unwrap()
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A `serve` at work.
pub(crate) struct Server {
    pub(crate) child: Spawned,
    pub(crate) url: String,
    told: Arc<Mutex<String>>,
}

/// An answer over HTTP.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }
}

impl Server {
    /// What it has said on standard error.
    pub(crate) fn told(&self) -> String {
        self.told.lock().unwrap().clone()
    }

    /// One request with headers and a body.
    pub(crate) fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = ostler_client::plain(Duration::from_secs(60)).unwrap();
            let mut request = client.request(method.parse().unwrap(), format!("{}{path}", self.url));
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let answer = request.body(body.to_owned()).send().await.unwrap();
            let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
            Answer { status, headers, text: answer.text().await.unwrap() }
        })
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], "")
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, &[("content-type", "application/json")], &body.to_string())
    }

    /// A connection on which nothing has been sent.
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.url.trim_start_matches("http://")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// It answers, and has never had more resident memory than so many MiB.
    pub(crate) fn assert_well(&self, most_mib: usize) {
        assert_eq!(self.get("/healthz").status, 200);
        assert_eq!(self.get("/api/v1/runs?limit=1").status, 200);
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
        let peak = line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() / 1024;
        println!("peak of resident memory: {peak} MiB of {most_mib} MiB");
        assert!(peak < most_mib, "{peak} MiB");
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(mut self) {
        self.kill_now();
    }

    /// The same, and its address is still known.
    pub(crate) fn kill_now(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends it with SIGTERM and gives its exit code.
    pub(crate) fn end(mut self) -> i32 {
        let sent = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
        self.child.wait().unwrap().code().unwrap_or(-1)
    }
}

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Whether tests are to run at full size.
pub(crate) fn is_long() -> bool {
    std::env::var_os("OSTLER_TEST_LONG").is_some_and(|v| v == "1")
}

/// A shop whose `serve` has a definition file, which is `demo.yaml`.
pub(crate) fn served(file: &str, args: &[&str]) -> (Shop, Server) {
    let shop = Shop::new();
    shop.write("demo.yaml", file);
    let server = shop.serve(&[&["demo.yaml"], args].concat());
    (shop, server)
}

impl Shop {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), variables: Vec::new() }
    }

    /// Sets a variable of the environment of what is run from now on.
    pub(crate) fn set(&mut self, name: &'static str, value: &'static str) {
        self.variables.push((name, value));
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.path().join("ostler.db")
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The binary on this shop's store, in this shop's folder, with an environment that depends on nobody's.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        self.program(env!("CARGO_BIN_EXE_ostler"), args)
    }

    fn program(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args);
        surround(&mut command, self.path(), &self.store(), &self.variables);
        command
    }

    /// Makes such commands later, without the shop.
    pub(crate) fn maker(&self) -> impl Fn(&[&str]) -> Command + use<> {
        let (folder, store, variables) = (self.path().to_owned(), self.store(), self.variables.clone());
        move |args| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_ostler"));
            command.args(args);
            surround(&mut command, &folder, &store, &variables);
            command
        }
    }

    pub(crate) fn run(&self, args: &[&str]) -> Told {
        told(self.command(args).output().unwrap())
    }

    /// Runs a command that must succeed and gives its one document.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let told = self.run(&[args, &["--output", "json"]].concat());
        assert_eq!(told.code, 0, "{args:?}: {}{}", told.out, told.err);
        serde_json::from_str(&told.out).unwrap_or_else(|e| panic!("{args:?}: {e}: {}", told.out))
    }

    pub(crate) fn spawn(&self, args: &[&str]) -> Spawned {
        spawned(self.command(args))
    }

    /// A process whose words nobody reads.
    pub(crate) fn spawn_quietly(&self, mut command: Command) -> Spawned {
        Spawned(Some(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()))
    }

    /// A `serve` that listens on a port of its own; gives it when it answers.
    pub(crate) fn serve(&self, args: &[&str]) -> Server {
        self.served(spawned(self.command(&[&SERVE[..], args].concat())))
    }

    /// A `serve` that a shell begins, after a command of its own.
    pub(crate) fn serve_after(&self, shell: &str, args: &[&str]) -> Server {
        let script = format!("{shell}; exec \"$0\" \"$@\"");
        let args = [&["-c", &script, env!("CARGO_BIN_EXE_ostler")], &SERVE[..], args].concat();
        self.served(spawned(self.program("sh", &args)))
    }

    /// A `serve` by a command of one's own.
    pub(crate) fn serve_by(&self, command: Command) -> Server {
        self.served(spawned(command))
    }

    fn served(&self, mut child: Spawned) -> Server {
        let told = Arc::new(Mutex::new(String::new()));
        let (kept, mut stderr) = (told.clone(), BufReader::new(child.stderr.take().unwrap()));
        std::thread::spawn(move || {
            let mut line = String::new();
            while stderr.read_line(&mut line).is_ok_and(|n| n > 0) {
                kept.lock().unwrap().push_str(&line);
                line.clear();
            }
        });
        let url = || {
            let told = told.lock().unwrap();
            let at = told.find("http://")?;
            told[at..].split(';').next().map(str::to_owned)
        };
        self.wait_for("the address", || url().is_some() || child.try_wait().unwrap().is_some());
        let url = url().unwrap_or_else(|| panic!("it did not serve: {}", told.lock().unwrap()));
        Server { child, url, told }
    }

    /// Waits until something holds; panics with `what` after half a minute.
    pub(crate) fn wait_for(&self, what: &str, mut holds: impl FnMut() -> bool) {
        for _ in 0..600 {
            if holds() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("{what} did not come about in 30 s");
    }
}

/// A folder and an environment that depends on nobody's.
fn surround(command: &mut Command, folder: &Path, store: &Path, variables: &[(&'static str, &'static str)]) {
    command
        .current_dir(folder)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", folder)
        .env("USER", "tester")
        .env("TZ", "UTC")
        .env("OSTLER_STORE", store)
        .envs(variables.iter().copied())
        .stdin(Stdio::null());
}

/// What is served at a port of its own.
const SERVE: [&str; 3] = ["serve", "--listen", "127.0.0.1:0"];

fn spawned(mut command: Command) -> Spawned {
    Spawned(Some(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()))
}

pub(crate) fn told(output: Output) -> Told {
    Told {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

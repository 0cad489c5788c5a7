//! Nodes and workers as real processes: started, killed, stopped, and started again when they have ended, as a service
//! manager would.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use ostler_client::{Blocking, Server};
use ostler_test_servers::private::free_port;

use crate::{
    skew::Skew,
    support::{Shop, Spawned, way::Way},
};

/// After how long a worker of these tests is given up.
pub(crate) const WORKER_LEASE: &str = "6s";

/// A process of the fleet.
pub(crate) struct Member {
    pub(crate) name: String,
    make: Box<dyn Fn() -> Command>,
    process: Option<Spawned>,
    log: PathBuf,
    /// When it is started again; not before it is let go on where it is stopped.
    back_at: Option<Instant>,
    pub(crate) is_stopped: bool,
    lives: usize,
    /// Exit codes of the lives that it ended itself.
    pub(crate) ended: Vec<i32>,
}

impl Member {
    fn new(name: String, folder: &Path, make: impl Fn() -> Command + 'static) -> Self {
        let log = folder.join(format!("{name}.log"));
        let mut new = Self {
            name,
            make: Box::new(make),
            process: None,
            log,
            back_at: None,
            is_stopped: false,
            lives: 0,
            ended: Vec::new(),
        };
        new.begin();
        new
    }

    fn begin(&mut self) {
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        let mut command = (self.make)();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.process = Some(Spawned::new(command.spawn().unwrap()));
        self.lives += 1;
        self.back_at = None;
    }

    /// Starts it again when it is time, or has ended itself.
    pub(crate) fn look(&mut self) {
        match (&mut self.process, self.back_at) {
            (Some(process), _) => {
                if let Some(status) = process.try_wait().unwrap() {
                    self.ended.push(status.code().unwrap_or(-1));
                    self.begin();
                }
            }
            (None, Some(at)) if at > Instant::now() => {}
            (None, _) => self.begin(),
        }
    }

    pub(crate) fn is_at_work(&self) -> bool {
        self.process.is_some() && !self.is_stopped
    }

    /// Whether a node has a lease that it can lose, which one that is just starting has not.
    pub(crate) fn has_lease(&self) -> bool {
        self.told().matches("; Ctrl-C or SIGTERM ends it").count() == self.lives
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.process.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap().success());
    }

    /// Kills it; it is back some time later.
    pub(crate) fn kill(&mut self, away: Duration) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
        self.back_at = Some(Instant::now() + away);
    }

    pub(crate) fn stop(&mut self) {
        self.signal("STOP");
        self.is_stopped = true;
    }

    pub(crate) fn go_on(&mut self) {
        self.signal("CONT");
        self.is_stopped = false;
    }

    /// Ends it as a service manager does, and starts it again.
    pub(crate) fn replace(&mut self) {
        self.signal("TERM");
        let status = self.process.as_mut().unwrap().wait().unwrap();
        assert_eq!(status.code(), Some(0), "{}: {}", self.name, self.told());
        self.begin();
    }

    /// What it has said in all its lives.
    pub(crate) fn told(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// Three nodes on one store, and four workers of theirs.
pub(crate) struct Fleet {
    pub(crate) nodes: Vec<Member>,
    pub(crate) workers: Vec<Member>,
    /// The ways of the third node to the store and of the fourth worker to its server.
    pub(crate) to_store: Way,
    pub(crate) to_server: Way,
    ports: Vec<u16>,
}

impl Fleet {
    /// `stores`: how each node gets to the store, the third one by a way to `place`. The second one's clock is wrong.
    pub(crate) fn start(shop: &Shop, effects: &Path, store: &str, place: String, skew: &Skew) -> Self {
        let folder = shop.path();
        let to_store = Way::to(place);
        let mut by_way: url::Url = store.parse().unwrap();
        by_way.set_host(Some("127.0.0.1")).unwrap();
        by_way.set_port(Some(to_store.port)).unwrap();
        let stores = [store.to_owned(), store.to_owned(), by_way.to_string()];
        let ports: Vec<u16> = stores.iter().map(|_| free_port()).collect();
        let node = |n: usize| {
            let listen = format!("127.0.0.1:{}", ports[n]);
            let args =
                ["--log-level", "info", "serve", "--slots", "6", "--worker-lease", WORKER_LEASE, "--listen"];
            let make = {
                let (listen, store, effects) = (listen, stores[n].clone(), effects.to_owned());
                let skewed = (n == 1).then(|| skew.clone());
                let command = shop.maker();
                move || {
                    let mut command = command(&args);
                    command.args([listen.as_str(), "--store", &store]).env("EFFECTS", &effects);
                    if let Some(skew) = &skewed {
                        skew.wrong(&mut command);
                    }
                    command
                }
            };
            Member::new(format!("node{n}"), folder, make)
        };
        let nodes: Vec<_> = (0..stores.len()).map(node).collect();
        let to_server = Way::to(format!("127.0.0.1:{}", ports[0]));
        let servers = [ports[0], ports[1], ports[2], to_server.port];
        let worker = |n: usize| {
            let (server, effects) = (format!("http://127.0.0.1:{}", servers[n]), effects.to_owned());
            let command = shop.maker();
            let args = ["--log-level", "info", "worker", "--slots", "4", "--label", "far", "--server"];
            let make = move || {
                let mut command = command(&args);
                command.arg(&server).env("EFFECTS", &effects);
                command
            };
            Member::new(format!("worker{n}"), folder, make)
        };
        let workers = (0..servers.len()).map(worker).collect();
        Self { nodes, workers, to_store, to_server, ports }
    }

    /// Clients of the nodes.
    pub(crate) fn clients(&self) -> Vec<Blocking> {
        let client = |port: &u16| {
            let url = format!("http://127.0.0.1:{port}");
            Blocking::new(&Server { url, token: None, allow_http: false }).unwrap()
        };
        self.ports.iter().map(client).collect()
    }

    pub(crate) fn members(&mut self) -> impl Iterator<Item = &mut Member> {
        self.nodes.iter_mut().chain(&mut self.workers)
    }

    /// How often somebody has said something.
    pub(crate) fn count(&self, words: &str) -> usize {
        self.nodes.iter().chain(&self.workers).map(|member| member.told().matches(words).count()).sum()
    }
}

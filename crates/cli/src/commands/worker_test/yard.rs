//! A server of its own on a fresh store, and the worker that is tried.

use std::{net::SocketAddr, path::PathBuf, process::Stdio, time::Duration};

use ostler_api::{
    ApiError, BulkFilter, LogRequest, NewToken, NodeView, Permission, RunQuery, RunView, Scope, StartRequest,
    TransitionView,
};
use ostler_client::{Client, Secret, Server};
use ostler_clock::SystemClock;
use ostler_embedded::{Embedded, Place};
use ostler_model::Uid;
use ostler_service::Actor;
use rustix::process::{Pid, Signal};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use super::proxy::Proxy;
use crate::error::{CliError, STORE};

/// The lease of workers here, in seconds.
pub const LEASE_S: u64 = 4;

/// How many jobs the worker is to carry out at a time.
pub const SLOTS: usize = 4;

/// What is given to the worker as a secret.
pub const SECRET: &str = "open-sesame-4711";

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

const FILE: &str = "
meta: { type: ostler-timetable, version: 1, namespace: test }
tasks:
  - meta: { id: hands-on }
    inputs: { name: { type: string, default: world } }
    env: { GREETING: hello }
    run: |
      echo \"$GREETING, $INPUT_NAME\"
      echo \"attempt=$OSTLER_ATTEMPT\" >> \"$OSTLER_OUTPUT\"
      echo \"key=$OSTLER_IDEMPOTENCY_KEY\" >> \"$OSTLER_OUTPUT\"
  - meta: { id: fails }
    run: echo oh no >&2; exit 3
  - meta: { id: fails-once }
    policy: { retry: { attempts: 3, backoff: fixed, delay: 100ms } }
    run: '[ \"$OSTLER_ATTEMPT\" -gt 1 ]'
  - meta: { id: takes-too-long }
    policy: { timeout: { attempt: 1s }, grace: 1s }
    run: echo begun; sleep 600
  - meta: { id: sleeps }
    run: 'trap \"exit 7\" TERM; echo begun; sleep 600 & wait'
  - meta: { id: stubborn }
    policy: { grace: 1s }
    run: 'trap \"\" TERM; echo begun; while :; do sleep 1; done'
  - meta: { id: naps }
    run: echo begun; sleep 1; echo done
  - meta: { id: counts }
    run: 'i=0; while [ $i -lt 500 ]; do echo \"line $i\"; i=$((i+1)); done'
  - meta: { id: keeps-quiet }
    env: { KEY: '${{ secrets.WORKER_TEST }}' }
    run: 'echo \"the key is $KEY\"; echo \"seen=$KEY\" >> \"$OSTLER_OUTPUT\"'
  - meta: { id: other-work }
    uses: http
    with: { url: 'http://127.0.0.1:9/' }
  - meta: { id: again }
    policy: { lost: rerun }
    run: 'echo $$ >> \"$MARKS/again\"; [ \"$OSTLER_ATTEMPT\" -gt 1 ] || sleep 600'
    env: { MARKS: '@MARKS@' }
";

/// A server, a proxy, and a worker.
pub struct Yard {
    command: Vec<String>,
    folder: tempfile::TempDir,
    pub client: Client,
    pub proxy: Proxy,
    server: Child,
    address: SocketAddr,
    worker: Option<Child>,
    work: String,
}

fn cannot(what: &str, error: impl std::fmt::Display) -> CliError {
    CliError::new(STORE, "process", format!("{what}: {error}"))
}

impl Yard {
    /// Starts the server.
    pub async fn open(command: Vec<String>) -> Result<Self, CliError> {
        let folder = tempfile::tempdir().map_err(|e| cannot("no folder for the test", e))?;
        let marks = folder.path().to_string_lossy().into_owned();
        std::fs::write(folder.path().join("test.yaml"), FILE.replace("@MARKS@", &marks))
            .map_err(|e| cannot("the test's file cannot be written", e))?;
        let store = folder.path().join("ostler.db");
        let made = tokio::task::spawn_blocking(move || tokens(store)).await;
        let [admin, work] = made.map_err(|e| cannot("tokens were not made", e))??;
        let (server, address) = serve(folder.path().into(), "127.0.0.1:0").await?;
        let proxy = Proxy::start(address).await.map_err(|e| cannot("no proxy", e))?;
        let client = Client::new(&Server {
            url: format!("http://{address}"),
            token: Some(Secret::new(admin)),
            allow_http: false,
        })?;
        Ok(Self { command, folder, client, proxy, server, address, worker: None, work })
    }

    /// The worker is there, begun if it is not.
    pub async fn has_worker(&mut self) -> Result<(), String> {
        if let Some(worker) = &mut self.worker {
            return match worker.try_wait() {
                Ok(None) => Ok(()),
                ended => Err(format!("the worker has ended by itself: {ended:?}")),
            };
        }
        let (program, args) = self.command.split_first().ok_or("no command")?;
        let mut command = Command::new(program);
        command
            .args(args)
            .env("OSTLER_SERVER", format!("http://{}", self.proxy.address))
            .env("OSTLER_TOKEN", &self.work)
            .env("OSTLER_WORKER_SLOTS", SLOTS.to_string())
            .env_remove("OSTLER_STORE")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .process_group(0)
            .kill_on_drop(true);
        let known = self.workers().await?.len();
        self.worker = Some(command.spawn().map_err(|e| format!("`{program}` cannot be started: {e}"))?);
        self.until("the worker has registered", async |yard| Ok(yard.workers().await?.len() > known)).await
    }

    /// Sends the worker and what is of its group a signal.
    pub fn signal(&self, signal: Signal) -> Result<(), String> {
        let id = self.worker.as_ref().and_then(Child::id).and_then(|id| Pid::from_raw(id.cast_signed()));
        let id = id.ok_or("the worker has ended by itself")?;
        rustix::process::kill_process_group(id, signal)
            .map_err(|e| format!("the worker got no {signal:?}: {e}"))
    }

    /// Waits for the worker's end; gives its exit code.
    pub async fn worker_ends(&mut self) -> Result<Option<i32>, String> {
        let mut worker = self.worker.take().ok_or("there is no worker")?;
        let ended = tokio::time::timeout(PATIENCE, worker.wait()).await;
        let status = ended.map_err(|_| "the worker did not end".to_owned())?;
        Ok(status.map_err(|e| e.to_string())?.code())
    }

    /// Another worker the next time; nothing of this one goes on.
    pub async fn renew(&mut self) {
        let _ = self.signal(Signal::CONT);
        let _ = self.signal(Signal::KILL);
        if let Some(mut worker) = self.worker.take() {
            let _ = worker.wait().await;
        }
        let query = Some(RunQuery { namespace: Some("test".into()), ..RunQuery::default() });
        let all = BulkFilter { query, reason: "the scenario failed".into(), ..BulkFilter::default() };
        let _ = self.client.cancel(&all).await;
    }

    /// Kills the server.
    pub async fn server_dies(&mut self) -> Result<(), String> {
        self.server.kill().await.map_err(|e| e.to_string())
    }

    /// Starts it again at the same address.
    pub async fn server_is_back(&mut self) -> Result<(), String> {
        let again = serve(self.folder.path().into(), &self.address.to_string()).await;
        self.server = again.map_err(|e| e.message)?.0;
        Ok(())
    }

    /// Workers that were registered, also those that have left.
    pub async fn workers(&self) -> Result<Vec<NodeView>, String> {
        let nodes = self.client.nodes().await.map_err(words)?;
        Ok(nodes.into_iter().filter(|node| node.worker.is_some()).collect())
    }

    pub async fn start(&self, task: &str) -> Result<Uid, String> {
        let start = StartRequest { namespace: "test".into(), task: task.into(), ..StartRequest::default() };
        Ok(self.client.start(&start).await.map_err(words)?.id())
    }

    pub async fn cancel(&self, id: Uid) -> Result<(), String> {
        let which = BulkFilter { ids: vec![id], reason: "the test says so".into(), ..BulkFilter::default() };
        self.client.cancel(&which).await.map(drop).map_err(words)
    }

    /// The run when it has ended.
    pub async fn ended(&self, id: Uid) -> Result<RunView, String> {
        let mut run = None;
        let within = tokio::time::timeout(PATIENCE, async {
            loop {
                match self.client.run(id).await {
                    Ok(found) if found.finished_at.is_some() => return found,
                    Ok(found) => run = Some(found),
                    Err(_) => {}
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let state = |run: Option<RunView>| run.map_or("unknown".into(), |run| run.state.to_string());
        within
            .await
            .map_err(|_| format!("the run did not end in {} s; it is {}", PATIENCE.as_secs(), state(run)))
    }

    pub async fn history(&self, id: Uid) -> Result<Vec<TransitionView>, String> {
        self.client.history(id, 50).await.map_err(words)
    }

    pub async fn lines(&self, id: Uid) -> Result<Vec<String>, String> {
        let request = LogRequest { limit: Some(10_000), ..LogRequest::default() };
        let page = self.client.logs(id, &request, Duration::ZERO).await.map_err(words)?;
        Ok(page.items.into_iter().map(|line| line.line).collect())
    }

    /// What jobs have left in a file.
    pub fn marks(&self, name: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Waits until the run has written something.
    pub async fn begun(&self, id: Uid) -> Result<(), String> {
        self.until("the job's first line is in the log", async |yard| Ok(!yard.lines(id).await?.is_empty()))
            .await
    }

    /// Waits until something holds.
    pub async fn until(
        &self,
        what: &str,
        holds: impl AsyncFn(&Self) -> Result<bool, String>,
    ) -> Result<(), String> {
        let within = tokio::time::timeout(PATIENCE, async {
            while !holds(self).await.unwrap_or(false) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        within.await.map_err(|_| format!("after {} s it is still not so that {what}", PATIENCE.as_secs()))
    }
}

impl Drop for Yard {
    fn drop(&mut self) {
        let _ = self.signal(Signal::CONT);
        let _ = self.signal(Signal::KILL);
    }
}

fn words(error: ApiError) -> String {
    format!("the test's own server does not answer: {error}")
}

/// Makes a token for the test and one for the worker.
fn tokens(store: PathBuf) -> Result<[String; 2], CliError> {
    let embedded = Embedded::open(Place::File(store), std::sync::Arc::new(SystemClock))?;
    let service = embedded.service();
    let make = |name: &str, permission| {
        let name = name.parse().map_err(|e| cannot("a name", e))?;
        let token = NewToken { name, scopes: vec![Scope { permission, namespace: None }], expires_in: None };
        let entropy = ostler_clock::SeededEntropy::from_os();
        Ok::<_, CliError>(service.create_token(&Actor::local("test"), &token, &entropy)?.secret)
    };
    Ok([make("test", Permission::Admin)?, make("worker", Permission::Work)?])
}

/// A server that leaves all work to workers, and where it listens.
async fn serve(folder: PathBuf, listen: &str) -> Result<(Child, SocketAddr), CliError> {
    let program = std::env::current_exe().map_err(|e| cannot("this program cannot find itself", e))?;
    let mut server = Command::new(program)
        .args(["serve", "test.yaml", "--slots", "0", "--require-token", "--listen", listen])
        .args(["--worker-lease", &format!("{LEASE_S}s"), "--store", "ostler.db"])
        .current_dir(folder)
        .env("OSTLER_SECRET_WORKER_TEST", SECRET)
        .env_remove("OSTLER_OUTPUT_FORMAT")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| cannot("the server cannot be started", e))?;
    let stderr = server.stderr.take().ok_or_else(|| cannot("the server", "it has no standard error"))?;
    let mut lines = BufReader::new(stderr).lines();
    let mut said = String::new();
    while let Ok(Some(line)) = lines.next_line().await {
        let address = line.split("http://").nth(1).and_then(|rest| rest.split(';').next()?.parse().ok());
        if let Some(address) = address {
            // Goes on to be read, so that the server can go on to write.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return Ok((server, address));
        }
        said.push_str(&line);
    }
    Err(cannot("the server did not start", said))
}

//! The node's side: a handle that starts commands through the spawner.

use std::{
    env,
    ffi::OsString,
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustix::process::Signal;
use tokio::sync::oneshot;

use super::{
    launch::OPEN_FILES,
    link::{Call, Link},
    wire::{Exit, Limits, Order, Start, User},
};

/// Which program is the spawner; its `main` hands over to [`spawner_main`](super::spawner_main).
#[derive(Clone, Debug)]
pub struct SpawnerProgram {
    /// The binary.
    pub path: PathBuf,
    /// The arguments by which it knows that it is to be the spawner.
    pub args: Vec<OsString>,
}

impl SpawnerProgram {
    /// The binary that runs now, also when its file has been replaced meanwhile.
    #[must_use]
    pub fn this_binary<A: Into<OsString>>(args: impl IntoIterator<Item = A>) -> Self {
        Self { path: PathBuf::from("/proc/self/exe"), args: args.into_iter().map(Into::into).collect() }
    }

    /// What is started gets this soft limit of open files, not the one of the node: that may have been raised far
    /// beyond what programs expect that use `select`, or that close whatever they might have open.
    #[must_use]
    pub fn with_open_files(mut self, soft: u64) -> Self {
        self.args.extend([OPEN_FILES.into(), soft.to_string().into()]);
        self
    }
}

/// A command to start. Streams that are not given are `/dev/null`.
#[derive(Debug, Default)]
pub struct SpawnSpec {
    /// Path of the program (see [`find_program`] for names).
    pub program: PathBuf,
    /// The name it is called by; default: the path.
    pub arg0: Option<String>,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its whole environment.
    pub env: Vec<(String, String)>,
    /// Its working directory; default: where the node was started.
    pub cwd: Option<PathBuf>,
    /// Who it runs as; default: as the node.
    pub user: Option<User>,
    /// Its file mode mask.
    pub umask: Option<u32>,
    /// What it may use.
    pub limits: Limits,
    /// Standard input.
    pub stdin: Option<OwnedFd>,
    /// Standard output.
    pub stdout: Option<OwnedFd>,
    /// Standard error.
    pub stderr: Option<OwnedFd>,
    /// One more descriptor, whose number the child finds in `$OSTLER_CHANNEL_FD`.
    pub channel: Option<OwnedFd>,
}

impl SpawnSpec {
    /// A command with nothing but its program.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), ..Self::default() }
    }
}

/// Why a command was not started or is not known any more.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The spawner itself did not start.
    #[error("the spawner did not start ({path}): {source}")]
    Spawner {
        /// Its binary.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no such program.
    #[error("`{program}` was not found{}", searched(.path))]
    NotFound {
        /// As it was named.
        program: String,
        /// The search path, when it was searched.
        path: Option<String>,
    },
    /// The system refused to start it.
    #[error("`{program}` could not be started: {message}")]
    Refused {
        /// Its path.
        program: PathBuf,
        /// What the system said.
        message: String,
        /// The number of it.
        errno: Option<i32>,
    },
    /// The spawner died, and the command with it.
    #[error("the spawner process died; the command was killed with it")]
    Lost,
}

fn searched(path: &Option<String>) -> String {
    path.as_ref().map(|path| format!(" in PATH ({path})")).unwrap_or_default()
}

/// Starts commands. Cheap to clone; the spawner process starts with the first command, and again should it die.
#[derive(Clone)]
pub struct Spawner {
    shared: Arc<Shared>,
}

struct Shared {
    program: SpawnerProgram,
    link: Mutex<Option<Arc<Link>>>,
    next_id: AtomicU64,
    /// When everything is to be killed, in milliseconds of the boot clock; 0 for never.
    until: AtomicU64,
}

impl Spawner {
    /// A handle; nothing is started yet.
    #[must_use]
    pub fn new(program: SpawnerProgram) -> Self {
        let (next_id, until) = (AtomicU64::new(1), AtomicU64::new(0));
        Self { shared: Arc::new(Shared { program, link: Mutex::new(None), next_id, until }) }
    }

    /// Starts the spawner process ahead of the first command. Optional.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn start(&self) -> Result<(), SpawnError> {
        self.link().map(drop)
    }

    /// The same, without waiting for it. What goes wrong is told by the first command, which tries again.
    pub fn start_ahead(&self) {
        let spawner = self.clone();
        // Without a thread the first command starts it.
        let _ = std::thread::Builder::new().name("spawner-start".into()).spawn(move || spawner.start());
    }

    /// Everything that was started is killed at this moment of the boot clock ([`ostler_clock::Clock::elapsed`]), also
    /// when this process is stopped then, unless a later moment is named before; and nothing is started after it, until one is.
    pub fn keep_until(&self, boot: Duration) {
        let boot_ms = u64::try_from(boot.as_millis()).unwrap_or(u64::MAX);
        if self.shared.until.fetch_max(boot_ms, Ordering::Relaxed) < boot_ms
            && let Ok(link) = self.shared.link.try_lock()
            && let Some(link) = link.as_ref()
        {
            link.mention(&Order::Until { boot_ms });
        }
    }

    /// Starts a command as leader of a process group of its own.
    ///
    /// # Errors
    /// [`SpawnError::Refused`] when the system does not start it, [`SpawnError::Spawner`] and [`SpawnError::Lost`] when
    /// the spawner is to blame.
    pub async fn spawn(&self, spec: SpawnSpec) -> Result<Child, SpawnError> {
        let link = self.link()?;
        let id = self.shared.next_id.fetch_add(1, Ordering::Relaxed);
        let (started, has_started) = oneshot::channel();
        let (ended, has_ended) = oneshot::channel();
        if !link.expect(id, Call { started: Some(started), ended, pid: None }) {
            return Err(SpawnError::Lost);
        }
        // From here on, giving up (this future being dropped) must end the command.
        let mut child = Child { id, pid: 0, link: link.clone(), ended: has_ended, exit: None };

        let program = spec.program.clone();
        let streams = [&spec.stdin, &spec.stdout, &spec.stderr, &spec.channel];
        let fds: Vec<_> = streams.iter().filter_map(|fd| fd.as_ref().map(AsFd::as_fd)).collect();
        let order = Order::Spawn(Box::new(Start {
            id,
            program: spec.program.to_string_lossy().into_owned(),
            arg0: spec.arg0,
            args: spec.args,
            env: spec.env,
            cwd: spec.cwd.map(|cwd| cwd.to_string_lossy().into_owned()),
            user: spec.user,
            umask: spec.umask,
            limits: spec.limits,
            fds: streams.map(Option::is_some),
        }));
        link.order(&order, &fds).map_err(|_| SpawnError::Lost)?;
        drop((spec.stdin, spec.stdout, spec.stderr, spec.channel));

        match has_started.await {
            Ok(Ok(pid)) => child.pid = pid,
            Ok(Err((message, errno))) => {
                child.exit = Some(Exit::Code(-1));
                return Err(SpawnError::Refused { program, message, errno });
            }
            Err(_) => return Err(SpawnError::Lost),
        }
        Ok(child)
    }

    fn link(&self) -> Result<Arc<Link>, SpawnError> {
        let mut link = self.shared.link.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = link.as_ref().filter(|link| !link.lost()) {
            return Ok(link.clone());
        }
        let program = &self.shared.program;
        let fresh = Link::start(program)
            .map_err(|source| SpawnError::Spawner { path: program.path.clone(), source })?;
        let boot_ms = self.shared.until.load(Ordering::Relaxed);
        if boot_ms > 0 {
            fresh.mention(&Order::Until { boot_ms });
        }
        *link = Some(fresh.clone());
        Ok(fresh)
    }
}

/// A command that was started. Dropping it kills its group.
pub struct Child {
    id: u64,
    pid: i32,
    link: Arc<Link>,
    ended: oneshot::Receiver<Exit>,
    exit: Option<Exit>,
}

impl Child {
    /// The process id, which is the number of its group as well.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Waits until the leader has ended and nothing of its group is left. May be called again, and given up.
    ///
    /// # Errors
    /// [`SpawnError::Lost`] when the spawner died.
    pub async fn wait(&mut self) -> Result<Exit, SpawnError> {
        if let Some(exit) = self.exit {
            return Ok(exit);
        }
        let exit = (&mut self.ended).await.map_err(|_| SpawnError::Lost)?;
        self.exit = Some(exit);
        Ok(exit)
    }

    /// Sends a signal to the whole group.
    pub fn signal(&self, signal: Signal) {
        if self.exit.is_none() {
            let _ = self.link.order(&Order::Signal { id: self.id, signal: signal.as_raw() }, &[]);
        }
    }

    /// SIGTERM to the group now and SIGKILL after `grace`; with no grace, SIGKILL at once. May be called again to
    /// shorten the grace.
    pub fn end_with_grace(&self, grace: Duration) {
        if self.exit.is_none() {
            let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX / 2);
            let _ = self.link.order(&Order::End { id: self.id, grace_ms }, &[]);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.end_with_grace(Duration::ZERO);
        if self.exit.is_none() {
            self.link.forget(self.id);
        }
    }
}

/// The path of a program as a shell would find it: names are looked up in `path`, relative paths start at `cwd`.
///
/// # Errors
/// [`SpawnError::NotFound`].
pub fn find_program(name: &str, path: &str, cwd: Option<&Path>) -> Result<PathBuf, SpawnError> {
    let base = cwd.map_or_else(|| env::current_dir().unwrap_or_default(), Path::to_path_buf);
    if name.contains('/') {
        let found = base.join(name);
        return if found.exists() {
            Ok(found)
        } else {
            Err(SpawnError::NotFound { program: name.into(), path: None })
        };
    }
    env::split_paths(path)
        .map(|folder| base.join(folder).join(name))
        .find(|candidate| {
            candidate.is_file() && rustix::fs::access(candidate, rustix::fs::Access::EXEC_OK).is_ok()
        })
        .ok_or_else(|| SpawnError::NotFound { program: name.into(), path: Some(path.into()) })
}

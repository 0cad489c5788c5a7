//! The spawner process: one thread, one loop.

use std::{
    collections::BTreeMap,
    env, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use ostler_clock::{Clock, SystemClock};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::Mode,
    io::{Errno, FdFlags},
    net::RecvFlags,
    process::{
        Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process, kill_process_group,
        set_child_subreaper, umask, waitid, waitpid,
    },
};

use super::{
    launch::{LAUNCH, launch, limit_open_files},
    proc,
    wire::{Exit, Inbox, Notice, Order, Received, Start, send},
};

/// The variable by which orphans are known.
const MARK: &str = "OSTLER_SPAWN";
/// How often a cancelled group without its leader is looked at.
const LINGER_LOOK: Duration = Duration::from_millis(20);
/// How long an orphan without a mark is looked at before it is left alone.
const UNCLEAR: Duration = Duration::from_millis(100);
/// How long killed processes may take to vanish (one may sit in an uninterruptible call) before the end is reported.
const CLEARING: Duration = Duration::from_secs(2);

/// The whole life of the spawner process. `main` calls it before anything else when the binary was started with the
/// arguments of [`SpawnerProgram`](super::SpawnerProgram); standard input is the socket to the node.
#[must_use]
pub fn spawner_main() -> ExitCode {
    let args: Vec<_> = env::args_os().collect();
    if let Some(at) = args.iter().position(|arg| arg == LAUNCH) {
        return launch(&args[at + 1..]);
    }
    limit_open_files(&args);
    match Keeper::new().and_then(Keeper::keep) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ostler: the spawner stopped: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Keeper {
    node: UnixStream,
    inbox: Inbox,
    child_signals: UnixStream,
    clock: SystemClock,
    me: i32,
    groups: BTreeMap<u64, Group>,
    /// Orphans without a readable mark, and when they were first seen: one that is just being executed has no
    /// environment for a moment.
    unmarked: BTreeMap<i32, Duration>,
    /// When everything is killed, should the node fall silent until then: what it held belongs to others after that.
    until: Option<Duration>,
    /// It has, and nothing is started until it is heard of again: it may have been stopped between a claim and the order
    /// to start, and another one's attempt may run by now.
    is_silent: bool,
}

/// One command, its group and what became of them.
struct Group {
    leader: Pid,
    phase: Phase,
    /// SIGKILL falls then; set by a polite end.
    kill_at: Option<Duration>,
}

enum Phase {
    /// The leader runs.
    Running,
    /// The leader ended after a polite signal; others of its group still have their grace. It stays a zombie until
    /// they are gone, which keeps the group's number from being used again.
    Lingering,
    /// All are killed, the leader is reaped; waiting until the last has vanished.
    Clearing { exit: Exit, until: Duration },
}

impl Keeper {
    fn new() -> io::Result<Self> {
        set_child_subreaper(Some(rustix::process::getpid()))?;
        let node = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        let (child_signals, notify) = UnixStream::pair()?;
        child_signals.set_nonblocking(true)?;
        signal_hook::low_level::pipe::register(signal_hook::consts::SIGCHLD, notify)?;
        // The service manager and the terminal send these to every process of a node; ending is for the node to say.
        // A handler, not "ignore": what is ignored stays ignored in the commands.
        let ignored = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT, signal_hook::consts::SIGHUP]
        {
            signal_hook::flag::register(signal, ignored.clone())?;
        }
        let me = rustix::process::getpid().as_raw_nonzero().get();
        let groups = BTreeMap::new();
        Ok(Self {
            node,
            inbox: Inbox::new(),
            child_signals,
            clock: SystemClock,
            me,
            groups,
            unmarked: BTreeMap::new(),
            until: None,
            is_silent: false,
        })
    }

    fn keep(mut self) -> io::Result<()> {
        let kept = self.serve();
        self.kill_everything();
        kept
    }

    /// Until the node is gone.
    fn serve(&mut self) -> io::Result<()> {
        loop {
            let (node_ready, child_ended) = self.wait()?;
            if child_ended {
                self.look_after_children()?;
            }
            if node_ready {
                match self.inbox.receive(&self.node, RecvFlags::DONTWAIT) {
                    Ok(Received::End) => return Ok(()),
                    Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
                    other => other?,
                };
                while let Some(order) = self.inbox.next()? {
                    self.obey(order)?;
                }
            }
            self.keep_deadlines()?;
        }
    }

    fn wait(&mut self) -> io::Result<(bool, bool)> {
        let timeout = self.next_look().map(|wait| Timespec {
            tv_sec: wait.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: wait.subsec_nanos().into(),
        });
        let mut fds =
            [PollFd::new(&self.node, PollFlags::IN), PollFd::new(&self.child_signals, PollFlags::IN)];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let [node, children] = fds.map(|fd| !fd.revents().is_empty());
        if children {
            let mut drained = [0; 256];
            while matches!(rustix::io::read(&self.child_signals, &mut drained), Ok(read) if read > 0) {}
        }
        Ok((node, children))
    }

    fn next_look(&self) -> Option<Duration> {
        let now = self.clock.elapsed();
        self.groups
            .values()
            .filter_map(|group| match group.phase {
                Phase::Running => group.kill_at.map(|at| at.saturating_sub(now)),
                Phase::Lingering => Some(LINGER_LOOK),
                Phase::Clearing { until, .. } => Some(until.saturating_sub(now).min(LINGER_LOOK)),
            })
            .chain(self.unclear().then_some(LINGER_LOOK))
            .chain(self.until.filter(|_| !self.groups.is_empty()).map(|at| at.saturating_sub(now)))
            .min()
    }

    /// Whether it is not known yet where some orphan belongs.
    fn unclear(&self) -> bool {
        let now = self.clock.elapsed();
        self.unmarked.values().any(|seen| now.saturating_sub(*seen) < UNCLEAR)
    }

    fn obey(&mut self, order: Order) -> io::Result<()> {
        match order {
            Order::Spawn(start) => {
                let id = start.id;
                let notice = match self.start(*start) {
                    Ok(leader) => {
                        self.groups.insert(id, Group { leader, phase: Phase::Running, kill_at: None });
                        Notice::Started { id, pid: leader.as_raw_nonzero().get() }
                    }
                    Err(error) => {
                        Notice::Refused { id, errno: error.raw_os_error(), message: error.to_string() }
                    }
                };
                self.tell(&notice)
            }
            Order::Signal { id, signal } => {
                if let (Some(group), Some(signal)) = (self.alive(id), Signal::from_named_raw(signal)) {
                    let _ = kill_process_group(group.leader, signal);
                }
                Ok(())
            }
            Order::Until { boot_ms } => {
                self.until = Some(Duration::from_millis(boot_ms));
                self.is_silent = false;
                Ok(())
            }
            Order::End { id, grace_ms } => {
                let kill_at = self.clock.elapsed() + Duration::from_millis(grace_ms);
                if let Some(group) = self.alive(id) {
                    let first = if grace_ms == 0 { Signal::KILL } else { Signal::TERM };
                    group.kill_at = Some(group.kill_at.map_or(kill_at, |before| before.min(kill_at)));
                    let _ = kill_process_group(group.leader, first);
                    // A stopped group would sleep through its grace.
                    let _ = kill_process_group(group.leader, Signal::CONT);
                }
                Ok(())
            }
        }
    }

    /// A group whose number is still its own.
    fn alive(&mut self, id: u64) -> Option<&mut Group> {
        self.groups.get_mut(&id).filter(|group| !matches!(group.phase, Phase::Clearing { .. }))
    }

    fn start(&mut self, start: Start) -> io::Result<Pid> {
        let mut take = |wanted: bool| -> io::Result<Option<OwnedFd>> {
            let lost = || io::Error::other("a descriptor was lost on the way");
            wanted.then(|| self.inbox.next_fd().ok_or_else(lost)).transpose()
        };
        let [stdin, stdout, stderr, channel] = start.fds;
        let (stdin, stdout, stderr, channel) = (take(stdin)?, take(stdout)?, take(stderr)?, take(channel)?);
        if self.is_silent || self.until.is_some_and(|at| at <= self.clock.elapsed()) {
            return Err(io::Error::other(
                "the node was not heard of for so long that others may have its work",
            ));
        }
        let stdio = |fd: Option<OwnedFd>| fd.map_or_else(Stdio::null, Stdio::from);

        let mut command = if start.limits.any() {
            // In the child this link still names the running binary, even when the file was replaced.
            let mut command = Command::new("/proc/self/exe");
            command.args(env::args_os().skip(1)).arg(LAUNCH).arg(serde_json::to_string(&start.limits)?);
            command.arg(&start.program);
            command
        } else {
            let mut command = Command::new(&start.program);
            if let Some(arg0) = &start.arg0 {
                command.arg0(arg0);
            }
            command
        };
        command.args(&start.args).env_clear().envs(start.env).env(MARK, format!("{}-{}", self.me, start.id));
        command.stdin(stdio(stdin)).stdout(stdio(stdout)).stderr(stdio(stderr)).process_group(0);
        if let Some(cwd) = &start.cwd {
            command.current_dir(cwd);
        }
        if let Some(user) = start.user {
            command.uid(user.uid).gid(user.gid);
        }
        if let Some(channel) = &channel {
            // Single-threaded, so no other child can inherit it.
            rustix::io::fcntl_setfd(channel, FdFlags::empty())?;
            command.env("OSTLER_CHANNEL_FD", std::os::fd::AsRawFd::as_raw_fd(channel).to_string());
        }
        let before = start.umask.map(|mask| umask(Mode::from_raw_mode(mask)));
        let child = command.spawn();
        if let Some(before) = before {
            umask(before);
        }
        // The handle is given up: this loop reaps by number, and dropping the handle neither kills nor waits.
        let id = child?.id();
        i32::try_from(id).ok().and_then(Pid::from_raw).ok_or_else(|| io::Error::other("no process id"))
    }

    fn look_after_children(&mut self) -> io::Result<()> {
        let ids: Vec<u64> = self
            .groups
            .iter()
            .filter(|(_, g)| matches!(g.phase, Phase::Running))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            let leader = self.groups[&id].leader;
            // Only looked at, not reaped: while it is a zombie nobody else can get the group's number.
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            if let Ok(Some(_)) = waitid(WaitId::Pid(leader), options) {
                self.leader_ended(id)?;
            }
        }
        self.sweep()
    }

    fn leader_ended(&mut self, id: u64) -> io::Result<()> {
        let now = self.clock.elapsed();
        let Some(group) = self.groups.get_mut(&id) else { return Ok(()) };
        let number = group.leader.as_raw_nonzero().get();
        let others = || proc::all().iter().any(|p| p.group == number && p.pid != number && !p.zombie);
        if group.kill_at.is_some_and(|at| at > now) && others() {
            group.phase = Phase::Lingering;
            return Ok(());
        }
        let _ = kill_process_group(group.leader, Signal::KILL);
        let exit = match waitpid(Some(group.leader), WaitOptions::NOHANG) {
            Ok(Some((_, status))) => match (status.exit_status(), status.terminating_signal()) {
                (_, Some(signal)) => Exit::Signal(signal),
                (code, None) => Exit::Code(code.unwrap_or(-1)),
            },
            _ => Exit::Code(-1),
        };
        group.phase = Phase::Clearing { exit, until: now + CLEARING };
        Ok(())
    }

    /// Reaps adopted orphans, kills those whose command has ended, and reports commands of which nothing is left.
    fn sweep(&mut self) -> io::Result<()> {
        let leaders: Vec<i32> = self
            .groups
            .values()
            .filter(|group| !matches!(group.phase, Phase::Clearing { .. }))
            .map(|group| group.leader.as_raw_nonzero().get())
            .collect();
        let mut left: Vec<u64> = Vec::new();
        let children = proc::own_children();
        self.unmarked.retain(|pid, _| children.contains(pid));
        for pid in children {
            let Some(orphan) = Pid::from_raw(pid).filter(|_| !leaders.contains(&pid)) else { continue };
            if matches!(waitpid(Some(orphan), WaitOptions::NOHANG), Ok(Some(_))) {
                continue;
            }
            let Some(id) = self.spawn_of(pid) else {
                self.unmarked.entry(pid).or_insert_with(|| self.clock.elapsed());
                continue;
            };
            self.unmarked.remove(&pid);
            if self.groups.get(&id).is_none_or(|group| matches!(group.phase, Phase::Clearing { .. })) {
                let _ = kill_process(orphan, Signal::KILL);
                left.push(id);
            }
        }
        let now = self.clock.elapsed();
        let unclear = self.unclear();
        let cleared: Vec<_> = self
            .groups
            .iter()
            .filter_map(|(id, group)| match group.phase {
                Phase::Clearing { exit, until } if until <= now || !(unclear || left.contains(id)) => {
                    Some((*id, exit))
                }
                _ => None,
            })
            .collect();
        for (id, exit) in cleared {
            self.groups.remove(&id);
            self.tell(&Notice::Ended { id, exit })?;
        }
        Ok(())
    }

    /// Which spawn an orphan descends from.
    fn spawn_of(&self, pid: i32) -> Option<u64> {
        let mark = proc::environment_of(pid, MARK)?;
        let (keeper, id) = mark.split_once('-')?;
        (keeper.parse() == Ok(self.me)).then(|| id.parse().ok()).flatten()
    }

    fn keep_deadlines(&mut self) -> io::Result<()> {
        let now = self.clock.elapsed();
        if self.until.is_some_and(|at| at <= now) {
            // The node is stopped or hangs. Others take over what it held, and never while it goes on here.
            for group in self.groups.values().filter(|g| !matches!(g.phase, Phase::Clearing { .. })) {
                let _ = kill_process_group(group.leader, Signal::KILL);
            }
            // Those are told of by their ends; said once.
            self.until = None;
            self.is_silent = true;
        }
        let mut clearing = self.unclear();
        for id in self.groups.keys().copied().collect::<Vec<_>>() {
            let group = &self.groups[&id];
            match group.phase {
                Phase::Running if group.kill_at.is_some_and(|at| at <= now) => {
                    let _ = kill_process_group(group.leader, Signal::KILL);
                    if let Some(group) = self.groups.get_mut(&id) {
                        group.kill_at = None;
                    }
                }
                Phase::Lingering => self.leader_ended(id)?,
                Phase::Running => {}
                Phase::Clearing { .. } => {}
            }
            clearing |= matches!(self.groups[&id].phase, Phase::Clearing { .. });
        }
        if clearing { self.sweep() } else { Ok(()) }
    }

    fn tell(&self, notice: &Notice) -> io::Result<()> {
        send(&self.node, notice, &[])
    }

    /// The node is gone: nothing may stay.
    fn kill_everything(&mut self) {
        for group in self.groups.values().filter(|group| !matches!(group.phase, Phase::Clearing { .. })) {
            let _ = kill_process_group(group.leader, Signal::KILL);
        }
        // Killing makes orphans and a fork may slip in between look and kill, so again until there is no child.
        for _ in 0..500 {
            // Whoever descends from here has an ancestor among the children: without children there is nobody to look
            // for in all of /proc.
            loop {
                match rustix::process::wait(WaitOptions::NOHANG) {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(_) => return,
                }
            }
            for pid in proc::descendants(self.me) {
                if let Some(pid) = Pid::from_raw(pid) {
                    let _ = kill_process(pid, Signal::KILL);
                }
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

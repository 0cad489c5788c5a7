//! One running spawner as the node sees it: the socket, the thread that reads it, the commands under way.

use std::{
    collections::HashMap,
    io,
    net::Shutdown,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::{net::UnixStream, process::CommandExt},
    },
    process::{Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustix::{
    net::RecvFlags,
    process::{Pid, Signal, kill_process_group},
};
use tokio::sync::oneshot;

use super::{
    node::SpawnerProgram,
    wire::{Exit, Inbox, Notice, Order, Received, send},
};

/// Why a command was not started: the system's text and number.
pub(super) type Refusal = (String, Option<i32>);

pub(super) struct Link {
    socket: UnixStream,
    sending: Mutex<()>,
    calls: Arc<Mutex<Calls>>,
}

/// Commands under way by their number.
#[derive(Default)]
pub(super) struct Calls {
    by_id: HashMap<u64, Call>,
    lost: bool,
}

pub(super) struct Call {
    pub(super) started: Option<oneshot::Sender<Result<i32, Refusal>>>,
    pub(super) ended: oneshot::Sender<Exit>,
    pub(super) pid: Option<i32>,
}

impl Link {
    /// Starts a spawner. Does not wait for it: orders lie in the socket until it reads them.
    pub(super) fn start(program: &SpawnerProgram) -> io::Result<Arc<Self>> {
        let (socket, theirs) = UnixStream::pair()?;
        let mut process = Command::new(&program.path)
            .args(&program.args)
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            // Away from the terminal's Ctrl-C: the node decides when work ends.
            .process_group(0)
            .spawn()?;
        let calls = Arc::new(Mutex::new(Calls::default()));
        let (reading, known) = (socket.try_clone()?, calls.clone());
        std::thread::Builder::new().name("spawner-link".into()).spawn(move || {
            read_notices(&reading, &known);
            let clean = process.wait().is_ok_and(|status| status.success());
            give_up(&known, clean);
        })?;
        Ok(Arc::new(Self { socket, sending: Mutex::new(()), calls }))
    }

    /// Whether the spawner has died.
    pub(super) fn lost(&self) -> bool {
        lock(&self.calls).lost
    }

    /// Notes a command before it is ordered; `false` when the spawner has died.
    pub(super) fn expect(&self, id: u64, call: Call) -> bool {
        let mut calls = lock(&self.calls);
        if !calls.lost {
            calls.by_id.insert(id, call);
        }
        !calls.lost
    }

    pub(super) fn forget(&self, id: u64) {
        lock(&self.calls).by_id.remove(&id);
    }

    pub(super) fn order(&self, order: &Order, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let _sending = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        send(&self.socket, order, fds)
    }
}

impl Link {
    /// Orders something that is ordered again soon: not while another order is on its way to a spawner that may hang.
    pub(super) fn mention(&self, order: &Order) {
        if let Ok(_sending) = self.sending.try_lock() {
            let _ = send(&self.socket, order, &[]);
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // The reading thread holds a second handle; this ends both, and with them the spawner.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

fn lock(calls: &Mutex<Calls>) -> MutexGuard<'_, Calls> {
    calls.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read_notices(socket: &UnixStream, calls: &Mutex<Calls>) {
    let mut inbox = Inbox::new();
    loop {
        if !matches!(inbox.receive(socket, RecvFlags::empty()), Ok(Received::Some | Received::Nothing)) {
            return;
        }
        loop {
            match inbox.next() {
                Ok(Some(notice)) => hear(calls, notice),
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

fn hear(calls: &Mutex<Calls>, notice: Notice) {
    let mut calls = lock(calls);
    match notice {
        Notice::Started { id, pid } => {
            if let Some(call) = calls.by_id.get_mut(&id) {
                call.pid = Some(pid);
                if let Some(started) = call.started.take() {
                    let _ = started.send(Ok(pid));
                }
            }
        }
        Notice::Refused { id, errno, message } => {
            if let Some(started) = calls.by_id.remove(&id).and_then(|call| call.started) {
                let _ = started.send(Err((message, errno)));
            }
        }
        Notice::Ended { id, exit } => {
            if let Some(call) = calls.by_id.remove(&id) {
                let _ = call.ended.send(exit);
            }
        }
    }
}

/// The spawner is gone. When it did not end cleanly the groups it kept are killed from here; dropping the senders tells
/// whoever waits.
fn give_up(calls: &Mutex<Calls>, clean: bool) {
    let mut calls = lock(calls);
    calls.lost = true;
    for (_, call) in calls.by_id.drain() {
        if let Some(group) = call.pid.filter(|_| !clean).and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

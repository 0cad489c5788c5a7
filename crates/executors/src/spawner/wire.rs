//! What the node and the spawner say to one another: frames of JSON behind a length, with file descriptors riding on
//! the first byte of the frame that they belong to.

use std::{
    collections::VecDeque,
    io::{self, IoSlice, IoSliceMut, Write},
    mem::MaybeUninit,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Descriptors of one spawn: stdin, stdout, stderr, channel.
const FDS_PER_FRAME: usize = 4;
/// A frame beyond this is a broken peer; argv and environment together are at most 2 MiB on Linux by default.
const FRAME_LIMIT: usize = 64 << 20;

/// Node to spawner.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order {
    Spawn(Box<Start>),
    /// To the whole group.
    Signal {
        id: u64,
        signal: i32,
    },
    /// SIGTERM to the group now, SIGKILL after the grace.
    End {
        id: u64,
        grace_ms: u64,
    },
    /// Everything is killed at this moment of the boot clock, in milliseconds, unless a later one is named before.
    Until {
        boot_ms: u64,
    },
}

/// Everything about a command but its descriptors.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Start {
    pub id: u64,
    pub program: String,
    pub arg0: Option<String>,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub cwd: Option<String>,
    pub user: Option<User>,
    pub umask: Option<u32>,
    pub limits: Limits,
    /// Which of stdin, stdout, stderr and channel come with the frame.
    pub fds: [bool; FDS_PER_FRAME],
}

/// Spawner to node.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Notice {
    Started {
        id: u64,
        pid: i32,
    },
    Refused {
        id: u64,
        errno: Option<i32>,
        message: String,
    },
    /// The leader has ended and nothing of its group or its known orphans is left.
    Ended {
        id: u64,
        exit: Exit,
    },
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// By itself, with a code.
    Code(i32),
    /// By a signal.
    Signal(i32),
}

/// Who a process runs as. Supplementary groups are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Resource limits of a process and what it starts (`setrlimit`); each counts for one process, except `processes`,
/// which counts all processes of the user and does not bind root.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Seconds of CPU time; then SIGXCPU, and SIGKILL a second later.
    pub cpu_seconds: Option<u64>,
    /// Bytes of address space.
    pub memory: Option<u64>,
    /// Open files.
    pub files: Option<u64>,
    /// Processes and threads of the user.
    pub processes: Option<u64>,
    /// Bytes of the largest file it may write.
    pub file_size: Option<u64>,
}

impl Limits {
    /// Whether any is set.
    #[must_use]
    pub fn any(&self) -> bool {
        *self != Self::default()
    }
}

/// Sends one frame; blocks while the peer is behind.
pub(super) fn send(socket: &UnixStream, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message)?;
    let length = u32::try_from(frame.len() - 4).map_err(|_| io::Error::other("the command is too long"))?;
    frame[..4].copy_from_slice(&length.to_le_bytes());

    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_PER_FRAME))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    let sent = loop {
        match sendmsg(socket, &[IoSlice::new(&frame)], &mut control, SendFlags::NOSIGNAL) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other?,
        }
    };
    (&*socket).write_all(&frame[sent..])
}

/// Collects frames and the descriptors that came with them.
pub(super) struct Inbox {
    bytes: Vec<u8>,
    fds: VecDeque<OwnedFd>,
}

/// What a look into the socket brought.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Received {
    Some,
    Nothing,
    End,
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self { bytes: Vec::new(), fds: VecDeque::new() }
    }

    /// Reads what is there; waits for something unless `flags` say otherwise.
    pub(super) fn receive(&mut self, socket: &UnixStream, flags: RecvFlags) -> io::Result<Received> {
        let mut chunk = [0; 16 * 1024];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_PER_FRAME))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = flags | RecvFlags::CMSG_CLOEXEC;
        let read = match recvmsg(socket, &mut [IoSliceMut::new(&mut chunk)], &mut control, flags) {
            Ok(message) => message.bytes,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => return Ok(Received::Nothing),
            Err(error) => return Err(error.into()),
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                self.fds.extend(fds);
            }
        }
        if read == 0 {
            return Ok(Received::End);
        }
        self.bytes.extend_from_slice(&chunk[..read]);
        Ok(Received::Some)
    }

    /// The next whole frame.
    pub(super) fn next<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let Some(head) = self.bytes.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*head) as usize;
        if length > FRAME_LIMIT {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "frame too long"));
        }
        let Some(body) = self.bytes.get(4..4 + length) else { return Ok(None) };
        let message = serde_json::from_slice(body)?;
        self.bytes.drain(..4 + length);
        Ok(Some(message))
    }

    /// The next descriptor that came. They arrive in order, at the latest with the first byte of their frame.
    pub(super) fn next_fd(&mut self) -> Option<OwnedFd> {
        self.fds.pop_front()
    }
}

//! One Python process and the calls it takes.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    time::Duration,
};

use ostler_execution::{CancelReason, Progress};
use ostler_model::TypedError;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::UnixStream,
};

use crate::{
    call::Call,
    process::{Watch, grace},
    spawner::{Child, Exit, SpawnError, SpawnSpec, Spawner},
};

/// Frames of a worker are results; larger ones are refused there already.
const FRAME_LIMIT: usize = 64 << 20;

/// A Python process that waits for a call or works on one.
pub(super) struct Worker {
    child: Child,
    channel: UnixStream,
    inbox: Vec<u8>,
    pub(super) calls: u32,
}

/// What a worker says.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Frame {
    stale: bool,
    progress: Option<Progress>,
    output: Option<Map<String, Value>>,
    mask: Option<String>,
    ended: Option<Told>,
    retire: bool,
}

/// How a call ended.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Told {
    pub(super) result: Value,
    pub(super) class: Option<String>,
    pub(super) message: String,
    pub(super) detail: Option<String>,
    pub(super) exit_code: Option<i32>,
}

/// What became of a call.
pub(super) enum Answer {
    Ended {
        told: Told,
        reusable: bool,
    },
    /// The process ended without an answer.
    Died(Exit),
    CutShort,
    /// The worker did not begin: its code is old, or it was gone.
    NotBegun,
}

/// How a worker is started.
pub(super) struct WorkerSpec {
    pub(super) python: PathBuf,
    /// The folder with `ostler_worker.py`.
    pub(super) library: PathBuf,
    pub(super) spawn: SpawnSpec,
}

impl Worker {
    pub(super) async fn start(spawner: &Spawner, spec: WorkerSpec) -> Result<Self, SpawnError> {
        let io_error = |error: io::Error| SpawnError::Refused {
            program: spec.python.clone(),
            message: error.to_string(),
            errno: error.raw_os_error(),
        };
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(io_error)?;
        ours.set_nonblocking(true).map_err(io_error)?;
        let channel = UnixStream::from_std(ours).map_err(io_error)?;
        let library = serde_json::to_string(&spec.library).unwrap_or_default();
        let start = format!(
            "import sys; sys.path.insert(0, {library}); import ostler_worker; sys.path.pop(0); ostler_worker.main()"
        );
        let child = spawner
            .spawn(SpawnSpec {
                program: spec.python.clone(),
                arg0: Some(spec.python.to_string_lossy().into_owned()),
                args: vec!["-c".into(), start],
                channel: Some(theirs.into()),
                ..spec.spawn
            })
            .await?;
        Ok(Self { child, channel, inbox: Vec::new(), calls: 0 })
    }

    /// Has the worker carry out one call. What it prints, reports and hands on goes to `watch`.
    pub(super) async fn perform(
        &mut self,
        call: &Call,
        watch: &mut Watch<'_>,
        body: &[u8],
    ) -> Result<Answer, TypedError> {
        self.calls += 1;
        let spawner_error = |e: SpawnError| TypedError::new("spawner", e.to_string());
        let fault = |what: &str, e: io::Error| TypedError::new("python.worker", format!("{what}: {e}"));
        let (mut stdout, stdout_end) = Watch::pipe().map_err(|e| fault("a pipe", e))?;
        let (mut stderr, stderr_end) = Watch::pipe().map_err(|e| fault("a pipe", e))?;
        if send(&mut self.channel, body, [stdout_end, stderr_end]).await.is_err() {
            return Ok(Answer::NotBegun);
        }
        let grace = grace(call);
        let (mut out, mut err) = (vec![0; 64 * 1024], vec![0; 16 * 1024]);
        let (mut out_open, mut err_open, mut channel_open) = (true, true, true);
        let (mut cut_short, mut killed) = (None, false);
        let mut ended: Option<(Told, bool)> = None;
        let answer = loop {
            tokio::select! {
                read = stdout.read(&mut out), if out_open => {
                    let read = read.unwrap_or(0);
                    out_open = read > 0;
                    watch.stdout(&out[..read]);
                }
                read = stderr.read(&mut err), if err_open => {
                    let read = read.unwrap_or(0);
                    err_open = read > 0;
                    watch.stderr(&err[..read]);
                }
                read = self.channel.read_buf(&mut self.inbox), if channel_open => {
                    channel_open = read.is_ok_and(|read| read > 0);
                    while let Some(frame) = next_frame(&mut self.inbox).map_err(|e| fault("the worker", e))? {
                        if frame.stale {
                            return Ok(Answer::NotBegun);
                        }
                        if let Some(progress) = frame.progress {
                            call.report(progress);
                        }
                        if let Some(output) = frame.output {
                            watch.outputs.extend(output);
                        }
                        if let Some(secret) = frame.mask {
                            call.mask(&secret);
                            // The code waits for this before it goes on and prints the secret.
                            let _ = self.channel.write_all(b"+").await;
                        }
                        if let Some(told) = frame.ended {
                            ended = Some((told, frame.retire));
                        }
                    }
                    match ended.take() {
                        Some((told, false)) if cut_short.is_none() => break Answer::Ended { told, reusable: true },
                        // The process ends now, like a script at its last line; its exit tells when all is done.
                        other => ended = other,
                    }
                    if ended.is_some() {
                        let _ = self.channel.shutdown().await;
                    }
                }
                exit = self.child.wait() => {
                    let exit = exit.map_err(spawner_error)?;
                    break match (ended.take(), cut_short) {
                        (_, Some(_)) => Answer::CutShort,
                        (Some((told, _)), None) => Answer::Ended { told, reusable: false },
                        (None, None) => Answer::Died(exit),
                    };
                }
                reason = call.cancel.fired(), if cut_short.is_none() => {
                    cut_short = Some(reason);
                    killed = reason == CancelReason::Kill;
                    self.child.end_with_grace(if killed { Duration::ZERO } else { grace });
                }
                () = call.cancel.killed(), if cut_short.is_some() && !killed => {
                    killed = true;
                    self.child.end_with_grace(Duration::ZERO);
                }
            }
        };
        // The worker flushed before it answered, so what belongs to the call is in the pipes.
        watch.drain(out_open.then_some(&stdout), err_open.then_some(&stderr));
        Ok(answer)
    }

    /// Whether it still waits for a call: one that was killed in the meantime has closed its end.
    pub(super) fn waits(&self) -> bool {
        let mut byte = [0];
        matches!(self.channel.try_read(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
            && rustix::net::recv(&self.channel, &mut byte[..], RecvFlags::PEEK | RecvFlags::DONTWAIT)
                .is_err_and(|error| error == rustix::io::Errno::AGAIN)
    }
}

/// Sends a frame with the two descriptors on its first byte.
async fn send(channel: &mut UnixStream, body: &[u8], fds: [OwnedFd; 2]) -> io::Result<()> {
    let head = u32::try_from(body.len()).map_err(io::Error::other)?.to_le_bytes();
    let borrowed = [fds[0].as_fd(), fds[1].as_fd()];
    let sent = channel
        .async_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            control.push(SendAncillaryMessage::ScmRights(&borrowed));
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            Ok(sendmsg(&*channel, &[IoSlice::new(&head)], &mut control, flags)?)
        })
        .await?;
    channel.write_all(&head[sent..]).await?;
    channel.write_all(body).await
}

fn next_frame(inbox: &mut Vec<u8>) -> io::Result<Option<Frame>> {
    let Some(head) = inbox.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_le_bytes(*head) as usize;
    if length > FRAME_LIMIT {
        return Err(io::Error::other("the channel was written to by other code"));
    }
    let Some(body) = inbox.get(4..4 + length) else { return Ok(None) };
    let frame = serde_json::from_slice(body)?;
    inbox.drain(..4 + length);
    Ok(Some(frame))
}

/// Puts the worker's source where Python finds it, once for each version of it.
pub(super) fn library(cache: &Path) -> io::Result<PathBuf> {
    const SOURCE: &str = include_str!("worker.py");
    let digest = blake3::hash(SOURCE.as_bytes()).to_hex();
    let folder = cache.join(format!("worker-{}", &digest[..16]));
    let file = folder.join("ostler_worker.py");
    if !file.exists() {
        std::fs::create_dir_all(&folder)?;
        let fresh = folder.join(format!("fresh-{}", std::process::id()));
        std::fs::write(&fresh, SOURCE)?;
        std::fs::rename(&fresh, &file)?;
    }
    Ok(folder)
}

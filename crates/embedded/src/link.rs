//! The owner's local socket, and the guest's end of it.
//!
//! One process owns the store and writes to it; others send it their commands, so that nobody starves at the file's
//! lock (decision 4). Frames are a length (u32, little endian) and JSON. A guest whose owner ends writes to the file
//! itself from then on.

use std::{
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::mpsc,
    time::Duration,
};

use ostler_engine::NodeHandle;
use ostler_store::{Answer, Command, Micros, Queries, Reply, Store, StoreError, Writer};
use ostler_store_sqlite::SqliteStore;
use serde::{Deserialize, Serialize};

/// The largest frame: a batch of starts with a megabyte of inputs each still fits.
const MAX_FRAME: u32 = 256 << 20;

/// How long a guest waits for the owner's answer before it gives up on it.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Serialize, Deserialize)]
enum Ask {
    Apply(Vec<Command>),
    NextDue,
}

#[derive(Serialize, Deserialize)]
enum Told {
    Applied(Vec<Result<Reply, StoreError>>),
    NextDue(Result<Option<Micros>, StoreError>),
}

fn send<T: Serialize>(stream: &mut UnixStream, value: &T) -> std::io::Result<()> {
    let body = serde_json::to_vec(value)?;
    let length = u32::try_from(body.len()).ok().filter(|l| *l <= MAX_FRAME);
    let length = length.ok_or_else(|| std::io::Error::other("a batch larger than 256 MiB"))?;
    stream.write_all(&length.to_le_bytes())?;
    stream.write_all(&body)
}

fn receive<T: for<'de> Deserialize<'de>>(stream: &mut UnixStream) -> std::io::Result<T> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length > MAX_FRAME {
        return Err(std::io::Error::other("a frame larger than 256 MiB"));
    }
    let mut body = vec![0; length as usize];
    stream.read_exact(&mut body)?;
    Ok(serde_json::from_slice(&body)?)
}

/// Listens for guests until the process ends. The file is removed on drop.
pub(crate) struct Listener {
    path: PathBuf,
}

impl Listener {
    /// Starts to listen at `path`, which only the owner may do: what stands there is left over from a dead one.
    pub(crate) fn start(path: &Path, writer: Writer, node: NodeHandle) -> std::io::Result<Self> {
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path)?;
        // Whoever may write the store may talk to its owner, and nobody else.
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        std::thread::Builder::new().name("ostler-link".into()).spawn(move || {
            for stream in listener.incoming().flatten() {
                let (writer, node) = (writer.clone(), node.clone());
                let spawned = std::thread::Builder::new()
                    .name("ostler-guest".into())
                    .spawn(move || serve(stream, &writer, &node));
                if let Err(error) = spawned {
                    tracing::warn!(%error, "no thread for a guest");
                }
            }
        })?;
        Ok(Self { path: path.to_owned() })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn serve(mut stream: UnixStream, writer: &Writer, node: &NodeHandle) {
    while let Ok(ask) = receive::<Ask>(&mut stream) {
        let told = match ask {
            Ask::Apply(commands) => {
                let (wakes, letters) =
                    (commands.iter().any(wakes), commands.iter().any(|c| matches!(c, Command::Send(_))));
                let told = apply(writer, commands);
                if wakes {
                    node.wake();
                }
                if letters {
                    node.check_mail();
                }
                Told::Applied(told)
            }
            Ask::NextDue => {
                let next = writer.inspect(|store| store.next_due());
                Told::NextDue(next.unwrap_or_else(|e| Err(StoreError::Unavailable(e.to_string()))))
            }
        };
        if send(&mut stream, &told).is_err() {
            return;
        }
    }
}

/// Whether a command can make work for the owner.
fn wakes(command: &Command) -> bool {
    !matches!(
        command,
        Command::Claim(_) | Command::Renew { .. } | Command::Register { .. } | Command::Prune(_)
    )
}

fn apply(writer: &Writer, commands: Vec<Command>) -> Vec<Result<Reply, StoreError>> {
    let count = commands.len();
    let (sender, receiver) = mpsc::channel();
    let answers = (0..count)
        .map(|index| {
            let sender = sender.clone();
            let answer: Answer = Box::new(move |_, reply| {
                let _ = sender.send((index, reply));
            });
            answer
        })
        .collect();
    drop(sender);
    let mut told: Vec<Option<Result<Reply, StoreError>>> = vec![None; count];
    if writer.post(commands, answers).is_ok() {
        for (index, reply) in receiver {
            told[index] = Some(reply);
        }
    }
    let gone = || Err(StoreError::Unavailable("the store's writer has stopped".into()));
    told.into_iter().map(|reply| reply.unwrap_or_else(gone)).collect()
}

/// A guest's writing side: through the owner while there is one, else on the file itself.
pub(crate) struct GuestStore {
    direct: SqliteStore,
    owner: Option<UnixStream>,
}

impl GuestStore {
    /// Connects to the owner at `socket`, if there is one.
    pub(crate) fn new(direct: SqliteStore, socket: Option<&Path>) -> Self {
        let owner = socket.and_then(|path| UnixStream::connect(path).ok()).filter(|stream| {
            stream.set_read_timeout(Some(PATIENCE)).is_ok()
                && stream.set_write_timeout(Some(PATIENCE)).is_ok()
        });
        Self { direct, owner }
    }

    fn ask(&mut self, ask: &Ask) -> Option<std::io::Result<Told>> {
        let stream = self.owner.as_mut()?;
        let told = send(stream, ask).and_then(|()| receive(stream));
        if told.is_err() {
            self.owner = None;
        }
        Some(told)
    }
}

impl Store for GuestStore {
    fn apply(&mut self, now: Micros, batch: &[Command]) -> Vec<Result<Reply, StoreError>> {
        match self.ask(&Ask::Apply(batch.to_vec())) {
            Some(Ok(Told::Applied(told))) if told.len() == batch.len() => return told,
            // Compare-and-set commands may be repeated; a start that was perhaps made may not.
            Some(_) if !batch.iter().all(is_repeatable) => {
                let error = StoreError::Busy(
                    "its owner ended while it was asked; what was asked may have been done".into(),
                );
                return batch.iter().map(|_| Err(error.clone())).collect();
            }
            _ => {}
        }
        self.direct.apply(now, batch)
    }

    fn next_due(&mut self) -> Result<Option<Micros>, StoreError> {
        match self.ask(&Ask::NextDue) {
            Some(Ok(Told::NextDue(next))) => next,
            _ => self.direct.next_due(),
        }
    }

    fn data_version(&mut self) -> Result<i64, StoreError> {
        self.direct.data_version()
    }

    fn queries(&self) -> Result<Box<dyn Queries>, StoreError> {
        self.direct.queries()
    }
}

fn is_repeatable(command: &Command) -> bool {
    matches!(
        command,
        Command::Claim(_)
            | Command::Commit(_)
            | Command::Renew { .. }
            | Command::Close { .. }
            | Command::Rescue { .. }
            | Command::Release { .. }
            | Command::Hold { .. }
            | Command::MoveDuty { .. }
            | Command::EndDuty { .. }
            | Command::Prune(_)
    )
}

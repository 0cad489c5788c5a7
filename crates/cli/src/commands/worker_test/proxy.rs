//! A proxy between a worker and its server that loses answers when it is told to.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// An answer that is to be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// To a claim that has given jobs.
    Jobs,
    /// To outcomes.
    Outcomes,
    /// To lines.
    Logs,
}

/// The proxy.
pub struct Proxy {
    pub address: SocketAddr,
    loss: Arc<Mutex<Option<Loss>>>,
}

impl Proxy {
    /// Begins to pass on what comes to a server.
    pub async fn start(server: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let loss = Arc::new(Mutex::new(None));
        let losing = loss.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let losing = losing.clone();
                tokio::spawn(async move {
                    // A server that is not there is a connection that ends at once.
                    if let Ok(server) = TcpStream::connect(server).await {
                        let _ = pass(client, server, &losing).await;
                    }
                });
            }
        });
        Ok(Self { address, loss })
    }

    /// Loses the next answer of a sort.
    pub fn lose(&self, what: Loss) {
        *self.loss.lock().unwrap_or_else(PoisonError::into_inner) = Some(what);
    }

    /// Whether what was to be lost has been.
    pub fn has_lost(&self) -> bool {
        self.loss.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }
}

/// Passes bytes on in both directions until one side ends, or an answer is lost: then both end.
async fn pass(mut client: TcpStream, mut server: TcpStream, loss: &Mutex<Option<Loss>>) -> io::Result<()> {
    let (mut up, mut down) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let mut asked = None;
    loop {
        tokio::select! {
            read = client.read(&mut up) => match read? {
                0 => return Ok(()),
                count => {
                    asked = sort(&up[..count]).or(asked);
                    server.write_all(&up[..count]).await?;
                }
            },
            read = server.read(&mut down) => match read? {
                0 => return Ok(()),
                count => {
                    if is_lost(asked, &down[..count], loss) {
                        return Ok(());
                    }
                    client.write_all(&down[..count]).await?;
                }
            },
        }
    }
}

fn is_lost(asked: Option<Loss>, answer: &[u8], loss: &Mutex<Option<Loss>>) -> bool {
    let mut loss = loss.lock().unwrap_or_else(PoisonError::into_inner);
    let has_jobs = || answer.windows(10).any(|part| part == b"\"jobs\":[{\"");
    let is_it = loss.is_some() && *loss == asked && (asked != Some(Loss::Jobs) || has_jobs());
    if is_it {
        *loss = None;
    }
    is_it
}

/// What a request is about; `None` for a part of a body, and for what is never lost.
fn sort(bytes: &[u8]) -> Option<Loss> {
    let line = bytes.split(|byte| *byte == b'\r').next()?;
    let path = line.strip_prefix(b"POST ")?.split(|byte| *byte == b' ').next()?;
    match path.rsplit(|byte| *byte == b'/').next()? {
        b"claim" => Some(Loss::Jobs),
        b"outcomes" => Some(Loss::Outcomes),
        b"logs" => Some(Loss::Logs),
        _ => None,
    }
}

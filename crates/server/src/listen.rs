//! Listening: connections, what they may cost, and how they end.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
    sync::Arc,
    time::Duration,
};

use axum::{Router, body::Body};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
};
use tower::ServiceExt;

use crate::{Access, Peer, patience::Patient};

/// What the head of a request may have.
const HEAD_BYTES: usize = 32 << 10;

/// What is read from a connection at a time, and may wait to be written to it in small pieces.
const BUFFER: usize = 64 << 10;

/// Headers of a request.
const HEADERS: usize = 100;

/// Connections that may wait to be accepted.
const WAITING: i32 = 4096;

/// Pause after an accept that failed, as it does when there are no more files to be had.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why nobody can be listened to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// Something else listens there.
    #[error(
        "the address {0} is in use: something else listens there; stop it, or take another with `--listen`"
    )]
    InUse(SocketAddr),
    /// The text is no address.
    #[error("`{text}` is not an address to listen on: {reason}; write it as 127.0.0.1:7467")]
    Address {
        /// The text.
        text: String,
        /// Why.
        reason: String,
    },
    /// Anything else.
    #[error("cannot listen on {address}: {error}")]
    Other {
        /// Where.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
}

/// A socket that listens; nothing is answered yet.
pub struct Listener {
    socket: std::net::TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Listens at `host:port`; port 0 takes one that is free.
    ///
    /// # Errors
    /// It is no address, or cannot be listened on.
    pub fn bind(text: &str) -> Result<Self, ListenError> {
        let wrong = |reason: String| ListenError::Address { text: text.to_owned(), reason };
        let mut addresses = text.to_socket_addrs().map_err(|e| wrong(e.to_string()))?;
        let address = addresses.next().ok_or_else(|| wrong("the name stands for no address".to_owned()))?;
        let told = |error: io::Error| match error.kind() {
            io::ErrorKind::AddrInUse => ListenError::InUse(address),
            _ => ListenError::Other { address, error },
        };
        let socket = std::net::TcpListener::bind(address).map_err(told)?;
        // The standard library lets 128 wait to be accepted. A burst of more is not refused but asked to come again
        // after a second, and then after two; the system cuts this number to what it allows.
        rustix::net::listen(&socket, WAITING).map_err(|e| told(e.into()))?;
        socket.set_nonblocking(true).map_err(told)?;
        let address = socket.local_addr().map_err(told)?;
        Ok(Self { socket, address })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Who may ask there without a token.
    #[must_use]
    pub fn access(&self) -> Access {
        if self.address.ip().is_loopback() { Access::Loopback } else { Access::Tokens }
    }
}

/// What those who connect may have and take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time. One more waits in the system's queue until another has ended.
    pub connections: usize,
    /// How long the head of a request may take, from the connection or from the answer before; and how long an answer
    /// may wait without any of it being read. A body may take twice as long.
    pub client_time: Duration,
    /// What the largest body may have, in bytes.
    pub body: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 20_000, client_time: Duration::from_secs(20), body: 32 << 20 }
    }
}

pub(crate) async fn serve(
    listener: Listener,
    router: Router,
    limits: Limits,
    stop: impl Future<Output = ()> + Send,
    patience: Duration,
) {
    let socket = match TcpListener::from_std(listener.socket) {
        Ok(socket) => socket,
        Err(error) => return tracing::error!(%error, "the listener cannot be used"),
    };
    let places = Arc::new(Semaphore::new(limits.connections));
    let (ending, end) = watch::channel(false);
    let mut open = JoinSet::new();
    tokio::pin!(stop);
    loop {
        let place = tokio::select! {
            () = &mut stop => break,
            Ok(place) = places.clone().acquire_owned() => place,
        };
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = socket.accept() => accepted,
            Some(_) = open.join_next() => continue,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (router, end) = (router.clone(), end.clone());
                open.spawn(async move {
                    connection(stream, peer, router, limits.client_time, end).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(socket);
    let _ = ending.send(true);
    let all = async { while open.join_next().await.is_some() {} };
    if tokio::time::timeout(patience, all).await.is_err() {
        tracing::warn!(connections = open.len(), "connections were cut");
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    client_time: Duration,
    mut end: watch::Receiver<bool>,
) {
    // Events and lines are small and are waited for.
    let _ = stream.set_nodelay(true);
    let stream = Patient::new(stream, client_time);
    let line = stream.line();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        request.extensions_mut().insert(line.clone());
        router.clone().oneshot(request.map(Body::new))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(client_time)
        .max_header_size(HEAD_BYTES)
        .max_buf_size(BUFFER)
        .max_headers(HEADERS)
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = async { drop(end.wait_for(|ending| *ending).await) } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection ended badly");
    }
}

//! A connection that is given up when nothing that was written to it has been taken for a while.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{RecvFlags, Shutdown},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Sleep,
};

/// A stream that ends with an error when the other side does not read.
pub(crate) struct Patient {
    stream: Arc<TcpStream>,
    time: Duration,
    /// Runs while something waits to be written.
    stuck: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    /// The other side may read nothing for `time` at most while something waits for it.
    pub(crate) fn new(stream: TcpStream, time: Duration) -> Self {
        Self { stream: Arc::new(stream), time, stuck: None }
    }

    /// The line to the other side, to be looked at while it waits for an answer.
    pub(crate) fn line(&self) -> Line {
        Line(self.stream.clone())
    }

    fn waited(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stuck = None;
            return written;
        }
        let time = self.time;
        let stuck = self.stuck.get_or_insert_with(|| Box::pin(tokio::time::sleep(time)));
        stuck.as_mut().poll(context).map(|()| {
            Err(io::Error::new(io::ErrorKind::TimedOut, "the other side did not read what was sent"))
        })
    }
}

/// The line to whoever asks.
#[derive(Clone)]
pub(crate) struct Line(Arc<TcpStream>);

impl Line {
    /// Whether the other side says nothing more: it has ended, or waits for the answer with its half closed, which is for
    /// whoever asks to say whether it counts.
    pub(crate) fn is_closed(&self) -> bool {
        let looked = rustix::net::recv(&*self.0, &mut [0; 1][..], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        match looked {
            Ok((_, count)) => count == 0,
            Err(error) => !matches!(error, Errno::AGAIN | Errno::INTR),
        }
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream.poll_read_ready(context))?;
            match self.stream.try_read_buf(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read.map(drop)),
            }
        }
    }
}

/// Writes as soon as something can be written.
fn write_when_ready(
    stream: &TcpStream,
    context: &mut Context<'_>,
    write: impl Fn() -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_write_ready(context))?;
        match write() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            written => return Poll::Ready(written),
        }
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let stream = self.stream.clone();
        let written = write_when_ready(&stream, context, || stream.try_write(bytes));
        self.waited(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = self.stream.clone();
        let written = write_when_ready(&stream, context, || stream.try_write_vectored(pieces));
        self.waited(context, written)
    }

    // Answers go out as the pieces they are: their bytes are counted until they are gone (`answers.rs`).
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A socket keeps nothing back.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(match rustix::net::shutdown(&*self.stream, Shutdown::Write) {
            // The other side was faster.
            Err(Errno::NOTCONN) => Ok(()),
            done => done.map_err(io::Error::from),
        })
    }
}

//! One connection: frames in, bytes out.
//!
//! The two directions are apart, so that many messages can be sent while their acknowledgements come in: a broker that
//! cannot get rid of its answers reads no more.

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use crate::{
    BrokerError, GREETING,
    place::{Place, Wire},
};

/// So much is read at a time.
const CHUNK: usize = 16 << 10;

/// Makes frames of bytes. It never asks for more input than it has said it keeps, so the input stays bounded.
pub(crate) trait Decode {
    /// What is read.
    type Frame;

    /// Takes a frame from the input; `None` when more of it must come first.
    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Self::Frame>, String>;
}

/// What comes in.
pub(crate) struct Incoming<D> {
    place: String,
    read: ReadHalf<Box<dyn Wire>>,
    input: BytesMut,
    decoder: D,
}

/// What goes out.
pub(crate) struct Outgoing {
    place: String,
    write: WriteHalf<Box<dyn Wire>>,
    /// What is still to be sent.
    rest: BytesMut,
}

/// A connection to a broker.
pub(crate) struct Link<D> {
    pub(crate) incoming: Incoming<D>,
    pub(crate) outgoing: Outgoing,
}

impl<D: Decode> Link<D> {
    pub(crate) fn new(place: &Place, wire: Box<dyn Wire>, decoder: D) -> Self {
        let (read, write) = tokio::io::split(wire);
        let place = place.name();
        Self {
            incoming: Incoming { place: place.clone(), read, input: BytesMut::new(), decoder },
            outgoing: Outgoing { place, write, rest: BytesMut::new() },
        }
    }

    /// Goes on under TLS.
    pub(crate) async fn secure(self, place: &Place) -> Result<Self, BrokerError> {
        let Self { incoming, outgoing } = self;
        // What an unprotected greeting is followed by could be anybody's.
        if !incoming.input.is_empty() {
            return Err(incoming.garbled("it says more than its greeting before TLS"));
        }
        let wire = place.secure(incoming.read.unsplit(outgoing.write)).await?;
        Ok(Self::new(place, wire, incoming.decoder))
    }
}

impl<D: Decode> Incoming<D> {
    /// The next frame, whenever it comes. Dropped before its end, it loses nothing.
    pub(crate) async fn next(&mut self) -> Result<D::Frame, BrokerError> {
        loop {
            if let Some(frame) = self.decoder.decode(&mut self.input).map_err(|why| self.garbled(&why))? {
                return Ok(frame);
            }
            self.input.reserve(CHUNK);
            match self.read.read_buf(&mut self.input).await {
                Ok(0) => return Err(self.away("it closed the connection")),
                Ok(_) => {}
                Err(error) => return Err(self.away(error)),
            }
        }
    }

    /// The next frame, which is waited for so long.
    pub(crate) async fn within(&mut self, patience: Duration) -> Result<D::Frame, BrokerError> {
        let late = self.late(patience);
        tokio::time::timeout(patience, self.next()).await.unwrap_or(Err(late))
    }

    pub(crate) fn late(&self, patience: Duration) -> BrokerError {
        self.away(format!("it does not answer for {} s", patience.as_secs()))
    }

    pub(crate) fn away(&self, why: impl ToString) -> BrokerError {
        BrokerError::Away { place: self.place.clone(), why: why.to_string() }
    }

    pub(crate) fn refused(&self, why: impl Into<String>) -> BrokerError {
        BrokerError::Refused { place: self.place.clone(), why: why.into() }
    }

    pub(crate) fn garbled(&self, why: &str) -> BrokerError {
        BrokerError::Garbled { place: self.place.clone(), why: why.to_owned() }
    }
}

impl Outgoing {
    /// Sends all of it. Dropped before its end, the rest is sent before what comes next.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<(), BrokerError> {
        self.rest.extend_from_slice(bytes);
        let sent = async {
            while !self.rest.is_empty() {
                self.write.write_buf(&mut self.rest).await?;
            }
            self.write.flush().await
        };
        sent.await.map_err(|error| BrokerError::Away { place: self.place.clone(), why: error.to_string() })
    }
}

/// A greeting, which is not waited for longer than is good.
pub(crate) async fn greeted<T>(
    place: &Place,
    work: impl Future<Output = Result<T, BrokerError>>,
) -> Result<T, BrokerError> {
    let late = || place.away(format!("it does not let us in for {} s", GREETING.as_secs()));
    tokio::time::timeout(GREETING, work).await.unwrap_or_else(|_| Err(late()))
}

/// Looks for the end of a line, which is not part of it.
pub(crate) fn line_end(input: &[u8], longest: usize) -> Result<Option<usize>, String> {
    match input.iter().take(longest).position(|byte| *byte == b'\n') {
        Some(at) => Ok(Some(at)),
        None if input.len() >= longest => Err(format!("a line has more than {longest} bytes")),
        None => Ok(None),
    }
}

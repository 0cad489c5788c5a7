//! A notification to a broker: Redis, NATS, MQTT.
//!
//! What a notification needs of their protocols is little: greet, hand over one message, wait until it is acknowledged.
//! So they are spoken here, over one connection each, and their client libraries, which keep connections alive and
//! subscribe, are not built.

use std::sync::Arc;

use jiff::Timestamp;
use ostler_model::TypedError;
use rustls::pki_types::ServerName;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, BufStream},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use super::{Notice, wrong};
use crate::{
    address::Address,
    call::Call,
    tls::{self, Trust},
};

/// A line of a broker's answer; longer ones are refused.
const LINE: usize = 1 << 20;

/// A connection, protected or not.
pub(super) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// A connection that is read by lines.
pub(super) type Link = BufStream<Box<dyn Wire>>;

/// What is handed over.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Body {
    #[default]
    Json,
    Message,
}

impl Body {
    pub(super) fn text(self, notice: &Notice, call: &Call, now: Timestamp) -> String {
        match self {
            Self::Json => super::envelope(notice, &call.request, now).to_string(),
            Self::Message => notice.message.clone(),
        }
    }

    pub(super) fn schema() -> Value {
        json!({ "enum": ["json", "message"], "default": "json", "description": "What is handed over: JSON with title, message and run, or the message as it is" })
    }
}

/// Where a broker is.
pub(super) struct Place {
    pub(super) address: Address,
    port: u16,
    /// TLS from the first byte on, or as soon as the protocol has it.
    pub(super) secured: bool,
}

impl Place {
    /// Reads an address. `schemes` are the plain and the protected one with their ports.
    pub(super) fn parse(field: &str, url: &str, schemes: [(&str, u16); 2]) -> Result<Self, TypedError> {
        let example = format!("{}://user:password@host:{}", schemes[0].0, schemes[0].1);
        let fault = |why: String| wrong(format!("`{field}.url` {why}"));
        let address = Address::parse(url, &example).map_err(fault)?;
        let known = schemes.iter().position(|(scheme, _)| *scheme == address.scheme);
        let Some(known) = known.filter(|_| !address.host.is_empty()) else {
            return Err(fault(format!("is not an address as in {example}, or with {}://", schemes[1].0)));
        };
        let port = address.port.unwrap_or(schemes[known].1);
        Ok(Self { address, port, secured: known == 1 })
    }

    /// Host and port, without the login.
    pub(super) fn name(&self) -> String {
        format!("{}:{}", self.address.host, self.port)
    }

    pub(super) async fn connect(&self) -> Result<Link, String> {
        let tcp = TcpStream::connect((self.address.host.as_str(), self.port)).await;
        Ok(BufStream::new(Box::new(tcp.map_err(|e| e.to_string())?)))
    }

    /// Goes on under TLS, with a certificate for that host by who this machine believes in.
    pub(super) async fn secure(&self, link: Link) -> Result<Link, String> {
        let connector = TlsConnector::from(Arc::new(tls::client(&Trust::System)?));
        let name = ServerName::try_from(self.address.host.clone()).map_err(|e| e.to_string())?;
        let secured = connector.connect(name, link.into_inner()).await.map_err(|e| e.to_string())?;
        Ok(BufStream::new(Box::new(secured)))
    }
}

/// A line without its end.
pub(super) async fn line(link: &mut Link) -> Result<String, String> {
    let mut text = Vec::new();
    let read = link.take(LINE as u64).read_until(b'\n', &mut text).await.map_err(|e| e.to_string())?;
    match text.strip_suffix(b"\n") {
        Some(line) => Ok(String::from_utf8_lossy(line).trim_end_matches('\r').to_owned()),
        None if read == 0 => Err("it closed the connection".into()),
        None => Err("its answer makes no sense".into()),
    }
}

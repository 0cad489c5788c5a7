//! Where a broker is.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::{
    Address, BrokerError,
    tls::{self, Trust},
};

/// A connection, protected or not.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Wire for T {}

/// Where a broker is, and who asks. What is printed of it holds no login.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) address: Address,
    port: u16,
    /// TLS from the first byte on, or as soon as the protocol has it.
    pub(crate) secured: bool,
}

impl Place {
    /// Reads an address. `schemes` are the plain and the protected one with their ports.
    pub(crate) fn parse(url: &str, schemes: [(&str, u16); 2]) -> Result<Self, BrokerError> {
        let example = format!("{}://user:password@host:{}", schemes[0].0, schemes[0].1);
        let address = Address::parse(url, &example).map_err(BrokerError::Wrong)?;
        let known = schemes.iter().position(|(scheme, _)| *scheme == address.scheme);
        let Some(known) = known.filter(|_| !address.host.is_empty()) else {
            let why = format!("is not an address as in {example}, or with {}://", schemes[1].0);
            return Err(BrokerError::Wrong(why));
        };
        let port = address.port.unwrap_or(schemes[known].1);
        Ok(Self { address, port, secured: known == 1 })
    }

    /// Host and port, without the login.
    pub(crate) fn name(&self) -> String {
        format!("{}:{}", self.address.host, self.port)
    }

    pub(crate) fn away(&self, why: impl ToString) -> BrokerError {
        BrokerError::Away { place: self.name(), why: why.to_string() }
    }

    pub(crate) async fn connect(&self) -> Result<Box<dyn Wire>, BrokerError> {
        let tcp = TcpStream::connect((self.address.host.as_str(), self.port)).await;
        let tcp = tcp.map_err(|e| self.away(e))?;
        // Acknowledgements are small and must not wait for one another.
        tcp.set_nodelay(true).map_err(|e| self.away(e))?;
        Ok(Box::new(tcp))
    }

    /// Goes on under TLS, with a certificate for that host by who this machine believes in.
    pub(crate) async fn secure(&self, wire: Box<dyn Wire>) -> Result<Box<dyn Wire>, BrokerError> {
        let connector = TlsConnector::from(Arc::new(tls::client(&Trust::System).map_err(|e| self.away(e))?));
        let name = ServerName::try_from(self.address.host.clone()).map_err(|e| self.away(e))?;
        Ok(Box::new(connector.connect(name, wire).await.map_err(|e| self.away(e))?))
    }
}

//! Where a store is: the URL that people give.

use std::sync::Arc;

use ostler_store::StoreError;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio_postgres::config::SslMode;
use url::Url;

/// The schema that holds the tables when the URL names none.
const SCHEMA: &str = "ostler";

/// Where a store is and how it is talked to.
#[derive(Clone)]
pub struct Address {
    pub(crate) config: tokio_postgres::Config,
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// The schema that holds the tables.
    pub(crate) schema: String,
    /// A pooler hands each transaction to another connection: nothing is prepared, and nobody listens.
    pub(crate) pooled: bool,
    shown: String,
}

impl std::fmt::Display for Address {
    /// The URL without its password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown)
    }
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown)
    }
}

impl Address {
    /// Whether a text is the URL of a store on PostgreSQL.
    #[must_use]
    pub fn is_one(text: &str) -> bool {
        text.starts_with("postgres://") || text.starts_with("postgresql://")
    }

    /// Reads a URL as libpq takes it, with `schema` (default `ostler`) and `pooler=transaction` (for PgBouncer in
    /// transaction mode: nothing is prepared and nobody listens) beside its own parameters, and every `sslmode`.
    ///
    /// # Errors
    /// The URL does not read, or names a certificate file that does not.
    pub fn parse(text: &str) -> Result<Self, StoreError> {
        let mut url = Url::parse(text).map_err(|e| wrong(format!("the store's URL does not read: {e}")))?;
        let mut address = Self {
            config: tokio_postgres::Config::new(),
            tls: None,
            schema: SCHEMA.to_owned(),
            pooled: false,
            shown: String::new(),
        };
        let (mut mode, mut roots) = (None, None);
        let mut rest = Vec::new();
        for (key, value) in url.query_pairs() {
            match &*key {
                "schema" => address.schema = schema(&value)?,
                "pooler" if value == "transaction" => address.pooled = true,
                "pooler" if value == "none" => address.pooled = false,
                "pooler" => return Err(wrong(format!("`pooler` is `transaction` or `none`, not `{value}`"))),
                "sslmode" => mode = Some(value.into_owned()),
                "sslrootcert" => roots = Some(value.into_owned()),
                _ => rest.push((key.into_owned(), value.into_owned())),
            }
        }
        match rest.is_empty() {
            true => url.set_query(None),
            false => {
                url.query_pairs_mut().clear().extend_pairs(rest);
                // The driver knows spaces as %20 only.
                let spaced = url.query().map(|query| query.replace('+', "%20"));
                url.set_query(spaced.as_deref());
            }
        }
        address.config = url.as_str().parse().map_err(|e: tokio_postgres::Error| {
            wrong(format!("the store's URL does not read: {}", crate::trouble::words(&e)))
        })?;
        if address.config.get_application_name().is_none() {
            address.config.application_name("ostler");
        }
        let seconds = std::time::Duration::from_secs;
        if address.config.get_connect_timeout().is_none() {
            address.config.connect_timeout(seconds(5));
        }
        // A server that is gone without a word is noticed within the lease of a node.
        address
            .config
            .tcp_user_timeout(seconds(10))
            .keepalives_idle(seconds(5))
            .keepalives_interval(seconds(2));
        let (ssl, verified) = match mode.as_deref() {
            Some("disable") => (SslMode::Disable, Verified::Nothing),
            None | Some("prefer" | "allow") if roots.is_none() => (SslMode::Prefer, Verified::Nothing),
            Some("require") if roots.is_none() => (SslMode::Require, Verified::Nothing),
            Some("verify-ca") => (SslMode::Require, Verified::Chain),
            None | Some("verify-full" | "require" | "prefer" | "allow") => (SslMode::Require, Verified::Name),
            Some(other) => {
                return Err(wrong(format!(
                    "`sslmode` is disable, prefer, require, verify-ca or verify-full, not `{other}`"
                )));
            }
        };
        address.config.ssl_mode(ssl);
        if ssl != SslMode::Disable {
            address.tls = Some(Arc::new(tls(verified, roots.as_deref())?));
        }
        let _ = url.set_password(None);
        url.set_query(None);
        address.shown = match address.schema.as_str() {
            SCHEMA => url.to_string(),
            other => format!("{url}?schema={other}"),
        };
        Ok(address)
    }
}

fn wrong(words: String) -> StoreError {
    StoreError::Refused(words)
}

/// A schema's name goes into statements as it is, so it may hold nothing that would need quoting.
fn schema(name: &str) -> Result<String, StoreError> {
    let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if plain && !name.is_empty() && name.len() <= 63 && !name.as_bytes()[0].is_ascii_digit() {
        return Ok(name.to_owned());
    }
    Err(wrong(format!(
        "`schema={name}`: a schema's name is made of a to z, 0 to 9 and _, and begins with no digit"
    )))
}

/// What is asked of the server's certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verified {
    Nothing,
    Chain,
    Name,
}

fn tls(verified: Verified, roots: Option<&str>) -> Result<ClientConfig, StoreError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let broken = |e: &dyn std::fmt::Display| wrong(format!("TLS to the store cannot be set up: {e}"));
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| broken(&e))?;
    if verified == Verified::Nothing {
        let any = Arc::new(verify::Unverified(provider));
        return Ok(builder.dangerous().with_custom_certificate_verifier(any).with_no_client_auth());
    }
    let mut store = RootCertStore::empty();
    match roots {
        Some(path) => {
            let cannot =
                |e: &dyn std::fmt::Display| wrong(format!("`sslrootcert={path}` cannot be read: {e}"));
            for certificate in CertificateDer::pem_file_iter(path).map_err(|e| cannot(&e))? {
                store.add(certificate.map_err(|e| cannot(&e))?).map_err(|e| cannot(&e))?;
            }
        }
        None => drop(store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    if store.is_empty() {
        return Err(wrong("no root certificates were found; name a file with `sslrootcert=PATH`".into()));
    }
    if verified == Verified::Name {
        return Ok(builder.with_root_certificates(store).with_no_client_auth());
    }
    let chain = rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider)
        .build()
        .map_err(|e| broken(&e))?;
    let any_name = Arc::new(verify::AnyName(chain));
    Ok(builder.dangerous().with_custom_certificate_verifier(any_name).with_no_client_auth())
}

/// Verifiers that ask less of a certificate, as `sslmode` says.
mod verify {
    use std::sync::Arc;

    use rustls::{
        CertificateError, DigitallySignedStruct, Error, SignatureScheme,
        client::{
            WebPkiServerVerifier,
            danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        },
        crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
        pki_types::{CertificateDer, ServerName, UnixTime},
    };

    /// `require`, `prefer`: the connection is encrypted, whoever is at the other end.
    #[derive(Debug)]
    pub(super) struct Unverified(pub(super) Arc<CryptoProvider>);

    /// `verify-ca`: the certificate is trusted, for whatever name.
    #[derive(Debug)]
    pub(super) struct AnyName(pub(super) Arc<WebPkiServerVerifier>);

    impl ServerCertVerifier for Unverified {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls12_signature(message, cert, signature, &self.0.signature_verification_algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(message, cert, signature, &self.0.signature_verification_algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    }

    impl ServerCertVerifier for AnyName {
        fn verify_server_cert(
            &self,
            cert: &CertificateDer<'_>,
            chain: &[CertificateDer<'_>],
            name: &ServerName<'_>,
            ocsp: &[u8],
            now: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            match self.0.verify_server_cert(cert, chain, name, ocsp, now) {
                Err(Error::InvalidCertificate(
                    CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
                )) => Ok(ServerCertVerified::assertion()),
                other => other,
            }
        }

        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            self.0.verify_tls12_signature(message, cert, signature)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            self.0.verify_tls13_signature(message, cert, signature)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.supported_verify_schemes()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        let address =
            Address::parse("postgres://me:secret@db.example/work?schema=mine&sslmode=disable").unwrap();
        assert_eq!(address.to_string(), "postgres://me@db.example/work?schema=mine");
        assert_eq!(format!("{address:?}"), address.to_string());
        assert_eq!(address.config.get_password(), Some("secret".as_bytes()));
        let address =
            Address::parse("postgres://h/d?options=-c%20a%3Db%20-c%20c%3Dd&sslmode=disable").unwrap();
        assert_eq!(address.config.get_options(), Some("-c a=b -c c=d"));
    }

    #[test]
    fn what_does_not_read_is_told() {
        for (url, words) in [
            ("postgres://h/d?schema=a;drop", "a to z"),
            ("postgres://h/d?sslmode=maybe", "verify-full, not `maybe`"),
            ("postgres://h/d?pooler=session", "`transaction` or `none`"),
            ("postgres://h/d?sslrootcert=/no/such", "cannot be read"),
            ("postgres://h/d?what=1", "does not read"),
        ] {
            let error = Address::parse(url).unwrap_err().to_string();
            assert!(error.contains(words), "{url}: {error}");
        }
    }
}

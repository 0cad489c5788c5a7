//! TLS for the protocols that are not HTTP.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};

/// Whom to believe.
pub enum Trust<'a> {
    /// Whoever answers: what is sent cannot be read by the way, but perhaps by somebody in between.
    Anybody,
    /// Whoever the certificates of this machine vouch for.
    System,
    /// Whoever the certificates of a file (PEM) vouch for.
    File(&'a Path),
}

/// One TLS provider for the process; a second call finds the first.
pub fn install_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The certificates of this machine.
///
/// # Errors
/// When there are none, what to do.
pub fn system_roots() -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = rustls_native_certs::load_native_certs().certs;
    if certificates.is_empty() {
        return Err(
            "this machine has no certificates to believe in; install them (Debian: ca-certificates) or name a file".into(),
        );
    }
    Ok(certificates)
}

/// How to connect. Reads the certificates.
///
/// # Errors
/// A sentence about the certificates.
pub fn client(trust: &Trust<'_>) -> Result<ClientConfig, String> {
    install_provider();
    let builder = ClientConfig::builder();
    let mut roots = RootCertStore::empty();
    match trust {
        Trust::Anybody => {
            let verifier = Arc::new(Anybody(Arc::new(rustls::crypto::ring::default_provider())));
            return Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth());
        }
        Trust::System => {
            roots.add_parsable_certificates(system_roots()?);
        }
        Trust::File(path) => {
            let told = |e: &dyn std::fmt::Display| format!("`{}`: {e}", path.display());
            for certificate in CertificateDer::pem_file_iter(path).map_err(|e| told(&e))? {
                roots.add(certificate.map_err(|e| told(&e))?).map_err(|e| told(&e))?;
            }
            if roots.is_empty() {
                return Err(format!("`{}` holds no certificate in PEM", path.display()));
            }
        }
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Takes any certificate, but only from who holds its key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

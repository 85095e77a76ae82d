//! Identities and trust for OpenSSL instead of rustls.

use std::path::Path;

use openssl::error::ErrorStack;
use openssl::pkey::PKey;
use openssl::ssl::{SslAcceptor, SslConnector, SslContextBuilder, SslMethod, SslVerifyMode};
use openssl::x509::{X509, X509StoreContextRef, X509VerifyResult};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tcpls_core::crypto::openssl::{OpensslClient, OpensslServer, refuse_certificate, trust_by_key};

use super::pinned::WrongKey;
#[cfg(feature = "cli")]
use super::pinned::sha256;
use super::{Identity, Pin, Pins, TlsError, Trust, failure, read_certificates};

/// What an error of OpenSSL is about where nothing else is known.
const CONFIGURATION: &str = "OpenSSL can't use the TLS configuration";

impl Identity {
    /// The same as [`Identity::server_for`] with OpenSSL. Session keys are not written to a file.
    ///
    /// # Errors
    /// As there.
    pub fn openssl_server_for(&self, protocols: &[&[u8]], clients: Option<&Path>) -> Result<OpensslServer, TlsError> {
        let unusable = |error| failure(CONFIGURATION, error);
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).map_err(unusable)?;
        self.present(&mut acceptor).map_err(|error| failure("certificate and key can't be used", error))?;
        if let Some(path) = clients {
            let mode = SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT;
            trust(&mut acceptor, &read_certificates(path)?, mode)?;
        }
        OpensslServer::new(acceptor, protocols).map_err(|error| failure("the TLS configuration can't be used", error))
    }

    fn present(&self, context: &mut SslContextBuilder) -> Result<(), ErrorStack> {
        let mut chain = self.chain.iter().map(|certificate| X509::from_der(certificate));
        if let Some(first) = chain.next() {
            context.set_certificate(&*first?)?;
        }
        for issuer in chain {
            context.add_extra_chain_cert(issuer?)?;
        }
        context.set_private_key(&*PKey::private_key_from_der(self.key.secret_der())?)?;
        context.check_private_key()
    }
}

impl Trust {
    /// The same as [`Trust::client_as`] with OpenSSL, which knows by itself what the operating system trusts. Session keys are
    /// not written to a file.
    ///
    /// # Errors
    /// As there.
    pub fn openssl_client_as(
        &self,
        protocols: &[&[u8]],
        identity: Option<&Identity>,
    ) -> Result<OpensslClient, TlsError> {
        let unusable = |error| failure(CONFIGURATION, error);
        let mut connector = SslConnector::builder(SslMethod::tls_client()).map_err(unusable)?;
        match self {
            #[cfg(feature = "system-trust")]
            Self::System => {} // what the builder begins with
            Self::File(path) => trust(&mut connector, &read_certificates(path)?, SslVerifyMode::PEER)?,
            Self::Pem(text) => {
                let certificates = CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>();
                let certificates = certificates.map_err(|error| failure("no certificate (PEM)", error))?;
                trust(&mut connector, &certificates, SslVerifyMode::PEER)?;
            }
            Self::Pinned(pins) => {
                let pins = *pins;
                connector.set_verify_callback(SslVerifyMode::PEER, move |_, found| has_key(pins, found));
            }
            Self::Anyone => connector.set_verify(SslVerifyMode::NONE),
        }
        if let Some(identity) = identity {
            identity.present(&mut connector).map_err(|error| failure("certificate and key can't be used", error))?;
        }
        OpensslClient::new(connector, protocols).map_err(|error| failure("the TLS configuration can't be used", error))
    }
}

#[cfg(feature = "cli")]
impl Trust {
    /// Returns a hash of what is trusted, and of the client's certificate.
    ///
    /// # Errors
    /// A file can't be read.
    pub(crate) fn fingerprint(&self, identity: Option<&Identity>) -> Result<[u8; 32], TlsError> {
        let (kind, contents) = match self {
            #[cfg(feature = "system-trust")]
            Self::System => (0, Vec::new()),
            Self::File(path) => (1, read_certificates(path)?.iter().flat_map(|one| one.to_vec()).collect()),
            Self::Pem(text) => (2, text.clone().into_bytes()),
            Self::Pinned(pins) => (3, pins.iter().flat_map(|pin| *pin.as_bytes()).collect()),
            Self::Anyone => (4, Vec::new()),
        };
        let own = identity.and_then(|identity| identity.chain.first()).map(|certificate| sha256(certificate));
        Ok(sha256(&[&[kind][..], &sha256(&contents), &own.unwrap_or_default()].concat()))
    }
}

/// Trusts these certificates, and renewed ones of the same keys.
fn trust(
    context: &mut SslContextBuilder,
    certificates: &[CertificateDer<'_>],
    mode: SslVerifyMode,
) -> Result<(), TlsError> {
    let certificates: Result<Vec<X509>, _> = certificates.iter().map(|one| X509::from_der(one)).collect();
    let trusted = certificates.and_then(|certificates| trust_by_key(context, &certificates, mode));
    trusted.map_err(|error| failure("no certificate to trust: name a file with --ca", error))
}

/// Whether the server's own certificate has one of these keys: OpenSSL asks for each certificate, and for each objection,
/// which is overruled if so. It checks by itself that the server has the private key.
fn has_key(pins: Pins, found: &mut X509StoreContextRef) -> bool {
    let own = found.chain().and_then(|chain| chain.get(0)).and_then(|certificate| certificate.to_der().ok());
    let pin = own.and_then(|der| Pin::of(&CertificateDer::from(der)).ok());
    let is_accepted = pin.is_some_and(|pin| pins.iter().any(|accepted| accepted == pin));
    if let Some(other) = pin.filter(|_| !is_accepted) {
        refuse_certificate(found, WrongKey::from(other));
    }
    let verdict = if is_accepted { X509VerifyResult::OK } else { X509VerifyResult::APPLICATION_VERIFICATION };
    found.set_error(verdict);
    is_accepted
}

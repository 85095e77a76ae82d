//! Certificates and trust, from files or generated, as TLS configurations for sessions.
//!
//! This module has what the `tcpls` command, examples and tests need. Applications can use rustls configurations of
//! their own, and complete them with [`RustlsClient::new`] and [`RustlsServer::new`], or another TLS library: see
//! [`TlsClient`](tcpls_core::crypto::TlsClient) and [`TlsServer`](tcpls_core::crypto::TlsServer).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{error, fmt};

use rustls::client::ClientSessionMemoryCache;
use rustls::crypto::CryptoProvider;
#[cfg(feature = "aws-lc-rs")]
use rustls::crypto::aws_lc_rs as library;
#[cfg(not(feature = "aws-lc-rs"))]
use rustls::crypto::ring as library;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, KeyLogFile, RootCertStore, ServerConfig};
use tcpls_core::crypto::rustls::{RustlsClient, RustlsServer};

use self::pinned::KeyVerifier;

#[cfg(feature = "aws-lc-rs")]
mod ech;
#[cfg(feature = "openssl")]
mod openssl;
mod options;
mod pinned;
#[cfg(any(test, feature = "self-signed"))]
mod self_signed;

#[cfg(feature = "aws-lc-rs")]
pub use self::ech::Ech;
pub use self::options::TlsOptions;
#[cfg(feature = "cli")]
pub(crate) use self::pinned::WrongKey;
#[cfg(any(feature = "programs", feature = "proxy"))]
pub(crate) use self::pinned::sha256;
pub use self::pinned::{Pin, Pins};

/// Servers whose tickets a client keeps, as rustls does by default.
const SERVERS: usize = 256;

/// Why a TLS configuration could not be created, with a hint for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsError(String);

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl error::Error for TlsError {}

fn failure(what: impl fmt::Display, error: impl fmt::Display) -> TlsError {
    TlsError(format!("{what}: {error}"))
}

/// A certificate chain and its key.
#[derive(Debug)]
pub struct Identity {
    pem: String,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Reads a certificate chain, the server's own first, and its private key from PEM files.
    ///
    /// # Errors
    /// A file can't be read or holds something else.
    pub fn from_files(certificates: &Path, key: &Path) -> Result<Self, TlsError> {
        let chain = read_certificates(certificates)?;
        let pem = certificates_only(&std::fs::read_to_string(certificates).map_err(|error| {
            failure(format_args!("can't read certificates from {}", certificates.display()), error)
        })?);
        Ok(Self { pem, chain, key: read_key(key)? })
    }

    /// Returns the certificate chain in DER, the server's own first.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// Returns the pin of the public key.
    ///
    /// # Errors
    /// The certificate is malformed.
    pub fn pin(&self) -> Result<Pin, TlsError> {
        let first = self.chain.first().ok_or_else(|| TlsError("there is no certificate".to_owned()))?;
        Pin::of(first)
    }

    /// Returns the pin of the first certificate in a PEM file, which a server presents.
    ///
    /// # Errors
    /// The file can't be read, or has no certificate.
    pub fn pin_of_file(certificates: &Path) -> Result<Pin, TlsError> {
        match read_certificates(certificates)?.first() {
            Some(first) => Pin::of(first),
            None => Err(TlsError("there is no certificate".to_owned())),
        }
    }

    /// Returns the certificates as PEM text, for the clients' `--ca`.
    pub fn certificate_pem(&self) -> &str {
        &self.pem
    }

    /// Returns a configuration with this identity that accepts `protocols` over TCPLS and plain TLS. Session keys are
    /// written to the file that `SSLKEYLOGFILE` names, if any.
    ///
    /// # Errors
    /// Certificate and key do not match, or a protocol's name is invalid.
    pub fn server(&self, protocols: &[&[u8]]) -> Result<RustlsServer, TlsError> {
        self.server_for(protocols, None)
    }

    /// The same, but requires client certificates that are in the PEM file `clients`, or issued by one in it.
    ///
    /// # Errors
    /// As before, or there is no usable certificate in the file.
    pub fn server_for(&self, protocols: &[&[u8]], clients: Option<&Path>) -> Result<RustlsServer, TlsError> {
        self.server_with(protocols, clients, &TlsOptions::default())
    }

    /// The same with options.
    ///
    /// # Errors
    /// As before.
    pub fn server_with(
        &self,
        protocols: &[&[u8]],
        clients: Option<&Path>,
        options: &TlsOptions,
    ) -> Result<RustlsServer, TlsError> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| failure("TLS 1.3 can't be used", error))?;
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let roots = Arc::new(roots_of(read_certificates(path)?)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
                    .build()
                    .map_err(|error| failure(format_args!("can't verify clients by {}", path.display()), error))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .map_err(|error| failure("certificate and key can't be used", error))?;
        config.key_log = Arc::new(KeyLogFile::new());
        options.apply_to_server(&mut config);
        RustlsServer::new(Arc::new(config), protocols)
            .map_err(|error| failure("the TLS configuration can't be used", error))
    }
}

/// Which server certificates a client accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trust {
    /// Those that the operating system trusts, with the feature `system-trust`.
    #[cfg(feature = "system-trust")]
    System,
    /// Those in, or issued by those in, a PEM file.
    File(PathBuf),
    /// Those in, or issued by those in, this PEM text.
    Pem(String),
    /// Those with one of these public keys, whatever their names, dates and issuers.
    Pinned(Pins),
    /// Any: an attacker on the path can read and change everything.
    Anyone,
}

impl Trust {
    /// Returns a configuration that offers `protocols` over TCPLS and plain TLS. Joins are TLS resumptions where the server
    /// accepts them. Session keys are written to the file that `SSLKEYLOGFILE` names, if any.
    ///
    /// # Errors
    /// There are no usable certificates, or a protocol's name is invalid.
    pub fn client(&self, protocols: &[&[u8]]) -> Result<RustlsClient, TlsError> {
        self.client_as(protocols, None)
    }

    /// The same, with a client certificate for servers that require one.
    ///
    /// # Errors
    /// As before, or certificate and key do not match.
    pub fn client_as(&self, protocols: &[&[u8]], identity: Option<&Identity>) -> Result<RustlsClient, TlsError> {
        self.client_with(protocols, identity, &TlsOptions::default())
    }

    /// The same with options.
    ///
    /// # Errors
    /// As before.
    pub fn client_with(
        &self,
        protocols: &[&[u8]],
        identity: Option<&Identity>,
        options: &TlsOptions,
    ) -> Result<RustlsClient, TlsError> {
        let builder = options
            .builder(ClientConfig::builder_with_provider(provider()))
            .map_err(|error| failure("TLS 1.3 can't be used", error))?;
        let builder = match self.accepted()? {
            Accepted::Issuers(roots) => builder.with_root_certificates(roots),
            Accepted::Keys(pins) => {
                builder.dangerous().with_custom_certificate_verifier(Arc::new(KeyVerifier::new(pins, provider())))
            }
        };
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => builder
                .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
                .map_err(|error| failure("certificate and key can't be used", error))?,
        };
        config.key_log = Arc::new(KeyLogFile::new());
        options.apply_to_client(&mut config);
        let client = RustlsClient::new(Arc::new(config), protocols)
            .map_err(|error| failure("the TLS configuration can't be used", error))?;
        Ok(client.with_resumed_joins(Arc::new(ClientSessionMemoryCache::new(SERVERS))))
    }

    fn accepted(&self) -> Result<Accepted, TlsError> {
        let certificates = match self {
            Self::Pinned(pins) => return Ok(Accepted::Keys(Some(*pins))),
            Self::Anyone => return Ok(Accepted::Keys(None)),
            #[cfg(feature = "system-trust")]
            Self::System => rustls_native_certs::load_native_certs().certs,
            Self::File(path) => read_certificates(path)?,
            Self::Pem(text) => CertificateDer::pem_slice_iter(text.as_bytes())
                .collect::<Result<_, _>>()
                .map_err(|error| failure("no certificate (PEM)", error))?,
        };
        roots_of(certificates).map(Accepted::Issuers)
    }
}

/// What decides whether a client accepts a certificate.
enum Accepted {
    Issuers(RootCertStore),
    /// The public key, regardless of its issuer; `None`: any.
    Keys(Option<Pins>),
}

fn roots_of(certificates: Vec<CertificateDer<'static>>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates);
    if added == 0 {
        return Err(TlsError("no certificate to trust: name a file with --ca".to_owned()));
    }
    Ok(roots)
}

/// The crypto library that the features choose.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(library::default_provider())
}

/// Returns the certificates in PEM text, without keys and other parts.
fn certificates_only(pem: &str) -> String {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let parts = pem.split(BEGIN).skip(1).filter_map(|part| part.split_once(END));
    parts.map(|(content, _)| format!("{BEGIN}{content}{END}\n")).collect()
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = std::fs::read(path)
        .map_err(|error| failure(format_args!("can't read the private key from {}", path.display()), error))?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        let path = path.display();
        let encrypted = ["ENCRYPTED PRIVATE KEY", "Proc-Type: 4,ENCRYPTED"];
        if encrypted.iter().any(|mark| text.windows(mark.len()).any(|part| part == mark.as_bytes())) {
            TlsError(format!(
                "the private key in {path} is encrypted: decrypt it, with openssl pkey -in {path} -out FILE"
            ))
        } else {
            failure(format_args!("no private key (PEM) in {path}"), error)
        }
    })
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    match certificates {
        Ok(certificates) if certificates.is_empty() => {
            Err(TlsError(format!("no certificate (PEM) in {}", path.display())))
        }
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(failure(format_args!("can't read certificates from {}", path.display()), error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pem_without_certificates_is_not_trusted() {
        let error = Trust::Pem("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned()).client(&[]);
        assert!(error.unwrap_err().to_string().contains("--ca"));
        assert!(Trust::File("/nonexistent".into()).client(&[]).unwrap_err().to_string().contains("/nonexistent"));
    }
}

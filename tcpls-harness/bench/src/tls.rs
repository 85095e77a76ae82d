//! One certificate and one set of TLS configurations for us and for all peers: TLS 1.3, AES-128-GCM, X25519, no client
//! certificates, and the AEADs of the provider that the benchmark was built with.

use std::hint::black_box;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::client::{ClientSessionMemoryCache, Resumption};
use rustls::crypto::CryptoProvider;
#[cfg(feature = "aws-lc-rs")]
use rustls::crypto::aws_lc_rs as library;
#[cfg(not(feature = "aws-lc-rs"))]
use rustls::crypto::ring as library;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tcpls_core::crypto::rustls::{RustlsClient, RustlsServer};

use crate::Outcome;

/// The crypto provider's name.
pub const PROVIDER: &str = if cfg!(feature = "aws-lc-rs") { "aws-lc-rs" } else { "ring" };

/// The application protocol of all peers that need one.
pub const PROTOCOL: &[u8] = b"bench";

/// A key with which nothing is protected, since it is published here: ring makes no RSA keys.
const RSA_2048: &[u8] = include_bytes!("rsa-2048.der");
/// Tickets that a client keeps of one server.
const TICKETS: usize = 8;

/// A server's identity, made on the spot, and clients that trust it.
pub struct Tls {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Tls {
    /// A new self-signed certificate for `localhost`, with an ECDSA key on P-256.
    pub fn new() -> Outcome<Self> {
        Self::with_key(&KeyPair::generate()?)
    }

    /// The same with an RSA key of 2048 bits.
    pub fn rsa() -> Outcome<Self> {
        Self::with_key(&KeyPair::from_pkcs8_der_and_sign_algo(&RSA_2048.into(), &rcgen::PKCS_RSA_SHA256)?)
    }

    fn with_key(key: &KeyPair) -> Outcome<Self> {
        let certificate = CertificateParams::new(vec!["localhost".to_owned()])?.self_signed(key)?;
        Ok(Self { certificate: certificate.der().clone(), key: PrivateKeyDer::Pkcs8(key.serialize_der().into()) })
    }

    /// The certificate and the key, for another process.
    pub fn der(&self) -> (Vec<u8>, Vec<u8>) {
        (self.certificate.to_vec(), self.key.secret_der().to_vec())
    }

    /// From another process.
    pub fn from_der(certificate: Vec<u8>, key: Vec<u8>) -> Self {
        Self { certificate: certificate.into(), key: PrivateKeyDer::Pkcs8(key.into()) }
    }

    /// A client of rustls that offers this application protocol.
    pub fn client(&self, protocol: &[u8]) -> Outcome<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone())?;
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(Arc::new(config))
    }

    /// A server of rustls that speaks this application protocol.
    pub fn server(&self, protocol: &[u8]) -> Outcome<Arc<ServerConfig>> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], self.key.clone_key())?;
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(Arc::new(config))
    }

    /// A client of TCPLS.
    pub fn tcpls_client(&self) -> Outcome<RustlsClient> {
        Ok(RustlsClient::new(self.client(PROTOCOL)?, &[PROTOCOL])?)
    }

    /// A client of TCPLS that knows no session yet, and whose joins are resumptions.
    pub fn tcpls_client_with_resumed_joins(&self) -> Outcome<RustlsClient> {
        Ok(self.tcpls_client()?.with_resumed_joins(Arc::new(ClientSessionMemoryCache::new(TICKETS))))
    }

    /// A server of TCPLS.
    pub fn tcpls_server(&self) -> Outcome<RustlsServer> {
        Ok(RustlsServer::new(self.server(PROTOCOL)?, &[PROTOCOL])?)
    }
}

/// The server name that clients use.
pub fn server_name() -> ServerName<'static> {
    ServerName::try_from("localhost").expect("a valid name")
}

/// A public key for a key exchange.
pub fn key_share() -> Outcome<Vec<u8>> {
    Ok(library::kx_group::X25519.start()?.pub_key().to_vec())
}

/// What the server of a handshake does with the client's public key.
pub fn exchange_keys(with: &[u8]) -> Outcome {
    black_box(library::kx_group::X25519.start_and_complete(with)?);
    Ok(())
}

/// The same cipher suite and key exchange for all.
fn provider() -> Arc<CryptoProvider> {
    let provider = CryptoProvider {
        cipher_suites: vec![library::cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![library::kx_group::X25519],
        ..library::default_provider()
    };
    Arc::new(provider)
}

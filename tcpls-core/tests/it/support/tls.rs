//! rustls without chance: randomness from a seed, a clock that stands still, fixed keys and certificates. With the same
//! seed and the same calls, a handshake gives the same bytes.
//!
//! Called by `pair` and by the tests that need a particular TLS configuration, or a peer that knows nothing of TCPLS.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use rustls::client::{ClientConnection, Resumption};
use rustls::crypto::{
    ActiveKeyExchange, CryptoProvider, GetRandomFailed, SecureRandom, SharedSecret, SupportedKxGroup,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::{ServerConnection, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{
    CipherSuite, ClientConfig, Error, NamedGroup, PeerMisbehaved, RootCertStore, ServerConfig, SupportedProtocolVersion,
};
use tcpls_core::crypto::Handshake;
use tcpls_core::crypto::rng::{Rng, Seed};
use tcpls_core::crypto::rustls::{RustlsClient, RustlsServer};

#[cfg(feature = "aws-lc-rs")]
use rustls::crypto::aws_lc_rs::default_provider;
#[cfg(not(feature = "aws-lc-rs"))]
use rustls::crypto::ring::default_provider;

/// The suites that TCPLS can be used with.
pub const SUITES: [CipherSuite; 3] = [
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS13_AES_256_GCM_SHA384,
    CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
];

/// What a pair of TLS ends is to be like.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Both ends allow these alone, and those of TLS 1.2.
    pub suites: Vec<CipherSuite>,
    /// The client's application protocols.
    pub client_protocols: Vec<&'static [u8]>,
    /// The server's application protocols.
    pub server_protocols: Vec<&'static [u8]>,
    /// The server asks for a certificate of the client.
    pub client_auth: bool,
    /// The client has a certificate to show.
    pub client_has_certificate: bool,
    /// How many certificates its chain has; those behind the first are of no use.
    pub client_chain: usize,
    /// Which key and certificate the client has; servers trust 2 alone.
    pub client_key: u8,
    /// The client trusts the server's certificate.
    pub trusted: bool,
    /// New Session Tickets that the server sends.
    pub tickets: usize,
    /// Versions that the server speaks.
    pub server_versions: &'static [&'static SupportedProtocolVersion],
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            suites: SUITES.to_vec(),
            client_protocols: Vec::new(),
            server_protocols: Vec::new(),
            client_auth: false,
            client_has_certificate: false,
            client_chain: 1,
            client_key: 2,
            trusted: true,
            tickets: 2,
            server_versions: rustls::ALL_VERSIONS,
        }
    }
}

impl Tls {
    /// The client's end for TCPLS. It keeps tickets for the sessions that are made from it.
    pub fn client(&self, seed: u64) -> RustlsClient {
        RustlsClient::new(Arc::new(self.client_config(seed)), &self.client_protocols).unwrap()
    }

    /// The server's end for TCPLS.
    pub fn server(&self, seed: u64) -> RustlsServer {
        RustlsServer::new(Arc::new(self.server_config(seed)), &self.server_protocols).unwrap()
    }

    /// A client that has never heard of TCPLS.
    pub fn plain_client(&self, seed: u64) -> ClientConnection {
        let mut config = self.client_config(seed);
        config.alpn_protocols = self.client_protocols.iter().map(|name| name.to_vec()).collect();
        ClientConnection::new(Arc::new(config), server_name()).unwrap()
    }

    /// A server that has never heard of TCPLS.
    pub fn plain_server(&self, seed: u64) -> ServerConnection {
        let mut config = self.server_config(seed);
        config.alpn_protocols = self.server_protocols.iter().map(|name| name.to_vec()).collect();
        ServerConnection::new(Arc::new(config)).unwrap()
    }

    fn client_config(&self, seed: u64) -> ClientConfig {
        let trusted = if self.trusted { server_identity() } else { client_identity() };
        let builder = ClientConfig::builder_with_details(self.provider(seed, b"client"), Arc::new(Standstill))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(trusted.roots());
        let mut config = if self.client_has_certificate {
            let (mut chain, key) = Identity::client(self.client_key).chain_and_key();
            chain.resize(self.client_chain, chain[0].clone());
            builder.with_client_auth_cert(chain, key).unwrap()
        } else {
            builder.with_no_client_auth()
        };
        config.resumption = Resumption::in_memory_sessions(8);
        config
    }

    fn server_config(&self, seed: u64) -> ServerConfig {
        let provider = self.provider(seed, b"server");
        let builder = ServerConfig::builder_with_details(provider.clone(), Arc::new(Standstill))
            .with_protocol_versions(self.server_versions)
            .unwrap();
        let builder = if self.client_auth {
            let roots = Arc::new(client_identity().roots());
            builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(roots, provider).build().unwrap(),
            )
        } else {
            builder.with_no_client_auth()
        };
        let (chain, key) = server_identity().chain_and_key();
        let mut config = builder.with_single_cert(chain, key).unwrap();
        config.send_tls13_tickets = self.tickets;
        config
    }

    fn provider(&self, seed: u64, label: &[u8]) -> Arc<CryptoProvider> {
        let chance = Chance::new(seed, label);
        let mut provider = default_provider();
        provider.cipher_suites.retain(|suite| suite.tls13().is_none() || self.suites.contains(&suite.suite()));
        provider.kx_groups = vec![Box::leak(Box::new(X25519 { chance: chance.clone() }))];
        provider.secure_random = Box::leak(Box::new(chance));
        Arc::new(provider)
    }
}

/// The name that the server's certificate is for.
pub fn server_name() -> ServerName<'static> {
    ServerName::try_from("server.test").unwrap()
}

/// Starts a client's handshake.
pub fn start_client(tls: &RustlsClient) -> Box<dyn Handshake> {
    tls.handshake(server_name()).unwrap()
}

/// A seed from a small number.
pub fn seed(number: u64) -> Seed {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    Seed(bytes)
}

/// The source of all that would be random.
#[derive(Clone, Debug)]
struct Chance(Arc<Mutex<Rng>>);

impl Chance {
    fn new(number: u64, label: &[u8]) -> Self {
        Self(Arc::new(Mutex::new(Rng::new(&seed(number), label))))
    }
}

impl SecureRandom for Chance {
    fn fill(&self, buf: &mut [u8]) -> Result<(), GetRandomFailed> {
        self.0.lock().unwrap().fill(buf);
        Ok(())
    }
}

/// X25519 with secrets from [`Chance`].
#[derive(Debug)]
struct X25519 {
    chance: Chance,
}

impl SupportedKxGroup for X25519 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let secret = x25519_dalek::StaticSecret::from(self.chance.0.lock().unwrap().bytes::<32>());
        let public = x25519_dalek::PublicKey::from(&secret);
        Ok(Box::new(Exchange { secret, public }))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

struct Exchange {
    secret: x25519_dalek::StaticSecret,
    public: x25519_dalek::PublicKey,
}

impl ActiveKeyExchange for Exchange {
    fn complete(self: Box<Self>, peer_pub_key: &[u8]) -> Result<SharedSecret, Error> {
        let peer: [u8; 32] = peer_pub_key.try_into().map_err(|_| PeerMisbehaved::InvalidKeyShare)?;
        let shared = self.secret.diffie_hellman(&x25519_dalek::PublicKey::from(peer));
        Ok(SharedSecret::from(&shared.as_bytes()[..]))
    }

    fn pub_key(&self) -> &[u8] {
        self.public.as_bytes()
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

/// It is always the same moment of the year 2030.
#[derive(Debug)]
struct Standstill;

impl TimeProvider for Standstill {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(1_900_000_000)))
    }
}

/// A self-signed certificate with its key.
struct Identity {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Identity {
    fn new(name: &str, secret: u8) -> Self {
        // PKCS #8 around an Ed25519 secret of 32 equal bytes (RFC 8410, 7). Such signatures need no randomness.
        let mut key = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".to_vec();
        key.extend_from_slice(&[secret; 32]);
        let der = PrivatePkcs8KeyDer::from(key.as_slice());
        let pair = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ED25519).unwrap();
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2024, 1, 1);
        params.not_after = rcgen::date_time_ymd(2100, 1, 1);
        params.serial_number = Some(rcgen::SerialNumber::from_slice(&[secret]));
        Self { certificate: params.self_signed(&pair).unwrap().into(), key }
    }

    fn client(secret: u8) -> Self {
        Self::new(&format!("client-{secret}.test"), secret)
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        roots
    }

    fn chain_and_key(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        (vec![self.certificate.clone()], PrivateKeyDer::Pkcs8(self.key.clone().into()))
    }
}

fn server_identity() -> &'static Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY.get_or_init(|| Identity::new("server.test", 1))
}

fn client_identity() -> &'static Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY.get_or_init(|| Identity::client(2))
}

/// The certificate that clients show, in DER.
pub fn client_certificate() -> Vec<u8> {
    client_identity().certificate.to_vec()
}

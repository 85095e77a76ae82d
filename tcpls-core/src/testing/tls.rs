//! Deterministic TLS: rustls with randomness from a seed, a fixed clock, and fixed keys and certificates.
//!
//! With the same seed and the same calls, a handshake gives the same bytes. Nothing here protects anything: the keys are
//! public.
//!
//! [`Tls`] is a configuration of the provider [`crypto::rustls`](crate::crypto::rustls), and the only part of the test kit that
//! depends on it. The rest takes a [`Handshake`]: [`Pair::new`](super::Pair::new) and
//! [`Peer::with_handshakes`](super::Peer::with_handshakes) work with any provider.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::{ClientConnection, ClientSessionMemoryCache, Resumption};
use rustls::crypto::{
    ActiveKeyExchange, CryptoProvider, GetRandomFailed, SecureRandom, SharedSecret, SupportedKxGroup,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::{ServerConnection, StoresServerSessions, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{
    CipherSuite, ClientConfig, Error, KeyLog, NamedGroup, PeerMisbehaved, RootCertStore, ServerConfig,
    SupportedProtocolVersion,
};

use super::seed;
use crate::crypto::rng::Rng;
use crate::crypto::rustls::{RustlsClient, RustlsServer};
use crate::crypto::{Handshake, TlsClient, TlsServer};

// ring if both are built: what a seed gives does not depend on another package that asks for aws-lc-rs.
#[cfg(not(feature = "ring"))]
use rustls::crypto::aws_lc_rs::default_provider;
#[cfg(feature = "ring")]
use rustls::crypto::ring::default_provider;

/// The cipher suites that TCPLS can be used with.
pub const SUITES: [CipherSuite; 3] = [
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS13_AES_256_GCM_SHA384,
    CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
];

/// TLS 1.3 alone.
static TLS13: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS13];

/// The name in the server's certificate.
pub const SERVER_NAME: &str = "server.test";

/// The certificate that a client presents if the server asks for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificate {
    /// Servers trust it.
    Trusted,
    /// Servers do not trust it.
    Untrusted,
}

/// The TLS configuration of both ends of a session.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The TLS 1.3 cipher suites of both ends, in the order of preference.
    pub suites: Vec<CipherSuite>,
    /// The client's application protocols, the preferred one first.
    pub client_protocols: Vec<&'static [u8]>,
    /// The server's application protocols, the preferred one first.
    pub server_protocols: Vec<&'static [u8]>,
    /// Whether the server demands a client certificate.
    pub client_auth: bool,
    /// The client's certificate, if it has one.
    pub client_certificate: Option<ClientCertificate>,
    /// How many certificates the client's chain has, at least 1; those behind the first serve only to make it long.
    pub client_chain: usize,
    /// The same for the server's chain.
    pub server_chain: usize,
    /// Whether the client trusts the server's certificate.
    pub trusted: bool,
    /// The New Session Tickets that the server sends.
    pub tickets: usize,
    /// Whether the client sends early data.
    pub early_client: bool,
    /// Whether the server accepts it.
    pub early_server: bool,
    /// The server's store of sessions, which several servers can share; `None`: one of its own.
    pub sessions: Option<Arc<dyn StoresServerSessions>>,
    /// Whether the server asks for another key share than the client's first (HelloRetryRequest).
    pub retry: bool,
    /// Whether both ends make joins TLS resumptions.
    pub resumed_joins: bool,
    /// Gets the client's secrets, if it is there.
    pub key_log: Option<Arc<dyn KeyLog>>,
    /// The TLS versions of both ends.
    pub versions: &'static [&'static SupportedProtocolVersion],
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            suites: SUITES.to_vec(),
            client_protocols: Vec::new(),
            server_protocols: Vec::new(),
            client_auth: false,
            client_certificate: None,
            client_chain: 1,
            server_chain: 1,
            trusted: true,
            tickets: 2,
            early_client: false,
            early_server: false,
            sessions: None,
            retry: false,
            resumed_joins: false,
            key_log: None,
            versions: &TLS13,
        }
    }
}

impl Tls {
    /// Returns the client's end. The sessions that are made from it share its tickets.
    pub fn client(&self, seed: u64) -> RustlsClient {
        let client = RustlsClient::new(Arc::new(self.client_config(seed)), &self.client_protocols);
        let client = client.expect("valid protocol names");
        let client = if self.early_client { client.with_early_data(Arc::default()) } else { client };
        let store = Arc::new(ClientSessionMemoryCache::new(8));
        if self.resumed_joins { client.with_resumed_joins(store) } else { client }
    }

    /// Returns the server's end.
    pub fn server(&self, seed: u64) -> RustlsServer {
        let server = RustlsServer::new(Arc::new(self.server_config(seed)), &self.server_protocols);
        let server = server.expect("valid protocol names");
        let server = if self.early_server { server.with_early_data().expect("tickets in a store") } else { server };
        if self.resumed_joins {
            server.with_resumed_joins().expect("there are tickets")
        } else {
            server.without_resumed_joins()
        }
    }

    /// Returns the client's end: by rustls, or by OpenSSL if the feature `openssl` is built and the environment variable
    /// `TCPLS_TESTING_TLS` is `openssl`. The sessions that are made from it share its tickets.
    pub fn client_end(&self, seed: u64) -> Arc<dyn TlsClient> {
        #[cfg(feature = "openssl")]
        if is_openssl() {
            let client = self.openssl_client();
            return Arc::new(if self.early_client { client.with_early_data(Arc::default()) } else { client });
        }
        Arc::new(self.client(seed))
    }

    /// The same for the server's end.
    pub fn server_end(&self, seed: u64) -> Arc<dyn TlsServer> {
        #[cfg(feature = "openssl")]
        if is_openssl() {
            return Arc::new(self.openssl_server());
        }
        Arc::new(self.server(seed))
    }

    /// Starts a handshake of [`Tls::client_end`].
    pub fn start_client(&self, seed: u64) -> Box<dyn Handshake> {
        self.client_end(seed).handshake(SERVER_NAME).expect("a complete configuration")
    }

    /// Starts a handshake of [`Tls::server_end`].
    pub fn start_server(&self, seed: u64) -> Box<dyn Handshake> {
        self.server_end(seed).handshake().expect("a complete configuration")
    }

    /// Returns a client of plain TLS that does not know TCPLS.
    pub fn plain_client(&self, seed: u64) -> ClientConnection {
        ClientConnection::new(self.plain_client_config(seed), server_name()).expect("a complete configuration")
    }

    /// Returns the configuration of such a client. Connections that are made from it share its tickets.
    pub fn plain_client_config(&self, seed: u64) -> Arc<ClientConfig> {
        let mut config = self.client_config(seed);
        config.alpn_protocols = self.client_protocols.iter().map(|name| name.to_vec()).collect();
        config.enable_early_data = self.early_client;
        Arc::new(config)
    }

    /// Returns a server of plain TLS that does not know TCPLS.
    pub fn plain_server(&self, seed: u64) -> ServerConnection {
        ServerConnection::new(self.plain_server_config(seed)).expect("a complete configuration")
    }

    /// Returns the configuration of such a server.
    pub fn plain_server_config(&self, seed: u64) -> Arc<ServerConfig> {
        let mut config = self.server_config(seed);
        config.alpn_protocols = self.server_protocols.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    }

    fn client_config(&self, seed: u64) -> ClientConfig {
        let trusted = if self.trusted { &SERVER } else { &CLIENT };
        let builder = ClientConfig::builder_with_details(self.provider(seed, b"client"), Arc::new(FixedClock))
            .with_protocol_versions(self.versions)
            .expect("the provider has these versions")
            .with_root_certificates(trusted.roots());
        let mut config = match self.client_certificate {
            Some(certificate) => {
                let identity = if certificate == ClientCertificate::Trusted { &CLIENT } else { &STRANGER };
                let (mut chain, key) = identity.chain_and_key();
                chain.resize(self.client_chain, chain[0].clone());
                builder.with_client_auth_cert(chain, key).expect("the key belongs to the certificate")
            }
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::in_memory_sessions(8);
        if let Some(key_log) = &self.key_log {
            config.key_log = key_log.clone();
        }
        // rustls would offer what another package has asked for.
        (config.cert_compressors, config.cert_decompressors) = (Vec::new(), Vec::new());
        config
    }

    fn server_config(&self, seed: u64) -> ServerConfig {
        let provider = self.provider(seed, b"server");
        let builder = ServerConfig::builder_with_details(provider.clone(), Arc::new(FixedClock))
            .with_protocol_versions(self.versions)
            .expect("the provider has these versions");
        let builder = if self.client_auth {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(CLIENT.roots()), provider);
            builder.with_client_cert_verifier(verifier.build().expect("there is a root"))
        } else {
            builder.with_no_client_auth()
        };
        let (mut chain, key) = SERVER.chain_and_key();
        chain.resize(self.server_chain, chain[0].clone());
        let mut config = builder.with_single_cert(chain, key).expect("the key belongs to the certificate");
        config.send_tls13_tickets = self.tickets;
        if let Some(sessions) = &self.sessions {
            config.session_storage = sessions.clone();
        }
        (config.cert_compressors, config.cert_decompressors) = (Vec::new(), Vec::new());
        config
    }

    /// rustls requires `'static` key exchange groups and randomness: each call leaks some hundred bytes.
    fn provider(&self, seed: u64, label: &[u8]) -> Arc<CryptoProvider> {
        let random = Random::new(seed, label);
        let mut provider = default_provider();
        let is_older = |version: &&SupportedProtocolVersion| version.version != rustls::ProtocolVersion::TLSv1_3;
        let has_older = self.versions.iter().any(is_older);
        // Whether rustls has the suites of TLS 1.2 depends on what else is built; the bytes of a handshake must not.
        provider.cipher_suites.retain(|suite| match suite.tls13() {
            Some(_) => self.suites.contains(&suite.suite()),
            None => has_older,
        });
        let group =
            |name| -> &'static dyn SupportedKxGroup { Box::leak(Box::new(X25519 { random: random.clone(), name })) };
        provider.kx_groups = match (self.retry, label) {
            (false, _) => vec![group(NamedGroup::X25519)],
            (true, b"client") => vec![group(NamedGroup::X25519), group(OTHER_GROUP)],
            (true, _) => vec![group(OTHER_GROUP)],
        };
        provider.secure_random = Box::leak(Box::new(random));
        Arc::new(provider)
    }
}

/// Returns the name in the server's certificate as rustls takes it.
pub fn server_name() -> ServerName<'static> {
    ServerName::try_from(SERVER_NAME).expect("a valid name")
}

/// Returns the trusted client certificate in DER.
pub fn client_certificate() -> Vec<u8> {
    CLIENT.certificate.to_vec()
}

/// Starts a handshake of `tls` with the server of this module.
pub fn start_client(tls: &RustlsClient) -> Box<dyn Handshake> {
    tls.handshake(server_name()).expect("a complete configuration")
}

#[cfg(feature = "openssl")]
fn is_openssl() -> bool {
    std::env::var_os("TCPLS_TESTING_TLS").is_some_and(|library| library == "openssl")
}

/// The source of all that would be random.
#[derive(Clone, Debug)]
struct Random(Arc<Mutex<Rng>>);

impl Random {
    fn new(number: u64, label: &[u8]) -> Self {
        Self(Arc::new(Mutex::new(Rng::new(&seed(number), label))))
    }

    fn fill_all(&self, bytes: &mut [u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill(bytes);
    }
}

impl SecureRandom for Random {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        self.fill_all(bytes);
        Ok(())
    }
}

/// The name of a second group, of which only the name differs.
const OTHER_GROUP: NamedGroup = NamedGroup::X448;

/// X25519 with secrets from [`Random`].
#[derive(Debug)]
struct X25519 {
    random: Random,
    name: NamedGroup,
}

impl SupportedKxGroup for X25519 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let mut secret = [0; 32];
        self.random.fill_all(&mut secret);
        let secret = x25519_dalek::StaticSecret::from(secret);
        let public = x25519_dalek::PublicKey::from(&secret);
        Ok(Box::new(Exchange { name: self.name, secret, public }))
    }

    fn name(&self) -> NamedGroup {
        self.name
    }
}

struct Exchange {
    name: NamedGroup,
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
        self.name
    }
}

/// It is always the same moment of the year 2030.
#[derive(Debug)]
struct FixedClock;

impl TimeProvider for FixedClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(1_900_000_000)))
    }
}

/// A self-signed certificate and its Ed25519 key. Such signatures need no randomness.
pub(super) struct Identity {
    pub(super) certificate: &'static [u8],
    /// 32 equal bytes of this value are the secret.
    pub(super) secret: u8,
}

pub(super) const SERVER: Identity = Identity { certificate: include_bytes!("server.der"), secret: 1 };
pub(super) const CLIENT: Identity = Identity { certificate: include_bytes!("client.der"), secret: 2 };
pub(super) const STRANGER: Identity = Identity { certificate: include_bytes!("stranger.der"), secret: 3 };

impl Identity {
    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(self.certificate)).expect("a valid certificate");
        roots
    }

    fn chain_and_key(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = PrivatePkcs8KeyDer::from(self.pkcs8());
        (vec![CertificateDer::from(self.certificate)], PrivateKeyDer::Pkcs8(key))
    }

    /// The secret in PKCS #8 (RFC 8410, 7).
    fn pkcs8(&self) -> Vec<u8> {
        [&b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20"[..], &[self.secret; 32]].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The certificate of `identity` as it was made, valid from 2024 to 2100.
    fn made(name: &str, identity: &Identity) -> Vec<u8> {
        let key = identity.pkcs8();
        let der = PrivatePkcs8KeyDer::from(key.as_slice());
        let pair = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ED25519).unwrap();
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2024, 1, 1);
        params.not_after = rcgen::date_time_ymd(2100, 1, 1);
        params.serial_number = Some(rcgen::SerialNumber::from_slice(&[identity.secret]));
        params.self_signed(&pair).unwrap().der().to_vec()
    }

    #[test]
    fn certificates_are_those_of_the_fixed_keys() {
        for (file, name, identity) in [
            ("server", SERVER_NAME, SERVER),
            ("client", "client-2.test", CLIENT),
            ("stranger", "client-3.test", STRANGER),
        ] {
            let made = made(name, &identity);
            if std::env::var_os("UPDATE_CERTIFICATES").is_some() {
                std::fs::write(format!("{}/src/testing/{file}.der", env!("CARGO_MANIFEST_DIR")), &made).unwrap();
                continue;
            }
            assert_eq!(identity.certificate, made, "{file}.der");
        }
    }
}

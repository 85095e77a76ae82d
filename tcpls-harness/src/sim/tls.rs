//! The ends' handshakes: none at all, or rustls without chance: randomness from the run's seed, a clock that stands still, fixed keys and certificates. The same
//! seed and calls give the same handshake, to the byte.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rustls::crypto::ring::default_provider;
use rustls::crypto::{
    ActiveKeyExchange, CryptoProvider, GetRandomFailed, SecureRandom, SharedSecret, SupportedKxGroup,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, Error, NamedGroup, PeerMisbehaved, RootCertStore, ServerConfig};
use tcpls_core::Side;
use tcpls_core::crypto::Handshake;
use tcpls_core::crypto::rustls::{RustlsClient, RustlsServer};

use super::chance::{Chance, Purpose};
use super::ledger::Ledger;
use super::null::NullHandshake;
use super::scenario::Crypto;

/// The name that the server's certificate is for.
pub(crate) const SERVER_NAME: &str = "server.test";

/// Makes the handshakes of one end.
pub(crate) struct Identity {
    kind: Kind,
    ledger: Ledger,
}

enum Kind {
    Null,
    Client(RustlsClient),
    Server(RustlsServer),
}

/// What both ends of a run make their handshakes with.
pub(crate) fn identities(crypto: Crypto, seed: u64, ledger: &Ledger) -> (Identity, Identity) {
    let (client, server) = match crypto {
        Crypto::Null => (Kind::Null, Kind::Null),
        Crypto::Tls => rustls_pair(seed),
    };
    let identity = |kind| Identity { kind, ledger: ledger.clone() };
    (identity(client), identity(server))
}

impl Identity {
    /// A client's handshake.
    pub(crate) fn client(&self, chance: &mut Chance) -> Box<dyn Handshake> {
        self.ledger.watch(match &self.kind {
            Kind::Client(client) => {
                let name = SERVER_NAME.try_into().expect("a valid name");
                client.handshake(name).expect("the configuration is complete")
            }
            _ => Box::new(NullHandshake::new(Side::Client, chance.seed().0)),
        })
    }

    /// A server's handshake.
    pub(crate) fn server(&self) -> Box<dyn Handshake> {
        self.ledger.watch(match &self.kind {
            Kind::Server(server) => server.handshake().expect("the configuration is complete"),
            _ => Box::new(NullHandshake::new(Side::Server, [0; 32])),
        })
    }
}

fn rustls_pair(seed: u64) -> (Kind, Kind) {
    let provider = provider(seed);
    let (certificate, key) = certificate();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).expect("the certificate was made here");
    let client = ClientConfig::builder_with_details(provider.clone(), Arc::new(Standstill))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("ring's provider has TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.clone()));
    let server = ServerConfig::builder_with_details(provider, Arc::new(Standstill))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("ring's provider has TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .expect("the key belongs to the certificate");
    let client = RustlsClient::new(Arc::new(client), &[]).expect("no application protocol is a good choice");
    let server = RustlsServer::new(Arc::new(server), &[]).expect("no application protocol is a good choice");
    (Kind::Client(client), Kind::Server(server))
}

/// rustls wants what gives randomness to live for ever: each run with real TLS leaves some hundred bytes behind.
fn provider(seed: u64) -> Arc<CryptoProvider> {
    let source = Source(Arc::new(Mutex::new(Chance::new(seed, Purpose::Tls))));
    let mut provider = default_provider();
    // Whether rustls has TLS 1.2, too, depends on what else is built; the bytes that a scenario sends must not.
    provider.cipher_suites.retain(|suite| suite.tls13().is_some());
    provider.kx_groups = vec![Box::leak(Box::new(X25519(source.clone())))];
    provider.secure_random = Box::leak(Box::new(source));
    Arc::new(provider)
}

#[derive(Clone, Debug)]
struct Source(Arc<Mutex<Chance>>);

impl SecureRandom for Source {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill(bytes);
        Ok(())
    }
}

/// X25519 with secrets from the run's seed.
#[derive(Debug)]
struct X25519(Source);

impl SupportedKxGroup for X25519 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let mut secret = [0; 32];
        self.0.fill(&mut secret).map_err(|_| Error::FailedToGetRandomBytes)?;
        let secret = x25519_dalek::StaticSecret::from(secret);
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
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let peer: [u8; 32] = peer.try_into().map_err(|_| PeerMisbehaved::InvalidKeyShare)?;
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

/// The server's certificate and its key. Ed25519 signs without randomness.
fn certificate() -> &'static (CertificateDer<'static>, Vec<u8>) {
    static IDENTITY: OnceLock<(CertificateDer<'static>, Vec<u8>)> = OnceLock::new();
    IDENTITY.get_or_init(|| {
        // PKCS #8 around a secret of 32 equal bytes (RFC 8410, 7).
        let mut key = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".to_vec();
        key.extend_from_slice(&[1; 32]);
        let der = PrivatePkcs8KeyDer::from(key.as_slice());
        let pair = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ED25519).expect("a valid key");
        let mut params = rcgen::CertificateParams::new(vec![SERVER_NAME.to_owned()]).expect("a valid name");
        params.not_before = rcgen::date_time_ymd(2024, 1, 1);
        params.not_after = rcgen::date_time_ymd(2100, 1, 1);
        params.serial_number = Some(rcgen::SerialNumber::from_slice(&[1]));
        (params.self_signed(&pair).expect("complete parameters").into(), key)
    })
}

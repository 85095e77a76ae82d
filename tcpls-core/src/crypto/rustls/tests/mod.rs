//! Handshakes of the rustls provider, with itself and with rustls as other programs use it.
//!
//! Here: certificates, configurations, and the moving of records. The tests are in the files below.

mod agreement;
mod early;
mod failure;
mod keys;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{CipherSuite, ClientConfig, RootCertStore, ServerConfig};

use super::{RustlsClient, RustlsServer};
use crate::crypto::nonce::nonce;
use crate::crypto::{Agreed, Handshake, OpenKeys, SealKeys, TAG_LEN};
use crate::error::HandshakeError;
use crate::wire::ids::ConnectionId;

const SUITES: [CipherSuite; 3] = [
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS13_AES_256_GCM_SHA384,
    CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
];

#[cfg(feature = "aws-lc-rs")]
use rustls::crypto::aws_lc_rs::default_provider;
#[cfg(not(feature = "aws-lc-rs"))]
use rustls::crypto::ring::default_provider;

fn provider_with(suites: &[CipherSuite]) -> Arc<CryptoProvider> {
    let mut provider = default_provider();
    provider.cipher_suites.retain(|suite| suites.contains(&suite.suite()));
    Arc::new(provider)
}

/// A self-signed certificate with its key.
struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    fn new() -> Self {
        Self::with(&rcgen::PKCS_ED25519)
    }

    fn with(algorithm: &'static rcgen::SignatureAlgorithm) -> Self {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let certificate = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        Self { certificate: certificate.into(), key: PrivateKeyDer::try_from(key.serialize_der()).unwrap() }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        roots
    }

    fn server(&self, provider: Arc<CryptoProvider>) -> ServerConfig {
        ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], self.key.clone_key())
            .unwrap()
    }

    fn server_that_wants_certificates_of(&self, client: &Self) -> ServerConfig {
        let provider = provider_with(&SUITES);
        let roots = Arc::new(client.roots());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone()).build().unwrap();
        ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![self.certificate.clone()], self.key.clone_key())
            .unwrap()
    }

    /// A client that trusts this identity.
    fn client(&self, provider: Arc<CryptoProvider>) -> ClientConfig {
        ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots())
            .with_no_client_auth()
    }

    fn client_with_certificate_of(&self, client: &Self) -> ClientConfig {
        ClientConfig::builder_with_provider(provider_with(&SUITES))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots())
            .with_client_auth_cert(vec![client.certificate.clone()], client.key.clone_key())
            .unwrap()
    }
}

fn localhost() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

fn start_client(config: ClientConfig, protocols: &[&[u8]]) -> Box<dyn Handshake> {
    RustlsClient::new(Arc::new(config), protocols).unwrap().handshake(localhost()).unwrap()
}

fn start_server(config: ServerConfig, protocols: &[&[u8]]) -> Box<dyn Handshake> {
    RustlsServer::new(Arc::new(config), protocols).unwrap().handshake().unwrap()
}

fn with_alpn(mut config: ServerConfig, names: &[&[u8]]) -> ServerConfig {
    config.alpn_protocols = names.iter().map(|name| name.to_vec()).collect();
    config
}

/// A client and a server before their handshake, all suites allowed.
fn start(client_protocols: &[&[u8]], server_protocols: &[&[u8]]) -> (Box<dyn Handshake>, Box<dyn Handshake>) {
    let identity = Identity::new();
    let client = identity.client(provider_with(&SUITES));
    let server = identity.server(provider_with(&SUITES));
    (start_client(client, client_protocols), start_server(server, server_protocols))
}

/// Cuts bytes into the records that they consist of.
fn records(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = bytes;
    let mut records = Vec::new();
    while !rest.is_empty() {
        let len = 5 + usize::from(u16::from_be_bytes([rest[3], rest[4]]));
        let (record, after) = rest.split_at(len);
        records.push(record.to_vec());
        rest = after;
    }
    records
}

fn written(from: &mut dyn Handshake) -> Vec<u8> {
    let mut out = Vec::new();
    from.write(&mut out);
    out
}

/// Gives records to a handshake until it is over. What is left comes back.
fn feed(to: &mut dyn Handshake, bytes: &[u8]) -> Result<Vec<Vec<u8>>, HandshakeError> {
    let mut records = records(bytes).into_iter();
    while !to.is_complete() {
        let Some(mut record) = records.next() else { break };
        to.handle_record(&mut record)?;
    }
    Ok(records.collect())
}

/// What both ends have after a handshake.
struct Done {
    client: Agreed,
    server: Agreed,
    /// Records that the server protected with the session's keys: half-RTT data, tickets.
    from_server: Vec<Vec<u8>>,
    /// Length of the server's first flight, without half-RTT data.
    server_flight: usize,
}

/// Runs a handshake to its end; the server sends `half_rtt` if it may.
fn complete(mut client: Box<dyn Handshake>, mut server: Box<dyn Handshake>, half_rtt: &[&[u8]]) -> Done {
    let mut flight = Vec::new();
    while flight.is_empty() {
        assert!(feed(&mut *server, &written(&mut *client)).unwrap().is_empty());
        flight = written(&mut *server);
        if server.tcpls().is_none() {
            // A HelloRetryRequest.
            feed(&mut *client, &std::mem::take(&mut flight)).unwrap();
        }
    }
    let server_flight = flight.len();
    for data in half_rtt {
        server.write_half_rtt(data, &mut flight);
    }
    let mut from_server = feed(&mut *client, &flight).unwrap();
    assert!(feed(&mut *server, &written(&mut *client)).unwrap().is_empty());
    from_server.extend(records(&written(&mut *server)));
    Done { client: client.finish().unwrap(), server: server.finish().unwrap(), from_server, server_flight }
}

/// Opens a record of TCP connection 0: content and content type.
fn open(keys: &OpenKeys, seq: u64, record: &[u8]) -> Option<(Vec<u8>, u8)> {
    let (header, body) = record.split_at(5);
    let mut body = body.to_vec();
    keys.key.open(nonce(&keys.iv, ConnectionId::FIRST, seq), header, &mut body).ok()?;
    body.truncate(body.len() - TAG_LEN);
    let content_type = body.pop()?;
    Some((body, content_type))
}

/// Seals a record of TCP connection 0.
fn seal(keys: &SealKeys, seq: u64, content: &[u8], content_type: u8) -> Vec<u8> {
    let mut body = [content, &[content_type]].concat();
    let len = u16::try_from(body.len() + TAG_LEN).unwrap().to_be_bytes();
    let header = [23, 3, 3, len[0], len[1]];
    let tag = keys.key.seal(nonce(&keys.iv, ConnectionId::FIRST, seq), &header, &mut body);
    [&header[..], &body, &tag].concat()
}

fn assert_keys_agree(seal_keys: &SealKeys, open_keys: &OpenKeys) {
    let record = seal(seal_keys, 7, b"frames", 23);
    assert_eq!(open(open_keys, 7, &record), Some((b"frames".to_vec(), 23)));
    assert_eq!(open(open_keys, 8, &record), None);
}

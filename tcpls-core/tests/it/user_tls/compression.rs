//! Certificate compression (RFC 8879): certificates of both ends are shorter on the network, and their sessions are the same.

use rustls::compress::{
    CertCompressor, CertDecompressor, CompressionCache, CompressionFailed, CompressionLevel, default_cert_compressors,
    default_cert_decompressors,
};
use rustls::server::WebPkiClientVerifier;
use rustls::{CertificateCompressionAlgorithm, PeerMisbehaved};
use tcpls_core::error::{AlertDescription, HandshakeErrorKind as Kind};

use super::*;
use crate::support::tls::client_certificate;

/// Certificates in a chain: enough that one of them more or less makes no difference.
const CHAIN: usize = 8;

type Compressors = Vec<&'static dyn CertCompressor>;
type Decompressors = Vec<&'static dyn CertDecompressor>;

/// Each algorithm that is built, alone.
fn algorithms() -> impl Iterator<Item = (Compressors, Decompressors)> {
    let compressors = default_cert_compressors().iter().map(|one| vec![*one]);
    compressors.zip(default_cert_decompressors().iter().map(|one| vec![*one]))
}

fn client(decompressors: Decompressors) -> ClientConfig {
    let mut config = client_with(default_provider()).with_no_client_auth();
    (config.cert_compressors, config.cert_decompressors) = (Vec::new(), decompressors);
    config
}

fn server(compressors: Compressors, certificates: usize) -> ServerConfig {
    let mut config = server_of(default_provider(), certificates);
    (config.cert_compressors, config.cert_decompressors) = (compressors, Vec::new());
    config
}

/// The server's bytes in its flight.
fn flight(pair: &mut Pair) -> usize {
    pair.step(Client);
    pair.deliver_all();
    pair.step(Server);
    pair.flow(FIRST, Client).in_flight.len()
}

#[test]
fn compressed_server_certificates_carry_sessions() {
    let plain = flight(&mut pair(client(Vec::new()), server(Vec::new(), CHAIN)));
    for (compressors, decompressors) in algorithms() {
        let mut pair = pair(client(decompressors), server(compressors, CHAIN));
        let compressed = flight(&mut pair);
        assert!(compressed + (CHAIN - 2) * SERVER_CERTIFICATE.len() < plain, "{compressed} of {plain} bytes");
        assert_works(&mut pair);
        assert_eq!(pair.client().peer_certificates(), vec![SERVER_CERTIFICATE; CHAIN]);
    }
}

#[test]
fn compressed_client_certificates_carry_sessions() {
    let sent_by_client = |compressors: Compressors, decompressors: Decompressors| {
        let provider = Arc::new(default_provider());
        let roots = Arc::new(roots(client_certificate()));
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone()).build().unwrap();
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![SERVER_CERTIFICATE.into()], key(1))
            .unwrap();
        (server.cert_compressors, server.cert_decompressors) = (Vec::new(), decompressors);
        let chain = vec![client_certificate().into(); CHAIN];
        let mut client = client_with(default_provider()).with_client_auth_cert(chain, key(2)).unwrap();
        (client.cert_compressors, client.cert_decompressors) = (compressors, Vec::new());
        let mut pair = pair(client, server);
        pair.drive();
        let sent = sent(&pair, 0, Server).len();
        assert_works(&mut pair);
        assert_eq!(pair.server().peer_certificates(), vec![client_certificate(); CHAIN]);
        sent
    };
    let plain = sent_by_client(Vec::new(), Vec::new());
    for (compressors, decompressors) in algorithms() {
        let compressed = sent_by_client(compressors, decompressors);
        assert!(compressed + (CHAIN - 2) * client_certificate().len() < plain, "{compressed} of {plain} bytes");
    }
}

#[test]
fn certificates_are_not_compressed_unless_both_ends_know_an_algorithm() {
    let plain = flight(&mut pair(client(Vec::new()), server(Vec::new(), CHAIN)));
    for (compressors, decompressors) in algorithms() {
        for (client, server) in
            [(client(Vec::new()), server(compressors, CHAIN)), (client(decompressors), server(Vec::new(), CHAIN))]
        {
            let mut pair = pair(client, server);
            // Lengths of signatures and shares are the same in each handshake.
            assert_eq!(flight(&mut pair), plain);
            assert_works(&mut pair);
        }
    }
}

/// Gives out what no algorithm can read, as a broken or hostile server does.
#[derive(Debug)]
struct Garbage(CertificateCompressionAlgorithm);

impl CertCompressor for Garbage {
    fn compress(&self, _: Vec<u8>, _: CompressionLevel) -> Result<Vec<u8>, CompressionFailed> {
        Ok(vec![0xa5; 1000])
    }

    fn algorithm(&self) -> CertificateCompressionAlgorithm {
        self.0
    }
}

#[test]
fn certificates_that_cannot_be_decompressed_end_the_handshake_with_an_alert() {
    for (compressors, decompressors) in algorithms() {
        let garbage: &'static Garbage = Box::leak(Box::new(Garbage(compressors[0].algorithm())));
        let mut server = server(vec![garbage], CHAIN);
        server.cert_compression_cache = CompressionCache::Disabled.into();
        let mut pair = pair(client(decompressors), server);
        pair.drive();
        let error = failure(&mut pair, Client);
        assert_eq!(error.kind(), Kind::Violation);
        let source = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<rustls::Error>());
        assert_eq!(source, Some(&PeerMisbehaved::InvalidCertCompression.into()));
        assert_eq!(failure(&mut pair, Server).kind(), Kind::PeerAlert(AlertDescription(42)), "bad_certificate");
    }
}

#[test]
fn chain_that_is_too_long_once_decompressed_is_refused() {
    let certificates = (64 << 10) / SERVER_CERTIFICATE.len() + 1;
    for (compressors, decompressors) in algorithms() {
        let mut pair = pair(client(decompressors), server(compressors, certificates));
        assert!(flight(&mut pair) < 8 << 10, "the limit on a flight does not apply");
        pair.drive();
        let error = failure(&mut pair, Client);
        assert_eq!(error.kind(), Kind::Violation);
        assert!(error.to_string().contains("more than 64 KiB"), "{error}");
    }
}

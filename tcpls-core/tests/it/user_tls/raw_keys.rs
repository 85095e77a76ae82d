//! Raw public keys in the place of certificates (RFC 7250).

use rustls::client::AlwaysResolvesClientRawPublicKeys;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, SignatureScheme};
use tcpls_core::error::HandshakeErrorKind as Kind;

use super::*;

/// Trusts one key, of a client or a server.
#[derive(Debug)]
struct OneKey {
    key: Vec<u8>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl OneKey {
    fn new(key: Vec<u8>) -> Arc<Self> {
        Arc::new(Self { key, algorithms: default_provider().signature_verification_algorithms })
    }

    fn check(&self, presented: &[u8], others: usize) -> Result<(), Error> {
        if presented == self.key && others == 0 {
            Ok(())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn check_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature_with_raw_key(message, &SubjectPublicKeyInfoDer::from(&key[..]), signed, &self.algorithms)
    }
}

impl ServerCertVerifier for OneKey {
    fn verify_server_cert(
        &self,
        key: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(key, others.len()).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls13RequiredForQuic.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, key, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for OneKey {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        key: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(key, others.len()).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls13RequiredForQuic.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, key, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// A key of the test kit as both ends show it, with its public half.
fn certified(secret: u8) -> (Arc<CertifiedKey>, Vec<u8>) {
    let key = default_provider().key_provider.load_private_key(key(secret)).unwrap();
    let public = key.public_key().unwrap().to_vec();
    (Arc::new(CertifiedKey::new(vec![public.clone().into()], key)), public)
}

/// A client with its own key that trusts `server`.
fn client(server: Vec<u8>) -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(OneKey::new(server))
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(certified(2).0)))
}

/// A server with its own key that trusts `client`.
fn server(client: Vec<u8>) -> ServerConfig {
    ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(OneKey::new(client))
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(certified(1).0)))
}

#[test]
fn both_endpoints_authenticate_by_raw_public_keys() {
    let ((_, of_server), (_, of_client)) = (certified(1), certified(2));
    let mut pair = pair(client(of_server.clone()), server(of_client.clone()));
    assert_works(&mut pair);
    assert_eq!(pair.client().peer_certificates(), [of_server]);
    assert_eq!(pair.server().peer_certificates(), [of_client]);
}

#[test]
fn key_that_is_not_trusted_fails_the_handshake_at_both_endpoints() {
    let ((_, of_server), (_, of_client)) = (certified(1), certified(2));
    let mut impostor = pair(client(of_client.clone()), server(of_client.clone()));
    impostor.drive();
    assert_eq!(failure(&mut impostor, Client).kind(), Kind::BadCertificate);
    assert!(matches!(failure(&mut impostor, Server).kind(), Kind::PeerAlert(_)));
    let mut stranger = pair(client(of_server.clone()), server(of_server));
    stranger.drive();
    assert_eq!(failure(&mut stranger, Server).kind(), Kind::BadCertificate);
    assert!(matches!(failure(&mut stranger, Client).kind(), Kind::PeerAlert(_)));
}

#[test]
fn client_that_wants_a_certificate_gets_no_session_with_a_raw_public_key() {
    let server = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(certified(1).0)));
    let mut pair = pair(client_with(default_provider()).with_no_client_auth(), server);
    pair.drive();
    assert_eq!(failure(&mut pair, Server).kind(), Kind::Incompatible);
    assert!(matches!(failure(&mut pair, Client).kind(), Kind::PeerAlert(_)));
}

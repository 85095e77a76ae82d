//! Trust by key, and the application's reasons to refuse a certificate.

use core::fmt;
use std::error::Error;

use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::pkey::Private;
use openssl::ssl::SslVerifyMode;
use openssl::x509::extension::SubjectAlternativeName;
use openssl::x509::{X509Name, X509VerifyResult};

use super::*;
use crate::error::HandshakeError;

const DAY: i64 = 24 * 3600;
/// 2100-01-01.
const FAR: i64 = 47_482 * DAY;

/// A certificate that says it is self-signed.
pub(super) struct Certificate {
    pub(super) serial: u32,
    pub(super) subject: &'static str,
    pub(super) host: &'static str,
    /// How many other names there are.
    pub(super) others: u32,
    pub(super) key: u8,
    pub(super) signed_by: u8,
    pub(super) not_after: i64,
}

/// What clients trust.
pub(super) const KNOWN: Certificate =
    Certificate { serial: 1, subject: "own", host: NAME, others: 0, key: 7, signed_by: 7, not_after: FAR };
/// The same name and key in another certificate.
const RENEWED: Certificate = Certificate { serial: 2, not_after: FAR + DAY, ..KNOWN };

fn key(number: u8) -> PKey<Private> {
    PKey::private_key_from_raw_bytes(&[number; 32], Id::ED25519).unwrap()
}

impl Certificate {
    fn make(&self) -> X509 {
        let mut name = X509Name::builder().unwrap();
        name.append_entry_by_text("CN", self.subject).unwrap();
        let name = name.build();
        let mut made = X509::builder().unwrap();
        made.set_version(2).unwrap();
        made.set_serial_number(&BigNum::from_u32(self.serial).unwrap().to_asn1_integer().unwrap()).unwrap();
        made.set_subject_name(&name).unwrap();
        made.set_issuer_name(&name).unwrap();
        made.set_not_before(&Asn1Time::from_unix(0).unwrap()).unwrap();
        made.set_not_after(&Asn1Time::from_unix(self.not_after).unwrap()).unwrap();
        made.set_pubkey(&key(self.key)).unwrap();
        let mut names = SubjectAlternativeName::new();
        names.dns(self.host);
        (0..self.others).for_each(|number| _ = names.dns(&format!("{number}.a-name-of-some-length.test")));
        let names = names.build(&made.x509v3_context(None, None)).unwrap();
        made.append_extension(names).unwrap();
        made.sign(&key(self.signed_by), MessageDigest::null()).unwrap();
        made.build()
    }

    pub(super) fn present(&self, context: &mut SslContextBuilder) {
        context.set_certificate(&self.make()).unwrap();
        context.set_private_key(&key(self.key)).unwrap();
    }
}

/// Runs a handshake, in which one of the two may fail.
fn outcome(connector: SslConnectorBuilder, acceptor: SslAcceptorBuilder) -> Result<(), HandshakeError> {
    let mut client = OpensslClient::new(connector, &[b"h3"]).unwrap().handshake(NAME).unwrap();
    let mut server = OpensslServer::new(acceptor, &[b"h3"]).unwrap().handshake().unwrap();
    while !client.is_complete() || !server.is_complete() {
        for record in &mut records(&written(&mut *client)) {
            server.handle_record(record)?;
        }
        for record in &mut records(&written(&mut *server)) {
            if !client.is_complete() {
                client.handle_record(record)?;
            }
        }
    }
    Ok(())
}

fn client_that_trusts(known: &Certificate) -> SslConnectorBuilder {
    let mut connector = SslConnector::builder(SslMethod::tls()).unwrap();
    trust_by_key(&mut connector, &[KNOWN.make(), known.make()], SslVerifyMode::PEER).unwrap();
    connector
}

fn server_with(certificate: &Certificate) -> SslAcceptorBuilder {
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).unwrap();
    certificate.present(&mut acceptor);
    acceptor
}

#[test]
fn a_renewed_certificate_is_trusted_if_its_name_and_key_are_known_and_it_is_valid() {
    let cases = [
        (KNOWN, None),
        (RENEWED, None),
        (Certificate { key: 8, signed_by: 8, ..RENEWED }, Some(Kind::UnknownIssuer)),
        (Certificate { key: 8, ..RENEWED }, Some(Kind::UnknownIssuer)),
        (Certificate { subject: "other", ..RENEWED }, Some(Kind::UnknownIssuer)),
        (Certificate { signed_by: 8, ..RENEWED }, Some(Kind::UnknownIssuer)),
        (Certificate { not_after: DAY, ..RENEWED }, Some(Kind::CertificateExpired)),
        (Certificate { host: "other.test", ..RENEWED }, Some(Kind::WrongName)),
    ];
    for (number, (presented, expected)) in cases.iter().enumerate() {
        let found = outcome(client_that_trusts(&KNOWN), server_with(presented)).err();
        assert_eq!(found.as_ref().map(HandshakeError::kind), *expected, "{number}: {found:?}");
    }
    // OpenSSL alone: the seam is needed.
    let mut store = X509StoreBuilder::new().unwrap();
    store.add_cert(KNOWN.make()).unwrap();
    let mut connector = SslConnector::builder(SslMethod::tls()).unwrap();
    connector.set_cert_store(store.build());
    let refused = outcome(connector, server_with(&RENEWED)).unwrap_err();
    assert_eq!(refused.kind(), Kind::UnknownIssuer, "{refused}");
}

#[test]
fn each_trusted_certificate_may_be_renewed() {
    let second = Certificate { subject: "second", key: 9, signed_by: 9, ..KNOWN };
    let renewed = Certificate { serial: 3, ..second };
    outcome(client_that_trusts(&second), server_with(&renewed)).unwrap();
    assert!(outcome(client_that_trusts(&KNOWN), server_with(&renewed)).is_err());
    // The key of one with the name of the other.
    let mixed = Certificate { subject: "own", ..renewed };
    assert!(outcome(client_that_trusts(&second), server_with(&mixed)).is_err());
}

#[test]
fn a_server_trusts_renewed_certificates_of_clients_too() {
    for (presented, is_trusted) in [(RENEWED, true), (Certificate { key: 8, signed_by: 8, ..RENEWED }, false)] {
        let mut acceptor = acceptor();
        let mode = SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT;
        trust_by_key(&mut acceptor, &[KNOWN.make()], mode).unwrap();
        let mut connector = connector();
        presented.present(&mut connector);
        let found = outcome(connector, acceptor).err().map(|error| error.kind());
        assert_eq!(found, (!is_trusted).then_some(Kind::UnknownIssuer));
    }
}

#[derive(Debug)]
struct Reason(u8);

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "reason {}", self.0)
    }
}

impl Error for Reason {}

#[test]
fn the_reason_of_the_application_is_text_and_source_of_the_error() {
    let client = |explains: bool| {
        let mut connector = SslConnector::builder(SslMethod::tls()).unwrap();
        connector.set_verify_callback(SslVerifyMode::PEER, move |_, found| {
            found.set_error(X509VerifyResult::APPLICATION_VERIFICATION);
            if explains {
                refuse_certificate(found, Reason(5));
            }
            false
        });
        outcome(connector, server_with(&KNOWN)).unwrap_err()
    };
    let (with, without) = (client(true), client(false));
    assert_eq!((with.kind(), with.to_string().as_str()), (Kind::BadCertificate, "reason 5"));
    assert_eq!(with.source().and_then(|source| source.downcast_ref()).map(|Reason(number)| *number), Some(5));
    assert_eq!(without.kind(), Kind::BadCertificate);
    assert!(without.to_string().contains("application verification"), "{without}");
}

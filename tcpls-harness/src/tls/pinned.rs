//! Trust in public keys instead of issuers.

use std::sync::Arc;
use std::{error, fmt};

use base64::Engine;
use base64::prelude::BASE64_STANDARD as STANDARD;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, OtherError, SignatureScheme};

use super::{TlsError, failure, library};

/// The SHA-256 of a certificate's public key (SubjectPublicKeyInfo in DER, as in RFC 7469).
///
/// `Display` writes it as curl's `--pinnedpubkey` takes it: `sha256//` and Base64.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pin([u8; 32]);

impl Pin {
    /// Makes a pin of the hash.
    pub const fn new(hash: [u8; 32]) -> Self {
        Self(hash)
    }

    /// Returns the pin of a certificate's public key.
    ///
    /// # Errors
    /// The certificate is malformed.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, TlsError> {
        pin(certificate).map_err(|error| failure("can't read the public key of a certificate", error))
    }

    /// Returns the hash.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256//{}", STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pin({self})")
    }
}

/// One or two pins: the key that a server uses, and the one that it changes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pins {
    first: Pin,
    second: Option<Pin>,
}

impl Pins {
    /// Accepts one key.
    pub const fn new(pin: Pin) -> Self {
        Self { first: pin, second: None }
    }

    /// Accepts another key, too. A third replaces the second.
    #[must_use]
    pub const fn or(self, pin: Pin) -> Self {
        Self { first: self.first, second: Some(pin) }
    }

    /// Iterates over them.
    pub fn iter(&self) -> impl Iterator<Item = Pin> + use<> {
        [self.first].into_iter().chain(self.second)
    }
}

impl From<Pin> for Pins {
    fn from(pin: Pin) -> Self {
        Self::new(pin)
    }
}

/// Verifies servers without issuers: their certificates have one of these public keys, or any.
///
/// It checks that the server has the private key (the signature of the handshake, with the provider's algorithms), and
/// neither names, dates, issuers, purposes nor revocation: a pin says all of it. Intermediate certificates are ignored.
#[derive(Debug)]
pub(super) struct KeyVerifier {
    /// `None`: any.
    pins: Option<Pins>,
    provider: Arc<CryptoProvider>,
}

impl KeyVerifier {
    pub(super) fn new(pins: Option<Pins>, provider: Arc<CryptoProvider>) -> Self {
        Self { pins, provider }
    }
}

impl ServerCertVerifier for KeyVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(pins) = self.pins else { return Ok(ServerCertVerified::assertion()) };
        let found = pin(end_entity)?;
        if pins.iter().any(|pin| pin == found) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(CertificateError::Other(OtherError(Arc::new(WrongKey(found)))).into())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not in use".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A server has another key than its pins say.
pub(crate) struct WrongKey(Pin);

#[cfg(feature = "openssl")]
impl From<Pin> for WrongKey {
    fn from(found: Pin) -> Self {
        Self(found)
    }
}

#[cfg(all(test, feature = "cli"))]
impl WrongKey {
    /// The error for a server with this key.
    pub(crate) fn of(key: &[u8]) -> Self {
        Self(Pin(sha256(key)))
    }
}

impl fmt::Display for WrongKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server has another public key: {}", self.0)
    }
}

/// rustls shows errors of verifiers by `Debug`.
impl fmt::Debug for WrongKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl error::Error for WrongKey {}

fn pin(certificate: &CertificateDer<'_>) -> Result<Pin, rustls::Error> {
    let key = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
    Ok(Pin(sha256(&key)))
}

/// The SHA-256 of the crypto library that the features choose.
pub(crate) fn sha256(data: &[u8]) -> [u8; 32] {
    let suite = library::cipher_suite::TLS13_AES_128_GCM_SHA256.tls13();
    let hash = suite.map(|suite| suite.common.hash_provider.hash(data));
    let hash = hash.and_then(|hash| hash.as_ref().try_into().ok());
    hash.expect("a suite of TLS 1.3 with SHA-256 has that hash")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::{Identity, Trust};

    #[test]
    fn pin_is_the_hash_of_the_public_key_alone() {
        assert_eq!(sha256(b"abc")[..4], [0xba, 0x78, 0x16, 0xbf]);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = |name: &str, year| {
            let mut parameters = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
            parameters.not_after = rcgen::date_time_ymd(year, 1, 1);
            parameters.self_signed(&key).unwrap().der().clone()
        };
        let pin = Pin::of(&certificate("a.example", 2001)).unwrap();
        assert_eq!(pin, Pin::of(&certificate("b.example", 2050)).unwrap());
        assert_eq!(pin.as_bytes(), &sha256(&rcgen::PublicKeyData::subject_public_key_info(&key)));
        assert_ne!(pin, Identity::self_signed(&["a.example"]).unwrap().pin().unwrap());
    }

    #[test]
    fn verifier_accepts_each_of_two_keys_whatever_name_and_date() {
        let [old, new, other] = [1, 2, 3].map(|_| Identity::self_signed(&["a.example"]).unwrap());
        let pins = Pins::new(old.pin().unwrap()).or(new.pin().unwrap());
        let verifier = KeyVerifier::new(Some(pins), crate::tls::provider());
        let verify = |identity: &Identity| {
            let name = ServerName::try_from("b.example").unwrap();
            verifier.verify_server_cert(
                &identity.chain[0],
                &[],
                &name,
                &[],
                UnixTime::since_unix_epoch(Default::default()),
            )
        };
        assert!(verify(&old).is_ok() && verify(&new).is_ok());
        let error = verify(&other).unwrap_err().to_string();
        assert!(error.contains(&format!("another public key: {}", other.pin().unwrap())), "{error}");
        let malformed = CertificateDer::from(vec![0x30, 0x03, 1, 2, 3]);
        let name = ServerName::try_from("b.example").unwrap();
        assert!(verifier.verify_server_cert(&malformed, &[], &name, &[], UnixTime::now()).is_err());
        assert!(Pin::of(&malformed).is_err());
        assert!(Trust::Pinned(pins).client(&[b"x"]).is_ok());
    }
}

//! Objects that a peer brings: a signature of 64 bytes, then the object.
//!
//! The signature (Ed25519, RFC 8032) covers [`CONTEXT`] and the object, so that no signature for another purpose fits. It
//! is checked before anything reads the object.

use std::path::Path;
use std::{fmt, io};

use rustls::SignatureScheme;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, SubjectPublicKeyInfoDer};

use super::MAX_OBJECT;
use crate::tls::provider;

/// The length of a signature, in bytes.
pub const SIGNATURE_LEN: usize = 64;
/// What is signed begins with this.
const CONTEXT: &[u8] = b"tcpls congestion control program 1\0";
/// The SubjectPublicKeyInfo of an Ed25519 key up to the key (RFC 8410).
const ED25519: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// A public key whose owner may bring programs.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifyingKey([u8; 32]);

impl VerifyingKey {
    /// Makes a key of its 32 bytes.
    pub const fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// Reads a public key from PEM, as `openssl pkey -pubout` writes it.
    ///
    /// # Errors
    /// The file can't be read, or has no Ed25519 key.
    pub fn from_file(path: &Path) -> io::Result<Self> {
        let wrong = || io::Error::other("it has no public Ed25519 key in PEM; openssl pkey -pubout writes one");
        let key = SubjectPublicKeyInfoDer::from_pem_slice(&std::fs::read(path)?).map_err(|_| wrong())?;
        let key = key.as_ref().strip_prefix(&ED25519).and_then(|key| key.try_into().ok());
        key.map(Self).ok_or_else(wrong)
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VerifyingKey")
    }
}

/// Returns the object, if one of the keys signed it.
pub fn verify<'a>(signed: &'a [u8], keys: &[VerifyingKey]) -> Option<&'a [u8]> {
    let (signature, object) = signed.split_first_chunk::<SIGNATURE_LEN>()?;
    if object.is_empty() || object.len() > MAX_OBJECT || keys.is_empty() {
        return None;
    }
    let message = [CONTEXT, object].concat();
    let provider = provider();
    let mappings = provider.signature_verification_algorithms.mapping;
    let (_, algorithms) = mappings.iter().find(|(scheme, _)| *scheme == SignatureScheme::ED25519)?;
    let fits = |key: &VerifyingKey| {
        algorithms.iter().any(|algorithm| algorithm.verify_signature(&key.0, &message, signature).is_ok())
    };
    keys.iter().any(fits).then_some(object)
}

/// A private key that signs programs.
pub struct SigningKey(Box<dyn rustls::sign::Signer>);

impl SigningKey {
    /// Reads a private key from PEM, as `openssl genpkey -algorithm ed25519` writes it.
    ///
    /// # Errors
    /// This is no Ed25519 key in PEM.
    pub fn from_pem(pem: &[u8]) -> io::Result<Self> {
        let wrong = || io::Error::other("this is no Ed25519 key in PEM; openssl genpkey -algorithm ed25519 makes one");
        let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| wrong())?;
        let key = provider().key_provider.load_private_key(key).map_err(|_| wrong())?;
        key.choose_scheme(&[SignatureScheme::ED25519]).map(Self).ok_or_else(wrong)
    }

    /// Returns the signature and the object, as a peer sends them.
    ///
    /// # Errors
    /// The object is empty or longer than [`MAX_OBJECT`].
    pub fn sign(&self, object: &[u8]) -> io::Result<Vec<u8>> {
        if object.is_empty() || object.len() > MAX_OBJECT {
            let length = object.len();
            return Err(io::Error::other(format!(
                "an object has 1 to {MAX_OBJECT} bytes, not {length}; llvm-strip -g shortens it"
            )));
        }
        let signature = self.0.sign(&[CONTEXT, object].concat()).map_err(io::Error::other)?;
        Ok([&signature, object].concat())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey")
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A new key pair, and its files.
    pub(in crate::programs) fn pair() -> (SigningKey, VerifyingKey, rcgen::KeyPair) {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let signing = SigningKey::from_pem(pair.serialize_pem().as_bytes()).unwrap();
        let verifying = VerifyingKey::new(pair.public_key_raw().try_into().unwrap());
        (signing, verifying, pair)
    }

    #[test]
    fn only_what_a_configured_key_signed_is_accepted() {
        let (signing, key, _) = pair();
        let (_, other, _) = pair();
        let signed = signing.sign(b"object").unwrap();
        assert_eq!(verify(&signed, &[other.clone(), key.clone()]), Some(&b"object"[..]));
        assert_eq!(verify(&signed, &[other]), None);
        assert_eq!(verify(&signed, &[]), None);
        for at in 0..signed.len() {
            let mut changed = signed.clone();
            changed[at] ^= 1;
            assert_eq!(verify(&changed, std::slice::from_ref(&key)), None, "byte {at}");
        }
        assert_eq!(verify(&signed[..SIGNATURE_LEN], std::slice::from_ref(&key)), None);
        assert_eq!(verify(&[&signed[..], b"s"].concat(), &[key]), None);
    }

    #[test]
    fn a_signature_of_the_object_without_its_context_is_refused() {
        let (signing, key, _) = pair();
        let signature = signing.0.sign(b"object").unwrap();
        assert_eq!(verify(&[&signature[..], b"object"].concat(), &[key]), None);
    }

    #[test]
    fn nothing_that_is_signed_correctly_is_no_object() {
        let (signing, key, _) = pair();
        assert!(signing.sign(b"").is_err());
        assert_eq!(verify(&signing.0.sign(CONTEXT).unwrap(), &[key]), None);
    }

    #[test]
    fn objects_longer_than_32_kib_are_neither_signed_nor_accepted() {
        let (signing, key, _) = pair();
        let longest = vec![7; MAX_OBJECT];
        assert_eq!(verify(&signing.sign(&longest).unwrap(), std::slice::from_ref(&key)), Some(&longest[..]));
        assert!(signing.sign(&vec![7; MAX_OBJECT + 1]).is_err());
        let object = vec![7; MAX_OBJECT + 1];
        let signature = signing.0.sign(&[CONTEXT, &object].concat()).unwrap();
        assert_eq!(verify(&[signature, object].concat(), &[key]), None);
    }

    #[test]
    fn keys_are_read_from_the_files_that_openssl_writes() {
        let (_, key, pair) = pair();
        let path = std::env::temp_dir().join(format!("tcpls-programs-key-{}", std::process::id()));
        std::fs::write(&path, pair.public_key_pem()).unwrap();
        let read = VerifyingKey::from_file(&path);
        std::fs::write(&path, pair.serialize_pem()).unwrap();
        let private = VerifyingKey::from_file(&path);
        _ = std::fs::remove_file(&path);
        assert_eq!(read.unwrap(), key);
        assert!(private.is_err());
        let other = rcgen::KeyPair::generate().unwrap();
        assert!(SigningKey::from_pem(other.serialize_pem().as_bytes()).is_err());
    }
}

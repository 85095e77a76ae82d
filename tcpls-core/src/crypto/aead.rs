//! The AEADs of TLS 1.3 and HMAC-SHA-256: the only file that uses the crypto library, ring or aws-lc-rs.
//!
//! `nonce` makes nonces, `wire` assembles records, and `limits` counts the uses of keys. Called by `rustls` (keys from
//! a handshake), `rng` and `token`.

#[cfg(feature = "aws-lc-rs")]
use aws_lc_rs as library;
#[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
use ring as library;

#[cfg(not(any(feature = "ring", feature = "aws-lc-rs")))]
compile_error!("tcpls-core needs a crypto library: enable its feature `ring` (a default feature) or `aws-lc-rs`");

use core::fmt;

use library::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use library::hmac;

use super::{OpenError, OpenKey, SealKey, TAG_LEN};

/// A cipher suite of TLS 1.3, by its code point (RFC 8446, B.4). All use a 12-byte IV and a 16-byte tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
#[non_exhaustive]
pub enum Suite {
    /// TLS_AES_128_GCM_SHA256
    Aes128Gcm = 0x1301,
    /// TLS_AES_256_GCM_SHA384
    Aes256Gcm = 0x1302,
    /// TLS_CHACHA20_POLY1305_SHA256
    ChaCha20Poly1305 = 0x1303,
}

impl Suite {
    /// Returns the suite with this code point, if it is supported.
    pub const fn from_code(code: u16) -> Option<Self> {
        match code {
            0x1301 => Some(Self::Aes128Gcm),
            0x1302 => Some(Self::Aes256Gcm),
            0x1303 => Some(Self::ChaCha20Poly1305),
            _ => None,
        }
    }

    /// Its TLS code point.
    pub const fn code(self) -> u16 {
        self as u16
    }

    /// Returns a key to seal with; `None` if `key` has the wrong length for the suite.
    pub fn seal_key(self, key: &[u8]) -> Option<Box<dyn SealKey>> {
        Some(Box::new(AeadKey::new(self, key)?))
    }

    /// Returns a key to open with; `None` if `key` has the wrong length for the suite.
    pub fn open_key(self, key: &[u8]) -> Option<Box<dyn OpenKey>> {
        Some(Box::new(AeadKey::new(self, key)?))
    }

    /// Records that one key may seal. QUIC's figure for AES-GCM (RFC 9001, 6.6), stricter than TLS's own 2²⁴·⁵;
    /// ChaCha20-Poly1305 has no limit below that of the sequence number.
    pub const fn confidentiality_limit(self) -> u64 {
        match self {
            Self::Aes128Gcm | Self::Aes256Gcm => 1 << 23,
            Self::ChaCha20Poly1305 => 1 << 62,
        }
    }

    /// Records that may fail to open (RFC 9001, 6.6).
    pub const fn integrity_limit(self) -> u64 {
        match self {
            Self::Aes128Gcm | Self::Aes256Gcm => 1 << 52,
            Self::ChaCha20Poly1305 => 1 << 36,
        }
    }

    fn algorithm(self) -> &'static aead::Algorithm {
        match self {
            Self::Aes128Gcm => &aead::AES_128_GCM,
            Self::Aes256Gcm => &aead::AES_256_GCM,
            Self::ChaCha20Poly1305 => &aead::CHACHA20_POLY1305,
        }
    }
}

/// One key of one suite; sealing and opening are the same object towards the library.
struct AeadKey {
    suite: Suite,
    key: LessSafeKey,
}

impl AeadKey {
    fn new(suite: Suite, key: &[u8]) -> Option<Self> {
        let key = UnboundKey::new(suite.algorithm(), key).ok()?;
        Some(Self { suite, key: LessSafeKey::new(key) })
    }
}

impl SealKey for AeadKey {
    fn seal(&self, nonce: [u8; 12], aad: &[u8], in_out: &mut [u8]) -> [u8; TAG_LEN] {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.key.seal_in_place_separate_tag(nonce, Aad::from(aad), in_out);
        let tag = tag.expect("an AEAD refuses only inputs of many GiB, and records are far shorter");
        tag.as_ref().try_into().expect("every TLS 1.3 suite has a 16-byte tag")
    }

    fn confidentiality_limit(&self) -> u64 {
        self.suite.confidentiality_limit()
    }
}

impl OpenKey for AeadKey {
    fn open(&self, nonce: [u8; 12], aad: &[u8], in_out: &mut [u8]) -> Result<(), OpenError> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.key.open_in_place(nonce, Aad::from(aad), in_out).map(|_| ()).map_err(|_| OpenError)
    }

    fn integrity_limit(&self) -> u64 {
        self.suite.integrity_limit()
    }
}

/// HMAC-SHA-256 under one key: a pseudorandom function.
pub struct Prf(hmac::Key);

impl Prf {
    /// Uses `key`, of any length; more than 32 random bytes add no security.
    pub fn new(key: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// The function's value for the concatenation of `parts`.
    pub fn sign(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            context.update(part);
        }
        context.sign().as_ref().try_into().expect("SHA-256 has 32 bytes")
    }
}

impl fmt::Debug for Prf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prf(..)")
    }
}

/// Whether `a` and `b` are equal, in a time that depends on their lengths alone.
pub(crate) fn equal_in_constant_time(a: &[u8], b: &[u8]) -> bool {
    let difference = a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b));
    a.len() == b.len() && core::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::crypto::nonce::nonce;
    use crate::wire::ids::ConnectionId;

    /// A record that an independent implementation has sealed.
    struct Vector {
        suite: Suite,
        key: Vec<u8>,
        iv: [u8; 12],
        tcp: u32,
        sequence: u64,
        content: Vec<u8>,
        record: Vec<u8>,
    }

    fn vectors() -> Vec<Vector> {
        let file: Value = serde_json::from_str(include_str!("../../testdata/vectors.json")).unwrap();
        let vectors: Vec<Vector> = file["records"].as_array().unwrap().iter().map(Vector::read).collect();
        assert!(vectors.len() >= 6);
        vectors
    }

    impl Vector {
        fn read(vector: &Value) -> Self {
            let bytes = |name: &str| hex::decode(vector[name].as_str().unwrap()).unwrap();
            Self {
                suite: match vector["suite"].as_str().unwrap() {
                    "TLS_AES_128_GCM_SHA256" => Suite::Aes128Gcm,
                    "TLS_AES_256_GCM_SHA384" => Suite::Aes256Gcm,
                    "TLS_CHACHA20_POLY1305_SHA256" => Suite::ChaCha20Poly1305,
                    other => panic!("an unknown suite, {other}"),
                },
                key: bytes("key"),
                iv: bytes("iv").try_into().unwrap(),
                tcp: vector["connection_id"].as_u64().unwrap().try_into().unwrap(),
                sequence: vector["sequence"].as_u64().unwrap(),
                content: bytes("content"),
                record: bytes("record"),
            }
        }

        fn nonce(&self) -> [u8; 12] {
            nonce(&self.iv, ConnectionId(self.tcp), self.sequence)
        }

        fn inner_plaintext(&self) -> Vec<u8> {
            let mut inner = self.content.clone();
            inner.push(23);
            inner
        }

        /// Header and the rest.
        fn record(&self) -> (Vec<u8>, Vec<u8>) {
            let mut header = self.record.clone();
            let rest = header.split_off(5);
            (header, rest)
        }

        fn open(&self, header: &[u8], rest: &[u8]) -> Result<Vec<u8>, OpenError> {
            let mut plaintext = rest.to_vec();
            self.suite.open_key(&self.key).unwrap().open(self.nonce(), header, &mut plaintext)?;
            plaintext.truncate(rest.len() - TAG_LEN);
            Ok(plaintext)
        }
    }

    #[test]
    fn sealing_gives_the_records_of_the_vectors() {
        for vector in &vectors() {
            let (header, expected) = vector.record();
            let mut sealed = vector.inner_plaintext();
            let tag = vector.suite.seal_key(&vector.key).unwrap().seal(vector.nonce(), &header, &mut sealed);
            sealed.extend_from_slice(&tag);
            assert_eq!(hex::encode(sealed), hex::encode(expected));
        }
    }

    #[test]
    fn opening_gives_the_contents_of_the_vectors() {
        for vector in &vectors() {
            let (header, rest) = vector.record();
            assert_eq!(vector.open(&header, &rest).unwrap(), vector.inner_plaintext());
        }
    }

    #[test]
    fn a_record_with_any_bit_flipped_does_not_open() {
        for vector in &vectors() {
            let (header, rest) = vector.record();
            for bit in 0..rest.len() * 8 {
                let mut flipped = rest.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(vector.open(&header, &flipped), Err(OpenError), "bit {bit}");
            }
            assert_eq!(vector.open(&[0x17, 3, 3, 0, 0], &rest), Err(OpenError));
        }
    }

    #[test]
    fn a_record_shorter_than_a_tag_does_not_open() {
        let key = Suite::Aes128Gcm.open_key(&[7; 16]).unwrap();
        for len in 0..TAG_LEN {
            assert_eq!(key.open([0; 12], &[], &mut vec![0; len]), Err(OpenError));
        }
    }

    #[test]
    fn a_key_of_the_wrong_length_is_refused() {
        assert!(Suite::Aes128Gcm.seal_key(&[0; 32]).is_none());
        assert!(Suite::Aes256Gcm.open_key(&[0; 16]).is_none());
        assert!(Suite::ChaCha20Poly1305.seal_key(&[]).is_none());
    }

    #[test]
    fn code_points_lead_to_suites_and_back() {
        for code in 0..=u16::MAX {
            assert!(Suite::from_code(code).is_none_or(|suite| suite.code() == code));
        }
        assert_eq!((0..=u16::MAX).filter(|&code| Suite::from_code(code).is_some()).count(), 3);
    }

    #[test]
    fn keys_carry_the_limits_of_their_suite() {
        let limits = |suite: Suite, key: &[u8]| {
            let (seal, open) = (suite.seal_key(key).unwrap(), suite.open_key(key).unwrap());
            (seal.confidentiality_limit(), open.integrity_limit())
        };
        assert_eq!(limits(Suite::Aes128Gcm, &[0; 16]), (1 << 23, 1 << 52));
        assert_eq!(limits(Suite::Aes256Gcm, &[0; 32]), (1 << 23, 1 << 52));
        assert_eq!(limits(Suite::ChaCha20Poly1305, &[0; 32]), (1 << 62, 1 << 36));
    }

    #[test]
    fn the_prf_is_hmac_sha_256() {
        // RFC 4231, 4.3 (test case 2).
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        let prf = Prf::new(b"Jefe");
        assert_eq!(hex::encode(prf.sign(&[b"what do ya want for nothing?"])), expected);
        assert_eq!(hex::encode(prf.sign(&[b"what do ya want ", b"", b"for nothing?"])), expected);
    }

    #[test]
    fn constant_time_comparison_compares() {
        assert!(equal_in_constant_time(b"", b""));
        assert!(equal_in_constant_time(b"abc", b"abc"));
        assert!(!equal_in_constant_time(b"abc", b"abd"));
        assert!(!equal_in_constant_time(b"abc", b"ab"));
    }

    #[test]
    fn differences_do_not_cancel_each_other() {
        assert!(!equal_in_constant_time(&[1, 2, 1], &[3, 2, 3]));
    }

    #[test]
    fn record_that_fails_to_decrypt_is_an_error() {
        assert_eq!(OpenError.to_string(), "record failed to decrypt");
    }

    #[test]
    fn a_secret_is_not_shown_in_a_log() {
        assert_eq!(format!("{:?}", Prf::new(b"secret")), "Prf(..)");
    }
}

//! Keys of TLS 1.3 from traffic secrets (RFC 8446, 7.2 and 7.3), and records that they open.

use rustls::SupportedCipherSuite;
use rustls::crypto::tls13::{HkdfExpander, OkmBlock};
use tcpls_core::ConnectionId;
use tcpls_core::crypto::nonce::nonce;
use tcpls_core::crypto::{OpenKey, Suite, TAG_LEN};
use tcpls_core::wire::record::{HEADER_LEN, split_inner};

use crate::tls::provider;

/// What a record contains.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Opened {
    pub(super) content_type: u8,
    pub(super) content: Vec<u8>,
}

/// The secret of one generation of one direction.
pub(super) struct Secret {
    suite: Suite,
    expander: Box<dyn HkdfExpander>,
    len: usize,
}

/// What opens records of one generation of one direction.
pub(super) struct Keys {
    key: Box<dyn OpenKey>,
    iv: [u8; 12],
}

/// The suites whose hash is as long as a secret.
pub(super) fn suites(secret: &[u8]) -> &'static [Suite] {
    match secret.len() {
        32 => &[Suite::Aes128Gcm, Suite::ChaCha20Poly1305],
        48 => &[Suite::Aes256Gcm],
        _ => &[],
    }
}

impl Secret {
    /// `None` if the secret is not of this suite.
    pub(super) fn new(suite: Suite, secret: &[u8]) -> Option<Self> {
        if !suites(secret).contains(&suite) {
            return None;
        }
        let hkdf = provider().cipher_suites.iter().find_map(|known| match known {
            SupportedCipherSuite::Tls13(known) if u16::from(known.common.suite) == suite.code() => {
                Some(known.hkdf_provider)
            }
            _ => None,
        });
        Some(Self { suite, expander: hkdf?.expander_for_okm(&OkmBlock::new(secret)), len: secret.len() })
    }

    /// The keys of this generation.
    pub(super) fn keys(&self) -> Option<Keys> {
        let (key, len, iv) = self.key_and_iv()?;
        Some(Keys { key: self.suite.open_key(&key[..len])?, iv })
    }

    /// The key, its length, and the IV.
    pub(super) fn key_and_iv(&self) -> Option<([u8; 32], usize, [u8; 12])> {
        let len = if self.suite == Suite::Aes128Gcm { 16 } else { 32 };
        let (mut key, mut iv) = ([0; 32], [0; 12]);
        self.expand(b"tls13 key", &mut key[..len])?;
        self.expand(b"tls13 iv", &mut iv)?;
        Some((key, len, iv))
    }

    /// The secret of the next generation.
    pub(super) fn next(&self) -> Option<Self> {
        let mut next = [0; 48];
        let next = next.get_mut(..self.len)?;
        self.expand(b"tls13 traffic upd", next)?;
        Self::new(self.suite, next)
    }

    /// HKDF-Expand-Label without a context.
    fn expand(&self, label: &[u8], out: &mut [u8]) -> Option<()> {
        let (len, label_len) = (u16::try_from(out.len()).ok()?.to_be_bytes(), u8::try_from(label.len()).ok()?);
        self.expander.expand_slice(&[&len, &[label_len], label, &[0]], out).ok()
    }
}

impl Keys {
    /// Opens a record with header, if it is the one with this connection ID and AEAD sequence.
    pub(super) fn open(&self, tcp: ConnectionId, sequence: u64, record: &[u8]) -> Option<Opened> {
        let (header, body) = record.split_at_checked(HEADER_LEN)?;
        let mut content = body.to_vec();
        let plain_len = content.len().checked_sub(TAG_LEN)?;
        self.key.open(nonce(&self.iv, tcp, sequence), header, &mut content).ok()?;
        let (content_type, len) = split_inner(content.get(..plain_len)?)?;
        content.truncate(len);
        Some(Opened { content_type, content })
    }
}

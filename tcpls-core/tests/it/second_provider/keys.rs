//! Keys from traffic secrets, as a library logs them: HKDF (RFC 8446, 7.1 to 7.3), here by ring.

use ring::hkdf::{self, KeyType, Prk};
use tcpls_core::crypto::{OpenKeys, SealKeys, Suite, TAG_LEN};

/// The traffic secret of one direction.
pub(super) struct Secret {
    suite: Suite,
    bytes: Vec<u8>,
}

/// Lengths are given to ring as types.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl Secret {
    pub(super) fn new(suite: Suite, bytes: Vec<u8>) -> Self {
        Self { suite, bytes }
    }

    /// HKDF-Expand-Label without a context.
    fn expand(&self, label: &str, len: usize) -> Vec<u8> {
        let hash = if self.suite == Suite::Aes256Gcm { hkdf::HKDF_SHA384 } else { hkdf::HKDF_SHA256 };
        let label = [b"tls13 ", label.as_bytes()].concat();
        let info = [&(len as u16).to_be_bytes()[..], &[label.len() as u8], &label, &[0]];
        let mut out = vec![0; len];
        let prk = Prk::new_less_safe(hash, &self.bytes);
        prk.expand(&info, Length(len)).and_then(|okm| okm.fill(&mut out)).expect("short outputs");
        out
    }

    /// The next generation.
    pub(super) fn update(&mut self) {
        self.bytes = self.expand("traffic upd", self.bytes.len());
    }

    fn key(&self) -> Vec<u8> {
        self.expand("key", if self.suite == Suite::Aes128Gcm { 16 } else { 32 })
    }

    fn iv(&self) -> [u8; 12] {
        self.expand("iv", 12).try_into().expect("12 bytes")
    }

    pub(super) fn seal_keys(&self) -> SealKeys {
        SealKeys { key: self.suite.seal_key(&self.key()).expect("the suite's length"), iv: self.iv() }
    }

    pub(super) fn open_keys(&self) -> OpenKeys {
        OpenKeys { key: self.suite.open_key(&self.key()).expect("the suite's length"), iv: self.iv() }
    }
}

/// One message in a complete record, number `number`, as the library's peer seals it.
pub(super) fn record(keys: &SealKeys, number: u64, content_type: u8, content: &[u8]) -> Vec<u8> {
    let mut nonce = keys.iv;
    nonce[4..].iter_mut().zip(number.to_be_bytes()).for_each(|(nonce, byte)| *nonce ^= byte);
    let len = u16::try_from(content.len() + 1 + TAG_LEN).expect("one record");
    let header = [&[23, 3, 3], &len.to_be_bytes()[..]].concat();
    let mut sealed = [content, &[content_type]].concat();
    let tag = keys.key.seal(nonce, &header, &mut sealed);
    [&header[..], &sealed, &tag].concat()
}

//! Records with nothing above them: what sealing and opening cost without streams, acknowledgments or a second
//! TCP connection. The ceiling for everything that is built on TLS records; used over loopback and in memory.

use tcpls_core::ConnectionId;
use tcpls_core::crypto::nonce::nonce;
use tcpls_core::crypto::{OpenKey, SealKey, TAG_LEN};
use tcpls_core::testing::aead::Suite;
use tcpls_core::wire::record::{ContentType, HEADER_LEN, MAX_PLAINTEXT, RecordHeader, split_inner};

use crate::Outcome;

const KEY: [u8; 16] = [7; 16];
const IV: [u8; 12] = [9; 12];

/// The sealing end.
pub struct Sealer {
    key: Box<dyn SealKey>,
    sequence: u64,
}

impl Sealer {
    /// With the key that [`Opener::new`] opens with.
    pub fn new() -> Self {
        Self { key: Suite::Aes128Gcm.seal_key(&KEY).expect("16 bytes are a key of AES-128"), sequence: 0 }
    }

    /// Copies `data` to the end of `out`, in as many records as it needs, and seals them there.
    pub fn seal(&mut self, data: &[u8], out: &mut Vec<u8>) {
        for content in data.chunks(MAX_PLAINTEXT) {
            let header = RecordHeader::encode_protected(content.len() + 1 + TAG_LEN);
            out.extend_from_slice(&header);
            let start = out.len();
            out.extend_from_slice(content);
            out.push(ContentType::ApplicationData as u8);
            let tag = self.key.seal(nonce(&IV, ConnectionId::FIRST, self.sequence), &header, &mut out[start..]);
            out.extend_from_slice(&tag);
            self.sequence += 1;
        }
    }
}

/// The opening end.
pub struct Opener {
    key: Box<dyn OpenKey>,
    sequence: u64,
}

impl Opener {
    /// With the key that [`Sealer::new`] seals with.
    pub fn new() -> Self {
        Self { key: Suite::Aes128Gcm.open_key(&KEY).expect("16 bytes are a key of AES-128"), sequence: 0 }
    }

    /// Opens the record at the front of `bytes` in place: bytes of the record and of its content. `None`: it is not there in
    /// full.
    pub fn open(&mut self, bytes: &mut [u8]) -> Outcome<Option<(usize, usize)>> {
        let Some(header) = RecordHeader::parse(bytes)?.filter(|header| header.record_len() <= bytes.len()) else {
            return Ok(None);
        };
        let (head, body) = bytes[..header.record_len()].split_at_mut(HEADER_LEN);
        self.key.open(nonce(&IV, ConnectionId::FIRST, self.sequence), head, body)?;
        self.sequence += 1;
        let inner = body.len() - TAG_LEN;
        let (_, len) = split_inner(&body[..inner]).ok_or("an empty record")?;
        Ok(Some((header.record_len(), len)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_records_open_only_in_order() {
        let data: Vec<u8> = (0..MAX_PLAINTEXT + 100).map(|i| i as u8).collect();
        let mut out = Vec::new();
        Sealer::new().seal(&data, &mut out);
        let mut opener = Opener::new();
        assert_eq!(opener.open(&mut out[..100]).unwrap(), None);
        let (first, content) = opener.open(&mut out).unwrap().unwrap();
        assert_eq!(content, MAX_PLAINTEXT);
        assert_eq!(out[HEADER_LEN..][..content], data[..MAX_PLAINTEXT]);
        assert!(Opener::new().open(&mut out[first..]).is_err());
        assert!(opener.open(&mut out[first..]).is_err(), "the failed attempt spoilt the record");
    }
}

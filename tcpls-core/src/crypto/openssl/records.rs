//! Records under this endpoint's first application keys: the one place that seals those that are sent before the session
//! does.

use super::errors::failure;
use super::secrets::Secret;
use super::tickets::ticket;
use crate::crypto::aead::Suite;
use crate::crypto::nonce::nonce;
use crate::crypto::{OpenKeys, SealKeys, TAG_LEN};
use crate::error::{HandshakeError, HandshakeErrorKind as Kind};
use crate::wire::ids::ConnectionId;
use crate::wire::record::{ContentType, HEADER_LEN, RecordHeader, split_inner};

/// This endpoint's first application keys, with the only count of the records that they have sealed for the peer.
///
/// OpenSSL has the same keys and a count of its own. Its records are opened with that count and sealed again with this
/// one, so that no number is used for two records that are sent.
pub(super) struct OwnRecords {
    seal: SealKeys,
    sealed: u64,
    open: OpenKeys,
    /// Records that OpenSSL sealed, none of which was sent.
    opened: u64,
}

impl OwnRecords {
    pub(super) fn new(secret: &Secret, suite: Suite) -> Result<Self, HandshakeError> {
        Ok(Self { seal: secret.seal_keys(suite)?, sealed: 0, open: secret.open_keys(suite)?, opened: 0 })
    }

    /// Appends one record with all of `content`, at most 2¹⁴ bytes, to `out`.
    pub(super) fn seal(&mut self, content_type: u8, content: &[u8], out: &mut Vec<u8>) {
        seal(&self.seal, self.sealed, content_type, content, out);
        self.sealed += 1;
    }

    /// Opens the records that OpenSSL wrote, and seals what they hold again: session tickets, which `note` gets, and alerts.
    ///
    /// # Errors
    /// It is something else. Nothing of it is sent.
    pub(super) fn seal_again(
        &mut self,
        mut late: Vec<u8>,
        out: &mut Vec<u8>,
        note: impl Fn(&[u8]),
    ) -> Result<(), HandshakeError> {
        let mut rest = &mut late[..];
        while !rest.is_empty() {
            let len = RecordHeader::parse(rest).ok().flatten().map_or(usize::MAX, |header| header.record_len());
            let (record, others) = rest.split_at_mut_checked(len).ok_or_else(unknown)?;
            rest = others;
            let (header, sealed) = record.split_at_mut(HEADER_LEN);
            let number = nonce(&self.open.iv, ConnectionId::FIRST, self.opened);
            self.open.key.open(number, header, sealed).map_err(|_| unknown())?;
            self.opened += 1;
            let inner = &sealed[..sealed.len() - TAG_LEN];
            let (content_type, len) = split_inner(inner).ok_or_else(unknown)?;
            if ![ContentType::Handshake, ContentType::Alert].map(|known| known as u8).contains(&content_type) {
                return Err(unknown());
            }
            if content_type == ContentType::Handshake as u8 {
                // OpenSSL puts each ticket into a record of its own.
                inner.get(4..len).and_then(ticket).into_iter().for_each(&note);
            }
            self.seal(content_type, &inner[..len], out);
        }
        Ok(())
    }

    /// Returns how many records were sealed, and the keys to seal the next ones with.
    pub(super) fn into_keys(self) -> (u64, SealKeys) {
        (self.sealed, self.seal)
    }
}

/// Appends one record with all of `content`, at most 2¹⁴ bytes, to `out`; `number` is its place under these keys.
pub(super) fn seal(keys: &SealKeys, number: u64, content_type: u8, content: &[u8], out: &mut Vec<u8>) {
    let header = RecordHeader::encode_protected(content.len() + 1 + TAG_LEN);
    let number = nonce(&keys.iv, ConnectionId::FIRST, number);
    out.extend_from_slice(&header);
    let start = out.len();
    out.extend_from_slice(content);
    out.push(content_type);
    let tag = keys.key.seal(number, &header, &mut out[start..]);
    out.extend_from_slice(&tag);
}

fn unknown() -> HandshakeError {
    failure(Kind::Other, "OpenSSL wrote what is neither a session ticket nor an alert behind its flight")
}

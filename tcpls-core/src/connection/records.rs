//! Sealing records and giving them their numbers.

use super::Connection;
use super::keys::{KeyError, Keys};
use crate::crypto::TAG_LEN;
use crate::error::Alert;
use crate::tcp::Tcp;
use crate::wire::ids::ConnectionId;
use crate::wire::record::{ContentType, HEADER_LEN, RecordHeader};

/// Bytes that a record has besides its content: header, inner content type, tag.
pub(super) const RECORD_OVERHEAD: usize = HEADER_LEN + 1 + TAG_LEN;

impl Connection {
    /// Seals what was appended to `out` since `start` (room for the header, then the content) as one record of `tcp`.
    pub(super) fn seal_record(
        &mut self,
        tcp: ConnectionId,
        content_type: ContentType,
        out: &mut Vec<u8>,
        start: usize,
    ) -> Result<(), KeyError> {
        let (Some(entry), Some(keys)) = (self.tcps.get_mut(tcp), &mut self.keys) else { return Err(KeyError::NoKeys) };
        entry.counters.records_sent += 1;
        seal(keys, entry, content_type, out, start)
    }

    /// An alert for the owner of a TCP connection that is to be closed: sealed if keys are in use there, in clear if not.
    pub(super) fn alert_for<C>(&mut self, entry: &mut Tcp<C>, alert: Alert, out: &mut Vec<u8>) {
        let Some(keys) = self.keys.as_mut().filter(|_| entry.may_seal) else {
            return out.extend_from_slice(&crate::crypto::plaintext_alert(alert));
        };
        let start = out.len();
        out.extend_from_slice(&[0; HEADER_LEN]);
        out.extend_from_slice(&alert_body(alert));
        match seal(keys, entry, ContentType::Alert, out, start) {
            // The peer's last ACK of this TCP connection counts the alert too.
            Ok(()) => _ = entry.sent.skip(),
            Err(_) => out.truncate(start),
        }
    }

    /// Drops the keys that no live TCP connection needs.
    pub(super) fn forget_keys(&mut self) {
        let Some(keys) = &mut self.keys else { return };
        let seal = self.tcps.iter().map(|entry| entry.seal.generation).min();
        let open = self.tcps.iter().filter(|entry| entry.is_up()).map(|entry| entry.open.generation).min();
        keys.forget_unused(seal, open);
    }
}

/// Makes one record of what was appended to `out` since `start`, the next of a TCP connection that may not be in the table.
fn seal<C>(
    keys: &mut Keys,
    entry: &mut Tcp<C>,
    content_type: ContentType,
    out: &mut Vec<u8>,
    start: usize,
) -> Result<(), KeyError> {
    entry.seal_arrived.get_or_insert(entry.seal.generation);
    out.push(content_type as u8);
    let len = out.len() - start - HEADER_LEN + TAG_LEN;
    out[start..start + HEADER_LEN].copy_from_slice(&RecordHeader::encode_protected(len));
    keys.seal(entry.id, &mut entry.seal, out, start, HEADER_LEN)
}

/// An alert's two bytes: close_notify is a warning, all others are fatal (RFC 8446, 6).
pub(super) const fn alert_body(alert: Alert) -> [u8; 2] {
    [if matches!(alert, Alert::CloseNotify) { 1 } else { 2 }, alert as u8]
}

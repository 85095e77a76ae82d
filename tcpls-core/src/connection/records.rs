//! Sealing records and giving them their numbers.

use super::Connection;
use super::carried::Carried;
use super::keys::{KeyError, Keys};
use super::trace::{Content, Event, Tracer};
use crate::crypto::TAG_LEN;
use crate::error::Alert;
use crate::tcp::{Keep, Tcp};
use crate::wire::ids::{ConnectionId, RecordSeq};
use crate::wire::record::{ContentType, HEADER_LEN, RecordHeader};

/// Bytes that a record has besides its content: header, inner content type, tag.
pub(super) const RECORD_OVERHEAD: usize = HEADER_LEN + 1 + TAG_LEN;

impl Connection {
    /// Seals what was appended to `out` since `start` (room for the header, then the content) as the next record of `tcp`; its
    /// number.
    pub(super) fn seal_record(
        &mut self,
        tcp: ConnectionId,
        content_type: ContentType,
        out: &mut Vec<u8>,
        start: usize,
        keep: Keep<'_, Carried>,
    ) -> Result<RecordSeq, KeyError> {
        let (Some(entry), Some(keys)) = (self.tcps.get_mut(tcp), &mut self.keys) else { return Err(KeyError::NoKeys) };
        let sealer = RecordSealer { keys, trace: &mut self.trace, is_plain: self.plain };
        sealer.seal(entry, content_type, out, start, keep)
    }

    /// An alert for the driver of a TCP connection that is to be closed: sealed if keys are in use there, in plaintext if not.
    pub(super) fn alert_for(&mut self, entry: &mut Tcp<Carried>, alert: Alert, out: &mut Vec<u8>) {
        let Some(keys) = self.keys.as_mut().filter(|_| entry.may_seal()) else {
            return out.extend_from_slice(&crate::crypto::plaintext_alert(alert));
        };
        let start = out.len();
        out.extend_from_slice(&[0; HEADER_LEN]);
        out.extend_from_slice(&alert_body(alert));
        let sealer = RecordSealer { keys, trace: &mut self.trace, is_plain: self.plain };
        if sealer.seal(entry, ContentType::Alert, out, start, Keep::Nothing).is_err() {
            out.truncate(start);
        }
    }

    /// Drops the keys that no live TCP connection needs.
    pub(super) fn forget_keys(&mut self) {
        let Some(keys) = &mut self.keys else { return };
        let seal = self.tcps.iter().map(|entry| entry.seal_generation()).min();
        let open = self.tcps.iter().filter(|entry| entry.is_up()).map(|entry| entry.open_generation()).min();
        keys.forget_unused(seal, open);
    }
}

/// The parts of the session that sealing a record needs.
struct RecordSealer<'a> {
    keys: &'a mut Keys,
    trace: &'a mut Tracer,
    is_plain: bool,
}

impl RecordSealer<'_> {
    /// Makes one record of what was appended to `out` since `start`, the next of a TCP connection that may not be in the table.
    #[inline(always)]
    fn seal(
        mut self,
        entry: &mut Tcp<Carried>,
        content_type: ContentType,
        out: &mut Vec<u8>,
        start: usize,
        keep: Keep<'_, Carried>,
    ) -> Result<RecordSeq, KeyError> {
        out.push(content_type as u8);
        let len = out.len() - start - HEADER_LEN + TAG_LEN;
        out[start..start + HEADER_LEN].copy_from_slice(&RecordHeader::encode_protected(len));
        if self.trace.is_on() {
            self.report(entry, content_type, &out[start..]);
        }
        entry.seal_next(HEADER_LEN + len, keep, |tcp, at| self.keys.seal(tcp, at, out, start, HEADER_LEN))
    }

    /// Reports a record before it is sealed in place, while its content can be read; but not one whose key must not be
    /// used.
    #[cold]
    #[inline(never)]
    fn report(&mut self, entry: &Tcp<Carried>, content_type: ContentType, record: &[u8]) {
        if self.keys.can_seal(entry.seal_position()) {
            let (tcp, seq, bytes) = (entry.id(), entry.sent().next(), record.len() + TAG_LEN);
            let content = record.get(HEADER_LEN..record.len() - 1).unwrap_or_default();
            let content = Content::of(content_type as u8, self.is_plain, content);
            self.trace.emit(|| Event::RecordSent { tcp, seq, bytes, content });
        }
    }
}

/// An alert's two bytes: close_notify is a warning, all others are fatal (RFC 8446, 6).
pub(super) const fn alert_body(alert: Alert) -> [u8; 2] {
    [if matches!(alert, Alert::CloseNotify) { 1 } else { 2 }, alert as u8]
}

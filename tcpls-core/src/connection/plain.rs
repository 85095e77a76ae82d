//! A session whose peer does not support TCPLS: plain TLS 1.3 on one TCP connection, one stream, no frames.
//!
//! For such a peer, close_notify is the end of the stream, and the only proof that no data is missing. So it is sent
//! only behind a finished and complete stream; any other end is a fatal alert.

use bytes::Bytes;

use super::Connection;
use super::farewell::CLOSE_NOTIFY_LEN;
use super::keys::KeyError;
use super::output::Built;
use super::records::RECORD_OVERHEAD;
use crate::error::{Alert, CloseReason, TcpFault};
use crate::tcp::Keep;
use crate::time::Time;
use crate::wire::ids::{ConnectionId, StreamId};
use crate::wire::record::{ContentType, HEADER_LEN, MAX_PLAINTEXT};

/// The one stream.
const ONLY: StreamId = StreamId(0);

/// The offsets of the byte stream in both directions.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PlainState {
    received: u64,
    finished: bool,
}

impl PlainState {
    pub(super) fn has_received(&self) -> bool {
        self.received > 0
    }
}

impl Connection {
    /// Starts a plain session: pending frames are dropped.
    pub(super) fn start_plain(&mut self) {
        self.streams.make_plain();
        self.drop_claims();
        self.control.drop_all();
        self.tcps.iter_mut().for_each(|entry| entry.live().ask_nothing());
    }

    pub(super) fn handle_plain_data(&mut self, now: Time, data: Bytes) {
        let (len, offset) = (data.len(), self.plain_state.received);
        self.plain_state.received += len as u64;
        if let Some(entry) = self.tcps.get_mut(ConnectionId::FIRST) {
            entry.handle_data(len);
        }
        self.flood.earn(len as u64);
        // TLS allows records without content; an endless sequence of them would cost CPU time.
        let charged = self.flood.charge(now, u64::from(len == 0));
        if let Err(rule) = charged.and_then(|()| self.streams.handle_stream(ONLY, offset, false, data, len)) {
            self.fail_session(now, rule);
        }
    }

    /// close_notify ends the peer's half of the stream.
    pub(super) fn handle_plain_end(&mut self, now: Time, tcp: ConnectionId) {
        if let Some(entry) = self.tcps.get_mut(tcp) {
            entry.handle_close_notify();
        }
        self.plain_state.finished = true;
        if let Err(rule) = self.streams.handle_stream(ONLY, self.plain_state.received, true, Bytes::new(), 1) {
            self.fail_session(now, rule);
        }
        self.end_plain_if_both_did();
    }

    /// Writes one record of the stream's bytes, and the close_notify that ends it.
    pub(super) fn write_plain(&mut self, tcp: ConnectionId, room: usize, out: &mut Vec<u8>) -> Result<Built, KeyError> {
        let max = room.saturating_sub(RECORD_OVERHEAD + CLOSE_NOTIFY_LEN).min(MAX_PLAINTEXT);
        if let Some(error) = self.streams.given_up() {
            self.write_last_alert(tcp, self.plain_farewell(), out)?;
            self.conclude(CloseReason::Local { error });
            return Ok(Built::Record);
        }
        let Some(chunk) = self.streams.next_chunk(tcp, max) else { return Ok(Built::Nothing) };
        if chunk.len > 0 {
            let start = out.len();
            out.extend_from_slice(&[0; HEADER_LEN]);
            self.streams.copy_chunk(&chunk, out);
            self.seal_record(tcp, ContentType::ApplicationData, out, start, Keep::Nothing)?;
            if let Some(entry) = self.tcps.get_mut(tcp) {
                entry.data_sealed(u64::from(chunk.len));
            }
        }
        if chunk.fin {
            self.write_last_alert(tcp, Alert::CloseNotify, out)?;
        }
        // There are no acknowledgments here: data counts as delivered when the socket takes it.
        self.streams.chunk_acked(&chunk);
        self.end_plain_if_both_did();
        Ok(Built::Record)
    }

    /// Whether there is stream data to send, or a reset to report.
    pub(super) fn has_plain_data(&self, tcp: ConnectionId) -> bool {
        self.streams.has_data(tcp) || self.streams.given_up().is_some()
    }

    /// close_notify in both directions is the end of a plain session.
    pub(super) fn end_plain_if_both_did(&mut self) {
        let close_notify_sent = self.tcps.get(ConnectionId::FIRST).is_some_and(|entry| entry.close_notify_sent());
        if close_notify_sent && self.plain_state.finished {
            let reason = self.ending.planned_reason();
            self.conclude(reason);
        }
    }

    /// Closes a plain session: sends the written data, then the alert.
    pub(super) fn advance_plain_closing(&mut self, _now: Time) {
        let close_notify_sent = self.tcps.get(ConnectionId::FIRST).is_none_or(|entry| entry.close_notify_sent());
        if close_notify_sent {
            let reason = self.ending.planned_reason();
            return self.conclude(reason);
        }
        if self.streams.is_flushed() {
            self.ending.start_notify();
        }
    }

    /// Ends the session with its only TCP connection; a stream without close_notify is cut short. A FIN after
    /// close_notify ends only one direction: written data is still sent (RFC 8446, 6.1).
    pub(super) fn lose_plain(&mut self, _now: Time, fault: TcpFault, alert: Option<Alert>) {
        if fault == TcpFault::Fin && self.plain_state.finished {
            return;
        }
        if let (Some(mut entry), Some(alert)) = (self.tcps.remove(ConnectionId::FIRST), alert) {
            let mut words = core::mem::take(entry.raw());
            self.alert_for(&mut entry, alert, &mut words);
            self.put_final_bytes(ConnectionId::FIRST, words);
            self.tcps.insert(entry);
        }
        let reason = if self.plain_state.finished && self.streams.is_flushed() {
            self.ending.planned_reason()
        } else {
            CloseReason::PlainTcpEnded(fault)
        };
        self.conclude(reason);
    }
}

//! The final records on each TCP connection: Close Session, close_notify, or another alert (draft, 4.5).

use arrayvec::ArrayVec;

use super::Connection;
use super::control::{ACK_LEN, MAX_ACKS};
use super::keys::KeyError;
use super::records::{RECORD_OVERHEAD, alert_body};
use crate::error::Alert;
use crate::tcp::Keep;
use crate::tcp::sent::Backlog;
use crate::time::Time;
use crate::wire::frame::{self, Frame};
use crate::wire::ids::{ConnectionId, ErrorCode};
use crate::wire::record::{ContentType, HEADER_LEN};

/// Sockets whose final bytes are kept until the driver takes them.
const MAX_SOCKETS: usize = 64;
/// The record of a close_notify.
pub(super) const CLOSE_NOTIFY_LEN: usize = RECORD_OVERHEAD + 2;
/// Size of the last two records on a TCP connection without the reason; Close Session has 7 bytes.
const CLOSING_OVERHEAD: usize = RECORD_OVERHEAD + 7 + MAX_ACKS * ACK_LEN + CLOSE_NOTIFY_LEN;

impl Connection {
    /// Writes the last two records on a TCP connection: Close Session with the ACKs owed, and close_notify. With little
    /// room, a long reason is truncated. With only the draft's frames, the ACKs are alone, and the alert shows an error.
    // draft E03
    pub(super) fn write_closing(
        &mut self,
        now: Time,
        tcp: ConnectionId,
        room: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), KeyError> {
        let mut alert = Alert::CloseNotify;
        if let Some((error, reason)) = self.ending.close_session() {
            let fits = reason.len().min(room.saturating_sub(CLOSING_OVERHEAD));
            self.write_close_session(now, tcp, error, &reason[..fits], out)?;
            if self.is_draft_only() {
                alert = Self::draft_farewell(error);
            }
        }
        self.write_last_alert(tcp, alert, out)
    }

    /// Writes the last record on a TCP connection: close_notify, or the alert of a plain session that is cut short.
    pub(super) fn write_last_alert(
        &mut self,
        tcp: ConnectionId,
        alert: Alert,
        out: &mut Vec<u8>,
    ) -> Result<(), KeyError> {
        let start = out.len();
        out.extend_from_slice(&[0; HEADER_LEN]);
        out.extend_from_slice(&alert_body(alert));
        self.seal_record(tcp, ContentType::Alert, out, start, Keep::Nothing)?;
        if let Some(entry) = self.tcps.get_mut(tcp) {
            entry.close_notify_sealed();
        }
        Ok(())
    }

    /// Writes Close Session, which only the draft's frames lack, and the ACKs owed.
    fn write_close_session(
        &mut self,
        now: Time,
        tcp: ConnectionId,
        error: ErrorCode,
        reason: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), KeyError> {
        let (start, is_draft_only) = (out.len(), self.is_draft_only());
        let mut acks = ArrayVec::new();
        self.take_acks(now, tcp, true, &mut acks);
        if is_draft_only && acks.is_empty() {
            return Ok(());
        }
        out.extend_from_slice(&[0; HEADER_LEN]);
        let mut keep = Keep::Nothing;
        if !is_draft_only {
            self.encode(&Frame::CloseSession(frame::CloseSession { error, reason }), out);
            keep = Keep::Record { now, carried: &[], backlog: Backlog::None };
        }
        self.write_acks(&acks, out);
        self.seal_record(tcp, ContentType::ApplicationData, out, start, keep)?;
        Ok(())
    }

    /// Makes Close Session and an alert the final bytes of each TCP connection.
    pub(super) fn say_farewell(&mut self, now: Time, code: ErrorCode, text: &[u8], alert: Alert) {
        if self.ending.is_closed() || !self.established {
            return;
        }
        let live: Vec<ConnectionId> = self.tcps.ids().collect();
        for tcp in live {
            let mut words = self.tcps.get_mut(tcp).map(|entry| core::mem::take(entry.raw())).unwrap_or_default();
            if self.tcps.get(tcp).is_some_and(|entry| entry.may_seal() && !entry.close_notify_sent()) {
                let whole = words.len();
                if !self.plain && self.write_close_session(now, tcp, code, text, &mut words).is_err() {
                    words.truncate(whole);
                }
                if let Some(mut entry) = self.tcps.remove(tcp) {
                    self.alert_for(&mut entry, alert, &mut words);
                    self.tcps.insert(entry);
                }
            }
            self.put_final_bytes(tcp, words);
        }
    }

    /// Stores bytes that the driver sends before it closes the socket.
    pub(super) fn put_final_bytes(&mut self, tcp: ConnectionId, words: Vec<u8>) {
        if !words.is_empty() {
            self.final_bytes.insert(tcp, words);
        }
        while self.final_bytes.len() > MAX_SOCKETS {
            self.final_bytes.pop_first();
        }
    }

    /// Returns the alert that ends a plain session before its stream was finished and sent, so that the peer does not
    /// take the received part for the whole. If nothing was requested and nothing sent, no data is missing, and there
    /// is no alert.
    pub(super) fn plain_farewell(&self) -> Alert {
        let nothing_is_missing = !self.plain_state.has_received() && self.streams.is_untouched();
        if nothing_is_missing { Alert::CloseNotify } else { Alert::InternalError }
    }
}

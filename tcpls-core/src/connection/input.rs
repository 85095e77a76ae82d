//! Splits the bytes of a TCP connection into records, decrypts them in place, and dispatches them by content type.
//!
//! A record that fails to decrypt ends its TCP connection, because the path may be at fault. A violation *inside* an
//! authentic record is a fault of the peer and ends the session.

use bytes::{Buf, Bytes, BytesMut};

use super::keys::KeyError;
use super::record::{Item, left};
use super::{Connection, TcpEnd, trace};
use crate::crypto::TAG_LEN;
use crate::error::{Alert, CloseReason, TcpFault, Violation};
use crate::tcp::TcpState;
use crate::tcp::deframer::next_record;
use crate::time::Time;
use crate::wire::ids::ConnectionId;
use crate::wire::record::{ContentType, HEADER_LEN, MAX_INNER_PLAINTEXT, RecordError, RecordHeader, split_inner};

/// A record whose protection was removed.
pub(super) struct Opened {
    pub(super) content_type: u8,
    /// The content without type and padding, in the buffer that it was received in.
    pub(super) content: Bytes,
}

/// The content of an authentic record, by type.
type OpenedRecord = Result<Opened, Violation>;

impl Connection {
    /// Reports bytes received on TCP connection `tcp`. Removes complete records from `bytes` and leaves the rest for
    /// the next read. Stream data stays in that buffer; the application gets it as `Bytes` of it. For a TCP connection
    /// that is lost, all bytes are removed and dropped.
    pub fn handle_bytes(&mut self, now: Time, tcp: ConnectionId, bytes: &mut BytesMut) {
        self.record_at(now, || Item::HandleBytes { now, tcp, len: bytes.len() });
        self.take_bytes(now, tcp, bytes);
        self.trace.returned(|| left(bytes));
    }

    pub(super) fn take_bytes(&mut self, now: Time, tcp: ConnectionId, bytes: &mut BytesMut) {
        self.trace.set_now(now);
        let before = bytes.len();
        self.streams.release_buffers();
        loop {
            if !self.tcps.contains(tcp) {
                bytes.clear();
                break;
            }
            match next_record(bytes) {
                Ok(None) => break,
                Ok(Some((header, record))) => self.handle_record(now, tcp, header, record),
                Err(error) => self.handle_malformed(now, tcp, error),
            }
        }
        self.streams.note_received(before - bytes.len());
        if let Some(entry) = self.tcps.get_mut(tcp) {
            entry.handle_bytes(now, before, bytes.len());
        }
        self.settle(now);
    }

    /// Reports that the socket of TCP connection `tcp` has ended. The session reinjects its unacknowledged data on
    /// others.
    pub fn handle_tcp_end(&mut self, now: Time, tcp: ConnectionId, how: TcpEnd) {
        self.record_at(now, || Item::HandleTcpEnd { now, tcp, how });
        self.trace.set_now(now);
        let fault = match how {
            TcpEnd::Fin => TcpFault::Fin,
            TcpEnd::Reset => TcpFault::Reset,
            TcpEnd::Error(_) => TcpFault::Io,
            TcpEnd::PathDown => TcpFault::PathDown,
            TcpEnd::JoinTimeout => TcpFault::JoinTimeout,
        };
        let is_only_half = fault == TcpFault::Fin && self.takes_what_is_written(tcp);
        if !is_only_half {
            self.lose_tcp(now, tcp, fault, None);
        }
        self.settle(now);
    }

    /// Reports that this host can send nothing on the path of `tcp`: its interface is down, or its local address was
    /// removed. It stalls at once, and its data is reinjected on others. Optional; without it, the session finds out
    /// when an answer is overdue. No effect before `tcp` has joined, and on a plain session.
    pub fn handle_path_down(&mut self, now: Time, tcp: ConnectionId) {
        self.record_at(now, || Item::HandlePathDown { now, tcp });
        self.trace.set_now(now);
        let is_up = self.tcps.get(tcp).is_some_and(|entry| entry.is_up() && !entry.liveness().is_stalled());
        if is_up && !self.plain {
            self.mark_one_stalled(now, tcp);
            self.settle(now);
        }
    }

    fn handle_record(&mut self, now: Time, tcp: ConnectionId, header: RecordHeader, record: BytesMut) {
        self.trace.record(header);
        let Some(entry) = self.tcps.get_mut(tcp) else { return };
        match entry.state() {
            TcpState::Handshaking => self.handle_handshake_record(now, record),
            TcpState::Opening(_) if self.joins.is_resuming(tcp) => self.handle_join_flight(now, tcp, record),
            TcpState::Opening(_) if header.content_type != ContentType::ApplicationData => {
                self.handle_join_answer(now, tcp, header, &record);
            }
            _ if entry.close_notify_received() => {} // it said that nothing would follow
            _ => self.handle_protected(now, tcp, header, record),
        }
    }

    /// Not a TLS record, or one that TLS does not allow.
    fn handle_malformed(&mut self, now: Time, tcp: ConnectionId, error: RecordError) {
        self.trace.bad_header(error);
        self.lose_tcp(now, tcp, error.into(), Some(error.alert()));
    }

    fn handle_protected(&mut self, now: Time, tcp: ConnectionId, header: RecordHeader, record: BytesMut) {
        if header.content_type != ContentType::ApplicationData {
            return self.lose_tcp(now, tcp, TcpFault::UnexpectedRecord, Some(Alert::UnexpectedMessage));
        }
        match self.open_record(tcp, record) {
            Ok(content) => {
                if self.trace.is_on() {
                    self.report_received(tcp, HEADER_LEN + header.len, &content);
                }
                self.handle_opened(now, tcp, content);
            }
            Err(error) => self.handle_unopened(now, tcp, error),
        }
    }

    /// Removes the protection of one record of `tcp`.
    // draft I19
    fn open_record(&mut self, tcp: ConnectionId, mut record: BytesMut) -> Result<OpenedRecord, KeyError> {
        let (Some(entry), Some(keys)) = (self.tcps.get_mut(tcp), &mut self.keys) else { return Err(KeyError::NoKeys) };
        let (header, body) = record.split_at_mut(HEADER_LEN);
        let is_first = entry.is_opening();
        entry.open_next(|tcp, at| match is_first {
            true => keys.open_first(tcp, header, body).map(|first| *at = first),
            false => keys.open(tcp, at, header, body),
        })?;
        record.truncate(record.len() - TAG_LEN);
        Ok(take_content(record))
    }

    /// Reports the record that opened last on TCP connection `tcp`, `bytes` long on the wire.
    #[cold]
    #[inline(never)]
    pub(super) fn report_received(&mut self, tcp: ConnectionId, bytes: usize, content: &OpenedRecord) {
        let Some(entry) = self.tcps.get(tcp) else { return };
        let (seq, generation) = (entry.received().newest(), entry.open_generation());
        self.trace.opened(tcp, generation, bytes, self.plain, content);
        let content = match content {
            Ok(opened) => trace::Content::of(opened.content_type, self.plain, &opened.content),
            Err(_) => trace::Content::Invalid,
        };
        self.trace.emit(|| trace::Event::RecordReceived { tcp, seq, bytes, content });
    }

    /// Handles an authentic record, which shows that the peer is alive and authenticates it on this TCP connection.
    // draft I34
    pub(super) fn handle_opened(&mut self, now: Time, tcp: ConnectionId, content: OpenedRecord) {
        self.last_heard = now;
        if let Some(entry) = self.tcps.get_mut(tcp) {
            entry.live().heard(now);
        }
        self.activate_if_opening(now, tcp);
        self.note_finished(tcp, &content);
        let had_streams = self.streams.len() > 0;
        self.handle_content(now, tcp, content);
        if had_streams || self.streams.len() > 0 {
            self.activity.note(now);
        }
    }

    fn handle_content(&mut self, now: Time, tcp: ConnectionId, content: OpenedRecord) {
        let Opened { content_type, content } = match content {
            Ok(opened) => opened,
            Err(rule) => return self.fail_session(now, rule),
        };
        match content_type {
            23 if self.plain => self.handle_plain_data(now, content),
            23 => self.handle_frames(now, tcp, content),
            21 => self.handle_alert(now, tcp, &content),
            22 => self.handle_handshake_message(now, tcp, &content),
            _ => self.fail_session(now, Violation::EmptyRecord),
        }
    }

    fn handle_unopened(&mut self, now: Time, tcp: ConnectionId, error: KeyError) {
        self.limits.bad_records += 1;
        self.trace.emit(|| trace::Event::LimitReached { limit: trace::Limit::BadRecord, tcp: Some(tcp) });
        match error {
            KeyError::IntegrityLimit => self.fail_session(now, Violation::IntegrityLimit),
            KeyError::ConfidentialityLimit => self.end_session(now, CloseReason::AeadLimit),
            KeyError::BadRecord | KeyError::NoKeys => {
                self.lose_tcp(now, tcp, TcpFault::BadRecord, Some(Alert::BadRecordMac));
            }
        }
    }
}

/// Splits the inner plaintext of a record (header still in front) into content and type (RFC 8446, 5.4).
pub(super) fn take_content(mut record: BytesMut) -> OpenedRecord {
    let inner = record.get(HEADER_LEN..).unwrap_or_default();
    if inner.len() > MAX_INNER_PLAINTEXT {
        return Err(Violation::RecordOverflow);
    }
    let (content_type, len) = split_inner(inner).ok_or(Violation::EmptyRecord)?;
    record.advance(HEADER_LEN);
    record.truncate(len);
    Ok(Opened { content_type, content: record.freeze() })
}

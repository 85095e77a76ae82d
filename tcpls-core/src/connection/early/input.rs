//! Early data that a server receives, and what becomes of a client's.

use bytes::Bytes;

use super::RECORD_OVERHEAD;
use crate::connection::Connection;
use crate::connection::carried::Carried;
use crate::connection::trace::{Content, Event};
use crate::crypto::EarlyData;
use crate::error::{CloseReason, Violation};
use crate::event;
use crate::time::Time;
use crate::wire::frame::{Frame, Frames};
use crate::wire::ids::{ConnectionId, ErrorCode};
use crate::wire::record::ContentType;

impl Connection {
    /// A record of the peer's flight has arrived. A server takes in the early data that the TLS library has accepted; a client
    /// sends no more.
    pub(in crate::connection) fn take_early(&mut self, now: Time) {
        self.early.left = (0, 0);
        while let Some(tls) = &mut self.handshake {
            let Some(content) = tls.read_early() else { return };
            if tls.tcpls() == Some(true) {
                self.handle_early(now, content.into());
            } else {
                self.early.plain.extend_from_slice(&content); // the library bounds it
            }
        }
    }

    fn handle_early(&mut self, now: Time, content: Bytes) {
        if self.identity.application_protocol.is_none() {
            let alpn = self.handshake.as_ref().and_then(|tls| tls.alpn());
            self.identity.application_protocol =
                alpn.and_then(crate::crypto::alpn::application_protocol).map(<[u8]>::to_vec);
        }
        self.early.is_unconfirmed = true;
        let (tcp, bytes) = (ConnectionId::FIRST, content.len() + RECORD_OVERHEAD);
        let frames = || Content::of(ContentType::ApplicationData as u8, false, &content);
        self.trace.emit(|| Event::EarlyReceived { tcp, bytes, content: frames() });
        self.streams.set_early(true);
        let taken = check_early(&content).and_then(|()| self.handle_early_frames(now, content));
        self.streams.set_early(false);
        if let Err(rule) = taken {
            if let Some(first) = self.tcps.get_mut(ConnectionId::FIRST) {
                first.raw().extend_from_slice(&crate::crypto::plaintext_alert(rule.alert()));
            }
            self.streams.abort();
            self.end_handshake(CloseReason::Violation(rule));
        }
    }

    /// The handshake is complete: early data is accepted or rejected. Returns why the session ends because of that.
    pub(in crate::connection) fn settle_early(
        &mut self,
        now: Time,
        outcome: EarlyData,
        protocol: Option<&[u8]>,
    ) -> Option<CloseReason> {
        let carried = core::mem::take(&mut self.early.carried);
        self.early.terms?;
        let is_accepted = outcome == EarlyData::Accepted && !self.plain;
        if is_accepted {
            if !carried.is_empty() {
                let first = self.tcps.get_mut(ConnectionId::FIRST)?;
                first.carry_early(now, self.early.sent, &carried);
                self.ask(ConnectionId::FIRST);
            }
        } else {
            self.early.terms = None;
            let again = |item: &Carried| match item {
                Carried::Chunk(chunk) => u64::from(chunk.len),
                other => self.requeue(other),
            };
            let bytes = carried.iter().map(again).sum();
            if !carried.is_empty() {
                self.trace.emit(|| Event::EarlyRejected { tcp: ConnectionId::FIRST, bytes });
            }
            self.count_again(bytes);
            self.streams.rewind();
        }
        if self.streams.len() == 0 {
            return None;
        }
        // What was written is for that protocol alone.
        if self.plain {
            Some(CloseReason::NoTcpls)
        } else if self.identity.application_protocol.as_deref() != protocol {
            Some(CloseReason::NoApplicationProtocol)
        } else {
            None
        }
    }

    /// Server: the client's Finished has arrived, so the first flight is no copy of an earlier one.
    pub(in crate::connection) fn confirm(&mut self, now: Time) {
        let plain = core::mem::take(&mut self.early.plain);
        if !plain.is_empty() {
            self.streams.set_early(true);
            self.handle_plain_data(now, plain.into());
            self.streams.set_early(false);
        }
        if core::mem::take(&mut self.early.is_unconfirmed) {
            self.events.push_back(event::Event::HandshakeConfirmed);
        }
        if let Some(reason) = self.early.close.take() {
            self.begin_close(now, ErrorCode::default(), &reason);
        }
    }
}

/// Early data holds stream data and the client's Session Parameters: all of it may arrive twice, and needs no key of the
/// session.
fn check_early(content: &[u8]) -> Result<(), Violation> {
    for frame in Frames::new(content) {
        match frame? {
            Frame::Padding(_) | Frame::Stream(_) | Frame::SessionParameters(_) => {}
            frame => return Err(Violation::EarlyFrame(frame.ty())),
        }
    }
    Ok(())
}

//! Closing a session: Close Session and close_notify of both endpoints (draft, 4.5). `ending` concludes it.

use super::{Connection, trace};
use crate::event::Event;
use crate::time::Time;
use crate::wire::ids::{ConnectionId, ErrorCode};

impl Connection {
    /// Returns when closing is cut short. Acknowledgments of the peer's kernel count as progress, too, because the peer
    /// can acknowledge a record only when it is complete, which takes time on a slow path.
    pub(super) fn close_deadline(&self) -> Option<Time> {
        let timeout = self.at_least_an_answer(self.ending.timeout()?);
        let taken = self.tcps.iter().map(|entry| entry.liveness().acked_at()).max().unwrap_or_default();
        self.ending.deadline(taken, timeout)
    }

    /// Begins to end the session for this endpoint. With `error` 0, written data is delivered first.
    pub(super) fn begin_close(&mut self, now: Time, error: ErrorCode, reason: &[u8]) {
        if error == ErrorCode::default() && self.has_data_before_confirmation() {
            return self.close_when_confirmed(reason);
        }
        self.trace.emit(|| trace::Event::Closing { error });
        if !self.established {
            return self.abandon_handshake(error);
        }
        self.ending.request(now, error, reason, &self.config);
        self.streams.stop_writing();
        if error != ErrorCode::default() {
            self.streams.drop_outgoing();
        }
        if self.is_draft_only() {
            self.streams.truncate(); // what still comes is dropped, so that acknowledgments behind it are read
        }
        self.drop_claims();
    }

    /// Handles the peer's Close Session: it accepts no more data.
    pub(super) fn handle_close_session(&mut self, now: Time, error: ErrorCode, reason: &[u8]) {
        if !self.ending.handle_request(now, error, reason, &self.config) {
            return;
        }
        self.trace.emit(|| trace::Event::PeerClosing { error });
        self.events.push_back(Event::PeerClosing { error });
        self.streams.stop_writing();
        self.drop_claims();
        if !self.ending.is_crossing() {
            self.streams.drop_outgoing();
        }
    }

    /// Handles the peer's close_notify on `tcp`: it sends no more data on the session, but data may still be in flight
    /// on other TCP connections.
    // draft I28
    pub(super) fn handle_close_notify(&mut self, now: Time, tcp: ConnectionId) {
        if self.plain {
            return self.handle_plain_end(now, tcp);
        }
        if let Some(entry) = self.tcps.get_mut(tcp) {
            entry.handle_close_notify();
        }
        if self.ending.handle_notify(now) {
            self.trace.emit(|| trace::Event::PeerClosing { error: ErrorCode::default() });
            self.events.push_back(Event::PeerClosing { error: ErrorCode::default() });
        }
        self.end_reading_if_drained();
    }

    /// Takes the next step of closing, if its time has come.
    // draft I29
    pub(super) fn advance_closing(&mut self, now: Time) {
        if self.ending.is_closed() {
            return;
        }
        if !self.ending.is_closing() && !self.advance_half_close(now) {
            return;
        }
        if self.plain {
            return self.advance_plain_closing(now);
        }
        if self.has_said_all() {
            self.ending.start_notify();
        }
        // A TCP connection whose socket takes nothing does not delay the end: the peer has it on another.
        let heard = self.tcps.iter().any(|entry| entry.close_notify_sent());
        let said = self.tcps.iter().all(|entry| entry.close_notify_sent() || entry.is_blocked() || !entry.may_seal());
        if self.ending.is_half_closed() && heard && said && self.has_heard_all() {
            let reason = self.ending.planned_reason();
            self.conclude(reason);
        }
    }

    /// Returns whether close_notify may be sent: the peer has acknowledged all written data, or, if it can acknowledge
    /// no more because it has closed at the same time or sent close_notify everywhere, the sockets have taken it.
    fn has_said_all(&self) -> bool {
        if self.ends_unacknowledged() {
            return !self.tcps.ids().any(|tcp| self.has_stream_data(tcp));
        }
        self.streams.is_flushed() && self.control.has_said_all()
    }

    /// Returns whether no data of the peer can be in flight. This matters only if the peer has closed at the same time;
    /// otherwise it has discarded its unsent data.
    fn has_heard_all(&self) -> bool {
        !self.ending.is_crossing() || self.tcps.iter().all(|entry| entry.close_notify_received() || !entry.is_up())
    }
}

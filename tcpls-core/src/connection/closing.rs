//! The way to the end of a session: Close Session and close_notify, of both sides (draft, 4.5). `ending` concludes it.

use super::{Connection, trace};
use crate::event::Event;
use crate::time::Time;
use crate::wire::ids::{ConnectionId, ErrorCode};

impl Connection {
    /// When closing is cut short. What the peer's kernel acknowledges counts as progress too: a record can be acknowledged only
    /// when it is whole, which takes a slow path a while.
    pub(super) fn close_deadline(&self) -> Option<Time> {
        let timeout = self.at_least_an_answer(self.ending.timeout()?);
        let taken = self.tcps.iter().map(|entry| entry.liveness().acked_at()).max().unwrap_or_default();
        self.ending.deadline(taken, timeout)
    }

    /// The peer's Close Session: it takes no more data.
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

    /// The peer's close_notify on `tcp`: it sends no more on the session; on other TCP connections data may still be on its
    /// way.
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
        // A TCP connection that is stuck does not keep the others: the peer has heard it on one of them.
        let heard = self.tcps.iter().any(|entry| entry.close_notify_sent());
        let said = self.tcps.iter().all(|entry| entry.close_notify_sent() || entry.is_blocked() || !entry.may_seal());
        if self.ending.is_half_closed() && heard && said && self.has_heard_all() {
            let reason = self.ending.planned_reason();
            self.conclude(reason);
        }
    }

    /// Whether close_notify may go out: all that was written is acknowledged or, if the peer acknowledges no more, because it
    /// has closed at the same time or said close_notify everywhere, given to the sockets.
    fn has_said_all(&self) -> bool {
        if self.ends_unacknowledged() {
            return !self.tcps.ids().any(|tcp| self.has_stream_data(tcp));
        }
        self.streams.is_flushed() && self.control.has_said_all()
    }

    /// Whether nothing of the peer's can be under way any more. It matters only if the peer has closed at the same time: else
    /// it has dropped what it had to send.
    fn has_heard_all(&self) -> bool {
        !self.ending.is_crossing() || self.tcps.iter().all(|entry| entry.close_notify_received() || !entry.is_up())
    }
}

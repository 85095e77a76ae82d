//! Draining a session: the peer's new streams are refused, those that run are finished, and then the session is closed
//! (`docs/protocol.md`, 8).

use super::{Connection, trace};
use crate::error::code;
use crate::time::Time;

/// The text of the Close Session that follows.
const REASON: &[u8] = b"drained";

impl Connection {
    /// Begins to drain the session, and closes it at `until` at the latest.
    pub(super) fn begin_drain(&mut self, until: Time) {
        if self.drained_by.replace(until).is_none() {
            let streams = self.streams.drain();
            self.trace.emit(|| trace::Event::Draining { streams });
            self.control.owe_drain(streams);
        }
    }

    /// Returns when the limit for draining has passed.
    pub(super) fn drain_deadline(&self) -> Option<Time> {
        self.drained_by.filter(|_| self.is_open())
    }

    /// Closes the session if it is drained: no stream is left, and the peer knows which of its streams were served; or
    /// the limit has passed.
    pub(super) fn close_if_drained(&mut self, now: Time) {
        let Some(until) = self.drain_deadline() else { return }; // as nearly always
        let knows = self.plain || self.control.has_announced_drain();
        let is_drained = self.established && knows && self.streams.len() == 0;
        if !is_drained && now < until {
            return;
        }
        self.trace.emit(|| trace::Event::Closing { error: code::NO_ERROR });
        if !self.established {
            return self.abandon_handshake(code::NO_ERROR);
        }
        self.ending.request(now, code::NO_ERROR, REASON, &self.config);
        self.streams.stop_writing();
        self.drop_claims();
        self.conclude_if_alone();
    }
}

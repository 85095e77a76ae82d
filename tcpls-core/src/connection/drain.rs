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

    /// Returns when the session that this endpoint drains is to be closed: at once if nothing is left to serve, otherwise
    /// at the limit. The last stream may end with a call of the application, which has no time: the deadline is due then.
    pub(super) fn drain_deadline(&self) -> Option<Time> {
        let until = self.drained_by.filter(|_| self.is_open())?; // `None`, as nearly always
        Some(if self.is_drained() { Time::ZERO } else { until })
    }

    /// Whether no stream is left, and the peer knows which of its streams were served.
    fn is_drained(&self) -> bool {
        let knows = self.plain || self.control.has_announced_drain();
        self.established && knows && self.streams.len() == 0
    }

    /// Closes the session if it is drained, or the limit has passed.
    pub(super) fn close_if_drained(&mut self, now: Time) {
        if self.drain_deadline().is_some_and(|at| at <= now) {
            self.begin_close(now, code::NO_ERROR, REASON);
            self.conclude_if_alone();
        }
    }
}

//! Whether a TCP connection is read. A draft-only session, which has no flow control of its own, stops reading some of
//! its TCP connections at times (decision D143).

use super::Tcp;
use crate::time::Time;

/// Why and since when a TCP connection is not read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reading {
    /// Stream data arrived on it while the session held much.
    has_overfilled: bool,
    /// It is not read, and with it the peer's acknowledgments are not.
    is_paused: bool,
    /// When it was read again.
    resumed: Time,
}

impl<C> Tcp<C> {
    /// Stream data arrived on it although the session holds much.
    pub(crate) fn overfills(&mut self) {
        self.reading.has_overfilled = true;
    }

    /// Whether stream data has arrived on it since the session holds much.
    pub(crate) fn has_overfilled(&self) -> bool {
        self.reading.has_overfilled
    }

    /// Whether it is read from now on, and whether the session holds little.
    pub(crate) fn note_reading(&mut self, now: Time, is_paused: bool, holds_little: bool) {
        if self.reading.is_paused && !is_paused {
            self.reading.resumed = now;
        }
        self.reading.is_paused = is_paused;
        self.reading.has_overfilled &= !holds_little;
    }

    /// Since when it is read without a pause: 0 if it always was; `None` if it is not read.
    pub(crate) fn read_since(&self) -> Option<Time> {
        (!self.reading.is_paused).then_some(self.reading.resumed)
    }

    /// Since when the oldest record in flight waits for its acknowledgment; `None` if there is none, or the acknowledgment
    /// could not be read.
    pub(crate) fn waiting_since(&self) -> Option<Time> {
        Some(self.sent.waiting_since()?.max(self.read_since()?))
    }
}

//! What follows from any input.

use super::Connection;
use crate::time::Time;

impl Connection {
    /// The consequences of any input: closing advances, retiring TCP connections are discarded.
    pub(super) fn settle(&mut self, now: Time) {
        self.note_reading(now);
        self.hedge();
        self.let_retired_go(now);
        self.close_if_drained(now);
        self.advance_closing(now);
        self.trace_state();
    }
}

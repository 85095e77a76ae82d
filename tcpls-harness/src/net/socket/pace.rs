//! How much is written to a socket at once: what its path carries in a few milliseconds. Unsent data in the kernel
//! can't move to a faster TCP connection, and delays everything behind it; too little data leaves a fast path idle.

use std::time::Duration;

use tcpls_core::time::Time;
use tcpls_core::wire::record::{HEADER_LEN, MAX_INNER_PLAINTEXT};

/// What is written at once, and what may lie unsent before more is, as time at the path's rate. The kernel asks for more when
/// half of it is left.
const AHEAD: Duration = Duration::from_millis(6);
/// The rate is taken over at least this long.
const WINDOW: Duration = Duration::from_millis(25);
/// The least, even on the slowest path: a record of this size takes a while there.
const MIN: usize = 4 * 1024;
/// A batch that holds one full record, or more, holds no part of another.
const RECORD: usize = HEADER_LEN + MAX_INNER_PLAINTEXT + TAG_LEN;
/// Bytes that every cipher suite of TLS 1.3 adds to a record.
const TAG_LEN: usize = 16;
/// Before the rate is known: what TCP sends in its first round trip, and as much again.
const FIRST: usize = 2 * RECORD;

/// The batch of one socket, found from what the socket takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    batch: usize,
    max: usize,
    since: Time,
    written: usize,
}

impl Pace {
    /// At most `max` bytes at once.
    pub(crate) fn new(max: usize, now: Time) -> Self {
        Self { batch: FIRST.min(max), max, since: now, written: 0 }
    }

    /// Bytes to seal and write at once, and to leave unsent in the kernel.
    pub(crate) fn batch(&self) -> usize {
        self.batch
    }

    /// The socket took `bytes`, `limited` by its own room and not by what there was to write. Returns whether the batch
    /// changed.
    pub(crate) fn wrote(&mut self, now: Time, bytes: usize, limited: bool) -> bool {
        self.written += bytes;
        let passed = now - self.since;
        if passed < WINDOW {
            return false;
        }
        let ahead = self.written as f64 * AHEAD.as_secs_f64() / passed.as_secs_f64();
        (self.since, self.written) = (now, 0);
        // An application that writes little says nothing about the path.
        if !limited && ahead < self.batch as f64 {
            return false;
        }
        let before = self.batch;
        // Up at once, for a fast path must not starve; down in steps, for a window may have caught a pause.
        let target = (ahead as usize).max(before / 2);
        let batch = target.clamp(MIN.min(self.max), self.max);
        self.batch = if batch < RECORD { batch } else { batch - batch % RECORD };
        self.batch != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 256 * 1024;

    fn after(rate: usize, limited: bool) -> usize {
        let start = Time::ZERO;
        let mut pace = Pace::new(MAX, start);
        for tick in 1..=10 {
            pace.wrote(start + WINDOW * tick, rate / 40, limited);
        }
        pace.batch()
    }

    #[test]
    fn batch_holds_complete_records_for_6_ms_of_the_paths_rate() {
        assert_eq!(after(6_000_000, true), 2 * RECORD);
        assert_eq!(after(1_000_000, true), 6_000);
        assert_eq!(after(100_000, true), MIN);
        assert_eq!(after(1_000_000_000, true), MAX / RECORD * RECORD);
    }

    #[test]
    fn an_application_that_writes_little_does_not_make_batches_small() {
        assert_eq!(after(100_000, false), FIRST);
    }

    #[test]
    fn one_slow_window_halves_the_batch_at_most() {
        let start = Time::ZERO;
        let mut pace = Pace::new(MAX, start);
        pace.wrote(start + WINDOW, 500_000, true);
        assert_eq!(pace.batch(), 7 * RECORD);
        pace.wrote(start + WINDOW * 2, 10, true);
        assert_eq!(pace.batch(), 3 * RECORD);
    }

    #[test]
    fn the_first_batch_is_of_whole_records() {
        assert_eq!(Pace::new(MAX, Time::ZERO).batch() % RECORD, 0);
    }

    #[test]
    fn the_first_batch_respects_the_bound() {
        assert_eq!(Pace::new(1000, Time::ZERO).batch(), 1000);
    }
}

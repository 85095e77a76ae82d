//! How much a socket is given at once: what its path carries in a few milliseconds. What lies unsent in the kernel can't be
//! moved to a faster TCP connection any more, and delays all that comes behind it; too little leaves a fast path idle.

use std::time::{Duration, Instant};

/// What may lie unsent, as time at the path's rate.
const AHEAD: Duration = Duration::from_millis(15);
/// The rate is taken over at least this long.
const WINDOW: Duration = Duration::from_millis(20);
/// The least: two full records.
const MIN: usize = 32 * 1024;

/// The batch of one socket, found from what the socket takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    batch: usize,
    max: usize,
    since: Instant,
    written: usize,
}

impl Pace {
    /// At most `max` bytes at once.
    pub(crate) fn new(max: usize, now: Instant) -> Self {
        Self { batch: (2 * MIN).min(max), max, since: now, written: 0 }
    }

    /// Bytes to seal and write at once, and to leave unsent in the kernel.
    pub(crate) fn batch(&self) -> usize {
        self.batch
    }

    /// The socket took `bytes`, `limited` by its own room and not by what there was to write. Says whether the batch
    /// changed.
    pub(crate) fn wrote(&mut self, now: Instant, bytes: usize, limited: bool) -> bool {
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
        self.batch = (ahead as usize).clamp(MIN.min(self.max), self.max);
        self.batch.abs_diff(before) > before / 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 256 * 1024;

    fn after(rate: usize, limited: bool) -> usize {
        let start = Instant::now();
        let mut pace = Pace::new(MAX, start);
        for tick in 1..=10 {
            pace.wrote(start + WINDOW * tick, rate / 50, limited);
        }
        pace.batch()
    }

    #[test]
    fn a_batch_is_what_the_path_carries_in_fifteen_milliseconds_within_bounds() {
        assert_eq!(after(6_000_000, true), 90_000);
        assert_eq!(after(100_000, true), MIN);
        assert_eq!(after(1_000_000_000, true), MAX);
    }

    #[test]
    fn an_application_that_writes_little_does_not_make_batches_small() {
        assert_eq!(after(100_000, false), 2 * MIN);
    }

    #[test]
    fn the_first_batch_respects_the_bound() {
        assert_eq!(Pace::new(1000, Instant::now()).batch(), 1000);
    }
}

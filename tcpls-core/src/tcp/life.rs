//! When bytes last moved over one TCP connection, in either direction. A TCP connection with moving bytes is alive,
//! even if a record takes 30 s to arrive, or waits behind others in a queue.

use core::time::Duration;

use crate::time::Time;

/// How long a byte of a record that is not complete keeps a TCP connection: half of the rate of the slowest paths, 4 kbit/s.
const PER_BYTE: Duration = Duration::from_millis(4);
/// The longest that a path is taken to need from one segment to the next.
const MAX_GAP: Duration = Duration::from_secs(3);

/// The signs of life of one TCP connection, records aside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Life {
    /// New bytes arrived.
    received: Time,
    /// Bytes of an incomplete record, which the caller passes again with each call.
    partial: usize,
    /// When the first byte of that record arrived.
    began: Time,
    /// The longest recent pause between bytes of one record.
    gap: Duration,
    /// The peer's kernel acknowledged bytes that it had not acknowledged before, if the driver reports it.
    acked: Time,
    acked_bytes: Option<u64>,
    /// The socket took bytes.
    taken: Time,
    /// Since when there is more to send than the socket has room for.
    full_since: Option<Time>,
}

impl Life {
    pub(crate) fn new(now: Time) -> Self {
        Self {
            received: now,
            partial: 0,
            began: now,
            gap: Duration::ZERO,
            acked: now,
            acked_bytes: None,
            taken: now,
            full_since: None,
        }
    }

    /// The caller's buffer had `before` bytes, and has `left` after complete records were taken out.
    #[inline]
    pub(crate) fn came(&mut self, now: Time, before: usize, left: usize) {
        if before > self.partial {
            if self.partial > 0 {
                self.gap = (now - self.received).min(MAX_GAP).max(self.gap * 7 / 8);
            }
            self.received = now;
        }
        if self.partial == 0 || left < before {
            self.began = now;
        }
        self.partial = left;
    }

    /// The peer's kernel has acknowledged `bytes` in all, the last of them at `at` or before. An answered zero-window probe
    /// acknowledges nothing new.
    pub(crate) fn acked(&mut self, at: Time, bytes: u64) {
        if self.acked_bytes.is_some_and(|before| bytes > before) {
            self.acked = self.acked.max(at);
        }
        self.acked_bytes = Some(bytes);
    }

    /// The socket took bytes.
    pub(crate) fn took(&mut self, now: Time) {
        self.taken = now;
    }

    /// Whether the socket has no room for the data to send.
    pub(crate) fn set_full(&mut self, now: Time, full: bool) {
        self.full_since = full.then(|| self.full_since.unwrap_or(now));
    }

    /// How long to wait for the next bytes of a record, from the recent pauses.
    pub(crate) fn gap(&self) -> Duration {
        self.gap
    }

    /// The same as [`Life::moved`], but bytes of an incomplete record count only while it arrives at 250 bytes per
    /// second on average, because an attacker can let single bytes through forever.
    pub(crate) fn progressed(&self) -> Time {
        let partial = PER_BYTE.saturating_mul(u32::try_from(self.partial).unwrap_or(u32::MAX));
        let received = if self.partial > 0 { self.received.min(self.began + partial) } else { self.received };
        received.max(self.acked)
    }

    /// When bytes last moved by an action of the other host: they arrived, or its kernel acknowledged some.
    pub(crate) fn moved(&self) -> Time {
        self.received.max(self.acked)
    }

    /// The same, where nothing acknowledges records: what the socket takes counts too.
    pub(crate) fn moved_or_taken(&self) -> Time {
        self.moved().max(self.taken)
    }

    /// When the peer's kernel acknowledged new bytes last; at first, when the TCP connection began.
    pub(crate) fn acked_at(&self) -> Time {
        self.acked
    }

    /// When bytes arrived last, if they belong to a record that is not complete yet.
    pub(crate) fn partial_at(&self) -> Option<Time> {
        (self.partial > 0).then_some(self.received)
    }

    /// Since when data waits and none of it gets on; `None` if none waits.
    pub(crate) fn stuck_since(&self) -> Option<Time> {
        self.full_since.map(|since| since.max(self.taken).max(self.acked))
    }
}

/// A deadline that bytes which move put off, but not forever: what waits for an answer of a peer that is not authenticated
/// must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grace {
    until: Time,
    at_last: Time,
    timeout: Duration,
}

impl Grace {
    /// How many timeouts it can last.
    pub(crate) const MOST: u32 = 4;

    /// Ends `timeout` from now, or after bytes moved last; `longest` from now at the latest, however bytes move.
    pub(crate) fn new(now: Time, timeout: Duration, longest: Duration) -> Self {
        Self { until: now + timeout, at_last: now + longest.max(timeout), timeout }
    }

    /// When it ends if bytes moved last at `moved`.
    pub(crate) fn end(&self, moved: Time) -> Time {
        self.until.max(moved + self.timeout).min(self.at_last)
    }

    /// Bytes move now.
    pub(crate) fn renew(&mut self, now: Time) {
        self.until = self.end(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Time {
        Time::from_millis(seconds * 1000)
    }

    #[test]
    fn only_bytes_that_were_not_shown_before_are_new() {
        let mut life = Life::new(at(0));
        life.came(at(1), 700, 200);
        life.came(at(2), 200, 200);
        assert_eq!(life.moved(), at(1));
        life.came(at(3), 201, 201);
        assert_eq!(life.moved(), at(3));
    }

    #[test]
    fn bytes_of_a_record_count_as_progress_for_four_milliseconds_each() {
        let mut life = Life::new(at(0));
        life.came(at(10), 1000, 500);
        assert_eq!(life.progressed(), at(10));
        for second in 11..100 {
            life.came(at(second), 490 + second as usize, 490 + second as usize);
        }
        assert_eq!(life.progressed(), at(10) + PER_BYTE * 589);
        life.came(at(100), 16_000, 16_000);
        assert_eq!(life.progressed(), at(10) + PER_BYTE * 16_000);
        life.came(at(101), 16_400, 100);
        assert_eq!(life.progressed(), at(101), "a record was whole, and the next began");
    }

    #[test]
    fn gap_is_measured_within_records_and_forgotten_when_bytes_come_closer() {
        let mut life = Life::new(at(0));
        life.came(at(100), 500, 500);
        assert_eq!(life.gap(), Duration::ZERO, "there was nothing to come");
        life.came(at(101), 1000, 1000);
        assert_eq!(life.gap(), Duration::from_secs(1));
        life.came(at(109), 1500, 1500);
        assert_eq!(life.gap(), MAX_GAP);
        (0..20).for_each(|n| life.came(at(109), 1600 + n, 1600 + n));
        assert!(life.gap() < Duration::from_millis(300));
    }

    #[test]
    fn acknowledged_bytes_count_when_they_grow() {
        let mut life = Life::new(at(0));
        for (seconds, bytes, moved) in [(1, 50, 0), (2, 50, 0), (3, 51, 3), (4, 51, 3)] {
            life.acked(at(seconds), bytes);
            assert_eq!(life.moved(), at(moved), "{bytes} bytes after {seconds} s");
        }
    }

    #[test]
    fn grace_is_renewed_by_bytes_up_to_the_longest_time() {
        let mut grace = Grace::new(at(10), Duration::from_secs(5), Duration::from_secs(20));
        assert_eq!(grace.end(at(0)), at(15));
        assert_eq!(grace.end(at(12)), at(17));
        grace.renew(at(20));
        assert_eq!(grace.end(at(0)), at(25));
        assert_eq!(grace.end(at(29)), at(30));
    }

    #[test]
    fn data_is_stuck_from_when_the_socket_was_full_or_progress_ended() {
        let mut life = Life::new(at(0));
        life.set_full(at(5), false);
        assert_eq!(life.stuck_since(), None);
        life.set_full(at(7), true);
        life.set_full(at(9), true);
        assert_eq!(life.stuck_since(), Some(at(7)));
        life.took(at(11));
        assert_eq!(life.stuck_since(), Some(at(11)));
        life.came(at(12), 1, 0);
        assert_eq!(life.stuck_since(), Some(at(11)), "the other direction");
    }
}

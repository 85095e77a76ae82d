//! Limits on how often something happens: token buckets, for the time of any clock that does not go back.

use std::time::Duration;

use tcpls_core::time::Time;

/// What a complete burst may take to come back: times are of 64 bits, in nanoseconds, which is more.
const MAX_SPAN: Duration = Duration::from_secs(400 * 365 * 24 * 3600);

/// A rate with a burst (a token bucket).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RateLimit {
    /// How many are admitted at once after a pause. At least 1.
    pub burst: u32,
    /// The time after which another one is admitted; a complete burst comes back within 400 years.
    pub interval: Duration,
}

impl RateLimit {
    /// `burst` at once, and one more after each `interval`.
    pub const fn new(burst: u32, interval: Duration) -> Self {
        Self { burst, interval }
    }

    /// Admits one at `now`: returns when the burst is complete again, if `full` is when it would be without this one. `None`
    /// if nothing is left of it.
    pub(crate) fn admit(self, full: Time, now: Time) -> Option<Time> {
        let burst = self.burst.max(1);
        let interval = self.interval.min(MAX_SPAN / burst);
        let full = full.max(now) + interval;
        (full <= now + interval * burst).then_some(full)
    }
}

/// One that is limited.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    limit: RateLimit,
    /// When the burst is complete again.
    full: Time,
}

impl Bucket {
    pub(crate) const fn new(limit: RateLimit) -> Self {
        Self { limit, full: Time::ZERO }
    }

    /// Whether one more is admitted, which then counts.
    pub(crate) fn admit(&mut self, now: Time) -> bool {
        let full = self.limit.admit(self.full, now);
        self.full = full.unwrap_or(self.full);
        full.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of 100 are admitted at these times in milliseconds.
    fn admitted<const N: usize>(limit: RateLimit, times: [u64; N]) -> [usize; N] {
        let mut bucket = Bucket::new(limit);
        times.map(|at| (0..100).filter(|_| bucket.admit(Time::from_millis(at))).count())
    }

    #[test]
    fn a_burst_is_followed_by_one_for_each_interval() {
        let limit = RateLimit::new(3, Duration::from_millis(100));
        assert_eq!(admitted(limit, [50, 149, 150, 399, 400, 100_000_000]), [3, 0, 1, 2, 0, 3]);
    }

    #[test]
    fn no_burst_and_no_interval_are_without_a_limit() {
        let second = Duration::from_secs(1);
        assert_eq!(admitted(RateLimit::new(0, second), [0, 999, 1000]), [1, 0, 1], "at least one");
        assert_eq!(admitted(RateLimit::new(2, Duration::MAX), [0, 1_000_000_000]), [2, 0]);
        assert_eq!(admitted(RateLimit::new(50, Duration::MAX), [0, 1_000_000_000]), [50, 0]);
    }
}

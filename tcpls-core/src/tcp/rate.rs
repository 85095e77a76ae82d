//! How fast one TCP connection delivers, from acknowledgments: what was acknowledged between the one before a record was sent
//! and the one that covers it, over the time between them (after the delivery rate of BBR, draft-ietf-ccwg-bbr, 4.1.2).

use core::time::Duration;

use crate::time::Time;

/// How many bytes were acknowledged by when; noted with each record that is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Delivered {
    /// Bytes on the wire of ack-eliciting records that were acknowledged so far.
    pub(crate) bytes: u64,
    /// When the last of them were, or when the first byte was sent after a pause.
    pub(crate) at: Time,
}

/// A sample from one acknowledgment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RateSample {
    bytes_per_second: u64,
    /// There was no more to send: the path could have carried more.
    is_lower_bound: bool,
}

impl RateSample {
    pub(crate) fn bytes_per_second(&self) -> u64 {
        self.bytes_per_second
    }

    /// Whether the path could have carried more.
    pub(crate) fn is_lower_bound(&self) -> bool {
        self.is_lower_bound
    }

    /// From `before` to `after`; `None` if no time has passed.
    pub(crate) fn between(before: Delivered, after: Delivered, is_lower_bound: bool) -> Option<Self> {
        let nanos = (after.at - before.at).as_nanos();
        let bytes = u128::from(after.bytes - before.bytes);
        let rate = (bytes * 1_000_000_000).checked_div(nanos)?;
        Some(Self { bytes_per_second: u64::try_from(rate).unwrap_or(u64::MAX), is_lower_bound })
    }
}

/// The estimate.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rate {
    /// From samples while there was more to send.
    busy: Option<u64>,
    /// The most that any sample has shown.
    bound: u64,
    sampled: Time,
}

impl Rate {
    /// An estimate expires after this time without a sample and without data in flight.
    const STALE_AFTER: Duration = Duration::from_secs(2);

    /// Updates the estimate with a sample: at once if the path has become much slower, gradually otherwise.
    pub(crate) fn sample(&mut self, now: Time, sample: RateSample) {
        self.sampled = now;
        let new = sample.bytes_per_second;
        self.busy = match self.busy {
            old if sample.is_lower_bound => old.map(|old| old.max(new)),
            Some(old) if new >= old => Some(old + (new - old) / 4),
            Some(old) if new >= old / 2 => Some(old - (old - new) / 4),
            _ => Some(new),
        };
        self.bound = self.busy.unwrap_or(self.bound.max(new));
    }

    /// Returns bytes on the wire per second; `None` before there was more to send than was sent, and if no recent
    /// sample confirms it.
    pub(crate) fn get(&self, now: Time, is_idle: bool) -> Option<u64> {
        let is_stale = is_idle && now - self.sampled > Self::STALE_AFTER;
        self.busy.filter(|_| !is_stale)
    }

    /// Returns the estimate, even an expired one.
    pub(crate) fn newest(&self) -> Option<u64> {
        self.busy
    }

    /// Bytes on the wire per second that it has been seen to deliver.
    pub(crate) fn at_least(&self) -> u64 {
        self.bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(bytes: u64, ms: u64, is_lower_bound: bool) -> RateSample {
        let before = Delivered { bytes: 7, at: Time::from_millis(100) };
        let after = Delivered { bytes: 7 + bytes, at: Time::from_millis(100 + ms) };
        RateSample::between(before, after, is_lower_bound).unwrap()
    }

    #[test]
    fn a_sample_is_what_was_acknowledged_over_the_time_that_took() {
        assert_eq!(sample(500, 50, false).bytes_per_second, 10_000);
        let at = Delivered::default();
        assert_eq!(RateSample::between(at, Delivered { bytes: 9, ..at }, false), None);
    }

    #[test]
    fn the_estimate_follows_small_changes_by_quarters_and_believes_a_great_fall() {
        let (mut rate, now) = (Rate::default(), Time::from_millis(200));
        for (kbytes, expected) in [(8, 8_000), (16, 10_000), (6, 9_000), (2, 2_000), (4, 2_500)] {
            rate.sample(now, sample(kbytes * 1000, 1000, false));
            assert_eq!((rate.get(now, false), rate.at_least()), (Some(expected), expected));
        }
    }

    #[test]
    fn sample_without_more_data_is_a_lower_bound() {
        let (mut rate, now) = (Rate::default(), Time::from_millis(200));
        for (kbytes, bound) in [(3, 3_000), (2, 3_000)] {
            rate.sample(now, sample(kbytes * 1000, 1000, true));
            assert_eq!((rate.get(now, false), rate.at_least()), (None, bound));
        }
        rate.sample(now, sample(2000, 1000, false));
        assert_eq!(rate.get(now, false), Some(2_000));
        rate.sample(now, sample(9000, 1000, true));
        assert_eq!(rate.get(now, false), Some(9_000), "it only raises an estimate");
    }

    #[test]
    fn an_estimate_of_a_path_that_has_been_idle_for_long_is_none() {
        let mut rate = Rate::default();
        rate.sample(Time::from_millis(1000), sample(8000, 1000, false));
        assert_eq!(rate.get(Time::from_millis(3000), true), Some(8000));
        assert_eq!(rate.get(Time::from_millis(3001), true), None);
        assert_eq!(rate.get(Time::from_millis(9000), false), Some(8000), "an answer is under way");
    }
}

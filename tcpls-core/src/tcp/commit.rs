//! The limit on data in flight of one TCP connection: what its path carries in 2 s, in addition to its bandwidth-delay
//! product. More data would only wait in queues, where it delays everything behind it, cannot move to a better path,
//! and delays the peer's answers. On a fast path congestion control allows much less, and the limit has no effect.
//!
//! The rate is measured from acknowledgments, as in `rate`, but here a flight counts as soon as more data waits behind
//! it.

use core::time::Duration;

use super::rate::RateSample;

/// How long a path may need for the data committed to it.
const AHEAD: Duration = Duration::from_secs(2);
/// How long, in seconds, the path may take for one record, which the peer can use only when it is complete.
const RECORD_SECONDS: u64 = 1;
/// The smallest limit on data in flight, in bytes.
const LEAST: u64 = 1024;
/// The first record on a path about which nothing is known: one segment.
const FIRST_RECORD: u64 = 1400;
/// The smallest record that is made for a slow path.
const LEAST_RECORD: u64 = 400;
/// The fraction of a second that the path may take for a record of reinjected data: the receiving application waits for it.
const REINJECTED_PER_SECOND: u64 = 1000;
/// A record of reinjected data need not be shorter than this.
const LEAST_REINJECTED: u64 = 2048;
/// A handshake that takes at most this time, besides the round trip, does not show the rate.
const QUICK: Duration = Duration::from_millis(50);
/// In one of this many rounds the limit is a quarter higher. Otherwise a sender whose acknowledgments wait behind the
/// peer's data would never learn that its own direction carries more.
const PROBE_EVERY: u32 = 4;

/// The known rate of one TCP connection, and the limits that follow from it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Commit {
    /// Bytes per second, from flights with more behind them.
    rate: Option<u64>,
    /// Before that: what others or the handshake let expect.
    guess: Option<u64>,
    /// The most that any flight has shown.
    least: u64,
    /// Rounds, each of which ends with the acknowledgment of what was sent after the one before.
    rounds: u32,
    round_ends: u64,
}

impl Commit {
    /// Before the first record: sets the expected `rate`.
    pub(crate) fn expect(&mut self, rate: Option<u64>) {
        self.guess = rate;
    }

    /// Derives an expected rate from a handshake that sent `bytes` in `time`, if TCP's round-trip time is known.
    pub(crate) fn expect_from_handshake(&mut self, bytes: u64, time: Duration, rtt: Option<Duration>) {
        let Some(rtt) = rtt.filter(|rtt| !rtt.is_zero()) else { return };
        let time = time.saturating_sub(rtt);
        if time > QUICK {
            let rate = u128::from(bytes) * 1000 / time.as_millis().max(1);
            self.guess = Some(u64::try_from(rate).unwrap_or(u64::MAX));
        }
    }

    /// An acknowledgment arrived: `delivered` bytes in all, `in_flight` are left. `had_more`: more waited behind the newest of the
    /// records that it covers.
    pub(crate) fn sample(&mut self, sample: RateSample, had_more: bool, delivered: u64, in_flight: u64) {
        let new = sample.bytes_per_second();
        self.least = self.least.max(new);
        self.rate = match self.rate {
            old if !had_more => old.map(|old| old.max(new)),
            Some(old) if new >= old => Some(old + (new - old) / 2),
            Some(old) if new >= old / 2 => Some(old - (old - new) / 4),
            _ => Some(new),
        };
        if delivered >= self.round_ends {
            self.rounds = self.rounds.wrapping_add(1);
            self.round_ends = delivered + in_flight;
        }
    }

    /// Bytes per second, measured or expected; `None` if nothing points to a slow path.
    #[inline]
    pub(crate) fn rate(&self) -> Option<u64> {
        self.rate.or(self.guess.map(|guess| guess.max(self.least)))
    }

    /// Whether `bytes` are within [`Commit::limit`] for any path. Without a division, for it is asked for each record.
    #[inline]
    pub(crate) fn allows(&self, bytes: u64) -> bool {
        self.rate().is_none_or(|rate| bytes <= rate.saturating_mul(AHEAD.as_secs()))
    }

    /// Bytes that may be under way; as many as the socket takes if nothing points to a slow path. For a path with this round trip,
    /// whose peer may hold acknowledgments back for `ack_delay`.
    pub(crate) fn limit(&self, min_rtt: Duration, ack_delay: Duration) -> u64 {
        // A flight of twice the path's own length lets a sender double in each round trip, as TCP does.
        let window = (AHEAD + min_rtt).max(min_rtt * 9 / 4) + ack_delay;
        match (self.rate, self.guess) {
            (Some(rate), _) => {
                let limit = bytes_in(rate, window).max(LEAST);
                if self.rounds.is_multiple_of(PROBE_EVERY) { limit + limit / 4 } else { limit }
            }
            (None, Some(guess)) => bytes_in(guess.max(self.least), window).max(LEAST),
            (None, None) => u64::MAX,
        }
    }

    /// The most bytes on the wire that one record with stream data should have. Without a measured rate, at most as
    /// many as it has `carried`: the first record is complete soon on any path, and gives a first sample.
    pub(crate) fn record(&self, carried: u64) -> usize {
        let bytes =
            self.rate().map_or(carried.max(FIRST_RECORD), |rate| rate.saturating_mul(RECORD_SECONDS).max(LEAST_RECORD));
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// The most bytes on the wire that one record with reinjected stream data should have.
    pub(crate) fn reinjected_record(&self, carried: u64) -> usize {
        let short = self.rate().map_or(u64::MAX, |rate| (rate / REINJECTED_PER_SECOND).max(LEAST_REINJECTED));
        self.record(carried).min(usize::try_from(short).unwrap_or(usize::MAX))
    }

    /// How long the path takes for `bytes`, as far as is known.
    pub(crate) fn time_for(&self, bytes: u64) -> Duration {
        let Some(rate) = self.rate() else { return Duration::ZERO };
        match bytes.checked_mul(1_000_000_000) {
            Some(nanos) => Duration::from_nanos(nanos / rate.max(1)),
            None => Duration::from_secs(bytes / rate.max(1)),
        }
    }
}

fn bytes_in(rate: u64, time: Duration) -> u64 {
    let bytes = u128::from(rate) * time.as_nanos() / 1_000_000_000;
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::rate::Delivered;
    use super::*;
    use crate::time::Time;

    const NO_DELAY: Duration = Duration::ZERO;

    /// `bytes` were acknowledged in `ms`, and more waited behind them if `had_more`.
    fn acked(commit: &mut Commit, bytes: u64, ms: u64, had_more: bool) {
        let after = Delivered { bytes, at: Time::from_millis(ms) };
        let sample = RateSample::between(Delivered::default(), after, !had_more).unwrap();
        commit.sample(sample, had_more, 0, 0);
    }

    #[test]
    fn nothing_is_held_back_until_something_points_to_a_slow_path() {
        let mut commit = Commit::default();
        assert_eq!(commit.limit(NO_DELAY, NO_DELAY), u64::MAX);
        assert_eq!([0, 1400, 2800].map(|carried| commit.record(carried)), [1400, 1400, 2800]);
        acked(&mut commit, 100, 1000, false);
        assert_eq!(
            (commit.limit(NO_DELAY, NO_DELAY), commit.record(0)),
            (u64::MAX, FIRST_RECORD as usize),
            "there was no more"
        );
    }

    #[test]
    fn two_seconds_are_committed_besides_the_round_trip_and_one_is_a_record() {
        let mut commit = Commit::default();
        acked(&mut commit, 8000, 1000, true);
        assert_eq!(commit.limit(NO_DELAY, NO_DELAY), 16_000);
        assert_eq!(commit.limit(Duration::from_secs(1), NO_DELAY), 24_000);
        assert_eq!(commit.limit(Duration::from_secs(1), Duration::from_secs(1)), 32_000);
        assert_eq!(commit.limit(Duration::from_secs(4), NO_DELAY), 72_000, "room to double on a long path");
        assert_eq!(commit.record(0), 8000);
        assert_eq!(commit.time_for(2000), Duration::from_millis(250));
    }

    #[test]
    fn record_of_reinjected_data_takes_a_millisecond_or_2_kib() {
        let mut commit = Commit::default();
        assert_eq!(commit.reinjected_record(9000), 9000, "nothing is known of the path");
        for (rate, most) in [(1000, 1000), (8000, 2048), (3_000_000, 3000), (100_000_000, 100_000)] {
            commit = Commit::default();
            acked(&mut commit, rate, 1000, true);
            assert_eq!(commit.reinjected_record(0), most);
        }
    }

    #[test]
    fn slowest_paths_get_a_minimum() {
        let mut commit = Commit::default();
        acked(&mut commit, 10, 1000, true);
        assert_eq!((commit.limit(NO_DELAY, NO_DELAY), commit.record(0)), (LEAST, LEAST_RECORD as usize));
    }

    #[test]
    fn estimate_rises_by_halves_and_believes_a_great_fall() {
        let mut commit = Commit::default();
        for (bytes, expected) in [(8000, 8000), (16_000, 12_000), (8000, 11_000), (5000, 5000)] {
            acked(&mut commit, bytes, 1000, true);
            assert_eq!(commit.rate(), Some(expected));
        }
    }

    #[test]
    fn handshake_that_takes_longer_than_a_round_trip_shows_a_slow_path() {
        let rtt = Some(Duration::from_millis(100));
        for (ms, rate) in [(100, None), (150, None), (2100, Some(1000)), (300, Some(10_000))] {
            let mut commit = Commit::default();
            commit.expect_from_handshake(2000, Duration::from_millis(ms), rtt);
            assert_eq!(commit.rate(), rate);
        }
        let mut commit = Commit::default();
        commit.expect_from_handshake(2000, Duration::from_secs(3), None);
        assert_eq!(commit.rate(), None, "the round trip may be as long");
    }

    #[test]
    fn quarter_more_is_tried_in_each_fourth_round() {
        let mut commit = Commit::default();
        let before = Delivered::default();
        let tried = (1..=40).filter(|round| {
            let after = Delivered { bytes: 1000, at: Time::from_millis(1000) };
            let sample = RateSample::between(before, after, false).unwrap();
            // Two acknowledgments in each round.
            commit.sample(sample, true, round * 1000 - 500, 1000);
            commit.sample(sample, true, round * 1000, 500);
            commit.limit(NO_DELAY, NO_DELAY) > 2000
        });
        assert_eq!(tried.count(), 10);
    }
}

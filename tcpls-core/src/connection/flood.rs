//! The overhead budget of the peer: frames without effect cost units, useful bytes return units.

use core::time::Duration;

use crate::error::Violation;
use crate::stream::Waste;
use crate::time::Time;

/// Units that are returned per second, so that keep-alives and probes of a quiet session never add up.
const REFILL_PER_SECOND: u64 = 1000;
/// Bytes of new stream data, or of newly acknowledged data, that return one unit.
const BYTES_PER_UNIT: u64 = 1024;
/// Units for stopping a stream that the peer's own credit blocked: the answer was prepared although the peer did not
/// read it.
const UNDELIVERED_UNITS: usize = 20;
/// Unsent bytes with credit, per unit, when their stream is stopped: an honest peer cannot know how much is ready.
const UNSENT_PER_UNIT: u64 = 64 << 10;
/// New generations of keys allowed in a second.
const KEY_UPDATES_PER_SECOND: u32 = 32;

/// Returns the units for the data that is dropped when a peer stops a stream.
pub(super) fn units_for(waste: Waste) -> usize {
    if waste.lacked_credit {
        return UNDELIVERED_UNITS;
    }
    usize::try_from(waste.unsent / UNSENT_PER_UNIT).map_or(UNDELIVERED_UNITS, |units| units.min(UNDELIVERED_UNITS))
}

/// The peer's account.
#[derive(Debug)]
pub(crate) struct Flood {
    limit: u64,
    left: u64,
    refilled: Time,
    earned_bytes: u64,
    key_updates: u32,
    key_updates_since: Time,
}

impl Flood {
    pub(crate) fn new(limit: u32, now: Time) -> Self {
        let limit = u64::from(limit);
        Self { limit, left: limit, refilled: now, earned_bytes: 0, key_updates: 0, key_updates_since: now }
    }

    /// Charges `units`.
    pub(crate) fn charge(&mut self, now: Time, units: u64) -> Result<(), Violation> {
        self.refill(now);
        self.left = self.left.checked_sub(units).ok_or(Violation::EnhanceYourCalm)?;
        Ok(())
    }

    /// Returns units for useful bytes.
    pub(crate) fn earn(&mut self, bytes: u64) {
        self.earned_bytes = self.earned_bytes.saturating_add(bytes);
        self.left = self.left.saturating_add(self.earned_bytes / BYTES_PER_UNIT).min(self.limit);
        self.earned_bytes %= BYTES_PER_UNIT;
    }

    /// Counts one new generation of keys.
    pub(crate) fn key_update(&mut self, now: Time) -> Result<(), Violation> {
        if now - self.key_updates_since >= Duration::from_secs(1) {
            (self.key_updates, self.key_updates_since) = (0, now);
        }
        self.key_updates += 1;
        if self.key_updates > KEY_UPDATES_PER_SECOND { Err(Violation::TooManyKeyUpdates) } else { Ok(()) }
    }

    fn refill(&mut self, now: Time) {
        let units = (now - self.refilled).as_millis() as u64 * REFILL_PER_SECOND / 1000;
        if units > 0 {
            self.left = self.left.saturating_add(units).min(self.limit);
            self.refilled = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn useless_frames_use_up_the_account_and_useful_bytes_and_time_fill_it_again() {
        let mut flood = Flood::new(3, Time::ZERO);
        flood.charge(Time::ZERO, 3).unwrap();
        assert_eq!(flood.charge(Time::ZERO, 1), Err(Violation::EnhanceYourCalm));
        flood.earn(1023);
        assert!(flood.charge(Time::ZERO, 1).is_err());
        flood.earn(1);
        flood.charge(Time::ZERO, 1).unwrap();
        flood.charge(Time::from_millis(2), 2).unwrap();
        flood.earn(1 << 40);
        assert!(flood.charge(Time::from_millis(2), 4).is_err(), "it holds no more than its limit");
    }

    #[test]
    fn budget_refills_between_any_charges() {
        let mut flood = Flood::new(3, Time::ZERO);
        flood.charge(Time::ZERO, 3).unwrap();
        for half in 1..4 {
            assert!(flood.charge(Time::from_nanos(half * 500_000), 2).is_err());
        }
        flood.charge(Time::from_millis(2), 1).unwrap();
    }

    #[test]
    fn thirty_two_key_updates_a_second_are_allowed() {
        let mut flood = Flood::new(1, Time::ZERO);
        for _ in 0..32 {
            flood.key_update(Time::ZERO).unwrap();
        }
        assert!(flood.key_update(Time::from_millis(999)).is_err());
        flood.key_update(Time::from_millis(1000)).unwrap();
    }
}
